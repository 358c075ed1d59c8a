//! Reading a request's body: whole, within a size and within times.

use crate::limits::Limits;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes set aside before any have come, whatever the header promises.
const AHEAD: usize = 64 << 10;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is, or would be, larger than allowed.
    #[error("the request's body is more than {limit} bytes")]
    TooLarge {
        /// What is allowed.
        limit: usize,
    },
    /// It is compressed.
    #[error("expected a body without content-encoding, found \"{0}\"")]
    Encoded(String),
    /// It did not come in time.
    #[error("the request's body did not arrive within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// The connection broke, or what came is no HTTP.
    #[error("the request's body broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BodyError {
    /// The HTTP status that says so.
    pub fn status(&self) -> StatusCode {
        match self {
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Encoded(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            BodyError::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads a body of at most `limit` bytes. A `content-length` beyond it is refused before anything is read.
pub async fn read<B>(headers: &HeaderMap, body: B, limit: usize, limits: &Limits) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    for encoding in headers.get_all(header::CONTENT_ENCODING) {
        if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
            let shown = String::from_utf8_lossy(encoding.as_bytes()).chars().take(64).collect();
            return Err(BodyError::Encoded(shown));
        }
    }
    let hint = body.size_hint();
    if hint.lower() > limit as u64 {
        return Err(BodyError::TooLarge { limit });
    }
    let end = Instant::now() + limits.total;
    let mut body = body;
    let mut held = Vec::new();
    let mut only = Bytes::new();
    loop {
        let frame = match timeout_at(end, timeout(limits.idle, body.frame())).await {
            Err(_) => return Err(BodyError::TooSlow(limits.total)),
            Ok(Err(_)) => return Err(BodyError::TooSlow(limits.idle)),
            Ok(Ok(None)) => break,
            Ok(Ok(Some(frame))) => frame.map_err(|e| BodyError::Broken(e.into()))?,
        };
        let Ok(data) = frame.into_data() else { continue };
        if held.len() + only.len() + data.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        // Most bodies come in one piece, which is passed on without copying.
        if held.is_empty() && only.is_empty() {
            only = data;
            continue;
        }
        if held.is_empty() {
            held.reserve(usize::try_from(hint.lower()).unwrap_or(0).min(AHEAD).max(only.len() + data.len()));
            held.extend_from_slice(&std::mem::take(&mut only));
        }
        held.extend_from_slice(&data);
    }
    Ok(if held.is_empty() { only } else { held.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};
    use std::convert::Infallible;

    async fn read_parts(parts: &[&'static str], limit: usize) -> Result<Bytes, BodyError> {
        let frames: Vec<_> = parts
            .iter()
            .map(|p| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(p.as_bytes()))))
            .collect();
        let body = StreamBody::new(futures_util::stream::iter(frames));
        read(&HeaderMap::new(), body, limit, &Limits::default()).await
    }

    #[tokio::test]
    async fn reads_up_to_the_limit() {
        assert_eq!(read_parts(&["abc", "", "de", "f"], 6).await.unwrap(), "abcdef");
        assert_eq!(read_parts(&[], 0).await.unwrap(), "");
        let error = read_parts(&["abc", "def", "g"], 6).await.unwrap_err();
        assert_eq!(
            (error.status(), error.to_string().as_str()),
            (StatusCode::PAYLOAD_TOO_LARGE, "the request's body is more than 6 bytes")
        );
        let known = Full::new(Bytes::from_static(b"1234567"));
        assert!(matches!(
            read(&HeaderMap::new(), known, 6, &Limits::default()).await,
            Err(BodyError::TooLarge { limit: 6 })
        ));
    }

    #[tokio::test]
    async fn refuses_compression() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        let body = || Full::new(Bytes::from_static(b"x"));
        let error = read(&headers, body(), 6, &Limits::default()).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        headers.insert(header::CONTENT_ENCODING, "identity".parse().unwrap());
        assert!(read(&headers, body(), 6, &Limits::default()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn refuses_slow_bodies() {
        let never =
            StreamBody::new(futures_util::stream::pending::<Result<http_body::Frame<Bytes>, Infallible>>());
        let error = read(&HeaderMap::new(), never, 6, &Limits::default()).await.unwrap_err();
        assert!(matches!(error, BodyError::TooSlow(t) if t == Limits::default().idle));
        let drip = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            Some((Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(b"x"))), ()))
        });
        let error = read(&HeaderMap::new(), StreamBody::new(Box::pin(drip)), 60, &Limits::default())
            .await
            .unwrap_err();
        assert!(matches!(error, BodyError::TooSlow(t) if t == Limits::default().total));
    }
}

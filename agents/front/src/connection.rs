//! One connection's life: handshake, requests, end.

use crate::{
    admission::Permit,
    event::{Event, Observer},
    limits::Limits,
    pace::{Pace, Paced},
    tls::{Certificate, TlsConfig},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// The least that hyper accepts for its buffer is 8 KiB.
const BUFFER: usize = 64 << 10;

/// Who is at the other end; in the extensions of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address.
    pub remote: SocketAddr,
    /// The listener's address.
    pub local: SocketAddr,
    /// The certificate that the listener showed; `None` without TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// Cancelled when the listener drains: a service that waits for something should then answer.
    pub draining: CancellationToken,
}

/// What a listener's connections share.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) local: SocketAddr,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) drain: CancellationToken,
    pub(crate) tls: Option<TlsConfig>,
}

/// Counts the end of a connection, however it comes.
struct Ending {
    observer: Arc<dyn Observer>,
    _permit: Permit,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.observer.count(Event::Closed);
    }
}

pub(crate) async fn live<S, F, B>(
    stream: TcpStream,
    remote: SocketAddr,
    permit: Permit,
    shared: Arc<Shared>,
    service: S,
) where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    shared.observer.count(Event::Accepted);
    let _ending = Ending { observer: Arc::clone(&shared.observer), _permit: permit };
    let peer =
        |certificate| Peer { remote, local: shared.local, certificate, draining: shared.drain.clone() };
    let Some(tls) = &shared.tls else { return requests(stream, peer(None), &shared, service).await };
    let certificate = tls.certificate();
    match timeout(shared.limits.handshake, tls.accept(stream)).await {
        Ok(Ok(stream)) => requests(stream, peer(Some(certificate)), &shared, service).await,
        failed => {
            shared.observer.count(Event::HandshakeFailed);
            let error = failed.map_or_else(
                |_| "timed out".to_owned(),
                |r| r.err().map_or_else(String::new, |e| e.to_string()),
            );
            tracing::debug!(%remote, error, "TLS handshake failed");
        }
    }
}

async fn requests<I, S, F, B>(stream: I, peer: Peer, shared: &Shared, service: S)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let pace = Pace::new(shared.limits);
    let io = TokioIo::new(Paced { stream, pace: Arc::clone(&pace) });
    let remote = peer.remote;
    let answer = service_fn(|mut request: Request<Incoming>| {
        pace.serving();
        shared.observer.count(Event::Request);
        request.extensions_mut().insert(peer.clone());
        let (pace, observer) = (Arc::clone(&pace), Arc::clone(&shared.observer));
        // The call itself may panic too, before there is a future.
        let service = service.clone();
        let answer = AssertUnwindSafe(async move { service(request).await }).catch_unwind();
        async move {
            let response = answer.await.map_or_else(
                |_| {
                    observer.count(Event::Panicked);
                    tracing::error!(%remote, "the service panicked on a request");
                    let mut response = Response::new(Answer { body: None, pace: Arc::clone(&pace) });
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                    response
                },
                |response| response.map(|body| Answer { body: Some(body), pace: Arc::clone(&pace) }),
            );
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // `pace` tells a slow header from a kept connection; hyper's own time covers both alike.
        .header_read_timeout(None)
        .max_headers(shared.limits.header_fields)
        .max_header_size(shared.limits.header_bytes)
        .max_buf_size(BUFFER.max(shared.limits.header_bytes));
    let mut connection = pin!(http.serve_connection(io, answer).with_upgrades());
    let mut draining = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%remote, error = &error as &dyn std::error::Error, "connection broke");
                }
                return;
            }
            () = pace.expired() => {
                shared.observer.count(Event::TimedOut);
                tracing::debug!(%remote, "connection closed: nothing came in time");
                return;
            }
            () = shared.drain.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A response's body; when hyper is done with it the connection is idle.
struct Answer<B> {
    body: Option<B>,
    pace: Arc<Pace>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.pace.answered();
    }
}

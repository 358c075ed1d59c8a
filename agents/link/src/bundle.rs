//! Fetches a bundle's packed files from the engine, piece by piece, for whoever [takes](Takes) it.
//!
//! ```text
//! BundleNotice(hash) ─▶ Takes.told ─▶ BundlePiece(hash, 0) ─▶ bytes ─▶ BundlePiece(hash, n) ─▶ … ─▶ no bytes: whole ─▶ BundleSaid
//! ```
//!
//! Whether the files are what the hash says is seen when they are loaded: a bundle's hash is that of its files.

use crate::{
    engine::{Engine, LinkError, Service, Verb, ask},
    limits,
};
use async_trait::async_trait;
use union::{
    command::{Cause, Code},
    pb,
};

/// Whoever takes bundles on for an agent's rooms.
#[async_trait]
pub trait Takes: Send + Sync + std::fmt::Debug {
    /// Does what a notice of the engine asks for, and says what is in force then.
    async fn told(&self, notice: pb::BundleNotice) -> pb::BundleSaid;
}

/// The packed files of the bundle with this hash.
///
/// # Errors
/// The engine does not have it, does not answer, or sends more than [`limits::BUNDLE`].
pub async fn fetch(engine: &dyn Engine, hash: &str) -> Result<Vec<u8>, LinkError> {
    let mut files = Vec::new();
    loop {
        let offset = files.len() as u64;
        let wanted = pb::BundlePiece { hash: hash.to_owned(), offset, ..pb::BundlePiece::default() };
        let verb = Verb::Service(Service::Bundle);
        let piece: pb::BundlePiece = ask(engine, &verb, &wanted, limits::LONG).await?;
        if piece.hash != hash || piece.offset != offset {
            return Err(LinkError::Garbled(format!("expected the piece of bundle {hash} at {offset}")));
        }
        if piece.bytes.is_empty() {
            return Ok(files);
        }
        if files.len() + piece.bytes.len() > limits::BUNDLE {
            let most = limits::BUNDLE;
            let message = format!("bundle {hash} has more than {most} bytes; it is not taken");
            return Err(LinkError::Refused(Cause::new(Code::InvalidArgument, message)));
        }
        files.extend_from_slice(&piece.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::answered, testing::Fake};
    use prost::Message;

    #[tokio::test(start_paused = true)]
    async fn a_bundle_comes_in_pieces() {
        let engine = Fake::new();
        let files: Vec<u8> = (0..=255).collect();
        let all = files.clone();
        engine.says("bundle", move |body| {
            let wanted = pb::BundlePiece::decode(body).unwrap();
            let at = usize::try_from(wanted.offset).unwrap();
            let bytes = all.get(at..(at + 100).min(all.len())).unwrap_or_default().to_vec();
            Ok(answered(&pb::BundlePiece { bytes, ..wanted }))
        });
        assert_eq!(fetch(&*engine, "abc").await.unwrap(), files);
        assert_eq!(engine.heard::<pb::BundlePiece>("bundle").len(), 4);
        let piece = |hash: &str, offset, bytes| pb::BundlePiece { hash: hash.into(), offset, bytes };
        engine.answers("bundle", piece("other", 0, vec![1]));
        assert!(matches!(fetch(&*engine, "abc").await, Err(LinkError::Garbled(_))));
        engine.answers("bundle", piece("abc", 0, vec![0; limits::BUNDLE + 1]));
        assert!(matches!(fetch(&*engine, "abc").await, Err(LinkError::Refused(_))));
        engine.says("bundle", |_| Err(LinkError::Refused(Cause::new(Code::NotFound, "not here"))));
        assert!(matches!(fetch(&*engine, "abc").await, Err(LinkError::Refused(_))));
    }
}

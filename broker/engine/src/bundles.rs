//! The mapping bundles that the engine plans with, and hands out.

use mapping::Bundle;
use std::{fmt::Debug, sync::Arc};
use union::{
    command::{Cause, Code},
    pb,
};

/// The bundles that are in use.
pub trait Bundles: Send + Sync + Debug {
    /// The bundle that a command was lifted with, by its hash, or today's if it is no longer kept.
    fn get(&self, hash: &str) -> Arc<Bundle>;

    /// A piece of a bundle's packed files, for an agent that fetches it.
    ///
    /// # Errors
    /// The bundle is not kept, or its files are not here.
    fn piece(&self, wanted: &pb::BundlePiece) -> Result<pb::BundlePiece, Cause> {
        let message = format!("the files of bundle {} are not kept here", wanted.hash);
        Err(Cause::new(Code::NotFound, message))
    }
}

/// The same bundle for ever.
#[derive(Debug)]
pub struct OneBundle(pub Arc<Bundle>);

impl Bundles for OneBundle {
    fn get(&self, _hash: &str) -> Arc<Bundle> {
        Arc::clone(&self.0)
    }
}

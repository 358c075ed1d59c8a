//! The mapping bundles that the engine plans with.

use mapping::Bundle;
use std::{fmt::Debug, sync::Arc};

/// The bundles that are in use.
pub trait Bundles: Send + Sync + Debug {
    /// The bundle that a command was lifted with, by its hash, or today's if it is no longer kept.
    fn get(&self, hash: &str) -> Arc<Bundle>;
}

/// The same bundle for ever.
#[derive(Debug)]
pub struct OneBundle(pub Arc<Bundle>);

impl Bundles for OneBundle {
    fn get(&self, _hash: &str) -> Arc<Bundle> {
        Arc::clone(&self.0)
    }
}

//! The facts of the fleet, as the engine needs them.

use async_trait::async_trait;
use inventory::Inventory;
use std::{fmt::Debug, sync::Arc, time::Duration};
use union::{ObjectId, Record, Slot, Value, command::Revision};

/// Who holds an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The agent.
    pub agent: Arc<str>,
    /// Its target.
    pub target: Arc<str>,
    /// The target's protocol.
    pub protocol: Arc<str>,
}

/// The replica of all agents' facts.
#[async_trait]
pub trait Facts: Send + Sync + Debug {
    /// Where they are.
    fn inventory(&self) -> &Arc<Inventory>;

    /// Who holds an object; `None`: no agent does.
    fn holder(&self, id: ObjectId) -> Option<Holder>;

    /// Waits until the replica holds `revision` of an object, or for `within`. Whether it does.
    async fn reached(&self, id: ObjectId, revision: Revision, within: Duration) -> bool;

    /// Lays the broker's facts over an object's; an absent value takes the layer off. The revision that shows it.
    fn set_own(&self, id: ObjectId, facts: Vec<(Slot, Value)>) -> Revision;

    /// Shows an object that is the broker's own, or takes it away. The revision that shows it.
    fn put_own(&self, id: ObjectId, record: Option<Record>) -> Revision;
}

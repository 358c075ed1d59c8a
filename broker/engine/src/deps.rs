//! What the engine is made of.

use crate::{Agents, Authority, Bundles, Facts, Limits};
use async_trait::async_trait;
use inventory::View;
use std::{fmt::Debug, sync::Arc};
use store::{Epoch, Store};
use union::{Clock, Ids, command::Cause, pb};

/// The id maps, which the engine allocates from.
#[async_trait]
pub trait IdMaps: Send + Sync + Debug {
    /// A block of numbers for an agent.
    ///
    /// # Errors
    /// The cause, for example a protocol without such ids.
    async fn lease(&self, agent: &str, wanted: &pb::LeaseIds) -> Result<pb::LeasedIds, Cause>;

    /// Takes over ids that an agent gave out of its blocks, as its outbox hands them in. The same again is fine.
    ///
    /// # Errors
    /// The cause: they clash, or were not the agent's to give.
    async fn adopt(&self, agent: &str, body: &[u8]) -> Result<(), Cause>;
}

/// What the engine is made of.
#[derive(Clone, Debug)]
pub struct Deps {
    /// The engine's store.
    pub store: Arc<dyn Store>,
    /// Its epoch, from [`begin_epoch`](crate::begin_epoch); every room on the same store writes with it.
    pub epoch: Epoch,
    /// The replica of all agents' facts.
    pub facts: Arc<dyn Facts>,
    /// The same, arranged as one fleet.
    pub view: Arc<View>,
    /// What lowers.
    pub bundles: Arc<dyn Bundles>,
    /// Sessions, permissions, grants.
    pub authority: Arc<dyn Authority>,
    /// The id maps.
    pub id_maps: Arc<dyn IdMaps>,
    /// The way to the agents.
    pub agents: Arc<dyn Agents>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and randomness.
    pub ids: Arc<dyn Ids>,
    /// How much it takes on.
    pub limits: Limits,
}

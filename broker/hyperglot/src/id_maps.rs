//! The id maps: the engine's, for its own fronts and for the numbers it leases; and an agent's, whose numbers are leased.

use crate::agent::{Agent, LOOK};
use ::link::{
    Engine, Service, Verb,
    engine::ask,
    keep::ids::{Kept, Lender},
};
use async_trait::async_trait;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use store::{
    Epoch, Store,
    idmap::{IdError, IdMap, IdMaps as Maps, MAX_BLOCK, Numbers},
};
use union::{
    Clock,
    command::{Cause, Code},
    pb,
};

/// Numbers of each form beyond what there is.
const SPARE: u64 = 500;
/// How long the engine may take to lease numbers.
const WITHIN: Duration = Duration::from_secs(5);

/// The engine's id maps.
#[derive(Debug)]
pub struct IdMaps {
    maps: Arc<Maps>,
    epoch: Epoch,
    clock: Arc<dyn Clock>,
}

impl IdMaps {
    /// The maps in the engine's store.
    pub fn new(store: Arc<dyn Store>, epoch: Epoch, clock: Arc<dyn Clock>) -> IdMaps {
        IdMaps { maps: Maps::new(store, Numbers::Counted), epoch, clock }
    }

    /// The map of a protocol and view, for a front of the engine's own process.
    ///
    /// # Errors
    /// The store cannot be read, or the map does not agree with itself.
    pub async fn front(&self, protocol: &str, view: &str) -> Result<Arc<inventory::IdMap>, IdError> {
        let map = self.maps.map(protocol, view).await?;
        Ok(Kept::counted(map, self.epoch, Arc::clone(&self.clock)).id_map())
    }
}

fn cause(error: &IdError) -> Cause {
    Cause::new(Code::Internal, format!("native ids cannot be given: {error}"))
}

#[async_trait]
impl engine::IdMaps for IdMaps {
    async fn lease(&self, agent: &str, wanted: &pb::LeaseIds) -> Result<pb::LeasedIds, Cause> {
        // An agent gives out ids of its own views alone.
        if wanted.view.rsplit_once(':').is_none_or(|(_, owner)| owner != agent) {
            let message =
                format!("{agent} asked for ids of the view `{}`, which is not its own", wanted.view);
            return Err(Cause::new(Code::Permission, message));
        }
        let wanted = pb::LeaseIds { count: wanted.count.clamp(1, MAX_BLOCK), ..wanted.clone() };
        let map = self.maps.map(&wanted.protocol, &wanted.view).await.map_err(|e| cause(&e))?;
        let block = map.lease(&wanted.form, agent, wanted.count, self.epoch).await.map_err(|e| cause(&e))?;
        Ok(pb::LeasedIds { first: block.first, count: block.end.saturating_sub(block.first) })
    }

    async fn adopt(&self, agent: &str, body: &[u8]) -> Result<(), Cause> {
        self.maps.adopt(agent, body, self.epoch).await.map_err(|e| cause(&e))
    }
}

/// The engine as one who lends numbers.
#[derive(Debug)]
pub struct EngineLends(pub Arc<dyn Engine>);

#[async_trait]
impl Lender for EngineLends {
    async fn lease(&self, wanted: pb::LeaseIds) -> Result<pb::LeasedIds, String> {
        let leased = ask::<pb::LeasedIds>(&*self.0, &Verb::Service(Service::Ids), &wanted, WITHIN).await;
        leased.map_err(|e| e.to_string())
    }
}

/// The map of a host's view on an agent: of its own numbers, leased from the engine. With `forms` it waits until there are numbers for
/// `objects` of each, and some more: what is shown first must not have to wait for the engine.
///
/// # Errors
/// The store cannot be read, or the map does not agree with itself.
pub async fn leased(
    agent: &Agent,
    protocol: &str,
    view: &str,
    forms: &BTreeSet<String>,
    objects: usize,
) -> Result<Arc<inventory::IdMap>, IdError> {
    let store = Arc::clone(&agent.store) as Arc<dyn Store>;
    let map = Arc::new(IdMap::open(store, protocol, view, Numbers::Leased).await?);
    let lends = Arc::new(EngineLends(Arc::clone(&agent.joined.engine)));
    let kept = Kept::leased(map, agent.epoch, Arc::clone(&agent.clock), &agent.name, lends);
    let forms: Vec<&str> = forms.iter().map(String::as_str).collect();
    let least = u64::try_from(objects).unwrap_or(0).saturating_add(SPARE);
    let mut told = false;
    while let Err(why) = kept.prepare(&forms, least).await {
        // One that has given ids out before shows those; new objects wait.
        if kept.has_given() {
            break;
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(view, why, "the listener waits for native ids, which the engine leases");
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(kept.id_map())
}

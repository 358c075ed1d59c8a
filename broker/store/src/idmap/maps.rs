//! All id maps of an engine, opened when first asked for: what agents are leased numbers of, and where what they gave out is taken over.
//!
//! An agent gives out ids of its own views alone: those whose name ends in `:` and its own, for example `host:rack7`.

use super::{Block, Handed, IdError, IdMap, Numbers};
use crate::{batch::Epoch, row::Row as _, store::Store};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Maps open at once; one for each protocol and view, so few hundreds in a large installation.
const MAX_OPEN: usize = 16_384;

type Scope = (Arc<str>, Arc<str>);

fn own(agent: &str, view: &str) -> Result<(), IdError> {
    match view.rsplit_once(':') {
        Some((_, owner)) if owner == agent => Ok(()),
        _ => Err(IdError::NotOwn { view: Arc::from(view), agent: Arc::from(agent) }),
    }
}

/// The id maps of a store.
#[derive(Debug)]
pub struct IdMaps {
    store: Arc<dyn Store>,
    numbers: Numbers,
    open: tokio::sync::Mutex<FxHashMap<Scope, Arc<IdMap>>>,
}

impl IdMaps {
    /// The maps in `store`, none open yet. An engine counts, an agent gives out of leased blocks.
    pub fn new(store: Arc<dyn Store>, numbers: Numbers) -> Arc<IdMaps> {
        Arc::new(IdMaps { store, numbers, open: tokio::sync::Mutex::default() })
    }

    /// The map of a protocol and view.
    pub async fn map(&self, protocol: &str, view: &str) -> Result<Arc<IdMap>, IdError> {
        let mut open = self.open.lock().await;
        let scope = (Arc::from(protocol), Arc::from(view));
        if let Some(known) = open.get(&scope) {
            return Ok(Arc::clone(known));
        }
        let map = IdMap::open(Arc::clone(&self.store), protocol, view, self.numbers).await?;
        let map = Arc::new(map);
        if open.len() < MAX_OPEN {
            open.insert(scope, Arc::clone(&map));
        }
        Ok(map)
    }

    /// Sets numbers of a form aside for an agent.
    pub async fn lease(
        &self,
        agent: &str,
        (protocol, view): (&str, &str),
        form: &str,
        count: u64,
        epoch: Epoch,
    ) -> Result<Block, IdError> {
        own(agent, view)?;
        self.map(protocol, view).await?.lease(form, agent, count, epoch).await
    }

    /// Takes over what an agent handed in from its outbox. The same again is fine.
    pub async fn adopt(&self, agent: &str, handed: &[u8], epoch: Epoch) -> Result<(), IdError> {
        let Handed { protocol, view, given } =
            Handed::decode(handed).ok_or_else(|| IdError::BadHanded(Arc::from(agent)))?;
        own(agent, &view)?;
        self.map(&protocol, &view).await?.adopt(agent, &given, epoch).await
    }
}

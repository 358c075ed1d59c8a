//! What the broker itself says of objects, on its way to the agents that show them too.
//!
//! ```text
//! engine: Inventory ─observer─▶ Tap (which objects, each once) ─ next ─▶ key, bytes ──▶ bus  inventory.<domain>.engine.owned.…
//! agent:  bus ──▶ Follower: reset, put, remove, synced ─▶ Inventory.set_own
//! ```
//!
//! Everything of a layer goes but the lists of recent tasks, which are each inventory's own. Trouble goes too: an object that several agents
//! have is refused by each of their lanes.

use crate::{
    feed::{self, FeedError},
    store::{Change, Inventory, Observer, ObserverGuard},
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::Notify;
use union::{ObjectId, Slot, Value};

#[derive(Debug, Default)]
struct Dirty {
    ids: Mutex<BTreeSet<ObjectId>>,
    news: Notify,
}

struct Watch(Arc<Dirty>);

impl Observer for Watch {
    fn changed(&self, _changes: &[Change]) {}

    fn owned(&self, ids: &[ObjectId]) {
        self.0.ids.lock().extend(ids);
        self.0.news.notify_one();
    }
}

/// Tells what the broker says of objects as it changes, everything at first. Bounded: an object waits once.
#[derive(Debug)]
pub struct Tap {
    inventory: Arc<Inventory>,
    dirty: Arc<Dirty>,
    _guard: ObserverGuard,
}

impl Tap {
    /// A tap on an inventory's layers.
    pub fn new(inventory: &Arc<Inventory>) -> Tap {
        let dirty = Arc::new(Dirty::default());
        let guard = inventory.observe_all(Arc::new(Watch(Arc::clone(&dirty))));
        Tap { inventory: Arc::clone(inventory), dirty, _guard: guard }
    }

    /// The objects that have changed since the last call, at least one: each key with its bytes; none: the broker says nothing of it any
    /// more. Nothing is lost when this is given up half-way.
    pub async fn next(&self) -> Vec<(String, Option<Vec<u8>>)> {
        loop {
            let news = self.dirty.news.notified();
            let ids = std::mem::take(&mut *self.dirty.ids.lock());
            if !ids.is_empty() {
                let schema = self.inventory.schema();
                return ids
                    .into_iter()
                    .map(|id| {
                        let recent = schema.slot(id.kind, "recent_task_ids");
                        let mut values = self.inventory.own(id);
                        values.retain(|(slot, _)| Some(*slot) != recent);
                        feed::own(schema, id, &values)
                    })
                    .collect();
            }
            news.await;
        }
    }
}

/// Lays over an agent's facts what the broker says of them.
#[derive(Debug)]
pub struct Follower {
    inventory: Arc<Inventory>,
    /// What was laid, by object.
    laid: FxHashMap<ObjectId, BTreeMap<Slot, Value>>,
    /// Named since the last reset; `None`: following.
    named: Option<BTreeSet<ObjectId>>,
}

impl Follower {
    /// Follows into `inventory`. Expects a reset and a snapshot first.
    pub fn new(inventory: Arc<Inventory>) -> Follower {
        Follower { inventory, laid: FxHashMap::default(), named: Some(BTreeSet::new()) }
    }

    /// A snapshot follows. What was laid stays until it is complete.
    pub fn reset(&mut self) {
        self.named = Some(BTreeSet::new());
    }

    /// What the broker says of an object.
    pub fn put(&mut self, key: &str, bytes: &[u8]) -> Result<(), FeedError> {
        let (id, values) = feed::decode_own(self.inventory.schema(), key, bytes)?;
        if let Some(named) = &mut self.named {
            named.insert(id);
        }
        self.lay(id, values);
        Ok(())
    }

    /// The broker says nothing of an object any more.
    pub fn remove(&mut self, key: &str) -> Result<(), FeedError> {
        let id = key.parse()?;
        if let Some(named) = &mut self.named {
            named.remove(&id);
        }
        self.lay(id, Vec::new());
        Ok(())
    }

    /// Everything told so far is all the broker says.
    pub fn synced(&mut self) {
        let Some(named) = self.named.take() else { return };
        let gone: Vec<ObjectId> = self.laid.keys().filter(|id| !named.contains(id)).copied().collect();
        for id in gone {
            self.lay(id, Vec::new());
        }
    }

    fn lay(&mut self, id: ObjectId, values: Vec<(Slot, Value)>) {
        let next: BTreeMap<Slot, Value> = values.into_iter().collect();
        let before = self.laid.remove(&id).unwrap_or_default();
        let off =
            before.into_keys().filter(|slot| !next.contains_key(slot)).map(|slot| (slot, Value::Absent));
        let values: Vec<(Slot, Value)> = off.chain(next.clone()).collect();
        if !next.is_empty() {
            self.laid.insert(id, next);
        }
        if !values.is_empty() {
            self.inventory.set_own(id, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::Put,
        testing::{id, inventory, record, slot},
    };
    use union::Kind;

    fn carry(news: Vec<(String, Option<Vec<u8>>)>, to: &mut Follower) {
        for (key, bytes) in news {
            match bytes {
                Some(bytes) => to.put(&key, &bytes).expect("our own bytes"),
                None => to.remove(&key).expect("our own key"),
            }
        }
    }

    #[tokio::test]
    async fn agents_lay_over_their_facts_what_the_engine_says() {
        let (engine, agent) = (inventory(), inventory());
        let (one, two) = (id(Kind::Vm, 1), id(Kind::Vm, 2));
        let template = slot(Kind::Vm, "template");
        let (trouble, recent) = (slot(Kind::Vm, "trouble"), slot(Kind::Vm, "recent_task_ids"));
        engine.set_own(one, vec![(template, true.into()), (recent, Value::list([id(Kind::Task, 1).into()]))]);
        let tap = Tap::new(&engine);
        let mut follower = Follower::new(Arc::clone(&agent));
        carry(tap.next().await, &mut follower);
        follower.synced();
        agent.apply(vec![Put::Whole(one, record(Kind::Vm, &[])), Put::Whole(two, record(Kind::Vm, &[]))]);
        assert_eq!(agent.own(one), [(template, true.into())]);
        assert_eq!(agent.record(one).expect("there").get(template), &Value::Bool(true));
        engine.set_own(two, vec![(trouble, "on two agents".into())]);
        engine.set_own(one, vec![(template, Value::Absent)]);
        carry(tap.next().await, &mut follower);
        assert_eq!(agent.contested(two).as_deref(), Some("on two agents"));
        assert_eq!(agent.own(one), []);
        follower.reset();
        follower.synced();
        assert!(agent.contested(two).is_none() && agent.owned().is_empty());
    }
}

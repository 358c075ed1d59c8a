//! An agent in this process: the fleet follows its inventory as it changes, so that whoever has seen a revision of it finds it in the fleet.

use super::{FinderOf, Fleet, Holder};
use crate::{
    feed::{Fact, Said},
    store::{Change, Inventory, Observer, ObserverGuard},
};
use std::sync::Arc;
use union::ObjectId;

/// The target that holds an object, and its protocol; asked when somebody wants to know, never while facts are put.
pub type Finder = Arc<dyn Fn(ObjectId) -> Option<(Arc<str>, Arc<str>)> + Send + Sync>;

/// Follows until dropped.
#[derive(Debug)]
pub struct Local {
    fleet: Fleet,
    agent: Arc<str>,
    _guard: ObserverGuard,
}

struct Follow {
    fleet: Fleet,
    agent: Arc<str>,
}

impl Follow {
    fn said(&self, change: &Change) -> Said {
        let Some(entry) = &change.entry else { return Said::Gone(change.id) };
        // Through which target is asked when it matters; until then what was known stays.
        let holders = self.fleet.inner.holders.read();
        let holder = holders.of.get(&change.id).filter(|holder| holder.agent == self.agent);
        let word = |of: fn(&Holder) -> &Arc<str>| holder.map_or_else(Arc::default, |h| Arc::clone(of(h)));
        let fact = Fact {
            record: Arc::clone(&entry.record),
            created_ms: entry.created_ms,
            modified_ms: entry.modified_ms,
            target: word(|holder| &holder.target),
            protocol: word(|holder| &holder.protocol),
            credit: change.credit.clone(),
        };
        Said::Fact(change.id, fact)
    }
}

impl Observer for Follow {
    fn changed(&self, changes: &[Change]) {
        let at = changes.first().map(|change| Said::At(change.revision));
        let said: Vec<Said> = changes.iter().map(|change| self.said(change)).chain(at).collect();
        let inner = &self.fleet.inner;
        let mut book = inner.book.lock();
        book.take(inner, &self.agent, said);
        book.synced(inner, &self.agent);
    }
}

impl Fleet {
    /// Follows the inventory of an agent in this process. The fleet's changes while it changes, so whoever observes the fleet's must not
    /// apply to `inventory`.
    pub fn follow(&self, name: &str, inventory: &Arc<Inventory>, finder: Finder) -> Local {
        let agent: Arc<str> = Arc::from(name);
        self.inner.meet(&agent);
        self.inner.holders.write().finders.insert(Arc::clone(&agent), FinderOf(finder));
        self.inner.book.lock().reset(&agent);
        let follow = Follow { fleet: self.clone(), agent: Arc::clone(&agent) };
        let guard = inventory.observe_all(Arc::new(follow));
        self.inner.book.lock().synced(&self.inner, &agent);
        Local { fleet: self.clone(), agent, _guard: guard }
    }
}

impl Local {
    /// A target has given all its facts, for the first time in this life: what it has not named is gone.
    pub fn in_step(&self, target: &str) {
        let inner = &self.fleet.inner;
        let mut book = inner.book.lock();
        book.take(inner, &self.agent, vec![Said::InStep(Arc::from(target))]);
        book.synced(inner, &self.agent);
    }
}

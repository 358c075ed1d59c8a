//! The fleet: one inventory over what several agents say.
//!
//! ```text
//! agent a ── Source (bus: reset, put, remove, synced │ this process: Local) ──┐
//! agent b ── Source ──────────────────────────────────────────────────────────┼─▶ Fleet ─▶ Inventory ─▶ views
//! store   ── seed: last known facts, not responding until their agent speaks ─┘     └─▶ holder(id), reached(id, revision)
//!
//! an object of an agent:   named ──remove, or a complete snapshot without it, by a target in step──▶ gone
//!                            └──the agent is lost, or has begun anew and its target has not spoken yet──▶ masked: not responding
//! ```
//!
//! The fleet counts its own revisions; [`Fleet::reached`] tells which of them shows an agent's. Who named an object first holds it. Another
//! agent that names it too is kept aside: the object is contested, says so in its `trouble`, and is the other's when the first lets go.
//!
//! Observers of the fleet's inventory may ask [`Fleet::holder`], and nothing else of the fleet.
//!
//! Limits: facts of a source wait for the end of their batch, at most [`BATCH`] of them. A seed holds what the store held.

use crate::{
    feed::{self, Fact, FeedError, Said},
    store::{Inventory, Put},
};
use book::Book;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use union::{ObjectId, Record, command::Revision};

mod book;
mod local;
#[cfg(test)]
mod tests;

pub use local::{Finder, Local};

/// Facts applied together at most.
pub const BATCH: usize = 512;

/// Who holds an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The agent.
    pub agent: Arc<str>,
    /// Its target; empty: the object is the agent's own, for example a task.
    pub target: Arc<str>,
    /// The protocol spoken to the target.
    pub protocol: Arc<str>,
}

/// The last known facts of an object, from the store.
#[derive(Clone, Debug)]
pub struct Seed {
    /// Which object.
    pub id: ObjectId,
    /// Its facts.
    pub record: Arc<Record>,
    /// When it was first seen, Unix milliseconds.
    pub created_ms: i64,
    /// When its configuration last changed, Unix milliseconds.
    pub modified_ms: i64,
    /// Who held it.
    pub holder: Holder,
}

/// Which objects are whose. Not held while the inventory tells its observers.
#[derive(Debug, Default)]
struct Holders {
    of: FxHashMap<ObjectId, Arc<Holder>>,
    /// The agent of this process knows itself.
    finders: FxHashMap<Arc<str>, FinderOf>,
    /// How far each agent was heard.
    heard: FxHashMap<Arc<str>, watch::Sender<Revision>>,
}

#[derive(Clone)]
struct FinderOf(Finder);

impl std::fmt::Debug for FinderOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("finder")
    }
}

#[derive(Debug)]
struct Inner {
    inventory: Arc<Inventory>,
    holders: RwLock<Holders>,
    /// One source at a time; held while the inventory tells its observers.
    book: Mutex<Book>,
}

/// The facts of several agents. Clones share them.
#[derive(Clone, Debug)]
pub struct Fleet {
    inner: Arc<Inner>,
}

impl Fleet {
    /// A fleet without agents that fills `inventory`, which stamps nothing into records from now on: that is the agents'.
    pub fn new(inventory: Arc<Inventory>) -> Fleet {
        inventory.replicate();
        Fleet { inner: Arc::new(Inner { inventory, holders: RwLock::default(), book: Mutex::default() }) }
    }

    /// What it fills.
    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inner.inventory
    }

    /// What an agent says from now on. The same name again goes on where the last source was.
    pub fn agent(&self, name: &str) -> Source {
        let name = Arc::from(name);
        self.inner.meet(&name);
        Source { fleet: self.clone(), agent: name, waiting: Vec::new() }
    }

    /// The names of the agents, ordered.
    pub fn agents(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.inner.holders.read().heard.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Who holds an object, if an agent does; folders and the like are the broker's own.
    pub fn holder(&self, id: ObjectId) -> Option<Holder> {
        let (holder, finder) = {
            let holders = self.inner.holders.read();
            let holder = holders.of.get(&id)?;
            (Arc::clone(holder), holders.finders.get(&holder.agent).cloned())
        };
        let found = finder.and_then(|finder| (finder.0)(id));
        Some(match found {
            Some((target, protocol)) => Holder { agent: Arc::clone(&holder.agent), target, protocol },
            None => Holder::clone(&holder),
        })
    }

    /// Why nothing can be done to an object: several agents have it.
    pub fn contested(&self, id: ObjectId) -> Option<String> {
        self.inner.inventory.contested(id).or_else(|| self.inner.book.lock().contest(&self.inner, id))
    }

    /// Waits until the facts are there that the object's holder had at `revision`; the revision of the fleet's inventory that shows them.
    /// `None`: nobody holds it, or not within that time.
    pub async fn reached(&self, id: ObjectId, revision: Revision, within: Duration) -> Option<Revision> {
        let agent = Arc::clone(&self.inner.holders.read().of.get(&id)?.agent);
        self.reached_by(&agent, revision, within).await
    }

    /// As [`Fleet::reached`], of what an agent had: also when it has let go of the object.
    pub async fn reached_by(&self, agent: &str, revision: Revision, within: Duration) -> Option<Revision> {
        let mut heard = self.inner.holders.read().heard.get(agent)?.subscribe();
        let waited = tokio::time::timeout(within, heard.wait_for(|at| *at >= revision)).await;
        waited.ok()?.ok()?;
        Some(self.inner.inventory.revision())
    }

    /// An agent is not heard any more: its facts stay, its hosts and VMs do not respond.
    pub fn lost(&self, agent: &str) {
        tracing::warn!(agent, "an agent is lost; its hosts are shown as not responding");
        self.inner.book.lock().lost(&self.inner, agent);
    }

    /// An agent is heard again, and nothing was missed: what it said last is true. After a gap, its snapshot says so by itself.
    pub fn back(&self, agent: &str) {
        self.inner.book.lock().back(&self.inner, agent);
    }

    /// Whether an agent is lost, or was never heard in this life.
    pub fn is_lost(&self, agent: &str) -> bool {
        self.inner.book.lock().is_lost(agent)
    }

    /// Whether an agent is heard and a target of its has given all its facts in this life: what it has not named is not there.
    pub fn is_in_step(&self, agent: &str, target: &str) -> bool {
        self.inner.book.lock().is_in_step(agent, target)
    }

    /// An agent is no longer part of the installation, by a person's word: what it held is gone.
    pub fn forget(&self, agent: &str) {
        self.inner.book.lock().forget(&self.inner, agent);
        let mut holders = self.inner.holders.write();
        holders.heard.remove(agent);
        holders.finders.remove(agent);
    }

    /// Last known facts, before any agent was heard. Their agents are lost until they speak.
    pub fn seed(&self, seeds: Vec<Seed>) {
        for seed in &seeds {
            self.inner.meet(&seed.holder.agent);
        }
        self.inner.book.lock().seed(&self.inner, seeds);
    }
}

impl Inner {
    /// Knows an agent by name.
    fn meet(&self, agent: &Arc<str>) {
        let mut holders = self.holders.write();
        holders.heard.entry(Arc::clone(agent)).or_insert_with(|| watch::Sender::new(Revision::default()));
    }

    /// The agent was heard up to a revision.
    fn hear(&self, agent: &str, revision: Revision) {
        if let Some(heard) = self.holders.read().heard.get(agent) {
            heard.send_if_modified(|at| {
                let later = revision > *at;
                *at = revision.max(*at);
                later
            });
        }
    }

    fn apply(&self, puts: Vec<Put>) {
        if !puts.is_empty() {
            self.inventory.apply(puts);
        }
    }
}

/// What one agent says, as it comes over the bus.
///
/// ```text
/// reset ─▶ put… remove… ─▶ synced: what the agent's targets in step have not named since the reset is gone ─▶ put… remove… ─▶ synced ─▶ …
/// ```
#[derive(Debug)]
pub struct Source {
    fleet: Fleet,
    agent: Arc<str>,
    waiting: Vec<Said>,
}

impl Source {
    /// Whose.
    pub fn agent(&self) -> &Arc<str> {
        &self.agent
    }

    /// A snapshot follows. The facts stay until it is complete.
    pub fn reset(&mut self) {
        self.waiting.clear();
        self.fleet.inner.book.lock().reset(&self.agent);
    }

    /// A key has this value.
    pub fn put(&mut self, key: &str, bytes: &[u8]) -> Result<(), FeedError> {
        self.waiting.push(feed::decode(self.fleet.inventory().schema(), key, bytes)?);
        if self.waiting.len() >= BATCH {
            self.flush();
        }
        Ok(())
    }

    /// A key is gone. What the agent says of itself stays true until a reset.
    pub fn remove(&mut self, key: &str) -> Result<(), FeedError> {
        if !key.starts_with('~') {
            self.waiting.push(Said::Gone(key.parse()?));
        }
        Ok(())
    }

    /// Everything told so far is what the agent has. After a snapshot the agent is not lost any more.
    pub fn synced(&mut self) {
        self.flush();
        self.fleet.inner.book.lock().synced(&self.fleet.inner, &self.agent);
    }

    fn flush(&mut self) {
        let said = std::mem::take(&mut self.waiting);
        if !said.is_empty() {
            self.fleet.inner.book.lock().take(&self.fleet.inner, &self.agent, said);
        }
    }
}

impl Fact {
    fn put(&self, id: ObjectId) -> Put {
        Put::Copy(id, Arc::clone(&self.record), self.created_ms, self.modified_ms)
    }
}

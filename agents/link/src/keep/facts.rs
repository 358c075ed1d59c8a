//! Last known facts over restarts: of an engine's fleet whole, of an agent only when each object was first seen.
//!
//! ```text
//! start: load ─▶ Fleet::seed: shown as not responding until the agent speaks       │ Inventory::recall: who stands first among equal names
//! change ─▶ queue: each object once ─▶ writer: every second up to 512 in one commit
//! ```
//!
//! Figures that only move (usage, uptime) make nothing be written; they go along with the next change. What an agent said is gone stays as a
//! tombstone for a day. Of agents' tasks a fleet keeps how they stand, so that they are shown while their agent is away. What is the broker's
//! own, its tasks too, is kept elsewhere.

use inventory::{
    Fleet, Inventory, ObserverGuard,
    fleet::{Holder, Seed},
    store::{Change, Observer},
};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use store::{
    Blob, Epoch, Store, StoreError,
    facts::{Fact, Facts as Rows},
};
use tokio::sync::Notify;
use union::{FieldType, Kind, ObjectId, Schema, SlotSet, codec};

/// Facts written in one commit.
const TOGETHER: usize = 512;
/// The pause between two commits.
const EVERY: Duration = Duration::from_secs(1);
/// How long a tombstone is kept, milliseconds.
const TOMBSTONE_MS: i64 = 24 * 3_600 * 1_000;
/// Rows read at a time.
const PAGE: usize = 1_024;

/// Whose facts are kept.
#[derive(Debug)]
enum Of {
    Fleet(Fleet),
    Agent(Arc<Inventory>),
}

#[derive(Debug)]
struct Queue {
    dirty: Mutex<BTreeSet<ObjectId>>,
    wake: Notify,
    /// By kind, the slots whose change is worth a write, as coming and going always is; `None`: the kind is not kept.
    worth: Vec<Option<SlotSet>>,
}

/// Keeps facts in a store.
#[derive(Debug)]
pub struct FactKeeper {
    rows: Rows,
    epoch: Epoch,
    of: Of,
    queue: Arc<Queue>,
    /// The agents' tasks that are kept: only of these it is worth a write that they are gone.
    tasks: Mutex<FxHashSet<ObjectId>>,
    _watch: ObserverGuard,
}

struct Watch(Arc<Queue>);

impl Observer for Watch {
    fn changed(&self, changes: &[Change]) {
        let worth = |change: &&Change| {
            let slots = self.0.worth.get(change.id.kind as usize).copied().flatten();
            let came = change.old.is_none() || change.new.is_none();
            slots.is_some_and(|slots| came || change.changed.intersects(slots))
        };
        let mut dirty = self.0.dirty.lock();
        let before = dirty.len();
        dirty.extend(changes.iter().filter(worth).map(|change| change.id));
        if dirty.len() > before {
            self.0.wake.notify_one();
        }
    }
}

/// The slots of a kind whose change is worth a write: all but numbers that only tell how it runs.
fn worth(schema: &Schema, kind: Kind) -> Option<SlotSet> {
    if matches!(kind, Kind::Task | Kind::Event | Kind::Session | Kind::Service) {
        return None;
    }
    let mut slots = SlotSet::EMPTY;
    let message = schema.kind(kind);
    for field in &message.fields {
        let figure = matches!(field.ty, FieldType::Int32 | FieldType::Int64 | FieldType::Float);
        let stamp = field.name == "recent_task_ids" || field.name == "modified_ms";
        if !(stamp || figure && message.runtime.contains(field.slot)) {
            slots.insert(field.slot);
        }
    }
    Some(slots)
}

/// Everything that is kept and not gone.
async fn kept(rows: &Rows) -> Result<Vec<Fact>, StoreError> {
    let mut facts = Vec::new();
    for kind in Kind::ALL {
        let mut beyond = None;
        loop {
            let page = rows.page(*kind, beyond, PAGE).await?;
            beyond = page.last().map(|fact| fact.id);
            let last = page.len() < PAGE;
            facts.extend(page.into_iter().filter(|fact| fact.gone_ms == 0));
            if last {
                break;
            }
        }
    }
    Ok(facts)
}

impl FactKeeper {
    /// Seeds a fleet with its last known facts, before any agent has spoken, and keeps it from then on.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn fleet(store: Arc<dyn Store>, epoch: Epoch, fleet: &Fleet) -> Result<FactKeeper, StoreError> {
        let rows = Rows::new(store);
        let schema = Arc::clone(fleet.inventory().schema());
        let mut seeds = Vec::new();
        for fact in kept(&rows).await? {
            match codec::decode(&schema, schema.kind(fact.id.kind).id, &fact.record.0) {
                Ok(record) => seeds.push(Seed {
                    id: fact.id,
                    record: Arc::new(record),
                    created_ms: fact.created_ms,
                    modified_ms: fact.modified_ms,
                    holder: Holder { agent: fact.owner, target: fact.target, protocol: fact.protocol },
                }),
                Err(error) => {
                    tracing::error!(object = %fact.id, %error, "a kept fact cannot be read; it is left out");
                }
            }
        }
        let tasks = seeds.iter().map(|seed| seed.id).filter(|id| id.kind == Kind::Task).collect();
        fleet.seed(seeds);
        let keeper = FactKeeper::keep(rows, epoch, Of::Fleet(fleet.clone()), fleet.inventory());
        *keeper.tasks.lock() = tasks;
        Ok(keeper)
    }

    /// Tells an agent's inventory when its objects were first seen, before it has any, and keeps that from then on.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn first_sights(
        store: Arc<dyn Store>,
        epoch: Epoch,
        inventory: &Arc<Inventory>,
    ) -> Result<FactKeeper, StoreError> {
        let rows = Rows::new(store);
        inventory.recall(kept(&rows).await?.into_iter().map(|fact| (fact.id, fact.created_ms)));
        Ok(FactKeeper::keep(rows, epoch, Of::Agent(Arc::clone(inventory)), inventory))
    }

    fn keep(rows: Rows, epoch: Epoch, of: Of, inventory: &Arc<Inventory>) -> FactKeeper {
        let schema = inventory.schema();
        let worth = Kind::ALL.iter().map(|kind| match of {
            Of::Fleet(_) if *kind == Kind::Task => schema.slot(Kind::Task, "state").map(SlotSet::of),
            Of::Fleet(_) => worth(schema, *kind),
            Of::Agent(_) => worth(schema, *kind).map(|_| SlotSet::EMPTY),
        });
        let queue = Arc::new(Queue { worth: worth.collect(), dirty: Mutex::default(), wake: Notify::new() });
        let watch = inventory.observe(Arc::new(Watch(Arc::clone(&queue))));
        FactKeeper { rows, epoch, of, queue, tasks: Mutex::default(), _watch: watch }
    }

    /// Writes what has changed, for as long as it is polled.
    pub async fn run(&self, now_ms: impl Fn() -> i64) {
        let mut swept = i64::MIN;
        loop {
            let wake = self.queue.wake.notified();
            match self.flush(now_ms()).await {
                Ok(true) => {}
                Ok(false) => wake.await,
                Err(error) => tracing::warn!(%error, "facts are not kept; the store is tried again"),
            }
            tokio::time::sleep(EVERY).await;
            let now = now_ms();
            if now.saturating_sub(swept) > TOMBSTONE_MS / 24 {
                swept = now;
                self.sweep(now).await;
            }
        }
    }

    /// Writes some of what has changed; whether more is left.
    ///
    /// # Errors
    /// The store's; what was not written stays queued.
    pub async fn flush(&self, now_ms: i64) -> Result<bool, StoreError> {
        let taken: Vec<ObjectId> = {
            let mut dirty = self.queue.dirty.lock();
            std::iter::from_fn(|| dirty.pop_first()).take(TOGETHER).collect()
        };
        let facts: Vec<Fact> = taken.iter().filter_map(|id| self.fact(*id, now_ms)).collect();
        if !facts.is_empty()
            && let Err(error) = self.rows.put(&facts, self.epoch).await
        {
            let gone = facts.iter().filter(|fact| fact.id.kind == Kind::Task && fact.gone_ms != 0);
            self.tasks.lock().extend(gone.map(|fact| fact.id));
            self.queue.dirty.lock().extend(taken);
            return Err(error);
        }
        Ok(!self.queue.dirty.lock().is_empty())
    }

    /// An object as it is to be kept; `None`: it is the broker's own.
    fn fact(&self, id: ObjectId, now_ms: i64) -> Option<Fact> {
        let inventory = match &self.of {
            Of::Fleet(fleet) => fleet.inventory(),
            Of::Agent(inventory) => inventory,
        };
        let nobody = || Holder { agent: Arc::default(), target: Arc::default(), protocol: Arc::default() };
        let Some(entry) = inventory.beneath(id) else {
            if id.kind == Kind::Task && !self.tasks.lock().remove(&id) {
                return None;
            }
            let at = inventory.tombstone(id)?.revision;
            let Holder { agent, target, protocol } = nobody();
            let (created_ms, modified_ms, gone_ms) = (0, now_ms, now_ms.max(1));
            let (record, owner) = (Blob::default(), agent);
            let fact = Fact {
                id,
                record,
                config: at,
                runtime: at,
                owner,
                created_ms,
                modified_ms,
                gone_ms,
                target,
                protocol,
            };
            return Some(fact);
        };
        let (holder, record) = match &self.of {
            Of::Fleet(fleet) => (fleet.holder(id)?, codec::encode(inventory.schema(), &entry.record)),
            Of::Agent(_) => (nobody(), Vec::new()),
        };
        if id.kind == Kind::Task {
            self.tasks.lock().insert(id);
        }
        Some(Fact {
            id,
            record: Blob(record),
            config: entry.config,
            runtime: entry.runtime,
            owner: holder.agent,
            created_ms: entry.created_ms,
            modified_ms: entry.modified_ms,
            gone_ms: 0,
            target: holder.target,
            protocol: holder.protocol,
        })
    }

    async fn sweep(&self, now_ms: i64) {
        for kind in Kind::ALL {
            match self.rows.forget_gone(*kind, now_ms.saturating_sub(TOMBSTONE_MS), self.epoch).await {
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "old tombstones were not forgotten"),
            }
        }
    }
}

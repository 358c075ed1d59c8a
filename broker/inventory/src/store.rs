//! The store: one record an object, with its revisions.
//!
//! ```text
//! apply(puts) ─ writer lock ─▶ merge into the records, move the revision once ─▶ observers, in order ─▶ seen(revision) resolves
//! ```
//!
//! A batch is atomic: readers see all of it or nothing. Observers run while the writer lock is held: they may read this inventory and
//! write others, but must not apply to this one.
//!
//! Limits: the last 10,000 removed objects are remembered as tombstones.

mod observe;
mod own;
mod state;

pub use observe::{Observer, ObserverGuard};

use crate::{
    chronicle::Counters,
    claims::Register,
    gaps::Gaps,
    intern::Interner,
    merge::{merge, same},
};
use observe::Observers;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use state::State;
use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::watch;
use union::{Clock, Kind, ObjectId, Record, Schema, Slot, SlotSet, Value, command::Revision};

/// How many removed objects are remembered.
pub const TOMBSTONES: usize = 10_000;

/// What is known of one object. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The facts.
    pub record: Arc<Record>,
    /// When a configuration field last changed.
    pub config: Revision,
    /// When a field marked `runtime` last changed.
    pub runtime: Revision,
    /// When it was first seen here, Unix milliseconds.
    pub created_ms: i64,
    /// When its configuration last changed, Unix milliseconds.
    pub modified_ms: i64,
}

impl Entry {
    /// The later of the two revisions.
    pub fn revision(&self) -> Revision {
        self.config.max(self.runtime)
    }
}

/// One object's step, as observers are told it.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which object.
    pub id: ObjectId,
    /// Before; `None`: it is new.
    pub old: Option<Arc<Record>>,
    /// After; `None`: it is gone.
    pub new: Option<Arc<Record>>,
    /// The slots that differ; all of them for a new or a removed object.
    pub changed: SlotSet,
    /// The entry as it now stands; `None`: it is gone.
    pub entry: Option<Entry>,
    /// The revision of the batch.
    pub revision: Revision,
    /// On whose account it changed, if by a command.
    pub credit: Option<Credit>,
}

/// One thing to store.
#[derive(Clone, Debug)]
pub enum Put {
    /// All facts of an object, new or known. The fields that the broker itself keeps (`operation`,
    /// `change_version`, `modified_ms`) stay as they were where the record leaves them absent.
    Whole(ObjectId, Record),
    /// As `Whole`, of a record that others may hold as it is: then it is not copied. Absent lists are absent in it, not empty.
    Shared(ObjectId, Arc<Record>),
    /// The facts in these slots, of an object new or known; the other slots stay.
    Part(ObjectId, Record, SlotSet),
    /// All facts of an object as another inventory has them, with its stamps: first sight, last change of the configuration (Unix
    /// milliseconds). The earlier first sight counts.
    Copy(ObjectId, Arc<Record>, i64, i64),
    /// What the broker itself says of an object ([`Inventory::set_own`]).
    Own(ObjectId, Vec<(Slot, Value)>),
    /// A few facts of a known object; ignored for an unknown one, so a late figure cannot bring a removed object back.
    Slots(ObjectId, Vec<(Slot, Value)>),
    /// The object is gone, by the target's own word; ignored while a target claims it ([`crate::claims`]).
    Remove(ObjectId),
}

/// A removed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The batch that removed it.
    pub revision: Revision,
    /// When, Unix milliseconds.
    pub removed_ms: i64,
}

/// On whose account an object is changing just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Who asked.
    pub principal: Arc<str>,
    /// By which command.
    pub command: Arc<str>,
}

/// Who is to be named for what changes just now.
#[derive(Debug, Default)]
struct Credits {
    /// By what tells of the change.
    told: FxHashMap<ObjectId, Credit>,
    /// By commands that run; of several, the last.
    running: FxHashMap<ObjectId, Credit>,
}

impl Credits {
    fn get(&self, id: ObjectId) -> Option<&Credit> {
        self.told.get(&id).or_else(|| self.running.get(&id))
    }
}

/// What an inventory and its views have in common.
#[derive(Debug, Default)]
struct Shared {
    credits: RwLock<Credits>,
    gaps: Gaps,
    counters: OnceLock<Arc<dyn Counters>>,
}

/// The live facts of a set of targets.
pub struct Inventory {
    schema: Arc<Schema>,
    clock: Arc<dyn Clock>,
    state: RwLock<State>,
    writer: Mutex<Interner>,
    observers: RwLock<(u64, Observers)>,
    seen: watch::Sender<Revision>,
    register: Register,
    shared: Arc<Shared>,
    kept: Vec<SlotSet>,
    /// Whether it is the first to know, and so the one to stamp what changes.
    stamps: AtomicBool,
    /// Whether texts are shared through its own table; a view's are shared already.
    interns: bool,
}

impl std::fmt::Debug for Inventory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.read();
        f.debug_struct("Inventory")
            .field("objects", &state.entries.len())
            .field("revision", &state.revision)
            .finish_non_exhaustive()
    }
}

impl Inventory {
    /// An empty inventory; `incarnation` is the start of the owning agent in Unix milliseconds, greater than in its last life.
    pub fn new(schema: Arc<Schema>, incarnation: u64, clock: Arc<dyn Clock>) -> Arc<Inventory> {
        Inventory::build(schema, incarnation, clock, Arc::default(), (true, true))
    }

    /// From now on it shows what others know: it stamps nothing into records.
    pub(crate) fn replicate(&self) {
        self.stamps.store(false, Ordering::Release);
    }

    /// An inventory fed from `source` by a view: same schema, clock, and what else views share.
    pub(crate) fn derived(source: &Inventory) -> Arc<Inventory> {
        let incarnation = source.revision().incarnation;
        let (schema, clock) = (Arc::clone(&source.schema), Arc::clone(&source.clock));
        Inventory::build(schema, incarnation, clock, Arc::clone(&source.shared), (false, false))
    }

    fn build(
        schema: Arc<Schema>,
        incarnation: u64,
        clock: Arc<dyn Clock>,
        shared: Arc<Shared>,
        (stamps, interns): (bool, bool),
    ) -> Arc<Inventory> {
        let revision = Revision { incarnation, n: 0 };
        let kept = |kind: &Kind| {
            let mut set = SlotSet::EMPTY;
            ["operation", "change_version", "modified_ms"]
                .iter()
                .filter_map(|name| schema.slot(*kind, name).filter(|_| stamps))
                .for_each(|slot| set.insert(slot));
            set
        };
        Arc::new(Inventory {
            state: RwLock::new(State::new(&schema, revision)),
            kept: Kind::ALL.iter().map(kept).collect(),
            schema,
            clock,
            writer: Mutex::new(Interner::default()),
            observers: RwLock::new((0, Arc::default())),
            seen: watch::Sender::new(revision),
            register: Register::default(),
            shared,
            stamps: AtomicBool::new(stamps),
            interns,
        })
    }

    /// The schema of its records.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Where its times come from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Stores a batch and tells the observers. Puts that change nothing make no change; a batch without any change does not move the
    /// revision. Returns the revision that holds the batch.
    pub fn apply(&self, puts: Vec<Put>) -> Revision {
        let mut interner = self.writer.lock();
        let now = self.clock.now_ms();
        let mut owned = Vec::new();
        let (mut changes, revision) = {
            let mut state = self.state.write();
            let next = Revision { n: state.revision.n + 1, ..state.revision };
            let mut changes = Vec::with_capacity(puts.len());
            for put in puts {
                if let Put::Own(id, values) = &put {
                    if Inventory::is_own(&state.layers, *id, values) {
                        continue;
                    }
                    owned.push(*id);
                }
                changes.extend(self.put(&mut state, &mut interner, put, next, now));
            }
            if !changes.is_empty() {
                state.revision = next;
            }
            (changes, state.revision)
        };
        {
            let credits = self.shared.credits.read();
            for change in &mut changes {
                change.credit = credits.get(change.id).cloned();
            }
        }
        self.tell(&changes, &owned, revision);
        revision
    }

    fn put(
        &self,
        state: &mut State,
        interner: &mut Interner,
        put: Put,
        next: Revision,
        now: i64,
    ) -> Option<Change> {
        let few = |id: ObjectId, values: Vec<(Slot, Value)>| {
            let mut record = Record::new(self.schema.kind(id.kind).id, 0);
            let mut taken = SlotSet::EMPTY;
            for (slot, value) in values {
                record.set(slot, value);
                taken.insert(slot);
            }
            (id, Arc::new(record), taken)
        };
        let mut stamps = None;
        let mut covered = true;
        let mut kept = SlotSet::EMPTY;
        let (id, mut record, mut taken) = match put {
            // Somebody took it since: it is not gone but elsewhere.
            Put::Remove(id) if self.register.is_claimed(id) => return None,
            Put::Remove(id) => return state.remove(id, next, now),
            Put::Whole(id, record) => {
                kept = self.kept.get(id.kind as usize).copied().unwrap_or_default();
                (id, Arc::new(record), SlotSet::ALL)
            }
            Put::Shared(id, record) => {
                kept = self.kept.get(id.kind as usize).copied().unwrap_or_default();
                (id, record, SlotSet::ALL)
            }
            Put::Copy(id, record, created_ms, modified_ms) => {
                stamps = Some((created_ms, modified_ms));
                (id, record, SlotSet::ALL)
            }
            Put::Part(id, record, slots) => (id, Arc::new(record), slots),
            Put::Slots(id, values) => {
                state.entries.get(&id)?;
                few(id, values)
            }
            Put::Own(id, values) => {
                let now = state.entries.get(&id).map(|entry| Arc::clone(&entry.record));
                let values = state.layers.set(&self.schema, id, values, now.as_deref());
                now?;
                covered = false;
                few(id, values)
            }
        };
        let message = self.schema.kind(id.kind);
        if record.message() != message.id {
            tracing::error!(object = %id, "a record of another message was put for this object; ignored");
            return None;
        }
        if let Some(text) = self.register.trouble(id)
            && let Some(slot) = self.schema.slot(id.kind, "trouble")
        {
            Arc::make_mut(&mut record).set(slot, text);
            taken.insert(slot);
        }
        if covered {
            state.layers.cover(&self.schema, id, &mut record, &mut taken, kept);
        }
        let old = state.entries.get(&id).cloned();
        let interner = self.interns.then_some(interner);
        let old_record = old.as_ref().map(|e| &e.record);
        let Some((mut record, mut changed)) = merge(interner, old_record, record, taken, kept) else {
            if let (Some((created_ms, _)), Some(entry)) = (stamps, state.entries.get_mut(&id)) {
                entry.created_ms = entry.created_ms.min(created_ms);
            }
            return None;
        };
        let configured = old.is_none() || changed.0 & !message.runtime.0 != 0;
        if configured && self.stamps.load(Ordering::Acquire) {
            self.stamp(id.kind, &mut record, &mut changed, next, now);
        }
        let ran = old.is_none() || changed.intersects(message.runtime);
        let mut born = || state.births.remove(&id).unwrap_or(now);
        let created_ms = match (&old, stamps) {
            (Some(old), Some((created_ms, _))) => old.created_ms.min(created_ms),
            (Some(old), None) => old.created_ms,
            (None, Some((created_ms, _))) => created_ms,
            (None, None) => born(),
        };
        let modified_ms = match (&old, stamps) {
            (_, Some((_, modified_ms))) => modified_ms,
            (Some(old), None) if !configured => old.modified_ms,
            _ => now,
        };
        let entry = Entry {
            record,
            config: if configured { next } else { old.as_ref().map_or(next, |e| e.config) },
            runtime: if ran { next } else { old.as_ref().map_or(next, |e| e.runtime) },
            created_ms,
            modified_ms,
        };
        Some(state.store(id, old.map(|e| e.record), entry, changed, next))
    }

    /// Says when objects were first seen in an earlier life: those that have not been put yet have that as their first sight. Who stands
    /// first among equal names depends on it.
    pub fn recall(&self, births: impl IntoIterator<Item = (ObjectId, i64)>) {
        let mut state = self.state.write();
        for (id, at) in births {
            if !state.entries.contains_key(&id) {
                state.births.insert(id, at);
            }
        }
    }

    /// Writes the two fields that say when the configuration changed, where the kind has them.
    fn stamp(
        &self,
        kind: Kind,
        record: &mut Arc<Record>,
        changed: &mut SlotSet,
        revision: Revision,
        now: i64,
    ) {
        if kind != Kind::Vm {
            return;
        }
        let version = Value::from(format!("{}.{}", revision.incarnation, revision.n));
        for (name, value) in [("change_version", version), ("modified_ms", Value::Int(now))] {
            if let Some(slot) = self.schema.slot(kind, name)
                && !changed.contains(slot)
                && !same(record.get(slot), &value)
            {
                Arc::make_mut(record).set(slot, value);
                changed.insert(slot);
            }
        }
    }

    fn tell(&self, changes: &[Change], owned: &[ObjectId], revision: Revision) {
        if !changes.is_empty() || !owned.is_empty() {
            let observers = Arc::clone(&self.observers.read().1);
            for (_, observer) in observers.iter() {
                if !changes.is_empty() {
                    observer.changed(changes);
                }
                if !owned.is_empty() {
                    observer.owned(owned);
                }
            }
        }
        self.seen.send_if_modified(|seen| {
            let later = revision > *seen;
            *seen = revision.max(*seen);
            later
        });
    }

    pub(crate) fn register(&self) -> &Register {
        &self.register
    }

    /// What is known of an object.
    pub fn get(&self, id: ObjectId) -> Option<Entry> {
        self.state.read().entries.get(&id).cloned()
    }

    /// The facts of an object.
    pub fn record(&self, id: ObjectId) -> Option<Arc<Record>> {
        self.state.read().entries.get(&id).map(|e| Arc::clone(&e.record))
    }

    /// The objects of a kind, ordered by id.
    pub fn ids(&self, kind: Kind) -> Vec<ObjectId> {
        self.state
            .read()
            .kinds
            .get(kind as usize)
            .map(|ids| ids.iter().copied().collect())
            .unwrap_or_default()
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.state.read().kinds.get(kind as usize).map_or(0, BTreeSet::len)
    }

    /// The revision of the last batch.
    pub fn revision(&self) -> Revision {
        self.state.read().revision
    }

    /// Appends to `out` the objects of `kind` whose field `slot` refers to `to`, ordered by id.
    pub fn referring(&self, kind: Kind, slot: Slot, to: ObjectId, out: &mut Vec<ObjectId>) {
        self.state.read().index.referring(kind, slot, to, out);
    }

    /// The objects of `kind` whose field `slot` holds `text` (names exactly, other texts in any ASCII case), ordered by id. Only
    /// indexed fields are found; asking for another is a mistake that the log shows.
    pub fn find(&self, kind: Kind, slot: Slot, text: &str) -> Vec<ObjectId> {
        let state = self.state.read();
        if !state.index.finds(kind, slot) {
            tracing::error!(%kind, ?slot, "this field is not indexed");
        }
        state.index.find(kind, slot, text)
    }

    /// When an object that is gone was removed, if that is still remembered.
    pub fn tombstone(&self, id: ObjectId) -> Option<Tombstone> {
        self.state.read().tombstones.get(&id).copied()
    }

    /// All objects as if they were new, ordered by id.
    pub fn everything(&self) -> Vec<Change> {
        let state = self.state.read();
        let revision = state.revision;
        let ids = state.kinds.iter().flatten();
        ids.filter_map(|id| {
            let entry = state.entries.get(id)?.clone();
            Some(Change {
                id: *id,
                old: None,
                new: Some(Arc::clone(&entry.record)),
                changed: SlotSet::ALL,
                entry: Some(entry),
                revision,
                credit: None,
            })
        })
        .collect()
    }

    /// Waits until the store and its observers hold `revision`.
    pub async fn seen(&self, revision: Revision) {
        let mut seen = self.seen.subscribe();
        // Fails only when the sender is gone, and we hold it.
        drop(seen.wait_for(|at| *at >= revision).await);
    }

    /// The values that mappings could not show or read; views of this inventory share them.
    pub fn gaps(&self) -> &Gaps {
        &self.shared.gaps
    }

    /// From now on the chronicles of this inventory and of its views go on counting where they were in an earlier life. The first stays.
    pub fn count_by(&self, counters: Arc<dyn Counters>) {
        if self.shared.counters.set(counters).is_err() {
            tracing::error!("an inventory has its counters already");
        }
    }

    /// What keeps its counters.
    pub(crate) fn counters(&self) -> Option<&Arc<dyn Counters>> {
        self.shared.counters.get()
    }

    /// Notes, or with `None` forgets, on whose account an object is changing. Views of this inventory share the note.
    pub fn set_credit(&self, id: ObjectId, credit: Option<Credit>) {
        let mut credits = self.shared.credits.write();
        match credit {
            Some(credit) => drop(credits.told.insert(id, credit)),
            None => drop(credits.told.remove(&id)),
        }
    }

    /// As [`Inventory::set_credit`], for what a command does to an object until the guard is dropped; who tells of a change is believed
    /// before it.
    pub fn run_on(self: &Arc<Self>, ids: impl IntoIterator<Item = ObjectId>, credit: &Credit) -> OnAccount {
        let ids: Vec<ObjectId> = ids.into_iter().collect();
        let mut credits = self.shared.credits.write();
        for id in &ids {
            credits.running.insert(*id, credit.clone());
        }
        OnAccount { inventory: Arc::downgrade(self), ids, command: Arc::clone(&credit.command) }
    }

    /// On whose account an object is changing, if it is by a command.
    pub fn credit(&self, id: ObjectId) -> Option<Credit> {
        self.shared.credits.read().get(id).cloned()
    }

    #[cfg(test)]
    pub(crate) fn dump_index(&self) -> BTreeSet<String> {
        self.state.read().index.dump()
    }
}

/// A command's account for what changes; dropped when the command has ended.
#[derive(Debug)]
#[must_use = "dropping it closes the account"]
pub struct OnAccount {
    inventory: Weak<Inventory>,
    ids: Vec<ObjectId>,
    command: Arc<str>,
}

impl Drop for OnAccount {
    fn drop(&mut self) {
        let Some(inventory) = self.inventory.upgrade() else { return };
        let mut credits = inventory.shared.credits.write();
        for id in &self.ids {
            if credits.running.get(id).is_some_and(|credit| credit.command == self.command) {
                credits.running.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests;

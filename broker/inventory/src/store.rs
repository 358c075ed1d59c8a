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

use crate::{
    claims::Register,
    gaps::Gaps,
    index::Index,
    intern::Interner,
    merge::{merge, same},
};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Weak},
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
}

/// Is told every change.
pub trait Observer: Send + Sync {
    /// Called after the store holds the changes, batch by batch in order. Must be quick, and must not apply to the same inventory.
    fn changed(&self, changes: &[Change]);
}

/// One thing to store.
#[derive(Clone, Debug)]
pub enum Put {
    /// All facts of an object, new or known. The fields that the broker itself keeps (`operation`, `recent_task_ids`,
    /// `change_version`, `modified_ms`) stay as they were where the record leaves them absent.
    Whole(ObjectId, Record),
    /// The facts in these slots, of an object new or known; the other slots stay.
    Part(ObjectId, Record, SlotSet),
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

type Credits = Arc<RwLock<FxHashMap<ObjectId, Credit>>>;

#[derive(Debug)]
struct State {
    entries: FxHashMap<ObjectId, Entry>,
    kinds: Vec<BTreeSet<ObjectId>>,
    index: Index,
    tombstones: FxHashMap<ObjectId, Tombstone>,
    buried: VecDeque<(ObjectId, Revision)>,
    revision: Revision,
}

type Observers = Arc<Vec<(u64, Arc<dyn Observer>)>>;

/// The live facts of a set of targets.
pub struct Inventory {
    schema: Arc<Schema>,
    clock: Arc<dyn Clock>,
    state: RwLock<State>,
    writer: Mutex<Interner>,
    observers: RwLock<(u64, Observers)>,
    seen: watch::Sender<Revision>,
    credits: Credits,
    register: Register,
    gaps: Arc<Gaps>,
    kept: Vec<SlotSet>,
    /// A derived inventory shows what it is given: it neither stamps nor interns.
    derived: bool,
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
        Inventory::build(schema, incarnation, clock, Credits::default(), Arc::default(), false)
    }

    /// An inventory fed from `source` by a view: same schema, clock, credits and gaps.
    pub(crate) fn derived(source: &Inventory) -> Arc<Inventory> {
        let incarnation = source.revision().incarnation;
        Inventory::build(
            Arc::clone(&source.schema),
            incarnation,
            Arc::clone(&source.clock),
            Arc::clone(&source.credits),
            Arc::clone(&source.gaps),
            true,
        )
    }

    fn build(
        schema: Arc<Schema>,
        incarnation: u64,
        clock: Arc<dyn Clock>,
        credits: Credits,
        gaps: Arc<Gaps>,
        derived: bool,
    ) -> Arc<Inventory> {
        let revision = Revision { incarnation, n: 0 };
        let kept = Kind::ALL
            .iter()
            .map(|kind| {
                let mut set = SlotSet::EMPTY;
                if !derived {
                    ["operation", "recent_task_ids", "change_version", "modified_ms"]
                        .iter()
                        .filter_map(|name| schema.slot(*kind, name))
                        .for_each(|slot| set.insert(slot));
                }
                set
            })
            .collect();
        Arc::new(Inventory {
            state: RwLock::new(State {
                entries: FxHashMap::default(),
                kinds: vec![BTreeSet::new(); Kind::ALL.len()],
                index: Index::new(&schema),
                tombstones: FxHashMap::default(),
                buried: VecDeque::new(),
                revision,
            }),
            schema,
            clock,
            writer: Mutex::new(Interner::default()),
            observers: RwLock::new((0, Arc::default())),
            seen: watch::Sender::new(revision),
            credits,
            register: Register::default(),
            gaps,
            kept,
            derived,
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
        let (changes, revision) = {
            let mut state = self.state.write();
            let next = Revision { n: state.revision.n + 1, ..state.revision };
            let mut changes = Vec::with_capacity(puts.len());
            for put in puts {
                changes.extend(self.put(&mut state, &mut interner, put, next, now));
            }
            if !changes.is_empty() {
                state.revision = next;
            }
            (changes, state.revision)
        };
        self.tell(&changes, revision);
        revision
    }

    /// Stores what another agent's feed says, with the revisions it says it with. `None` removes.
    pub fn follow(&self, batch: Vec<(ObjectId, Option<Entry>)>, revision: Revision) {
        let mut interner = self.writer.lock();
        let now = self.clock.now_ms();
        let changes = {
            let mut state = self.state.write();
            let mut changes = Vec::with_capacity(batch.len());
            for (id, entry) in batch {
                match entry {
                    None => changes.extend(state.remove(id, revision, now)),
                    Some(mut entry) => {
                        let old = state.entries.get(&id).map(|e| Arc::clone(&e.record));
                        let merged = merge(
                            Some(&mut interner),
                            old.as_ref(),
                            &entry.record,
                            SlotSet::ALL,
                            SlotSet::EMPTY,
                        );
                        match merged {
                            Some((record, changed)) => {
                                entry.record = Arc::new(record);
                                changes.push(state.store(id, old, entry, changed, revision));
                            }
                            None => {
                                if let Some(place) = state.entries.get_mut(&id) {
                                    // The first sight stays: who stands first among equals depends on it, and nobody is told of this.
                                    let record = Arc::clone(&place.record);
                                    *place = Entry { record, created_ms: place.created_ms, ..entry };
                                }
                            }
                        }
                    }
                }
            }
            state.revision = state.revision.max(revision);
            changes
        };
        self.tell(&changes, revision);
    }

    fn put(
        &self,
        state: &mut State,
        interner: &mut Interner,
        put: Put,
        next: Revision,
        now: i64,
    ) -> Option<Change> {
        let (id, mut record, mut taken, kept) = match put {
            // Somebody took it since: it is not gone but elsewhere.
            Put::Remove(id) if self.register.is_claimed(id) => return None,
            Put::Remove(id) => return state.remove(id, next, now),
            Put::Whole(id, record) => {
                (id, record, SlotSet::ALL, self.kept.get(id.kind as usize).copied().unwrap_or_default())
            }
            Put::Part(id, record, slots) => (id, record, slots, SlotSet::EMPTY),
            Put::Slots(id, values) => {
                let known = state.entries.get(&id)?;
                let mut record = Record::new(known.record.message(), 0);
                let mut taken = SlotSet::EMPTY;
                for (slot, value) in values {
                    record.set(slot, value);
                    taken.insert(slot);
                }
                (id, record, taken, SlotSet::EMPTY)
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
            record.set(slot, text);
            taken.insert(slot);
        }
        let old = state.entries.get(&id).cloned();
        let interner = (!self.derived).then_some(interner);
        let old_record = old.as_ref().map(|e| &e.record);
        let (mut record, mut changed) = merge(interner, old_record, &record, taken, kept)?;
        let configured = old.is_none() || changed.0 & !message.runtime.0 != 0;
        if configured && !self.derived {
            self.stamp(id.kind, &mut record, &mut changed, next, now);
        }
        let ran = old.is_none() || changed.intersects(message.runtime);
        let entry = Entry {
            record: Arc::new(record),
            config: if configured { next } else { old.as_ref().map_or(next, |e| e.config) },
            runtime: if ran { next } else { old.as_ref().map_or(next, |e| e.runtime) },
            created_ms: old.as_ref().map_or(now, |e| e.created_ms),
            modified_ms: if configured { now } else { old.as_ref().map_or(now, |e| e.modified_ms) },
        };
        Some(state.store(id, old.map(|e| e.record), entry, changed, next))
    }

    /// Writes the two fields that say when the configuration changed, where the kind has them.
    fn stamp(&self, kind: Kind, record: &mut Record, changed: &mut SlotSet, revision: Revision, now: i64) {
        if kind != Kind::Vm {
            return;
        }
        let version = Value::from(format!("{}.{}", revision.incarnation, revision.n));
        for (name, value) in [("change_version", version), ("modified_ms", Value::Int(now))] {
            if let Some(slot) = self.schema.slot(kind, name)
                && !changed.contains(slot)
                && !same(record.get(slot), &value)
            {
                record.set(slot, value);
                changed.insert(slot);
            }
        }
    }

    fn tell(&self, changes: &[Change], revision: Revision) {
        if !changes.is_empty() {
            let observers = Arc::clone(&self.observers.read().1);
            for (_, observer) in observers.iter() {
                observer.changed(changes);
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

    /// Tells `observer` every change from now on, until the guard is dropped.
    pub fn observe(self: &Arc<Self>, observer: Arc<dyn Observer>) -> ObserverGuard {
        let _order = self.writer.lock();
        self.enlist(observer)
    }

    /// Tells `observer` all objects as new, then every change; nothing is missed or told twice in between.
    pub fn observe_all(self: &Arc<Self>, observer: Arc<dyn Observer>) -> ObserverGuard {
        let _order = self.writer.lock();
        let all = self.everything();
        if !all.is_empty() {
            observer.changed(&all);
        }
        self.enlist(observer)
    }

    fn enlist(self: &Arc<Self>, observer: Arc<dyn Observer>) -> ObserverGuard {
        let mut observers = self.observers.write();
        observers.0 += 1;
        let id = observers.0;
        let mut list = Vec::clone(&observers.1);
        list.push((id, observer));
        observers.1 = Arc::new(list);
        ObserverGuard { inventory: Arc::downgrade(self), id }
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
        &self.gaps
    }

    /// Notes, or with `None` forgets, on whose account an object is changing. Views of this inventory share the note.
    pub fn set_credit(&self, id: ObjectId, credit: Option<Credit>) {
        let mut credits = self.credits.write();
        match credit {
            Some(credit) => drop(credits.insert(id, credit)),
            None => drop(credits.remove(&id)),
        }
    }

    /// On whose account an object is changing, if it is by a command.
    pub fn credit(&self, id: ObjectId) -> Option<Credit> {
        self.credits.read().get(&id).cloned()
    }

    #[cfg(test)]
    pub(crate) fn dump_index(&self) -> BTreeSet<String> {
        self.state.read().index.dump()
    }
}

impl State {
    fn store(
        &mut self,
        id: ObjectId,
        old: Option<Arc<Record>>,
        entry: Entry,
        changed: SlotSet,
        revision: Revision,
    ) -> Change {
        let changed = if old.is_none() { SlotSet::ALL } else { changed };
        self.index.update(id, old.as_deref(), Some(&entry.record), changed);
        if old.is_none() {
            if let Some(ids) = self.kinds.get_mut(id.kind as usize) {
                ids.insert(id);
            }
            self.tombstones.remove(&id);
        }
        let new = Some(Arc::clone(&entry.record));
        self.entries.insert(id, entry.clone());
        Change { id, old, new, changed, entry: Some(entry), revision }
    }

    fn remove(&mut self, id: ObjectId, revision: Revision, now: i64) -> Option<Change> {
        let gone = self.entries.remove(&id)?;
        self.index.update(id, Some(&gone.record), None, SlotSet::ALL);
        if let Some(ids) = self.kinds.get_mut(id.kind as usize) {
            ids.remove(&id);
        }
        self.tombstones.insert(id, Tombstone { revision, removed_ms: now });
        self.buried.push_back((id, revision));
        while self.buried.len() > TOMBSTONES {
            if let Some((oldest, at)) = self.buried.pop_front()
                && self.tombstones.get(&oldest).is_some_and(|t| t.revision == at)
            {
                self.tombstones.remove(&oldest);
            }
        }
        Some(Change { id, old: Some(gone.record), new: None, changed: SlotSet::ALL, entry: None, revision })
    }
}

/// Ends an observation when dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the observation"]
pub struct ObserverGuard {
    inventory: Weak<Inventory>,
    id: u64,
}

impl Drop for ObserverGuard {
    fn drop(&mut self) {
        if let Some(inventory) = self.inventory.upgrade() {
            let mut observers = inventory.observers.write();
            let left = observers.1.iter().filter(|(id, _)| *id != self.id).cloned().collect();
            observers.1 = Arc::new(left);
        }
    }
}

#[cfg(test)]
mod tests;

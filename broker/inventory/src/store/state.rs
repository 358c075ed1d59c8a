//! What an inventory holds: entries, indexes, tombstones, layers.

use super::{Change, Entry, TOMBSTONES, Tombstone, own::Layers};
use crate::index::Index;
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};
use union::{Kind, ObjectId, Record, Schema, SlotSet, command::Revision};

#[derive(Debug)]
pub(super) struct State {
    pub(super) entries: FxHashMap<ObjectId, Entry>,
    pub(super) kinds: Vec<BTreeSet<ObjectId>>,
    pub(super) index: Index,
    pub(super) tombstones: FxHashMap<ObjectId, Tombstone>,
    pub(super) buried: VecDeque<(ObjectId, Revision)>,
    pub(super) revision: Revision,
    pub(super) layers: Layers,
    /// When objects that have not been put yet were first seen in an earlier life.
    pub(super) births: FxHashMap<ObjectId, i64>,
}

impl State {
    pub(super) fn new(schema: &Schema, revision: Revision) -> State {
        State {
            entries: FxHashMap::default(),
            kinds: vec![BTreeSet::new(); Kind::ALL.len()],
            index: Index::new(schema),
            tombstones: FxHashMap::default(),
            buried: VecDeque::new(),
            revision,
            layers: Layers::default(),
            births: FxHashMap::default(),
        }
    }

    pub(super) fn store(
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
        Change { id, old, new, changed, entry: Some(entry), revision, credit: None }
    }

    pub(super) fn remove(&mut self, id: ObjectId, revision: Revision, now: i64) -> Option<Change> {
        let gone = self.entries.remove(&id)?;
        self.layers.bare(id);
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
        Some(Change {
            id,
            old: Some(gone.record),
            new: None,
            changed: SlotSet::ALL,
            entry: None,
            revision,
            credit: None,
        })
    }
}

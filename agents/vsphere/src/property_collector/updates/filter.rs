//! One filter: what it selects, and what its client is still to be told.

use super::CollectorId;
use crate::{
    inventory::{Key, TypeId},
    property_collector::{
        bits::Bits,
        plan::{Plan, StepPlan},
        spec::FilterSpec,
    },
};
use indexmap::IndexMap;
use mapping::NativeRef;
use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;
use std::sync::Arc;
use union::ObjectId;

/// What a client is to be told of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It is selected now: all properties.
    Enter,
    /// These properties may have changed.
    Modify(Bits),
    /// It is selected no more.
    Leave,
}

impl What {
    /// The two told as one.
    fn then(self, later: What) -> What {
        match (self, later) {
            (What::Enter, What::Modify(_)) => What::Enter,
            (What::Modify(a), What::Modify(b)) => What::Modify(a.union(b)),
            (_, later) => later,
        }
    }
}

pub(super) type Pending = IndexMap<Key, What, FxBuildHasher>;

/// One `PropertyFilter`.
pub(crate) struct Filter {
    /// Whose.
    pub(crate) collector: CollectorId,
    /// What it selects.
    pub(crate) spec: Arc<FilterSpec>,
    pub(super) plans: FxHashMap<TypeId, Arc<Plan>>,
    /// Selected objects; whether the client has been told.
    pub(super) members: FxHashMap<Key, bool>,
    pub(super) walked: FxHashMap<ObjectId, SmallVec<[Arc<StepPlan>; 1]>>,
    /// Views the traversals go through.
    pub(super) through: SmallVec<[u64; 1]>,
    /// The one view whose members are exactly the filter's.
    pub(super) whole_view: Option<u64>,
    /// Objects it was to begin at and that are not there.
    pub(crate) missing: Vec<NativeRef>,
    pub(super) stale: bool,
    pub(super) pending: Pending,
}

/// What a walk through a filter's traversals found.
#[derive(Default)]
pub(crate) struct Walked {
    /// Selected objects, in order.
    pub(crate) members: Vec<(Key, Option<Arc<Plan>>)>,
    /// Objects that a traversal left from, and by which properties.
    pub(crate) from: Vec<(ObjectId, Arc<StepPlan>)>,
    /// Views passed.
    pub(crate) through: SmallVec<[u64; 1]>,
    /// Objects it was to begin at and that are not there.
    pub(crate) missing: Vec<NativeRef>,
    /// The members are exactly those of this view.
    pub(crate) whole_view: Option<u64>,
}

impl Filter {
    /// All plans.
    pub(crate) fn plans(&self) -> &FxHashMap<TypeId, Arc<Plan>> {
        &self.plans
    }

    fn note(&mut self, key: Key, what: What) {
        match self.pending.get_mut(&key) {
            Some(pending) => *pending = pending.then(what),
            None => drop(self.pending.insert(key, what)),
        }
    }

    /// Takes in a member. One whose leaving is still to be told is one that the client knows.
    pub(super) fn enter(&mut self, key: Key) {
        let known = self.pending.get(&key) == Some(&What::Leave);
        self.members.insert(key, known);
        self.note(key, What::Enter);
    }

    /// Whether there is something to tell.
    pub(super) fn modify(&mut self, key: Key, bits: Bits) -> bool {
        if !bits.is_empty() {
            self.note(key, What::Modify(bits));
        }
        !bits.is_empty()
    }

    /// Whether there is something to tell: not of an object that the client never heard of.
    pub(super) fn leave(&mut self, key: Key, known: bool) -> bool {
        if known {
            self.note(key, What::Leave);
        } else {
            self.pending.shift_remove(&key);
        }
        known
    }

    pub(super) fn restart(&mut self) {
        self.pending.clear();
        let mut keys: Vec<Key> = self.members.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.pending.insert(key, What::Enter);
        }
        for known in self.members.values_mut() {
            *known = false;
        }
    }

    /// Puts a delivered update before what came since.
    pub(super) fn again(&mut self, key: Key, what: What) {
        match self.pending.get_mut(&key) {
            Some(since) => *since = what.then(*since),
            None => drop(self.pending.insert(key, what)),
        }
    }

    pub(super) fn drain(&mut self, most: usize) -> Vec<(Key, What)> {
        let updates: Vec<(Key, What)> = self.pending.drain(..most.min(self.pending.len())).collect();
        for (key, what) in &updates {
            if *what == What::Enter
                && let Some(known) = self.members.get_mut(key)
            {
                *known = true;
            }
        }
        updates
    }
}

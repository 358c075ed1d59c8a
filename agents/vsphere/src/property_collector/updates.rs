//! What changed, for whom: the pure state behind every filter of a front. No locks, no time, no rendering.
//!
//! ```text
//! inventory change ──▶ by_object ──▶ filters that hold the object ──▶ pending: object -> Enter | Modify(properties) | Leave
//!                  └─▶ hops, reverse: objects whose properties look at the changed one
//! view change      ──▶ by_made   ──▶ filters that go through the view: enter and leave, or `stale`
//! take(version)    ──▶ pending becomes a batch; the batch is kept until the client's next version acknowledges it
//! ```
//!
//! A property change costs the filters that select the property of that object, never the filter's size. A filter is walked again
//! (`stale`) only when a property that one of its traversals follows has changed.
//!
//! Versions of a collector: `take` accepts the version it handed out last, and, once more, the one before it unless that one was
//! handed out truncated; the kept batch is then delivered again, merged with what came since. Values are rendered at delivery,
//! so a batch holds no values.

use super::{
    bits::Bits,
    plan::{Plan, StepPlan},
    spec::FilterSpec,
};
use crate::inventory::{Key, TypeId};
use ::inventory::Change;
use indexmap::IndexMap;
use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;
use std::sync::Arc;
use tokio::sync::Notify;
use union::{Kind, ObjectId, Record, Slot, SlotSet};

/// A filter of this front.
pub(crate) type FilterId = u64;
/// A collector of this front.
pub(crate) type CollectorId = u64;

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

type Pending = IndexMap<Key, What, FxBuildHasher>;
type Interests = SmallVec<[(FilterId, TypeId); 2]>;

/// One `PropertyFilter`.
pub(crate) struct Filter {
    /// Whose.
    pub(crate) collector: CollectorId,
    /// What it selects.
    pub(crate) spec: Arc<FilterSpec>,
    plans: FxHashMap<TypeId, Arc<Plan>>,
    /// Selected objects; whether the client has been told.
    members: FxHashMap<Key, bool>,
    walked: FxHashMap<ObjectId, SmallVec<[Arc<StepPlan>; 1]>>,
    /// Views the traversals go through.
    through: SmallVec<[u64; 1]>,
    /// The one view whose members are exactly the filter's.
    whole_view: Option<u64>,
    stale: bool,
    pending: Pending,
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
    /// The members are exactly those of this view.
    pub(crate) whole_view: Option<u64>,
}

/// One `PropertyCollector`.
struct Collector {
    filters: Vec<FilterId>,
    version: u64,
    /// The version that may be used once more, with what was delivered since.
    before: Option<u64>,
    kept: Vec<(FilterId, Key, What)>,
    truncated: bool,
    /// How often its waits were cancelled.
    cancelled: u64,
    notify: Arc<Notify>,
}

/// The version is none that the collector would accept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownVersion;

/// What to tell a client.
#[derive(Debug, PartialEq)]
pub(crate) struct Batch {
    /// The version that acknowledges it.
    pub(crate) version: u64,
    /// There is more at once.
    pub(crate) truncated: bool,
    /// By filter.
    pub(crate) filters: Vec<(FilterId, Vec<(Key, What)>)>,
}

/// A property of objects of `owner` that looks at the object its field `own` refers to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Hop {
    owner: Kind,
    own: Slot,
}

/// All filters of a front.
#[derive(Default)]
pub(crate) struct Updates {
    filters: FxHashMap<FilterId, Filter>,
    collectors: FxHashMap<CollectorId, Collector>,
    by_object: FxHashMap<ObjectId, Interests>,
    by_made: FxHashMap<u64, SmallVec<[FilterId; 2]>>,
    hops: FxHashMap<Kind, Vec<(Hop, SlotSet)>>,
    reverse: FxHashMap<Kind, Vec<Slot>>,
}

/// How the state looks up who refers to an object.
pub(crate) trait Referring {
    /// The objects of `kind` whose field `slot` refers to `to`.
    fn referring(&self, kind: Kind, slot: Slot, to: ObjectId) -> Vec<ObjectId>;
}

/// Resolves the properties a specification asks of a type.
pub(crate) trait Planner {
    /// `None`: none.
    fn plan(&self, spec: &FilterSpec, ty: TypeId) -> Option<Arc<Plan>>;
}

struct NoPlans;

impl Planner for NoPlans {
    fn plan(&self, _: &FilterSpec, _: TypeId) -> Option<Arc<Plan>> {
        None
    }
}

impl Planner for crate::inventory::Catalog {
    fn plan(&self, spec: &FilterSpec, ty: TypeId) -> Option<Arc<Plan>> {
        Plan::new(self, spec, ty, self.map(ty)?).map(Arc::new)
    }
}

impl Referring for crate::inventory::Catalog {
    fn referring(&self, kind: Kind, slot: Slot, to: ObjectId) -> Vec<ObjectId> {
        let mut found = Vec::new();
        self.inventory().referring(kind, slot, to, &mut found);
        found
    }
}

impl Updates {
    /// A collector without filters.
    pub(crate) fn open(&mut self, id: CollectorId) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        let collector = Collector {
            filters: Vec::new(),
            version: 0,
            before: None,
            kept: Vec::new(),
            truncated: false,
            cancelled: 0,
            notify: notify.clone(),
        };
        self.collectors.insert(id, collector);
        notify
    }

    /// Forgets a collector; returns its filters, which are gone too.
    pub(crate) fn close(&mut self, id: CollectorId) -> Vec<FilterId> {
        let Some(collector) = self.collectors.remove(&id) else { return Vec::new() };
        collector.notify.notify_waiters();
        for filter in &collector.filters {
            self.forget(*filter);
        }
        collector.filters
    }

    /// What wakes the waits of a collector, and how often they were cancelled.
    pub(crate) fn waits(&self, id: CollectorId) -> Option<(Arc<Notify>, u64)> {
        self.collectors.get(&id).map(|c| (c.notify.clone(), c.cancelled))
    }

    /// Ends the waits of a collector.
    pub(crate) fn cancel(&mut self, id: CollectorId) {
        if let Some(collector) = self.collectors.get_mut(&id) {
            collector.cancelled += 1;
            collector.notify.notify_waiters();
        }
    }

    /// A collector's filters, in the order of creation.
    pub(crate) fn filters(&self, id: CollectorId) -> &[FilterId] {
        self.collectors.get(&id).map_or(&[], |c| &c.filters)
    }

    /// Adds a filter to a collector; it selects nothing until it has been [walked](Updates::walked).
    pub(crate) fn add(&mut self, id: FilterId, collector: CollectorId, spec: Arc<FilterSpec>) {
        let Some(owner) = self.collectors.get_mut(&collector) else { return };
        owner.filters.push(id);
        let filter = Filter {
            collector,
            spec,
            plans: FxHashMap::default(),
            members: FxHashMap::default(),
            walked: FxHashMap::default(),
            through: SmallVec::new(),
            whole_view: None,
            stale: true,
            pending: Pending::default(),
        };
        self.filters.insert(id, filter);
    }

    /// Removes a filter.
    pub(crate) fn remove(&mut self, id: FilterId) {
        if let Some(collector) = self.filters.get(&id).map(|f| f.collector)
            && let Some(collector) = self.collectors.get_mut(&collector)
        {
            collector.filters.retain(|filter| *filter != id);
            collector.kept.retain(|(filter, ..)| *filter != id);
        }
        self.forget(id);
    }

    /// A filter.
    pub(crate) fn filter(&self, id: FilterId) -> Option<&Filter> {
        self.filters.get(&id)
    }

    /// The filters of a collector that must be walked again.
    pub(crate) fn stale(&self, collector: CollectorId) -> Vec<(FilterId, Arc<FilterSpec>)> {
        let filters = self.filters(collector).iter().filter_map(|id| Some((*id, self.filters.get(id)?)));
        filters.filter(|(_, f)| f.stale).map(|(id, f)| (id, f.spec.clone())).collect()
    }

    fn forget(&mut self, id: FilterId) {
        let Some(filter) = self.filters.remove(&id) else { return };
        self.unlink(id, &filter);
        self.rebuild_rules();
    }

    fn unlink(&mut self, id: FilterId, filter: &Filter) {
        for object in
            filter.members.keys().filter_map(|key| key.object()).chain(filter.walked.keys().copied())
        {
            if let Some(interests) = self.by_object.get_mut(&object) {
                interests.retain(|(other, _)| *other != id);
                if interests.is_empty() {
                    self.by_object.remove(&object);
                }
            }
        }
        for made in filter.members.keys().filter_map(|key| key.made()).chain(filter.through.iter().copied()) {
            if let Some(filters) = self.by_made.get_mut(&made) {
                filters.retain(|other| *other != id);
                if filters.is_empty() {
                    self.by_made.remove(&made);
                }
            }
        }
    }

    fn link(&mut self, id: FilterId, key: Key) {
        match key {
            Key::Fact(object, ty) => {
                let interests = self.by_object.entry(object).or_default();
                if !interests.contains(&(id, ty)) {
                    interests.push((id, ty));
                }
            }
            Key::Made(made) => self.link_made(id, made),
        }
    }

    fn link_made(&mut self, id: FilterId, made: u64) {
        let filters = self.by_made.entry(made).or_default();
        if !filters.contains(&id) {
            filters.push(id);
        }
    }

    /// Collects what the plans of all filters look at beside the object itself. Filters come and go with clients, not with changes.
    fn rebuild_rules(&mut self) {
        self.hops.clear();
        self.reverse.clear();
        for filter in self.filters.values() {
            let plans =
                filter.plans.values().map(|plan| (plan.kind, plan.reverse.as_slice(), plan.hops.as_slice()));
            let mut seen: Vec<*const StepPlan> = Vec::new();
            let steps = filter.walked.values().flatten().filter(|step| {
                let at = Arc::as_ptr(step);
                let new = !seen.contains(&at);
                if new {
                    seen.push(at);
                }
                new
            });
            let steps: Vec<_> = steps.map(|s| (s.kind, s.reverse.as_slice(), s.hops.as_slice())).collect();
            for (owner, reverse, hops) in plans.chain(steps) {
                for (kind, slot, _) in reverse {
                    let slots = self.reverse.entry(*kind).or_default();
                    if !slots.contains(slot) {
                        slots.push(*slot);
                    }
                }
                let Some(owner) = owner else { continue };
                for (own, kind, slots, _) in hops {
                    let rules = self.hops.entry(*kind).or_default();
                    let hop = Hop { owner, own: *own };
                    match rules.iter_mut().find(|(known, _)| *known == hop) {
                        Some((_, known)) => *known = known.union(*slots),
                        None => rules.push((hop, *slots)),
                    }
                }
            }
        }
    }

    /// Takes over what a walk found; tells the difference.
    pub(crate) fn walked(&mut self, id: FilterId, found: Walked) {
        let Some(mut filter) = self.filters.remove(&id) else { return };
        self.unlink(id, &filter);
        let mut before = std::mem::take(&mut filter.members);
        filter.stale = false;
        filter.walked.clear();
        filter.through = found.through;
        filter.whole_view = found.whole_view;
        let mut told = false;
        for (key, plan) in found.members {
            if let (Some(plan), Key::Fact(_, ty)) = (plan, key) {
                filter.plans.entry(ty).or_insert(plan);
            }
            match before.remove(&key) {
                Some(known) => drop(filter.members.insert(key, known)),
                None => {
                    filter.enter(key);
                    told = true;
                }
            }
        }
        for (key, known) in before {
            told |= filter.leave(key, known);
        }
        for (object, step) in found.from {
            let steps = filter.walked.entry(object).or_default();
            if !steps.iter().any(|known| Arc::ptr_eq(known, &step)) {
                steps.push(step);
            }
        }
        for key in filter.members.keys() {
            self.link(id, *key);
        }
        for object in filter.walked.keys() {
            self.link(id, Key::Fact(*object, TypeId::NONE));
        }
        for made in filter.through.clone() {
            self.link_made(id, made);
        }
        let collector = filter.collector;
        self.filters.insert(id, filter);
        self.rebuild_rules();
        if told {
            self.wake(collector);
        }
    }

    fn wake(&self, collector: CollectorId) {
        if let Some(collector) = self.collectors.get(&collector) {
            collector.notify.notify_waiters();
        }
    }

    /// Whether anybody would notice a change.
    pub(crate) fn is_idle(&self) -> bool {
        self.filters.is_empty()
    }

    /// Takes in changes of the inventory.
    pub(crate) fn changed(&mut self, changes: &[Change], inventory: &dyn Referring) {
        let mut woken: SmallVec<[CollectorId; 4]> = SmallVec::new();
        for change in changes {
            self.of_object(change, &mut woken);
            self.of_referred(change, &mut woken);
            self.of_hops(change, inventory, &mut woken);
        }
        for collector in woken {
            self.wake(collector);
        }
    }

    fn of_object(&mut self, change: &Change, woken: &mut SmallVec<[CollectorId; 4]>) {
        let Some(interests) = self.by_object.get(&change.id) else { return };
        let gone = change.new.is_none();
        let mut left: SmallVec<[FilterId; 4]> = SmallVec::new();
        for (id, ty) in interests {
            let Some(filter) = self.filters.get_mut(id) else { continue };
            let steps = filter.walked.get(&change.id);
            let mut told = false;
            if steps.is_some_and(|steps| gone || steps.iter().any(|s| s.own.intersects(change.changed))) {
                filter.stale = true;
                told = true;
            }
            let key = Key::Fact(change.id, *ty);
            if *ty == TypeId::NONE {
            } else if gone {
                if let Some(known) = filter.members.remove(&key) {
                    told |= filter.leave(key, known);
                    left.push(*id);
                }
            } else if filter.members.contains_key(&key) {
                let dirty = filter.plans.get(ty).map_or(Bits::EMPTY, |plan| plan.dirty(change.changed));
                told |= filter.modify(key, dirty);
            }
            if told && !woken.contains(&filter.collector) {
                woken.push(filter.collector);
            }
        }
        if gone && let Some(interests) = self.by_object.get_mut(&change.id) {
            interests.retain(|(id, ty)| *ty == TypeId::NONE || !left.contains(id));
            if interests.is_empty() {
                self.by_object.remove(&change.id);
            }
        }
    }

    /// Lists of those who refer to an object change with the referrer.
    fn of_referred(&mut self, change: &Change, woken: &mut SmallVec<[CollectorId; 4]>) {
        let Some(slots) = self.reverse.get(&change.id.kind) else { return };
        let mut touched: SmallVec<[(ObjectId, Slot); 4]> = SmallVec::new();
        for slot in slots.iter().filter(|slot| change.changed.contains(**slot)) {
            let (old, new) = (targets(change.old.as_deref(), *slot), targets(change.new.as_deref(), *slot));
            let differing =
                old.iter().filter(|id| !new.contains(id)).chain(new.iter().filter(|id| !old.contains(id)));
            touched.extend(differing.map(|id| (*id, *slot)));
        }
        for (object, slot) in touched {
            let kind = change.id.kind;
            let referred = |list: &[(Kind, Slot, Bits)]| {
                list.iter()
                    .filter(|(k, s, _)| (*k, *s) == (kind, slot))
                    .fold(Bits::EMPTY, |all, (.., b)| all.union(*b))
            };
            self.touch(
                object,
                woken,
                |plan| referred(&plan.reverse),
                |step| !referred(&step.reverse).is_empty(),
            );
        }
    }

    /// Properties that look at the object which another one refers to.
    fn of_hops(
        &mut self,
        change: &Change,
        inventory: &dyn Referring,
        woken: &mut SmallVec<[CollectorId; 4]>,
    ) {
        let Some(rules) = self.hops.get(&change.id.kind) else { return };
        let rules: SmallVec<[Hop; 4]> =
            rules.iter().filter(|(_, slots)| slots.intersects(change.changed)).map(|(hop, _)| *hop).collect();
        for hop in rules {
            let (kind, changed) = (change.id.kind, change.changed);
            let seen = |list: &[(Slot, Kind, SlotSet, Bits)]| {
                let hits = list
                    .iter()
                    .filter(|(s, k, slots, _)| (*s, *k) == (hop.own, kind) && slots.intersects(changed));
                hits.fold(Bits::EMPTY, |all, (.., b)| all.union(*b))
            };
            for object in inventory.referring(hop.owner, hop.own, change.id) {
                self.touch(object, woken, |plan| seen(&plan.hops), |step| !seen(&step.hops).is_empty());
            }
        }
    }

    fn touch(
        &mut self,
        object: ObjectId,
        woken: &mut SmallVec<[CollectorId; 4]>,
        dirty: impl Fn(&Plan) -> Bits,
        moves: impl Fn(&StepPlan) -> bool,
    ) {
        let Some(interests) = self.by_object.get(&object) else { return };
        for (id, ty) in interests {
            let Some(filter) = self.filters.get_mut(id) else { continue };
            let mut told = false;
            if filter.walked.get(&object).is_some_and(|steps| steps.iter().any(|step| moves(step))) {
                filter.stale = true;
                told = true;
            }
            let key = Key::Fact(object, *ty);
            if *ty != TypeId::NONE && filter.members.contains_key(&key) {
                let bits = filter.plans.get(ty).map_or(Bits::EMPTY, |plan| dirty(plan));
                told |= filter.modify(key, bits);
            }
            if told && !woken.contains(&filter.collector) {
                woken.push(filter.collector);
            }
        }
    }

    /// Takes in a change of a view's members. `planner` finds the plan of a new member.
    pub(crate) fn view_changed(&mut self, planner: &dyn Planner, view: u64, added: &[Key], removed: &[Key]) {
        let Some(filters) = self.by_made.get(&view).cloned() else { return };
        for id in filters {
            let Some(mut filter) = self.filters.remove(&id) else { continue };
            let mut told = false;
            if filter.members.contains_key(&Key::Made(view)) {
                told |= filter.modify(Key::Made(view), Bits::ALL);
            }
            if filter.whole_view == Some(view) {
                for key in removed {
                    if let Some(known) = filter.members.remove(key) {
                        told |= filter.leave(*key, known);
                    }
                }
                for key in added {
                    let Key::Fact(_, ty) = *key else { continue };
                    if !filter.plans.contains_key(&ty)
                        && let Some(plan) = planner.plan(&filter.spec, ty)
                    {
                        filter.plans.insert(ty, plan);
                    }
                    if filter.plans.contains_key(&ty) && !filter.members.contains_key(key) {
                        filter.enter(*key);
                        told = true;
                        self.link(id, *key);
                    }
                }
            } else if filter.through.contains(&view) {
                filter.stale = true;
                told = true;
            }
            let collector = filter.collector;
            self.filters.insert(id, filter);
            if told {
                self.wake(collector);
            }
        }
        if !added.is_empty() {
            self.rebuild_rules();
        }
    }

    /// A made object's own properties changed.
    pub(crate) fn made_changed(&mut self, made: u64) {
        self.view_changed(&NoPlans, made, &[], &[]);
    }

    /// Hands out at most `most` object updates since `version` (`None`: everything from the beginning). `Ok(None)`: nothing yet.
    pub(crate) fn take(
        &mut self,
        collector: CollectorId,
        version: Option<u64>,
        most: usize,
    ) -> Result<Option<Batch>, UnknownVersion> {
        let Some(owner) = self.collectors.get_mut(&collector) else { return Err(UnknownVersion) };
        let mut reusable = version;
        match version {
            None => {
                owner.kept.clear();
                for id in &owner.filters {
                    if let Some(filter) = self.filters.get_mut(id) {
                        filter.restart();
                    }
                }
            }
            Some(v) if v == owner.version && v != 0 => {
                owner.kept.clear();
                owner.before = None;
                if owner.truncated {
                    reusable = None;
                }
            }
            Some(v) if Some(v) == owner.before => {
                for (id, key, what) in std::mem::take(&mut owner.kept) {
                    if let Some(filter) = self.filters.get_mut(&id) {
                        filter.again(key, what);
                    }
                }
            }
            Some(_) => return Err(UnknownVersion),
        }
        let mut filters = Vec::new();
        let mut left = most;
        let mut truncated = false;
        for id in &owner.filters {
            let Some(filter) = self.filters.get_mut(id) else { continue };
            let updates = filter.drain(left);
            left -= updates.len();
            truncated |= !filter.pending.is_empty();
            owner.kept.extend(updates.iter().map(|(key, what)| (*id, *key, *what)));
            if !updates.is_empty() || version.is_none() {
                filters.push((*id, updates));
            }
        }
        if filters.is_empty() {
            return Ok(None);
        }
        owner.before = reusable;
        owner.version += 1;
        owner.truncated = truncated;
        Ok(Some(Batch { version: owner.version, truncated, filters }))
    }
}

fn targets(record: Option<&Record>, slot: Slot) -> SmallVec<[ObjectId; 2]> {
    record.map(|record| record.get(slot).refs().collect()).unwrap_or_default()
}

impl Filter {
    /// All plans.
    pub(crate) fn plans(&self) -> &FxHashMap<TypeId, Arc<Plan>> {
        &self.plans
    }

    /// The selected objects.
    #[cfg(test)]
    pub(crate) fn members(&self) -> impl Iterator<Item = Key> {
        self.members.keys().copied()
    }

    fn note(&mut self, key: Key, what: What) {
        match self.pending.get_mut(&key) {
            Some(pending) => *pending = pending.then(what),
            None => drop(self.pending.insert(key, what)),
        }
    }

    /// Takes in a member. One whose leaving is still to be told is one that the client knows.
    fn enter(&mut self, key: Key) {
        let known = self.pending.get(&key) == Some(&What::Leave);
        self.members.insert(key, known);
        self.note(key, What::Enter);
    }

    /// Whether there is something to tell.
    fn modify(&mut self, key: Key, bits: Bits) -> bool {
        if !bits.is_empty() {
            self.note(key, What::Modify(bits));
        }
        !bits.is_empty()
    }

    /// Whether there is something to tell: not of an object that the client never heard of.
    fn leave(&mut self, key: Key, known: bool) -> bool {
        if known {
            self.note(key, What::Leave);
        } else {
            self.pending.shift_remove(&key);
        }
        known
    }

    fn restart(&mut self) {
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
    fn again(&mut self, key: Key, what: What) {
        match self.pending.get_mut(&key) {
            Some(since) => *since = what.then(*since),
            None => drop(self.pending.insert(key, what)),
        }
    }

    fn drain(&mut self, most: usize) -> Vec<(Key, What)> {
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

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

use super::{plan::Plan, spec::FilterSpec};
use crate::inventory::{Key, TypeId};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;
use tokio::sync::Notify;
use union::{Kind, ObjectId, Slot, SlotSet};

mod changes;
mod filter;

pub(crate) use filter::{Filter, Walked, What};

/// A filter of this front.
pub(crate) type FilterId = u64;
/// A collector of this front.
pub(crate) type CollectorId = u64;

type Interests = SmallVec<[(FilterId, TypeId); 2]>;

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
            missing: Vec::new(),
            stale: true,
            pending: Default::default(),
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

    /// Takes over what a walk found; tells the difference.
    pub(crate) fn walked(&mut self, id: FilterId, found: Walked) {
        let Some(mut filter) = self.filters.remove(&id) else { return };
        self.unlink(id, &filter);
        let mut before = std::mem::take(&mut filter.members);
        filter.stale = false;
        filter.walked.clear();
        filter.through = found.through;
        filter.whole_view = found.whole_view;
        filter.missing = found.missing;
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

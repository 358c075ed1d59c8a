//! What sessions create: views, collectors, filters. Each has a number on this front and a reference that only its session can use.
//!
//! Limits: see [`crate::limits`].

use crate::{
    events::EventPages,
    fault::{Answer, Fault},
    inventory::{Catalog, Key},
    property_collector::{FilterSpec, Updates},
    task::TaskPages,
    views::ViewState,
};
use mapping::NativeRef;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The property of a view that holds its members.
pub(crate) const VIEW: &str = "view";

/// What was made.
pub(crate) enum Thing {
    /// A `PropertyCollector`.
    Collector {
        /// The one every session has; its reference is the singleton's.
        default: bool,
    },
    /// A `PropertyFilter`.
    Filter {
        /// Of this collector.
        collector: u64,
        /// What it selects.
        spec: Arc<FilterSpec>,
        /// Whether the client asked for changes below properties; they are always told whole.
        partial: bool,
    },
    /// A `View`.
    View(ViewState),
    /// An `EventHistoryCollector`.
    Events(EventPages),
    /// A `TaskHistoryCollector`.
    Tasks(TaskPages),
}

/// One made object.
pub(crate) struct Made {
    /// Whose.
    pub(crate) session: Arc<str>,
    /// Its reference.
    pub(crate) reference: NativeRef,
    /// What it is.
    pub(crate) thing: Thing,
}

/// All made objects of a front, and what changes for their filters.
#[derive(Default)]
pub(crate) struct Workshop {
    last: u64,
    things: FxHashMap<u64, Made>,
    by_id: FxHashMap<Arc<str>, u64>,
    /// The filters.
    pub(crate) updates: Updates,
}

/// What a walk asks of made objects.
pub(crate) trait MadeRead: Sync {
    /// The made object behind a reference.
    fn find(&self, reference: &NativeRef) -> Option<Key>;
    /// Whether it is of a type.
    fn is_a(&self, catalog: &Catalog, made: u64, ty: &str) -> bool;
    /// What its property refers to.
    fn references(&self, made: u64, path: &str) -> Answer<Vec<Key>>;
}

impl Workshop {
    /// A name for what a session keeps here. A session that is forgotten and comes back has another.
    pub(crate) fn owner(&mut self, session: &str) -> Arc<str> {
        self.last += 1;
        Arc::from(format!("{session}#{}", self.last))
    }

    /// Takes in a new object; `reference` is called with its number.
    pub(crate) fn make(
        &mut self,
        session: &Arc<str>,
        thing: Thing,
        reference: impl FnOnce(u64) -> NativeRef,
    ) -> (u64, NativeRef) {
        self.last += 1;
        let number = self.last;
        let reference = reference(number);
        if !matches!(thing, Thing::Collector { default: true }) {
            self.by_id.insert(reference.id.clone(), number);
        }
        self.things.insert(number, Made { session: session.clone(), reference: reference.clone(), thing });
        (number, reference)
    }

    /// An object.
    pub(crate) fn get(&self, number: u64) -> Option<&Made> {
        self.things.get(&number)
    }

    /// An object, to change.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Made> {
        self.things.get_mut(&number)
    }

    /// Objects and filters at once.
    pub(crate) fn parts(&mut self) -> (&mut FxHashMap<u64, Made>, &mut Updates) {
        (&mut self.things, &mut self.updates)
    }

    /// The object of a session behind an id; another session's is as good as none.
    pub(crate) fn of(&self, session: &str, id: &str) -> Option<u64> {
        let number = self.by_id.get(id).copied()?;
        (&*self.things.get(&number)?.session == session).then_some(number)
    }

    /// The filters of a collector, oldest first.
    pub(crate) fn filters_of(&self, collector: u64) -> Vec<NativeRef> {
        let own = self.updates.filters(collector).iter();
        own.filter_map(|filter| Some(self.things.get(filter)?.reference.clone())).collect()
    }

    /// A session's objects, oldest first.
    pub(crate) fn all_of<'a>(&'a self, session: &'a str) -> impl Iterator<Item = (u64, &'a Made)> {
        let mut own: Vec<(u64, &Made)> = self
            .things
            .iter()
            .filter(|(_, made)| &*made.session == session)
            .map(|(n, made)| (*n, made))
            .collect();
        own.sort_unstable_by_key(|(number, _)| *number);
        own.into_iter()
    }

    /// Forgets an object and what belongs to it.
    pub(crate) fn unmake(&mut self, number: u64) {
        let Some(made) = self.things.remove(&number) else { return };
        self.by_id.remove(&made.reference.id);
        match made.thing {
            Thing::Collector { .. } => {
                for filter in self.updates.close(number) {
                    if let Some(filter) = self.things.remove(&filter) {
                        self.by_id.remove(&filter.reference.id);
                    }
                }
            }
            Thing::Filter { .. } => self.updates.remove(number),
            Thing::View(_) | Thing::Events(_) | Thing::Tasks(_) => self.updates.made_changed(number),
        }
    }

    /// Forgets everything a session made.
    pub(crate) fn unmake_all(&mut self, session: &str) {
        let own: Vec<u64> = self.all_of(session).map(|(number, _)| number).collect();
        for number in own {
            self.unmake(number);
        }
    }
}

impl Made {
    /// A copy, of what is small and shows much.
    pub(crate) fn light(&self) -> Option<Made> {
        let thing = match &self.thing {
            Thing::Events(pages) => Thing::Events(pages.clone()),
            Thing::Tasks(pages) => Thing::Tasks(pages.clone()),
            Thing::Filter { collector, spec, partial } => {
                Thing::Filter { collector: *collector, spec: spec.clone(), partial: *partial }
            }
            Thing::Collector { default } => Thing::Collector { default: *default },
            Thing::View(_) => return None,
        };
        Some(Made { session: self.session.clone(), reference: self.reference.clone(), thing })
    }

    /// Whether it is of a type or below it.
    pub(crate) fn is_a(&self, catalog: &Catalog, ty: &str) -> bool {
        catalog.managed(&self.reference.ty).is_some_and(|own| catalog.is_a_named(own, ty))
    }
}

/// The made objects of one session, each look under a lock of its own: for reading that may take long.
pub(crate) struct Locked<'a> {
    /// All.
    pub(crate) workshop: &'a Mutex<Workshop>,
    /// Whose.
    pub(crate) session: &'a str,
}

impl Locked<'_> {
    fn with<T>(&self, look: impl FnOnce(&OfSession<'_>) -> T) -> T {
        look(&OfSession { workshop: &self.workshop.lock(), session: self.session })
    }
}

impl MadeRead for Locked<'_> {
    fn find(&self, reference: &NativeRef) -> Option<Key> {
        self.with(|made| made.find(reference))
    }

    fn is_a(&self, catalog: &Catalog, made: u64, ty: &str) -> bool {
        self.with(|all| all.is_a(catalog, made, ty))
    }

    fn references(&self, made: u64, path: &str) -> Answer<Vec<Key>> {
        self.with(|all| all.references(made, path))
    }
}

/// The made objects of one session.
pub(crate) struct OfSession<'a> {
    /// All.
    pub(crate) workshop: &'a Workshop,
    /// Whose.
    pub(crate) session: &'a str,
}

impl MadeRead for OfSession<'_> {
    fn find(&self, reference: &NativeRef) -> Option<Key> {
        self.workshop.of(self.session, &reference.id).map(Key::Made)
    }

    fn is_a(&self, catalog: &Catalog, made: u64, ty: &str) -> bool {
        self.workshop.get(made).is_some_and(|made| made.is_a(catalog, ty))
    }

    fn references(&self, made: u64, path: &str) -> Answer<Vec<Key>> {
        match self.workshop.get(made).map(|made| &made.thing) {
            Some(Thing::View(view)) if path == VIEW => Ok(view.members.iter().copied().collect()),
            Some(_) => Err(Fault::invalid_property(path)),
            None => Ok(Vec::new()),
        }
    }
}

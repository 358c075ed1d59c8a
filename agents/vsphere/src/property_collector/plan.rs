//! A filter's properties resolved once for a type: which selections, and for each union slot the properties that look at it.

use super::bits::Bits;
use super::content::TASK_ERROR;
use super::spec::{FilterSpec, PropertySet};
use crate::{
    fault::Fault,
    inventory::{Catalog, TypeId},
};
use mapping::{Deps, ObjectMap, Selection, schema::VersionIndex};
use std::{collections::HashSet, sync::Arc};
use union::{Kind, Slot, SlotSet};

/// One property of a plan.
#[derive(Clone)]
pub(crate) enum Property {
    /// Rendered by the mapping.
    Mapped(Arc<Selection>),
    /// Told as missing: the path and why.
    Missing(Arc<str>, Fault),
}

/// What to show of objects of one type.
pub(crate) struct Plan {
    /// The rows of the type.
    pub(crate) map: Arc<ObjectMap>,
    /// The kind of union object behind it, if it is one.
    pub(crate) kind: Option<Kind>,
    /// In the order asked.
    pub(crate) properties: Vec<Property>,
    by_slot: Vec<Bits>,
    /// Properties that list the objects of a kind whose field refers to this one.
    pub(crate) reverse: Vec<(Kind, Slot, Bits)>,
    /// Properties that look at the object a field refers to: own field, its kind, its slots.
    pub(crate) hops: Vec<(Slot, Kind, SlotSet, Bits)>,
}

/// What a traversal's property of one type looks at.
pub(crate) struct StepPlan {
    /// The kind of union object it leaves from, if it is one.
    pub(crate) kind: Option<Kind>,
    /// The property; `None`: nothing there.
    pub(crate) selection: Option<Arc<Selection>>,
    /// Own slots.
    pub(crate) own: SlotSet,
    /// As in [`Plan`].
    pub(crate) reverse: Vec<(Kind, Slot, Bits)>,
    /// As in [`Plan`].
    pub(crate) hops: Vec<(Slot, Kind, SlotSet, Bits)>,
}

impl FilterSpec {
    /// Whether every path is one of the type it is asked of; the product refuses the whole call otherwise, naming the path. What only
    /// the client's version does not have yet is told as missing, object by object.
    ///
    /// # Errors
    /// `InvalidProperty`.
    pub(crate) fn check(&self, catalog: &Catalog) -> Result<(), Fault> {
        let asked = self.sets.iter().flat_map(|set| set.paths.iter().map(|path| (&set.ty, path)));
        let followed = self.steps.iter().map(|step| (&step.ty, &step.path));
        match asked.chain(followed).find(|(ty, path)| !has_path(catalog, ty, path)) {
            Some((_, path)) => Err(Fault::invalid_property(path)),
            None => Ok(()),
        }
    }
}

/// Of a type without rows only the first step of a path is known.
fn has_path(catalog: &Catalog, ty: &str, path: &str) -> bool {
    if let Some(map) = catalog.managed(ty).and_then(|ty| catalog.map(ty)) {
        return map.select(path, catalog.newest()).is_ok();
    }
    let first = path.split(['.', '[']).next().unwrap_or(path);
    catalog.native().lookup(ty).is_none_or(|def| def.field(first).is_some())
}

impl Plan {
    /// The properties that `spec` asks of objects shown by `map`; `None`: none of its property sets is about them.
    pub(crate) fn new(
        catalog: &Catalog,
        spec: &FilterSpec,
        ty: TypeId,
        map: &Arc<ObjectMap>,
    ) -> Option<Plan> {
        let version = spec.version;
        let sets: Vec<&PropertySet> =
            spec.sets.iter().filter(|set| catalog.is_a_named(ty, &set.ty)).collect();
        if sets.is_empty() {
            return None;
        }
        let mut plan = Plan {
            map: map.clone(),
            kind: catalog.kind_of(map),
            properties: Vec::new(),
            by_slot: Vec::new(),
            reverse: Vec::new(),
            hops: Vec::new(),
        };
        let mut seen: HashSet<Arc<str>> = HashSet::new();
        if sets.iter().any(|set| set.all) {
            for selection in map.properties(version) {
                seen.insert(Arc::from(selection.path()));
                plan.add(Arc::new(selection.clone()), None);
            }
        }
        for path in sets.iter().flat_map(|set| &set.paths) {
            if !seen.insert(path.clone()) {
                continue;
            }
            match map.select(path, version) {
                Ok(selection) => {
                    // A task's error comes and goes with its state.
                    let state =
                        if &**path == TASK_ERROR { map.select("info.state", version).ok() } else { None };
                    plan.add(Arc::new(selection), state.as_ref());
                }
                Err(_) => {
                    plan.properties.push(Property::Missing(path.clone(), Fault::invalid_property(path)))
                }
            }
        }
        Some(plan)
    }

    /// Adds a property that changes with itself, or with another.
    fn add(&mut self, selection: Arc<Selection>, with: Option<&Selection>) {
        let number = self.properties.len();
        let mut bit = Bits::EMPTY;
        bit.insert(number);
        let deps: &Deps = with.unwrap_or(&selection).deps();
        for slot in deps.own.iter() {
            let index = usize::from(slot.0);
            if index >= self.by_slot.len() {
                self.by_slot.resize(index + 1, Bits::EMPTY);
            }
            if let Some(bits) = self.by_slot.get_mut(index) {
                *bits = bits.union(bit);
            }
        }
        self.reverse.extend(deps.reverse.iter().map(|(kind, slot)| (*kind, *slot, bit)));
        self.hops.extend(deps.hops.iter().map(|(own, kind, slots)| (*own, *kind, *slots, bit)));
        self.properties.push(Property::Mapped(selection));
    }

    /// Whether any property looks at a slot of the object itself.
    pub(crate) fn looks_at(&self, slot: Slot) -> bool {
        self.by_slot.get(usize::from(slot.0)).is_some_and(|bits| !bits.is_empty())
    }

    /// The properties that look at one of these slots of the object itself.
    pub(crate) fn dirty(&self, changed: SlotSet) -> Bits {
        let bits = changed.iter().map_while(|slot| self.by_slot.get(usize::from(slot.0)));
        bits.fold(Bits::EMPTY, |all, bits| all.union(*bits))
    }
}

impl StepPlan {
    /// The property `path` of objects shown by `map`.
    pub(crate) fn new(
        catalog: &Catalog,
        map: &Arc<ObjectMap>,
        path: &str,
        version: VersionIndex,
    ) -> Result<StepPlan, Fault> {
        let selection = map.select(path, version).map_err(|_| Fault::invalid_property(path))?;
        let selection = Some(Arc::new(selection));
        let deps = selection.as_ref().map(|s| s.deps());
        Ok(StepPlan {
            kind: catalog.kind_of(map),
            own: deps.map_or(SlotSet::EMPTY, |d| d.own),
            reverse: deps
                .map(|d| d.reverse.iter().map(|(k, s)| (*k, *s, Bits::ALL)).collect())
                .unwrap_or_default(),
            hops: deps
                .map(|d| d.hops.iter().map(|(o, k, s)| (*o, *k, *s, Bits::ALL)).collect())
                .unwrap_or_default(),
            selection,
        })
    }
}

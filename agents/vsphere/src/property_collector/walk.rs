//! From the objects of a specification through its traversals to the selected objects.
//!
//! Every pair of object and step is taken once, so a loop in the steps or in the inventory ends; an object is selected once however
//! many ways lead to it. Limit: 1,000,000 pairs.

use super::{
    plan::{Plan, StepPlan},
    spec::FilterSpec,
    updates::Walked,
};
use crate::{
    fault::{Answer, Fault},
    inventory::{Catalog, Key, TypeId},
    made::{self, MadeRead},
    permission::Sight,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::VecDeque, sync::Arc};

const MAX_PAIRS: usize = 1_000_000;

/// What a walk may look at.
pub(crate) struct Ground<'a> {
    /// The facts.
    pub(crate) catalog: &'a Catalog,
    /// What the session created.
    pub(crate) made: &'a dyn MadeRead,
    /// What the session sees of the facts; the rest is passed by.
    pub(crate) sight: &'a Sight<'a>,
}

/// Walks a specification. An object it begins at and that is not there is a fault, unless the specification tolerates it.
pub(crate) fn walk(ground: &Ground<'_>, spec: &FilterSpec) -> Answer<Walked> {
    let mut walk = Walk {
        ground,
        spec,
        plans: FxHashMap::default(),
        steps: FxHashMap::default(),
        seen: FxHashSet::default(),
        selected: FxHashSet::default(),
        queue: VecDeque::new(),
        found: Walked::default(),
    };
    for object in &spec.objects {
        let key = ground.made.find(&object.object).or_else(|| ground.catalog.resolve(&object.object));
        let Some(key) = key else {
            if !spec.tolerant {
                return Err(Fault::not_found(object.object.clone()));
            }
            walk.found.missing.push(object.object.clone());
            continue;
        };
        if let Some(id) = key.object().filter(|id| !ground.sight.sees(*id)) {
            if !spec.tolerant {
                let fault = Fault::of_cause(&ground.sight.refuse(id), &object.object, ground.catalog);
                return Err(fault);
            }
            walk.found.missing.push(object.object.clone());
            continue;
        }
        if !object.skip {
            walk.select(key);
        }
        for step in &object.steps {
            walk.queue.push_back((key, *step));
        }
    }
    walk.run()?;
    walk.found.whole_view = whole_view(ground, spec);
    Ok(walk.found)
}

/// The view whose members are exactly what the specification selects, if it is of that simple and most usual shape.
fn whole_view(ground: &Ground<'_>, spec: &FilterSpec) -> Option<u64> {
    let [object] = spec.objects.as_slice() else { return None };
    let [number] = object.steps.as_slice() else { return None };
    let step = spec.steps.get(usize::from(*number))?;
    let made = ground.made.find(&object.object)?.made()?;
    let simple = object.skip && !step.skip && step.next.is_empty() && &*step.path == made::VIEW;
    // Members that the session does not see are left out one by one.
    let simple = simple && ground.sight.is_whole();
    (simple && ground.made.is_a(ground.catalog, made, &step.ty)).then_some(made)
}

struct Walk<'a> {
    ground: &'a Ground<'a>,
    spec: &'a FilterSpec,
    plans: FxHashMap<TypeId, Option<Arc<Plan>>>,
    steps: FxHashMap<(TypeId, u16), Arc<StepPlan>>,
    seen: FxHashSet<(Key, u16)>,
    selected: FxHashSet<Key>,
    queue: VecDeque<(Key, u16)>,
    found: Walked,
}

impl Walk<'_> {
    fn select(&mut self, key: Key) {
        if !self.selected.insert(key) {
            return;
        }
        match key {
            Key::Fact(_, ty) => {
                let catalog = self.ground.catalog;
                let plan = self.plans.entry(ty).or_insert_with(|| {
                    let map = catalog.map(ty)?;
                    Plan::new(catalog, self.spec, ty, map).map(Arc::new)
                });
                if let Some(plan) = plan {
                    self.found.members.push((key, Some(plan.clone())));
                }
            }
            Key::Made(made) => {
                let wanted = self
                    .spec
                    .sets
                    .iter()
                    .any(|set| self.ground.made.is_a(self.ground.catalog, made, &set.ty));
                if wanted {
                    self.found.members.push((key, None));
                }
            }
        }
    }

    fn run(&mut self) -> Answer<()> {
        while let Some((key, number)) = self.queue.pop_front() {
            if !self.seen.insert((key, number)) {
                continue;
            }
            if self.seen.len() > MAX_PAIRS {
                return Err(Fault::invalid_argument(
                    "specSet",
                    "the traversals lead to more objects than one call may visit",
                ));
            }
            let Some(step) = self.spec.steps.get(usize::from(number)) else { continue };
            for next in self.follow(key, number)? {
                if next.object().is_some_and(|id| !self.ground.sight.sees(id)) {
                    continue;
                }
                if !step.skip {
                    self.select(next);
                }
                for further in &step.next {
                    self.queue.push_back((next, *further));
                }
            }
        }
        Ok(())
    }

    /// The objects that one step leads to; none for an object of another type.
    fn follow(&mut self, key: Key, number: u16) -> Answer<Vec<Key>> {
        let Ground { catalog, made, .. } = self.ground;
        let Some(step) = self.spec.steps.get(usize::from(number)) else { return Ok(Vec::new()) };
        match key {
            Key::Made(view) => {
                if !made.is_a(catalog, view, &step.ty) {
                    return Ok(Vec::new());
                }
                if !self.found.through.contains(&view) {
                    self.found.through.push(view);
                }
                made.references(view, &step.path)
            }
            Key::Fact(id, ty) => {
                if !catalog.is_a_named(ty, &step.ty) {
                    return Ok(Vec::new());
                }
                let Some(map) = catalog.map(ty) else { return Ok(Vec::new()) };
                let plan = match self.steps.get(&(ty, number)) {
                    Some(known) => known.clone(),
                    None => {
                        let plan = Arc::new(StepPlan::new(catalog, map, &step.path, self.spec.version)?);
                        self.steps.insert((ty, number), plan.clone());
                        plan
                    }
                };
                self.found.from.push((id, plan.clone()));
                let Some(selection) = &plan.selection else { return Ok(Vec::new()) };
                Ok(catalog.keys(id, map, selection, self.spec.version))
            }
        }
    }
}

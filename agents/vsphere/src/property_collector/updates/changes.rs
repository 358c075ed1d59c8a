//! Changes of the inventory and of views, spread over the filters they concern.

use super::{CollectorId, FilterId, Hop, Planner, Referring, Updates};
use crate::{
    inventory::{Key, TypeId},
    property_collector::{
        bits::Bits,
        plan::{Plan, StepPlan},
        spec::FilterSpec,
    },
};
use ::inventory::Change;
use smallvec::SmallVec;
use std::sync::Arc;
use union::{Kind, ObjectId, Record, Slot, SlotSet};

struct NoPlans;

impl Planner for NoPlans {
    fn plan(&self, _: &FilterSpec, _: TypeId) -> Option<Arc<Plan>> {
        None
    }
}

impl Updates {
    /// Collects what the plans of all filters look at beside the object itself. Filters come and go with clients, not with changes.
    pub(super) fn rebuild_rules(&mut self) {
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
}

fn targets(record: Option<&Record>, slot: Slot) -> SmallVec<[ObjectId; 2]> {
    record.map(|record| record.get(slot).refs().collect()).unwrap_or_default()
}

//! Names within a place: two things of one name side by side get different ones, so that a path of names leads to one thing.
//!
//! The first of a name keeps it; the others are shown as `name (1)`, `name (2)` and so on, in the order in which the source first saw them
//! (then of their ids), leaving out what is something else's real name there. It is a function of what lies in the place alone: when the
//! first goes, the next is first. What lies in one place shares its names, whatever kind it is of; upper and lower case differ.

use rustc_hash::FxHashMap;
use std::{collections::BTreeSet, sync::Arc};
use union::ObjectId;

/// The order of those who share a name: Unix milliseconds of the first sight, then the id.
type Rank = (i64, ObjectId);
/// A name in a place.
type Key = (ObjectId, Arc<str>);

/// Who lies where under which name.
#[derive(Debug, Default)]
pub(super) struct Names {
    members: FxHashMap<ObjectId, (Key, i64)>,
    /// Ordered; mostly of one.
    groups: FxHashMap<Key, Vec<Rank>>,
    /// Only names that are not the object's own.
    shown: FxHashMap<ObjectId, Arc<str>>,
    dirty: BTreeSet<Key>,
}

impl Names {
    /// An object lies in `place` under its own name since its first sight there; `None`: nowhere, or without a name.
    pub(super) fn set(&mut self, id: ObjectId, key: Option<Key>, since_ms: i64) {
        let key = key.filter(|(_, name)| !name.is_empty());
        match (self.members.get(&id), &key) {
            (Some((old, at)), Some(new)) if old == new && *at == since_ms => return,
            (None, None) => return,
            _ => {}
        }
        if let Some((old, at)) = self.members.remove(&id) {
            self.leave(&old, (at, id));
        }
        match key {
            Some(key) => {
                self.enter(&key, (since_ms, id));
                self.members.insert(id, (key, since_ms));
            }
            // Nobody's group names it any more.
            None => drop(self.shown.remove(&id)),
        }
    }

    fn enter(&mut self, key: &Key, rank: Rank) {
        match self.groups.get_mut(key) {
            Some(group) => {
                let at = group.partition_point(|other| *other < rank);
                group.insert(at, rank);
            }
            None => {
                self.groups.insert(key.clone(), vec![rank]);
                self.taken(key);
            }
        }
        self.dirty.insert(key.clone());
    }

    fn leave(&mut self, key: &Key, rank: Rank) {
        if let Some(group) = self.groups.get_mut(key) {
            group.retain(|other| *other != rank);
            if group.is_empty() {
                self.groups.remove(key);
                self.taken(key);
            }
        }
        self.dirty.insert(key.clone());
    }

    /// A real name is new in a place, or is there no longer: those who would be shown with it choose again.
    fn taken(&mut self, (place, name): &Key) {
        if let Some(stem) = stem(name) {
            let key = (*place, Arc::from(stem));
            if self.groups.contains_key(&key) {
                self.dirty.insert(key);
            }
        }
    }

    /// What an object is shown as, where that is not its own name. True after [`Names::settle`].
    pub(super) fn shown(&self, id: ObjectId) -> Option<&Arc<str>> {
        self.shown.get(&id)
    }

    /// Gives out the names anew where something changed; the objects that are now shown under another name.
    pub(super) fn settle(&mut self) -> BTreeSet<ObjectId> {
        let mut renamed = BTreeSet::new();
        for key in std::mem::take(&mut self.dirty) {
            let Some(group) = self.groups.get(&key) else { continue };
            let mut number = 0_u64;
            for (position, (_, id)) in group.iter().enumerate() {
                let before = self.shown.get(id);
                if position == 0 {
                    if self.shown.remove(id).is_some() {
                        renamed.insert(*id);
                    }
                    continue;
                }
                let name = loop {
                    number += 1;
                    let name: Arc<str> = Arc::from(format!("{} ({number})", key.1));
                    let candidate = (key.0, name);
                    if !self.groups.contains_key(&candidate) {
                        break candidate.1;
                    }
                };
                if before != Some(&name) {
                    self.shown.insert(*id, name);
                    renamed.insert(*id);
                }
            }
        }
        renamed
    }
}

/// `a` of `a (1)`.
fn stem(name: &str) -> Option<&str> {
    let (stem, number) = name.strip_suffix(')')?.rsplit_once(" (")?;
    let plain = !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
    (plain && !number.is_empty() && !stem.is_empty()).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;
    use union::Kind;

    fn named(names: &mut Names, n: u128, name: &str, since: i64) {
        names.set(id(Kind::Vm, n), Some((id(Kind::Folder, 1), name.into())), since);
    }

    fn shown(names: &Names, n: u128) -> Option<&str> {
        names.shown(id(Kind::Vm, n)).map(|name| &**name)
    }

    #[test]
    fn the_first_seen_keeps_its_name() {
        let mut names = Names::default();
        named(&mut names, 1, "a", 20);
        named(&mut names, 2, "a", 10);
        named(&mut names, 3, "a", 30);
        named(&mut names, 4, "b", 30);
        assert_eq!(names.settle().len(), 2);
        assert_eq!([1, 2, 3, 4].map(|n| shown(&names, n)), [Some("a (1)"), None, Some("a (2)"), None]);
        names.set(id(Kind::Vm, 2), None, 0);
        assert_eq!(names.settle().len(), 2);
        assert_eq!([1, 3].map(|n| shown(&names, n)), [None, Some("a (1)")]);
        named(&mut names, 3, "b", 5);
        assert_eq!(names.settle(), BTreeSet::from([id(Kind::Vm, 3), id(Kind::Vm, 4)]));
        assert_eq!([3, 4].map(|n| shown(&names, n)), [None, Some("b (1)")]);
        assert!(names.settle().is_empty());
    }

    #[test]
    fn a_real_name_is_not_given_out() {
        let mut names = Names::default();
        named(&mut names, 1, "a", 1);
        named(&mut names, 2, "a", 2);
        names.settle();
        named(&mut names, 3, "a (1)", 3);
        assert_eq!(names.settle(), BTreeSet::from([id(Kind::Vm, 2)]));
        assert_eq!([1, 2, 3].map(|n| shown(&names, n)), [None, Some("a (2)"), None]);
        named(&mut names, 3, "c", 3);
        names.settle();
        assert_eq!(shown(&names, 2), Some("a (1)"));
    }

    #[test]
    fn only_a_number_as_given_out_has_a_stem() {
        assert_eq!(stem("a (b) (12)"), Some("a (b)"));
        for name in ["a", "a (01)", "a ()", " (1)", "a (x)", "a(1)", "a (1) "] {
            assert_eq!(stem(name), None, "{name}");
        }
    }
}

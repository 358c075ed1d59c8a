//! Union id <-> native id, one map for each protocol and view.
//!
//! An id is given out at first sight and never again: the number of a form only grows, and an object that is gone keeps its native id
//! (a [tombstone](IdMap::retire)), so that a late question finds "gone", not another object.
//!
//! In memory: a restart numbers anew. A durable backend takes over [`IdMap::snapshot`] and [`IdMap::restore`].

use parking_lot::RwLock;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;
use union::ObjectId;

/// A map of one protocol and view, for example `vsphere`, `fleet`.
#[derive(Debug)]
pub struct IdMap {
    protocol: Arc<str>,
    view: Arc<str>,
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    native: FxHashMap<ObjectId, Arc<str>>,
    union: FxHashMap<Arc<str>, ObjectId>,
    last: FxHashMap<Arc<str>, u64>,
    retired: FxHashSet<ObjectId>,
}

/// A native id that is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the native id `{native}` already names {by}; it cannot also name {wanted}")]
pub struct Taken {
    /// The id asked for.
    pub native: Arc<str>,
    /// Whose it is.
    pub by: ObjectId,
    /// Who asked.
    pub wanted: ObjectId,
}

/// A native id may be this long; a longer one is cut, which `{n}` forms never need.
pub const MAX_NATIVE: usize = 256;

impl IdMap {
    /// An empty map.
    pub fn new(protocol: &str, view: &str) -> IdMap {
        IdMap { protocol: Arc::from(protocol), view: Arc::from(view), maps: RwLock::default() }
    }

    /// Whose words the native ids are.
    pub fn protocol(&self) -> &Arc<str> {
        &self.protocol
    }

    /// Through which view.
    pub fn view(&self) -> &Arc<str> {
        &self.view
    }

    /// The native id of an object, given out by `form` at first sight. In the form `{n}` is the next number of that form, from 1, and
    /// `{uuid}` the object's uuid: `vm-{n}`, `session[{uuid}]`. A form without either names one object for ever; when it is taken, a
    /// number is put behind it.
    pub fn native(&self, id: ObjectId, form: &str) -> Arc<str> {
        if let Some(known) = self.known(id) {
            return known;
        }
        let mut maps = self.maps.write();
        if let Some(known) = maps.native.get(&id) {
            return Arc::clone(known);
        }
        let mut numbered = form.contains("{n}");
        let mut text = form.replace("{uuid}", &id.uuid.to_string());
        let pattern = if numbered { text.clone() } else { format!("{text}-{{n}}") };
        loop {
            if numbered {
                let last = maps.last.entry(Arc::from(form)).or_insert(0);
                *last += 1;
                text = pattern.replace("{n}", &last.to_string());
            }
            if !maps.union.contains_key(text.as_str()) {
                break;
            }
            numbered = true;
        }
        let cut = text.char_indices().map(|(i, _)| i).take_while(|i| *i <= MAX_NATIVE).last().unwrap_or(0);
        if text.len() > MAX_NATIVE {
            text.truncate(cut);
        }
        let native: Arc<str> = Arc::from(text);
        maps.native.insert(id, Arc::clone(&native));
        maps.union.insert(Arc::clone(&native), id);
        native
    }

    /// Gives an object a native id that is fixed by the protocol, for example that of the root folder. The same pair again is fine.
    pub fn fix(&self, id: ObjectId, native: &str) -> Result<Arc<str>, Taken> {
        let mut maps = self.maps.write();
        let taken = |by| Taken { native: Arc::from(native), by, wanted: id };
        match (maps.native.get(&id), maps.union.get(native)) {
            (Some(known), _) if **known == *native => return Ok(Arc::clone(known)),
            (_, Some(by)) => return Err(taken(*by)),
            (Some(_), None) => return Err(taken(id)),
            (None, None) => {}
        }
        let native: Arc<str> = Arc::from(native);
        maps.native.insert(id, Arc::clone(&native));
        maps.union.insert(Arc::clone(&native), id);
        Ok(native)
    }

    /// The native id, if one was given out.
    pub fn known(&self, id: ObjectId) -> Option<Arc<str>> {
        self.maps.read().native.get(&id).cloned()
    }

    /// The object a native id names, gone or not.
    pub fn object(&self, native: &str) -> Option<ObjectId> {
        self.maps.read().union.get(native).copied()
    }

    /// Marks an object as gone; its native id stays its own.
    pub fn retire(&self, id: ObjectId) {
        self.maps.write().retired.insert(id);
    }

    /// Whether the object was marked as gone.
    pub fn is_retired(&self, id: ObjectId) -> bool {
        self.maps.read().retired.contains(&id)
    }

    /// Every pair, and the last number of every form, ordered.
    pub fn snapshot(&self) -> Snapshot {
        let maps = self.maps.read();
        let mut pairs: Vec<_> =
            maps.native.iter().map(|(id, text)| (*id, Arc::clone(text), maps.retired.contains(id))).collect();
        pairs.sort();
        let mut last: Vec<_> = maps.last.iter().map(|(form, n)| (Arc::clone(form), *n)).collect();
        last.sort();
        Snapshot { pairs, last }
    }

    /// Takes over a snapshot into a map that has given out nothing yet; pairs that clash with given ones are left out.
    pub fn restore(&self, snapshot: &Snapshot) {
        for (id, native, retired) in &snapshot.pairs {
            if self.fix(*id, native).is_ok() && *retired {
                self.retire(*id);
            }
        }
        let mut maps = self.maps.write();
        for (form, n) in &snapshot.last {
            let last = maps.last.entry(Arc::clone(form)).or_insert(0);
            *last = (*last).max(*n);
        }
    }
}

/// What a durable backend keeps of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Object, native id, gone or not.
    pub pairs: Vec<(ObjectId, Arc<str>, bool)>,
    /// The last number given out of each form.
    pub last: Vec<(Arc<str>, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::Kind;

    fn id(n: u128) -> ObjectId {
        ObjectId::new(Kind::Vm, uuid::Uuid::from_u128(n))
    }

    #[test]
    fn ids_are_given_once_and_both_ways() {
        let map = IdMap::new("p", "fleet");
        assert_eq!(&*map.native(id(1), "vm-{n}"), "vm-1");
        assert_eq!(&*map.native(id(2), "vm-{n}"), "vm-2");
        assert_eq!(&*map.native(id(1), "vm-{n}"), "vm-1");
        assert_eq!(&*map.native(id(3), "host-{n}"), "host-1");
        assert_eq!(map.object("vm-2"), Some(id(2)));
        assert_eq!(map.object("vm-9"), None);
    }

    #[test]
    fn a_retired_id_is_not_given_again() {
        let map = IdMap::new("p", "fleet");
        map.native(id(1), "vm-{n}");
        map.retire(id(1));
        assert_eq!(&*map.native(id(2), "vm-{n}"), "vm-2");
        assert_eq!(map.object("vm-1"), Some(id(1)));
        assert!(map.is_retired(id(1)));
    }

    #[test]
    fn a_taken_text_is_never_given_twice() {
        let map = IdMap::new("p", "host");
        assert_eq!(&*map.fix(id(1), "2").expect("free"), "2");
        assert!(map.fix(id(2), "2").is_err());
        assert!(map.fix(id(1), "3").is_err());
        assert_eq!(&*map.native(id(3), "{n}"), "1");
        assert_eq!(&*map.native(id(4), "{n}"), "3");
        assert_eq!(&*map.native(id(5), "pool"), "pool");
        assert_eq!(&*map.native(id(6), "pool"), "pool-1");
    }

    #[test]
    fn a_restored_map_goes_on_where_the_old_one_was() {
        let map = IdMap::new("p", "fleet");
        map.native(id(1), "vm-{n}");
        map.native(id(2), "vm-{n}");
        map.retire(id(2));
        let next = IdMap::new("p", "fleet");
        next.restore(&map.snapshot());
        assert_eq!(next.snapshot(), map.snapshot());
        assert_eq!(&*next.native(id(3), "vm-{n}"), "vm-3");
        assert!(next.is_retired(id(2)));
    }
}

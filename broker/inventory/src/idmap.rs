//! Union id <-> native id, one map for each protocol and view.
//!
//! An id is given out at first sight and never again: the number of a form only grows, and an object that is gone keeps its native id
//! (a [tombstone](IdMap::retire)), so that a late question finds "gone", not another object.
//!
//! ```text
//! a task: given ─▶ its task is forgotten ([`IdMap::follow`]) ─▶ out of the store ─▶ 4,096 later ones forgotten ─▶ out of memory
//! ```
//!
//! Until then a client that has not yet been told of its end is told by its id.
//!
//! A map made by [`IdMap::new`] is in memory: a restart numbers anew. One made by [`IdMap::durable`] is the fast copy of a [`Durable`] one,
//! which gives the ids out; what that cannot keep is not shown.

use crate::{
    layout::View,
    store::{Change, Inventory, Observer, ObserverGuard},
    tasks::KEEP_MS,
};
use parking_lot::RwLock;
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::oneshot;
use union::{Kind, ObjectId};

/// Gives ids out and keeps them: what it has returned is known after a restart, and never given to another object.
pub trait Durable: Send + Sync + std::fmt::Debug {
    /// The native ids of objects, in their order; those not yet known are given out by their form, as [`IdMap::native`] says. All or none.
    /// May wait for a disk.
    fn give(&self, wanted: &[(ObjectId, &str)]) -> Result<Vec<Arc<str>>, NotKept>;
    /// As [`IdMap::fix`]. May wait for a disk.
    fn fix(&self, id: ObjectId, native: &str) -> Result<Arc<str>, NotKept>;
    /// As [`IdMap::retire`]. May wait for a disk.
    fn retire(&self, id: ObjectId) -> Result<(), NotKept>;
    /// As [`IdMap::forget`]. Must not wait.
    fn forget(&self, ids: &[ObjectId]);
    /// Everything that was given out and not forgotten.
    fn all(&self) -> Vec<(ObjectId, Arc<str>, bool)>;
    /// What to wait for before the object's id is told, if it was given out and is not written yet.
    fn writing(&self, id: ObjectId) -> Option<oneshot::Receiver<()>> {
        let _written = id;
        None
    }
}

/// An id could not be kept, so it was not given out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It is another object's, or the object has another.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// The store said no.
    #[error("the id could not be kept: {0}")]
    Store(String),
}

/// A map of one protocol and view, for example `vsphere`, `fleet`.
#[derive(Debug)]
pub struct IdMap {
    protocol: Arc<str>,
    view: Arc<str>,
    maps: RwLock<Maps>,
    keeper: Option<Arc<dyn Durable>>,
}

#[derive(Debug, Default)]
struct Maps {
    native: FxHashMap<ObjectId, Arc<str>>,
    union: FxHashMap<Arc<str>, ObjectId>,
    last: FxHashMap<Arc<str>, u64>,
    retired: FxHashSet<ObjectId>,
    /// Those that are forgotten but for here, oldest first.
    forgotten: VecDeque<ObjectId>,
}

impl Maps {
    fn add(&mut self, id: ObjectId, native: &Arc<str>) {
        self.native.insert(id, Arc::clone(native));
        self.union.insert(Arc::clone(native), id);
    }
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

/// How many forgotten ids are still known here.
const FORGOTTEN: usize = 4_096;

/// Forgets the ids of the tasks that an inventory forgets.
#[derive(Debug)]
struct Forgetting {
    map: Arc<IdMap>,
    source: Arc<Inventory>,
}

impl Observer for Forgetting {
    fn changed(&self, changes: &[Change]) {
        // One that only left the view, with its object for example, may come back.
        let gone = |change: &&Change| change.new.is_none() && self.source.record(change.id).is_none();
        let tasks = changes.iter().filter(|change| change.id.kind == Kind::Task).filter(gone);
        self.map.forget(&tasks.map(|change| change.id).collect::<Vec<_>>());
    }
}

/// A native id may be this long; a longer one is cut, which `{n}` forms never need.
pub const MAX_NATIVE: usize = 256;

impl IdMap {
    /// An empty map.
    pub fn new(protocol: &str, view: &str) -> IdMap {
        IdMap { protocol: Arc::from(protocol), view: Arc::from(view), maps: RwLock::default(), keeper: None }
    }

    /// The fast copy of a map that is kept elsewhere.
    pub fn durable(protocol: &str, view: &str, keeper: Arc<dyn Durable>) -> IdMap {
        let map = IdMap::new(protocol, view);
        {
            let mut maps = map.maps.write();
            for (id, native, retired) in keeper.all() {
                maps.add(id, &native);
                if retired {
                    maps.retired.insert(id);
                }
            }
        }
        IdMap { keeper: Some(keeper), ..map }
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
    /// number is put behind it. `None`: the id could not be kept, so the object has none until it can be.
    pub fn native(&self, id: ObjectId, form: &str) -> Option<Arc<str>> {
        if let Some(known) = self.known(id) {
            return Some(known);
        }
        match &self.keeper {
            None => Some(self.number(id, form)),
            Some(_) => self.natives(&[(id, form)]).pop(),
        }
    }

    /// Waits until the id that an object was given is written.
    pub async fn written(&self, id: ObjectId) {
        if let Some(written) = self.keeper.as_ref().and_then(|keeper| keeper.writing(id)) {
            // Whoever was to write it may have ended.
            written.await.ok();
        }
    }

    /// The native ids of many objects, kept by one sync of the disk. None at all when they could not be kept.
    pub fn natives(&self, wanted: &[(ObjectId, &str)]) -> Vec<Arc<str>> {
        let Some(keeper) = &self.keeper else {
            return wanted.iter().map(|(id, form)| self.number(*id, form)).collect();
        };
        match keeper.give(wanted) {
            Ok(natives) => {
                let mut maps = self.maps.write();
                for ((id, _), native) in wanted.iter().zip(&natives) {
                    maps.add(*id, native);
                }
                natives
            }
            Err(error) => {
                tracing::error!(protocol = %self.protocol, view = %self.view, %error, "objects are not shown");
                Vec::new()
            }
        }
    }

    fn number(&self, id: ObjectId, form: &str) -> Arc<str> {
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
        maps.add(id, &native);
        native
    }

    /// Gives an object a native id that is fixed by the protocol, for example that of the root folder. The same pair again is fine.
    pub fn fix(&self, id: ObjectId, native: &str) -> Result<Arc<str>, NotKept> {
        if let Some(keeper) = &self.keeper {
            let native = keeper.fix(id, native)?;
            self.maps.write().add(id, &native);
            return Ok(native);
        }
        let mut maps = self.maps.write();
        let taken = |by| Taken { native: Arc::from(native), by, wanted: id };
        match (maps.native.get(&id), maps.union.get(native)) {
            (Some(known), _) if **known == *native => return Ok(Arc::clone(known)),
            (_, Some(by)) => return Err(taken(*by).into()),
            (Some(_), None) => return Err(taken(id).into()),
            (None, None) => {}
        }
        let native: Arc<str> = Arc::from(native);
        maps.add(id, &native);
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
        if let Some(Err(error)) = self.keeper.as_ref().map(|keeper| keeper.retire(id)) {
            // The object is gone all the same; after a restart its target says so again.
            tracing::warn!(%id, %error, "that it is gone was not kept");
        }
        self.maps.write().retired.insert(id);
    }

    /// Whether the object was marked as gone.
    pub fn is_retired(&self, id: ObjectId) -> bool {
        self.maps.read().retired.contains(&id)
    }

    /// Forgets objects of which nobody will ask any more; their ids were given out by number, which is never given out again. Others stay
    /// as they are.
    pub fn forget(&self, ids: &[ObjectId]) {
        if ids.is_empty() {
            return;
        }
        if let Some(keeper) = &self.keeper {
            keeper.forget(ids);
        }
        let mut maps = self.maps.write();
        for id in ids {
            if maps.native.contains_key(id) {
                maps.forgotten.push_back(*id);
            }
        }
        while maps.forgotten.len() > FORGOTTEN {
            let Some(id) = maps.forgotten.pop_front() else { break };
            maps.retired.remove(&id);
            if let Some(native) = maps.native.remove(&id) {
                maps.union.remove(&native);
            }
        }
    }

    /// From now on, while the guard lives, the ids of tasks that `view` and its source forget are forgotten, and at once those of tasks
    /// that were forgotten in an earlier life.
    pub fn follow(self: &Arc<IdMap>, view: &View) -> ObserverGuard {
        let source = Arc::clone(view.source());
        let kept_since = source.clock().now_ms().saturating_sub(2 * KEEP_MS);
        let old = |id: &ObjectId| {
            // The first 48 bits of an ordered uuid are its time.
            let made = i64::try_from(id.uuid.as_u128() >> 80).unwrap_or(i64::MAX);
            id.kind == Kind::Task && made < kept_since && source.record(*id).is_none()
        };
        let left: Vec<ObjectId> = self.maps.read().native.keys().copied().filter(old).collect();
        self.forget(&left);
        view.inventory().observe(Arc::new(Forgetting { map: Arc::clone(self), source }))
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
        assert_eq!(&*map.native(id(1), "vm-{n}").unwrap(), "vm-1");
        assert_eq!(&*map.native(id(2), "vm-{n}").unwrap(), "vm-2");
        assert_eq!(&*map.native(id(1), "vm-{n}").unwrap(), "vm-1");
        assert_eq!(&*map.native(id(3), "host-{n}").unwrap(), "host-1");
        assert_eq!(map.object("vm-2"), Some(id(2)));
        assert_eq!(map.object("vm-9"), None);
    }

    #[test]
    fn a_retired_id_is_not_given_again() {
        let map = IdMap::new("p", "fleet");
        map.native(id(1), "vm-{n}");
        map.retire(id(1));
        assert_eq!(&*map.native(id(2), "vm-{n}").unwrap(), "vm-2");
        assert_eq!(map.object("vm-1"), Some(id(1)));
        assert!(map.is_retired(id(1)));
    }

    #[test]
    fn a_taken_text_is_never_given_twice() {
        let map = IdMap::new("p", "host");
        assert_eq!(&*map.fix(id(1), "2").expect("free"), "2");
        assert!(map.fix(id(2), "2").is_err());
        assert!(map.fix(id(1), "3").is_err());
        assert_eq!(&*map.native(id(3), "{n}").unwrap(), "1");
        assert_eq!(&*map.native(id(4), "{n}").unwrap(), "3");
        assert_eq!(&*map.native(id(5), "pool").unwrap(), "pool");
        assert_eq!(&*map.native(id(6), "pool").unwrap(), "pool-1");
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
        assert_eq!(&*next.native(id(3), "vm-{n}").unwrap(), "vm-3");
        assert!(next.is_retired(id(2)));
    }

    /// A keeper that is full after some ids.
    #[derive(Debug)]
    struct Keeper(IdMap, usize);

    impl Durable for Keeper {
        fn give(&self, wanted: &[(ObjectId, &str)]) -> Result<Vec<Arc<str>>, NotKept> {
            if self.0.snapshot().pairs.len() + wanted.len() > self.1 {
                return Err(NotKept::Store("full".to_owned()));
            }
            Ok(self.0.natives(wanted))
        }
        fn fix(&self, id: ObjectId, native: &str) -> Result<Arc<str>, NotKept> {
            self.0.fix(id, native)
        }
        fn retire(&self, id: ObjectId) -> Result<(), NotKept> {
            self.0.retire(id);
            Ok(())
        }
        fn forget(&self, ids: &[ObjectId]) {
            self.0.forget(ids);
        }
        fn all(&self) -> Vec<(ObjectId, Arc<str>, bool)> {
            self.0.snapshot().pairs
        }
    }

    #[test]
    fn ids_of_forgotten_tasks_are_forgotten_but_the_latest() {
        let facts = crate::testing::inventory();
        let view = View::new("fleet", &facts, crate::Layout::Fleet(crate::Skeleton::default()));
        let keeper = Arc::new(Keeper(IdMap::new("p", "fleet"), usize::MAX));
        let before = Arc::new(IdMap::durable("p", "fleet", keeper.clone()));
        let task = |n: usize| ObjectId::new(Kind::Task, uuid::Uuid::from_u128((1 << 127) + n as u128));
        let put = |id: ObjectId| crate::Put::Whole(id, facts.schema().kind(id.kind).record());
        let guard = before.follow(&view);
        let all: Vec<ObjectId> = (0..FORGOTTEN + 2).map(task).collect();
        facts.apply(all.iter().copied().chain([id(1)]).map(put).collect());
        before.natives(&all.iter().map(|id| (*id, "task-{n}")).collect::<Vec<_>>());
        before.native(id(1), "vm-{n}");
        facts.apply(all.iter().skip(1).copied().chain([id(1)]).map(crate::Put::Remove).collect());
        // The latest are still told of, the oldest are not, and what is no task stays.
        assert_eq!((before.object("task-2"), before.object("task-3")), (None, Some(task(2))));
        assert_eq!((before.object("task-1"), before.object("vm-1")), (Some(task(0)), Some(id(1))));
        drop(guard);
        // A task of an earlier life of which nobody knows any more.
        let ancient = ObjectId::new(Kind::Task, uuid::Uuid::from_u128(7));
        before.native(ancient, "task-{n}");
        let after = Arc::new(IdMap::durable("p", "fleet", keeper));
        let _guard = after.follow(&view);
        let left = after.maps.read().forgotten.clone();
        assert_eq!(left, [ancient]);
        assert_eq!(after.native(task(FORGOTTEN + 2), "task-{n}").as_deref(), Some("task-4100"));
    }

    #[test]
    fn a_durable_map_goes_on_after_a_restart_and_shows_nothing_it_cannot_keep() {
        let keeper = Arc::new(Keeper(IdMap::new("p", "fleet"), 4));
        let map = IdMap::durable("p", "fleet", keeper.clone());
        assert_eq!(map.natives(&[(id(1), "vm-{n}"), (id(2), "vm-{n}")]), ["vm-1".into(), "vm-2".into()]);
        map.fix(id(9), "root").unwrap();
        assert!(matches!(map.fix(id(8), "root"), Err(NotKept::Taken(_))));
        map.retire(id(1));
        let map = IdMap::durable("p", "fleet", keeper);
        assert_eq!((map.object("vm-1"), map.is_retired(id(1))), (Some(id(1)), true));
        assert_eq!(map.known(id(9)).as_deref(), Some("root"));
        assert_eq!(map.native(id(3), "vm-{n}").as_deref(), Some("vm-3"));
        assert_eq!(map.native(id(4), "vm-{n}"), None);
        assert_eq!((map.known(id(4)), map.object("vm-4")), (None, None));
        assert_eq!(map.native(id(3), "vm-{n}").as_deref(), Some("vm-3"));
    }
}

//! Which target has which object, where two may say that they have the same one: a VM's uuid is its id, and a copy of its definition on
//! another host has it too.
//!
//! ```text
//!            take                     take, by another              release, by either
//!   free ───────────▶ held by the first ──────────▶ contested ──────────────────────────▶ held by the one that is left
//!     ▲                     │ release                (facts of the first, `trouble`,        (it is given the object, and reads it)
//!     └─────────────────────┘                         lanes refuse)
//! ```
//!
//! Who took an object first holds it, and only the holder puts its facts. While it is contested the inventory itself says so in the
//! object's `trouble`, whatever is put. A target whose [`Claims`] are dropped lets go of everything.
//!
//! Limits: targets of one process. Which of two machines is meant, nobody can know; a person has to take one away.

use crate::store::{Inventory, Put};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;
use union::{ObjectId, Value};

/// Objects that a target has come to hold because another let go of them.
#[derive(Debug, Default)]
pub struct Inbox {
    given: Mutex<BTreeSet<ObjectId>>,
    news: Notify,
    closed: AtomicBool,
}

impl Inbox {
    /// The next object to read; `None`: the claims were dropped. Nothing is lost when this is given up half-way.
    pub async fn next(&self) -> Option<ObjectId> {
        loop {
            let news = self.news.notified();
            if let Some(id) = self.given.lock().pop_first() {
                return Some(id);
            }
            if self.closed.load(Ordering::Acquire) {
                return None;
            }
            news.await;
        }
    }

    fn put(&self, id: ObjectId) {
        self.given.lock().insert(id);
        self.news.notify_one();
    }
}

/// One who claims.
#[derive(Clone, Debug)]
struct Claimant {
    number: u64,
    name: Arc<str>,
    inbox: Arc<Inbox>,
}

/// All claims on the objects of an inventory.
#[derive(Debug, Default)]
pub(crate) struct Register {
    /// By object, the holder first.
    claims: Mutex<FxHashMap<ObjectId, Vec<Claimant>>>,
    last: AtomicU64,
}

impl Register {
    /// Who claims an object, the holder first.
    fn names(&self, id: ObjectId) -> Vec<Arc<str>> {
        let claims = self.claims.lock();
        claims.get(&id).into_iter().flatten().map(|claimant| Arc::clone(&claimant.name)).collect()
    }

    /// Whether any target claims an object.
    pub(crate) fn is_claimed(&self, id: ObjectId) -> bool {
        self.claims.lock().contains_key(&id)
    }

    /// Why nothing can be done to an object that several claim.
    pub(crate) fn trouble(&self, id: ObjectId) -> Option<String> {
        // Most objects have one claimant; for those nothing is built.
        if self.claims.lock().get(&id).is_none_or(|claimants| claimants.len() < 2) {
            return None;
        }
        let names = self.names(id);
        let (holder, others) = names.split_first()?;
        Some(format!(
            "a machine with its uuid {} is on {holder} and on {}: {holder}'s is shown, and nothing is done to either until only one is left",
            id.uuid,
            others.join(", ")
        ))
    }
}

/// What became of an object that was let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// Nobody has it any more: its facts are to be removed.
    Free,
    /// Another has it, who reads it now if it did not hold it before; the facts stay.
    Kept,
    /// It was not claimed.
    Unknown,
}

/// The claims of one target.
#[derive(Debug)]
pub struct Claims {
    inventory: Arc<Inventory>,
    me: Claimant,
}

impl Claims {
    /// The claims of the target that people call `name`, none yet.
    pub fn new(inventory: &Arc<Inventory>, name: &str) -> Claims {
        let number = inventory.register().last.fetch_add(1, Ordering::Relaxed);
        let me = Claimant { number, name: Arc::from(name), inbox: Arc::default() };
        Claims { inventory: Arc::clone(inventory), me }
    }

    /// Says that the target has an object. Whether it holds it, that is, whether its facts are to be put.
    pub fn take(&self, id: ObjectId) -> bool {
        let (holds, contested) = {
            let mut claims = self.inventory.register().claims.lock();
            let claimants = claims.entry(id).or_default();
            let known = claimants.iter().position(|c| c.number == self.me.number);
            if known.is_none() {
                claimants.push(self.me.clone());
            }
            (known.unwrap_or(claimants.len() - 1) == 0, known.is_none() && claimants.len() > 1)
        };
        if contested {
            tracing::error!(object = %id, claimants = ?self.inventory.claimants(id), "an object is on several targets; nothing is done to it");
            self.say(id);
        }
        holds
    }

    /// Says that the target no longer has an object.
    pub fn release(&self, id: ObjectId) -> Released {
        let next = {
            let mut claims = self.inventory.register().claims.lock();
            let Some(claimants) = claims.get_mut(&id) else { return Released::Unknown };
            let Some(at) = claimants.iter().position(|c| c.number == self.me.number) else {
                return Released::Unknown;
            };
            claimants.remove(at);
            match claimants.first() {
                None => {
                    claims.remove(&id);
                    return Released::Free;
                }
                Some(next) => (at == 0).then(|| Arc::clone(&next.inbox)),
            }
        };
        tracing::info!(object = %id, claimants = ?self.inventory.claimants(id), "a target let go of a contested object");
        self.say(id);
        if let Some(inbox) = next {
            inbox.put(id);
        }
        Released::Kept
    }

    /// Whether the target holds an object.
    pub fn holds(&self, id: ObjectId) -> bool {
        let claims = self.inventory.register().claims.lock();
        claims.get(&id).and_then(|c| c.first()).is_some_and(|first| first.number == self.me.number)
    }

    /// What the target claims, held or not, in no order.
    pub fn all(&self) -> Vec<ObjectId> {
        let claims = self.inventory.register().claims.lock();
        let mine = claims.iter().filter(|(_, all)| all.iter().any(|c| c.number == self.me.number));
        mine.map(|(id, _)| *id).collect()
    }

    /// Where it is told what it has come to hold.
    pub fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.me.inbox)
    }

    /// Has the inventory write the object's `trouble` as it now is.
    fn say(&self, id: ObjectId) {
        if let Some(slot) = self.inventory.schema().slot(id.kind, "trouble") {
            self.inventory.apply(vec![Put::Slots(id, vec![(slot, Value::Absent)])]);
        }
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        for id in self.all() {
            self.release(id);
        }
        self.me.inbox.closed.store(true, Ordering::Release);
        self.me.inbox.news.notify_one();
    }
}

impl Inventory {
    /// Who claims an object, the holder first; more than one: it is contested. Objects that no target claims have none.
    pub fn claimants(&self, id: ObjectId) -> Vec<Arc<str>> {
        self.register().names(id)
    }

    /// Why nothing can be done to an object, if it is contested: between targets of this process, or by the broker's word.
    pub fn contested(&self, id: ObjectId) -> Option<String> {
        self.register().trouble(id).or_else(|| self.own_trouble(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, inventory, record, slot};
    use union::Kind;

    fn vm() -> ObjectId {
        id(Kind::Vm, 1)
    }

    fn trouble(inventory: &Inventory) -> Value {
        let record = inventory.record(vm()).expect("there");
        record.get(slot(Kind::Vm, "trouble")).clone()
    }

    fn put(inventory: &Inventory, name: &str) {
        inventory.apply(vec![Put::Whole(vm(), record(Kind::Vm, &[("name", name.into())]))]);
    }

    #[tokio::test]
    async fn the_first_holds_and_both_are_named() {
        let inventory = inventory();
        let (a, b) = (Claims::new(&inventory, "a"), Claims::new(&inventory, "b"));
        assert!(a.take(vm()));
        put(&inventory, "one");
        assert!(inventory.contested(vm()).is_none());
        assert!(!b.take(vm()) && !b.take(vm()) && a.take(vm()));
        assert!(a.holds(vm()) && !b.holds(vm()));
        assert_eq!((a.all(), b.all()), (vec![vm()], vec![vm()]));
        let text = trouble(&inventory).as_str().expect("said").to_owned();
        assert!(text.contains(" on a ") && text.contains(" on b:"), "{text}");
        put(&inventory, "two");
        assert_eq!(trouble(&inventory), Value::from(text), "whatever is put");
        assert_eq!(b.release(vm()), Released::Kept);
        assert!(trouble(&inventory).is_absent() && a.holds(vm()));
        inventory.apply(vec![Put::Remove(vm())]);
        assert!(inventory.record(vm()).is_some(), "it is claimed");
        assert_eq!((a.release(vm()), a.release(vm())), (Released::Free, Released::Unknown));
        inventory.apply(vec![Put::Remove(vm())]);
        assert!(inventory.record(vm()).is_none());
        assert!(inventory.claimants(vm()).is_empty());
    }

    #[tokio::test]
    async fn who_is_left_is_given_the_object() {
        let inventory = inventory();
        let (a, b) = (Claims::new(&inventory, "a"), Claims::new(&inventory, "b"));
        a.take(vm());
        put(&inventory, "one");
        b.take(vm());
        let inbox = b.inbox();
        drop(a);
        assert_eq!(inbox.next().await, Some(vm()));
        assert!(b.holds(vm()) && trouble(&inventory).is_absent());
        let next = tokio::spawn(async move { inbox.next().await });
        drop(b);
        assert_eq!(next.await.expect("it ends"), None);
    }

    #[test]
    fn a_contested_object_is_in_trouble_from_its_first_fact() {
        let inventory = inventory();
        let (a, b) = (Claims::new(&inventory, "a"), Claims::new(&inventory, "b"));
        assert!(a.take(vm()) && !b.take(vm()));
        put(&inventory, "one");
        assert!(!trouble(&inventory).is_absent());
    }
}

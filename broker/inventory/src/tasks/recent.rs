//! The tasks of an inventory, its own and those it only follows: those of late in the order in which they were asked for, and all in the
//! order in which they came to be known. Their own numbers are those of whoever made them, so several agents' may be alike.

use super::RECENT_MS;
use crate::store::{Change, Observer};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use union::{Kind, ObjectId, Slot};

/// When it was asked for, its number, itself.
type Key = (i64, i64, ObjectId);

#[derive(Debug, Default)]
struct List {
    /// With their end, once they have one.
    tasks: BTreeMap<Key, Option<i64>>,
    keys: FxHashMap<ObjectId, Key>,
    /// Where each that there is stands among all that there ever were.
    places: FxHashMap<ObjectId, i64>,
    last: i64,
}

/// Follows an inventory's tasks. Holds each at most once.
#[derive(Debug)]
pub(super) struct Lately {
    pub queued_ms: Slot,
    pub completed_ms: Slot,
    pub number: Slot,
    list: Mutex<List>,
}

impl Lately {
    pub(super) fn new(queued_ms: Slot, completed_ms: Slot, number: Slot) -> Lately {
        Lately { queued_ms, completed_ms, number, list: Mutex::default() }
    }

    /// Those that run, wait or ended of late, newest last, at most `limit`.
    pub(super) fn newest(&self, now: i64, limit: usize) -> Vec<ObjectId> {
        let list = self.list.lock();
        let late = |ended: &Option<i64>| ended.is_none_or(|at| now.saturating_sub(at) <= RECENT_MS);
        let newest = list.tasks.iter().rev().filter(|(_, ended)| late(ended)).take(limit);
        let mut newest: Vec<ObjectId> = newest.map(|((_, _, id), _)| *id).collect();
        newest.reverse();
        newest
    }

    /// Where a task stands in the order in which they came to be known, from 1.
    pub(super) fn place(&self, task: ObjectId) -> Option<i64> {
        self.list.lock().places.get(&task).copied()
    }

    /// Forgets those that are not of late any more.
    pub(super) fn sweep(&self, now: i64) {
        let mut list = self.list.lock();
        let List { tasks, keys, .. } = &mut *list;
        tasks.retain(|(_, _, id), ended| {
            let late = ended.is_none_or(|at| now.saturating_sub(at) <= RECENT_MS);
            if !late {
                keys.remove(id);
            }
            late
        });
    }
}

impl Observer for Lately {
    fn changed(&self, changes: &[Change]) {
        for change in changes.iter().filter(|change| change.id.kind == Kind::Task) {
            let mut list = self.list.lock();
            let before = list.keys.remove(&change.id);
            let known = before.and_then(|key| list.tasks.remove(&key)).is_some();
            let Some(record) = &change.new else {
                list.places.remove(&change.id);
                continue;
            };
            if !list.places.contains_key(&change.id) {
                list.last += 1;
                let last = list.last;
                list.places.insert(change.id, last);
            }
            let int = |slot| record.get(slot).as_int();
            let ended = int(self.completed_ms);
            // One that was swept and still changes had ended long ago.
            if !known && change.old.is_some() && ended.is_some() {
                continue;
            }
            let key = (int(self.queued_ms).unwrap_or(0), int(self.number).unwrap_or(0), change.id);
            list.keys.insert(change.id, key);
            list.tasks.insert(key, ended);
        }
    }
}

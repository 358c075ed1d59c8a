//! The chronicle: inventory changes and what people did, as numbered events.
//!
//! It watches an inventory, usually a view's, so that the names and places in an event are those its readers know. The words (`what`):
//!
//! | what | when |
//! |---|---|
//! | `vm.being_created`, `vm.created` | a VM appeared on a known host, and a command made it |
//! | `vm.registered` | one appeared by itself |
//! | `vm.removed`, `vm.renamed`, `vm.reconfigured`, `vm.migrated` | |
//! | `vm.starting`, `vm.stopping`, `vm.suspending`, `vm.resetting`, `vm.guest_shutdown`, `vm.guest_reboot` | the operation began |
//! | `vm.powered_on`, `vm.resumed` | it runs: after a stop, after a suspend or pause |
//! | `vm.powered_off`, `vm.suspended`, `vm.paused`, `vm.crashed` | it does not |
//! | `vm.reset` | a reset ended while it ran |
//! | `vm.disconnected`, `vm.connected` | its host was lost, is back |
//! | `vm.trouble_began`, `vm.trouble_ended` | nobody can do anything to it, and why: two targets have it |
//! | `host.added` | with the VMs found on it, which have no event of their own, nor has what else appeared in its batch |
//! | `host.removed`, `host.connected`, `host.connection_lost`, `host.maintenance_entered`, `host.maintenance_left` | |
//! | `<kind>.created`, `<kind>.removed`, `<kind>.renamed`, `<kind>.reconfigured` | networks, storage pools, clusters, folders, datacenters, resource pools |
//! | `snapshot.created`, `snapshot.removed` | |
//! | `task.queued`, `task.succeeded`, `task.failed` | |
//! | `session.logged_in`, `session.logged_out`, `session.login_failed` | recorded by the fronts |
//! | `mapping.gap` | a value no row could show, recorded by the fronts |
//!
//! Limits: the last 10,000 events are kept; a subscriber that falls 1,024 behind is told how many it lost.

use crate::store::{Change, Inventory, Observer, ObserverGuard};
use parking_lot::RwLock;
use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};
use tokio::sync::broadcast;
use union::{CommandId, Kind, ObjectId, Record, Slot, Value};

mod derive;
mod sentence;
#[cfg(test)]
mod tests;

/// How many events are kept.
pub const KEEP: usize = 10_000;
/// How far back it is looked whether a command that changes a VM is the one that made it.
const LATELY: usize = 256;
/// How far a subscriber may fall behind.
pub const BEHIND: usize = 1_024;

/// Numbers set aside at a time: a restart leaves out at most twice as many.
pub const BLOCK: i64 = 10_000;

/// Keeps the numbers of chronicles over restarts.
pub trait Counters: Send + Sync + std::fmt::Debug {
    /// The last number of a counter that may have been used before, with those up to `block` further set aside. May wait for a disk.
    fn begin(&self, name: &str, block: i64) -> i64;
    /// Sets numbers up to `to` aside. Must not wait.
    fn reserve(&self, name: &str, to: i64);
}

/// An event with its record, which is a union `Event`.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Position, from 1; goes on after a restart where the inventory has [`Counters`].
    pub number: i64,
    /// When, Unix milliseconds.
    pub time_ms: i64,
    /// The word, for example `vm.powered_on`.
    pub what: Arc<str>,
    /// What it is about.
    pub object: Option<ObjectId>,
    /// The object the event itself is in the union.
    pub id: ObjectId,
    /// The whole event.
    pub record: Arc<Record>,
}

/// An event to be recorded.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// The word.
    pub what: &'static str,
    /// What it is about.
    pub object: Option<ObjectId>,
    /// Further fields of the union `Event` by name, for example `principal`, `remote_address`.
    pub fields: Vec<(&'static str, Value)>,
    /// One sentence for people; empty: the one that goes with the word.
    pub message: String,
    /// How the sentence that goes with the word ends, for example ` with 3 VMs`.
    pub detail: String,
}

/// Which events to read.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Not before, Unix milliseconds.
    pub from_ms: Option<i64>,
    /// Not after, Unix milliseconds.
    pub to_ms: Option<i64>,
    /// About one of these; `None`: about anything.
    pub objects: Option<Vec<ObjectId>>,
    /// Of these words; empty: all.
    pub what: Vec<String>,
    /// By this principal.
    pub principal: Option<String>,
    /// Numbered above this.
    pub after: Option<i64>,
}

impl Filter {
    /// Whether an event passes.
    pub fn admits(&self, event: &Entry, chronicle: &Chronicle) -> bool {
        let fields = &chronicle.fields;
        self.from_ms.is_none_or(|from| event.time_ms >= from)
            && self.to_ms.is_none_or(|to| event.time_ms <= to)
            && self.after.is_none_or(|after| event.number > after)
            && (self.what.is_empty() || self.what.iter().any(|w| **w == *event.what))
            && self
                .principal
                .as_ref()
                .is_none_or(|p| event.record.get(fields.principal).as_str() == Some(p.as_str()))
            && self.objects.as_ref().is_none_or(|objects| {
                let about = [fields.vm_id, fields.host_id, fields.compute_id, fields.datacenter_id];
                event.object.is_some_and(|o| objects.contains(&o))
                    || about
                        .iter()
                        .any(|s| event.record.get(*s).as_ref_id().is_some_and(|o| objects.contains(&o)))
            })
    }
}

/// Declares the slots of `Event` that the chronicle fills.
macro_rules! fields {
    ($($field:ident),* $(,)?) => {
        #[derive(Debug)]
        struct Fields { $($field: Slot,)* }
        impl Fields {
            fn new(inventory: &Inventory) -> Fields {
                Fields { $($field: crate::tasks::slot(inventory, Kind::Event, stringify!($field)),)* }
            }
        }
    };
}

fields! {
    what, time_ms, number, chain, message, severity, principal, object_id, object_name, vm_id, vm_name, host_id, host_name, compute_id,
    compute_name, datacenter_id, datacenter_name, command_id, template,
}

/// The numbered events of one inventory.
#[derive(Debug)]
pub struct Chronicle {
    inventory: Arc<Inventory>,
    name: Arc<str>,
    fields: Fields,
    ring: RwLock<Ring>,
    news: broadcast::Sender<Entry>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Entry>,
    last: i64,
    /// The last number that is set aside.
    reserved: i64,
}

/// Feeds a chronicle without keeping it alive.
struct Watch(Weak<Chronicle>);

impl Observer for Watch {
    fn changed(&self, changes: &[Change]) {
        if let Some(chronicle) = self.0.upgrade() {
            for note in derive::notes(&chronicle.inventory, changes) {
                if !chronicle.is_making(&note) {
                    chronicle.record(note);
                }
            }
        }
    }
}

impl Chronicle {
    /// A chronicle of `inventory`, empty: what is there already is no news. `name` keeps its event ids apart from other chronicles'.
    /// It watches until the guard is dropped.
    pub fn new(name: &str, inventory: &Arc<Inventory>) -> (Arc<Chronicle>, ObserverGuard) {
        let last = inventory.counters().map_or(0, |counters| counters.begin(name, BLOCK));
        let ring = Ring { last, reserved: last.saturating_add(BLOCK), ..Ring::default() };
        let chronicle = Arc::new(Chronicle {
            fields: Fields::new(inventory),
            inventory: Arc::clone(inventory),
            name: Arc::from(name),
            ring: RwLock::new(ring),
            news: broadcast::Sender::new(BEHIND),
        });
        let guard = inventory.observe(Arc::new(Watch(Arc::downgrade(&chronicle))));
        (chronicle, guard)
    }

    /// Whether a VM is changed by the command that makes it: that is no news.
    fn is_making(&self, note: &Note) -> bool {
        let Some(object) = note.object.filter(|_| note.what == "vm.reconfigured") else { return false };
        let Some(credit) = self.inventory.credit(object) else { return false };
        let ring = self.ring.read();
        ring.events.iter().rev().take(LATELY).any(|event| {
            &*event.what == "vm.created"
                && event.object == Some(object)
                && event.record.get(self.fields.command_id).as_str() == Some(&*credit.command)
        })
    }

    /// Records an event now. The names and places of the object it is about are filled in.
    pub fn record(&self, note: Note) -> Entry {
        let schema = self.inventory.schema();
        let message = schema.kind(Kind::Event);
        let f = &self.fields;
        let mut record = message.record();
        let time_ms = self.inventory.clock().now_ms();
        record.set(f.what, note.what);
        record.set(f.time_ms, time_ms);
        if let Some(object) = note.object {
            derive::place(&self.inventory, f, object, &mut record);
            if let Some(credit) = self.inventory.credit(object) {
                record.set(f.principal, &*credit.principal);
                record.set(f.command_id, &*credit.command);
            }
        }
        for (field, value) in note.fields {
            match message.field(field) {
                Some(field) => record.set(field.slot, value),
                None => tracing::error!(field, "an event has no such field"),
            }
        }
        let message = if note.message.is_empty() {
            sentence::of(note.what, &note.detail, f, &record)
        } else {
            note.message
        };
        record.set(f.message, message);
        if record.get(f.severity).is_absent() {
            record.set(f.severity, derive::severity(note.what) as i32);
        }
        let mut ring = self.ring.write();
        ring.last += 1;
        let number = ring.last;
        if let Some(counters) = self.inventory.counters()
            && number.saturating_add(BLOCK / 2) >= ring.reserved
        {
            ring.reserved = ring.reserved.saturating_add(BLOCK);
            counters.reserve(&self.name, ring.reserved);
        }
        record.set(f.number, number);
        let command = record.get(f.command_id).as_str().and_then(|id| id.parse().ok());
        record.set(f.chain, command.map_or(number, |id| CommandId(id).chain()));
        let entry = Entry {
            number,
            time_ms,
            what: Arc::from(note.what),
            object: note.object,
            id: ObjectId::derived(Kind::Event, &[&self.name, &number.to_string()]),
            record: Arc::new(record),
        };
        if ring.events.len() >= KEEP {
            ring.events.pop_front();
        }
        ring.events.push_back(entry.clone());
        // Without subscribers nobody needs to hear; the lock keeps the order.
        drop(self.news.send(entry.clone()));
        entry
    }

    /// The events that pass, oldest first.
    pub fn query(&self, filter: &Filter) -> Vec<Entry> {
        self.ring.read().events.iter().filter(|e| filter.admits(e, self)).cloned().collect()
    }

    /// The newest event.
    pub fn latest(&self) -> Option<Entry> {
        self.ring.read().events.back().cloned()
    }

    /// The event with this number, if it is still kept.
    pub fn get(&self, number: i64) -> Option<Entry> {
        let ring = self.ring.read();
        let first = ring.events.front()?.number;
        ring.events.get(usize::try_from(number - first).ok()?).cloned()
    }

    /// Every event from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Entry> {
        self.news.subscribe()
    }

    /// The inventory it watches.
    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inventory
    }
}

//! Which events a batch of changes tells, and what an event says of its object.

use super::{Fields, Note};
use crate::store::{Change, Inventory};
use std::collections::HashMap;
use union::{
    Kind, ObjectId, Record, Schema, SlotSet, Value,
    pb::{Connection, Operation, PowerState, Severity, TaskState},
};

/// The events of a batch, in its order. What appears together with a new host was there before it was looked at: the host's event
/// counts it, and it has none of its own.
pub(super) fn notes(inventory: &Inventory, changes: &[Change]) -> Vec<Note> {
    let found = Found::new(inventory.schema(), changes);
    let mut out = Vec::new();
    for change in changes {
        let context = Context { schema: inventory.schema(), change };
        match change.id.kind {
            _ if found.covers(inventory.schema(), change) => {}
            Kind::Vm => context.vm(&mut out),
            Kind::Host if change.old.is_none() => out.push(found.host_added(change.id)),
            Kind::Host => context.host(&mut out),
            Kind::Task => context.task(&mut out),
            Kind::Event | Kind::Service | Kind::Session | Kind::Volume => {}
            _ => context.other(&mut out),
        }
    }
    out
}

/// The new hosts of a batch, and how many VMs were found on each.
struct Found(HashMap<ObjectId, usize>);

impl Found {
    fn new(schema: &Schema, changes: &[Change]) -> Found {
        let new = |kind| changes.iter().filter(move |c| c.id.kind == kind && c.old.is_none());
        let mut found = Found(new(Kind::Host).map(|c| (c.id, 0)).collect());
        if !found.0.is_empty() {
            for host in new(Kind::Vm).filter_map(|vm| host_of(schema, vm)) {
                found.0.entry(host).and_modify(|vms| *vms += 1);
            }
        }
        found
    }

    /// Whether an object that appeared was found with a host; a VM elsewhere was not.
    fn covers(&self, schema: &Schema, change: &Change) -> bool {
        let appeared = change.old.is_none() && !self.0.is_empty();
        appeared
            && match change.id.kind {
                Kind::Vm => host_of(schema, change).is_some_and(|host| self.0.contains_key(&host)),
                Kind::Host | Kind::Task => false,
                _ => true,
            }
    }

    fn host_added(&self, host: ObjectId) -> Note {
        let found = match self.0.get(&host) {
            None | Some(0) => String::new(),
            Some(1) => " with 1 VM".to_owned(),
            Some(vms) => format!(" with {vms} VMs"),
        };
        Note { what: "host.added", object: Some(host), detail: found, ..Note::default() }
    }
}

fn host_of(schema: &Schema, vm: &Change) -> Option<ObjectId> {
    vm.new.as_ref()?.get(schema.slot(Kind::Vm, "host_id")?).as_ref_id()
}

struct Context<'a> {
    schema: &'a Schema,
    change: &'a Change,
}

impl Context<'_> {
    fn value<'r>(&self, record: &'r Record, field: &str) -> &'r Value {
        static ABSENT: Value = Value::Absent;
        self.schema.slot(self.change.id.kind, field).map_or(&ABSENT, |slot| record.get(slot))
    }

    fn number(&self, record: &Record, field: &str) -> i64 {
        self.value(record, field).as_int().unwrap_or(0)
    }

    fn moved(&self, field: &str) -> bool {
        let slot = self.schema.slot(self.change.id.kind, field);
        slot.is_some_and(|slot| self.change.changed.contains(slot))
    }

    fn note(&self, what: &'static str) -> Note {
        Note { what, object: Some(self.change.id), ..Note::default() }
    }

    /// What a removed object can no longer say for itself.
    fn farewell(&self, what: &'static str, old: &Record) -> Note {
        let mut note = self.note(what);
        let name = self.value(old, "name").clone();
        note.fields.push(("object_name", name.clone()));
        if self.change.id.kind == Kind::Vm {
            note.fields.push(("vm_id", self.change.id.into()));
            note.fields.push(("vm_name", name));
            for field in ["host_id", "compute_id", "datacenter_id"] {
                note.fields.push((field, self.value(old, field).clone()));
            }
        }
        note
    }

    fn renamed(&self, what: &'static str, old: &Record, new: &Record) -> Note {
        let text = |r| self.value(r, "name").as_str().unwrap_or_default().to_owned();
        let (from, to) = (text(old), text(new));
        let mut note = Note { message: format!("Renamed from {from} to {to}"), ..self.note(what) };
        note.fields.push(("old_name", from.into()));
        note
    }

    /// Whether configuration other than these fields changed.
    fn configured(&self, except: &[&str]) -> bool {
        let message = self.schema.kind(self.change.id.kind);
        let mut left = SlotSet(self.change.changed.0 & !message.runtime.0);
        for field in except.iter().filter_map(|name| message.field(name)) {
            left.0 &= !SlotSet::of(field.slot).0;
        }
        message.fields.iter().any(|f| left.contains(f.slot))
    }

    fn vm(&self, out: &mut Vec<Note>) {
        let (old, new) = match (&self.change.old, &self.change.new) {
            (Some(old), Some(new)) => (old, new),
            (None, Some(_)) if self.change.credit.is_some() => {
                // By a command: it was made. Both are told when it is there, because its name and place are known then.
                return out.extend([self.note("vm.being_created"), self.note("vm.created")]);
            }
            (None, Some(_)) => return out.push(self.note("vm.registered")),
            (Some(old), None) => return out.push(self.farewell("vm.removed", old)),
            (None, None) => return,
        };
        if self.moved("name") {
            out.push(self.renamed("vm.renamed", old, new));
        }
        if self.moved("host_id") {
            out.push(self.note("vm.migrated"));
        }
        if self.configured(VM_PLACE) {
            out.push(self.note("vm.reconfigured"));
        }
        let (was, is) = (self.number(old, "power_state"), self.number(new, "power_state"));
        let (did, does) = (self.number(old, "operation"), self.number(new, "operation"));
        if did != does
            && let Some(what) = begins(does)
        {
            out.push(self.note(what));
        }
        if was != is
            && let Some(what) = turned(was, is)
        {
            out.push(self.note(what));
        }
        if did == num(Operation::Resetting) && did != does && is == RUNNING && was == RUNNING {
            out.push(self.note("vm.reset"));
        }
        if let Some(back) = self.connection(old, new) {
            out.push(self.note(if back { "vm.connected" } else { "vm.disconnected" }));
        }
        if self.moved("trouble") {
            let message = self.value(new, "trouble").as_str().unwrap_or_default().to_owned();
            let what = if message.is_empty() { "vm.trouble_ended" } else { "vm.trouble_began" };
            out.push(Note { message, ..self.note(what) });
        }
    }

    /// Whether the connection came back (true) or was lost (false).
    fn connection(&self, old: &Record, new: &Record) -> Option<bool> {
        let up = |r| {
            let at = self.number(r, "connection");
            at == 0 || at == i64::from(Connection::Connected as i32)
        };
        let (was, is) = (up(old), up(new));
        (was != is).then_some(is)
    }

    fn host(&self, out: &mut Vec<Note>) {
        match (&self.change.old, &self.change.new) {
            (Some(old), None) => out.push(self.farewell("host.removed", old)),
            (Some(old), Some(new)) => {
                if let Some(back) = self.connection(old, new) {
                    out.push(self.note(if back { "host.connected" } else { "host.connection_lost" }));
                }
                if self.moved("maintenance") {
                    let entered = self.value(new, "maintenance").as_bool() == Some(true);
                    let left = self.value(old, "maintenance").as_bool() == Some(true);
                    if entered {
                        out.push(self.note("host.maintenance_entered"));
                    } else if left {
                        out.push(self.note("host.maintenance_left"));
                    }
                }
            }
            (None, _) => {}
        }
    }

    fn task(&self, out: &mut Vec<Note>) {
        let Some(new) = &self.change.new else { return };
        let was = self.change.old.as_ref().map_or(0, |old| self.number(old, "state"));
        let is = self.number(new, "state");
        let what = match is {
            _ if was == is => return,
            _ if is == i64::from(TaskState::Queued as i32) => "task.queued",
            // Its beginning was not heard of.
            _ if was == 0 && is == i64::from(TaskState::Active as i32) => "task.queued",
            _ if is == i64::from(TaskState::Succeeded as i32) => "task.succeeded",
            _ if is == i64::from(TaskState::Failed as i32) => "task.failed",
            _ => return,
        };
        let mut note = Note { what, object: self.value(new, "object_id").as_ref_id(), ..Note::default() };
        for field in ["principal", "command_id", "session_id", "object_name", "method"] {
            note.fields.push((field, self.value(new, field).clone()));
        }
        note.fields.push(("task_id", self.change.id.into()));
        let method = self.value(new, "method").as_str().unwrap_or_default();
        note.message = match self.value(new, "message").as_str() {
            Some(why) if what == "task.failed" => format!("{method}: {why}"),
            _ => method.to_owned(),
        };
        out.push(note);
    }

    fn other(&self, out: &mut Vec<Note>) {
        let words = match self.change.id.kind {
            Kind::Network => NETWORK,
            Kind::StoragePool => STORAGE_POOL,
            Kind::Cluster => CLUSTER,
            Kind::Folder => FOLDER,
            Kind::Datacenter => DATACENTER,
            Kind::ResourcePool => RESOURCE_POOL,
            _ => SNAPSHOT,
        };
        let [created, removed, renamed, reconfigured] = words;
        match (&self.change.old, &self.change.new) {
            (None, Some(_)) => out.push(self.note(created)),
            (Some(old), None) => out.push(self.farewell(removed, old)),
            (Some(old), Some(new)) => {
                if self.moved("name") {
                    out.push(self.renamed(renamed, old, new));
                }
                if self.configured(PLACE) {
                    out.push(self.note(reconfigured));
                }
            }
            (None, None) => {}
        }
    }
}

const NETWORK: [&str; 4] = ["network.created", "network.removed", "network.renamed", "network.reconfigured"];
const STORAGE_POOL: [&str; 4] =
    ["storage_pool.created", "storage_pool.removed", "storage_pool.renamed", "storage_pool.reconfigured"];
const CLUSTER: [&str; 4] = ["cluster.created", "cluster.removed", "cluster.renamed", "cluster.reconfigured"];
const FOLDER: [&str; 4] = ["folder.created", "folder.removed", "folder.renamed", "folder.reconfigured"];
const DATACENTER: [&str; 4] =
    ["datacenter.created", "datacenter.removed", "datacenter.renamed", "datacenter.reconfigured"];
const RESOURCE_POOL: [&str; 4] =
    ["resource_pool.created", "resource_pool.removed", "resource_pool.renamed", "resource_pool.reconfigured"];
const SNAPSHOT: [&str; 4] =
    ["snapshot.created", "snapshot.removed", "snapshot.renamed", "snapshot.reconfigured"];

/// Configuration of a VM that is its place, its stamps or a figure, not a reconfiguration.
const VM_PLACE: &[&str] = &[
    "name",
    "host_id",
    "compute_id",
    "resource_pool_id",
    "folder_id",
    "datacenter_id",
    "change_version",
    "modified_ms",
    "created_ms",
    "storage_used_bytes",
    "storage_provisioned_bytes",
    "snapshots",
    "current_snapshot_id",
    "home_pool_id",
];

/// The same of other kinds.
const PLACE: &[&str] = &[
    "name",
    "folder_id",
    "datacenter_id",
    "parent_id",
    "owner_id",
    "host_ids",
    "network_ids",
    "storage_pool_ids",
    "resource_pool_id",
    "host_count",
    "cpu_cores",
    "cpu_threads",
    "cpu_mhz",
    "memory_bytes",
    "capacity_bytes",
    "allocation_bytes",
    "available_bytes",
    "child_ids",
    "current",
];

const RUNNING: i64 = PowerState::Running as i64;

fn num(operation: Operation) -> i64 {
    i64::from(operation as i32)
}

fn begins(operation: i64) -> Option<&'static str> {
    Some(match Operation::try_from(i32::try_from(operation).ok()?).ok()? {
        Operation::Starting => "vm.starting",
        Operation::Stopping => "vm.stopping",
        Operation::Suspending => "vm.suspending",
        Operation::Resetting => "vm.resetting",
        Operation::ShuttingDown => "vm.guest_shutdown",
        Operation::Rebooting => "vm.guest_reboot",
        _ => return None,
    })
}

fn turned(was: i64, is: i64) -> Option<&'static str> {
    let state = |n: i64| i32::try_from(n).ok().and_then(|n| PowerState::try_from(n).ok());
    let was = state(was).unwrap_or(PowerState::Unspecified);
    Some(match state(is)? {
        PowerState::Running if matches!(was, PowerState::Suspended | PowerState::Paused) => "vm.resumed",
        PowerState::Running => "vm.powered_on",
        PowerState::Stopped => "vm.powered_off",
        PowerState::Suspended => "vm.suspended",
        PowerState::Paused => "vm.paused",
        PowerState::Crashed => "vm.crashed",
        PowerState::Unspecified => return None,
    })
}

/// How much an event matters.
pub(super) fn severity(what: &str) -> Severity {
    match what {
        "vm.crashed" | "vm.trouble_began" | "host.connection_lost" | "task.failed" => Severity::Error,
        "vm.disconnected" | "session.login_failed" | "mapping.gap" => Severity::Warning,
        _ => Severity::Info,
    }
}

/// Writes the object's name and place into an event.
pub(super) fn place(inventory: &Inventory, f: &Fields, id: ObjectId, event: &mut Record) {
    event.set(f.object_id, id);
    let Some(object) = inventory.record(id) else { return };
    let schema = inventory.schema();
    let name = |id: ObjectId, record: &Record| {
        schema.slot(id.kind, "name").map_or(Value::Absent, |slot| record.get(slot).clone())
    };
    event.set(f.object_name, name(id, &object));
    if id.kind == Kind::Vm {
        event.set(
            f.template,
            schema.slot(Kind::Vm, "template").map_or(Value::Absent, |s| object.get(s).clone()),
        );
    }
    let refers = |field: &str, kind: Kind| {
        if id.kind == kind {
            return Some(id);
        }
        object.get(schema.slot(id.kind, field)?).as_ref_id()
    };
    for (field, kind, to, to_name) in [
        ("vm_id", Kind::Vm, f.vm_id, f.vm_name),
        ("host_id", Kind::Host, f.host_id, f.host_name),
        ("compute_id", Kind::Cluster, f.compute_id, f.compute_name),
        ("datacenter_id", Kind::Datacenter, f.datacenter_id, f.datacenter_name),
    ] {
        if let Some(other) = refers(field, kind) {
            event.set(to, other);
            if let Some(record) = inventory.record(other) {
                event.set(to_name, name(other, &record));
            }
        }
    }
}

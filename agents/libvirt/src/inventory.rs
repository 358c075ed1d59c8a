//! libvirt's facts as the union's: what the calls of [`crate::native::api`] answered, lifted into records.
//!
//! ```text
//! host      node, capabilities, SMBIOS        -> Host
//! network   network documents, plain bridges  -> Network
//! pool      pool and volume documents         -> StoragePool, Volume
//! domain    domain documents through the mapping rows, state, surroundings -> Vm
//! snapshot  snapshot documents                -> Snapshot, and the tree in the Vm
//! stats     counters                          -> usage of Host and Vm
//! ```
//! Pure: nothing here asks libvirt anything.
//!
//! Ids: a VM's is its uuid. The ids of the host and of what belongs to it derive from the target's name, the host's name and the driver,
//! then from the object's own uuid or key: a host's uuid is a random one at each start of a libvirtd that may not read the SMBIOS, and
//! networks and pools of cloned hosts share theirs.

pub mod domain;
pub mod host;
pub mod network;
pub mod pool;
pub mod snapshot;
pub mod stats;

use union::{Kind, ObjectId, Record, Schema, Slot, SlotSet, Value};
use uuid::Uuid;
use wire::{
    limits::XmlLimits,
    xml::{self, Document, Element, XmlError},
};

/// Makes the ids of one libvirt's objects.
#[derive(Clone, Debug)]
pub struct Names {
    host: ObjectId,
    text: String,
}

impl Names {
    /// For the libvirt that the configuration calls `target`, on the host of this name, opened as `driver` (for example
    /// `qemu:///system`).
    pub fn new(target: &str, hostname: &str, driver: &str) -> Names {
        let host = ObjectId::derived(Kind::Host, &["libvirt", target, hostname, driver]);
        Names { host, text: host.uuid.to_string() }
    }

    /// The host.
    pub fn host(&self) -> ObjectId {
        self.host
    }

    /// A domain.
    pub fn vm(&self, uuid: Uuid) -> ObjectId {
        ObjectId::new(Kind::Vm, uuid)
    }

    /// A network.
    pub fn network(&self, uuid: Uuid) -> ObjectId {
        ObjectId::derived(Kind::Network, &[&self.text, &uuid.to_string()])
    }

    /// A bridge of the host that is no libvirt network.
    pub fn bridge(&self, name: &str) -> ObjectId {
        ObjectId::derived(Kind::Network, &[&self.text, "bridge", name])
    }

    /// A pool.
    pub fn pool(&self, uuid: Uuid) -> ObjectId {
        ObjectId::derived(Kind::StoragePool, &[&self.text, &uuid.to_string()])
    }

    /// A volume.
    pub fn volume(&self, pool: Uuid, key: &str) -> ObjectId {
        ObjectId::derived(Kind::Volume, &[&self.text, &pool.to_string(), key])
    }

    /// A snapshot.
    pub fn snapshot(&self, vm: Uuid, name: &str) -> ObjectId {
        ObjectId::derived(Kind::Snapshot, &[&vm.to_string(), name])
    }
}

/// What a document of libvirt's may hold: domains with hundreds of devices, capabilities of large hosts.
const DOCUMENT: XmlLimits = XmlLimits {
    bytes: 8 << 20,
    depth: 64,
    elements: 100_000,
    attributes: 128,
    total_attributes: 400_000,
    name: 256,
    value: 64 << 10,
    text: 2 << 20,
    namespaces: 64,
};

/// Reads a document of libvirt's.
///
/// # Errors
/// It is not well-formed, or beyond the limits.
pub fn document(text: &str) -> Result<Document, XmlError> {
    xml::parse(text, &DOCUMENT)
}

/// The element at a path of names, for example `host/cpu/model`.
pub(crate) fn at<'d>(from: Element<'d>, path: &str) -> Option<Element<'d>> {
    path.split('/').try_fold(from, |element, name| element.child(name))
}

/// The text at a path of names, if there is any.
pub(crate) fn text_at<'d>(from: Element<'d>, path: &str) -> Option<&'d str> {
    at(from, path).map(|e| e.text().trim()).filter(|text| !text.is_empty())
}

/// The value of a record's field.
pub(crate) fn get<'r>(schema: &Schema, record: &'r Record, field: &str) -> &'r Value {
    static ABSENT: Value = Value::Absent;
    let slot = schema.get(record.message()).and_then(|m| m.field(field)).map(|f| f.slot);
    slot.map_or(&ABSENT, |slot| record.get(slot))
}

/// Sets a record's field. A field that the message does not have is a mistake in this crate and shows in the log.
pub(crate) fn set(schema: &Schema, record: &mut Record, field: &str, value: impl Into<Value>) {
    match schema.get(record.message()).and_then(|m| m.field(field)).map(|f| f.slot) {
        Some(slot) => record.set(slot, value),
        None => tracing::error!(field, "the union has no such field"),
    }
}

/// Sets it if it is absent.
pub(crate) fn set_default(schema: &Schema, record: &mut Record, field: &str, value: impl Into<Value>) {
    if get(schema, record, field).is_absent() {
        set(schema, record, field, value);
    }
}

/// An empty part, for example a `Nic`.
pub(crate) fn part(schema: &Schema, message: &str) -> Record {
    match schema.message(message) {
        Some(message) => message.record(),
        None => {
            tracing::error!(message, "the union has no such part");
            Record::new(union::MessageId(u16::MAX), 0)
        }
    }
}

/// The fields of a kind that libvirt's facts fill: all but those that the broker and its views keep, and but `except`.
pub fn owned(schema: &Schema, kind: Kind, except: &[&str]) -> SlotSet {
    const BROKERS: &[&str] =
        &["operation", "recent_task_ids", "compute_id", "resource_pool_id", "folder_id", "datacenter_id"];
    // libvirt keeps no times of a domain's own; those of snapshots and volumes are its.
    const OF_VMS: &[&str] = &["change_version", "modified_ms", "created_ms"];
    let fields = schema.kind(kind).fields.iter();
    let kept: &[&str] = if kind == Kind::Vm { OF_VMS } else { &[] };
    let mine =
        fields.filter(|f| ![BROKERS, kept, except].iter().any(|names| names.contains(&f.name.as_str())));
    mine.fold(SlotSet::EMPTY, |mut set, field| {
        set.insert(field.slot);
        set
    })
}

/// A slot that the schema surely has.
pub(crate) fn slot(schema: &Schema, kind: Kind, field: &str) -> Option<Slot> {
    let found = schema.slot(kind, field);
    if found.is_none() {
        tracing::error!(%kind, field, "the union has no such field");
    }
    found
}

//! Object ids: a kind and a uuid, written `<kind>:<uuid>`.

use std::{fmt, str::FromStr};
use uuid::Uuid;

/// Names the union's kinds of object once; every list of kinds is generated from here.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $text:literal,)*) => {
        /// A kind of union object; each has a protobuf message of the same name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        impl Kind {
            /// All kinds, in the order of their declaration.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind,)*];

            /// The name of the kind's protobuf message, for example `StoragePool`.
            pub fn message(self) -> &'static str {
                match self { $(Kind::$kind => stringify!($kind),)* }
            }

            /// The word in ids and bus subjects, for example `storage_pool`.
            pub fn word(self) -> &'static str {
                match self { $(Kind::$kind => $text,)* }
            }

            /// The kind whose protobuf message is called `name`.
            pub fn from_message(name: &str) -> Option<Kind> {
                match name { $(stringify!($kind) => Some(Kind::$kind),)* _ => None }
            }

            /// The kind written `word` in ids.
            pub fn from_word(word: &str) -> Option<Kind> {
                match word { $($text => Some(Kind::$kind),)* _ => None }
            }
        }
    };
}

kinds! {
    /// A virtual machine.
    Vm = "vm",
    /// A machine that runs VMs.
    Host = "host",
    /// Hosts that VMs are placed on.
    Cluster = "cluster",
    /// A folder of the inventory tree.
    Folder = "folder",
    /// The part of the tree that shares networks and storage.
    Datacenter = "datacenter",
    /// A share of a cluster's CPU and memory.
    ResourcePool = "resource_pool",
    /// A network that VMs attach to.
    Network = "network",
    /// A place where disks lie.
    StoragePool = "storage_pool",
    /// One disk image in a storage pool.
    Volume = "volume",
    /// A snapshot of a VM.
    Snapshot = "snapshot",
    /// A command as its caller watches it.
    Task = "task",
    /// A fact that happened.
    Event = "event",
    /// What a front says of itself.
    Service = "service",
    /// A login.
    Session = "session",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The union id of one object. A VM's uuid is the one its guest sees; ids of other objects derive from their target and native id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// What it is.
    pub kind: Kind,
    /// Which one.
    pub uuid: Uuid,
}

impl ObjectId {
    /// The id of the `kind` object with this uuid.
    pub const fn new(kind: Kind, uuid: Uuid) -> ObjectId {
        ObjectId { kind, uuid }
    }

    /// A stable id for an object that has no uuid of its own: UUIDv5 over the parts, which together must name it for ever.
    pub fn derived(kind: Kind, parts: &[&str]) -> ObjectId {
        let mut name = String::from(kind.word());
        for part in parts {
            name.push('\u{1f}');
            name.push_str(part);
        }
        ObjectId::new(kind, Uuid::new_v5(&NAMESPACE, name.as_bytes()))
    }
}

/// The UUIDv5 namespace of derived ids; changing it would fork every id.
const NAMESPACE: Uuid = Uuid::from_u128(0x9d3b_55a8_3c1e_4f63_8a52_71d0_6c2f_90e4);

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.uuid)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `<kind>:<uuid>`.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "`{0}` is not an object id: expected `<kind>:<uuid>`, for example `vm:4c4c4544-0042-3510-8054-b7c04f4a5331`"
)]
pub struct BadObjectId(pub String);

impl FromStr for ObjectId {
    type Err = BadObjectId;

    fn from_str(text: &str) -> Result<ObjectId, BadObjectId> {
        let bad = || BadObjectId(text.to_owned());
        let (kind, uuid) = text.split_once(':').ok_or_else(bad)?;
        let kind = Kind::from_word(kind).ok_or_else(bad)?;
        Ok(ObjectId::new(kind, Uuid::try_parse(uuid).map_err(|_| bad())?))
    }
}

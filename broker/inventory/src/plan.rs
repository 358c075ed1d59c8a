//! Records for the parts of the tree that a target or a file names itself: datacenters, folders, clusters, pools. A view shows those as
//! they are and makes its own only for what they leave without a place.
//!
//! Ids derive from the owner (the target's name) and the path of names, so the same file gives the same ids.

use crate::layout::Skeleton;
use union::{Kind, ObjectId, Record, Schema, Value, pb::FolderKind};

/// A record being filled by field name. A name that the kind does not have is a mistake of the caller's and shows in the log.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    schema: &'a Schema,
    kind: Kind,
    record: Record,
}

impl<'a> Draft<'a> {
    /// An empty record of a kind.
    pub fn new(schema: &'a Schema, kind: Kind) -> Draft<'a> {
        Draft { schema, kind, record: schema.kind(kind).record() }
    }

    /// Goes on from a record of this kind.
    pub fn of(schema: &'a Schema, kind: Kind, record: Record) -> Draft<'a> {
        Draft { schema, kind, record }
    }

    /// Sets a field.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Draft<'a> {
        match self.schema.slot(self.kind, field) {
            Some(slot) => self.record.set(slot, value),
            None => tracing::error!(kind = %self.kind, field, "the union has no such field"),
        }
        self
    }

    /// The record.
    pub fn done(self) -> Record {
        self.record
    }
}

/// A list of references.
pub fn refs(ids: impl IntoIterator<Item = ObjectId>) -> Value {
    Value::list(ids.into_iter().map(Value::Ref))
}

/// The objects of a datacenter: itself and its four folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datacenter {
    /// Itself.
    pub id: ObjectId,
    /// For VMs.
    pub vm: ObjectId,
    /// For hosts and clusters.
    pub host: ObjectId,
    /// For storage pools.
    pub storage: ObjectId,
    /// For networks.
    pub network: ObjectId,
}

impl Datacenter {
    /// The ids of the datacenter that `owner` calls `name`.
    pub fn ids(owner: &str, name: &str) -> Datacenter {
        let folder = |which| ObjectId::derived(Kind::Folder, &[owner, name, "datacenter", which]);
        Datacenter {
            id: ObjectId::derived(Kind::Datacenter, &[owner, name]),
            vm: folder("vm"),
            host: folder("host"),
            storage: folder("storage"),
            network: folder("network"),
        }
    }

    /// Its records; `parent` is the folder it lies in, unset for the root.
    pub fn records(
        &self,
        schema: &Schema,
        name: &str,
        parent: Option<ObjectId>,
        names: &Skeleton,
    ) -> Vec<(ObjectId, Record)> {
        let datacenter = Draft::new(schema, Kind::Datacenter)
            .with("name", name)
            .with("folder_id", parent)
            .with("vm_folder_id", self.vm)
            .with("host_folder_id", self.host)
            .with("storage_folder_id", self.storage)
            .with("network_folder_id", self.network)
            .done();
        let mut out = vec![(self.id, datacenter)];
        for (id, name, kind) in [
            (self.vm, &names.vm, FolderKind::FolderVm),
            (self.host, &names.host, FolderKind::FolderHost),
            (self.storage, &names.storage, FolderKind::FolderStorage),
            (self.network, &names.network, FolderKind::FolderNetwork),
        ] {
            out.push((id, folder(schema, name, kind, Some(self.id), Some(self.id))));
        }
        out
    }
}

/// A folder's record.
pub fn folder(
    schema: &Schema,
    name: &str,
    kind: FolderKind,
    parent: Option<ObjectId>,
    datacenter: Option<ObjectId>,
) -> Record {
    Draft::new(schema, Kind::Folder)
        .with("name", name)
        .with("kind", kind as i32)
        .with("parent_id", parent)
        .with("datacenter_id", datacenter)
        .done()
}

/// A cluster's record; what it has of CPU and memory is added up by the view. Its root pool is the view's too unless
/// `resource_pool_id` names one.
pub fn cluster(schema: &Schema, name: &str, folder: ObjectId, datacenter: ObjectId) -> Record {
    Draft::new(schema, Kind::Cluster)
        .with("name", name)
        .with("standalone", false)
        .with("folder_id", folder)
        .with("datacenter_id", datacenter)
        .done()
}

/// A resource pool's record.
pub fn pool(schema: &Schema, name: &str, parent: ObjectId, cluster: ObjectId) -> Record {
    Draft::new(schema, Kind::ResourcePool)
        .with("name", name)
        .with("parent_id", parent)
        .with("owner_id", cluster)
        .done()
}

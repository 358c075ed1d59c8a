//! Where objects hang, as scopes and folder rules see it: the fleet view's tree.

use inventory::{Inventory, View};
use std::sync::Arc;
use union::{Kind, ObjectId, Record, Value};

/// The tree of the fleet view.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    view: Arc<View>,
}

/// The fields that name what an object hangs below, by kind.
fn upward(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Vm => &["folder_id", "host_id", "resource_pool_id", "compute_id", "datacenter_id"],
        Kind::Host => &["compute_id", "datacenter_id"],
        Kind::Cluster | Kind::Network | Kind::StoragePool => &["folder_id", "datacenter_id"],
        Kind::Folder => &["parent_id"],
        Kind::Datacenter => &["folder_id"],
        Kind::ResourcePool => &["parent_id", "owner_id"],
        Kind::Volume => &["storage_pool_id"],
        Kind::Snapshot => &["vm_id"],
        Kind::Task => &["object_id"],
        Kind::Event | Kind::Service | Kind::Session => &[],
    }
}

impl guard::Tree for Tree {
    fn parents(&self, id: ObjectId, out: &mut Vec<ObjectId>) {
        if let Some(record) = self.record(id) {
            out.extend(
                upward(id.kind).iter().filter_map(|field| self.field(id.kind, &record, field).as_ref_id()),
            );
        }
    }
}

impl Tree {
    pub fn new(view: Arc<View>) -> Tree {
        Tree { view }
    }

    /// The view.
    pub fn view(&self) -> &View {
        &self.view
    }

    fn inventory(&self) -> &Inventory {
        self.view.inventory()
    }

    /// An object as the view shows it.
    pub fn record(&self, id: ObjectId) -> Option<Arc<Record>> {
        self.inventory().record(id)
    }

    /// A field by name; absent where the kind has none.
    pub fn field(&self, kind: Kind, record: &Record, name: &str) -> Value {
        self.inventory().schema().slot(kind, name).map_or(Value::Absent, |slot| record.get(slot).clone())
    }

    /// A field of an object.
    pub fn get(&self, id: ObjectId, name: &str) -> Value {
        self.record(id).map_or(Value::Absent, |record| self.field(id.kind, &record, name))
    }

    /// The objects of `kind` that name `to` in `field`.
    pub fn referring(&self, kind: Kind, field: &str, to: ObjectId) -> Vec<ObjectId> {
        let mut out = Vec::new();
        if let Some(slot) = self.inventory().schema().slot(kind, field) {
            self.inventory().referring(kind, slot, to, &mut out);
        }
        out
    }

    /// Folders and VMs that lie in a folder.
    pub fn children(&self, folder: ObjectId) -> Vec<ObjectId> {
        let mut out = self.referring(Kind::Folder, "parent_id", folder);
        out.extend(self.referring(Kind::Vm, "folder_id", folder));
        out
    }

    /// What of this name lies in a folder, apart from `except`.
    pub fn named(&self, folder: ObjectId, name: &str, except: Option<ObjectId>) -> Option<ObjectId> {
        let mut children = self.children(folder).into_iter();
        children.find(|id| Some(*id) != except && self.get(*id, "name").as_str() == Some(name))
    }

    /// Whether `id` is `above` or lies below it.
    pub fn is_below(&self, id: ObjectId, above: ObjectId) -> bool {
        let (mut at, mut steps) = (Some(id), 0);
        while let Some(id) = at {
            if id == above {
                return true;
            }
            steps += 1;
            at =
                upward(id.kind).first().and_then(|f| self.get(id, f).as_ref_id()).filter(|_| steps < DEEPEST);
        }
        false
    }

    /// How many folders lie above a folder.
    pub fn depth(&self, folder: ObjectId) -> usize {
        let (mut at, mut depth) = (folder, 0);
        while let Some(parent) = self.get(at, "parent_id").as_ref_id().filter(|_| depth < DEEPEST) {
            (at, depth) = (parent, depth + 1);
        }
        depth
    }
}

/// Folders may lie this deep.
pub(crate) const DEEPEST: usize = 64;

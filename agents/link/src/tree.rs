//! Where objects hang, by their facts: what an owner looks at when it checks a grant.

use guard::Tree;
use inventory::Inventory;
use std::sync::Arc;
use union::ObjectId;

/// The fields by which a union object names what it hangs in.
const UP: &[&str] = &[
    "parent_id",
    "folder_id",
    "host_id",
    "compute_id",
    "owner_id",
    "resource_pool_id",
    "datacenter_id",
    "storage_pool_id",
    "vm_id",
];

/// The tree of an inventory's facts.
#[derive(Clone, Debug)]
pub struct FactsTree(pub Arc<Inventory>);

impl Tree for FactsTree {
    fn parents(&self, id: ObjectId, out: &mut Vec<ObjectId>) {
        let Some(record) = self.0.record(id) else { return };
        let message = self.0.schema().kind(id.kind);
        let slots = UP.iter().filter_map(|name| message.field(name));
        out.extend(slots.flat_map(|field| record.get(field.slot).refs().collect::<Vec<_>>()));
    }
}

//! The last look before a volume is deleted: a VM may have taken it since the plan was made.

use inventory::Inventory;
use lane::{NativeCall, rules::Facts};
use mapping::sharing::Sharing;
use union::{Kind, ObjectId, Value};

/// Whether a call would delete, with `vm`, a volume that another VM of this agent shows by now. Then it is not made, and the volume stays.
pub(super) fn is_deleted_for_others(inventory: &Inventory, vm: ObjectId, call: &NativeCall) -> bool {
    if &*call.call != "StorageVolDelete" || vm.kind != Kind::Vm {
        return false;
    }
    let volume =
        call.args.iter().find(|(name, _)| **name == *"vol").and_then(|(_, value)| Value::as_ref_id(value));
    let Some(volume) = volume else { return false };
    let shown = Sharing::new(inventory.schema())
        .is_none_or(|sharing| sharing.volume_elsewhere(&Facts(inventory), vm, volume));
    if shown {
        tracing::warn!(%vm, %volume, "a volume of a removed VM stays: another VM shows it");
    }
    shown
}

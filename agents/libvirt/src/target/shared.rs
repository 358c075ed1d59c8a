//! The last look before a volume is deleted: a VM may have taken it since the plan was made.

use inventory::Inventory;
use lane::NativeCall;
use mapping::{NativeRef, Reader, sharing::Sharing};
use std::sync::Arc;
use union::{Kind, ObjectId, Record, Slot, Value};

struct Around<'a>(&'a Inventory);

impl Reader for Around<'_> {
    fn object(&self, id: ObjectId) -> Option<Arc<Record>> {
        self.0.record(id)
    }

    fn referring(&self, kind: Kind, slot: Slot, to: ObjectId, out: &mut Vec<ObjectId>) {
        self.0.referring(kind, slot, to, out);
    }

    fn every(&self, kind: Kind) -> Option<Vec<ObjectId>> {
        Some(self.0.ids(kind))
    }

    fn native_ref(&self, _: ObjectId) -> Option<NativeRef> {
        None
    }

    fn view(&self) -> &str {
        ""
    }
}

/// Whether a call would delete, with `vm`, a volume that another VM of this agent shows by now. Then it is not made, and the volume stays.
pub(super) fn is_deleted_for_others(inventory: &Inventory, vm: ObjectId, call: &NativeCall) -> bool {
    if &*call.call != "StorageVolDelete" || vm.kind != Kind::Vm {
        return false;
    }
    let volume =
        call.args.iter().find(|(name, _)| **name == *"vol").and_then(|(_, value)| Value::as_ref_id(value));
    let Some(volume) = volume else { return false };
    let shown = Sharing::new(inventory.schema())
        .is_none_or(|sharing| sharing.volume_elsewhere(&Around(inventory), vm, volume));
    if shown {
        tracing::warn!(%vm, %volume, "a volume of a removed VM stays: another VM shows it");
    }
    shown
}

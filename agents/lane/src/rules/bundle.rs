//! The rules as a mapping bundle has them.

use super::Rules;
use crate::queue::Conflict;
use inventory::Inventory;
use mapping::{Bundle, NativeRef, Reader};
use parking_lot::RwLock;
use std::sync::Arc;
use union::{
    Command, Kind, ObjectId, Origin, Plan, Record, Slot, SlotSet,
    command::{Cause, Code},
};

/// A bundle's conflict tables, guards and effects.
#[derive(Debug)]
pub struct BundleRules {
    bundle: RwLock<Arc<Bundle>>,
}

impl BundleRules {
    /// The rules of `bundle`.
    pub fn new(bundle: Arc<Bundle>) -> BundleRules {
        BundleRules { bundle: RwLock::new(bundle) }
    }

    /// From now on the rules are those of `bundle`; a command that has been lowered goes on with its calls.
    pub fn swap(&self, bundle: Arc<Bundle>) {
        *self.bundle.write() = bundle;
    }

    /// The bundle whose rules these are.
    pub fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.bundle.read())
    }
}

/// The facts of an inventory, without the words of any protocol: guards and effects speak of union fields.
#[derive(Debug)]
pub struct Facts<'a>(pub &'a Inventory);

impl Reader for Facts<'_> {
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

impl Rules for BundleRules {
    fn conflict(&self, origin: &Origin, running: &str, arriving: &str) -> Conflict {
        let bundle = self.bundle();
        let Some(protocol) = bundle.protocol(&origin.protocol) else { return Conflict::Queue };
        match protocol.conflict(running, arriving) {
            mapping::Conflict::Queue => Conflict::Queue,
            mapping::Conflict::Refuse { fault } => Conflict::Refuse(fault),
            mapping::Conflict::Overtake => Conflict::Overtake,
            mapping::Conflict::Satisfied => Conflict::Satisfied,
        }
    }

    fn guard(&self, command: &Command, object: &Record, around: &Inventory) -> Result<(), Cause> {
        let bundle = self.bundle();
        let protocol = bundle.protocol(&command.origin.protocol);
        match protocol.and_then(|p| p.command_to(&command.origin.method, &command.verb)) {
            Some(map) => map.guard(&command.body, object, &Facts(around)),
            None => Ok(()),
        }
    }

    fn lower(
        &self,
        protocol: &str,
        command: &Command,
        object: &Record,
        around: &Inventory,
    ) -> Result<Plan, Cause> {
        let bundle = self.bundle();
        let effect = bundle.protocol(protocol).and_then(|p| p.effect(&command.verb)).ok_or_else(|| {
            Cause::new(Code::NotSupported, format!("{protocol} has no way to do {}", command.verb))
        })?;
        let plan = effect.plan(&command.body, command.object, object, &Facts(around))?;
        Ok(Plan { bundle: Arc::from(&*bundle.hash), ..plan })
    }

    fn expected(
        &self,
        protocol: &str,
        command: &Command,
        object: &Record,
        around: &Inventory,
    ) -> Option<bool> {
        let bundle = self.bundle();
        let effect = bundle.protocol(protocol)?.effect(&command.verb)?;
        effect.expect(&command.body, object, &Facts(around))
    }

    fn compared(&self, protocol: &str, command: &Command) -> SlotSet {
        let bundle = self.bundle();
        let effect = bundle.protocol(protocol).and_then(|p| p.effect(&command.verb));
        effect.map_or(SlotSet::EMPTY, |effect| effect.expected_of())
    }
}

//! Planning: who performs a command, and what it comes down to there.
//!
//! A plan is made from the facts as the owner has them. What the broker itself keeps, or arranges, is not the owner's to compare: such
//! reads are taken out of the read-set, and the [turn](crate::engine::Engine::own_turn) of the object keeps them from changing.
//!
//! The fleet's facts may be a moment behind an owner's. So what a guard says of them is for the owner to say, which looks again when it is
//! the command's turn; the engine refuses only by what is its own word (folders, and fields that the broker keeps), or where nothing can
//! be planned.

use crate::{
    engine::Engine,
    placement::{Placed, argument},
};
use inventory::{Inventory, fleet::Holder, layout::Role};
use mapping::{NativeRef, Reader};
use std::sync::Arc;
use union::{
    Command, Kind, ObjectId, Plan, Record, Slot, Value,
    command::{Cause, Code},
    plan::OwnFact,
};

/// The field by which management servers know a VM.
const KNOWN_BY: &str = "instance_uuid";

/// A command, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// As it is sent.
    pub command: Command,
    /// To whom.
    pub holder: Holder,
    /// What to do; `None`: the owner lowers it.
    pub plan: Option<Plan>,
    /// The facts it was made from.
    pub seen: Option<Arc<Record>>,
}

/// The fleet's facts, in no protocol's words.
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

impl Engine {
    /// What a command comes down to.
    ///
    /// # Errors
    /// The cause by which it is refused: nothing was done.
    pub(crate) fn prepare(&self, command: &Command, bundle: &str) -> Result<Prepared, Cause> {
        let facts = self.deps.facts.inventory();
        if let Some(why) = self.deps.facts.contested(command.object) {
            return Err(Cause::new(Code::InvalidState, why));
        }
        let guarded = self.guarded(command, bundle);
        if let Err(cause) = &guarded
            && self.is_our_word(command, bundle)
        {
            return Err(cause.clone());
        }
        self.names_are_free(command).map_err(|cause| guarded.clone().err().unwrap_or(cause))?;
        let (command, holder) = if command.object.kind == Kind::Folder {
            let Placed { command, holder, .. } = self.place(command)?;
            (command, holder)
        } else {
            let holder = self.deps.facts.holder(command.object).ok_or_else(|| {
                let message = format!("no agent holds {}; it may have been removed", command.object);
                Cause::new(Code::NotFound, message)
            })?;
            (command.clone(), holder)
        };
        let record = if command.object.kind == Kind::Folder {
            self.tree.record(command.object)
        } else {
            facts.record(command.object)
        };
        let record =
            record.ok_or_else(|| Cause::new(Code::NotFound, format!("{} is not there", command.object)))?;
        let bundle = self.deps.bundles.get(bundle);
        let effect =
            bundle.protocol(&holder.protocol).and_then(|p| p.effect(&command.verb)).ok_or_else(|| {
                let message = format!("{} has no way to do {}", holder.protocol, command.verb);
                Cause::new(Code::NotSupported, message)
            })?;
        if !effect.needs_engine() {
            return Ok(Prepared { command, holder, plan: None, seen: Some(record) });
        }
        let plan = effect.plan(&command.body, command.object, &record, &Around(facts));
        // The words of the protocol that asked say it better than the target's.
        let mut plan = plan.map_err(|cause| guarded.err().unwrap_or(cause))?;
        plan.bundle = Arc::from(&*bundle.hash);
        self.complete(&command, &mut plan);
        self.known_once(&plan)?;
        Ok(Prepared { command, holder, plan: Some(plan), seen: Some(record) })
    }

    /// What the protocol that asked forbids, in its own words. The owner looks again when it is the command's turn.
    pub(crate) fn guarded(&self, command: &Command, bundle: &str) -> Result<(), Cause> {
        let Some(record) = self.tree.record(command.object) else { return Ok(()) };
        self.guarded_as(command, bundle, &record)
    }

    /// Whether a guard that says no says it of what the broker keeps, so that no owner knows better.
    fn is_our_word(&self, command: &Command, bundle: &str) -> bool {
        let object = command.object;
        let Some(record) = self.tree.record(object) else { return true };
        if object.kind == Kind::Folder {
            return true;
        }
        let mut theirs = Record::clone(&record);
        for field in self.own.fields(object) {
            if let Some(slot) = self.schema().slot(object.kind, &field) {
                theirs.set(slot, Value::Absent);
            }
        }
        self.guarded_as(command, bundle, &theirs).is_ok()
    }

    fn guarded_as(&self, command: &Command, bundle: &str, record: &Record) -> Result<(), Cause> {
        let bundle = self.deps.bundles.get(bundle);
        let asked = bundle.protocol(&command.origin.protocol);
        let map = asked.and_then(|p| p.command_to(&command.origin.method, &command.verb));
        map.map_or(Ok(()), |map| map.guard(&command.body, record, &Around(self.deps.facts.inventory())))
    }

    /// What only the broker knows of a plan.
    fn complete(&self, command: &Command, plan: &mut Plan) {
        let ours = |object: ObjectId, field: &str| {
            object.kind == Kind::Folder
                || self.own.keeps(object, field)
                || plan.own.iter().any(|own| own.object == object && *own.field == *field)
        };
        let reads = std::mem::take(&mut plan.reads);
        plan.reads = reads.into_iter().filter(|read| !ours(read.object, &read.field)).collect();
        // A new VM lies where it was made; the view's own folder of VMs is where it lies anyway.
        if let Some(made) = plan.appears.filter(|made| made.kind == Kind::Vm)
            && command.object.kind == Kind::Folder
            && self.tree.view().role(command.object) != Some(Role::VmFolder)
            && !plan.own.iter().any(|own| own.object == made && &*own.field == "folder_id")
        {
            let value = Value::Ref(command.object);
            plan.own.push(OwnFact { object: made, field: Arc::from("folder_id"), value });
        }
    }

    /// What management servers know a VM by is one VM's.
    fn known_once(&self, plan: &Plan) -> Result<(), Cause> {
        let inventory = self.deps.facts.inventory();
        let field = inventory.schema().slot(Kind::Vm, KNOWN_BY);
        for own in plan.own.iter().filter(|own| own.object.kind == Kind::Vm && *own.field == *KNOWN_BY) {
            let (Some(field), Some(uuid)) = (field, own.value.as_str()) else { continue };
            let others = inventory.find(Kind::Vm, field, uuid);
            if let Some(other) = others.into_iter().find(|id| *id != own.object) {
                let text =
                    format!("{other} is known by {uuid}; leave the instance uuid out, or give another");
                let mut cause = Cause::new(Code::Duplicate, text);
                cause.arguments =
                    vec![(Arc::from("name"), Value::str(uuid)), (Arc::from("object"), Value::Ref(other))];
                return Err(cause);
            }
        }
        Ok(())
    }

    /// Within a folder each name is one object's.
    fn names_are_free(&self, command: &Command) -> Result<(), Cause> {
        let made = match &*command.verb {
            "CreateVm" => argument(self, command, "vm_id").as_ref_id(),
            _ => None,
        };
        if let Some(id) = made
            && self.deps.facts.inventory().record(id).is_some()
        {
            let mut cause =
                Cause::new(Code::Duplicate, format!("{id} is there already; a new VM needs a new id"));
            cause.arguments = vec![
                (Arc::from("name"), Value::from(id.uuid.to_string())),
                (Arc::from("object"), Value::Ref(id)),
            ];
            return Err(cause);
        }
        let (folder, name, except) = match &*command.verb {
            "CreateVm" => {
                let vm = argument(self, command, "vm");
                let name = vm.as_record().map(|vm| self.tree.field(Kind::Vm, vm, "name"));
                (Some(command.object), name.unwrap_or_default(), None)
            }
            "RenameVm" | "Reconfigure" => {
                let folder = self.tree.get(command.object, "folder_id").as_ref_id();
                (folder, argument(self, command, "name"), Some(command.object))
            }
            _ => return Ok(()),
        };
        let (Some(folder), Some(name)) = (folder, name.as_str()) else { return Ok(()) };
        if self.is_doomed(folder) {
            return Err(Cause::new(Code::NotFound, format!("{folder} is being removed")));
        }
        self.free(folder, name, except)
    }
}

//! Effects: a union command as calls of a target. What a command becomes is made in `plan.rs`.

use super::{Dependence, changes::ChangeSlots, plan::Making};
use crate::{
    cel::{Frame, Program},
    flow::Flow,
    reader::Reader,
};
use std::sync::Arc;
pub use union::plan::{NativeCall, StepKind};
use union::{
    Kind, ObjectId, Plan, Record, Schema, Slot, SlotSet,
    command::{Cause, Code},
};

/// `[effect.VERB]`, compiled.
#[derive(Debug)]
pub struct Effect {
    /// The union command.
    pub verb: Arc<str>,
    /// The kind it acts on.
    pub on: Kind,
    /// Why the target cannot do it.
    pub refused: Option<Arc<str>>,
    /// How the broker does it instead.
    pub emulated: Option<Arc<str>>,
    /// `file:line`.
    pub at: Arc<str>,
    pub(crate) schema: Arc<Schema>,
    pub(crate) object_slot: Option<Slot>,
    pub(crate) expect: Option<Program>,
    pub(crate) refuses: Vec<Refuse>,
    pub(crate) steps: Vec<Step>,
    pub(crate) own: Vec<Own>,
    pub(crate) appears: Option<Program>,
    pub(crate) vanishes: Option<Program>,
}

/// A limit of the target, declared.
#[derive(Debug)]
pub(crate) struct Refuse {
    pub when: Program,
    pub code: Code,
    pub message: Arc<str>,
    pub at: Arc<str>,
}

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    pub when: Option<Program>,
    /// The list for whose every item the call is made.
    pub each: Option<Program>,
    /// The object that the call is about, if it is not the command's.
    pub on: Option<Program>,
    pub call: Call,
    pub undo: Undo,
    pub is: StepKind,
    pub at: Arc<str>,
}

/// What takes a step back.
#[derive(Debug)]
pub(crate) enum Undo {
    Nothing,
    Call(Box<Call>),
    /// The same call with the script turned back.
    Back,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub name: Arc<str>,
    pub args: Vec<(Arc<str>, Program)>,
    pub edit: Option<EditStep>,
}

/// What a call's document shall say.
#[derive(Debug)]
pub(crate) struct EditStep {
    pub argument: Arc<str>,
    pub form: Arc<str>,
    pub set: Vec<(Arc<str>, Program)>,
    pub devices: Devices,
}

/// Which changes of devices go into the script.
#[derive(Debug)]
pub(crate) enum Devices {
    None,
    /// All of a list.
    List(Program, ChangeSlots),
    /// The one that the step is made for.
    Item(ChangeSlots),
}

/// A fact that the broker keeps.
#[derive(Debug)]
pub(crate) struct Own {
    pub name: Arc<str>,
    pub slot: Slot,
    pub value: Program,
    /// Of a list of parts with a key: the key's slot, by which it is merged with what is kept already.
    pub key: Option<Slot>,
    pub at: Arc<str>,
}

impl Call {
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        let edit = self.edit.iter().flat_map(|edit| {
            let devices = if let Devices::List(list, _) = &edit.devices { Some(list) } else { None };
            edit.set.iter().map(|(_, p)| p).chain(devices)
        });
        self.args.iter().map(|(_, p)| p).chain(edit)
    }
}

impl Step {
    /// The call and what takes it back.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        let undo = if let Undo::Call(undo) = &self.undo { Some(&**undo) } else { None };
        std::iter::once(&self.call).chain(undo)
    }
}

impl Effect {
    pub(super) fn frame<'a>(
        &self,
        command: &'a Record,
        object: &'a Record,
        reader: &'a dyn Reader,
    ) -> Frame<'a> {
        let id = self.object_slot.and_then(|slot| command.get(slot).as_ref_id());
        let id = id.unwrap_or_else(|| ObjectId::new(self.on, uuid::Uuid::nil()));
        Frame { command: Some(command), ..Frame::object(id, object, reader) }
    }

    /// The calls, in order; none when every step's condition is false.
    ///
    /// # Errors
    /// A refused effect, or a limit that the target declares, as its cause.
    pub fn lower(
        &self,
        command: &Record,
        object: &Record,
        reader: &dyn Reader,
    ) -> Result<Vec<NativeCall>, Cause> {
        let frame = self.frame(command, object, reader);
        let plan = Making::new(self, reader).plan(&frame)?;
        Ok(plan.steps.into_iter().map(|step| step.call).collect())
    }

    /// What the command becomes: calls with their undo, what they were made from, and what the broker keeps. `id` and `object`: what the
    /// command acts on. The plan's bundle is left for the caller, who knows it.
    ///
    /// # Errors
    /// As [`Effect::lower`].
    pub fn plan(
        &self,
        command: &Record,
        id: ObjectId,
        object: &Record,
        reader: &dyn Reader,
    ) -> Result<Plan, Cause> {
        let frame = Frame { command: Some(command), ..Frame::object(id, object, reader) };
        Making::new(self, reader).plan(&frame)
    }

    /// Whether the object shows that the effect is there; `None`: the effect leaves no trace to look for.
    pub fn expect(&self, command: &Record, object: &Record, reader: &dyn Reader) -> Option<bool> {
        self.expect.as_ref().map(|expect| expect.holds(&self.frame(command, object, reader)))
    }

    /// Whether a plan of the engine is needed: the calls are made of stored facts, the broker keeps some afterwards, or an object comes or
    /// goes.
    pub fn needs_engine(&self) -> bool {
        self.dependence() == Dependence::Object
    }

    /// What the calls are made of. Conditions of steps and declared limits are looked at in the owner's lane, as guards are, and do not
    /// count.
    pub fn dependence(&self) -> Dependence {
        let edits = |call: &Call| call.edit.is_some();
        let steps = self.steps.iter();
        if !self.own.is_empty()
            || self.appears.is_some()
            || self.vanishes.is_some()
            || steps.clone().any(|s| s.each.is_some() || s.calls().any(edits))
        {
            return Dependence::Object;
        }
        let of = |program: &Program| match &program.shape.flow {
            _ if !program.reads.object.is_empty() || !program.reads.hops.is_empty() => Dependence::Object,
            Flow::Ref(_) => Dependence::Ids,
            _ => Dependence::Nothing,
        };
        let programs = steps.flat_map(|step| step.calls().flat_map(Call::programs).chain(&step.on));
        programs.map(of).max().unwrap_or(Dependence::Nothing)
    }

    /// The slots of the object that lowering looks at.
    pub fn reads(&self) -> SlotSet {
        self.programs().fold(SlotSet::EMPTY, |set, p| set.union(p.reads.object))
    }

    /// The slots of the command that are compared with the object to see whether the effect is there.
    pub fn expected_of(&self) -> SlotSet {
        self.expect.as_ref().map_or(SlotSet::EMPTY, |expect| expect.reads.command)
    }

    /// The slots of the command that lowering looks at.
    pub(crate) fn looks_at(&self) -> SlotSet {
        self.programs().fold(SlotSet::EMPTY, |set, p| set.union(p.reads.command))
    }

    fn programs(&self) -> impl Iterator<Item = &Program> {
        let steps = self.steps.iter().flat_map(|step| {
            step.when.iter().chain(&step.each).chain(&step.on).chain(step.calls().flat_map(Call::programs))
        });
        let rest = self.refuses.iter().map(|r| &r.when).chain(self.own.iter().map(|own| &own.value));
        steps.chain(rest).chain(&self.appears).chain(&self.vanishes)
    }
}

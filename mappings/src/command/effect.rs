//! Effects: a union command as calls of a target.

use super::Dependence;
use crate::{
    cel::{Frame, Program},
    flow::Flow,
    reader::Reader,
};
use std::sync::Arc;
pub use union::plan::{NativeCall, StepKind};
use union::{
    Kind, ObjectId, Record, Slot, SlotSet,
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
    pub(crate) object_slot: Option<Slot>,
    pub(crate) expect: Option<Program>,
    pub(crate) steps: Vec<Step>,
}

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    pub when: Option<Program>,
    pub call: Call,
    pub undo: Option<Call>,
    pub is: StepKind,
    pub at: Arc<str>,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub name: Arc<str>,
    pub args: Vec<(Arc<str>, Program)>,
}

impl Call {
    fn make(&self, frame: &Frame<'_>, is: StepKind) -> NativeCall {
        let args = self.args.iter().map(|(name, program)| (name.clone(), program.eval(frame).into_owned()));
        NativeCall {
            call: self.name.clone(),
            args: args.filter(|(_, v)| !v.is_absent()).collect(),
            is,
            undo: None,
            script: None,
        }
    }
}

impl Effect {
    fn frame<'a>(
        &self,
        command: Option<&'a Record>,
        object: &'a Record,
        reader: &'a dyn Reader,
    ) -> Frame<'a> {
        let id = command.zip(self.object_slot).and_then(|(c, slot)| c.get(slot).as_ref_id());
        let id = id.unwrap_or_else(|| ObjectId::new(self.on, uuid::Uuid::nil()));
        Frame { command, ..Frame::object(id, object, reader) }
    }

    /// The calls, in order; none when every step's condition is false. Refused effects give the cause.
    pub fn lower(
        &self,
        command: &Record,
        object: &Record,
        reader: &dyn Reader,
    ) -> Result<Vec<NativeCall>, Cause> {
        if let Some(why) = self.refused.as_ref().or(self.emulated.as_ref().filter(|_| self.steps.is_empty()))
        {
            return Err(Cause::new(
                Code::NotSupported,
                format!("{} is not supported here: {why}", self.verb),
            ));
        }
        let frame = self.frame(Some(command), object, reader);
        let fits = |step: &&Step| step.when.as_ref().is_none_or(|when| when.holds(&frame));
        let calls = self.steps.iter().filter(fits).map(|step| {
            let undo = step.undo.as_ref().map(|undo| Box::new(undo.make(&frame, StepKind::Idempotent)));
            NativeCall { undo, ..step.call.make(&frame, step.is) }
        });
        Ok(calls.collect())
    }

    /// Whether the object shows that the effect is there; `None`: the effect leaves no trace to look for.
    pub fn expect(&self, object: &Record, reader: &dyn Reader) -> Option<bool> {
        self.expect.as_ref().map(|expect| expect.holds(&self.frame(None, object, reader)))
    }

    /// What the calls are made of. Conditions of steps are looked at in the owner's lane, as guards are, and do not count.
    pub fn dependence(&self) -> Dependence {
        let calls = self.steps.iter().flat_map(|step| std::iter::once(&step.call).chain(&step.undo));
        let of = |program: &Program| match &program.shape.flow {
            _ if !program.reads.object.is_empty() || !program.reads.hops.is_empty() => Dependence::Object,
            Flow::Ref(_) => Dependence::Ids,
            _ => Dependence::Nothing,
        };
        calls.flat_map(|call| &call.args).map(|(_, p)| of(p)).max().unwrap_or(Dependence::Nothing)
    }

    /// The slots of the object that lowering looks at.
    pub fn reads(&self) -> SlotSet {
        let programs = self.steps.iter().flat_map(|step| {
            let calls = std::iter::once(&step.call).chain(&step.undo);
            step.when.iter().chain(calls.flat_map(|c| c.args.iter().map(|(_, p)| p)))
        });
        programs.fold(SlotSet::EMPTY, |set, p| set.union(p.reads.object))
    }
}

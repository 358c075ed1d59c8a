//! A plan from an effect: every expression that is evaluated says what it looked at.
//!
//! ```text
//! refuse ─▶ each step: when ─▶ for each item ─▶ call, script, undo ─▶ own ─▶ appears, vanishes
//!     ╰──────────┴──────────────────┴───────────────────┴────────────────────▶ reads: (object, field, value)
//! ```
//! Limits: a step is made for at most 256 items.

use super::{
    changes,
    effect::{Call, Devices, Effect, Own, Step, Undo},
};
use crate::{
    cel::{Frame, Program},
    reader::{Gap, NativeRef, Reader},
};
use std::{cell::RefCell, sync::Arc};
use union::{
    Kind, NativeCall, ObjectId, Plan, Record, Slot, StepKind, Value,
    command::{Cause, Code},
    plan::{OwnFact, Read, Script, ScriptChange, Step as PlanStep},
};

/// Most items of a step's `each`.
const MOST_ITEMS: usize = 256;

/// A reader that notes which objects were asked for.
struct Tracing<'a> {
    inner: &'a dyn Reader,
    seen: RefCell<Vec<ObjectId>>,
}

impl Reader for Tracing<'_> {
    fn object(&self, id: ObjectId) -> Option<Arc<Record>> {
        self.seen.borrow_mut().push(id);
        self.inner.object(id)
    }

    fn referring(&self, kind: Kind, slot: Slot, to: ObjectId, out: &mut Vec<ObjectId>) {
        self.inner.referring(kind, slot, to, out);
    }

    fn every(&self, kind: Kind) -> Option<Vec<ObjectId>> {
        self.inner.every(kind)
    }

    fn native_ref(&self, id: ObjectId) -> Option<NativeRef> {
        self.inner.native_ref(id)
    }

    fn view(&self) -> &str {
        self.inner.view()
    }

    fn gap(&self, gap: Gap) {
        self.inner.gap(gap);
    }
}

/// A plan on its way.
pub(super) struct Making<'e> {
    effect: &'e Effect,
    reader: &'e dyn Reader,
    reads: Vec<Read>,
}

impl<'e> Making<'e> {
    pub fn new(effect: &'e Effect, reader: &'e dyn Reader) -> Making<'e> {
        Making { effect, reader, reads: Vec::new() }
    }

    /// The plan over a command and its object.
    pub fn plan(mut self, frame: &Frame<'_>) -> Result<Plan, Cause> {
        let effect = self.effect;
        let does_nothing = effect.steps.is_empty() && effect.own.is_empty();
        if let Some(why) = effect.refused.as_ref().or(effect.emulated.as_ref().filter(|_| does_nothing)) {
            let text = format!("{} is not supported here: {why}", effect.verb);
            return Err(Cause::new(Code::NotSupported, text));
        }
        for refuse in &effect.refuses {
            if self.holds(&refuse.when, frame) {
                return Err(Cause::new(refuse.code, refuse.message.to_string()));
            }
        }
        let mut plan = Plan::default();
        for step in &effect.steps {
            self.step(step, frame, &mut plan.steps)?;
        }
        plan.appears = effect.appears.as_ref().and_then(|p| self.value(p, frame).as_ref_id());
        plan.vanishes = effect.vanishes.as_ref().and_then(|p| self.value(p, frame).as_ref_id());
        let object = plan.appears.unwrap_or(frame.id);
        for own in &effect.own {
            if let Some(value) = self.own(own, frame, object) {
                plan.own.push(OwnFact { object, field: own.name.clone(), value });
            }
        }
        plan.reads = self.reads;
        Ok(plan)
    }

    fn step(&mut self, step: &Step, frame: &Frame<'_>, out: &mut Vec<PlanStep>) -> Result<(), Cause> {
        let Some(each) = &step.each else {
            out.extend(self.call_of(step, frame)?);
            return Ok(());
        };
        let list = self.value(each, frame);
        if list.items().len() > MOST_ITEMS {
            let text = format!("{} takes at most {MOST_ITEMS} items at once", self.effect.verb);
            return Err(Cause::new(Code::InvalidArgument, text));
        }
        for (index, item) in list.items().iter().enumerate() {
            let Value::Record(item) = item else { continue };
            let frame = Frame { item, index, ..*frame };
            out.extend(self.call_of(step, &frame)?);
        }
        Ok(())
    }

    fn call_of(&mut self, step: &Step, frame: &Frame<'_>) -> Result<Option<PlanStep>, Cause> {
        if let Some(when) = &step.when
            && !self.holds(when, frame)
        {
            return Ok(None);
        }
        let Some(mut call) = self.call(&step.call, frame, step.is)? else { return Ok(None) };
        call.undo = match &step.undo {
            Undo::Nothing => None,
            Undo::Call(undo) => self.call(undo, frame, StepKind::Idempotent)?.map(Box::new),
            Undo::Back => self.back(&call, frame).map(Box::new),
        };
        let on = step.on.as_ref().and_then(|on| self.value(on, frame).as_ref_id());
        Ok(Some(PlanStep { object: on.unwrap_or(frame.id), call }))
    }

    /// A call; none: its script would change nothing.
    fn call(&mut self, call: &Call, frame: &Frame<'_>, is: StepKind) -> Result<Option<NativeCall>, Cause> {
        let mut script = None;
        if let Some(edit) = &call.edit {
            let mut changes = Vec::new();
            for (field, program) in &edit.set {
                match self.value(program, frame) {
                    Value::Absent => {}
                    Value::Str(text) if text.is_empty() => {
                        changes.push(ScriptChange::Set { field: field.clone(), value: Value::Absent });
                    }
                    value => changes.push(ScriptChange::Set { field: field.clone(), value }),
                }
            }
            match &edit.devices {
                Devices::None => {}
                Devices::Item(slots) => changes.push(slots.change(frame.item).ok_or_else(incomplete)?),
                Devices::List(list, slots) => {
                    let list = self.value(list, frame);
                    for change in list.items().iter().filter_map(Value::as_record) {
                        changes.push(slots.change(change).ok_or_else(incomplete)?);
                    }
                }
            }
            if changes.is_empty() {
                return Ok(None);
            }
            script =
                Some(Arc::new(Script { argument: edit.argument.clone(), form: edit.form.clone(), changes }));
        }
        let mut args = Vec::with_capacity(call.args.len());
        for (name, program) in &call.args {
            let value = self.value(program, frame);
            if !value.is_absent() {
                args.push((name.clone(), value));
            }
        }
        Ok(Some(NativeCall { call: call.name.clone(), args, is, undo: None, script }))
    }

    /// The same call with its script turned back; it relies on what is stored now.
    fn back(&mut self, call: &NativeCall, frame: &Frame<'_>) -> Option<NativeCall> {
        let script = changes::back(call.script.as_ref()?, frame.object, &self.effect.schema)?;
        let message = self.effect.schema.get(frame.object.message())?;
        for change in &script.changes {
            let name = match change {
                ScriptChange::Set { field, .. } => field,
                ScriptChange::Edit { list, .. }
                | ScriptChange::Add { list, .. }
                | ScriptChange::Remove { list, .. } => list,
            };
            if let Some(field) = message.field(name) {
                self.note(frame.id, name.clone(), frame.object.get(field.slot).clone());
            }
        }
        Some(NativeCall {
            is: StepKind::Idempotent,
            script: Some(Arc::new(script)),
            undo: None,
            ..call.clone()
        })
    }

    /// What the broker keeps; `None`: the command says nothing of it.
    fn own(&mut self, own: &Own, frame: &Frame<'_>, object: ObjectId) -> Option<Value> {
        let value = match self.value(&own.value, frame) {
            Value::Absent => return None,
            Value::Str(text) if text.is_empty() => return Some(Value::Absent),
            value => value,
        };
        let Some(key) = own.key else { return Some(value) };
        let mut kept = Vec::new();
        if object == frame.id {
            let stored = frame.object.get(own.slot).clone();
            kept = stored.items().to_vec();
            self.note(object, own.name.clone(), stored);
        }
        let key_of = |item: &Value| item.as_record().and_then(|r| r.get(key).as_str().map(str::to_owned));
        for item in value.items() {
            let name = key_of(item);
            kept.retain(|old| key_of(old) != name);
            // What says nothing but its key takes the item away.
            let says = item.as_record().is_some_and(|record| {
                let says = |value: &Value| !value.is_absent() && value.as_str() != Some("");
                let slots = record.slots().iter().enumerate();
                slots.filter(|(n, _)| *n != usize::from(key.0)).any(|(_, value)| says(value))
            });
            if says {
                kept.push(item.clone());
            }
        }
        Some(if kept.is_empty() { Value::Absent } else { Value::list(kept) })
    }

    fn holds(&mut self, program: &Program, frame: &Frame<'_>) -> bool {
        let tracing = Tracing { inner: self.reader, seen: RefCell::default() };
        let holds = program.holds(&Frame { reader: &tracing, ..*frame });
        self.looked(program, frame, tracing);
        holds
    }

    fn value(&mut self, program: &Program, frame: &Frame<'_>) -> Value {
        let tracing = Tracing { inner: self.reader, seen: RefCell::default() };
        let value = program.eval(&Frame { reader: &tracing, ..*frame }).into_owned();
        self.looked(program, frame, tracing);
        value
    }

    /// Notes what an expression looked at.
    fn looked(&mut self, program: &Program, frame: &Frame<'_>, tracing: Tracing<'_>) {
        let effect = self.effect;
        if let Some(message) = effect.schema.get(frame.object.message()) {
            for slot in program.reads.object.iter() {
                if let Some(field) = message.field_at(slot) {
                    self.note(frame.id, Arc::from(field.name.as_str()), frame.object.get(slot).clone());
                }
            }
        }
        for id in tracing.seen.into_inner() {
            let message = effect.schema.kind(id.kind);
            let record = self.reader.object(id);
            for (_, _, _, slots) in program.reads.hops.iter().filter(|hop| hop.2 == id.kind) {
                for slot in slots.iter() {
                    let value = record.as_ref().map_or(Value::Absent, |r| r.get(slot).clone());
                    if let Some(field) = message.field_at(slot) {
                        self.note(id, Arc::from(field.name.as_str()), value);
                    }
                }
            }
        }
    }

    fn note(&mut self, object: ObjectId, field: Arc<str>, value: Value) {
        if !self.reads.iter().any(|r| r.object == object && r.field == field) {
            self.reads.push(Read { object, field, value });
        }
    }
}

fn incomplete() -> Cause {
    Cause::new(
        Code::InvalidArgument,
        "a change of a device says neither which one it is about nor what it shall be",
    )
}

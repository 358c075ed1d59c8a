//! Commands: lifted from native calls, guarded in the owner's lane, and lowered to a target's calls.
//!
//! ```text
//! native call ── CommandMap::lift ──▶ union record ── CommandMap::guard ──▶ ok | Cause ── Effect::lower ──▶ native calls of the target
//!   (front's protocol)                                 (front's protocol)                  (target's protocol)
//! ```

use crate::{
    cel::{Frame, Program},
    lens::Chain,
    reader::{NativeRef, Reader},
    schema::{NativeField, NativeType, Primitive},
};
use std::sync::Arc;
use union::{
    Kind, MessageId, ObjectId, Record, Slot, SlotSet, Value,
    command::{Cause, Code},
    schema::CommandSchema,
};

pub(crate) mod effect;
pub(crate) mod read;

pub use effect::{Effect, NativeCall, StepKind};

/// How the native call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// With a task, at once.
    Task,
    /// With nothing, when it is done.
    Void,
    /// With a value, when it is done.
    Value,
}

/// What lifting and lowering a command read; found out from its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependence {
    /// Its own arguments.
    Nothing,
    /// The id map.
    Ids,
    /// The stored object: it goes through the engine.
    Object,
}

impl std::fmt::Display for Dependence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Dependence::Nothing => "nothing",
            Dependence::Ids => "ids",
            Dependence::Object => "object",
        })
    }
}

/// An argument as the front decoded it; the schema says what its text means.
#[derive(Clone, Debug, PartialEq)]
pub enum NativeValue {
    /// A simple value as text.
    Text(String),
    /// A reference.
    Ref(NativeRef),
    /// Several.
    Items(Vec<NativeValue>),
}

/// The arguments of a native call.
pub trait NativeArgs {
    /// The argument at a path, `host` or `spec.memoryMB`; `this` is the object the method was called on.
    fn get(&self, path: &str) -> Option<NativeValue>;
}

/// The id map, as lifting needs it.
pub trait Resolve {
    /// The object of a native reference.
    fn resolve(&self, native: &NativeRef) -> Option<ObjectId>;
}

/// A native call that cannot be lifted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LiftError {
    /// A required argument is not there.
    #[error("the argument `{path}` is missing")]
    Missing {
        /// Its path.
        path: Arc<str>,
    },
    /// An argument cannot be read.
    #[error("the argument `{path}` cannot be read: {why}")]
    BadValue {
        /// Its path.
        path: Arc<str>,
        /// What is wrong.
        why: String,
    },
    /// An argument names an object that is not there.
    #[error("the argument `{path}` names {} `{}`, which is not there", native.ty, native.id)]
    NoObject {
        /// Its path.
        path: Arc<str>,
        /// What it names.
        native: NativeRef,
    },
}

/// `[command.METHOD]`, compiled.
#[derive(Debug)]
pub struct CommandMap {
    /// The native method.
    pub method: Arc<str>,
    /// The managed type that has it.
    pub on_type: Arc<str>,
    /// The union command, for example `PowerOn`.
    pub verb: Arc<str>,
    /// The kind of object it acts on.
    pub on: Kind,
    /// Class and operation.
    pub schema: CommandSchema,
    /// How it is answered.
    pub reply: Reply,
    /// What lifting and lowering read.
    pub dependence: Dependence,
    /// `file:line`.
    pub at: Arc<str>,
    pub(crate) message: MessageId,
    pub(crate) slots: usize,
    pub(crate) object_slot: Option<Slot>,
    pub(crate) rows: Vec<Argument>,
    pub(crate) consts: Vec<(Slot, Value)>,
    pub(crate) guards: Vec<Guard>,
}

/// One row of a command.
#[derive(Debug)]
pub(crate) struct Argument {
    pub path: Arc<str>,
    pub field: NativeField,
    pub slot: Slot,
    pub chain: Chain,
    pub text: Arc<str>,
    pub at: Arc<str>,
}

/// One guard.
#[derive(Debug)]
pub(crate) struct Guard {
    pub when: Program,
    pub fault: Arc<str>,
    pub code: Code,
    pub message: Arc<str>,
    pub with: Vec<(Arc<str>, GuardValue)>,
    pub at: Arc<str>,
}

#[derive(Debug)]
pub(crate) enum GuardValue {
    Const(Value),
    Field(Box<(Program, Chain)>),
}

impl CommandMap {
    /// The union command of a native call.
    pub fn lift(&self, args: &dyn NativeArgs, ids: &dyn Resolve) -> Result<Record, LiftError> {
        let mut record = Record::new(self.message, self.slots);
        for (slot, value) in &self.consts {
            record.set(*slot, value.clone());
        }
        for row in &self.rows {
            let value = match args.get(&row.path) {
                None if row.field.optional || row.field.list => continue,
                None => return Err(LiftError::Missing { path: row.path.clone() }),
                Some(value) => value,
            };
            let native = self.native(row, value, ids)?;
            let value =
                row.chain.read(native).map_err(|why| LiftError::BadValue { path: row.path.clone(), why })?;
            record.set(row.slot, value);
        }
        Ok(record)
    }

    /// The object that a lifted command acts on.
    pub fn object(&self, command: &Record) -> Option<ObjectId> {
        self.object_slot.and_then(|slot| command.get(slot).as_ref_id())
    }

    /// Types an argument by the native schema.
    fn native(&self, row: &Argument, value: NativeValue, ids: &dyn Resolve) -> Result<Value, LiftError> {
        let bad = |why: String| LiftError::BadValue { path: row.path.clone(), why };
        match value {
            NativeValue::Items(items) => {
                let items: Result<Vec<Value>, LiftError> =
                    items.into_iter().map(|v| self.native(row, v, ids)).collect();
                items.map(Value::list)
            }
            NativeValue::Ref(native) => match ids.resolve(&native) {
                Some(id) => Ok(Value::Ref(id)),
                None => Err(LiftError::NoObject { path: row.path.clone(), native }),
            },
            NativeValue::Text(text) => match row.field.ty {
                NativeType::Primitive(p) => {
                    primitive(p, &text).ok_or_else(|| bad(format!("`{text}` is not {}", p.name())))
                }
                NativeType::Enum(_) => Ok(Value::from(text)),
                NativeType::Ref(_) | NativeType::Data(_) => {
                    Err(bad("a simple value cannot stand here".to_owned()))
                }
            },
        }
    }

    /// The first guard that refuses the command, as its cause.
    pub fn guard(&self, command: &Record, object: &Record, reader: &dyn Reader) -> Result<(), Cause> {
        let id = self.object(command).unwrap_or_else(|| ObjectId::new(self.on, uuid::Uuid::nil()));
        let frame = Frame { command: Some(command), ..Frame::object(id, object, reader) };
        let Some(guard) = self.guards.iter().find(|g| g.when.holds(&frame)) else { return Ok(()) };
        let mut cause = Cause::new(guard.code, guard.message.to_string());
        cause.fault = guard.fault.clone();
        for (name, value) in &guard.with {
            let value = match value {
                GuardValue::Const(value) => value.clone(),
                GuardValue::Field(field) => {
                    let (program, chain) = &**field;
                    chain.show(program.eval(&frame), 0).map_or(Value::Absent, std::borrow::Cow::into_owned)
                }
            };
            if !value.is_absent() {
                cause.arguments.push((name.clone(), value));
            }
        }
        Err(cause)
    }

    /// The slots of the object that the guards look at.
    pub fn guard_reads(&self) -> SlotSet {
        self.guards.iter().fold(SlotSet::EMPTY, |set, g| set.union(g.when.reads.object))
    }
}

/// A simple value from its text, by XML Schema's rules.
pub(crate) fn primitive(p: Primitive, text: &str) -> Option<Value> {
    let trimmed = text.trim();
    match p {
        Primitive::String | Primitive::AnyUri | Primitive::AnyType => Some(Value::str(text)),
        Primitive::Boolean => match trimmed {
            "true" | "1" => Some(Value::Bool(true)),
            "false" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        Primitive::Float | Primitive::Double => trimmed.parse().ok().map(Value::Float),
        Primitive::DateTime => {
            trimmed.parse::<jiff::Timestamp>().ok().map(|t| Value::Int(t.as_millisecond()))
        }
        Primitive::Base64Binary => None,
        integer => {
            let (least, most) = integer.range()?;
            trimmed.parse().ok().filter(|n| *n >= least && *n <= most).map(Value::Int)
        }
    }
}

#[cfg(test)]
mod tests;

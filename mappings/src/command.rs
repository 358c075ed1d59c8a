//! Commands: lifted from native calls, guarded in the owner's lane, and lowered to a target's calls.
//!
//! ```text
//! native call ── CommandMap::lift ──▶ union record ── CommandMap::guard ──▶ ok | Cause ─┬─ Effect::lower ──▶ native calls, in the owner's lane
//!   (front's protocol)   ╰ stored facts, for edits     (front's protocol)              ╰─ Effect::plan ───▶ a plan, in the engine
//!                                                                                          (target's protocol)
//! ```
//! Limits: 1,024 items in one list of a call; a call's structures are looked at 8 deep.

use crate::{
    cel::{Frame, Program},
    lens::Chain,
    reader::{NativeRef, Reader},
    schema::{NativeField, Primitive},
};
use std::sync::Arc;
use union::{
    Kind, MessageId, ObjectId, Record, Slot, SlotSet, Value,
    command::{Cause, Code},
    schema::CommandSchema,
};

pub(crate) mod changes;
pub(crate) mod device;
pub(crate) mod effect;
pub(crate) mod keys;
mod lift;
mod plan;
pub(crate) mod read;
mod read_edit;
mod read_effect;
mod read_rows;

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

/// The arguments of a native call, or one structure among them.
pub trait NativeArgs {
    /// The argument at a path, `host` or `spec.memoryMB`; `this` is the object the method was called on.
    fn get(&self, path: &str) -> Option<NativeValue>;

    /// The structures at a path: the items of a list, or the one that is there.
    fn items(&self, _path: &str) -> Vec<Box<dyn NativeArgs + '_>> {
        Vec::new()
    }

    /// The type of this structure, where the caller names it (`xsi:type`).
    fn type_name(&self) -> Option<String> {
        None
    }

    /// The names that are given below a path, each once; `""`: of this structure. Only with them does lifting notice what no row reads.
    fn names(&self, _path: &str) -> Vec<String> {
        Vec::new()
    }
}

/// The id map, as lifting needs it.
pub trait Resolve {
    /// The object of a native reference.
    fn resolve(&self, native: &NativeRef) -> Option<ObjectId>;

    /// The object of a kind that the view calls so.
    fn named(&self, _kind: Kind, _name: &str) -> Option<ObjectId> {
        None
    }

    /// An id for an object that is to be made.
    fn fresh(&self, _kind: Kind) -> Option<ObjectId> {
        None
    }
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
    /// An argument calls an object by a name that nothing has.
    #[error("the argument `{path}` names the {kind} `{name}`, which is not there")]
    NoName {
        /// Its path.
        path: Arc<str>,
        /// Of what kind.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// An argument is about an item that the stored object does not have.
    #[error("the argument `{path}` is about an item with the key `{key}`, which is not there")]
    NoItem {
        /// The path of the list's item, `spec.deviceChange[0]`.
        path: Arc<str>,
        /// Its position in the call.
        index: usize,
        /// The key.
        key: String,
    },
    /// An argument asks for what no row reads, and may not be ignored.
    #[error("the argument `{path}` is not supported: {why}")]
    NotSupported {
        /// Its path.
        path: Arc<str>,
        /// Why.
        why: String,
    },
    /// The command is about stored facts, and none were given.
    #[error("the argument `{path}` needs the object's stored facts")]
    NoFacts {
        /// Its path.
        path: Arc<str>,
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
    pub(crate) fresh: Vec<Fresh>,
    pub(crate) edits: Vec<device::DeviceEdit>,
    /// Arguments that are left out on purpose, with the reason.
    pub(crate) ignored: Vec<(Arc<str>, Arc<str>)>,
    pub(crate) guards: Vec<Guard>,
}

/// One row of a command.
#[derive(Debug)]
pub(crate) struct Argument {
    pub path: Arc<str>,
    pub form: Form,
    pub text: Arc<str>,
    pub at: Arc<str>,
}

/// Where a value goes: a field of the record, or of a part of it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub slot: Slot,
    /// Within the part that the slot holds.
    pub part: Option<(MessageId, usize, Slot)>,
    /// The path in the union, for people.
    pub name: Arc<str>,
}

/// How an argument is read.
#[derive(Debug)]
pub(crate) enum Form {
    /// A simple value or a list of them.
    Value { to: Place, field: NativeField, chain: Chain },
    /// A list of structures becomes a list of parts.
    Items { to: Place, types: Vec<ItemRows> },
    /// Of each structure of a list only the type counts; without one it is of the type that the schema declares.
    Types { to: Place, values: Vec<(Arc<str>, Value)>, declared: Arc<str>, keys: Option<keys::Keys> },
    /// An object by the name that the view shows.
    Named { to: Place, kind: Kind },
    /// `[store] path/of/file`.
    File { pool: Option<Place>, file: Option<Place> },
}

/// The rows of one type of item.
#[derive(Debug)]
pub(crate) struct ItemRows {
    pub ty: Arc<str>,
    pub message: MessageId,
    pub width: usize,
    pub rows: Vec<Argument>,
    /// What an item is known by in its list, and the argument that says it: no item is without.
    pub key: Option<(Slot, Arc<str>)>,
}

/// A field that gets an id of its own.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub to: Slot,
    pub kind: Kind,
    /// The argument that gives the uuid, if it is there.
    pub from: Option<Arc<str>>,
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
    /// The object that a lifted command acts on.
    pub fn object(&self, command: &Record) -> Option<ObjectId> {
        self.object_slot.and_then(|slot| command.get(slot).as_ref_id())
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

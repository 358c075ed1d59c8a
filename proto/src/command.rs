//! A command as it travels through one process: its union message as a record, and who asked.
//!
//! ```text
//! Command ── performed ──▶ Done(revision) | Failed(cause) | Refused(cause) | Unknown(probe)
//! ```

use crate::{id::ObjectId, pb, record::Record, schema::CommandSchema};
use std::{fmt, sync::Arc};
use uuid::Uuid;

/// What may be done when the answer to a command is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Changes nothing.
    Read,
    /// May be sent again.
    Idempotent,
    /// At most once; a lost outcome is settled by looking.
    OnceProbed,
    /// At most once; a lost answer is a timeout.
    Once,
}

impl Class {
    /// The class with this number in `options.proto`.
    pub fn from_number(number: i32) -> Option<Class> {
        match number {
            1 => Some(Class::Read),
            2 => Some(Class::Idempotent),
            3 => Some(Class::OnceProbed),
            4 => Some(Class::Once),
            _ => None,
        }
    }
}

/// The same id is the same command, however often it arrives. UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(pub Uuid);

impl CommandId {
    /// The chain of its events: 2^30 to 2^31 - 1, from the random end of the id, above the numbers that events themselves have.
    pub fn chain(&self) -> i64 {
        let low = u32::try_from(self.0.as_u128() & 0x3fff_ffff).unwrap_or(0);
        i64::from(low | 0x4000_0000)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Who asked, in which words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// For example `vsphere`.
    pub protocol: Arc<str>,
    /// For example `fleet`.
    pub view: Arc<str>,
    /// The native command, for example `PowerOnVM_Task`.
    pub method: Arc<str>,
}

/// A lifted command.
#[derive(Clone, Debug)]
pub struct Command {
    /// Which one.
    pub id: CommandId,
    /// The union message's name, for example `PowerOn`.
    pub verb: Arc<str>,
    /// Class, kind and operation, from the schema.
    pub schema: CommandSchema,
    /// The object it acts on.
    pub object: ObjectId,
    /// The union message.
    pub body: Arc<Record>,
    /// Who asked.
    pub principal: Arc<str>,
    /// In which session.
    pub session: Arc<str>,
    /// Unix milliseconds after which the answer is of no use.
    pub deadline_ms: i64,
    /// Where it came from.
    pub origin: Origin,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The effect is there; a reader that has applied `revision` of the object sees it.
    Done {
        /// What to have applied.
        revision: Revision,
        /// The object made, if one was.
        result: Option<ObjectId>,
        /// It was so before; nothing was done.
        already: bool,
    },
    /// The target tried and failed, or said no.
    Failed(Cause),
    /// Nothing was done.
    Refused(Cause),
    /// Whether it happened is not known; `probe` says what to look at.
    Unknown {
        /// What to look at.
        probe: String,
        /// For people.
        message: String,
    },
}

/// A point in an owner's history: `n` grows within an `incarnation` of the owning agent; a later incarnation is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Which life of the agent, Unix milliseconds of its start.
    pub incarnation: u64,
    /// Which change within it.
    pub n: u64,
}

impl From<Revision> for pb::Revision {
    fn from(r: Revision) -> pb::Revision {
        pb::Revision { incarnation: r.incarnation, n: r.n }
    }
}

impl From<pb::Revision> for Revision {
    fn from(r: pb::Revision) -> Revision {
        Revision { incarnation: r.incarnation, n: r.n }
    }
}

pub use pb::Code;

/// Why a command failed or was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Cause {
    /// The kind of cause.
    pub code: Code,
    /// One sentence for people: what was expected, where, what to do.
    pub message: String,
    /// The fault a guard named, in the words of the protocol that asked; empty: the front chooses by `code`.
    pub fault: Arc<str>,
    /// The fault's fields, by native name.
    pub arguments: Vec<(Arc<str>, crate::Value)>,
    /// The target's own error number; 0: none.
    pub native_code: i64,
}

impl Cause {
    /// A cause with no more to it than its code and its sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Cause {
        Cause { code, message: message.into(), fault: Arc::from(""), arguments: Vec::new(), native_code: 0 }
    }
}

//! The union: the words that every other room speaks.
//!
//! ```text
//! pb        what crosses the bus: objects, commands, outcomes, envelope (generated from `union/v1/*.proto`)
//! schema    the same messages as data: fields, types, references, runtime marks, extension fields
//! value     one value; `record`: one object as an array of values, a slot a field
//! codec     record <-> protobuf bytes
//! id        object ids, `<kind>:<uuid>`
//! command   a command as a record, with its class
//! envelope  commands and outcomes as they cross the bus
//! plan      what a lowered command comes down to: native calls, edit scripts, what they rely on
//! clock     time and ids, injected
//! fail      named places where a test may end the process
//! ```
#![forbid(unsafe_code)]

pub mod clock;
pub mod codec;
pub mod command;
pub mod envelope;
pub mod fail;
pub mod id;
pub mod plan;
pub mod record;
pub mod schema;
mod sealed;
pub mod value;

/// The generated protobuf messages of `union/v1/*.proto`.
#[allow(missing_docs, clippy::all)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/union.v1.rs"));
}

pub use clock::{Clock, Ids};
pub use command::{Command, CommandId, Origin};
pub use id::{Kind, ObjectId};
pub use plan::{NativeCall, Plan, StepKind};
pub use record::Record;
pub use schema::{FieldType, MessageId, Schema, Slot, SlotSet};
pub use value::Value;

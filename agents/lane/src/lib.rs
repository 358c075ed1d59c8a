//! Lanes: the one place that orders commands to one object, and performs them. All management servers meet here.
//!
//! ```text
//! front ─ submit ─▶ queue (conflict table of the protocol that asked)
//!                     │ its turn
//!                     ▼
//!   guard ─▶ operation shown, task active ─▶ lower (effect table of the target) ─▶ perform each call by the deadline
//!     │ refused: looked at afresh, then refused        │ answer lost: probe, never guess
//!     ▼                                                ▼
//!   Refused                     reread until the effect is there ─▶ operation gone ─▶ Done(revision) | Failed | Unknown
//! ```
//!
//! What overtakes (a hard power-off over a hung suspend) ends the other command's ticket at once, asks the target to let go of its call, and
//! gives that call one second to end before it makes its own: what the other did by then decides what is left to do.
//!
//! Limits: 64 commands wait in a lane, 4,096 in an owner; one more is answered Busy at once.
#![forbid(unsafe_code)]

pub mod commands;
pub mod owner;
mod perform;
pub mod points;
pub mod queue;
pub mod recorder;
pub mod rules;
pub mod target;
pub mod ticket;

pub use commands::Commands;
pub use mapping::{NativeCall, StepKind};
pub use owner::{Dispatch, Limits, Owner, Reply};
pub use points::POINTS;
pub use queue::Conflict;
pub use recorder::{Intended, Known, Recorder, Unsettled};
pub use rules::Rules;
pub use target::{Progress, Target, TargetError};
pub use ticket::{Ending, Ticket};

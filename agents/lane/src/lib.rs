//! Lanes: the one place that orders commands to one object, and performs them. All management servers meet here.
//!
//! ```text
//! front ─ submit ──┐
//! engine ─ dispatch┴▶ queue (conflict table of the protocol that asked)
//!                       │ its turn
//!                       ▼
//!   guard ─▶ the engine's plan: what it read, unchanged? │ none: lower by the target's effect table
//!     │ refused: looked at afresh, then refused           │ changed: Refused(CHANGED), planned anew
//!     ▼                                                   ▼
//!   Refused          intent durable (recorder), operation shown ─▶ make each call by the deadline ─▶ reread until the effect is there
//!                       a call says no: take the earlier ones back │ its answer is lost: look, never guess, never send a plan's call again
//!                                                         ▼
//!                       operation gone ─▶ Done(revision) | Failed | Unknown ─▶ outcome kept ─▶ ticket, task
//! restart ─ recover ─▶ first in its lane: looks what became of it, however long its target is away ─▶ Done | Failed
//! ```
//!
//! What overtakes (a hard power-off over a hung suspend) ends the other command's ticket at once, asks the target to let go of its call, and
//! gives that call one second to end before it makes its own: what the other did by then decides what is left to do.
//!
//! What is not known at a command's end is looked for as long as nothing else begins in its lane: whoever asks again is told then.
//!
//! Limits: 64 commands wait in a lane, 4,096 in an owner; one more is answered Busy at once. A command that waits ends at its deadline.
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

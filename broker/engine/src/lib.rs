//! The transformation engine: commands whose lowering reads stored data, commands whose object another agent owns, and what the broker
//! itself keeps.
//!
//! ```text
//! agent ─ answer(from, verb, body) ─▶ door ─┬─ submit ─▶ known id? its outcome │ full? Busy │ admitted? ─▶ flight
//!                                           ├─ settle, cancel                     │
//!                                           ├─ hello: leases, epochs              ├─ folders: done here, one commit
//!                                           ├─ outbox: what agents did alone      ├─ placement ─▶ plan (the target's effect table)
//!                                           └─ the authority's: logins, grants    ▼
//!    journal: intent + audit + plan + sent, one commit ─▶ owner (perform) ─▶ Outcome
//!       CHANGED ─▶ planned again, at most three times        answer lost ─▶ settle: the owner is asked until it tells, nothing is resent
//!    own facts + outcome, one commit ─▶ the replica holds the revision ─▶ answered
//! ```
//!
//! The engine knows no vendor: what differs is in the bundle. Commands to one object are ordered by its owner's lane. Those that change
//! what the broker keeps of an object take turns at it, those that change the tree of folders at the tree; no other lock is held over I/O.
//!
//! Limits are in [`Limits`]; the failpoints between intent and outcome are [`POINTS`].
#![forbid(unsafe_code)]

mod agents;
pub mod authority;
mod bundles;
pub mod bus;
mod deps;
mod dispatch;
mod door;
mod engine;
mod facts;
mod flight;
mod fly;
mod folders;
mod hello;
mod inbox;
mod limits;
mod own;
mod placement;
mod plan;
mod record;
mod recover;
mod rights;
mod settle;
mod submit;
mod tree;

pub use agents::{AgentError, Agents, Offered};
pub use bundles::{Bundles, OneBundle};
pub use deps::{Deps, IdMaps};
pub use door::{unwrap_reply, wrap_reply};
pub use engine::{Engine, StartError, begin_epoch};
pub use facts::Facts;
pub use limits::Limits;
pub use own::OwnFacts;
pub use rights::{Admitted, Authority};

/// Where a test may end the engine, in the order of a command's way.
pub const POINTS: &[&str] = &[
    "engine.submitted",
    "engine.planned",
    "engine.intent-durable",
    "engine.answered",
    "engine.lost",
    "engine.replanned",
    "engine.outcome-durable",
    "engine.own-committed",
    "engine.before-answer",
];

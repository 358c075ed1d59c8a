//! An agent's side of the engine: which commands go there, grants, what was done while it was away.
//!
//! ```text
//!                         ┌─ local: this agent's owner holds the target, lowering reads no stored object ─▶ lane::Owner
//! front ─▶ Router.submit ─┤
//!                         └─ cmd.<domain>.<kind>.<verb> ─▶ engine ─▶ agent.<domain>.<agent>.perform ─▶ Link.answer ─▶ lane::Owner
//! lane::Owner ─ Recorder ─▶ Journal: intent + audit in one commit, outcome ─▶ outbox ─ Pump ─▶ engine, in order
//! Remote (guard::Logins) ─ sealed ─▶ engine ─▶ Grants: what each session may do here
//! Duty: hello, beat, renewal of grants ─▶ Presence: whether the engine is there
//! ```
//!
//! [`router`] decides where commands go, [`grants`] what sessions may do, [`journal`] keeps intents and outcomes, [`outbox`] hands them in,
//! [`door`] answers the engine, [`duty`] keeps the two in touch, [`remote`] logs users in, [`bundle`] fetches mappings,
//! [`bus`] carries it all over NATS, [`follow`]
//! keeps a fleet's replicas, [`keep`] what must survive. [`joined`] puts the agent's side together.
//!
//! Limits are in [`limits`]; the failpoints in [`POINTS`].
#![forbid(unsafe_code)]

pub mod bundle;
pub mod bus;
pub mod door;
pub mod duty;
pub mod engine;
pub mod follow;
pub mod grants;
pub mod joined;
pub mod journal;
pub mod keep;
pub mod limits;
pub mod outbox;
pub mod presence;
pub mod remote;
pub mod router;
#[cfg(test)]
mod testing;
pub mod tree;

pub use door::Link;
pub use duty::Duty;
pub use engine::{Engine, LinkError, Service, Verb};
pub use grants::Grants;
pub use joined::Joined;
pub use journal::Journal;
pub use outbox::{Backlog, Pump};
pub use presence::Presence;
pub use remote::{Remote, SealKey};
pub use router::{Route, Router};
pub use tree::FactsTree;

/// The failpoints of this room.
pub const POINTS: &[&str] = &[
    "link.task-created",
    "link.answered",
    "link.outcome-heard",
    "link.task-ended",
    "link.outcome-told",
    "link.outcome-durable",
    "link.handed",
    "link.perform-checked",
    "link.performed",
];

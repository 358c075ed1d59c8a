//! What must survive a restart, between the inventory's rooms and the store.
//!
//! ```text
//! [`ids`]       inventory::IdMap ─ give ─▶ store: numbers counted (engine) or out of leased blocks (agent, refilled ahead)
//! [`tasks`]     inventory::Tasks ─ keep ─▶ queue, one row a task ─▶ store; or with a command's intent, in its commit
//! [`facts`]     inventory ─ observer ─▶ queue, each object once ─▶ store: last known facts (engine), first sights (agent)
//! [`counters`]  Chronicle ─ reserve ─▶ store, a block ahead
//! [`owned`]     the broker's own facts: engine ─▶ agents
//! [`repair`]    a damaged store ─▶ a new file in its place, the damaged one beside it
//! ```
//!
//! A queue holds each thing once, so it is bounded by what there is. A store that does not write is tried again; what it could not keep is
//! as it was before, after a restart.
//!
//! Some traits of the inventory cannot wait asynchronously; those who implement them wait in place: other tasks of a runtime with several
//! threads go on meanwhile, and a runtime with one thread needs a store that another thread writes.

pub mod counters;
pub mod facts;
pub mod ids;
pub mod owned;
pub mod repair;
pub mod tasks;
#[cfg(test)]
mod tests;

use std::time::Duration;
use tokio::runtime::{Handle, RuntimeFlavor};

/// How long a queue gathers before it is written.
const GATHER: Duration = Duration::from_millis(50);
/// How long after a failure the store is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether this thread may wait while others of its runtime go on.
fn may_wait() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Waits for the store in this thread.
fn wait<F: Future>(future: F) -> F::Output {
    if may_wait() { tokio::task::block_in_place(|| store::wait(future)) } else { store::wait(future) }
}

//! The simulated target: a hypervisor whose native form is the union itself.
//!
//! ```text
//! file or figures ─▶ inventory::build ─▶ the world (what is true) ─ events ─▶ the agent's inventory
//! lane ─ perform(call) ─▶ fate (well | fails | lost | hangs) ─▶ the world changes ─▶ effect log
//! ```
//!
//! For simulation, benches, fault tests and trying out a front without a hypervisor. It never stands in for a real target in a test of
//! what a user does. Everything random comes from the injected ids, so a seed repeats a run.
#![forbid(unsafe_code)]

pub mod fault;
pub mod front;
pub mod inventory;
pub mod native;
pub mod process;
pub mod session;
pub mod target;
pub mod task;
pub mod world;

#[cfg(test)]
mod tests;

pub use fault::{Behaviour, Fate};
pub use target::{Sim, attach, connect};
pub use world::{Config, SimError, Source, World};

//! The simulation: an engine, two agents with their lanes, stores that crash, a network that loses, and two paper hypervisors, in one thread
//! and on paused time. A seed decides who dies when.
//!
//! ```text
//! clients ─▶ Router ─┬─▶ Owner ─▶ Bridge ─▶ Metal (what is true; an effect log that survives everything)
//!                    └─▶ Net (delays, loses, doubles, parts) ─▶ Engine ─▶ Net ─▶ Link ─▶ Owner ─▶ Bridge ─▶ Metal
//! stores: MemoryStore, of whose unacknowledged commits any prefix survives       feeds: agents' facts ─▶ Fleet
//! ```
//!
//! Everything but the network, the hypervisors, the authority and the clients is the real room. A process dies at a failpoint or at any
//! time: its store crashes, nothing of it is heard any more, and it starts again. At the end everything is healed, and [`check`] says
//! whether what was promised holds.
#![forbid(unsafe_code)]

pub mod agent;
pub mod authority;
pub mod check;
pub mod client;
pub mod host;
pub mod life;
pub mod metal;
pub mod net;
pub mod rng;
pub mod world;

pub use world::{Failure, Report, run};

//! The simulation: an engine with its authority, two agents with their lanes, stores that crash, a network that loses, and two simulated
//! hypervisors, in one thread and on paused time. A seed decides who dies when, and the same seed is the same world.
//!
//! ```text
//! clients ─▶ Router ─┬─▶ Owner ─▶ Bridge ─▶ sim::World (what is true; an effect log that survives everything)
//!                    └─▶ Net (delays, loses, doubles, parts) ─▶ Engine ─▶ Net ─▶ Link ─▶ Owner ─▶ Bridge ─▶ sim::World
//! stores: MemoryStore, of whose unacknowledged commits any prefix survives       feeds: agents' facts ─▶ Fleet
//! ```
//!
//! Everything but the network and the clients is the real room. A process dies at a failpoint or at any time: its store crashes, nothing of
//! it is heard any more, and it starts again. At the end everything is healed, and [`check`] says whether what was promised holds. That the
//! checks see what they are there for is shown by [`flaw`]: parts that are broken, one at a time.
#![forbid(unsafe_code)]

pub mod agent;
pub mod authority;
pub mod check;
pub mod client;
pub mod flaw;
pub mod host;
pub mod life;
pub mod metal;
pub mod net;
pub mod rng;
pub mod world;

pub use flaw::{FLAWS, Flaw};
pub use world::{Failure, Report, run, run_with};

//! The inventory: the live copy of the facts, and what is derived from it.
//!
//! ```text
//! target reader ──▶ store::Inventory ──▶ layout::View (fleet | one host) ──▶ fronts
//!   (puts)            │ records, revisions       │ skeleton, placement, aggregates
//!                     │ indexes, tombstones      ├──▶ chronicle::Chronicle (numbered events)
//!                     ├──▶ feed (bus bytes) ──▶ fleet::Fleet: a replica of several agents'
//!                     ├──▶ owned (what the broker itself says of objects) ──▶ agents
//!                     └──◀ tasks::Tasks (commands as their callers watch them)
//! idmap::IdMap   union id <-> native id, one a protocol and view
//! ```
//!
//! Reads never wait for I/O: one lock, held for the time of a look-up. Changes are told to observers in order, synchronously, so
//! whoever has seen a revision sees everything that follows from it.
#![forbid(unsafe_code)]

pub mod chronicle;
pub mod claims;
pub mod feed;
pub mod fleet;
pub mod gaps;
pub mod idmap;
mod index;
mod intern;
pub mod layout;
mod merge;
pub mod owned;
pub mod plan;
pub mod store;
pub mod tasks;
#[cfg(test)]
mod testing;

pub use chronicle::Chronicle;
pub use claims::{Claims, Released};
pub use fleet::Fleet;
pub use idmap::IdMap;
pub use layout::{Layout, Skeleton, View};
pub use store::{Change, Credit, Entry, Inventory, Observer, ObserverGuard, Put};
pub use tasks::Tasks;
pub use union::command::Revision;

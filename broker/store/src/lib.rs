//! What must survive: ids, intents, sessions, facts, the audit chain.
//!
//! ```text
//! idmap  journal  sessions  facts  owned  audit  outbox  leases     rooms: typed rows over one store
//!    └──────┴────────┴────────┴──────┴──────┴──────┴───────┘
//!                    Store: commit(batch, epoch), get, scan
//!            ┌─────────────┴──────────────┐
//!     FileStore: redb, one file,     MemoryStore: in memory,
//!     one writer, group commit       crashes on demand (simulation)
//! ```
//!
//! A [`Batch`] is written whole or not at all, only if the rows it relies on are as it says, and only in the highest [`Epoch`] seen. The
//! rooms add to a batch, so an intent and its audit entry cost one sync. Every value carries a checksum of itself and its key.
//!
//! Limits: one process a file; values up to 8 MiB, batches up to 32 MiB, 1,024 commits waiting. A single engine a domain.
#![forbid(unsafe_code)]

pub mod agents;
mod apply;
pub mod audit;
pub mod batch;
pub mod counters;
mod db;
pub mod error;
pub mod facts;
pub mod file;
pub mod idmap;
pub mod journal;
pub mod leases;
pub mod medium;
pub mod memory;
pub mod outbox;
pub mod owned;
pub mod repair;
mod row;
mod seal;
pub mod sessions;
mod store;
pub mod table;
pub mod tasks;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod users;

pub use apply::{Hash, Head};
pub use batch::{Batch, Committed, Epoch};
pub use error::StoreError;
pub use file::FileStore;
pub use idmap::IdMaps;
pub use medium::{FileMedium, Medium};
pub use memory::MemoryStore;
pub use row::Blob;
pub use store::{Health, Row, Scan, Store, wait};
pub use table::Table;

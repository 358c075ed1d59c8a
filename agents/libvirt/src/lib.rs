//! libvirt: the target that speaks its remote protocol.
//!
//! ```text
//! native      the protocol itself: addresses, transports, calls, events
//! session     opening a connection
//! inventory   libvirt's facts as the union's
//! target      keeps the inventory in step and performs the lane's calls
//! task        progress of long calls
//! tables      what libvirt's numbers and words mean, from the mapping
//! fault       libvirt's errors as the lane's
//! front       none yet
//! ```
#![forbid(unsafe_code)]

pub mod fault;
pub mod front;
pub mod inventory;
pub mod native;
pub mod session;
pub mod tables;
pub mod target;
pub mod task;

#[cfg(test)]
mod tests;

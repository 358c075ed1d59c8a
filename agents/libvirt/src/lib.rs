//! libvirt: the target that speaks its remote protocol.
//!
//! ```text
//! native     the protocol itself: addresses, transports, calls, events
//! session    opening a connection
//! fault      libvirt's errors as causes
//! ```
#![forbid(unsafe_code)]

pub mod native;
pub mod session;

#[cfg(test)]
mod tests;

//! libvirt's remote protocol as a client: addresses, transports, one connection with calls in flight.
//!
//! ```text
//! uri         `qemu+tls://host/system?...` -> where to connect and what to open there
//! transport   unix socket, TCP, TLS (and the server's welcome byte)
//! connection  calls by serial, replies in any order, events, keepalive, deadlines
//! api         the questions a reader asks
//! call        why a call failed
//! ```
//!
//! Limits: calls in flight a connection [`connection::IN_FLIGHT`] (libvirtd stops reading a client that has more), calls waiting for one
//! of those [`connection::WAITING`], events not yet read [`connection::EVENTS`].

pub mod api;
pub mod call;
pub mod connection;
pub mod transport;
pub mod uri;

use std::sync::{Arc, LazyLock};
use wire::xdr::{Schema, SchemaError};

/// The remote program's number.
pub const REMOTE: u32 = 0x2000_8086;
/// The keepalive program's number.
pub const KEEPALIVE: u32 = 0x6b65_6570;

static SCHEMA: LazyLock<Result<Arc<Schema>, SchemaError>> = LazyLock::new(|| {
    Schema::parse(include_str!("../../../mappings/libvirt/schema/remote.schema")).map(Arc::new)
});

/// The remote protocol as the imported schema tells it.
///
/// # Errors
/// The schema in the source tree is broken; a test sees to it that it is not.
pub fn schema() -> Result<Arc<Schema>, SchemaError> {
    SCHEMA.clone()
}

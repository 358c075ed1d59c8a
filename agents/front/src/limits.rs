//! A listener's figures.

use std::time::Duration;
use wire::limits;

/// How much a listener takes on, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub per_remote: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a request's header: from its first byte, or the connection's start.
    pub header: Duration,
    /// Between the parts of a body, and for an answer that is not taken.
    pub idle: Duration,
    /// Between requests.
    pub kept: Duration,
    /// For a whole body.
    pub total: Duration,
    /// Bytes of a request's header.
    pub header_bytes: usize,
    /// Fields of a request's header.
    pub header_fields: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 2_048,
            per_remote: 512,
            handshake: limits::HANDSHAKE_TIMEOUT,
            header: limits::HEADER_TIMEOUT,
            idle: limits::IDLE_TIMEOUT,
            kept: limits::KEPT_TIMEOUT,
            total: limits::TOTAL_TIMEOUT,
            header_bytes: limits::HEADER_BYTES,
            header_fields: limits::HEADER_FIELDS,
        }
    }
}

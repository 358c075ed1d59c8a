//! Every limit of every wire form. A decoder checks a limit before it allocates for what the limit bounds.
//!
//! Sources of the figures: the project's reliability bars (hostile input, row 8); a form whose protocol sets its own
//! limit names it beside the constant.

use std::time::Duration;

/// Bytes of a request body from a client that has not logged in.
pub const BODY_BEFORE_LOGIN: usize = 64 << 10;
/// Bytes of a request body from a client that has.
pub const BODY_AFTER_LOGIN: usize = 4 << 20;
/// Time in which a TLS handshake must end.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time in which a request's header must have arrived, from its first byte or the connection's start.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time without a byte in a body, or in which nothing of an answer is taken, after which the connection is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time without a request on a kept connection, after which it is closed. pyVmomi holds connections to be good for 15 minutes
/// (`CONNECTION_POOL_IDLE_TIMEOUT_SEC`) and fails with one that is not.
pub const KEPT_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// Time in which a request's body must have arrived whole.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of a request's header, all fields together.
pub const HEADER_BYTES: usize = 32 << 10;
/// Fields in a request's header.
pub const HEADER_FIELDS: usize = 100;

/// What an XML document may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XmlLimits {
    /// Bytes of the document.
    pub bytes: usize,
    /// Elements inside each other.
    pub depth: usize,
    /// Elements in the document.
    pub elements: usize,
    /// Attributes on one element, namespace declarations included.
    pub attributes: usize,
    /// Attributes in the document.
    pub total_attributes: usize,
    /// Bytes of an element's or attribute's name, prefix included.
    pub name: usize,
    /// Bytes of one attribute's value.
    pub value: usize,
    /// Bytes of one element's own text.
    pub text: usize,
    /// Namespace declarations in scope at one place.
    pub namespaces: usize,
}

/// SOAP requests and answers.
pub const SOAP: XmlLimits = XmlLimits {
    bytes: BODY_AFTER_LOGIN,
    depth: 64,
    elements: 100_000,
    attributes: 128,
    total_attributes: 200_000,
    name: 256,
    value: 64 << 10,
    text: 2 << 20,
    namespaces: 64,
};

/// Bytes of an RPC packet, its length and header included: libvirt's `VIR_NET_MESSAGE_MAX` and the four bytes of the length.
pub const XDR_PACKET: usize = (32 << 20) + 4;
/// Values in one RPC payload, parts of values counted.
pub const XDR_VALUES: usize = 4_000_000;

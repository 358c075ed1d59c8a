//! What a listener tells its counters.

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A connection was let in.
    Accepted,
    /// A connection was closed at once: too many in all.
    RefusedFull,
    /// A connection was closed at once: too many from its address.
    RefusedRemote,
    /// A TLS handshake failed or took too long.
    HandshakeFailed,
    /// A connection was closed by a deadline.
    TimedOut,
    /// A connection ended, for whatever reason; follows each `Accepted` once.
    Closed,
    /// A request's header was read.
    Request,
    /// The service panicked; the client was told 500.
    Panicked,
    /// The system would not give a connection, for example for want of file descriptors.
    AcceptFailed,
}

/// Who counts. Called on the path of each connection: must be quick.
pub trait Observer: Send + Sync + 'static {
    /// Counts one event.
    fn count(&self, event: Event);
}

/// Counts nothing.
impl Observer for () {
    fn count(&self, _: Event) {}
}

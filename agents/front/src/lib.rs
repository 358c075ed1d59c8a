//! What every listener shares. A connection's way:
//!
//! ```text
//! accept ─▶ admission (caps in all and per remote) ─▶ TLS handshake ─▶ HTTP/1.1
//!        ─▶ header within its time ─▶ the front's service ─▶ answer ─▶ next request, or idle until closed
//! drain: no more accepting ─▶ waits end early ─▶ requests in flight finish, up to a time ─▶ closed
//! ```
//!
//! ```text
//! listen      binding; plain only on loopback        serve      accepting, draining
//! connection  one connection's life                  pace       its deadlines
//! admission   the caps                               body       reading a request's body within limits
//! ca, tls     our own authority, leaves, rustls      session    who is logged in where
//! limits      the figures, from `wire::limits`       event      what counters are told
//! ```
#![forbid(unsafe_code)]

pub mod admission;
pub mod body;
pub mod ca;
mod connection;
pub mod event;
pub mod limits;
pub mod listen;
mod pace;
mod serve;
pub mod session;
pub mod tls;

#[cfg(test)]
mod tests;

pub use body::BodyError;
pub use ca::{Ca, CaError, Leaf};
pub use connection::Peer;
pub use event::{Event, Observer};
pub use limits::Limits;
pub use listen::{BindError, Listener};
pub use serve::Serving;
pub use session::{Session, Sessions};
pub use tls::TlsConfig;

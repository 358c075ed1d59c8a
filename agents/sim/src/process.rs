//! A simulated hypervisor as a process of its own, which outlives the agents that manage it: that is how a test can kill an agent anywhere
//! and still count what was done.
//!
//! ```text
//! hyperglot sim --listen unix:/run/sim.sock …          [[target]] protocol = "sim"  uri = "unix:/run/sim.sock"
//!   World ── server ◀──── frames (length, protobuf) ────▶ Remote ── the agent's inventory
//! ```
//!
//! Every call that arrives is made, however often, and goes on when who asked has died. The effect log is on the disk before an effect is
//! answered; a server that starts again goes on with the log and begins the world anew.
//!
//! Whoever can reach the address rules the simulation, so it is a socket file of its user, or a port of this machine only.
//!
//! Limits: a frame has at most 16 MiB, a connection 1,024 calls under way and 4,096 messages waiting; who reads slower is cut off and reads
//! everything anew.

mod frame;
mod remote;
mod server;

pub use remote::{Remote, connect};
pub use server::{Server, serve};

use crate::world;
use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// Calls under way on one connection.
pub const CALLS: usize = 1_024;
/// Messages that wait on one connection.
pub const WAITING: usize = 4_096;

/// Where the process listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket file.
    Unix(PathBuf),
    /// A port of this machine.
    Tcp(SocketAddr),
}

/// What is no address of a simulated hypervisor.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{0}`: expected unix:/path, or the address of this machine with a port, for example 127.0.0.1:7070")]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Address, BadAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.is_empty() {
                true => Err(BadAddress(text.to_owned())),
                false => Ok(Address::Unix(PathBuf::from(path))),
            };
        }
        let port = text.strip_prefix("tcp://").unwrap_or(text);
        let address: Option<SocketAddr> = port.parse().ok();
        address
            .filter(|address| address.ip().is_loopback())
            .map(Address::Tcp)
            .ok_or_else(|| BadAddress(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// A simulated hypervisor to be served.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where.
    pub listen: Address,
    /// What.
    pub world: world::Config,
}

/// It cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It cannot be set up.
    #[error(transparent)]
    World(#[from] world::SimError),
    /// It cannot be listened to.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: Address,
        /// Why.
        source: std::io::Error,
    },
}

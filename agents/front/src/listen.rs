//! Binding.

use crate::{event::Observer, limits::Limits, serve::Serving, tls::TlsConfig};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use std::{future::Future, io, net::SocketAddr, sync::Arc};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1_024;

/// Why a listener did not open.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Without TLS on an address that others can reach.
    #[error(
        "{addr} without TLS: passwords would cross the network readable; set tls = true, or listen on 127.0.0.1 or ::1"
    )]
    PlainOnlyOnLoopback {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The system says no.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// A bound address, not served yet.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) addr: SocketAddr,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) limits: Limits,
    pub(crate) observer: Arc<dyn Observer>,
}

impl std::fmt::Debug for dyn Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

impl Listener {
    /// Binds `addr`; without `tls` only on loopback. Port 0 takes a free one. Must be called inside a tokio runtime.
    pub fn bind(addr: SocketAddr, tls: Option<TlsConfig>, limits: Limits) -> Result<Listener, BindError> {
        if tls.is_none() && !addr.ip().to_canonical().is_loopback() {
            return Err(BindError::PlainOnlyOnLoopback { addr });
        }
        let listen = || {
            let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.bind(addr)?;
            let socket = socket.listen(BACKLOG)?;
            let addr = socket.local_addr()?;
            Ok((socket, addr))
        };
        let (socket, addr) = listen().map_err(|source| BindError::Bind { addr, source })?;
        if tls.is_none() {
            tracing::warn!(%addr, "listening without TLS, on loopback only");
        }
        Ok(Listener { socket, addr, tls, limits, observer: Arc::new(()) })
    }

    /// Tells `observer` what happens.
    pub fn observed(mut self, observer: Arc<dyn Observer>) -> Listener {
        self.observer = observer;
        self
    }

    /// The address, with the port that was taken.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The figures it was bound with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Accepts connections and answers their requests with `service`, until the returned handle is drained or dropped.
    /// A request's extensions hold its [`crate::Peer`].
    pub fn serve<S, F, B>(self, service: S) -> Serving
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Serving::start(self, service)
    }
}

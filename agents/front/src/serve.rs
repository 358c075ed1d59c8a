//! Accepting and draining.

use crate::{
    admission::Admission,
    connection::{self, Shared},
    event::Event,
    listen::Listener,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use socket2::{SockRef, TcpKeepalive};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The pause after the system would not give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a peer may be silent before the system asks whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How often the leaf's end is looked at.
const RENEWAL: Duration = Duration::from_secs(6 * 3_600);

/// A listener at work. Dropping it closes everything at once.
#[derive(Debug)]
pub struct Serving {
    addr: SocketAddr,
    admission: Arc<Admission>,
    drain: CancellationToken,
    end: CancellationToken,
    tasks: TaskTracker,
}

impl Serving {
    pub(crate) fn start<S, F, B>(listener: Listener, service: S) -> Serving
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limits = listener.limits;
        let serving = Serving {
            addr: listener.addr,
            admission: Admission::new(limits.connections, limits.per_remote),
            drain: CancellationToken::new(),
            end: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let shared = Arc::new(Shared {
            limits,
            local: listener.addr,
            observer: Arc::clone(&listener.observer),
            drain: serving.drain.clone(),
            tls: listener.tls.clone(),
        });
        if let Some(tls) = listener.tls.clone() {
            let drain = serving.drain.clone();
            serving.tasks.spawn(async move {
                while timeout(RENEWAL, drain.cancelled()).await.is_err() {
                    if let Err(error) = tls.renew_if_due() {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "the certificate could not be renewed"
                        );
                    }
                }
            });
        }
        let (admission, tasks) = (Arc::clone(&serving.admission), serving.tasks.clone());
        let (drain, end) = (serving.drain.clone(), serving.end.clone());
        let accepting = async move {
            loop {
                let (stream, remote) = match listener.socket.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        shared.observer.count(Event::AcceptFailed);
                        tracing::warn!(%error, addr = %listener.addr, "accepting failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let permit = match admission.admit(remote.ip()) {
                    Ok(permit) => permit,
                    Err(why) => {
                        shared.observer.count(why);
                        tracing::debug!(%remote, ?why, "connection refused");
                        continue;
                    }
                };
                prepare(&stream);
                let life = connection::live(stream, remote, permit, Arc::clone(&shared), service.clone());
                let end = end.clone();
                tasks.spawn(async move { end.run_until_cancelled(life).await });
            }
        };
        serving.tasks.spawn(async move { drain.run_until_cancelled(accepting).await });
        serving
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.admission.count()
    }

    /// Cancelled when draining begins: a service that waits for something should then answer.
    pub fn draining(&self) -> &CancellationToken {
        &self.drain
    }

    /// Accepts no more, closes idle connections, lets requests in flight finish for up to `patience`, then closes
    /// what is left. Says whether everything finished by itself.
    pub async fn drain(self, patience: Duration) -> bool {
        self.drain.cancel();
        self.tasks.close();
        let finished = timeout(patience, self.tasks.wait()).await.is_ok();
        self.end.cancel();
        self.tasks.wait().await;
        finished
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.drain.cancel();
        self.end.cancel();
    }
}

/// Answers leave at once; a peer that vanished is noticed. Neither is worth a refusal when the system declines.
fn prepare(stream: &TcpStream) {
    let options = || {
        stream.set_nodelay(true)?;
        SockRef::from(stream)
            .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))
    };
    if let Err(error) = options() {
        tracing::debug!(%error, "socket options declined");
    }
}

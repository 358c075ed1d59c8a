//! `hyperglot status`: what is connected, and the monitors' credentials.

use crate::{Failure, config::Config, identity::AgentIdentity, link::Link, say};
use bus::{Bus, Headers, Request, Subject, child::MonitorCredentials};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use store::Health;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// How long a running installation may take to answer.
const WITHIN: Duration = Duration::from_secs(5);
/// Questions that may wait.
const QUEUE: usize = 16;

/// What an installation says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The installation's name.
    pub domain: String,
    /// This agent.
    pub agent: String,
    /// The mapping bundle's hash.
    pub bundle: String,
    /// When it started, RFC 3339.
    pub started: String,
    /// The bus server.
    pub bus: BusStatus,
    /// Hypervisors.
    pub targets: Vec<TargetStatus>,
    /// Listeners.
    pub fronts: Vec<FrontStatus>,
    /// The stores of this process, and what is wrong with each; empty: it is written.
    pub stores: std::collections::BTreeMap<String, String>,
    /// How many objects of each kind.
    pub objects: std::collections::BTreeMap<String, usize>,
}

/// The bus.
#[derive(Debug, Serialize, Deserialize)]
pub struct BusStatus {
    /// `connected`, `disconnected` or `closed`.
    pub link: String,
    /// The server's name and version.
    pub server: Option<String>,
}

/// A hypervisor.
#[derive(Debug, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: String,
    /// Whether it answers.
    pub connected: bool,
}

/// A listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrontStatus {
    /// Its protocol.
    pub protocol: String,
    /// `fleet` or `host`.
    pub view: String,
    /// Where it listens.
    pub listen: String,
    /// Whether with TLS.
    pub tls: bool,
}

/// What is wrong with a store.
pub fn trouble(health: Health) -> String {
    match health {
        Health::Open => String::new(),
        Health::ReadOnly(reason) => format!("only read: {reason}"),
        Health::Closed => "closed".to_owned(),
    }
}

fn subject() -> Result<Subject, bus::BusError> {
    Subject::service("status", "get")
}

/// Answers status questions until the bus closes.
pub async fn serve(
    bus: Arc<dyn Bus>,
    status: impl Fn() -> Status + Send + 'static,
) -> Result<(), bus::BusError> {
    let mut questions = bus.serve(&subject()?.into(), QUEUE).await?;
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            answer(question, &status()).await;
        }
    });
    Ok(())
}

async fn answer(question: Request, status: &Status) {
    let body = serde_json::to_vec(status).unwrap_or_default();
    if let Err(e) = question.reply(Headers::new(), Bytes::from(body)).await {
        tracing::debug!(error = %e, "a status answer did not leave");
    }
}

/// Where an agent answers on its own machine, in its data_dir: it may do so while the bus is away, and has no right to others' subjects.
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("status.sock")
}

/// Answers status questions on a socket of the owner's alone, for as long as this is polled.
pub async fn serve_socket(data_dir: &Path, status: impl Fn() -> Status) {
    let path = socket(data_dir);
    if let Err(e) = std::fs::remove_file(&path).or_else(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(e),
    }) {
        tracing::warn!(error = %e, path = %path.display(), "the socket of an earlier life stays");
    }
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(e) => {
            tracing::warn!(error = %e, path = %path.display(), "`hyperglot status` gets no answer here");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((mut asking, _)) => {
                let body = serde_json::to_vec(&status()).unwrap_or_default();
                if let Ok(Err(e)) = tokio::time::timeout(WITHIN, asking.write_all(&body)).await {
                    tracing::debug!(error = %e, "a status answer did not leave");
                }
            }
            Err(e) => {
                tracing::warn!(error = %e, "a status question cannot be taken");
                tokio::time::sleep(WITHIN).await;
            }
        }
    }
}

async fn of_agent(data_dir: &Path, agent: &AgentIdentity) -> Result<Status, Failure> {
    let path = socket(data_dir);
    let asked = async {
        let mut stream = UnixStream::connect(&path).await?;
        let mut body = Vec::new();
        stream.read_to_end(&mut body).await?;
        Ok::<_, std::io::Error>(body)
    };
    let wrong = |what: String| {
        let dir = data_dir.display();
        Failure::Other(format!(
            "the agent {} with data_dir = \"{dir}\" does not answer ({what}); is it running?",
            agent.name
        ))
    };
    let body = tokio::time::timeout(WITHIN, asked).await.map_err(|_| wrong("in time".to_owned()))?;
    let body = body.map_err(|e| wrong(format!("{}: {e}", path.display())))?;
    serde_json::from_slice(&body).map_err(Failure::other)
}

/// Asks a running installation, or an agent, and prints what it says.
pub async fn run(config: Option<PathBuf>, data_dir: Option<PathBuf>, as_json: bool) -> Result<(), Failure> {
    let config = Config::load_at(config.as_deref(), data_dir)?;
    if let Some(agent) = AgentIdentity::read(&config.data_dir)?.filter(|_| config.bus.url.is_none()) {
        let status = of_agent(&config.data_dir, &agent).await?;
        return print(status, None, as_json);
    }
    let monitor = Link::monitor(&config)?;
    let bus = Link::join(&config).await?;
    let subject = subject().map_err(Failure::other)?;
    let answer = bus.request(&subject, Headers::new(), Bytes::new(), WITHIN).await.map_err(Failure::other)?;
    let status: Status = serde_json::from_slice(&answer.payload).map_err(Failure::other)?;
    print(status, monitor, as_json)
}

fn print(status: Status, monitor: Option<MonitorCredentials>, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let mut shown = serde_json::to_value(&status).map_err(Failure::other)?;
        if let (Some(shown), Some(m)) = (shown.as_object_mut(), &monitor) {
            let monitor = serde_json::json!({ "url": m.url, "user": m.user, "password": m.password });
            shown.insert("monitor".to_owned(), monitor);
        }
        say::line(shown);
        return Ok(());
    }
    say::line(format_args!(
        "hyperglot {} ({}/{}), since {}",
        status.version, status.domain, status.agent, status.started
    ));
    say::line(format_args!("mappings  {}", status.bundle));
    say::line(format_args!("bus       {} {}", status.bus.link, status.bus.server.unwrap_or_default()));
    for target in &status.targets {
        let state = if target.connected { "connected" } else { "not responding" };
        say::line(format_args!("target    {} ({}) {state}", target.name, target.protocol));
    }
    for front in &status.fronts {
        let scheme = if front.tls { "https" } else { "http" };
        say::line(format_args!("front     {} {} {scheme}://{}", front.protocol, front.view, front.listen));
    }
    for (store, trouble) in status.stores.iter().filter(|(_, trouble)| !trouble.is_empty()) {
        say::line(format_args!("store     {store} {trouble}"));
    }
    let objects: Vec<String> = status.objects.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    say::line(format_args!("objects   {}", objects.join(", ")));
    if let Some(m) = monitor {
        say::line(format_args!(
            "monitor   {} user {} password {}  (reads event.> metric.> task.>)",
            m.url, m.user, m.password
        ));
    }
    Ok(())
}

//! `hyperglot status`: what is connected, and the monitors' credentials.

use crate::{Failure, config::Config, link::Link, say};
use bus::{Bus, Headers, Request, Subject};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::Arc, time::Duration};

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

/// Asks a running installation and prints what it says.
pub async fn run(config: Option<PathBuf>, as_json: bool) -> Result<(), Failure> {
    let config = Config::load(config.as_deref())?;
    let monitor = Link::monitor(&config)?;
    let bus = Link::join(&config).await?;
    let subject = subject().map_err(Failure::other)?;
    let answer = bus.request(&subject, Headers::new(), Bytes::new(), WITHIN).await.map_err(Failure::other)?;
    let status: Status = serde_json::from_slice(&answer.payload).map_err(Failure::other)?;
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

//! `hyperglot up`: the bus, an agent over all targets and the fronts, in one process.
//!
//! ```text
//! configuration ─▶ lock data_dir ─▶ bundle ─▶ users, CA ─▶ bus ─▶ agent ─▶ status, metrics ─▶ targets settled ─▶ fronts ─▶ SIGTERM or Ctrl-C ─▶ drain
//! a second SIGTERM or Ctrl-C ends the drain
//! ```

use crate::{
    Failure,
    agent::{self, Agent},
    config::{Config, Front as FrontConfig, ViewKind},
    find,
    fronts::{self, Fronts, With},
    link::Link,
    logins::FileLogins,
    logs,
    metrics::Metrics,
    say, status,
};
use ::front::ca::Ca;
use guard::{FirstAdmin, Guard, Secret, Settings, Users};
use mapping::Bundle;
use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use union::{
    Clock, Ids,
    clock::{SystemClock, SystemIds},
};

/// How long clients may take to finish what they began when the program is told to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs until told to stop.
pub async fn run(path: Option<PathBuf>) -> Result<(), Failure> {
    let mut config = Config::load(path.as_deref())?;
    logs::start(&config.log);
    ::front::tls::install_provider();
    let _lock = own(&config.data_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let bundle = load(&config)?;
    if config.targets.is_empty() {
        config.targets = agent::local_targets()?;
    }
    if config.fronts.is_empty() {
        config.fronts = default_fronts();
    }
    fronts::check_addresses(&config.fronts)?;
    let guard = admit(&config.data_dir, &clock, ids.as_ref())?;
    let logins = FileLogins::new(guard, Arc::clone(&clock), Arc::clone(&ids));
    let ca = Ca::open(&config.data_dir, Arc::clone(&clock), Arc::clone(&ids)).map_err(Failure::other)?;
    let mut stop = Stop::new()?;

    let link = tokio::select! {
        link = Link::start(&config, &ca, Vec::new(), ids.as_ref()) => link?,
        () = stop.wait() => return Ok(()),
    };
    let agent = Agent::start(&config, bundle, Arc::clone(&link.bus), clock, ids).await?;
    let with =
        With { agent, logins, ca, metrics: Metrics::new(), limits: fronts::limits(config.fronts.len()) };
    let fronts = Arc::new(Fronts::default());
    let ended = {
        let serving = serve(&config, &with, &fronts);
        tokio::select! {
            ended = serving => ended,
            () = stop.wait() => Ok(()),
        }
    };
    if ended.is_ok() {
        tracing::info!("stopping: no new connections; what was begun may take {} s", PATIENCE.as_secs());
    }
    tokio::select! {
        () = close(&with.agent, &fronts, link) => ended,
        () = stop.wait() => Err(Failure::other("told to stop a second time: what was begun was not waited for")),
    }
}

/// Brings everything up and serves. Never ends but by a failure.
async fn serve(config: &Config, with: &With, fronts: &Arc<Fronts>) -> Result<(), Failure> {
    let agent = &with.agent;
    let figures = config.metrics.listen.map(|listen| with.metrics.serve(listen, agent, fronts));
    let _figures = figures.transpose()?;
    serve_status(agent, fronts).await?;
    agent.connect(&config.targets).await?;
    agent.first_facts().await;
    let late = fronts.open(&config.fronts, with)?;
    announce(agent, fronts, &late);
    fronts.open_late(late, with).await
}

/// Lets clients and commands finish what they began, then closes the bus and stops its server.
async fn close(agent: &Agent, fronts: &Fronts, link: Link) {
    fronts.drain(PATIENCE).await;
    agent.owner.drain(PATIENCE).await;
    agent.stop_publishing().await;
    if let Err(e) = link.bus.drain(Duration::from_secs(2)).await {
        tracing::debug!(error = %e, "the bus was closed before everything was answered");
    }
    if let Some(child) = link.child {
        child.stop().await;
    }
}

/// Makes `data_dir` and takes it for this process alone.
fn own(data_dir: &Path) -> Result<File, Failure> {
    let wrong = |e: std::io::Error| Failure::other(format!("data_dir = \"{}\": {e}", data_dir.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(wrong)?;
    let lock = File::create(data_dir.join("lock")).map_err(wrong)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Failure::other(format!(
            "data_dir = \"{}\" is in use by another hyperglot: stop it, or give this one a data_dir of its own",
            data_dir.display()
        ))),
        Err(TryLockError::Error(e)) => Err(wrong(e)),
    }
}

fn load(config: &Config) -> Result<Arc<Bundle>, Failure> {
    let dir = find::mappings(config.mappings.as_deref()).map_err(Failure::Other)?;
    let bundle = Bundle::load(&dir).map_err(|report| Failure::Mapping(format!("{report}")))?;
    tracing::info!(dir = %dir.display(), hash = bundle.hash, "mappings loaded");
    Ok(bundle)
}

/// The users, with an administrator made at the first start.
fn admit(data_dir: &Path, clock: &Arc<dyn Clock>, ids: &dyn Ids) -> Result<Arc<Guard>, Failure> {
    let file = data_dir.join("users.toml");
    let users = Arc::new(Users::open(file.clone()).map_err(Failure::other)?);
    let name = std::env::var("HYPERGLOT_ADMIN_USER").ok();
    let password = std::env::var("HYPERGLOT_ADMIN_PASSWORD").ok().map(Secret::new);
    let settings = Settings::default();
    let made = guard::first_admin(&users, name.as_deref(), password, settings.cost, ids).map_err(|e| {
        Failure::Other(format!(
            "cannot make the first administrator: {e} (HYPERGLOT_ADMIN_USER and HYPERGLOT_ADMIN_PASSWORD say who it is)"
        ))
    })?;
    match made {
        FirstAdmin::Present => {}
        FirstAdmin::Given { name } => say::notice(format_args!(
            "made the administrator {name} with the password from HYPERGLOT_ADMIN_PASSWORD"
        )),
        FirstAdmin::Generated { name, password } => {
            let said = say::once(format_args!(
                "made the administrator {name} with the password {}  (shown this once)",
                password.expose()
            ));
            if let Err(e) = said {
                // Nobody will ever know this password: the next start makes another.
                let left = fs::remove_file(&file).err().map(|e| format!(" (and {}: {e})", file.display()));
                return Err(Failure::Other(format!(
                    "the new administrator's password cannot be printed: {e}; give standard output, or \
                     HYPERGLOT_ADMIN_PASSWORD{}",
                    left.unwrap_or_default()
                )));
            }
        }
    }
    Guard::new(users, settings, Arc::clone(clock), ids).map_err(Failure::other)
}

fn default_fronts() -> Vec<FrontConfig> {
    let front = |view, port| FrontConfig {
        protocol: "vsphere".into(),
        view,
        host: None,
        listen: std::net::SocketAddr::from(([127, 0, 0, 1], port)),
        tls: true,
        names: Vec::new(),
    };
    vec![front(ViewKind::Fleet, 8443), front(ViewKind::Host, 8444)]
}

async fn serve_status(agent: &Arc<Agent>, fronts: &Arc<Fronts>) -> Result<(), Failure> {
    let (agent, fronts) = (Arc::clone(agent), Arc::clone(fronts));
    let bus = Arc::clone(&agent.bus);
    status::serve(bus, move || agent.status(fronts.status())).await.map_err(Failure::other)
}

fn announce(agent: &Agent, fronts: &Fronts, late: &[&FrontConfig]) {
    for target in agent.targets() {
        let state = if target.connected { "connected" } else { "not responding" };
        say::notice(format_args!("target {} ({}) {state}", target.name, target.protocol));
    }
    let count = agent.inventory.count(union::Kind::Vm);
    say::notice(format_args!(
        "{count} virtual machines on {} hosts",
        agent.inventory.count(union::Kind::Host)
    ));
    for front in fronts.status() {
        let scheme = if front.tls { "https" } else { "http" };
        say::notice(format_args!("{} {} view on {scheme}://{}", front.protocol, front.view, front.listen));
    }
    for front in late {
        let host = front.host.as_deref().unwrap_or("the first answer of every target");
        say::notice(format_args!("the host view on {} waits for {host}", front.listen));
    }
    say::notice("ready");
}

/// SIGTERM, SIGINT.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Stop, Failure> {
        let on = |kind| signal(kind).map_err(Failure::other);
        Ok(Stop { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

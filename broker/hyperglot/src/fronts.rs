//! Opens the configured listeners over views of the agent's inventory, one view a kind of front.
//!
//! ```text
//! host known, or fleet ─▶ open
//! host not known ─┬─ a target has not answered yet ─▶ late: opened when the host appears
//!                 └─ all have ─▶ refused: says which hosts there are
//! ```

use crate::{
    Failure,
    agent::{Agent, LOOK},
    config::{Front as FrontConfig, ViewKind},
    id_maps::{self, IdMaps},
    metrics::Metrics,
    say,
    status::FrontStatus,
    threads::Threads,
};
use ::front::{BindError, Limits, Listener, ca::Ca, tls::TlsConfig};
use ::link::Router;
use inventory::{IdMap, Inventory, Layout, ObserverGuard, Skeleton, Tasks, View};
use mapping::{Bundle, Protocol};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use union::{Kind, ObjectId};

/// An open front.
struct Open {
    protocol: String,
    view: &'static str,
    tls: bool,
    serving: vsphere::front::Serving,
    _forgetting: ObserverGuard,
    _logins: AbortOnDropHandle<()>,
}

impl Open {
    fn status(&self) -> FrontStatus {
        FrontStatus {
            protocol: self.protocol.clone(),
            view: self.view.to_owned(),
            listen: self.serving.addr().to_string(),
            tls: self.tls,
        }
    }
}

/// What the fronts of one kind of view stand on.
pub struct Side {
    /// The facts.
    pub inventory: Arc<Inventory>,
    /// The tasks of its commands.
    pub tasks: Arc<Tasks>,
    /// The way of its commands.
    pub router: Arc<Router>,
}

/// What every front is opened with.
pub struct With {
    /// The facts and lanes of this process.
    pub agent: Arc<Agent>,
    /// For views of a host.
    pub host: Side,
    /// For views of the fleet, where the engine is in this process.
    pub fleet: Option<(Side, Arc<IdMaps>)>,
    /// Who signs the certificates.
    pub ca: Arc<Ca>,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// As many connections as a listener may hold.
    pub limits: Limits,
}

impl With {
    fn side(&self, config: &FrontConfig) -> Result<&Side, Failure> {
        match config.view {
            ViewKind::Host => Ok(&self.host),
            ViewKind::Fleet => self.fleet.as_ref().map(|(side, _)| side).ok_or_else(|| {
                Failure::other(format!(
                    "[[front]] {} view = \"fleet\": the fleet is shown by `hyperglot broker` (or `up`); an agent shows `host`",
                    config.listen
                ))
            }),
        }
    }

    /// The native ids of a view. Those of the fleet are the engine's, those of a host its agent's.
    async fn natives(&self, protocol: &str, view: &View) -> Result<Arc<IdMap>, Failure> {
        let agent = &self.agent;
        let opened = match (&self.fleet, view.host()) {
            (Some((_, maps)), None) => maps.front(protocol, view.name()).await,
            (_, host) => {
                let host = host.map(|id| id.uuid.to_string()).unwrap_or_default();
                let scope = format!("{} {host}:{}", view.name(), agent.name);
                let forms = agent.bundle().protocol(protocol).map(|p| p.numbered_forms(view.name()));
                let objects = view.inventory().count(Kind::Vm);
                id_maps::leased(agent, protocol, &scope, &forms.unwrap_or_default(), objects).await
            }
        };
        opened.map_err(|e| {
            Failure::other(format!("the native ids of the {} view cannot be read: {e}", view.name()))
        })
    }
}

/// The open listeners.
pub struct Fronts {
    open: Mutex<Vec<Open>>,
    ready: AtomicBool,
    /// Fronts open, or other mappings come: one at a time.
    turn: tokio::sync::Mutex<()>,
    threads: Threads,
}

impl Fronts {
    /// None yet.
    pub fn new(threads: Threads) -> Fronts {
        Fronts { open: Mutex::default(), ready: AtomicBool::new(false), turn: Default::default(), threads }
    }

    /// Whether those that can be are open.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// What `hyperglot status` says of them.
    pub fn status(&self) -> Vec<FrontStatus> {
        self.open.lock().iter().map(Open::status).collect()
    }

    /// Opens those whose host is known; the others come back.
    pub async fn open<'c>(
        &self,
        fronts: &'c [FrontConfig],
        with: &With,
    ) -> Result<Vec<&'c FrontConfig>, Failure> {
        let mut late = Vec::new();
        for config in fronts {
            match layout(config, with)? {
                Some(layout) => self.open_one(config, layout, with).await?,
                None => late.push(config),
            }
        }
        self.ready.store(true, Ordering::Release);
        Ok(late)
    }

    /// Opens each of `late` when its host appears. Never ends but by a failure.
    pub async fn open_late(&self, mut late: Vec<&FrontConfig>, with: &With) -> Result<(), Failure> {
        loop {
            tokio::time::sleep(LOOK).await;
            let mut still = Vec::new();
            for config in late {
                match layout(config, with)? {
                    Some(layout) => {
                        self.open_one(config, layout, with).await?;
                        say::notice(format_args!("the {} view on {} is open", word(config), config.listen));
                    }
                    None => still.push(config),
                }
            }
            late = still;
            if late.is_empty() {
                return std::future::pending().await;
            }
        }
    }

    /// Has sessions that begin from now on speak by other mappings.
    pub async fn swap(&self, bundle: &Arc<Bundle>) {
        let _turn = self.turn.lock().await;
        for front in &*self.open.lock() {
            if let Err(error) = front.serving.swap(Arc::clone(bundle)) {
                let listen = front.serving.addr();
                tracing::error!(%listen, %error, "a front goes on by the mappings it has");
            }
        }
    }

    /// How many sessions of all fronts speak by each bundle.
    pub fn bundles(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for (hash, sessions) in self.open.lock().iter().flat_map(|front| front.serving.bundles()) {
            *all.entry(hash).or_default() += sessions;
        }
        all
    }

    /// Closes all of them, each within `patience`.
    pub async fn drain(&self, patience: Duration) {
        let mut draining = tokio::task::JoinSet::new();
        for front in self.open.lock().drain(..) {
            draining.spawn(front.serving.drain(patience));
        }
        while draining.join_next().await.is_some() {}
    }

    /// Ends the threads that are theirs alone; nothing is served after that. To be called before the process ends, drained or not.
    pub fn end(&self) {
        self.threads.end();
    }

    async fn open_one(&self, config: &FrontConfig, layout: Layout, with: &With) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        let agent = &with.agent;
        let word = word(config);
        let side = with.side(config)?;
        let view = View::new(word, &side.inventory, layout);
        let natives = with.natives(&config.protocol, &view).await?;
        let forgetting = natives.follow(&view);
        let name = format!("{}-{word}-{}", config.protocol, config.listen.port());
        let tls = match config.tls {
            false => None,
            true => {
                let mut names = config.names.clone();
                names.push(config.listen.ip().to_string());
                let names: Vec<String> = names.into_iter().filter(|n| n != "0.0.0.0" && n != "::").collect();
                let leaf = with.ca.leaf(&name, &names).map_err(Failure::other)?;
                Some(TlsConfig::new(leaf).map_err(Failure::other)?)
            }
        };
        let deps = vsphere::front::Deps {
            bundle: agent.bundle(),
            view,
            commands: Arc::clone(&side.router) as Arc<dyn lane::Commands>,
            logins: Arc::clone(&agent.joined.logins) as Arc<dyn guard::Logins>,
            tasks: Arc::clone(&side.tasks),
            clock: Arc::clone(&agent.clock),
            ids: Arc::clone(&agent.ids),
        };
        let serving = {
            let _there = self.threads.handle().enter();
            let listener = Listener::bind(config.listen, tls, with.limits);
            let listener = listener.map_err(|e| cannot_listen("[[front]]", &e))?;
            let listener = listener.observed(with.metrics.front(&name));
            vsphere::front::serve_as(listener, deps, natives).map_err(Failure::other)?
        };
        // What happens to objects is told once, by the agent; who logs in only a front knows.
        let logins = agent.publisher.clone().events(
            Arc::clone(serving.chronicle()),
            "session.",
            watch::Sender::new(0),
        );
        let open = Open {
            protocol: config.protocol.clone(),
            view: word,
            tls: config.tls,
            serving,
            _forgetting: forgetting,
            _logins: AbortOnDropHandle::new(tokio::spawn(logins)),
        };
        self.open.lock().push(open);
        Ok(())
    }
}

/// Says early that an address cannot be had: the listeners themselves open only when there is something to show.
pub fn check_addresses(fronts: &[FrontConfig]) -> Result<(), Failure> {
    for config in fronts {
        std::net::TcpListener::bind(config.listen)
            .map_err(|source| BindError::Bind { addr: config.listen, source })
            .map_err(|e| cannot_listen("[[front]]", &e))?;
    }
    Ok(())
}

/// Why a listener of `section` did not open, and what to do.
pub fn cannot_listen(section: &str, error: &BindError) -> Failure {
    let why = std::error::Error::source(error).map(|s| format!(": {s}")).unwrap_or_default();
    let help = match error {
        BindError::Bind { .. } => format!("; choose another `listen` in {section}, or stop what uses it"),
        BindError::PlainOnlyOnLoopback { .. } => String::new(),
    };
    Failure::other(format!("{error}{why}{help}"))
}

/// As many connections as the process may hold files for, shared between the listeners; half of the files are for everything else.
pub fn limits(listeners: usize) -> Limits {
    let usual = Limits::default();
    let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    let share = soft.map_or(usual.connections, |soft| soft / 2 / listeners.max(1));
    Limits { connections: usual.connections.min(share.max(16)), ..usual }
}

/// The view that a front shows.
pub fn word(config: &FrontConfig) -> &'static str {
    match config.view {
        ViewKind::Fleet => "fleet",
        ViewKind::Host => "host",
    }
}

/// How a front arranges the facts; `None` while its host is not known.
fn layout(config: &FrontConfig, with: &With) -> Result<Option<Layout>, Failure> {
    let agent = &*with.agent;
    let bundle = agent.bundle();
    let protocol = bundle.protocol(&config.protocol).ok_or_else(|| {
        Failure::Mapping(format!(
            "there are no mappings of {}: expected a directory of that name",
            config.protocol
        ))
    })?;
    let names = skeleton(protocol, word(config));
    Ok(match config.view {
        // An empty fleet would tell clients that their machines are gone.
        ViewKind::Fleet if with.side(config)?.inventory.count(Kind::Host) == 0 => None,
        ViewKind::Fleet => Some(Layout::Fleet(names)),
        ViewKind::Host => host(config, agent)?.map(|host| Layout::Host(host, names)),
    })
}

/// The names of the tree's fixed parts, as the protocol's view table has them.
fn skeleton(protocol: &Protocol, view: &str) -> Skeleton {
    let default = Skeleton::default();
    let constants = protocol.constants(view);
    let name = |part: &str, otherwise: Arc<str>| {
        constants.and_then(|c| c.text(&format!("skeleton.{part}"))).map_or(otherwise, Arc::clone)
    };
    Skeleton {
        root: name("root", default.root),
        datacenter: name("datacenter", default.datacenter),
        vm: name("vm", default.vm),
        host: name("host", default.host),
        storage: name("storage", default.storage),
        network: name("network", default.network),
        pool: name("pool", default.pool),
    }
}

/// The host of a host view, by name or the only one there is; `None` while it may still come from a target that has not answered.
fn host(config: &FrontConfig, agent: &Agent) -> Result<Option<ObjectId>, Failure> {
    // Asked first: a target that answers has its hosts in the inventory already.
    let all_answer = agent.targets().iter().all(|target| target.connected);
    let slot = agent.inventory.schema().slot(Kind::Host, "name");
    let hosts = agent.inventory.ids(Kind::Host);
    let found = match (&config.host, slot) {
        (Some(name), Some(slot)) => agent.inventory.find(Kind::Host, slot, name).first().copied(),
        _ => hosts.first().copied().filter(|_| hosts.len() == 1 && all_answer),
    };
    if found.is_some() || !all_answer {
        return Ok(found);
    }
    let name = |id: &ObjectId| agent.inventory.record(*id)?.get(slot?).as_str().map(str::to_owned);
    let mut names: Vec<String> = hosts.iter().filter_map(name).collect();
    names.sort_unstable();
    let wanted = match &config.host {
        Some(host) => format!("there is no host called {host}"),
        None => "`host = \"…\"` is missing, and there is more than one".to_owned(),
    };
    Err(Failure::Other(format!(
        "[[front]] {} view = \"host\": {wanted}; expected one of: {}",
        config.listen,
        names.join(", ")
    )))
}

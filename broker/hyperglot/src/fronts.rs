//! Opens the configured listeners over views of the agent's inventory, one view a kind of front.

use crate::{
    Failure,
    agent::Agent,
    config::{Front as FrontConfig, ViewKind},
    metrics::Metrics,
    status::FrontStatus,
};
use ::front::{Limits, Listener, ca::Ca, tls::TlsConfig};
use guard::Guard;
use inventory::{Layout, Skeleton, View};
use mapping::Protocol;
use std::{sync::Arc, time::Duration};
use union::{Kind, ObjectId};

/// How long a host view waits for its host's first facts.
const HOST_WITHIN: Duration = Duration::from_secs(60);

/// An open front.
pub struct Open {
    protocol: String,
    view: &'static str,
    tls: bool,
    serving: vsphere::front::Serving,
}

impl Open {
    /// What `hyperglot status` says of it.
    pub fn status(&self) -> FrontStatus {
        FrontStatus {
            protocol: self.protocol.clone(),
            view: self.view.to_owned(),
            listen: self.serving.addr().to_string(),
            tls: self.tls,
        }
    }
}

/// Opens all of them.
pub async fn open(
    fronts: &[FrontConfig],
    agent: &Arc<Agent>,
    guard: &Arc<Guard>,
    ca: &Arc<Ca>,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Open>, Failure> {
    let mut open = Vec::new();
    for config in fronts {
        let protocol = agent.bundle.protocol(&config.protocol);
        let protocol = protocol.filter(|_| config.protocol == "vsphere").ok_or_else(|| {
            Failure::other(format!("[[front]] protocol = \"{}\": expected vsphere", config.protocol))
        })?;
        let word = match config.view {
            ViewKind::Fleet => "fleet",
            ViewKind::Host => "host",
        };
        let view = view(config, word, protocol, agent).await?;
        let name = format!("{}-{word}-{}", config.protocol, config.listen.port());
        let tls = match config.tls {
            false => None,
            true => {
                let mut names = config.names.clone();
                names.push(config.listen.ip().to_string());
                let names: Vec<String> = names.into_iter().filter(|n| n != "0.0.0.0" && n != "::").collect();
                let leaf = ca.leaf(&name, &names).map_err(Failure::other)?;
                Some(TlsConfig::new(leaf).map_err(Failure::other)?)
            }
        };
        let listener = Listener::bind(config.listen, tls, limits(fronts.len())).map_err(|e| {
            let why = std::error::Error::source(&e).map(|s| format!(": {s}")).unwrap_or_default();
            Failure::other(format!("{e}{why}"))
        })?;
        let listener = listener.observed(metrics.front(&name));
        let deps = vsphere::front::Deps {
            bundle: Arc::clone(&agent.bundle),
            view,
            owner: Arc::clone(&agent.owner),
            guard: Arc::clone(guard),
            tasks: Arc::clone(&agent.tasks),
            clock: Arc::clone(&agent.clock),
            ids: Arc::clone(&agent.ids),
        };
        let serving = vsphere::front::serve(listener, deps).map_err(Failure::other)?;
        open.push(Open { protocol: config.protocol.clone(), view: word, tls: config.tls, serving });
    }
    Ok(open)
}

/// As many connections as the process may hold files for, shared between the listeners; half of the files are for everything else.
fn limits(listeners: usize) -> Limits {
    let usual = Limits::default();
    let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    let share = soft.map_or(usual.connections, |soft| soft / 2 / listeners.max(1));
    Limits { connections: usual.connections.min(share.max(16)), ..usual }
}

/// Closes all of them, each within `patience`.
pub async fn drain(open: Vec<Open>, patience: Duration) {
    let mut draining = tokio::task::JoinSet::new();
    for front in open {
        draining.spawn(front.serving.drain(patience));
    }
    while draining.join_next().await.is_some() {}
}

async fn view(
    config: &FrontConfig,
    word: &str,
    protocol: &Protocol,
    agent: &Arc<Agent>,
) -> Result<Arc<View>, Failure> {
    let names = skeleton(protocol, word);
    let layout = match config.view {
        ViewKind::Fleet => Layout::Fleet(names),
        ViewKind::Host => Layout::Host(host(config, agent).await?, names),
    };
    Ok(View::new(word, &agent.inventory, layout))
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

/// The host of a host view: by name, or the only one there is. Waits for a target that has not given its facts yet.
async fn host(config: &FrontConfig, agent: &Arc<Agent>) -> Result<ObjectId, Failure> {
    let found = || {
        let hosts = agent.inventory.ids(Kind::Host);
        match &config.host {
            None => (hosts.len() == 1).then(|| hosts.first().copied()).flatten(),
            Some(name) => {
                let slot = agent.inventory.schema().slot(Kind::Host, "name")?;
                agent.inventory.find(Kind::Host, slot, name).first().copied()
            }
        }
    };
    let waiting = async {
        loop {
            if let Some(host) = found() {
                return host;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(HOST_WITHIN, waiting).await.map_err(|_| {
        let slot = agent.inventory.schema().slot(Kind::Host, "name");
        let names = agent.inventory.ids(Kind::Host);
        let names =
            names.iter().filter_map(|id| agent.inventory.record(*id)?.get(slot?).as_str().map(str::to_owned));
        let names: Vec<String> = names.collect();
        let wanted = config
            .host
            .as_ref()
            .map_or("`host = \"…\"` to say which".to_owned(), |h| format!("a host called {h}"));
        Failure::other(format!(
            "[[front]] {} view = \"host\": expected {wanted}; there are: {}",
            config.listen,
            names.join(", ")
        ))
    })
}

//! The agent: the inventory of its targets, their lanes, and what it tells the bus.
//!
//! ```text
//! start ─▶ targets connect ─▶ settled: the first facts are there, or the target cannot be reached ─▶ fronts open
//! ```

use crate::{
    Failure,
    config::{Config, Target as TargetConfig},
    find,
    publish::{Publisher, Publishing},
    say,
    status::{BusStatus, Status, TargetStatus},
};
use bus::{Bus, Link};
use inventory::{Chronicle, Inventory, ObserverGuard, Tasks, fleet::Finder};
use lane::{Limits, Owner, Target};
use mapping::Bundle;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};
use union::{Clock, Ids, Kind, Value, pb::Connection};

/// How long the start waits for a hypervisor before it goes on without its facts.
const SETTLE: Duration = Duration::from_secs(20);

/// How long the bus is given for the last events.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often something that is waited for is looked for.
pub const LOOK: Duration = Duration::from_millis(200);

type Settled = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// One process's targets and everything over them.
pub struct Agent {
    /// The installation's name.
    pub domain: Arc<str>,
    /// This agent's name: the machine's.
    pub name: Arc<str>,
    /// The mappings in force.
    pub bundle: Arc<Bundle>,
    /// The facts of all targets.
    pub inventory: Arc<Inventory>,
    /// Commands as their callers watch them.
    pub tasks: Arc<Tasks>,
    /// The events that go to the bus.
    pub chronicle: Arc<Chronicle>,
    /// The lanes.
    pub owner: Arc<Owner>,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// Tells the bus.
    pub publisher: Publisher,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    started_ms: i64,
    publishing: Mutex<Option<Publishing>>,
    _watching: ObserverGuard,
}

impl Agent {
    /// An agent without targets that tells `bus` what it knows.
    pub async fn start(
        config: &Config,
        bundle: Arc<Bundle>,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Arc<Agent>, Failure> {
        let started_ms = clock.now_ms();
        let incarnation = started_ms.unsigned_abs();
        let inventory = Inventory::new(Arc::clone(&bundle.schema), incarnation, Arc::clone(&clock));
        let tasks = Tasks::new(Arc::clone(&inventory), Arc::clone(&clock), Arc::clone(&ids));
        let (chronicle, watching) = Chronicle::new("agent", &inventory);
        let rules = Arc::new(lane::rules::BundleRules::new(Arc::clone(&bundle)));
        let owner = Owner::new(
            rules,
            Arc::clone(&inventory),
            Arc::clone(&tasks),
            Arc::clone(&clock),
            Limits::default(),
        );
        let name: Arc<str> = Arc::from(machine());
        let publisher =
            Publisher { bus: Arc::clone(&bus), domain: Arc::from(&*config.domain), agent: Arc::clone(&name) };
        let lanes = Arc::downgrade(&owner);
        let finder: Finder = Arc::new(move |id| {
            let target = lanes.upgrade()?.target_of(id)?;
            Some((Arc::from(target.name()), Arc::from(target.protocol())))
        });
        let publishing =
            publisher.start(&inventory, incarnation, &chronicle, finder).await.map_err(Failure::other)?;
        Ok(Arc::new(Agent {
            domain: Arc::clone(&publisher.domain),
            publisher,
            name,
            bundle,
            inventory,
            tasks,
            chronicle,
            owner,
            bus,
            clock,
            ids,
            started_ms,
            publishing: Mutex::new(Some(publishing)),
            _watching: watching,
        }))
    }

    /// Connects the targets and waits until each has given its facts or cannot be reached.
    pub async fn connect(self: &Arc<Agent>, targets: &[TargetConfig]) -> Result<(), Failure> {
        let mut waiting = Vec::new();
        for target in targets {
            let (driver, settled) = self.open(target)?;
            self.owner.adopt(driver);
            waiting.push((target.shown(), settled));
        }
        tokio::spawn(tell_in_step(Arc::downgrade(self)));
        for (name, settled) in waiting {
            match tokio::time::timeout(SETTLE, settled).await {
                Ok(Ok(())) => tracing::info!(target = name, "in step"),
                Ok(Err(why)) => tracing::warn!(target = name, why, "cannot be reached; it is tried again"),
                Err(_) => tracing::warn!(
                    target = name,
                    "has not given its facts within {} s; it is waited for",
                    SETTLE.as_secs()
                ),
            }
        }
        Ok(())
    }

    /// Waits until some target has given its facts: an empty inventory would tell clients that their machines are gone.
    pub async fn first_facts(&self) {
        let mut told = false;
        while self.inventory.count(Kind::Host) == 0 {
            if !told {
                let names: Vec<String> = self.targets().into_iter().map(|target| target.name).collect();
                say::notice(format_args!(
                    "waiting for the first facts of {}; listeners open when they are here",
                    names.join(", ")
                ));
                told = true;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The driver of one target, by its protocol's name.
    fn open(&self, target: &TargetConfig) -> Result<(Arc<dyn Target>, Settled), Failure> {
        match target.protocol.as_str() {
            "libvirt" => self.open_libvirt(target),
            "sim" => self.open_sim(target),
            other => {
                Err(Failure::other(format!("[[target]] protocol = \"{other}\": expected libvirt or sim")))
            }
        }
    }

    fn open_libvirt(&self, target: &TargetConfig) -> Result<(Arc<dyn Target>, Settled), Failure> {
        let mut config =
            libvirt::target::Config::new(&target.shown(), target.uri.as_deref().unwrap_or_default());
        config.runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(Into::into);
        if let Some(seconds) = target.timeout_s {
            config.patience = Duration::from_secs(seconds);
        }
        if let Some(seconds) = target.stats_s {
            config.stats_every = Duration::from_secs(seconds);
        }
        let inventory = Arc::clone(&self.inventory);
        let driver = libvirt::target::connect(config, &self.bundle, inventory, Arc::clone(&self.clock))
            .map_err(|error| match error.is_mapping() {
                true => Failure::Mapping(error.to_string()),
                false => Failure::other(error),
            })?;
        let settled = {
            let driver = Arc::clone(&driver);
            async move {
                match driver.settled().await {
                    libvirt::target::Status::Lost(why) => Err(why),
                    _ => Ok(()),
                }
            }
        };
        Ok((driver, Box::pin(settled)))
    }

    fn open_sim(&self, target: &TargetConfig) -> Result<(Arc<dyn Target>, Settled), Failure> {
        let source = match (&target.inventory, &target.generate) {
            (Some(file), _) => sim::target::Source::File(file.clone()),
            (None, Some(g)) => sim::target::Source::Generate { vms: g.vms, hosts: g.hosts },
            (None, None) => {
                return Err(Failure::other(
                    "[[target]] protocol = \"sim\": expected `inventory` or `generate`",
                ));
            }
        };
        let config = sim::target::Config { name: target.shown(), source, behaviour: None, effect_log: None };
        let driver =
            sim::target::connect(config, &self.inventory, &self.clock, &self.ids).map_err(Failure::other)?;
        Ok((driver, Box::pin(std::future::ready(Ok(())))))
    }

    /// The targets and whether each answers.
    pub fn targets(&self) -> Vec<TargetStatus> {
        let connection = self.inventory.schema().slot(Kind::Host, "connection");
        let hosts = self.inventory.ids(Kind::Host);
        let answers = |target: &Arc<dyn Target>| {
            hosts.iter().filter(|id| target.holds(**id)).any(|id| {
                let record = self.inventory.record(*id);
                let state = record.as_ref().zip(connection).map(|(r, slot)| r.get(slot).clone());
                state == Some(Value::from(Connection::Connected as i32))
            })
        };
        let status = |target: &Arc<dyn Target>| TargetStatus {
            name: target.name().to_owned(),
            protocol: target.protocol().to_owned(),
            connected: answers(target),
        };
        self.owner.targets().iter().map(status).collect()
    }

    /// Tells of those targets that are not in `told`: a target shows its hosts as connected with the last of its first facts. Whether all
    /// are told, or there is nobody to tell.
    fn tell_in_step(&self, told: &mut BTreeSet<String>) -> bool {
        let targets = self.targets();
        let publishing = self.publishing.lock();
        let Some(publishing) = publishing.as_ref() else { return true };
        for target in targets.iter().filter(|target| target.connected) {
            if told.insert(target.name.clone()) {
                publishing.in_step(&target.name);
            }
        }
        targets.iter().all(|target| told.contains(&target.name))
    }

    /// What `hyperglot status` says.
    pub fn status(&self, fronts: Vec<crate::status::FrontStatus>) -> Status {
        let bus = self.bus.status();
        let link = match bus.link {
            Link::Connected => "connected",
            Link::Disconnected => "disconnected",
            Link::Closed => "closed",
        };
        let counted = |kind: &Kind| (kind.word().to_owned(), self.inventory.count(*kind));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            domain: self.domain.to_string(),
            agent: self.name.to_string(),
            bundle: self.bundle.hash.clone(),
            started: crate::json::time(self.started_ms),
            bus: BusStatus { link: link.to_owned(), server: bus.server },
            targets: self.targets(),
            fronts,
            objects: Kind::ALL.iter().map(counted).filter(|(_, n)| *n > 0).collect::<BTreeMap<_, _>>(),
        }
    }

    /// Tells the bus what it has not heard yet, then no more.
    pub async fn stop_publishing(&self) {
        let publishing = self.publishing.lock().take();
        if let Some(publishing) = publishing {
            publishing.finish(&self.chronicle, LAST_WORDS).await;
        }
    }
}

/// This machine's name.
pub fn machine() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let named = named.trim();
    if named.is_empty() { "localhost".to_owned() } else { named.to_owned() }
}

/// Tells the bus of each target once that it has given all its facts.
async fn tell_in_step(agent: Weak<Agent>) {
    let mut told = BTreeSet::new();
    while agent.upgrade().is_some_and(|agent| !agent.tell_in_step(&mut told)) {
        tokio::time::sleep(LOOK).await;
    }
}

/// Says what is managed when the configuration names no target, and how it was found.
pub fn local_targets() -> Result<Vec<TargetConfig>, Failure> {
    let (uri, socket) = find::libvirt().map_err(|silent| {
        let silent: String =
            silent.iter().map(|(socket, why)| format!(" {} does not answer: {why}.", socket.display())).collect();
        Failure::Other(format!(
            "no target is configured and no local libvirt was found: expected its socket at /run/libvirt/libvirt-sock, \
             /run/libvirt/virtqemud-sock or in $XDG_RUNTIME_DIR/libvirt.{silent} Start libvirt (and be a member of its \
             group, usually `libvirt`), or name a target in a configuration and give it with --config FILE:\n\n\
             [[target]]\nprotocol = \"libvirt\"\nuri = \"qemu+tcp://HOST/system\""
        ))
    })?;
    say::notice(format_args!("found libvirt at {} and manage it as {uri}", socket.display()));
    Ok(vec![TargetConfig {
        protocol: "libvirt".into(),
        name: Some("local".into()),
        uri: Some(uri),
        inventory: None,
        generate: None,
        timeout_s: None,
        stats_s: None,
    }])
}

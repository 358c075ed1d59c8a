//! The agent: the inventory of its targets, their lanes, its side of the engine, and what it tells the bus.
//!
//! ```text
//! store ─▶ start ─▶ targets connect ─▶ settled: the first facts are there, or the target cannot be reached
//!       ─▶ recovered: what became of the commands of an earlier life is being found out ─▶ joined: the engine may ask ─▶ fronts open
//! ```

use crate::{
    Failure,
    config::{Config, Target as TargetConfig},
    publish::{Publisher, Publishing},
    say,
    status::{BusStatus, Status, TargetStatus},
};
use ::link::{
    FactsTree, Joined, Router,
    duty::Introduces,
    keep::{counters::Counters, facts::FactKeeper, owned, tasks::TaskKeeper},
    router::InStep,
};
use bus::{Bus, Link as BusLink};
use guard::{Keys, Public, Signer};
use inventory::{
    Chronicle, Inventory, ObserverGuard, Tasks,
    fleet::{Finder, Fleet, Local},
};
use lane::{Limits, Owner, Target, rules::BundleRules};
use mapping::Bundle;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};
use store::{Epoch, FileStore, Store};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};
use union::{Clock, CommandId, Ids, Kind, ObjectId, Value, pb, pb::Connection};

mod targets;

pub use targets::local_targets;

/// How long the start waits for a hypervisor before it goes on without its facts.
const SETTLE: Duration = Duration::from_secs(20);
/// How long the bus is given for the last events.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long outcomes are given to reach the disk and the engine.
const LAST_OUTCOMES: Duration = Duration::from_secs(5);
/// How long the engine is asked for the end of a command of an earlier life.
const RESUME: Duration = Duration::from_secs(600);
/// How often something that is waited for is looked for.
pub const LOOK: Duration = Duration::from_millis(200);

type Settled = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// How an agent reaches its engine, and who it is to it.
pub struct Membership {
    /// Its name in the domain.
    pub name: Arc<str>,
    /// The domain.
    pub domain: Arc<str>,
    /// The way to the engine.
    pub engine: Arc<dyn ::link::Engine>,
    /// Whether the engine is there.
    pub presence: ::link::Presence,
    /// The engine's public key.
    pub engine_key: Public,
    /// Its own keys.
    pub keys: Keys,
    /// What signs its messages; `None` in the engine's own process.
    pub signer: Option<Arc<Signer>>,
}

/// One process's targets and everything over them.
pub struct Agent {
    /// The installation's name.
    pub domain: Arc<str>,
    /// This agent's name.
    pub name: Arc<str>,
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
    /// Its side of the engine.
    pub joined: Joined,
    /// Its store.
    pub store: Arc<FileStore>,
    /// The store's epoch.
    pub epoch: Epoch,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub ids: Arc<dyn Ids>,
    started_ms: i64,
    /// What the lanes go by: the mappings in force.
    rules: Arc<BundleRules>,
    routers: Mutex<Vec<Weak<Router>>>,
    /// Tasks of an earlier life that had not ended.
    restored: Mutex<Vec<(CommandId, ObjectId)>>,
    /// What keeps its tasks.
    pub keeper: Arc<TaskKeeper>,
    facts: Arc<FactKeeper>,
    publishing: Mutex<Telling>,
    fleet: Mutex<Option<(Local, AbortOnDropHandle<()>)>>,
    _watching: ObserverGuard,
    _running: DropGuard,
}

/// Whether the bus is told.
enum Telling {
    /// The bus has not been there yet.
    NotYet,
    /// It is.
    On(Publishing),
    /// No more.
    Over,
}

/// What an agent says of itself.
#[derive(Debug)]
struct Me {
    name: Arc<str>,
    incarnation: u64,
    owner: Weak<Owner>,
    rules: Arc<BundleRules>,
}

impl Introduces for Me {
    fn hello(&self) -> pb::Hello {
        let targets = self.owner.upgrade().map(|owner| owner.targets()).unwrap_or_default();
        let offered = |target: &Arc<dyn Target>| pb::AgentTarget {
            name: target.name().to_owned(),
            protocol: target.protocol().to_owned(),
        };
        pb::Hello {
            agent: self.name.to_string(),
            incarnation: self.incarnation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            targets: targets.iter().map(offered).collect(),
            bundles: vec![self.rules.bundle().hash.clone()],
        }
    }
}

impl Agent {
    /// An agent without targets that tells `bus` what it knows.
    pub async fn start(
        config: &Config,
        bundle: Arc<Bundle>,
        bus: Arc<dyn Bus>,
        member: Membership,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Arc<Agent>, Failure> {
        let started_ms = clock.now_ms();
        let incarnation = started_ms.unsigned_abs();
        let store = crate::run::open_store(&config.data_dir.join("agent.redb"))?;
        let kept: Arc<dyn Store> = store.clone();
        let epoch = engine::begin_epoch(&kept, clock.as_ref()).await.map_err(Failure::other)?;
        let schema = &bundle.schema;
        let inventory = Inventory::new(Arc::clone(schema), incarnation, Arc::clone(&clock));
        let counters = Counters::new(Arc::clone(&kept), epoch);
        inventory.count_by(counters.clone());
        let facts = FactKeeper::first_sights(Arc::clone(&kept), epoch, &inventory).await;
        let facts = Arc::new(facts.map_err(Failure::other)?);
        let tasks = Tasks::new(Arc::clone(&inventory), Arc::clone(&clock), Arc::clone(&ids));
        let keeper = TaskKeeper::new(Arc::clone(&kept), epoch, Arc::clone(schema));
        let restored = tasks.restore(keeper.load().await.map_err(Failure::other)?);
        tasks.kept_by(keeper.clone());
        let (chronicle, watching) = Chronicle::new("agent", &inventory);
        let rules = Arc::new(BundleRules::new(Arc::clone(&bundle)));
        let owner = Owner::new(
            Arc::clone(&rules) as Arc<dyn lane::rules::Rules>,
            Arc::clone(&inventory),
            Arc::clone(&tasks),
            Arc::clone(&clock),
            Limits::default(),
        );
        let Membership { name, domain, engine, presence, engine_key, keys, signer } = member;
        let led = signer.is_none();
        let joined = Joined::open(::link::joined::Deps {
            domain: Arc::clone(&domain),
            agent: Arc::clone(&name),
            me: Arc::new(Me {
                name: Arc::clone(&name),
                incarnation,
                owner: Arc::downgrade(&owner),
                rules: Arc::clone(&rules),
            }),
            store: Arc::clone(&kept),
            epoch,
            schema: Arc::clone(schema),
            owner: Arc::clone(&owner),
            facts: Arc::clone(&inventory),
            engine,
            presence,
            engine_key,
            keys,
            signer,
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
        });
        let joined = joined.await.map_err(Failure::other)?;
        joined.journal.keep_tasks(keeper.clone());
        let publisher =
            Publisher { bus: Arc::clone(&bus), domain: Arc::clone(&domain), agent: Arc::clone(&name), led };
        let running = CancellationToken::new();
        keep_running(&running, {
            let counters = counters.clone();
            async move { counters.run().await }
        });
        keep_running(&running, {
            let keeper = keeper.clone();
            async move { keeper.run().await }
        });
        keep_running(&running, {
            let (facts, clock) = (facts.clone(), clock.clone());
            async move { facts.run(|| clock.now_ms()).await }
        });
        let agent = Arc::new(Agent {
            domain,
            publisher,
            name,
            rules,
            routers: Mutex::default(),
            inventory,
            tasks,
            chronicle,
            owner,
            bus,
            joined,
            store,
            epoch,
            clock,
            ids,
            started_ms,
            restored: Mutex::new(restored),
            keeper,
            facts,
            publishing: Mutex::new(Telling::NotYet),
            fleet: Mutex::default(),
            _watching: watching,
            _running: running.clone().drop_guard(),
        });
        keep_running(&running, tell_bus(Arc::downgrade(&agent), incarnation));
        Ok(agent)
    }

    /// Has the lanes find out what became of commands of an earlier life, then keeps in touch with the engine. Call it when the targets
    /// have been adopted.
    pub async fn recover(&self, router: &Router) -> Result<(), Failure> {
        let tickets = self.joined.recover().await.map_err(Failure::other)?;
        let restored = std::mem::take(&mut *self.restored.lock());
        let in_lanes: Vec<CommandId> = tickets.iter().map(|ticket| ticket.command).collect();
        resume(&self.inventory, &restored, &in_lanes, router, self.clock.now_ms());
        self.joined.run();
        Ok(())
    }

    /// The mappings in force.
    pub fn bundle(&self) -> Arc<Bundle> {
        self.rules.bundle()
    }

    /// Goes on by other mappings: its lanes, and the ways of its fronts.
    pub fn swap(&self, bundle: &Arc<Bundle>) {
        self.rules.swap(Arc::clone(bundle));
        let mut routers = self.routers.lock();
        routers.retain(|router| router.upgrade().map(|router| router.swap(Arc::clone(bundle))).is_some());
    }

    /// Brings its facts into a fleet of this process, and what the broker says of them back, from now on.
    pub fn lead(&self, fleet: &Fleet) {
        let local = fleet.follow(&self.name, &self.inventory, finder(&self.owner));
        let told = owned::pass(Arc::clone(fleet.inventory()), Arc::clone(&self.inventory));
        *self.fleet.lock() = Some((local, AbortOnDropHandle::new(tokio::spawn(told))));
    }

    /// The way of a front's commands. What the front shows is told in the act: it is this agent's inventory, or a fleet that follows it.
    /// `keeper` keeps the tasks of what goes to the engine.
    pub fn router(
        &self,
        inventory: &Arc<Inventory>,
        tasks: &Arc<Tasks>,
        keeper: &Arc<TaskKeeper>,
    ) -> Arc<Router> {
        let router = self.joined.router(
            Arc::new(FactsTree(Arc::clone(inventory))),
            Arc::clone(tasks),
            Arc::new(InStep),
            self.bundle(),
        );
        router.keep_tasks(Arc::clone(keeper));
        self.routers.lock().push(Arc::downgrade(&router));
        router
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
        let publishing = match &*publishing {
            Telling::NotYet => return false,
            Telling::On(publishing) => publishing,
            Telling::Over => return true,
        };
        for target in targets.iter().filter(|target| target.connected) {
            if told.insert(target.name.clone()) {
                publishing.in_step(&target.name);
                if let Some((fleet, _)) = self.fleet.lock().as_ref() {
                    fleet.in_step(&target.name);
                }
            }
        }
        targets.iter().all(|target| told.contains(&target.name))
    }

    /// What `hyperglot status` says.
    pub fn status(&self, fronts: Vec<crate::status::FrontStatus>) -> Status {
        let own = ("agent".to_owned(), crate::status::trouble(self.store.health()));
        let bus = self.bus.status();
        let link = match bus.link {
            BusLink::Connected => "connected",
            BusLink::Disconnected => "disconnected",
            BusLink::Closed => "closed",
        };
        let counted = |kind: &Kind| (kind.word().to_owned(), self.inventory.count(*kind));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            domain: self.domain.to_string(),
            agent: self.name.to_string(),
            bundle: self.bundle().hash.clone(),
            started: crate::json::time(self.started_ms),
            bus: BusStatus { link: link.to_owned(), server: bus.server },
            targets: self.targets(),
            fronts,
            stores: BTreeMap::from([own]),
            objects: Kind::ALL.iter().map(counted).filter(|(_, n)| *n > 0).collect::<BTreeMap<_, _>>(),
        }
    }

    /// Tells the bus what it has not heard yet, then no more.
    pub async fn stop_publishing(&self) {
        let publishing = std::mem::replace(&mut *self.publishing.lock(), Telling::Over);
        if let Telling::On(publishing) = publishing {
            publishing.finish(&self.chronicle, LAST_WORDS).await;
        }
    }

    /// Waits until what happened is on disk and the engine, if it is there, has heard of it.
    pub async fn finish(&self) {
        self.joined.finish(LAST_OUTCOMES).await;
        if let Err(e) = self.keeper.flush().await {
            tracing::warn!(error = %e, "the last steps of tasks were not kept");
        }
        if let Err(e) = self.facts.flush(self.clock.now_ms()).await {
            tracing::warn!(error = %e, "when the last objects were first seen was not kept");
        }
    }
}

/// Tells the bus what there is, as soon as there is a bus.
async fn tell_bus(agent: Weak<Agent>, incarnation: u64) {
    loop {
        let Some(agent) = agent.upgrade() else { return };
        let finder = finder(&agent.owner);
        let started = agent.publisher.start(&agent.inventory, incarnation, &agent.chronicle, finder).await;
        match started {
            Ok(publishing) => {
                let mut telling = agent.publishing.lock();
                if matches!(*telling, Telling::NotYet) {
                    *telling = Telling::On(publishing);
                }
                return;
            }
            Err(e) => tracing::debug!(error = %e, "the bus is not told yet"),
        }
        drop(agent);
        tokio::time::sleep(LOOK).await;
    }
}

/// Which target holds an object.
fn finder(owner: &Arc<Owner>) -> Finder {
    let lanes = Arc::downgrade(owner);
    Arc::new(move |id| {
        let target = lanes.upgrade()?.target_of(id)?;
        Some((Arc::from(target.name()), Arc::from(target.protocol())))
    })
}

/// Runs something until `running` is cancelled.
pub fn keep_running(running: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(running.clone().run_until_cancelled_owned(work));
}

/// Goes on with the tasks of an earlier life: those of commands in a lane end with it, the others as the engine says.
pub fn resume(
    inventory: &Inventory,
    restored: &[(CommandId, ObjectId)],
    in_lanes: &[CommandId],
    router: &Router,
    now_ms: i64,
) {
    let object = inventory.schema().slot(Kind::Task, "object_id");
    let until = now_ms.saturating_add(i64::try_from(RESUME.as_millis()).unwrap_or(0));
    for (command, task) in restored.iter().filter(|(command, _)| !in_lanes.contains(command)) {
        let record = inventory.record(*task);
        let about = record.as_ref().zip(object).and_then(|(r, slot)| r.get(slot).as_ref_id());
        router.resume(*task, *command, about.unwrap_or(*task), until);
    }
    tracing::debug!(tasks = restored.len(), lanes = in_lanes.len(), "tasks of an earlier life go on");
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

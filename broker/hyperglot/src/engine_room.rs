//! The engine of this process, and everything it stands on.
//!
//! ```text
//! engine.redb ─▶ epoch ─▶ authority │ last known facts ─▶ fleet ─▶ view │ id maps ─▶ engine: recovers, then answers
//! bus: agents' questions, signed │ join │ ctl │ the feeds of agents ─▶ fleet
//! ```

use crate::{
    Failure,
    agent::keep_running,
    bundles::Library,
    config::Config,
    id_maps::IdMaps,
    identity::{self, ENGINE_KEYS},
    join::Door,
    ways::Ways,
};
use ::link::{
    follow::Followers,
    keep::{counters::Counters, facts::FactKeeper, owned, tasks::TaskKeeper},
};
use bus::{AgentAccount, Bus, NatsChild};
use engine::{
    Bundles as _, Engine, Limits,
    authority::Herald,
    bus::{BusAgents, ENGINE, Registry},
};
use guard::{Keys, Public, Signer, Verifier, authority};
use inventory::{Inventory, Layout, Skeleton, Tasks, View, fleet::Fleet};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};
use store::{
    Epoch, FileStore, Store,
    agents::{Agents as Members, Member},
    audit,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use union::{Clock, CommandId, Ids, ObjectId};

/// How often old audit entries are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// How long agents that were asked are given to be answered when the engine stops.
const PATIENCE: Duration = Duration::from_secs(5);

/// The agents that have joined, and the bus's accounts that go with them.
#[derive(Debug, Default)]
pub struct Joined {
    keys: RwLock<HashMap<String, Public>>,
}

impl Joined {
    fn set(&self, members: &[Member]) {
        let known = members.iter().filter_map(|m| Some((m.name.to_string(), Public::new(&m.nkey).ok()?)));
        *self.keys.write() = known.collect();
    }
}

impl Registry for Joined {
    fn key(&self, agent: &str) -> Option<Public> {
        self.keys.read().get(agent).cloned()
    }
}

/// The accounts of agents on the bus.
pub fn accounts(members: &[Member]) -> Vec<AgentAccount> {
    members.iter().map(|m| AgentAccount { name: m.name.to_string(), nkey: m.nkey.to_string() }).collect()
}

/// What can be had before the bus is there.
pub struct Opened {
    /// The store.
    pub store: Arc<FileStore>,
    /// The store's epoch.
    pub epoch: Epoch,
    /// Who has joined.
    pub members: Members,
    /// The engine's keys.
    pub keys: Keys,
}

impl Opened {
    /// Opens the engine's store and takes it over.
    pub async fn open(config: &Config, clock: &Arc<dyn Clock>, ids: &dyn Ids) -> Result<Opened, Failure> {
        let store = crate::run::open_store(&config.data_dir.join("engine.redb"))?;
        let kept: Arc<dyn Store> = store.clone();
        let epoch = engine::begin_epoch(&kept, clock.as_ref()).await.map_err(Failure::other)?;
        let keys = identity::keys(&config.data_dir.join(ENGINE_KEYS), ids)?;
        Ok(Opened { store, epoch, members: Members::new(kept), keys })
    }
}

/// The engine at work.
pub struct EngineRoom {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Users, sessions, permissions.
    pub authority: Arc<authority::Authority>,
    /// Everything that all agents know.
    pub fleet: Fleet,
    /// Commands that fleet fronts of this process sent to the engine.
    pub tasks: Arc<Tasks>,
    /// Native ids.
    pub id_maps: Arc<IdMaps>,
    /// The ways to agents.
    pub ways: Arc<Ways>,
    /// The engine's keys.
    pub keys: Keys,
    /// Who has joined.
    pub members: Members,
    /// Their keys.
    pub joined: Arc<Joined>,
    /// The store.
    pub store: Arc<FileStore>,
    /// The store's epoch.
    pub epoch: Epoch,
    /// What keeps them.
    pub keeper: Arc<TaskKeeper>,
    facts: Arc<FactKeeper>,
    restored: Mutex<Vec<(CommandId, ObjectId)>>,
    clock: Arc<dyn Clock>,
    running: CancellationToken,
    serving: Mutex<Option<::bus::Serving>>,
    _running: DropGuard,
}

impl EngineRoom {
    /// The engine on its store. Commands of an earlier life are being settled when this returns.
    pub async fn start(
        config: &Config,
        opened: Opened,
        library: Arc<Library>,
        bus: &Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Arc<EngineRoom>, Failure> {
        let bundle = library.get("");
        let Opened { store, epoch, members, keys } = opened;
        let kept: Arc<dyn Store> = store.clone();
        let incarnation = clock.now_ms().unsigned_abs();
        let inventory = Inventory::new(Arc::clone(&bundle.schema), incarnation, Arc::clone(&clock));
        let counters = Counters::new(Arc::clone(&kept), epoch);
        inventory.count_by(counters.clone());
        let fleet = Fleet::new(Arc::clone(&inventory));
        let facts = FactKeeper::fleet(Arc::clone(&kept), epoch, &fleet).await.map_err(Failure::other)?;
        let facts = Arc::new(facts);
        let tasks = Tasks::new(Arc::clone(&inventory), Arc::clone(&clock), Arc::clone(&ids));
        let keeper = TaskKeeper::new(Arc::clone(&kept), epoch, Arc::clone(&bundle.schema));
        let restored = tasks.restore(keeper.load().await.map_err(Failure::other)?);
        tasks.kept_by(keeper.clone());
        let authority = authority::Authority::open(authority::Deps {
            keep: engine::authority::KeptStore::new(Arc::clone(&kept), epoch),
            keys: keys.clone(),
            domain: Arc::from(&*config.domain),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            settings: authority::Settings::default(),
        });
        let authority = authority.await.map_err(Failure::other)?;
        authority.set_bundle(&bundle.hash);
        let id_maps = Arc::new(IdMaps::new(Arc::clone(&kept), epoch, Arc::clone(&clock)));
        let signer = Signer::new(&config.domain, ENGINE, keys.clone(), Arc::clone(&clock), Arc::clone(&ids));
        let others = BusAgents::new(Arc::clone(bus), &config.domain, signer);
        let ways = Arc::new(Ways { others: Arc::new(others), own: OnceLock::new() });
        let engine = Engine::start(engine::Deps {
            store: Arc::clone(&kept),
            epoch,
            facts: Arc::new(fleet.clone()),
            // By the name that the fronts' fleet view has: the ids of its fixed folders follow from it.
            view: View::new("fleet", &inventory, Layout::Fleet(Skeleton::default())),
            bundles: library,
            authority: engine::authority::Rights::new(Arc::clone(&authority)),
            id_maps: id_maps.clone(),
            agents: ways.clone(),
            clock: Arc::clone(&clock),
            ids,
            limits: Limits::default(),
        });
        let engine = engine.await.map_err(Failure::other)?;
        let up = Arc::downgrade(&engine);
        let herald = Herald::new(ways.clone(), move || {
            let heard = up.upgrade().map(|engine| engine.heard()).unwrap_or_default();
            heard.into_iter().map(|(agent, _)| agent.to_string()).collect()
        });
        authority.tell(herald.clone());
        let joined = Arc::new(Joined::default());
        joined.set(&members.members().await.map_err(Failure::other)?);
        let running = CancellationToken::new();
        keep_running(&running, async move { counters.run().await });
        keep_running(&running, herald.run());
        let audit = audit::Audit::new(Arc::clone(&kept));
        keep_running(&running, forget_old(audit, epoch, Arc::clone(&clock), config.audit.keep_days));
        keep_running(&running, Arc::clone(&authority).keep_swept());
        keep_running(&running, {
            let keeper = keeper.clone();
            async move { keeper.run().await }
        });
        keep_running(&running, {
            let (facts, clock) = (facts.clone(), clock.clone());
            async move { facts.run(|| clock.now_ms()).await }
        });
        Ok(Arc::new(EngineRoom {
            engine,
            authority,
            fleet,
            tasks,
            id_maps,
            ways,
            keys,
            members,
            joined,
            store,
            epoch,
            keeper,
            facts,
            restored: Mutex::new(restored),
            clock,
            _running: running.clone().drop_guard(),
            running,
            serving: Mutex::default(),
        }))
    }

    /// Opens the doors on the bus: agents may ask and join, and their facts are followed. `own` is the agent of this process.
    pub async fn open_doors(
        self: &Arc<EngineRoom>,
        config: &Config,
        bus: &Arc<dyn Bus>,
        child: Option<&Arc<NatsChild>>,
        own: &Arc<str>,
    ) -> Result<(), Failure> {
        let verifier = Verifier::new(&config.domain, Arc::clone(&self.clock));
        let registry: Arc<dyn Registry> = self.joined.clone();
        let door = Arc::clone(&self.engine) as Arc<dyn engine::bus::Door>;
        let serving = engine::bus::serve(bus, &config.domain, registry, verifier, door);
        *self.serving.lock() = Some(serving.await.map_err(Failure::other)?);
        let (joined, server) = (Arc::clone(&self.joined), child.cloned());
        let door = Door {
            bus: Arc::clone(bus),
            domain: Arc::from(&*config.domain),
            agents: self.members.clone(),
            engine: self.keys.public(),
            epoch: self.epoch,
            clock: Arc::clone(&self.clock),
            joined: Arc::new(move |members: Vec<Member>| {
                joined.set(&members);
                admit(server.as_deref(), &members);
            }),
        };
        door.open().await.map_err(Failure::other)?;
        let followers =
            Followers::new(Arc::clone(bus), &config.domain, self.fleet.clone(), vec![Arc::clone(own)]);
        keep_running(&self.running, followers.run());
        let (told, domain) = (Arc::clone(bus), config.domain.clone());
        let (incarnation, facts) = (self.clock.now_ms().unsigned_abs(), Arc::clone(self.fleet.inventory()));
        keep_running(&self.running, async move {
            if let Err(e) = owned::publish(told, &domain, incarnation, facts).await {
                tracing::error!(error = %e, "agents are not told what the broker says of their machines");
            }
        });
        Ok(())
    }

    /// The tasks that had not ended when the last life did.
    pub fn take_restored(&self) -> Vec<(CommandId, ObjectId)> {
        std::mem::take(&mut *self.restored.lock())
    }

    /// Sends an agent away; whether it was a member.
    pub async fn remove(&self, name: &str, child: Option<&NatsChild>) -> Result<bool, store::StoreError> {
        let was = self.members.remove(name, self.epoch).await?;
        let members = self.members.members().await?;
        self.joined.set(&members);
        admit(child, &members);
        if was && let Err(error) = self.engine.sent_away(name).await {
            tracing::error!(agent = name, %error, "the targets of an agent that was removed are still kept for it");
        }
        Ok(was)
    }

    /// Takes no more questions, and keeps what is to be kept.
    pub async fn stop(&self) {
        let serving = self.serving.lock().take();
        if let Some(serving) = serving {
            serving.drain(PATIENCE).await;
        }
        self.engine.stop().await;
        self.authority.flush().await;
        if let Err(e) = self.keeper.flush().await {
            tracing::warn!(error = %e, "the last steps of tasks were not kept");
        }
        if let Err(e) = self.facts.flush(self.clock.now_ms()).await {
            tracing::warn!(error = %e, "the last facts were not kept");
        }
        self.store.close();
    }
}

/// Forgets audit entries that are older than `days`, now and then.
async fn forget_old(audit: audit::Audit, epoch: Epoch, clock: Arc<dyn Clock>, days: u32) {
    loop {
        let before = clock.now_ms().saturating_sub(i64::from(days).saturating_mul(DAY_MS));
        loop {
            match audit.prune(before, epoch).await {
                Ok(0) => break,
                Ok(count) => tracing::info!(count, days, "old audit entries were forgotten"),
                Err(e) => {
                    tracing::warn!(error = %e, "old audit entries were not forgotten; it is tried again");
                    break;
                }
            }
        }
        tokio::time::sleep(FORGET_EVERY).await;
    }
}

fn admit(child: Option<&NatsChild>, members: &[Member]) {
    if let Some(child) = child
        && let Err(e) = child.admit(accounts(members))
    {
        tracing::error!(error = %e, "the bus was not told which agents may connect");
    }
}

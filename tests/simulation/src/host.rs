//! The engine's process: the real engine and the real authority over a mortal store, with the facts that the agents tell.

use crate::{
    authority::{self, Numbers},
    check::Watch,
    flaw::{Flaw, Hasty, Twice},
    life::{Disk, Life, Mortal},
    net::{AgentUp, EngineUp, Net, ToAgents},
    rng::Rng,
    world::{AGENTS, PROTOCOL, bundle},
};
use engine::{
    Deps, Engine, Facts, IdMaps, Limits, OneBundle,
    authority::{Herald, Rights},
    begin_epoch,
};
use inventory::{
    Change, Inventory, Layout, Observer, Skeleton, View,
    feed::{self, Held},
    fleet::{Fleet, Source},
};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use store::{Store, idmap};
use tokio::{sync::mpsc, time::sleep};
use union::{Clock, Ids, Kind};

/// What an engine is made of.
pub struct Parts {
    /// Its life.
    pub life: Arc<Life>,
    /// What survives of it.
    pub disk: Disk,
    /// The network.
    pub net: Arc<Net>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub rng: Arc<Rng>,
    /// Looks on.
    pub watch: Arc<Watch>,
    /// What is wrong with it.
    pub flaw: Option<Flaw>,
}

/// Runs something for as long as a life lasts.
fn during(life: &Arc<Life>, work: impl Future<Output = ()> + Send + 'static) {
    let life = Arc::clone(life);
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = life.over() => {}
            () = work => {}
        }
    });
}

/// Starts an engine; returns when it is up.
///
/// # Errors
/// Its store cannot be read.
pub async fn start(parts: Parts) -> Result<(), String> {
    let Parts { life, disk, net, clock, rng, watch, flaw } = parts;
    disk.spin_up().await.map_err(|error| error.to_string())?;
    let ids = Arc::clone(&rng) as Arc<dyn Ids>;
    let store: Arc<dyn Store> = Arc::new(Mortal { life: Arc::clone(&life), disk });
    let epoch = begin_epoch(&store, &*clock).await.map_err(|error| error.to_string())?;
    let bundle = bundle();
    let incarnation = u64::try_from(clock.now_ms()).unwrap_or(0);
    let inventory = Inventory::new(Arc::clone(&bundle.schema), incarnation, Arc::clone(&clock));
    let fleet = Fleet::new(Arc::clone(&inventory));
    let view = View::new("fleet", &inventory, Layout::Fleet(Skeleton::default()));
    let map = idmap::IdMap::open(Arc::clone(&store), PROTOCOL, "fleet", idmap::Numbers::Counted).await;
    let map = map.map_err(|error| format!("the id map does not open: {error}"))?;
    let numbers = Arc::new(Numbers { map, epoch });
    let mut id_maps = Arc::clone(&numbers) as Arc<dyn IdMaps>;
    if flaw == Some(Flaw::NumberTwice) {
        id_maps = Arc::new(Twice { maps: id_maps, last: Mutex::default() });
    }
    let mut facts: Arc<dyn Facts> = Arc::new(fleet.clone());
    if flaw == Some(Flaw::ShowsLate) {
        facts = Arc::new(Hasty(facts));
    }
    let authority =
        authority::open(Arc::clone(&store), epoch, Arc::clone(&clock), Arc::clone(&ids), flaw).await?;
    authority.set_bundle(&bundle.hash);
    let agents = Arc::new(ToAgents { net: Arc::clone(&net), life: Arc::clone(&life) });
    let engine = Engine::start(Deps {
        store,
        epoch,
        facts,
        view,
        bundles: Arc::new(OneBundle(bundle)),
        authority: Rights::new(Arc::clone(&authority)),
        id_maps,
        agents: Arc::clone(&agents) as Arc<dyn engine::Agents>,
        clock,
        ids,
        limits: Limits::default(),
    })
    .await
    .map_err(|error| error.to_string())?;
    let up = Arc::downgrade(&engine);
    let herald = Herald::new(agents, move || {
        let heard = up.upgrade().map(|engine| engine.heard()).unwrap_or_default();
        heard.into_iter().map(|(agent, _)| agent.to_string()).collect()
    });
    authority.tell(Arc::clone(&herald) as Arc<dyn guard::authority::Told>);
    during(&life, herald.run());
    during(&life, Arc::clone(&authority).keep_swept());
    watch.began(&life, &inventory);
    for agent in AGENTS {
        let follower = Follower {
            agent,
            fleet: fleet.clone(),
            life: Arc::clone(&life),
            net: Arc::clone(&net),
            rng: Arc::clone(&rng),
            before: (flaw == Some(Flaw::GoesBack)).then(BTreeMap::new),
        };
        tokio::spawn(follower.run());
    }
    net.engine_up(EngineUp { life, engine, authority, numbers, facts: inventory });
    Ok(())
}

/// Hands on what changes.
struct Tap(mpsc::UnboundedSender<Vec<Change>>);

impl Observer for Tap {
    fn changed(&self, changes: &[Change]) {
        // The follower may be gone.
        drop(self.0.send(changes.to_vec()));
    }
}

/// Follows an agent's facts into the fleet, from each of its lives, whenever there is a way.
struct Follower {
    agent: &'static str,
    fleet: Fleet,
    life: Arc<Life>,
    net: Arc<Net>,
    rng: Arc<Rng>,
    /// What was told of an object before, where that is to be told again.
    before: Option<BTreeMap<String, Vec<u8>>>,
}

impl Follower {
    async fn run(mut self) {
        while !self.life.is_over() {
            match self.net.agent(self.agent).filter(|_| !self.net.is_parted(self.agent)) {
                Some(up) => {
                    self.follow(&up).await;
                    if !self.life.is_over() {
                        self.fleet.lost(self.agent);
                    }
                }
                None => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn follow(&mut self, up: &AgentUp) {
        let (sender, mut changes) = mpsc::unbounded_channel();
        let _guard = up.facts.observe_all(Arc::new(Tap(sender)));
        let schema = Arc::clone(up.facts.schema());
        let target = format!("metal-{}", self.agent);
        let mut source = self.fleet.agent(self.agent);
        source.reset();
        let mut whole = false;
        loop {
            let batch = tokio::select! {
                biased;
                () = self.life.over() => return,
                () = up.life.over() => return,
                batch = changes.recv() => batch,
                () = sleep(Duration::from_millis(100)) => None,
            };
            if self.net.is_parted(self.agent) {
                return;
            }
            let Some(mut batch) = batch else { continue };
            // Now and then the feed is slow.
            let most = if self.rng.chance(20) { 300 } else { 15 };
            sleep(self.rng.ms(0, most)).await;
            if self.life.is_over() {
                return;
            }
            while let Ok(more) = changes.try_recv() {
                batch.extend(more);
            }
            for change in &batch {
                let held = match change.id.kind {
                    Kind::Vm | Kind::Host => Held { target: &target, protocol: PROTOCOL },
                    _ => Held::default(),
                };
                let (key, bytes) = feed::encode(&schema, change, held);
                put(&mut source, &key, bytes.as_deref());
                if let Some(before) = self.before.as_mut().filter(|_| change.id.kind == Kind::Vm)
                    && let Some(bytes) = bytes
                    && let Some(old) = before.insert(key.clone(), bytes.to_vec())
                    && self.rng.chance(50)
                {
                    put(&mut source, &key, Some(&old));
                }
            }
            let mut marks: Vec<_> =
                batch.last().map(|last| feed::revision(last.revision)).into_iter().collect();
            if !whole {
                marks.push(feed::in_step(&target));
                whole = true;
            }
            for (key, bytes) in marks {
                put(&mut source, &key, Some(&bytes));
            }
            source.synced();
        }
    }
}

fn put(source: &mut Source, key: &str, bytes: Option<&[u8]>) {
    let told = match bytes {
        Some(bytes) => source.put(key, bytes),
        None => source.remove(key),
    };
    if let Err(error) = told {
        tracing::error!(%error, "a fact of the simulation's own cannot be read");
    }
}

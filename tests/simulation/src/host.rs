//! The engine's process: the real engine over a mortal store, with the facts that the agents tell.

use crate::{
    authority::{Everything, Numbers},
    check::Watch,
    life::{Life, Mortal},
    net::{AgentUp, EngineUp, Net, ToAgents},
    rng::Rng,
    world::{AGENTS, bundle},
};
use engine::{Deps, Engine, Limits, OneBundle, StartError, begin_epoch};
use inventory::{
    Change, Inventory, Layout, Observer, Skeleton, View,
    feed::{self, Held},
    fleet::Fleet,
};
use std::{sync::Arc, time::Duration};
use store::{MemoryStore, Store, idmap};
use tokio::{sync::mpsc, time::sleep};
use union::{Clock, Ids, Kind};

/// What an engine is made of.
pub struct Parts {
    /// Its life.
    pub life: Arc<Life>,
    /// What survives of it.
    pub store: MemoryStore,
    /// The network.
    pub net: Arc<Net>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub rng: Arc<Rng>,
    /// Looks on.
    pub watch: Arc<Watch>,
}

/// Starts an engine; returns when it is up.
///
/// # Errors
/// Its store cannot be read.
pub async fn start(parts: Parts) -> Result<(), StartError> {
    let Parts { life, store, net, clock, rng, watch } = parts;
    let store: Arc<dyn Store> = Arc::new(Mortal { life: Arc::clone(&life), store });
    let epoch = begin_epoch(&store, &*clock).await?;
    let bundle = bundle();
    let incarnation = u64::try_from(clock.now_ms()).unwrap_or(0);
    let facts = Inventory::new(Arc::clone(&bundle.schema), incarnation, Arc::clone(&clock));
    let fleet = Fleet::new(Arc::clone(&facts));
    let view = View::new("fleet", &facts, Layout::Fleet(Skeleton::default()));
    let map = idmap::IdMap::open(Arc::clone(&store), "paper", "fleet", idmap::Numbers::Counted).await;
    let map = map.map_err(|error| match error {
        idmap::IdError::Store(error) => StartError::Store(error),
        other => {
            watch.broken(format!("the id map does not open: {other}"));
            StartError::Store(store::StoreError::Closed)
        }
    })?;
    let engine = Engine::start(Deps {
        store,
        epoch,
        facts: Arc::new(fleet.clone()),
        view,
        bundles: Arc::new(OneBundle(bundle)),
        authority: Arc::new(Everything),
        id_maps: Arc::new(Numbers { map, epoch }),
        agents: Arc::new(ToAgents { net: Arc::clone(&net), life: Arc::clone(&life) }),
        clock,
        ids: Arc::clone(&rng) as Arc<dyn Ids>,
        limits: Limits::default(),
    })
    .await?;
    watch.engine_began(&life, &facts);
    for agent in AGENTS {
        tokio::spawn(follow(agent, fleet.clone(), Arc::clone(&life), Arc::clone(&net), Arc::clone(&rng)));
    }
    net.engine_up(EngineUp { life, engine, facts });
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
async fn follow(agent: &str, fleet: Fleet, life: Arc<Life>, net: Arc<Net>, rng: Arc<Rng>) {
    while !life.is_over() {
        match net.agent(agent).filter(|_| !net.is_parted(agent)) {
            Some(up) => {
                follow_life(agent, &fleet, &life, &up, &net, &rng).await;
                if !life.is_over() {
                    fleet.lost(agent);
                }
            }
            None => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn follow_life(agent: &str, fleet: &Fleet, life: &Life, up: &AgentUp, net: &Net, rng: &Rng) {
    let (sender, mut changes) = mpsc::unbounded_channel();
    let _guard = up.facts.observe_all(Arc::new(Tap(sender)));
    let schema = Arc::clone(up.facts.schema());
    let target = format!("metal-{agent}");
    let mut source = fleet.agent(agent);
    source.reset();
    let mut whole = false;
    loop {
        let batch = tokio::select! {
            biased;
            () = life.over() => return,
            () = up.life.over() => return,
            batch = changes.recv() => batch,
            () = sleep(Duration::from_millis(100)) => None,
        };
        if net.is_parted(agent) {
            return;
        }
        let Some(batch) = batch else { continue };
        sleep(rng.ms(0, 15)).await;
        if life.is_over() {
            return;
        }
        for change in &batch {
            let held = match change.id.kind {
                Kind::Vm | Kind::Host => Held { target: &target, protocol: "paper" },
                _ => Held::default(),
            };
            let (key, bytes) = feed::encode(&schema, change, held);
            let told = match bytes {
                Some(bytes) => source.put(&key, &bytes),
                None => source.remove(&key),
            };
            if let Err(error) = told {
                tracing::error!(%error, "a fact of the simulation's own cannot be read");
            }
        }
        let mut marks: Vec<_> = batch.last().map(|last| feed::revision(last.revision)).into_iter().collect();
        if !whole {
            marks.push(feed::in_step(&target));
            whole = true;
        }
        for (key, bytes) in marks {
            if let Err(error) = source.put(&key, &bytes) {
                tracing::error!(%error, "a mark of the simulation's own cannot be read");
            }
        }
        source.synced();
    }
}

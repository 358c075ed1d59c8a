//! An agent's process: the real rooms over a mortal store and a simulated hypervisor.

use crate::{
    authority::{self, DOMAIN},
    check::Watch,
    flaw::{Flaw, Forgetful, NoTasks},
    life::{Disk, Life, Mortal},
    metal::Metal,
    net::{AgentUp, Net, ToEngine},
    rng::Rng,
    world::{PROTOCOL, bundle},
};
use engine::begin_epoch;
use guard::Keys;
use inventory::{Inventory, Tasks};
use lane::{Limits, Owner, rules::BundleRules};
use link::{FactsTree, Joined, Presence, duty::Introduces, joined, keep::tasks::TaskKeeper, router::InStep};
use std::sync::{Arc, OnceLock};
use store::Store;
use union::{Clock, CommandId, Ids, Kind, ObjectId, pb};

/// How long the engine is asked for what became of a command of an earlier life, milliseconds.
const RESUME_MS: i64 = 60_000;

#[derive(Debug)]
struct Me(pb::Hello);

impl Introduces for Me {
    fn hello(&self) -> pb::Hello {
        self.0.clone()
    }
}

/// What an agent is made of.
pub struct Parts {
    /// Its name.
    pub name: String,
    /// Its life.
    pub life: Arc<Life>,
    /// What survives of it.
    pub disk: Disk,
    /// Its hypervisor.
    pub metal: Arc<Metal>,
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

/// Starts an agent; returns when it is up.
///
/// # Errors
/// Its store cannot be read.
pub async fn start(parts: Parts) -> Result<(), String> {
    let Parts { name, life, disk, metal, net, clock, rng, watch, flaw } = parts;
    disk.spin_up().await.map_err(|error| error.to_string())?;
    let ids = Arc::clone(&rng) as Arc<dyn Ids>;
    let bundle = bundle();
    let schema = Arc::clone(&bundle.schema);
    let incarnation = u64::try_from(clock.now_ms()).unwrap_or(0);
    let store: Arc<dyn Store> = Arc::new(Mortal { life: Arc::clone(&life), disk });
    let unread = |error: store::StoreError| error.to_string();
    let epoch = begin_epoch(&store, &*clock).await.map_err(|error| error.to_string())?;
    let facts = Inventory::new(Arc::clone(&schema), incarnation, Arc::clone(&clock));
    let tasks = Tasks::new(Arc::clone(&facts), Arc::clone(&clock), Arc::clone(&ids));
    let keeper = TaskKeeper::new(Arc::clone(&store), epoch, Arc::clone(&schema));
    let restored = tasks.restore(keeper.load().await.map_err(unread)?);
    match flaw {
        Some(Flaw::ForgetsTasks) => tasks.kept_by(Arc::new(NoTasks)),
        _ => tasks.kept_by(Arc::clone(&keeper) as Arc<dyn inventory::tasks::Keeper>),
    }
    let rules = Arc::new(BundleRules::new(Arc::clone(&bundle)));
    let owner =
        Owner::new(rules, Arc::clone(&facts), Arc::clone(&tasks), Arc::clone(&clock), Limits::default());
    let hello = pb::Hello {
        agent: name.clone(),
        incarnation,
        version: "simulation".to_owned(),
        targets: vec![pb::AgentTarget { name: metal.name.clone(), protocol: PROTOCOL.to_owned() }],
        bundles: Vec::new(),
    };
    let engine = Arc::new(ToEngine { net: Arc::clone(&net), agent: name.clone(), life: Arc::clone(&life) });
    let forgetful = flaw.map(|flaw| {
        // The lanes keep to the first journal that they are given.
        let forgetful = Arc::new(Forgetful { journal: OnceLock::new(), flaw, rng: Arc::clone(&rng) });
        owner.record_with(Arc::clone(&forgetful) as Arc<dyn lane::Recorder>);
        forgetful
    });
    let joined = Joined::open(joined::Deps {
        domain: Arc::from(DOMAIN),
        agent: Arc::from(&*name),
        me: Arc::new(Me(hello)),
        store,
        epoch,
        schema,
        owner: Arc::clone(&owner),
        facts: Arc::clone(&facts),
        engine,
        presence: Presence::new(Arc::clone(&clock)),
        engine_key: authority::keys().public(),
        keys: Keys::new(&*ids),
        signer: None,
        clock: Arc::clone(&clock),
        ids,
    });
    let joined = Arc::new(joined.await.map_err(unread)?);
    if let Some(forgetful) = forgetful {
        drop(forgetful.journal.set(Arc::clone(&joined.journal) as Arc<dyn lane::Recorder>));
    }
    joined.journal.keep_tasks(Arc::clone(&keeper));
    tokio::spawn({
        let keeper = Arc::clone(&keeper);
        async move { keeper.run().await }
    });
    owner.adopt(metal.connect(&life, &facts));
    watch.began(&life, &facts);
    let tree = Arc::new(FactsTree(Arc::clone(&facts)));
    let router = joined.router(tree, tasks, Arc::new(InStep), bundle);
    router.keep_tasks(keeper);
    let recovered = joined.recover().await.map_err(unread)?;
    let in_lanes: Vec<CommandId> = recovered.iter().map(|ticket| ticket.command).collect();
    if flaw != Some(Flaw::LeavesTasks) {
        let until = clock.now_ms() + RESUME_MS;
        for (command, task) in restored.into_iter().filter(|(command, _)| !in_lanes.contains(command)) {
            router.resume(task, command, about(&facts, task), until);
        }
    }
    joined.run();
    net.agent_up(&name, AgentUp { life, joined, facts, router, owner });
    Ok(())
}

/// The object of a task.
fn about(facts: &Inventory, task: ObjectId) -> ObjectId {
    let slot = facts.schema().slot(Kind::Task, "object_id");
    let record = facts.record(task);
    record.zip(slot).and_then(|(record, slot)| record.get(slot).as_ref_id()).unwrap_or(task)
}

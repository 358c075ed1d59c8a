//! An agent's process: the real rooms over a mortal store and a paper hypervisor.

use crate::{
    authority::{self, DOMAIN, SESSION},
    life::{Life, Mortal},
    metal::Metal,
    net::{AgentUp, Net, ToEngine},
    rng::Rng,
    world::bundle,
};
use guard::Secret;
use inventory::{Inventory, Tasks};
use lane::{Limits, Owner, rules::BundleRules};
use link::{
    Backlog, Duty, FactsTree, Grants, Journal, Link, Presence, Pump, Router, SealKey, duty::Introduces,
    router::InStep,
};
use std::sync::Arc;
use store::{Epoch, MemoryStore, Store, StoreError};
use union::{Clock, Ids, pb};

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
    pub store: MemoryStore,
    /// Its hypervisor.
    pub metal: Arc<Metal>,
    /// The network.
    pub net: Arc<Net>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub rng: Arc<Rng>,
}

/// Starts an agent; returns when it is up.
///
/// # Errors
/// Its store cannot be read.
pub async fn start(parts: Parts) -> Result<(), StoreError> {
    let Parts { name, life, store, metal, net, clock, rng } = parts;
    let ids: Arc<dyn Ids> = rng;
    let (bundle, epoch) = (bundle(), Epoch(1));
    let schema = Arc::clone(&bundle.schema);
    let incarnation = u64::try_from(clock.now_ms()).unwrap_or(0);
    let store: Arc<dyn Store> = Arc::new(Mortal { life: Arc::clone(&life), store });
    let facts = Inventory::new(Arc::clone(&schema), incarnation, Arc::clone(&clock));
    let tasks = Tasks::new(Arc::clone(&facts), Arc::clone(&clock), Arc::clone(&ids));
    let rules = Arc::new(BundleRules::new(Arc::clone(&bundle)));
    let owner =
        Owner::new(rules, Arc::clone(&facts), Arc::clone(&tasks), Arc::clone(&clock), Limits::default());
    owner.adopt(metal.connect(&life, &facts));
    let grants = Grants::new(&name, authority::check(), Arc::clone(&clock));
    let backlog = Backlog::open(&store).await?;
    let journal = Journal::open(link::journal::Deps {
        store: Arc::clone(&store),
        epoch,
        schema: Arc::clone(&schema),
        grants: Arc::clone(&grants),
        backlog: Arc::clone(&backlog),
        clock: Arc::clone(&clock),
    });
    owner.record_with(Arc::clone(&journal) as Arc<dyn lane::Recorder>);
    let link = Link::new(link::door::Deps {
        agent: Arc::from(&*name),
        owner: Arc::clone(&owner),
        facts: Arc::clone(&facts),
        grants: Arc::clone(&grants),
        journal: Arc::clone(&journal),
        store: Arc::clone(&store),
        epoch,
        schema: Arc::clone(&schema),
        clock: Arc::clone(&clock),
    });
    owner.recover(journal.unsettled().await?);
    if let Err(cause) = grants.hold(&authority::grant(&name), Secret::new(format!("{SESSION} at {name}"))) {
        tracing::error!(%cause, "a grant of the simulation's own is not believed");
    }
    let presence = Presence::new(Arc::clone(&clock));
    let engine: Arc<dyn link::Engine> =
        Arc::new(ToEngine { net: Arc::clone(&net), agent: name.clone(), life: Arc::clone(&life) });
    let router = Router::new(link::router::Deps {
        owner: Some(Arc::clone(&owner)),
        engine: Arc::clone(&engine),
        presence: presence.clone(),
        grants: Arc::clone(&grants),
        tree: Arc::new(FactsTree(Arc::clone(&facts))),
        tasks,
        replica: Arc::new(InStep),
        bundle,
        clock: Arc::clone(&clock),
    });
    let hello = pb::Hello {
        agent: name.clone(),
        incarnation,
        version: "simulation".to_owned(),
        targets: vec![pb::AgentTarget { name: metal.name.clone(), protocol: "paper".to_owned() }],
        bundles: Vec::new(),
    };
    let duty = Duty {
        engine: Arc::clone(&engine),
        presence: presence.clone(),
        grants,
        link: Arc::clone(&link),
        seal_key: SealKey::new(DOMAIN, authority::engine_key()),
        signer: None,
        me: Arc::new(Me(hello)),
    };
    let outbox = link::outbox::name(&store, epoch, clock.now_ms(), &*ids).await?;
    let pump = Pump::new(outbox, store, epoch, backlog, engine, presence);
    for work in
        [Box::pin(duty.run()) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>, Box::pin(pump.run())]
    {
        let life = Arc::clone(&life);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = life.over() => {}
                () = work => {}
            }
        });
    }
    net.agent_up(&name, AgentUp { life, link, facts, router, owner, journal });
    Ok(())
}

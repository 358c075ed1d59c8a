//! The link over a real nats-server with the accounts that the broker writes: agents and engine reach each other, agents do not reach each
//! other, and a killed server is said at once and got over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use async_trait::async_trait;
use bus::{
    Bus, BusError, ChildConfig, ChildState, Headers, NatsBus, NatsChild, Pattern, Subject,
    child::{AgentAccount, agent_options},
};
use bytes::Bytes;
use engine::{
    AgentError, Agents,
    bus::{BusAgents, Door, Registry},
};
use guard::{Keys, Public, Signer, Verifier};
use inventory::{Inventory, Tasks};
use lane::{Limits, Owner, rules::BundleRules};
use link::{
    LinkError, Presence, Service, Verb,
    bus::BusEngine,
    duty::Introduces,
    engine::{answered, ask},
    joined::{Deps, Joined},
};
use mapping::Bundle;
use prost::Message;
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use store::{Epoch, MemoryStore};
use tokio::time::sleep;
use union::{
    Clock, Ids, Kind, ObjectId,
    clock::{SystemClock, SystemIds},
    pb,
};

const DOMAIN: &str = "lab";

#[derive(Debug)]
struct Keyring(BTreeMap<&'static str, Public>);

impl Registry for Keyring {
    fn key(&self, agent: &str) -> Option<Public> {
        self.0.get(agent).cloned()
    }
}

#[derive(Debug)]
struct Seven;

#[async_trait]
impl Door for Seven {
    async fn answer(&self, _: &str, _: &str, _: Bytes) -> Bytes {
        answered(&pb::Taken { seq: 7 })
    }
}

#[derive(Debug)]
struct Me;

impl Introduces for Me {
    fn hello(&self) -> pb::Hello {
        pb::Hello::default()
    }
}

/// An agent that answers the engine, and has no targets.
async fn joined(
    name: &str,
    engine: Arc<dyn link::Engine>,
    presence: Presence,
    keys: Keys,
    to: Public,
) -> Joined {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let bundle = Bundle::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mappings")).unwrap();
    let facts = Inventory::new(Arc::clone(&bundle.schema), 1, Arc::clone(&clock));
    let tasks = Tasks::new(Arc::clone(&facts), Arc::clone(&clock), Arc::clone(&ids));
    let rules = Arc::new(BundleRules::new(Arc::clone(&bundle)));
    let owner = Owner::new(rules, Arc::clone(&facts), tasks, Arc::clone(&clock), Limits::default());
    let deps = Deps {
        domain: DOMAIN.into(),
        agent: name.into(),
        me: Arc::new(Me),
        store: Arc::new(MemoryStore::new()),
        epoch: Epoch(1),
        schema: Arc::clone(&bundle.schema),
        owner,
        facts,
        engine,
        presence,
        engine_key: to,
        keys,
        signer: None,
        clock,
        ids,
    };
    Joined::open(deps).await.unwrap()
}

fn signer(name: &str, keys: &Keys) -> Signer {
    Signer::new(DOMAIN, name, keys.clone(), Arc::new(SystemClock::new()), Arc::new(SystemIds))
}

async fn taken(engine: &BusEngine) -> Result<u64, LinkError> {
    let (verb, body) = (Verb::from(Service::Outbox), pb::Handed::default());
    ask::<pb::Taken>(engine, &verb, &body, Duration::from_secs(5)).await.map(|taken| taken.seq)
}

async fn settled(agents: &BusAgents, agent: &str) -> Result<pb::Settled, AgentError> {
    let about = pb::About {
        command_id: SystemIds.uuid().to_string(),
        object_id: ObjectId::new(Kind::Vm, SystemIds.uuid()).to_string(),
        engine_epoch: 1,
    };
    let body = Bytes::from(about.encode_to_vec());
    let answer = agents.ask(agent, "settle", body, Duration::from_secs(5)).await?;
    Ok(pb::Settled::decode(answer).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_and_engine_over_a_real_server() {
    let dir = tempfile::tempdir().unwrap();
    let (engine_keys, a, b) = (Keys::new(&SystemIds), Keys::new(&SystemIds), Keys::new(&SystemIds));
    let account =
        |name: &str, keys: &Keys| AgentAccount { name: name.into(), nkey: keys.public().text().to_owned() };
    let config = ChildConfig {
        domain: DOMAIN.into(),
        agents: vec![account("host.a", &a), account("host.b", &b)],
        ..ChildConfig::new(dir.path(), 0)
    };
    let child = NatsChild::start(&config, &SystemIds).await.unwrap();
    let own: Arc<dyn Bus> = Arc::new(NatsBus::connect(&child.options("engine")).await.unwrap());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let ring = Arc::new(Keyring([("host.a", a.public()), ("host.b", b.public())].into()));
    let verifier = Verifier::new(DOMAIN, Arc::clone(&clock));
    let _serving = engine::bus::serve(&own, DOMAIN, ring, verifier, Arc::new(Seven)).await.unwrap();
    let agents = BusAgents::new(Arc::clone(&own), DOMAIN, signer("engine", &engine_keys));

    let connect = async |name: &'static str, keys: &Keys| {
        let (seed, _) = keys.seeds().unwrap();
        let options = agent_options(&child.url(), name, seed.expose(), None);
        let bus: Arc<dyn Bus> = Arc::new(NatsBus::connect(&options).await.unwrap());
        let presence = Presence::new(Arc::clone(&clock));
        let way = BusEngine::new(Arc::clone(&bus), DOMAIN, Arc::new(signer(name, keys)), presence.clone());
        (bus, presence, Arc::new(way))
    };
    let (bus_a, presence, way) = connect("host.a", &a).await;
    let agent = joined("host.a", way.clone(), presence.clone(), a.clone(), engine_keys.public()).await;
    let verifier = Arc::new(Verifier::new(DOMAIN, Arc::clone(&clock)));
    let key = engine_keys.public();
    let _open = link::bus::serve(&bus_a, DOMAIN, "host.a", key, verifier, agent.link.clone()).await.unwrap();

    assert_eq!(taken(&way).await, Ok(7));
    assert!(settled(&agents, "host.a").await.unwrap().unknown);
    assert_eq!(settled(&agents, "host.b").await, Err(AgentError::Away));
    // Only the engine asks agents, also when an agent's own key signs.
    let (bus_b, _, way_b) = connect("host.b", &b).await;
    assert_eq!(taken(&way_b).await, Ok(7));
    let theirs = Subject::agent(DOMAIN, "host.a", "perform").unwrap();
    let sent = bus_b.request(&theirs, Headers::new(), Bytes::new(), Duration::from_secs(5)).await;
    assert!(matches!(sent, Err(BusError::Denied { .. })), "{sent:?}");
    let heard = bus_b.subscribe(&Pattern::agent(DOMAIN, "host.a").unwrap(), 1).await;
    assert!(matches!(heard, Err(BusError::Denied { .. })), "{heard:?}");
    let forged = BusAgents::new(Arc::clone(&own), DOMAIN, signer("engine", &b));
    let refused = settled(&forged, "host.a").await;
    assert!(matches!(refused, Err(AgentError::Refused(_))), "{refused:?}");

    // The server dies: it is said at once, and everything is as before when it is back.
    presence.here(1);
    let ChildState::Ready { pid } = child.state() else { panic!("the server runs") };
    let killed = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
    let mut failed = Ok(7);
    while failed.is_ok() {
        failed = taken(&way).await;
    }
    assert!(matches!(failed, Err(LinkError::Away(_) | LinkError::Lost(_))), "{failed:?}");
    assert!(!presence.is_here());
    while taken(&way).await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    while settled(&agents, "host.a").await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    child.stop().await;
}

//! Agent and engine over a bus that obeys accounts: what is signed is heard, everything else is refused, and nothing waits in silence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use async_trait::async_trait;
use bus::{Bus, BusError, Headers, MemoryHub, Pattern, Permissions, Subject};
use bytes::Bytes;
use engine::{
    AgentError, Agents,
    bus::{BusAgents, Door, Registry},
};
use guard::{Keys, Public, Signer, Verifier};
use inventory::{
    Inventory, Put,
    feed::{self, Held},
    fleet::Fleet,
};
use link::{
    Engine, LinkError, Presence, Service, Verb,
    bus::BusEngine,
    engine::{answered, ask},
    follow::{self, Followers},
};
use parking_lot::Mutex;
use prost::Message;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use union::{
    Clock, Ids, Kind, ObjectId, Schema, Value,
    clock::{ManualClock, SeededIds},
    command::Code,
    pb::{self, Connection},
};

const DOMAIN: &str = "lab";

/// What the broker's account of an agent allows, as `bus::child` writes it.
fn account(agent: &str) -> Permissions {
    let agent = bus::subject::escape(agent);
    let all = |patterns: &[String]| Some(patterns.iter().map(|p| Pattern::parse(p).unwrap()).collect());
    Permissions {
        publish: all(&[
            format!("cmd.{DOMAIN}.>"),
            format!("service.engine-{DOMAIN}.>"),
            format!("inventory.{DOMAIN}.{agent}.>"),
            format!("inventory.{DOMAIN}.*.*.snapshot"),
        ]),
        subscribe: all(&[
            format!("agent.{DOMAIN}.{agent}.>"),
            format!("inventory.{DOMAIN}.*.*.delta"),
            format!("inventory.{DOMAIN}.{agent}.*.snapshot"),
        ]),
    }
}

#[derive(Debug)]
struct Keyring(Mutex<BTreeMap<String, Public>>);

impl Registry for Keyring {
    fn key(&self, agent: &str) -> Option<Public> {
        self.0.lock().get(agent).cloned()
    }
}

/// Says who asked what.
#[derive(Debug)]
struct Echo {
    heard: Mutex<Vec<(String, String, Bytes)>>,
    open: watch::Sender<bool>,
}

#[async_trait]
impl Door for Echo {
    async fn answer(&self, from: &str, verb: &str, body: Bytes) -> Bytes {
        self.heard.lock().push((from.into(), verb.into(), body));
        self.open.subscribe().wait_for(|open| *open).await.expect("we hold it");
        answered(&pb::Taken { seq: 7 })
    }
}

struct House {
    hub: MemoryHub,
    clock: Arc<dyn Clock>,
    hand: Arc<ManualClock>,
    door: Arc<Echo>,
    ring: Arc<Keyring>,
    engine_bus: Arc<dyn Bus>,
    _serving: ::bus::Serving,
}

struct Member {
    bus: Arc<dyn Bus>,
    keys: Keys,
    presence: Presence,
    engine: BusEngine,
}

fn keys(seed: u64) -> Keys {
    Keys::new(&SeededIds::new(seed))
}

fn signer(clock: &Arc<dyn Clock>, name: &str, keys: &Keys, seed: u64) -> Signer {
    Signer::new(DOMAIN, name, keys.clone(), Arc::clone(clock), Arc::new(SeededIds::new(seed)) as Arc<dyn Ids>)
}

async fn house() -> House {
    let hub = MemoryHub::new();
    let hand = Arc::new(ManualClock::new(1_700_000_000_000));
    let clock: Arc<dyn Clock> = hand.clone();
    let engine_bus: Arc<dyn Bus> = Arc::new(hub.connect(Permissions::all()));
    let ring = [("host-a", 1), ("host-b", 2)].map(|(name, seed)| (name.to_owned(), keys(seed).public()));
    let ring = Arc::new(Keyring(Mutex::new(ring.into())));
    let door = Arc::new(Echo { heard: Mutex::default(), open: watch::Sender::new(true) });
    let verifier = Verifier::new(DOMAIN, Arc::clone(&clock));
    let serving =
        engine::bus::serve(&engine_bus, DOMAIN, ring.clone(), verifier, door.clone()).await.unwrap();
    House { hub, clock, hand, door, ring, engine_bus, _serving: serving }
}

impl House {
    fn agent(&self, name: &str, keys: Keys) -> Member {
        let bus: Arc<dyn Bus> = Arc::new(self.hub.connect(account(name)));
        let presence = Presence::new(Arc::clone(&self.clock));
        presence.here(1);
        let seed = keys.public().text().bytes().map(u64::from).sum();
        let signer = Arc::new(signer(&self.clock, name, &keys, seed));
        let engine = BusEngine::new(Arc::clone(&bus), DOMAIN, signer, presence.clone());
        Member { bus, keys, presence, engine }
    }
}

async fn taken(engine: &dyn Engine, verb: impl Into<Verb>) -> Result<u64, LinkError> {
    let (verb, body) = (verb.into(), pb::Handed::default());
    ask::<pb::Taken>(engine, &verb, &body, Duration::from_secs(1)).await.map(|taken| taken.seq)
}

fn refused<T: std::fmt::Debug>(result: Result<T, LinkError>) -> Code {
    match result {
        Err(LinkError::Refused(cause)) => cause.code,
        other => panic!("expected a refusal: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_heard_by_its_own_name() {
    let house = house().await;
    let a = house.agent("host-a", keys(1));
    assert_eq!(taken(&a.engine, Service::Outbox).await, Ok(7));
    let command = Verb::Command { kind: Kind::Vm, verb: "Reconfigure".into() };
    assert_eq!(taken(&a.engine, command).await, Ok(7));
    let heard: Vec<_> = house.door.heard.lock().iter().map(|(f, v, _)| (f.clone(), v.clone())).collect();
    let expected = [("host-a", "outbox"), ("host-a", "vm.Reconfigure")];
    assert_eq!(heard, expected.map(|(f, v)| (f.to_owned(), v.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_signed_by_an_agent_reaches_no_door() {
    let house = house().await;
    let stranger = house.agent("host-c", keys(3));
    assert_eq!(refused(taken(&stranger.engine, Service::Outbox).await), Code::Permission, "not joined");
    let liar = house.agent("host-a", keys(2));
    assert_eq!(refused(taken(&liar.engine, Service::Outbox).await), Code::Permission, "b's key, a's name");
    let old = house.agent("host-a", keys(1));
    house.ring.0.lock().remove("host-a");
    assert_eq!(refused(taken(&old.engine, Service::Outbox).await), Code::Permission, "removed");
    house.ring.0.lock().insert("host-a".into(), keys(1).public());

    let a = house.agent("host-a", keys(1));
    let outbox = Subject::service(&link::bus::service(DOMAIN), "outbox").unwrap();
    let send = |subject: &Subject, body: Vec<u8>| {
        let (bus, subject) = (Arc::clone(&a.bus), subject.clone());
        async move {
            let answer =
                bus.request(&subject, Headers::new(), Bytes::from(body), Duration::from_secs(1)).await;
            link::engine::open::<pb::Taken>(&answer.unwrap().payload)
        }
    };
    let own = signer(&house.clock, "host-a", &a.keys, 99);
    let signed = own.sign(outbox.as_str(), pb::Handed::default().encode_to_vec());
    assert!(send(&outbox, signed.encode_to_vec()).await.is_ok());
    assert_eq!(refused(send(&outbox, signed.encode_to_vec()).await), Code::Permission, "said before");
    let moved = own.sign(outbox.as_str(), Vec::new());
    let ids = Subject::service(&link::bus::service(DOMAIN), "ids").unwrap();
    assert_eq!(refused(send(&ids, moved.encode_to_vec()).await), Code::Permission, "for another subject");
    let changed = pb::Signed { body: vec![1], ..own.sign(outbox.as_str(), Vec::new()) };
    assert_eq!(refused(send(&outbox, changed.encode_to_vec()).await), Code::Permission, "changed");
    let early = own.sign(outbox.as_str(), Vec::new());
    house.hand.advance(Duration::from_secs(121));
    assert_eq!(refused(send(&outbox, early.encode_to_vec()).await), Code::Permission, "too old");
    assert_eq!(refused(send(&outbox, vec![0xff; 40]).await), Code::Permission, "no message at all");
    assert_eq!(house.door.heard.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn others_subjects_are_closed() {
    let house = house().await;
    let a = house.agent("host-a", keys(1));
    let theirs = Subject::agent(DOMAIN, "host-b", "perform").unwrap();
    let within = Duration::from_secs(1);
    let sent = a.bus.request(&theirs, Headers::new(), Bytes::new(), within).await;
    assert!(matches!(sent, Err(BusError::Denied { .. })));
    for pattern in [Pattern::agent(DOMAIN, "host-b").unwrap(), Pattern::commands(DOMAIN).unwrap()] {
        assert!(matches!(a.bus.subscribe(&pattern, 9).await, Err(BusError::Denied { .. })), "{pattern}");
    }
    let stolen: Arc<dyn Bus> = Arc::new(house.hub.connect(Permissions::monitor()));
    let command = Subject::cmd(DOMAIN, "vm", "PowerOff").unwrap();
    let sent = stolen.request(&command, Headers::new(), Bytes::new(), within).await;
    assert!(matches!(sent, Err(BusError::Denied { .. })));
    assert!(house.door.heard.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_command_is_not_too_large() {
    let house = house().await;
    let a = house.agent("host-a", keys(1));
    let verb = Verb::Command { kind: Kind::Vm, verb: "Reconfigure".into() };
    let large = Bytes::from(vec![0; engine::bus::COMMAND_BYTES]);
    let answer = a.engine.ask(&verb, large, Duration::from_secs(1)).await.unwrap();
    assert_eq!(refused(link::engine::open::<pb::Outcome>(&answer)), Code::InvalidArgument);
    let larger = Bytes::from(vec![0; bus::limits::MAX_PAYLOAD]);
    assert_eq!(refused(a.engine.ask(&verb, larger, Duration::from_secs(1)).await), Code::InvalidArgument);
    assert!(house.door.heard.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_busy_at_once_and_leaves_room_for_the_rest() {
    let house = house().await;
    house.door.open.send_replace(false);
    let a = Arc::new(house.agent("host-a", keys(1)));
    let most = engine::bus::COMMANDS;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..most + 500 {
        let a = Arc::clone(&a);
        asked.spawn(async move {
            let verb = Verb::Command { kind: Kind::Vm, verb: "PowerOn".into() };
            taken(&a.engine, verb).await
        });
    }
    let before = Instant::now();
    for _ in 0..500 {
        assert_eq!(asked.join_next().await.unwrap().unwrap(), Err(LinkError::Busy));
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    house.door.open.send_replace(true);
    while let Some(answer) = asked.join_next().await {
        assert_eq!(answer.unwrap(), Ok(7));
    }
    assert_eq!(house.door.heard.lock().len(), most);
    assert_eq!(taken(&a.engine, Service::Beat).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_down_is_said_at_once() {
    let house = house().await;
    let a = house.agent("host-a", keys(1));
    house.door.open.send_replace(false);
    let asked = taken(&a.engine, Service::Outbox);
    tokio::pin!(asked);
    tokio::select! {
        biased;
        answer = &mut asked => panic!("{answer:?}"),
        () = tokio::time::sleep(Duration::from_millis(10)) => {}
    }
    house.hub.set_up(false);
    let lost = asked.await;
    assert!(matches!(lost, Err(LinkError::Lost(_))), "it was sent: {lost:?}");
    assert!(!a.presence.is_here());
    let away = taken(&a.engine, Service::Outbox).await;
    assert!(matches!(away, Err(LinkError::Away(_))), "it was not: {away:?}");
    house.hub.set_up(true);
    assert_eq!(taken(&a.engine, Service::Outbox).await, Err(LinkError::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_not_there_is_away() {
    let house = house().await;
    let a = house.agent("host-a", keys(1));
    house.engine_bus.close().await;
    let away = taken(&a.engine, Service::Outbox).await;
    assert!(matches!(away, Err(LinkError::Away(_))), "{away:?}");
    assert!(!a.presence.is_here());
}

#[tokio::test(start_paused = true)]
async fn the_engine_asks_agents_that_are_there() {
    let house = house().await;
    let engine = keys(9);
    let agents =
        BusAgents::new(Arc::clone(&house.engine_bus), DOMAIN, signer(&house.clock, "engine", &engine, 9));
    let ask = |agent: &'static str| agents.ask(agent, "settle", Bytes::new(), Duration::from_secs(1));
    assert_eq!(ask("host-a").await, Err(AgentError::Away));
    // An agent that listens and does not answer.
    let a = house.agent("host-a", keys(1));
    let mut held = a.bus.serve(&Pattern::agent(DOMAIN, "host-a").unwrap(), 1).await.unwrap();
    assert_eq!(ask("host-a").await, Err(AgentError::TimedOut));
    let request = held.next().await.unwrap();
    let signed = pb::Signed::decode(request.message.payload.clone()).unwrap();
    assert_eq!(signed.signer, "engine");
    let subject = request.message.subject.as_str().to_owned();
    Verifier::new(DOMAIN, Arc::clone(&house.clock)).verify(&subject, &signed, &engine.public()).unwrap();
}

/// An agent's feed, as the binary publishes it.
async fn publish(bus: &Arc<dyn Bus>, agent: &str, life: u64, facts: &Arc<Inventory>) -> bus::FeedPublisher {
    let name = bus::FeedName::new(DOMAIN, agent, follow::FACTS).unwrap();
    let feed = bus::FeedPublisher::open(Arc::clone(bus), name, life, bus::FeedPace::default()).await.unwrap();
    let held = Held { target: "t", protocol: "sim" };
    let put = |(key, bytes): (String, Vec<u8>)| bus::FeedChange::Put { key, bytes: Bytes::from(bytes) };
    let mut changes: Vec<_> = facts
        .everything()
        .iter()
        .filter_map(|c| {
            let (key, bytes) = feed::encode(facts.schema(), c, held);
            Some(put((key, bytes?)))
        })
        .collect();
    changes.push(put(feed::revision(facts.revision())));
    changes.push(put(feed::in_step("t")));
    feed.apply(changes).await.unwrap();
    feed
}

fn host(n: u128) -> ObjectId {
    ObjectId::new(Kind::Host, uuid::Uuid::from_u128(n))
}

fn facts(clock: &Arc<dyn Clock>, life: u64, n: u128) -> Arc<Inventory> {
    let facts = Inventory::new(Schema::base(), life, Arc::clone(clock));
    let message = facts.schema().kind(Kind::Host);
    let mut record = message.record();
    record.set(message.field("name").unwrap().slot, format!("host{n}"));
    record.set(message.field("connection").unwrap().slot, Connection::Connected as i32);
    facts.apply(vec![Put::Whole(host(n), record)]);
    facts
}

fn connected(fleet: &Fleet, n: u128) -> Option<bool> {
    let slot = fleet.inventory().schema().slot(Kind::Host, "connection")?;
    let record = fleet.inventory().record(host(n))?;
    Some(*record.get(slot) == Value::from(Connection::Connected as i32))
}

#[tokio::test(start_paused = true)]
async fn a_fleet_finds_its_agents_and_misses_them() {
    let house = house().await;
    let fleet = Fleet::new(Inventory::new(Schema::base(), 500, Arc::clone(&house.clock)));
    let followers =
        Followers::new(Arc::clone(&house.engine_bus), DOMAIN, fleet.clone(), vec!["host-c".into()]);
    tokio::spawn(Arc::clone(&followers).run());
    let a = house.agent("host-a", keys(1));
    let b = house.agent("host.b", keys(2));
    let (facts_a, facts_b) = (facts(&house.clock, 1_000, 1), facts(&house.clock, 1_000, 2));
    let _feed_a = publish(&a.bus, "host-a", 1, &facts_a).await;
    let feed_b = publish(&b.bus, "host.b", 1, &facts_b).await;
    for (bus, name) in [(&a.bus, "host-a"), (&b.bus, "host.b")] {
        tokio::spawn(follow::announce(Arc::clone(bus), DOMAIN, name));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(followers.agents(), ["host-a", "host.b"].map(Arc::<str>::from));
    assert_eq!((connected(&fleet, 1), connected(&fleet, 2)), (Some(true), Some(true)));
    assert_eq!(fleet.holder(host(2)).unwrap().agent, "host.b".into());
    assert!(!followers.ensure("host-c"), "its own facts do not come over the bus");
    // One dies: it is missed, and its facts stay.
    drop(feed_b);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!((connected(&fleet, 1), connected(&fleet, 2)), (Some(true), Some(false)));
    assert!(fleet.is_lost("host.b"));
    // It comes back with a new life.
    let facts_b = facts(&house.clock, 2_000, 2);
    let _feed_b = publish(&b.bus, "host.b", 2, &facts_b).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(connected(&fleet, 2), Some(true));
    assert!(link::router::Replica::reached(&fleet, host(2), facts_b.revision(), true, Duration::ZERO).await);
    followers.forget("host.b");
    assert_eq!(connected(&fleet, 2), None);
}

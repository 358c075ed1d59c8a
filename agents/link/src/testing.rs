//! A small world for tests: one agent with one machine, and an engine that says what the test wants.

use crate::{
    door::Link,
    duty::Introduces,
    engine::{Engine, LinkError, Service, Verb, answered},
    joined::{Deps, Joined},
    presence::Presence,
    router::{InStep, Replica, Router},
    tree::FactsTree,
};
use async_trait::async_trait;
use bytes::Bytes;
use guard::{Grant, Keys, Pass, Secret, grant};
use inventory::{Inventory, Put, Tasks};
use lane::{Limits, NativeCall, Owner, Progress, Target, TargetError, rules::BundleRules};
use mapping::Bundle;
use parking_lot::Mutex;
use prost::Message;
use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};
use store::{Epoch, MemoryStore, Store};
use tokio::{sync::watch, time::Instant};
use union::{
    Clock, Command, CommandId, Ids, Kind, ObjectId, Origin, Value,
    clock::{ManualClock, SeededIds},
    command::{Outcome, Revision},
    pb::{self, PowerState},
};
use uuid::Uuid;

pub(crate) const NOW: i64 = 1_700_000_000_000;
pub(crate) const AGENT: &str = "host-a";
pub(crate) const DOMAIN: &str = "lab";
pub(crate) const E: Epoch = Epoch(1);

pub(crate) fn bundle() -> Arc<Bundle> {
    static BUNDLE: OnceLock<Arc<Bundle>> = OnceLock::new();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mappings");
    BUNDLE.get_or_init(|| Bundle::load(&dir).expect("good mappings")).clone()
}

pub(crate) fn vm(n: u128) -> ObjectId {
    ObjectId::new(Kind::Vm, Uuid::from_u128(n))
}

/// What the test's engine does with a request.
type Says = Box<dyn Fn(Bytes) -> Result<Bytes, LinkError> + Send>;

/// An engine by the test's word. A verb it was told nothing about is never answered.
pub(crate) struct Fake {
    says: Mutex<Vec<(String, Says)>>,
    pub asked: Mutex<Vec<(String, Bytes)>>,
    /// Answers wait until this is true.
    pub open: watch::Sender<bool>,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    pub fn new() -> Arc<Fake> {
        let (says, asked) = (Mutex::default(), Mutex::default());
        Arc::new(Fake { says, asked, open: watch::Sender::new(true) })
    }

    /// From now on `verb` is answered so.
    pub fn says(&self, verb: &str, says: impl Fn(Bytes) -> Result<Bytes, LinkError> + Send + 'static) {
        let mut all = self.says.lock();
        all.retain(|(known, _)| known != verb);
        all.push((verb.to_owned(), Box::new(says)));
    }

    /// From now on `verb` is answered with this message.
    pub fn answers(&self, verb: &str, message: impl Message) {
        let answer = answered(&message);
        self.says(verb, move |_| Ok(answer.clone()));
    }

    /// The bodies of the requests with this verb.
    pub fn heard<M: Message + Default>(&self, verb: &str) -> Vec<M> {
        let asked = self.asked.lock();
        let of = asked.iter().filter(|(v, _)| v == verb);
        of.map(|(_, body)| M::decode(body.clone()).expect("a good body")).collect()
    }
}

#[async_trait]
impl Engine for Fake {
    async fn ask(&self, verb: &Verb, body: Bytes, within: Duration) -> Result<Bytes, LinkError> {
        let word = verb.word().into_owned();
        self.asked.lock().push((word.clone(), body.clone()));
        let answer = async {
            let mut open = self.open.subscribe();
            open.wait_for(|open| *open).await.expect("we hold it");
            loop {
                let said =
                    self.says.lock().iter().find(|(v, _)| *v == word).map(|(_, says)| says(body.clone()));
                match said {
                    Some(answer) => return answer,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(within, answer).await.unwrap_or(Err(LinkError::TimedOut))
    }
}

/// A hypervisor with the machines that the inventory begins with.
pub(crate) struct Machines {
    inventory: Arc<Inventory>,
    pub calls: Mutex<Vec<String>>,
    /// Calls wait until this is true.
    pub open: watch::Sender<bool>,
}

impl Machines {
    fn power(&self, id: ObjectId, state: PowerState) -> Revision {
        let slot = self.inventory.schema().slot(Kind::Vm, "power_state").expect("a field");
        self.inventory.apply(vec![Put::Slots(id, vec![(slot, Value::from(state as i32))])])
    }
}

#[async_trait]
impl Target for Machines {
    fn protocol(&self) -> &str {
        "sim"
    }

    fn name(&self) -> &str {
        "machines"
    }

    fn holds(&self, id: ObjectId) -> bool {
        id.kind == Kind::Vm && id.uuid.as_u128() < 100
    }

    async fn perform(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
        _: Progress,
    ) -> Result<Value, TargetError> {
        self.calls.lock().push(call.call.to_string());
        let mut open = self.open.subscribe();
        let opened = open.wait_for(|open| *open);
        if tokio::time::timeout_at(deadline, opened).await.is_err() {
            return Err(TargetError::TimedOut);
        }
        let state = match &*call.call {
            "PowerOn" => PowerState::Running,
            _ => PowerState::Stopped,
        };
        self.power(object, state);
        Ok(Value::Absent)
    }

    async fn reread(&self, _: ObjectId, _: Instant) -> Result<Revision, TargetError> {
        Ok(self.inventory.revision())
    }
}

#[derive(Debug)]
struct Me;

impl Introduces for Me {
    fn hello(&self) -> pb::Hello {
        pb::Hello { agent: AGENT.into(), incarnation: 7, ..pb::Hello::default() }
    }
}

/// An agent in its world.
pub(crate) struct World {
    pub clock: Arc<ManualClock>,
    pub store: MemoryStore,
    pub engine: Arc<Fake>,
    pub engine_keys: Keys,
    pub keys: Keys,
    pub presence: Presence,
    pub inventory: Arc<Inventory>,
    pub tasks: Arc<Tasks>,
    pub owner: Arc<Owner>,
    pub machines: Arc<Machines>,
    pub joined: Joined,
    pub router: Arc<Router>,
}

pub(crate) async fn world() -> World {
    World::start(MemoryStore::new(), Arc::new(InStep)).await
}

impl World {
    /// An agent over what `store` holds.
    pub async fn start(store: MemoryStore, replica: Arc<dyn Replica>) -> World {
        let clock = Arc::new(ManualClock::new(NOW));
        let dyn_clock: Arc<dyn Clock> = clock.clone();
        let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(3));
        let (engine_keys, keys) = (Keys::new(&SeededIds::new(1)), Keys::new(&SeededIds::new(2)));
        let bundle = bundle();
        let inventory = Inventory::new(Arc::clone(&bundle.schema), 1, Arc::clone(&dyn_clock));
        let message = inventory.schema().kind(Kind::Vm);
        let slot = |field: &str| message.field(field).expect("a field").slot;
        let machine = |n: u128| {
            let mut record = message.record();
            record.set(slot("name"), format!("vm{n}"));
            record.set(slot("power_state"), PowerState::Stopped as i32);
            Put::Whole(vm(n), record)
        };
        inventory.apply((1..=3).map(machine).collect());
        let tasks = Tasks::new(Arc::clone(&inventory), Arc::clone(&dyn_clock), Arc::clone(&ids));
        let rules = Arc::new(BundleRules::new(Arc::clone(&bundle)));
        let owner = Owner::new(
            rules,
            Arc::clone(&inventory),
            Arc::clone(&tasks),
            Arc::clone(&dyn_clock),
            Limits::default(),
        );
        let machines = Arc::new(Machines {
            inventory: Arc::clone(&inventory),
            calls: Mutex::default(),
            open: watch::Sender::new(true),
        });
        let engine = Fake::new();
        let presence = Presence::new(Arc::clone(&dyn_clock));
        let joined = Joined::open(Deps {
            domain: DOMAIN.into(),
            agent: AGENT.into(),
            me: Arc::new(Me),
            store: Arc::new(store.clone()) as Arc<dyn Store>,
            epoch: E,
            schema: Arc::clone(&bundle.schema),
            owner: Arc::clone(&owner),
            facts: Arc::clone(&inventory),
            engine: engine.clone(),
            presence: presence.clone(),
            engine_key: engine_keys.public(),
            keys: keys.clone(),
            signer: None,
            clock: Arc::clone(&dyn_clock),
            ids,
        })
        .await
        .expect("a good store");
        owner.adopt(machines.clone());
        let tree = Arc::new(FactsTree(Arc::clone(&inventory)));
        let router = joined.router(tree, Arc::clone(&tasks), replica, bundle);
        World {
            clock,
            store,
            engine,
            engine_keys,
            keys,
            presence,
            inventory,
            tasks,
            owner,
            machines,
            joined,
            router,
        }
    }

    pub fn link(&self) -> &Arc<Link> {
        &self.joined.link
    }

    /// A grant as the engine issues it.
    pub fn grant(&self, session: &str, principal: &str, agent: &str) -> Grant {
        let scope = pb::Scope { verbs: vec!["*".into()], ..pb::Scope::default() };
        let content = pb::Grant {
            session_id: session.into(),
            principal: principal.into(),
            agent: agent.into(),
            scopes: vec![scope],
            issued_ms: NOW,
            expires_ms: NOW + grant::TTL_MS,
            version: 1,
            ..pb::Grant::default()
        };
        Grant::issue(content, DOMAIN, &self.engine_keys)
    }

    /// A session of this agent.
    pub fn log_in(&self, session: &str, principal: &str) -> Pass {
        let grant = self.grant(session, principal, AGENT);
        self.joined.grants.hold(&grant.signed, Secret::from("key")).expect("believed").expect("room")
    }

    /// The engine is there, and says yes to what keeps it in touch.
    pub fn engine_is_here(&self) {
        self.presence.here(1);
    }

    /// Records that wait for the engine.
    pub async fn outbox(&self) -> Vec<(u64, store::outbox::Item)> {
        let store: Arc<dyn Store> = Arc::new(self.store.clone());
        store::outbox::Outbox::new(store).pending(0, 100).await.expect("readable")
    }
}

/// A command of the session `s1` of `ann`.
pub(crate) fn command(n: u128, verb: &str, object: ObjectId) -> Command {
    let schema = Arc::clone(&bundle().schema);
    let message = schema.message(verb).expect("a command");
    let mut body = message.record();
    if let Some(field) = message.field("vm_id") {
        body.set(field.slot, object);
    }
    Command {
        id: CommandId(Uuid::from_u128(n)),
        verb: verb.into(),
        schema: message.command.clone().expect("a command"),
        object,
        body: Arc::new(body),
        principal: "ann".into(),
        session: "s1".into(),
        deadline_ms: NOW + 60_000,
        origin: Origin { protocol: "p".into(), view: "host".into(), method: "m".into() },
    }
}

pub(crate) fn done() -> Outcome {
    Outcome::Done { revision: Revision { incarnation: 1, n: 1 }, result: None, already: false }
}

pub(crate) fn said(outcome: &Outcome) -> pb::Outcome {
    outcome.to_pb(&bundle().schema)
}

/// Lets everything that can go on go on.
pub(crate) async fn settle_down() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[test]
fn every_service_has_its_word() {
    let words: std::collections::BTreeSet<&str> = Service::ALL.iter().map(|s| s.word()).collect();
    assert_eq!(words.len(), Service::ALL.len());
    let verb = Verb::Command { kind: Kind::Vm, verb: "PowerOn".into() };
    assert_eq!((verb.word().as_ref(), Verb::from(Service::Outbox).word().as_ref()), ("vm.PowerOn", "outbox"));
}

mod points {
    use super::*;
    use crate::{
        engine::ask,
        outbox::Pump,
        testing::{command, done, said, vm, world},
    };
    use lane::{Commands as _, Reply};
    use std::collections::BTreeSet;

    static PASSED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

    #[tokio::test(start_paused = true)]
    async fn every_failpoint_is_passed() {
        union::fail::install(|point| {
            PASSED.lock().insert(point);
        });
        let world = world().await;
        world.log_in("s1", "ann");
        world.engine_is_here();
        world.engine.answers("vm.PowerOn", said(&done()));
        let away = world.router.submit(command(1, "PowerOn", vm(1_000)), Reply::Task).expect("taken");
        assert_eq!(away.outcome().await, done());
        let own = world.router.submit(command(2, "PowerOn", vm(1)), Reply::Task).expect("taken");
        assert!(matches!(own.outcome().await, Outcome::Done { .. }));
        world.joined.journal.flush().await;
        world.engine.says("outbox", |body| {
            let last = pb::Handed::decode(body).expect("a good body").items.last().map_or(0, |item| item.seq);
            Ok(answered(&pb::Taken { seq: last }))
        });
        let store: Arc<dyn Store> = Arc::new(world.store.clone());
        let backlog = Arc::clone(&world.joined.backlog);
        let pump = Pump::new("o".into(), store, E, backlog, world.engine.clone(), world.presence.clone());
        let mut empty = pump.empty();
        let running = tokio::spawn(pump.run());
        empty.wait_for(|empty| *empty).await.expect("the pump runs");
        running.abort();
        let perform = pb::Perform {
            envelope: Some(command(3, "PowerOff", vm(1)).to_pb(&bundle().schema, "b")),
            grant: Some(world.grant("s1", "ann", AGENT).signed.clone()),
            engine_epoch: 1,
            ..pb::Perform::default()
        };
        let answer = world.link().answer("perform", Bytes::from(perform.encode_to_vec())).await;
        crate::engine::open::<pb::Outcome>(&answer).expect("an outcome");
        world.engine.answers("ids", pb::LeasedIds { first: 5, count: 10 });
        let lent = world.joined.lender().lease(pb::LeaseIds::default()).await.expect("numbers");
        assert_eq!(lent.first, 5);
        let asked: pb::LeasedIds =
            ask(&*world.joined.engine, &Verb::from(Service::Ids), &(), Duration::from_secs(1))
                .await
                .expect("numbers");
        assert_eq!(asked, lent);
        let passed = PASSED.lock().clone();
        let missed: Vec<_> = crate::POINTS.iter().filter(|point| !passed.contains(**point)).collect();
        assert!(missed.is_empty(), "{missed:?}");
    }
}

//! An engine over a store in memory, two agents that answer as a test says, and everything that a test looks at.

use async_trait::async_trait;
use bytes::Bytes;
use engine::{
    Admitted, AgentError, Agents, Authority, Deps, Engine, IdMaps, Limits, OneBundle, begin_epoch,
    unwrap_reply, wrap_reply,
};
use guard::{Grant, Tree};
use inventory::{
    Inventory, Layout, Put, Skeleton, View,
    fleet::{Fleet, Local},
    plan::Draft,
};
use mapping::Bundle;
use parking_lot::Mutex;
use prost::Message;
use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use store::{
    MemoryStore, Store,
    audit::{Audit, Filter},
    journal::{Entry, Journal},
};
use union::{
    Clock, Command, CommandId, Kind, ObjectId, Plan, Value,
    clock::{ManualClock, SeededIds},
    command::{Cause, Code, Outcome, Revision},
    pb,
};
use uuid::Uuid;

pub static BUNDLE: LazyLock<Arc<Bundle>> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/simulation/mappings");
    Bundle::load(&dir).unwrap_or_else(|report| panic!("{report}"))
});

/// What an agent answers.
pub enum Say {
    Outcome(Outcome),
    Settled(pb::Settled),
    Away,
    Silent,
    Never,
}

#[derive(Default)]
struct Script {
    next: BTreeMap<&'static str, VecDeque<Say>>,
    asked: Vec<(String, String, Bytes)>,
}

/// Agents as a test says; without a word, what they are asked is done.
#[derive(Default)]
pub struct Scripted {
    script: Mutex<Script>,
    pub facts: Mutex<Option<Arc<Inventory>>>,
    /// What is destroyed is gone from the facts.
    pub destroys: AtomicBool,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    pub fn say(&self, verb: &'static str, say: Say) {
        self.script.lock().next.entry(verb).or_default().push_back(say);
    }

    /// What was asked under a verb: of whom, and what.
    pub fn asked(&self, verb: &str) -> Vec<(String, Bytes)> {
        let script = self.script.lock();
        script
            .asked
            .iter()
            .filter(|(_, v, _)| v == verb)
            .map(|(a, _, body)| (a.clone(), body.clone()))
            .collect()
    }

    pub fn performed(&self) -> Vec<pb::Perform> {
        self.asked("perform").iter().map(|(_, body)| pb::Perform::decode(body.as_ref()).unwrap()).collect()
    }
}

#[async_trait]
impl Agents for Scripted {
    async fn ask(&self, agent: &str, verb: &str, body: Bytes, within: Duration) -> Result<Bytes, AgentError> {
        let say = {
            let mut script = self.script.lock();
            script.asked.push((agent.to_owned(), verb.to_owned(), body.clone()));
            script.next.iter_mut().find(|(v, _)| **v == verb).and_then(|(_, said)| said.pop_front())
        };
        let schema = &BUNDLE.schema;
        let outcome = |outcome: &Outcome| Ok(Bytes::from(outcome.to_pb(schema).encode_to_vec()));
        match say {
            Some(Say::Outcome(said)) => outcome(&said),
            Some(Say::Settled(settled)) => Ok(Bytes::from(settled.encode_to_vec())),
            Some(Say::Away) => Err(AgentError::Away),
            Some(Say::Silent) => {
                tokio::time::sleep(within).await;
                Err(AgentError::TimedOut)
            }
            Some(Say::Never) => pending().await,
            None if verb == "perform" => {
                let envelope = pb::Perform::decode(body.as_ref()).unwrap().envelope.unwrap();
                if envelope.verb == "DestroyVm" && self.destroys.load(Ordering::SeqCst) {
                    let gone = vec![Put::Remove(envelope.object_id.parse().unwrap())];
                    self.facts.lock().as_ref().map(|facts| facts.apply(gone));
                }
                let revision = self.facts.lock().as_ref().map(|facts| facts.revision());
                outcome(&done(revision.unwrap_or_default()))
            }
            None => Ok(Bytes::from(pb::Settled::default().encode_to_vec())),
        }
    }
}

pub fn done(revision: Revision) -> Outcome {
    Outcome::Done { revision, result: None, already: false }
}

pub fn refused(code: Code) -> Outcome {
    Outcome::Refused(Cause::new(code, "says the test"))
}

/// Lets everybody but `mallory` do everything; a grant is what it says.
#[derive(Debug)]
pub struct Anybody;

#[async_trait]
impl Authority for Anybody {
    async fn admit(
        &self,
        from: &str,
        command: &Command,
        _shown: Option<&pb::SignedGrant>,
        _tree: &(dyn Tree + Sync),
    ) -> Result<Admitted, Cause> {
        if &*command.session == "mallory's" {
            return Err(Cause::new(Code::Permission, "not mallory"));
        }
        let content = pb::Grant { agent: from.to_owned(), expires_ms: i64::MAX, ..all("ann", from) };
        Ok(Admitted { principal: Arc::from("ann"), grant: Arc::new(Grant::unsigned(content)) })
    }

    async fn grant(&self, _session: &str, agent: &str) -> Result<pb::SignedGrant, Cause> {
        Ok(signed("ann", agent))
    }

    fn issued(&self, grant: &pb::SignedGrant) -> Option<pb::Grant> {
        (grant.signature == b"engine").then(|| pb::Grant::decode(grant.grant.as_slice()).ok()).flatten()
    }

    async fn serve(&self, _from: &str, verb: &str, body: Bytes) -> Option<Result<Bytes, Cause>> {
        (verb == "echo").then_some(Ok(body))
    }

    async fn welcome(&self, _agent: &str, welcome: &mut pb::Welcome) {
        welcome.revoked = vec!["old".to_owned()];
    }
}

fn all(principal: &str, agent: &str) -> pb::Grant {
    pb::Grant {
        session_id: format!("{principal}'s"),
        principal: principal.to_owned(),
        agent: agent.to_owned(),
        scopes: vec![pb::Scope { verbs: vec!["*".to_owned()], ..pb::Scope::default() }],
        expires_ms: i64::MAX,
        ..pb::Grant::default()
    }
}

pub fn signed(principal: &str, agent: &str) -> pb::SignedGrant {
    pb::SignedGrant { grant: all(principal, agent).encode_to_vec(), signature: b"engine".to_vec() }
}

#[derive(Debug)]
struct NoMaps;

#[async_trait]
impl IdMaps for NoMaps {
    async fn lease(&self, _agent: &str, wanted: &pb::LeaseIds) -> Result<pb::LeasedIds, Cause> {
        Ok(pb::LeasedIds { first: 1, count: wanted.count })
    }

    async fn adopt(&self, _agent: &str, _body: &[u8]) -> Result<(), Cause> {
        Ok(())
    }
}

pub struct Bed {
    pub clock: Arc<ManualClock>,
    pub store: Arc<dyn Store>,
    pub memory: MemoryStore,
    pub agents: Arc<Scripted>,
    /// The facts of the agent `a`, whose target is `hyper`.
    pub facts: Arc<Inventory>,
    pub fleet: Fleet,
    pub engine: Arc<Engine>,
    pub limits: Limits,
    _local: Local,
}

pub fn vm(n: u128) -> ObjectId {
    ObjectId::new(Kind::Vm, Uuid::from_u128(n))
}

pub fn host() -> ObjectId {
    ObjectId::new(Kind::Host, Uuid::from_u128(1))
}

pub fn folder(n: u128) -> ObjectId {
    ObjectId::new(Kind::Folder, Uuid::from_u128(n))
}

/// The fleet view's folder of VMs.
pub fn vm_folder() -> ObjectId {
    inventory::plan::Datacenter::ids("view fleet", "default").vm
}

impl Bed {
    pub async fn new() -> Bed {
        Bed::with(MemoryStore::new(), Limits::default()).await
    }

    pub async fn with(memory: MemoryStore, limits: Limits) -> Bed {
        Bed::on(Arc::new(memory.clone()), memory, limits).await
    }

    pub async fn on(store: Arc<dyn Store>, memory: MemoryStore, limits: Limits) -> Bed {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let agents = Arc::new(Scripted::default());
        Bed::start(store, memory, clock, agents, limits).await
    }

    pub async fn start(
        store: Arc<dyn Store>,
        memory: MemoryStore,
        clock: Arc<ManualClock>,
        agents: Arc<Scripted>,
        limits: Limits,
    ) -> Bed {
        Bed::start_as(store, memory, clock, agents, limits, Arc::new(Anybody)).await
    }

    pub async fn start_as(
        store: Arc<dyn Store>,
        memory: MemoryStore,
        clock: Arc<ManualClock>,
        agents: Arc<Scripted>,
        limits: Limits,
        authority: Arc<dyn Authority>,
    ) -> Bed {
        let schema = Arc::clone(&BUNDLE.schema);
        let facts = Inventory::new(Arc::clone(&schema), 7, Arc::clone(&clock) as Arc<dyn Clock>);
        let connected = i64::from(pb::Connection::Connected as i32);
        let the_host =
            Draft::new(&schema, Kind::Host).with("name", "h1").with("connection", connected).done();
        facts.apply(vec![Put::Whole(host(), the_host)]);
        for n in [1, 2, 3] {
            let record = Draft::new(&schema, Kind::Vm)
                .with("name", format!("vm{n}"))
                .with("host_id", host())
                .with("memory_bytes", 1_i64 << 30)
                .with("power_state", pb::PowerState::Stopped as i32);
            facts.apply(vec![Put::Whole(vm(n), record.done())]);
        }
        *agents.facts.lock() = Some(Arc::clone(&facts));
        let inventory = Inventory::new(schema, 9, Arc::clone(&clock) as Arc<dyn Clock>);
        let fleet = Fleet::new(Arc::clone(&inventory));
        let held = (Arc::<str>::from("hyper"), Arc::<str>::from("paper"));
        let local = fleet.follow("a", &facts, Arc::new(move |_| Some(held.clone())));
        local.in_step("hyper");
        let epoch = begin_epoch(&store, &*clock).await.unwrap();
        let engine = Engine::start(Deps {
            store: Arc::clone(&store),
            epoch,
            facts: Arc::new(fleet.clone()),
            view: View::new("fleet", &inventory, Layout::Fleet(Skeleton::default())),
            bundles: Arc::new(OneBundle(Arc::clone(&BUNDLE))),
            authority,
            id_maps: Arc::new(NoMaps),
            agents: Arc::clone(&agents) as Arc<dyn Agents>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ids: Arc::new(SeededIds::new(1)),
            limits,
        })
        .await
        .unwrap();
        let bed = Bed { clock, store, memory, agents, facts, fleet, engine, limits, _local: local };
        bed.hello("a", 1, &["hyper"]).await.unwrap();
        bed
    }

    /// The machine loses power, and an engine starts on what is left.
    pub async fn restart(self) -> Bed {
        let memory = self.memory.crash(|waiting| waiting);
        let (clock, agents, limits) = (Arc::clone(&self.clock), Arc::clone(&self.agents), self.limits);
        self.engine.stop().await;
        Bed::start(Arc::new(memory.clone()), memory, clock, agents, limits).await
    }

    pub async fn ask<M: Message + Default>(
        &self,
        from: &str,
        verb: &str,
        body: &impl Message,
    ) -> Result<M, Cause> {
        let reply = self.engine.answer(from, verb, Bytes::from(body.encode_to_vec())).await;
        match unwrap_reply(&reply, &BUNDLE.schema) {
            Ok(body) => Ok(M::decode(body.as_ref()).unwrap()),
            Err(AgentError::Refused(cause)) => Err(cause),
            Err(other) => panic!("{other}"),
        }
    }

    pub async fn hello(&self, agent: &str, incarnation: u64, targets: &[&str]) -> Result<pb::Welcome, Cause> {
        let targets =
            targets.iter().map(|name| pb::AgentTarget { name: (*name).into(), protocol: "paper".into() });
        let hello = pb::Hello {
            agent: agent.into(),
            incarnation,
            targets: targets.collect(),
            ..pb::Hello::default()
        };
        self.ask(agent, "hello", &hello).await
    }

    pub fn command(&self, n: u128, verb: &str, object: ObjectId, fields: &[(&str, Value)]) -> pb::Envelope {
        command(self.clock.now_ms() + 5_000, n, verb, object, fields)
    }

    pub async fn submit(&self, envelope: &pb::Envelope) -> Outcome {
        let submission = pb::Submission { envelope: Some(envelope.clone()), grant: Some(signed("ann", "a")) };
        let outcome = self.ask::<pb::Outcome>("a", "vm.command", &submission).await.unwrap();
        Outcome::from_pb(&BUNDLE.schema, &outcome).unwrap()
    }

    /// Sends a command that nobody has sent before.
    pub async fn does(&self, verb: &str, object: ObjectId, fields: &[(&str, Value)]) -> Outcome {
        let n = Uuid::new_v5(
            &Uuid::nil(),
            format!("{verb} {object} {fields:?} {}", self.clock.now_ms()).as_bytes(),
        );
        self.clock.advance(Duration::from_millis(1));
        self.submit(&self.command(n.as_u128(), verb, object, fields)).await
    }

    pub async fn entry(&self, n: u128) -> Option<Entry> {
        Journal::new(Arc::clone(&self.store)).get(CommandId(Uuid::from_u128(n))).await.unwrap()
    }

    /// What the audit chain says of a command, in order.
    pub async fn audit(&self, n: u128) -> Vec<String> {
        let audit = Audit::new(Arc::clone(&self.store));
        assert!(audit.verify().await.unwrap().is_ok());
        let mut found = audit.search(&Filter::default(), None, 1_000).await.unwrap();
        found.reverse();
        let of = |r: &store::audit::Record| r.command == Some(CommandId(Uuid::from_u128(n)));
        found
            .into_iter()
            .filter(|(_, r)| of(r))
            .map(|(_, r)| format!("{} {}", r.principal, r.verdict))
            .collect()
    }
}

pub fn command(
    deadline_ms: i64,
    n: u128,
    verb: &str,
    object: ObjectId,
    fields: &[(&str, Value)],
) -> pb::Envelope {
    let schema = &BUNDLE.schema;
    let message = schema.message(verb).unwrap();
    let mut body = message.record();
    for (field, value) in fields {
        body.set(message.field(field).unwrap().slot, value.clone());
    }
    pb::Envelope {
        command_id: Uuid::from_u128(n).to_string(),
        verb: verb.to_owned(),
        body: union::codec::encode(schema, &body),
        object_id: object.to_string(),
        principal: "whoever".to_owned(),
        session_id: "ann's".to_owned(),
        deadline_ms,
        origin: Some(pb::Origin { protocol: "paper".into(), view: "fleet".into(), method: "m".into() }),
        bundle: String::new(),
    }
}

pub fn code(outcome: &Outcome) -> Code {
    match outcome {
        Outcome::Refused(cause) | Outcome::Failed(cause) => cause.code,
        other => panic!("expected a cause, {other:?}"),
    }
}

pub fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done { .. })
}

pub fn plan_of(perform: &pb::Perform) -> Option<Plan> {
    perform.plan.as_ref().map(|plan| Plan::from_pb(&BUNDLE.schema, plan).unwrap())
}

#[test]
fn a_reply_is_a_body_or_a_cause() {
    let schema = &BUNDLE.schema;
    assert_eq!(unwrap_reply(&wrap_reply(Ok(Bytes::from_static(b"x")), schema), schema).unwrap(), "x");
    let cause = Cause::new(Code::Busy, "later");
    assert_eq!(
        unwrap_reply(&wrap_reply(Err(cause.clone()), schema), schema),
        Err(AgentError::Refused(cause))
    );
    assert!(unwrap_reply(b"\xff", schema).is_err() && unwrap_reply(b"", schema).is_err());
}

use crate::{
    Behaviour, Config, Fate, Sim, Source, connect,
    fault::Chances,
    inventory::{build, generate, parse},
    native::{CONFIG, POWER, Refusal, step},
};
use inventory::{Chronicle, Inventory, Layout, Skeleton, Tasks, View};
use lane::{Limits, NativeCall, Owner, Reply, Rules, StepKind, Target, TargetError, queue::Conflict};
use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use union::{
    Clock, Command, CommandId, Ids, Kind, ObjectId, Origin, Plan, Record, Schema, Value,
    clock::{ManualClock, SeededIds},
    command::{Cause, Code, Outcome},
    pb::PowerState,
    plan,
};

mod chaos;
mod claims;
mod config;
mod process;

const FLEET: &str = include_str!("../fleet.toml");

struct World {
    inventory: Arc<Inventory>,
    sim: Arc<Sim>,
    owner: Arc<Owner>,
    ids: Arc<dyn Ids>,
    resets: AtomicUsize,
}

/// The simulated hypervisor's effect table, as `mappings/sim` has it.
struct Table;

fn power_of(record: &Record) -> i64 {
    record.get(slot(Kind::Vm, "power_state")).as_int().unwrap_or(0)
}

impl Rules for Table {
    fn conflict(&self, _: &Origin, running: &str, arriving: &str) -> Conflict {
        if running == "Suspend" && arriving == "PowerOff" { Conflict::Overtake } else { Conflict::Queue }
    }

    fn guard(&self, _: &Command, _: &Record, _: &Inventory) -> Result<(), Cause> {
        Ok(())
    }

    fn lower(&self, _: &str, command: &Command, _: &Record, _: &Inventory) -> Result<Plan, Cause> {
        let args = vec![(Arc::from("vm"), Value::Ref(command.object))];
        let call = NativeCall {
            call: Arc::clone(&command.verb),
            args,
            is: StepKind::Idempotent,
            undo: None,
            script: None,
        };
        Ok(Plan { steps: vec![plan::Step { object: command.object, call }], ..Plan::default() })
    }

    fn expected(&self, _: &str, command: &Command, object: &Record, _: &Inventory) -> Option<bool> {
        let wanted = match &*command.verb {
            "PowerOn" => PowerState::Running,
            "PowerOff" => PowerState::Stopped,
            "Suspend" => PowerState::Suspended,
            _ => return None,
        };
        Some(power_of(object) == wanted as i64)
    }
}

fn slot(kind: Kind, field: &str) -> union::Slot {
    Schema::base().slot(kind, field).expect("a field")
}

fn world(source: Source, behaviour: Option<Behaviour>, seed: u64) -> World {
    ruled(Arc::new(Table), source, behaviour, seed)
}

fn ruled(rules: Arc<dyn Rules>, source: Source, behaviour: Option<Behaviour>, seed: u64) -> World {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_700_000_000_000));
    let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(seed));
    let inventory = Inventory::new(Schema::base(), 1, Arc::clone(&clock));
    let config = Config { name: "s".into(), source, behaviour, effect_log: None };
    let sim = connect(config, &inventory, &clock, &ids).expect("a good file");
    let tasks = Tasks::new(Arc::clone(&inventory), Arc::clone(&clock), Arc::clone(&ids));
    let owner = Owner::new(rules, Arc::clone(&inventory), tasks, clock, Limits::default());
    owner.adopt(sim.clone());
    World { inventory, sim, owner, ids, resets: AtomicUsize::new(0) }
}

impl World {
    fn find(&self, kind: Kind, name: &str) -> ObjectId {
        self.inventory.find(kind, slot(kind, "name"), name)[0]
    }

    fn power(&self, vm: ObjectId) -> i64 {
        power_of(&self.inventory.record(vm).expect("there"))
    }

    async fn ask(&self, vm: ObjectId, verb: &str) -> Outcome {
        self.try_ask(vm, verb).await.expect("taken")
    }

    async fn try_ask(&self, vm: ObjectId, verb: &str) -> Result<Outcome, Cause> {
        let schema = Schema::base();
        let message = schema.message(verb).expect("a command");
        let command = Command {
            id: CommandId(self.ids.uuid()),
            verb: Arc::from(verb),
            schema: message.command.clone().expect("a command"),
            object: vm,
            body: Arc::new({
                let mut body = message.record();
                body.set(message.field("vm_id").expect("a field").slot, vm);
                body
            }),
            principal: Arc::from("ann"),
            session: Arc::from("s"),
            deadline_ms: self.inventory.clock().now_ms() + 5_000,
            origin: Origin { protocol: "p".into(), view: "fleet".into(), method: "M".into() },
        };
        Ok(self.owner.submit(command, Reply::Task)?.outcome().await)
    }
}

#[test]
fn every_command_of_the_union_is_a_call() {
    let schema = Schema::base();
    // Folders are the broker's own.
    let verbs = schema.commands().map(|c| c.name.as_str()).filter(|verb| !verb.contains("Folder"));
    let mut verbs: Vec<&str> = verbs.collect();
    let mut calls = [POWER, CONFIG].concat();
    verbs.sort_unstable();
    calls.sort_unstable();
    assert_eq!(verbs, calls);
    assert!(matches!(step("Fly", PowerState::Running), Err(Refusal::NoCall(_))));
}

#[tokio::test]
async fn a_file_names_everything_and_views_show_it() {
    let w = world(Source::Text(FLEET.into()), None, 1);
    let view = View::new("fleet", &w.inventory, Layout::Fleet(Skeleton::default()));
    let get = |id: ObjectId, field| view.get(id).expect("shown").record.get(slot(id.kind, field)).clone();
    let name = |id: Option<ObjectId>| get(id.expect("set"), "name");
    let (web, edge) = (w.find(Kind::Vm, "web01"), w.find(Kind::Vm, "edge"));
    assert_eq!(name(get(web, "compute_id").as_ref_id()), Value::from("c1"));
    assert_eq!(name(get(web, "datacenter_id").as_ref_id()), Value::from("Berlin"));
    assert_eq!(name(get(web, "folder_id").as_ref_id()), Value::from("web"));
    assert_eq!(name(get(web, "resource_pool_id").as_ref_id()), Value::from("gold"));
    assert_eq!(name(get(edge, "datacenter_id").as_ref_id()), Value::from("Wien"));
    assert_eq!(name(get(edge, "compute_id").as_ref_id()), Value::from("w1"));
    assert_eq!(edge.uuid.to_string(), "4c4c4544-0042-3510-8054-b7c04f4a5331");
    let lan = w.find(Kind::Network, "lan");
    assert_eq!(get(lan, "host_ids").items().len(), 2, "the hosts of its datacenter");
    assert_eq!(view.inventory().count(Kind::Datacenter), 2);
    assert_eq!(w.power(web), PowerState::Running as i64);
    for vm in view.inventory().ids(Kind::Vm) {
        assert!(
            get(vm, "folder_id").as_ref_id().is_some() && get(vm, "resource_pool_id").as_ref_id().is_some()
        );
    }
}

#[test]
fn a_wrong_file_is_refused_with_what_was_expected() {
    let schema = Schema::base();
    let wrong = |text: &str| match parse(text).and_then(|f| build(&schema, "s", &f)) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    };
    assert!(wrong("[[vm]]\nname = \"a\"\nhots = \"h\"").contains("hots"));
    let error = wrong("[[host]]\nname = \"h1\"\n[[vm]]\nname = \"a\"\nhost = \"h2\"");
    assert!(error.contains("VM `a`") && error.contains("`h2`") && error.contains("h1"), "{error}");
    assert!(wrong("[[host]]\nname = \"h\"\n[[host]]\nname = \"h\"").contains("two hosts"));
    assert!(wrong("[[folder]]\npath = \"x/y\"").contains("datacenter"));
    assert!(wrong("[[host]]\nname=\"h\"\n[[vm]]\nname=\"a\"\nhost=\"h\"\nuuid=\"x\"").contains("uuid `x`"));
}

#[test]
fn a_behaviour_can_be_a_file_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("behaviour.toml");
    assert!(matches!(Behaviour::read(&path), Err(crate::SimError::Unreadable { .. })));
    std::fs::write(&path, "guest_ms = 5\n[calls.PowerOn]\nlose_reply = 1.0\n").expect("written");
    let read = Behaviour::read(&path).expect("good");
    assert_eq!((read.guest_ms, read.calls["PowerOn"].lose_reply), (5, 1.0));
    std::fs::write(&path, "guest_mss = 5\n").expect("written");
    assert!(Behaviour::read(&path).expect_err("unknown").to_string().contains("guest_mss"));
}

#[tokio::test]
async fn ten_thousand_vms_are_the_same_every_time() {
    let schema = Schema::base();
    let ids =
        |built: crate::inventory::Built| built.objects.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let first = ids(build(&schema, "s", &generate(100, 3)).expect("good"));
    assert_eq!(first, ids(build(&schema, "s", &generate(100, 3)).expect("good")));
    let w = world(Source::Generate { vms: 10_000, hosts: 50 }, None, 1);
    let view = View::new("fleet", &w.inventory, Layout::Fleet(Skeleton::default()));
    assert_eq!((view.inventory().count(Kind::Vm), view.inventory().count(Kind::Cluster)), (10_000, 50));
}

#[tokio::test(start_paused = true)]
async fn power_goes_through_the_lane_and_events_follow() {
    let w = world(Source::Text(FLEET.into()), None, 1);
    let view = View::new("fleet", &w.inventory, Layout::Fleet(Skeleton::default()));
    let (chronicle, _guard) = Chronicle::new("fleet", view.inventory());
    let vm = w.find(Kind::Vm, "db01");
    for (verb, state) in [
        ("PowerOn", PowerState::Running),
        ("Suspend", PowerState::Suspended),
        ("PowerOn", PowerState::Running),
        ("PowerOff", PowerState::Stopped),
    ] {
        let Outcome::Done { revision, .. } = w.ask(vm, verb).await else { panic!("{verb}") };
        view.seen(revision).await;
        assert_eq!(w.power(vm), state as i64, "{verb}");
    }
    let told: Vec<String> = chronicle
        .query(&inventory::chronicle::Filter::default())
        .iter()
        .map(|e| e.what.to_string())
        .filter(|what| what.starts_with("vm."))
        .collect();
    assert_eq!(
        told,
        [
            "vm.starting",
            "vm.powered_on",
            "vm.suspending",
            "vm.suspended",
            "vm.starting",
            "vm.resumed",
            "vm.stopping",
            "vm.powered_off",
        ]
    );
    let calls: Vec<String> = w.sim.effects().iter().map(|e| e.call.to_string()).collect();
    assert_eq!(calls, ["PowerOn", "Suspend", "PowerOn", "PowerOff"]);
}

#[tokio::test(start_paused = true)]
async fn a_guest_shuts_down_in_its_own_time_unless_its_power_is_cut() {
    let w = world(Source::Text(FLEET.into()), None, 1);
    let vm = w.find(Kind::Vm, "web01");
    assert!(matches!(w.ask(vm, "ShutdownGuest").await, Outcome::Done { .. }));
    assert_eq!(w.power(vm), PowerState::Running as i64);
    sleep(Duration::from_millis(600)).await;
    assert_eq!(w.power(vm), PowerState::Stopped as i64);
    let record = w.inventory.record(vm).expect("there");
    assert!(record.get(slot(Kind::Vm, "guest_ip")).is_absent());
    w.ask(vm, "PowerOn").await;
    w.ask(vm, "ShutdownGuest").await;
    w.ask(vm, "PowerOff").await;
    w.ask(vm, "PowerOn").await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(w.power(vm), PowerState::Running as i64, "what it meant to do is void");
}

#[tokio::test(start_paused = true)]
async fn every_mishap_ends_as_it_should_and_nothing_is_done_twice() {
    for (fate, done, effects) in [
        (Fate::Well, true, 1),
        (Fate::LoseReply, true, 1),
        (Fate::LoseRequest, true, 1),
        (Fate::Fail, false, 0),
        (Fate::Hang, false, 0),
    ] {
        let w = world(Source::Text(FLEET.into()), None, 1);
        let vm = w.find(Kind::Vm, "db01");
        w.sim.script("PowerOn", fate);
        let outcome = w.ask(vm, "PowerOn").await;
        assert_eq!(matches!(outcome, Outcome::Done { .. }), done, "{fate:?}: {outcome:?}");
        assert_eq!(w.sim.effects().len(), effects, "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_away_keeps_its_facts_and_heals() {
    let w = world(Source::Text(FLEET.into()), None, 1);
    let view = View::new("fleet", &w.inventory, Layout::Fleet(Skeleton::default()));
    let vm = w.find(Kind::Vm, "db01");
    let connection = || view.get(vm).expect("kept").record.get(slot(Kind::Vm, "connection")).clone();
    w.sim.set_away(true);
    assert_eq!(connection(), Value::Int(2));
    let Outcome::Failed(cause) = w.ask(vm, "PowerOn").await else { panic!("it is away") };
    assert_eq!(cause.code, Code::Unreachable);
    w.sim.set_away(false);
    assert_eq!(connection(), Value::Int(1));
    assert!(matches!(w.ask(vm, "PowerOn").await, Outcome::Done { .. }));
    w.sim.set_hanging(true);
    let start = Instant::now();
    assert!(!matches!(w.ask(vm, "PowerOff").await, Outcome::Done { .. }));
    assert!(start.elapsed() <= Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_is_found_by_looking() {
    let behaviour = Behaviour { lose_event: 1.0, ..Behaviour::default() };
    let w = world(Source::Text(FLEET.into()), Some(behaviour), 1);
    let vm = w.find(Kind::Vm, "db01");
    assert!(matches!(w.ask(vm, "PowerOn").await, Outcome::Done { .. }));
    w.sim.meddle(vm, "PowerOff").expect("it runs");
    assert_eq!(w.power(vm), PowerState::Stopped as i64);
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_a_run() {
    let rough = Chances { fail: 0.2, lose_request: 0.2, lose_reply: 0.2, ..Chances::default() };
    let behaviour = Behaviour { all: Chances { latency_ms: Some((1, 20)), ..rough }, ..Behaviour::default() };
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let w = world(Source::Text(FLEET.into()), Some(behaviour.clone()), seed);
        let vm = w.find(Kind::Vm, "db01");
        let mut outcomes = Vec::new();
        for verb in ["PowerOn", "PowerOff"].repeat(10) {
            outcomes.push(format!("{:?}", w.ask(vm, verb).await));
        }
        runs.push((outcomes, w.sim.effects()));
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn the_effect_log_is_on_the_disk_before_anybody_sees_the_effect() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("effects");
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
    let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(1));
    let inventory = Inventory::new(Schema::base(), 1, Arc::clone(&clock));
    let config = Config {
        name: "s".into(),
        source: Source::Generate { vms: 1, hosts: 1 },
        behaviour: None,
        effect_log: Some(path.clone()),
    };
    let sim = connect(config, &inventory, &clock, &ids).expect("set up");
    let vm = inventory.ids(Kind::Vm)[0];
    let call =
        NativeCall { call: "Reset".into(), args: Vec::new(), is: StepKind::Once, undo: None, script: None };
    let deadline = Instant::now() + Duration::from_secs(5);
    sim.perform(vm, &call, deadline, Arc::new(|_| {})).await.expect("done");
    assert_eq!(std::fs::read_to_string(&path).expect("written"), format!("1 Reset {vm}\n"));
    let fly = NativeCall { call: "Fly".into(), ..call };
    let error = sim.perform(vm, &fly, deadline, Arc::new(|_| {})).await.expect_err("no such call");
    assert_eq!(error, TargetError::Unsupported("Fly".into()));
}

#[tokio::test(start_paused = true)]
async fn figures_are_read_now_and_then() {
    let behaviour = Behaviour { stats_s: 10, ..Behaviour::default() };
    let w = world(Source::Text(FLEET.into()), Some(behaviour), 3);
    let vm = w.find(Kind::Vm, "web01");
    let config = w.inventory.get(vm).expect("there").config;
    sleep(Duration::from_secs(31)).await;
    let entry = w.inventory.get(vm).expect("there");
    assert!(entry.runtime > config && entry.config == config);
}

/// The mapping as it is in the tree, beside a protocol that asks with a conflict table of its own.
fn mapped() -> Arc<dyn Rules> {
    Arc::new(lane::rules::BundleRules::new(bundle()))
}

fn bundle() -> Arc<mapping::Bundle> {
    let dir = tempfile::tempdir().expect("a directory");
    for (protocol, text) in [
        ("sim", include_str!("../../../mappings/sim/protocol.toml")),
        ("p", "[conflict.Suspend]\nPowerOff = \"overtake\"\nCancel = \"overtake\"\n"),
    ] {
        let folder = dir.path().join(protocol);
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(folder.join("protocol.toml"), text).expect("written");
    }
    mapping::Bundle::load(dir.path()).unwrap_or_else(|report| panic!("{report}"))
}

#[tokio::test(start_paused = true)]
async fn the_mapping_lowers_every_command() {
    let w = ruled(mapped(), Source::Text(FLEET.into()), None, 1);
    let vm = w.find(Kind::Vm, "db01");
    for (verb, state) in [
        ("PowerOn", PowerState::Running),
        ("Pause", PowerState::Paused),
        ("Unpause", PowerState::Running),
        ("Reset", PowerState::Running),
        ("RebootGuest", PowerState::Running),
        ("Suspend", PowerState::Suspended),
        ("PowerOff", PowerState::Stopped),
        ("PowerOn", PowerState::Running),
        ("StandbyGuest", PowerState::Suspended),
        ("PowerOn", PowerState::Running),
        ("ShutdownGuest", PowerState::Stopped),
    ] {
        let outcome = w.ask(vm, verb).await;
        assert!(matches!(outcome, Outcome::Done { already: false, .. }), "{verb}: {outcome:?}");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(w.power(vm), state as i64, "{verb}");
    }
    assert!(matches!(w.ask(vm, "PowerOff").await, Outcome::Done { already: true, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_hung_suspend_is_overtaken_by_the_mapping_s_table() {
    let w = ruled(mapped(), Source::Text(FLEET.into()), None, 1);
    let vm = w.find(Kind::Vm, "web01");
    w.sim.script("Suspend", Fate::Hang);
    let suspend = w.ask(vm, "Suspend");
    let off = async {
        sleep(Duration::from_millis(100)).await;
        w.ask(vm, "PowerOff").await
    };
    let (suspend, off) = tokio::join!(suspend, off);
    assert!(matches!(suspend, Outcome::Failed(Cause { code: Code::Cancelled, .. })), "{suspend:?}");
    assert!(matches!(off, Outcome::Done { .. }), "{off:?}");
    assert_eq!(w.power(vm), PowerState::Stopped as i64);
}

//! The simulated hypervisor as a process of its own, over a real socket.

use super::*;
use crate::{
    process::{Address, Remote, Server, connect as dial},
    world::World as Truth,
};
use lane::Known;
use std::path::Path;
use tokio::{task::JoinHandle, time::timeout};

const SOON: Duration = Duration::from_secs(60);

struct Process {
    running: JoinHandle<()>,
    address: Address,
}

async fn start(address: &Address, log: &Path, behaviour: Option<Behaviour>) -> Process {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_700_000_000_000));
    let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(5));
    let source = Source::Text(FLEET.into());
    let config = Config { name: "s".into(), source, behaviour, effect_log: Some(log.to_owned()) };
    let world = Truth::open(config, &Schema::base(), &clock, &ids).expect("a good file");
    let server = Server::bind(address, world, Schema::base()).await.expect("bound");
    let address = server.address().clone();
    Process { running: tokio::spawn(server.run()), address }
}

struct Agent {
    inventory: Arc<Inventory>,
    remote: Arc<Remote>,
    owner: Arc<Owner>,
    ids: Arc<dyn Ids>,
}

async fn agent(address: &Address, seed: u64) -> Agent {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1_700_000_000_000));
    let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(seed));
    let inventory = Inventory::new(Schema::base(), 1, Arc::clone(&clock));
    let remote = dial("s", address.clone(), &inventory);
    timeout(SOON, remote.synced()).await.expect("synced");
    let tasks = Tasks::new(Arc::clone(&inventory), Arc::clone(&clock), Arc::clone(&ids));
    let owner = Owner::new(mapped(), Arc::clone(&inventory), tasks, clock, Limits::default());
    owner.adopt(remote.clone());
    Agent { inventory, remote, owner, ids }
}

impl Agent {
    fn find(&self, name: &str) -> ObjectId {
        self.inventory.find(Kind::Vm, slot(Kind::Vm, "name"), name)[0]
    }

    fn power(&self, vm: ObjectId) -> i64 {
        power_of(&self.inventory.record(vm).expect("there"))
    }

    fn submit(&self, vm: ObjectId, verb: &str) -> lane::Ticket {
        let schema = Schema::base();
        let message = schema.message(verb).expect("a command");
        let mut body = message.record();
        body.set(message.field("vm_id").expect("a field").slot, vm);
        let command = Command {
            id: CommandId(self.ids.uuid()),
            verb: Arc::from(verb),
            schema: message.command.clone().expect("a command"),
            object: vm,
            body: Arc::new(body),
            principal: Arc::from("ann"),
            session: Arc::from("s"),
            deadline_ms: self.inventory.clock().now_ms() + 10_000,
            origin: Origin { protocol: "p".into(), view: "fleet".into(), method: "M".into() },
        };
        self.owner.submit(command, Reply::Outcome).expect("taken")
    }

    /// Waits until something holds.
    async fn until(&self, what: impl Fn(&Agent) -> bool) {
        let wait = async {
            while !what(self) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(SOON, wait).await.expect("it comes");
    }
}

fn lines(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).expect("a log");
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[tokio::test]
async fn two_agents_see_one_hypervisor_and_each_other_s_effects() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("effects");
    for address in [Address::Unix(dir.path().join("s")), "127.0.0.1:0".parse().expect("an address")] {
        let process = start(&address, &log, None).await;
        let (a, b) = (agent(&process.address, 1).await, agent(&process.address, 2).await);
        let here = world(Source::Text(FLEET.into()), None, 1);
        for kind in [Kind::Vm, Kind::Host, Kind::Network, Kind::StoragePool, Kind::Folder] {
            assert_eq!(a.inventory.ids(kind), here.inventory.ids(kind));
        }
        let vm = a.find("db01");
        let of = |inventory: &Inventory| inventory.record(vm).expect("there");
        let same = |agent: &Agent| of(&agent.inventory).changed(&of(&here.inventory)).is_empty();
        assert!(same(&a) && same(&b) && a.remote.holds(vm));
        let Outcome::Done { already: false, .. } = a.submit(vm, "PowerOn").outcome().await else {
            panic!("done")
        };
        assert_eq!(a.power(vm), PowerState::Running as i64);
        b.until(|b| b.power(vm) == PowerState::Running as i64).await;
        process.running.abort();
    }
    let on: Vec<String> =
        lines(&log).iter().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(on, ["1 PowerOn", "2 PowerOn"], "the log is gone on with");
}

#[tokio::test]
async fn a_call_goes_on_when_its_agent_dies_and_the_next_agent_finds_it_done() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("effects");
    let slow = Chances { latency_ms: Some((3_000, 3_000)), ..Chances::default() };
    let behaviour = Behaviour { calls: [("PowerOn".to_owned(), slow)].into(), ..Behaviour::default() };
    let process = start(&Address::Unix(dir.path().join("s")), &log, Some(behaviour)).await;
    let first = agent(&process.address, 1).await;
    let vm = first.find("db01");
    let ticket = first.submit(vm, "PowerOn");
    let shown =
        |a: &Agent| !a.inventory.record(vm).expect("there").get(slot(Kind::Vm, "operation")).is_absent();
    first.until(shown).await;
    // The call is on its way, and over long after that.
    sleep(Duration::from_millis(500)).await;
    assert_eq!(first.owner.outcome(ticket.command), Some(Known::Running));
    drop(first);
    let second = agent(&process.address, 2).await;
    second.until(|a| a.power(vm) == PowerState::Running as i64).await;
    assert_eq!(lines(&log).len(), 1);
    // What arrives twice is done twice, and seen.
    let reset =
        NativeCall { call: "Reset".into(), args: vec![], is: StepKind::Once, undo: None, script: None };
    for _ in 0..2 {
        let deadline = Instant::now() + SOON;
        second.remote.perform(vm, &reset, deadline, Arc::new(|_| {})).await.expect("done");
    }
    assert_eq!(lines(&log).len(), 3);
    process.running.abort();
}

#[tokio::test]
async fn a_process_that_dies_loses_answers_and_keeps_its_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, address) = (dir.path().join("effects"), Address::Unix(dir.path().join("s")));
    let hang = Chances { hang: 1.0, ..Chances::default() };
    let behaviour = Behaviour { calls: [("Reset".to_owned(), hang)].into(), ..Behaviour::default() };
    let process = start(&address, &log, Some(behaviour)).await;
    let a = agent(&address, 1).await;
    let (vm, web) = (a.find("db01"), a.find("web01"));
    assert!(matches!(a.submit(vm, "PowerOn").outcome().await, Outcome::Done { .. }));
    let reset = a.submit(web, "Reset");
    a.until(|a| a.inventory.credit(web).is_some()).await;
    sleep(Duration::from_millis(500)).await;
    process.running.abort();
    a.until(|a| !a.remote.is_here()).await;
    let host = a.inventory.ids(Kind::Host)[0];
    let connection =
        |a: &Agent| a.inventory.record(host).expect("kept").get(slot(Kind::Host, "connection")).clone();
    assert_eq!(connection(&a), Value::Int(2));
    let error = a.remote.reread(vm, Instant::now() + SOON).await.expect_err("away");
    assert!(matches!(error, TargetError::Unreachable(_)), "{error:?}");
    let process = start(&address, &log, None).await;
    a.until(|a| a.remote.is_here()).await;
    assert_eq!(connection(&a), Value::Int(1));
    assert!(matches!(reset.outcome().await, Outcome::Unknown { .. }), "it leaves nothing to look at");
    assert_eq!(a.power(vm), PowerState::Stopped as i64, "the world began anew");
    assert!(matches!(a.submit(vm, "PowerOn").outcome().await, Outcome::Done { already: false, .. }));
    let numbers: Vec<String> =
        lines(&log).iter().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(numbers, ["1 PowerOn", "2 PowerOn"]);
    process.running.abort();
}

#[test]
fn an_address_is_of_this_machine() {
    for (text, shown) in [
        ("unix:/run/s", "unix:/run/s"),
        ("unix:///run/s", "unix:/run/s"),
        ("127.0.0.1:70", "tcp://127.0.0.1:70"),
        ("tcp://[::1]:70", "tcp://[::1]:70"),
    ] {
        assert_eq!(text.parse::<Address>().expect("an address").to_string(), shown);
    }
    for text in ["unix:", "10.0.0.1:70", "0.0.0.0:70", "localhost", ""] {
        assert!(text.parse::<Address>().expect_err("none").to_string().contains("127.0.0.1"), "{text}");
    }
}

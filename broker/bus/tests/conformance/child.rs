//! The supervised nats-server child: kept alive, kept private, gone when we are gone.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bus::child::{ChildConfig, ChildError, ChildState, MonitorCredentials, NatsChild};
use bus::{Bus, CloudEvent, Delivery, Headers, NatsBus, Subject};
use bytes::Bytes;
use union::clock::SystemIds;

use crate::bed::{Bed, LONG, kill_outright, pattern, signal, subject, text};

fn config(dir: &Path) -> ChildConfig {
    ChildConfig::new(dir, 0)
}

fn pid(child: &NatsChild) -> u32 {
    match child.state() {
        ChildState::Ready { pid } => pid,
        other => panic!("{other:?}"),
    }
}

async fn wait_until_gone(pid: u32) {
    while Path::new(&format!("/proc/{pid}")).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn event(id: &str) -> CloudEvent {
    CloudEvent {
        id: id.into(),
        source: "/lab1/agent-1".into(),
        kind: "hyperglot.vm.powered_on".into(),
        time: "2026-01-02T03:04:05Z".into(),
        subject: Some("vm-1".into()),
        data: Bytes::from_static(b"{}"),
    }
}

#[tokio::test]
async fn killed_it_comes_back_with_the_same_port_and_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let child = NatsChild::start(&config(dir.path()), &SystemIds).await.unwrap();
    let (url, monitor, first) = (child.url(), child.monitor(), pid(&child));
    let mut states = child.watch();
    kill_outright(first);
    let again = |state: &ChildState| matches!(state, ChildState::Ready { pid } if *pid != first);
    states.wait_for(again).await.unwrap();
    NatsBus::connect(&monitor.options("m")).await.unwrap();
    let second = pid(&child);
    child.stop().await;
    wait_until_gone(second).await;

    let child = NatsChild::start(&config(dir.path()), &SystemIds).await.unwrap();
    assert_eq!((child.url(), child.monitor()), (url, monitor.clone()));
    assert_eq!(MonitorCredentials::read(dir.path(), 0).unwrap(), monitor);
    let options = bus::child::own_options(dir.path(), 0, "cli").unwrap();
    NatsBus::connect(&options).await.unwrap().keep_events().await.unwrap();
    let nowhere = MonitorCredentials::read(&dir.path().join("nowhere"), 0).unwrap_err();
    assert!(nowhere.to_string().contains("start hyperglot"), "{nowhere}");
    child.stop().await;
}

#[tokio::test]
async fn hung_it_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let probe = Duration::from_millis(200);
    let child = NatsChild::start_probed(&config(dir.path()), probe, &SystemIds).await.unwrap();
    let first = pid(&child);
    let mut states = child.watch();
    signal("-STOP", first);
    let again = |state: &ChildState| matches!(state, ChildState::Ready { pid } if *pid != first);
    states.wait_for(again).await.unwrap();
    wait_until_gone(first).await;
    child.stop().await;
}

#[tokio::test]
async fn without_its_shell_it_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let child = NatsChild::start(&config(dir.path()), &SystemIds).await.unwrap();
    let first = pid(&child);
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let shell = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    let mut states = child.watch();
    kill_outright(shell);
    let again = |state: &ChildState| matches!(state, ChildState::Ready { pid } if *pid != first);
    states.wait_for(again).await.unwrap();
    wait_until_gone(first).await;
}

#[tokio::test]
async fn a_second_one_on_the_same_data_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let child = NatsChild::start(&config(dir.path()), &SystemIds).await.unwrap();
    let error = NatsChild::start(&config(dir.path()), &SystemIds).await.unwrap_err();
    assert!(matches!(error, ChildError::InUse { .. }), "{error}");
    NatsBus::connect(&child.options("still there")).await.unwrap();
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    let bed = Bed::nats().await;
    let Bed::Nats { child, .. } = &bed else { panic!() };
    let port: u16 = child.url().rsplit_once(':').unwrap().1.parse().unwrap();
    let suffix = format!(":{port:04X}");
    let mut listening = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(text) = std::fs::read_to_string(table) else { continue };
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words[3] == "0A" && words[1].ends_with(&suffix) {
                listening.push(words[1].to_owned());
            }
        }
    }
    assert_eq!(listening, [format!("0100007F{suffix}")]);
}

#[tokio::test]
async fn a_port_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let config = ChildConfig::new(dir.path(), port);
    let error = NatsChild::start(&config, &SystemIds).await.unwrap_err();
    assert_eq!(error, ChildError::PortTaken { port });
}

#[tokio::test]
async fn one_that_keeps_ending_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake/ending-nats-server");
    let config = ChildConfig { program: Some(program), ..config(dir.path()) };
    let error = NatsChild::start(&config, &SystemIds).await.unwrap_err();
    let ChildError::KeepsEnding { why } = &error else { panic!("{error}") };
    assert!(why.contains("no luck"), "{why}");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let bed = Bed::nats().await;
    let Bed::Nats { child, .. } = &bed else { panic!() };
    let mut monitor = child.monitor();
    monitor.password = "guess".into();
    let error = NatsBus::connect(&monitor.options("m")).await.unwrap_err().to_string();
    assert!(error.contains("authorization") && !error.contains("guess"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitors_see_events_live_and_late_and_each_once() {
    let bed = Bed::nats().await;
    let Bed::Nats { child, .. } = &bed else { panic!() };
    let bus = NatsBus::connect(&child.options("engine")).await.unwrap();
    bus.keep_events().await.unwrap();
    bus.keep_events().await.unwrap();
    let monitor = NatsBus::connect(&child.monitor().options("m")).await.unwrap();
    let mut live = monitor.subscribe(&pattern("event.>"), 16).await.unwrap();
    let at = Subject::event("lab1", "vm", "vm-1", "powered_on").unwrap();
    for id in ["1", "2", "2"] {
        let event = event(id);
        bus.publish(&at, event.headers().unwrap(), event.data).await.unwrap();
    }
    for id in ["1", "2", "2"] {
        let message = live.next().await.unwrap().message().unwrap();
        assert_eq!(CloudEvent::read(&message), Some(event(id)));
    }
    while bus.kept_events().await.unwrap() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bus.kept_events().await.unwrap(), 2, "a second publish of one event is dropped");

    // A late monitor reads the stream itself, with its own client, by asking for a batch.
    let credentials = child.monitor();
    let late = async_nats::ConnectOptions::with_user_and_password(credentials.user, credentials.password)
        .connect(credentials.url)
        .await
        .unwrap();
    let inbox = late.new_inbox();
    let mut answers = late.subscribe(inbox.clone()).await.unwrap();
    let ask = Bytes::from_static(br#"{"seq":1,"batch":100}"#);
    late.publish_with_reply("$JS.API.DIRECT.GET.EVENTS", inbox, ask).await.unwrap();
    for id in ["1", "2"] {
        let message = futures_util::StreamExt::next(&mut answers).await.unwrap();
        let headers = message.headers.unwrap();
        assert_eq!(headers.get("ce-id").unwrap().as_str(), id);
        assert_eq!(headers.get("Nats-Subject").unwrap().as_str(), at.as_str());
    }
}

#[tokio::test]
async fn kept_events_survive_a_kill() {
    let bed = Bed::nats().await;
    let bus = match &bed {
        Bed::Nats { child, .. } => NatsBus::connect(&child.options("engine")).await.unwrap(),
        Bed::Memory(_) => panic!(),
    };
    bus.keep_events().await.unwrap();
    let at = Subject::event("lab1", "vm", "vm-1", "powered_on").unwrap();
    bus.publish(&at, event("1").headers().unwrap(), Bytes::new()).await.unwrap();
    while bus.kept_events().await.unwrap() < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut heard = bus.subscribe(&pattern("task.>"), 4).await.unwrap();
    bed.break_link();
    assert_eq!(heard.next().await, Some(Delivery::Lagged(0)));
    bed.mend_link(&bus).await;
    assert_eq!(bus.kept_events().await.unwrap(), 1);
    bus.publish(&subject("1"), Headers::new(), text("")).await.unwrap();
}

/// Not a test of its own: the next one runs it in a process that it kills.
#[tokio::test]
async fn a_parent_to_be_killed() {
    let Some(dir) = std::env::var_os("BUS_TEST_PARENT") else { return };
    let child = NatsChild::start(&config(Path::new(&dir)), &SystemIds).await.unwrap();
    std::fs::write(Path::new(&dir).join("pid.new"), pid(&child).to_string()).unwrap();
    std::fs::rename(Path::new(&dir).join("pid.new"), Path::new(&dir).join("pid")).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn it_ends_when_its_parent_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child::a_parent_to_be_killed"])
        .env("BUS_TEST_PARENT", dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = loop {
        if let Ok(pid) = std::fs::read_to_string(dir.path().join("pid")) {
            break pid.parse().unwrap();
        }
        assert_eq!(parent.try_wait().unwrap(), None, "the parent ended early");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until_gone(pid).await;
}

fn exactly(text: &str) -> bus::Pattern {
    bus::Pattern::parse(text).unwrap()
}

fn exact(text: &str) -> Subject {
    Subject::parse(text).unwrap()
}

fn nkey() -> (String, String) {
    let pair = nkeys::KeyPair::new_user();
    (pair.public_key(), pair.seed().unwrap())
}

async fn ask(bus: &NatsBus, to: &str) -> bytes::Bytes {
    bus.request(&exact(to), Headers::new(), "x".into(), LONG).await.unwrap().payload
}

async fn connected(options: bus::NatsOptions) -> NatsBus {
    for _ in 0..3_000 {
        if let Ok(bus) = NatsBus::connect(&options).await {
            return bus;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the server does not let it in");
}

#[tokio::test]
async fn an_agent_that_is_admitted_later_speaks_for_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    let child = NatsChild::start(&config(dir.path()), &SystemIds).await.unwrap();
    let first = pid(&child);
    let (key, seed) = nkey();
    let agent = bus::child::agent_options(&child.url(), "a1", &seed, None);
    assert!(NatsBus::connect(&agent).await.is_err());
    let account = bus::AgentAccount { name: "a1".into(), nkey: key };
    child.admit(vec![account.clone()]).unwrap();
    let agent = connected(agent).await;
    assert_eq!(pid(&child), first);

    let engine = NatsBus::connect(&child.options("engine")).await.unwrap();
    let mut own = engine.serve(&exactly("cmd.default.>"), 4).await.unwrap();
    let mut mine = agent.serve(&exactly("agent.default.a1.>"), 4).await.unwrap();
    let asked = ask(&agent, "cmd.default.vm.power_on");
    let answered = async {
        let request = own.next().await.unwrap();
        request.reply(Headers::new(), "y".into()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(asked, answered);
    assert_eq!(answer, "y");
    let asked = ask(&engine, "agent.default.a1.perform");
    let answered = async {
        mine.next().await.unwrap().reply(Headers::new(), "z".into()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(asked, answered);
    assert_eq!(answer, "z");
    // Another agent's subjects, the engine's own door, another's inbox.
    assert!(agent.serve(&exactly("agent.default.a2.>"), 4).await.is_err());
    assert!(agent.subscribe(&exactly("_INBOX_a2.>"), 4).await.is_err());
    assert!(agent.subscribe(&exactly("cmd.>"), 4).await.is_err());
    for forbidden in
        ["agent.default.a2.perform", "service.control-default.ctl", "inventory.default.a2.facts.delta"]
    {
        agent.publish(&exact(forbidden), Headers::new(), "x".into()).await.ok();
        assert!(agent.flush().await.is_err(), "{forbidden}");
    }

    child.admit(Vec::new()).unwrap();
    let again = bus::child::agent_options(&child.url(), "a1", &seed, None);
    for _ in 0..3_000 {
        if NatsBus::connect(&again).await.is_err() {
            child.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("an agent that was sent away still gets in");
}

#[tokio::test]
async fn the_one_who_joins_asks_one_question() {
    let dir = tempfile::tempdir().unwrap();
    let child = NatsChild::start(&config(dir.path()), &SystemIds).await.unwrap();
    let engine = NatsBus::connect(&child.options("engine")).await.unwrap();
    let mut door = engine.serve(&exactly("service.join-default.ask"), 4).await.unwrap();
    let guest =
        NatsBus::connect(&bus::child::join_options(&child.url(), child.join_password(), None)).await.unwrap();
    let asked = ask(&guest, "service.join-default.ask");
    let answered = async {
        door.next().await.unwrap().reply(Headers::new(), "y".into()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(asked, answered);
    assert_eq!(answer, "y");
    assert!(guest.subscribe(&exactly("event.>"), 4).await.is_err());
    child.stop().await;
}

#[tokio::test]
async fn it_does_not_speak_to_the_world_without_tls() {
    let dir = tempfile::tempdir().unwrap();
    let open = ChildConfig { listen: std::net::Ipv4Addr::UNSPECIFIED.into(), ..config(dir.path()) };
    let error = NatsChild::start(&open, &SystemIds).await.unwrap_err();
    assert!(matches!(error, ChildError::NotWithoutTls { .. }), "{error}");
}

//! A start with 10,000 commands open in the journals: until clients are answered, and until every command has its end.
//!
//! ```text
//! up ─▶ commands of each kind ─▶ stopped ─▶ their journal entries, as of before their outcome, OPEN times under new ids
//!    ─▶ up again: listening ─▶ a client logged in ─▶ the engine's settled, the agent's settled
//! ```
//! Local commands are open in the agent's journal; those of the engine in the engine's alone (its owner never heard of them), or in both.
//! `HYPERGLOT_BIN` is the program; `OPEN` says how many.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot run ends"
)]

use benches::{
    rig::{self, Hyperglot, PASSWORD, Role, USER, ms},
    vim::Vim,
};
use futures_util::future::join_all;
use link::journal::Body;
use prost::Message;
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use store::{
    Batch, Blob, Epoch, FileStore, Scan, Store, Table,
    journal::{Entry, Journal, StepState},
    leases::Leases,
};
use union::{CommandId, Ids, clock::SystemIds, pb};

/// VMs that the templates are made with.
const VMS: usize = 100;

/// Which journals have the open commands.
struct Case {
    label: &'static str,
    verb: &'static str,
    engine: bool,
    agent: bool,
}

const CASES: &[Case] = &[
    Case { label: "none open", verb: "", engine: false, agent: false },
    Case { label: "local PowerOn, in the agent's journal", verb: "PowerOn", engine: false, agent: true },
    Case { label: "changes, in the engine's journal only", verb: "Reconfigure", engine: true, agent: false },
    Case { label: "changes, in both journals", verb: "Reconfigure", engine: true, agent: true },
];

fn main() {
    let open: usize = std::env::var("OPEN").map_or(10_000, |text| text.parse().expect("a number"));
    println!("load average at the start: {}", rig::load());
    println!("`hyperglot up`, 1000 simulated VMs, {open} commands open; since the start of the program");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let seed = rig::place();
    prepare(seed.path());
    for case in CASES {
        let place = rig::place();
        let data = place.path().join("data");
        let copied =
            std::process::Command::new("cp").arg("-a").arg(seed.path().join("data")).arg(&data).status();
        assert!(copied.unwrap().success(), "a copy of the data");
        let ids: Vec<CommandId> = (0..open).map(|_| CommandId(SystemIds.uuid())).collect();
        if case.engine {
            runtime.block_on(fill(&data.join("engine.redb"), case.verb, &ids, engines));
        }
        if case.agent {
            runtime.block_on(fill(&data.join("agent.redb"), case.verb, &ids, agents));
        }
        let (listens, logged_in, settled) = run(place.path(), case);
        println!(
            "{:48} listening {:>7.0} ms  first login {:>7.0} ms  all settled {}",
            case.label,
            ms(listens),
            ms(logged_in),
            settled.map_or("-".to_owned(), |took| format!("{:>7.0} ms", ms(took)))
        );
    }
    println!("load average at the end: {}", rig::load());
}

const TARGETS: &str = "[[target]]\nprotocol = \"sim\"\ngenerate = { vms = 1000, hosts = 10 }\n";

fn up(dir: &Path) -> (Hyperglot, u16) {
    let port = rig::free_port();
    let role = Role { name: "up", targets: TARGETS, front: Some(("fleet", port)), more: &[] };
    (Hyperglot::start(dir, &role), port)
}

/// Commands of each kind, ended.
fn prepare(dir: &Path) {
    let (mut up, port) = up(dir);
    up.listens(port);
    let mut vim = Vim::connect(port);
    vim.login(USER, PASSWORD);
    for (at, (vm, _)) in vim.vms().into_iter().take(VMS).enumerate() {
        vim.ensure_off(&vm);
        vim.power(&vm, true);
        vim.tidy();
        vim.annotate(&vm, &format!("template {at}"));
        vim.tidy();
    }
    up.stop();
}

fn run(dir: &Path, case: &Case) -> (Duration, Duration, Option<Duration>) {
    let (mut up, port) = up(dir);
    let listens = up.listens(port);
    let mut vim = Vim::connect(port);
    vim.login(USER, PASSWORD);
    let logged_in = Instant::now() - up.started;
    let ends = [
        (case.agent, "this agent's commands of an earlier life are settled"),
        (case.engine, "the engine's commands of an earlier life are settled"),
    ];
    let ends: Vec<&str> = ends.into_iter().filter_map(|(open, line)| open.then_some(line)).collect();
    let settled = (!ends.is_empty()).then(|| up.says(ends));
    up.stop();
    (listens, logged_in, settled)
}

type Clone = fn(&Entry, CommandId) -> Blob;

/// Writes open commands, made from those of this verb that have ended.
async fn fill(path: &Path, verb: &str, ids: &[CommandId], body: Clone) {
    let file = FileStore::open_or_create(path).unwrap();
    let kept: Arc<dyn Store> = file.clone();
    let epoch = Leases::new(Arc::clone(&kept)).get("engine").await.unwrap().expect("the store's epoch").epoch;
    let journal = Journal::new(Arc::clone(&kept));
    let mut templates = Vec::new();
    for (row, _) in kept.scan(Table::JournalEnded, Scan::under(&[], 4_096)).await.unwrap() {
        let id = CommandId(uuid::Uuid::from_slice(&row[8..]).unwrap());
        let entry = journal.get(id).await.unwrap().unwrap();
        if entry.intent.verb.starts_with(verb) {
            templates.push(entry);
        }
    }
    assert!(!templates.is_empty(), "ended {verb} commands in {}", path.display());
    for (page, ids) in ids.chunks(512).enumerate() {
        let writes = ids.iter().enumerate().map(|(at, id)| {
            let mut entry = templates[(page * 512 + at) % templates.len()].clone();
            entry.intent.body = body(&entry, *id);
            entry.intent.id = *id;
            entry.settled = None;
            for step in &mut entry.steps {
                step.state = StepState::Sent;
            }
            journal.begin_as(entry, Batch::new(), Epoch(epoch))
        });
        for begun in join_all(writes).await {
            begun.unwrap();
        }
    }
    assert_eq!(journal.open_count().await.unwrap(), (ids.len()), "commands that are open");
    file.close();
}

/// An engine's intent under another id.
fn engines(entry: &Entry, id: CommandId) -> Blob {
    let mut envelope = pb::Envelope::decode(entry.intent.body.0.as_slice()).unwrap();
    envelope.command_id = id.to_string();
    Blob(envelope.encode_to_vec())
}

/// An agent's intent under another id.
fn agents(entry: &Entry, id: CommandId) -> Blob {
    let mut body = Body::decode(entry.intent.body.0.as_slice()).unwrap();
    body.envelope.as_mut().unwrap().command_id = id.to_string();
    Blob(body.encode_to_vec())
}

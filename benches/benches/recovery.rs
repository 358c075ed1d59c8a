//! A start with 10,000 commands open in the journals: until clients are answered, and until every command has its end.
//!
//! ```text
//! sim, a process of its own: one VM for each open command
//! up ─▶ a command of each kind to each VM ─▶ stopped ─▶ their journal entries, as of before their outcome, under new ids
//!    ─▶ up again: listening ─▶ a client logged in ─▶ the engine's settled, the agent's settled
//! ```
//! Each lane has one open command, whose effect is there: what a death between a call and its outcome leaves. Local commands are open in the
//! agent's journal; those of the engine in the engine's alone (its owner never heard of them), or in both.
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
    rig::{self, Hyperglot, PASSWORD, Role, Sim, USER, ms},
    vim::Vim,
};
use futures_util::future::join_all;
use link::journal::Body;
use prost::Message;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use store::{
    Batch, Blob, Epoch, FileStore, Scan, Store, Table,
    journal::{Entry, Journal, StepState},
    leases::Leases,
};
use union::{CommandId, Ids, ObjectId, clock::SystemIds, pb};

/// Clients that give the commands.
const CLIENTS: usize = 32;
/// Rows of a journal in one page.
const PAGE: usize = 4_096;

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
    println!(
        "`hyperglot up`, {open} simulated VMs in a process of their own, {open} commands open; since the start of the program"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sim = Sim::start(open, 100);
    let targets = format!("[[target]]\nprotocol = \"sim\"\nname = \"sim\"\nuri = \"{}\"\n", sim.uri);
    let seed = rig::place();
    prepare(seed.path(), &targets, open);
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
        let (listens, logged_in, settled) = run(place.path(), &targets, case);
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

fn up(dir: &Path, targets: &str) -> (Hyperglot, u16) {
    let port = rig::free_port();
    let role = Role { name: "up", targets, front: Some(("fleet", port)), more: &[] };
    (Hyperglot::start(dir, &role), port)
}

/// A command of each kind to each VM, ended.
fn prepare(dir: &Path, targets: &str, vms: usize) {
    let (mut up, port) = up(dir, targets);
    up.listens(port);
    let begin = Instant::now();
    let mut vim = Vim::connect(port);
    vim.login(USER, PASSWORD);
    let found = loop {
        let found = vim.vms();
        if found.len() == vms {
            break found;
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "{vms} VMs are shown, not {}", found.len());
        std::thread::sleep(Duration::from_millis(100));
    };
    vim.changeable(&found[0].0);
    std::thread::scope(|scope| {
        for share in found.chunks(found.len().div_ceil(CLIENTS)) {
            scope.spawn(move || {
                let mut vim = Vim::connect(port);
                vim.login(USER, PASSWORD);
                for (vm, name) in share {
                    vim.ensure_off(vm);
                    vim.power(vm, true);
                    vim.tidy();
                    vim.annotate(vm, &format!("template {name}"));
                    vim.tidy();
                }
            });
        }
    });
    println!("prepared in {:.0} s", begin.elapsed().as_secs_f64());
    up.stop();
}

fn run(dir: &Path, targets: &str, case: &Case) -> (Duration, Duration, Option<Duration>) {
    let (mut up, port) = up(dir, targets);
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
    // The newest of each object: what is there now is its effect.
    let mut templates: BTreeMap<ObjectId, Entry> = BTreeMap::new();
    let mut scan = Scan::under(&[], PAGE);
    loop {
        let page = kept.scan(Table::JournalEnded, scan.clone()).await.unwrap();
        for (row, _) in &page {
            let id = CommandId(uuid::Uuid::from_slice(&row[8..]).unwrap());
            let entry = journal.get(id).await.unwrap().unwrap();
            if &*entry.intent.verb == verb {
                templates.insert(entry.intent.object, entry);
            }
        }
        if page.len() < PAGE {
            break;
        }
        scan.beyond = page.last().map(|(row, _)| row.clone());
    }
    assert!(templates.len() >= ids.len(), "{} ended {verb} commands in {}", templates.len(), path.display());
    let templates: Vec<Entry> = templates.into_values().collect();
    for (page, ids) in ids.chunks(512).enumerate() {
        let writes = ids.iter().enumerate().map(|(at, id)| {
            let mut entry = templates[page * 512 + at].clone();
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

//! Commands from request to client-seen success, with what they stand on beside them, in one run.
//!
//! ```text
//! raw            our RPC client and libvirt's test driver: DomainDestroy, DomainCreate, DomainSetMetadata
//! through us     SOAP client ▶ front ▶ lane (▶ engine ▶ lane) ▶ the same call ▶ reread ▶ task ▶ filter ▶ WaitForUpdatesEx
//! the disk       an fdatasync of 4 KiB, and a commit of one row of a store, on the disk of the stores
//! ```
//! All figures of a table are taken in turn, so that they see the same machine. `added` is what lies between the client and libvirt:
//! ours less raw. `HYPERGLOT_BIN` is the program; `ROUNDS`, `SECONDS` say how much, `TABLE`
//! (`latency`, `flight`) which; `TMPDIR` is where the stores are.
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
    rig::{self, Hyperglot, Joined, Libvirtd, PASSWORD, Role, USER, line, ms, summary},
    vim::Vim,
};
use libvirt::native::connection::Connection;
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use store::{Batch, Epoch, FileStore, Table};
use wire::xdr::XdrValue;

/// Commands in flight in the tables of throughput.
const FLIGHT: usize = 64;
/// What a machine does between two commands: lets background work end, so that a figure is that of one command alone.
const PAUSE: Duration = Duration::from_millis(15);

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
}

fn main() {
    println!("load average at the start: {}", rig::load());
    if wanted("latency") {
        latencies(number("ROUNDS", 200));
    }
    if wanted("flight") {
        flights();
    }
    println!("\nload average at the end: {}", rig::load());
}

fn wanted(table: &str) -> bool {
    std::env::var("TABLE").map_or(true, |only| only == table)
}

fn latencies(rounds: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let libvirtd = Libvirtd::start();
    let raw = runtime.block_on(rig::raw(&libvirtd.uri));
    let dom = runtime.block_on(domain(&raw));
    let libvirt =
        format!("[[target]]\nprotocol = \"libvirt\"\nname = \"bench\"\nuri = \"{}\"\n", libvirtd.uri);
    {
        let (dir, port) = (rig::place(), rig::free_port());
        let role = Role { name: "up", targets: &libvirt, front: Some(("host", port)), more: &[] };
        let mut up = Hyperglot::start(dir.path(), &role);
        up.listens(port);
        println!("\n`hyperglot up`, a host view, libvirt's test driver; {rounds} rounds");
        latency(&runtime, &raw, &dom, port, rounds, dir.path());
    }
    {
        let port = rig::free_port();
        let joined = Joined::start(&libvirt, "host", port);
        let dir = rig::place();
        println!(
            "\n`hyperglot broker` and `hyperglot agent` over NATS with TLS, a host view, libvirt's test driver; {rounds} rounds"
        );
        latency(&runtime, &raw, &dom, port, rounds, dir.path());
        drop(joined);
    }
}

fn flights() {
    let sim = "[[target]]\nprotocol = \"sim\"\ngenerate = { vms = 1000, hosts = 10 }\n";
    {
        let (dir, port) = (rig::place(), rig::free_port());
        let role = Role { name: "up", targets: sim, front: Some(("fleet", port)), more: &[] };
        let mut up = Hyperglot::start(dir.path(), &role);
        up.listens(port);
        println!("\n`hyperglot up`, a fleet view, 1000 simulated VMs; {FLIGHT} commands in flight");
        throughput(port);
        println!("resident {} MiB", up.rss_kib() / 1_024);
    }
    {
        let port = rig::free_port();
        let one_host = "[[target]]\nprotocol = \"sim\"\ngenerate = { vms = 1000, hosts = 1 }\n";
        let joined = Joined::start(one_host, "host", port);
        println!(
            "\n`hyperglot broker` and `hyperglot agent` over NATS with TLS, a host view, 1000 simulated VMs; {FLIGHT} commands in flight"
        );
        throughput(port);
        println!(
            "resident: broker {} MiB, agent {} MiB",
            joined.broker.rss_kib() / 1_024,
            joined.agent.rss_kib() / 1_024
        );
    }
}

async fn domain(raw: &Connection) -> XdrValue {
    let name = vec![("name", XdrValue::Text("test".into()))];
    raw.call("DOMAIN_LOOKUP_BY_NAME", name, rig::soon()).await.unwrap().get("dom").unwrap().clone()
}

/// What of the disk a command waits for.
struct Disk {
    file: File,
    store: Arc<FileStore>,
    n: u64,
}

impl Disk {
    fn on(dir: &Path) -> Disk {
        let file = File::create(dir.join("fdatasync")).unwrap();
        file.write_all_at(&[0; 1 << 16], 0).unwrap();
        file.sync_all().unwrap();
        Disk { file, store: FileStore::open_or_create(dir.join("bench.redb")).unwrap(), n: 0 }
    }

    fn sync(&mut self) -> Duration {
        let begin = Instant::now();
        self.file.write_all_at(&[7; 4_096], (self.n % 16) * 4_096).unwrap();
        self.file.sync_data().unwrap();
        begin.elapsed()
    }

    fn commit(&mut self) -> Duration {
        self.n += 1;
        let mut batch = Batch::new();
        batch.put(Table::Task, &self.n.to_be_bytes(), vec![7; 512]);
        let begin = Instant::now();
        self.store.commit_blocking(batch, Epoch(1)).unwrap();
        begin.elapsed()
    }
}

fn timed(action: impl FnOnce()) -> Duration {
    std::thread::sleep(PAUSE);
    let begin = Instant::now();
    action();
    begin.elapsed()
}

fn latency(
    runtime: &tokio::runtime::Runtime,
    raw: &Connection,
    dom: &XdrValue,
    port: u16,
    rounds: usize,
    dir: &Path,
) {
    let mut vim = Vim::connect(port);
    vim.login(USER, PASSWORD);
    let (vm, _) = vim.vms().into_iter().find(|(_, name)| name == "test").expect("the test driver's VM");
    vim.changeable(&vm);
    let mut disk = Disk::on(dir);
    let raw_call = |procedure: &str, more: Vec<(&str, XdrValue)>| {
        std::thread::sleep(PAUSE);
        let mut args = vec![("dom", dom.clone())];
        args.extend(more);
        runtime.block_on(rig::call(raw, procedure, args))
    };
    let text = |s: String| XdrValue::Optional(Some(Box::new(XdrValue::Text(s.into()))));
    let mut f: [Vec<Duration>; 9] = Default::default();
    for round in 0..rounds {
        f[0].push(disk.sync());
        f[1].push(disk.commit());
        f[2].push(timed(|| vim.now()));
        f[3].push(raw_call("DOMAIN_DESTROY", vec![]));
        f[4].push(raw_call("DOMAIN_CREATE", vec![]));
        let described = vec![("metadata", text(format!("raw {round}"))), ("flags", XdrValue::Uint(3))];
        f[5].push(raw_call("DOMAIN_SET_METADATA", described));
        let powers = [false, true].map(|on| {
            let took = timed(|| vim.power(&vm, on));
            vim.tidy();
            took
        });
        f[6].push(powers[0]);
        f[7].push(powers[1]);
        f[8].push(timed(|| vim.annotate(&vm, &format!("round {round}"))));
        vim.tidy();
    }
    let labels = [
        "the disk: write and fdatasync of 4 KiB",
        "the disk: a store's commit of one row",
        "the front: CurrentTime",
        "raw: destroy",
        "raw: create",
        "raw: set the description",
        "PowerOffVM_Task, to the task's success",
        "PowerOnVM_Task, to the task's success",
        "ReconfigVM_Task annotation (engine), to success",
    ];
    let p50: Vec<Duration> = labels.iter().zip(&mut f).map(|(label, samples)| line(label, samples)).collect();
    let commit = ms(p50[1]);
    for (label, ours, raw, bar, syncs) in
        [("PowerOff", 6, 3, 1.0, 1.0), ("PowerOn", 7, 4, 1.0, 1.0), ("Reconfigure", 8, 5, 3.0, 2.0)]
    {
        let added = ms(p50[ours]) - ms(p50[raw]);
        let besides = added - syncs * commit;
        println!(
            "added by {label:12} p50 {added:.3} ms = {syncs} commits of {commit:.3} ms and {besides:.3} ms; bar: {bar} ms beside the disk: {}",
            if besides <= bar { "met" } else { "MISSED" }
        );
    }
}

fn throughput(port: u16) {
    let seconds = number("SECONDS", 5);
    let mut vim = Vim::connect(port);
    vim.login(USER, PASSWORD);
    let vms = vim.vms();
    let mut workers: Vec<(Vim, String)> = Vec::new();
    for (at, (vm, _)) in vms.into_iter().take(FLIGHT).enumerate() {
        // A session has room for 32 waits.
        if at % 16 == 0 && at > 0 {
            vim = Vim::connect(port);
            vim.login(USER, PASSWORD);
        }
        workers.push((vim.beside(port), vm));
    }
    // All begin switched off.
    for (vim, vm) in &mut workers {
        vim.ensure_off(vm);
    }
    let (first, its) = &mut workers[0];
    first.changeable(its);
    type Work = fn(&mut Vim, &str, usize);
    let tables: [(&str, Work); 2] = [
        ("PowerOnVM_Task and PowerOffVM_Task in turn (local)", |vim, vm, n| vim.power(vm, n % 2 == 0)),
        ("ReconfigVM_Task annotation (engine)", |vim, vm, n| vim.annotate(vm, &format!("n {n}"))),
    ];
    for (label, work) in tables {
        let stop = AtomicBool::new(false);
        let begin = Instant::now();
        let mut samples: Vec<Duration> = std::thread::scope(|scope| {
            let stop = &stop;
            let running: Vec<_> = workers
                .iter_mut()
                .map(|(vim, vm)| {
                    scope.spawn(move || {
                        let mut samples = Vec::new();
                        // An even number, so that each VM is as it was.
                        while !stop.load(Ordering::Relaxed) || samples.len() % 2 == 1 {
                            let begin = Instant::now();
                            work(vim, vm, samples.len());
                            samples.push(begin.elapsed());
                            vim.tidy();
                        }
                        samples
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_secs(seconds as u64));
            stop.store(true, Ordering::Relaxed);
            running.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        let took = begin.elapsed().as_secs_f64();
        let (p50, p99) = summary(&mut samples);
        let rate = samples.len() as f64 / took;
        println!("{label:52} {rate:>6.0} commands/s  p50 {:.1} ms  p99 {:.1} ms", ms(p50), ms(p99));
    }
}

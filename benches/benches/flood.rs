//! Ten times as many commands as can be done: how soon what is too much is refused, and what a bystander's reads take meanwhile.
//!
//! ```text
//! capacity   64 clients, each waits for its command's end                     ▶ commands/s
//! flood      ten times that, open loop: a request leaves at its time, whether or not others were answered
//!            ▶ answers by kind; refusals from their time to the answer, p50 and p99; what came of each task that was told
//! asker      one client more, of the same session, that asks for the same 100 times a second
//! bystander  a session of its own reads a machine's state every 10 ms, before and meanwhile
//! ```
//! One thread writes and reads bare sockets. A request whose connection is still busy waits for one, and its wait counts. That thread
//! stands for other machines, so it has the lowest priority (`renice`): what it measures has its own waiting in it, what the asker and the
//! bystander measure has not. `HYPERGLOT_BIN` is the program; `SECONDS` says how long a flood lasts, `TIMES` how much more than the capacity
//! is offered, `RATE` offers so many a second instead; `KINDS` and `SHAPES` leave some out (`change,power`, `up,apart`).
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot run ends"
)]

use benches::{
    rig::{self, Hyperglot, PASSWORD, Role, USER, ms, summary},
    vim::Vim,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io::{Read, Write},
    process::Command,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
};

/// Clients that wait for their commands, for the capacity.
const FLIGHT: usize = 64;
/// Connections of the flood.
const CONNECTIONS: usize = 384;
/// How often the bystander reads.
const EVERY: Duration = Duration::from_millis(10);
/// How often the asker asks, and how long it waits for an answer.
const ASKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));
/// Tasks asked for at a time.
const PAGE: usize = 200;

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().map_or(usual, |text| text.parse().expect("a number"))
}

/// Whether `name` is unset, or has `what` among its words.
fn wanted(name: &str, what: &str) -> bool {
    std::env::var(name).ok().is_none_or(|all| all.split(',').any(|one| one == what))
}

/// What is asked.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// PowerOn and PowerOff in turn: done by the lane.
    Power,
    /// Annotations: planned by the engine.
    Change,
}

fn main() {
    println!("load average at the start: {}", rig::load());
    let seconds = number("SECONDS", 60);
    if wanted("SHAPES", "up") {
        let (dir, port) = (rig::place(), rig::free_port());
        let sim = "[[target]]\nprotocol = \"sim\"\ngenerate = { vms = 1000, hosts = 10 }\n";
        let role = Role { name: "up", targets: sim, front: Some(("fleet", port)), more: &[] };
        let mut up = Hyperglot::start(dir.path(), &role);
        up.listens(port);
        println!("\n`hyperglot up`, a fleet view, 1000 simulated VMs");
        floods(port, seconds);
        println!("resident {} MiB", up.rss_kib() / 1_024);
        up.stop();
    }
    if wanted("SHAPES", "apart") {
        let (dirs, port) = ([rig::place(), rig::place()], rig::free_port());
        let role = Role { name: "broker", targets: "", front: Some(("fleet", port)), more: &[] };
        let mut broker = Hyperglot::start(dirs[0].path(), &role);
        let token = loop {
            if let Some(token) = broker.ctl(&["agent", "token", "edge"]) {
                break token;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let one_host = "[[target]]\nprotocol = \"sim\"\ngenerate = { vms = 1000, hosts = 1 }\n";
        let role = Role { name: "agent", targets: one_host, front: None, more: &["--join", &token] };
        let agent = Hyperglot::start(dirs[1].path(), &role);
        broker.listens(port);
        println!(
            "\n`hyperglot broker` with a fleet view and `hyperglot agent` over NATS with TLS, 1000 simulated VMs"
        );
        floods(port, seconds);
        println!("resident: broker {} MiB, agent {} MiB", broker.rss_kib() / 1_024, agent.rss_kib() / 1_024);
        agent.stop();
        broker.stop();
    }
    println!("\nload average at the end: {}", rig::load());
}

fn session(port: u16) -> Vim {
    let mut vim = Vim::connect(port);
    vim.login(USER, PASSWORD);
    vim
}

fn floods(port: u16, seconds: usize) {
    let mut vim = session(port);
    let begin = Instant::now();
    let vms: Vec<String> = loop {
        let vms = vim.vms();
        if vms.len() == 1_000 {
            break vms.into_iter().map(|(vm, _)| vm).collect();
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "1000 VMs are shown, not {}", vms.len());
        std::thread::sleep(Duration::from_millis(100));
    };
    vim.changeable(&vms[0]);
    for (kind, word, label) in [
        (Kind::Change, "change", "ReconfigVM_Task annotation"),
        (Kind::Power, "power", "PowerOnVM_Task and PowerOffVM_Task"),
    ] {
        if !wanted("KINDS", word) {
            continue;
        }
        let capacity = capacity(port, &vms, kind);
        let rate = match number("RATE", 0) {
            0 => capacity * number("TIMES", 10) as f64,
            rate => rate as f64,
        };
        let calm = beside(port, &vms[999], || std::thread::sleep(Duration::from_secs(3)));
        let (mut met, mut asked) = (None, None);
        let meanwhile = beside(port, &vms[999], || {
            // The last VM is the bystander's, the one before it the asker's.
            (met, asked) = flooded(port, &vms, kind, rate, Duration::from_secs(seconds as u64));
        });
        println!("{label}: capacity {capacity:.0}/s at {FLIGHT} in flight");
        met.expect("a flood").print(port);
        for (what, mut samples) in asked.expect("an asker") {
            line(&format!("the asker: {what}"), &mut samples);
        }
        for (label, mut samples) in
            [("a bystander's read, before", calm), ("a bystander's read, meanwhile", meanwhile)]
        {
            line(label, &mut samples);
        }
    }
}

fn line(label: &str, samples: &mut [Duration]) {
    let (p50, p99) = summary(samples);
    println!("  {label:40} p50 {:>7.1} ms  p99 {:>7.1} ms  ({} times)", ms(p50), ms(p99), samples.len());
}

/// A flood, and an asker beside it.
fn flooded(
    port: u16,
    vms: &[String],
    kind: Kind,
    rate: f64,
    lasts: Duration,
) -> (Option<Met>, Option<Answers>) {
    let sessions: Vec<String> = (0..4).map(|_| session(port).cookie().to_owned()).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(port, &sessions[0], &vms[998], kind, &stop));
        let flooding = scope.spawn(|| {
            step_back();
            flood(port, &vms[..998], kind, &sessions, rate, lasts)
        });
        let met = flooding.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        (Some(met), Some(asking.join().unwrap()))
    })
}

/// The lowest priority for this thread, also where the others have real-time priority.
fn step_back() {
    let thread = std::fs::read_link("/proc/thread-self").expect("a thread of Linux");
    let thread = thread.file_name().expect("its number").to_owned();
    for line in [["chrt", "--other", "--pid", "0"], ["renice", "-n", "19", "-p"]] {
        let done = Command::new(line[0]).args(&line[1..]).arg(&thread).output().expect("a program of Linux");
        assert!(done.status.success(), "{line:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// What answers took, by what they were.
type Answers = BTreeMap<String, Vec<Duration>>;

/// One client that asks for the same as the flood, of a machine of its own.
fn ask(port: u16, cookie: &str, vm: &str, kind: Kind, stop: &AtomicBool) -> Answers {
    let (mut answers, mut n) = (Answers::new(), 0);
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("the front listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(ASKS.1)).expect("a socket");
    let mut buffer = Vec::with_capacity(8 << 10);
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        stream.write_all(&request(cookie, vm, kind, n)).expect("the front reads");
        buffer.clear();
        let answer = loop {
            let mut chunk = [0; 4 << 10];
            let read = stream.read(&mut chunk).expect("the front answers");
            assert!(read > 0, "the front closed the connection");
            buffer.extend_from_slice(&chunk[..read]);
            if let Some(whole) = whole(&buffer) {
                break whole;
            }
        };
        answers.entry(classify(&answer).0).or_default().push(sent.elapsed());
        n += 1;
        std::thread::sleep(ASKS.0.saturating_sub(sent.elapsed()));
    }
    answers
}

/// Commands a second with 64 clients, each of which waits for its command's end.
fn capacity(port: u16, vms: &[String], kind: Kind) -> f64 {
    let mut vim = session(port);
    let mut workers: Vec<(Vim, &String)> = Vec::new();
    for (at, vm) in vms.iter().take(FLIGHT).enumerate() {
        // A session has room for 32 waits.
        if at % 16 == 0 && at > 0 {
            vim = session(port);
        }
        workers.push((vim.beside(port), vm));
    }
    for (vim, vm) in &mut workers {
        vim.ensure_off(vm);
    }
    let (stop, begin) = (AtomicBool::new(false), Instant::now());
    let done: usize = std::thread::scope(|scope| {
        let stop = &stop;
        let work = |(vim, vm): &mut (Vim, &String)| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) || n % 2 == 1 {
                match kind {
                    Kind::Power => vim.power(vm, n % 2 == 0),
                    Kind::Change => vim.annotate(vm, &format!("n {n}")),
                }
                vim.tidy();
                n += 1;
            }
            n
        };
        let running: Vec<_> = workers.iter_mut().map(|worker| scope.spawn(move || work(worker))).collect();
        std::thread::sleep(Duration::from_secs(5));
        stop.store(true, Ordering::Relaxed);
        running.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    done as f64 / begin.elapsed().as_secs_f64()
}

/// What reads of a machine's state take while something is done.
fn beside(port: u16, vm: &str, something: impl FnOnce()) -> Vec<Duration> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut vim = session(port);
    let (vm, stopped) = (vm.to_owned(), Arc::clone(&stop));
    let reading = std::thread::spawn(move || {
        let mut samples = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            let begin = Instant::now();
            vim.state(&vm);
            samples.push(begin.elapsed());
            std::thread::sleep(EVERY.saturating_sub(begin.elapsed()));
        }
        samples
    });
    something();
    stop.store(true, Ordering::Relaxed);
    reading.join().unwrap()
}

/// What a flood met.
#[derive(Default)]
struct Met {
    offered: f64,
    asked: usize,
    took: Duration,
    /// By the answer, from a request's time and from its sending.
    answers: BTreeMap<String, (Vec<Duration>, Vec<Duration>)>,
    tasks: Vec<String>,
}

impl Met {
    fn print(mut self, port: u16) {
        let rate = self.asked as f64 / self.took.as_secs_f64();
        println!(
            "  offered {:.0}/s, asked {rate:.0}/s for {:.0} s: {} requests",
            self.offered,
            self.took.as_secs_f64(),
            self.asked
        );
        let answered: usize = self.answers.values().map(|(all, _)| all.len()).sum();
        for (what, (due, sent)) in &mut self.answers {
            let (due, sent) = (summary_of(due), summary_of(sent));
            println!(
                "  {what:40} {:>7} answers, since due {}, since sent {}",
                due.2,
                due_text(due),
                due_text(sent)
            );
        }
        let mut vim = session(port);
        let ends = vim.ends(&self.tasks, PAGE);
        let ended: usize = ends.values().sum();
        println!(
            "  unanswered {}; of {} tasks told ended: {ends:?}, kept no more {}",
            self.asked - answered,
            self.tasks.len(),
            self.tasks.len() - ended
        );
        assert_eq!(self.asked, answered, "an answer to each request");
    }
}

fn summary_of(samples: &mut [Duration]) -> (Duration, Duration, usize) {
    let (p50, p99) = summary(samples);
    (p50, p99, samples.len())
}

fn due_text((p50, p99, _): (Duration, Duration, usize)) -> String {
    format!("p50 {:>6.1} ms p99 {:>6.1} ms", ms(p50), ms(p99))
}

fn request(cookie: &str, vm: &str, kind: Kind, n: usize) -> Vec<u8> {
    let (method, more) = match kind {
        Kind::Power if n.is_multiple_of(2) => ("PowerOnVM_Task", String::new()),
        Kind::Power => ("PowerOffVM_Task", String::new()),
        Kind::Change => ("ReconfigVM_Task", format!("<spec><annotation>flood {n}</annotation></spec>")),
    };
    let body = format!(
        "<?xml version=\"1.0\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\"><soapenv:Body>\
         <{method} xmlns=\"urn:vim25\"><_this type=\"VirtualMachine\">{vm}</_this>{more}</{method}></soapenv:Body></soapenv:Envelope>"
    );
    let head = format!(
        "POST /sdk HTTP/1.1\r\nHost: bench\r\nContent-Type: text/xml; charset=utf-8\r\nSOAPAction: urn:vim25/8.0.1.0\r\nCookie: {cookie}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// Asks `rate` times a second, whether or not it is answered.
fn flood(port: u16, vms: &[String], kind: Kind, sessions: &[String], rate: f64, lasts: Duration) -> Met {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let met = Rc::new(RefCell::new(Met { offered: rate, ..Met::default() }));
    let next = Rc::new(Cell::new(0_usize));
    runtime.block_on(LocalSet::new().run_until(async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            streams.push(TcpStream::connect(("127.0.0.1", port)).await.expect("the front listens"));
        }
        let begin = Instant::now();
        let connections: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(at, mut stream)| {
                stream.set_nodelay(true).expect("a socket");
                let (met, next, cookie) =
                    (Rc::clone(&met), Rc::clone(&next), sessions[at % sessions.len()].clone());
                let vms = vms.to_vec();
                tokio::task::spawn_local(async move {
                    let mut buffer = Vec::with_capacity(8 << 10);
                    loop {
                        let n = next.get();
                        next.set(n + 1);
                        let due = begin + Duration::from_secs_f64(n as f64 / rate);
                        tokio::time::sleep_until(due.into()).await;
                        if begin.elapsed() >= lasts {
                            return;
                        }
                        // A large prime's steps: neighbours in time are not neighbours in the list.
                        let (vm, round) = (&vms[(n * 7_919) % vms.len()], n / vms.len());
                        let sent = Instant::now();
                        stream.write_all(&request(&cookie, vm, kind, round)).await.expect("the front reads");
                        met.borrow_mut().asked += 1;
                        let answer = answer(&mut stream, &mut buffer).await;
                        let now = Instant::now();
                        let (what, task) = classify(&answer);
                        let mut met = met.borrow_mut();
                        let samples = met.answers.entry(what).or_default();
                        samples.0.push(now.duration_since(due));
                        samples.1.push(now.duration_since(sent));
                        met.tasks.extend(task);
                    }
                })
            })
            .collect();
        for connection in connections {
            connection.await.expect("a connection's end");
        }
        met.borrow_mut().took = begin.elapsed();
    }));
    Rc::try_unwrap(met).ok().expect("all have ended").into_inner()
}

/// One whole answer, as text.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> String {
    buffer.clear();
    loop {
        let read = stream.read_buf(buffer).await.expect("the front answers");
        assert!(read > 0, "the front closed the connection");
        if let Some(whole) = whole(buffer) {
            return whole;
        }
    }
}

/// An answer, when all of it has come.
fn whole(buffer: &[u8]) -> Option<String> {
    let head = buffer.windows(4).position(|at| at == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&buffer[..head]).expect("a header");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("a length").parse().expect("a number");
    (buffer.len() >= head + 4 + length).then(|| String::from_utf8(buffer.to_vec()).expect("text"))
}

/// What an answer is, and the task that it tells.
fn classify(answer: &str) -> (String, Option<String>) {
    if let Some((_, rest)) = answer.split_once("<returnval type=\"Task\">") {
        return ("a task".to_owned(), rest.split('<').next().map(str::to_owned));
    }
    let fault = answer.split_once("<detail>").and_then(|(_, rest)| rest.split_once("xsi:type=\""));
    let fault = fault.and_then(|(_, rest)| rest.split('"').next());
    (fault.map_or_else(|| answer[9..12].to_owned(), str::to_owned), None)
}

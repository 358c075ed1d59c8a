//! The processes a bench runs against, each with a directory of its own, and how figures are written.

use libvirt::{
    native::{
        self,
        connection::{Connection, Keepalive},
        uri::Uri,
    },
    session,
};
use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use wire::xdr::XdrValue;

/// The administrator of every installation here.
pub const USER: &str = "bench";
/// Its password.
pub const PASSWORD: &str = "bench-password";
/// How long something may take to start.
const PATIENCE: Duration = Duration::from_secs(180);

/// Ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A directory on the disk that the figures are about.
pub fn place() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A libvirtd of its own, with its test driver on a loopback port.
pub struct Libvirtd {
    _child: Running,
    _dir: TempDir,
    /// Its test driver.
    pub uri: String,
}

impl Libvirtd {
    /// Starts one.
    pub fn start() -> Libvirtd {
        let (dir, port) = (tempfile::tempdir_in("/tmp").unwrap(), free_port());
        let conf = dir.path().join("libvirtd.conf");
        let text = format!(
            "listen_tls = 0\nlisten_tcp = 1\nlisten_addr = \"127.0.0.1\"\ntcp_port = \"{port}\"\nauth_tcp = \"none\"\n"
        );
        std::fs::write(&conf, text).unwrap();
        let child = Command::new("/usr/sbin/libvirtd")
            .args(["--listen", "-f"])
            .arg(&conf)
            .arg("-p")
            .arg(dir.path().join("pid"))
            .env("HOME", dir.path())
            .env("XDG_RUNTIME_DIR", dir.path())
            .env("XDG_CONFIG_HOME", dir.path().join("config"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("libvirtd is installed: make setup");
        let uri = format!("test+tcp://127.0.0.1:{port}/default");
        Libvirtd { _child: Running(child), _dir: dir, uri }
    }
}

/// A connection to a libvirt without anything of ours above the RPC.
pub async fn raw(uri: &str) -> Connection {
    let uri = Uri::parse(uri, None).unwrap();
    for _ in 0..100 {
        let opened =
            session::open(&uri, native::schema().unwrap(), Keepalive::default(), Duration::from_secs(5))
                .await;
        if let Ok((connection, mut events)) = opened {
            tokio::spawn(async move { while events.recv().await.is_some() {} });
            return connection;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("libvirtd does not answer at {uri:?}");
}

/// Ten seconds from now.
pub fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(10)
}

/// One call, timed.
pub async fn call(connection: &Connection, procedure: &str, args: Vec<(&str, XdrValue)>) -> Duration {
    let begin = Instant::now();
    connection.call(procedure, args, soon()).await.unwrap_or_else(|e| panic!("{procedure}: {e}"));
    begin.elapsed()
}

/// A simulated hypervisor as a process of its own: what was done there is there after a restart of whoever did it.
pub struct Sim {
    _child: Running,
    _dir: TempDir,
    /// Where it listens.
    pub uri: String,
}

impl Sim {
    /// Starts one.
    pub fn start(vms: usize, hosts: usize) -> Sim {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let socket = dir.path().join("sim.sock");
        let uri = format!("unix:{}", socket.display());
        let child = Command::new(program())
            .args(["sim", "--listen", &uri, "--generate", &format!("{vms},{hosts}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("hyperglot is built: cargo build --release -p hyperglot");
        let (child, begin) = (Running(child), Instant::now());
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(begin.elapsed() < PATIENCE, "no simulated hypervisor at {uri}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Sim { _child: child, _dir: dir, uri }
    }
}

/// What a role is told.
pub struct Role<'a> {
    /// `up`, `broker` or `agent`.
    pub name: &'a str,
    /// `[[target]]` tables.
    pub targets: &'a str,
    /// The kind of view and the port of its front, if it has one.
    pub front: Option<(&'a str, u16)>,
    /// Arguments beyond the configuration.
    pub more: &'a [&'a str],
}

/// A role of hyperglot as a process.
pub struct Hyperglot {
    child: Running,
    lines: Receiver<(Instant, String)>,
    config: PathBuf,
    /// When it was started.
    pub started: Instant,
}

impl Hyperglot {
    /// Starts it on a directory.
    pub fn start(dir: &Path, role: &Role<'_>) -> Hyperglot {
        let config = dir.join("hyperglot.toml");
        let mappings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mappings");
        let front = role.front.map(|(view, port)| {
            format!("[[front]]\nprotocol = \"vsphere\"\nview = \"{view}\"\nlisten = \"127.0.0.1:{port}\"\ntls = false\n")
        });
        let text = format!(
            "data_dir = \"{}\"\nmappings = \"{}\"\n{}{}",
            dir.join("data").display(),
            mappings.display(),
            role.targets,
            front.unwrap_or_default()
        );
        std::fs::write(&config, text).unwrap();
        let started = Instant::now();
        let mut child = Command::new(program())
            .arg(role.name)
            .arg("--config")
            .arg(&config)
            .args(role.more)
            .env("HYPERGLOT_ADMIN_USER", USER)
            .env("HYPERGLOT_ADMIN_PASSWORD", PASSWORD)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("hyperglot is built: cargo build --release -p hyperglot");
        let errors = child.stderr.take().unwrap();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                // Nobody may listen.
                drop(send.send((Instant::now(), line)));
            }
        });
        Hyperglot { child: Running(child), lines, config, started }
    }

    /// Waits until somebody listens there; since its start.
    pub fn listens(&mut self, port: u16) -> Duration {
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = self.child.0.try_wait().unwrap();
            assert!(ended.is_none() && self.started.elapsed() < PATIENCE, "no listener: {}", self.said());
            std::thread::sleep(Duration::from_millis(1));
        }
        self.started.elapsed()
    }

    /// Waits until its log has a line with each of these; since its start.
    pub fn says(&self, mut what: Vec<&str>) -> Duration {
        let mut all = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok((at, line)) => {
                    what.retain(|part| !line.contains(part));
                    if what.is_empty() {
                        return at - self.started;
                    }
                    all = format!("{all}{line}\n");
                }
                Err(_) => panic!("expected {what:?} in the log: {all}"),
            }
        }
    }

    /// `hyperglot ctl` with its configuration; what it printed, `None` when it failed.
    pub fn ctl(&self, arguments: &[&str]) -> Option<String> {
        let done = Command::new(program())
            .arg("ctl")
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .output()
            .unwrap();
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Ends it as an operator does, and waits.
    pub fn stop(mut self) {
        let pid = self.child.0.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success(), "a process to stop");
        self.child.0.wait().unwrap();
    }

    /// Its resident memory, KiB.
    pub fn rss_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn said(&self) -> String {
        self.lines.try_iter().map(|(_, line)| line + "\n").collect()
    }
}

/// A broker, and an agent that joined it.
pub struct Joined {
    /// The agent.
    pub agent: Hyperglot,
    /// The broker.
    pub broker: Hyperglot,
    _dirs: [TempDir; 2],
}

impl Joined {
    /// Starts both; the agent has the targets and the front.
    pub fn start(targets: &str, view: &str, port: u16) -> Joined {
        let dirs = [place(), place()];
        let role = Role { name: "broker", targets: "", front: None, more: &[] };
        let broker = Hyperglot::start(dirs[0].path(), &role);
        let token = loop {
            if let Some(token) = broker.ctl(&["agent", "token", "edge"]) {
                break token;
            }
            assert!(broker.started.elapsed() < PATIENCE, "the broker gives no token: {}", broker.said());
            std::thread::sleep(Duration::from_millis(100));
        };
        let role = Role { name: "agent", targets, front: Some((view, port)), more: &["--join", &token] };
        let mut agent = Hyperglot::start(dirs[1].path(), &role);
        agent.listens(port);
        Joined { agent, broker, _dirs: dirs }
    }
}

fn program() -> PathBuf {
    match std::env::var_os("HYPERGLOT_BIN") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/hyperglot"),
    }
}

/// p50 and p99 of samples.
pub fn summary(samples: &mut [Duration]) -> (Duration, Duration) {
    samples.sort();
    (samples[samples.len() / 2], samples[samples.len() * 99 / 100])
}

/// One line of figures.
pub fn line(label: &str, samples: &mut [Duration]) -> Duration {
    let (p50, p99) = summary(samples);
    println!("{label:52} p50 {:>8.3} ms  p99 {:>8.3} ms", ms(p50), ms(p99));
    p50
}

/// As milliseconds.
pub fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1_000.0
}

/// The machine's load now, for who reads the figures.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

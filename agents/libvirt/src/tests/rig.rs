//! A private libvirtd for one test: its own directories, ports and guests, never the machine's own libvirt.
//!
//! Run as root it drops to `nobody`, so only `type='qemu'` guests are offered. Everything it started ends with it.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};
use tempfile::TempDir;

const NOBODY: u32 = 65534;

/// A running libvirtd.
pub struct Rig {
    dir: TempDir,
    daemon: Option<Child>,
    /// Its plain TCP port.
    pub tcp: u16,
    /// Its TLS port.
    pub tls: u16,
}

fn root() -> bool {
    let out = Command::new("id").arg("-u").output().expect("`id` runs");
    out.stdout.starts_with(b"0\n")
}

/// A port that nobody has, of those below what the system gives to connections: it is still free when the daemon starts, and when it starts
/// again. Given once in a process.
fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let first = process::id() % 10_000 * 20 % 15_000;
    loop {
        let given = u32::from(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(15_000 + (first + given) % 15_000).expect("it is below 30000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn own(path: &Path) {
    if root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("a directory for nobody");
    }
}

impl Rig {
    /// Starts a libvirtd and waits until it takes connections.
    pub fn start() -> Rig {
        let found = ["/usr/sbin/libvirtd", "/usr/bin/libvirtd"].iter().any(|p| Path::new(p).exists());
        assert!(
            found,
            "this test needs libvirtd: install libvirt-daemon, libvirt-daemon-driver-qemu and qemu-system-x86"
        );
        let dir = tempfile::Builder::new().prefix("lv").tempdir_in("/tmp").expect("a directory");
        own(dir.path());
        for name in ["home", "run", "pki", "images"] {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("a directory");
            own(&path);
        }
        pki(&dir.path().join("pki"));
        let mut rig = Rig { dir, daemon: None, tcp: free_port(), tls: free_port() };
        rig.launch();
        rig
    }

    /// Starts the daemon of this rig (again).
    pub fn launch(&mut self) {
        let (dir, pki) = (self.dir.path(), self.dir.path().join("pki"));
        let pki = pki.display();
        let conf = format!(
            "listen_tls = 1\nlisten_tcp = 1\nlisten_addr = \"127.0.0.1\"\ntcp_port = \"{}\"\ntls_port = \"{}\"\n\
             auth_tcp = \"none\"\nauth_tls = \"none\"\nca_file = \"{pki}/cacert.pem\"\ncert_file = \"{pki}/servercert.pem\"\n\
             key_file = \"{pki}/serverkey.pem\"\nlog_outputs = \"3:file:{}/libvirtd.log\"\n",
            self.tcp,
            self.tls,
            dir.display()
        );
        fs::write(dir.join("libvirtd.conf"), conf).expect("the configuration");
        let mut command = if root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "libvirtd"]);
            command
        } else {
            Command::new("libvirtd")
        };
        command
            .arg("--listen")
            .arg("-f")
            .arg(dir.join("libvirtd.conf"))
            .env("HOME", dir.join("home"))
            .env("XDG_RUNTIME_DIR", dir.join("run"))
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut daemon = command.spawn().expect("libvirtd starts");
        for _ in 0..600 {
            if let Some(status) = daemon.try_wait().expect("its state") {
                panic!("libvirtd ended with {status}: {}", self.log());
            }
            if std::net::TcpStream::connect(("127.0.0.1", self.tcp)).is_ok() && self.socket().exists() {
                self.daemon = Some(daemon);
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("libvirtd takes no connection: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("libvirtd.log")).unwrap_or_default()
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/libvirt/libvirt-sock")
    }

    /// A directory it may read and write.
    pub fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    /// The address of its QEMU driver over the unix socket.
    pub fn qemu(&self) -> String {
        format!("qemu+unix:///session?socket={}", self.socket().display())
    }

    /// The address of its QEMU driver over TLS.
    pub fn qemu_tls(&self) -> String {
        format!("qemu+tls://localhost:{}/session?pkipath={}/pki", self.tls, self.dir.path().display())
    }

    /// The address of a driver over TCP, for example `test` and `default`.
    pub fn over_tcp(&self, driver: &str, path: &str) -> String {
        format!("{driver}+tcp://127.0.0.1:{}/{path}", self.tcp)
    }

    /// Runs virsh directly on its QEMU driver; gives what it prints.
    pub fn virsh(&self, args: &[&str]) -> String {
        self.virsh_on("qemu", "session", args)
    }

    /// Runs virsh directly on a driver.
    pub fn virsh_on(&self, driver: &str, path: &str, args: &[&str]) -> String {
        let out = Command::new("virsh")
            .args(["-c", &self.over_tcp(driver, path)])
            .args(args)
            .output()
            .expect("this test needs virsh: install libvirt-clients");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "virsh {args:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
        text
    }

    /// Defines a domain from its XML.
    pub fn define(&self, xml: &str) {
        let file = self.dir.path().join("define.xml");
        fs::write(&file, xml).expect("a file");
        self.virsh(&["define", file.to_str().expect("a path")]);
    }

    /// Sends the daemon a signal, for example `STOP`.
    pub fn signal(&self, name: &str) {
        let pid = self.daemon.as_ref().expect("a daemon").id();
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
        assert!(status.expect("`kill` runs").success());
    }

    /// Kills the daemon as a crash does; its guests go on.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().expect("it is killed");
            daemon.wait().expect("it is gone");
        }
    }

    /// Sends the process of a guest a signal.
    pub fn signal_guest(&self, name: &str, signal: &str) {
        let file = self.dir.path().join(format!("run/libvirt/qemu/run/{name}.pid"));
        let pid = fs::read_to_string(file).expect("the guest's process id");
        let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.trim()).status();
        assert!(status.expect("`kill` runs").success());
    }

    fn guests(&self) -> Vec<String> {
        let run = self.dir.path().join("run/libvirt/qemu/run");
        let files = fs::read_dir(run).into_iter().flatten().flatten();
        files
            .map(|f| f.path())
            .filter(|p| p.extension().is_some_and(|e| e == "pid"))
            .filter_map(|p| fs::read_to_string(p).ok())
            .map(|text| text.trim().to_owned())
            .collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for pid in self.guests() {
            let _ended = Command::new("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status();
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _killed = daemon.kill();
            let _gone = daemon.wait();
        }
    }
}

/// An authority, a server certificate for `localhost` and a client certificate.
fn pki(dir: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode");
        own(&path);
    };
    let params = |name: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca_params = params("test authority", &[]);
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca_params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let ca = ca_params.self_signed(&ca_key).expect("a certificate");
    let issuer = Issuer::from_params(&ca_params, &ca_key);
    write("cacert.pem", ca.pem());
    for (who, names) in [("server", vec!["localhost", "127.0.0.1"]), ("client", vec![])] {
        let key = KeyPair::generate().expect("a key");
        let mut params = params(who, &names);
        params.key_usages =
            vec![rcgen::KeyUsagePurpose::DigitalSignature, rcgen::KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &issuer).expect("a certificate");
        write(&format!("{who}cert.pem"), cert.pem());
        write(&format!("{who}key.pem"), key.serialize_pem());
    }
}

/// A guest without a disk: its BIOS runs and waits.
pub fn bios_guest(name: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>\
         <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>"
    )
}

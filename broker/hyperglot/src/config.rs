//! The one configuration file. Every field is documented here; an unknown field is an error with its line and column.
//!
//! ```toml
//! data_dir = "/var/lib/hyperglot"
//! domain = "default"
//!
//! [bus]
//! port = 4222
//!
//! [[target]]
//! protocol = "libvirt"
//! uri = "qemu:///system"
//!
//! [[front]]
//! protocol = "vsphere"
//! view = "fleet"
//! listen = "0.0.0.0:443"
//! ```

use serde::Deserialize;
use std::{
    collections::BTreeSet,
    fmt, fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the CA, users, bus credentials and the bus's streams lie. Default `/var/lib/hyperglot` for root, else `~/.local/share/hyperglot`.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// The name of this installation on the bus: lower case letters, digits, dashes.
    #[serde(default = "default_domain")]
    pub domain: String,
    /// The mapping files. Default: `HYPERGLOT_MAPPINGS`, then `mappings` here, beside the program or in a directory above it.
    #[serde(default)]
    pub mappings: Option<PathBuf>,
    /// The message bus.
    #[serde(default)]
    pub bus: Bus,
    /// Hypervisors. Empty: a local libvirt is looked for.
    #[serde(default, rename = "target")]
    pub targets: Vec<Target>,
    /// Listeners. Empty: one vSphere fleet view on 127.0.0.1:8443 and one host view on 127.0.0.1:8444.
    #[serde(default, rename = "front")]
    pub fronts: Vec<Front>,
    /// Prometheus metrics.
    #[serde(default)]
    pub metrics: Metrics,
    /// Logs.
    #[serde(default)]
    pub log: Log,
    /// The record of what was asked and done.
    #[serde(default)]
    pub audit: Audit,
}

/// The record of what was asked and done, in the engine's store.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Days after which an entry is forgotten, 1 to 36,500. Default 400.
    #[serde(default = "four_hundred")]
    pub keep_days: u32,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit { keep_days: four_hundred() }
    }
}

fn four_hundred() -> u32 {
    400
}

/// The message bus: somebody's own NATS by `url`, or a supervised nats-server on `port`.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// `nats://user:password@host:4222` or `tls://…`; no server is started then.
    #[serde(default)]
    pub url: Option<String>,
    /// The loopback port of the server that is started. 0 or absent: a free one is chosen once and kept in `data_dir`.
    #[serde(default)]
    pub port: Option<u16>,
    /// The address it listens on. Default `127.0.0.1`; another one for agents on other machines, and then it speaks TLS.
    #[serde(default)]
    pub listen: Option<IpAddr>,
    /// The host name by which agents reach it. Default: this machine's name, or `listen`.
    #[serde(default)]
    pub advertise: Option<String>,
    /// The nats-server program. Default: `HYPERGLOT_NATS_SERVER`, then beside this program, then `PATH`.
    #[serde(default)]
    pub server: Option<PathBuf>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("url", &self.url.as_deref().map(without_passwords))
            .field("port", &self.port)
            .field("listen", &self.listen)
            .field("advertise", &self.advertise)
            .field("server", &self.server)
            .finish()
    }
}

/// The longest time a target may be given, seconds.
const MAX_SECONDS: u64 = 86_400;
/// The most that is made up.
const MAX_VMS: u32 = 1_000_000;
const MAX_HOSTS: u32 = 10_000;

/// A hypervisor, or a simulated one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `libvirt` or `sim`.
    pub protocol: String,
    /// The name in logs and status. Default: the uri, or `sim`.
    #[serde(default)]
    pub name: Option<String>,
    /// libvirt: where it is, for example `qemu:///system`, `qemu+unix:///system?socket=/run/x.sock`, `qemu+tcp://host/system`, `qemu+tls://host/system`.
    #[serde(default)]
    pub uri: Option<String>,
    /// sim: a file that names what there is; or give `uri` (`unix:/path`, `tcp://127.0.0.1:port`) of a `hyperglot sim`.
    #[serde(default)]
    pub inventory: Option<PathBuf>,
    /// sim: what to make up.
    #[serde(default)]
    pub generate: Option<Generate>,
    /// Seconds a call to the hypervisor may take. Default 30.
    #[serde(default)]
    pub timeout_s: Option<u64>,
    /// Seconds between two readings of statistics. Default 10.
    #[serde(default)]
    pub stats_s: Option<u64>,
}

/// How much the simulated target makes up.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// Virtual machines in all.
    pub vms: u32,
    /// Hosts they are spread over.
    pub hosts: u32,
}

/// A listener that speaks a vendor's protocol.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Front {
    /// `vsphere`.
    pub protocol: String,
    /// `fleet`: everything as one management server; `host`: one host as itself.
    pub view: ViewKind,
    /// For the host view: the host's name. Absent: the only host there is.
    #[serde(default)]
    pub host: Option<String>,
    /// Address and port, for example `127.0.0.1:8443`.
    pub listen: SocketAddr,
    /// Off only on a loopback address.
    #[serde(default = "yes")]
    pub tls: bool,
    /// Names the certificate is made out to, besides localhost and the address.
    #[serde(default)]
    pub names: Vec<String>,
}

/// What a front shows.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ViewKind {
    /// Everything as one management server.
    Fleet,
    /// One host as itself.
    Host,
}

/// Prometheus metrics.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// A loopback address serves `/metrics` and `/healthz` over plain HTTP. Absent: not served.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
}

/// Logs go to standard error.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A filter such as `info` or `libvirt=debug,info`. Default: `HYPERGLOT_LOG`, else `info`.
    #[serde(default)]
    pub filter: Option<String>,
    /// `text` or `json`.
    #[serde(default)]
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

fn yes() -> bool {
    true
}

fn default_domain() -> String {
    "default".to_owned()
}

fn default_data_dir() -> PathBuf {
    match std::env::var_os("HOME") {
        Some(home) if home != "/root" => Path::new(&home).join(".local/share/hyperglot"),
        _ => PathBuf::from("/var/lib/hyperglot"),
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what was expected; the text names line and column.
    #[error("{path}: {message}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// Fields that do not go together.
    #[error("{path}: {message}")]
    Contradiction {
        /// Which file.
        path: PathBuf,
        /// What was expected.
        message: String,
    },
}

impl Config {
    /// Reads the file, or takes the defaults where there is none.
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
        let shown = path.unwrap_or(Path::new("defaults")).to_owned();
        let text = match path {
            None => String::new(),
            Some(path) => fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?,
        };
        let config: Config = toml::from_str(&text)
            // The message shows the line as it is written.
            .map_err(|e| ConfigError::Malformed {
                path: shown.clone(),
                message: without_passwords(&e.to_string()),
            })?;
        config.check().map_err(|message| ConfigError::Contradiction { path: shown, message })?;
        Ok(config)
    }

    /// The same, with another `data_dir` if one is given.
    pub fn load_at(path: Option<&Path>, data_dir: Option<PathBuf>) -> Result<Config, ConfigError> {
        let mut config = Config::load(path)?;
        if let Some(data_dir) = data_dir {
            config.data_dir = data_dir;
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.domain.is_empty() || self.domain.len() > 32 || !self.domain.chars().all(legal) {
            return Err(format!(
                "domain = \"{}\": expected 1 to 32 lower case letters, digits or dashes",
                self.domain
            ));
        }
        let started = self.bus.port.is_some() || self.bus.server.is_some() || self.bus.listen.is_some();
        if self.bus.url.is_some() && started {
            return Err("[bus]: give either `url` for your own NATS, or `port`, `listen` and `server` for the one that is started".into());
        }
        if !(1..=36_500).contains(&self.audit.keep_days) {
            return Err(format!("[audit] keep_days = {}: expected 1 to 36500 days", self.audit.keep_days));
        }
        let mut names = BTreeSet::new();
        for target in &self.targets {
            target.check()?;
            if !names.insert(target.shown()) {
                return Err(format!(
                    "two [[target]] are called {}: give each a `name` of its own",
                    target.shown()
                ));
            }
        }
        for (i, front) in self.fronts.iter().enumerate() {
            front.check()?;
            if self
                .fronts
                .iter()
                .skip(i + 1)
                .any(|other| other.listen == front.listen && front.listen.port() != 0)
            {
                return Err(format!(
                    "two [[front]] listen on {}: give each its own address or port",
                    front.listen
                ));
            }
            if self.metrics.listen == Some(front.listen) && front.listen.port() != 0 {
                return Err(format!(
                    "[metrics] and a [[front]] listen on {}: give each its own",
                    front.listen
                ));
            }
        }
        if let Some(listen) = self.metrics.listen.filter(|a| !a.ip().is_loopback()) {
            return Err(format!(
                "[metrics] listen = \"{listen}\": expected a loopback address, because it is served without TLS"
            ));
        }
        Ok(())
    }
}

impl Target {
    fn check(&self) -> Result<(), String> {
        for (field, seconds) in [("timeout_s", self.timeout_s), ("stats_s", self.stats_s)] {
            if seconds.is_some_and(|s| !(1..=MAX_SECONDS).contains(&s)) {
                return Err(format!("[[target]] {field}: expected 1 to {MAX_SECONDS} seconds"));
            }
        }
        if self.generate.is_some_and(|g| g.vms > MAX_VMS || !(1..=MAX_HOSTS).contains(&g.hosts)) {
            return Err(format!(
                "[[target]] generate: expected at most {MAX_VMS} vms on 1 to {MAX_HOSTS} hosts"
            ));
        }
        let given = (self.uri.is_some(), self.inventory.is_some(), self.generate.is_some());
        match (self.protocol.as_str(), given) {
            ("sim", (true, false, false) | (false, true, false) | (false, false, true)) => Ok(()),
            ("sim", _) => {
                Err("[[target]] protocol = \"sim\": expected one of `uri`, `inventory` and `generate`".into())
            }
            ("libvirt", (true, false, false)) => Ok(()),
            ("libvirt", _) => Err(
                "[[target]] protocol = \"libvirt\": expected `uri` and neither `inventory` nor `generate`"
                    .into(),
            ),
            (other, _) => Err(format!("[[target]] protocol = \"{other}\": expected libvirt or sim")),
        }
    }

    /// The name in logs and status.
    pub fn shown(&self) -> String {
        self.name.clone().or_else(|| self.uri.clone()).unwrap_or_else(|| self.protocol.clone())
    }
}

impl Front {
    fn check(&self) -> Result<(), String> {
        if self.protocol != "vsphere" {
            return Err(format!("[[front]] protocol = \"{}\": expected vsphere", self.protocol));
        }
        if self.host.is_some() && self.view == ViewKind::Fleet {
            return Err(format!("[[front]] {}: `host` goes with view = \"host\"", self.listen));
        }
        if !self.tls && !self.listen.ip().to_canonical().is_loopback() {
            return Err(format!(
                "[[front]] {}: tls = false would let passwords cross the network readable; expected tls = true, or a \
                 loopback address",
                self.listen
            ));
        }
        Ok(())
    }
}

/// `text` with the login of every `scheme://user:password@` in it left out.
fn without_passwords(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str("://");
        let end = part.find(|c: char| c.is_whitespace() || c == '"' || c == '\'').unwrap_or(part.len());
        let (address, rest) = part.split_at_checked(end).unwrap_or((part, ""));
        if let Some((_, after)) = address.rsplit_once('@') {
            shown.push_str("…@");
            shown.push_str(after);
        } else {
            shown.push_str(address);
        }
        shown.push_str(rest);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hyperglot.toml");
        fs::write(&path, text).unwrap();
        Config::load(Some(&path)).map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        let config = load("").unwrap();
        assert_eq!(config.domain, "default");
        assert!(config.targets.is_empty() && config.fronts.is_empty());
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let error = load("data_dir = \"/x\"\n[bus]\nprot = 1\n").unwrap_err();
        assert!(error.contains("line 3") && error.contains("prot") && error.contains("port"), "{error}");
    }

    #[test]
    fn contradictions_are_refused() {
        for (text, said) in [
            ("[audit]\nkeep_days = 0", "1 to 36500 days"),
            ("[bus]\nurl = \"nats://x\"\nport = 1", "either `url`"),
            ("[[target]]\nprotocol = \"sim\"", "expected one of `uri`, `inventory` and `generate`"),
            ("[[target]]\nprotocol = \"libvirt\"\ngenerate = { vms = 1, hosts = 1 }", "expected `uri`"),
            (
                "[[front]]\nprotocol = \"vsphere\"\nview = \"fleet\"\nhost = \"a\"\nlisten = \"127.0.0.1:1\"",
                "`host` goes with",
            ),
            ("[metrics]\nlisten = \"0.0.0.0:1\"", "loopback"),
            ("domain = \"A b\"", "lower case"),
            ("[[target]]\nprotocol = \"xen\"\nuri = \"x\"", "expected libvirt or sim"),
            (
                "[[target]]\nprotocol = \"sim\"\ngenerate = { vms = 1, hosts = 1 }\n[[target]]\nprotocol = \"sim\"\ngenerate = { vms = 1, hosts = 1 }",
                "two [[target]] are called sim",
            ),
            ("[[target]]\nprotocol = \"libvirt\"\nuri = \"x\"\nstats_s = 0", "stats_s: expected 1"),
            ("[[target]]\nprotocol = \"sim\"\ngenerate = { vms = 1, hosts = 0 }", "1 to 10000 hosts"),
            (
                "[[target]]\nprotocol = \"sim\"\ngenerate = { vms = 4000000000, hosts = 1 }",
                "at most 1000000 vms",
            ),
            ("[[front]]\nprotocol = \"ec2\"\nview = \"fleet\"\nlisten = \"127.0.0.1:1\"", "expected vsphere"),
            (
                "[[front]]\nprotocol = \"vsphere\"\nview = \"fleet\"\nlisten = \"0.0.0.0:1\"\ntls = false",
                "cross the network readable",
            ),
            (
                "[metrics]\nlisten = \"127.0.0.1:1\"\n[[front]]\nprotocol = \"vsphere\"\nview = \"fleet\"\nlisten = \"127.0.0.1:1\"",
                "give each its own",
            ),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn what_the_readme_shows_is_a_configuration() {
        let readme = include_str!("../../../README.md");
        let shown = readme.split("```toml\n").filter_map(|block| block.split("```").next());
        let whole = shown.skip(1).find(|block| block.contains("data_dir")).unwrap();
        let config = load(whole).unwrap();
        assert_eq!((config.targets.len(), config.fronts.len()), (2, 2));
    }

    #[test]
    fn passwords_are_not_shown() {
        let text = "[bus]\nurl = \"nats://me:hush@h:4222\"";
        let error = load(&format!("{text} oops\n")).unwrap_err();
        assert!(error.contains("line 2") && error.contains("nats://…@h:4222"), "{error}");
        assert!(!error.contains("hush"), "{error}");
        assert!(!format!("{:?}", toml::from_str::<Config>(text).unwrap()).contains("hush"));
        assert_eq!(without_passwords("a://b:c@d, e://f 'g://h@i'"), "a://…@d, e://f 'g://…@i'");
    }

    #[test]
    fn the_whole_form_is_read() {
        let config = load(
            "data_dir = \"/d\"\n[bus]\nport = 4333\n[[target]]\nprotocol = \"libvirt\"\nuri = \"qemu:///system\"\n\
             [[target]]\nprotocol = \"sim\"\ngenerate = { vms = 10, hosts = 2 }\n\
             [[front]]\nprotocol = \"vsphere\"\nview = \"host\"\nhost = \"h1\"\nlisten = \"127.0.0.1:8444\"\ntls = false\n",
        )
        .unwrap();
        assert_eq!(config.targets.len(), 2);
        assert_eq!(config.fronts[0].view, ViewKind::Host);
        assert!(!config.fronts[0].tls);
    }
}

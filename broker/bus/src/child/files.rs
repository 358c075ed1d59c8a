//! What the child keeps under `<data_dir>/bus`: its secrets, its port, its configuration, its store.
//!
//! Secrets and configuration are readable by the owner only. Secrets are made once and stay, so that monitors
//! keep their login over restarts.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use union::clock::Ids;

use super::{AgentAccount, ChildError, ServerTls, accounts};
use crate::limits::MAX_PAYLOAD;
use crate::nats::EVENT_STREAM;

/// The users of the child's accounts.
pub(super) const SYSTEM: &str = "system";
pub(super) const OWN: &str = "hyperglot";
pub(super) const MONITOR: &str = "monitor";
pub(super) const JOIN: &str = "join";

const SECRETS: &str = "credentials.json";
const PORT: &str = "port";
const CA: &str = "ca.pem";

/// What is secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secrets {
    pub system: String,
    pub hyperglot: String,
    pub monitor: String,
    /// Files of an earlier version have none.
    #[serde(default)]
    pub join: String,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// What one start of the server is configured with.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub name: String,
    pub listen: IpAddr,
    pub port: u16,
    pub tls: Option<ServerTls>,
    pub domain: String,
    pub agents: Vec<AgentAccount>,
}

/// The files of one child.
#[derive(Debug, Clone)]
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Makes the directory, for the owner only.
    pub(super) fn open(data_dir: &Path) -> Result<Self, ChildError> {
        let dir = data_dir.join("bus");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| failed("make", &dir, &error))?;
        // A relative path in the configuration would be taken from the child's own directory.
        let dir = dir.canonicalize().map_err(|error| failed("find", &dir, &error))?;
        Ok(Self { dir })
    }

    /// Port and secrets of a child that has run before.
    pub(super) fn read(data_dir: &Path, configured: u16) -> Result<(u16, Secrets), ChildError> {
        let files = Self { dir: data_dir.join("bus") };
        let port = if configured == 0 { files.saved_port()? } else { Some(configured) };
        match (port, files.saved_secrets()?) {
            (Some(port), Some(secrets)) => Ok((port, secrets)),
            _ => Err(ChildError::File {
                doing: "find the bus credentials in",
                path: files.dir,
                reason: "nothing there yet; start hyperglot with this data_dir first".to_owned(),
            }),
        }
    }

    /// Keeps other processes from this directory for as long as the file is held.
    pub(super) fn lock(&self) -> Result<fs::File, ChildError> {
        let path = self.dir.join("lock");
        let opened = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = opened.map_err(|error| failed("open", &path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(ChildError::InUse { dir: self.dir.clone() }),
            Err(fs::TryLockError::Error(error)) => Err(failed("lock", &path, &error)),
        }
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("nats.conf")
    }

    /// The secrets, made at the first start.
    pub(super) fn secrets(&self, ids: &dyn Ids) -> Result<Secrets, ChildError> {
        let secrets = match self.saved_secrets()? {
            Some(secrets) if !secrets.join.is_empty() => return Ok(secrets),
            Some(secrets) => Secrets { join: random_hex(ids, 24), ..secrets },
            None => Secrets {
                system: random_hex(ids, 24),
                hyperglot: random_hex(ids, 24),
                monitor: random_hex(ids, 24),
                join: random_hex(ids, 24),
            },
        };
        let path = self.dir.join(SECRETS);
        let text = serde_json::to_vec_pretty(&secrets)
            .map_err(|error| failed("write", &path, &io::Error::other(error)))?;
        write_private(&path, &text)?;
        Ok(secrets)
    }

    fn saved_secrets(&self) -> Result<Option<Secrets>, ChildError> {
        let path = self.dir.join(SECRETS);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        tighten(&path).map_err(|error| failed("protect", &path, &error))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|error| ChildError::File {
            doing: "read",
            reason: format!("{error}; remove it to have new credentials made"),
            path,
        })
    }

    /// The port: as configured, or for 0 the one of the start before, at the first one that is free. Kept for those who know only the
    /// directory.
    pub(super) fn port(&self, configured: u16) -> Result<u16, ChildError> {
        let path = self.dir.join(PORT);
        if configured != 0 {
            if self.saved_port().ok().flatten() != Some(configured) {
                write_private(&path, format!("{configured}\n").as_bytes())?;
            }
            return Ok(configured);
        }
        if let Some(port) = self.saved_port()? {
            return Ok(port);
        }
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let port = free.map_err(|error| failed("pick a free port for", &path, &error))?.port();
        write_private(&path, format!("{port}\n").as_bytes())?;
        Ok(port)
    }

    fn saved_port(&self) -> Result<Option<u16>, ChildError> {
        let path = self.dir.join(PORT);
        let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        text.parse().map(Some).map_err(|_| ChildError::File {
            doing: "read",
            reason: format!("expected a port, found {text:?}; remove it to have one picked"),
            path,
        })
    }

    /// Writes the server's configuration anew.
    pub(super) fn write_config(&self, server: &Server, secrets: &Secrets) -> Result<(), ChildError> {
        let ca = self.dir.join(CA);
        match &server.tls {
            Some(tls) => {
                let pem = fs::read(&tls.ca).map_err(|error| failed("read", &tls.ca, &error))?;
                write_private(&ca, &pem)?;
            }
            None => match fs::remove_file(&ca) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &ca, &error));
                }
                _ => {}
            },
        }
        write_private(&self.config(), self.render(server, secrets).as_bytes())
    }

    /// The certificate that the server's own is signed by; `None`: it speaks without TLS.
    pub(super) fn ca(&self) -> Option<PathBuf> {
        Some(self.dir.join(CA)).filter(|path| path.exists())
    }

    /// The files of a child that has run before.
    pub(super) fn of(data_dir: &Path) -> Files {
        Files { dir: data_dir.join("bus") }
    }

    /// Three accounts: the server's own, ours, and the monitors', who receive what ours exports and may send only
    /// the one question that reads the event stream.
    fn render(&self, server: &Server, secrets: &Secrets) -> String {
        let store = quote(&self.dir.join("jetstream").to_string_lossy());
        let (name, host, port) = (quote(&server.name), quote(&server.listen.to_string()), server.port);
        let tls = server.tls.as_ref().map_or_else(String::new, |tls| {
            format!(
                "tls {{ cert_file: {}, key_file: {}, timeout: 5 }}\n",
                quote(&tls.certificate.to_string_lossy()),
                quote(&tls.key.to_string_lossy())
            )
        });
        let others = accounts::render(&server.domain, &server.agents, (JOIN, &secrets.join));
        let replay = quote(&format!("$JS.API.DIRECT.GET.{EVENT_STREAM}"));
        let user = |user: &str, password: &str| {
            format!("{{ user: {}, password: {} }}", quote(user), quote(password))
        };
        let (system, own) = (user(SYSTEM, &secrets.system), user(OWN, &secrets.hyperglot));
        let (monitor, password) = (quote(MONITOR), quote(&secrets.monitor));
        format!(
            r#"# Written at every start; changes here are lost.
server_name: {name}
host: {host}
port: {port}
{tls}max_payload: {MAX_PAYLOAD}
logtime: false
jetstream {{ store_dir: {store}, max_memory_store: 64MB, max_file_store: 4GB }}
system_account: SYS
accounts {{
  SYS {{ users: [ {system} ] }}
  HYPERGLOT {{
    jetstream: enabled
    users: [
      {own},
{others}    ]
    exports: [
      {{ stream: "event.>", accounts: [MONITOR] }}
      {{ stream: "metric.>", accounts: [MONITOR] }}
      {{ stream: "task.>", accounts: [MONITOR] }}
      {{ service: {replay}, response_type: "Stream", accounts: [MONITOR] }}
    ]
  }}
  MONITOR {{
    users: [
      {{
        user: {monitor}, password: {password}
        permissions: {{
          publish: {{ allow: [{replay}] }}
          subscribe: {{ allow: ["event.>", "metric.>", "task.>", "_INBOX.>"] }}
        }}
      }}
    ]
    imports: [
      {{ stream: {{ account: HYPERGLOT, subject: "event.>" }} }}
      {{ stream: {{ account: HYPERGLOT, subject: "metric.>" }} }}
      {{ stream: {{ account: HYPERGLOT, subject: "task.>" }} }}
      {{ service: {{ account: HYPERGLOT, subject: {replay} }} }}
    ]
  }}
}}
"#
        )
    }
}

/// A string of the configuration's language.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}

/// A name that tells the server of this start from any other on the same port.
pub(super) fn server_name(ids: &dyn Ids) -> String {
    format!("hyperglot-{}", random_hex(ids, 8))
}

fn random_hex(ids: &dyn Ids, bytes: usize) -> String {
    let mut random = vec![0; bytes];
    ids.fill(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, ChildError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

fn tighten(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ChildError> {
    crate::private::write_private(path, bytes).map_err(|error| failed("write", path, &error))
}

fn failed(doing: &'static str, path: &Path, error: &io::Error) -> ChildError {
    ChildError::File { doing, path: path.to_path_buf(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use union::clock::SeededIds;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn made_once_private_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let ids = SeededIds::new(1);
        let files = Files::open(dir.path()).unwrap();
        let first = files.secrets(&ids).unwrap();
        let port = files.port(0).unwrap();
        let server = Server {
            name: "name".into(),
            listen: Ipv4Addr::LOCALHOST.into(),
            port,
            tls: None,
            domain: "lab".into(),
            agents: vec![AgentAccount { name: "a".into(), nkey: "UA".into() }],
        };
        files.write_config(&server, &first).unwrap();
        assert!(files.ca().is_none());
        let path = files.dir.join("credentials.json");
        assert_eq!((mode(&path), mode(&files.config()), mode(&files.dir)), (0o600, 0o600, 0o700));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

        let again = Files::open(dir.path()).unwrap();
        assert_eq!(again.secrets(&ids).unwrap().monitor, first.monitor);
        assert_eq!(again.port(0).unwrap(), port);
        assert_eq!(again.port(4333).unwrap(), 4333);
        assert_eq!(mode(&path), 0o600);
        assert!(first.monitor != first.hyperglot && first.monitor.len() == 48);
    }

    #[test]
    fn broken_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        fs::write(files.dir.join("credentials.json"), "{}").unwrap();
        fs::write(files.dir.join("port"), "many").unwrap();
        let error = files.secrets(&SeededIds::new(1)).err().unwrap();
        assert!(error.to_string().contains("credentials.json"), "{error}");
        assert!(files.port(0).unwrap_err().to_string().contains("port"));
    }

    #[test]
    fn strings_are_quoted() {
        assert_eq!(quote(r#"a"b\c"#), r#""a\"b\\c""#);
    }
}

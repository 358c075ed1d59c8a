//! Who an agent is on the bus, and whom it trusts. Files in `data_dir`, readable by the owner only.
//!
//! ```text
//! agent.json    its name, the bus, the engine's public key: written once, when it joins
//! agent.keys    its keys: made before it joins       engine.keys   the engine's, made at its first start
//! bus-ca.pem    the certificate that the bus's own is signed by
//! ```

use crate::Failure;
use guard::{Keys, Secret};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use union::Ids;

const AGENT: &str = "agent.json";
const CA: &str = "bus-ca.pem";
/// The keys of an agent.
pub const AGENT_KEYS: &str = "agent.keys";
/// The keys of an engine.
pub const ENGINE_KEYS: &str = "engine.keys";

/// An agent that has joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentIdentity {
    /// Its name in the domain.
    pub name: String,
    /// The domain.
    pub domain: String,
    /// Where the bus is.
    pub url: String,
    /// The engine's public key.
    pub engine: String,
    /// Whether the bus speaks TLS with a certificate of the broker's own authority.
    pub ca: bool,
}

impl AgentIdentity {
    /// The identity that joining left in `data_dir`; `None`: it has not joined.
    pub fn read(data_dir: &Path) -> Result<Option<AgentIdentity>, Failure> {
        let path = data_dir.join(AGENT);
        let wrong =
            |e: &dyn std::fmt::Display| Failure::other(format!("cannot read {}: {e}", path.display()));
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| wrong(&e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(wrong(&e)),
        }
    }

    /// Keeps it, with the certificate to trust.
    pub fn write(&self, data_dir: &Path, ca: Option<&str>) -> Result<(), Failure> {
        if let Some(ca) = ca {
            write_private(&data_dir.join(CA), ca.as_bytes())?;
        }
        let text = serde_json::to_vec_pretty(self).map_err(Failure::other)?;
        write_private(&data_dir.join(AGENT), &text)
    }

    /// The certificate to trust, if there is one.
    pub fn ca(&self, data_dir: &Path) -> Option<PathBuf> {
        self.ca.then(|| data_dir.join(CA))
    }
}

/// The keys in a file, two lines with the seed of each; made at the first call.
pub fn keys(path: &Path, ids: &dyn Ids) -> Result<Keys, Failure> {
    let wrong = |e: &dyn std::fmt::Display| Failure::other(format!("cannot use {}: {e}", path.display()));
    let text = match fs::read_to_string(path) {
        Ok(text) => Secret::new(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let keys = Keys::new(ids);
            let (sign, seal) = keys.seeds().ok_or_else(|| wrong(&"a key has no seed"))?;
            let text = Secret::new(format!("{}\n{}\n", sign.expose(), seal.expose()));
            write_private(path, text.expose().as_bytes())?;
            return Ok(keys);
        }
        Err(e) => return Err(wrong(&e)),
    };
    let mode = fs::metadata(path).map_err(|e| wrong(&e))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(wrong(&format!("its mode is {mode:03o}, expected 600; run chmod 600 on it")));
    }
    let mut lines = text.expose().lines().map(|line| Secret::new(line.to_owned()));
    let keys = lines.next().zip(lines.next()).and_then(|(sign, seal)| Keys::from_seeds(&sign, &seal));
    keys.ok_or_else(|| wrong(&"expected two lines, the seeds of a signing key and of a sealing key"))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    bus::write_private(path, bytes)
        .map_err(|e| Failure::other(format!("cannot write {}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::clock::SeededIds;

    #[test]
    fn keys_are_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ENGINE_KEYS);
        let first = keys(&path, &SeededIds::new(1)).unwrap().public();
        assert_eq!(keys(&path, &SeededIds::new(2)).unwrap().public(), first);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(keys(&path, &SeededIds::new(1)).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn an_identity_is_kept_privately() {
        let dir = tempfile::tempdir().unwrap();
        assert!(AgentIdentity::read(dir.path()).unwrap().is_none());
        let identity = AgentIdentity {
            name: "a".into(),
            domain: "lab".into(),
            url: "tls://b:1".into(),
            engine: "U".into(),
            ca: true,
        };
        identity.write(dir.path(), Some("PEM")).unwrap();
        let back = AgentIdentity::read(dir.path()).unwrap().unwrap();
        assert_eq!((back.name, back.ca), ("a".to_owned(), true));
        let mode = fs::metadata(dir.path().join(AGENT)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
}

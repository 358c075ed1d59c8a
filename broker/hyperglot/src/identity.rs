//! Who this process is on the bus: its keys, and whom it trusts. Files in `data_dir`, readable by the owner only.
//!
//! ```text
//! agent.json    an agent's name, its keys, the bus, the engine's public keys: written once, when it joins
//! engine.json   the engine's keys: made at the first start
//! bus-ca.pem    the certificate that the bus's own is signed by
//! ```

use crate::Failure;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use union::Ids;

const AGENT: &str = "agent.json";
const ENGINE: &str = "engine.json";
const CA: &str = "bus-ca.pem";

/// A signing key and a curve key, as seeds.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// nkey seed, `SU…`.
    pub sign: String,
    /// Curve seed, `SX…`.
    pub seal: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// The public halves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeys {
    /// `U…`.
    pub sign: String,
    /// `X…`.
    pub seal: String,
}

impl Keys {
    /// New ones.
    pub fn new(ids: &dyn Ids) -> Result<Keys, Failure> {
        let (mut sign, mut seal) = ([0; 32], [0; 32]);
        ids.fill(&mut sign);
        ids.fill(&mut seal);
        let sign = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, sign).map_err(Failure::other)?;
        let seal = nkeys::XKey::new_from_raw(seal);
        Ok(Keys {
            sign: sign.seed().map_err(Failure::other)?,
            seal: seal.seed().map_err(Failure::other)?,
        })
    }

    /// The public halves.
    pub fn public(&self) -> Result<PublicKeys, Failure> {
        Ok(PublicKeys {
            sign: nkeys::KeyPair::from_seed(&self.sign).map_err(Failure::other)?.public_key(),
            seal: nkeys::XKey::from_seed(&self.seal).map_err(Failure::other)?.public_key(),
        })
    }
}

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
    /// Its own keys.
    pub keys: Keys,
    /// The engine's.
    pub engine: PublicKeys,
    /// Whether the bus speaks TLS with a certificate of the broker's own authority.
    pub ca: bool,
}

impl AgentIdentity {
    /// The identity that joining left in `data_dir`; `None`: it has not joined.
    pub fn read(data_dir: &Path) -> Result<Option<AgentIdentity>, Failure> {
        read(&data_dir.join(AGENT))
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

/// The engine's keys, made at the first start.
pub fn engine_keys(data_dir: &Path, ids: &dyn Ids) -> Result<Keys, Failure> {
    let path = data_dir.join(ENGINE);
    if let Some(keys) = read(&path)? {
        return Ok(keys);
    }
    let keys = Keys::new(ids)?;
    write_private(&path, &serde_json::to_vec_pretty(&keys).map_err(Failure::other)?)?;
    Ok(keys)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let wrong = |e: &dyn fmt::Display| Failure::other(format!("cannot read {}: {e}", path.display()));
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(&e)),
    };
    let mode = fs::metadata(path).map_err(|e| wrong(&e))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(wrong(&format!("its mode is {mode:03o}, expected 600; run chmod 600 on it")));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|e| wrong(&e))
}

/// Writes a file that only the owner may read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|e| Failure::other(format!("cannot write {}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::clock::SeededIds;

    #[test]
    fn keys_are_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = engine_keys(dir.path(), &SeededIds::new(1)).unwrap().public().unwrap();
        assert_eq!(engine_keys(dir.path(), &SeededIds::new(2)).unwrap().public().unwrap(), first);
        let path = dir.path().join(ENGINE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(engine_keys(dir.path(), &SeededIds::new(1)).unwrap_err().to_string().contains("chmod 600"));
    }
}

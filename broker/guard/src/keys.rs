//! The keys of an engine or an agent: one to sign with (Ed25519), one that secrets are sealed to (X25519). Both are nkeys.
//!
//! They are kept in a file of their own, mode 0600: two lines, the seed of each.

use crate::secret::Secret;
use nkeys::{KeyPair, KeyPairType, XKey};
use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use union::Ids;

/// Why keys cannot be read, made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file system says no.
    #[error("key file {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others may read it.
    #[error("key file {}: mode is {mode:03o}, expected 600; run chmod 600 on it", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key file.
    #[error("key file {}: expected two lines, the seeds of a signing key and of a sealing key", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
    },
    /// Not a public key.
    #[error("`{0}` is no public key: expected an nkey as `hyperglot ctl agent token` prints it")]
    Public(String),
}

/// The keys of one member. Cheap to clone; never shown.
#[derive(Clone)]
pub struct Keys {
    pub(crate) sign: Arc<KeyPair>,
    pub(crate) seal: XKey,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("sign", &self.sign.public_key()).finish_non_exhaustive()
    }
}

impl Keys {
    /// New keys.
    pub fn new(ids: &dyn Ids) -> Keys {
        let (mut sign, mut seal) = ([0; 32], [0; 32]);
        ids.fill(&mut sign);
        ids.fill(&mut seal);
        // A raw key fails for no 32 bytes; what is then used is random too.
        let pair = KeyPair::new_from_raw(KeyPairType::User, sign).unwrap_or_else(|_| KeyPair::new_user());
        Keys { sign: Arc::new(pair), seal: XKey::new_from_raw(seal) }
    }

    /// The keys of two seeds.
    pub fn from_seeds(sign: &Secret, seal: &Secret) -> Option<Keys> {
        let sign = KeyPair::from_seed(sign.expose()).ok()?;
        Some(Keys { sign: Arc::new(sign), seal: XKey::from_seed(seal.expose()).ok()? })
    }

    /// The keys in a file; made with it when there is none.
    pub fn open(path: &Path, ids: &dyn Ids) -> Result<Keys, KeysError> {
        let wrong = |source| KeysError::Io { path: path.to_owned(), source };
        let bad = || KeysError::Content { path: path.to_owned() };
        match fs::metadata(path) {
            Ok(meta) => {
                let mode = meta.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(KeysError::Open { path: path.to_owned(), mode });
                }
                if meta.len() > 1_024 {
                    return Err(bad());
                }
                let text = Secret::new(fs::read_to_string(path).map_err(wrong)?);
                let mut lines = text.expose().lines();
                let mut next = || lines.next().map(Secret::from).ok_or_else(bad);
                Keys::from_seeds(&next()?, &next()?).ok_or_else(bad)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let keys = Keys::new(ids);
                keys.write(path).map_err(wrong)?;
                Ok(keys)
            }
            Err(e) => Err(wrong(e)),
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let (sign, seal) = self.seeds().ok_or_else(|| io::Error::other("a key has no seed"))?;
        let beside = path.with_extension("new");
        match fs::remove_file(&beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(Secret::new(format!("{}\n{}\n", sign.expose(), seal.expose())).expose().as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    /// The seeds of the signing and the sealing key.
    pub fn seeds(&self) -> Option<(Secret, Secret)> {
        Some((Secret::new(self.sign.seed().ok()?), Secret::new(self.seal.seed().ok()?)))
    }

    /// What others verify its signatures with.
    pub fn public(&self) -> Public {
        Public { text: self.sign.public_key().into() }
    }

    /// What others seal secrets to.
    pub fn seal_key(&self) -> String {
        self.seal.public_key()
    }

    /// Signs the parts; `None` only for a key that cannot sign.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        self.sign.sign(&parts.concat()).ok()
    }

    /// The signature that tells agents which key logins are sealed to.
    pub fn prove_seal_key(&self, domain: &str) -> Vec<u8> {
        self.sign(&seal_parts(domain, &self.seal_key())).unwrap_or_default()
    }
}

fn seal_parts<'p>(domain: &'p str, key: &'p str) -> [&'p [u8]; 5] {
    [b"hyperglot seal key", SEPARATOR, domain.as_bytes(), SEPARATOR, key.as_bytes()]
}

pub(crate) const SEPARATOR: &[u8] = &[0x1f];

/// The public key of a member: an nkey's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Public {
    text: Arc<str>,
}

impl Public {
    /// The key with this text.
    ///
    /// # Errors
    /// [`KeysError::Public`]: it is none.
    pub fn new(text: &str) -> Result<Public, KeysError> {
        match KeyPair::from_public_key(text) {
            Ok(_) => Ok(Public { text: text.into() }),
            Err(_) => Err(KeysError::Public(text.chars().take(80).collect())),
        }
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `signature` over the parts was made with its key.
    pub(crate) fn verifies(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        signature.len() == 64
            && KeyPair::from_public_key(&self.text)
                .is_ok_and(|key| key.verify(&parts.concat(), signature).is_ok())
    }

    /// Whether the engine with this key says that logins are sealed to `key`.
    pub fn proves_seal_key(&self, domain: &str, key: &str, proof: &[u8]) -> bool {
        self.verifies(&seal_parts(domain, key), proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::clock::SeededIds;

    #[test]
    fn stay_the_same_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.keys");
        let one = Keys::open(&path, &SeededIds::new(1)).unwrap();
        let two = Keys::open(&path, &SeededIds::new(2)).unwrap();
        assert_eq!((one.public(), one.seal_key()), (two.public(), two.seal_key()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (sign, seal) = one.seeds().unwrap();
        let shown = format!("{one:?}");
        assert!(!shown.contains(sign.expose()) && !shown.contains(seal.expose()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::open(&path, &SeededIds::new(1)), Err(KeysError::Open { mode: 0o644, .. })));
        for bad in ["", "x\ny\n", sign.expose(), &format!("{0}\n{0}\n", sign.expose()), &"S".repeat(2_000)] {
            fs::write(&path, bad).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = Keys::open(&path, &SeededIds::new(1)).unwrap_err();
            assert!(matches!(error, KeysError::Content { .. }));
            assert!(!format!("{error} {error:?}").contains(sign.expose()));
        }
    }

    #[test]
    fn a_seal_key_is_proved_for_its_domain() {
        let (engine, other) = (Keys::new(&SeededIds::new(1)), Keys::new(&SeededIds::new(2)));
        let proof = engine.prove_seal_key("lab");
        assert!(engine.public().proves_seal_key("lab", &engine.seal_key(), &proof));
        assert!(!engine.public().proves_seal_key("other", &engine.seal_key(), &proof));
        assert!(!engine.public().proves_seal_key("lab", &other.seal_key(), &proof));
        assert!(!other.public().proves_seal_key("lab", &engine.seal_key(), &proof));
        assert!(Public::new("U").is_err() && Public::new(&engine.seal_key()).is_err());
        assert_eq!(Public::new(engine.public().text()).unwrap(), engine.public());
    }
}

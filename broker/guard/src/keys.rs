//! The keys of an engine or an agent: one to sign with (Ed25519), one that secrets are sealed to (X25519). Both are nkeys; who keeps
//! their seeds is the binary's business.

use crate::secret::Secret;
use nkeys::{KeyPair, KeyPairType, XKey};
use std::{fmt, sync::Arc};
use union::Ids;

/// The text is no public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no public key: expected an nkey that begins with U")]
pub struct BadKey(pub String);

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
    /// [`BadKey`]: it is none.
    pub fn new(text: &str) -> Result<Public, BadKey> {
        match KeyPair::from_public_key(text) {
            Ok(_) => Ok(Public { text: text.into() }),
            Err(_) => Err(BadKey(text.chars().take(80).collect())),
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
    fn come_back_from_their_seeds_and_are_not_shown() {
        let one = Keys::new(&SeededIds::new(1));
        let (sign, seal) = one.seeds().unwrap();
        let two = Keys::from_seeds(&sign, &seal).unwrap();
        assert_eq!((one.public(), one.seal_key()), (two.public(), two.seal_key()));
        let shown = format!("{one:?}");
        assert!(!shown.contains(sign.expose()) && !shown.contains(seal.expose()));
        assert!(Keys::from_seeds(&seal, &sign).is_none() && Keys::from_seeds(&"".into(), &seal).is_none());
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

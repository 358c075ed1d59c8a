//! Secrets that cross the bus: a login sealed to the engine's key, a session's key sealed to the agent (nkeys xkeys: X25519,
//! XSalsa20-Poly1305, a random nonce of 24 bytes).

use crate::keys::Keys;
use nkeys::XKey;
use prost::Message;
use union::Ids;
use zeroize::Zeroizing;

/// Bytes of what may be sealed or opened.
pub const MOST: usize = 16 * 1_024;

/// Why a secret could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not a key to seal to.
    #[error("the other side's sealing key is none: expected an nkey that begins with X")]
    Key,
    /// Longer than [`MOST`].
    #[error("a sealed message is at most {MOST} bytes")]
    Size,
    /// Sealed by another key, to another key, or changed on the way.
    #[error("a sealed message does not open: it was sealed with other keys, or changed")]
    Closed,
    /// It opened, and is no message of the kind expected.
    #[error("a sealed message opened, and is not what was expected")]
    Content,
}

/// Seals bytes for whoever has the key of `to`.
pub fn seal(keys: &Keys, to: &str, secret: &[u8], ids: &dyn Ids) -> Result<Vec<u8>, SealError> {
    if secret.len() > MOST {
        return Err(SealError::Size);
    }
    let to = XKey::from_public_key(to).map_err(|_| SealError::Key)?;
    let mut nonce = [0; 24];
    ids.fill(&mut nonce);
    keys.seal.seal_with_nonce(secret, &to, nonce.into()).map_err(|_| SealError::Closed)
}

/// Opens what `from` sealed for us.
pub fn open(keys: &Keys, from: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    if sealed.len() > MOST + 64 {
        return Err(SealError::Size);
    }
    let from = XKey::from_public_key(from).map_err(|_| SealError::Key)?;
    keys.seal.open(sealed, &from).map(Zeroizing::new).map_err(|_| SealError::Closed)
}

/// Seals a message.
pub fn seal_message(
    keys: &Keys,
    to: &str,
    message: &impl Message,
    ids: &dyn Ids,
) -> Result<Vec<u8>, SealError> {
    seal(keys, to, &Zeroizing::new(message.encode_to_vec()), ids)
}

/// Opens a message.
pub fn open_message<M: Message + Default>(keys: &Keys, from: &str, sealed: &[u8]) -> Result<M, SealError> {
    M::decode(open(keys, from, sealed)?.as_slice()).map_err(|_| SealError::Content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::{clock::SeededIds, pb};

    #[test]
    fn only_the_other_side_opens_it() {
        let ids = SeededIds::new(9);
        let (agent, engine, eve) = (Keys::new(&ids), Keys::new(&ids), Keys::new(&ids));
        let login = pb::SealedLogin { user: "root".into(), password: "hunter2".into(), ..Default::default() };
        let sealed = seal_message(&agent, &engine.seal_key(), &login, &ids).unwrap();
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
        assert_eq!(open_message::<pb::SealedLogin>(&engine, &agent.seal_key(), &sealed).unwrap(), login);
        assert_eq!(open(&eve, &agent.seal_key(), &sealed), Err(SealError::Closed));
        assert_eq!(open(&engine, &eve.seal_key(), &sealed), Err(SealError::Closed));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(&engine, &agent.seal_key(), &changed), Err(SealError::Closed), "byte {at}");
        }
        for short in 0..sealed.len() {
            assert_eq!(open(&engine, &agent.seal_key(), &sealed[..short]), Err(SealError::Closed));
        }
        let again = seal_message(&agent, &engine.seal_key(), &login, &ids).unwrap();
        assert_ne!(sealed, again);
    }

    #[test]
    fn limits() {
        let ids = SeededIds::new(9);
        let keys = Keys::new(&ids);
        assert_eq!(seal(&keys, &keys.seal_key(), &vec![0; MOST + 1], &ids), Err(SealError::Size));
        assert_eq!(open(&keys, &keys.seal_key(), &vec![0; MOST + 65]), Err(SealError::Size));
        assert_eq!(seal(&keys, keys.public().text(), b"", &ids), Err(SealError::Key));
        assert_eq!(open(&keys, "X", b"").unwrap_err(), SealError::Key);
    }
}

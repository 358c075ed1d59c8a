//! argon2id, in the PHC string form `$argon2id$v=19$m=…,t=…,p=1$salt$hash`.

use crate::secret::Secret;
use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{Output, PasswordHash, PasswordHasher, SaltString},
};
use parking_lot::Mutex;
use union::Ids;

/// Working memory that verifications use one after the other. An allocator that is asked for megabytes by ever other threads
/// keeps them for each; what is kept here is as much as ran at one time.
#[derive(Default)]
pub struct Memory(Mutex<Vec<Vec<Block>>>);

/// The work of one hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB, at least 8.
    pub memory_kib: u32,
    /// Passes over it, at least 1.
    pub passes: u32,
}

impl Default for Cost {
    /// 19 MiB, 2 passes: the lesser of the two settings that OWASP's password storage cheat sheet lists first.
    fn default() -> Cost {
        Cost { memory_kib: 19 * 1024, passes: 2 }
    }
}

impl Cost {
    /// As little as argon2 allows: for tests.
    pub const LEAST: Cost = Cost { memory_kib: 8, passes: 1 };
}

/// Why a password could not be hashed.
#[derive(Debug, thiserror::Error)]
#[error("argon2 refuses: {0}")]
pub struct HashError(String);

/// Hashes `password` with a new salt.
pub fn hash(password: &Secret, cost: Cost, ids: &dyn Ids) -> Result<String, HashError> {
    let refused = |error: &dyn std::fmt::Display| HashError(error.to_string());
    let mut salt = [0; 16];
    ids.fill(&mut salt);
    let salt = SaltString::encode_b64(&salt).map_err(|e| refused(&e))?;
    let params = Params::new(cost.memory_kib, cost.passes, 1, None).map_err(|e| refused(&e))?;
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon.hash_password(password.expose().as_bytes(), &salt).map_err(|e| refused(&e))?;
    Ok(hash.to_string())
}

/// Whether `hash` was made from `password`. The work is what the hash says.
pub fn verify(password: &Secret, hash: &str, memory: &Memory) -> bool {
    let mut blocks = memory.0.lock().pop().unwrap_or_default();
    let good = verify_in(password, hash, &mut blocks).unwrap_or(false);
    memory.0.lock().push(blocks);
    good
}

/// `None`: the hash is none of ours.
fn verify_in(password: &Secret, hash: &str, blocks: &mut Vec<Block>) -> Option<bool> {
    let hash = PasswordHash::new(hash).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let algorithm = Algorithm::try_from(hash.algorithm).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let expected = hash.hash?;
    let mut salt = [0; 64];
    let salt = hash.salt?.decode_b64(&mut salt).ok()?;
    let mut computed = [0; Output::MAX_LENGTH];
    let computed = computed.get_mut(..expected.len())?;
    blocks.resize_with(params.block_count(), Block::default);
    let argon = Argon2::new(algorithm, version, params);
    argon.hash_password_into_with_memory(password.expose().as_bytes(), salt, computed, blocks).ok()?;
    // Outputs are compared in constant time.
    Some(Output::new(computed).ok()? == expected)
}

/// Whether `text` has the form of a hash that [`verify`] can use, with work that a login can afford: at most 256 MiB,
/// 16 passes and 4 lanes.
pub fn is_hash(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|hash| {
        let params = Params::try_from(&hash);
        hash.algorithm == argon2::ARGON2ID_IDENT
            && hash.hash.is_some()
            && hash.salt.is_some()
            && params.is_ok_and(|p| p.m_cost() <= 256 * 1024 && p.t_cost() <= 16 && p.p_cost() <= 4)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::clock::SeededIds;

    #[test]
    fn verifies_only_the_same_password() {
        let (ids, memory) = (SeededIds::new(1), Memory::default());
        let verify = |password: &Secret, hash: &str| verify(password, hash, &memory);
        let one = hash(&"correct".into(), Cost::LEAST, &ids).unwrap();
        let two = hash(&"correct".into(), Cost::LEAST, &ids).unwrap();
        assert_ne!(one, two);
        assert!(one.starts_with("$argon2id$v=19$m=8,t=1,p=1$") && is_hash(&one));
        assert!(verify(&"correct".into(), &one) && verify(&"correct".into(), &two));
        assert!(!verify(&"Correct".into(), &one) && !verify(&"".into(), &one));
        assert!(!verify(&"correct".into(), "correct"));
        let dearer = hash(&"correct".into(), Cost { memory_kib: 64, passes: 2 }, &ids).unwrap();
        assert!(verify(&"correct".into(), &dearer) && verify(&"correct".into(), &one));
        assert_eq!(memory.0.lock().len(), 1, "one after the other they share it");
    }

    #[test]
    fn refuses_hashes_that_cost_too_much() {
        let salt_and_hash = "c2FsdHNhbHRzYWx0$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI";
        assert!(is_hash(&format!("$argon2id$v=19$m=19456,t=2,p=1${salt_and_hash}")));
        for bad in [
            "$argon2id$v=19$m=4194304,t=2,p=1$",
            "$argon2id$v=19$m=19456,t=99,p=1$",
            "$argon2i$v=19$m=19456,t=2,p=1$",
        ] {
            assert!(!is_hash(&format!("{bad}{salt_and_hash}")), "{bad}");
        }
        assert!(!is_hash("plain") && !is_hash(""));
    }
}

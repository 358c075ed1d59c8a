//! Messages between agents and the engine: signed by who says them, fresh, and not said before.
//!
//! ```text
//! signature = Ed25519(domain 0x1f subject 0x1f signer 0x1f at_ms(8, big endian) nonce(16) body)
//! verify: lengths ─▶ signature by the signer's key ─▶ at most 2 minutes off ─▶ nonce not seen in the last 4 minutes
//! ```
//!
//! The signature is looked at before anything is remembered, so strangers fill no table. Limits: [`SIGNERS`], and [`NONCES`] of each in
//! four minutes; beyond it a message is refused, never taken unseen.

use crate::keys::{Keys, Public, SEPARATOR};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use union::{Clock, Ids, pb};

/// How far a message's time may be off, milliseconds.
pub const WINDOW_MS: i64 = 120_000;
/// Messages of one signer that are remembered.
pub const NONCES: usize = 1 << 19;
/// Signers that are remembered.
pub const SIGNERS: usize = 4_096;

/// Why a message is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// Signed by another key, for another subject or domain, or changed.
    #[error("the signature of {signer} does not match: the message was changed, or signed with another key")]
    Signature {
        /// Who it says it is from.
        signer: String,
    },
    /// Too old, or of the future.
    #[error("a message of {signer} is {off_ms} ms off; at most {WINDOW_MS} ms are accepted: set both clocks")]
    Time {
        /// Who it is from.
        signer: String,
        /// How far, milliseconds; negative: of the past.
        off_ms: i64,
    },
    /// Seen before.
    #[error("a message of {signer} was sent a second time; it was not looked at")]
    Replayed {
        /// Who it is from.
        signer: String,
    },
    /// More than can be remembered.
    #[error("{signer} sends more messages than can be told apart; send less")]
    Full {
        /// Who it is from.
        signer: String,
    },
}

fn parts<'p>(
    domain: &'p str,
    subject: &'p str,
    signer: &'p str,
    at: &'p [u8; 8],
    nonce: &'p [u8],
    body: &'p [u8],
) -> [&'p [u8]; 9] {
    let (domain, subject, signer) = (domain.as_bytes(), subject.as_bytes(), signer.as_bytes());
    [domain, SEPARATOR, subject, SEPARATOR, signer, SEPARATOR, at, nonce, body]
}

/// Signs what one member says.
#[derive(Debug)]
pub struct Signer {
    domain: Arc<str>,
    name: Arc<str>,
    keys: Keys,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    ahead_ms: AtomicI64,
}

impl Signer {
    /// Signs as `name`; the engine's is `engine`.
    pub fn new(domain: &str, name: &str, keys: Keys, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Signer {
        let ahead_ms = AtomicI64::new(0);
        Signer { domain: domain.into(), name: name.into(), keys, clock, ids, ahead_ms }
    }

    /// The other side's clock shows `now_ms` now: messages carry its time from here on.
    pub fn agree(&self, now_ms: i64) {
        self.ahead_ms.store(now_ms.saturating_sub(self.clock.now_ms()), Ordering::Release);
    }

    /// `body`, signed for `subject`.
    pub fn sign(&self, subject: &str, body: Vec<u8>) -> pb::Signed {
        let at_ms = self.clock.now_ms().saturating_add(self.ahead_ms.load(Ordering::Acquire));
        let mut nonce = [0; 16];
        self.ids.fill(&mut nonce);
        let at = at_ms.to_be_bytes();
        let parts = parts(&self.domain, subject, &self.name, &at, &nonce, &body);
        let signature = self.keys.sign(&parts).unwrap_or_default();
        pb::Signed { signer: self.name.to_string(), at_ms, nonce: nonce.to_vec(), signature, body }
    }
}

/// The nonces of one signer, in two generations, each of [`WINDOW_MS`] twice: what is older is refused by its time.
#[derive(Debug, Default)]
struct Seen {
    since: Duration,
    now: FxHashSet<u64>,
    before: FxHashSet<u64>,
}

/// Verifies what members say. One for each place where messages arrive.
#[derive(Debug)]
pub struct Verifier {
    domain: Arc<str>,
    clock: Arc<dyn Clock>,
    seen: Mutex<FxHashMap<Box<str>, Seen>>,
    nonces: usize,
}

impl Verifier {
    /// Nothing seen yet.
    pub fn new(domain: &str, clock: Arc<dyn Clock>) -> Verifier {
        Verifier { domain: domain.into(), clock, seen: Mutex::default(), nonces: NONCES }
    }

    /// Whether the message is `signer`'s, whose key is `key`, said on `subject` just now and for the first time. The caller has looked
    /// the key up by `message.signer`.
    ///
    /// # Errors
    /// What is wrong; nothing is remembered of a message that its signer did not sign.
    pub fn verify(&self, subject: &str, message: &pb::Signed, key: &Public) -> Result<(), SignedError> {
        let signer = || message.signer.chars().take(64).collect::<String>();
        let at = message.at_ms.to_be_bytes();
        let parts = parts(&self.domain, subject, &message.signer, &at, &message.nonce, &message.body);
        if message.nonce.len() != 16 || !key.verifies(&parts, &message.signature) {
            return Err(SignedError::Signature { signer: signer() });
        }
        let off_ms = message.at_ms.saturating_sub(self.clock.now_ms());
        if off_ms.saturating_abs() > WINDOW_MS {
            return Err(SignedError::Time { signer: signer(), off_ms });
        }
        // The first half of 16 random bytes tells messages apart as well as needed and costs half the memory.
        let nonce = message.nonce.first_chunk::<8>().map_or(0, |first| u64::from_le_bytes(*first));
        self.remember(&message.signer, nonce).map_err(|full| match full {
            true => SignedError::Full { signer: signer() },
            false => SignedError::Replayed { signer: signer() },
        })
    }

    /// `Err(true)`: there is no room; `Err(false)`: it was seen.
    fn remember(&self, signer: &str, nonce: u64) -> Result<(), bool> {
        let now = self.clock.monotonic();
        let generation = Duration::from_millis(WINDOW_MS.unsigned_abs() * 2);
        let mut all = self.seen.lock();
        if all.len() >= SIGNERS && !all.contains_key(signer) {
            all.retain(|_, seen| now.saturating_sub(seen.since) < generation * 2);
            if all.len() >= SIGNERS {
                return Err(true);
            }
        }
        let seen = all.entry(signer.into()).or_insert_with(|| Seen { since: now, ..Seen::default() });
        let age = now.saturating_sub(seen.since);
        if age >= generation {
            let last = std::mem::take(&mut seen.now);
            seen.before = if age >= generation * 2 { FxHashSet::default() } else { last };
            seen.since = now;
        }
        if seen.now.contains(&nonce) || seen.before.contains(&nonce) {
            return Err(false);
        }
        if seen.now.len() >= self.nonces {
            return Err(true);
        }
        seen.now.insert(nonce);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

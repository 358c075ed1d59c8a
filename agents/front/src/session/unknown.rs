//! Keys that are not known here. Each is asked about once at a time; that there is no session of a key is remembered for a while, and who
//! shows too many such keys waits, so that guessing costs the guesser and not the engine.
//!
//! Limits: 512 keys asked about at a time, one more is answered Busy; 4,096 keys remembered; 64 wrong keys of a remote before its waits begin.

use guard::{
    LoginError,
    limiter::{Limiter, Limits},
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::{
    net::IpAddr,
    sync::{Arc, Weak},
    time::Duration,
};

/// Keys asked about at a time.
const ASKED: usize = 512;
/// Keys remembered.
const REMEMBERED: usize = 4_096;
/// Bytes of a key that is worth asking about.
const KEY: usize = 128;
/// How long it is remembered that there is no session of a key: another front may begin one, but never with a key of the past.
const MISSING: Duration = Duration::from_secs(30);
/// How long a session that was ended here is remembered as ended, whether or not the engine was told.
const ENDED: Duration = Duration::from_secs(30 * 60);

const WRONG: Limits = Limits {
    per_name: 64,
    per_remote: 64,
    first_wait: Duration::from_secs(1),
    longest_wait: Duration::from_secs(15),
    forget: Duration::from_secs(5 * 60),
    entries: 4_096,
};

type Turn = tokio::sync::Mutex<()>;

#[derive(Debug)]
pub(super) struct Unknown {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    asked: FxHashMap<Box<str>, Weak<Turn>>,
    /// Until when a key is known to name nothing.
    missing: FxHashMap<Box<str>, Duration>,
    limiter: Limiter,
}

impl Default for Unknown {
    fn default() -> Unknown {
        let inner = Inner {
            asked: FxHashMap::default(),
            missing: FxHashMap::default(),
            limiter: Limiter::new(WRONG),
        };
        Unknown { inner: Mutex::new(inner) }
    }
}

impl Unknown {
    /// The turn to ask about a key; `None`: it is not worth asking, there is no session of it.
    pub(super) fn ask(
        &self,
        key: &str,
        remote: IpAddr,
        now: Duration,
    ) -> Result<Option<Arc<Turn>>, LoginError> {
        if key.is_empty() || key.len() > KEY || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(None);
        }
        let mut inner = self.inner.lock();
        if inner.missing.get(key).is_some_and(|until| now < *until) {
            return Ok(None);
        }
        if !inner.limiter.wait(remote, "", now).is_zero() {
            return Ok(None);
        }
        if let Some(turn) = inner.asked.get(key).and_then(Weak::upgrade) {
            return Ok(Some(turn));
        }
        if inner.asked.len() >= ASKED {
            inner.asked.retain(|_, turn| turn.strong_count() > 0);
        }
        if inner.asked.len() >= ASKED {
            return Err(LoginError::Busy);
        }
        let turn = Arc::new(Turn::default());
        inner.asked.insert(key.into(), Arc::downgrade(&turn));
        Ok(Some(turn))
    }

    /// Whether a key is known to name nothing.
    pub(super) fn is_missing(&self, key: &str, now: Duration) -> bool {
        self.inner.lock().missing.get(key).is_some_and(|until| now < *until)
    }

    /// There is no session of this key.
    pub(super) fn missing(&self, key: &str, remote: IpAddr, now: Duration) {
        let mut inner = self.inner.lock();
        inner.limiter.wrong(remote, "", now);
        inner.remember(key, now, MISSING);
    }

    /// The session of this key was ended.
    pub(super) fn ended(&self, key: &str, now: Duration) {
        self.inner.lock().remember(key, now, ENDED);
    }
}

impl Inner {
    fn remember(&mut self, key: &str, now: Duration, how_long: Duration) {
        if self.missing.len() >= REMEMBERED {
            self.missing.retain(|_, until| now < *until);
        }
        if self.missing.len() >= REMEMBERED
            && let Some(soonest) =
                self.missing.iter().min_by_key(|(_, until)| **until).map(|(key, _)| key.clone())
        {
            self.missing.remove(&soonest);
        }
        self.missing.insert(key.into(), now + how_long);
    }
}

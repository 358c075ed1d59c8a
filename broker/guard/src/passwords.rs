//! Is this the user's password? As many guesses as [`Limits`] allow, and no more work at a time than the machine bears.
//!
//! `limiter? -> a permit (2 hashes at a time, 64 waiting) -> limiter? -> hash -> record -> answer`
//!
//! An unknown name costs the same hash as a wrong password.

use crate::{
    hash::{self, Cost},
    limiter::{Limiter, Limits},
    secret::Secret,
    users::NAME_BYTES,
};
use parking_lot::Mutex;
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;
use union::{Clock, Ids};

/// Hashes computed at a time: each takes [`Cost::memory_kib`].
const AT_A_TIME: usize = 2;
/// Logins that wait for one of them.
const WAITING: usize = 64;
const PASSWORD_BYTES: usize = 1024;

/// What logins are checked with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// The work of new hashes, and of a login with an unknown name.
    pub cost: Cost,
    /// How often a password may be wrong.
    pub limits: Limits,
}

/// Why somebody could not log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// No such user, or another password; which of the two is not said.
    #[error("the user name or password is wrong")]
    Wrong,
    /// Too many wrong passwords; the password was not looked at.
    #[error("too many wrong passwords; try again in {} s", retry_after.as_millis().div_ceil(1000))]
    RateLimited {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many logins or sessions at once.
    #[error("too many logins or sessions at once; end some, or try again")]
    Busy,
    /// The engine, which answers logins, cannot be reached.
    #[error("logins are answered by the engine, which cannot be reached now; try again")]
    Away,
}

/// Checks passwords.
pub struct Passwords {
    limiter: Arc<Mutex<Limiter>>,
    clock: Arc<dyn Clock>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    memory: Arc<hash::Memory>,
    /// What an unknown name's password is compared with.
    nobody: Arc<str>,
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passwords").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

/// One login that waits; gone when dropped.
struct Waiting<'g>(&'g AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Passwords {
    /// Nothing was guessed yet.
    ///
    /// # Errors
    /// argon2 refuses the cost.
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        ids: &dyn Ids,
    ) -> Result<Passwords, hash::HashError> {
        let mut random = [0; 16];
        ids.fill(&mut random);
        let nobody = hash::hash(&Secret::new(format!("{random:?}")), settings.cost, ids)?;
        Ok(Passwords {
            limiter: Arc::new(Mutex::new(Limiter::new(settings.limits))),
            clock,
            permits: Arc::new(Semaphore::new(AT_A_TIME)),
            waiting: AtomicUsize::new(0),
            memory: Arc::default(),
            nobody: nobody.into(),
        })
    }

    /// A user's name as it is looked up and counted: no longer than a name may be.
    pub fn name(name: &str) -> Arc<str> {
        name.get(..name.floor_char_boundary(NAME_BYTES)).unwrap_or_default().into()
    }

    /// Checks a password against the hash that `find` knows under the name, and gives that hash. A login whose caller goes away is still
    /// counted.
    ///
    /// # Errors
    /// [`LoginError`], never [`LoginError::Away`].
    pub async fn check(
        &self,
        name: &Arc<str>,
        password: &Secret,
        remote: IpAddr,
        find: impl FnOnce() -> Option<Arc<str>>,
    ) -> Result<Arc<str>, LoginError> {
        self.limit(name, remote)?;
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= WAITING + AT_A_TIME {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(LoginError::Busy);
        }
        let waiting = Waiting(&self.waiting);
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| LoginError::Busy)?;
        // Those before us may have used the last free try.
        self.limit(name, remote)?;
        let found = find();
        let known = found.is_some() && password.expose().len() <= PASSWORD_BYTES;
        let hash = found.unwrap_or_else(|| Arc::clone(&self.nobody));
        let (limiter, clock, password) =
            (Arc::clone(&self.limiter), Arc::clone(&self.clock), password.clone());
        let (counted, memory, compared) = (Arc::clone(name), Arc::clone(&self.memory), Arc::clone(&hash));
        let verified = tokio::task::spawn_blocking(move || {
            let good = hash::verify(&password, &compared, &memory) && known;
            let now = clock.monotonic();
            match good {
                true => limiter.lock().right(remote, &counted, now),
                false => limiter.lock().wrong(remote, &counted, now),
            }
            drop(permit);
            good
        });
        let good = verified.await.map_err(|_| LoginError::Busy)?;
        drop(waiting);
        if good { Ok(hash) } else { Err(LoginError::Wrong) }
    }

    fn limit(&self, name: &str, remote: IpAddr) -> Result<(), LoginError> {
        let wait = self.limiter.lock().wait(remote, name, self.clock.monotonic());
        if wait.is_zero() { Ok(()) } else { Err(LoginError::RateLimited { retry_after: wait }) }
    }
}

#[cfg(test)]
mod tests;

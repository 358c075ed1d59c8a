//! Login and authorize.

use crate::{
    hash::{self, Cost},
    limiter::{Limiter, Limits},
    secret::Secret,
    users::{NAME_BYTES, Role, Users},
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
use union::{
    Clock, Ids, ObjectId,
    command::{Cause, Class, Code},
};

/// Hashes computed at a time: each takes [`Cost::memory_kib`].
const AT_A_TIME: usize = 2;
/// Logins that wait for one of them.
const WAITING: usize = 64;
const PASSWORD_BYTES: usize = 1024;

/// What a guard is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// The work of new hashes, and of a login with an unknown name.
    pub cost: Cost,
    /// How often a password may be wrong.
    pub limits: Limits,
}

/// Somebody who logged in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Their name.
    pub name: Arc<str>,
    /// Their role at login; [`Guard::authorize`] goes by the present one.
    pub role: Role,
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
    /// Too many logins at once; the password was not looked at.
    #[error("too many logins at once; try again")]
    Busy,
}

/// Logs users in and says what they may do.
pub struct Guard {
    users: Arc<Users>,
    limiter: Arc<Mutex<Limiter>>,
    clock: Arc<dyn Clock>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    memory: Arc<hash::Memory>,
    /// What an unknown name's password is compared with.
    nobody: Arc<str>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("users", &self.users.path()).finish_non_exhaustive()
    }
}

/// One login that waits; gone when dropped.
struct Waiting<'g>(&'g AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Guard {
    /// A guard over `users`.
    pub fn new(
        users: Arc<Users>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        ids: &dyn Ids,
    ) -> Result<Arc<Guard>, hash::HashError> {
        let mut random = [0; 16];
        ids.fill(&mut random);
        let nobody = hash::hash(&Secret::new(format!("{random:?}")), settings.cost, ids)?;
        Ok(Arc::new(Guard {
            users,
            limiter: Arc::new(Mutex::new(Limiter::new(settings.limits))),
            clock,
            permits: Arc::new(Semaphore::new(AT_A_TIME)),
            waiting: AtomicUsize::new(0),
            memory: Arc::default(),
            nobody: nobody.into(),
        }))
    }

    /// The users it knows.
    pub fn users(&self) -> &Arc<Users> {
        &self.users
    }

    /// Checks a password. A login whose caller goes away is still counted.
    pub async fn login(
        &self,
        name: &str,
        password: &Secret,
        remote: IpAddr,
    ) -> Result<Principal, LoginError> {
        let name: Arc<str> = name.get(..name.floor_char_boundary(NAME_BYTES)).unwrap_or_default().into();
        self.check(&name, remote)?;
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= WAITING + AT_A_TIME {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(LoginError::Busy);
        }
        let waiting = Waiting(&self.waiting);
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| LoginError::Busy)?;
        // Those before us may have used the last free try.
        self.check(&name, remote)?;
        let user = self.users.get(&name);
        let hash = user.as_ref().map_or_else(|| Arc::clone(&self.nobody), |user| Arc::clone(&user.hash));
        let (limiter, clock, password) =
            (Arc::clone(&self.limiter), Arc::clone(&self.clock), password.clone());
        let (counted, memory) = (Arc::clone(&name), Arc::clone(&self.memory));
        let known = user.is_some() && password.expose().len() <= PASSWORD_BYTES;
        let verified = tokio::task::spawn_blocking(move || {
            let good = hash::verify(&password, &hash, &memory) && known;
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
        match user.filter(|_| good) {
            Some(user) => {
                tracing::info!(user = %name, %remote, "logged in");
                Ok(Principal { name, role: user.role })
            }
            None => {
                tracing::warn!(user = %name.escape_debug(), %remote, "login refused: wrong name or password");
                Err(LoginError::Wrong)
            }
        }
    }

    fn check(&self, name: &str, remote: IpAddr) -> Result<(), LoginError> {
        let wait = self.limiter.lock().wait(remote, name, self.clock.monotonic());
        if wait.is_zero() { Ok(()) } else { Err(LoginError::RateLimited { retry_after: wait }) }
    }

    /// Whether `principal` may send a command of `class`, called `verb`, to `object`.
    pub fn authorize(
        &self,
        principal: &Principal,
        verb: &str,
        class: Class,
        object: ObjectId,
    ) -> Result<(), Cause> {
        let refused = |why: &str| {
            let message = format!("{verb} on {object} refused: {} {why}", principal.name);
            Cause::new(Code::Permission, message)
        };
        match self.users.get(&principal.name).map(|user| user.role) {
            Some(Role::Admin) => Ok(()),
            Some(Role::ReadOnly) if class == Class::Read => Ok(()),
            Some(Role::ReadOnly) => Err(refused("may only read; the role admin is needed")),
            None => Err(refused("is no user any more")),
        }
    }
}

#[cfg(test)]
mod tests;

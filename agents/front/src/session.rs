//! Who is logged in here. The sessions themselves are the engine's: they live in the whole fleet and survive a restart; what a front
//! keeps for one (filters, waits) dies with the front.
//!
//! ```text
//! login ───────────────▶ live ──no request for `idle`──▶ forgotten here; a later request with its key resumes it, if the engine still has it
//! unknown key ─resume─▶   │
//!                         └──`Pass::ended` (revoked, expired, logged out anywhere), or `end`──▶ over
//! either: `ended` is cancelled: what waits for it answers
//! ```
//!
//! A session with a request in flight is not idle, however long the request waits; the engine is told of use at each request, and once a
//! minute while one is in flight.
//! Limits: sessions in all, and of one user; a full table refuses the login. Unknown keys: see `unknown`.

mod unknown;

use guard::{Applicant, LoginError, Logins, Pass, Secret};
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use union::Clock;
use unknown::Unknown;

/// The figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A session without a request for this long is forgotten here.
    pub idle: Duration,
    /// Sessions in all.
    pub most: usize,
    /// Sessions of one user: one user's scripts must leave room for everybody else.
    pub per_user: usize,
}

impl Default for Settings {
    /// 30 minutes, as vendors' servers have it.
    fn default() -> Settings {
        Settings { idle: Duration::from_secs(30 * 60), most: 4_096, per_user: 1_024 }
    }
}

/// The table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {limit} sessions already; end some, or wait until idle ones expire")]
pub struct SessionsFull {
    /// The limit that was reached.
    pub limit: usize,
}

/// Why a session did not begin.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// The engine said no.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// No room here.
    #[error(transparent)]
    Full(#[from] SessionsFull),
}

/// One login, with what its front keeps for it.
pub struct Session<T> {
    /// The login.
    pub pass: Pass,
    /// A name for it that may be shown.
    pub id: Arc<str>,
    /// Who logged in.
    pub principal: Arc<str>,
    /// From where; after a resumption: where it was seen first.
    pub remote: IpAddr,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// The front's own.
    pub data: T,
    /// Cancelled when the session ends here.
    pub ended: CancellationToken,
    last_active_ms: AtomicI64,
    /// On the monotonic clock, milliseconds.
    touched: AtomicI64,
    in_flight: AtomicUsize,
    calls: AtomicUsize,
    clock: Arc<dyn Clock>,
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

impl<T> Session<T> {
    /// The secret that names it: for the client alone.
    pub fn key(&self) -> &Secret {
        &self.pass.key
    }

    /// When its last request began or ended, Unix milliseconds.
    pub fn last_active_ms(&self) -> i64 {
        self.last_active_ms.load(Ordering::Acquire)
    }

    /// Requests so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    fn touch(&self) {
        self.last_active_ms.store(self.clock.now_ms(), Ordering::Release);
        self.touched.store(millis(self.clock.monotonic()), Ordering::Release);
    }

    fn is_idle(&self, idle: Duration) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0
            && millis(self.clock.monotonic()) - self.touched.load(Ordering::Acquire) >= millis(idle)
    }

    fn is_over(&self, idle: Duration) -> bool {
        self.ended.is_cancelled() || self.is_idle(idle)
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A request of a session; while it lives the session is not idle.
#[derive(Debug)]
pub struct Active<T> {
    session: Arc<Session<T>>,
    logins: Arc<dyn Logins>,
}

impl<T> Active<T> {
    fn new(session: Arc<Session<T>>, logins: Arc<dyn Logins>) -> Active<T> {
        session.in_flight.fetch_add(1, Ordering::AcqRel);
        session.calls.fetch_add(1, Ordering::AcqRel);
        session.touch();
        logins.used(&session.pass);
        Active { session, logins }
    }

    /// The session itself.
    pub fn session(&self) -> &Arc<Session<T>> {
        &self.session
    }
}

impl<T> std::ops::Deref for Active<T> {
    type Target = Session<T>;

    fn deref(&self) -> &Session<T> {
        &self.session
    }
}

impl<T> Drop for Active<T> {
    fn drop(&mut self) {
        self.session.touch();
        self.session.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.logins.used(&self.session.pass);
    }
}

/// All sessions of one front.
pub struct Sessions<T> {
    settings: Settings,
    clock: Arc<dyn Clock>,
    logins: Arc<dyn Logins>,
    protocol: &'static str,
    live: RwLock<FxHashMap<Arc<str>, Arc<Session<T>>>>,
    unknown: Unknown,
}

impl<T> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("live", &self.live.read().len()).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// No sessions yet. `logins` answers for all of them; `protocol` is the front's.
    pub fn new(
        settings: Settings,
        clock: Arc<dyn Clock>,
        logins: Arc<dyn Logins>,
        protocol: &'static str,
    ) -> Arc<Sessions<T>> {
        Arc::new(Sessions {
            settings,
            clock,
            logins,
            protocol,
            live: RwLock::default(),
            unknown: Unknown::default(),
        })
    }

    /// Who answers for the sessions.
    pub fn logins(&self) -> &Arc<dyn Logins> {
        &self.logins
    }

    /// Logs somebody in. `data` makes what the front keeps for the session, once it is certain that there is one; it must not call back.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn login(
        &self,
        user: &str,
        password: &Secret,
        remote: IpAddr,
        data: impl FnOnce(&Pass) -> T,
    ) -> Result<Arc<Session<T>>, Refused> {
        let applicant = Applicant { user, password, remote, protocol: self.protocol };
        let pass = self.logins.login(applicant).await?;
        self.admit(pass, remote, data).await
    }

    /// Begins another session of the same principal.
    ///
    /// # Errors
    /// [`Refused`]
    pub async fn again(
        &self,
        session: &Session<T>,
        remote: IpAddr,
        data: impl FnOnce(&Pass) -> T,
    ) -> Result<Arc<Session<T>>, Refused> {
        let pass = self.logins.again(&session.pass, remote).await?;
        self.admit(pass, remote, data).await
    }

    async fn admit(
        &self,
        pass: Pass,
        remote: IpAddr,
        data: impl FnOnce(&Pass) -> T,
    ) -> Result<Arc<Session<T>>, Refused> {
        match self.insert(pass.clone(), remote, data) {
            Ok(session) => Ok(session),
            Err(full) => {
                self.logins.end(&pass).await;
                Err(full.into())
            }
        }
    }

    fn insert(
        &self,
        pass: Pass,
        remote: IpAddr,
        data: impl FnOnce(&Pass) -> T,
    ) -> Result<Arc<Session<T>>, SessionsFull> {
        if self.live.read().len() >= self.settings.most {
            self.sweep();
        }
        let mut live = self.live.write();
        if live.len() >= self.settings.most {
            return Err(SessionsFull { limit: self.settings.most });
        }
        let of_user = live.values().filter(|s| s.principal == pass.principal && !s.ended.is_cancelled());
        if of_user.count() >= self.settings.per_user {
            return Err(SessionsFull { limit: self.settings.per_user });
        }
        let session = Arc::new(Session {
            id: Arc::clone(&pass.session),
            principal: Arc::clone(&pass.principal),
            remote,
            created_ms: pass.created_ms,
            data: data(&pass),
            ended: pass.ended.child_token(),
            last_active_ms: AtomicI64::new(self.clock.now_ms()),
            touched: AtomicI64::new(millis(self.clock.monotonic())),
            in_flight: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            clock: Arc::clone(&self.clock),
            pass,
        });
        live.insert(session.key().expose().into(), Arc::clone(&session));
        Ok(session)
    }

    /// The session with this key, marked active until the answer is dropped; `None`: there is none. A key that is not known here is
    /// asked about; `data` then makes what the front keeps, and `begun` is called for the new session, before anybody has it.
    ///
    /// # Errors
    /// [`LoginError`]: whether there is one cannot be said now.
    pub async fn enter(
        &self,
        key: &str,
        remote: IpAddr,
        data: impl FnOnce(&Pass) -> T,
        begun: impl FnOnce(&Arc<Session<T>>),
    ) -> Result<Option<Active<T>>, LoginError> {
        let active = |session| Active::new(session, Arc::clone(&self.logins));
        if let Some(session) = self.peek(key) {
            return Ok(Some(active(session)));
        }
        let now = || self.clock.monotonic();
        let Some(turn) = self.unknown.ask(key, remote, now())? else { return Ok(None) };
        let _turn = turn.lock().await;
        // Whoever asked before us may have found it, or found that there is none.
        if let Some(session) = self.peek(key) {
            return Ok(Some(active(session)));
        }
        if self.unknown.is_missing(key, now()) {
            return Ok(None);
        }
        let Some(pass) = self.logins.resume(&Secret::new(key), self.protocol).await? else {
            self.unknown.missing(key, remote, now());
            return Ok(None);
        };
        match self.insert(pass, remote, data) {
            Ok(session) => {
                begun(&session);
                Ok(Some(active(session)))
            }
            Err(full) => {
                tracing::warn!(limit = full.limit, "a session that began elsewhere is not resumed");
                Err(LoginError::Busy)
            }
        }
    }

    /// The live session with this key, if it is known here, without marking it.
    pub fn peek(&self, key: &str) -> Option<Arc<Session<T>>> {
        let session = self.live.read().get(key).cloned()?;
        if session.is_over(self.settings.idle) {
            self.forget(key);
            return None;
        }
        Some(session)
    }

    /// Ends a session everywhere.
    pub async fn end(&self, session: &Session<T>) {
        let key = session.key().expose();
        self.forget(key);
        self.unknown.ended(key, self.clock.monotonic());
        self.logins.end(&session.pass).await;
    }

    /// Forgets what is kept here of the session with this key; whether there was any.
    fn forget(&self, key: &str) -> bool {
        let session = self.live.write().remove(key);
        session.inspect(|session| session.ended.cancel()).is_some()
    }

    /// Forgets every session, as when the front closes; they go on elsewhere. How many there were.
    pub fn forget_all(&self) -> usize {
        self.forget_where(|_| true)
    }

    /// Forgets those that `ends` says; how many.
    pub fn forget_where(&self, ends: impl Fn(&Session<T>) -> bool) -> usize {
        let mut gone = Vec::new();
        self.live.write().retain(|_, session| {
            let ends = ends(session);
            if ends {
                gone.push(Arc::clone(session));
            }
            !ends
        });
        gone.iter().for_each(|session| session.ended.cancel());
        gone.len()
    }

    /// The sessions that are live here, oldest first.
    pub fn list(&self) -> Vec<Arc<Session<T>>> {
        self.sweep();
        let mut all: Vec<_> = self.live.read().values().cloned().collect();
        all.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        all
    }

    /// Forgets idle sessions and those that ended elsewhere; how many.
    pub fn sweep(&self) -> usize {
        self.forget_where(|session| session.is_over(self.settings.idle))
    }

    /// Sweeps once a minute for as long as the future is polled, and says which sessions are in use: a long wait is use.
    pub async fn keep_swept(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let ended = self.sweep();
            if ended > 0 {
                tracing::debug!(ended, "sessions ended");
            }
            let live: Vec<_> = self.live.read().values().cloned().collect();
            for session in live.iter().filter(|s| s.in_flight.load(Ordering::Acquire) > 0) {
                self.logins.used(&session.pass);
            }
        }
    }
}

#[cfg(test)]
mod tests;

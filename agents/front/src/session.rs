//! Who is logged in where. Sessions end by logout, by being idle, by being revoked, and with the process.
//!
//! ```text
//! create ─▶ live ──no request for `idle`──▶ expired ─┐
//!            │                                        ├─▶ `ended` is cancelled: what waits for it answers
//!            └──revoke (logout, an administrator)─────┘
//! ```
//!
//! A session with a request in flight is not idle, however long the request waits.
//! Limits: sessions in all, and of one user; a full table refuses the login.

use guard::Principal;
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
use union::{Clock, Ids};

/// The figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A session without a request for this long ends.
    pub idle: Duration,
    /// Sessions in all.
    pub most: usize,
    /// Sessions of one user.
    pub per_user: usize,
}

impl Default for Settings {
    /// 30 minutes, as vendors' servers have it.
    fn default() -> Settings {
        Settings { idle: Duration::from_secs(30 * 60), most: 4_096, per_user: 2_048 }
    }
}

/// The table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {limit} sessions already; end some, or wait until idle ones expire")]
pub struct SessionsFull {
    /// The limit that was reached.
    pub limit: usize,
}

/// One login, with what its front keeps for it.
pub struct Session<T> {
    /// The secret that names it.
    key: Arc<str>,
    /// A name for it that may be shown.
    pub id: Arc<str>,
    /// Who logged in.
    pub principal: Principal,
    /// From where.
    pub remote: IpAddr,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// The front's own.
    pub data: T,
    /// Cancelled when the session ends.
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
    pub fn key(&self) -> &Arc<str> {
        &self.key
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
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A request of a session; while it lives the session is not idle.
#[derive(Debug)]
pub struct Active<T> {
    session: Arc<Session<T>>,
}

impl<T> Active<T> {
    fn new(session: Arc<Session<T>>) -> Active<T> {
        session.in_flight.fetch_add(1, Ordering::AcqRel);
        session.calls.fetch_add(1, Ordering::AcqRel);
        session.touch();
        Active { session }
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
    }
}

/// All sessions of one front.
pub struct Sessions<T> {
    settings: Settings,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    live: RwLock<FxHashMap<Arc<str>, Arc<Session<T>>>>,
}

impl<T> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("live", &self.live.read().len()).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// No sessions yet.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Arc<Sessions<T>> {
        Arc::new(Sessions { settings, clock, ids, live: RwLock::default() })
    }

    /// Starts a session. Its key is 40 random hexadecimal digits.
    pub fn create(
        &self,
        principal: Principal,
        remote: IpAddr,
        data: T,
    ) -> Result<Arc<Session<T>>, SessionsFull> {
        let mut secret = [0; 20];
        self.ids.fill(&mut secret);
        let key: Arc<str> = secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
        let now = self.clock.now_ms();
        let session = Arc::new(Session {
            key: Arc::clone(&key),
            id: self.ids.uuid().to_string().into(),
            principal,
            remote,
            created_ms: now,
            data,
            ended: CancellationToken::new(),
            last_active_ms: AtomicI64::new(now),
            touched: AtomicI64::new(millis(self.clock.monotonic())),
            in_flight: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            clock: Arc::clone(&self.clock),
        });
        if self.live.read().len() >= self.settings.most {
            self.sweep();
        }
        let mut live = self.live.write();
        if live.len() >= self.settings.most {
            return Err(SessionsFull { limit: self.settings.most });
        }
        let of_user = live.values().filter(|s| s.principal.name == session.principal.name).count();
        if of_user >= self.settings.per_user {
            return Err(SessionsFull { limit: self.settings.per_user });
        }
        live.insert(key, Arc::clone(&session));
        Ok(session)
    }

    /// The live session with this key, marked active until the answer is dropped.
    pub fn enter(&self, key: &str) -> Option<Active<T>> {
        let session = self.peek(key)?;
        Some(Active::new(session))
    }

    /// The live session with this key, without marking it.
    pub fn peek(&self, key: &str) -> Option<Arc<Session<T>>> {
        let session = self.live.read().get(key).cloned()?;
        if session.is_idle(self.settings.idle) {
            self.revoke(key);
            return None;
        }
        Some(session)
    }

    /// Ends the session with this key; whether there was one.
    pub fn revoke(&self, key: &str) -> bool {
        let session = self.live.write().remove(key);
        session.inspect(|session| session.ended.cancel()).is_some()
    }

    /// Ends the session that is shown as `id`.
    pub fn revoke_id(&self, id: &str) -> bool {
        self.revoke_where(|session| *session.id == *id) > 0
    }

    /// Ends every session of the user called `name`; how many there were.
    pub fn revoke_user(&self, name: &str) -> usize {
        self.revoke_where(|session| *session.principal.name == *name)
    }

    /// Ends every session; how many there were.
    pub fn revoke_all(&self) -> usize {
        self.revoke_where(|_| true)
    }

    fn revoke_where(&self, ends: impl Fn(&Session<T>) -> bool) -> usize {
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

    /// The live sessions, oldest first.
    pub fn list(&self) -> Vec<Arc<Session<T>>> {
        self.sweep();
        let mut all: Vec<_> = self.live.read().values().cloned().collect();
        all.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        all
    }

    /// Ends idle sessions; how many.
    pub fn sweep(&self) -> usize {
        self.revoke_where(|session| session.is_idle(self.settings.idle))
    }

    /// Sweeps once a minute for as long as the future is polled.
    pub async fn keep_swept(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let ended = self.sweep();
            if ended > 0 {
                tracing::debug!(ended, "idle sessions ended");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard::Role;
    use union::clock::{ManualClock, SeededIds};

    fn sessions(settings: Settings) -> (Arc<Sessions<u32>>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(1_000));
        (Sessions::new(settings, Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(SeededIds::new(1))), clock)
    }

    fn create(sessions: &Sessions<u32>, name: &str) -> Result<Arc<Session<u32>>, SessionsFull> {
        let principal = Principal { name: name.into(), role: Role::Admin };
        sessions.create(principal, IpAddr::from([192, 0, 2, 1]), 7)
    }

    #[test]
    fn lives_while_used() {
        let (sessions, clock) = sessions(Settings::default());
        let session = create(&sessions, "root").unwrap();
        assert_eq!((session.key().len(), session.data, session.created_ms), (40, 7, 1_000));
        assert!(!format!("{session:?}").contains(&**session.key()));
        let minutes = |n: u64| Duration::from_secs(n * 60);
        clock.advance(minutes(29));
        drop(sessions.enter(session.key()).unwrap());
        clock.advance(minutes(29));
        let waiting = sessions.enter(session.key()).unwrap();
        clock.advance(minutes(100));
        assert_eq!((sessions.sweep(), waiting.calls()), (0, 2));
        drop(waiting);
        assert_eq!(session.last_active_ms(), 1_000 + 158 * 60_000);
        clock.advance(minutes(29));
        assert!(sessions.peek(session.key()).is_some() && !session.ended.is_cancelled());
        clock.advance(minutes(1));
        assert!(sessions.enter(session.key()).is_none() && session.ended.is_cancelled());
        assert!(sessions.list().is_empty());
    }

    #[test]
    fn is_revoked() {
        let (sessions, _) = sessions(Settings::default());
        let (a, b, c) = (
            create(&sessions, "a").unwrap(),
            create(&sessions, "b").unwrap(),
            create(&sessions, "b").unwrap(),
        );
        assert_ne!(b.key(), c.key());
        assert_eq!(sessions.list().len(), 3);
        assert!(sessions.revoke(a.key()) && !sessions.revoke(a.key()) && a.ended.is_cancelled());
        assert!(sessions.enter(a.key()).is_none() && sessions.enter("").is_none());
        assert!(sessions.revoke_id(&c.id) && !b.ended.is_cancelled());
        assert_eq!((sessions.revoke_user("b"), sessions.revoke_all()), (1, 0));
        assert!(b.ended.is_cancelled());
    }

    #[test]
    fn is_bounded() {
        let (sessions, clock) = sessions(Settings { most: 3, per_user: 2, ..Settings::default() });
        create(&sessions, "a").unwrap();
        let held = sessions.enter(create(&sessions, "a").unwrap().key()).unwrap();
        assert_eq!(create(&sessions, "a").unwrap_err().limit, 2);
        create(&sessions, "b").unwrap();
        assert_eq!(create(&sessions, "c").unwrap_err().limit, 3);
        clock.advance(Settings::default().idle);
        create(&sessions, "c").unwrap();
        assert_eq!(sessions.list().len(), 2);
        drop(held);
    }
}

//! The engine's room for who may do what: logins, sessions, grants, permissions, the audit.
//!
//! ```text
//! login ─ password right? ─ room? ─▶ Session (durable, its key hashed) + audit ─▶ Grant for the agent that asked
//!   live ──idle 30 min──▶ expired ─┐
//!     ├──logout────────────────────┼─▶ gone                    each end is told to all agents at once, and to those that
//!     └──revoked, user removed, ───┴─▶ revoked, listed 24 h    were away when they come back
//!        password changed
//! permissions changed ─ durable + audit ─▶ new grants to every agent that holds a session of theirs
//! ```
//!
//! One writer at a time changes what is kept; logins wait for the store, not for each other's hashes. What the store refuses is refused,
//! but for a login: it goes on in memory and is written later, so that a full disk locks nobody out of reading.
//!
//! A session that was live when the engine stopped has [`GRACE_MS`] after a start to be used again. A grant goes to agents where the session
//! began or was resumed by its key; an owner that performs what the engine sends gets one that nothing can be asked with.
//!
//! Limits: [`Settings`]; 512 scopes of one user.

use crate::{
    Applicant, Check, Grant, Keys, LoginError, Passwords, Secret, grant, passwords,
    people::{BadRow, People},
};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::{fmt::Debug, net::IpAddr, sync::Arc, time::Duration};
use table::{Live, Table, hashed};
use union::{Clock, Ids};

pub mod admin;
mod change;
mod desk;
mod directory;
mod grants;
pub mod keep;
mod sweep;
mod table;

pub use admin::{Request, Response};
pub use change::AdminError;
pub use keep::{Entry, Filter, Keep, KeepError, Kept, MemoryKeep, Write};

/// How long sessions of before a start may be used again without having been used.
pub const GRACE_MS: i64 = 5 * 60_000;
/// How long a grant for performing is valid, milliseconds.
pub const PERFORM_TTL_MS: i64 = 10 * 60_000;
/// A session keeps its bundle so long.
pub const BUNDLE_MS: i64 = 24 * 3_600_000;
/// A session of a user who has too many is given up when it was not used for so long.
const GIVEN_UP_MS: i64 = 60_000;

/// The figures.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How passwords are checked.
    pub passwords: passwords::Settings,
    /// A session without use for this long ends.
    pub idle: Duration,
    /// Live sessions in all; as many revoked ones are listed.
    pub most: usize,
    /// Sessions of one user.
    pub per_user: usize,
}

impl Default for Settings {
    /// 30 minutes, as vendors' servers have it.
    fn default() -> Settings {
        Settings {
            passwords: passwords::Settings::default(),
            idle: Duration::from_secs(30 * 60),
            most: 8_192,
            per_user: 1_024,
        }
    }
}

/// What an authority is made of.
#[derive(Debug)]
pub struct Deps {
    /// Where it keeps things.
    pub keep: Arc<dyn Keep>,
    /// The engine's keys.
    pub keys: Keys,
    /// The domain it is the authority of.
    pub domain: Arc<str>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub ids: Arc<dyn Ids>,
    /// The figures.
    pub settings: Settings,
}

/// Why an authority cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store says no.
    #[error("users and sessions cannot be read: {0}")]
    Keep(#[from] KeepError),
    /// A row is not what it should be.
    #[error(transparent)]
    Row(#[from] BadRow),
    /// argon2 refuses.
    #[error(transparent)]
    Hash(#[from] crate::hash::HashError),
}

/// Hears of what agents must know. Never waits.
pub trait Told: Send + Sync + Debug {
    /// A session has ended: every agent must know.
    fn ended(&self, session: &str);

    /// An agent has a new grant for a session it holds.
    fn granted(&self, agent: &str, grant: &Grant);
}

/// A session that began or goes on.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What it may do, for the agent that asked.
    pub grant: Arc<Grant>,
    /// The secret that names it, for the client.
    pub key: Secret,
}

type Issued = FxHashMap<(Arc<str>, Arc<str>, bool), Arc<Grant>>;

/// The authority of a domain.
#[derive(Debug)]
pub struct Authority {
    deps: Deps,
    passwords: Passwords,
    people: RwLock<Arc<People>>,
    table: Mutex<Table>,
    issued: Mutex<Issued>,
    /// The newest bundle.
    bundle: RwLock<Arc<str>>,
    told: RwLock<Vec<Arc<dyn Told>>>,
    /// Whoever holds it may write.
    turn: tokio::sync::Mutex<()>,
}

impl Authority {
    /// The authority over what is kept.
    ///
    /// # Errors
    /// It cannot be read, as a whole: permissions are not guessed.
    pub async fn open(deps: Deps) -> Result<Arc<Authority>, OpenError> {
        let loaded = deps.keep.load().await?;
        let people = People::from_rows(loaded.people)?;
        let now = deps.clock.now_ms();
        let mut table = Table::default();
        for (hash, mut kept) in loaded.sessions {
            if kept.revoked_ms == 0 {
                kept.expires_ms = kept.expires_ms.max(now.saturating_add(GRACE_MS));
                let old = now.saturating_sub(kept.active_ms) >= grant::TTL_MS;
                if old || people.hash(&kept.principal).is_none() {
                    kept.expires_ms = now;
                }
            }
            table.insert(Live::new(hash, kept));
        }
        let passwords = Passwords::new(deps.settings.passwords, Arc::clone(&deps.clock), deps.ids.as_ref())?;
        let authority = Arc::new(Authority {
            passwords,
            people: RwLock::new(Arc::new(people)),
            table: Mutex::new(table),
            issued: Mutex::default(),
            bundle: RwLock::new(Arc::from("")),
            told: RwLock::default(),
            turn: tokio::sync::Mutex::new(()),
            deps,
        });
        authority.sweep().await;
        Ok(authority)
    }

    /// Tells `told` from now on.
    pub fn tell(&self, told: Arc<dyn Told>) {
        self.told.write().push(told);
    }

    fn tell_all(&self, tell: impl Fn(&dyn Told)) {
        let told = self.told.read().clone();
        told.iter().for_each(|t| tell(t.as_ref()));
    }

    /// Sessions that begin from now on have this bundle.
    pub fn set_bundle(&self, hash: &str) {
        *self.bundle.write() = hash.into();
    }

    /// Believes the grants that it issues.
    pub fn check(&self) -> Check {
        Check::new(&self.deps.domain, self.deps.keys.public())
    }

    /// The engine's keys.
    pub fn keys(&self) -> &Keys {
        &self.deps.keys
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        &self.deps.domain
    }

    /// Everybody, as they are now.
    pub fn people(&self) -> Arc<People> {
        Arc::clone(&self.people.read())
    }

    fn now(&self) -> i64 {
        self.deps.clock.now_ms()
    }

    fn idle_ms(&self) -> i64 {
        i64::try_from(self.deps.settings.idle.as_millis()).unwrap_or(i64::MAX)
    }

    fn entry(&self, principal: &str, verb: &str, verdict: &str) -> Entry {
        Entry {
            at_ms: self.now(),
            principal: principal.into(),
            session: "".into(),
            remote: "".into(),
            verb: verb.into(),
            object: None,
            command: None,
            verdict: verdict.into(),
            detail: String::new(),
        }
    }

    /// Writes an entry of its own; what cannot be written is logged.
    async fn audit(&self, entry: Entry) {
        if let Err(error) = self.deps.keep.write(vec![Write::Audit(entry)]).await {
            tracing::error!(%error, "an audit entry was not written");
        }
    }

    /// Begins a session, for a front of `agent`.
    ///
    /// # Errors
    /// [`LoginError`], never [`LoginError::Away`].
    pub async fn login(&self, agent: &str, applicant: &Applicant<'_>) -> Result<Opened, LoginError> {
        let name = Passwords::name(applicant.user);
        let find = || self.people().hash(&name).map(Arc::from);
        let remote = applicant.remote;
        match self.passwords.check(&name, applicant.password, remote, find).await {
            Ok(hash) => self.begin(agent, &name, remote, applicant.protocol, Some(&hash)).await,
            Err(error) => {
                if error == LoginError::Wrong {
                    tracing::warn!(user = %name.escape_debug(), %remote, agent, "login refused: wrong name or password");
                    let entry = self.entry(&name, "Login", "refused: wrong name or password");
                    self.audit(Entry {
                        remote: remote.to_string().into(),
                        detail: about(agent, applicant.protocol),
                        ..entry
                    })
                    .await;
                }
                Err(error)
            }
        }
    }

    /// Begins another session of the principal of a live one, which the asker shows the key of.
    ///
    /// # Errors
    /// [`LoginError::Wrong`]: there is no such live session.
    pub async fn again(&self, agent: &str, key: &Secret, remote: IpAddr) -> Result<Opened, LoginError> {
        let found = {
            let table = self.table.lock();
            let id = table.of_key(key.expose(), self.deps.clock.as_ref());
            let live = id.and_then(|id| table.get(&id).map(|live| live.kept.clone()));
            live.ok_or(LoginError::Wrong)?
        };
        self.begin(agent, &found.principal, remote, &found.protocol, None).await
    }

    /// `hash`: the password's, as it was when it was right.
    async fn begin(
        &self,
        agent: &str,
        principal: &Arc<str>,
        remote: IpAddr,
        protocol: &str,
        hash: Option<&str>,
    ) -> Result<Opened, LoginError> {
        let _turn = self.turn.lock().await;
        let present = self.people();
        let present = present.hash(principal).ok_or(LoginError::Wrong)?;
        if hash.is_some_and(|hash| hash != present) {
            return Err(LoginError::Wrong);
        }
        let mut writes = self.make_room(principal)?;
        let mut secret = [0; 20];
        self.deps.ids.fill(&mut secret);
        let key = Secret::new(secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let now = self.now();
        let kept = Kept {
            id: self.deps.ids.uuid(),
            principal: Arc::clone(principal),
            protocol: protocol.into(),
            remote: remote.to_string().into(),
            created_ms: now,
            active_ms: now,
            expires_ms: now.saturating_add(self.idle_ms()),
            revoked_ms: 0,
            bundle: self.bundle.read().clone(),
            agents: vec![agent.into()],
        };
        let mut live = Live::new(hashed(key.expose()), kept.clone());
        writes.push(Write::Session(live.hash, Some(kept.clone())));
        let session: Arc<str> = kept.id.to_string().into();
        writes.push(Write::Audit(Entry {
            session: Arc::clone(&session),
            remote: Arc::clone(&kept.remote),
            detail: about(agent, protocol),
            ..self.entry(principal, "Login", "allowed")
        }));
        if let Err(error) = self.deps.keep.write(writes).await {
            tracing::error!(%error, user = %principal, "a login is kept in memory only: the store takes no writes");
            live.dirty = true;
        }
        tracing::info!(user = %principal, %remote, agent, session = &*session, "logged in");
        self.table.lock().insert(live);
        Ok(Opened { grant: self.issue(&kept, agent, false), key })
    }

    /// Goes on with a session at `agent`, by its key; `None`: there is none that may be used, or it speaks another protocol.
    pub async fn resume(&self, agent: &str, key: &Secret, protocol: &str) -> Option<Opened> {
        let (now, idle) = (self.now(), self.idle_ms());
        let (kept, known) = {
            let mut table = self.table.lock();
            let id = table.of_key(key.expose(), self.deps.clock.as_ref())?;
            let live = table.get_mut(&id).filter(|live| *live.kept.protocol == *protocol)?;
            live.touch(now, idle);
            let known = live.kept.agents.iter().any(|a| **a == *agent);
            if !known {
                live.kept.agents.push(agent.into());
                live.dirty = true;
            }
            (live.kept.clone(), known)
        };
        if !known {
            // The next start must know where its grants are.
            self.flush().await;
        }
        Some(Opened { grant: self.issue(&kept, agent, false), key: key.clone() })
    }

    /// Ends the session of a key (logout); whether there was one.
    pub async fn logout(&self, agent: &str, key: &Secret) -> bool {
        let _turn = self.turn.lock().await;
        let gone = {
            let mut table = self.table.lock();
            let id = table.of_key(key.expose(), self.deps.clock.as_ref());
            id.and_then(|id| table.remove(&id))
        };
        let Some(mut live) = gone else { return false };
        let session: Arc<str> = live.kept.id.to_string().into();
        self.forget(&session);
        let entry = Entry {
            session: Arc::clone(&session),
            remote: Arc::clone(&live.kept.remote),
            detail: about(agent, &live.kept.protocol),
            ..self.entry(&live.kept.principal, "Logout", "allowed")
        };
        if let Err(error) =
            self.deps.keep.write(vec![Write::Session(live.hash, None), Write::Audit(entry)]).await
        {
            tracing::error!(%error, session = &*session, "a logout was not written; it is tried again");
            live.kept.revoked_ms = self.now().max(1);
            live.dirty = true;
            self.table.lock().insert(live);
        }
        self.tell_all(|told| told.ended(&session));
        true
    }

    /// Sessions that `agent` holds were used.
    pub fn used<'s>(&self, agent: &str, sessions: impl IntoIterator<Item = &'s str>) {
        let (now, idle) = (self.now(), self.idle_ms());
        let mut table = self.table.lock();
        for id in sessions {
            let live = table.live_mut(id, self.deps.clock.as_ref());
            if let Some(live) = live.filter(|live| live.kept.agents.iter().any(|a| **a == *agent)) {
                live.touch(now, idle);
            }
        }
    }

    /// The writes that make room for one more session of `principal`.
    fn make_room(&self, principal: &str) -> Result<Vec<Write>, LoginError> {
        let now = self.now();
        let mut writes = Vec::new();
        let mut table = self.table.lock();
        let most = self.deps.settings.most;
        if table.len() >= most {
            if table.ids(|live| live.is_live(now)).len() >= most {
                return Err(LoginError::Busy);
            }
            // Revoked ones are listed for as long as there is room for them.
            writes.extend(table.forget_revoked(most).into_iter().map(|hash| Write::Session(hash, None)));
        }
        let theirs = table.ids(|live| *live.kept.principal == *principal && live.is_live(now));
        if theirs.len() < self.deps.settings.per_user {
            return Ok(writes);
        }
        let used = |id: &Arc<str>| table.get(id).map_or(i64::MAX, |live| live.kept.active_ms);
        let oldest = theirs.into_iter().min_by_key(used);
        let oldest = oldest.filter(|id| now.saturating_sub(used(id)) >= GIVEN_UP_MS);
        let gone = oldest.and_then(|id| table.remove(&id)).ok_or(LoginError::Busy)?;
        drop(table);
        let session: Arc<str> = gone.kept.id.to_string().into();
        tracing::info!(user = principal, session = &*session, "a session was given up for a new one");
        self.forget(&session);
        self.tell_all(|told| told.ended(&session));
        let entry =
            self.entry(principal, "Logout", "the user has too many sessions: the one idle longest ended");
        writes.extend([Write::Session(gone.hash, None), Write::Audit(Entry { session, ..entry })]);
        Ok(writes)
    }
}

/// Where a login or a command came in, for the audit.
fn about(agent: &str, protocol: &str) -> String {
    serde_json::json!({ "agent": agent, "protocol": protocol }).to_string()
}

#[cfg(test)]
mod tests;

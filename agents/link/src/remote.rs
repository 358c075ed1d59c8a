//! Logins, answered by the engine.
//!
//! ```text
//! login  ─ sealed to the engine's key ─▶ grant + the session's key, sealed to this agent ─▶ Pass, held in Grants
//! resume ─ held here? ─ no ─▶ known to be nobody's (5 s)? ─ no ─▶ asked
//! used   ─ noted; told every 20 s                             engine away: held sessions go on, everything else is Away
//! logout ─ ended here at once; the engine hears of it when it is there
//! ```

use crate::{
    engine::{Engine, LinkError, Service, Verb, ask},
    grants::Grants,
    limits,
    presence::Presence,
};
use async_trait::async_trait;
use guard::{Applicant, Keys, LoginError, Logins, Pass, Public, Secret, seal};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};
use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Duration};
use tokio::sync::{Notify, Semaphore};
use union::{Clock, Ids, pb};

/// The key that logins are sealed to, once the engine has told it.
#[derive(Clone, Debug)]
pub struct SealKey {
    domain: Arc<str>,
    engine: Public,
    key: Arc<RwLock<Option<Arc<str>>>>,
}

impl SealKey {
    /// Not told yet; the engine of `domain` signs with `engine`.
    pub fn new(domain: &str, engine: Public) -> SealKey {
        SealKey { domain: Arc::from(domain), engine, key: Arc::default() }
    }

    /// The key that a welcome tells, if the engine's signature proves it. Whether it does.
    pub fn learn(&self, welcome: &pb::Welcome) -> bool {
        let proved = self.engine.proves_seal_key(&self.domain, &welcome.seal_key, &welcome.seal_proof);
        if proved {
            *self.key.write() = Some(Arc::from(&*welcome.seal_key));
        }
        proved
    }

    fn get(&self) -> Option<Arc<str>> {
        self.key.read().clone()
    }
}

/// What remote logins stand on.
#[derive(Debug)]
pub struct Deps {
    /// The way to the engine.
    pub engine: Arc<dyn Engine>,
    /// Whether it is there.
    pub presence: Presence,
    /// Where sessions are held.
    pub grants: Arc<Grants>,
    /// This agent's keys.
    pub keys: Keys,
    /// The engine's key.
    pub seal_key: SealKey,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub ids: Arc<dyn Ids>,
}

/// Asks the engine who may come in.
#[derive(Debug)]
pub struct Remote {
    deps: Deps,
    nobodies: Mutex<FxHashMap<[u8; 32], Duration>>,
    room: Semaphore,
    /// Logouts that the engine has not heard.
    owed: Mutex<VecDeque<pb::SealedKey>>,
    owing: Notify,
}

impl Remote {
    /// Nobody has come in yet.
    pub fn new(deps: Deps) -> Arc<Remote> {
        Arc::new(Remote {
            deps,
            nobodies: Mutex::default(),
            room: Semaphore::new(limits::LOGINS),
            owed: Mutex::default(),
            owing: Notify::new(),
        })
    }

    /// Tells the engine of logouts that it has not heard, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let (first, longest) = limits::PAUSE;
        let mut pause = first;
        loop {
            let Some(key) = self.owed.lock().front().cloned() else {
                self.owing.notified().await;
                continue;
            };
            self.deps.presence.until_here().await;
            match self.ask::<()>(Service::Logout, &key).await {
                Err(LoginError::Busy | LoginError::Away) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
                // Done, or there is no such session any more.
                _ => {
                    self.owed.lock().pop_front();
                    pause = first;
                }
            }
        }
    }

    fn owe(&self, key: pb::SealedKey) {
        let mut owed = self.owed.lock();
        if owed.len() < limits::LOGOUTS {
            owed.push_back(key);
            self.owing.notify_one();
        } else {
            tracing::warn!("too many logouts wait for the engine; a session ends there when it is idle");
        }
    }

    /// Asks with something sealed.
    async fn ask<R: Message + Default>(
        &self,
        service: Service,
        secret: &impl Message,
    ) -> Result<R, LoginError> {
        let _room = self.room.try_acquire().map_err(|_| LoginError::Busy)?;
        let d = &self.deps;
        let to = d.seal_key.get().filter(|_| d.presence.is_here()).ok_or(LoginError::Away)?;
        let sealed = seal::seal_message(&d.keys, &to, secret, &*d.ids).map_err(|error| {
            tracing::warn!(%error, "a login cannot be sealed");
            LoginError::Wrong
        })?;
        let request = pb::LoginRequest { sealed, sender_key: d.keys.seal_key().into_bytes() };
        let asked = ask::<R>(&*d.engine, &Verb::Service(service), &request, limits::LONG).await;
        asked.map_err(|error| {
            tracing::warn!(%error, verb = service.word(), "a login has no answer");
            match error {
                LinkError::Busy => LoginError::Busy,
                LinkError::Refused(_) => LoginError::Wrong,
                _ => LoginError::Away,
            }
        })
    }

    /// The pass of a reply.
    fn admitted(&self, reply: &pb::LoginReply) -> Result<Pass, LoginError> {
        match pb::LoginRefusal::try_from(reply.refusal) {
            Ok(pb::LoginRefusal::None) => {}
            Ok(pb::LoginRefusal::LoginRateLimited) => {
                let wait = u64::try_from(reply.retry_after_ms).unwrap_or(0);
                return Err(LoginError::RateLimited { retry_after: Duration::from_millis(wait) });
            }
            Ok(pb::LoginRefusal::LoginBusy) => return Err(LoginError::Busy),
            _ => return Err(LoginError::Wrong),
        }
        let d = &self.deps;
        let grant = reply.grant.as_ref().ok_or(LoginError::Wrong)?;
        let from = d.seal_key.get().ok_or(LoginError::Away)?;
        let opened = seal::open(&d.keys, &from, &reply.sealed_key).ok();
        let key =
            opened.and_then(|key| std::str::from_utf8(&key).map(Secret::from).ok()).ok_or_else(|| {
                tracing::error!("the engine's answer to a login does not open");
                LoginError::Away
            })?;
        let held = d.grants.hold(grant, key).map_err(|cause| {
            tracing::error!(%cause, "the engine's grant is not believed");
            LoginError::Away
        })?;
        held.ok_or(LoginError::Busy)
    }

    fn is_nobody(&self, digest: &[u8; 32]) -> bool {
        let now = self.deps.clock.monotonic();
        self.nobodies.lock().get(digest).is_some_and(|until| now < *until)
    }

    fn note_nobody(&self, digest: [u8; 32]) {
        let now = self.deps.clock.monotonic();
        let mut nobodies = self.nobodies.lock();
        if nobodies.len() >= limits::NO_SESSIONS {
            nobodies.retain(|_, until| now < *until);
        }
        if nobodies.len() < limits::NO_SESSIONS {
            nobodies.insert(digest, now + limits::NO_SESSION);
        }
    }
}

#[async_trait]
impl Logins for Remote {
    async fn login(&self, applicant: Applicant<'_>) -> Result<Pass, LoginError> {
        let login = pb::SealedLogin {
            user: applicant.user.to_owned(),
            password: applicant.password.expose().to_owned(),
            protocol: applicant.protocol.to_owned(),
            remote: applicant.remote.to_string(),
        };
        let reply: pb::LoginReply = self.ask(Service::Login, &login).await?;
        self.admitted(&reply)
    }

    async fn again(&self, pass: &Pass, remote: IpAddr) -> Result<Pass, LoginError> {
        let key = pb::SealedKey {
            key: pass.key.expose().to_owned(),
            protocol: pass.now().content.protocol.clone(),
            remote: remote.to_string(),
        };
        let reply: pb::LoginReply = self.ask(Service::Again, &key).await?;
        self.admitted(&reply)
    }

    async fn resume(&self, key: &Secret, protocol: &str) -> Result<Option<Pass>, LoginError> {
        let digest: [u8; 32] = Sha256::digest(key.expose().as_bytes()).into();
        if self.is_nobody(&digest) {
            return Ok(None);
        }
        let sealed = pb::SealedKey {
            key: key.expose().to_owned(),
            protocol: protocol.to_owned(),
            ..pb::SealedKey::default()
        };
        let reply: pb::LoginReply = self.ask(Service::Resume, &sealed).await?;
        match self.admitted(&reply) {
            Err(LoginError::Wrong) => {
                self.note_nobody(digest);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    async fn end(&self, pass: &Pass) {
        self.deps.grants.end([&*pass.session]);
        let key = pb::SealedKey {
            key: pass.key.expose().to_owned(),
            protocol: pass.now().content.protocol.clone(),
            ..pb::SealedKey::default()
        };
        if let Err(error) = self.ask::<()>(Service::Logout, &key).await {
            tracing::info!(session = &*pass.session, %error, "a logout did not reach the engine; it is told later");
            self.owe(key);
        }
    }

    async fn directory(&self, pass: &Pass, end: &[Arc<str>]) -> Result<pb::Directory, LoginError> {
        if !self.deps.presence.is_here() {
            return Err(LoginError::Away);
        }
        let end = end.iter().map(|id| id.to_string()).collect();
        let request = pb::DirectoryRequest { session_id: pass.session.to_string(), end };
        let verb = Verb::Service(Service::Directory);
        ask(&*self.deps.engine, &verb, &request, limits::LONG).await.map_err(|error| match error {
            LinkError::Refused(_) => LoginError::Wrong,
            LinkError::Busy => LoginError::Busy,
            _ => LoginError::Away,
        })
    }

    fn used(&self, pass: &Pass) {
        self.deps.grants.used(&pass.session);
    }
}

#[cfg(test)]
mod tests;

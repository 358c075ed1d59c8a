//! Keeps an agent and its engine in touch: says hello, shows that it is there, renews grants, tells which sessions were used.
//!
//! ```text
//! away ─ hello ─▶ Welcome: epoch (none lower than seen), leases, revoked sessions, key for logins, bundle ─▶ here
//! here ─ every 2 s: beat ─▶ same epoch ─▶ here │ another epoch, or not known ─▶ hello │ no answer within 1 s ─▶ away
//! here ─ every 20 s: used, renew
//! ```

use crate::{
    door::Link,
    engine::{Engine, LinkError, Service, Verb, ask},
    grants::Grants,
    limits,
    presence::Presence,
    remote::SealKey,
};
use guard::Signer;
use prost::Message;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use union::pb;

/// Sessions in one message.
const AT_ONCE: usize = 1_024;

/// What an agent tells of itself; asked at each hello.
pub trait Introduces: Send + Sync + std::fmt::Debug {
    /// The hello.
    fn hello(&self) -> pb::Hello;
}

/// What keeping in touch stands on.
#[derive(Debug)]
pub struct Duty {
    /// The way to the engine.
    pub engine: Arc<dyn Engine>,
    /// Whether it is there.
    pub presence: Presence,
    /// The sessions.
    pub grants: Arc<Grants>,
    /// The agent's door, which keeps the epochs.
    pub link: Arc<Link>,
    /// The key for logins.
    pub seal_key: SealKey,
    /// Signs this agent's messages; the engine's clock counts. `None` in the engine's own process.
    pub signer: Option<Arc<Signer>>,
    /// What this agent is.
    pub me: Arc<dyn Introduces>,
}

impl Duty {
    /// Keeps in touch for as long as it is polled.
    pub async fn run(self) {
        let (first, longest) = limits::PAUSE;
        let mut pause = first;
        let mut told = None;
        loop {
            self.link.keep_refusals().await;
            match self.hello().await {
                Ok(epoch) => {
                    (pause, told) = (first, None);
                    tracing::info!(epoch, "the engine is there");
                    self.keep(epoch).await;
                    self.presence.away();
                    tracing::warn!("the engine is away; this agent goes on with what it can do by itself");
                }
                Err(why) => {
                    self.presence.away();
                    let why = why.to_string();
                    if told.as_ref() != Some(&why) {
                        tracing::info!(why, "the engine does not answer yet");
                        told = Some(why);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    /// Says hello; the engine's epoch.
    ///
    /// # Errors
    /// It did not answer, or is an engine whose time is over.
    pub async fn hello(&self) -> Result<u64, LinkError> {
        let hello = self.me.hello();
        let incarnation = hello.incarnation;
        let welcome: pb::Welcome = self.ask(Service::Hello, &hello, limits::LONG).await?;
        self.link.epochs().engine(welcome.engine_epoch).await.map_err(LinkError::Refused)?;
        for (target, epoch) in &welcome.leases {
            self.link.lease(target, *epoch).await.map_err(LinkError::Refused)?;
        }
        self.grants.end(welcome.revoked.iter().map(String::as_str));
        if !self.seal_key.learn(&welcome) {
            tracing::error!("the engine's key for logins is not proved by its signature; no logins are sent");
        }
        if let Some(signer) = &self.signer {
            signer.agree(welcome.now_ms);
        }
        if !welcome.bundle.is_empty() {
            self.link.noticed(pb::BundleNotice { hash: welcome.bundle.clone(), ..Default::default() });
        }
        tracing::debug!(incarnation, epoch = welcome.engine_epoch, "the engine welcomes this agent");
        self.presence.here(welcome.engine_epoch);
        // Permissions may have changed while it was away.
        self.renew(self.grants.passes().sessions()).await;
        Ok(welcome.engine_epoch)
    }

    /// Stays in touch until the engine is away or another.
    async fn keep(&self, epoch: u64) {
        let beat = pb::Beat { incarnation: self.me.hello().incarnation, engine_epoch: epoch };
        let mut due = Instant::now() + limits::USED;
        loop {
            tokio::select! {
                () = tokio::time::sleep(limits::BEAT) => {}
                () = self.presence.until_away() => return,
            }
            self.link.keep_refusals().await;
            match self.ask::<pb::Beaten>(Service::Beat, &beat, limits::SHORT).await {
                Ok(beaten) if beaten.engine_epoch == epoch && !beaten.hello => self.presence.here(epoch),
                Ok(_) => return,
                // It is there, and has more to do than to say so.
                Err(LinkError::Busy) => {}
                Err(error) => {
                    tracing::info!(%error, "the engine does not answer a beat");
                    return;
                }
            }
            if Instant::now() >= due {
                due = Instant::now() + limits::USED;
                self.tell_used().await;
                self.renew(self.grants.passes().due()).await;
            }
        }
    }

    /// Tells which sessions were used. Also at the end of a process, so that none idles out by its restart.
    pub async fn tell_used(&self) {
        let used = self.grants.take_used();
        for some in used.chunks(AT_ONCE) {
            let session_ids = some.iter().map(ToString::to_string).collect();
            if let Err(error) = self.ask::<()>(Service::Used, &pb::Used { session_ids }, limits::LONG).await {
                tracing::info!(%error, "the use of sessions was not told; it is next time");
                some.iter().for_each(|session| self.grants.used(session));
            }
        }
    }

    async fn renew(&self, sessions: Vec<Arc<str>>) {
        for some in sessions.chunks(AT_ONCE) {
            let session_ids = some.iter().map(ToString::to_string).collect();
            match self.ask::<pb::Renewed>(Service::Renew, &pb::Renew { session_ids }, limits::LONG).await {
                Ok(renewed) => self.grants.renew(&renewed),
                Err(error) => tracing::warn!(%error, "grants were not renewed; they are tried again"),
            }
        }
    }

    async fn ask<M: Message + Default>(
        &self,
        service: Service,
        body: &impl Message,
        within: Duration,
    ) -> Result<M, LinkError> {
        ask(&*self.engine, &Verb::Service(service), body, within).await
    }
}

#[cfg(test)]
mod tests;

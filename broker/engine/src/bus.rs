//! The engine on the bus: agents ask it, and it asks them. Every request is signed, for its subject, just now and once.
//!
//! ```text
//! cmd.<domain>.*.*            ┐ Signed: signer known? key fits? fresh? ─▶ Door.answer(agent, verb, body) ─▶ plain Reply
//! service.engine-<domain>.*   ┘      no: Refused(PERMISSION), logged        full: Busy at once
//! BusAgents.ask ─ Signed by the engine ─▶ agent.<domain>.<agent>.<verb>
//! ```
//!
//! Work never waits in a subscription: what is beyond [`COMMANDS`] or [`SERVICES`] is refused there and then.

use crate::{AgentError, Agents, Engine, unwrap_reply, wrap_reply};
use ::bus::{Bus, BusError, Headers, Link, Pattern, Request, Server, Serving, Subject};
use async_trait::async_trait;
use bytes::Bytes;
use guard::{Public, Signer, Verifier};
use prost::Message;
use std::{fmt::Debug, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use union::{
    command::{Cause, Code},
    pb,
};

/// Commands answered at a time.
pub const COMMANDS: usize = 4_096;
/// Other requests answered at a time.
pub const SERVICES: usize = 1_024;
/// Bytes of a command with everything around it.
pub const COMMAND_BYTES: usize = 256 << 10;
/// Requests that may wait until they are read, which is at once.
const UNREAD: usize = 4_096;
/// As whom the engine signs.
pub const ENGINE: &str = "engine";

/// The agents of the domain and their keys.
pub trait Registry: Send + Sync + Debug {
    /// The key that an agent signs with; `None`: there is no such agent, or it was removed.
    fn key(&self, agent: &str) -> Option<Public>;
}

/// What answers agents.
#[async_trait]
pub trait Door: Send + Sync + Debug {
    /// The whole `Reply` to a request of `from`, which was verified.
    async fn answer(&self, from: &str, verb: &str, body: Bytes) -> Bytes;
}

#[async_trait]
impl Door for Engine {
    async fn answer(&self, from: &str, verb: &str, body: Bytes) -> Bytes {
        Engine::answer(self, from, verb, body).await
    }
}

#[derive(Debug)]
struct Desk {
    door: Arc<dyn Door>,
    registry: Arc<dyn Registry>,
    verifier: Verifier,
    tracker: TaskTracker,
    commands: Arc<Semaphore>,
    services: Arc<Semaphore>,
}

/// Lets the agents of `domain` ask `door`.
///
/// # Errors
/// The bus does not let the engine listen to its own subjects.
pub async fn serve(
    bus: &Arc<dyn Bus>,
    domain: &str,
    registry: Arc<dyn Registry>,
    verifier: Verifier,
    door: Arc<dyn Door>,
) -> Result<Serving, BusError> {
    let commands = bus.serve(&Pattern::commands(domain)?, UNREAD).await?;
    let services = bus.serve(&Pattern::service(&format!("engine-{domain}"))?, UNREAD).await?;
    let serving = Serving::new();
    let desk = Arc::new(Desk {
        door,
        registry,
        verifier,
        tracker: serving.tracker(),
        commands: Arc::new(Semaphore::new(COMMANDS)),
        services: Arc::new(Semaphore::new(SERVICES)),
    });
    for (server, command) in [(commands, true), (services, false)] {
        tokio::spawn(serving.stopped().run_until_cancelled_owned(Arc::clone(&desk).read(server, command)));
    }
    Ok(serving)
}

impl Desk {
    /// Takes requests as fast as they come.
    async fn read(self: Arc<Self>, mut server: Server, command: bool) {
        while let Some(request) = server.next().await {
            if command && request.message.payload.len() > COMMAND_BYTES {
                let size = request.message.payload.len();
                let cause = Cause::new(
                    Code::InvalidArgument,
                    format!("a command of {size} bytes; at most {COMMAND_BYTES}; nothing was done"),
                );
                let refusal = wrap_reply(Err(cause), &union::Schema::base());
                if let Err(error) = request.reply(Headers::new(), refusal).await {
                    tracing::debug!(%error, "nobody heard that a command is too large");
                }
                continue;
            }
            let room = if command { &self.commands } else { &self.services };
            let Ok(permit) = Arc::clone(room).try_acquire_owned() else {
                tracing::debug!(subject = %request.message.subject, "the engine has too much to do; refused");
                if let Err(error) = request.refuse_busy().await {
                    tracing::debug!(%error, "nobody heard that the engine is busy");
                }
                continue;
            };
            let desk = Arc::clone(&self);
            self.tracker.spawn(async move {
                desk.answer(request, command).await;
                drop(permit);
            });
        }
    }

    async fn answer(&self, request: Request, command: bool) {
        let answer = match self.opened(&request) {
            Ok(signed) => {
                let tokens: Vec<&str> = request.message.subject.tokens().collect();
                let verb = match tokens.as_slice() {
                    [.., kind, verb] if command => format!("{kind}.{verb}"),
                    [.., verb] => (*verb).to_owned(),
                    [] => String::new(),
                };
                self.door.answer(&signed.signer, &verb, Bytes::from(signed.body)).await
            }
            Err(cause) => {
                tracing::warn!(subject = %request.message.subject, %cause, "a request was refused");
                wrap_reply(Err(cause), &union::Schema::base())
            }
        };
        let subject = request.message.subject.clone();
        if let Err(error) = request.reply(Headers::new(), answer).await {
            tracing::info!(%subject, %error, "an answer to an agent was lost; it asks what became of it");
        }
    }

    /// The request, if an agent of this domain signed it.
    fn opened(&self, request: &Request) -> Result<pb::Signed, Cause> {
        let no = |why: String| Cause::new(Code::Permission, why);
        let signed = pb::Signed::decode(request.message.payload.clone())
            .map_err(|e| no(format!("a request that is not signed: {e}")))?;
        let key = self.registry.key(&signed.signer).ok_or_else(|| {
            let signer: String = signed.signer.chars().take(64).collect();
            no(format!("`{signer}` is no agent of this domain; let it join with a token"))
        })?;
        let subject = request.message.subject.as_str();
        self.verifier.verify(subject, &signed, &key).map_err(|e| no(e.to_string()))?;
        Ok(signed)
    }
}

/// The agents, over the bus.
pub struct BusAgents {
    bus: Arc<dyn Bus>,
    domain: Arc<str>,
    signer: Signer,
}

impl Debug for BusAgents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BusAgents").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl BusAgents {
    /// The agents of `domain`; `signer` signs as [`ENGINE`].
    pub fn new(bus: Arc<dyn Bus>, domain: &str, signer: Signer) -> BusAgents {
        BusAgents { bus, domain: Arc::from(domain), signer }
    }
}

#[async_trait]
impl Agents for BusAgents {
    async fn ask(&self, agent: &str, verb: &str, body: Bytes, within: Duration) -> Result<Bytes, AgentError> {
        let never = |error: BusError| {
            AgentError::Refused(Cause::new(Code::InvalidArgument, format!("nothing was sent: {error}")))
        };
        let subject = Subject::agent(&self.domain, agent, verb).map_err(never)?;
        let status = self.bus.status();
        if status.link != Link::Connected {
            return Err(AgentError::Away);
        }
        let signed = self.signer.sign(subject.as_str(), body.to_vec()).encode_to_vec();
        if signed.len() > status.max_payload {
            return Err(never(BusError::TooLarge { size: signed.len(), max: status.max_payload }));
        }
        match self.bus.request(&subject, Headers::new(), Bytes::from(signed), within).await {
            Ok(answer) => unwrap_reply(&answer.payload, &union::Schema::base()),
            Err(BusError::NoResponders | BusError::Closed) => Err(AgentError::Away),
            // The link was there a moment ago: it may have been sent. So may a request whose answer is too large.
            Err(BusError::Disconnected | BusError::Timeout | BusError::TooLarge { .. }) => {
                Err(AgentError::TimedOut)
            }
            Err(BusError::Busy) => Err(AgentError::Refused(Cause::new(
                Code::Busy,
                format!("the agent {agent} is busy; nothing was done, try again"),
            ))),
            Err(error) => Err(never(error)),
        }
    }
}

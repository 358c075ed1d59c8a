//! The link over the bus: every request signed, for its subject, just now and once.
//!
//! ```text
//! agent ─ Signed ─▶ cmd.<domain>.<kind>.<verb>, service.engine-<domain>.<verb> ─▶ engine       the answer is a plain Reply:
//! engine ─ Signed ─▶ agent.<domain>.<agent>.<verb> ─▶ Link.answer                             inboxes are private
//! ```

use crate::{
    door::Link,
    engine::{Engine, LinkError, Verb, refused},
    limits,
    presence::Presence,
};
use ::bus::{Bus, BusError, Headers, Link as BusLink, Pattern, Request, Serving, Subject};
use async_trait::async_trait;
use bytes::Bytes;
use guard::{Public, Signer, Verifier};
use prost::Message;
use std::{sync::Arc, time::Duration};
use union::{
    command::{Cause, Code},
    pb,
};

/// As whom the engine signs.
pub const ENGINE: &str = "engine";

/// The service that an engine's agents ask.
pub fn service(domain: &str) -> String {
    format!("engine-{domain}")
}

/// The engine, over the bus.
pub struct BusEngine {
    bus: Arc<dyn Bus>,
    domain: Arc<str>,
    signer: Arc<Signer>,
    presence: Presence,
}

impl std::fmt::Debug for BusEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BusEngine").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl BusEngine {
    /// The engine of `domain`. What `signer` says is this agent's word; `presence` hears at once when nobody listens.
    pub fn new(bus: Arc<dyn Bus>, domain: &str, signer: Arc<Signer>, presence: Presence) -> BusEngine {
        BusEngine { bus, domain: Arc::from(domain), signer, presence }
    }

    fn subject(&self, verb: &Verb) -> Result<Subject, BusError> {
        match verb {
            Verb::Command { kind, verb } => Subject::cmd(&self.domain, kind.word(), verb),
            Verb::Service(verb) => Subject::service(&service(&self.domain), verb.word()),
        }
    }

    fn away(&self, error: &BusError) -> LinkError {
        self.presence.away();
        LinkError::Away(error.to_string())
    }
}

#[async_trait]
impl Engine for BusEngine {
    async fn ask(&self, verb: &Verb, body: Bytes, within: Duration) -> Result<Bytes, LinkError> {
        let never = |error: BusError| {
            LinkError::Refused(Cause::new(Code::InvalidArgument, format!("nothing was sent: {error}")))
        };
        let subject = self.subject(verb).map_err(never)?;
        let status = self.bus.status();
        if status.link != BusLink::Connected {
            return Err(self.away(&BusError::Disconnected));
        }
        let signed = self.signer.sign(subject.as_str(), body.to_vec()).encode_to_vec();
        if signed.len() > status.max_payload {
            let (size, max) = (signed.len(), status.max_payload);
            return Err(never(BusError::TooLarge { size, max }));
        }
        match self.bus.request(&subject, Headers::new(), Bytes::from(signed), within).await {
            Ok(answer) => Ok(answer.payload),
            Err(error @ (BusError::NoResponders | BusError::Closed)) => Err(self.away(&error)),
            // The link was there a moment ago: it may have been sent.
            Err(error @ BusError::Disconnected) => {
                self.presence.away();
                Err(LinkError::Lost(error.to_string()))
            }
            Err(BusError::Timeout) => Err(LinkError::TimedOut),
            Err(BusError::Busy) => Err(LinkError::Busy),
            Err(error @ BusError::TooLarge { .. }) => Err(LinkError::Garbled(error.to_string())),
            Err(error) => Err(never(error)),
        }
    }
}

/// Lets the engine, whose key is `engine`, ask this agent.
///
/// # Errors
/// The bus does not let this agent listen to its own subjects.
pub async fn serve(
    bus: &Arc<dyn Bus>,
    domain: &str,
    agent: &str,
    engine: Public,
    verifier: Arc<Verifier>,
    link: Arc<Link>,
) -> Result<Serving, BusError> {
    let mut requests = bus.serve(&Pattern::agent(domain, agent)?, limits::ANSWERED * 2).await?;
    let serving = Serving::new();
    let (answers, stopped) = (serving.tracker(), serving.stopped());
    tokio::spawn(async move {
        while let Some(Some(request)) = stopped.run_until_cancelled(requests.next()).await {
            let answer = match opened(&request, &engine, &verifier) {
                Err(cause) => {
                    tracing::warn!(subject = %request.message.subject, %cause, "a request that is not the engine's was refused");
                    Err(refused(&cause))
                }
                Ok(body) => Ok(body),
            };
            // The door takes as many as its limits say and refuses the rest at once, so no more wait here for long.
            let link = Arc::clone(&link);
            answers.spawn(async move {
                let verb = request.message.subject.tokens().last().unwrap_or_default().to_owned();
                let answer = match answer {
                    Ok(body) => link.answer(&verb, body).await,
                    Err(refusal) => refusal,
                };
                if let Err(error) = request.reply(Headers::new(), answer).await {
                    tracing::info!(verb, %error, "an answer to the engine was lost; it asks what became of it");
                }
            });
        }
    });
    Ok(serving)
}

/// The body of a request that the engine signed.
fn opened(request: &Request, engine: &Public, verifier: &Verifier) -> Result<Bytes, Cause> {
    let no = |why: String| Cause::new(Code::Permission, why);
    let signed = pb::Signed::decode(request.message.payload.clone())
        .map_err(|e| no(format!("a request that is not signed was refused: {e}")))?;
    if signed.signer != ENGINE {
        return Err(no("only the engine may ask an agent".to_owned()));
    }
    verifier
        .verify(request.message.subject.as_str(), &signed, engine)
        .map_err(|e| no(format!("the request was refused: {e}")))?;
    Ok(Bytes::from(signed.body))
}

//! The one door for everything agents ask of the engine.

use crate::{agents::AgentError, engine::Engine, fly::given_up, record};
use bytes::Bytes;
use prost::Message;
use union::{
    Kind, ObjectId,
    command::{Cause, Code, Outcome},
    envelope::command_id,
    pb,
};

/// An answer as it crosses the link.
pub fn wrap_reply(answer: Result<Bytes, Cause>, schema: &union::Schema) -> Bytes {
    use pb::reply::What;
    let what = match answer {
        Ok(body) => What::Body(body.to_vec()),
        Err(cause) => What::Refused(pb::Refused { cause: Some(cause.to_pb(schema)) }),
    };
    Bytes::from(pb::Reply { what: Some(what) }.encode_to_vec())
}

/// The answer that crossed the link.
///
/// # Errors
/// [`AgentError::Refused`] with the cause.
pub fn unwrap_reply(reply: &[u8], schema: &union::Schema) -> Result<Bytes, AgentError> {
    use pb::reply::What;
    let internal = |message: String| AgentError::Refused(Cause::new(Code::Internal, message));
    match pb::Reply::decode(reply) {
        Ok(pb::Reply { what: Some(What::Body(body)) }) => Ok(Bytes::from(body)),
        Ok(pb::Reply { what: Some(What::Refused(refused)) }) => {
            let cause = refused.cause.unwrap_or_default();
            Err(AgentError::Refused(Cause::from_pb(schema, &cause)))
        }
        Ok(pb::Reply { what: None }) => Err(internal("expected a reply; it is empty".to_owned())),
        Err(error) => Err(internal(format!("expected a reply: {error}"))),
    }
}

impl Engine {
    /// Answers an agent, whose name `from` was verified. Commands come with a verb of two words, `<kind>.<verb>` as in their subject, or
    /// as `command`; all else by its own. The answer is an encoded [`pb::Reply`].
    pub async fn answer(&self, from: &str, verb: &str, body: Bytes) -> Bytes {
        let answer = if verb == "command" || verb.contains('.') {
            let outcome = self.submit(from, &body).await;
            Ok(Bytes::from(outcome.to_pb(self.schema()).encode_to_vec()))
        } else {
            self.serve(from, verb, body).await
        };
        wrap_reply(answer, self.schema())
    }

    async fn serve(&self, from: &str, verb: &str, body: Bytes) -> Result<Bytes, Cause> {
        match verb {
            "settle" => encoded(self.tell(record::read(&body, "a command's id")?).await?),
            "cancel" => encoded(self.cancel(from, record::read(&body, "a command's id")?).await?),
            "hello" => encoded(self.hello(from, record::read(&body, "a hello")?).await?),
            "beat" => encoded(self.beat(from, record::read(&body, "a beat")?)),
            "outbox" => encoded(self.take_in(from, record::read(&body, "an agent's outbox")?).await?),
            "ids" => encoded(self.deps.id_maps.lease(from, &record::read(&body, "a wish for ids")?).await?),
            "bundle" => encoded(self.deps.bundles.piece(&record::read(&body, "a wish for a bundle")?)?),
            other => match self.deps.authority.serve(from, other, body).await {
                Some(answer) => answer,
                None => Err(Cause::new(Code::NotSupported, format!("the engine has no verb `{other}`"))),
            },
        }
    }

    /// What became of a command, for whoever lost its answer.
    async fn tell(&self, about: pb::About) -> Result<pb::Settled, Cause> {
        let id = command_id(&about.command_id)
            .map_err(|error| Cause::new(Code::InvalidArgument, error.to_string()))?;
        let running = pb::Settled { running: true, ..pb::Settled::default() };
        if let Some(flight) = self.flights.get(id) {
            let outcome = flight.outcome.borrow().clone();
            return Ok(match outcome {
                Some(outcome) => {
                    pb::Settled { outcome: Some(outcome.to_pb(self.schema())), ..pb::Settled::default() }
                }
                None => running,
            });
        }
        let entry = self.journal.get(id).await.map_err(|error| {
            Cause::new(Code::Internal, format!("the engine's journal cannot be read: {error}"))
        })?;
        match entry {
            Some(entry) => {
                let outcome =
                    entry.settled.as_ref().map(|s| record::outcome(s, self.schema()).to_pb(self.schema()));
                Ok(pb::Settled { running: outcome.is_none(), outcome, unknown: false })
            }
            None if self.flights.fence(id, self.deps.limits.fenced) => {
                // In the next life too.
                let object = about.object_id.parse().unwrap_or(ObjectId::new(Kind::Task, id.0));
                let settled = record::settled(&Outcome::Refused(given_up(id)), self.schema(), self.now_ms());
                let barred = self.journal.bar(id, object, settled, self.deps.epoch).await;
                let barred = barred.map_err(|error| {
                    Cause::new(Code::Internal, format!("the engine's journal cannot be written: {error}"))
                })?;
                if !barred {
                    return Ok(running);
                }
                Ok(pb::Settled { unknown: true, ..pb::Settled::default() })
            }
            // It came in between.
            None => Ok(running),
        }
    }

    /// Gives a command up for whoever submitted it.
    async fn cancel(&self, from: &str, about: pb::About) -> Result<pb::Settled, Cause> {
        let id = command_id(&about.command_id)
            .map_err(|error| Cause::new(Code::InvalidArgument, error.to_string()))?;
        let flight = self.flights.get(id).filter(|flight| *flight.from == *from);
        let flight =
            flight.ok_or_else(|| Cause::new(Code::NotFound, "the command has ended, or was never here"))?;
        flight.cancelled.cancel();
        let owner = flight.owner.lock().clone();
        if let Some(owner) = owner {
            let about =
                pb::About { object_id: flight.object.to_string(), engine_epoch: self.deps.epoch.0, ..about };
            let body = Bytes::from(about.encode_to_vec());
            let asked = self.deps.agents.ask(&owner, "cancel", body, self.deps.limits.question).await;
            asked.map_err(|error| error.cause(&owner))?;
        }
        let outcome = flight.outcome.borrow().as_ref().map(|o| o.to_pb(self.schema()));
        Ok(pb::Settled { running: outcome.is_none(), outcome, unknown: false })
    }
}

fn encoded(message: impl Message) -> Result<Bytes, Cause> {
    Ok(Bytes::from(message.encode_to_vec()))
}

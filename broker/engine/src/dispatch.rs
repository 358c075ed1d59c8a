//! Sending a command to its owner.

use crate::{agents::AgentError, engine::Engine, plan::Prepared};
use bytes::Bytes;
use prost::Message;
use union::{
    command::{Cause, Code, Outcome},
    pb,
};

/// What came back.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It ended.
    Ended(Outcome),
    /// Nothing was done.
    NotSent(Cause),
    /// It may have happened: the owner has to be asked.
    Lost,
}

impl Engine {
    /// Sends a command to its owner and waits for its end, until a while after its deadline, or until the owner lives anew: the life that
    /// was asked does not answer any more.
    pub(crate) async fn perform(&self, prepared: &Prepared, bundle: &str, target_epoch: u64) -> Answer {
        let (command, holder) = (&prepared.command, &prepared.holder);
        let grant = match self.deps.authority.grant(&command.session, &holder.agent).await {
            Ok(grant) => grant,
            Err(cause) => return Answer::NotSent(cause),
        };
        let perform = pb::Perform {
            envelope: Some(command.to_pb(self.schema(), bundle)),
            plan: prepared.plan.as_ref().map(|plan| plan.to_pb(self.schema())),
            grant: Some(grant),
            engine_epoch: self.deps.epoch.0,
            target_epoch,
        };
        let within = self.left(command.deadline_ms) + self.deps.limits.question;
        let body = Bytes::from(perform.encode_to_vec());
        let mut arrivals = self.arrivals.subscribe();
        let asked = self.life_of(&holder.agent);
        let reborn = async {
            // Never closed.
            while arrivals.changed().await.is_ok() {
                // One that had not come up when it was asked may have died since, before it did.
                if self.life_of(&holder.agent) != asked {
                    return;
                }
            }
            std::future::pending().await
        };
        let answer = tokio::select! {
            biased;
            answer = self.deps.agents.ask(&holder.agent, "perform", body, within) => answer,
            () = reborn => return Answer::Lost,
        };
        match answer {
            Ok(reply) => match self.read_outcome(&reply) {
                Some(Outcome::Unknown { .. }) | None => Answer::Lost,
                Some(outcome) => Answer::Ended(outcome),
            },
            Err(AgentError::TimedOut) => Answer::Lost,
            Err(error) => Answer::NotSent(error.cause(&holder.agent)),
        }
    }

    fn life_of(&self, agent: &str) -> Option<u64> {
        self.known.lock().get(agent).map(|known| known.incarnation)
    }

    pub(crate) fn read_outcome(&self, reply: &[u8]) -> Option<Outcome> {
        let outcome = pb::Outcome::decode(reply);
        let outcome = outcome
            .map_err(|e| e.to_string())
            .and_then(|outcome| Outcome::from_pb(self.schema(), &outcome).map_err(|e| e.to_string()));
        outcome.inspect_err(|error| tracing::error!(%error, "an owner's outcome cannot be read")).ok()
    }

    /// The epoch under which the holder has its target.
    ///
    /// # Errors
    /// Another agent was given it.
    pub(crate) fn target_epoch(&self, agent: &str, target: &str) -> Result<u64, Cause> {
        match self.granted.lock().get(target) {
            Some(lease) if *lease.owner == *agent => Ok(lease.epoch),
            Some(lease) if !lease.owner.is_empty() => Err(Cause::new(
                Code::Unreachable,
                format!("`{target}` was given to {}; {agent} may not act for it any more", lease.owner),
            )),
            _ => Err(Cause::new(
                Code::Unreachable,
                format!("{agent} has not come up since it offers `{target}`; nothing was done"),
            )),
        }
    }
}

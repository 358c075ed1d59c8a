//! Commands as the journal keeps them.

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use store::{
    Blob,
    journal::{End, Intent, Settled, Step},
};
use union::{
    Command, Plan, Schema,
    command::{Cause, Code, Outcome},
    pb,
};

/// A hash of everything a command says.
pub(crate) fn digest(envelope: &pb::Envelope) -> [u8; 32] {
    Sha256::digest(envelope.encode_to_vec()).into()
}

/// What a command wants.
pub(crate) fn intent(command: &Command, envelope: &pb::Envelope, digest: [u8; 32], now_ms: i64) -> Intent {
    Intent {
        id: command.id,
        digest,
        verb: command.verb.clone(),
        object: command.object,
        principal: command.principal.clone(),
        session: command.session.clone(),
        deadline_ms: command.deadline_ms,
        begun_ms: now_ms,
        body: Blob(envelope.encode_to_vec()),
    }
}

/// What was sent, to whom.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub agent: String,
    pub target: String,
    pub plan: Plan,
}

impl Sent {
    pub fn to_blob(&self, schema: &Schema) -> Blob {
        let perform = pb::Perform { plan: Some(self.plan.to_pb(schema)), ..pb::Perform::default() };
        let sent =
            pb::Sent { agent: self.agent.clone(), target: self.target.clone(), perform: Some(perform) };
        Blob(sent.encode_to_vec())
    }

    pub fn of(step: &Step, schema: &Schema) -> Option<Sent> {
        let sent = pb::Sent::decode(step.call.0.as_slice()).ok()?;
        let plan = sent.perform.and_then(|p| p.plan).unwrap_or_default();
        let plan = Plan::from_pb(schema, &plan).ok()?;
        Some(Sent { agent: sent.agent, target: sent.target, plan })
    }
}

/// An outcome as it is kept.
pub(crate) fn settled(outcome: &Outcome, schema: &Schema, now_ms: i64) -> Settled {
    let end = match outcome {
        Outcome::Done { .. } => End::Done,
        Outcome::Failed(_) => End::Failed,
        Outcome::Refused(_) => End::Refused,
        Outcome::Unknown { .. } => End::Unknown,
    };
    Settled { end, outcome: Blob(outcome.to_pb(schema).encode_to_vec()), at_ms: now_ms }
}

/// The outcome of a settled command.
pub(crate) fn outcome(settled: &Settled, schema: &Schema) -> Outcome {
    let read = pb::Outcome::decode(settled.outcome.0.as_slice()).ok();
    read.and_then(|o| Outcome::from_pb(schema, &o).ok()).unwrap_or_else(|| Outcome::Unknown {
        probe: String::new(),
        message: "the journal's outcome of this command cannot be read".to_owned(),
    })
}

/// Reads a message of an agent.
pub(crate) fn read<M: Message + Default>(body: &Bytes, what: &str) -> Result<M, Cause> {
    M::decode(body.as_ref())
        .map_err(|error| Cause::new(Code::InvalidArgument, format!("expected {what}: {error}")))
}

//! What the journal and the outbox of an agent hold, as protobuf. Written by hand: it never leaves the agent.

use lane::Unsettled;
use prost::Message;
use std::sync::Arc;
use store::journal::{Entry, StepState};
use union::{Command, Schema, pb};

/// An intent's body.
#[derive(Clone, PartialEq, Message)]
pub struct Body {
    /// The command.
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<pb::Envelope>,
    /// By which grant; for what is handed in.
    #[prost(message, optional, tag = "2")]
    pub grant: Option<pb::SignedGrant>,
    /// The engine sent it and knows its outcome by itself.
    #[prost(bool, tag = "3")]
    pub from_engine: bool,
    /// The target that is called.
    #[prost(string, tag = "4")]
    pub target: String,
}

/// An audit record or outcome that waits to be handed in, with the grant that it happened under.
#[derive(Clone, PartialEq, Message)]
pub struct Handing {
    /// By which grant.
    #[prost(message, optional, tag = "1")]
    pub grant: Option<pb::SignedGrant>,
    /// The record.
    #[prost(bytes = "vec", tag = "2")]
    pub body: Vec<u8>,
}

/// A command of the journal that has not ended.
pub(super) fn unsettled(schema: &Schema, entry: &Entry) -> Result<Unsettled, String> {
    let body = Body::decode(entry.intent.body.0.as_slice()).map_err(|e| e.to_string())?;
    let envelope = body.envelope.ok_or("it has no command")?;
    let answered = entry.steps.iter().take_while(|step| step.state == StepState::Done).count();
    Ok(Unsettled {
        failed: None,
        command: Command::from_pb(schema, &envelope).map_err(|e| e.to_string())?,
        plan: super::plan_of(schema, entry)?,
        sent: entry.was_sent(),
        answered,
        target: Arc::from(body.target),
    })
}

//! Commands and outcomes as they cross the bus, and back.

use crate::{
    codec::{self, CodecError},
    command::{Cause, Command, CommandId, Origin, Outcome},
    id::BadObjectId,
    pb,
    plan::{value_from_pb, value_to_pb},
    schema::Schema,
};
use std::sync::Arc;
use uuid::Uuid;

/// Bytes that are no command or no outcome.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not protobuf.
    #[error("a message cannot be read: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Its command cannot be read.
    #[error("a command cannot be read: {0}")]
    Record(#[from] CodecError),
    /// It names no object.
    #[error("a command names no object: {0}")]
    Id(#[from] BadObjectId),
    /// A required part is missing or unknown.
    #[error("a message cannot be read: {0}")]
    Content(String),
}

/// The id written in a message.
///
/// # Errors
/// [`EnvelopeError::Content`] for a text that is no uuid.
pub fn command_id(text: &str) -> Result<CommandId, EnvelopeError> {
    let uuid = Uuid::try_parse(text);
    uuid.map(CommandId).map_err(|_| EnvelopeError::Content(format!("`{text}` is not a command id, a uuid")))
}

impl Command {
    /// As it crosses the bus; `bundle` is the hash of the mapping bundle that lifted it.
    pub fn to_pb(&self, schema: &Schema, bundle: &str) -> pb::Envelope {
        pb::Envelope {
            command_id: self.id.to_string(),
            verb: self.verb.to_string(),
            body: codec::encode(schema, &self.body),
            object_id: self.object.to_string(),
            principal: self.principal.to_string(),
            session_id: self.session.to_string(),
            deadline_ms: self.deadline_ms,
            origin: Some(pb::Origin {
                protocol: self.origin.protocol.to_string(),
                view: self.origin.view.to_string(),
                method: self.origin.method.to_string(),
            }),
            bundle: bundle.to_owned(),
        }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`EnvelopeError`] for a verb that the schema does not have, and what cannot be read.
    pub fn from_pb(schema: &Schema, envelope: &pb::Envelope) -> Result<Command, EnvelopeError> {
        let message = schema.message(&envelope.verb);
        let (message, command) = message.and_then(|m| Some((m, m.command.clone()?))).ok_or_else(|| {
            EnvelopeError::Content(format!("there is no union command `{}`", envelope.verb))
        })?;
        let origin = envelope.origin.clone().unwrap_or_default();
        Ok(Command {
            id: command_id(&envelope.command_id)?,
            verb: Arc::from(&*envelope.verb),
            schema: command,
            object: envelope.object_id.parse()?,
            body: Arc::new(codec::decode(schema, message.id, &envelope.body)?),
            principal: Arc::from(&*envelope.principal),
            session: Arc::from(&*envelope.session_id),
            deadline_ms: envelope.deadline_ms,
            origin: Origin {
                protocol: Arc::from(&*origin.protocol),
                view: Arc::from(&*origin.view),
                method: Arc::from(&*origin.method),
            },
        })
    }
}

impl Cause {
    /// As it crosses the bus.
    pub fn to_pb(&self, schema: &Schema) -> pb::Cause {
        let argument =
            |(name, value): &(Arc<str>, crate::Value)| Some((name.to_string(), value_to_pb(schema, value)?));
        pb::Cause {
            code: self.code.into(),
            message: self.message.clone(),
            fault: self.fault.to_string(),
            arguments: self.arguments.iter().filter_map(argument).collect(),
            native_code: self.native_code,
        }
    }

    /// Reads it back; what cannot be read of its arguments is left out.
    pub fn from_pb(schema: &Schema, cause: &pb::Cause) -> Cause {
        let mut arguments: Vec<_> = cause.arguments.iter().collect();
        arguments.sort_by_key(|(name, _)| *name);
        let argument = |(name, value): (&String, &pb::Value)| {
            Some((Arc::from(&**name), value_from_pb(schema, Some(value)).ok()?))
        };
        Cause {
            code: pb::Code::try_from(cause.code).unwrap_or(pb::Code::Internal),
            message: cause.message.clone(),
            fault: Arc::from(&*cause.fault),
            arguments: arguments.into_iter().filter_map(argument).collect(),
            native_code: cause.native_code,
        }
    }
}

impl Outcome {
    /// As it crosses the bus and stands in the journal.
    pub fn to_pb(&self, schema: &Schema) -> pb::Outcome {
        use pb::outcome::Result as R;
        let result = match self {
            Outcome::Done { revision, result, already } => R::Done(pb::Done {
                revision: Some((*revision).into()),
                result_id: result.map(|id| id.to_string()).unwrap_or_default(),
                already: *already,
            }),
            Outcome::Failed(cause) => R::Failed(cause.to_pb(schema)),
            Outcome::Refused(cause) => R::Refused(cause.to_pb(schema)),
            Outcome::Unknown { probe, message } => {
                R::Unknown(pb::Unknown { probe: probe.clone(), message: message.clone() })
            }
        };
        pb::Outcome { result: Some(result) }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`EnvelopeError`] for one that says nothing, or names an object that is none.
    pub fn from_pb(schema: &Schema, outcome: &pb::Outcome) -> Result<Outcome, EnvelopeError> {
        use pb::outcome::Result as R;
        match &outcome.result {
            None => Err(EnvelopeError::Content("an outcome that says nothing".to_owned())),
            Some(R::Done(done)) => Ok(Outcome::Done {
                revision: done.revision.unwrap_or_default().into(),
                result: (!done.result_id.is_empty()).then(|| done.result_id.parse()).transpose()?,
                already: done.already,
            }),
            Some(R::Failed(cause)) => Ok(Outcome::Failed(Cause::from_pb(schema, cause))),
            Some(R::Refused(cause)) => Ok(Outcome::Refused(Cause::from_pb(schema, cause))),
            Some(R::Unknown(u)) => {
                Ok(Outcome::Unknown { probe: u.probe.clone(), message: u.message.clone() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, ObjectId, Value, command::Revision};

    #[test]
    fn a_command_and_its_outcomes_survive_the_bus() {
        let schema = Schema::base();
        let message = schema.message("PowerOn").unwrap();
        let vm = ObjectId::new(Kind::Vm, Uuid::from_u128(3));
        let mut body = message.record();
        body.set(message.field("vm_id").unwrap().slot, vm);
        let command = Command {
            id: CommandId(Uuid::from_u128(9)),
            verb: "PowerOn".into(),
            schema: message.command.clone().unwrap(),
            object: vm,
            body: Arc::new(body),
            principal: "ann".into(),
            session: "s".into(),
            deadline_ms: 7,
            origin: Origin { protocol: "p".into(), view: "fleet".into(), method: "m".into() },
        };
        let back = Command::from_pb(&schema, &command.to_pb(&schema, "b")).unwrap();
        assert_eq!(format!("{back:?}"), format!("{command:?}"));
        let mut cause = Cause::new(pb::Code::Busy, "full");
        cause.arguments.push(("n".into(), Value::Int(4)));
        for outcome in [
            Outcome::Done { revision: Revision { incarnation: 1, n: 2 }, result: Some(vm), already: true },
            Outcome::Failed(cause.clone()),
            Outcome::Refused(cause),
            Outcome::Unknown { probe: "x".into(), message: "y".into() },
        ] {
            assert_eq!(Outcome::from_pb(&schema, &outcome.to_pb(&schema)).unwrap(), outcome);
        }
        let strange = pb::Envelope { verb: "Vm".into(), ..command.to_pb(&schema, "") };
        assert!(Command::from_pb(&schema, &strange).is_err());
        assert!(Outcome::from_pb(&schema, &pb::Outcome::default()).is_err());
    }
}

//! The engine as an agent sees it: a verb, a message, an answer. Over the bus it is [`crate::bus::BusEngine`]; in `up` the engine is in the
//! same process and the binary puts the two together.

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use std::{borrow::Cow, sync::Arc, time::Duration};
use union::{
    Kind,
    command::{Cause, Code},
    envelope, pb,
};

/// What an agent asks of the engine besides commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// It comes up, or the link is back: `Hello`, answered by `Welcome`.
    Hello,
    /// It is there: `Beat`, `Beaten`.
    Beat,
    /// A session begins: `LoginRequest` of a `SealedLogin`, `LoginReply`.
    Login,
    /// Another session of a live one's principal: `LoginRequest` of a `SealedKey`, `LoginReply`.
    Again,
    /// A session of another front: as `Again`.
    Resume,
    /// A session ends: `LoginRequest` of a `SealedKey`, an empty answer.
    Logout,
    /// Sessions were used: `Used`, an empty answer.
    Used,
    /// New grants: `Renew`, `Renewed`.
    Renew,
    /// What was done without the engine: `Handed`, `Taken`.
    Outbox,
    /// A block of native numbers: `LeaseIds`, `LeasedIds`.
    Ids,
    /// What became of a command: `About`, `Settled`.
    Settle,
    /// A command is not wanted any more: `About`, an empty answer.
    Cancel,
    /// A piece of a bundle: `BundlePiece`, `BundlePiece`.
    Bundle,
    /// Who may do what and who is logged in: `DirectoryRequest`, `Directory`.
    Directory,
}

impl Service {
    /// All of them.
    pub const ALL: &'static [Service] = &[
        Service::Hello,
        Service::Beat,
        Service::Login,
        Service::Again,
        Service::Resume,
        Service::Logout,
        Service::Used,
        Service::Renew,
        Service::Outbox,
        Service::Ids,
        Service::Settle,
        Service::Cancel,
        Service::Bundle,
        Service::Directory,
    ];

    /// The verb in subjects.
    pub fn word(self) -> &'static str {
        match self {
            Service::Hello => "hello",
            Service::Beat => "beat",
            Service::Login => "login",
            Service::Again => "again",
            Service::Resume => "resume",
            Service::Logout => "logout",
            Service::Used => "used",
            Service::Renew => "renew",
            Service::Outbox => "outbox",
            Service::Ids => "ids",
            Service::Settle => "settle",
            Service::Cancel => "cancel",
            Service::Bundle => "bundle",
            Service::Directory => "directory",
        }
    }
}

/// What an agent asks of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A command, `cmd.<domain>.<kind>.<verb>`: a `Submission`, answered by an `Outcome`.
    Command {
        /// The kind of object it acts on.
        kind: Kind,
        /// The union command, for example `Reconfigure`.
        verb: Arc<str>,
    },
    /// Anything else, `service.engine-<domain>.<verb>`.
    Service(Service),
}

impl Verb {
    /// The verb as the engine's door takes it: `<kind>.<verb>` of a command, the word of a service.
    pub fn word(&self) -> Cow<'static, str> {
        match self {
            Verb::Command { kind, verb } => Cow::Owned(format!("{}.{verb}", kind.word())),
            Verb::Service(service) => Cow::Borrowed(service.word()),
        }
    }
}

impl From<Service> for Verb {
    fn from(service: Service) -> Verb {
        Verb::Service(service)
    }
}

/// Why the engine did not answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LinkError {
    /// It, or the bus, is not there; nothing was sent.
    #[error("the engine cannot be reached: {0}")]
    Away(String),
    /// It was sent, and no answer will come: whether it had an effect is not known.
    #[error("the answer of the engine was lost: {0}")]
    Lost(String),
    /// It was sent and not answered in time: whether it had an effect is not known.
    #[error("the engine did not answer in time")]
    TimedOut,
    /// A queue is full; nothing was done.
    #[error("the engine is busy; try again")]
    Busy,
    /// It said no; nothing was done.
    #[error(transparent)]
    Refused(Cause),
    /// Its answer cannot be read: whether it had an effect is not known.
    #[error("the answer of the engine cannot be read: {0}")]
    Garbled(String),
}

impl LinkError {
    /// Whether what was asked may have been done all the same.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, LinkError::Lost(_) | LinkError::TimedOut | LinkError::Garbled(_))
    }

    /// As the cause of a command that failed so.
    pub fn cause(&self) -> Cause {
        let code = match self {
            LinkError::Refused(cause) => return cause.clone(),
            LinkError::Away(_) => Code::Unreachable,
            LinkError::Busy => Code::Busy,
            LinkError::Lost(_) | LinkError::TimedOut => Code::TimedOut,
            LinkError::Garbled(_) => Code::Internal,
        };
        Cause::new(code, self.to_string())
    }
}

/// The way to the engine.
#[async_trait]
pub trait Engine: Send + Sync + std::fmt::Debug {
    /// Asks and waits at most `within`. Body and answer as `union/v1/link.proto` says; the answer is a whole `Reply`.
    async fn ask(&self, verb: &Verb, body: Bytes, within: Duration) -> Result<Bytes, LinkError>;
}

/// Asks with one message and reads another out of the answer.
///
/// # Errors
/// As [`Engine::ask`]; a refusal is [`LinkError::Refused`].
pub async fn ask<M: Message + Default>(
    engine: &dyn Engine,
    verb: &Verb,
    body: &impl Message,
    within: Duration,
) -> Result<M, LinkError> {
    let answer = engine.ask(verb, Bytes::from(body.encode_to_vec()), within).await?;
    open(&answer)
}

/// Reads the message out of an answer.
///
/// # Errors
/// [`LinkError::Refused`] for a refusal, [`LinkError::Garbled`] for what is no answer.
pub fn open<M: Message + Default>(answer: &[u8]) -> Result<M, LinkError> {
    let garbled = |what: &dyn std::fmt::Display| LinkError::Garbled(what.to_string());
    let reply = pb::Reply::decode(answer).map_err(|e| garbled(&e))?;
    match reply.what {
        Some(pb::reply::What::Body(body)) => M::decode(body.as_slice()).map_err(|e| garbled(&e)),
        Some(pb::reply::What::Refused(refused)) => {
            let schema = union::Schema::base();
            let cause = refused.cause.map(|cause| Cause::from_pb(&schema, &cause));
            Err(LinkError::Refused(
                cause.unwrap_or_else(|| Cause::new(Code::Internal, "the engine refused without a word")),
            ))
        }
        None => Err(garbled(&envelope::EnvelopeError::Content("an answer that says nothing".to_owned()))),
    }
}

/// The bytes of an answer with content.
pub fn answered(body: &impl Message) -> Bytes {
    let what = Some(pb::reply::What::Body(body.encode_to_vec()));
    Bytes::from(pb::Reply { what }.encode_to_vec())
}

/// The bytes of an answer that says why there is none.
pub fn refused(cause: &Cause) -> Bytes {
    let cause = Some(cause.to_pb(&union::Schema::base()));
    let what = Some(pb::reply::What::Refused(pb::Refused { cause }));
    Bytes::from(pb::Reply { what }.encode_to_vec())
}

//! The inventory on the bus: each change as the bytes of a `union::pb::Change`, what an agent says of itself beside them, and what the
//! broker itself says of objects.
//!
//! ```text
//! facts   owner: Change ─ encode ─▶ key, bytes ──▶ bus ──▶ fleet::Source
//!         after each batch `~revision`; `~target/<name>` once the target has given all its facts in this life of the agent
//! owned   Layers ─ own ─▶ key, bytes ──▶ bus ──▶ owned::Follower
//! ```
//!
//! A fact's key is the object's id in its text form. Keys that begin with `~` sort behind all of them, so that in a snapshot they come last.

use crate::store::{Change, Credit, Entry};
use prost::Message as _;
use std::sync::Arc;
use union::{ObjectId, Record, Slot, Value, codec, command::Revision, pb, schema::Schema};

/// The key of the revision that the facts before it make up.
const REVISION: &str = "~revision";
/// Begins the key of a target whose facts are all there.
const TARGET: &str = "~target/";

/// Bytes that are no change.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Not protobuf.
    #[error("an inventory change cannot be read: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Its record cannot be read.
    #[error("an inventory change's record cannot be read: {0}")]
    Record(#[from] codec::CodecError),
    /// Its id cannot be read.
    #[error("an inventory change names no object: {0}")]
    Id(#[from] union::id::BadObjectId),
}

/// The target that holds an object, and the protocol that is spoken to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held<'a> {
    /// Its name; empty: the object is the agent's own, for example a task.
    pub target: &'a str,
    /// For example `sim`.
    pub protocol: &'a str,
}

/// The key and the bytes of a change; no bytes: the object is gone.
pub fn encode(schema: &Schema, change: &Change, held: Held<'_>) -> (String, Option<Vec<u8>>) {
    let bytes = change.entry.as_ref().map(|entry| {
        let mut told = told(schema, change.id, entry, held);
        if let Some(credit) = &change.credit {
            told.principal = credit.principal.to_string();
            told.command_id = credit.command.to_string();
        }
        told.encode_to_vec()
    });
    (change.id.to_string(), bytes)
}

/// The bytes of an object as it stands.
pub fn encode_entry(schema: &Schema, id: ObjectId, entry: &Entry, held: Held<'_>) -> Vec<u8> {
    told(schema, id, entry, held).encode_to_vec()
}

fn told(schema: &Schema, id: ObjectId, entry: &Entry, held: Held<'_>) -> pb::Change {
    pb::Change {
        object_id: id.to_string(),
        record: Some(codec::encode(schema, &entry.record)),
        config: Some(entry.config.into()),
        runtime: Some(entry.runtime.into()),
        created_ms: entry.created_ms,
        modified_ms: entry.modified_ms,
        target: held.target.to_owned(),
        protocol: held.protocol.to_owned(),
        ..pb::Change::default()
    }
}

/// What is published behind a batch: the revision that it makes up.
pub fn revision(revision: Revision) -> (String, Vec<u8>) {
    (REVISION.to_owned(), pb::Revision::from(revision).encode_to_vec())
}

/// What is published when a target has given all its facts, for the first time in this life of the agent: what it has not named is gone.
pub fn in_step(target: &str) -> (String, Vec<u8>) {
    (format!("{TARGET}{target}"), Vec::new())
}

/// An object as an agent has it.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub record: Arc<Record>,
    pub created_ms: i64,
    pub modified_ms: i64,
    pub target: Arc<str>,
    pub protocol: Arc<str>,
    /// On whose account it changed.
    pub credit: Option<Credit>,
}

/// One thing an agent says.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Fact(ObjectId, Fact),
    Gone(ObjectId),
    At(Revision),
    InStep(Arc<str>),
}

/// What a key and its bytes say.
pub(crate) fn decode(schema: &Schema, key: &str, bytes: &[u8]) -> Result<Said, FeedError> {
    if let Some(target) = key.strip_prefix(TARGET) {
        return Ok(Said::InStep(Arc::from(target)));
    }
    if key == REVISION {
        return Ok(Said::At(pb::Revision::decode(bytes)?.into()));
    }
    let change = pb::Change::decode(bytes)?;
    let id: ObjectId = change.object_id.parse()?;
    let Some(record) = change.record else { return Ok(Said::Gone(id)) };
    let fact = Fact {
        record: Arc::new(codec::decode(schema, schema.kind(id.kind).id, &record)?),
        created_ms: change.created_ms,
        modified_ms: change.modified_ms,
        target: Arc::from(change.target),
        protocol: Arc::from(change.protocol),
        credit: (!change.principal.is_empty()).then(|| Credit {
            principal: Arc::from(change.principal),
            command: Arc::from(change.command_id),
        }),
    };
    Ok(Said::Fact(id, fact))
}

/// The key and the bytes of what the broker itself says of an object; no bytes: nothing any more.
pub(crate) fn own(schema: &Schema, id: ObjectId, values: &[(Slot, Value)]) -> (String, Option<Vec<u8>>) {
    let mut record = schema.kind(id.kind).record();
    for (slot, value) in values {
        record.set(*slot, value.clone());
    }
    let bytes = codec::encode(schema, &record);
    (id.to_string(), (!values.is_empty()).then_some(bytes))
}

/// The object and what the broker says of it.
pub(crate) fn decode_own(
    schema: &Schema,
    key: &str,
    bytes: &[u8],
) -> Result<(ObjectId, Vec<(Slot, Value)>), FeedError> {
    let id: ObjectId = key.parse()?;
    let record = codec::decode(schema, schema.kind(id.kind).id, bytes)?;
    let values = record.slots().iter().enumerate().filter(|(_, value)| !value.is_absent());
    let values = values.filter_map(|(at, value)| Some((Slot(u16::try_from(at).ok()?), value.clone())));
    Ok((id, values.collect()))
}

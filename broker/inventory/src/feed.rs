//! The inventory on the bus: each change as the bytes of a `union::pb::Change`, and the replica at the other end.
//!
//! ```text
//! owner:    Change ─ encode ─▶ key, bytes ──▶ bus
//! replica:  Reset ─▶ collecting ─ Put… ─▶ Synced(revision): what was not named since Reset is gone ─▶ following ─ Put, Remove ─▶ …
//! ```
//!
//! A key is an object's id in its text form. Whoever moves the bytes numbers them, sees a gap and asks again ([`Follower::reset`]); a
//! replica that has not been told `Synced` keeps the last facts it had.

use crate::store::{Change, Entry, Inventory};
use prost::Message as _;
use rustc_hash::FxHashSet;
use std::sync::Arc;
use union::{ObjectId, codec, command::Revision, pb, schema::Schema};

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

/// The key and the bytes of a change; no bytes: the object is gone.
pub fn encode(schema: &Schema, change: &Change) -> (String, Option<Vec<u8>>) {
    (change.id.to_string(), change.entry.as_ref().map(|entry| encode_entry(schema, change.id, entry)))
}

/// The bytes of an object as it stands.
pub fn encode_entry(schema: &Schema, id: ObjectId, entry: &Entry) -> Vec<u8> {
    pb::Change {
        object_id: id.to_string(),
        record: Some(codec::encode(schema, &entry.record)),
        config: Some(entry.config.into()),
        runtime: Some(entry.runtime.into()),
        created_ms: entry.created_ms,
        modified_ms: entry.modified_ms,
    }
    .encode_to_vec()
}

/// The object and, unless it is gone, its entry.
pub fn decode(schema: &Schema, bytes: &[u8]) -> Result<(ObjectId, Option<Entry>), FeedError> {
    let change = pb::Change::decode(bytes)?;
    let id: ObjectId = change.object_id.parse()?;
    let Some(record) = change.record else { return Ok((id, None)) };
    let revision = |r: Option<pb::Revision>| r.map(Revision::from).unwrap_or_default();
    let entry = Entry {
        record: Arc::new(codec::decode(schema, schema.kind(id.kind).id, &record)?),
        config: revision(change.config),
        runtime: revision(change.runtime),
        created_ms: change.created_ms,
        modified_ms: change.modified_ms,
    };
    Ok((id, Some(entry)))
}

/// Keeps a replica equal to its source.
#[derive(Debug)]
pub struct Follower {
    replica: Arc<Inventory>,
    /// Named since the last reset; `None`: following.
    named: Option<FxHashSet<ObjectId>>,
    /// The objects of this source; a replica may follow several.
    own: FxHashSet<ObjectId>,
}

impl Follower {
    /// Follows into `replica`. Expects a reset and a snapshot first.
    pub fn new(replica: Arc<Inventory>) -> Follower {
        Follower { replica, named: Some(FxHashSet::default()), own: FxHashSet::default() }
    }

    /// The replica.
    pub fn replica(&self) -> &Arc<Inventory> {
        &self.replica
    }

    /// Whether the replica is known to equal its source.
    pub fn is_synced(&self) -> bool {
        self.named.is_none()
    }

    /// A snapshot follows. The facts stay until it is complete.
    pub fn reset(&mut self) {
        self.named = Some(FxHashSet::default());
    }

    /// An object as it stands.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), FeedError> {
        let (id, entry) = decode(self.replica.schema(), bytes)?;
        let Some(entry) = entry else {
            self.gone(id);
            return Ok(());
        };
        if let Some(named) = &mut self.named {
            named.insert(id);
        }
        self.own.insert(id);
        let revision = entry.revision();
        self.replica.follow(vec![(id, Some(entry))], revision);
        Ok(())
    }

    /// An object is gone.
    pub fn remove(&mut self, key: &str) -> Result<(), FeedError> {
        self.gone(key.parse()?);
        Ok(())
    }

    fn gone(&mut self, id: ObjectId) {
        if let Some(named) = &mut self.named {
            named.remove(&id);
        }
        if self.own.remove(&id) {
            let revision = self.replica.revision();
            self.replica.follow(vec![(id, None)], revision);
        }
    }

    /// The snapshot is complete and stands at `revision`.
    pub fn synced(&mut self, revision: Revision) {
        let gone = match self.named.take() {
            None => Vec::new(),
            Some(named) => {
                let gone = self.own.iter().filter(|id| !named.contains(id)).map(|id| (*id, None)).collect();
                self.own = named;
                gone
            }
        };
        self.replica.follow(gone, revision);
    }
}

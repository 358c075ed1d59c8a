//! Last known facts: what an object was when its target was last heard, so that a start does not begin with an empty world.
//!
//! A fact of an older revision never replaces a newer one. What a target said is gone stays as a tombstone, so that an old message does
//! not bring it back.

use crate::{
    batch::{Batch, Epoch},
    error::StoreError,
    row::{Blob, Row as _, row},
    store::{Scan, Store},
    table::Table,
};
use std::sync::Arc;
use union::{Kind, ObjectId, command::Revision};

row! {
    /// The last known facts of one object.
    pub struct Fact {
        /// Which object.
        1 id: ObjectId,
        /// Its record as protobuf; empty: gone.
        2 record: Blob,
        /// The revision of its configuration.
        3 config: Revision,
        /// The revision of the rest.
        4 runtime: Revision,
        /// The agent whose target holds it.
        5 owner: Arc<str>,
        /// When it was first seen, Unix milliseconds.
        6 created_ms: i64,
        /// When it last changed.
        7 modified_ms: i64,
        /// When its target said it was gone; 0: it is there.
        8 gone_ms: i64,
        /// The agent's target that holds it; empty: none.
        9 target: Arc<str>,
        /// The protocol spoken to that target.
        10 protocol: Arc<str>,
    }
}

impl Fact {
    /// The newer of its revisions.
    pub fn revision(&self) -> Revision {
        self.config.max(self.runtime)
    }
}

/// The facts over a store.
#[derive(Clone, Debug)]
pub struct Facts {
    store: Arc<dyn Store>,
}

const TRIES: usize = 4;
/// Tombstones forgotten by one call.
const FORGET: usize = 4_096;

fn key(id: ObjectId) -> Vec<u8> {
    id.to_string().into_bytes()
}

impl Facts {
    /// The facts in `store`.
    pub fn new(store: Arc<dyn Store>) -> Facts {
        Facts { store }
    }

    /// What is known of an object, gone or not.
    pub async fn get(&self, id: ObjectId) -> Result<Option<Fact>, StoreError> {
        let found = self.store.get(Table::Fact, &key(id)).await?;
        found.map(|bytes| Fact::at(Table::Fact, &key(id), &bytes)).transpose()
    }

    /// Keeps facts, in one commit; those that are older than what is known are left out. How many were kept.
    pub async fn put(&self, facts: &[Fact], epoch: Epoch) -> Result<usize, StoreError> {
        for _ in 0..TRIES {
            let mut batch = Batch::new();
            let mut kept = 0;
            for fact in facts {
                let key = key(fact.id);
                let known = self.store.get(Table::Fact, &key).await?;
                let old = known.as_ref().map(|bytes| Fact::at(Table::Fact, &key, bytes)).transpose()?;
                if old.is_some_and(|old| old.revision() > fact.revision()) {
                    continue;
                }
                batch.expect(Table::Fact, &key, known.as_deref()).put(Table::Fact, &key, fact.encode());
                kept += 1;
            }
            if kept == 0 {
                return Ok(0);
            }
            match self.store.commit(batch, epoch).await {
                Ok(_) => return Ok(kept),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { table: Table::Fact, key: "facts".to_owned() })
    }

    /// The facts of a kind in the order of their ids, tombstones included: at most `limit`, beyond `beyond`.
    pub async fn page(
        &self,
        kind: Kind,
        beyond: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<Fact>, StoreError> {
        let prefix = format!("{kind}:").into_bytes();
        let scan = Scan { prefix, beyond: beyond.map(key), limit, ..Scan::default() };
        let rows = self.store.scan(Table::Fact, scan).await?;
        rows.iter().map(|(key, bytes)| Fact::at(Table::Fact, key, bytes)).collect()
    }

    /// Forgets the tombstones of a kind from before `before_ms`; says how many. Some may be left: call it again until 0.
    pub async fn forget_gone(&self, kind: Kind, before_ms: i64, epoch: Epoch) -> Result<usize, StoreError> {
        let mut batch = Batch::new();
        let mut count = 0;
        let mut beyond = None;
        loop {
            let page = self.page(kind, beyond, 1_024).await?;
            for fact in page.iter().filter(|f| f.gone_ms != 0 && f.gone_ms < before_ms).take(FORGET - count) {
                let bytes = fact.encode();
                batch.expect(Table::Fact, &key(fact.id), Some(&bytes)).remove(Table::Fact, &key(fact.id));
                count += 1;
            }
            match page.last() {
                Some(last) if page.len() == 1_024 => beyond = Some(last.id),
                _ => break,
            }
        }
        if count > 0 {
            self.store.commit(batch, epoch).await?;
        }
        Ok(count)
    }
}

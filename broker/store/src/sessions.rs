//! Sessions: durable, fleet-wide, listed and revocable. A session is found by its key, of which only the hash is stored.

use crate::{
    batch::{Batch, Epoch},
    error::StoreError,
    row::{Blob, Row as _, row},
    seal,
    store::{Store, all},
    table::Table,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use uuid::Uuid;

row! {
    /// A login.
    pub struct Session {
        /// What it is called in lists; says nothing of its key.
        1 id: Uuid,
        /// Whose.
        2 principal: Arc<str>,
        /// In which protocol.
        3 protocol: Arc<str>,
        /// Through which view.
        4 view: Arc<str>,
        /// From where, an address.
        5 remote: Arc<str>,
        /// When, Unix milliseconds.
        6 created_ms: i64,
        /// When it was last used.
        7 active_ms: i64,
        /// When it ends by itself.
        8 expires_ms: i64,
        /// When it was revoked; 0: it was not.
        9 revoked_ms: i64,
        /// The mapping bundle it began with.
        10 bundle: Arc<str>,
        /// The session at the target that goes with it, encoded.
        11 target: Blob,
        /// The agents where it began or was resumed.
        12 agents: Vec<Arc<str>>,
    }
}

impl Session {
    /// Whether it may still be used.
    pub fn is_live(&self, now_ms: i64) -> bool {
        self.revoked_ms == 0 && now_ms < self.expires_ms
    }
}

/// Adds to a batch that a session is kept under the hash of its key, or that it is gone.
pub fn stage(batch: &mut Batch, hash: &[u8; 32], session: Option<&Session>) {
    match session {
        Some(session) => batch.put(Table::Session, hash, session.encode()),
        None => batch.remove(Table::Session, hash),
    };
}

/// The sessions over a store.
#[derive(Clone, Debug)]
pub struct Sessions {
    store: Arc<dyn Store>,
}

/// Sessions removed in one commit.
const SWEEP: usize = 1_024;
const TRIES: usize = 8;

fn hashed(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

impl Sessions {
    /// The sessions in `store`.
    pub fn new(store: Arc<dyn Store>) -> Sessions {
        Sessions { store }
    }

    /// Keeps a new session. The same key again is [`StoreError::Conflict`].
    pub async fn begin(
        &self,
        key: &str,
        session: &Session,
        also: Batch,
        epoch: Epoch,
    ) -> Result<(), StoreError> {
        let key = hashed(key);
        let mut batch = Batch::new();
        batch.expect(Table::Session, &key, None).put(Table::Session, &key, session.encode()).join(also);
        self.store.commit(batch, epoch).await.map(drop)
    }

    /// The session of a key that may be used now.
    pub async fn live(&self, key: &str, now_ms: i64) -> Result<Option<Session>, StoreError> {
        let key = hashed(key);
        let found = self.store.get(Table::Session, &key).await?;
        let session = found.map(|bytes| Session::at(Table::Session, &key, &bytes)).transpose()?;
        Ok(session.filter(|s| s.is_live(now_ms)))
    }

    /// Notes that a session was used; `None`: there is none that may be. Once a minute is enough.
    pub async fn touch(
        &self,
        key: &str,
        now_ms: i64,
        expires_ms: i64,
        epoch: Epoch,
    ) -> Result<Option<Session>, StoreError> {
        self.change(&hashed(key), epoch, |session| {
            let live = session.is_live(now_ms);
            if live {
                session.active_ms = session.active_ms.max(now_ms);
                session.expires_ms = session.expires_ms.max(expires_ms);
            }
            live
        })
        .await
    }

    /// Ends a session, by its key (logout).
    pub async fn end(&self, key: &str, epoch: Epoch) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.remove(Table::Session, &hashed(key));
        self.store.commit(batch, epoch).await.map(drop)
    }

    /// Revokes a session, by its id; whether there was one. It stays listed as revoked until it would have expired.
    pub async fn revoke(&self, id: Uuid, now_ms: i64, epoch: Epoch) -> Result<bool, StoreError> {
        for (key, bytes) in all(&*self.store, Table::Session, &[]).await? {
            if Session::at(Table::Session, &key, &bytes)?.id == id {
                let revoke = |session: &mut Session| {
                    session.revoked_ms = now_ms.max(1);
                    true
                };
                return Ok(self.change(&key, epoch, revoke).await?.is_some());
            }
        }
        Ok(false)
    }

    /// All sessions, under the hashes of their keys: what a start begins with.
    pub async fn all(&self) -> Result<Vec<([u8; 32], Session)>, StoreError> {
        let rows = all(&*self.store, Table::Session, &[]).await?;
        rows.iter()
            .map(|(key, bytes)| {
                let hash = key.as_slice().try_into();
                let hash = hash.map_err(|_| seal::corrupt(&Table::Session.key(key), "expected a hash"))?;
                Ok((hash, Session::at(Table::Session, key, bytes)?))
            })
            .collect()
    }

    /// All sessions, revoked ones too.
    pub async fn list(&self) -> Result<Vec<Session>, StoreError> {
        let rows = all(&*self.store, Table::Session, &[]).await?;
        rows.iter().map(|(key, bytes)| Session::at(Table::Session, key, bytes)).collect()
    }

    /// Removes what has expired; says how many.
    pub async fn expire(&self, now_ms: i64, epoch: Epoch) -> Result<usize, StoreError> {
        let mut batch = Batch::new();
        let mut count = 0;
        for (key, bytes) in all(&*self.store, Table::Session, &[]).await? {
            if Session::at(Table::Session, &key, &bytes)?.expires_ms <= now_ms && count < SWEEP {
                // Touched in the meantime: then nothing is removed, and the next sweep looks again.
                batch.expect(Table::Session, &key, Some(&bytes)).remove(Table::Session, &key);
                count += 1;
            }
        }
        if count > 0 {
            self.store.commit(batch, epoch).await?;
        }
        Ok(count)
    }

    async fn change(
        &self,
        key: &[u8],
        epoch: Epoch,
        mut change: impl FnMut(&mut Session) -> bool,
    ) -> Result<Option<Session>, StoreError> {
        for _ in 0..TRIES {
            let Some(bytes) = self.store.get(Table::Session, key).await? else { return Ok(None) };
            let mut session = Session::at(Table::Session, key, &bytes)?;
            if !change(&mut session) {
                return Ok(None);
            }
            let mut batch = Batch::new();
            batch.expect(Table::Session, key, Some(&bytes)).put(Table::Session, key, session.encode());
            match self.store.commit(batch, epoch).await {
                Ok(_) => return Ok(Some(session)),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { table: Table::Session, key: "a session".to_owned() })
    }
}

//! Who owns a target, by epoch: the engine grants, an owner remembers the highest it has seen and refuses what is older.

use crate::{
    batch::{Batch, Epoch},
    error::StoreError,
    row::{Row as _, row},
    store::{Store, all},
    table::Table,
};
use std::sync::Arc;

row! {
    /// The ownership of a target.
    pub struct Lease {
        /// Which target.
        1 target: Arc<str>,
        /// The agent that holds it.
        2 owner: Arc<str>,
        /// Grows with every grant.
        3 epoch: u64,
        /// When it was granted or seen, Unix milliseconds.
        4 at_ms: i64,
    }
}

/// Why a lease is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Another grant came after it.
    #[error("epoch {given} of `{target}` is over: epoch {} was granted to {}", .highest.epoch, .highest.owner)]
    Over {
        /// Which target.
        target: Arc<str>,
        /// The epoch that came.
        given: u64,
        /// The latest grant.
        highest: Box<Lease>,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The epoch after `last`. The first one is the time in seconds, so that a store that was lost and begins anew does not begin with epochs
/// that owners have seen long ago.
pub fn following(last: Option<&Lease>, now_ms: i64) -> u64 {
    last.map_or_else(|| u64::try_from(now_ms / 1_000).unwrap_or(0).max(1), |last| last.epoch + 1)
}

/// The leases over a store.
#[derive(Clone, Debug)]
pub struct Leases {
    store: Arc<dyn Store>,
}

const TRIES: usize = 4;

impl Leases {
    /// The leases in `store`.
    pub fn new(store: Arc<dyn Store>) -> Leases {
        Leases { store }
    }

    async fn read(&self, target: &str) -> Result<(Option<Vec<u8>>, Option<Lease>), StoreError> {
        let bytes = self.store.get(Table::Lease, target.as_bytes()).await?;
        let lease = bytes.as_ref().map(|b| Lease::at(Table::Lease, target.as_bytes(), b)).transpose()?;
        Ok((bytes, lease))
    }

    async fn write(&self, before: Option<&[u8]>, lease: &Lease, epoch: Epoch) -> Result<bool, StoreError> {
        let key = lease.target.as_bytes();
        let mut batch = Batch::new();
        batch.expect(Table::Lease, key, before).put(Table::Lease, key, lease.encode());
        match self.store.commit(batch, epoch).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The latest grant of a target.
    pub async fn get(&self, target: &str) -> Result<Option<Lease>, StoreError> {
        Ok(self.read(target).await?.1)
    }

    /// Every target's latest grant.
    pub async fn list(&self) -> Result<Vec<Lease>, StoreError> {
        let rows = all(&*self.store, Table::Lease, &[]).await?;
        rows.iter().map(|(key, bytes)| Lease::at(Table::Lease, key, bytes)).collect()
    }

    /// The engine gives a target to an agent, with an epoch above all before it, also when it is the same agent again.
    pub async fn grant(
        &self,
        target: &str,
        owner: &str,
        now_ms: i64,
        epoch: Epoch,
    ) -> Result<Lease, LeaseError> {
        for _ in 0..TRIES {
            let (before, old) = self.read(target).await?;
            let next = following(old.as_ref(), now_ms);
            let lease = Lease { target: target.into(), owner: owner.into(), epoch: next, at_ms: now_ms };
            if self.write(before.as_deref(), &lease, epoch).await? {
                return Ok(lease);
            }
        }
        Err(StoreError::Conflict { table: Table::Lease, key: target.to_owned() }.into())
    }

    /// An owner meets a lease, for example in a command: durable before it is acted on. An older one than it has seen is refused; the same
    /// costs no commit.
    pub async fn see(&self, lease: &Lease, epoch: Epoch) -> Result<(), LeaseError> {
        for _ in 0..TRIES {
            let (before, known) = self.read(&lease.target).await?;
            match known {
                Some(known) if (known.epoch, &known.owner) == (lease.epoch, &lease.owner) => return Ok(()),
                Some(known) if known.epoch >= lease.epoch => {
                    let (target, given) = (Arc::clone(&lease.target), lease.epoch);
                    return Err(LeaseError::Over { target, given, highest: Box::new(known) });
                }
                _ => {}
            }
            if self.write(before.as_deref(), lease, epoch).await? {
                return Ok(());
            }
        }
        Err(StoreError::Conflict { table: Table::Lease, key: lease.target.to_string() }.into())
    }
}

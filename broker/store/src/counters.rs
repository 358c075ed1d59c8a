//! Counters that go on after a restart. A block is set aside before its numbers are used, so a restart leaves numbers out and gives none
//! twice.

use crate::{
    batch::{Batch, Epoch},
    error::StoreError,
    seal,
    store::Store,
    table::Table,
};
use std::sync::Arc;

/// How often a commit that lost a race is tried again.
const TRIES: usize = 4;

/// The counters over a store.
#[derive(Clone, Debug)]
pub struct Counters {
    store: Arc<dyn Store>,
}

impl Counters {
    /// The counters in `store`.
    pub fn new(store: Arc<dyn Store>) -> Counters {
        Counters { store }
    }

    async fn read(&self, name: &str) -> Result<(Option<Vec<u8>>, u64), StoreError> {
        let bytes = self.store.get(Table::Counter, name.as_bytes()).await?;
        let number = bytes.as_deref().map(|b| <[u8; 8]>::try_from(b).map(u64::from_le_bytes)).transpose();
        let number =
            number.map_err(|_| seal::corrupt(&Table::Counter.key(name.as_bytes()), "expected a number"))?;
        Ok((bytes, number.unwrap_or(0)))
    }

    /// The last number that may have been used; 0: none.
    pub async fn last(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.read(name).await?.1)
    }

    /// Sets all numbers up to `to` aside. A counter never goes back.
    pub async fn reserve(&self, name: &str, to: u64, epoch: Epoch) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let (before, last) = self.read(name).await?;
            if last >= to {
                return Ok(());
            }
            let key = name.as_bytes();
            let mut batch = Batch::new();
            batch.expect(Table::Counter, key, before.as_deref());
            batch.put(Table::Counter, key, to.to_le_bytes().to_vec());
            match self.store.commit(batch, epoch).await {
                Err(StoreError::Conflict { .. }) => {}
                committed => return committed.map(drop),
            }
        }
        Err(StoreError::Conflict { table: Table::Counter, key: name.to_owned() })
    }
}

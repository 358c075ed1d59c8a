//! What an agent has still to hand in to the engine, in order, and how far the engine has taken it.
//!
//! ```text
//! agent:  effect's outcome, audit entry ─▶ outbox 1, 2, 3 … ──sent──▶ engine: inbox of that agent: last = 2?
//!         ◀── acked(3): 1..3 removed ───────────────────────────────  3: with its effects in one commit, last = 3
//!                                                                     2 again: a duplicate, acked again    4: a gap, asked for 3
//! ```

use crate::{
    batch::{Batch, Epoch},
    error::StoreError,
    row::{Blob, Row as _, byte, row},
    seal,
    store::{Scan, Store},
    table::Table,
};
use std::sync::Arc;

byte! {
    /// What an entry is.
    pub enum What {
        /// The outcome of a command.
        Outcome = 1,
        /// An entry for the audit chain.
        Audit = 2,
        /// Ids given out of leased blocks.
        Ids = 3,
    }
}

row! {
    /// One thing to hand in.
    pub struct Item {
        /// What it is.
        1 what: What,
        /// Itself, encoded.
        2 body: Blob,
        /// Since when, Unix milliseconds.
        3 at_ms: i64,
    }
}

/// Adds an entry to a batch.
pub fn stage(batch: &mut Batch, item: &Item) {
    batch.append(Table::Outbox, item.encode(), Vec::new());
}

/// An agent's outbox over its store.
#[derive(Clone, Debug)]
pub struct Outbox {
    store: Arc<dyn Store>,
}

impl Outbox {
    /// The outbox in `store`.
    pub fn new(store: Arc<dyn Store>) -> Outbox {
        Outbox { store }
    }

    /// Adds one entry; its number comes back.
    pub async fn push(&self, item: &Item, epoch: Epoch) -> Result<u64, StoreError> {
        let mut batch = Batch::new();
        stage(&mut batch, item);
        Ok(self.store.commit(batch, epoch).await?.appended.first().copied().unwrap_or(0))
    }

    /// What is not acked, oldest first, beyond number `beyond`, at most `limit`.
    pub async fn pending(&self, beyond: u64, limit: usize) -> Result<Vec<(u64, Item)>, StoreError> {
        let scan = Scan { beyond: Some(beyond.to_be_bytes().to_vec()), limit, ..Scan::default() };
        let rows = self.store.scan(Table::Outbox, scan).await?;
        rows.iter()
            .map(|(key, value)| {
                let bad = || seal::corrupt(&Table::Outbox.key(key), "expected a number and a hash");
                let seq = <[u8; 8]>::try_from(key.as_slice()).map(u64::from_be_bytes).map_err(|_| bad())?;
                let (_, body) = value.split_first_chunk::<32>().ok_or_else(bad)?;
                Ok((seq, Item::at(Table::Outbox, key, body)?))
            })
            .collect()
    }

    /// Everything up to `seq` was taken. Numbers that were never given are the same as the last one.
    pub async fn acked(&self, seq: u64, epoch: Epoch) -> Result<(), StoreError> {
        loop {
            let mut batch = Batch::new();
            batch.prune(Table::Outbox, seq.saturating_add(1));
            self.store.commit(batch, epoch).await?;
            if self.pending(0, 1).await?.first().is_none_or(|(first, _)| *first > seq) {
                return Ok(());
            }
        }
    }
}

/// What became of an entry that an agent handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    Now,
    /// It had been taken before; ack it again.
    Before,
    /// Entries before it are missing: the agent has to send from `expected`.
    Gap {
        /// The next number to be taken.
        expected: u64,
    },
}

/// The engine's side, over its store.
#[derive(Clone, Debug)]
pub struct Inbox {
    store: Arc<dyn Store>,
}

impl Inbox {
    /// The inbox in `store`.
    pub fn new(store: Arc<dyn Store>) -> Inbox {
        Inbox { store }
    }

    /// The number of the last entry taken from an agent; 0: none.
    pub async fn last(&self, agent: &str) -> Result<u64, StoreError> {
        let Some(bytes) = self.store.get(Table::Inbox, agent.as_bytes()).await? else { return Ok(0) };
        let last = <[u8; 8]>::try_from(bytes.as_slice()).map(u64::from_le_bytes);
        last.map_err(|_| seal::corrupt(&Table::Inbox.key(agent.as_bytes()), "expected a number"))
    }

    /// Takes entry `seq` of an agent: `effects` (the journal's outcome, the audit entry) are written in the same commit that counts it.
    pub async fn take(
        &self,
        agent: &str,
        seq: u64,
        effects: Batch,
        epoch: Epoch,
    ) -> Result<Taken, StoreError> {
        let last = self.last(agent).await?;
        if seq <= last {
            return Ok(Taken::Before);
        }
        if seq != last + 1 {
            return Ok(Taken::Gap { expected: last + 1 });
        }
        let mut batch = Batch::new();
        let before = (last > 0).then(|| last.to_le_bytes());
        batch.expect(Table::Inbox, agent.as_bytes(), before.as_ref().map(|b| &b[..]));
        batch.put(Table::Inbox, agent.as_bytes(), seq.to_le_bytes().to_vec()).join(effects);
        self.store.commit(batch, epoch).await?;
        Ok(Taken::Now)
    }
}

//! A store in memory that can crash, for simulation: the same rows and rules as the file, no thread and no disk.
//!
//! ```text
//! commit ─▶ checked ─▶ waiting ──(one turn of the executor)──▶ durable, visible ─▶ Ok
//!                        └── crash: a prefix of those that wait became durable, chosen by the caller; nobody hears which
//! ```
//!
//! A batch is checked against what is durable and what waits, as in the file's group commit.

use crate::{
    apply::{self, Rows},
    batch::{Batch, Committed, Epoch},
    error::StoreError,
    seal,
    store::{Health, Row, Scan, Store, bounds},
    table::Table,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, task::Poll};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

impl Rows for Map {
    fn get(&self, full_key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(BTreeMap::get(self, full_key).cloned())
    }
    fn put(&mut self, full_key: &[u8], sealed: Vec<u8>) -> Result<(), StoreError> {
        self.insert(full_key.to_vec(), sealed);
        Ok(())
    }
    fn remove(&mut self, full_key: &[u8]) -> Result<(), StoreError> {
        BTreeMap::remove(self, full_key);
        Ok(())
    }
    fn keys(&self, from: &[u8], to: &[u8], most: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        Ok(self.range(from.to_vec()..to.to_vec()).take(most).map(|(k, _)| k.clone()).collect())
    }
}

#[derive(Debug, Default)]
struct State {
    durable: Map,
    /// The rows after each commit that waits, oldest first.
    waiting: Vec<(u64, Map)>,
    commits: u64,
    health: Option<StoreError>,
}

/// Rows in memory; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// The machine loses power: of the `n` commits that nobody was told of, the first `keep(n)` are there afterwards. Handles of before
    /// fail with [`StoreError::Closed`]; the store that is started next is returned.
    pub fn crash(&self, keep: impl FnOnce(usize) -> usize) -> MemoryStore {
        let mut state = self.state.lock();
        let waiting = std::mem::take(&mut state.waiting);
        let kept = keep(waiting.len()).min(waiting.len());
        let last = waiting.into_iter().take(kept).next_back();
        let durable = std::mem::take(&mut state.durable);
        state.health = Some(StoreError::Closed);
        let (commits, durable) = last.unwrap_or((state.commits, durable));
        let next = State { durable, commits: state.commits.max(commits), ..State::default() };
        MemoryStore { state: Arc::new(Mutex::new(next)) }
    }

    /// Lets every commit fail from now on, as a full disk does, or none.
    pub fn fail(&self, reason: Option<StoreError>) {
        self.state.lock().health = reason;
    }

    fn readable(state: &State) -> Result<(), StoreError> {
        match &state.health {
            Some(StoreError::Closed) => Err(StoreError::Closed),
            _ => Ok(()),
        }
    }
}

/// One turn of whatever polls: it wakes itself, so that a thread that only waits gets on too.
async fn turn() {
    let mut turned = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut turned, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError> {
        let committed = {
            let mut state = self.state.lock();
            match &state.health {
                Some(StoreError::Closed) => return Err(StoreError::Closed),
                Some(reason) => return Err(StoreError::ReadOnly { reason: Box::new(reason.clone()) }),
                None => {}
            }
            batch.check()?;
            let mut rows = state.waiting.last().map_or(&state.durable, |(_, rows)| rows).clone();
            let appended = apply::apply(&mut rows, &batch, epoch)?;
            state.commits += 1;
            let commit = state.commits;
            state.waiting.push((commit, rows));
            Committed { commit, appended }
        };
        turn().await;
        let mut state = self.state.lock();
        MemoryStore::readable(&state)?;
        // Commits become durable in their order, so whoever comes first takes those before it along.
        while state.waiting.first().is_some_and(|(commit, _)| *commit <= committed.commit) {
            state.durable = state.waiting.remove(0).1;
        }
        Ok(committed)
    }

    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state.lock();
        MemoryStore::readable(&state)?;
        let full = table.key(key);
        state.durable.get(&full).map(|sealed| Ok(seal::unseal(&full, sealed)?.to_vec())).transpose()
    }

    async fn scan(&self, table: Table, scan: Scan) -> Result<Vec<Row>, StoreError> {
        let state = self.state.lock();
        MemoryStore::readable(&state)?;
        let (from, to) = bounds(table, &scan);
        if from >= to {
            return Ok(Vec::new());
        }
        let read = |(full, sealed): (&Vec<u8>, &Vec<u8>)| {
            Ok((full.get(1..).unwrap_or_default().to_vec(), seal::unseal(full, sealed)?.to_vec()))
        };
        let rows = state.durable.range(from..to);
        if scan.backward {
            rows.rev().take(scan.limit).map(read).collect()
        } else {
            rows.take(scan.limit).map(read).collect()
        }
    }

    fn health(&self) -> Health {
        match &self.state.lock().health {
            None => Health::Open,
            Some(StoreError::Closed) => Health::Closed,
            Some(reason) => Health::ReadOnly(reason.clone()),
        }
    }
}

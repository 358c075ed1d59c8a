//! What every store offers.

use crate::{
    batch::{Batch, Committed, Epoch},
    error::StoreError,
    table::Table,
};
use async_trait::async_trait;
use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

/// Key and value of a row.
pub type Row = (Vec<u8>, Vec<u8>);

/// Which rows of a table, in the order of their keys.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Keys that begin so.
    pub prefix: Vec<u8>,
    /// Beyond this key (after it, or before it when backward).
    pub beyond: Option<Vec<u8>>,
    /// From the last to the first.
    pub backward: bool,
    /// At most so many.
    pub limit: usize,
}

impl Scan {
    /// Everything under a prefix, page by page.
    pub fn under(prefix: &[u8], limit: usize) -> Scan {
        Scan { prefix: prefix.to_vec(), limit, ..Scan::default() }
    }
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Reads and writes.
    Open,
    /// Reads only what verifies, and says why.
    ReadOnly(StoreError),
    /// Neither.
    Closed,
}

/// A durable store of rows. Reads see what is committed.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Writes a batch. It is durable when this returns `Ok`, and nothing is written after any error that is not
    /// [ambiguous](StoreError::is_ambiguous). A caller that goes away does not take its batch back.
    async fn commit(&self, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError>;

    /// As [`commit`](Store::commit), for what will have company: it is written by the disk's sync of the next `commit`, which it comes
    /// before, and by itself if there is none for [`COMPANY`](crate::file::COMPANY). A store that syncs for each batch need not know.
    async fn commit_along(&self, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError> {
        self.commit(batch, epoch).await
    }

    /// One row.
    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Rows in the order of their keys.
    async fn scan(&self, table: Table, scan: Scan) -> Result<Vec<Row>, StoreError>;

    /// How it is.
    fn health(&self) -> Health;
}

/// Waits for the store in a thread that cannot be asynchronous, inside a runtime or not. What is waited for must be kept going by other
/// threads, as a [`FileStore`](crate::FileStore) is: where asynchronous callers share a room of the store, use it asynchronously only.
pub fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

/// Rows a page.
const PAGE: usize = 1_024;

/// Every row under a prefix.
pub(crate) async fn all(store: &dyn Store, table: Table, prefix: &[u8]) -> Result<Vec<Row>, StoreError> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let beyond = rows.last().map(|(key, _)| key.clone());
        let page = store.scan(table, Scan { beyond, ..Scan::under(prefix, PAGE) }).await?;
        let last = page.len() < PAGE;
        rows.extend(page);
        if last {
            return Ok(rows);
        }
    }
}

/// The bounds of a scan as keys of the file: from (inclusive), to (exclusive).
pub(crate) fn bounds(table: Table, scan: &Scan) -> (Vec<u8>, Vec<u8>) {
    let mut from = table.key(&scan.prefix);
    let mut to = after(&from);
    if let Some(beyond) = &scan.beyond {
        let mut key = table.key(beyond);
        if scan.backward {
            to = to.min(key);
        } else {
            key.push(0);
            from = from.max(key);
        }
    }
    (from, to)
}

/// The first key that does not begin with `prefix`. The first byte is a table's number, which is never 255.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut to = prefix.to_vec();
    while let Some(last) = to.pop() {
        if last < u8::MAX {
            to.push(last + 1);
            break;
        }
    }
    to
}

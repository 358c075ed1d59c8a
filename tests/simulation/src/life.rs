//! One life of a process, and its store, which crashes with it.
//!
//! A process that is dead goes on running as code, but nothing of it is heard: what it asks of its store, of the network or of a hypervisor
//! is never answered, and never done.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use store::{Batch, Committed, Epoch, Health, MemoryStore, Row, Scan, Store, StoreError, Table};
use tokio::{sync::Notify, time::Instant};

/// One life. Whoever waits for its end hears of it in the order in which they began to wait.
#[derive(Debug)]
pub struct Life {
    dead: AtomicBool,
    end: Notify,
}

impl Life {
    /// It begins.
    pub fn begin() -> Arc<Life> {
        Arc::new(Life { dead: AtomicBool::new(false), end: Notify::new() })
    }

    /// It ends; whether it was alive.
    pub fn end(&self) -> bool {
        let was_dead = self.dead.swap(true, Ordering::AcqRel);
        self.end.notify_waiters();
        !was_dead
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Waits for its end.
    pub async fn over(&self) {
        let end = self.end.notified();
        if !self.is_over() {
            end.await;
        }
    }

    /// Goes on only while it lasts.
    pub async fn alive(&self) {
        if self.is_over() {
            pending::<()>().await;
        }
    }
}

/// How long a disk that forgets to sync keeps what it was given to itself.
const UNSYNCED: Duration = Duration::from_millis(400);

/// What was committed.
#[derive(Clone, Debug)]
struct Written {
    at: Instant,
    /// The store that it was written to, and which of its commits it was.
    number: (u64, u64),
    batch: Batch,
    epoch: Epoch,
}

/// What survives of a process.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The store on it.
    pub store: MemoryStore,
    /// Of a disk that forgets to sync, everything that was written.
    written: Option<Arc<Mutex<Vec<Written>>>>,
    /// How often it has crashed.
    crashes: u64,
}

impl Disk {
    /// An empty disk; `forgets`: it says that a commit is durable before it is.
    pub fn new(forgets: bool) -> Disk {
        Disk { store: MemoryStore::new(), written: forgets.then(Arc::default), crashes: 0 }
    }

    /// The power fails: of the `n` commits that nobody was told of, the first `keep(n)` are there afterwards.
    pub fn crash(&self, keep: impl FnOnce(usize) -> usize) -> Disk {
        let store = self.store.crash(keep);
        let crashes = self.crashes + 1;
        match &self.written {
            None => Disk { store, written: None, crashes },
            Some(written) => {
                let now = Instant::now();
                written.lock().retain(|one| now.saturating_duration_since(one.at) >= UNSYNCED);
                Disk { store: MemoryStore::new(), written: Some(Arc::clone(written)), crashes }
            }
        }
    }

    /// Reads what is there, at the start of a process.
    ///
    /// # Errors
    /// It does not fit together.
    pub async fn spin_up(&self) -> Result<(), StoreError> {
        let mut written = self.written.as_ref().map(|written| written.lock().clone()).unwrap_or_default();
        written.sort_by_key(|one| one.number);
        for one in written {
            self.store.commit(one.batch, one.epoch).await?;
        }
        Ok(())
    }

    async fn commit(&self, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError> {
        let Some(written) = &self.written else { return self.store.commit(batch, epoch).await };
        let done = self.store.commit(batch.clone(), epoch).await?;
        let number = (self.crashes, done.commit);
        written.lock().push(Written { at: Instant::now(), number, batch, epoch });
        Ok(done)
    }
}

/// A store that is heard only during a life.
#[derive(Debug)]
pub struct Mortal {
    /// Whose.
    pub life: Arc<Life>,
    /// What survives.
    pub disk: Disk,
}

#[async_trait]
impl Store for Mortal {
    async fn commit(&self, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError> {
        self.life.alive().await;
        let done = self.disk.commit(batch, epoch).await;
        self.life.alive().await;
        done
    }

    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.life.alive().await;
        self.disk.store.get(table, key).await
    }

    async fn scan(&self, table: Table, scan: Scan) -> Result<Vec<Row>, StoreError> {
        self.life.alive().await;
        self.disk.store.scan(table, scan).await
    }

    fn health(&self) -> Health {
        self.disk.store.health()
    }
}

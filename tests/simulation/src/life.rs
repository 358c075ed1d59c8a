//! One life of a process, and its store, which crashes with it.
//!
//! A process that is dead goes on running as code, but nothing of it is heard: what it asks of its store, of the network or of a hypervisor
//! is never answered, and never done.

use async_trait::async_trait;
use std::{future::pending, sync::Arc};
use store::{Batch, Committed, Epoch, Health, MemoryStore, Row, Scan, Store, StoreError, Table};
use tokio::sync::watch;

/// One life.
#[derive(Debug)]
pub struct Life {
    dead: watch::Sender<bool>,
}

impl Life {
    /// It begins.
    pub fn begin() -> Arc<Life> {
        Arc::new(Life { dead: watch::Sender::new(false) })
    }

    /// It ends; whether it was alive.
    pub fn end(&self) -> bool {
        !self.dead.send_replace(true)
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        *self.dead.borrow()
    }

    /// Waits for its end.
    pub async fn over(&self) {
        // Fails only when the sender is gone, and we hold it.
        drop(self.dead.subscribe().wait_for(|dead| *dead).await);
    }

    /// Goes on only while it lasts.
    pub async fn alive(&self) {
        if self.is_over() {
            pending::<()>().await;
        }
    }
}

/// A store that is heard only during a life.
#[derive(Debug)]
pub struct Mortal {
    /// Whose.
    pub life: Arc<Life>,
    /// What survives.
    pub store: MemoryStore,
}

#[async_trait]
impl Store for Mortal {
    async fn commit(&self, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError> {
        self.life.alive().await;
        let done = self.store.commit(batch, epoch).await;
        self.life.alive().await;
        done
    }

    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.life.alive().await;
        self.store.get(table, key).await
    }

    async fn scan(&self, table: Table, scan: Scan) -> Result<Vec<Row>, StoreError> {
        self.life.alive().await;
        self.store.scan(table, scan).await
    }

    fn health(&self) -> Health {
        self.store.health()
    }
}

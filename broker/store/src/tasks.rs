//! Tasks: commands as their callers watch them, readable for a day, also after a restart.

use crate::{
    batch::{Batch, Epoch},
    error::StoreError,
    row::{Blob, Row as _, row},
    store::{Store, all},
    table::Table,
};
use std::sync::Arc;
use union::ObjectId;

row! {
    /// A task as it is kept.
    pub struct Task {
        /// Which.
        1 id: ObjectId,
        /// Its record as protobuf.
        2 record: Blob,
    }
}

/// Adds to a batch that a task is as it is.
pub fn stage(batch: &mut Batch, task: &Task) {
    batch.put(Table::Task, task.id.to_string().as_bytes(), task.encode());
}

/// Adds to a batch that a task is forgotten.
pub fn stage_forget(batch: &mut Batch, id: ObjectId) {
    batch.remove(Table::Task, id.to_string().as_bytes());
}

/// The tasks over a store.
#[derive(Clone, Debug)]
pub struct Tasks {
    store: Arc<dyn Store>,
}

impl Tasks {
    /// The tasks in `store`.
    pub fn new(store: Arc<dyn Store>) -> Tasks {
        Tasks { store }
    }

    /// Every task, in no useful order.
    pub async fn all(&self) -> Result<Vec<Task>, StoreError> {
        let rows = all(&*self.store, Table::Task, &[]).await?;
        rows.iter().map(|(key, bytes)| Task::at(Table::Task, key, bytes)).collect()
    }

    /// Keeps one task.
    pub async fn put(&self, task: &Task, epoch: Epoch) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        stage(&mut batch, task);
        self.store.commit(batch, epoch).await.map(drop)
    }
}

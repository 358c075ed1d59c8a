//! Tasks over restarts.
//!
//! ```text
//! keep ─▶ queue: each task once, its last state ─▶ writer: all that is there in one commit
//!            ├─ stage(command): the command's task goes into the commit of its intent too, so it is never younger than the intent
//!            └─ written(task): before it is told; with the intent, if that comes within a moment, so that both are one sync
//! start: load ─▶ Tasks::restore ─▶ of live ones the commands: recovered, or Tasks::abandon
//! ```

use inventory::tasks::{Keeper, Kept};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::VecDeque, sync::Arc};
use store::{
    Batch, Blob, Epoch, Store, StoreError,
    tasks::{self, Task, Tasks as Rows},
};
use tokio::sync::Notify;
use union::{CommandId, Kind, ObjectId, Schema, codec};

/// Rows written together at most.
const TOGETHER: usize = 512;
/// Tasks that are remembered to be there; of an older one the next row is waited for, which is as good.
const LATELY: usize = 4_096;

/// One task that waits.
#[derive(Clone, Debug)]
enum Waiting {
    Put(Task, Option<CommandId>),
    Forget,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: FxHashMap<ObjectId, Waiting>,
    commands: FxHashMap<CommandId, ObjectId>,
    /// What is being written, as often as it is.
    writing: FxHashMap<ObjectId, usize>,
    /// The tasks that were last written for the first time, oldest first: they are there after a restart, if not as they are now.
    lately: VecDeque<ObjectId>,
    there: FxHashSet<ObjectId>,
}

impl Queue {
    fn take(&mut self, most: usize) -> Vec<(ObjectId, Waiting)> {
        let ids: Vec<ObjectId> = self.waiting.keys().copied().take(most).collect();
        for id in &ids {
            *self.writing.entry(*id).or_default() += 1;
        }
        ids.into_iter().filter_map(|id| Some((id, self.take_one(id)?))).collect()
    }

    fn take_one(&mut self, id: ObjectId) -> Option<Waiting> {
        let one = self.waiting.remove(&id)?;
        if let Waiting::Put(_, Some(command)) = &one {
            self.commands.remove(command);
        }
        Some(one)
    }

    fn written(&mut self, ids: impl Iterator<Item = ObjectId>) {
        for id in ids {
            match self.writing.get_mut(&id) {
                Some(times) if *times > 1 => *times -= 1,
                _ => drop(self.writing.remove(&id)),
            }
        }
    }

    /// What was being written is there.
    fn is_there(&mut self, id: ObjectId) {
        if !self.there.insert(id) {
            return;
        }
        self.lately.push_back(id);
        if self.lately.len() > LATELY
            && let Some(oldest) = self.lately.pop_front()
        {
            self.there.remove(&oldest);
        }
    }

    fn put(&mut self, id: ObjectId, one: Waiting) {
        if let Waiting::Put(_, Some(command)) = &one {
            self.commands.insert(*command, id);
        }
        self.waiting.insert(id, one);
    }
}

/// Keeps the tasks of an inventory in a store.
#[derive(Debug)]
pub struct TaskKeeper {
    store: Arc<dyn Store>,
    epoch: Epoch,
    schema: Arc<Schema>,
    queue: Mutex<Queue>,
    wake: Notify,
    wrote: Notify,
}

impl TaskKeeper {
    /// A keeper, to be given to [`inventory::Tasks::kept_by`] after [`load`](TaskKeeper::load).
    pub fn new(store: Arc<dyn Store>, epoch: Epoch, schema: Arc<Schema>) -> Arc<TaskKeeper> {
        let queue = Mutex::default();
        Arc::new(TaskKeeper { store, epoch, schema, queue, wake: Notify::new(), wrote: Notify::new() })
    }

    /// What was kept, for [`inventory::Tasks::restore`]. A row that cannot be understood is left out and logged.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load(&self) -> Result<Vec<Kept>, StoreError> {
        let rows = Rows::new(Arc::clone(&self.store)).all().await?;
        let message = self.schema.kind(Kind::Task);
        let command_id = message.field("command_id").map(|field| field.slot);
        let read = |row: Task| {
            let record = match codec::decode(&self.schema, message.id, &row.record.0) {
                Ok(record) => record,
                Err(error) => {
                    tracing::error!(task = %row.id, %error, "a kept task cannot be read; it is left out");
                    return None;
                }
            };
            let command = command_id.and_then(|slot| record.get(slot).as_str()?.parse().ok().map(CommandId));
            Some(Kept { id: row.id, command, record: Arc::new(record) })
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Adds the task of a command, if it waits to be written, to the batch that holds the command's intent.
    pub fn stage(&self, command: CommandId, batch: &mut Batch) {
        let queue = self.queue.lock();
        let waiting = queue.commands.get(&command).and_then(|id| queue.waiting.get(id));
        if let Some(Waiting::Put(task, _)) = waiting {
            tasks::stage(batch, task);
        }
    }

    /// Writes what is queued, for as long as it is polled.
    pub async fn run(&self) {
        loop {
            let wake = self.wake.notified();
            match self.flush().await {
                Ok(()) => {
                    wake.await;
                    tokio::time::sleep(super::GATHER).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "tasks are not kept; the store is tried again");
                    tokio::time::sleep(super::AGAIN).await;
                }
            }
        }
    }

    /// Writes what is queued now.
    ///
    /// # Errors
    /// The store's; what was not written stays queued.
    pub async fn flush(&self) -> Result<(), StoreError> {
        while self.flush_at(false).await? {}
        Ok(())
    }

    /// Writes what is queued now together with what is committed next, if that comes within a moment: a command's intent for example.
    ///
    /// # Errors
    /// As [`flush`](TaskKeeper::flush).
    pub async fn flush_along(&self) -> Result<(), StoreError> {
        self.flush_at(true).await.map(drop)
    }

    /// Writes a batch of what is queued; whether there was anything.
    async fn flush_at(&self, along: bool) -> Result<bool, StoreError> {
        let taken = self.queue.lock().take(TOGETHER);
        if taken.is_empty() {
            return Ok(false);
        }
        let mut batch = Batch::new();
        for (id, one) in &taken {
            match one {
                Waiting::Put(task, _) => tasks::stage(&mut batch, task),
                Waiting::Forget => tasks::stage_forget(&mut batch, *id),
            }
        }
        let written = match along {
            true => self.store.commit_along(batch, self.epoch).await,
            false => self.store.commit(batch, self.epoch).await,
        };
        let mut queue = self.queue.lock();
        queue.written(taken.iter().map(|(id, _)| *id));
        if let Err(error) = written {
            for (id, one) in taken {
                // What came since is newer.
                if !queue.waiting.contains_key(&id) {
                    queue.put(id, one);
                }
            }
            drop(queue);
            self.wrote.notify_waiters();
            return Err(error);
        }
        for (id, one) in &taken {
            match one {
                Waiting::Put(..) => queue.is_there(*id),
                Waiting::Forget => {}
            }
        }
        drop(queue);
        self.wrote.notify_waiters();
        Ok(true)
    }

    /// Waits until a task is written, if it is to be, or the store has refused it.
    pub async fn written(&self, id: ObjectId) {
        loop {
            let wrote = self.wrote.notified();
            tokio::pin!(wrote);
            wrote.as_mut().enable();
            let (waiting, writing) = {
                let queue = self.queue.lock();
                if queue.there.contains(&id) {
                    return;
                }
                (queue.waiting.contains_key(&id), queue.writing.contains_key(&id))
            };
            if writing {
                wrote.await;
            } else if !waiting {
                return;
            } else if let Err(error) = self.flush_along().await {
                tracing::warn!(task = %id, %error, "a task is told that is not kept");
                return;
            }
        }
    }
}

impl Keeper for TaskKeeper {
    fn keep(&self, task: Kept) {
        let row = Task { id: task.id, record: Blob(codec::encode(&self.schema, &task.record)) };
        self.queue.lock().put(task.id, Waiting::Put(row, task.command));
        self.wake.notify_one();
    }

    fn forget(&self, tasks: &[ObjectId]) {
        let mut queue = self.queue.lock();
        for id in tasks {
            queue.take_one(*id);
            queue.put(*id, Waiting::Forget);
        }
        drop(queue);
        self.wake.notify_one();
    }
}

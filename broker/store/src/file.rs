//! The store in a file: reads in the caller, writes by one thread that takes what has come in together and syncs once.
//!
//! ```text
//! commit ─▶ queue (bounded; full: Busy) ─▶ writer thread: as many as are there, at most a group ─▶ one fdatasync ─▶ each its answer
//! commit_along ─▶ queue ─▶ the writer waits for the next commit, at most COMPANY, and takes both together, in their order
//! disk full ─▶ reads only ─▶ every LOOK: room? ─▶ verified, opened, written again
//! ```

use crate::{
    batch::{Batch, Committed, Epoch},
    db::{Db, Shared, create},
    error::StoreError,
    medium::{FileMedium, Medium},
    store::{Health, Row, Scan, Store},
    table::Table,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::sync::oneshot;

/// Commits that may wait for the writer.
pub const QUEUE: usize = 1_024;
/// Commits that are written together at most.
const GROUP: usize = 256;
/// Bytes that are written together, about.
const GROUP_BYTES: usize = 16 << 20;
/// How long a batch that will have company waits for it.
pub const COMPANY: Duration = Duration::from_millis(5);
/// How often it is looked for before the writer sleeps: some tenths of a millisecond, less if others want the processor.
const LOOKS: usize = 400;

type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// Whether the writer may wait for a next batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Now,
    Along,
}

enum Job {
    Commit(Batch, Epoch, Pace, Reply<Result<Committed, StoreError>>),
    Reopen(Reply<Result<(), StoreError>>),
    /// Writes again if the disk was full and has room.
    Heal,
}

/// How often a store that found its disk full looks for room.
const LOOK: Duration = Duration::from_secs(2);

/// A store in a file. Dropping it writes what waits and releases the file.
#[derive(Debug)]
pub struct FileStore {
    shared: Arc<Shared>,
    jobs: Arc<Mutex<Option<SyncSender<Job>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Dropped, it ends the thread that looks for room.
    looking: Mutex<Option<SyncSender<()>>>,
}

impl FileStore {
    /// Opens the store at `path`, after verifying it; makes an empty one when there is no file. The directory must exist.
    ///
    /// Blocks for as long as it takes to read the file once.
    pub fn open_or_create(path: impl Into<PathBuf>) -> Result<Arc<FileStore>, StoreError> {
        let medium: Arc<dyn Medium> = Arc::new(FileMedium(path.into()));
        match FileStore::open(Arc::clone(&medium)) {
            Err(StoreError::Missing { .. }) => {
                FileStore::create(&*medium)?;
                FileStore::open(medium)
            }
            opened => opened,
        }
    }

    /// Makes an empty store where there is none.
    pub fn create(medium: &dyn Medium) -> Result<(), StoreError> {
        create(medium)
    }

    /// Opens a store, after verifying it. Nothing is written to one that does not verify.
    pub fn open(medium: Arc<dyn Medium>) -> Result<Arc<FileStore>, StoreError> {
        FileStore::start(Db::open(medium)?)
    }

    /// Opens a store that [`open`](FileStore::open) refused, for reading: what verifies is read, and a row that is not found is
    /// [`StoreError::Unverified`]. `reason` is why it was refused; commits name it.
    pub fn open_damaged(medium: Arc<dyn Medium>, reason: StoreError) -> Result<Arc<FileStore>, StoreError> {
        FileStore::start(Db::open_damaged(medium, reason)?)
    }

    fn start(db: Db) -> Result<Arc<FileStore>, StoreError> {
        let shared = Arc::clone(&db.shared);
        let (jobs, queue) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || run(db, &queue));
        let failed =
            |e: std::io::Error| StoreError::Io { file: "the writer thread".to_owned(), what: e.to_string() };
        let thread = thread.map_err(failed)?;
        let jobs = Arc::new(Mutex::new(Some(jobs)));
        let (looking, stop) = sync_channel::<()>(1);
        let (to, of) = (Arc::clone(&jobs), Arc::clone(&shared));
        let look = move || {
            while stop.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if let (Health::ReadOnly(StoreError::Full { .. }), Some(jobs)) = (of.health(), &*to.lock()) {
                    // A full queue is answered first; it is asked again.
                    drop(jobs.try_send(Job::Heal));
                }
            }
        };
        std::thread::Builder::new().name("store-room".to_owned()).spawn(look).map_err(failed)?;
        let (thread, looking) = (Mutex::new(Some(thread)), Mutex::new(Some(looking)));
        Ok(Arc::new(FileStore { shared, jobs, thread, looking }))
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        match self.jobs.lock().as_ref().map(|jobs| jobs.try_send(job)) {
            Some(Ok(())) => Ok(()),
            Some(Err(TrySendError::Full(_))) => Err(StoreError::Busy { waiting: QUEUE }),
            Some(Err(TrySendError::Disconnected(_))) | None => Err(StoreError::Closed),
        }
    }

    /// [`commit`](Store::commit) for callers that cannot wait otherwise: blocks the thread for about one sync of the disk.
    pub fn commit_blocking(&self, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError> {
        let (sender, receiver) = sync_channel(1);
        let reply = move |result| {
            // Nobody listens: the caller's thread is gone, and its answer with it.
            drop(sender.send(result));
        };
        self.send(Job::Commit(batch, epoch, Pace::Now, Box::new(reply)))?;
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }

    async fn commit_at(&self, pace: Pace, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError> {
        batch.check()?;
        let (sender, receiver) = oneshot::channel();
        self.send(Job::Commit(batch, epoch, pace, Box::new(move |result| drop(sender.send(result)))))?;
        receiver.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Verifies and opens the file again, after the cause of a failure is gone (room on the disk).
    pub async fn reopen(&self) -> Result<(), StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.send(Job::Reopen(Box::new(move |result| drop(sender.send(result)))))?;
        receiver.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Writes what waits and releases the file. Blocks until it is done.
    pub fn close(&self) {
        drop(self.looking.lock().take());
        drop(self.jobs.lock().take());
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// What comes within a moment, taken without sleep: being woken takes as long as that.
fn soon(queue: &Receiver<Job>) -> Option<Job> {
    for _ in 0..LOOKS {
        match queue.try_recv() {
            Ok(job) => return Some(job),
            Err(_) => std::thread::yield_now(),
        }
    }
    None
}

fn run(mut db: Db, queue: &Receiver<Job>) {
    let mut next = queue.recv().ok();
    while let Some(job) = next.take() {
        let (mut group, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut job = Some(job);
        let (mut waits, mut patience) = (true, COMPANY);
        while let Some(Job::Commit(batch, epoch, pace, reply)) = job {
            bytes += batch.size();
            group.push((batch, epoch));
            replies.push((pace, reply));
            waits &= pace == Pace::Along;
            if group.len() >= GROUP || bytes >= GROUP_BYTES {
                job = None;
                break;
            }
            job = queue.try_recv().ok();
            if job.is_none() && waits {
                job = soon(queue).or_else(|| queue.recv_timeout(patience).ok());
                // However many come one by one, the first waits for less than twice as long.
                patience /= 2;
            }
        }
        if !group.is_empty() {
            let mut ended: Vec<_> = replies.into_iter().zip(db.commit(&group)).collect();
            // To answer is to wake somebody: those who wait for nothing else first.
            ended.sort_by_key(|((pace, _), _)| *pace == Pace::Along);
            for ((_, reply), result) in ended {
                reply(result);
            }
        }
        match job {
            Some(Job::Reopen(reply)) => reply(db.reopen()),
            Some(Job::Heal) => drop(db.heal()),
            Some(Job::Commit(..)) | None => {}
        }
        next = queue.recv().ok();
    }
    db.close();
}

#[async_trait]
impl Store for FileStore {
    async fn commit(&self, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError> {
        self.commit_at(Pace::Now, batch, epoch).await
    }

    async fn commit_along(&self, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError> {
        self.commit_at(Pace::Along, batch, epoch).await
    }

    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.get(table, key)
    }

    async fn scan(&self, table: Table, scan: Scan) -> Result<Vec<Row>, StoreError> {
        self.shared.scan(table, &scan)
    }

    fn health(&self) -> Health {
        self.shared.health()
    }
}

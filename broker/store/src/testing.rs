//! A disk for tests: it records what is written and synced, so that every state a power loss could leave can be made from it.
//!
//! What survives a power loss: everything before the last sync; of what came after, any subset of the writes, each whole or only some of
//! its 512-byte sectors, within the length that survived; of the changes of length, which a file system journals in order, the first few.

use crate::{
    Batch, Committed, Epoch, Health, Scan, Store, StoreError, Table,
    db::{self, Db},
    medium::Medium,
    store::Row,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use redb::StorageBackend;
use std::{
    future::Future,
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).unwrap()).unwrap()
    }
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Write(usize, Arc<[u8]>),
    SetLen(usize),
    Sync,
    /// A commit was acknowledged.
    Mark,
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) log: Vec<Op>,
    pub(crate) recording: bool,
    /// Writes that may still succeed; `None`: all.
    pub(crate) room: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TestMedium(pub(crate) Arc<Mutex<Disk>>);

impl TestMedium {
    pub(crate) fn holding(bytes: Vec<u8>) -> TestMedium {
        TestMedium(Arc::new(Mutex::new(Disk { bytes, ..Disk::default() })))
    }

    fn note(disk: &mut Disk, op: Op) {
        if disk.recording {
            disk.log.push(op);
        }
    }
}

impl Medium for TestMedium {
    fn name(&self) -> String {
        "the test disk".to_owned()
    }
    fn open(&self) -> io::Result<Arc<dyn StorageBackend>> {
        Ok(Arc::new(self.clone()))
    }
    fn create(&self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock();
        if !disk.bytes.is_empty() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        disk.bytes = bytes.to_vec();
        Ok(())
    }
}

impl StorageBackend for TestMedium {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().bytes.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.0.lock();
        let from = usize::try_from(offset).unwrap();
        let part = disk.bytes.get(from..from.saturating_add(out.len()));
        out.copy_from_slice(part.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.0.lock();
        let len = usize::try_from(len).unwrap();
        disk.bytes.resize(len, 0);
        TestMedium::note(&mut disk, Op::SetLen(len));
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        TestMedium::note(&mut self.0.lock(), Op::Sync);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock();
        match &mut disk.room {
            Some(0) => return Err(io::Error::from(io::ErrorKind::StorageFull)),
            Some(room) => *room -= 1,
            None => {}
        }
        let from = usize::try_from(offset).unwrap();
        let part = disk.bytes.get_mut(from..from + data.len());
        part.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?.copy_from_slice(data);
        TestMedium::note(&mut disk, Op::Write(from, data.into()));
        Ok(())
    }
}

/// One recorded history, from which images are made.
pub(crate) struct Film {
    pub(crate) start: Vec<u8>,
    pub(crate) log: Vec<Op>,
}

impl Film {
    /// What the disk could hold when the power fails after `upto` operations, and how many commits had been acknowledged by then.
    pub(crate) fn image(&self, upto: usize, rng: &mut Rng) -> (Vec<u8>, usize) {
        let log = &self.log[..upto];
        let synced = log.iter().rposition(|op| matches!(op, Op::Sync)).map_or(0, |at| at + 1);
        let mut bytes = self.start.clone();
        for op in &log[..synced] {
            match op {
                Op::Write(at, data) => bytes[*at..*at + data.len()].copy_from_slice(data),
                Op::SetLen(len) => bytes.resize(*len, 0),
                Op::Sync | Op::Mark => {}
            }
        }
        let after = &log[synced..];
        let lengths: Vec<usize> =
            after.iter().filter_map(|op| if let Op::SetLen(len) = op { Some(*len) } else { None }).collect();
        let kept = rng.below(lengths.len() + 1);
        for len in &lengths[..kept] {
            bytes.resize(*len, 0);
        }
        // Sometimes nearly all of it survives, sometimes nearly nothing.
        let survives = [3, 50, 97, 100][rng.below(4)];
        let torn = [0, 10, 50][rng.below(3)];
        for op in after {
            let Op::Write(at, data) = op else { continue };
            if !rng.chance(survives) {
                continue;
            }
            let tear = rng.chance(torn);
            for (n, sector) in data.chunks(512).enumerate() {
                let from = at + n * 512;
                if (tear && rng.chance(50)) || from >= bytes.len() {
                    continue;
                }
                let to = (from + sector.len()).min(bytes.len());
                bytes[from..to].copy_from_slice(&sector[..to - from]);
            }
        }
        (bytes, log.iter().filter(|op| matches!(op, Op::Mark)).count())
    }
}

/// Every row of every table.
pub(crate) type Dump = Vec<(Table, Vec<Row>)>;

pub(crate) fn dump(db: &Db) -> Dump {
    let every = Scan { limit: usize::MAX, ..Scan::default() };
    Table::ALL.iter().map(|t| (*t, db.shared.scan(*t, &every).expect("every row reads"))).collect()
}

/// The store without its thread: a commit is done when it was asked for.
#[derive(Debug)]
pub(crate) struct Direct {
    pub(crate) db: Mutex<Db>,
    disk: TestMedium,
    /// The store after each acknowledged commit.
    pub(crate) states: Mutex<Vec<Dump>>,
}

impl Direct {
    pub(crate) fn open(disk: &TestMedium) -> Result<Arc<Direct>, StoreError> {
        let db = Db::open(Arc::new(disk.clone()))?;
        let states = Mutex::new(vec![dump(&db)]);
        Ok(Arc::new(Direct { db: Mutex::new(db), disk: disk.clone(), states }))
    }

    pub(crate) fn fresh() -> (TestMedium, Arc<Direct>) {
        let disk = TestMedium::default();
        db::create(&disk).unwrap();
        let direct = Direct::open(&disk).unwrap();
        (disk, direct)
    }

    pub(crate) fn group(&self, group: &[(Batch, Epoch)]) -> Vec<Result<Committed, StoreError>> {
        let mut db = self.db.lock();
        let results = db.commit(group);
        if results.iter().any(Result::is_ok) {
            TestMedium::note(&mut self.disk.0.lock(), Op::Mark);
            if self.disk.0.lock().recording {
                self.states.lock().push(dump(&db));
            }
        }
        results
    }
}

#[async_trait]
impl Store for Direct {
    async fn commit(&self, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError> {
        self.group(&[(batch, epoch)]).pop().unwrap()
    }
    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.lock().shared.get(table, key)
    }
    async fn scan(&self, table: Table, scan: Scan) -> Result<Vec<Row>, StoreError> {
        self.db.lock().shared.scan(table, &scan)
    }
    fn health(&self) -> Health {
        self.db.lock().shared.health()
    }
}

/// Runs what never waits.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    let mut future = pin!(future);
    for _ in 0..1_000 {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
    }
    panic!("it waits for something");
}

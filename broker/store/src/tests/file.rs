//! The store in a real file, with its thread.

use crate::Medium;
use crate::{
    Batch, Epoch, FileMedium, FileStore, Health, Scan, Store, StoreError, Table,
    idmap::{IdMap, Numbers},
};
use redb::{BackendError, StorageBackend};
use std::{
    io,
    ops::Bound,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const E: Epoch = Epoch(1);

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    (dir, path)
}

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(Table::User, key.as_bytes(), value.as_bytes().to_vec());
    batch
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let (_dir, path) = place();
    let store = FileStore::open_or_create(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(!path.with_extension("redb.new").exists());
    let first = store.commit(put("a", "1"), E).await.unwrap();
    let second = store.commit_blocking(put("b", "2"), E).unwrap();
    assert!(second.commit > first.commit);
    drop(store);
    let store = FileStore::open_or_create(&path).unwrap();
    assert_eq!(store.get(Table::User, b"a").await.unwrap().unwrap(), b"1");
    let rows = store.scan(Table::User, Scan { backward: true, ..Scan::under(b"", 10) }).await.unwrap();
    assert_eq!(rows, [(b"b".to_vec(), b"2".to_vec()), (b"a".to_vec(), b"1".to_vec())]);
    assert_eq!(store.health(), Health::Open);
    store.close();
    assert_eq!(store.commit(put("c", "3"), E).await, Err(StoreError::Closed));
    assert_eq!(store.health(), Health::Closed);
}

#[tokio::test]
async fn commits_that_come_together_share_a_sync_and_fail_apart() {
    let (_dir, path) = place();
    let store = FileStore::open_or_create(&path).unwrap();
    store.commit(put("there", "x"), E).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut batch = put(&format!("{n}"), "y");
            if n % 5 == 0 {
                batch.expect(Table::User, b"there", None);
            }
            (n, store.commit(batch, E).await)
        });
    }
    let mut commits = std::collections::BTreeSet::new();
    while let Some(done) = tasks.join_next().await {
        let (n, result) = done.unwrap();
        let there = store.get(Table::User, format!("{n}").as_bytes()).await.unwrap();
        match result {
            Ok(committed) => {
                commits.insert(committed.commit);
                assert!(n % 5 != 0 && there.is_some());
            }
            Err(StoreError::Conflict { table: Table::User, key }) => {
                assert!(n % 5 == 0 && there.is_none() && key == "there");
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert!(commits.len() < 160, "{} commits of 160 batches", commits.len());
}

#[tokio::test]
async fn what_goes_along_is_written_before_what_follows_it_and_by_itself_if_nothing_does() {
    let (_dir, path) = place();
    let store = FileStore::open_or_create(&path).unwrap();
    for n in 0..50 {
        let key = format!("{n}");
        let mut behind = put(&key, "behind");
        behind.expect(Table::User, key.as_bytes(), Some(b"along"));
        let (along, behind) =
            tokio::join!(store.commit_along(put(&key, "along"), E), store.commit(behind, E));
        assert!(along.unwrap().commit <= behind.unwrap().commit);
    }
    let alone = store.commit_along(put("alone", "1"), E).await.unwrap();
    let mut refused = put("alone", "2");
    refused.expect(Table::User, b"alone", None);
    assert!(matches!(store.commit_along(refused, E).await, Err(StoreError::Conflict { .. })));
    let next = store.commit(put("next", "1"), E).await.unwrap();
    assert!(alone.commit < next.commit);
    drop(store);
    let store = FileStore::open_or_create(&path).unwrap();
    assert_eq!(store.get(Table::User, b"alone").await.unwrap().unwrap(), b"1");
    assert_eq!(store.get(Table::User, b"49").await.unwrap().unwrap(), b"behind");
    let stale = store.commit_along(put("late", "1"), Epoch(0)).await;
    assert_eq!(stale, Err(StoreError::Stale { given: 0, highest: E.0 }));
}

#[tokio::test]
async fn an_epoch_that_is_over_writes_nothing() {
    let (_dir, path) = place();
    let store = FileStore::open_or_create(&path).unwrap();
    store.commit(put("a", "1"), Epoch(3)).await.unwrap();
    let stale = store.commit(put("a", "2"), Epoch(2)).await.unwrap_err();
    assert_eq!(stale, StoreError::Stale { given: 2, highest: 3 });
    drop(store);
    let store = FileStore::open_or_create(&path).unwrap();
    assert!(store.commit(put("a", "2"), Epoch(2)).await.is_err());
    assert_eq!(store.get(Table::User, b"a").await.unwrap().unwrap(), b"1");
    store.commit(put("a", "2"), Epoch(3)).await.unwrap();
}

#[test]
fn one_process_a_file() {
    let (_dir, path) = place();
    let store = FileStore::open_or_create(&path).unwrap();
    let second = FileStore::open_or_create(&path).unwrap_err();
    assert!(matches!(second, StoreError::Locked { .. }), "{second}");
    store.close();
    FileStore::open_or_create(&path).unwrap();
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let (_dir, path) = place();
    for content in [&b""[..], b"short", &[0; 100_000]] {
        std::fs::write(&path, content).unwrap();
        let error = FileStore::open_or_create(&path).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. } | StoreError::Truncated { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
        let error = FileStore::create(&FileMedium(path.clone())).unwrap_err();
        assert!(matches!(error, StoreError::Exists { .. }), "{error}");
    }
    // A second name of another store, left by a start that was killed, is not written to.
    let (kept, left) = (path.with_extension("kept"), path.with_extension("redb.new"));
    std::fs::rename(&path, &kept).unwrap();
    std::fs::hard_link(&kept, &left).unwrap();
    FileStore::open_or_create(&path).unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), [0; 100_000]);
    std::fs::remove_file(&path).unwrap();
    let error = FileStore::open(Arc::new(FileMedium(path))).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn limits_are_told_before_anything_is_written() {
    let (_dir, path) = place();
    let store = FileStore::open_or_create(&path).unwrap();
    let long = "k".repeat(crate::batch::MAX_KEY + 1);
    let error = store.commit(put(&long, ""), E).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { what: "a key", .. }), "{error}");
    let mut large = Batch::new();
    for n in 0..5 {
        large.put(Table::User, &[n], vec![0; crate::batch::MAX_VALUE]);
    }
    let error = store.commit(large, E).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { what: "a batch", .. }), "{error}");
    assert!(store.scan(Table::User, Scan::under(b"", 10)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_store_is_a_trait_object() {
    let (_dir, path) = place();
    let stores: Vec<Arc<dyn Store>> =
        vec![FileStore::open_or_create(&path).unwrap(), Arc::new(crate::MemoryStore::new())];
    for store in stores {
        let mut batch = put("a", "1");
        batch.append(Table::Audit, b"first".to_vec(), vec![]).append(
            Table::Outbox,
            b"other".to_vec(),
            vec![],
        );
        batch.append(Table::Audit, b"second".to_vec(), vec![b"text".to_vec()]);
        assert_eq!(store.commit(batch, E).await.unwrap().appended, [1, 1, 2]);
        let mut batch = Batch::new();
        batch.remove(Table::User, b"a").remove(Table::User, b"none").prune(Table::Audit, 2);
        assert_eq!(store.commit(batch, E).await.unwrap().appended, [0; 0]);
        assert_eq!(store.get(Table::User, b"a").await.unwrap(), None);
        assert_eq!(store.scan(Table::Audit, Scan::under(b"", 10)).await.unwrap().len(), 1);
        assert_eq!(store.scan(Table::Index, Scan::under(b"", 10)).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_caller_that_cannot_be_asynchronous_waits_and_ids_survive_a_restart() {
    let (_dir, path) = place();
    let id = |n| union::ObjectId::new(union::Kind::Vm, uuid::Uuid::from_u128(n));
    for restart in 0..3u128 {
        let store = FileStore::open_or_create(&path).unwrap();
        let map = crate::wait(IdMap::open(store, "vsphere", "fleet", Numbers::Counted)).unwrap();
        for n in 0..=restart {
            let native = crate::wait(map.native(id(n), "vm-{n}", E)).unwrap();
            assert_eq!(*native, *format!("vm-{}", n + 1));
        }
    }
}

#[tokio::test]
async fn a_forgotten_object_takes_its_number_with_it() {
    let (_dir, path) = place();
    let of = |kind, n| union::ObjectId::new(kind, uuid::Uuid::from_u128(n));
    let (id, task) = (|n| of(union::Kind::Snapshot, n), |n| of(union::Kind::Task, n));
    let store = FileStore::open_or_create(&path).unwrap();
    let map = IdMap::open(store.clone(), "vsphere", "fleet", Numbers::Counted).await.unwrap();
    map.natives(&[(id(1), "s-{n}"), (id(2), "s-{n}"), (task(5), "task-{n}")], E).await.unwrap();
    map.fix(id(3), "fixed", E).await.unwrap();
    map.retire(id(2), 1, E).await.unwrap();
    map.retire(id(3), 1, E).await.unwrap();
    assert_eq!(map.forget(&[id(1), id(2), id(3), id(4), task(5)], E).await.unwrap(), 2);
    assert_eq!((map.object("s-2"), map.object("task-1"), map.object("fixed")), (None, None, Some(id(3))));
    let again = IdMap::open(store, "vsphere", "fleet", Numbers::Counted).await.unwrap();
    assert_eq!(again.pairs(), map.pairs());
    assert_eq!(&*again.native(id(2), "s-{n}", E).await.unwrap(), "s-3");
    assert_eq!(&*again.native(task(6), "task-{n}", E).await.unwrap(), "task-2");
}

/// A file on a disk that can be full.
#[derive(Clone, Debug)]
struct Filling(FileMedium, Arc<AtomicBool>);

#[derive(Debug)]
struct Backend(Arc<dyn StorageBackend>, Arc<AtomicBool>);

impl Medium for Filling {
    fn name(&self) -> String {
        self.0.name()
    }
    fn open(&self) -> io::Result<Arc<dyn StorageBackend>> {
        Ok(Arc::new(Backend(self.0.open()?, Arc::clone(&self.1))))
    }
    fn create(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.create(bytes)
    }
}

impl Backend {
    fn room(&self) -> io::Result<()> {
        if self.1.load(Ordering::SeqCst) { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }
}

type Locked<T> = Result<T, BackendError>;

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room().and_then(|()| self.0.set_len(len))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.room().and_then(|()| self.0.sync_data())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room().and_then(|()| self.0.write(offset, data))
    }
    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.0.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.0.try_lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.0.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.0.query_lock_range(start, end)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_a_real_file_reads_on_and_heals() {
    let (_dir, path) = place();
    let full = Arc::new(AtomicBool::new(false));
    let medium = Arc::new(Filling(FileMedium(path), Arc::clone(&full)));
    FileStore::create(&*medium).unwrap();
    let store = FileStore::open(medium).unwrap();
    store.commit(put("a", "1"), E).await.unwrap();
    let (reading, done) = (Arc::clone(&store), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&done);
    let reader = tokio::spawn(async move {
        while !stop.load(Ordering::SeqCst) {
            // While the file changes hands there is a moment without one, and it says so.
            if let Ok(found) = reading.get(Table::User, b"a").await {
                assert_eq!(found.unwrap(), b"1");
            }
            tokio::task::yield_now().await;
        }
    });
    full.store(true, Ordering::SeqCst);
    let error = store.commit(put("a", "2"), E).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(matches!(store.commit(put("a", "2"), E).await, Err(StoreError::ReadOnly { .. })));
    assert_eq!(store.get(Table::User, b"a").await.unwrap().unwrap(), b"1");
    assert!(matches!(store.health(), Health::ReadOnly(StoreError::Full { .. })));
    full.store(false, Ordering::SeqCst);
    store.reopen().await.unwrap();
    done.store(true, Ordering::SeqCst);
    reader.await.unwrap();
    store.commit(put("a", "3"), E).await.unwrap();
    assert_eq!(store.get(Table::User, b"a").await.unwrap().unwrap(), b"3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_disk_has_room_again_writes_by_itself() {
    let (_dir, path) = place();
    let full = Arc::new(AtomicBool::new(false));
    let medium = Arc::new(Filling(FileMedium(path), Arc::clone(&full)));
    FileStore::create(&*medium).unwrap();
    let store = FileStore::open(Arc::clone(&medium) as _).unwrap();
    store.commit(put("a", "1"), E).await.unwrap();
    full.store(true, Ordering::SeqCst);
    store.commit(put("a", "2"), E).await.unwrap_err();
    let refused = store.commit(put("b", "2"), E).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::ReadOnly { .. }) && refused.to_string().contains("no room left"),
        "{refused}"
    );
    full.store(false, Ordering::SeqCst);
    let mut tries = 0;
    while store.commit(put("a", "3"), E).await.is_err() {
        tries += 1;
        assert!(tries < 600, "it has not been written again in a minute");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(store.health(), Health::Open);
    assert!(store.get(Table::User, b"b").await.unwrap().is_none(), "what was refused stays refused");
    store.close();
    drop(store);
    let store = FileStore::open(medium).unwrap();
    assert_eq!(store.get(Table::User, b"a").await.unwrap().unwrap(), b"3");
}

#[test]
fn a_full_queue_says_busy_and_what_was_taken_is_written() {
    use crate::testing::{TestMedium, now};
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };
    let disk = TestMedium::default();
    FileStore::create(&disk).unwrap();
    let store = FileStore::open(Arc::new(disk.clone())).unwrap();
    let held = disk.0.lock();
    let mut context = Context::from_waker(Waker::noop());
    let (mut taken, mut busy): (Vec<Pin<Box<_>>>, usize) = (Vec::new(), 0);
    for n in 0..crate::file::QUEUE * 3 {
        let mut commit = Box::pin(store.commit(put(&format!("{n}"), "x"), E));
        match commit.as_mut().poll(&mut context) {
            Poll::Pending => taken.push(commit),
            Poll::Ready(Err(StoreError::Busy { waiting })) => {
                assert_eq!(waiting, crate::file::QUEUE);
                busy += 1;
            }
            Poll::Ready(other) => panic!("{other:?}"),
        }
    }
    assert!(busy > crate::file::QUEUE && taken.len() >= crate::file::QUEUE, "{busy} {}", taken.len());
    drop(held);
    let count = taken.len();
    for commit in taken {
        crate::wait(commit).unwrap();
    }
    let rows = now(store.scan(Table::User, Scan::under(b"", usize::MAX))).unwrap();
    assert_eq!(rows.len(), count);
}

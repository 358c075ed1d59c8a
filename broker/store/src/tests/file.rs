//! The store in a real file, with its thread.

use crate::{Batch, Epoch, FileMedium, FileStore, Health, Scan, Store, StoreError, Table};
use std::{os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

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

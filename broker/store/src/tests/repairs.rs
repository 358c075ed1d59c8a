//! Repair, damaged reading, and a full disk.

use super::history::{Rooms, vm};
use crate::{
    Batch, Epoch, FileStore, Health, Store, StoreError, Table,
    db::Db,
    repair::{MARGIN, repair},
    testing::{Direct, Dump, Rng, TestMedium, dump, now},
};
use std::{collections::BTreeSet, sync::Arc};

fn played(steps: usize) -> (Vec<u8>, Dump) {
    let mut rng = Rng(5);
    let (disk, store) = Direct::fresh();
    let mut rooms = Rooms::open(&store);
    for _ in 0..steps {
        rooms.step(&mut rng);
    }
    let expected = dump(&store.db.lock());
    drop(rooms);
    drop(store);
    let bytes = disk.0.lock().bytes.clone();
    (bytes, expected)
}

#[test]
fn a_whole_store_is_copied_whole() {
    let (bytes, expected) = played(100);
    let to = TestMedium::default();
    let report = repair(&TestMedium::holding(bytes), Arc::new(to.clone())).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(dump(&Db::open(Arc::new(to)).unwrap()), expected);
}

#[test]
fn of_a_damaged_store_what_verifies_is_kept_and_no_id_comes_back() {
    let (bytes, expected) = played(150);
    let known: BTreeSet<_> =
        expected.iter().flat_map(|(t, rows)| rows.iter().map(move |r| (*t, r.clone()))).collect();
    let used: Vec<usize> = (8_192..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let (mut lost, mut saved) = (0, 0);
    for n in 0..300 {
        let mut rng = Rng(n);
        let mut damaged = bytes.clone();
        let at = used[rng.below(used.len())];
        damaged[at] ^= 1 << rng.below(8);
        let from = TestMedium::holding(damaged.clone());
        let to = TestMedium::default();
        let Ok(report) = repair(&from, Arc::new(to.clone())) else { continue };
        assert_eq!(from.0.lock().bytes, damaged, "flip {n}: a repair leaves the damaged file alone");
        let store = Direct::open(&to).unwrap_or_else(|e| panic!("flip {n} at {at}: {e}"));
        let found = store.states.lock()[0].clone();
        if report.is_whole() {
            assert_eq!(found, expected, "flip {n}");
            continue;
        }
        lost += 1;
        for (table, rows) in found {
            for row in rows {
                saved += 1;
                let ours = matches!(table, Table::Meta | Table::IdLast | Table::Index | Table::JournalOpen);
                let mended = report.mended > 0 && matches!(table, Table::IdNative | Table::IdUnion);
                let rolled = report.rolled_back.is_some();
                assert!(ours || mended || rolled || known.contains(&(table, row)), "flip {n}: {table}");
            }
        }
        let rooms = Rooms::open(&store);
        for map in &rooms.ids {
            let fresh = now(map.native(vm(1_000), "vm-{n}", Epoch(u64::MAX))).unwrap();
            let number: u64 = fresh.trim_start_matches("vm-").parse().unwrap();
            let counters = !map.counters().is_empty();
            assert!(number > MARGIN || !counters, "flip {n}: {fresh} may have been given out before");
        }
    }
    assert!(lost > 20 && saved > 1_000, "{lost} of 300 flips lost something, {saved} rows saved");
}

#[test]
fn a_full_disk_leaves_a_store_that_reads() {
    let (disk, store) = Direct::fresh();
    let put = |n: usize| {
        let mut batch = Batch::new();
        batch.put(Table::User, format!("{n}").as_bytes(), vec![1; 50_000]);
        now(store.commit(batch, Epoch(1)))
    };
    put(1).unwrap();
    disk.0.lock().room = Some(2);
    let failed = put(2).unwrap_err();
    assert!(matches!(failed, StoreError::Full { .. }) && failed.is_ambiguous(), "{failed}");
    assert!(matches!(put(3), Err(StoreError::ReadOnly { .. })));
    assert!(matches!(store.health(), Health::ReadOnly(StoreError::Full { .. })));
    assert_eq!(now(store.get(Table::User, b"1")).unwrap().unwrap().len(), 50_000);
    assert_eq!(now(store.get(Table::User, b"3")).unwrap(), None);
    let still = store.db.lock().reopen();
    assert!(still.is_err() || put(4).is_err(), "no room yet");
    disk.0.lock().room = None;
    store.db.lock().reopen().unwrap();
    put(5).unwrap();
    assert_eq!(store.health(), Health::Open);
    assert_eq!(now(store.get(Table::User, b"1")).unwrap().unwrap().len(), 50_000);
}

#[test]
fn a_damaged_store_is_refused_and_can_still_be_read() {
    let (disk, store) = Direct::fresh();
    let mut batch = Batch::new();
    for n in 0..200 {
        batch.put(
            Table::User,
            format!("user {n:03}").as_bytes(),
            format!("the value of user {n:03}").into_bytes(),
        );
    }
    now(store.commit(batch, Epoch(1))).unwrap();
    drop(store);
    let needle = b"the value of user 123";
    let mut bytes = disk.0.lock().bytes.clone();
    let at = bytes.windows(needle.len()).rposition(|w| w == needle).unwrap();
    bytes[at] ^= 1;
    let medium = Arc::new(TestMedium::holding(bytes));
    let refused = FileStore::open(medium.clone()).unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
    let store = FileStore::open_damaged(medium, refused).unwrap();
    assert_eq!(now(store.get(Table::User, b"user 122")).unwrap().unwrap(), b"the value of user 122");
    let error = now(store.get(Table::User, b"user 123")).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { table: "user", .. }), "{error}");
    let error = now(store.get(Table::User, b"user 999")).unwrap_err();
    assert!(matches!(error, StoreError::Unverified { table: Table::User, .. }), "{error}");
    assert!(store.commit_blocking(Batch::new(), Epoch(1)).is_err());
}

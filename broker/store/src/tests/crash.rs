//! Power losses: whatever a disk may hold after one, the store opens, and holds exactly what was acknowledged, or that and the one commit
//! that was being written, whole.
//!
//! `HYPERGLOT_CRASH_IMAGES` says how many images are tried (`make crash`: 100,000); 10,000 without it.

use super::history::{Rooms, vm};
use crate::{
    Epoch, Table,
    testing::{Direct, Dump, Film, Op, Rng, TestMedium, now},
};
use std::sync::atomic::{AtomicU64, Ordering};

const STEPS: usize = 40;
const IMAGES_A_HISTORY: u64 = 250;

fn images() -> u64 {
    std::env::var("HYPERGLOT_CRASH_IMAGES").ok().map_or(10_000, |n| n.parse().expect("a number of images"))
}

/// Plays a history on a disk, from what the disk holds.
fn film(disk: &TestMedium, rng: &mut Rng, steps: usize) -> (Film, Vec<Dump>) {
    let start = {
        let mut disk = disk.0.lock();
        disk.log.clear();
        disk.recording = true;
        disk.bytes.clone()
    };
    let store = Direct::open(disk).expect("it opens");
    let mut rooms = Rooms::open(&store);
    for _ in 0..steps {
        rooms.step(rng);
    }
    drop(rooms);
    let states = std::mem::take(&mut *store.states.lock());
    drop(store);
    let log = std::mem::take(&mut disk.0.lock().log);
    (Film { start, log }, states)
}

/// Opens an image and compares it with what was acknowledged.
fn check(image: Vec<u8>, acked: usize, states: &[Dump], what: &str) -> TestMedium {
    let disk = TestMedium::holding(image);
    let store = Direct::open(&disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    let found = store.states.lock()[0].clone();
    let whole = found == states[acked] || states.get(acked + 1).is_some_and(|next| found == *next);
    assert!(whole, "{what}: neither what was acknowledged ({acked}) nor one commit more");
    let rooms = Rooms::open(&store);
    let chain = now(rooms.audit.verify()).unwrap();
    assert!(chain.is_ok(), "{what}: {chain:?}");
    let open = now(rooms.journal.open(None, 100)).unwrap();
    assert!(open.iter().all(|entry| entry.is_open()), "{what}");
    assert_eq!(now(rooms.journal.open_count()).unwrap(), open.len(), "{what}");
    // What is given out now was never given out.
    let epoch = Epoch(u64::MAX);
    for map in &rooms.ids {
        let before = map.pairs();
        let highest = map.counters();
        let fresh = now(map.natives(&[(vm(1_000), "vm-{n}"), (vm(1_001), "vm-{n}")], epoch)).unwrap();
        for native in fresh {
            assert!(before.iter().all(|given| given.pair.native != native), "{what}: {native} again");
            let number: u64 = native.trim_start_matches("vm-").parse().unwrap();
            assert!(
                number > highest.get("vm-{n}").copied().unwrap_or(0),
                "{what}: {native} is not above {highest:?}"
            );
        }
    }
    disk
}

/// One history and its images; every tenth image crashes again while it recovers or goes on.
fn history(seed: u64) {
    let mut rng = Rng(seed);
    let (disk, store) = Direct::fresh();
    drop(store);
    let (first, states) = film(&disk, &mut rng, STEPS);
    for n in 0..IMAGES_A_HISTORY {
        let upto = rng.below(first.log.len() + 1);
        let (image, acked) = first.image(upto, &mut rng);
        let what = format!("history {seed}, image {n}, after {upto} of {} operations", first.log.len());
        if n % 10 != 0 {
            check(image, acked, &states, &what);
            continue;
        }
        let (second, states) = film(&TestMedium::holding(image), &mut rng, 4);
        let upto = rng.below(second.log.len() + 1);
        let (image, acked) = second.image(upto, &mut rng);
        check(image, acked, &states, &format!("{what}, again after {upto} of {}", second.log.len()));
    }
}

#[test]
fn after_any_power_loss_the_store_holds_what_was_acknowledged() {
    let histories = images().div_ceil(IMAGES_A_HISTORY);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= histories {
                        break;
                    }
                    history(seed);
                }
            });
        }
    });
}

#[test]
fn the_test_disk_does_lose_and_tear_writes() {
    let mut rng = Rng(1);
    let (disk, store) = Direct::fresh();
    drop(store);
    let (film, states) = film(&disk, &mut rng, STEPS);
    assert!(states.len() > 20);
    let rows: usize = states.last().unwrap().iter().map(|(_, rows)| rows.len()).sum();
    assert!(rows > 50, "{rows} rows");
    assert!(
        states.last().unwrap().iter().filter(|(t, rows)| *t != Table::Meta && !rows.is_empty()).count() > 8
    );
    let upto = film.log.len() - 1;
    let images: Vec<_> = (0..20).map(|_| film.image(upto, &mut rng).0).collect();
    assert!(images.iter().any(|image| *image != images[0]));
    // A disk that says it has synced and has not is found out: the comparison does compare.
    let lying = Film { log: film.log.iter().filter(|op| !matches!(op, Op::Sync)).cloned().collect(), ..film };
    let found = (0..50).filter(|_| {
        let (image, acked) = lying.image(lying.log.len(), &mut rng);
        let opened = Direct::open(&TestMedium::holding(image));
        opened.map_or(true, |store| store.states.lock()[0] != states[acked])
    });
    assert!(found.count() > 25);
}

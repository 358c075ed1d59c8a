//! Rot: one bit flipped, or the end cut off, in a file that was closed. The store refuses it or every row it reads is right.

use super::history::Rooms;
use crate::{
    StoreError,
    testing::{Direct, Rng, TestMedium, dump},
};
use std::sync::atomic::{AtomicU64, Ordering};

const FLIPS: u64 = 10_000;

#[test]
fn a_flipped_bit_or_a_cut_is_refused_or_harmless() {
    let mut rng = Rng(3);
    let (disk, store) = Direct::fresh();
    let mut rooms = Rooms::open(&store);
    for _ in 0..150 {
        rooms.step(&mut rng);
    }
    let expected = dump(&store.db.lock());
    drop(rooms);
    drop(store);
    let closed = disk.0.lock().bytes.clone();
    let used: Vec<usize> = (0..closed.len()).filter(|at| closed[*at] != 0).collect();
    let (next, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let quiet = std::panic::take_hook();
    // redb panics on some damaged pages; that is caught, and says nothing new.
    std::panic::set_hook(Box::new(|_| {}));
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let run = || {
            let mut wrong = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= FLIPS {
                    return wrong;
                }
                let mut rng = Rng(n);
                let mut bytes = closed.clone();
                let what = if rng.chance(5) {
                    let length = rng.below(closed.len());
                    bytes.truncate(length);
                    format!("cut to {length}")
                } else {
                    // Most of the file is empty; most flips go where it is not, the first pages among them.
                    let at = match rng.below(10) {
                        0 => rng.below(closed.len()),
                        1 => rng.below(8_192),
                        _ => used[rng.below(used.len())],
                    };
                    let bit = rng.below(8);
                    bytes[at] ^= 1 << bit;
                    format!("bit {bit} of byte {at}")
                };
                let opened = std::panic::catch_unwind(|| {
                    let store = Direct::open(&TestMedium::holding(bytes))?;
                    let right = store.states.lock()[0] == expected;
                    Ok::<_, StoreError>(right)
                });
                match opened.unwrap_or(Err(StoreError::Closed)) {
                    Ok(true) => {}
                    Ok(false) => wrong.push(what),
                    Err(StoreError::Corrupt { .. } | StoreError::Truncated { .. }) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(e) => wrong.push(format!("{what}: {e}")),
                }
            }
        };
        let threads = [scope.spawn(run), scope.spawn(run)];
        threads.into_iter().flat_map(|t| t.join().unwrap_or_else(|_| vec!["a panic".to_owned()])).collect()
    });
    std::panic::set_hook(quiet);
    assert!(wrong.is_empty(), "{} silently wrong: {wrong:?}", wrong.len());
    let refused = refused.into_inner();
    assert!(refused > FLIPS / 4, "only {refused} were refused: the flips miss what is used");
}

//! The checks see what they are there for: with any one part broken, some world of those that are lived in every run breaks a
//! promise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use simulation::{FLAWS, Flaw, run_with};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// As many worlds as every run lives.
const SEEDS: u64 = 2_000;

/// Does something with each, on as many threads as there are processors.
fn each<T: Sync>(of: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(one) = of.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(one);
                }
            });
        }
    });
}

#[test]
fn a_broken_part_is_seen() {
    each(&FLAWS, |flaw: &Flaw| {
        let sees = |seed| {
            let what = run_with(seed, Some(*flaw)).err()?.what;
            what.into_iter().find(|what| what.contains(flaw.sign())).map(|what| (seed, what))
        };
        let Some((seed, what)) = (1..=SEEDS).find_map(sees) else {
            panic!("{flaw:?}: no check says `{}` in {SEEDS} worlds", flaw.sign());
        };
        println!("{flaw:?} is seen in world {seed}: {what}");
    });
}

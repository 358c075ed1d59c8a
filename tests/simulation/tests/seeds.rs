//! Lives the worlds of the corpus, and then as many as `SEEDS` says (from `FROM` on).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    env,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
};

/// Worlds in a plain test run.
const SEEDS: u64 = 2_000;

fn number(name: &str, or: u64) -> u64 {
    env::var(name).ok().map_or(or, |text| text.parse().expect("a number"))
}

/// The seeds that failed once.
fn corpus() -> Vec<u64> {
    let lines = include_str!("../corpus.txt").lines();
    lines.filter_map(|line| line.split('#').next()?.trim().parse().ok()).collect()
}

#[test]
fn every_world_keeps_its_promises() {
    let (from, count) = (number("FROM", 1), number("SEEDS", SEEDS));
    if env::var_os("TELL").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_env("TELL"))
            .without_time()
            .init();
    }
    let mut seeds = if env::var_os("FROM").is_some() { Vec::new() } else { corpus() };
    seeds.extend(from..from + count);
    let (next, commands) = (AtomicU64::new(0), AtomicUsize::new(0));
    let (failures, died) = (Mutex::new(Vec::new()), Mutex::new(BTreeSet::new()));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                    let Some(seed) = seeds.get(at) else { return };
                    match simulation::run(*seed) {
                        Ok(report) => {
                            commands.fetch_add(report.commands, Ordering::Relaxed);
                            died.lock().extend(report.died);
                        }
                        Err(failure) => failures.lock().push(failure),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner();
    for failure in &failures {
        eprintln!("seed {}:\n  {}", failure.seed, failure.what.join("\n  "));
    }
    let commands = commands.into_inner();
    let missed: Vec<_> =
        simulation::world::points().into_iter().filter(|point| !died.lock().contains(point)).collect();
    println!("nobody died at {missed:?}");
    println!("{} worlds, {commands} commands, {} failures", seeds.len(), failures.len());
    assert!(failures.is_empty(), "{} of {} worlds broke a promise", failures.len(), seeds.len());
    assert!(
        commands >= seeds.len(),
        "the clients of {} worlds asked for {commands} things only",
        seeds.len()
    );
    // A few worlds cannot reach everything.
    assert!(seeds.len() < 1_000 || missed.is_empty(), "nobody died at {missed:?}");
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 1..=20 {
        let [one, other] =
            [(); 2].map(|()| simulation::run(seed).unwrap_or_else(|failure| panic!("{failure:?}")));
        let parted = one.story.iter().zip(&other.story).position(|(one, other)| one != other);
        if let Some(at) = parted {
            let around = |story: &[String]| {
                story.iter().skip(at.saturating_sub(3)).take(6).cloned().collect::<Vec<_>>().join("\n  ")
            };
            panic!("seed {seed} went two ways:\n  {}\nand\n  {}", around(&one.story), around(&other.story));
        }
        assert_eq!((one.commands, one.story.len()), (other.commands, other.story.len()), "seed {seed}");
    }
}

//! Chance, from the seed; and time, from the runtime.

use std::time::Duration;
use tokio::time::Instant;
use union::{Clock, Ids, clock::SeededIds};

/// Chance.
#[derive(Debug)]
pub struct Rng(SeededIds);

impl Rng {
    /// The same seed, the same chance.
    pub fn new(seed: u64) -> Rng {
        Rng(SeededIds::new(seed))
    }

    /// A number.
    pub fn next(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number below `most`.
    pub fn below(&self, most: u64) -> u64 {
        self.next() % most.max(1)
    }

    /// Whether something happens that happens `of` times in a thousand.
    pub fn chance(&self, of: u64) -> bool {
        self.below(1_000) < of
    }

    /// A time between two, milliseconds.
    pub fn ms(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most.saturating_sub(least) + 1))
    }

    /// One of several.
    pub fn pick<'t, T>(&self, of: &'t [T]) -> Option<&'t T> {
        let at = self.below(u64::try_from(of.len()).unwrap_or(1));
        of.get(usize::try_from(at).unwrap_or(0))
    }
}

impl Ids for Rng {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.fill(buffer);
    }
}

/// When the simulation begins, Unix milliseconds.
pub const BEGIN_MS: i64 = 1_800_000_000_000;

/// The runtime's time.
#[derive(Debug)]
pub struct SimClock(Instant);

impl SimClock {
    /// Begins now.
    pub fn new() -> SimClock {
        SimClock(Instant::now())
    }
}

impl Default for SimClock {
    fn default() -> SimClock {
        SimClock::new()
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        BEGIN_MS + i64::try_from(self.0.elapsed().as_millis()).unwrap_or(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

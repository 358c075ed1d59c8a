//! Time and ids, injected: production takes them from the system, tests and simulation from a seed.

use parking_lot::Mutex;
use std::{fmt, time::Duration};
use uuid::Uuid;

/// Where time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall time, Unix milliseconds.
    fn now_ms(&self) -> i64;
    /// Time since an arbitrary start; never goes back.
    fn monotonic(&self) -> Duration;
}

/// Where ids and randomness come from.
pub trait Ids: Send + Sync + fmt::Debug {
    /// Fills `buffer` with unpredictable bytes.
    fn fill(&self, buffer: &mut [u8]);

    /// A new UUIDv4.
    fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A new UUIDv7 at `now_ms`: sorts by time.
    fn ordered_uuid(&self, now_ms: i64) -> Uuid {
        let mut bytes = [0; 10];
        self.fill(&mut bytes);
        uuid::Builder::from_unix_timestamp_millis(u64::try_from(now_ms).unwrap_or(0), &bytes).into_uuid()
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[allow(clippy::disallowed_methods)]
    pub fn new() -> SystemClock {
        SystemClock { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn now_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The machine's randomness.
#[derive(Debug, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    #[allow(clippy::disallowed_methods)]
    fn fill(&self, buffer: &mut [u8]) {
        // A v4 uuid carries 122 random bits; the two octets with fixed bits (6 and 8) are left out.
        for chunk in buffer.chunks_mut(14) {
            let random = Uuid::new_v4().into_bytes();
            let free = random.iter().enumerate().filter(|(i, _)| *i != 6 && *i != 8).map(|(_, b)| *b);
            for (to, from) in chunk.iter_mut().zip(free) {
                *to = from;
            }
        }
    }
}

/// A clock that a test moves by hand.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<(i64, Duration)>,
}

impl ManualClock {
    /// A clock that stands at `now_ms`.
    pub fn new(now_ms: i64) -> ManualClock {
        ManualClock { now: Mutex::new((now_ms, Duration::ZERO)) }
    }

    /// Moves both times on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        now.0 += i64::try_from(by.as_millis()).unwrap_or(0);
        now.1 += by;
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.now.lock().1
    }
}

/// Reproducible bytes from a seed (SplitMix64): for tests and simulation only.
#[derive(Debug)]
pub struct SeededIds {
    state: Mutex<u64>,
}

impl SeededIds {
    /// The same seed gives the same bytes.
    pub fn new(seed: u64) -> SeededIds {
        SeededIds { state: Mutex::new(seed) }
    }
}

impl Ids for SeededIds {
    fn fill(&self, buffer: &mut [u8]) {
        let mut state = self.state.lock();
        for chunk in buffer.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            for (to, from) in chunk.iter_mut().zip(z.to_le_bytes()) {
                *to = from;
            }
        }
    }
}

//! How often a password may be wrong.
//!
//! ```text
//! (remote, name):  free ──5 wrong──▶ waits 1 s, 2 s, 4 s … 60 s, one try after each ──right──▶ free
//! remote:          free ──50 wrong─▶ the same, except for names that logged in from there before
//! either:          15 minutes without a wrong password ──▶ forgotten
//! ```
//!
//! An IPv6 remote is its /64. A full table drops what was seen longest ago.

use rustc_hash::FxHashMap;
use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// The figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wrong passwords for one name from one remote before waits begin.
    pub per_name: u32,
    /// Wrong passwords from one remote before waits begin.
    pub per_remote: u32,
    /// The first wait; each next is twice as long.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// After this long without a wrong password everything is forgotten.
    pub forget: Duration,
    /// Entries of each table.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            per_name: 5,
            per_remote: 50,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            forget: Duration::from_secs(15 * 60),
            entries: 4_096,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    wrong: u32,
    /// A login succeeded since the entry was made.
    good: bool,
    seen: Duration,
    until: Duration,
}

/// Counts wrong passwords. Times are monotonic.
#[derive(Debug)]
pub struct Limiter {
    limits: Limits,
    names: FxHashMap<(IpAddr, Box<str>), Entry>,
    remotes: FxHashMap<IpAddr, Entry>,
}

impl Limiter {
    /// Nothing counted yet.
    pub fn new(limits: Limits) -> Limiter {
        Limiter { limits, names: FxHashMap::default(), remotes: FxHashMap::default() }
    }

    /// How long `name` from `remote` has still to wait; zero: it may try now.
    pub fn wait(&self, remote: IpAddr, name: &str, now: Duration) -> Duration {
        let remote = network(remote);
        let forgotten = |entry: &&Entry| now.saturating_sub(entry.seen) >= self.limits.forget;
        let left = |entry: Option<&Entry>| {
            entry.filter(|e| !forgotten(e)).map_or(Duration::ZERO, |e| e.until.saturating_sub(now))
        };
        let pair = self.names.get(&(remote, name.into()));
        let known = pair.is_some_and(|entry| entry.good);
        let of_remote = if known { Duration::ZERO } else { left(self.remotes.get(&remote)) };
        left(pair).max(of_remote)
    }

    /// A password was wrong.
    pub fn wrong(&mut self, remote: IpAddr, name: &str, now: Duration) {
        let remote = network(remote);
        let limits = self.limits;
        let count = |entry: &mut Entry, free: u32| {
            if now.saturating_sub(entry.seen) >= limits.forget {
                *entry = Entry::default();
            }
            entry.wrong = entry.wrong.saturating_add(1);
            entry.seen = now;
            if let Some(past) = entry.wrong.checked_sub(free) {
                let factor = 1u32.checked_shl(past).unwrap_or(u32::MAX).max(1);
                let wait = limits.first_wait.saturating_mul(if past >= 32 { u32::MAX } else { factor });
                entry.until = now + wait.min(limits.longest_wait);
            }
        };
        make_room(&mut self.names, limits.entries, |e| e.seen);
        count(self.names.entry((remote, name.into())).or_default(), limits.per_name);
        make_room(&mut self.remotes, limits.entries, |e| e.seen);
        count(self.remotes.entry(remote).or_default(), limits.per_remote);
    }

    /// A password was right.
    pub fn right(&mut self, remote: IpAddr, name: &str, now: Duration) {
        make_room(&mut self.names, self.limits.entries, |e| e.seen);
        let entry = Entry { wrong: 0, good: true, seen: now, until: Duration::ZERO };
        self.names.insert((network(remote), name.into()), entry);
    }
}

/// The part of an address that one subscriber has to itself: an IPv4 address, or the /64 of an IPv6 address.
pub fn network(remote: IpAddr) -> IpAddr {
    match remote.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// Drops an eighth of a full table, oldest first, so that the search for the oldest is rare.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(
    table: &mut FxHashMap<K, V>,
    entries: usize,
    seen: impl Fn(&V) -> Duration,
) {
    if table.len() < entries {
        return;
    }
    let mut times: Vec<Duration> = table.values().map(&seen).collect();
    times.sort_unstable();
    let eighth = times.len() / 8;
    let Some(limit) = times.get(eighth).copied() else { return };
    let mut left = eighth + 1;
    table.retain(|_, value| {
        let goes = left > 0 && seen(value) <= limit;
        left -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn waits_grow_and_end() {
        let mut limiter = Limiter::new(Limits::default());
        let now = seconds(1_000);
        for _ in 0..4 {
            limiter.wrong(A, "eve", now);
            assert_eq!(limiter.wait(A, "eve", now), Duration::ZERO);
        }
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            limiter.wrong(A, "eve", now);
            assert_eq!(limiter.wait(A, "eve", now), seconds(expected));
        }
        assert_eq!(limiter.wait(A, "eve", now + seconds(59)), seconds(1));
        assert_eq!(limiter.wait(A, "eve", now + seconds(60)), Duration::ZERO);
        assert_eq!(limiter.wait(B, "eve", now), Duration::ZERO);
        assert_eq!(limiter.wait(A, "bob", now), Duration::ZERO);
        limiter.right(A, "eve", now + seconds(60));
        limiter.wrong(A, "eve", now + seconds(60));
        assert_eq!(limiter.wait(A, "eve", now + seconds(60)), Duration::ZERO);
    }

    #[test]
    fn everything_is_forgotten() {
        let mut limiter = Limiter::new(Limits::default());
        for _ in 0..9 {
            limiter.wrong(A, "eve", seconds(0));
        }
        limiter.wrong(A, "eve", seconds(900));
        assert_eq!(limiter.wait(A, "eve", seconds(900)), Duration::ZERO);
    }

    #[test]
    fn a_remote_that_guesses_names_waits_but_its_known_users_do_not() {
        let mut limiter = Limiter::new(Limits::default());
        limiter.right(A, "bob", seconds(0));
        for n in 0..50 {
            limiter.wrong(A, &format!("user{n}"), seconds(1));
        }
        assert_eq!(limiter.wait(A, "carol", seconds(1)), seconds(1));
        assert_eq!(limiter.wait(A, "bob", seconds(1)), Duration::ZERO);
        assert_eq!(limiter.wait(B, "carol", seconds(1)), Duration::ZERO);
    }

    #[test]
    fn one_ipv6_subscriber_is_one_remote() {
        let mut limiter = Limiter::new(Limits::default());
        for n in 0..5u16 {
            limiter.wrong(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n)), "eve", seconds(0));
        }
        assert!(limiter.wait("2001:db8:0:1::9".parse().unwrap(), "eve", seconds(0)) > Duration::ZERO);
        assert!(limiter.wait("2001:db8:0:2::9".parse().unwrap(), "eve", seconds(0)).is_zero());
        for _ in 0..5 {
            limiter.wrong("::ffff:192.0.2.1".parse().unwrap(), "eve", seconds(0));
        }
        assert!(limiter.wait(A, "eve", seconds(0)) > Duration::ZERO);
    }

    proptest! {
        #[test]
        fn tables_stay_small(steps in prop::collection::vec((any::<u32>(), any::<bool>(), 0u64..5), 0..400)) {
            let mut limiter = Limiter::new(Limits { entries: 16, ..Limits::default() });
            let mut now = Duration::ZERO;
            for (n, right, pause) in steps {
                now += seconds(pause);
                let remote = IpAddr::V4(n.into());
                match right {
                    true => limiter.right(remote, &n.to_string(), now),
                    false => limiter.wrong(remote, &n.to_string(), now),
                }
                prop_assert!(limiter.names.len() <= 16 && limiter.remotes.len() <= 16);
                prop_assert!(limiter.wait(remote, &n.to_string(), now) <= Limits::default().longest_wait);
            }
        }
    }
}

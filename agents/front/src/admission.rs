//! The caps on connections, in all and per remote address.

use crate::event::Event;
use guard::limiter::network;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::{net::IpAddr, sync::Arc};

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    remotes: FxHashMap<IpAddr, usize>,
}

/// Counts the connections of one listener.
#[derive(Debug)]
pub struct Admission {
    most: usize,
    per_remote: usize,
    counts: Mutex<Counts>,
}

/// A connection that was let in; dropping it makes room.
#[derive(Debug)]
pub struct Permit {
    of: Arc<Admission>,
    remote: IpAddr,
}

impl Admission {
    /// Lets in `most` connections, `per_remote` of them from one address. An IPv6 address counts as its /64.
    pub fn new(most: usize, per_remote: usize) -> Arc<Admission> {
        Arc::new(Admission { most, per_remote, counts: Mutex::default() })
    }

    /// Lets a connection in, or says why not.
    pub fn admit(self: &Arc<Admission>, remote: IpAddr) -> Result<Permit, Event> {
        let remote = network(remote);
        let mut counts = self.counts.lock();
        if counts.all >= self.most {
            return Err(Event::RefusedFull);
        }
        let of_remote = counts.remotes.get(&remote).copied().unwrap_or(0);
        if of_remote >= self.per_remote {
            return Err(Event::RefusedRemote);
        }
        counts.all += 1;
        counts.remotes.insert(remote, of_remote + 1);
        Ok(Permit { of: Arc::clone(self), remote })
    }

    /// Connections now.
    pub fn count(&self) -> usize {
        self.counts.lock().all
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.of.counts.lock();
        counts.all = counts.all.saturating_sub(1);
        let left = counts.remotes.get(&self.remote).map_or(0, |n| n.saturating_sub(1));
        match left {
            0 => counts.remotes.remove(&self.remote),
            left => counts.remotes.insert(self.remote, left),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn caps_hold_and_open_again() {
        let admission = Admission::new(3, 2);
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = admission.admit(a).unwrap();
        let second = admission.admit("::ffff:192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(admission.admit(a).unwrap_err(), Event::RefusedRemote);
        let third = admission.admit(b).unwrap();
        assert_eq!(admission.admit(b).unwrap_err(), Event::RefusedFull);
        drop((first, third));
        assert_eq!(admission.count(), 1);
        let again = admission.admit(a).unwrap();
        drop((second, again));
        assert_eq!(admission.count(), 0);
        assert!(admission.counts.lock().remotes.is_empty());
    }

    proptest! {
        #[test]
        fn counts_are_right(steps in prop::collection::vec((0u8..4, any::<bool>()), 0..100)) {
            let admission = Admission::new(6, 3);
            let mut held: Vec<(u8, Permit)> = Vec::new();
            for (who, comes) in steps {
                if comes {
                    let of_who = held.iter().filter(|(w, _)| *w == who).count();
                    let permit = admission.admit(IpAddr::V4([192, 0, 2, who].into()));
                    prop_assert_eq!(permit.is_ok(), held.len() < 6 && of_who < 3);
                    held.extend(permit.ok().map(|permit| (who, permit)));
                } else if let Some(at) = held.iter().position(|(w, _)| *w == who) {
                    held.remove(at);
                }
                prop_assert_eq!(admission.count(), held.len());
            }
        }
    }
}

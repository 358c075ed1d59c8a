//! What the fronts of an agent refused for want of permission, until it is handed in for the audit.
//!
//! Limits: [`PER_MINUTE`] of one session, [`QUEUED`] in all; more are counted, and the count is told with the next.

use crate::Grant;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::{collections::VecDeque, sync::Arc};
use union::{ObjectId, pb};

/// Refusals of one session that are kept in a minute.
pub const PER_MINUTE: u32 = 30;
/// Refusals that wait.
pub const QUEUED: usize = 1_024;
const MINUTE_MS: i64 = 60_000;

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Who.
    pub principal: Arc<str>,
    /// In which session.
    pub session: Arc<str>,
    /// What.
    pub verb: Arc<str>,
    /// On what.
    pub object: ObjectId,
    /// Why not.
    pub why: String,
    /// The grant that did not cover it.
    pub grant: pb::SignedGrant,
    /// As many before it were left out.
    pub left_out: u64,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Refusal>,
    since_ms: i64,
    counts: FxHashMap<Arc<str>, u32>,
    left_out: u64,
}

/// Those of one agent.
#[derive(Debug, Default)]
pub struct Refusals {
    state: Mutex<State>,
}

impl Refusals {
    /// One more.
    pub fn put(&self, grant: &Grant, verb: &str, object: ObjectId, why: &str, now_ms: i64) {
        let mut state = self.state.lock();
        if now_ms.saturating_sub(state.since_ms) >= MINUTE_MS {
            state.since_ms = now_ms;
            state.counts.clear();
        }
        let session: Arc<str> = grant.content.session_id.as_str().into();
        let count = state.counts.entry(Arc::clone(&session)).or_default();
        *count = count.saturating_add(1);
        if *count > PER_MINUTE || state.queue.len() >= QUEUED {
            state.left_out = state.left_out.saturating_add(1);
            return;
        }
        let left_out = std::mem::take(&mut state.left_out);
        state.queue.push_back(Refusal {
            at_ms: now_ms,
            principal: grant.content.principal.as_str().into(),
            session,
            verb: verb.into(),
            object,
            why: why.to_owned(),
            grant: grant.signed.clone(),
            left_out,
        });
    }

    /// Those that wait, oldest first; they wait no more.
    pub fn take(&self) -> Vec<Refusal> {
        std::mem::take(&mut self.state.lock().queue).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::Kind;
    use uuid::Uuid;

    #[test]
    fn a_flood_is_counted_not_kept() {
        let refusals = Refusals::default();
        let grant =
            |session: &str| Grant::unsigned(pb::Grant { session_id: session.into(), ..Default::default() });
        let vm = ObjectId::new(Kind::Vm, Uuid::from_u128(1));
        for n in 0..100 {
            refusals.put(&grant("a"), "PowerOn", vm, "no", 1_000_000 + n);
        }
        refusals.put(&grant("b"), "PowerOn", vm, "no", 1_000_100);
        let taken = refusals.take();
        assert_eq!(taken.len(), 31);
        assert_eq!((&*taken[30].session, taken[30].left_out), ("b", 70));
        assert!(refusals.take().is_empty());
        refusals.put(&grant("a"), "PowerOn", vm, "no", 1_060_000);
        assert_eq!((refusals.take().len(), refusals.state.lock().left_out), (1, 0));
        for n in 0..2 * QUEUED {
            refusals.put(&grant(&n.to_string()), "PowerOn", vm, "no", 1_060_000);
        }
        assert_eq!(refusals.take().len(), QUEUED);
    }
}

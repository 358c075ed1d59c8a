//! The sessions that an agent holds: their grants as the engine last said them, and which have ended.
//!
//! Ended ones are remembered for as long as a grant of theirs may be valid, so that a grant that comes late brings none back. Limits:
//! [`MOST`] held, [`ENDED`] remembered, the last grants of [`LAST`] of these: what was asked for before the end may begin after it, and is
//! accounted for by that grant.

use crate::{Grant, Pass, Secret, grant, refusals::Refusals};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::{collections::VecDeque, fmt, sync::Arc};
use tokio_util::sync::CancellationToken;
use union::Clock;

/// Sessions held at a time.
pub const MOST: usize = 16_384;
/// Ended sessions remembered.
pub const ENDED: usize = 65_536;
/// Ended sessions whose last grant is kept.
pub const LAST: usize = 1_024;

#[derive(Default)]
struct Table {
    held: FxHashMap<Arc<str>, Pass>,
    /// Until when, Unix milliseconds.
    ended: FxHashMap<Arc<str>, i64>,
    /// The last grants of those that ended, in that order.
    last: VecDeque<Arc<Grant>>,
}

/// The passes of one agent.
pub struct Passes {
    table: Mutex<Table>,
    refusals: Arc<Refusals>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Passes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passes").field("held", &self.table.lock().held.len()).finish_non_exhaustive()
    }
}

impl Passes {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>) -> Passes {
        Passes { table: Mutex::default(), refusals: Arc::default(), clock }
    }

    /// Holds a session whose grant came with a login; the same pass when it is held already. `None`: it has ended, there is no room, or the
    /// grant is one for performing only.
    pub fn hold(&self, grant: Grant, key: Secret) -> Option<Pass> {
        let session: Arc<str> = grant.content.session_id.as_str().into();
        let mut table = self.table.lock();
        if table.ended.contains_key(&session) || grant.content.performs_only {
            return None;
        }
        if let Some(pass) = table.held.get(&session) {
            renew(pass, grant);
            return Some(pass.clone());
        }
        if table.held.len() >= MOST {
            return None;
        }
        let pass = Pass {
            session: Arc::clone(&session),
            key,
            principal: grant.content.principal.as_str().into(),
            created_ms: grant.content.created_ms,
            ended: CancellationToken::new(),
            grant: Arc::new(RwLock::new(Arc::new(grant))),
            refusals: Arc::clone(&self.refusals),
        };
        table.held.insert(session, pass.clone());
        Some(pass)
    }

    /// What its sessions were refused.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The pass of a session.
    pub fn find(&self, session: &str) -> Option<Pass> {
        self.table.lock().held.get(session).cloned()
    }

    /// The newest grant of a session, also of one that ended not many sessions ago: by which its commands were let in.
    pub fn last_grant(&self, session: &str) -> Option<Arc<Grant>> {
        let table = self.table.lock();
        let held = table.held.get(session).map(Pass::now);
        held.or_else(|| table.last.iter().rfind(|grant| grant.content.session_id == session).map(Arc::clone))
    }

    /// The sessions held.
    pub fn sessions(&self) -> Vec<Arc<str>> {
        self.table.lock().held.keys().cloned().collect()
    }

    /// The sessions whose grants are to be renewed.
    pub fn due(&self) -> Vec<Arc<str>> {
        let now = self.clock.now_ms();
        let old = |pass: &&Pass| now.saturating_sub(pass.now().content.issued_ms) >= grant::RENEW_MS;
        self.table.lock().held.values().filter(old).map(|pass| Arc::clone(&pass.session)).collect()
    }

    /// The engine has issued a new grant; whether a session held has it now.
    pub fn granted(&self, grant: Grant) -> bool {
        let table = self.table.lock();
        table.held.get(grant.content.session_id.as_str()).is_some_and(|pass| renew(pass, grant))
    }

    /// A session has ended: what waits for it ends, and no grant of it is believed from now on.
    pub fn ended(&self, session: &str) {
        let now = self.clock.now_ms();
        let mut table = self.table.lock();
        if table.ended.len() >= ENDED {
            table.ended.retain(|_, until| *until > now);
        }
        if table.ended.len() < ENDED {
            table.ended.insert(session.into(), now.saturating_add(grant::TTL_MS));
        } else {
            tracing::error!(
                session,
                "too many ended sessions to remember; its grants are refused by time only"
            );
        }
        if let Some(pass) = table.held.remove(session) {
            if table.last.len() >= LAST {
                table.last.pop_front();
            }
            table.last.push_back(pass.now());
            pass.ended.cancel();
        }
    }

    /// Whether a session is known to have ended.
    pub fn has_ended(&self, session: &str) -> bool {
        self.table.lock().ended.contains_key(session)
    }
}

/// A grant that is older than the present one is left aside.
fn renew(pass: &Pass, grant: Grant) -> bool {
    let mut held = pass.grant.write();
    let age = |grant: &Grant| (grant.content.version, grant.content.issued_ms);
    let newer = age(&grant) >= age(&held);
    if newer {
        *held = Arc::new(grant);
    }
    newer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keys;
    use std::time::Duration;
    use union::{
        clock::{ManualClock, SeededIds},
        pb,
    };

    fn grant(session: &str, version: u64, issued_ms: i64) -> Grant {
        let content = pb::Grant {
            session_id: session.into(),
            principal: "eve".into(),
            version,
            issued_ms,
            expires_ms: issued_ms + grant::TTL_MS,
            ..Default::default()
        };
        Grant::issue(content, "lab", &Keys::new(&SeededIds::new(1)))
    }

    #[test]
    fn the_newest_word_holds() {
        let clock = Arc::new(ManualClock::new(0));
        let passes = Passes::new(clock.clone());
        let pass = passes.hold(grant("a", 2, 0), "key".into()).unwrap();
        assert!(!passes.granted(grant("a", 1, 5)) && pass.now().content.version == 2);
        assert!(passes.granted(grant("a", 3, 5)) && pass.now().content.version == 3);
        assert!(!passes.granted(grant("b", 3, 5)));
        assert!(passes.due().is_empty());
        clock.advance(Duration::from_millis(grant::RENEW_MS as u64 + 5));
        assert_eq!(passes.due(), [Arc::<str>::from("a")]);
        assert!(!format!("{passes:?} {pass:?}").contains("key\""));
    }

    #[test]
    fn what_ended_does_not_come_back() {
        let passes = Passes::new(Arc::new(ManualClock::new(0)));
        let pass = passes.hold(grant("a", 1, 0), "key".into()).unwrap();
        passes.ended("a");
        passes.ended("never seen");
        assert!(pass.ended.is_cancelled() && passes.find("a").is_none());
        let last = passes.last_grant("a").expect("what it asked for is accounted for by it");
        assert_eq!(last.content.session_id, "a");
        assert!(passes.last_grant("never seen").is_none());
        assert!(passes.hold(grant("a", 1, 1), "key".into()).is_none());
        assert!(passes.hold(grant("never seen", 1, 1), "key".into()).is_none());
        assert!(passes.has_ended("a") && !passes.has_ended("b"));
    }
}

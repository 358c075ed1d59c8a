//! How much the engine takes on, and the gate that counts it.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::{sync::Arc, time::Duration};
use union::command::{Cause, Code};

/// The engine's limits, all of them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Commands under way altogether.
    pub total: usize,
    /// Commands under way of one agent.
    pub per_agent: usize,
    /// How often a command is planned before it is Busy.
    pub plans: u32,
    /// How long after its deadline an answer is still waited for.
    pub grace: Duration,
    /// The longest a command may take, whatever its deadline says.
    pub longest: Duration,
    /// The first and the longest pause between two questions to an owner.
    pub pause: (Duration, Duration),
    /// How long one question to an owner may take.
    pub question: Duration,
    /// How long after a start a folder that was being emptied waits for the owners of its VMs.
    pub resume: Duration,
    /// How long a plan waits for a replica that has not yet what the owner has.
    pub catch_up: Duration,
    /// How long the end of what is done waits until the replica shows it: an owner that has just come back may need a while to tell all
    /// it has. Beyond that the end is told all the same, since the owner may be gone for good.
    pub shown: Duration,
    /// Ids that were asked about and never seen, which are refused from then on.
    pub fenced: usize,
    /// Questions about lost commands that one agent is asked at a time.
    pub asking: usize,
    /// Folders that the broker keeps.
    pub folders: usize,
    /// Objects in one `MoveIntoFolder`, VMs in one `DestroyFolder`.
    pub at_once: usize,
    /// Entries of an agent's outbox in one message.
    pub handed: usize,
    /// A name in the tree, characters.
    pub name: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            total: 4_096,
            per_agent: 1_024,
            plans: 3,
            grace: Duration::from_secs(5),
            longest: Duration::from_secs(3_600),
            pause: (Duration::from_millis(50), Duration::from_secs(5)),
            question: Duration::from_secs(2),
            resume: Duration::from_secs(300),
            catch_up: Duration::from_secs(1),
            shown: Duration::from_secs(15),
            fenced: 4_096,
            asking: 256,
            folders: 10_000,
            at_once: 1_024,
            handed: 1_024,
            name: 80,
        }
    }
}

/// Counts the commands under way.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    count: Arc<Mutex<Count>>,
}

#[derive(Debug, Default)]
struct Count {
    total: usize,
    by_agent: FxHashMap<Arc<str>, usize>,
}

/// A place among the commands under way; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    count: Arc<Mutex<Count>>,
    agent: Arc<str>,
}

impl Gate {
    /// A place for a command of `agent`, or Busy.
    pub fn enter(&self, agent: &Arc<str>, limits: &Limits) -> Result<Permit, Cause> {
        let mut count = self.count.lock();
        let busy = |what: String| {
            Err(Cause::new(Code::Busy, format!("{what} are under way; nothing was done, try again later")))
        };
        if count.total >= limits.total {
            return busy(format!("{} commands", count.total));
        }
        let mine = count.by_agent.entry(Arc::clone(agent)).or_insert(0);
        if *mine >= limits.per_agent {
            return busy(format!("{mine} commands of {agent}"));
        }
        *mine += 1;
        count.total += 1;
        Ok(Permit { count: Arc::clone(&self.count), agent: Arc::clone(agent) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut count = self.count.lock();
        count.total = count.total.saturating_sub(1);
        if let Some(mine) = count.by_agent.get_mut(&self.agent) {
            *mine = mine.saturating_sub(1);
            if *mine == 0 {
                count.by_agent.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_has_its_share_and_all_have_the_whole() {
        let limits = Limits { total: 3, per_agent: 2, ..Limits::default() };
        let gate = Gate::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let first = gate.enter(&a, &limits).unwrap();
        let _second = gate.enter(&a, &limits).unwrap();
        assert_eq!(gate.enter(&a, &limits).unwrap_err().code, Code::Busy);
        let third = gate.enter(&b, &limits).unwrap();
        assert_eq!(gate.enter(&b, &limits).unwrap_err().code, Code::Busy);
        drop(first);
        let _again = gate.enter(&a, &limits).unwrap();
        drop(third);
        assert_eq!(gate.count.lock().total, 2);
    }
}

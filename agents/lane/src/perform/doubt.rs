//! What became of a command that ended as unknown because its target could not be asked.
//!
//! ```text
//! Unknown ─ nothing else begins in the lane ─▶ look until the target answers ─▶ Done | Failed, for whoever asks by the command's id
//!    └─ another command comes there: one more look; what is seen after that could be that one's, so it stays unknown
//! ```
//!
//! Nothing is sent. Half a plan is not looked for here: what is done about it ([`super::settle`]) needs the lane, and holds it from the start.

use super::{Look, Sight, done, late};
use crate::owner::{Errand, Owner, Run};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use union::{
    Plan,
    command::{Cause, Outcome},
};

/// What is not known.
#[derive(Clone, Debug)]
pub(crate) struct Doubt {
    /// What was to be done.
    pub plan: Arc<Plan>,
    /// The step whose answer is lost; as many as there are: all were answered well.
    pub at: usize,
    /// Why it failed, if that is known: what is in doubt is that the steps before `at` were taken back.
    pub failed: Option<Cause>,
}

impl Doubt {
    /// Whether steps of the plan may have to be taken back.
    pub fn is_half(&self) -> bool {
        self.failed.is_some() || (self.plan.steps.len() > 1 && self.at < self.plan.steps.len())
    }
}

/// Looks until the target answers, however long that lasts, and at once when `hurry` says so. Ends without a word if it cannot be told.
pub(crate) async fn follow(owner: Weak<Owner>, run: Run, doubt: Doubt, hurry: Arc<Notify>) {
    let Errand::Perform { target, .. } = &run.errand else { return };
    let targets = std::slice::from_ref(target);
    let plan = &*doubt.plan;
    let mut pause: Option<Duration> = None;
    let mut missing_since = None;
    loop {
        let Some(owner) = owner.upgrade() else { return };
        let limits = owner.limits;
        let until = Instant::now() + limits.settle;
        let sight = Sight { owner: &owner, command: &run.command, plan, targets };
        let look = match doubt.at < plan.steps.len() {
            true => sight.step_once(doubt.at, false, until).await,
            false => sight.once(until).await,
        };
        let answered = doubt.at >= plan.steps.len();
        match look {
            Look::There(revision) => {
                return owner.found(&run, done(revision, plan));
            }
            Look::Nothing | Look::Gone if answered => {
                return owner.found(&run, done(owner.inventory.revision(), plan));
            }
            Look::Missing | Look::Gone => {
                let since = *missing_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= limits.grace {
                    let why =
                        "its answer was lost, and when the target could be asked again it had not been done";
                    return owner.found(&run, Outcome::Failed(late(&run.command.verb, why)));
                }
            }
            Look::Blind => missing_since = None,
            Look::Nothing => return,
        }
        drop(owner);
        let (first, longest) = limits.pause;
        let now = pause.map_or(first, |last| (last * 2).min(longest));
        timeout(now, hurry.notified()).await.ok();
        pause = Some(now);
    }
}

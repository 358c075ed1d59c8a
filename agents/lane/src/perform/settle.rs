//! What became of a command whose process ended before its outcome was kept.
//!
//! ```text
//! nothing was sent ─▶ Failed            all steps answered ─▶ read afresh ─▶ Done
//! step n in doubt ─▶ look until the target answers ─┬─ there, and the last ─▶ Done
//!                                                   ├─ what the plan removes is gone for good ─▶ Done
//!                                                   ├─ there, and others would follow ─▶ take all back ─▶ Failed
//!                                                   ├─ not there ─▶ take back those before it ─▶ Failed
//!                                                   └─ leaves nothing to look at ─▶ Failed: as a lost answer is
//! failed in this life, and the target went away before all was taken back ─▶ taken back when it answers ─▶ Failed
//! ```
//!
//! While a target is away nothing is taken back: it is tried again until it answers. What it then refuses stays, and the cause says so.
//!
//! Ten thousand may look at once after a death: at most [`LOOKS`] of one target do, and the others' time begins when theirs does.
//!
//! Nothing is sent again, and nothing that was not yet sent is: the caller has been told since, or is gone, and a power-off run late is worse
//! than an error.

use super::{
    Look, Sight, done, given_up,
    undo::{Back, take_back},
};
use crate::{
    owner::{Owner, Run},
    points,
    recorder::Unsettled,
};
use std::sync::Arc;
use tokio::time::{Instant, sleep};
use union::{
    command::{Cause, Code, Outcome},
    fail,
};

/// Looks at one target at a time; more would be waited for longer than a look may take.
const LOOKS: usize = 128;

pub(super) async fn settle(owner: &Arc<Owner>, run: &Run, unsettled: &Unsettled) -> Outcome {
    let (command, plan) = (&unsettled.command, &unsettled.plan);
    if let Some(task) = run.task {
        owner.tasks.begin(task, false);
    }
    if !unsettled.sent || plan.steps.is_empty() {
        let why = format!("the agent stopped before {} was sent; nothing was done", command.verb);
        return Outcome::Failed(Cause::new(Code::Unreachable, why));
    }
    owner.show(run);
    let (mut pause, longest) = owner.limits.pause;
    let mut missing_since = None;
    let mut told = false;
    let looks = owner.looks(&unsettled.target, LOOKS);
    let at = unsettled.answered;
    let count = plan.steps.len();
    loop {
        if !owner.still_runs(run) {
            return given_up(command);
        }
        let targets = owner.witnesses(unsettled);
        // Never closed.
        let turn = looks.acquire().await;
        let until = Instant::now() + owner.limits.settle;
        let sight = Sight { owner, command, plan, targets: &targets };
        let look = match &*targets {
            [] => Look::Blind,
            // What became of the last step is known.
            _ if unsettled.failed.is_some() => {
                sight.refresh(until).await.map_or(Look::Blind, |_| Look::Missing)
            }
            _ if at >= count => sight.refresh(until).await.map_or(Look::Blind, Look::There),
            _ => sight.step_once(at, false, until).await,
        };
        drop(turn);
        let interrupted = |what: &str| {
            let message = format!("{} was interrupted when the agent stopped: {what}", command.verb);
            Cause::new(Code::TimedOut, message)
        };
        let back = match look {
            Look::Blind => {
                missing_since = None;
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(command = %command.id, verb = %command.verb, object = %command.object, "what became of it is not known until its target answers");
                }
                None
            }
            Look::There(revision) if at + 1 >= count || sight.is_past(at + 1) => {
                fail::point(points::SETTLED);
                return done(revision, plan);
            }
            Look::There(_) => Some((at + 1, interrupted(&format!("{} of {count} steps were done", at + 1)))),
            Look::Nothing | Look::Missing | Look::Gone if unsettled.failed.is_none() && sight.is_past(at) => {
                fail::point(points::SETTLED);
                return done(owner.inventory.revision(), plan);
            }
            Look::Nothing => Some((at, interrupted("whether it was done cannot be seen"))),
            Look::Missing | Look::Gone => match &unsettled.failed {
                Some(cause) => Some((at, cause.clone())),
                None => {
                    let since = *missing_since.get_or_insert_with(Instant::now);
                    let is_not = since + owner.limits.late <= Instant::now();
                    is_not.then(|| (at, interrupted("it was not done")))
                }
            },
        };
        if let Some((before, cause)) = back {
            fail::point(points::SETTLED);
            match take_back(owner, &targets, command, plan, before, cause).await {
                Back::Ended(cause) => return Outcome::Failed(cause),
                Back::Later(_) => missing_since = None,
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

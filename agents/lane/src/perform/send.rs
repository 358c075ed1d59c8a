//! The calls of a plan, in order.

use super::{Look, Sight, Work};
use crate::{
    points,
    target::{Progress, TargetError},
};
use std::{future::poll_fn, sync::Arc, task::Poll};
use tokio::time::{Instant, timeout_at};
use union::{Value, fail, plan::Step};

/// How the calls ended.
pub(super) enum Sent {
    /// All were answered well.
    Well,
    /// The step `at` was not, and it and what follows it did nothing.
    Badly {
        /// Which step.
        at: usize,
        /// How it was answered.
        error: TargetError,
    },
    /// It is not known whether the step `at` did something; what follows it was not sent.
    Unknown {
        /// Which step.
        at: usize,
        /// What became of its answer.
        error: TargetError,
    },
}

/// Makes the calls from step `from` on, up to the first that does not go well. A step whose answer is lost, and that others follow, is
/// looked for: if its effect is there, the next ones follow.
pub(super) async fn send(work: &Work<'_>, sight: &Sight<'_>, from: usize) -> Sent {
    let (owner, run) = (work.owner, work.run);
    let steps = &sight.plan.steps;
    for (at, step) in steps.iter().enumerate().skip(from) {
        if Instant::now() >= run.deadline {
            // What is not sent in time is not sent.
            return Sent::Badly { at, error: TargetError::TimedOut };
        }
        if at > 0 && sight.has_mark() {
            // Only what is not so before the call can tell of it afterwards.
            sight.refresh(run.deadline).await.ok();
        }
        match one(work, step).await {
            Ok(_) => {}
            Err(error) if error.is_ambiguous() => {
                let last = at + 1 == steps.len();
                if last {
                    return Sent::Unknown { at, error };
                }
                match sight.step(at, run.deadline, || owner.still_runs(run)).await {
                    Look::There(_) => {}
                    Look::Missing | Look::Gone => return Sent::Badly { at, error },
                    Look::Nothing | Look::Blind => return Sent::Unknown { at, error },
                }
            }
            Err(error) => return Sent::Badly { at, error },
        }
        if steps.len() > 1
            && let Some(recorder) = owner.recorder()
        {
            if let Err(cause) = recorder.answered(run.command.id, at).await {
                let message = format!("the step could not be kept: {cause}");
                let error = TargetError::Failed { code: 0, means: Some(cause.code), message };
                return Sent::Badly { at: at + 1, error };
            }
            fail::point(points::STEP_DURABLE);
        }
    }
    Sent::Well
}

/// Makes a call. The command is shown to be under way by then: what the call brings about is told after that.
async fn one(work: &Work<'_>, step: &Step) -> Result<Value, TargetError> {
    let (owner, run) = (work.owner, work.run);
    let progress: Progress = match run.task {
        None => Arc::new(|_| {}),
        Some(task) => {
            let owner = Arc::downgrade(owner);
            Arc::new(move |percent| {
                if let Some(owner) = owner.upgrade() {
                    owner.tasks.progress(task, percent);
                }
            })
        }
    };
    let mut call = work.target.perform(step.object, &step.call, run.deadline, progress);
    if !owner.still_runs(run) {
        // Nothing was sent: a call begins when it is first polled.
        let message = "the command was given up".to_owned();
        return Err(TargetError::Failed { code: 0, means: Some(union::command::Code::Cancelled), message });
    }
    let begun = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
    if begun.is_pending() {
        // Whoever writes it gets to do so.
        tokio::task::yield_now().await;
    }
    fail::point(points::CALL_SENT);
    let answer = match begun {
        Poll::Ready(answer) => answer,
        Poll::Pending => timeout_at(run.deadline, call).await.unwrap_or(Err(TargetError::TimedOut)),
    };
    fail::point(points::CALL_ANSWERED);
    answer
}

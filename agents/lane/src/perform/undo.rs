//! Taking back the answered steps of a plan that failed, last first.

use crate::{
    owner::Owner,
    points,
    target::{Progress, Target, TargetError},
};
use mapping::{NativeCall, StepKind};
use std::sync::Arc;
use tokio::time::{Instant, sleep, timeout_at};
use union::{Command, ObjectId, Plan, command::Cause, fail};

/// How far a plan was taken back.
pub(super) enum Back {
    /// As far as it can be; the cause says what stays.
    Ended(Cause),
    /// The target could not be asked: it is to be taken back, all of it, when it answers again.
    Later(Cause),
}

/// Takes back the steps before `at`; the cause then says what could not be. Each call that takes one back has the settling time, whatever
/// the command's deadline: half a plan is worse than a late answer.
pub(super) async fn take_back(
    owner: &Arc<Owner>,
    targets: &[Arc<dyn Target>],
    command: &Command,
    plan: &Plan,
    at: usize,
    mut cause: Cause,
) -> Back {
    if at == 0 {
        return Back::Ended(cause);
    }
    fail::point(points::UNDO_BEGUN);
    let mut stays = Vec::new();
    for (number, step) in plan.steps.iter().enumerate().take(at).rev() {
        let Some(undo) = &step.call.undo else {
            stays.push(format!("step {} ({}) cannot be taken back", number + 1, step.call.call));
            continue;
        };
        let deadline = Instant::now() + owner.limits.settle;
        let holder = targets.iter().find(|t| t.holds(step.object)).or(targets.first());
        let Some(target) = holder else { return Back::Later(cause) };
        let undone = undone(owner, target, step.object, undo, deadline).await;
        if undone.is_ok() {
            fail::point(points::UNDO_ANSWERED);
        }
        let until = Instant::now() + owner.limits.settle;
        let read = timeout_at(until, target.reread(step.object, until)).await;
        let read = read.unwrap_or(Err(TargetError::TimedOut));
        if let Err(error) = &read {
            tracing::debug!(object = %step.object, %error, "not read again after a step was taken back");
        }
        match undone {
            Ok(()) => {}
            // Those before it wait for it.
            Err(error)
                if undo.is == StepKind::Idempotent && error.is_away() && read.is_err_and(|e| e.is_away()) =>
            {
                return Back::Later(cause);
            }
            Err(error) => {
                stays.push(format!("taking back step {} ({}) failed: {error}", number + 1, step.call.call));
            }
        }
    }
    if !stays.is_empty() {
        tracing::error!(command = %command.id, verb = %command.verb, object = %command.object, left = ?stays, "a plan was left half done");
        cause.message =
            format!("{}; what was done before it stays in part: {}", cause.message, stays.join(", "));
    }
    Back::Ended(cause)
}

/// Makes the call that takes a step back. It may be made twice, so a lost answer is asked for again while there is time.
async fn undone(
    owner: &Owner,
    target: &Arc<dyn Target>,
    object: ObjectId,
    undo: &NativeCall,
    deadline: Instant,
) -> Result<(), TargetError> {
    let (mut pause, longest) = owner.limits.pause;
    loop {
        let progress: Progress = Arc::new(|_| {});
        fail::point(points::UNDO_SENT);
        let answer = timeout_at(deadline, target.perform(object, undo, deadline, progress)).await;
        let error = match answer.unwrap_or(Err(TargetError::TimedOut)) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if !error.is_away() || undo.is == StepKind::Once || Instant::now() + pause >= deadline {
            return Err(error);
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

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

/// Takes back the steps before `at`; the cause then says what could not be. Each call that takes one back has the settling time, whatever
/// the command's deadline: half a plan is worse than a late answer.
pub(super) async fn take_back(
    owner: &Arc<Owner>,
    targets: &[Arc<dyn Target>],
    command: &Command,
    plan: &Plan,
    at: usize,
    mut cause: Cause,
) -> Cause {
    if at == 0 {
        return cause;
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
        let Some(target) = holder else { continue };
        match undone(owner, target, step.object, undo, deadline).await {
            Ok(()) => fail::point(points::UNDO_ANSWERED),
            Err(error) => {
                stays.push(format!("taking back step {} ({}) failed: {error}", number + 1, step.call.call));
            }
        }
        if let Err(error) = target.reread(step.object, Instant::now() + owner.limits.settle).await {
            tracing::debug!(object = %step.object, %error, "not read again after a step was taken back");
        }
    }
    if !stays.is_empty() {
        tracing::error!(command = %command.id, verb = %command.verb, object = %command.object, left = ?stays, "a plan was left half done");
        cause.message =
            format!("{}; what was done before it stays in part: {}", cause.message, stays.join(", "));
    }
    cause
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
        let again = error.is_ambiguous() || matches!(error, TargetError::Unreachable(_));
        if !again || undo.is == StepKind::Once || Instant::now() + pause >= deadline {
            return Err(error);
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

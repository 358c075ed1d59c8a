//! One command, from its turn to its outcome.

use crate::{
    owner::{Owner, Run},
    queue::Conflict,
    rules::CANCEL,
    target::{Progress, TargetError},
};
use mapping::{NativeCall, StepKind};
use std::sync::Arc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use union::{
    Command, Record,
    command::{Cause, Class, Code, Outcome, Revision},
};

/// How the calls ended.
enum Sent {
    /// All were answered well.
    Well,
    /// One was not, and it and what follows it did nothing.
    Badly(TargetError),
    /// It is not known whether one did something.
    Unknown(TargetError),
}

/// Performs the command whose turn it is. Always ends: by the deadline, or the settling time after it.
///
/// A command that overtook another first lets the other's call end, for a moment: what that did decides what is to be done. If it does not
/// end, the object's state is not known, so neither guards nor "it is so already" are asked, and the calls are made.
pub(crate) async fn perform(owner: &Arc<Owner>, run: &Run, outran: Option<AbortOnDropHandle<()>>) -> Outcome {
    let known = match outran {
        None => true,
        Some(other) => {
            let ended = timeout(owner.limits.grace, other).await.is_ok();
            // Whether or not it ended, the facts are from before it.
            reread(run).await.ok();
            ended
        }
    };
    match attempt(owner, run, known).await {
        Ok(outcome) => outcome,
        Err(cause) => Outcome::Refused(cause),
    }
}

async fn attempt(owner: &Arc<Owner>, run: &Run, known: bool) -> Result<Outcome, Cause> {
    let command = &*run.command;
    if Instant::now() >= run.deadline {
        return Ok(Outcome::Failed(late(
            command.verb.as_ref(),
            "its turn came after its deadline; nothing was done",
        )));
    }
    owner.uncontested(command.object)?;
    if let Some(task) = run.task {
        let cancel = owner.rules.conflict(&command.origin, &command.verb, CANCEL);
        owner.tasks.begin(task, cancel == Conflict::Overtake);
    }
    let mut object = record(owner, run)?;
    if known && owner.rules.guard(command, &object, &owner.inventory).is_err() {
        // The facts may be a moment old; a refusal is not given on those.
        reread(run).await.ok();
        object = record(owner, run)?;
        owner.rules.guard(command, &object, &owner.inventory)?;
    }
    let protocol = run.target.protocol();
    let idempotent = command.schema.class == Class::Idempotent;
    if known && idempotent && expected(owner, run, &object) == Some(true) {
        let fresh = reread(run).await;
        object = record(owner, run)?;
        if let Ok(revision) = fresh
            && expected(owner, run, &object) == Some(true)
        {
            return Ok(Outcome::Done { revision, result: None, already: true });
        }
    }
    let calls = owner.rules.lower(protocol, command, &object, &owner.inventory)?;
    if calls.is_empty() {
        let revision = owner.inventory.revision();
        return Ok(Outcome::Done { revision, result: None, already: true });
    }
    if !owner.still_runs(command) {
        return Ok(given_up(command));
    }
    owner.show(command);
    let mut sent = send(owner, run, &calls).await;
    if let Sent::Unknown(error) = &sent
        && idempotent
        && calls.iter().all(|call| call.is == StepKind::Idempotent)
    {
        // Looking comes first; only what is known to be missing, and may be asked twice, is asked once more.
        tracing::warn!(command = %command.id, verb = %command.verb, %error, "the answer was lost; looking");
        match look(owner, run, run.deadline).await {
            Look::There(revision) => return Ok(done(revision)),
            Look::Missing if matches!(error, TargetError::Lost(_)) => sent = send(owner, run, &calls).await,
            Look::Missing | Look::Gone | Look::Blind | Look::Nothing => {}
        }
    }
    Ok(match sent {
        Sent::Well => await_effect(owner, run).await,
        Sent::Badly(error) => match look_once(owner, run).await {
            // The target may have said no because somebody else had just done it.
            Look::There(revision) if idempotent => Outcome::Done { revision, result: None, already: true },
            _ => Outcome::Failed(error.cause()),
        },
        Sent::Unknown(error) => match look(owner, run, run.deadline + owner.limits.settle).await {
            Look::There(revision) => done(revision),
            Look::Missing if idempotent => Outcome::Failed(late(&command.verb, &error.to_string())),
            _ => Outcome::Unknown {
                probe: run.command.object.to_string(),
                message: format!(
                    "whether {} took effect is not known: {error}; look at the object before asking again",
                    command.verb
                ),
            },
        },
    })
}

/// For a command that was given up: nobody asks for this outcome any more.
fn given_up(command: &Command) -> Outcome {
    Outcome::Failed(Cause::new(Code::Cancelled, format!("{} was given up", command.verb)))
}

fn done(revision: Revision) -> Outcome {
    Outcome::Done { revision, result: None, already: false }
}

fn late(verb: &str, why: &str) -> Cause {
    Cause::new(Code::TimedOut, format!("{verb} was not done in time: {why}"))
}

fn record(owner: &Owner, run: &Run) -> Result<Arc<Record>, Cause> {
    let id = run.command.object;
    owner
        .inventory
        .record(id)
        .ok_or_else(|| Cause::new(Code::NotFound, format!("{id} was removed before the command's turn came")))
}

fn expected(owner: &Owner, run: &Run, object: &Record) -> Option<bool> {
    owner.rules.expected(run.target.protocol(), &run.command, object, &owner.inventory)
}

/// A fresh look at the object, by the deadline.
async fn reread(run: &Run) -> Result<Revision, TargetError> {
    let read = run.target.reread(run.command.object, run.deadline);
    timeout_at(run.deadline, read).await.unwrap_or(Err(TargetError::TimedOut))
}

/// Makes the calls in order, up to the first that does not go well.
async fn send(owner: &Arc<Owner>, run: &Run, calls: &[NativeCall]) -> Sent {
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
    for (position, call) in calls.iter().enumerate() {
        if Instant::now() >= run.deadline {
            // What is not sent in time is not sent.
            let late = TargetError::TimedOut;
            return if position == 0 { Sent::Badly(late) } else { Sent::Unknown(late) };
        }
        let answer = run.target.perform(run.command.object, call, run.deadline, Arc::clone(&progress));
        if !owner.still_runs(&run.command) {
            return Sent::Badly(TargetError::TimedOut);
        }
        match timeout_at(run.deadline, answer).await.unwrap_or(Err(TargetError::TimedOut)) {
            Ok(_) => {}
            Err(error)
                if error.is_ambiguous() || (position > 0 && matches!(error, TargetError::Unreachable(_))) =>
            {
                return Sent::Unknown(error);
            }
            Err(error) => return Sent::Badly(error),
        }
    }
    Sent::Well
}

/// What a look at the object showed.
enum Look {
    /// The effect is there.
    There(Revision),
    /// It is not.
    Missing,
    /// The object itself is not.
    Gone,
    /// The effect leaves nothing to look at.
    Nothing,
    /// The target could not be asked.
    Blind,
}

async fn look_once(owner: &Arc<Owner>, run: &Run) -> Look {
    let Ok(revision) = reread(run).await else { return Look::Blind };
    judge(owner, run, revision)
}

fn judge(owner: &Owner, run: &Run, revision: Revision) -> Look {
    let Some(object) = owner.inventory.record(run.command.object) else { return Look::Gone };
    match expected(owner, run, &object) {
        None => Look::Nothing,
        Some(true) => Look::There(revision),
        Some(false) => Look::Missing,
    }
}

/// Looks until the target answers, at most until `until`.
async fn look(owner: &Arc<Owner>, run: &Run, until: Instant) -> Look {
    let (mut pause, longest) = owner.limits.pause;
    loop {
        let read = run.target.reread(run.command.object, until);
        if let Ok(Ok(revision)) = timeout_at(until, read).await {
            return judge(owner, run, revision);
        }
        if Instant::now() + pause >= until || !owner.still_runs(&run.command) {
            return Look::Blind;
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// After the calls went well: looks until the effect is there.
async fn await_effect(owner: &Arc<Owner>, run: &Run) -> Outcome {
    let (mut pause, longest) = owner.limits.pause;
    let mut last = Look::Blind;
    loop {
        match look_once(owner, run).await {
            Look::There(revision) => return done(revision),
            // Nothing to look for: what the target says now is what a reader shall see.
            Look::Nothing | Look::Gone => return done(owner.inventory.revision()),
            other => last = if matches!(other, Look::Blind) { last } else { other },
        }
        if Instant::now() + pause >= run.deadline || !owner.still_runs(&run.command) {
            break;
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
    let verb = &run.command.verb;
    match last {
        Look::Missing => Outcome::Failed(late(
            verb,
            "the target accepted it, but its effect has not shown by the deadline",
        )),
        _ => Outcome::Unknown {
            probe: run.command.object.to_string(),
            message: format!("the target accepted {verb}, but can no longer be asked whether it took effect"),
        },
    }
}

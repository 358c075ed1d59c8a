//! One command, from its turn to its outcome.
//!
//! ```text
//! known before? contested? stale? too late? ─▶ guards of the protocol that asked ─▶ (reread; what the plan read, unchanged?) ─▶ lower
//!   ─▶ intent durable ─▶ step ─ answered ─▶ step ─ … ─▶ look until the effect is there, or facts show it ─▶ Done
//!                         ├─ the target said no ─▶ take back what was answered, last first ─▶ Failed
//!                         │                        └─ it is away ─▶ Unknown; the lane is held until it is back and all is taken back
//!                         └─ answer lost ─▶ look: there ─▶ go on │ not there ─▶ as if it said no │ blind ─▶ Unknown
//! ```
//!
//! A plan of the engine's is never sent twice. What was lowered here, may be asked twice and is known to be missing is asked once more: after
//! a lost answer, and after a call that was overtaken may have undone it by coming to its effect behind it.

mod doubt;
mod look;
mod read;
mod send;
mod settle;
mod shown;
mod undo;

use crate::{
    owner::{Errand, Kept, Owner, Run},
    points,
    queue::Conflict,
    recorder::Intended,
    rules::CANCEL,
    target::{Target, TargetError},
};
pub(crate) use doubt::{Doubt, follow};
use look::{Look, Sight};
use mapping::StepKind;
use send::{Sent, send};
use std::{future::poll_fn, sync::Arc, task::Poll};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use undo::Back;
use union::{
    Command, Plan, Record, SlotSet,
    command::{Cause, Class, Code, Outcome, Revision},
    fail,
    plan::{Read, Step},
};

/// The field that says whether a machine is on.
const POWER: &str = "power_state";

/// A command about to be performed, with who performs it.
pub(crate) struct Work<'a> {
    pub owner: &'a Arc<Owner>,
    pub run: &'a Run,
    pub target: &'a Arc<dyn Target>,
    /// The engine's plan.
    pub plan: Option<&'a Arc<Plan>>,
    pub from_engine: bool,
    pub epoch: Option<u64>,
}

/// Does what the command whose turn it is came for. Always ends: by the deadline, or the settling time after it; but what became of a
/// command of an earlier life is looked for until the target answers.
///
/// A command that overtook another first lets the other's call end, for a moment: what that did decides what is to be done. If it does not
/// end, the object's state is not known, so neither guards nor "it is so already" are asked, and the calls are made.
pub(crate) async fn run(
    owner: &Arc<Owner>,
    run: &Run,
    outran: Option<AbortOnDropHandle<()>>,
) -> (Outcome, Option<Doubt>) {
    let mut doubt = None;
    let outcome = match &run.errand {
        Errand::Settle(unsettled) => settle::settle(owner, run, unsettled).await,
        Errand::Perform { target, plan, from_engine, epoch } => {
            let plan = plan.as_ref();
            let work = Work { owner, run, target, plan, from_engine: *from_engine, epoch: *epoch };
            let known = match outran {
                None => true,
                Some(other) => {
                    let ended = timeout(owner.limits.grace, other).await.is_ok();
                    // Whether or not it ended, the facts are from before it.
                    work.reread().await.ok();
                    ended
                }
            };
            let outcome = attempt(&work, known, &mut doubt).await;
            work.begin();
            outcome.unwrap_or_else(Outcome::Refused)
        }
        Errand::Hold(_) => given_up(&run.command),
    };
    fail::point(points::BEFORE_ENDED);
    (outcome, doubt)
}

async fn attempt(work: &Work<'_>, known: bool, doubt: &mut Option<Doubt>) -> Result<Outcome, Cause> {
    let (owner, run) = (work.owner, work.run);
    let command = &*run.command;
    fail::point(points::TURN);
    if let Some(recorder) = owner.recorder()
        && let Some(outcome) = recorder.known(command.id).await?
    {
        owner.keep(run, Kept::Ended);
        return Ok(outcome);
    }
    if let Some(epoch) = work.epoch {
        owner.leased(work.target.name(), epoch)?;
    }
    if Instant::now() >= run.deadline {
        return Ok(Outcome::Failed(late(
            command.verb.as_ref(),
            "its turn came after its deadline; nothing was done",
        )));
    }
    owner.uncontested(command.object)?;
    owner.uncontested(run.lane)?;
    let idempotent = command.schema.class == Class::Idempotent;
    let plan = match work.plan {
        Some(plan) => match planned(work, plan, known && idempotent).await? {
            Some(already) => return Ok(keep_already(work, plan, already).await),
            None => Arc::clone(plan),
        },
        None => match lowered(work, known, idempotent).await? {
            Err(already) => return Ok(keep_already(work, &Plan::default(), already).await),
            Ok(plan) => plan,
        },
    };
    if plan.steps.is_empty() {
        let revision = owner.inventory.revision();
        let outcome = Outcome::Done { revision, result: plan.appears, already: plan.own.is_empty() };
        return Ok(keep_already(work, &plan, outcome).await);
    }
    if !owner.still_runs(run) {
        return Ok(given_up(command));
    }
    let mut shown = false;
    if let Some(recorder) = owner.recorder() {
        let (from_engine, target) = (work.from_engine, work.target.name());
        let mut kept = recorder.begin(Intended { command, plan: &plan, from_engine, target });
        match poll_fn(|cx| Poll::Ready(kept.as_mut().poll(cx))).await {
            Poll::Ready(kept) => kept?,
            Poll::Pending => {
                // The disk is at it: what is shown of the command meanwhile costs no time.
                work.show();
                shown = true;
                kept.await?;
            }
        }
        if !owner.keep(run, Kept::Begun) {
            // Given up meanwhile: who did that could not know that it had begun.
            let outcome = given_up(command);
            recorder.ended(command, &outcome);
            return Ok(outcome);
        }
    }
    fail::point(points::INTENT_DURABLE);
    if !shown {
        work.show();
    }
    let outcome = perform(work, &plan, (known, idempotent), doubt).await;
    fail::point(points::EFFECT_SEEN);
    Ok(outcome)
}

/// Has it kept that there is nothing to do, which nobody could find out later.
async fn keep_already(work: &Work<'_>, plan: &Plan, outcome: Outcome) -> Outcome {
    let (owner, command) = (work.owner, &*work.run.command);
    if let Some(recorder) = owner.recorder()
        && owner.keep(work.run, Kept::Ended)
    {
        let (from_engine, target) = (work.from_engine, work.target.name());
        recorder.already(Intended { command, plan, from_engine, target }, &outcome).await;
    }
    outcome
}

/// What a plan of the engine's needs before it is performed; an outcome if there is nothing to perform.
async fn planned(work: &Work<'_>, plan: &Plan, may_be_so: bool) -> Result<Option<Outcome>, Cause> {
    let (owner, command) = (work.owner, &*work.run.command);
    for step in plan.steps.iter().filter(|step| step.object != command.object) {
        owner.uncontested(step.object)?;
        if plan.appears != Some(step.object) && !work.target.holds(step.object) {
            let message =
                format!("{}, which the plan is also about, is not on {}", step.object, work.target.name());
            return Err(Cause::new(Code::NotFound, message));
        }
    }
    let held = work.target.holds(command.object);
    let revision = match held {
        true => work.refresh(plan).await.map_err(|e| e.cause())?,
        false => owner.inventory.revision(),
    };
    match owner.inventory.record(command.object) {
        Some(object) => {
            owner.rules.guard(command, &object, &owner.inventory)?;
            if may_be_so && plan.own.is_empty() && work.expected(&object) == Some(true) {
                // Said on facts of which none is older than this command.
                let revision = if held { work.reread().await.map_err(|e| e.cause())? } else { revision };
                if work.expected(&*work.record()?) == Some(true) {
                    return Ok(Some(Outcome::Done { revision, result: None, already: true }));
                }
            }
        }
        None if plan.appears.is_none() => return Err(gone(command)),
        None => {}
    }
    read::unchanged(&owner.inventory, work.target, plan)?;
    Ok(None)
}

/// The plan that this agent's own tables make; an outcome if there is nothing to perform.
async fn lowered(
    work: &Work<'_>,
    known: bool,
    idempotent: bool,
) -> Result<Result<Arc<Plan>, Outcome>, Cause> {
    let (owner, command) = (work.owner, &*work.run.command);
    let mut object = work.record()?;
    if known && owner.rules.guard(command, &object, &owner.inventory).is_err() {
        work.begin();
        // The facts may be a moment old; a refusal is not given on those.
        work.reread().await.ok();
        object = work.record()?;
        owner.rules.guard(command, &object, &owner.inventory)?;
    }
    if known && idempotent && work.expected(&object) == Some(true) {
        let fresh = work.reread().await;
        object = work.record()?;
        if let Ok(revision) = fresh
            && work.expected(&object) == Some(true)
        {
            return Ok(Err(Outcome::Done { revision, result: None, already: true }));
        }
    }
    let plan = owner.rules.lower(work.target.protocol(), command, &object, &owner.inventory)?;
    if let Some(own) = plan.own.first() {
        let message = format!(
            "{} changes `{}`, which the broker keeps; it has to come through the engine",
            command.verb, own.field
        );
        return Err(Cause::new(Code::NotSupported, message));
    }
    Ok(Ok(Arc::new(plan)))
}

/// Makes the plan's calls and finds out what came of them.
async fn perform(
    work: &Work<'_>,
    plan: &Arc<Plan>,
    (known, idempotent): (bool, bool),
    doubt: &mut Option<Doubt>,
) -> Outcome {
    let (owner, run) = (work.owner, work.run);
    let command = &*run.command;
    let targets = std::slice::from_ref(work.target);
    let sight = Sight { owner, command, plan, targets };
    let facts = if known { shown::Facts::before(work, plan) } else { None };
    let mut sent = send(work, &sight, 0).await;
    let repeatable = |step: &Step| step.call.is == StepKind::Idempotent;
    if work.plan.is_none() && idempotent && plan.steps.iter().all(repeatable) {
        // Looking comes first; only what is known to be missing, and may be asked twice, is asked once more.
        match &sent {
            Sent::Unknown { error, .. } => {
                tracing::warn!(command = %command.id, verb = %command.verb, %error, "the answer was lost; looking");
                match sight.until(Look::is_answer, run.deadline, || owner.still_runs(run)).await {
                    Look::There(revision) => return done(revision, plan),
                    Look::Missing if matches!(error, TargetError::Lost(_)) => {
                        sent = send(work, &sight, 0).await;
                    }
                    Look::Missing | Look::Gone | Look::Blind | Look::Nothing => {}
                }
            }
            Sent::Well if !known => {
                let until = run.deadline.min(Instant::now() + owner.limits.grace);
                match sight.until(is_enough, until, || owner.still_runs(run)).await {
                    Look::There(revision) => return done(revision, plan),
                    Look::Missing => sent = send(work, &sight, 0).await,
                    Look::Gone | Look::Blind | Look::Nothing => {}
                }
            }
            Sent::Well | Sent::Badly { .. } => {}
        }
    }
    match sent {
        Sent::Well => {
            let outcome = match facts {
                None => await_effect(work, &sight).await,
                Some(facts) => tokio::select! {
                    biased;
                    revision = facts.shown(work) => Ok(done(revision, plan)),
                    outcome = await_effect(work, &sight) => outcome,
                },
            };
            match outcome {
                Ok(outcome) => {
                    if matches!(outcome, Outcome::Unknown { .. }) {
                        *doubt = Some(Doubt { plan: Arc::clone(plan), at: plan.steps.len(), failed: None });
                    }
                    outcome
                }
                Err(cause) => taken_back(work, plan, plan.steps.len(), cause, doubt).await,
            }
        }
        Sent::Badly { at, error } => match sight.once(Instant::now() + owner.limits.settle).await {
            // The target may have said no because somebody else had just done it.
            Look::There(revision) if idempotent => {
                Outcome::Done { revision, result: plan.appears, already: true }
            }
            // What is left was not refused: there was no time, or no way.
            _ if error.is_away() && sight.is_past(at) => done(owner.inventory.revision(), plan),
            _ => taken_back(work, plan, at, error.cause(), doubt).await,
        },
        Sent::Unknown { at, error } => {
            let until = run.deadline + owner.limits.settle;
            match sight.step(at, until, || owner.still_runs(run)).await {
                Look::There(revision) if at + 1 >= plan.steps.len() || sight.is_past(at + 1) => {
                    done(revision, plan)
                }
                // It was done after all, and there is no time left for the steps behind it.
                Look::There(_) => {
                    let cause = late(&command.verb, &error.to_string());
                    taken_back(work, plan, at + 1, cause, doubt).await
                }
                Look::Nothing | Look::Missing | Look::Gone if sight.is_past(at) => {
                    done(owner.inventory.revision(), plan)
                }
                Look::Missing | Look::Gone if idempotent || command.schema.class == Class::OnceProbed => {
                    let cause = late(&command.verb, &error.to_string());
                    taken_back(work, plan, at, cause, doubt).await
                }
                look => {
                    if look == Look::Blind {
                        *doubt = Some(Doubt { plan: Arc::clone(plan), at, failed: None });
                    }
                    Outcome::Unknown {
                        probe: command.object.to_string(),
                        message: format!(
                            "whether {} took effect is not known: {error}; look at the object before asking again",
                            command.verb
                        ),
                    }
                }
            }
        }
    }
}

/// Takes back the steps before `at` of a plan that failed.
async fn taken_back(
    work: &Work<'_>,
    plan: &Arc<Plan>,
    at: usize,
    cause: Cause,
    doubt: &mut Option<Doubt>,
) -> Outcome {
    let (owner, command) = (work.owner, &*work.run.command);
    match undo::take_back(owner, std::slice::from_ref(work.target), command, plan, at, cause).await {
        Back::Ended(cause) => Outcome::Failed(cause),
        Back::Later(cause) => {
            let message = format!(
                "{} failed, and its target went away before all of it was taken back, which is done when it answers: {cause}",
                command.verb
            );
            *doubt = Some(Doubt { plan: Arc::clone(plan), at, failed: Some(cause) });
            Outcome::Unknown { probe: command.object.to_string(), message }
        }
    }
}

/// After the calls went well: looks until the effect is there. An error: it will not be, and the calls are to be taken back.
async fn await_effect(work: &Work<'_>, sight: &Sight<'_>) -> Result<Outcome, Cause> {
    let (owner, run) = (work.owner, work.run);
    let verb = &run.command.verb;
    let until = run.deadline.min(Instant::now() + owner.limits.shows);
    let soon = until.min(Instant::now() + owner.limits.grace);
    let mut look = sight.until(is_enough, soon, || owner.still_runs(run)).await;
    if look == Look::Missing && run.command.schema.class != Class::Once {
        work.as_planned(sight.plan)?;
    }
    if !is_enough(&look) && soon < until {
        look = sight.until(is_enough, until, || owner.still_runs(run)).await;
    }
    Ok(match look {
        Look::There(revision) => done(revision, sight.plan),
        // Nothing to look for: what the target says now is what a reader shall see.
        Look::Nothing | Look::Gone => done(owner.inventory.revision(), sight.plan),
        Look::Missing => Outcome::Failed(late(
            verb,
            "the target accepted it, but its effect does not show; somebody else may have undone it",
        )),
        Look::Blind => Outcome::Unknown {
            probe: run.command.object.to_string(),
            message: format!("the target accepted {verb}, but can no longer be asked whether it took effect"),
        },
    })
}

/// Whether a look after a call that went well needs no other behind it.
fn is_enough(look: &Look) -> bool {
    matches!(look, Look::There(_) | Look::Nothing | Look::Gone)
}

impl Work<'_> {
    /// Its task runs, if it waited.
    fn begin(&self) {
        let (owner, command) = (self.owner, &self.run.command);
        if let Some(task) = self.run.task {
            let cancel = owner.rules.conflict(&command.origin, &command.verb, CANCEL);
            owner.tasks.begin(task, cancel == Conflict::Overtake);
        }
    }

    /// Shows that it is under way.
    fn show(&self) {
        self.begin();
        self.owner.show(self.run);
    }

    /// A fresh look at the command's object, by the deadline.
    async fn reread(&self) -> Result<Revision, TargetError> {
        let deadline = self.run.deadline;
        let read = self.target.reread(self.run.command.object, deadline);
        timeout_at(deadline, read).await.unwrap_or(Err(TargetError::TimedOut))
    }

    /// A fresh look at what the plan read of the command's object, by the deadline.
    async fn refresh(&self, plan: &Plan) -> Result<Revision, TargetError> {
        let (deadline, object) = (self.run.deadline, self.run.command.object);
        let schema = self.owner.inventory.schema();
        let mut fields = SlotSet::EMPTY;
        for read in plan.reads.iter().filter(|read| read.object == object) {
            if let Some(slot) = schema.slot(object.kind, &read.field) {
                fields.insert(slot);
            }
        }
        let read = self.target.refresh(object, fields, deadline);
        timeout_at(deadline, read).await.unwrap_or(Err(TargetError::TimedOut))
    }

    /// Whether the object still is in the power state that the plan is for: what is made for one that is off changes only what one that
    /// runs is defined as. Of a command whose effect is no field that it sets, but that state itself, nothing is said: what somebody else
    /// did to the machine after it is not to be taken back with it.
    fn as_planned(&self, plan: &Plan) -> Result<(), Cause> {
        let command = &*self.run.command;
        if self.owner.rules.compared(self.target.protocol(), command).is_empty() {
            return Ok(());
        }
        let Some(slot) = self.owner.inventory.schema().slot(command.object.kind, POWER) else {
            return Ok(());
        };
        let is_it = |read: &&Read| read.object == command.object && *read.field == *POWER;
        match (plan.reads.iter().find(is_it), self.owner.inventory.record(command.object)) {
            (Some(read), Some(object)) if *object.get(slot) != read.value => {
                let message = format!(
                    "{} was planned for the power state that {} had, and somebody else changed that meanwhile; look at it and ask again",
                    command.verb, command.object
                );
                Err(Cause::new(Code::InvalidState, message))
            }
            _ => Ok(()),
        }
    }

    fn record(&self) -> Result<Arc<Record>, Cause> {
        let command = &*self.run.command;
        self.owner.inventory.record(command.object).ok_or_else(|| gone(command))
    }

    fn expected(&self, object: &Record) -> Option<bool> {
        let owner = self.owner;
        owner.rules.expected(self.target.protocol(), &self.run.command, object, &owner.inventory)
    }
}

/// For a command that was given up: nobody asks for this outcome any more.
fn given_up(command: &Command) -> Outcome {
    Outcome::Failed(Cause::new(Code::Cancelled, format!("{} was given up", command.verb)))
}

fn gone(command: &Command) -> Cause {
    Cause::new(Code::NotFound, format!("{} was removed before the command's turn came", command.object))
}

fn done(revision: Revision, plan: &Plan) -> Outcome {
    Outcome::Done { revision, result: plan.appears, already: false }
}

fn late(verb: &str, why: &str) -> Cause {
    Cause::new(Code::TimedOut, format!("{verb} was not done in time: {why}"))
}

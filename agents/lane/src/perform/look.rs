//! Looking: whether an effect is there, by what the target says now.
//!
//! A step is known by what the target says of it ([`Target::effective`]), else by the plan's mark (the object that appears or vanishes)
//! unless that was so before the step, else by the effect table's `expect`. Nothing of these: it leaves nothing to look at.

use crate::{
    owner::Owner,
    target::{Target, TargetError},
};
use std::sync::Arc;
use tokio::time::{Instant, sleep, timeout_at};
use union::{Command, Kind, ObjectId, Plan, command::Revision};

/// What a look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
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

impl Look {
    pub fn is_answer(&self) -> bool {
        !matches!(self, Look::Blind)
    }

    fn of(there: bool, revision: Revision) -> Look {
        if there { Look::There(revision) } else { Look::Missing }
    }
}

/// What is looked at, and who can tell.
pub(super) struct Sight<'a> {
    pub owner: &'a Arc<Owner>,
    pub command: &'a Command,
    pub plan: &'a Plan,
    /// The target that was called, or all that it may have been.
    pub targets: &'a [Arc<dyn Target>],
}

impl Sight<'_> {
    /// Whether an object appears or vanishes by the plan.
    pub fn has_mark(&self) -> bool {
        self.plan.appears.or(self.plan.vanishes).is_some()
    }

    /// Whether the object that appears is there, and the one that vanishes is gone.
    fn mark(&self) -> Option<bool> {
        let there = |id| self.owner.inventory.record(id).is_some();
        match (self.plan.appears, self.plan.vanishes) {
            (None, None) => None,
            (appears, vanishes) => Some(appears.is_none_or(there) && !vanishes.is_some_and(there)),
        }
    }

    /// Whether the plan, of which the steps before `at` were done, is past the point where it could be taken back: what it removes is
    /// gone, by a step that leaves no way back. Then it has done what it is for; the calls that would have followed are not made any more.
    pub fn is_past(&self, at: usize) -> bool {
        let steps = &self.plan.steps;
        let past = self.plan.vanishes.is_some()
            && self.mark() == Some(true)
            && steps.iter().take(at).any(|step| step.call.undo.is_none());
        if past {
            let left: Vec<&str> = steps.iter().skip(at).map(|step| &*step.call.call).collect();
            let (command, verb, object) = (self.command.id, &self.command.verb, self.command.object);
            tracing::error!(%command, %verb, %object, ?left, "it was done, but these calls of its plan were not made, or not known to be");
        }
        past
    }

    /// Reads afresh everything that the plan is about.
    pub async fn refresh(&self, until: Instant) -> Result<Revision, TargetError> {
        let mut ids: Vec<ObjectId> = vec![self.command.object];
        ids.extend(self.plan.appears.into_iter().chain(self.plan.vanishes));
        ids.extend(self.plan.steps.iter().map(|step| step.object));
        ids.sort_unstable();
        ids.dedup();
        let mut latest = self.owner.inventory.revision();
        for target in self.targets {
            for id in ids.iter().filter(|id| self.concerns(target, **id)) {
                let read = timeout_at(until, target.reread(*id, until)).await;
                latest = latest.max(read.unwrap_or(Err(TargetError::TimedOut))?);
            }
        }
        Ok(latest)
    }

    /// Whether a target is to be asked about an object: if it has it, and about a VM in any case, for it may have it by now. A host is
    /// only where a call is made.
    fn concerns(&self, target: &Arc<dyn Target>, id: ObjectId) -> bool {
        id.kind == Kind::Vm || (id.kind != Kind::Host && target.holds(id))
    }

    /// Looks once at the whole effect.
    pub async fn once(&self, until: Instant) -> Look {
        let Ok(revision) = self.refresh(until).await else { return Look::Blind };
        match self.mark() {
            Some(there) => Look::of(there, revision),
            None => self.expected(revision),
        }
    }

    fn expected(&self, revision: Revision) -> Look {
        let owner = self.owner;
        let Some(object) = owner.inventory.record(self.command.object) else { return Look::Gone };
        let [target, ..] = self.targets else { return Look::Blind };
        match owner.rules.expected(target.protocol(), self.command, &object, &owner.inventory) {
            None => Look::Nothing,
            Some(there) => Look::of(there, revision),
        }
    }

    /// Looks at the whole effect until a look is `enough`, at most until `until` or as long as `on` holds; the last that was an answer.
    pub async fn until(&self, enough: impl Fn(&Look) -> bool, until: Instant, on: impl Fn() -> bool) -> Look {
        let (mut pause, longest) = self.owner.limits.pause;
        let mut last = Look::Blind;
        loop {
            let look = self.once(until).await;
            if enough(&look) {
                return look;
            }
            last = if look.is_answer() { look } else { last };
            if Instant::now() + pause >= until || !on() {
                return last;
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Looks for the effect of step `at`, whose answer is lost, until it is there or has been missing for a while. A step that comes
    /// after others is not known by a mark that may have been there before it.
    pub async fn step(&self, at: usize, until: Instant, on: impl Fn() -> bool) -> Look {
        let marked_before = at > 0 && self.mark() == Some(true);
        let (mut pause, longest) = self.owner.limits.pause;
        let mut last = Look::Blind;
        let mut missing_since = None;
        loop {
            let look = self.step_once(at, marked_before, until).await;
            match look {
                Look::There(_) | Look::Nothing => return look,
                Look::Missing | Look::Gone => {
                    let since = *missing_since.get_or_insert_with(Instant::now);
                    if since + self.owner.limits.grace <= Instant::now() {
                        return look;
                    }
                    last = look;
                }
                Look::Blind => missing_since = None,
            }
            if Instant::now() + pause >= until || !on() {
                return last;
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Looks once for the effect of step `at`.
    pub async fn step_once(&self, at: usize, marked_before: bool, until: Instant) -> Look {
        let Ok(revision) = self.refresh(until).await else { return Look::Blind };
        let Some(step) = self.plan.steps.get(at) else { return Look::Nothing };
        let mut told = None;
        for target in self.targets {
            let asked = timeout_at(until, target.effective(step.object, &step.call, until)).await;
            match asked.unwrap_or(Err(TargetError::TimedOut)) {
                Ok(Some(there)) => told = Some(there || told.unwrap_or(false)),
                Ok(None) => {}
                Err(TargetError::Unreachable(_) | TargetError::Lost(_) | TargetError::TimedOut) => {
                    return Look::Blind;
                }
                // It cannot say, for example because the object is gone.
                Err(_) => {}
            }
        }
        match told.or_else(|| self.mark().filter(|_| !marked_before)) {
            Some(there) => Look::of(there, revision),
            None if self.plan.steps.len() > 1 => Look::Nothing,
            None => self.expected(revision),
        }
    }
}

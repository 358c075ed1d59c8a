//! A command under way: from the journal's first word of it to its last.

use crate::{
    dispatch::Answer,
    engine::Engine,
    flight::Landing,
    plan::Prepared,
    record::{self, Sent},
    submit::Asked,
};
use inventory::store::{Credit, OnAccount};
use std::{sync::Arc, time::Duration};
use store::{
    Batch, StoreError, audit,
    journal::{Begun, Entry, Intent, JournalError, Step},
};
use tokio::time::{Instant, sleep, timeout};
use union::{
    Command, CommandId, ObjectId, Plan,
    command::{Cause, Code, Outcome},
    fail::point,
    plan::OwnFact,
};

pub(crate) fn refused(code: Code, message: impl Into<String>) -> Outcome {
    Outcome::Refused(Cause::new(code, message))
}

/// The end of a command that came after somebody was told that it never did.
pub(crate) fn given_up(id: CommandId) -> Cause {
    Cause::new(Code::Cancelled, format!("{id} was given up before it came; send it as a new command"))
}

/// The journal did not take it, so nothing was done.
pub(crate) fn unrecorded(error: &JournalError) -> Cause {
    match error {
        JournalError::Digest(_) => Cause::new(Code::InvalidArgument, error.to_string()),
        _ => Cause::new(
            Code::Internal,
            format!("the engine cannot record the command: {error}; nothing was done"),
        ),
    }
}

/// How often a replica that lags is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A command that may be done.
pub(crate) struct Errand<'a> {
    pub asked: &'a Asked,
    pub command: &'a Command,
    pub landing: &'a Landing,
}

impl Errand<'_> {
    pub fn intent(&self, now_ms: i64) -> Intent {
        record::intent(self.command, &self.asked.envelope, self.asked.digest, now_ms)
    }
}

impl Engine {
    pub(crate) async fn fly(&self, asked: Asked, owed: bool, landing: &Landing) -> Outcome {
        match self.journal.get(asked.command.id).await {
            Err(error) => return Outcome::Refused(unrecorded(&error.into())),
            Ok(Some(entry)) if entry.intent.is_barred() => {
                return Outcome::Refused(given_up(asked.command.id));
            }
            Ok(Some(entry)) if entry.intent.digest != asked.digest => {
                return Outcome::Refused(unrecorded(&JournalError::Digest(asked.command.id)));
            }
            Ok(Some(entry)) => {
                return match entry.settled.as_ref().filter(|_| !entry.is_open()) {
                    Some(settled) => record::outcome(settled, self.schema()),
                    None => self.resume(entry, landing).await,
                };
            }
            Ok(None) => {}
        }
        if owed {
            let errand = Errand { asked: &asked, command: &asked.command, landing };
            return self.planned(&errand).await;
        }
        let tree = &self.tree;
        let admitted =
            self.deps.authority.admit(&asked.from, &asked.command, asked.grant.as_ref(), tree).await;
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(cause) => {
                tracing::warn!(agent = %asked.from, command = %asked.command.id, verb = %asked.command.verb, %cause, "a command was not admitted");
                let errand = Errand { asked: &asked, command: &asked.command, landing };
                return self.decline(&errand, Outcome::Refused(cause)).await;
            }
        };
        let command = Command { principal: admitted.principal, ..asked.command.clone() };
        let errand = Errand { asked: &asked, command: &command, landing };
        if self.left(command.deadline_ms).is_zero() {
            let outcome = refused(Code::TimedOut, "the command came after its deadline; nothing was done");
            return self.decline(&errand, outcome).await;
        }
        if self.is_own(&command) {
            return self.do_own(&errand, &admitted.grant).await;
        }
        self.planned(&errand).await
    }

    /// A command that an owner performs.
    async fn planned(&self, errand: &Errand<'_>) -> Outcome {
        let Errand { asked, command, landing } = errand;
        let bundle = &asked.envelope.bundle;
        let mut prepared = match self.prepare(command, bundle) {
            Ok(prepared) => prepared,
            Err(cause) => return self.decline(errand, Outcome::Refused(cause)).await,
        };
        // What the broker keeps of an object is changed by one at a time, from what the one before left.
        let turn = keeps(&prepared).map(|id| self.own_turn(id));
        let marks = prepared.plan.iter().flat_map(|plan| plan.appears.into_iter().chain(plan.vanishes));
        let _account = self.on_account(command, [command.object].into_iter().chain(marks));
        let _mine = match &turn {
            None => None,
            Some(turn) => match timeout(self.left(command.deadline_ms), turn.lock()).await {
                Ok(mine) => Some(mine),
                Err(_) => {
                    let outcome = refused(
                        Code::TimedOut,
                        "a command before it has not ended by its deadline; nothing was done",
                    );
                    return self.decline(errand, outcome).await;
                }
            },
        };
        for attempt in 1..=self.deps.limits.plans {
            if attempt > 1 || turn.is_some() {
                prepared = match self.prepare(command, bundle) {
                    Ok(prepared) => prepared,
                    Err(cause) if attempt == 1 => return self.decline(errand, Outcome::Refused(cause)).await,
                    Err(cause) => {
                        return self.conclude(command, Outcome::Refused(cause), None, landing).await;
                    }
                };
            }
            point("engine.planned");
            let epoch = match self.target_epoch(&prepared.holder.agent, &prepared.holder.target) {
                Ok(epoch) => epoch,
                Err(cause) if attempt == 1 => return self.decline(errand, Outcome::Refused(cause)).await,
                Err(cause) => return self.conclude(command, Outcome::Refused(cause), None, landing).await,
            };
            if landing.cancelled.is_cancelled() {
                let outcome = refused(Code::Cancelled, "the command was cancelled before it was sent");
                return match attempt {
                    1 => self.decline(errand, outcome).await,
                    _ => self.conclude(command, outcome, None, landing).await,
                };
            }
            match self.record_sent(errand, &prepared, attempt).await {
                Ok(None) => {}
                Ok(Some(known)) => return known,
                Err(cause) => return Outcome::Refused(cause),
            }
            point(if attempt == 1 { "engine.intent-durable" } else { "engine.replanned" });
            *landing.owner.lock() = Some(Arc::clone(&prepared.holder.agent));
            let outcome = match self.perform(&prepared, bundle, epoch).await {
                Answer::Ended(outcome) => outcome,
                Answer::NotSent(cause) => Outcome::Refused(cause),
                Answer::Lost => {
                    point("engine.lost");
                    self.settle(command.id, command.object, &prepared.holder.agent).await
                }
            };
            point("engine.answered");
            let changed = matches!(&outcome, Outcome::Refused(cause) if cause.code == Code::Changed);
            if !changed || prepared.plan.is_none() {
                return self.conclude(command, outcome, prepared.plan.as_ref(), landing).await;
            }
            self.catch_up(command.object, &prepared).await;
        }
        let outcome = refused(
            Code::Busy,
            format!(
                "{} changes faster than it can be planned for; nothing was done, try again later",
                command.object
            ),
        );
        self.conclude(command, outcome, None, landing).await
    }

    /// What changes of these objects is told as done by the command, until what this returns is dropped.
    pub(crate) fn on_account(&self, command: &Command, ids: impl IntoIterator<Item = ObjectId>) -> OnAccount {
        let credit =
            Credit { principal: Arc::clone(&command.principal), command: command.id.to_string().into() };
        self.deps.facts.inventory().run_on(ids, &credit)
    }

    /// The owner knows more than the replica a plan was made from: a moment for what it says to arrive.
    async fn catch_up(&self, object: ObjectId, prepared: &Prepared) {
        let until = Instant::now() + self.deps.limits.catch_up;
        while Instant::now() < until {
            let now = self.deps.facts.inventory().record(object);
            match (&now, &prepared.seen) {
                (Some(now), Some(seen)) if Arc::ptr_eq(now, seen) => sleep(LOOK).await,
                _ => return,
            }
        }
    }

    /// Intent, audit, plan, and that it is sent: durable when this returns. `Some`: somebody else recorded it first.
    async fn record_sent(
        &self,
        errand: &Errand<'_>,
        prepared: &Prepared,
        attempt: u32,
    ) -> Result<Option<Outcome>, Cause> {
        let now_ms = self.now_ms();
        let sent = Sent {
            agent: prepared.holder.agent.to_string(),
            target: prepared.holder.target.to_string(),
            plan: prepared.plan.clone().unwrap_or_default(),
        };
        let call = sent.to_blob(self.schema());
        let (id, epoch) = (errand.command.id, self.deps.epoch);
        if attempt > 1 {
            let again = self.journal.again(id, store::Blob::default(), call, now_ms, epoch).await;
            return match again {
                Ok(_) => Ok(None),
                Err(error) => Err(unrecorded(&error)),
            };
        }
        let steps = vec![Step::sent(call, now_ms)];
        let entry = Entry { steps, plans: 1, ..Entry::new(errand.intent(now_ms)) };
        let mut also = Batch::new();
        audit::stage(&mut also, &self.audit_of(errand.asked, errand.command, "allowed"));
        self.begin(entry, also, errand.landing).await
    }

    /// Begins a command in the journal. `Some`: it was there already.
    pub(crate) async fn begin(
        &self,
        entry: Entry,
        also: Batch,
        landing: &Landing,
    ) -> Result<Option<Outcome>, Cause> {
        match self.journal.begin_as(entry, also, self.deps.epoch).await {
            Ok(Begun::New) => Ok(None),
            Ok(Begun::Settled(settled)) => Ok(Some(record::outcome(&settled, self.schema()))),
            Ok(Begun::Open(entry)) => Ok(Some(Box::pin(self.resume(*entry, landing)).await)),
            Err(error) => Err(unrecorded(&error)),
        }
    }

    /// Records that a command was refused before anything was done.
    pub(crate) async fn decline(&self, errand: &Errand<'_>, outcome: Outcome) -> Outcome {
        let now_ms = self.now_ms();
        let settled = Some(record::settled(&outcome, self.schema(), now_ms));
        let entry = Entry { settled, ..Entry::new(errand.intent(now_ms)) };
        let mut also = Batch::new();
        audit::stage(&mut also, &self.audit_of(errand.asked, errand.command, &verdict(&outcome)));
        match self.begin(entry, also, errand.landing).await {
            Ok(Some(known)) => known,
            Ok(None) => outcome,
            Err(cause) => {
                tracing::warn!(command = %errand.command.id, %cause, "a refusal could not be recorded");
                outcome
            }
        }
    }

    /// Records how a command ended, with what the broker keeps of it from now on, and waits for the replica to show it.
    pub(crate) async fn conclude(
        &self,
        command: &Command,
        outcome: Outcome,
        plan: Option<&Plan>,
        landing: &Landing,
    ) -> Outcome {
        let mut own: Vec<OwnFact> = Vec::new();
        if let (Outcome::Done { .. }, Some(plan)) = (&outcome, plan) {
            own.extend(plan.own.iter().cloned());
            own.extend(plan.vanishes.map(|gone| self.own.clearing(gone)).unwrap_or_default());
        }
        if own.is_empty() {
            self.shown(&outcome, landing).await;
            // What is not yet recorded is settled with its owner after a crash: the same outcome.
            landing.tell(outcome.clone());
        }
        if !self.record_end(command, &outcome, &own).await {
            return Outcome::Unknown {
                probe: command.id.to_string(),
                message: "the engine's store closed before the outcome was recorded".to_owned(),
            };
        }
        point("engine.outcome-durable");
        if own.is_empty() {
            return outcome;
        }
        let shown = self.own.show(&own);
        point("engine.own-committed");
        self.shown(&outcome, landing).await;
        match outcome {
            Outcome::Done { revision, result, already } if revision == Default::default() => {
                Outcome::Done { revision: shown, result, already }
            }
            other => other,
        }
    }

    /// Waits until the replica shows what the owner did, or has had its time.
    async fn shown(&self, outcome: &Outcome, landing: &Landing) {
        let Outcome::Done { revision, .. } = outcome else { return };
        let Some(owner) = landing.owner.lock().clone() else { return };
        if !self.deps.facts.reached(&owner, *revision, self.deps.limits.shown).await {
            tracing::warn!(agent = %owner, "the replica does not show yet what was done");
        }
    }

    /// Records an outcome and own facts in one commit, as often as it takes. False: the store was closed.
    async fn record_end(&self, command: &Command, outcome: &Outcome, own: &[OwnFact]) -> bool {
        let mut pause = self.deps.limits.pause.0;
        loop {
            let now_ms = self.now_ms();
            let mut also = Batch::new();
            if let Err(error) = self.own.stage(&mut also, own) {
                tracing::error!(command = %command.id, %error, "a fact of the broker's own cannot be kept");
            }
            audit::stage(&mut also, &self.audit_end(command, outcome));
            let settled = record::settled(outcome, self.schema(), now_ms);
            match self.journal.settle(command.id, settled, also, self.deps.epoch).await {
                Ok(_) => return true,
                Err(JournalError::Store(StoreError::Closed)) => return false,
                Err(JournalError::Store(error)) => {
                    tracing::error!(command = %command.id, %error, "an outcome cannot be recorded; trying again");
                }
                Err(error) => {
                    tracing::error!(command = %command.id, %error, "an outcome is not for the journal");
                    return true;
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(self.deps.limits.pause.1);
        }
    }

    /// What the audit chain says of a command before its effect.
    pub(crate) fn audit_of(&self, asked: &Asked, command: &Command, verdict: &str) -> audit::Record {
        let detail = guard::summary::of(command, self.schema());
        audit::Record { remote: Arc::clone(&asked.from), ..self.audit_record(command, verdict, &detail) }
    }

    /// What it says of its end.
    pub(crate) fn audit_end(&self, command: &Command, outcome: &Outcome) -> audit::Record {
        self.audit_record(command, &verdict(outcome), "")
    }

    fn audit_record(&self, command: &Command, verdict: &str, detail: &str) -> audit::Record {
        audit::Record {
            at_ms: self.now_ms(),
            principal: Arc::clone(&command.principal),
            session: Arc::clone(&command.session),
            remote: Arc::from(""),
            verb: Arc::clone(&command.verb),
            object: Some(command.object),
            command: Some(command.id),
            verdict: Arc::from(verdict),
            detail: detail.as_bytes().into(),
        }
    }
}

/// The object of which a plan changes what the broker keeps.
fn keeps(prepared: &Prepared) -> Option<ObjectId> {
    prepared.plan.as_ref().and_then(|plan| plan.own.first()).map(|own| own.object)
}

/// An outcome in a few words, as the audit chain has it.
pub(crate) fn verdict(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { already: false, .. } => "done".to_owned(),
        Outcome::Done { already: true, .. } => "done before".to_owned(),
        Outcome::Failed(cause) => format!("failed: {cause}"),
        Outcome::Refused(cause) => format!("refused: {cause}"),
        Outcome::Unknown { message, .. } => format!("unknown: {message}"),
    }
}

//! The agent's journal: what its lanes are about to do, what came of it, and what of that the engine has still to hear.
//!
//! ```text
//! begin ─ one commit: intent, plan, first step sent; of its own commands also the audit record, into the outbox ─▶ durable ─▶ effect
//! already ─ one commit: intent and outcome ─▶ durable ─▶ told
//! ended ─ queue ─▶ writer: up to 64 together: outcome; of its own commands also into the outbox ─▶ the pump
//! start ─ unsettled: begun and not ended ─▶ Owner::recover, which looks and never sends again
//! ```
//!
//! An outcome that does not reach the disk is looked for at the next start. Outcomes that wait are bounded: with 4,096 of them, commands
//! wait before they begin. A store that does not take an intent refuses the command.

use crate::{grants::Grants, keep::tasks::TaskKeeper, limits, outbox::Backlog};
use async_trait::async_trait;
use lane::{Intended, Recorder, Unsettled};
use prost::Message;
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};
use store::{
    Batch, Blob, Epoch, Health, Store, StoreError,
    audit::Record,
    journal::{Begun, End, Entry, Intent, Journal as Rows, JournalError, Settled, Step, StepState},
    outbox::{self, Item, What},
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use union::{
    Clock, Command, CommandId, ObjectId, Plan, Schema,
    command::{Cause, Code, Outcome},
    pb,
};

mod body;
#[cfg(test)]
mod tests;

pub use body::{Body, Handing};

/// What the writer does.
enum Job {
    Ended(Box<Ended>),
    /// Everything before it is written.
    Flush(oneshot::Sender<()>),
}

struct Ended {
    id: CommandId,
    settled: Settled,
    /// For the engine, unless it knows by itself.
    handed: Option<pb::HandedOutcome>,
}

/// The journal of an agent, over its store.
pub struct Journal {
    store: Arc<dyn Store>,
    rows: Rows,
    epoch: Epoch,
    schema: Arc<Schema>,
    grants: Arc<Grants>,
    backlog: Arc<Backlog>,
    clock: Arc<dyn Clock>,
    room: Arc<Semaphore>,
    jobs: mpsc::Sender<Job>,
    tasks: OnceLock<Arc<TaskKeeper>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("room", &self.room.available_permits()).finish_non_exhaustive()
    }
}

/// What a journal stands on.
#[derive(Debug)]
pub struct Deps {
    /// The agent's store.
    pub store: Arc<dyn Store>,
    /// Its epoch.
    pub epoch: Epoch,
    /// The union with the extension fields of the mappings.
    pub schema: Arc<Schema>,
    /// The sessions, whose grants go with what is handed in.
    pub grants: Arc<Grants>,
    /// What the engine has still to hear.
    pub backlog: Arc<Backlog>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Journal {
    /// The journal in the store, and its writer, which runs until the journal is dropped.
    pub fn open(deps: Deps) -> Arc<Journal> {
        let Deps { store, epoch, schema, grants, backlog, clock } = deps;
        let (jobs, queue) = mpsc::channel(limits::OUTCOMES * 2);
        let rows = Rows::new(Arc::clone(&store));
        let room = Arc::new(Semaphore::new(limits::OUTCOMES));
        let writer =
            Writer { rows: rows.clone(), epoch, backlog: Arc::clone(&backlog), room: Arc::clone(&room) };
        tokio::spawn(writer.run(queue));
        let tasks = OnceLock::new();
        Arc::new(Journal { store, rows, epoch, schema, grants, backlog, clock, room, jobs, tasks })
    }

    /// From now on a command's task is kept by the commit that keeps its intent.
    pub fn keep_tasks(&self, tasks: Arc<TaskKeeper>) {
        if self.tasks.set(tasks).is_err() {
            tracing::error!("a journal has its tasks already");
        }
    }

    /// Waits until a task of the lanes is written, if it is to be.
    pub async fn kept(&self, task: ObjectId) {
        if let Some(tasks) = self.tasks.get() {
            tasks.written(task).await;
        }
    }

    /// The commands that had begun in an earlier life and have not ended, for [`lane::Owner::recover`].
    ///
    /// # Errors
    /// The store cannot be read. A record that cannot be understood is left alone and logged.
    pub async fn unsettled(&self) -> Result<Vec<Unsettled>, StoreError> {
        let mut all = Vec::new();
        let mut beyond = None;
        loop {
            let page = self.rows.open(beyond, 1_024).await?;
            let Some(last) = page.last().map(|entry| entry.intent.id) else { return Ok(all) };
            beyond = Some(last);
            for entry in page {
                match body::unsettled(&self.schema, &entry) {
                    Ok(one) => all.push(one),
                    Err(error) => {
                        tracing::error!(command = %entry.intent.id, error, "a command in the journal cannot be read; it stays open");
                    }
                }
            }
        }
    }

    /// Whether a command in the journal came from the engine.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn is_engines(&self, id: CommandId) -> Result<bool, Cause> {
        let entry = self.rows.get(id).await.map_err(|e| unwritten(&e))?;
        let body = entry.map(|entry| Body::decode(entry.intent.body.0.as_slice()).unwrap_or_default());
        Ok(body.is_some_and(|body| body.from_engine))
    }

    /// What is known of a command that is not in the lanes: its outcome, or `None` inside while it is open, as it is after an unknown outcome.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn look(&self, id: CommandId) -> Result<Option<Option<Outcome>>, Cause> {
        let entry = self.rows.get(id).await.map_err(|e| unwritten(&e))?;
        let settled = entry.map(|entry| entry.settled.filter(|settled| settled.end != End::Unknown));
        Ok(settled.map(|settled| settled.and_then(|settled| self.outcome(id, &settled))))
    }

    /// Has a command that never came known as ended so, from now on: whenever it comes, it is not done. Durable when it returns. `false`: it
    /// came before.
    ///
    /// # Errors
    /// The store cannot keep it.
    pub async fn bar(&self, id: CommandId, object: ObjectId, outcome: &Outcome) -> Result<bool, Cause> {
        let at_ms = self.clock.now_ms();
        let settled =
            Settled { end: End::Refused, outcome: Blob(outcome.to_pb(&self.schema).encode_to_vec()), at_ms };
        self.rows.bar(id, object, settled, self.epoch).await.map_err(|error| refusal(&error))
    }

    /// Waits until every outcome told so far is written, or has failed to be.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.jobs.send(Job::Flush(done)).await.is_ok() {
            // Fails only when the writer is gone, and then there is nothing to wait for.
            drop(written.await);
        }
    }

    /// Forgets commands that were settled long ago; say how many. Call it now and then.
    ///
    /// # Errors
    /// The store's.
    pub async fn expire(&self) -> Result<usize, StoreError> {
        self.rows.expire(self.clock.now_ms(), self.epoch).await
    }

    /// Keeps what this agent's sessions were refused for want of permission, to be handed in for the audit.
    ///
    /// # Errors
    /// The store's; then they are in the log only.
    pub async fn keep_refusals(&self) -> Result<(), StoreError> {
        let refusals = self.grants.passes().refusals().take();
        if refusals.is_empty() {
            return Ok(());
        }
        if self.backlog.is_full() {
            tracing::warn!(
                count = refusals.len(),
                "refusals are not kept: the engine has too much to take already"
            );
            return Ok(());
        }
        let mut batch = Batch::new();
        for refusal in &refusals {
            let more = match refusal.left_out {
                0 => String::new(),
                count => format!(" ({count} more refusals before it are not told)"),
            };
            let record = Record {
                at_ms: refusal.at_ms,
                principal: Arc::clone(&refusal.principal),
                session: Arc::clone(&refusal.session),
                remote: Arc::from(""),
                verb: Arc::clone(&refusal.verb),
                object: Some(refusal.object),
                command: None,
                verdict: format!("refused: {}{more}", refusal.why).into(),
                detail: Blob::default(),
            };
            let handing = Handing { grant: Some(refusal.grant.clone()), body: record.to_bytes() };
            let body = Blob(handing.encode_to_vec());
            outbox::stage(&mut batch, &Item { what: What::Audit, body, at_ms: record.at_ms });
        }
        self.store.commit(batch, self.epoch).await?;
        self.backlog.added(refusals.len());
        Ok(())
    }

    fn outcome(&self, id: CommandId, settled: &Settled) -> Option<Outcome> {
        let read = pb::Outcome::decode(settled.outcome.0.as_slice()).ok();
        let read = read.and_then(|outcome| Outcome::from_pb(&self.schema, &outcome).ok());
        if read.is_none() {
            tracing::error!(command = %id, "an outcome in the journal cannot be read");
        }
        read
    }

    fn intent(&self, intended: &Intended<'_>, grant: Option<pb::SignedGrant>) -> Intent {
        let command = intended.command;
        let envelope = command.to_pb(&self.schema, &intended.plan.bundle);
        let digest = Sha256::digest(envelope.encode_to_vec()).into();
        let body = Body {
            envelope: Some(envelope),
            grant,
            from_engine: intended.from_engine,
            target: intended.target.to_owned(),
        };
        Intent {
            id: command.id,
            digest,
            verb: Arc::clone(&command.verb),
            object: command.object,
            principal: Arc::clone(&command.principal),
            session: Arc::clone(&command.session),
            deadline_ms: command.deadline_ms,
            begun_ms: self.clock.now_ms(),
            body: Blob(body.encode_to_vec()),
        }
    }

    /// What is kept of an outcome, and what the engine is told of it.
    fn end(&self, command: &Command, outcome: &Outcome) -> (Settled, pb::HandedOutcome) {
        let outcome_pb = outcome.to_pb(&self.schema);
        let at_ms = self.clock.now_ms();
        let end = match outcome {
            Outcome::Done { .. } => End::Done,
            Outcome::Failed(_) => End::Failed,
            Outcome::Refused(_) => End::Refused,
            Outcome::Unknown { .. } => End::Unknown,
        };
        let settled = Settled { end, outcome: Blob(outcome_pb.encode_to_vec()), at_ms };
        let handed = pb::HandedOutcome {
            command_id: command.id.to_string(),
            outcome: Some(outcome_pb),
            at_ms,
            verb: command.verb.to_string(),
            object_id: command.object.to_string(),
            principal: command.principal.to_string(),
            session_id: command.session.to_string(),
        };
        (settled, handed)
    }

    /// By which a command was let in. Its session may have ended before its turn came.
    fn grant(&self, command: &Command) -> Option<pb::SignedGrant> {
        self.grants.passes().last_grant(&command.session).map(|grant| grant.signed.clone())
    }

    /// The audit record of a command that this agent took by itself.
    fn audit(&self, command: &Command, grant: Option<pb::SignedGrant>) -> Item {
        let record = Record {
            at_ms: self.clock.now_ms(),
            principal: Arc::clone(&command.principal),
            session: Arc::clone(&command.session),
            remote: Arc::from(""),
            verb: Arc::clone(&command.verb),
            object: Some(command.object),
            command: Some(command.id),
            verdict: Arc::from("allowed"),
            detail: Blob(guard::summary::of(command, &self.schema).into_bytes()),
        };
        let handing = Handing { grant, body: record.to_bytes() };
        Item { what: What::Audit, body: Blob(handing.encode_to_vec()), at_ms: record.at_ms }
    }
}

#[async_trait]
impl Recorder for Journal {
    async fn known(&self, command: CommandId) -> Result<Option<Outcome>, Cause> {
        Ok(self.look(command).await?.flatten())
    }

    async fn begin(&self, intended: Intended<'_>) -> Result<(), Cause> {
        if !intended.from_engine && self.backlog.is_full() {
            let most = limits::OUTBOX;
            return Err(Cause::new(
                Code::Busy,
                format!("the engine has {most} records still to take from this agent; nothing was done"),
            ));
        }
        // Known at once: nothing is shown of a command that cannot begin.
        if let Health::ReadOnly(reason) = self.store.health() {
            return Err(unwritten(&StoreError::ReadOnly { reason: Box::new(reason) }));
        }
        // Given back by the writer when the outcome is written.
        let room = self.room.acquire().await.map_err(|_| unwritten(&StoreError::Closed))?;
        let grant = self.grant(intended.command);
        let mut entry = Entry::new(self.intent(&intended, grant.clone()));
        let now = entry.intent.begun_ms;
        let mut plan = intended.plan.to_pb(&self.schema);
        for (at, step) in std::mem::take(&mut plan.steps).iter().enumerate() {
            let call = step.encode_to_vec();
            entry.steps.push(match at {
                0 => Step::sent(call, now),
                _ => Step::planned(call, Blob::default()),
            });
        }
        entry.read_set = Blob(plan.encode_to_vec());
        entry.plans = 1;
        let mut also = Batch::new();
        if let Some(tasks) = self.tasks.get() {
            tasks.stage(intended.command.id, &mut also);
        }
        if !intended.from_engine {
            outbox::stage(&mut also, &self.audit(intended.command, grant));
        }
        match self.rows.begin_as(entry, also, self.epoch).await {
            Ok(Begun::New) => {
                room.forget();
                if !intended.from_engine {
                    self.backlog.added(1);
                }
                Ok(())
            }
            Ok(Begun::Open(_) | Begun::Settled(_)) => Err(Cause::new(
                Code::InProgress,
                "the command had begun before; what became of it is looked for, and it is not done again",
            )),
            Err(error) => Err(refusal(&error)),
        }
    }

    async fn answered(&self, command: CommandId, step: usize) -> Result<(), Cause> {
        let at = u32::try_from(step).unwrap_or(u32::MAX);
        let entry = self.rows.answered(command, at, true, Blob::default(), self.epoch).await;
        let entry = entry.map_err(|e| refusal(&e))?;
        let next = entry.steps.get(step + 1).is_some_and(|next| next.state == StepState::Planned);
        if next {
            let sent = self.rows.sent(command, at + 1, self.clock.now_ms(), self.epoch).await;
            sent.map_err(|e| refusal(&e))?;
        }
        Ok(())
    }

    async fn already(&self, intended: Intended<'_>, outcome: &Outcome) {
        let command = intended.command;
        let grant = self.grant(command);
        let (settled, handed) = self.end(command, outcome);
        let at_ms = settled.at_ms;
        let entry = Entry { settled: Some(settled), ..Entry::new(self.intent(&intended, grant.clone())) };
        let mut also = Batch::new();
        if let Some(tasks) = self.tasks.get() {
            tasks.stage(command.id, &mut also);
        }
        let is_told = !intended.from_engine && !self.backlog.is_full();
        if is_told {
            outbox::stage(&mut also, &self.audit(command, grant.clone()));
            let handing = Handing { grant, body: handed.encode_to_vec() };
            outbox::stage(
                &mut also,
                &Item { what: What::Outcome, body: Blob(handing.encode_to_vec()), at_ms },
            );
        }
        match self.rows.begin_as(entry, also, self.epoch).await {
            Ok(Begun::New) if is_told => self.backlog.added(2),
            Ok(_) => {}
            // Nothing was done, so nothing is lost but who asked for it.
            Err(error) => {
                tracing::warn!(command = %command.id, %error, "that there was nothing to do was not kept");
            }
        }
    }

    fn ended(&self, command: &Command, outcome: &Outcome) {
        let (settled, handed) = self.end(command, outcome);
        union::fail::point("link.outcome-told");
        let job = Job::Ended(Box::new(Ended { id: command.id, settled, handed: Some(handed) }));
        if self.jobs.try_send(job).is_err() {
            tracing::error!(command = %command.id, "an outcome was not kept; it is looked for at the next start");
        }
    }
}

/// Writes outcomes, several together.
struct Writer {
    rows: Rows,
    epoch: Epoch,
    backlog: Arc<Backlog>,
    room: Arc<Semaphore>,
}

impl Writer {
    async fn run(self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(limits::TOGETHER);
        while queue.recv_many(&mut jobs, limits::TOGETHER).await > 0 {
            let mut flushed = Vec::new();
            let mut writes = Vec::new();
            for job in jobs.drain(..) {
                match job {
                    Job::Ended(ended) => writes.push(self.write(ended)),
                    Job::Flush(done) => flushed.push(done),
                }
            }
            // Commits that wait at the same time share a sync.
            futures_util::future::join_all(writes).await;
            for done in flushed {
                // Whoever asked may have gone.
                let _gone = done.send(());
            }
        }
    }

    async fn write(&self, ended: Box<Ended>) {
        let Ended { id, settled, handed } = *ended;
        match self.settle(id, settled, handed).await {
            Ok(true) => self.backlog.added(1),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(command = %id, %error, "an outcome was not kept; it is looked for at the next start");
            }
        }
        union::fail::point("link.outcome-durable");
        if self.room.available_permits() < limits::OUTCOMES {
            self.room.add_permits(1);
        }
    }

    /// Whether the engine is told.
    async fn settle(
        &self,
        id: CommandId,
        settled: Settled,
        handed: Option<pb::HandedOutcome>,
    ) -> Result<bool, JournalError> {
        let entry = self.rows.get(id).await?.ok_or(JournalError::NoCommand(id))?;
        let body = Body::decode(entry.intent.body.0.as_slice()).unwrap_or_default();
        let mut also = Batch::new();
        let told = handed.filter(|_| !body.from_engine).map(|handed| {
            let handing = Handing { grant: body.grant, body: handed.encode_to_vec() };
            Item { what: What::Outcome, body: Blob(handing.encode_to_vec()), at_ms: settled.at_ms }
        });
        if let Some(item) = &told {
            outbox::stage(&mut also, item);
        }
        self.rows.settle(id, settled, also, self.epoch).await?;
        Ok(told.is_some())
    }
}

/// The command of an intent that the store did not take.
fn refusal(error: &JournalError) -> Cause {
    match error {
        JournalError::Store(error) => unwritten(error),
        JournalError::Digest(_) => Cause::new(Code::InvalidArgument, error.to_string()),
        _ => Cause::new(Code::Internal, error.to_string()),
    }
}

fn unwritten(error: &StoreError) -> Cause {
    let code = match error {
        StoreError::Busy { .. } => Code::Busy,
        _ => Code::Internal,
    };
    Cause::new(code, format!("this agent cannot keep what it is about to do, so it does nothing: {error}"))
}

/// The plan of a journal's entry.
pub(crate) fn plan_of(schema: &Schema, entry: &Entry) -> Result<Plan, String> {
    let mut plan = pb::Plan::decode(entry.read_set.0.as_slice()).map_err(|e| e.to_string())?;
    for step in &entry.steps {
        plan.steps.push(pb::PlanStep::decode(step.call.0.as_slice()).map_err(|e| e.to_string())?);
    }
    Plan::from_pb(schema, &plan).map_err(|e| e.to_string())
}

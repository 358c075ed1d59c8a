//! The journal: what was intended, what was sent, what came of it. Recovery needs nothing else: the lowered steps and their undo are
//! in it.
//!
//! ```text
//! begin ─▶ Open ──planned──▶ Open ──sent(i)──▶ ──answered(i)──▶ … ──settle──▶ Settled(Done | Failed | Refused)
//!            │                 └─ a step was sent: no new plan          └──▶ Settled(Unknown): still open, until a probe settles it
//!            └─ the same id again: with the same digest what is recorded, with another a refusal
//! ```
//!
//! A command of which somebody was told that it never came is barred: settled as refused, before it begins.
//!
//! Each step forward is one commit, durable when it returns, that holds only if the record is as it was read. A settled command is
//! remembered for [`RETENTION_MS`], so that an id sent again is answered, not performed. Forgetting is by [`Journal::expire`].

use crate::{
    batch::{Batch, Epoch},
    error::StoreError,
    row::{Blob, Row as _, byte, row},
    store::{Scan, Store, all},
    table::Table,
};
use std::sync::Arc;
use union::{CommandId, ObjectId};

/// How long a settled command is remembered, milliseconds: 24 h.
pub const RETENTION_MS: i64 = 24 * 3_600 * 1_000;
/// How often a commit that lost a race is tried again.
const TRIES: usize = 8;
/// Commands forgotten in one commit.
const EXPIRE: usize = 1_024;

/// Why the journal did not take it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The same id with another content.
    #[error("command {0} was sent before with another content; a new command needs a new id")]
    Digest(CommandId),
    /// Not begun, or forgotten.
    #[error("command {0} is not in the journal")]
    NoCommand(CommandId),
    /// The plan has no such step.
    #[error("the plan of command {id} has no step {step}")]
    NoStep {
        /// Which command.
        id: CommandId,
        /// Which step, from 0.
        step: u32,
    },
    /// Out of order, for example an answer to what was not sent.
    #[error("command {id}: {what}")]
    Order {
        /// Which command.
        id: CommandId,
        /// What was tried.
        what: &'static str,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

row! {
    /// What a command wants.
    pub struct Intent {
        /// Which command.
        1 id: CommandId,
        /// A hash of everything it says; the same id with another digest is refused.
        2 digest: [u8; 32],
        /// The union command, for example `PowerOn`.
        3 verb: Arc<str>,
        /// On what.
        4 object: ObjectId,
        /// By whom.
        5 principal: Arc<str>,
        /// In which session.
        6 session: Arc<str>,
        /// Unix milliseconds after which the answer is of no use.
        7 deadline_ms: i64,
        /// When it was taken on, Unix milliseconds.
        8 begun_ms: i64,
        /// The encoded command.
        9 body: Blob,
    }
}

impl Intent {
    /// Of a command that is barred: nothing is known of it.
    fn barred(id: CommandId, object: ObjectId, now_ms: i64) -> Intent {
        let none: Arc<str> = Arc::from("");
        let (verb, principal, session) = (Arc::clone(&none), Arc::clone(&none), none);
        let (digest, body) = ([0; 32], Blob::default());
        Intent { id, digest, verb, object, principal, session, deadline_ms: now_ms, begun_ms: now_ms, body }
    }

    /// Whether it is that of a command that never came, and will not be done.
    pub fn is_barred(&self) -> bool {
        self.verb.is_empty()
    }
}

byte! {
    /// How far a step is.
    pub enum StepState {
        /// Not sent.
        Planned = 0,
        /// Sent, or about to be: it may have happened.
        Sent = 1,
        /// The target did it.
        Done = 2,
        /// The target said no.
        Failed = 3,
        /// It was undone.
        Undone = 4,
    }
}

row! {
    /// One native call.
    pub struct Step {
        /// The encoded call.
        1 call: Blob,
        /// The encoded call that takes it back; empty: nothing does.
        2 undo: Blob,
        /// How far it is.
        3 state: StepState,
        /// What the target answered.
        4 answer: Blob,
        /// When it was sent, Unix milliseconds; 0: not.
        5 sent_ms: i64,
    }
}

impl Step {
    /// A step that was not sent.
    pub fn planned(call: impl Into<Blob>, undo: impl Into<Blob>) -> Step {
        let (call, undo) = (call.into(), undo.into());
        Step { call, undo, state: StepState::Planned, answer: Blob::default(), sent_ms: 0 }
    }

    /// A step about to be sent.
    pub fn sent(call: impl Into<Blob>, now_ms: i64) -> Step {
        Step { state: StepState::Sent, sent_ms: now_ms, ..Step::planned(call, Blob::default()) }
    }
}

byte! {
    /// How a command ended.
    pub enum End {
        /// The effect is there.
        Done = 1,
        /// The target said no.
        Failed = 2,
        /// Nothing was done.
        Refused = 3,
        /// Not known; a probe will tell.
        Unknown = 4,
    }
}

row! {
    /// The outcome of a command.
    pub struct Settled {
        /// How it ended.
        1 end: End,
        /// The encoded outcome.
        2 outcome: Blob,
        /// When, Unix milliseconds.
        3 at_ms: i64,
    }
}

row! {
    /// Everything known of a command.
    pub struct Entry {
        /// What it wants.
        1 intent: Intent,
        /// What the plan relied on, encoded.
        2 read_set: Blob,
        /// The plan.
        3 steps: Vec<Step>,
        /// How often it was planned.
        4 plans: u32,
        /// The outcome, once there is one.
        5 settled: Option<Settled>,
    }
}

impl Entry {
    /// A command of which nothing is known but what it wants.
    pub fn new(intent: Intent) -> Entry {
        Entry { intent, read_set: Blob::default(), steps: Vec::new(), plans: 0, settled: None }
    }

    /// Whether it still has to be settled.
    pub fn is_open(&self) -> bool {
        self.settled.as_ref().is_none_or(|settled| settled.end == End::Unknown)
    }

    /// Whether any step may have had an effect.
    pub fn was_sent(&self) -> bool {
        self.steps.iter().any(|step| step.state != StepState::Planned)
    }
}

/// What [`Journal::begin`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is new, and now recorded.
    New,
    /// It is here already and not settled, or its outcome is not known.
    Open(Box<Entry>),
    /// It is settled.
    Settled(Settled),
}

/// The journal over a store.
#[derive(Clone, Debug)]
pub struct Journal {
    store: Arc<dyn Store>,
}

fn key(id: CommandId) -> [u8; 16] {
    *id.0.as_bytes()
}

fn ended_key(at_ms: i64, id: CommandId) -> Vec<u8> {
    [&u64::try_from(at_ms).unwrap_or(0).to_be_bytes()[..], &key(id)].concat()
}

impl Journal {
    /// The journal in `store`.
    pub fn new(store: Arc<dyn Store>) -> Journal {
        Journal { store }
    }

    /// Everything known of a command.
    pub async fn get(&self, id: CommandId) -> Result<Option<Entry>, StoreError> {
        let found = self.store.get(Table::Journal, &key(id)).await?;
        found.map(|bytes| Entry::at(Table::Journal, &key(id), &bytes)).transpose()
    }

    /// Records an intent, with `also` (its audit entry) in the same commit. A command that is here already is answered from the record
    /// and `also` is not written.
    pub async fn begin(&self, intent: Intent, also: Batch, epoch: Epoch) -> Result<Begun, JournalError> {
        self.begin_as(Entry::new(intent), also, epoch).await
    }

    /// Records a command that is further already, in one commit: with its plan, sent, or settled at once.
    pub async fn begin_as(&self, entry: Entry, also: Batch, epoch: Epoch) -> Result<Begun, JournalError> {
        let id = entry.intent.id;
        for tried in 0..TRIES {
            // Almost always it is new: the batch itself says so if it is not.
            if tried > 0
                && let Some(known) = self.get(id).await?
            {
                if known.intent.digest != entry.intent.digest {
                    return Err(JournalError::Digest(id));
                }
                return Ok(match known.settled {
                    Some(settled) if settled.end != End::Unknown => Begun::Settled(settled),
                    _ => Begun::Open(Box::new(known)),
                });
            }
            let mut batch = Batch::new();
            batch.expect(Table::Journal, &key(id), None);
            batch.put(Table::Journal, &key(id), entry.encode());
            match &entry.settled {
                Some(settled) if settled.end != End::Unknown => {
                    batch.put(Table::JournalEnded, &ended_key(settled.at_ms, id), Vec::new())
                }
                _ => batch.put(Table::JournalOpen, &key(id), Vec::new()),
            };
            batch.join(also.clone());
            match self.store.commit(batch, epoch).await {
                Ok(_) => return Ok(Begun::New),
                // Ours, or a row that `also` relies on: the next look tells which.
                Err(StoreError::Conflict { table: Table::Journal, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(JournalError::Order { id, what: "it was begun by others too often at once" })
    }

    /// Records that a command that has not come is not done if it does: it is `settled`. `false`: it has come.
    pub async fn bar(
        &self,
        id: CommandId,
        object: ObjectId,
        settled: Settled,
        epoch: Epoch,
    ) -> Result<bool, JournalError> {
        let intent = Intent::barred(id, object, settled.at_ms);
        let entry = Entry { settled: Some(settled), ..Entry::new(intent) };
        match self.begin_as(entry, Batch::new(), epoch).await {
            Ok(_) => Ok(true),
            Err(JournalError::Digest(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Records that what was sent had no effect at all, and that another step takes its place, about to be sent.
    pub async fn again(
        &self,
        id: CommandId,
        read_set: Blob,
        call: Blob,
        now_ms: i64,
        epoch: Epoch,
    ) -> Result<Entry, JournalError> {
        self.change(id, Batch::new(), epoch, |entry| {
            let none = entry.steps.iter().all(|s| matches!(s.state, StepState::Sent | StepState::Failed));
            order(id, none, "a step had its effect, so there is no new plan")?;
            for step in &mut entry.steps {
                step.state = StepState::Failed;
            }
            entry.read_set = read_set.clone();
            entry.steps.push(Step::sent(call.clone(), now_ms));
            entry.plans = entry.plans.saturating_add(1);
            Ok(())
        })
        .await
    }

    /// Records the plan. A new one replaces it as long as no step of it was sent.
    pub async fn planned(
        &self,
        id: CommandId,
        read_set: Blob,
        steps: Vec<Step>,
        epoch: Epoch,
    ) -> Result<Entry, JournalError> {
        self.change(id, Batch::new(), epoch, |entry| {
            order(id, !entry.was_sent(), "a step of the earlier plan was sent, so there is no new plan")?;
            entry.read_set = read_set.clone();
            entry.steps = steps.clone();
            entry.plans = entry.plans.saturating_add(1);
            Ok(())
        })
        .await
    }

    /// Records that a step is about to be sent. Only then may it be.
    pub async fn sent(
        &self,
        id: CommandId,
        step: u32,
        now_ms: i64,
        epoch: Epoch,
    ) -> Result<Entry, JournalError> {
        self.change(id, Batch::new(), epoch, |entry| {
            let step = find(entry, id, step)?;
            order(id, step.state == StepState::Planned, "a step is sent once")?;
            (step.state, step.sent_ms) = (StepState::Sent, now_ms);
            Ok(())
        })
        .await
    }

    /// Records what a target answered, or what a probe found: the step is `Done` or `Failed`.
    pub async fn answered(
        &self,
        id: CommandId,
        step: u32,
        done: bool,
        answer: Blob,
        epoch: Epoch,
    ) -> Result<Entry, JournalError> {
        self.change(id, Batch::new(), epoch, |entry| {
            let step = find(entry, id, step)?;
            order(id, step.state == StepState::Sent, "only a step that was sent is answered")?;
            step.state = if done { StepState::Done } else { StepState::Failed };
            step.answer = answer.clone();
            Ok(())
        })
        .await
    }

    /// Records that a step was taken back.
    pub async fn undone(&self, id: CommandId, step: u32, epoch: Epoch) -> Result<Entry, JournalError> {
        self.change(id, Batch::new(), epoch, |entry| {
            let step = find(entry, id, step)?;
            let may = matches!(step.state, StepState::Sent | StepState::Done);
            order(id, may, "only a step that may have happened is undone")?;
            step.state = StepState::Undone;
            Ok(())
        })
        .await
    }

    /// Records the outcome, with `also` (an audit or outbox entry) in the same commit. The same outcome again is fine; only `Unknown`
    /// may be replaced by another.
    pub async fn settle(
        &self,
        id: CommandId,
        settled: Settled,
        also: Batch,
        epoch: Epoch,
    ) -> Result<Entry, JournalError> {
        if let Some(entry) = self.get(id).await?
            && let Some(known) = &entry.settled
            && (known.end, &known.outcome) == (settled.end, &settled.outcome)
        {
            return Ok(entry);
        }
        let mut batch = also;
        if settled.end != End::Unknown {
            batch.remove(Table::JournalOpen, &key(id));
            batch.put(Table::JournalEnded, &ended_key(settled.at_ms, id), Vec::new());
        }
        self.change(id, batch, epoch, |entry| {
            entry.settled = Some(settled.clone());
            Ok(())
        })
        .await
    }

    async fn change(
        &self,
        id: CommandId,
        also: Batch,
        epoch: Epoch,
        mut change: impl FnMut(&mut Entry) -> Result<(), JournalError>,
    ) -> Result<Entry, JournalError> {
        for _ in 0..TRIES {
            let mut entry = self.get(id).await?.ok_or(JournalError::NoCommand(id))?;
            order(id, entry.is_open(), "it is settled")?;
            let before = entry.encode();
            change(&mut entry)?;
            let mut batch = Batch::new();
            batch.expect(Table::Journal, &key(id), Some(&before));
            batch.put(Table::Journal, &key(id), entry.encode()).join(also.clone());
            match self.store.commit(batch, epoch).await {
                Ok(_) => return Ok(entry),
                Err(StoreError::Conflict { table: Table::Journal, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(JournalError::Order { id, what: "it was changed by others too often at once" })
    }

    /// The commands that have to be settled: what recovery begins with. At most `limit`, beyond `beyond`.
    pub async fn open(&self, beyond: Option<CommandId>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let scan = Scan { beyond: beyond.map(|id| key(id).to_vec()), limit, ..Scan::default() };
        let mut entries = Vec::new();
        for (id, _) in self.store.scan(Table::JournalOpen, scan).await? {
            let bytes = self.store.get(Table::Journal, &id).await?;
            let bytes = bytes.ok_or_else(|| {
                crate::seal::corrupt(&Table::JournalOpen.key(&id), "the journal does not have the command")
            })?;
            entries.push(Entry::at(Table::Journal, &id, &bytes)?);
        }
        Ok(entries)
    }

    /// How many commands have to be settled.
    pub async fn open_count(&self) -> Result<usize, StoreError> {
        Ok(all(&*self.store, Table::JournalOpen, &[]).await?.len())
    }

    /// Forgets what was settled more than [`RETENTION_MS`] ago; says how many that were. Some may be left: call it again until 0.
    pub async fn expire(&self, now_ms: i64, epoch: Epoch) -> Result<usize, StoreError> {
        let until = u64::try_from(now_ms.saturating_sub(RETENTION_MS)).unwrap_or(0);
        let oldest = self.store.scan(Table::JournalEnded, Scan::under(&[], EXPIRE)).await?;
        let mut batch = Batch::new();
        let mut count = 0;
        for (row, _) in &oldest {
            let Some((at, id)) = row.split_first_chunk::<8>() else { continue };
            if u64::from_be_bytes(*at) >= until {
                break;
            }
            batch.remove(Table::JournalEnded, row).remove(Table::Journal, id);
            count += 1;
        }
        if count > 0 {
            self.store.commit(batch, epoch).await?;
        }
        Ok(count)
    }
}

fn order(id: CommandId, fine: bool, what: &'static str) -> Result<(), JournalError> {
    if fine { Ok(()) } else { Err(JournalError::Order { id, what }) }
}

fn find(entry: &mut Entry, id: CommandId, step: u32) -> Result<&mut Step, JournalError> {
    let found = usize::try_from(step).ok().and_then(|at| entry.steps.get_mut(at));
    found.ok_or(JournalError::NoStep { id, step })
}

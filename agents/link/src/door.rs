//! What the engine asks of this agent. One door for all its verbs, over the bus and in one process.
//!
//! ```text
//! perform ─▶ grant: signed, for this agent, of a live session, of the command's principal, covers it
//!         ─▶ engine's epoch at least the highest seen, durable ─▶ not barred ─▶ target's epoch ─▶ Owner.dispatch ─▶ Outcome
//! settle  ─▶ running | its outcome | never heard of: barred from now on, durable     cancel ─▶ Owner.cancel
//! revoke, grants ─▶ the sessions                                             bundle ─▶ whoever fetches it
//! ```
//!
//! Whoever calls has made sure that it is the engine who asks. Limits: 1,024 commands and 256 other requests at a time; one more is Busy
//! at once.

use crate::{
    bundle::Takes,
    engine::{answered, refused},
    grants::{Grants, OwnersTree},
    journal::Journal,
    limits,
};
use bytes::Bytes;
use inventory::Inventory;
use lane::{Owner, Reply, owner::Dispatch};
use parking_lot::Mutex;
use prost::Message;
use rustc_hash::FxHashSet;
use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};
use store::{
    Epoch, Store,
    leases::{Lease, LeaseError, Leases},
};
use tokio::sync::{Semaphore, watch};
use union::{
    Clock, Command, CommandId, ObjectId, Plan, Schema,
    command::{Cause, Code, Outcome},
    envelope, pb,
};

/// The lease under which the engine's own epoch is kept; no target can be called so.
const ENGINE: &str = "\u{1f}engine";

/// What the door stands on.
#[derive(Debug)]
pub struct Deps {
    /// This agent's name.
    pub agent: Arc<str>,
    /// The lanes.
    pub owner: Arc<Owner>,
    /// The facts of this agent's targets.
    pub facts: Arc<Inventory>,
    /// The sessions, and who believes grants.
    pub grants: Arc<Grants>,
    /// The journal, for outcomes of earlier lives.
    pub journal: Arc<Journal>,
    /// Where epochs are kept.
    pub store: Arc<dyn Store>,
    /// The store's epoch.
    pub epoch: Epoch,
    /// The union with the extension fields of the mappings.
    pub schema: Arc<Schema>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The agent's door.
#[derive(Debug)]
pub struct Link {
    agent: Arc<str>,
    owner: Arc<Owner>,
    facts: Arc<Inventory>,
    grants: Arc<Grants>,
    journal: Arc<Journal>,
    epochs: Epochs,
    schema: Arc<Schema>,
    barred: Mutex<Barred>,
    room: Semaphore,
    aside: Semaphore,
    bundle: watch::Sender<Option<pb::BundleNotice>>,
    takes: OnceLock<Arc<dyn Takes>>,
}

#[derive(Debug, Default)]
struct Barred {
    ids: FxHashSet<CommandId>,
    order: VecDeque<CommandId>,
}

/// The epochs that this agent has seen, of the engine and of its targets. Durable; a lower one is refused.
#[derive(Clone, Debug)]
pub struct Epochs {
    leases: Leases,
    epoch: Epoch,
    agent: Arc<str>,
    clock: Arc<dyn Clock>,
    /// The engine's, once it is durable; spares a read of the store.
    engine: Arc<Mutex<u64>>,
}

impl Epochs {
    /// The epochs kept in `store`.
    pub fn new(store: Arc<dyn Store>, epoch: Epoch, agent: &str, clock: Arc<dyn Clock>) -> Epochs {
        let engine = Arc::default();
        Epochs { leases: Leases::new(store), epoch, agent: Arc::from(agent), clock, engine }
    }

    /// The engine says that it has this epoch.
    ///
    /// # Errors
    /// A later engine has been seen, or the store cannot keep it.
    pub async fn engine(&self, epoch: u64) -> Result<(), Cause> {
        if *self.engine.lock() == epoch && epoch != 0 {
            return Ok(());
        }
        if epoch == 0 {
            return Err(Cause::new(Code::Internal, "a message of the engine without its epoch; refused"));
        }
        self.see(ENGINE, "engine", epoch).await?;
        *self.engine.lock() = epoch;
        Ok(())
    }

    /// The lease of a target of this agent has this epoch.
    ///
    /// # Errors
    /// A later one has been seen, or the store cannot keep it.
    pub async fn target(&self, target: &str, epoch: u64) -> Result<(), Cause> {
        self.see(target, &self.agent, epoch).await
    }

    async fn see(&self, target: &str, owner: &str, epoch: u64) -> Result<(), Cause> {
        let lease =
            Lease { target: Arc::from(target), owner: Arc::from(owner), epoch, at_ms: self.clock.now_ms() };
        self.leases.see(&lease, self.epoch).await.map_err(|error| match error {
            LeaseError::Over { given, highest, .. } => {
                let what = if target == ENGINE { "the engine" } else { target };
                tracing::warn!(what, given, highest = highest.epoch, "a stale epoch was refused");
                Cause::new(
                    Code::Permission,
                    format!("epoch {given} of {what} is over, {} has begun; nothing was done", highest.epoch),
                )
            }
            LeaseError::Store(error) => Cause::new(
                Code::Internal,
                format!("this agent cannot keep an epoch, so it does nothing: {error}"),
            ),
        })
    }
}

impl Link {
    /// A door that is open.
    pub fn new(deps: Deps) -> Arc<Link> {
        let Deps { agent, owner, facts, grants, journal, store, epoch, schema, clock } = deps;
        let epochs = Epochs::new(store, epoch, &agent, clock);
        Arc::new(Link {
            agent,
            owner,
            facts,
            grants,
            journal,
            epochs,
            schema,
            barred: Mutex::default(),
            room: Semaphore::new(limits::ANSWERED),
            aside: Semaphore::new(limits::ASIDE),
            bundle: watch::Sender::new(None),
            takes: OnceLock::new(),
        })
    }

    /// The epochs that this agent has seen.
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// The engine has given a target's lease this epoch: durable, and commands of an older one are refused.
    ///
    /// # Errors
    /// As [`Epochs::target`].
    pub async fn lease(&self, target: &str, epoch: u64) -> Result<(), Cause> {
        self.epochs.target(target, epoch).await?;
        self.owner.lease(target, epoch)
    }

    /// Keeps what this agent's sessions were refused, for the audit.
    pub async fn keep_refusals(&self) {
        if let Err(error) = self.journal.keep_refusals().await {
            tracing::error!(%error, "what sessions were refused was not kept");
        }
    }

    /// From now on `takes` answers what the engine says of bundles. Only the first call counts.
    pub fn taken_by(&self, takes: Arc<dyn Takes>) {
        if self.takes.set(takes).is_err() {
            tracing::error!("bundles are taken on by somebody already");
        }
    }

    /// The last bundle that the engine's welcome said there is, or a notice that nobody took.
    pub fn bundle(&self) -> watch::Receiver<Option<pb::BundleNotice>> {
        self.bundle.subscribe()
    }

    /// The engine says that there is a bundle.
    pub fn noticed(&self, notice: pb::BundleNotice) {
        self.bundle.send_replace(Some(notice));
    }

    /// Answers the engine. The answer is a whole `Reply`.
    pub async fn answer(&self, verb: &str, body: Bytes) -> Bytes {
        // What is asked about commands finds room when commands do not.
        let (room, most) = match verb {
            "perform" => (&self.room, limits::ANSWERED),
            _ => (&self.aside, limits::ASIDE),
        };
        let Ok(_room) = room.try_acquire() else {
            let message =
                format!("{most} requests of the engine are under way on {}; nothing was done", self.agent);
            return refused(&Cause::new(Code::Busy, message));
        };
        let answer = match verb {
            "perform" => self.perform(&body).await.map(|outcome| answered(&outcome.to_pb(&self.schema))),
            "settle" => self.settle(&body).await.map(|settled| answered(&settled)),
            "cancel" => self.cancel(&body).await.map(|()| answered(&pb::Settled::default())),
            "revoke" => read::<pb::Revoke>(&body).map(|revoke| {
                self.grants.end(revoke.session_ids.iter().map(String::as_str));
                answered(&())
            }),
            "grants" => read::<pb::Renewed>(&body).map(|renewed| {
                self.grants.renew(&renewed);
                answered(&())
            }),
            "bundle" => match (read::<pb::BundleNotice>(&body), self.takes.get()) {
                (Ok(notice), Some(takes)) => Ok(answered(&takes.told(notice).await)),
                (Ok(notice), None) => {
                    self.noticed(notice);
                    Ok(answered(&pb::BundleSaid::default()))
                }
                (Err(cause), _) => Err(cause),
            },
            other => Err(Cause::new(Code::NotSupported, format!("an agent has no verb `{other}`"))),
        };
        answer.unwrap_or_else(|cause| {
            tracing::warn!(verb, %cause, "a request of the engine was refused");
            refused(&cause)
        })
    }

    async fn perform(&self, body: &[u8]) -> Result<Outcome, Cause> {
        let perform: pb::Perform = read(body)?;
        let envelope = perform.envelope.ok_or_else(|| unreadable("a command without an envelope"))?;
        let command = Command::from_pb(&self.schema, &envelope).map_err(|e| unreadable(&e.to_string()))?;
        let signed = perform.grant.ok_or_else(|| {
            Cause::new(Code::Permission, format!("{} refused: it came without a grant", command.verb))
        })?;
        let grant = self.grants.believe(&signed)?;
        self.grants.covers(&grant, &command, &OwnersTree::new(&self.facts, &grant))?;
        self.epochs.engine(perform.engine_epoch).await?;
        let plan = perform.plan.map(|plan| Plan::from_pb(&self.schema, &plan)).transpose();
        let plan = plan.map_err(|e| unreadable(&e.to_string()))?;
        let about = plan.as_ref().and_then(|plan| plan.steps.first()).map_or(command.object, |s| s.object);
        let target = self.owner.target_of(about).or_else(|| self.owner.target_of(command.object));
        let epoch = (perform.target_epoch > 0).then_some(perform.target_epoch);
        if let (Some(target), Some(epoch)) = (target, epoch) {
            self.epochs.target(target.name(), epoch).await?;
        }
        union::fail::point("link.perform-checked");
        let taken = {
            // Held while the command is taken: either it is here when it is asked about, or it is barred.
            let barred = self.barred.lock();
            if barred.ids.contains(&command.id) {
                return Err(too_late());
            }
            self.owner.dispatch(command, Dispatch { plan, epoch }, Reply::Outcome)
        };
        let ticket = match taken {
            Ok(ticket) => ticket,
            Err(cause) => return Ok(Outcome::Refused(cause)),
        };
        let outcome = ticket.outcome().await;
        union::fail::point("link.performed");
        Ok(outcome)
    }

    async fn settle(&self, body: &[u8]) -> Result<pb::Settled, Cause> {
        let (id, about) = self.about(body).await?;
        use lane::Known;
        let settled = |outcome: &Outcome| pb::Settled {
            outcome: Some(outcome.to_pb(&self.schema)),
            ..pb::Settled::default()
        };
        let running = pb::Settled { running: true, ..pb::Settled::default() };
        match self.owner.outcome(id) {
            // It is not known yet.
            Some(Known::Ended(Outcome::Unknown { .. })) if self.owner.is_looked_for(id) => {
                return Ok(running);
            }
            Some(Known::Ended(outcome)) => return Ok(settled(&outcome)),
            Some(Known::Running) => return Ok(running),
            None => {}
        }
        match self.journal.look(id).await? {
            Some(Some(outcome)) => return Ok(settled(&outcome)),
            // Begun in an earlier life; the lane finds out.
            Some(None) => return Ok(running),
            None => {}
        }
        self.bar(id);
        // It may have come in between.
        match self.owner.outcome(id) {
            Some(Known::Ended(outcome)) => Ok(settled(&outcome)),
            Some(Known::Running) => Ok(running),
            None => {
                let object = about.object_id.parse().map_err(|_| unreadable("a question about no object"))?;
                // In the next life too.
                if !self.journal.bar(id, object, &Outcome::Refused(too_late())).await? {
                    return Ok(running);
                }
                tracing::info!(command = %id, object = about.object_id, "a command never came here, and is refused if it does");
                Ok(pb::Settled { unknown: true, ..pb::Settled::default() })
            }
        }
    }

    async fn cancel(&self, body: &[u8]) -> Result<(), Cause> {
        let (id, _) = self.about(body).await?;
        self.owner.cancel(id)
    }

    async fn about(&self, body: &[u8]) -> Result<(CommandId, pb::About), Cause> {
        let about: pb::About = read(body)?;
        self.epochs.engine(about.engine_epoch).await?;
        let id = envelope::command_id(&about.command_id).map_err(|e| unreadable(&e.to_string()))?;
        Ok((id, about))
    }

    fn bar(&self, id: CommandId) {
        let mut barred = self.barred.lock();
        if barred.ids.insert(id) {
            barred.order.push_back(id);
        }
        while barred.order.len() > limits::BARRED {
            if let Some(oldest) = barred.order.pop_front() {
                barred.ids.remove(&oldest);
            }
        }
    }

    /// Whether the object is one of this agent's.
    pub fn holds(&self, object: ObjectId) -> bool {
        self.owner.target_of(object).is_some()
    }
}

fn too_late() -> Cause {
    let why = "the engine has asked about this command before it came, and was told that it never will";
    Cause::new(Code::TimedOut, why)
}

fn read<M: Message + Default>(body: &[u8]) -> Result<M, Cause> {
    M::decode(body).map_err(|e| unreadable(&e.to_string()))
}

fn unreadable(why: &str) -> Cause {
    Cause::new(Code::InvalidArgument, format!("a message of the engine cannot be read: {why}"))
}

#[cfg(test)]
mod tests;

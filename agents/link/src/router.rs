//! Where commands go. The commands of every front pass here.
//!
//! ```text
//! submit ─▶ route: own target, lowering reads no stored object, nothing the broker keeps? ─ yes ─▶ grant ─▶ Owner.submit
//!                                      │ no
//!                                      ▼
//!          engine away? UNREACHABLE │ grant? PERMISSION │ another at the machine? IN_PROGRESS │ too many under way? BUSY
//!          task ─▶ Submission ─▶ Outcome ─▶ our replica holds its revision ─▶ task and ticket end      (`router/flight.rs`)
//! ```
//! What is refused is refused before there is a task, an id or a commit (`router/room.rs`); while the process is late with its work fewer
//! commands are taken on (`router/pulse.rs`). Commands are the work of the runtime that the router was made in, whatever runtime their
//! front is served by: who is refused, and who reads, waits for no command.

use crate::{
    engine::{Engine, Service, Verb, ask},
    grants::Grants,
    journal::Journal,
    keep::tasks::TaskKeeper,
    limits,
    presence::Presence,
};
use async_trait::async_trait;
use guard::Tree;
use inventory::Tasks;
use lane::{Commands, Conflict, Ending, Known, Owner, Reply, Ticket};
use mapping::Bundle;
use mapping::command::Dependence;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::{
    collections::hash_map::Entry,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use union::{
    Clock, Command, CommandId, ObjectId,
    command::{Cause, Code, Outcome, Revision},
    pb,
};

mod flight;
mod pulse;
mod room;
#[cfg(test)]
mod tests;

/// Where a command goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this agent's own lanes.
    Local,
    /// To the engine.
    Engine,
}

/// What an agent knows by itself of a command of an earlier life.
enum Earlier {
    /// How it ended.
    Ended(Outcome),
    /// It had begun; the lanes find out.
    Open,
    /// It had not begun here.
    Never,
}

/// A front's replica of the facts, as far as success is concerned: none is shown before the replica holds it.
#[async_trait]
pub trait Replica: Send + Sync + std::fmt::Debug {
    /// Waits, at most `within`, until the replica holds `revision` of an object, and, if the object was `made` just now, the object.
    /// Whether it does.
    async fn reached(&self, object: ObjectId, revision: Revision, made: bool, within: Duration) -> bool;
}

/// A replica that is told in the act: whoever says a revision is there has put it there.
#[derive(Clone, Copy, Debug)]
pub struct InStep;

#[async_trait]
impl Replica for InStep {
    async fn reached(&self, _: ObjectId, _: Revision, _: bool, _: Duration) -> bool {
        true
    }
}

/// What a router stands on.
pub struct Deps {
    /// The lanes of this agent's targets; `None` where there are none.
    pub owner: Option<Arc<Owner>>,
    /// The way to the engine.
    pub engine: Arc<dyn Engine>,
    /// Whether it is there.
    pub presence: Presence,
    /// The sessions of the fronts.
    pub grants: Arc<Grants>,
    /// Where objects hang.
    pub tree: Arc<dyn Tree + Send + Sync>,
    /// The tasks of the front's inventory.
    pub tasks: Arc<Tasks>,
    /// The front's replica.
    pub replica: Arc<dyn Replica>,
    /// The mappings in force.
    pub bundle: Arc<Bundle>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// The commands of a front: to this agent's lanes, or to the engine.
pub struct Router {
    me: Weak<Router>,
    owner: Option<Arc<Owner>>,
    engine: Arc<dyn Engine>,
    presence: Presence,
    grants: Arc<Grants>,
    tree: Arc<dyn Tree + Send + Sync>,
    tasks: Arc<Tasks>,
    replica: Arc<dyn Replica>,
    bundle: RwLock<Arc<Bundle>>,
    clock: Arc<dyn Clock>,
    room: Arc<room::Room>,
    local: Arc<room::Room>,
    pulse: Arc<pulse::Pulse>,
    /// Each command that is under way; `None`: it is being taken on.
    flights: Mutex<FxHashMap<CommandId, Option<Ticket>>>,
    tracker: TaskTracker,
    /// Where commands are done; `None`: where they are asked for.
    work: Option<Handle>,
    kept: OnceLock<Arc<TaskKeeper>>,
    journal: OnceLock<Arc<Journal>>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("under_way", &self.under_way()).finish_non_exhaustive()
    }
}

impl Router {
    /// A router with nothing under way. Commands will be done by the runtime that this is called in.
    pub fn new(deps: Deps) -> Arc<Router> {
        let Deps { owner, engine, presence, grants, tree, tasks, replica, bundle, clock } = deps;
        let (room, local) = (room::Room::new(limits::IN_FLIGHT), room::Room::new(limits::LOCAL));
        Arc::new_cyclic(|me| Router {
            me: Weak::clone(me),
            owner,
            engine,
            presence,
            grants,
            tree,
            tasks,
            replica,
            bundle: RwLock::new(bundle),
            clock,
            pulse: pulse::Pulse::new([Arc::clone(&room), Arc::clone(&local)]),
            room,
            local,
            flights: Mutex::default(),
            tracker: TaskTracker::new(),
            work: Handle::try_current().ok(),
            kept: OnceLock::new(),
            journal: OnceLock::new(),
        })
    }

    /// From now on the task of a command is on its way to the store when the command goes to the engine.
    pub fn keep_tasks(&self, tasks: Arc<TaskKeeper>) {
        if self.kept.set(tasks).is_err() {
            tracing::error!("a router has its tasks already");
        }
    }

    /// Routes by other mappings from now on.
    pub fn swap(&self, bundle: Arc<Bundle>) {
        *self.bundle.write() = bundle;
    }

    /// Commands that are under way at the engine.
    pub fn under_way(&self) -> usize {
        self.flights.lock().len()
    }

    /// Where a command goes.
    pub fn route(&self, command: &Command) -> Route {
        let bundle = Arc::clone(&self.bundle.read());
        let Some(target) = self.owner.as_ref().and_then(|owner| owner.target_of(command.object)) else {
            return Route::Engine;
        };
        let asked = bundle.protocol(&command.origin.protocol);
        let asked = asked.and_then(|p| p.command_to(&command.origin.method, &command.verb));
        let lifted = asked.map_or(Dependence::Nothing, |map| map.dependence);
        let effect = bundle.protocol(target.protocol()).and_then(|p| p.effect(&command.verb));
        let lowered = effect.map_or(Dependence::Nothing, |effect| effect.dependence());
        match lifted.max(lowered) {
            Dependence::Object => Route::Engine,
            _ => Route::Local,
        }
    }

    /// From now on commands of an earlier life are looked for in this agent's own journal before the engine is asked.
    pub fn look_back(&self, journal: Arc<Journal>) {
        if self.journal.set(journal).is_err() {
            tracing::error!("a router has its journal already");
        }
    }

    /// Goes on waiting for a command that was taken before this process started: its task ends as this agent's journal says, or else as
    /// the engine does. A command that the lanes are still finding out about is left to them.
    pub fn resume(&self, task: ObjectId, command: CommandId, object: ObjectId, deadline_ms: i64) {
        let (ticket, ending) = Ticket::open(command, Some(task));
        self.flights.lock().insert(command, Some(ticket));
        self.launch(
            flight::Flight { command, object, task: Some(task), deadline_ms, ending, place: None },
            None,
        );
    }

    /// Waits until nothing is under way, at most `patience`; whether that is so.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }

    fn send(&self, command: Command, reply: Reply) -> Result<Ticket, Cause> {
        let id = command.id;
        match self.flights.lock().entry(id) {
            Entry::Occupied(known) => {
                let again = || Cause::new(Code::Busy, "the same command is being taken on; ask again");
                return known.get().clone().ok_or_else(again);
            }
            Entry::Vacant(free) => free.insert(None),
        };
        let taken = self.take_on(command, reply);
        if taken.is_err() {
            self.flights.lock().remove(&id);
        }
        taken
    }

    /// Takes a command on, without a lock that others would wait for: who is refused waits for nobody.
    fn take_on(&self, command: Command, reply: Reply) -> Result<Ticket, Cause> {
        if !self.presence.is_here() {
            return Err(Cause::new(
                Code::Unreachable,
                format!("{} needs the engine, which cannot be reached; nothing was done", command.verb),
            ));
        }
        let grant = self.grants.check(&command, &*self.tree)?;
        let bundle = Arc::clone(&self.bundle.read());
        let asked = bundle.protocol(&command.origin.protocol);
        let place = self.room.enter(&command, self.pulse.is_overdue(), |running| {
            match asked.map(|protocol| protocol.conflict(running, &command.verb)) {
                Some(mapping::Conflict::Refuse { fault }) => Conflict::Refuse(fault),
                // The lane puts them in order.
                _ => Conflict::Queue,
            }
        })?;
        self.pulse.feel();
        let task = (reply == Reply::Task).then(|| self.tasks.create(&command, true));
        if let Some(task) = task {
            self.tasks.begin(task, true);
        }
        union::fail::point("link.task-created");
        let (ticket, ending): (Ticket, Ending) = Ticket::open(command.id, task);
        self.flights.lock().insert(command.id, Some(ticket.clone()));
        // A session keeps the bundle that it began with.
        let began = &grant.content.bundle;
        let hash = if began.is_empty() { &bundle.hash } else { began };
        let submission = pb::Submission {
            envelope: Some(command.to_pb(&bundle.schema, hash)),
            grant: Some(grant.signed.clone()),
        };
        let verb = Verb::Command { kind: command.object.kind, verb: Arc::clone(&command.verb) };
        let flight = flight::Flight {
            command: command.id,
            object: command.object,
            task,
            deadline_ms: command.deadline_ms,
            ending,
            place: Some(place),
        };
        self.launch(flight, Some((verb, submission)));
        Ok(ticket)
    }

    /// Whether a command of an earlier life came to the lanes from the engine.
    async fn is_engines(&self, command: CommandId) -> bool {
        let Some(journal) = self.journal.get() else { return false };
        journal.is_engines(command).await.unwrap_or_else(|cause| {
            tracing::error!(%command, %cause, "whose a command of an earlier life is cannot be read");
            false
        })
    }

    /// What this agent itself knows of a command of an earlier life.
    async fn earlier(&self, command: CommandId) -> Earlier {
        match self.owner.as_ref().and_then(|owner| owner.outcome(command)) {
            Some(Known::Running) => return Earlier::Open,
            Some(Known::Ended(outcome)) => return Earlier::Ended(outcome),
            None => {}
        }
        let Some(journal) = self.journal.get() else { return Earlier::Never };
        match journal.look(command).await {
            Ok(Some(Some(outcome))) => Earlier::Ended(outcome),
            Ok(Some(None)) => Earlier::Open,
            Ok(None) => Earlier::Never,
            Err(cause) => {
                tracing::error!(%command, %cause, "what became of a command of an earlier life cannot be read");
                Earlier::Open
            }
        }
    }

    fn launch(&self, flight: flight::Flight, submission: Option<(Verb, pb::Submission)>) {
        let Some(router) = self.me.upgrade() else { return };
        self.tracker.spawn(async move { flight.run(&router, submission).await });
    }
}

/// A task ends as its command did.
pub(crate) fn end_task(tasks: &Tasks, task: ObjectId, outcome: &Outcome) {
    let lost = |message: &String| Cause::new(Code::TimedOut, message.clone());
    match outcome {
        Outcome::Done { result, .. } => tasks.done(task, *result),
        Outcome::Failed(cause) | Outcome::Refused(cause) => tasks.failed(task, cause),
        Outcome::Unknown { message, .. } => tasks.failed(task, &lost(message)),
    };
}

#[async_trait]
impl Commands for Router {
    async fn kept(&self, task: ObjectId) {
        if let Some(tasks) = self.kept.get() {
            tasks.written(task).await;
        }
        if let Some(journal) = self.journal.get() {
            journal.kept(task).await;
        }
    }

    fn submit(&self, command: Command, reply: Reply) -> Result<Ticket, Cause> {
        // What the lanes spawn for it, too.
        let _work = self.work.as_ref().map(Handle::enter);
        match (self.route(&command), &self.owner) {
            (Route::Local, Some(owner)) => {
                self.grants.check(&command, &*self.tree)?;
                // The lane refuses by itself what it would not let in.
                let place = self.local.enter(&command, self.pulse.is_overdue(), |_| Conflict::Queue)?;
                self.pulse.feel();
                let ticket = owner.submit(command, reply)?;
                let ended = ticket.clone();
                self.tracker.spawn(async move {
                    ended.outcome().await;
                    drop(place);
                });
                Ok(ticket)
            }
            _ => self.send(command, reply),
        }
    }

    fn cancel(&self, command: CommandId) -> Result<(), Cause> {
        let _work = self.work.as_ref().map(Handle::enter);
        if !self.flights.lock().contains_key(&command) {
            return match &self.owner {
                Some(owner) => owner.cancel(command),
                None => Err(Cause::new(Code::NotFound, "the command has ended, or was never here")),
            };
        }
        if !self.presence.is_here() {
            return Err(Cause::new(Code::Unreachable, "the engine cannot be reached; the command goes on"));
        }
        let Some(router) = self.me.upgrade() else { return Ok(()) };
        self.tracker.spawn(async move {
            let about = pb::About { command_id: command.to_string(), ..pb::About::default() };
            let verb = Verb::Service(Service::Cancel);
            let asked = ask::<pb::Settled>(&*router.engine, &verb, &about, limits::LONG).await;
            if let Err(error) = asked {
                tracing::info!(%command, %error, "the engine did not cancel a command");
            }
        });
        Ok(())
    }
}

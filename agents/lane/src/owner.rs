//! The owner: the lanes of all objects whose targets this agent holds.
//!
//! ```text
//! submit ─▶ known id? its ticket again │ no target? NOT_FOUND │ full? BUSY │ conflict table
//!              started ─▶ perform ─▶ conclude ─▶ the next of the lane
//! ```
//!
//! An object that two targets claim ([`inventory::claims`]) is frozen: commands to it are refused, those that wait too, until one of them no
//! longer has it.
//!
//! A command id is known while its command is here and for the next 4,096 commands after it ended: the same id again gets the same
//! outcome, not a second effect.

use crate::{
    perform,
    queue::{Arrival, Cancelled, Conflict, Job, Queue},
    rules::{CANCEL, Rules},
    target::Target,
    ticket::Ticket,
};
use futures_util::FutureExt;
use inventory::{Inventory, Put, Tasks, store::Credit};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use union::{
    Clock, Command, CommandId, ObjectId, Value,
    command::{Cause, Code, Outcome},
};

/// How much an owner takes on, and how long it tries.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Commands that may wait in one lane.
    pub lane: usize,
    /// Commands that may be here altogether.
    pub owner: usize,
    /// Ended commands whose outcome is remembered.
    pub ended: usize,
    /// The longest a command may take, whatever its deadline says.
    pub longest: Duration,
    /// How long after its deadline a command's lost outcome is still looked for.
    pub settle: Duration,
    /// How long a command that overtook another lets the other's call end before it goes on.
    pub grace: Duration,
    /// The first and the longest pause between two looks.
    pub pause: (Duration, Duration),
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            lane: 64,
            owner: 4_096,
            ended: 4_096,
            longest: Duration::from_secs(3_600),
            settle: Duration::from_secs(5),
            grace: Duration::from_secs(1),
            pause: (Duration::from_millis(10), Duration::from_millis(500)),
        }
    }
}

/// How the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// By a task it watches.
    Task,
    /// By the outcome alone.
    Outcome,
}

/// What an owner attaches to a job.
#[derive(Debug)]
pub(crate) struct Load {
    command: Arc<Command>,
    task: Option<ObjectId>,
    deadline: Instant,
    outcome: watch::Sender<Option<Outcome>>,
    target: Arc<dyn Target>,
    /// Its run, once it has begun.
    running: Option<AbortOnDropHandle<()>>,
    /// The run whose place it took.
    outran: Option<AbortOnDropHandle<()>>,
}

/// One command being performed.
pub(crate) struct Run {
    pub command: Arc<Command>,
    pub task: Option<ObjectId>,
    pub deadline: Instant,
    pub target: Arc<dyn Target>,
}

#[derive(Debug, Default)]
struct Lanes {
    lanes: FxHashMap<ObjectId, Queue<Load>>,
    count: usize,
    known: FxHashMap<CommandId, Ticket>,
    ended: VecDeque<CommandId>,
    closed: bool,
}

/// Orders and performs commands.
pub struct Owner {
    me: Weak<Owner>,
    pub(crate) rules: Arc<dyn Rules>,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) tasks: Arc<Tasks>,
    clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    targets: RwLock<Vec<Arc<dyn Target>>>,
    lanes: Mutex<Lanes>,
    tracker: TaskTracker,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner").field("commands", &self.lanes.lock().count).finish_non_exhaustive()
    }
}

impl Owner {
    /// An owner without targets. `inventory` is the one its targets fill.
    pub fn new(
        rules: Arc<dyn Rules>,
        inventory: Arc<Inventory>,
        tasks: Arc<Tasks>,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Arc<Owner> {
        Arc::new_cyclic(|me| Owner {
            me: Weak::clone(me),
            rules,
            inventory,
            tasks,
            clock,
            limits,
            targets: RwLock::default(),
            lanes: Mutex::default(),
            tracker: TaskTracker::new(),
        })
    }

    /// Takes on a target.
    pub fn adopt(&self, target: Arc<dyn Target>) {
        self.targets.write().push(target);
    }

    /// The target that holds an object.
    pub fn target_of(&self, id: ObjectId) -> Option<Arc<dyn Target>> {
        self.targets.read().iter().find(|t| t.holds(id)).cloned()
    }

    /// Two machines under one identity: whichever were chosen could be the wrong one.
    pub(crate) fn uncontested(&self, id: ObjectId) -> Result<(), Cause> {
        match self.inventory.contested(id) {
            None => Ok(()),
            Some(why) => Err(Cause::new(Code::InvalidState, why)),
        }
    }

    /// The targets, in the order they were taken on.
    pub fn targets(&self) -> Vec<Arc<dyn Target>> {
        self.targets.read().clone()
    }

    /// Takes a command. Never waits: what cannot be taken on now is refused now.
    pub fn submit(&self, command: Command, reply: Reply) -> Result<Ticket, Cause> {
        let object = command.object;
        self.uncontested(object)?;
        let target = self.target_of(object).filter(|_| self.inventory.get(object).is_some());
        let target = target.ok_or_else(|| {
            Cause::new(
                Code::NotFound,
                format!("no target of this agent holds {object}; it may have been removed"),
            )
        })?;
        let mut guard = self.lanes.lock();
        let lanes = &mut *guard;
        if let Some(ticket) = lanes.known.get(&command.id) {
            return Ok(ticket.clone());
        }
        if lanes.closed {
            return Err(Cause::new(
                Code::Unreachable,
                "the agent is shutting down; ask again when it is back",
            ));
        }
        if lanes.count >= self.limits.owner {
            return Err(busy(&format!("{} commands are under way on this agent", lanes.count)));
        }
        let left = u64::try_from(command.deadline_ms.saturating_sub(self.clock.now_ms())).unwrap_or(0);
        let left = Duration::from_millis(left).min(self.limits.longest);
        let (sender, receiver) = watch::channel(None);
        let command = Arc::new(command);
        let load = Load {
            command: Arc::clone(&command),
            task: None,
            deadline: Instant::now() + left,
            outcome: sender,
            target: Arc::clone(&target),
            running: None,
            outran: None,
        };
        let job = Job { id: command.id, verb: Arc::clone(&command.verb), load };
        let queue = lanes.lanes.entry(object).or_insert_with(|| Queue::new(self.limits.lane));
        let rule = |running: &str| self.rules.conflict(&command.origin, running, &command.verb);
        let (arrival, _back) = queue.arrive(job, rule);
        match arrival {
            Arrival::Refused { fault, by } => {
                let message =
                    format!("{by} is under way on {object}; {} has to wait for its end", command.verb);
                return Err(Cause { fault, ..Cause::new(Code::InProgress, message) });
            }
            Arrival::Full => {
                return Err(busy(&format!("{} commands wait for {object}", self.limits.lane)));
            }
            _ => {}
        }
        lanes.count += 1;
        let task = (reply == Reply::Task).then(|| self.tasks.create(&command, true));
        if let Some(task) = task {
            queue.attach(command.id, |load| load.task = Some(task));
        }
        let ticket = Ticket { command: command.id, task, outcome: receiver };
        lanes.known.insert(command.id, ticket.clone());
        match arrival {
            Arrival::Started => self.start(lanes, object),
            Arrival::Overtook(mut outrun) => {
                let run = outrun.first_mut().and_then(|job| job.load.running.take());
                self.give_up(lanes, outrun, &format!("outrun by {}", command.verb));
                self.abort(&target, object);
                self.succeed(lanes, object, run);
            }
            _ => {}
        }
        Ok(ticket)
    }

    /// Cancels a command: one that waits is taken out; one that runs is given up where the conflict table lets `Cancel` overtake its
    /// verb.
    pub fn cancel(&self, command: CommandId) -> Result<(), Cause> {
        let mut guard = self.lanes.lock();
        let lanes = &mut *guard;
        for (object, queue) in &mut lanes.lanes {
            match queue.cancel(command) {
                Cancelled::Absent => {}
                Cancelled::Waiting(jobs) => {
                    self.give_up(lanes, jobs, "cancelled");
                    return Ok(());
                }
                Cancelled::Running => {
                    let object = *object;
                    let Some(running) = queue.running() else { continue };
                    let origin = &running.load.command.origin;
                    if self.rules.conflict(origin, &running.verb, CANCEL) != Conflict::Overtake {
                        let message = format!("{} runs already and cannot be cancelled", running.verb);
                        return Err(Cause::new(Code::InvalidState, message));
                    }
                    let target = Arc::clone(&running.load.target);
                    let mut jobs = queue.finish(command).unwrap_or_default();
                    let run = jobs.first_mut().and_then(|job| job.load.running.take());
                    self.give_up(lanes, jobs, "cancelled");
                    self.abort(&target, object);
                    self.clear(object);
                    if lanes.lanes.get(&object).is_some_and(Queue::is_empty) {
                        lanes.lanes.remove(&object);
                        self.let_end(run);
                    } else {
                        self.succeed(lanes, object, run);
                    }
                    return Ok(());
                }
            }
        }
        Err(Cause::new(Code::NotFound, "the command has ended, or was never here"))
    }

    /// How many commands are here.
    pub fn count(&self) -> usize {
        self.lanes.lock().count
    }

    /// Takes no more commands and waits until those that are here have ended, at most `patience`. Whether all have.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.lanes.lock().closed = true;
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }

    /// Starts the running job of an object's lane in the place of a run that was given up.
    fn succeed(&self, lanes: &mut Lanes, object: ObjectId, outran: Option<AbortOnDropHandle<()>>) {
        if let Some(job) = lanes.lanes.get_mut(&object).and_then(Queue::running_mut) {
            job.load.outran = outran;
        }
        self.start(lanes, object);
    }

    /// Lets a run that was given up, and that nothing follows, end by itself for a while.
    fn let_end(&self, run: Option<AbortOnDropHandle<()>>) {
        let grace = self.limits.grace;
        if let Some(run) = run {
            self.tracker.spawn(async move { drop(timeout(grace, run).await) });
        }
    }

    /// Whether a command is the one that runs; if not, it was given up and does nothing more.
    pub(crate) fn still_runs(&self, command: &Command) -> bool {
        let lanes = self.lanes.lock();
        let running = lanes.lanes.get(&command.object).and_then(Queue::running);
        running.is_some_and(|job| job.id == command.id)
    }

    /// Starts the running job of an object's lane.
    fn start(&self, lanes: &mut Lanes, object: ObjectId) {
        let Some(owner) = self.me.upgrade() else { return };
        let Some(job) = lanes.lanes.get_mut(&object).and_then(Queue::running_mut) else { return };
        let load = &mut job.load;
        let run = Run {
            command: Arc::clone(&load.command),
            task: load.task,
            deadline: load.deadline,
            target: Arc::clone(&load.target),
        };
        let outran = load.outran.take();
        let run_to_end = self.tracker.spawn(async move {
            // A target that panics must not leave its lane waiting for ever.
            let performed = AssertUnwindSafe(perform::perform(&owner, &run, outran)).catch_unwind().await;
            let outcome = performed.unwrap_or_else(|_| Outcome::Unknown {
                probe: run.command.object.to_string(),
                message: "the agent failed while the command ran; the log says where".to_owned(),
            });
            owner.conclude(&run, outcome);
        });
        load.running = Some(AbortOnDropHandle::new(run_to_end));
    }

    /// A run came to its end.
    fn conclude(&self, run: &Run, outcome: Outcome) {
        let object = run.command.object;
        let mut guard = self.lanes.lock();
        let lanes = &mut *guard;
        let Some(queue) = lanes.lanes.get_mut(&object) else { return };
        let Some(mut ended) = queue.finish(run.command.id) else { return };
        // This is the run itself: it ends by returning.
        if let Some(own) = ended.first_mut().and_then(|job| job.load.running.take()) {
            drop(own.detach());
        }
        let outcome = match (outcome, self.clear(object)) {
            (Outcome::Done { revision, result, already }, Some(cleared)) => {
                Outcome::Done { revision: revision.max(cleared), result, already }
            }
            (other, _) => other,
        };
        self.end(lanes, ended, &outcome);
        self.go_on(lanes, object);
    }

    /// The running job has left its lane: the next, or nothing.
    fn go_on(&self, lanes: &mut Lanes, object: ObjectId) {
        if lanes.lanes.get(&object).is_some_and(Queue::is_empty) {
            lanes.lanes.remove(&object);
        } else {
            self.start(lanes, object);
        }
    }

    /// Shows the operation of a command that begins.
    pub(crate) fn show(&self, command: &Command) {
        let credit =
            Credit { principal: Arc::clone(&command.principal), command: command.id.to_string().into() };
        self.inventory.set_credit(command.object, Some(credit));
        self.set_operation(command.object, Value::Int(command.schema.operation));
    }

    /// Takes the shown operation away.
    fn clear(&self, object: ObjectId) -> Option<union::command::Revision> {
        let revision = self.set_operation(object, Value::Absent);
        self.inventory.set_credit(object, None);
        revision
    }

    fn set_operation(&self, object: ObjectId, operation: Value) -> Option<union::command::Revision> {
        let slot = self.inventory.schema().slot(object.kind, "operation")?;
        Some(self.inventory.apply(vec![Put::Slots(object, vec![(slot, operation)])]))
    }

    fn give_up(&self, lanes: &mut Lanes, jobs: Vec<Job<Load>>, why: &str) {
        let cause = Cause::new(Code::Cancelled, format!("the command was given up: {why}"));
        self.end(lanes, jobs, &Outcome::Failed(cause));
    }

    fn end(&self, lanes: &mut Lanes, jobs: Vec<Job<Load>>, outcome: &Outcome) {
        for (position, job) in jobs.into_iter().enumerate() {
            lanes.count = lanes.count.saturating_sub(1);
            let outcome = match outcome {
                // A follower found done what it asked.
                Outcome::Done { revision, result, .. } if position > 0 => {
                    Outcome::Done { revision: *revision, result: *result, already: true }
                }
                other => other.clone(),
            };
            if let Some(task) = job.load.task {
                self.end_task(task, &outcome);
            }
            tracing::info!(command = %job.id, verb = %job.verb, object = %job.load.command.object, outcome = ?outcome, "a command ended");
            job.load.outcome.send_replace(Some(outcome));
            lanes.ended.push_back(job.id);
            while lanes.ended.len() > self.limits.ended {
                if let Some(oldest) = lanes.ended.pop_front() {
                    lanes.known.remove(&oldest);
                }
            }
        }
    }

    fn end_task(&self, task: ObjectId, outcome: &Outcome) {
        match outcome {
            Outcome::Done { result, .. } => {
                self.tasks.done(task, *result);
            }
            Outcome::Failed(cause) | Outcome::Refused(cause) => {
                self.tasks.failed(task, cause);
            }
            Outcome::Unknown { message, .. } => {
                self.tasks.failed(task, &Cause::new(Code::TimedOut, message.clone()));
            }
        }
    }

    /// Asks a target to let go of what it does to an object; nobody waits for that.
    fn abort(&self, target: &Arc<dyn Target>, object: ObjectId) {
        let target = Arc::clone(target);
        let patience = self.limits.settle;
        self.tracker.spawn(async move {
            if let Err(error) = target.abort(object, Instant::now() + patience).await {
                tracing::debug!(%object, %error, "the target did not abort");
            }
        });
    }
}

fn busy(why: &str) -> Cause {
    Cause::new(Code::Busy, format!("{why}; nothing was done, try again later"))
}

#[cfg(test)]
mod tests;

//! The owner: the lanes of all objects whose targets this agent holds.
//!
//! ```text
//! submit | dispatch ─▶ known id? its ticket again │ no target? NOT_FOUND │ stale epoch? refused │ full? BUSY │ conflict table
//! recover ───────────▶ first in its lane                      started ─▶ perform | settle ─▶ conclude ─▶ the next of the lane
//! ```
//!
//! A plan about several VMs needs the lanes of all of them. It enters all of them at once, in the order of their ids, and runs when it is
//! first in each: since everybody enters under one lock, two plans never wait for each other. It overtakes nobody, and in the lanes that are
//! not its own nobody overtakes it.
//!
//! An object that two targets claim ([`inventory::claims`]) is frozen: commands to it are refused, those that wait too, until one of them no
//! longer has it.
//!
//! A command id is known while its command is here and for the next 4,096 commands after it ended: the same id again gets the same
//! outcome, not a second effect. Beyond that the recorder knows it.

mod choose;
mod lanes;
mod news;
mod run;
mod settle;

pub(crate) use lanes::{Errand, Kept, Lanes, Load, Run, Search};
pub(crate) use news::Subscription;

use crate::{
    queue::{Arrival, Cancelled, Conflict, Job, Queue},
    recorder::{Known, Recorder},
    rules::{CANCEL, Rules},
    target::Target,
    ticket::Ticket,
};
use inventory::{Inventory, Tasks};
use lanes::HOLD;
use news::News;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::task::TaskTracker;
use union::{
    Clock, Command, CommandId, ObjectId, Plan,
    command::{Cause, Code},
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
    /// How long after its deadline a command's lost outcome is still looked for, and how long a call that takes another back may last.
    pub settle: Duration,
    /// How long a command that overtook another lets the other's call end before it goes on, and how long an effect that is not there
    /// after a lost answer is waited for.
    pub grace: Duration,
    /// How long an effect that is not there is waited for whose call an earlier life of the agent may have sent: the target may still be
    /// at it, for example starting a guest.
    pub late: Duration,
    /// How long an effect is waited for that is not there after its call was answered well.
    pub shows: Duration,
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
            late: Duration::from_secs(5),
            shows: Duration::from_secs(60),
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

/// How the engine sends a command.
#[derive(Clone, Debug, Default)]
pub struct Dispatch {
    /// The plan; none: nothing in it depends on stored facts, and the owner lowers it.
    pub plan: Option<Plan>,
    /// The epoch of the target's lease; none: the one that the owner has.
    pub epoch: Option<u64>,
}

/// Orders and performs commands.
pub struct Owner {
    me: Weak<Owner>,
    pub(crate) rules: Arc<dyn Rules>,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) tasks: Arc<Tasks>,
    clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    recorder: OnceLock<Arc<dyn Recorder>>,
    targets: RwLock<Vec<Arc<dyn Target>>>,
    /// By target, the highest epoch seen of its lease.
    leases: Mutex<FxHashMap<Arc<str>, u64>>,
    lanes: Mutex<Lanes>,
    tracker: TaskTracker,
    pub(crate) news: News,
    /// By target, those that may look at it after a restart.
    looks: Mutex<FxHashMap<Arc<str>, Arc<Semaphore>>>,
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
        let news = News::of(&inventory);
        Arc::new_cyclic(|me| Owner {
            me: Weak::clone(me),
            news,
            looks: Mutex::default(),
            rules,
            inventory,
            tasks,
            clock,
            limits,
            recorder: OnceLock::new(),
            targets: RwLock::default(),
            leases: Mutex::default(),
            lanes: Mutex::default(),
            tracker: TaskTracker::new(),
        })
    }

    /// Has intents and outcomes kept from now on. Only the first recorder counts; whether this is it.
    pub fn record_with(&self, recorder: Arc<dyn Recorder>) -> bool {
        self.recorder.set(recorder).is_ok()
    }

    pub(crate) fn recorder(&self) -> Option<&Arc<dyn Recorder>> {
        self.recorder.get()
    }

    /// Takes on a target.
    pub fn adopt(&self, target: Arc<dyn Target>) {
        self.targets.write().push(target);
    }

    /// The targets, in the order they were taken on.
    pub fn targets(&self) -> Vec<Arc<dyn Target>> {
        self.targets.read().clone()
    }

    /// Two machines under one identity: whichever were chosen could be the wrong one.
    pub(crate) fn uncontested(&self, id: ObjectId) -> Result<(), Cause> {
        match self.inventory.contested(id) {
            None => Ok(()),
            Some(why) => Err(Cause::new(Code::InvalidState, why)),
        }
    }

    /// The lease of the target called `target` has this epoch. Commands of an older one are refused from now on, those that wait too.
    ///
    /// # Errors
    /// A newer one has been seen.
    pub fn lease(&self, target: &str, epoch: u64) -> Result<(), Cause> {
        let mut leases = self.leases.lock();
        match leases.get_mut(target) {
            None => {
                leases.insert(Arc::from(target), epoch);
            }
            Some(seen) if epoch < *seen => return Err(stale(target, epoch, *seen)),
            Some(seen) => *seen = epoch,
        }
        Ok(())
    }

    /// Whether the lease of a target still has this epoch.
    pub(crate) fn leased(&self, target: &str, epoch: u64) -> Result<(), Cause> {
        match self.leases.lock().get(target) {
            Some(seen) if epoch < *seen => Err(stale(target, epoch, *seen)),
            _ => Ok(()),
        }
    }

    /// Takes a command of a front of this agent. Never waits: what cannot be taken on now is refused now.
    ///
    /// # Errors
    /// The cause, as the caller's protocol will say it.
    pub fn submit(&self, command: Command, reply: Reply) -> Result<Ticket, Cause> {
        self.enter(command, None, reply)
    }

    /// Takes a command of the engine's with its plan, under the lease that the owner has.
    ///
    /// # Errors
    /// See [`Owner::dispatch`].
    pub fn submit_planned(&self, command: Command, plan: Plan, reply: Reply) -> Result<Ticket, Cause> {
        self.dispatch(command, Dispatch { plan: Some(plan), epoch: None }, reply)
    }

    /// Takes a command of the engine's. The facts that the plan relies on are compared with those of this agent's targets, so facts that
    /// the broker itself keeps must not be among them.
    ///
    /// # Errors
    /// The cause: nothing was done.
    pub fn dispatch(&self, command: Command, dispatch: Dispatch, reply: Reply) -> Result<Ticket, Cause> {
        self.enter(command, Some(dispatch), reply)
    }

    fn enter(&self, command: Command, dispatch: Option<Dispatch>, reply: Reply) -> Result<Ticket, Cause> {
        if let Some(ticket) = self.lanes.lock().known.get(&command.id) {
            return Ok(ticket.clone());
        }
        let from_engine = dispatch.is_some();
        let Dispatch { plan, epoch } = dispatch.unwrap_or_default();
        self.uncontested(command.object)?;
        let target = self.performer(&command, plan.as_ref())?;
        if let Some(epoch) = epoch {
            self.lease(target.name(), epoch)?;
        }
        let (lane, others) = lanes::needed(&command, plan.as_ref());
        let planned = plan.is_some();
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
        let errand =
            Errand::Perform { target: Arc::clone(&target), plan: plan.map(Arc::new), from_engine, epoch };
        let deadline = Instant::now() + left;
        let load = Load::new(&command, deadline, sender, errand);
        let job = Job { id: command.id, verb: Arc::clone(&command.verb), load };
        let rule = |running: &str| match self.rules.conflict(&command.origin, running, &command.verb) {
            _ if running == HOLD => Conflict::Queue,
            // The same verb is not the same plan.
            Conflict::Satisfied if planned => Conflict::Queue,
            Conflict::Overtake if !others.is_empty() => Conflict::Queue,
            conflict => conflict,
        };
        let arrival = if others.is_empty() {
            lanes.queue(lane, self.limits.lane).arrive(job, rule).0
        } else {
            lanes.arrive_in_all(lane, &others, job, rule, self.limits.lane)
        };
        let object = command.object;
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
        lanes.here.insert(command.id, lane);
        let task = (reply == Reply::Task).then(|| self.tasks.create(&command, true));
        if let Some(task) = task {
            lanes.queue(lane, self.limits.lane).attach(command.id, |load| load.task = Some(task));
        }
        let ticket = Ticket { command: command.id, task, outcome: receiver };
        lanes.known.insert(command.id, ticket.clone());
        match arrival {
            Arrival::Started => self.start(lanes, lane),
            Arrival::Overtook(mut outrun) => {
                let run = outrun.first_mut().and_then(|job| job.load.running.take());
                self.give_up(lanes, outrun, &format!("outrun by {}", command.verb));
                self.abort(&target, object);
                self.succeed(lanes, lane, run);
            }
            _ => self.expire_at(lanes, lane, command.id, deadline),
        }
        Ok(ticket)
    }

    /// Cancels a command: one that waits is taken out; one that runs is given up where the conflict table lets `Cancel` overtake its
    /// verb.
    ///
    /// # Errors
    /// The cause: it is not known, has ended, or runs and may not be given up.
    pub fn cancel(&self, command: CommandId) -> Result<(), Cause> {
        let absent = || Cause::new(Code::NotFound, "the command has ended, or was never here");
        let mut guard = self.lanes.lock();
        let lanes = &mut *guard;
        let lane = *lanes.here.get(&command).ok_or_else(absent)?;
        let queue = lanes.lanes.get_mut(&lane).ok_or_else(absent)?;
        match queue.cancel(command) {
            Cancelled::Absent => Err(absent()),
            Cancelled::Waiting(jobs) => {
                self.give_up(lanes, jobs, "cancelled");
                Ok(())
            }
            Cancelled::Running => {
                let running = queue.running().ok_or_else(absent)?;
                let origin = &running.load.command.origin;
                if self.rules.conflict(origin, &running.verb, CANCEL) != Conflict::Overtake {
                    let message = format!("{} runs already and cannot be cancelled", running.verb);
                    return Err(Cause::new(Code::InvalidState, message));
                }
                let object = running.load.command.object;
                let target = running.load.target();
                let mut jobs = queue.finish(command).unwrap_or_default();
                let run = jobs.first_mut().and_then(|job| job.load.running.take());
                self.give_up(lanes, jobs, "cancelled");
                if let Some(target) = target {
                    self.abort(&target, object);
                }
                self.clear(object, lane);
                if lanes.lanes.get(&lane).is_some_and(Queue::is_empty) {
                    lanes.lanes.remove(&lane);
                    self.let_end(run);
                } else {
                    self.succeed(lanes, lane, run);
                }
                Ok(())
            }
        }
    }

    /// How many commands are here.
    pub fn count(&self) -> usize {
        self.lanes.lock().count
    }

    /// What is known of a command; `None`: nothing, it was never here or is forgotten.
    pub fn outcome(&self, command: CommandId) -> Option<Known> {
        let ticket = self.lanes.lock().known.get(&command)?.clone();
        Some(ticket.now().map_or(Known::Running, Known::Ended))
    }

    /// Takes no more commands and waits until those that are here have ended, at most `patience`. Whether all have.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.lanes.lock().closed = true;
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

fn busy(why: &str) -> Cause {
    Cause::new(Code::Busy, format!("{why}; nothing was done, try again later"))
}

fn stale(target: &str, epoch: u64, seen: u64) -> Cause {
    Cause::new(
        Code::InvalidState,
        format!(
            "the lease of {target} has epoch {seen} by now; a command of epoch {epoch} is refused, and has to be planned anew"
        ),
    )
}

#[cfg(test)]
mod tests;

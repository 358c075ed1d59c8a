//! After a restart, and after a target came back: what became of the commands that had begun.

use super::{Errand, Lanes, Load, Owner, Run};
use crate::{
    perform::Doubt,
    queue::{Job, Queue},
    recorder::Unsettled,
    target::Target,
    ticket::Ticket,
};
use std::sync::{Arc, Weak};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;
use union::{
    Command, CommandId, Kind, ObjectId, Plan,
    command::{Cause, Code, Outcome},
};

impl Owner {
    /// Finds out what became of commands that had begun in an earlier life of this agent. Call it when the targets have been adopted and
    /// before commands are taken: each takes its lane first, and holds it until its target has answered, however long that lasts.
    /// Nothing is sent again; the answered steps of a plan that did not come to its end are taken back. Their tasks, if there are any,
    /// end with them.
    pub fn recover(&self, unsettled: Vec<Unsettled>) -> Vec<Ticket> {
        let mut tickets = Vec::with_capacity(unsettled.len());
        let mut guard = self.lanes.lock();
        let lanes = &mut *guard;
        for one in unsettled {
            let command = Arc::new(one.command.clone());
            if let Some(ticket) = lanes.known.get(&command.id) {
                tickets.push(ticket.clone());
                continue;
            }
            let lane = one.plan.appears.unwrap_or(command.object);
            let (sender, receiver) = watch::channel(None);
            let mut load = Load::new(&command, Instant::now(), sender, Errand::Settle(Arc::new(one)));
            load.task = self.task_of(&load);
            let ticket = Ticket { command: command.id, task: load.task, outcome: receiver };
            lanes.known.insert(command.id, ticket.clone());
            lanes.here.insert(command.id, lane);
            lanes.count += 1;
            tickets.push(ticket);
            let job = Job { id: command.id, verb: Arc::clone(&command.verb), load };
            if lanes.queue(lane, self.limits.lane).admit(job) {
                self.start(lanes, lane);
            }
        }
        tickets
    }

    /// Half a plan whose target went away, told as unknown: its lane is held until the target answers, and what was done is taken back.
    pub(super) fn settle_half(&self, lanes: &mut Lanes, run: &Run, doubt: Doubt) {
        let Errand::Perform { target, .. } = &run.errand else { return };
        let Doubt { plan, at, failed } = doubt;
        let command = &run.command;
        let unsettled = Unsettled {
            command: Command::clone(command),
            plan: Plan::clone(&plan),
            sent: true,
            answered: at,
            target: Arc::from(target.name()),
            failed,
        };
        tracing::warn!(command = %command.id, verb = %command.verb, object = %command.object, "half a plan is settled when its target answers; nothing else is done to the object before");
        let (sender, outcome) = watch::channel(None);
        let ticket = Ticket { command: command.id, task: run.task, outcome };
        let load = Load::new(command, Instant::now(), sender, Errand::Settle(Arc::new(unsettled)));
        lanes.ended.retain(|ended| *ended != command.id);
        lanes.known.insert(command.id, ticket);
        lanes.here.insert(command.id, run.lane);
        lanes.count += 1;
        let job = Job { id: command.id, verb: Arc::clone(&command.verb), load };
        lanes.queue(run.lane, self.limits.lane).reinstate(job);
    }

    /// Who may look at a target at a time.
    pub(crate) fn looks(&self, target: &Arc<str>, most: usize) -> Arc<Semaphore> {
        let mut looks = self.looks.lock();
        Arc::clone(looks.entry(Arc::clone(target)).or_insert_with(|| Arc::new(Semaphore::new(most))))
    }

    /// The targets that may know of a command that had begun: the one that was called, else the one that has its object, else all.
    pub(crate) fn witnesses(&self, unsettled: &Unsettled) -> Vec<Arc<dyn Target>> {
        let targets = self.targets.read();
        let all = || targets.iter();
        let called = all().find(|t| t.name() == &*unsettled.target);
        match called.or_else(|| all().find(|t| t.holds(unsettled.command.object))) {
            Some(one) => vec![Arc::clone(one)],
            None if unsettled.target.is_empty() => targets.clone(),
            // It is configured no more, or not yet.
            None => Vec::new(),
        }
    }

    /// Sees to it that a command that waits ends at its deadline, however long the running one takes.
    pub(super) fn expire_at(&self, lanes: &mut Lanes, lane: ObjectId, id: CommandId, deadline: Instant) {
        let owner = Weak::clone(&self.me);
        let timer = tokio::spawn(async move {
            sleep_until(deadline).await;
            if let Some(owner) = owner.upgrade() {
                owner.expire(lane);
            }
        });
        let queue = lanes.queue(lane, self.limits.lane);
        queue.attach(id, |load| load.expiry = Some(AbortOnDropHandle::new(timer)));
    }

    /// Ends the commands that have waited in a lane past their deadline.
    pub(crate) fn expire(&self, lane: ObjectId) {
        let now = Instant::now();
        let mut guard = self.lanes.lock();
        let lanes = &mut *guard;
        let Some(queue) = lanes.lanes.get_mut(&lane) else { return };
        let late =
            queue.take_waiting(|load| !load.is_hold() && load.deadline <= now && load.target().is_some());
        for job in late {
            let why = "an earlier command was still under way at its deadline; nothing was done";
            let cause = Cause::new(Code::TimedOut, format!("{} was not done in time: {why}", job.verb));
            self.end(lanes, vec![job], &Outcome::Failed(cause));
        }
        debug_assert!(lanes.lanes.get(&lane).is_none_or(|queue| Queue::running(queue).is_some()));
    }

    /// The task of a command that was begun in an earlier life.
    pub(super) fn task_of(&self, load: &Load) -> Option<ObjectId> {
        let Errand::Settle(unsettled) = &load.errand else { return None };
        let slot = self.inventory.schema().slot(Kind::Task, "command_id")?;
        self.inventory.find(Kind::Task, slot, &unsettled.command.id.to_string()).first().copied()
    }
}

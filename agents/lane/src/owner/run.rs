//! Turns: the running job of a lane, from its start to its end.

use super::{Errand, Kept, Lanes, Load, Owner, Run, Search};
use crate::{
    perform,
    queue::{Job, Queue},
    recorder::Intended,
    target::Target,
    ticket::Ticket,
};
use futures_util::FutureExt;
use inventory::{Put, store::Credit};
use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use union::{
    CommandId, ObjectId, Plan, Value,
    command::{Cause, Code, Outcome, Revision},
};

impl Owner {
    /// Starts the running job of a lane in the place of a run that was given up.
    pub(super) fn succeed(&self, lanes: &mut Lanes, lane: ObjectId, outran: Option<AbortOnDropHandle<()>>) {
        if let Some(job) = lanes.lanes.get_mut(&lane).and_then(Queue::running_mut) {
            job.load.outran = outran;
        }
        self.start(lanes, lane);
    }

    /// Lets a run that was given up, and that nothing follows, end by itself for a while.
    pub(super) fn let_end(&self, run: Option<AbortOnDropHandle<()>>) {
        let grace = self.limits.grace;
        if let Some(run) = run {
            self.tracker.spawn(async move { drop(timeout(grace, run).await) });
        }
    }

    /// Whether a command is the one that runs; if not, it was given up and does nothing more.
    pub(crate) fn still_runs(&self, run: &Run) -> bool {
        let lanes = self.lanes.lock();
        let running = lanes.lanes.get(&run.lane).and_then(Queue::running);
        running.is_some_and(|job| job.id == run.command.id)
    }

    /// Notes that the recorder keeps a command, if it still runs; whether it does.
    pub(crate) fn keep(&self, run: &Run, kept: Kept) -> bool {
        let mut lanes = self.lanes.lock();
        let running = lanes.lanes.get_mut(&run.lane).and_then(Queue::running_mut);
        match running.filter(|job| job.id == run.command.id) {
            Some(job) => {
                job.load.kept = kept;
                true
            }
            None => false,
        }
    }

    /// Starts the running job of a lane, unless it needs a lane that it is not yet first in.
    pub(super) fn start(&self, lanes: &mut Lanes, lane: ObjectId) {
        let Some(owner) = self.me.upgrade() else { return };
        let Some(first) = lanes.lanes.get(&lane).and_then(Queue::running) else { return };
        let (id, lane) = match first.load.errand {
            Errand::Hold(own) => (first.id, own),
            _ => (first.id, lane),
        };
        if !lanes.is_first(id) {
            return;
        }
        let Some(job) = lanes.lanes.get_mut(&lane).and_then(Queue::running_mut) else { return };
        let load = &mut job.load;
        if load.running.is_some() {
            return;
        }
        let run = Run {
            command: Arc::clone(&load.command),
            lane,
            task: load.task,
            deadline: load.deadline,
            errand: load.errand.clone(),
        };
        let outran = load.outran.take();
        load.expiry = None;
        let run_to_end = self.tracker.spawn(async move {
            owner.last_look(lane).await;
            // A target that panics must not leave its lane waiting for ever.
            let performed = AssertUnwindSafe(perform::run(&owner, &run, outran)).catch_unwind().await;
            let (outcome, doubt) = performed.unwrap_or_else(|_| {
                let message = "the agent failed while the command ran; the log says where".to_owned();
                (Outcome::Unknown { probe: run.command.object.to_string(), message }, None)
            });
            owner.conclude(run, outcome, doubt);
        });
        load.running = Some(AbortOnDropHandle::new(run_to_end));
    }

    /// A run came to its end.
    fn conclude(&self, run: Run, outcome: Outcome, mut doubt: Option<perform::Doubt>) {
        let object = run.command.object;
        let mut guard = self.lanes.lock();
        let lanes = &mut *guard;
        let Some(queue) = lanes.lanes.get_mut(&run.lane) else { return };
        let Some(mut ended) = queue.finish(run.command.id) else { return };
        // This is the run itself: it ends by returning.
        if let Some(own) = ended.first_mut().and_then(|job| job.load.running.take()) {
            drop(own.detach());
        }
        let outcome = match (outcome, self.clear(object, run.lane)) {
            (Outcome::Done { revision, result, already }, Some(cleared)) => {
                Outcome::Done { revision: revision.max(cleared), result, already }
            }
            (other, _) => other,
        };
        let alone = !lanes.others.contains_key(&run.command.id);
        self.end(lanes, ended, &outcome);
        let lane = run.lane;
        if let Some(doubt) = doubt.take_if(|doubt| doubt.is_half()) {
            self.settle_half(lanes, &run, doubt);
        } else if let Some(doubt) = doubt.filter(|_| alone && lanes.doubts.len() < self.limits.owner) {
            let id = run.command.id;
            let hurry = Arc::new(Notify::new());
            let search = perform::follow(Weak::clone(&self.me), run, doubt, Arc::clone(&hurry));
            let task = AbortOnDropHandle::new(tokio::spawn(search));
            lanes.doubts.insert(lane, Search { id, task, hurry });
        }
        self.go_on(lanes, lane);
    }

    /// What became of a command that ended as unknown, unless another has begun in its lane since.
    pub(crate) fn found(&self, run: &Run, outcome: Outcome) {
        let id = run.command.id;
        let mut lanes = self.lanes.lock();
        if lanes.doubts.get(&run.lane).is_none_or(|search| search.id != id) {
            return;
        }
        if let Some(search) = lanes.doubts.remove(&run.lane) {
            // This is the search itself: it ends by returning.
            drop(search.task.detach());
        }
        tracing::info!(command = %id, verb = %run.command.verb, outcome = ?outcome, "what became of a command is known now");
        if let Some(recorder) = self.recorder() {
            recorder.found(&run.command, &outcome);
        }
        if let Some(known) = lanes.known.get_mut(&id) {
            let (ticket, ending) = Ticket::open(id, known.task);
            ending.end(outcome);
            *known = ticket;
        }
    }

    /// What is seen once the next command of a lane begins may be its effect: what is not known of the one before is looked for once more,
    /// and then given up.
    async fn last_look(&self, lane: ObjectId) {
        let Some(hurry) = self.lanes.lock().doubts.get(&lane).map(|search| Arc::clone(&search.hurry)) else {
            return;
        };
        hurry.notify_one();
        let found = async {
            while self.lanes.lock().doubts.get(&lane).is_some_and(|search| !search.task.is_finished()) {
                sleep(self.limits.pause.0).await;
            }
        };
        // One that cannot be asked now says nothing of it within that time.
        timeout(self.limits.grace, found).await.ok();
        self.lanes.lock().doubts.remove(&lane);
    }

    /// Whether what became of a command that ended as unknown is being looked for.
    pub fn is_looked_for(&self, id: CommandId) -> bool {
        self.lanes.lock().doubts.values().any(|search| search.id == id && !search.task.is_finished())
    }

    /// The running job has left its lane: the next, or nothing.
    fn go_on(&self, lanes: &mut Lanes, lane: ObjectId) {
        if lanes.lanes.get(&lane).is_some_and(Queue::is_empty) {
            lanes.lanes.remove(&lane);
        } else {
            self.start(lanes, lane);
        }
    }

    /// Shows the operation of a command that is under way, and puts what it makes on its account, unless it was given up meanwhile.
    pub(crate) fn show(&self, run: &Run) {
        let command = &run.command;
        let lanes = self.lanes.lock();
        let running = lanes.lanes.get(&run.lane).and_then(Queue::running);
        if running.is_none_or(|job| job.id != command.id) {
            return;
        }
        let credit =
            Credit { principal: Arc::clone(&command.principal), command: command.id.to_string().into() };
        if run.lane != command.object {
            self.inventory.set_credit(run.lane, Some(credit.clone()));
        }
        self.inventory.set_credit(command.object, Some(credit));
        self.set_operation(command.object, Value::Int(command.schema.operation));
    }

    /// Takes the shown operation of an object away, and the account of what was made in the lane.
    pub(super) fn clear(&self, object: ObjectId, lane: ObjectId) -> Option<Revision> {
        let revision = self.set_operation(object, Value::Absent);
        self.inventory.set_credit(object, None);
        self.inventory.set_credit(lane, None);
        revision
    }

    fn set_operation(&self, object: ObjectId, operation: Value) -> Option<Revision> {
        let slot = self.inventory.schema().slot(object.kind, "operation")?;
        Some(self.inventory.apply(vec![Put::Slots(object, vec![(slot, operation)])]))
    }

    pub(super) fn give_up(&self, lanes: &mut Lanes, jobs: Vec<Job<Load>>, why: &str) {
        let cause = Cause::new(Code::Cancelled, format!("the command was given up: {why}"));
        self.end(lanes, jobs, &Outcome::Failed(cause));
    }

    /// Jobs that have left their lane are told how they ended; the first is the one that was performed, the others follow it.
    pub(super) fn end(&self, lanes: &mut Lanes, jobs: Vec<Job<Load>>, outcome: &Outcome) {
        for (position, job) in jobs.into_iter().enumerate() {
            if job.load.is_hold() {
                continue;
            }
            match outcome {
                // A follower found done what it asked.
                Outcome::Done { revision, result, .. } if position > 0 => {
                    let outcome = Outcome::Done { revision: *revision, result: *result, already: true };
                    self.end_follower(lanes, job, outcome);
                }
                other => self.end_one(lanes, job, other.clone()),
            }
        }
    }

    /// A follower is told when it is kept that it was done.
    fn end_follower(&self, lanes: &mut Lanes, mut job: Job<Load>, outcome: Outcome) {
        let (Some(owner), Some(recorder)) = (self.me.upgrade(), self.recorder().cloned()) else {
            return self.end_one(lanes, job, outcome);
        };
        let Errand::Perform { target, from_engine, .. } = job.load.errand.clone() else {
            return self.end_one(lanes, job, outcome);
        };
        job.load.kept = Kept::Ended;
        self.tracker.spawn(async move {
            let (command, plan) = (Arc::clone(&job.load.command), Plan::default());
            let intended = Intended { command: &command, plan: &plan, from_engine, target: target.name() };
            recorder.already(intended, &outcome).await;
            owner.end_one(&mut owner.lanes.lock(), job, outcome);
        });
    }

    fn end_one(&self, lanes: &mut Lanes, job: Job<Load>, outcome: Outcome) {
        lanes.count = lanes.count.saturating_sub(1);
        lanes.here.remove(&job.id);
        let command = &job.load.command;
        match (self.recorder(), job.load.kept) {
            (Some(recorder), Kept::Begun) => recorder.ended(command, &outcome),
            (Some(recorder), Kept::Not) => recorder.declined(command, &outcome),
            _ => {}
        }
        if let Some(task) = job.load.task.or_else(|| self.task_of(&job.load)) {
            self.end_task(task, &outcome);
        }
        tracing::info!(command = %job.id, verb = %job.verb, object = %command.object, outcome = ?outcome, "a command ended");
        // Nothing was done, and the engine sends it again with another plan: it is not known from now on.
        let anew = matches!(&outcome, Outcome::Refused(cause) if cause.code == Code::Changed);
        job.load.outcome.send_replace(Some(outcome));
        if anew {
            lanes.known.remove(&job.id);
        } else {
            lanes.ended.push_back(job.id);
        }
        while lanes.ended.len() > self.limits.ended {
            if let Some(oldest) = lanes.ended.pop_front() {
                lanes.known.remove(&oldest);
            }
        }
        for lane in lanes.release(job.id) {
            self.go_on(lanes, lane);
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
    pub(super) fn abort(&self, target: &Arc<dyn Target>, object: ObjectId) {
        let target = Arc::clone(target);
        let patience = self.limits.settle;
        self.tracker.spawn(async move {
            if let Err(error) = target.abort(object, Instant::now() + patience).await {
                tracing::debug!(%object, %error, "the target did not abort");
            }
        });
    }
}

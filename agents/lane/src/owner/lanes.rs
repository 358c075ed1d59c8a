//! What stands in the lanes.

use crate::{
    queue::{Arrival, Conflict, Job, Queue},
    recorder::Unsettled,
    target::Target,
    ticket::Ticket,
};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use union::{Command, CommandId, Kind, ObjectId, Plan, command::Outcome};

/// The verb under which a plan stands in a lane that it needs and that is not its command's.
pub(super) const HOLD: &str = "";

/// What is to be done when a command's turn has come.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    /// The command.
    Perform {
        /// By whom.
        target: Arc<dyn Target>,
        /// The engine's plan; none: it is lowered here.
        plan: Option<Arc<Plan>>,
        /// The engine sent it.
        from_engine: bool,
        /// Under which lease.
        epoch: Option<u64>,
    },
    /// Finding out what became of it.
    Settle(Arc<Unsettled>),
    /// Nothing: the plan runs in this lane.
    Hold(ObjectId),
}

/// Whether a command is in the recorder's keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It has not begun.
    Not,
    /// Its intent is kept.
    Begun,
    /// Its outcome was kept before.
    Ended,
}

/// What an owner attaches to a job.
#[derive(Debug)]
pub(crate) struct Load {
    pub command: Arc<Command>,
    pub task: Option<ObjectId>,
    pub deadline: Instant,
    pub outcome: watch::Sender<Option<Outcome>>,
    pub errand: Errand,
    pub kept: Kept,
    /// Its run, once it has begun.
    pub running: Option<AbortOnDropHandle<()>>,
    /// The run whose place it took.
    pub outran: Option<AbortOnDropHandle<()>>,
    /// Ends it at its deadline while it waits.
    pub expiry: Option<AbortOnDropHandle<()>>,
}

impl Load {
    pub fn new(
        command: &Arc<Command>,
        deadline: Instant,
        outcome: watch::Sender<Option<Outcome>>,
        errand: Errand,
    ) -> Load {
        let kept = if matches!(errand, Errand::Settle(_)) { Kept::Begun } else { Kept::Not };
        let (task, running, outran, expiry) = (None, None, None, None);
        Load { command: Arc::clone(command), task, deadline, outcome, errand, kept, running, outran, expiry }
    }

    pub fn target(&self) -> Option<Arc<dyn Target>> {
        match &self.errand {
            Errand::Perform { target, .. } => Some(Arc::clone(target)),
            Errand::Settle(_) | Errand::Hold(_) => None,
        }
    }

    pub fn is_hold(&self) -> bool {
        matches!(self.errand, Errand::Hold(_))
    }
}

/// One command whose turn has come.
pub(crate) struct Run {
    pub command: Arc<Command>,
    /// The lane it runs in.
    pub lane: ObjectId,
    pub task: Option<ObjectId>,
    pub deadline: Instant,
    pub errand: Errand,
}

/// The search for what became of a command.
#[derive(Debug)]
pub(crate) struct Search {
    pub id: CommandId,
    pub task: AbortOnDropHandle<()>,
    /// Lets it look at once.
    pub hurry: Arc<Notify>,
}

/// All lanes, and what is known of their commands.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub lanes: FxHashMap<ObjectId, Queue<Load>>,
    /// The commands that are here, without holds.
    pub count: usize,
    /// Each one's lane.
    pub here: FxHashMap<CommandId, ObjectId>,
    /// The further lanes of those that need several.
    pub others: FxHashMap<CommandId, Vec<ObjectId>>,
    /// By lane, the search for what became of its last command.
    pub doubts: FxHashMap<ObjectId, Search>,
    pub known: FxHashMap<CommandId, Ticket>,
    pub ended: VecDeque<CommandId>,
    pub closed: bool,
}

impl Lanes {
    pub fn queue(&mut self, lane: ObjectId, capacity: usize) -> &mut Queue<Load> {
        self.lanes.entry(lane).or_insert_with(|| Queue::new(capacity))
    }

    /// A job that needs several lanes: into all of them, or none.
    pub fn arrive_in_all(
        &mut self,
        lane: ObjectId,
        others: &BTreeSet<ObjectId>,
        job: Job<Load>,
        rule: impl Fn(&str) -> Conflict,
        capacity: usize,
    ) -> Arrival<Load> {
        let all = others.iter().chain([&lane]);
        if let Some(refused) = all.filter_map(|id| self.lanes.get(id)).find_map(|q| q.refusal(&rule)) {
            return refused;
        }
        let mut ready = true;
        for other in others {
            let load =
                Load::new(&job.load.command, job.load.deadline, watch::Sender::new(None), Errand::Hold(lane));
            ready &= self.queue(*other, capacity).admit(Job { id: job.id, verb: Arc::from(HOLD), load });
        }
        self.others.insert(job.id, others.iter().copied().collect());
        ready &= self.queue(lane, capacity).admit(job);
        if ready { Arrival::Started } else { Arrival::Queued }
    }

    /// Whether a command is first in all lanes that it needs.
    pub fn is_first(&self, command: CommandId) -> bool {
        let mut lanes =
            self.here.get(&command).into_iter().chain(self.others.get(&command).into_iter().flatten());
        lanes.all(|lane| self.lanes.get(lane).and_then(Queue::running).is_some_and(|job| job.id == command))
    }

    /// Takes a command out of its further lanes; those that another job may now begin in.
    pub fn release(&mut self, command: CommandId) -> Vec<ObjectId> {
        let mut lanes = self.others.remove(&command).unwrap_or_default();
        lanes.retain(|lane| {
            let Some(queue) = self.lanes.get_mut(lane) else { return false };
            let was_first = queue.finish(command).is_some();
            if !was_first {
                drop(queue.cancel(command));
            }
            was_first
        });
        lanes
    }
}

/// The lane of a command, and the further ones that its plan needs: those of the VMs that it is about. Other objects of the owner have
/// nothing that overlapping calls could break; the target orders them.
pub(super) fn needed(command: &Command, plan: Option<&Plan>) -> (ObjectId, BTreeSet<ObjectId>) {
    let lane = plan.and_then(|plan| plan.appears).unwrap_or(command.object);
    let steps = plan.iter().flat_map(|plan| &plan.steps).map(|step| step.object);
    (lane, steps.filter(|id| id.kind == Kind::Vm && *id != lane).collect())
}

//! Tasks: commands as their callers watch them. A task is an object of the inventory, so every view and wait shows it like any other.
//!
//! ```text
//! create ─▶ QUEUED ─ active ─▶ ACTIVE ─ progress… ─▶ SUCCEEDED (done)
//!              └──────────────────┴───────────────▶ FAILED (failed)
//! ```
//!
//! A [`Keeper`] carries them over restarts: it is told of each that is new, begins or ends (not of its progress), and what it kept is given
//! back by [`Tasks::restore`]. A live task of a command that nobody goes on with is failed by [`Tasks::abandon`].
//!
//! A step that the machine does not have is ignored: an ended task stays as it ended, also when it is ended while it begins (a command that
//! is overtaken in its first moment). Limits: ended tasks are kept 24 h and at most
//! 8,000 of them, the newest, so that a flood of commands does not grow without end; an object lists the last 20 of its tasks of the last 10 minutes.

use crate::store::{Inventory, Observer, ObserverGuard, Put};

mod recent;

use parking_lot::Mutex;
use prost::Message;
use recent::Lately;
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, OnceLock},
};
use union::{
    Clock, Command, CommandId, Ids, Kind, ObjectId, Record, Slot, Value,
    command::{Cause, Revision},
    pb::TaskState,
};

/// How long an ended task is kept at most.
pub const KEEP_MS: i64 = 24 * 3_600 * 1_000;
/// How long an ended task counts as recent.
pub const RECENT_MS: i64 = 10 * 60 * 1_000;
/// How many ended tasks are kept.
pub const KEEP: usize = 8_000;
/// How many tasks an object lists.
pub const RECENT: usize = 20;
/// How often the lists of recent tasks are gone through.
const SWEEP_MS: i64 = 10_000;

/// A task as it is kept over restarts.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Which.
    pub id: ObjectId,
    /// The command it shows.
    pub command: Option<CommandId>,
    /// All of it.
    pub record: Arc<Record>,
}

/// Keeps tasks over restarts.
pub trait Keeper: Send + Sync + std::fmt::Debug {
    /// A task is new, or has begun or ended. Must not wait.
    fn keep(&self, task: Kept);
    /// These are no longer of interest. Must not wait.
    fn forget(&self, tasks: &[ObjectId]);
}

/// The tasks of an inventory.
#[derive(Debug)]
pub struct Tasks {
    inventory: Arc<Inventory>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    slots: Slots,
    book: Mutex<Book>,
    /// Held from the look at a task's state until its next state is shown and kept: a task takes one step at a time.
    steps: Mutex<()>,
    keeper: OnceLock<Arc<dyn Keeper>>,
    lately: Arc<Lately>,
    _watch: ObserverGuard,
}

#[derive(Debug, Default)]
struct Book {
    last: i64,
    /// Tasks that wait or run, by number.
    live: BTreeMap<i64, ObjectId>,
    /// Ended tasks with their end and number, oldest end first.
    ended: VecDeque<(i64, i64, ObjectId)>,
    /// When the lists of recent tasks were last gone through.
    swept: i64,
    /// Recent tasks of an object, newest last, with their end once they have one.
    recent: FxHashMap<ObjectId, VecDeque<(ObjectId, Option<i64>)>>,
}

#[derive(Debug)]
struct Slots {
    method: Slot,
    verb: Slot,
    object_id: Slot,
    object_name: Slot,
    state: Slot,
    progress: Slot,
    queued_ms: Slot,
    started_ms: Slot,
    completed_ms: Slot,
    principal: Slot,
    session_id: Slot,
    command_id: Slot,
    result_id: Slot,
    cancelable: Slot,
    cancelled: Slot,
    number: Slot,
    fault: Slot,
    message: Slot,
    cause: Slot,
    chain: Slot,
}

/// A field the union's own messages have; a test opens every one.
pub(crate) fn slot(inventory: &Inventory, kind: Kind, field: &str) -> Slot {
    inventory.schema().slot(kind, field).unwrap_or(Slot(u16::MAX - 1))
}

impl Tasks {
    /// Tasks that live in `inventory`.
    pub fn new(inventory: Arc<Inventory>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Arc<Tasks> {
        let s = |field| slot(&inventory, Kind::Task, field);
        let slots = Slots {
            method: s("method"),
            verb: s("verb"),
            object_id: s("object_id"),
            object_name: s("object_name"),
            state: s("state"),
            progress: s("progress"),
            queued_ms: s("queued_ms"),
            started_ms: s("started_ms"),
            completed_ms: s("completed_ms"),
            principal: s("principal"),
            session_id: s("session_id"),
            command_id: s("command_id"),
            result_id: s("result_id"),
            cancelable: s("cancelable"),
            cancelled: s("cancelled"),
            number: s("number"),
            fault: s("fault"),
            message: s("message"),
            cause: s("cause"),
            chain: s("chain"),
        };
        let lately = Arc::new(Lately::new(slots.queued_ms, slots.completed_ms, slots.number));
        let watch = inventory.observe_all(Arc::clone(&lately) as Arc<dyn Observer>);
        Arc::new(Tasks {
            inventory,
            clock,
            ids,
            slots,
            book: Mutex::default(),
            steps: Mutex::default(),
            keeper: OnceLock::new(),
            lately,
            _watch: watch,
        })
    }

    /// Where they live.
    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inventory
    }

    /// From now on `keeper` is told. The first one stays.
    pub fn kept_by(&self, keeper: Arc<dyn Keeper>) {
        if self.keeper.set(keeper).is_err() {
            tracing::error!("tasks have a keeper already");
        }
    }

    fn keep(&self, task: ObjectId) {
        let Some((keeper, record)) = self.keeper.get().zip(self.inventory.record(task)) else { return };
        let command =
            record.get(self.slots.command_id).as_str().and_then(|text| Some(CommandId(text.parse().ok()?)));
        keeper.keep(Kept { id: task, command, record });
    }

    /// Takes over what was kept, before the first task is made. Gives the commands of those that had not ended.
    pub fn restore(&self, mut kept: Vec<Kept>) -> Vec<(CommandId, ObjectId)> {
        let s = &self.slots;
        let now = self.clock.now_ms();
        let int = |task: &Kept, slot| task.record.get(slot).as_int();
        kept.sort_by_key(|task| int(task, s.number));
        let mut live = Vec::new();
        let mut puts = Vec::with_capacity(kept.len());
        {
            let mut book = self.book.lock();
            let mut listed = BTreeSet::new();
            for task in &kept {
                let number = int(task, s.number).unwrap_or(0);
                let ended = int(task, s.completed_ms);
                book.last = book.last.max(number);
                match ended {
                    Some(at) => book.ended.push_back((at, number, task.id)),
                    None => {
                        book.live.insert(number, task.id);
                        live.extend(task.command.map(|command| (command, task.id)));
                    }
                }
                if let Some(object) = task.record.get(s.object_id).as_ref_id() {
                    book.recent.entry(object).or_default().push_back((task.id, ended));
                    listed.insert(object);
                }
                puts.push(Put::Whole(task.id, Record::clone(&task.record)));
            }
            book.ended.make_contiguous().sort_unstable();
            for object in listed {
                let recent = book.recent.get_mut(&object).map(|recent| recent_value(recent, now));
                puts.extend(recent.and_then(|recent| self.recent_put(object, recent)));
            }
            book.recent.retain(|_, recent| !recent.is_empty());
        }
        self.inventory.apply(puts);
        live
    }

    /// The task that shows a command, if it has one.
    pub fn of(&self, command: CommandId) -> Option<ObjectId> {
        self.inventory.find(Kind::Task, self.slots.command_id, &command.to_string()).first().copied()
    }

    /// Fails the tasks of an earlier life whose commands nobody goes on with; how many.
    pub fn abandon(&self, restored: &[(CommandId, ObjectId)], goes_on: impl Fn(CommandId) -> bool) -> usize {
        let message = "the program was started anew before this began; nothing was done, ask again";
        let cause = Cause::new(union::command::Code::Cancelled, message);
        let left: Vec<_> = restored.iter().filter(|(command, _)| !goes_on(*command)).collect();
        for (_, task) in &left {
            self.failed(*task, &cause);
        }
        left.len()
    }

    /// A task for a command that waits for its turn.
    pub fn create(&self, command: &Command, cancelable: bool) -> ObjectId {
        let now = self.clock.now_ms();
        self.sweep();
        let id = ObjectId::new(Kind::Task, self.ids.ordered_uuid(now));
        let s = &self.slots;
        let mut task = self.inventory.schema().kind(Kind::Task).record();
        let name = self.inventory.schema().slot(command.object.kind, "name");
        let object = self.inventory.record(command.object);
        task.set(s.method, &*command.origin.method);
        task.set(s.verb, &*command.verb);
        task.set(s.object_id, command.object);
        if let Some((object, name)) = object.as_ref().zip(name) {
            task.set(s.object_name, object.get(name).clone());
        }
        task.set(s.state, TaskState::Queued as i32);
        task.set(s.queued_ms, now);
        task.set(s.principal, &*command.principal);
        task.set(s.session_id, &*command.session);
        task.set(s.command_id, command.id.to_string());
        task.set(s.chain, command.id.chain());
        task.set(s.cancelable, cancelable);
        let recent = {
            let mut book = self.book.lock();
            book.last += 1;
            task.set(s.number, book.last);
            let number = book.last;
            book.live.insert(number, id);
            let recent = book.recent.entry(command.object).or_default();
            recent.push_back((id, None));
            recent_value(recent, now)
        };
        let mut puts = vec![Put::Whole(id, task)];
        puts.extend(self.recent_put(command.object, recent));
        self.inventory.apply(puts);
        self.keep(id);
        id
    }

    fn recent_put(&self, object: ObjectId, recent: Value) -> Option<Put> {
        let slot = self.inventory.schema().slot(object.kind, "recent_task_ids")?;
        Some(Put::Own(object, vec![(slot, recent)]))
    }

    fn state(&self, task: ObjectId) -> Option<i64> {
        self.inventory.record(task)?.get(self.slots.state).as_int()
    }

    fn is(&self, task: ObjectId, states: &[TaskState]) -> bool {
        self.state(task).is_some_and(|now| states.iter().any(|s| i64::from(*s as i32) == now))
    }

    /// The command's turn has come, and it can no longer be cancelled.
    pub fn active(&self, task: ObjectId) {
        self.begin(task, false);
    }

    /// The command's turn has come; `cancelable`: it may still be cancelled.
    pub fn begin(&self, task: ObjectId, cancelable: bool) {
        let _step = self.steps.lock();
        if self.is(task, &[TaskState::Queued]) {
            let s = &self.slots;
            let now = self.clock.now_ms();
            self.set(
                task,
                vec![
                    (s.state, Value::from(TaskState::Active as i32)),
                    (s.started_ms, now.into()),
                    (s.cancelable, cancelable.into()),
                ],
            );
            self.keep(task);
        }
    }

    /// How far it is, 0 to 100; never goes back.
    pub fn progress(&self, task: ObjectId, percent: u8) {
        let percent = i64::from(percent.min(100));
        let _step = self.steps.lock();
        let before = self.inventory.record(task).and_then(|t| t.get(self.slots.progress).as_int());
        if self.is(task, &[TaskState::Active]) && before.is_none_or(|b| b < percent) {
            self.set(task, vec![(self.slots.progress, percent.into())]);
        }
    }

    /// It succeeded.
    pub fn done(&self, task: ObjectId, result: Option<ObjectId>) -> Revision {
        let s = &self.slots;
        let values = vec![
            (s.state, Value::from(TaskState::Succeeded as i32)),
            (s.progress, 100i64.into()),
            (s.result_id, result.into()),
        ];
        self.end(task, values)
    }

    /// It failed; the whole cause stays readable through [`Tasks::cause`].
    pub fn failed(&self, task: ObjectId, cause: &Cause) -> Revision {
        let s = &self.slots;
        let values = vec![
            (s.state, Value::from(TaskState::Failed as i32)),
            (s.fault, (&*cause.fault).into()),
            (s.message, cause.message.as_str().into()),
            (s.cancelled, (cause.code == union::command::Code::Cancelled).into()),
            (s.cause, Value::Bytes(cause.to_pb(self.inventory.schema()).encode_to_vec().into())),
        ];
        self.end(task, values)
    }

    fn end(&self, task: ObjectId, mut values: Vec<(Slot, Value)>) -> Revision {
        let _step = self.steps.lock();
        if !self.is(task, &[TaskState::Queued, TaskState::Active]) {
            return self.inventory.revision();
        }
        let now = self.clock.now_ms();
        let s = &self.slots;
        values.push((s.completed_ms, now.into()));
        values.push((s.cancelable, false.into()));
        let number = self.inventory.record(task).and_then(|t| t.get(s.number).as_int()).unwrap_or(0);
        let mut book = self.book.lock();
        if book.live.remove(&number).is_none() {
            return self.inventory.revision();
        }
        book.ended.push_back((now, number, task));
        let object = self.inventory.record(task).and_then(|t| t.get(s.object_id).as_ref_id());
        if let Some(recent) = object.and_then(|o| book.recent.get_mut(&o))
            && let Some(entry) = recent.iter_mut().find(|(id, _)| *id == task)
        {
            entry.1 = Some(now);
        }
        drop(book);
        let revision = self.set(task, values);
        self.keep(task);
        revision
    }

    fn set(&self, task: ObjectId, values: Vec<(Slot, Value)>) -> Revision {
        self.inventory.apply(vec![Put::Slots(task, values)])
    }

    /// Why a task failed, wherever it ran: one that this inventory only follows says so in its record.
    pub fn cause(&self, task: ObjectId) -> Option<Arc<Cause>> {
        let record = self.inventory.record(task)?;
        let Value::Bytes(bytes) = record.get(self.slots.cause) else { return None };
        let cause = union::pb::Cause::decode(&**bytes).ok()?;
        Some(Arc::new(Cause::from_pb(self.inventory.schema(), &cause)))
    }

    /// The tasks that run, wait or ended within the last 10 minutes, those that the inventory only follows too, newest last, at most
    /// `limit`.
    pub fn recent(&self, limit: usize) -> Vec<ObjectId> {
        self.lately.newest(self.clock.now_ms(), limit)
    }

    /// Where a task that there is, also one that the inventory only follows, stands in the order in which they came to be known here. Two
    /// never stand at one place, and one that comes later stands later, whoever made it; after a restart they are counted anew.
    pub fn place(&self, task: ObjectId) -> Option<i64> {
        self.lately.place(task)
    }

    /// Drops tasks beyond the limits and takes those that are no longer recent off their objects. Runs with every new task; call it
    /// now and then besides.
    pub fn sweep(&self) {
        let now = self.clock.now_ms();
        let mut puts = Vec::new();
        let mut gone = Vec::new();
        {
            let mut book = self.book.lock();
            while let Some((ended, _, task)) = book.ended.front().copied() {
                let age = now - ended;
                if age <= KEEP_MS && book.ended.len() <= KEEP {
                    break;
                }
                book.ended.pop_front();
                gone.push(task);
                puts.push(Put::Remove(task));
            }
            let mut stale = Vec::new();
            let due = now.saturating_sub(book.swept) >= SWEEP_MS;
            if due {
                book.swept = now;
                self.lately.sweep(now);
            }
            book.recent.retain(|object, recent| {
                if !due {
                    return true;
                }
                if recent.iter().any(|(_, ended)| ended.is_some_and(|at| now - at > RECENT_MS)) {
                    stale.push((*object, recent_value(recent, now)));
                }
                !recent.is_empty()
            });
            for (object, value) in stale {
                puts.extend(self.recent_put(object, value));
            }
        }
        if let Some(keeper) = self.keeper.get().filter(|_| !gone.is_empty()) {
            keeper.forget(&gone);
        }
        if !puts.is_empty() {
            self.inventory.apply(puts);
        }
    }
}

fn recent_value(recent: &mut VecDeque<(ObjectId, Option<i64>)>, now: i64) -> Value {
    recent.retain(|(_, ended)| ended.is_none_or(|at| now - at <= RECENT_MS));
    while recent.len() > RECENT {
        recent.pop_front();
    }
    Value::list(recent.iter().map(|(id, _)| Value::Ref(*id)))
}

#[cfg(test)]
mod tests;

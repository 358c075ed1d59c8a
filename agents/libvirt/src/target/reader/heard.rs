//! What an event proves before anything is read.
//!
//! ```text
//! call under way ─ its event ─▶ how the machine stands, put at once ─▶ read as after every event
//!                      └─ a read that began before it, and may have seen the machine as it was ─▶ thrown away, and made again
//! ```
//! libvirt tells that a machine has started or stopped before it answers the call that did so, so whoever waits for that need not wait for
//! a read as well. Taken by its word is only an event
//!
//! * about a machine that a call of the lane's is made to, from its sending until a read that began after its answer: nobody waits for others;
//! * that proves by itself how a domain stands (`told` in `[table.events]`), and leads from the power state that is shown;
//! * about a machine that is ours and outlives its stop;
//! * if it stops: when it is known what the machine is defined as, which is all that is shown of it then. That is known from a read of
//!   both documents, or from before its start, if since then nothing but this call was made and nothing but this was told.
//!
//! It is put by who takes packets from the connection, so it is in order with the answers of that connection: facts of an answer that came
//! before it are older than it or are thrown away, and an answer that came after it was asked for or given with the change in it.

use super::Reader;
use crate::{
    inventory::{domain, get, owned, snapshot},
    native::{api::Handle, connection::Event},
    tables::Told,
    target::reader::sizes::Elsewhere,
};
use inventory::Put;
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use union::{Kind, ObjectId, Record, Value, pb::ToolsState};
use wire::xdr::XdrValue;

/// What was told of machines, and done to them.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<FxHashMap<ObjectId, Machine>>);

#[derive(Debug, Default)]
struct Machine {
    /// Calls under way.
    calls: usize,
    /// A call is or was made, and what it did has not been read since.
    open: bool,
    /// Events whose word was taken.
    told: u64,
    /// Calls made and events told.
    steps: u64,
    /// How many of them there had been when the last read began.
    read: u64,
    /// What a machine that runs is defined as, known when there had been so many steps.
    off: Option<(Record, u64)>,
}

/// What had been heard of a machine when a read of it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    told: u64,
    steps: u64,
    /// No call was under way.
    calm: bool,
}

/// Facts may be put while this is held: nothing is heard meanwhile.
pub(super) struct Turn<'a>(MutexGuard<'a, FxHashMap<ObjectId, Machine>>);

impl Heard {
    /// A read of a machine begins.
    pub fn mark(&self, vm: ObjectId) -> Mark {
        let machines = self.0.lock();
        let machine = machines.get(&vm);
        let of = |count: fn(&Machine) -> u64| machine.map_or(0, count);
        Mark { told: of(|m| m.told), steps: of(|m| m.steps), calm: of(|m| m.calls as u64) == 0 }
    }

    /// Whether a call is or was made to a machine, and what it did has not been read since.
    pub fn is_awaited(&self, vm: ObjectId) -> bool {
        self.0.lock().get(&vm).is_some_and(|machine| machine.open)
    }

    /// The read has ended, and what it found may be put; `None`: an event has told more since it began.
    pub fn turn(&self, vm: ObjectId, mark: Mark) -> Option<Turn<'_>> {
        let machines = self.0.lock();
        (machines.get(&vm).map_or(0, |m| m.told) == mark.told).then_some(Turn(machines))
    }
}

impl Turn<'_> {
    /// A read is put. It said whether the machine is `active`, and, if it asked for that, what it is defined as then.
    pub fn read(&mut self, vm: ObjectId, mark: Mark, active: bool, asked: Option<Option<Record>>) {
        let known = asked.as_ref().is_some_and(Option::is_some);
        if !known && !self.0.contains_key(&vm) {
            return;
        }
        let machine = self.0.entry(vm).or_default();
        machine.open &= !mark.calm || machine.calls > 0;
        machine.read = mark.steps;
        machine.off = match asked {
            Some(defined) => defined.map(|defined| (defined, mark.steps)),
            None => machine.off.take().filter(|(_, since)| active && *since == mark.steps),
        };
    }

    /// There is no such machine.
    pub fn gone(mut self, vm: ObjectId) {
        if self.0.get(&vm).is_some_and(|machine| machine.calls == 0) {
            self.0.remove(&vm);
        }
    }
}

/// A call to a machine is under way for as long as this lives.
pub struct UnderWay {
    reader: Arc<Reader>,
    vm: ObjectId,
}

impl UnderWay {
    /// A call is about to be made; `None`: to something else than a machine.
    pub fn new(reader: &Arc<Reader>, vm: ObjectId) -> Option<UnderWay> {
        (vm.kind == Kind::Vm).then(|| {
            let mut machines = reader.heard.0.lock();
            let machine = machines.entry(vm).or_default();
            machine.calls += 1;
            machine.steps += 1;
            machine.open = true;
            UnderWay { reader: Arc::clone(reader), vm }
        })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(machine) = self.reader.heard.0.lock().get_mut(&self.vm) {
            machine.calls = machine.calls.saturating_sub(1);
        }
    }
}

impl Reader {
    /// An event, in the order of the connection.
    pub fn hear(&self, event: &Event) {
        let body = &event.body;
        let handle = body.get("msg.dom").or_else(|| body.get("dom")).and_then(Handle::from_value);
        let Some(uuid) = handle.map(|handle| handle.uuid) else { return };
        let number = |name: &str| body.get(name).and_then(XdrValue::as_int);
        let lifecycle = event.procedure.name.ends_with("_LIFECYCLE");
        let what = number("msg.event").filter(|_| lifecycle);
        if what == Some(self.tables.started()) {
            self.started.lock().insert(uuid, self.clock.now_ms());
        }
        let told = what.zip(number("msg.detail")).and_then(|(what, detail)| self.tables.told(what, detail));
        let vm = ObjectId::new(Kind::Vm, uuid);
        if !self.claims.holds(vm) {
            return;
        }
        let mut machines = self.heard.0.lock();
        let machine = machines.entry(vm).or_default();
        machine.steps += 1;
        if let Some(told) = told {
            self.take_word(vm, machine, told);
        }
    }

    fn take_word(&self, vm: ObjectId, machine: &mut Machine, told: &Told) {
        if !machine.open || self.api.read().is_none() {
            return;
        }
        let Some(record) = self.inventory.record(vm) else { return };
        let power = get(&self.schema, &record, "power_state").as_int();
        let leads_from = told.from.iter().any(|state| power == Some(*state as i64));
        if !leads_from || *get(&self.schema, &record, "persistent") != Value::Bool(true) {
            return;
        }
        // This event, and the one call.
        let known = |then: u64| machine.calls <= 1 && then + 2 == machine.steps;
        let facts = if self.tables.runs(told.state) {
            let started_ms = self.started.lock().get(&vm.uuid).copied();
            machine.off = known(machine.read).then(|| (Record::clone(&record), machine.steps));
            let power = self.tables.power(told.state);
            Put::Slots(vm, domain::started(&self.schema, power, started_ms))
        } else {
            let Some((defined, _)) = machine.off.take_if(|(_, then)| known(*then)) else { return };
            let Some(facts) = self.stopped(vm, &record, defined, told) else { return };
            facts
        };
        machine.told += 1;
        self.inventory.apply(vec![facts]);
    }

    /// A machine that is defined so, when it has stopped.
    fn stopped(&self, vm: ObjectId, shown: &Record, defined: Record, told: &Told) -> Option<Put> {
        let names = self.known_names()?;
        let around = self.around.read().clone();
        let tools = match get(&self.schema, shown, "tools").as_int() {
            Some(n) if n == ToolsState::ToolsNotInstalled as i64 => ToolsState::ToolsNotInstalled,
            _ => ToolsState::ToolsNotRunning,
        };
        let answers = domain::Answers {
            rows: defined,
            tools,
            state: told.state,
            sizes: Elsewhere::before(self, vm, &around).known,
            snapshots: &snapshot::Lifted::default(),
            started_ms: None,
        };
        let (record, _) = domain::lift(&self.schema, &self.tables, &names, vm.uuid, &around, answers);
        let slots = self.of_a_run(owned(&self.schema, Kind::Vm, &[]), false);
        Some(Put::Part(vm, record, slots))
    }
}

#[cfg(test)]
mod tests;

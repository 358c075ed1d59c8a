//! The world: what is true of a simulated hypervisor. It lives in the agent's process ([`crate::target`]) or in its own
//! ([`crate::process`]).
//!
//! ```text
//! perform ─ reachable? ─ fate ─ time ─▶ change ─▶ effect log, on the disk ─▶ told (unless the event is lost) ─▶ answer (unless it is lost)
//! ```
//!
//! A guest that was asked for something does it later, unless somebody cut its power meanwhile. Every call that arrives is made, however
//! often it came before: that is how a test sees that something was sent twice.

mod change;
mod configure;

use crate::{
    fault::{Behaviour, Fate, pick},
    inventory::{File, FileError, build, generate, parse},
    native::{CONFIG, Refusal, Step, step},
    task::{Effect, EffectLog, said},
};
use lane::{NativeCall, Progress, TargetError};
use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use union::{
    Clock, Ids, Kind, ObjectId, Record, Schema, Slot, Value,
    command::Code,
    pb::{PowerState, ToolsState},
};

/// Where a simulated hypervisor's inventory comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file in the format of [`crate::inventory`].
    File(PathBuf),
    /// The text of such a file.
    Text(String),
    /// Made up.
    Generate {
        /// How many VMs.
        vms: u32,
        /// On how many hosts.
        hosts: u32,
    },
}

/// A simulated hypervisor.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name, from which its ids follow.
    pub name: String,
    /// What it has.
    pub source: Source,
    /// How it behaves; `None`: as its file says.
    pub behaviour: Option<Behaviour>,
    /// Where its effects are written.
    pub effect_log: Option<PathBuf>,
}

/// It cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// Its file cannot be read.
    #[error("cannot read the simulated inventory {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its file is wrong.
    #[error("the simulated inventory {path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// What is wrong.
        source: FileError,
    },
    /// Its effect log cannot be written.
    #[error("cannot write the effect log: {0}")]
    Log(std::io::Error),
}

/// Whether it can be talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Here,
    Away,
    Hanging,
}

#[derive(Debug, Default)]
struct State {
    vms: FxHashMap<ObjectId, Machine>,
    /// Everything else that it has.
    others: FxHashMap<ObjectId, Record>,
    own: FxHashSet<ObjectId>,
    hosts: Vec<ObjectId>,
    script: FxHashMap<String, VecDeque<Fate>>,
}

#[derive(Debug)]
struct Machine {
    record: Record,
    /// Grows with every change of power: what a guest meant to do before is void.
    age: u64,
    guest_ip: Value,
    tools: Value,
}

#[derive(Debug)]
pub(crate) struct Slots {
    power_state: Slot,
    boot_time_ms: Slot,
    guest_ip: Slot,
    tools: Slot,
    cpu_usage_mhz: Slot,
    memory_usage_bytes: Slot,
    memory_bytes: Slot,
    cpu_count: Slot,
    pub host_connection: Slot,
    host_boot_time: Slot,
}

/// Is told which object has changed.
type Told = Arc<dyn Fn(ObjectId) + Send + Sync>;

/// A simulated hypervisor.
pub struct World {
    me: Weak<World>,
    name: String,
    schema: Arc<Schema>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    behaviour: RwLock<Behaviour>,
    pub(crate) slots: Slots,
    state: Mutex<State>,
    log: EffectLog,
    pub(crate) mode: watch::Sender<Mode>,
    told: Mutex<Option<Told>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("name", &self.name).finish_non_exhaustive()
    }
}

impl World {
    /// Sets a world up. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Its file or its effect log cannot be used.
    pub fn open(
        config: Config,
        schema: &Arc<Schema>,
        clock: &Arc<dyn Clock>,
        ids: &Arc<dyn Ids>,
    ) -> Result<Arc<World>, SimError> {
        let (path, file) = match &config.source {
            Source::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| SimError::Unreadable { path: path.clone(), source })?;
                (path.display().to_string(), parse(&text))
            }
            Source::Text(text) => ("(text)".to_owned(), parse(text)),
            Source::Generate { vms, hosts } => ("(generated)".to_owned(), Ok(generate(*vms, *hosts))),
        };
        let wrong = |source| SimError::File { path: path.clone(), source };
        let file: File = file.map_err(wrong)?;
        let built = build(schema, &config.name, &file).map_err(wrong)?;
        let log = EffectLog::open(config.effect_log.as_deref()).map_err(SimError::Log)?;
        let slot = |kind, field| schema.slot(kind, field).unwrap_or(Slot(u16::MAX - 1));
        let vm = |field| slot(Kind::Vm, field);
        let slots = Slots {
            power_state: vm("power_state"),
            boot_time_ms: vm("boot_time_ms"),
            guest_ip: vm("guest_ip"),
            tools: vm("tools"),
            cpu_usage_mhz: vm("cpu_usage_mhz"),
            memory_usage_bytes: vm("memory_usage_bytes"),
            memory_bytes: vm("memory_bytes"),
            cpu_count: vm("cpu_count"),
            host_connection: slot(Kind::Host, "connection"),
            host_boot_time: slot(Kind::Host, "boot_time_ms"),
        };
        let world = Arc::new_cyclic(|me| World {
            me: Weak::clone(me),
            name: config.name,
            schema: Arc::clone(schema),
            clock: Arc::clone(clock),
            ids: Arc::clone(ids),
            behaviour: RwLock::new(config.behaviour.unwrap_or(file.behaviour)),
            slots,
            state: Mutex::default(),
            log,
            mode: watch::Sender::new(Mode::Here),
            told: Mutex::default(),
        });
        world.fill(built.objects);
        if world.behaviour.read().stats_s > 0 {
            world.read_stats();
        }
        Ok(world)
    }

    /// Has changes told to this one from now on, and to nobody else.
    pub fn tell_to(&self, told: Told) {
        *self.told.lock() = Some(told);
    }

    fn fill(&self, objects: Vec<(ObjectId, Record)>) {
        let now = self.clock.now_ms();
        let mut state = self.state.lock();
        for (id, mut record) in objects {
            state.own.insert(id);
            match id.kind {
                Kind::Vm => {
                    let machine = self.machine(record, now);
                    state.vms.insert(id, machine);
                    continue;
                }
                Kind::Host => {
                    record.set(self.slots.host_boot_time, now);
                    state.hosts.push(id);
                }
                _ => {}
            }
            state.others.insert(id, record);
        }
    }

    fn machine(&self, record: Record, now: i64) -> Machine {
        let guest_ip = record.get(self.slots.guest_ip).clone();
        let tools = record.get(self.slots.tools).clone();
        let mut machine = Machine { record, age: 0, guest_ip, tools };
        let power = self.power(&machine.record);
        self.enter(&mut machine, power, true, now);
        machine
    }

    fn power(&self, record: &Record) -> PowerState {
        let number = record.get(self.slots.power_state).as_int().and_then(|n| i32::try_from(n).ok());
        number.and_then(|n| PowerState::try_from(n).ok()).unwrap_or(PowerState::Unspecified)
    }

    /// Puts a machine into a state, with all that follows from it.
    fn enter(&self, machine: &mut Machine, state: PowerState, boot: bool, now: i64) {
        let s = &self.slots;
        machine.age += 1;
        let running = state == PowerState::Running;
        let record = &mut machine.record;
        record.set(s.power_state, state as i32);
        if running && boot {
            record.set(s.boot_time_ms, now);
        } else if matches!(state, PowerState::Stopped | PowerState::Suspended | PowerState::Crashed) {
            record.set(s.boot_time_ms, Value::Absent);
        }
        let installed = machine.tools != Value::from(ToolsState::ToolsNotInstalled as i32);
        let tools = match (installed, running) {
            (true, false) => Value::from(ToolsState::ToolsNotRunning as i32),
            _ => machine.tools.clone(),
        };
        record.set(s.tools, tools);
        record.set(s.guest_ip, if running { machine.guest_ip.clone() } else { Value::Absent });
        let figure =
            |slot: Slot, share: i64| record.get(slot).as_int().filter(|_| running).map_or(0, |n| n / share);
        let (cpu, memory) = (figure(s.cpu_count, 1) * 100, figure(s.memory_bytes, 2));
        record.set(s.cpu_usage_mhz, cpu);
        record.set(s.memory_usage_bytes, memory);
    }

    /// Everything it has, in the order of ids.
    pub fn objects(&self) -> Vec<(ObjectId, Record)> {
        let state = self.state.lock();
        let vms = state.vms.iter().map(|(id, machine)| (*id, machine.record.clone()));
        let mut all: Vec<_> = state.others.iter().map(|(id, r)| (*id, r.clone())).chain(vms).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// One object as it is; `None`: it has none such.
    pub fn record(&self, id: ObjectId) -> Option<Record> {
        let state = self.state.lock();
        state.vms.get(&id).map(|m| &m.record).or_else(|| state.others.get(&id)).cloned()
    }

    /// Whether an object is one of its own.
    pub fn has(&self, id: ObjectId) -> bool {
        self.state.lock().own.contains(&id)
    }

    pub(crate) fn hosts(&self) -> Vec<ObjectId> {
        self.state.lock().hosts.clone()
    }

    /// What it did, oldest first.
    pub fn effects(&self) -> Vec<Effect> {
        self.log.effects()
    }

    /// Behaves so from the next call on. How often figures are read stays as it was.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.write() = behaviour;
    }

    /// The next call of this name meets this fate; several queue up.
    pub fn script(&self, call: &str, fate: Fate) {
        self.state.lock().script.entry(call.to_owned()).or_default().push_back(fate);
    }

    /// Takes a VM away as somebody else would.
    pub fn take_away(&self, vm: ObjectId) {
        let mut state = self.state.lock();
        state.own.remove(&vm);
        state.vms.remove(&vm);
    }

    fn fate(&self, call: &str) -> Fate {
        let scripted = self.state.lock().script.get_mut(call).and_then(VecDeque::pop_front);
        scripted.unwrap_or_else(|| self.behaviour.read().fate(call, &*self.ids))
    }

    /// Waits out a hanging hypervisor; fails while it is away.
    pub(crate) async fn reachable(&self) -> Result<(), TargetError> {
        let mut mode = self.mode.subscribe();
        let mode = mode.wait_for(|m| *m != Mode::Hanging).await.map(|m| *m);
        match mode {
            Ok(Mode::Here) => Ok(()),
            _ => Err(TargetError::Unreachable(format!("the simulated hypervisor {} is away", self.name))),
        }
    }

    /// Takes the time that a look takes.
    pub(crate) async fn look(&self, deadline: Instant) -> Result<(), TargetError> {
        timeout_at(deadline, self.reachable()).await.unwrap_or(Err(TargetError::TimedOut))?;
        let latency = self.behaviour.read().latency("Read", &*self.ids);
        if !latency.is_zero() {
            sleep(latency).await;
        }
        Ok(())
    }

    /// Takes the time a call takes, with progress on the way.
    async fn take_time(&self, call: &str, progress: &Progress) {
        let latency = self.behaviour.read().latency(call, &*self.ids);
        if latency.is_zero() {
            return;
        }
        for percent in [20, 40, 60, 80] {
            sleep(latency / 5).await;
            progress(percent);
        }
        sleep(latency / 5).await;
    }

    /// Makes a call about `object`; returns by `deadline`.
    ///
    /// # Errors
    /// How it went wrong, by chance or by script, or why it did nothing.
    pub async fn perform(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
        progress: Progress,
    ) -> Result<Value, TargetError> {
        let late = TargetError::TimedOut;
        timeout_at(deadline, self.reachable()).await.unwrap_or(Err(late.clone()))?;
        let fate = self.fate(&call.call);
        if timeout_at(deadline, self.take_time(&call.call, &progress)).await.is_err() {
            return Err(late);
        }
        match fate {
            Fate::Well | Fate::LoseReply => {}
            Fate::Fail => {
                let message = format!("{} failed, as the simulation was told", call.call);
                return Err(TargetError::Failed { code: 1, means: None, message });
            }
            Fate::LoseRequest => return Err(TargetError::Lost("the request never arrived".to_owned())),
            Fate::Hang => {
                tokio::time::sleep_until(deadline).await;
                return Err(late);
            }
        }
        let Some(world) = self.me.upgrade() else {
            return Err(TargetError::Lost("the simulation ended".to_owned()));
        };
        let subject = subject(object, call);
        let took = self.take_step(subject, call);
        let note = {
            let (world, name, said) = (Arc::clone(&world), Arc::clone(&call.call), said(call));
            let why = took.as_ref().err().map(ToString::to_string);
            move || match why {
                None => world.log.note(&name, subject, &said),
                Some(why) => world.log.note_refused(&name, subject, &why),
            }
        };
        // Another thread would be a matter of chance where everything else follows from a seed.
        let noted = match self.log.is_file() {
            true => tokio::task::spawn_blocking(note).await.unwrap_or(Ok(())),
            false => note(),
        };
        if let Err(error) = noted {
            return Err(TargetError::Lost(format!("the effect could not be logged: {error}")));
        }
        if took.map_err(refused)? {
            self.tell(subject);
        }
        match fate {
            Fate::LoseReply => Err(TargetError::Lost("the answer was lost".to_owned())),
            _ => Ok(Value::Absent),
        }
    }

    /// Changes the world by a call; whether there is something to tell yet.
    fn take_step(&self, vm: ObjectId, call: &NativeCall) -> Result<bool, Refusal> {
        let name = &*call.call;
        let now = self.clock.now_ms();
        let mut state = self.state.lock();
        if CONFIG.contains(&name) {
            return self.configure(&mut state, vm, call, now).map(|()| true);
        }
        let gone = || Refusal::Gone(name.to_owned());
        let machine = state.vms.get_mut(&vm).ok_or_else(gone)?;
        let power = self.power(&machine.record);
        match step(name, power)? {
            Step::Now { state, boot } => {
                self.enter(machine, state, boot, now);
                Ok(true)
            }
            Step::Guest { state: next, boot } => {
                let age = machine.age;
                drop(state);
                self.ask_guest(vm, age, next, boot);
                Ok(false)
            }
        }
    }

    /// Changes a VM's power as somebody else would, behind the broker's back. Whether there is something to tell.
    pub(crate) fn meddle(&self, vm: ObjectId, call: &str) -> Result<bool, Refusal> {
        let is = lane::StepKind::Once;
        self.take_step(
            vm,
            &NativeCall { call: Arc::from(call), args: Vec::new(), is, undo: None, script: None },
        )
    }

    /// Makes a call as somebody else would, behind the broker's back: at once, without a mishap and without an entry in the log. Its event
    /// may be lost.
    ///
    /// # Errors
    /// Why it is not possible.
    pub fn by_hand(&self, vm: ObjectId, call: &NativeCall) -> Result<(), Refusal> {
        if self.take_step(vm, call)? {
            self.tell(vm);
        }
        Ok(())
    }

    /// The guest does what it was asked in its own time.
    fn ask_guest(&self, vm: ObjectId, age: u64, state: PowerState, boot: bool) {
        let (me, takes) = (Weak::clone(&self.me), Duration::from_millis(self.behaviour.read().guest_ms));
        tokio::spawn(async move {
            sleep(takes).await;
            let Some(world) = me.upgrade() else { return };
            {
                let mut inner = world.state.lock();
                let Some(machine) = inner.vms.get_mut(&vm).filter(|m| m.age == age) else { return };
                world.enter(machine, state, boot, world.clock.now_ms());
            }
            if let Err(error) = world.log.note("guest", vm, "") {
                tracing::error!(%error, "an effect could not be logged");
            }
            world.tell(vm);
        });
    }

    /// Sends the event of a changed object, unless it is lost.
    fn tell(&self, id: ObjectId) {
        let here = *self.mode.borrow() == Mode::Here;
        if here && !self.behaviour.read().loses_event(&*self.ids) {
            self.tell_now(id);
        }
    }

    /// Reads what the VMs use every so often.
    fn read_stats(&self) {
        let (me, every) = (Weak::clone(&self.me), Duration::from_secs(self.behaviour.read().stats_s));
        tokio::spawn(async move {
            loop {
                sleep(every).await;
                let Some(world) = me.upgrade() else { return };
                if *world.mode.borrow() == Mode::Here {
                    world.stats();
                }
            }
        });
    }

    fn stats(&self) {
        let s = &self.slots;
        let mut busy = Vec::new();
        for (id, machine) in &mut self.state.lock().vms {
            if self.power(&machine.record) != PowerState::Running {
                continue;
            }
            let cpus = machine.record.get(s.cpu_count).as_int().unwrap_or(1);
            let most = u64::try_from(cpus.saturating_mul(500)).unwrap_or(500);
            machine.record.set(s.cpu_usage_mhz, i64::try_from(pick(&*self.ids, most)).unwrap_or(0));
            busy.push(*id);
        }
        busy.into_iter().for_each(|id| self.tell_now(id));
    }

    fn tell_now(&self, id: ObjectId) {
        let told = self.told.lock().clone();
        if let Some(told) = told {
            told(id);
        }
    }
}

/// The VM that a call is about: the one that its arguments name, else the object of the step.
fn subject(object: ObjectId, call: &NativeCall) -> ObjectId {
    let named = |name: &str| call.args.iter().find(|(n, _)| &**n == name).and_then(|(_, v)| v.as_ref_id());
    named("vm").or_else(|| named("vm_id")).unwrap_or(object)
}

fn refused(refusal: Refusal) -> TargetError {
    let (code, means) = match &refusal {
        Refusal::NoCall(call) => return TargetError::Unsupported(call.clone()),
        Refusal::State { .. } => (2, Code::InvalidState),
        Refusal::Gone(_) => (3, Code::NotFound),
        Refusal::Argument(_) => (4, Code::InvalidArgument),
        Refusal::Duplicate(_) => (5, Code::Duplicate),
    };
    TargetError::Failed { code, means: Some(means), message: refusal.to_string() }
}

//! The simulated hypervisor as a target.
//!
//! The **world** is what is true of the VMs; the agent's inventory learns it by events, which may be lost, and by fresh looks. A guest
//! that was asked for something does it later, unless somebody cut its power meanwhile.

use crate::{
    fault::{Behaviour, Fate, pick},
    inventory::{File, FileError, build, generate, parse},
    native::{Refusal, Step, step},
    task::{Effect, EffectLog},
};
use async_trait::async_trait;
use inventory::{Claims, Inventory, Put, Released};
use lane::{NativeCall, Progress, Target, TargetError};
use parking_lot::Mutex;
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
    Clock, Ids, Kind, ObjectId, Record, Slot, Value,
    command::{Code, Revision},
    pb::{Connection, PowerState, ToolsState},
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
enum Mode {
    Here,
    Away,
    Hanging,
}

#[derive(Debug)]
struct World {
    vms: FxHashMap<ObjectId, Machine>,
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
struct Slots {
    power_state: Slot,
    boot_time_ms: Slot,
    guest_ip: Slot,
    tools: Slot,
    cpu_usage_mhz: Slot,
    memory_usage_bytes: Slot,
    memory_bytes: Slot,
    cpu_count: Slot,
    host_connection: Slot,
    host_boot_time: Slot,
}

/// A running simulation.
#[derive(Debug)]
pub struct Sim {
    me: Weak<Sim>,
    name: String,
    inventory: Arc<Inventory>,
    claims: Claims,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    behaviour: Behaviour,
    slots: Slots,
    world: Mutex<World>,
    publishing: Mutex<()>,
    log: EffectLog,
    mode: watch::Sender<Mode>,
}

/// Sets a simulation up and fills the inventory. Must be called within a tokio runtime.
pub fn connect(
    config: Config,
    inventory: &Arc<Inventory>,
    clock: &Arc<dyn Clock>,
    ids: &Arc<dyn Ids>,
) -> Result<Arc<Sim>, SimError> {
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
    let built = build(inventory.schema(), &config.name, &file).map_err(wrong)?;
    let log = EffectLog::open(config.effect_log.as_deref()).map_err(SimError::Log)?;
    let slot = |kind, field| inventory.schema().slot(kind, field).unwrap_or(Slot(u16::MAX - 1));
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
    let claims = Claims::new(inventory, &config.name);
    let sim = Arc::new_cyclic(|me| Sim {
        me: Weak::clone(me),
        name: config.name,
        claims,
        inventory: Arc::clone(inventory),
        clock: Arc::clone(clock),
        ids: Arc::clone(ids),
        behaviour: config.behaviour.unwrap_or(file.behaviour),
        slots,
        world: Mutex::new(World {
            vms: FxHashMap::default(),
            own: FxHashSet::default(),
            hosts: Vec::new(),
            script: FxHashMap::default(),
        }),
        publishing: Mutex::default(),
        log,
        mode: watch::Sender::new(Mode::Here),
    });
    sim.fill(built.objects);
    sim.take_what_is_given();
    if sim.behaviour.stats_s > 0 {
        sim.read_stats();
    }
    Ok(sim)
}

impl Sim {
    fn fill(&self, objects: Vec<(ObjectId, Record)>) {
        let now = self.clock.now_ms();
        let mut puts = Vec::with_capacity(objects.len());
        let mut world = self.world.lock();
        for (id, mut record) in objects {
            world.own.insert(id);
            match id.kind {
                Kind::Host => {
                    record.set(self.slots.host_boot_time, now);
                    world.hosts.push(id);
                }
                Kind::Vm => {
                    let (guest_ip, tools) =
                        (record.get(self.slots.guest_ip).clone(), record.get(self.slots.tools).clone());
                    let mut machine =
                        Machine { record: Record::new(record.message(), 0), age: 0, guest_ip, tools };
                    std::mem::swap(&mut machine.record, &mut record);
                    let state = self.state_of(&machine.record);
                    self.enter(&mut machine, state, true, now);
                    record = machine.record.clone();
                    world.vms.insert(id, machine);
                    if !self.claims.take(id) {
                        continue;
                    }
                }
                _ => {}
            }
            puts.push(Put::Whole(id, record));
        }
        drop(world);
        self.inventory.apply(puts);
    }

    fn state_of(&self, record: &Record) -> PowerState {
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

    /// What it did, oldest first.
    pub fn effects(&self) -> Vec<Effect> {
        self.log.effects()
    }

    /// The next call of this name meets this fate; several queue up.
    pub fn script(&self, call: &str, fate: Fate) {
        self.world.lock().script.entry(call.to_owned()).or_default().push_back(fate);
    }

    /// Cuts or heals the connection: hosts stop responding, the facts stay; healed, all is read anew.
    pub fn set_away(&self, away: bool) {
        self.mode.send_replace(if away { Mode::Away } else { Mode::Here });
        let connection = if away { Connection::NotResponding } else { Connection::Connected };
        let _order = self.publishing.lock();
        let world = self.world.lock();
        let mut puts: Vec<Put> = world
            .hosts
            .iter()
            .map(|host| Put::Slots(*host, vec![(self.slots.host_connection, (connection as i32).into())]))
            .collect();
        if !away {
            let held = world.vms.iter().filter(|(id, _)| self.claims.holds(**id));
            puts.extend(held.map(|(id, vm)| Put::Whole(*id, vm.record.clone())));
        }
        drop(world);
        self.inventory.apply(puts);
    }

    /// Calls are taken and not answered until this is taken back.
    pub fn set_hanging(&self, hanging: bool) {
        self.mode.send_replace(if hanging { Mode::Hanging } else { Mode::Here });
    }

    /// Changes a VM as somebody else would, behind the broker's back.
    pub fn meddle(&self, vm: ObjectId, call: &str) -> Result<(), Refusal> {
        if self.take_step(vm, call)? {
            self.publish(vm);
        }
        Ok(())
    }

    /// Takes a VM away as somebody else would, behind the broker's back.
    pub fn take_away(&self, vm: ObjectId) {
        let _order = self.publishing.lock();
        {
            let mut world = self.world.lock();
            world.own.remove(&vm);
            world.vms.remove(&vm);
        }
        self.let_go(vm);
    }

    /// The hypervisor no longer has a VM.
    fn let_go(&self, vm: ObjectId) {
        if self.claims.release(vm) == Released::Free {
            self.inventory.apply(vec![Put::Remove(vm)]);
        }
    }

    /// Shows the VMs that other targets let go of and this one has too.
    fn take_what_is_given(&self) {
        let (me, inbox) = (Weak::clone(&self.me), self.claims.inbox());
        tokio::spawn(async move {
            while let Some(id) = inbox.next().await {
                let Some(sim) = me.upgrade() else { return };
                sim.publish(id);
            }
        });
    }

    fn fate(&self, call: &str) -> Fate {
        let scripted = self.world.lock().script.get_mut(call).and_then(VecDeque::pop_front);
        scripted.unwrap_or_else(|| self.behaviour.fate(call, &*self.ids))
    }

    /// Waits out a hanging hypervisor; fails while it is away.
    async fn reachable(&self) -> Result<(), TargetError> {
        let mut mode = self.mode.subscribe();
        let mode = mode.wait_for(|m| *m != Mode::Hanging).await.map(|m| *m);
        match mode {
            Ok(Mode::Here) => Ok(()),
            _ => Err(TargetError::Unreachable(format!("the simulated hypervisor {} is away", self.name))),
        }
    }

    /// Takes the time a call takes, with progress on the way.
    async fn take_time(&self, call: &str, progress: &Progress) {
        let latency = self.behaviour.latency(call, &*self.ids);
        if latency.is_zero() {
            return;
        }
        for percent in [20, 40, 60, 80] {
            sleep(latency / 5).await;
            progress(percent);
        }
        sleep(latency / 5).await;
    }

    /// Changes the world by a call; whether there is something to tell yet.
    fn take_step(&self, vm: ObjectId, call: &str) -> Result<bool, Refusal> {
        let now = self.clock.now_ms();
        let mut world = self.world.lock();
        let Some(machine) = world.vms.get_mut(&vm) else {
            return Err(Refusal::State { call: call.to_owned(), state: "gone" });
        };
        match step(call, self.state_of(&machine.record))? {
            Step::Now { state, boot } => {
                self.enter(machine, state, boot, now);
                Ok(true)
            }
            Step::Guest { state, boot } => {
                let age = machine.age;
                drop(world);
                self.ask_guest(vm, age, state, boot);
                Ok(false)
            }
        }
    }

    /// The guest does what it was asked in its own time.
    fn ask_guest(&self, vm: ObjectId, age: u64, state: PowerState, boot: bool) {
        let (me, takes) = (Weak::clone(&self.me), Duration::from_millis(self.behaviour.guest_ms));
        tokio::spawn(async move {
            sleep(takes).await;
            let Some(sim) = me.upgrade() else { return };
            {
                let mut world = sim.world.lock();
                let Some(machine) = world.vms.get_mut(&vm).filter(|m| m.age == age) else { return };
                sim.enter(machine, state, boot, sim.clock.now_ms());
            }
            if let Err(error) = sim.log.note("guest", vm) {
                tracing::error!(%error, "an effect could not be logged");
            }
            sim.tell(vm);
        });
    }

    /// Sends the event of a changed VM, unless it is lost.
    fn tell(&self, vm: ObjectId) {
        let here = *self.mode.borrow() == Mode::Here;
        if here && !self.behaviour.loses_event(&*self.ids) {
            self.publish(vm);
        }
    }

    /// Puts what is true of an object now into the inventory. One at a time, so that what was true earlier never comes later.
    fn publish(&self, id: ObjectId) -> Revision {
        let _order = self.publishing.lock();
        let (own, record) = {
            let world = self.world.lock();
            (world.own.contains(&id), world.vms.get(&id).map(|m| m.record.clone()))
        };
        let put = match record {
            Some(record) => self.claims.take(id).then_some(Put::Whole(id, record)),
            None if id.kind == Kind::Vm => {
                self.let_go(id);
                None
            }
            None if own => None,
            None => Some(Put::Remove(id)),
        };
        self.inventory.apply(put.into_iter().collect())
    }

    /// Reads what the VMs use every so often.
    fn read_stats(&self) {
        let (me, every) = (Weak::clone(&self.me), Duration::from_secs(self.behaviour.stats_s));
        tokio::spawn(async move {
            loop {
                sleep(every).await;
                let Some(sim) = me.upgrade() else { return };
                if *sim.mode.borrow() == Mode::Here {
                    sim.stats();
                }
            }
        });
    }

    fn stats(&self) {
        let s = &self.slots;
        let _order = self.publishing.lock();
        let mut puts = Vec::new();
        for (id, machine) in &mut self.world.lock().vms {
            if self.state_of(&machine.record) != PowerState::Running {
                continue;
            }
            let cpus = machine.record.get(s.cpu_count).as_int().unwrap_or(1);
            let most = u64::try_from(cpus.saturating_mul(500)).unwrap_or(500);
            let cpu = Value::Int(i64::try_from(pick(&*self.ids, most)).unwrap_or(0));
            machine.record.set(s.cpu_usage_mhz, cpu.clone());
            if self.claims.holds(*id) {
                puts.push(Put::Slots(*id, vec![(s.cpu_usage_mhz, cpu)]));
            }
        }
        self.inventory.apply(puts);
    }
}

#[async_trait]
impl Target for Sim {
    fn protocol(&self) -> &str {
        "sim"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn holds(&self, id: ObjectId) -> bool {
        self.world.lock().own.contains(&id) && (id.kind != Kind::Vm || self.claims.holds(id))
    }

    async fn perform(
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
        let vm = call
            .args
            .iter()
            .find(|(name, _)| &**name == "vm")
            .and_then(|(_, v)| v.as_ref_id())
            .unwrap_or(object);
        let tells = self.take_step(vm, &call.call).map_err(|refusal| match refusal {
            Refusal::NoCall(call) => TargetError::Unsupported(call),
            Refusal::State { .. } => {
                TargetError::Failed { code: 2, means: Some(Code::InvalidState), message: refusal.to_string() }
            }
        })?;
        let Some(sim) = self.me.upgrade() else {
            return Err(TargetError::Lost("the simulation ended".to_owned()));
        };
        let noted = tokio::task::spawn_blocking({
            let (sim, call) = (Arc::clone(&sim), Arc::clone(&call.call));
            move || sim.log.note(&call, vm)
        });
        if let Ok(Err(error)) = noted.await {
            return Err(TargetError::Lost(format!("the effect could not be logged: {error}")));
        }
        if tells {
            self.tell(vm);
        }
        match fate {
            Fate::LoseReply => Err(TargetError::Lost("the answer was lost".to_owned())),
            _ => Ok(Value::Absent),
        }
    }

    async fn reread(&self, id: ObjectId, deadline: Instant) -> Result<Revision, TargetError> {
        timeout_at(deadline, self.reachable()).await.unwrap_or(Err(TargetError::TimedOut))?;
        let latency = self.behaviour.latency("Read", &*self.ids);
        if !latency.is_zero() {
            sleep(latency).await;
        }
        Ok(self.publish(id))
    }
}

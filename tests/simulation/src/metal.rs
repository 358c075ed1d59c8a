//! A paper hypervisor: what is true of its VMs, and a log of every effect it ever had. It outlives every agent.
//!
//! ```text
//! Bridge.perform ─ (unreachable) ─ the request may be lost ─▶ Metal.act: the effect, logged ─▶ the answer may be lost
//! Metal ─ event, which may be lost ─▶ the inventory of the agent that is alive
//! ```
//! A call has its effect within half a second of being sent or not at all, whether or not who sent it is still alive.

use crate::{life::Life, rng::Rng};
use async_trait::async_trait;
use inventory::{Inventory, Put, plan::Draft};
use lane::{NativeCall, Progress, Target, TargetError};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    fmt,
    future::pending,
    sync::{Arc, Weak},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};
use union::{
    Kind, ObjectId, Record, Schema, Value,
    command::{Code, Revision},
    pb::{Connection, PowerState},
};

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The call.
    pub call: String,
    /// On which VM.
    pub vm: ObjectId,
    /// What tells it apart from every other, where it has such a thing.
    pub token: String,
}

/// What is true of a VM.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its memory, bytes.
    pub memory: i64,
    /// Whether it has power.
    pub on: bool,
}

#[derive(Debug, Default)]
struct State {
    machines: BTreeMap<ObjectId, Machine>,
    log: Vec<Effect>,
    listeners: Vec<(Arc<Life>, Arc<Inventory>)>,
    /// In thousandths: unreachable, a lost request, a lost answer, a lost event, a plain no.
    faults: [u64; 5],
}

/// A paper hypervisor.
#[derive(Debug)]
pub struct Metal {
    /// Its name as a target.
    pub name: String,
    /// Its one host.
    pub host: ObjectId,
    rng: Arc<Rng>,
    schema: Arc<Schema>,
    state: Mutex<State>,
}

fn text(call: &NativeCall, name: &str) -> Option<String> {
    let value = call.args.iter().find(|(arg, _)| &**arg == name).map(|(_, value)| value)?;
    value.as_str().map(str::to_owned)
}

fn number(call: &NativeCall, name: &str) -> Option<i64> {
    call.args.iter().find(|(arg, _)| &**arg == name)?.1.as_int()
}

fn machine_of(call: &NativeCall) -> Option<ObjectId> {
    call.args.iter().find(|(arg, _)| &**arg == "vm")?.1.as_ref_id()
}

fn no(message: &str) -> TargetError {
    TargetError::Failed { code: 7, means: Some(Code::InvalidState), message: message.to_owned() }
}

impl Metal {
    /// A hypervisor with these VMs.
    pub fn new(name: &str, vms: &[ObjectId], schema: Arc<Schema>, rng: Arc<Rng>) -> Arc<Metal> {
        let host = ObjectId::derived(Kind::Host, &[name]);
        let machine = |id: &ObjectId| {
            let name = format!("vm-{}", id.uuid.as_u128());
            (*id, Machine { name, description: String::new(), memory: 1 << 30, on: false })
        };
        let state = State { machines: vms.iter().map(machine).collect(), ..State::default() };
        Arc::new(Metal { name: name.to_owned(), host, rng, schema, state: Mutex::new(state) })
    }

    /// How often things go wrong, in thousandths: unreachable, a lost request, a lost answer, a lost event, a plain no.
    pub fn set_faults(&self, faults: [u64; 5]) {
        self.state.lock().faults = faults;
    }

    /// Everything it ever did.
    pub fn log(&self) -> Vec<Effect> {
        self.state.lock().log.clone()
    }

    /// What is true of a VM.
    pub fn machine(&self, id: ObjectId) -> Option<Machine> {
        self.state.lock().machines.get(&id).cloned()
    }

    /// Somebody renames a VM behind everybody's back.
    pub fn meddle(&self, id: ObjectId, name: &str) {
        if let Some(machine) = self.state.lock().machines.get_mut(&id) {
            machine.name = name.to_owned();
        }
        self.tell(id);
    }

    fn fails(&self, which: usize) -> bool {
        let of = self.state.lock().faults.get(which).copied().unwrap_or(0);
        self.rng.chance(of)
    }

    /// The effect of a call.
    fn act(&self, call: &NativeCall) -> Result<ObjectId, TargetError> {
        let vm = machine_of(call).ok_or_else(|| no("which VM?"))?;
        let mut state = self.state.lock();
        let token = text(call, "token").unwrap_or_default();
        let there = state.machines.contains_key(&vm);
        match (&*call.call, state.machines.get_mut(&vm)) {
            ("Create", Some(_)) => return Err(no("there is such a VM already")),
            ("Create", None) => {
                let machine =
                    Machine { name: token.clone(), description: String::new(), memory: 1 << 30, on: false };
                state.machines.insert(vm, machine);
            }
            (_, None) => return Err(no("there is no such VM")),
            ("Destroy", Some(machine)) if machine.on => return Err(no("it has power")),
            ("Destroy", Some(_)) => drop(state.machines.remove(&vm)),
            ("PowerOn", Some(machine)) if machine.on => return Err(no("it runs")),
            ("PowerOn", Some(machine)) => machine.on = true,
            ("PowerOff", Some(machine)) if !machine.on => return Err(no("it does not run")),
            ("PowerOff", Some(machine)) => machine.on = false,
            ("Reset", Some(machine)) if !machine.on => return Err(no("it does not run")),
            ("Reset", Some(_)) => {}
            ("Resize", Some(machine)) => machine.memory = number(call, "bytes").unwrap_or(machine.memory),
            ("Describe", Some(machine)) => machine.description = token.clone(),
            ("Rename", Some(machine)) => machine.name = token.clone(),
            (other, Some(_)) => return Err(TargetError::Unsupported(other.to_owned())),
        }
        debug_assert!(there || &*call.call == "Create");
        tracing::debug!(metal = %self.name, call = %call.call, %vm, token, "an effect");
        state.log.push(Effect { call: call.call.to_string(), vm, token });
        Ok(vm)
    }

    /// Whether a VM is as a call would make it.
    fn is_so(&self, call: &NativeCall) -> Option<bool> {
        let machine = self.machine(machine_of(call)?);
        match &*call.call {
            "Resize" => Some(machine?.memory == number(call, "bytes")?),
            "Describe" => Some(machine?.description == text(call, "token")?),
            "Rename" => Some(machine?.name == text(call, "token")?),
            "Create" => Some(machine.is_some()),
            "Destroy" => Some(machine.is_none()),
            _ => None,
        }
    }

    /// The facts of an object; `None`: it is not there.
    fn record(&self, id: ObjectId) -> Option<Record> {
        if id == self.host {
            let host = Draft::new(&self.schema, Kind::Host)
                .with("name", self.name.clone())
                .with("memory_bytes", 64_i64 << 30)
                .with("connection", Connection::Connected as i32);
            return Some(host.done());
        }
        let machine = self.machine(id)?;
        let power = if machine.on { PowerState::Running } else { PowerState::Stopped };
        let vm = Draft::new(&self.schema, Kind::Vm)
            .with("name", machine.name)
            .with("description", machine.description)
            .with("memory_bytes", machine.memory)
            .with("host_id", self.host)
            .with("power_state", power as i32);
        Some(vm.done())
    }

    fn put(&self, id: ObjectId) -> Put {
        self.record(id).map_or(Put::Remove(id), |record| Put::Whole(id, record))
    }

    /// Tells the agent that listens.
    fn tell(&self, id: ObjectId) {
        let lost = self.fails(3);
        let listeners = {
            let mut state = self.state.lock();
            state.listeners.retain(|(life, _)| !life.is_over());
            state.listeners.clone()
        };
        for (_, inventory) in listeners.iter().filter(|_| !lost) {
            inventory.apply(vec![self.put(id)]);
        }
    }

    /// Gives an agent everything, and tells it what changes.
    pub fn connect(self: &Arc<Self>, life: &Arc<Life>, inventory: &Arc<Inventory>) -> Arc<Bridge> {
        let all: Vec<ObjectId> = self.state.lock().machines.keys().copied().chain([self.host]).collect();
        inventory.apply(all.into_iter().map(|id| self.put(id)).collect());
        self.state.lock().listeners.push((Arc::clone(life), Arc::clone(inventory)));
        Arc::new(Bridge {
            metal: Arc::clone(self),
            life: Arc::clone(life),
            inventory: Arc::downgrade(inventory),
        })
    }
}

/// An agent's driver of a paper hypervisor.
pub struct Bridge {
    metal: Arc<Metal>,
    life: Arc<Life>,
    inventory: Weak<Inventory>,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bridge({})", self.metal.name)
    }
}

#[async_trait]
impl Target for Bridge {
    fn protocol(&self) -> &str {
        "paper"
    }

    fn name(&self) -> &str {
        &self.metal.name
    }

    fn holds(&self, id: ObjectId) -> bool {
        id == self.metal.host || self.metal.machine(id).is_some()
    }

    async fn perform(
        &self,
        _object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
        _progress: Progress,
    ) -> Result<Value, TargetError> {
        self.life.alive().await;
        let metal = Arc::clone(&self.metal);
        if metal.fails(0) {
            return Err(TargetError::Unreachable("the paper hypervisor is away".to_owned()));
        }
        if metal.fails(4) {
            return Err(no("it does not feel like it"));
        }
        tracing::debug!(call = %call.call, metal = metal.name, "called");
        let (sender, answer) = oneshot::channel();
        let (call, lost_request, lost_answer) = (call.clone(), metal.fails(1), metal.fails(2));
        // It goes on when who asked dies.
        tokio::spawn(async move {
            sleep(metal.rng.ms(0, 200)).await;
            if lost_request {
                drop(sender);
                return;
            }
            let done = metal.act(&call);
            if let Ok(vm) = &done {
                metal.tell(*vm);
            }
            sleep(metal.rng.ms(0, 100)).await;
            if !lost_answer {
                // Who asked may have died.
                drop(sender.send(done));
            }
        });
        let answer = tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(TargetError::Lost("the paper link was cut".to_owned()))),
            () = sleep_until(deadline) => Err(TargetError::TimedOut),
        };
        self.life.alive().await;
        answer.map(|_| Value::Absent)
    }

    async fn reread(&self, id: ObjectId, _deadline: Instant) -> Result<Revision, TargetError> {
        self.life.alive().await;
        sleep(self.metal.rng.ms(0, 10)).await;
        if self.metal.fails(0) {
            return Err(TargetError::Unreachable("the paper hypervisor is away".to_owned()));
        }
        self.life.alive().await;
        let Some(inventory) = self.inventory.upgrade() else { return pending().await };
        Ok(inventory.apply(vec![self.metal.put(id)]))
    }

    async fn effective(
        &self,
        _object: ObjectId,
        call: &NativeCall,
        _deadline: Instant,
    ) -> Result<Option<bool>, TargetError> {
        self.life.alive().await;
        tracing::debug!(call = %call.call, so = ?self.metal.is_so(call), "looked at");
        Ok(self.metal.is_so(call))
    }
}

//! A hypervisor: the simulated target's world, which outlives every agent, and an agent's driver of it, behind a wire that is cut at times.
//!
//! ```text
//! Bridge.perform ─ (unreachable) ─▶ Sim ─▶ World: fate, time, effect, log ─▶ the answer, a little later
//! World ─ event, which may be lost ─▶ the Sim that is attached, of the agent that is alive
//! ```
//! A call has its effect within half a second of being sent or not at all, whether or not who sent it is still alive.

use crate::{check::Watch, flaw::Flaw, life::Life, rng::Rng, world::PROTOCOL};
use async_trait::async_trait;
use inventory::Inventory;
use lane::{NativeCall, Progress, StepKind, Target, TargetError};
use parking_lot::Mutex;
use sim::{Behaviour, Config, Sim, SimError, Source, World, fault::Chances, task::Effect};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};
use union::{Clock, Ids, Kind, ObjectId, Schema, Value, command::Revision, pb::PowerState};

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

/// How long ago a fresh look may be that a call relies on.
const FRESH: Duration = Duration::from_millis(150);

/// What was called, to tell whether it relied on what was so.
#[derive(Debug, Default)]
struct Seen {
    /// The names that a VM had by hand, and since when.
    names: BTreeMap<ObjectId, Vec<(Instant, String)>>,
    /// When the first step of a command was called, by what it describes.
    first: BTreeMap<String, Instant>,
}

/// A hypervisor.
#[derive(Debug)]
pub struct Metal {
    /// Its name as a target.
    pub name: String,
    /// Its one host.
    pub host: ObjectId,
    world: Arc<World>,
    sim: Mutex<Option<Arc<Sim>>>,
    rng: Arc<Rng>,
    schema: Arc<Schema>,
    watch: Arc<Watch>,
    flaw: Option<Flaw>,
    /// How often it cannot be reached, in thousandths.
    unreachable: AtomicU64,
    seen: Mutex<Seen>,
}

/// What a hypervisor is made of.
#[derive(Debug)]
pub struct Parts {
    /// The union.
    pub schema: Arc<Schema>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub rng: Arc<Rng>,
    /// Looks on.
    pub watch: Arc<Watch>,
    /// What is wrong with its driver.
    pub flaw: Option<Flaw>,
}

fn arg<'c>(call: &'c NativeCall, name: &str) -> Option<&'c Value> {
    call.args.iter().find(|(arg, _)| &**arg == name).map(|(_, value)| value)
}

fn text<'c>(call: &'c NativeCall, name: &str) -> Option<&'c str> {
    arg(call, name).and_then(Value::as_str)
}

/// Whether an effect was made with this argument.
pub fn says(effect: &Effect, name: &str, value: &str) -> bool {
    let wanted = format!("{name}={}", value.replace(char::is_whitespace, "_"));
    effect.said.split(',').any(|said| *said == *wanted)
}

fn behaviour(trouble: bool) -> Behaviour {
    let of = |chance: f64| if trouble { chance } else { 0.0 };
    let all = Chances {
        latency_ms: Some((0, 200)),
        fail: of(0.05),
        lose_request: of(0.02),
        lose_reply: of(0.03),
        hang: of(0.004),
    };
    let read = Chances { latency_ms: Some((0, 10)), ..Chances::default() };
    Behaviour { all, calls: [("Read".to_owned(), read)].into(), lose_event: of(0.1), ..Behaviour::default() }
}

impl Metal {
    /// A hypervisor with these VMs. Must be called within a runtime.
    ///
    /// # Errors
    /// The simulated target does not take them.
    pub fn new(name: &str, vms: &[ObjectId], parts: Parts) -> Result<Arc<Metal>, SimError> {
        let Parts { schema, clock, rng, watch, flaw } = parts;
        let mut file = format!("[[host]]\nname = \"{name}\"\n");
        for vm in vms {
            file += &format!(
                "[[vm]]\nname = \"vm-{}\"\nuuid = \"{}\"\nhost = \"{name}\"\npower = \"stopped\"\nmemory_mib = 1024\n",
                vm.uuid.as_u128(),
                vm.uuid
            );
        }
        let config = Config {
            name: name.to_owned(),
            source: Source::Text(file),
            behaviour: Some(behaviour(false)),
            effect_log: None,
        };
        let ids = Arc::clone(&rng) as Arc<dyn Ids>;
        Ok(Arc::new(Metal {
            name: name.to_owned(),
            host: ObjectId::derived(Kind::Host, &[name, name]),
            world: World::open(config, &schema, &clock, &ids)?,
            sim: Mutex::default(),
            rng,
            schema,
            watch,
            flaw,
            unreachable: AtomicU64::new(0),
            seen: Mutex::default(),
        }))
    }

    /// Things go wrong from now on, or no longer.
    pub fn set_trouble(&self, trouble: bool) {
        self.world.behave(behaviour(trouble));
        self.unreachable.store(if trouble { 20 } else { 0 }, Ordering::Relaxed);
    }

    /// The agent that is attached loses sight of it, or finds it again.
    pub fn set_away(&self, away: bool) {
        let sim = self.sim.lock().clone();
        if let Some(sim) = sim {
            sim.set_away(away);
        }
    }

    /// Everything it ever did.
    pub fn log(&self) -> Vec<Effect> {
        self.world.effects()
    }

    /// What is true of a VM.
    pub fn machine(&self, id: ObjectId) -> Option<Machine> {
        let record = self.world.record(id)?;
        let field = |name: &str| self.schema.slot(Kind::Vm, name).map(|slot| record.get(slot).clone());
        let text = |name: &str| field(name).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        Some(Machine {
            name: text("name"),
            description: text("description"),
            memory: field("memory_bytes").and_then(|v| v.as_int()).unwrap_or(0),
            on: field("power_state").and_then(|v| v.as_int()) == Some(i64::from(PowerState::Running as i32)),
        })
    }

    /// Somebody renames a VM behind everybody's back.
    pub fn meddle(&self, id: ObjectId, name: &str) {
        let args = vec![(Arc::from("name"), Value::from(name))];
        let is = StepKind::Idempotent;
        let call = NativeCall { call: Arc::from("RenameVm"), args, is, undo: None, script: None };
        if let Err(refusal) = self.world.by_hand(id, &call) {
            self.watch.broken(format!("{id} cannot be renamed by hand: {refusal}"));
        }
        let mut seen = self.seen.lock();
        seen.names.entry(id).or_default().push((Instant::now(), name.to_owned()));
    }

    /// Notes a call, and whether what it relies on was so when the lane looked.
    fn note(&self, call: &NativeCall) {
        self.watch.tell(|| format!("{} is asked to {} {:?}", self.name, call.call, call.args));
        let (Some(vm), Some(relied)) =
            (arg(call, "vm").and_then(Value::as_ref_id), text(call, "change_version"))
        else {
            return;
        };
        let mut seen = self.seen.lock();
        let now = Instant::now();
        let Some(described) = text(call, "description") else {
            seen.first.entry(relied.to_owned()).or_insert(now);
            return;
        };
        let looked = seen.first.get(described).copied().unwrap_or(now);
        let Some(names) = seen.names.get(&vm) else { return };
        // A name was so until the next one was given.
        let Some(at) = names.iter().rposition(|(_, name)| *name == *relied) else {
            if let Some((first, _)) = names.first()
                && *first + FRESH < looked
            {
                self.watch.broken(format!(
                    "`{described}` relies on the name `{relied}`, which was given up before"
                ));
            }
            return;
        };
        if let Some((until, _)) = names.get(at + 1)
            && *until + FRESH < looked
        {
            self.watch.broken(format!(
                "`{described}` relies on the name `{relied}`, which was given up {:?} before",
                looked - *until
            ));
        }
    }

    /// Gives an agent everything, and tells it what changes.
    pub fn connect(self: &Arc<Self>, life: &Arc<Life>, inventory: &Arc<Inventory>) -> Arc<Bridge> {
        let sim = sim::attach(&self.name, Arc::clone(&self.world), inventory);
        *self.sim.lock() = Some(Arc::clone(&sim));
        Arc::new(Bridge {
            metal: Arc::clone(self),
            life: Arc::clone(life),
            sim,
            inventory: Arc::clone(inventory),
        })
    }
}

/// An agent's driver of a hypervisor.
pub struct Bridge {
    metal: Arc<Metal>,
    life: Arc<Life>,
    sim: Arc<Sim>,
    inventory: Arc<Inventory>,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bridge({})", self.metal.name)
    }
}

impl Bridge {
    fn reachable(&self) -> Result<(), TargetError> {
        if self.metal.rng.chance(self.metal.unreachable.load(Ordering::Relaxed)) {
            return Err(TargetError::Unreachable("the wire to the hypervisor is cut".to_owned()));
        }
        Ok(())
    }

    async fn call(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<Value, TargetError> {
        self.metal.note(call);
        let (sender, answer) = oneshot::channel();
        let (sim, rng) = (Arc::clone(&self.sim), Arc::clone(&self.metal.rng));
        let (call, progress) = (call.clone(), Arc::clone(progress));
        // It goes on when who asked dies.
        tokio::spawn(async move {
            let done = sim.perform(object, &call, deadline, progress).await;
            sleep(rng.ms(0, 100)).await;
            // Who asked may have died.
            drop(sender.send(done));
        });
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(TargetError::Lost("the wire was cut".to_owned()))),
            () = sleep_until(deadline) => Err(TargetError::TimedOut),
        }
    }
}

#[async_trait]
impl Target for Bridge {
    fn protocol(&self) -> &str {
        PROTOCOL
    }

    fn name(&self) -> &str {
        &self.metal.name
    }

    fn holds(&self, id: ObjectId) -> bool {
        self.sim.holds(id)
    }

    async fn perform(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
        progress: Progress,
    ) -> Result<Value, TargetError> {
        self.life.alive().await;
        self.reachable()?;
        if self.metal.flaw == Some(Flaw::DropsUndo) && text(call, "change_version") == Some("undo") {
            return Ok(Value::Absent);
        }
        let mut answer = self.call(object, call, deadline, &progress).await;
        if self.metal.flaw == Some(Flaw::Resends) && answer.as_ref().is_err_and(TargetError::is_ambiguous) {
            answer = self.call(object, call, deadline, &progress).await;
        }
        self.life.alive().await;
        answer
    }

    async fn reread(&self, id: ObjectId, deadline: Instant) -> Result<Revision, TargetError> {
        self.life.alive().await;
        self.reachable()?;
        if self.metal.flaw == Some(Flaw::DoesNotLook) && self.metal.rng.chance(500) {
            return Ok(self.inventory.revision());
        }
        let read = self.sim.reread(id, deadline).await;
        self.life.alive().await;
        read
    }

    async fn effective(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
    ) -> Result<Option<bool>, TargetError> {
        self.life.alive().await;
        let so = self.sim.effective(object, call, deadline).await;
        tracing::debug!(call = %call.call, ?so, "looked at");
        self.life.alive().await;
        so
    }
}

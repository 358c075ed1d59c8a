//! The simulated hypervisor as a target in the agent's own process.
//!
//! The [`World`] is what is true of the VMs; the agent's inventory learns it by events, which may be lost, and by fresh looks.

pub use crate::world::{Config, SimError, Source};
use crate::{
    fault::Fate,
    native::Refusal,
    task::Effect,
    world::{Mode, World},
};
use async_trait::async_trait;
use inventory::{Claims, Inventory, Put, Released};
use lane::{NativeCall, Progress, Target, TargetError};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use tokio::time::Instant;
use union::{Clock, Ids, Kind, ObjectId, Value, command::Revision, pb::Connection};

/// A running simulation.
#[derive(Debug)]
pub struct Sim {
    me: Weak<Sim>,
    name: String,
    inventory: Arc<Inventory>,
    claims: Claims,
    world: Arc<World>,
    publishing: Mutex<()>,
}

/// Sets a simulation up and fills the inventory. Must be called within a tokio runtime.
///
/// # Errors
/// Its file or its effect log cannot be used.
pub fn connect(
    config: Config,
    inventory: &Arc<Inventory>,
    clock: &Arc<dyn Clock>,
    ids: &Arc<dyn Ids>,
) -> Result<Arc<Sim>, SimError> {
    let name = config.name.clone();
    Ok(attach(&name, World::open(config, inventory.schema(), clock, ids)?, inventory))
}

/// Makes a world a target of an agent, and fills its inventory. A world that outlives its agent, as a hypervisor does, is attached to the
/// next one. Must be called within a tokio runtime.
pub fn attach(name: &str, world: Arc<World>, inventory: &Arc<Inventory>) -> Arc<Sim> {
    let claims = Claims::new(inventory, name);
    let sim = Arc::new_cyclic(|me| Sim {
        me: Weak::clone(me),
        name: name.to_owned(),
        claims,
        inventory: Arc::clone(inventory),
        world,
        publishing: Mutex::default(),
    });
    let me = Arc::downgrade(&sim);
    sim.world.tell_to(Arc::new(move |id| {
        if let Some(sim) = me.upgrade() {
            sim.publish(id);
        }
    }));
    {
        let _order = sim.publishing.lock();
        let objects = sim.world.objects().into_iter();
        let held = objects.filter(|(id, _)| id.kind != Kind::Vm || sim.claims.take(*id));
        sim.inventory.apply(held.map(|(id, record)| Put::Whole(id, record)).collect());
    }
    sim.take_what_is_given();
    sim
}

impl Sim {
    /// What is true, whoever looks.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// What it did, oldest first.
    pub fn effects(&self) -> Vec<Effect> {
        self.world.effects()
    }

    /// The next call of this name meets this fate; several queue up.
    pub fn script(&self, call: &str, fate: Fate) {
        self.world.script(call, fate);
    }

    /// Cuts or heals the connection: hosts stop responding, the facts stay; healed, all is read anew.
    pub fn set_away(&self, away: bool) {
        self.world.mode.send_replace(if away { Mode::Away } else { Mode::Here });
        let connection = if away { Connection::NotResponding } else { Connection::Connected };
        let _order = self.publishing.lock();
        let slot = self.world.slots.host_connection;
        let hosts = self.world.hosts().into_iter();
        let mut puts: Vec<Put> =
            hosts.map(|host| Put::Slots(host, vec![(slot, (connection as i32).into())])).collect();
        if !away {
            let vms = self.world.objects().into_iter().filter(|(id, _)| self.claims.holds(*id));
            puts.extend(vms.map(|(id, record)| Put::Whole(id, record)));
        }
        self.inventory.apply(puts);
    }

    /// Calls are taken and not answered until this is taken back.
    pub fn set_hanging(&self, hanging: bool) {
        self.world.mode.send_replace(if hanging { Mode::Hanging } else { Mode::Here });
    }

    /// Changes a VM as somebody else would, behind the broker's back.
    ///
    /// # Errors
    /// Why it is not possible.
    pub fn meddle(&self, vm: ObjectId, call: &str) -> Result<(), Refusal> {
        if self.world.meddle(vm, call)? {
            self.publish(vm);
        }
        Ok(())
    }

    /// Takes a VM away as somebody else would, behind the broker's back.
    pub fn take_away(&self, vm: ObjectId) {
        let _order = self.publishing.lock();
        self.world.take_away(vm);
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

    /// Puts what is true of an object now into the inventory. One at a time, so that what was true earlier never comes later.
    fn publish(&self, id: ObjectId) -> Revision {
        let _order = self.publishing.lock();
        if id.kind != Kind::Vm {
            let gone = !self.world.has(id);
            return self.inventory.apply(gone.then_some(Put::Remove(id)).into_iter().collect());
        }
        let put = match self.world.record(id) {
            Some(record) => self.claims.take(id).then_some(Put::Whole(id, record)),
            None => {
                self.let_go(id);
                None
            }
        };
        self.inventory.apply(put.into_iter().collect())
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
        self.world.has(id) && (id.kind != Kind::Vm || self.claims.holds(id))
    }

    async fn perform(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
        progress: Progress,
    ) -> Result<Value, TargetError> {
        self.world.perform(object, call, deadline, progress).await
    }

    async fn reread(&self, id: ObjectId, deadline: Instant) -> Result<Revision, TargetError> {
        self.world.look(deadline).await?;
        Ok(self.publish(id))
    }

    async fn effective(
        &self,
        object: ObjectId,
        call: &NativeCall,
        deadline: Instant,
    ) -> Result<Option<bool>, TargetError> {
        self.world.look(deadline).await?;
        Ok(self.world.effective(object, call))
    }
}

//! Asks libvirt and puts what it says into the inventory, object by object. One read of an object at a time, so that an older answer
//! never overwrites a newer one; who waits for his turn is content with a read that began after he asked (`gate`).
//!
//! A VM is read in one go: all questions at once, as many as the connection takes, to the domain as it is known; libvirt's drivers find a domain
//! by its uuid, and its document tells its name. Of a VM that is known, what its start or stop cannot have changed is left out after an event
//! that says no more than that ([`Extent::Run`]), and before a plan that relies on nothing of it; everything is read when a lane asks for an
//! effect, after all other events, and every minute.
//!
//! How a machine stands that a command starts or stops is put as soon as an event proves it, and read then (`heard`).
//!
//! The first time all is put at once, so that whoever watches sees a host with what is on it, not one VM after the other arrive.

mod figures;
mod gate;
mod heard;
mod places;
mod sizes;
mod vm;

use crate::{
    inventory::{Names, domain::Surroundings, get, host, owned, stats::Sample},
    native::{
        api::{Api, Handle},
        call::CallError,
        uri::Uri,
    },
    tables::Tables,
};
use gate::{Gate, Gates};
pub use heard::UnderWay;
use heard::{Heard, Mark};
use inventory::{Claims, Inventory, Put, Released, claims::Inbox};
use mapping::edit::DocumentMap;
use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use sizes::Elsewhere;
use std::sync::Arc;
use union::{Clock, Kind, ObjectId, Record, Schema, Value, command::Revision, pb::Connection};
use uuid::Uuid;

/// How much of a VM is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// What its start or its stop may have changed.
    Run,
    /// Everything.
    Whole,
}

/// What a read came to.
pub struct Reread {
    /// What holds it.
    pub revision: Revision,
    /// Of a read of the host.
    pub places: Option<Places>,
}

/// What a read of the host and of the places around the VMs came to.
pub struct Places {
    /// The domains there are.
    pub domains: Vec<Handle>,
    /// The places are not what they were, and VMs may show that.
    pub changed: bool,
    revision: Revision,
}

/// What a target knows of its libvirt, over all its connections.
pub struct Reader {
    target: String,
    uri: Arc<Uri>,
    rows: Arc<DocumentMap>,
    tables: Arc<Tables>,
    inventory: Arc<Inventory>,
    claims: Claims,
    /// What the first reading has found so far.
    first: Mutex<Option<Vec<Put>>>,
    clock: Arc<dyn Clock>,
    schema: Arc<Schema>,
    api: RwLock<Option<Api>>,
    names: RwLock<Option<Names>>,
    answers: RwLock<Option<Arc<host::Answers>>>,
    held: RwLock<FxHashSet<ObjectId>>,
    around: RwLock<Arc<Surroundings>>,
    /// VMs whose start was told since they were last read.
    started: Mutex<FxHashMap<Uuid, i64>>,
    samples: Mutex<FxHashMap<ObjectId, Sample>>,
    /// VMs whose disks' sizes libvirt could not tell in time; asked again after their next stop.
    slow: Mutex<FxHashSet<ObjectId>>,
    gates: Gates,
    heard: Heard,
}

impl Reader {
    pub fn new(
        target: String,
        uri: Arc<Uri>,
        rows: Arc<DocumentMap>,
        tables: Arc<Tables>,
        inventory: Arc<Inventory>,
        clock: Arc<dyn Clock>,
    ) -> Reader {
        let schema = inventory.schema().clone();
        let claims = Claims::new(&inventory, &target);
        Reader {
            target,
            uri,
            rows,
            tables,
            inventory,
            claims,
            first: Mutex::default(),
            clock,
            schema,
            api: RwLock::new(None),
            names: RwLock::new(None),
            answers: RwLock::new(None),
            held: RwLock::default(),
            around: RwLock::default(),
            started: Mutex::default(),
            samples: Mutex::default(),
            slow: Mutex::default(),
            gates: Gates::default(),
            heard: Heard::default(),
        }
    }

    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The rows of a domain's document.
    pub fn rows(&self) -> &DocumentMap {
        &self.rows
    }

    /// The time of what is read.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// What makes the ids, once the host has been read.
    pub fn known_names(&self) -> Option<Names> {
        self.names.read().clone()
    }

    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inventory
    }

    /// The session's questions; `None`: there is no session in step.
    pub fn api(&self) -> Option<Api> {
        self.api.read().clone()
    }

    /// From now on this session is in step, or none is.
    pub fn set_api(&self, api: Option<Api>) {
        *self.api.write() = api;
    }

    pub fn host(&self) -> Option<ObjectId> {
        self.names.read().as_ref().map(Names::host)
    }

    pub fn holds(&self, id: ObjectId) -> bool {
        self.held.read().contains(&id) || self.claims.holds(id)
    }

    /// Everything is about to be read; what has never been put is put at once when it is complete.
    pub fn begin(&self) {
        let known = self.host().is_some_and(|host| self.inventory.record(host).is_some());
        *self.first.lock() = (!known).then(Vec::new);
    }

    /// Everything has been read.
    pub fn complete(&self) {
        let mut first = self.first.lock();
        if let Some(found) = first.take() {
            self.inventory.apply(found);
        }
    }

    fn apply(&self, puts: Vec<Put>) -> Revision {
        match &mut *self.first.lock() {
            Some(found) => {
                found.extend(puts);
                self.inventory.revision()
            }
            None => self.inventory.apply(puts),
        }
    }

    /// Where it is told which VMs it has come to hold, because another target let go of them.
    pub fn inbox(&self) -> Arc<Inbox> {
        self.claims.inbox()
    }

    fn names(&self) -> Result<Names, CallError> {
        let names = self.names.read().clone();
        names.ok_or_else(|| CallError::NotSent("the host has not been read yet".into()))
    }

    /// Puts objects whose facts are all libvirt's.
    fn put(&self, objects: Vec<(ObjectId, Record)>) -> Revision {
        self.held.write().extend(objects.iter().map(|(id, _)| *id));
        let puts = objects.into_iter().map(|(id, record)| {
            let slots = owned(&self.schema, id.kind, &[]);
            Put::Part(id, record, slots)
        });
        self.apply(puts.collect())
    }

    fn remove(&self, ids: &[ObjectId]) -> Revision {
        let mut held = self.held.write();
        let gone: Vec<ObjectId> = ids.iter().copied().filter(|id| held.remove(id)).collect();
        drop(held);
        self.samples.lock().retain(|id, _| !gone.contains(id));
        self.slow.lock().retain(|id| !gone.contains(id));
        self.apply(gone.into_iter().map(Put::Remove).collect())
    }

    fn held(&self, kind: Kind) -> Vec<ObjectId> {
        self.held.read().iter().filter(|id| id.kind == kind).copied().collect()
    }

    /// The host's answers, asked once until they are forgotten: they hardly change, and some take libvirt long.
    pub async fn host_answers(&self, api: &Api) -> Result<Arc<host::Answers>, CallError> {
        if let Some(known) = self.answers.read().clone() {
            return Ok(known);
        }
        let answers = Arc::new(host::Answers {
            node: api.node().await?,
            capabilities: api.capabilities().await?,
            sysinfo: api.sysinfo().await?,
            devices: api.network_devices().await?,
        });
        *self.answers.write() = Some(answers.clone());
        Ok(answers)
    }

    /// The host is asked again at the next read.
    pub fn forget_host(&self) {
        *self.answers.write() = None;
    }

    fn readable<T, E: std::fmt::Display>(&self, read: Result<T, E>, what: &str, name: &str) -> Option<T> {
        read.inspect_err(
            |error| tracing::warn!(target = %self.target, what, name, %error, "a description cannot be read"),
        )
        .ok()
    }

    /// Reads one object again.
    pub async fn reread(&self, api: &Api, id: ObjectId, extent: Extent) -> Result<Reread, CallError> {
        let gate = self.gates.of(id);
        let read = match id.kind {
            Kind::Vm => {
                let revision = self.reread_once(api, &gate, id.uuid, extent).await;
                revision.map(|revision| Reread { revision, places: None })
            }
            // Places around the VMs are few and told by rare events: all of them are read.
            _ => {
                let _one = gate.turn().await;
                let places = self.surroundings(api).await;
                places.map(|places| Reread { revision: places.revision, places: Some(places) })
            }
        };
        self.gates.leave(id, gate);
        read
    }

    /// Reads a VM, unless somebody else does so after this was asked.
    async fn reread_once(
        &self,
        api: &Api,
        gate: &Gate,
        uuid: Uuid,
        extent: Extent,
    ) -> Result<Revision, CallError> {
        let asked = gate.asked();
        let mut turn = gate.turn().await;
        if let Some(revision) = turn.read_since(asked, extent) {
            return Ok(revision);
        }
        let vm = ObjectId::new(Kind::Vm, uuid);
        loop {
            let (began, mark) = (gate.begin(), self.heard.mark(vm));
            if let Some(revision) = self.reread_vm(api, uuid, extent, mark).await? {
                turn.end(began, extent, revision);
                return Ok(revision);
            }
        }
    }

    /// What libvirt is asked about a VM by, if it is known. The name is that of the last read: a domain is found by its uuid.
    pub fn handle(&self, vm: ObjectId) -> Option<Handle> {
        let record = self.inventory.record(vm)?;
        Handle::new(get(&self.schema, &record, "name").as_str()?, vm.uuid)
    }

    /// Reads a VM; it is removed if libvirt has none with this uuid. `None`: what was read may be older than what an event has told since.
    async fn reread_vm(
        &self,
        api: &Api,
        uuid: Uuid,
        extent: Extent,
        mark: Mark,
    ) -> Result<Option<Revision>, CallError> {
        let names = self.names()?;
        let known = self.handle(names.vm(uuid));
        let (handle, extent) = match known {
            Some(handle) => (Some(handle), extent),
            None => (api.domain(uuid).await?, Extent::Whole),
        };
        match handle {
            Some(handle) => match self.read_vm(api, &names, &handle, extent, mark).await {
                // It is gone, or went while it was read.
                Err(error) if error.native_code() == Some(crate::native::api::NO_DOMAIN) => {
                    Ok(self.remove_vm(&names, uuid, mark))
                }
                read => read,
            },
            None => Ok(self.remove_vm(&names, uuid, mark)),
        }
    }

    fn snapshots_of(&self, vm: ObjectId) -> Vec<ObjectId> {
        let mut found = Vec::new();
        if let Some(slot) = self.schema.slot(Kind::Snapshot, "vm_id") {
            self.inventory.referring(Kind::Snapshot, slot, vm, &mut found);
        }
        found
    }

    fn remove_vm(&self, names: &Names, uuid: Uuid, mark: Mark) -> Option<Revision> {
        let vm = names.vm(uuid);
        self.heard.turn(vm, mark)?.gone(vm);
        self.started.lock().remove(&uuid);
        let mut gone = self.snapshots_of(vm);
        match self.claims.release(vm) {
            Released::Free => {}
            // It was never here, and what is known of it is another's.
            Released::Unknown if !self.held.read().contains(&vm) => return Some(self.inventory.revision()),
            Released::Unknown => {}
            Released::Kept => {
                // Another has it: its facts and its snapshots are that one's from now on.
                self.held.write().retain(|id| *id != vm && !gone.contains(id));
                return Some(self.inventory.revision());
            }
        }
        gone.push(vm);
        // Also what was given here and never read.
        self.held.write().insert(vm);
        Some(self.remove(&gone))
    }

    /// The VMs claimed here that are not among `domains`.
    pub fn missing(&self, domains: &[Handle]) -> Vec<ObjectId> {
        let named: FxHashSet<Uuid> = domains.iter().map(|d| d.uuid).collect();
        self.claims.all().into_iter().filter(|vm| !named.contains(&vm.uuid)).collect()
    }

    /// The target does not answer: its host, VMs and pools say so and keep their facts.
    pub fn mark_lost(&self, reason: &str) {
        self.set_api(None);
        *self.first.lock() = None;
        let lost = Value::Int(Connection::NotResponding as i64);
        let mut ids: FxHashSet<ObjectId> = self.held.read().clone();
        ids.extend(self.claims.all().into_iter().filter(|id| self.claims.holds(*id)));
        let puts = ids.into_iter().filter_map(|id| {
            let slot = self.schema.slot(id.kind, "connection")?;
            Some(Put::Slots(id, vec![(slot, lost.clone())]))
        });
        let puts: Vec<Put> = puts.collect();
        if !puts.is_empty() {
            tracing::warn!(target = %self.target, reason, "the target does not answer; its last known facts stay");
            self.inventory.apply(puts);
        }
    }
}

//! Asks libvirt and puts what it says into the inventory, object by object. One read of an object at a time, so that an older answer
//! never overwrites a newer one.
//!
//! The first time all is put at once, so that whoever watches sees a host with what is on it, not one VM after the other arrive.

mod figures;
mod places;

use crate::{
    inventory::{
        Names, document,
        domain::{self, Surroundings},
        get, host, owned, snapshot,
        stats::Sample,
    },
    native::{
        api::{Api, Handle, Sizes},
        call::CallError,
        uri::Uri,
    },
    tables::Tables,
};
use inventory::{Claims, Inventory, Put, Released, claims::Inbox};
use mapping::edit::{DocumentMap, Tree};
use parking_lot::{Mutex, RwLock};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::HashMap, sync::Arc, time::Duration};
use union::{
    Clock, Kind, ObjectId, Record, Schema, SlotSet, Value,
    command::Revision,
    pb::{Connection, PowerState},
};
use uuid::Uuid;

/// How long a disk's size is waited for.
const SIZE_PATIENCE: Duration = Duration::from_secs(1);

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
    locks: Mutex<FxHashMap<ObjectId, Arc<tokio::sync::Mutex<()>>>>,
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
            locks: Mutex::default(),
        }
    }

    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The rows of a domain's document.
    pub fn rows(&self) -> &DocumentMap {
        &self.rows
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

    fn lock(&self, id: ObjectId) -> Arc<tokio::sync::Mutex<()>> {
        self.locks.lock().entry(id).or_default().clone()
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
    pub async fn reread(&self, api: &Api, id: ObjectId) -> Result<Reread, CallError> {
        let lock = self.lock(id);
        let read = {
            let _one = lock.lock().await;
            match id.kind {
                Kind::Vm => {
                    let revision = self.reread_vm(api, id.uuid).await;
                    revision.map(|revision| Reread { revision, places: None })
                }
                // Places around the VMs are few and told by rare events: all of them are read.
                _ => {
                    let places = self.surroundings(api).await;
                    places.map(|places| Reread { revision: places.revision, places: Some(places) })
                }
            }
        };
        let mut locks = self.locks.lock();
        // Ours and the map's: nobody else waits for it.
        if Arc::strong_count(&lock) == 2 {
            locks.remove(&id);
        }
        read
    }

    /// Reads a VM; it is removed if libvirt has none with this uuid.
    async fn reread_vm(&self, api: &Api, uuid: Uuid) -> Result<Revision, CallError> {
        let names = self.names()?;
        match api.domain(uuid).await? {
            Some(handle) => match self.read_vm(api, &names, &handle).await {
                // It went while it was read.
                Err(error) if error.native_code() == Some(crate::native::api::NO_DOMAIN) => {
                    Ok(self.remove_vm(&names, uuid))
                }
                read => read,
            },
            None => Ok(self.remove_vm(&names, uuid)),
        }
    }

    fn snapshots_of(&self, vm: ObjectId) -> Vec<ObjectId> {
        let mut found = Vec::new();
        if let Some(slot) = self.schema.slot(Kind::Snapshot, "vm_id") {
            self.inventory.referring(Kind::Snapshot, slot, vm, &mut found);
        }
        found
    }

    fn remove_vm(&self, names: &Names, uuid: Uuid) -> Revision {
        let vm = names.vm(uuid);
        self.started.lock().remove(&uuid);
        let mut gone = self.snapshots_of(vm);
        match self.claims.release(vm) {
            Released::Free => {}
            // It was never here, and what is known of it is another's.
            Released::Unknown if !self.held.read().contains(&vm) => return self.inventory.revision(),
            Released::Unknown => {}
            Released::Kept => {
                // Another has it: its facts and its snapshots are that one's from now on.
                self.held.write().retain(|id| *id != vm && !gone.contains(id));
                return self.inventory.revision();
            }
        }
        gone.push(vm);
        // Also what was given here and never read.
        self.held.write().insert(vm);
        self.remove(&gone)
    }

    async fn read_vm(&self, api: &Api, names: &Names, handle: &Handle) -> Result<Revision, CallError> {
        let vm = names.vm(handle.uuid);
        if !self.claims.take(vm) {
            return Ok(self.inventory.revision());
        }
        let (xml, state, (snapshot_documents, current)) =
            tokio::try_join!(api.domain_xml(handle), api.domain_state(handle), api.snapshots(handle))?;
        let Some(document) = self.readable(document(&xml), "domain", &handle.name) else {
            return Ok(self.inventory.revision());
        };
        let Some(tree) = self.readable(Tree::parse(&xml), "domain", &handle.name) else {
            return Ok(self.inventory.revision());
        };
        let got = self.rows.get(&tree);
        for gap in &got.gaps {
            self.inventory.gaps().note("libvirt", &gap.path.to_string(), || {
                format!("{} of {}: {}", gap.value, handle.name, gap.why)
            });
        }
        self.note_bridges(names, document.root());
        let around = self.around.read().clone();
        if !self.tables.runs(state) {
            self.slow.lock().remove(&vm);
        }
        let sizes = self.sizes_elsewhere(api, handle, vm, &got.record, &around).await?;
        let snapshots = snapshot::lift(
            &self.schema,
            &self.tables,
            names,
            handle.uuid,
            &snapshot_documents,
            current.as_deref(),
        );
        let answers = domain::Answers {
            rows: got.record,
            document: &document,
            state,
            sizes,
            snapshots: &snapshots,
            started_ms: self.started_ms(vm, state),
        };
        let (record, slots) = domain::lift(&self.schema, &self.tables, names, handle.uuid, &around, answers);
        if let Some(reason) = api.connection.closed() {
            return Err(CallError::Lost(reason.to_string()));
        }
        Ok(self.put_vm(vm, record, slots, snapshots.records))
    }

    fn put_vm(
        &self,
        vm: ObjectId,
        record: Record,
        slots: SlotSet,
        snapshots: Vec<(ObjectId, Record)>,
    ) -> Revision {
        let kept: FxHashSet<ObjectId> = snapshots.iter().map(|(id, _)| *id).collect();
        let gone: Vec<ObjectId> = self.snapshots_of(vm).into_iter().filter(|id| !kept.contains(id)).collect();
        let mut held = self.held.write();
        held.insert(vm);
        held.extend(kept);
        held.retain(|id| !gone.contains(id));
        drop(held);
        let all = owned(&self.schema, Kind::Snapshot, &[]);
        let mut puts = vec![Put::Part(vm, record, slots)];
        puts.extend(snapshots.into_iter().map(|(id, record)| Put::Part(id, record, all)));
        puts.extend(gone.into_iter().map(Put::Remove));
        self.apply(puts)
    }

    /// When the running guest was started: told by an event, or seen between two reads; else what was known.
    fn started_ms(&self, vm: ObjectId, state: crate::native::api::State) -> Option<i64> {
        let told = self.started.lock().remove(&vm.uuid);
        let before = self.inventory.record(vm);
        let was = before.as_ref().and_then(|r| get(&self.schema, r, "power_state").as_int());
        let off = [PowerState::Stopped, PowerState::Suspended, PowerState::Crashed].map(|s| s as i64);
        let seen = (self.tables.runs(state) && was.is_some_and(|was| off.contains(&was)))
            .then(|| self.clock.now_ms());
        told.or(seen).or_else(|| before.and_then(|r| get(&self.schema, &r, "boot_time_ms").as_int()))
    }

    /// A lifecycle event said that the domain started.
    pub fn note_start(&self, uuid: Uuid) {
        self.started.lock().insert(uuid, self.clock.now_ms());
    }

    /// Sizes of the disks that no pool knows. Of a running VM libvirt asks its hypervisor's process, which may hang: then the sizes
    /// stay as they were.
    async fn sizes_elsewhere(
        &self,
        api: &Api,
        handle: &Handle,
        vm: ObjectId,
        record: &Record,
        around: &Surroundings,
    ) -> Result<HashMap<String, Sizes>, CallError> {
        let mut sizes = self.sizes_before(vm);
        let api = Api { patience: api.patience.min(SIZE_PATIENCE), ..api.clone() };
        let disks = get(&self.schema, record, "disks").clone();
        for disk in disks.items().iter().filter_map(Value::as_record) {
            let path = get(&self.schema, disk, "path").as_str();
            let Some(target) = get(&self.schema, disk, "id").as_str() else { continue };
            if path.is_some_and(|p| around.volumes.contains_key(p)) {
                continue;
            }
            if self.slow.lock().contains(&vm) {
                break;
            }
            match api.disk_sizes(handle, target).await {
                Ok(Some(found)) => {
                    sizes.insert(target.to_owned(), found);
                }
                Ok(None) => {}
                Err(CallError::TimedOut { .. }) => {
                    self.slow.lock().insert(vm);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sizes)
    }

    /// The sizes that a VM's disks were shown with; what they take is not shown a disk.
    fn sizes_before(&self, vm: ObjectId) -> HashMap<String, Sizes> {
        let Some(record) = self.inventory.record(vm) else { return HashMap::new() };
        let disks = get(&self.schema, &record, "disks").clone();
        let known = disks.items().iter().filter_map(Value::as_record).filter_map(|disk| {
            let target = get(&self.schema, disk, "id").as_str()?;
            let capacity = get(&self.schema, disk, "size_bytes").as_int()?;
            Some((target.to_owned(), Sizes { capacity, allocation: capacity, available: 0 }))
        });
        known.collect()
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

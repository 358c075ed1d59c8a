//! Placing: each item of a view as a pure function of the source.

use super::{
    Item, Memory, Puts, View,
    usage::{Usage, Used},
};
use crate::{plan, store::Entry};
use std::{collections::BTreeSet, sync::Arc};
use union::{
    Kind, ObjectId, Record, Slot, Value,
    pb::{Connection, FolderKind},
};

impl View {
    /// The ids of the cluster, or of a cluster's root pool, that the view makes for `of`. They follow from the view's name and `of`; the
    /// hash they are made with is worth remembering.
    fn made(&self, of: ObjectId) -> (ObjectId, ObjectId) {
        if let Some(known) = self.made.read().get(&of) {
            return *known;
        }
        let (owner, uuid) = (&self.owner, of.uuid.to_string());
        let what = if of.kind == Kind::Host { "standalone" } else { "cluster" };
        let id = |kind| ObjectId::derived(kind, &[owner, what, &uuid]);
        *self.made.write().entry(of).or_insert((id(Kind::Cluster), id(Kind::ResourcePool)))
    }

    /// The cluster of a host that has none.
    pub(super) fn standalone(&self, host: ObjectId) -> ObjectId {
        self.made(host).0
    }

    /// The root pool of the cluster of a host that has none.
    pub(super) fn standalone_pool(&self, host: ObjectId) -> ObjectId {
        self.made(host).1
    }

    /// The root pool of a source's cluster that names none.
    fn cluster_pool(&self, cluster: ObjectId) -> ObjectId {
        self.made(cluster).1
    }

    pub(super) fn source_ref(&self, id: ObjectId, slot: Slot) -> Option<ObjectId> {
        self.source.record(id)?.get(slot).as_ref_id()
    }

    /// The source's own cluster of a host; a host view knows none.
    fn own_cluster(&self, host: &Record) -> Option<ObjectId> {
        if self.host.is_some() {
            return None;
        }
        host.get(self.slots.host.compute_id).as_ref_id().filter(|c| self.source.record(*c).is_some())
    }

    fn compute_of_host(&self, id: ObjectId, host: &Record) -> ObjectId {
        self.own_cluster(host).unwrap_or_else(|| self.standalone(id))
    }

    fn pool_of_cluster(&self, cluster: ObjectId) -> ObjectId {
        let own = self.source_ref(cluster, self.slots.cluster.resource_pool_id);
        own.unwrap_or_else(|| self.cluster_pool(cluster))
    }

    fn known_datacenter(&self, id: Option<ObjectId>) -> Option<ObjectId> {
        id.filter(|id| self.host.is_none() && self.source.record(*id).is_some())
    }

    fn datacenter_of_cluster(&self, cluster: ObjectId) -> ObjectId {
        let own = self.source_ref(cluster, self.slots.cluster.datacenter_id);
        self.known_datacenter(own).unwrap_or(self.datacenter.id)
    }

    fn datacenter_of_host(&self, host: &Record) -> ObjectId {
        let own = host.get(self.slots.host.datacenter_id).as_ref_id();
        self.known_datacenter(own)
            .or_else(|| Some(self.datacenter_of_cluster(self.own_cluster(host)?)))
            .unwrap_or(self.datacenter.id)
    }

    /// A network's or storage pool's: its own, else that of the first host it belongs to.
    fn datacenter_of_shared(&self, own: Option<ObjectId>, hosts: &BTreeSet<ObjectId>) -> ObjectId {
        self.known_datacenter(own)
            .or_else(|| Some(self.datacenter_of_host(&*self.source.record(*hosts.first()?)?)))
            .unwrap_or(self.datacenter.id)
    }

    fn folder_in(&self, datacenter: ObjectId, slot: Slot, default: ObjectId) -> Option<ObjectId> {
        if datacenter == self.datacenter.id { Some(default) } else { self.source_ref(datacenter, slot) }
    }

    /// The hosts a network or pool belongs to: those it names and those that name it.
    fn hosts_of(&self, id: ObjectId, record: &Record, own: Slot, reverse: Slot) -> BTreeSet<ObjectId> {
        let mut hosts: Vec<ObjectId> =
            record.get(own).refs().filter(|h| self.source.record(*h).is_some()).collect();
        self.source.referring(Kind::Host, reverse, id, &mut hosts);
        hosts.retain(|h| self.host.is_none_or(|only| only == *h));
        hosts.into_iter().collect()
    }

    /// The networks or pools of a host: those it names and those that name it.
    fn of_host(
        &self,
        id: ObjectId,
        host: &Record,
        own: Slot,
        kind: Kind,
        reverse: Slot,
    ) -> BTreeSet<ObjectId> {
        let mut found: Vec<ObjectId> =
            host.get(own).refs().filter(|n| self.source.record(*n).is_some()).collect();
        self.source.referring(kind, reverse, id, &mut found);
        found.into_iter().collect()
    }

    fn networks_of(&self, id: ObjectId, host: &Record) -> BTreeSet<ObjectId> {
        self.of_host(id, host, self.slots.host.network_ids, Kind::Network, self.slots.network.host_ids)
    }

    fn pools_of(&self, id: ObjectId, host: &Record) -> BTreeSet<ObjectId> {
        self.of_host(
            id,
            host,
            self.slots.host.storage_pool_ids,
            Kind::StoragePool,
            self.slots.storage.host_ids,
        )
    }

    /// The pool a VM lies in and those above it, innermost first.
    fn pool_chain(&self, pool: ObjectId) -> Vec<ObjectId> {
        let mut chain = vec![pool];
        while let Some(last) = chain.last().copied()
            && let Some(record) = self.source.record(last)
            && let Some(parent) = record.get(self.slots.pool.parent_id).as_ref_id()
        {
            let next = match parent.kind {
                Kind::Cluster => self.pool_of_cluster(parent),
                _ => parent,
            };
            if chain.contains(&next) || chain.len() > 32 {
                break;
            }
            chain.push(next);
        }
        chain
    }

    pub(super) fn project(&self, item: Item, memory: &mut Memory, puts: &mut Puts) {
        match item {
            Item::Source(id) => puts.push(id, self.project_source(id, memory)),
            Item::Root => {
                let kind = FolderKind::FolderDatacenter;
                let record = plan::folder(self.source.schema(), &self.names.root, kind, None, None);
                puts.push(self.root, Some(Arc::new(record)));
            }
            Item::Default => self.project_default(memory, puts),
            Item::Standalone(host) => self.project_standalone(host, memory, puts),
            Item::ClusterPool(cluster) => {
                let pool = self.cluster_pool(cluster);
                let shown = self.source.record(cluster).filter(|c| {
                    self.host.is_none() && c.get(self.slots.cluster.resource_pool_id).is_absent()
                });
                let record = shown.map(|c| {
                    let cluster_record = self.project_cluster(cluster, &c);
                    self.root_pool(pool, cluster, &cluster_record, &memory.usage)
                });
                puts.push(pool, record.map(Arc::new));
            }
        }
    }

    /// Which item a pool belongs to.
    pub(super) fn pool_item(&self, pool: ObjectId) -> Option<Item> {
        if self.source.record(pool).is_some() {
            return Some(Item::Source(pool));
        }
        let cluster = self.inventory.record(pool)?.get(self.slots.pool.owner_id).as_ref_id()?;
        if self.source.record(cluster).is_some() {
            return Some(Item::ClusterPool(cluster));
        }
        let shown = self.inventory.record(cluster)?;
        shown.get(self.slots.cluster.host_ids).refs().next().map(Item::Standalone)
    }

    fn project_default(&self, memory: &mut Memory, puts: &mut Puts) {
        let shown = self.host.is_some() || self.default_needed();
        // It has its name before any other.
        let key = shown.then(|| (self.root, Arc::clone(&self.names.datacenter)));
        memory.names.set(self.datacenter.id, key, i64::MIN);
        let schema = self.source.schema();
        for (id, record) in
            self.datacenter.records(schema, &self.names.datacenter, Some(self.root), &self.names)
        {
            puts.push(id, shown.then(|| Arc::new(record)));
        }
    }

    /// Whether anything has no datacenter of the source's own.
    fn default_needed(&self) -> bool {
        let none = self.datacenter.id;
        if self.source.count(Kind::Datacenter) == 0 {
            return true;
        }
        let ids = |kind| self.source.ids(kind).into_iter();
        ids(Kind::Host).any(|h| self.source.record(h).is_some_and(|r| self.datacenter_of_host(&r) == none))
            || ids(Kind::Cluster).any(|c| self.datacenter_of_cluster(c) == none)
            || ids(Kind::Network).any(|n| self.shared(n).is_some_and(|(dc, _)| dc == none))
            || ids(Kind::StoragePool).any(|p| self.shared(p).is_some_and(|(dc, _)| dc == none))
    }

    /// A network's or storage pool's datacenter and hosts.
    fn shared(&self, id: ObjectId) -> Option<(ObjectId, BTreeSet<ObjectId>)> {
        let record = self.source.record(id)?;
        let s = &self.slots;
        let (own, hosts) = match id.kind {
            Kind::Network => {
                (s.network.datacenter_id, self.hosts_of(id, &record, s.network.host_ids, s.host.network_ids))
            }
            _ => (
                s.storage.datacenter_id,
                self.hosts_of(id, &record, s.storage.host_ids, s.host.storage_pool_ids),
            ),
        };
        Some((self.datacenter_of_shared(record.get(own).as_ref_id(), &hosts), hosts))
    }

    /// Whether a host view shows an object of the source; a fleet view shows all.
    fn shows(&self, id: ObjectId, record: &Record) -> bool {
        let Some(only) = self.host else { return true };
        let s = &self.slots;
        let through = |slot: Slot| {
            let to = record.get(slot).as_ref_id();
            to.and_then(|to| Some((to, self.source.record(to)?))).is_some_and(|(to, r)| self.shows(to, &r))
        };
        match id.kind {
            Kind::Host => id == only,
            Kind::Vm => record.get(s.vm.host_id).as_ref_id() == Some(only),
            Kind::Network | Kind::StoragePool => self.shared(id).is_some_and(|(_, hosts)| !hosts.is_empty()),
            Kind::Volume => through(s.volume.storage_pool_id),
            Kind::Snapshot => through(s.snapshot.vm_id),
            Kind::Task => {
                let on = record.get(s.task.object_id).as_ref_id();
                // The tasks of what is gone are shown by all views.
                on.is_some_and(|on| on.kind != Kind::Task)
                    && on.and_then(|on| self.source.record(on)).is_none_or(|_| through(s.task.object_id))
            }
            Kind::Folder | Kind::Datacenter | Kind::Cluster | Kind::ResourcePool => false,
            Kind::Event | Kind::Service | Kind::Session => true,
        }
    }

    fn project_source(&self, id: ObjectId, memory: &mut Memory) -> Option<Arc<Record>> {
        let Memory { usage, names } = memory;
        let entry = self.source.get(id).filter(|entry| self.shows(id, &entry.record));
        let Some(Entry { record, created_ms, .. }) = entry else {
            if id.kind == Kind::Vm {
                usage.set(id, Vec::new(), Used::default());
            }
            names.set(id, None, 0);
            return None;
        };
        let mut out = match id.kind {
            Kind::Vm => self.project_vm(id, &record, usage),
            Kind::Host => self.project_host(id, &record),
            Kind::Network | Kind::StoragePool => self.project_shared(id, &record),
            Kind::Cluster => self.project_cluster(id, &record),
            Kind::ResourcePool => self.project_pool(id, &record, usage),
            Kind::Datacenter => self.rooted(&record, self.slots.datacenter.folder_id),
            Kind::Folder => self.rooted(&record, self.slots.folder.parent_id),
            // Nothing is placed: the view has the source's record itself.
            _ => return Some(record),
        };
        if let Some((slot, place)) = self.named_in(id, &record, &out) {
            let name = match record.get(slot) {
                Value::Str(name) => Some(Arc::clone(name)),
                _ => None,
            };
            names.set(id, place.zip(name), created_ms);
            if let Some(shown) = names.shown(id) {
                out.set(slot, Value::Str(Arc::clone(shown)));
            }
        }
        Some(Arc::new(out))
    }

    /// The slot of an object's name, and the place where that has to be the only one; `None`: its kind needs no such name.
    fn named_in(&self, id: ObjectId, record: &Record, out: &Record) -> Option<(Slot, Option<ObjectId>)> {
        let s = &self.slots;
        let (name, place) = match id.kind {
            Kind::Vm => (s.vm.name, s.vm.folder_id),
            Kind::Network => (s.network.name, s.network.folder_id),
            Kind::StoragePool => (s.storage.name, s.storage.folder_id),
            Kind::Cluster => (s.cluster.name, s.cluster.folder_id),
            Kind::ResourcePool => (s.pool.name, s.pool.parent_id),
            Kind::Folder => (s.folder.name, s.folder.parent_id),
            Kind::Datacenter => (s.datacenter.name, s.datacenter.folder_id),
            Kind::Host => {
                // A host that stands by itself lies where its cluster does, which is shown under its name.
                let place = self.own_cluster(record).or_else(|| {
                    let slot = self.slots.datacenter.host_folder_id;
                    self.folder_in(self.datacenter_of_host(record), slot, self.datacenter.host)
                });
                return Some((s.host.name, place));
            }
            _ => return None,
        };
        Some((name, out.get(place).as_ref_id()))
    }

    fn rooted(&self, record: &Record, parent: Slot) -> Record {
        let mut out = record.clone();
        if record.get(parent).is_absent() {
            out.set(parent, self.root);
        }
        out
    }

    fn project_vm(&self, id: ObjectId, vm: &Arc<Record>, usage: &mut Usage) -> Record {
        let s = &self.slots.vm;
        let mut out = Record::clone(vm);
        let host_id = vm.get(s.host_id).as_ref_id();
        let host = host_id.and_then(|h| Some((h, self.source.record(h)?)));
        let own = |slot: Slot| vm.get(slot).as_ref_id().filter(|_| self.host.is_none());
        let own_compute = own(s.compute_id).filter(|c| self.source.record(*c).is_some());
        let compute = own_compute.or_else(|| host.as_ref().map(|(h, r)| self.compute_of_host(*h, r)));
        let root_pool = compute.map(|compute| match &host {
            Some((h, _)) if compute == self.standalone(*h) => self.standalone_pool(*h),
            _ => self.pool_of_cluster(compute),
        });
        let pool = own(s.resource_pool_id).filter(|p| self.source.record(*p).is_some()).or(root_pool);
        let own_datacenter = self.known_datacenter(own(s.datacenter_id));
        let datacenter = own_datacenter.or_else(|| host.as_ref().map(|(_, r)| self.datacenter_of_host(r)));
        let vm_folder = self.slots.datacenter.vm_folder_id;
        let folder = own(s.folder_id)
            .filter(|folder| self.source.record(*folder).is_some() || *folder == self.datacenter.vm)
            .or_else(|| datacenter.and_then(|d| self.folder_in(d, vm_folder, self.datacenter.vm)));
        out.set(s.compute_id, compute);
        out.set(s.resource_pool_id, pool);
        out.set(s.datacenter_id, datacenter);
        out.set(s.folder_id, folder);
        let connected = i64::from(Connection::Connected as i32);
        let host_connection =
            host.as_ref().and_then(|(_, r)| r.get(self.slots.host.connection).as_int()).unwrap_or(connected);
        if host_connection != connected {
            out.set(s.connection, host_connection);
        } else if vm.get(s.connection).is_absent() {
            out.set(s.connection, connected);
        }
        let used = Used {
            cpu_mhz: vm.get(s.cpu_usage_mhz).as_int().unwrap_or(0),
            memory_bytes: vm.get(s.memory_usage_bytes).as_int().unwrap_or(0),
        };
        usage.set(id, pool.map(|p| self.pool_chain(p)).unwrap_or_default(), used);
        out
    }

    fn project_host(&self, id: ObjectId, host: &Record) -> Record {
        let s = &self.slots.host;
        let mut out = host.clone();
        out.set(s.compute_id, self.compute_of_host(id, host));
        out.set(s.datacenter_id, self.datacenter_of_host(host));
        out.set(s.network_ids, plan::refs(self.networks_of(id, host)));
        out.set(s.storage_pool_ids, plan::refs(self.pools_of(id, host)));
        if host.get(s.connection).is_absent() {
            out.set(s.connection, Connection::Connected as i32);
        }
        out
    }

    fn project_shared(&self, id: ObjectId, record: &Record) -> Record {
        let mut out = record.clone();
        let Some((datacenter, hosts)) = self.shared(id) else { return out };
        let s = &self.slots;
        let (own_folder, datacenter_slot, host_ids, folder_slot, default) = match id.kind {
            Kind::Network => {
                let n = &s.network;
                (
                    n.folder_id,
                    n.datacenter_id,
                    n.host_ids,
                    s.datacenter.network_folder_id,
                    self.datacenter.network,
                )
            }
            _ => {
                let p = &s.storage;
                (
                    p.folder_id,
                    p.datacenter_id,
                    p.host_ids,
                    s.datacenter.storage_folder_id,
                    self.datacenter.storage,
                )
            }
        };
        let own = record.get(own_folder).as_ref_id().filter(|_| self.host.is_none());
        out.set(own_folder, own.or_else(|| self.folder_in(datacenter, folder_slot, default)));
        out.set(datacenter_slot, datacenter);
        out.set(host_ids, plan::refs(hosts));
        out
    }

    fn project_cluster(&self, id: ObjectId, cluster: &Record) -> Record {
        let s = &self.slots.cluster;
        let mut out = cluster.clone();
        let mut hosts = Vec::new();
        self.source.referring(Kind::Host, self.slots.host.compute_id, id, &mut hosts);
        let datacenter = self.datacenter_of_cluster(id);
        out.set(s.datacenter_id, datacenter);
        if cluster.get(s.folder_id).is_absent() {
            let slot = self.slots.datacenter.host_folder_id;
            out.set(s.folder_id, self.folder_in(datacenter, slot, self.datacenter.host));
        }
        out.set(s.resource_pool_id, self.pool_of_cluster(id));
        if cluster.get(s.standalone).is_absent() {
            out.set(s.standalone, false);
        }
        self.add_up(&mut out, &hosts);
        out
    }

    /// What a cluster has, from its hosts.
    fn add_up(&self, out: &mut Record, hosts: &[ObjectId]) {
        let (c, h) = (&self.slots.cluster, &self.slots.host);
        let (mut networks, mut pools) = (BTreeSet::new(), BTreeSet::new());
        let (mut effective, mut cores, mut threads, mut mhz, mut memory) = (0i64, 0i64, 0i64, 0i64, 0i64);
        let (mut effective_mhz, mut effective_memory) = (0i64, 0i64);
        for id in hosts {
            let Some(host) = self.source.record(*id) else { continue };
            networks.extend(self.networks_of(*id, &host));
            pools.extend(self.pools_of(*id, &host));
            let int = |slot| host.get(slot).as_int().unwrap_or(0);
            let host_mhz = int(h.cpu_mhz).saturating_mul(int(h.cpu_cores));
            cores = cores.saturating_add(int(h.cpu_cores));
            threads = threads.saturating_add(int(h.cpu_threads));
            mhz = mhz.saturating_add(host_mhz);
            memory = memory.saturating_add(int(h.memory_bytes));
            let connected = i64::from(Connection::Connected as i32);
            let serves = host.get(h.connection).as_int().is_none_or(|c| c == connected)
                && host.get(h.maintenance).as_bool() != Some(true);
            if serves {
                effective += 1;
                effective_mhz = effective_mhz.saturating_add(host_mhz);
                effective_memory = effective_memory.saturating_add(int(h.memory_bytes));
            }
        }
        out.set(c.host_ids, plan::refs(hosts.iter().copied()));
        out.set(c.network_ids, plan::refs(networks));
        out.set(c.storage_pool_ids, plan::refs(pools));
        out.set(c.host_count, i64::try_from(hosts.len()).unwrap_or(i64::MAX));
        out.set(c.effective_host_count, effective);
        out.set(c.cpu_cores, cores);
        out.set(c.cpu_threads, threads);
        out.set(c.cpu_mhz, mhz);
        out.set(c.memory_bytes, memory);
        out.set(c.effective_cpu_mhz, effective_mhz);
        out.set(c.effective_memory_bytes, effective_memory);
    }

    fn project_standalone(&self, host_id: ObjectId, memory: &Memory, puts: &mut Puts) {
        let (cluster_id, pool_id) = (self.standalone(host_id), self.standalone_pool(host_id));
        let host = self.source.record(host_id);
        // A host view's compute resource stands even before its host is known.
        let shown = match self.host {
            Some(only) => only == host_id,
            None => host.as_ref().is_some_and(|h| self.own_cluster(h).is_none()),
        };
        if !shown {
            puts.push(cluster_id, None);
            puts.push(pool_id, None);
            return;
        }
        let (c, schema) = (&self.slots.cluster, self.source.schema());
        let mut cluster = schema.kind(Kind::Cluster).record();
        let datacenter = host.as_ref().map_or(self.datacenter.id, |h| self.datacenter_of_host(h));
        let own_name = || host.as_ref().map_or(Value::Absent, |h| h.get(self.slots.host.name).clone());
        cluster.set(c.name, memory.names.shown(host_id).cloned().map_or_else(own_name, Value::Str));
        cluster.set(c.standalone, true);
        let folder = self.slots.datacenter.host_folder_id;
        cluster.set(c.folder_id, self.folder_in(datacenter, folder, self.datacenter.host));
        cluster.set(c.datacenter_id, datacenter);
        cluster.set(c.resource_pool_id, pool_id);
        self.add_up(&mut cluster, if host.is_some() { std::slice::from_ref(&host_id) } else { &[] });
        let pool = self.root_pool(pool_id, cluster_id, &cluster, &memory.usage);
        puts.push(cluster_id, Some(Arc::new(cluster)));
        puts.push(pool_id, Some(Arc::new(pool)));
    }

    fn root_pool(&self, id: ObjectId, cluster_id: ObjectId, cluster: &Record, usage: &Usage) -> Record {
        let (p, c) = (&self.slots.pool, &self.slots.cluster);
        let mut pool = plan::pool(self.source.schema(), &self.names.pool, cluster_id, cluster_id);
        pool.set(p.cpu_mhz, cluster.get(c.cpu_mhz).clone());
        pool.set(p.memory_bytes, cluster.get(c.memory_bytes).clone());
        self.fill_usage(&mut pool, id, usage);
        pool
    }

    fn fill_usage(&self, pool: &mut Record, id: ObjectId, usage: &Usage) {
        let used = usage.of(id);
        pool.set(self.slots.pool.cpu_usage_mhz, used.cpu_mhz);
        pool.set(self.slots.pool.memory_usage_bytes, used.memory_bytes);
    }

    fn project_pool(&self, id: ObjectId, pool: &Record, usage: &Usage) -> Record {
        let p = &self.slots.pool;
        let mut out = pool.clone();
        if let Some(parent) = pool.get(p.parent_id).as_ref_id() {
            let root = pool
                .get(p.owner_id)
                .as_ref_id()
                .and_then(|c| self.source_ref(c, self.slots.cluster.resource_pool_id));
            // A pool directly in a cluster lies in the cluster's root pool, unless it is that one.
            if parent.kind == Kind::Cluster && root != Some(id) {
                out.set(p.parent_id, self.pool_of_cluster(parent));
            }
        }
        self.fill_usage(&mut out, id, usage);
        out
    }
}

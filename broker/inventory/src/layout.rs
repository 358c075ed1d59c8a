//! Views: the facts of a source inventory arranged as one fleet or as one host, with the tree that the protocols show around them.
//!
//! ```text
//! fleet   root ─ datacenter ─┬─ vm folder ─ VMs (and the source's own folders)
//!                            ├─ host folder ─ cluster of each host (or the source's own clusters) ─ root pool (and own pools)
//!                            ├─ storage folder ─ storage pools
//!                            └─ network folder ─ networks
//! host    the same tree around one host: only its VMs, networks and pools, VMs flat in the vm folder
//! ```
//!
//! A view is an inventory of its own, fed synchronously: whoever has seen a revision of the source sees it in every view. Each object
//! is a pure function of the source ([`place`]); a change redoes the objects that depend on it, and no more than those, except that a
//! change of the source's own datacenters, clusters or pools redoes the view.
//!
//! The facts keep their names; the view shows different ones where several things of one name lie side by side ([`names`]).
//!
//! Limits: a VM that names neither host nor datacenter has no place in the tree.

mod affected;
mod names;
mod place;
mod slots;
#[cfg(test)]
mod tests;
mod usage;

use crate::{
    plan::Datacenter,
    store::{Change, Entry, Inventory, Observer, ObserverGuard, Put},
};
use names::Names;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use slots::Slots;
use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock, Weak},
};
use union::{Kind, ObjectId, Record, command::Revision};
use usage::Usage;

/// The names of the tree's fixed parts: data of the protocol that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// The root folder.
    pub root: Arc<str>,
    /// The datacenter of all that has none of its own.
    pub datacenter: Arc<str>,
    /// A datacenter's folder of VMs.
    pub vm: Arc<str>,
    /// A datacenter's folder of hosts and clusters.
    pub host: Arc<str>,
    /// A datacenter's folder of storage pools.
    pub storage: Arc<str>,
    /// A datacenter's folder of networks.
    pub network: Arc<str>,
    /// The root pool of a cluster.
    pub pool: Arc<str>,
}

impl Default for Skeleton {
    fn default() -> Skeleton {
        Skeleton {
            root: Arc::from("Datacenters"),
            datacenter: Arc::from("Datacenter"),
            vm: Arc::from("vm"),
            host: Arc::from("host"),
            storage: Arc::from("datastore"),
            network: Arc::from("network"),
            pool: Arc::from("Resources"),
        }
    }
}

/// What a view shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Everything.
    Fleet(Skeleton),
    /// One host and what is on it.
    Host(ObjectId, Skeleton),
}

/// Whose the objects are that every fleet view makes.
const FLEET: &str = "view fleet";

/// A fixed part of a view's tree, for protocols that give it a fixed id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The root folder.
    Root,
    /// The datacenter the view made.
    Datacenter,
    /// Its folder of VMs.
    VmFolder,
    /// Its folder of hosts.
    HostFolder,
    /// Its folder of storage pools.
    StorageFolder,
    /// Its folder of networks.
    NetworkFolder,
    /// The one compute resource of a host view.
    Compute,
    /// The root pool of a host view.
    Pool,
    /// The host of a host view.
    Host,
}

impl Role {
    /// The word in mapping files.
    pub fn word(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Datacenter => "datacenter",
            Role::VmFolder => "vm_folder",
            Role::HostFolder => "host_folder",
            Role::StorageFolder => "storage_folder",
            Role::NetworkFolder => "network_folder",
            Role::Compute => "compute",
            Role::Pool => "pool",
            Role::Host => "host",
        }
    }
}

/// What a view is made of: each is redone as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    /// An object of the source, placed.
    Source(ObjectId),
    /// The root folder.
    Root,
    /// The view's datacenter and its folders.
    Default,
    /// The cluster that a host without one gets, and its root pool.
    Standalone(ObjectId),
    /// The root pool of a source's cluster that names none.
    ClusterPool(ObjectId),
}

/// What a view remembers besides its objects, to redo no more than it must.
#[derive(Debug, Default)]
struct Memory {
    usage: Usage,
    names: Names,
}

/// The objects of one redoing, each once: the last word counts.
#[derive(Debug, Default)]
struct Puts {
    list: Vec<(ObjectId, Option<Arc<Record>>)>,
    at: FxHashMap<ObjectId, usize>,
}

impl Puts {
    fn push(&mut self, id: ObjectId, record: Option<Arc<Record>>) {
        let at = *self.at.entry(id).or_insert(self.list.len());
        match self.list.get_mut(at) {
            Some(place) => place.1 = record,
            None => self.list.push((id, record)),
        }
    }
}

/// A source inventory, arranged.
pub struct View {
    name: Arc<str>,
    /// What the ids of its own objects derive from.
    owner: Arc<str>,
    source: Arc<Inventory>,
    inventory: Arc<Inventory>,
    names: Skeleton,
    host: Option<ObjectId>,
    root: ObjectId,
    datacenter: Datacenter,
    slots: Slots,
    memory: Mutex<Memory>,
    /// Ids made for hosts and clusters.
    made: RwLock<FxHashMap<ObjectId, (ObjectId, ObjectId)>>,
    guard: OnceLock<ObserverGuard>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("name", &self.name)
            .field("inventory", &self.inventory)
            .finish_non_exhaustive()
    }
}

/// Feeds a view without keeping it alive.
struct Feed(Weak<View>);

impl Observer for Feed {
    fn changed(&self, changes: &[Change]) {
        if let Some(view) = self.0.upgrade() {
            view.follow(changes);
        }
    }
}

impl View {
    /// A view of `source`, complete when this returns. The ids of a fleet view's own objects are the same in all of them; `name` keeps
    /// those of a host view apart from other views'.
    pub fn new(name: &str, source: &Arc<Inventory>, layout: Layout) -> Arc<View> {
        let (names, host) = match layout {
            Layout::Fleet(names) => (names, None),
            Layout::Host(host, names) => (names, Some(host)),
        };
        // The broker's own folders lie in those of every fleet view, so these have the same ids in all.
        let owner: Arc<str> =
            if host.is_none() { Arc::from(FLEET) } else { Arc::from(format!("view {name}")) };
        let view = Arc::new(View {
            name: Arc::from(name),
            owner: Arc::clone(&owner),
            source: Arc::clone(source),
            inventory: Inventory::derived(source),
            names,
            host,
            root: ObjectId::derived(Kind::Folder, &[&owner, "root"]),
            datacenter: Datacenter::ids(&owner, "default"),
            slots: Slots::new(source.schema()),
            memory: Mutex::default(),
            made: RwLock::default(),
            guard: OnceLock::new(),
        });
        // Also when the source is empty: the root is always there.
        let skeleton = [Item::Root, Item::Default].into_iter().chain(host.map(Item::Standalone));
        view.redo(skeleton.collect());
        let guard = source.observe_all(Arc::new(Feed(Arc::downgrade(&view))));
        // A fresh view: the place is free.
        drop(view.guard.set(guard));
        view
    }

    /// Its name, for example `fleet`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it shows.
    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inventory
    }

    /// What it is made from.
    pub fn source(&self) -> &Arc<Inventory> {
        &self.source
    }

    /// The root folder.
    pub fn root(&self) -> ObjectId {
        self.root
    }

    /// The datacenter the view makes for what has none, and its folders; a fleet view whose source places everything does not show it.
    pub fn datacenter(&self) -> Datacenter {
        self.datacenter
    }

    /// The host of a host view.
    pub fn host(&self) -> Option<ObjectId> {
        self.host
    }

    /// What fleet views, and the broker, call a fixed part of this view; any other object is itself.
    pub fn in_fleet(&self, id: ObjectId) -> ObjectId {
        let (Some(host), Some(role)) = (self.host, self.role(id)) else { return id };
        let fleet = Datacenter::ids(FLEET, "default");
        let standalone = |kind| ObjectId::derived(kind, &[FLEET, "standalone", &host.uuid.to_string()]);
        match role {
            Role::Root => ObjectId::derived(Kind::Folder, &[FLEET, "root"]),
            Role::Datacenter => fleet.id,
            Role::VmFolder => fleet.vm,
            Role::HostFolder => fleet.host,
            Role::StorageFolder => fleet.storage,
            Role::NetworkFolder => fleet.network,
            Role::Compute => standalone(Kind::Cluster),
            Role::Pool => standalone(Kind::ResourcePool),
            Role::Host => id,
        }
    }

    /// Which fixed part of the tree an object is.
    pub fn role(&self, id: ObjectId) -> Option<Role> {
        let d = &self.datacenter;
        let fixed = [
            (self.root, Role::Root),
            (d.id, Role::Datacenter),
            (d.vm, Role::VmFolder),
            (d.host, Role::HostFolder),
            (d.storage, Role::StorageFolder),
            (d.network, Role::NetworkFolder),
        ];
        if let Some((_, role)) = fixed.iter().find(|(known, _)| *known == id) {
            return Some(*role);
        }
        let host = self.host?;
        match id {
            _ if id == host => Some(Role::Host),
            _ if id == self.standalone(host) => Some(Role::Compute),
            _ if id == self.standalone_pool(host) => Some(Role::Pool),
            _ => None,
        }
    }

    /// An object as the view shows it.
    pub fn get(&self, id: ObjectId) -> Option<Entry> {
        self.inventory.get(id)
    }

    /// Waits until the view shows `revision` of its source.
    pub async fn seen(&self, revision: Revision) {
        self.source.seen(revision).await;
    }

    fn follow(&self, changes: &[Change]) {
        let items = self.affected(changes);
        if !items.is_empty() {
            self.redo(items);
        }
    }

    /// Redoes items, the objects whose shown names they moved, and the pools whose usage.
    fn redo(&self, items: BTreeSet<Item>) {
        let mut memory = self.memory.lock();
        let mut puts = Puts::default();
        for item in items {
            self.project(item, &mut memory, &mut puts);
        }
        for renamed in memory.names.settle() {
            self.project(Item::Source(renamed), &mut memory, &mut puts);
            if renamed.kind == Kind::Host {
                self.project(Item::Standalone(renamed), &mut memory, &mut puts);
            }
        }
        for pool in memory.usage.take_dirty() {
            if let Some(item) = self.pool_item(pool) {
                self.project(item, &mut memory, &mut puts);
            }
        }
        self.inventory.apply(
            puts.list
                .into_iter()
                .map(|(id, record)| match record {
                    Some(record) => Put::Shared(id, record),
                    None => Put::Remove(id),
                })
                .collect(),
        );
    }
}

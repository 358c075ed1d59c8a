//! Which items of a view depend on a change of its source.

use super::{Item, View};
use crate::store::Change;
use std::collections::BTreeSet;
use union::{Kind, ObjectId, Slot};

impl View {
    pub(super) fn affected(&self, changes: &[Change]) -> BTreeSet<Item> {
        let mut items = BTreeSet::new();
        let mut moved = Vec::new();
        let mut anew = false;
        for change in changes {
            let id = change.id;
            items.insert(Item::Source(id));
            let place = match id.kind {
                Kind::Vm => self.slots.vm.host_id,
                Kind::Network => self.slots.network.host_ids,
                Kind::StoragePool => self.slots.storage.host_ids,
                Kind::Volume => self.slots.volume.storage_pool_id,
                _ => self.slots.snapshot.vm_id,
            };
            let appeared = change.old.is_none() || change.new.is_none();
            if appeared || (change.changed.contains(place) && id.kind != Kind::Host) {
                moved.push(id);
            }
            match id.kind {
                Kind::Datacenter | Kind::Cluster | Kind::ResourcePool => anew = true,
                Kind::Folder if appeared => self.referring(Kind::Vm, self.slots.vm.folder_id, id, &mut items),
                Kind::Host => self.affected_by_host(change, &mut items, &mut moved),
                Kind::Network => self.affected_by_shared(change, place, &mut items),
                Kind::StoragePool => self.affected_by_shared(change, place, &mut items),
                _ => {}
            }
        }
        if anew {
            self.all(&mut items);
        } else if self.host.is_some() {
            self.follow_moved(moved, &mut items);
        }
        items
    }

    /// In a host view, what is shown because something else is.
    fn follow_moved(&self, mut moved: Vec<ObjectId>, items: &mut BTreeSet<Item>) {
        let s = &self.slots;
        while let Some(id) = moved.pop() {
            items.insert(Item::Source(id));
            match id.kind {
                Kind::Vm => self.source.referring(Kind::Snapshot, s.snapshot.vm_id, id, &mut moved),
                Kind::StoragePool => {
                    self.source.referring(Kind::Volume, s.volume.storage_pool_id, id, &mut moved);
                }
                _ => {}
            }
            if id.kind != Kind::Task {
                self.source.referring(Kind::Task, s.task.object_id, id, &mut moved);
            }
        }
    }

    fn referring(&self, kind: Kind, slot: Slot, to: ObjectId, items: &mut BTreeSet<Item>) {
        let mut found = Vec::new();
        self.source.referring(kind, slot, to, &mut found);
        items.extend(found.into_iter().map(Item::Source));
    }

    fn affected_by_host(&self, change: &Change, items: &mut BTreeSet<Item>, moved: &mut Vec<ObjectId>) {
        let (id, s) = (change.id, &self.slots.host);
        let appeared = change.old.is_none() || change.new.is_none();
        let has = |slot: Slot| appeared || change.changed.contains(slot);
        items.insert(Item::Standalone(id));
        for record in change.old.iter().chain(&change.new) {
            items.extend(
                record.get(s.compute_id).refs().flat_map(|c| [Item::Source(c), Item::ClusterPool(c)]),
            );
        }
        let placed = has(s.compute_id) || has(s.datacenter_id);
        if placed || has(s.connection) {
            self.referring(Kind::Vm, self.slots.vm.host_id, id, items);
        }
        if placed || has(s.network_ids) || has(s.storage_pool_ids) {
            let mut shared = Vec::new();
            for record in change.old.iter().chain(&change.new) {
                shared.extend(record.get(s.network_ids).refs());
                shared.extend(record.get(s.storage_pool_ids).refs());
            }
            self.source.referring(Kind::Network, self.slots.network.host_ids, id, &mut shared);
            self.source.referring(Kind::StoragePool, self.slots.storage.host_ids, id, &mut shared);
            items.extend(shared.iter().copied().map(Item::Source));
            items.insert(Item::Default);
            moved.extend(shared);
        }
    }

    fn affected_by_shared(&self, change: &Change, hosts: Slot, items: &mut BTreeSet<Item>) {
        let appeared = change.old.is_none() || change.new.is_none();
        let datacenter = match change.id.kind {
            Kind::Network => self.slots.network.datacenter_id,
            _ => self.slots.storage.datacenter_id,
        };
        if appeared || change.changed.contains(datacenter) || change.changed.contains(hosts) {
            items.insert(Item::Default);
        }
        if !appeared && !change.changed.contains(hosts) {
            return;
        }
        let mut found: Vec<ObjectId> =
            change.old.iter().chain(&change.new).flat_map(|r| r.get(hosts).refs()).collect();
        for slot in [self.slots.host.network_ids, self.slots.host.storage_pool_ids] {
            self.source.referring(Kind::Host, slot, change.id, &mut found);
        }
        for host in found {
            items.insert(Item::Source(host));
            items.insert(Item::Standalone(host));
            if let Some(cluster) = self.source_ref(host, self.slots.host.compute_id) {
                items.insert(Item::Source(cluster));
            }
        }
    }

    fn all(&self, items: &mut BTreeSet<Item>) {
        items.extend([Item::Root, Item::Default]);
        for change in self.source.everything() {
            items.insert(Item::Source(change.id));
            match change.id.kind {
                Kind::Host => drop(items.insert(Item::Standalone(change.id))),
                Kind::Cluster => drop(items.insert(Item::ClusterPool(change.id))),
                _ => {}
            }
        }
        let gone: Vec<Item> = items
            .iter()
            .filter_map(|item| match item {
                Item::Source(id) if id.kind == Kind::Cluster => Some(Item::ClusterPool(*id)),
                _ => None,
            })
            .collect();
        items.extend(gone);
    }
}

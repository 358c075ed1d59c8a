//! What the VMs of each pool use, kept as running sums: a VM's new figure costs its pool and the pools above it, not all their VMs.

use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use union::ObjectId;

/// Sums by pool.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pools: FxHashMap<ObjectId, Used>,
    vms: FxHashMap<ObjectId, (Vec<ObjectId>, Used)>,
    dirty: BTreeSet<ObjectId>,
}

/// Figures of a VM or a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) cpu_mhz: i64,
    pub(super) memory_bytes: i64,
}

impl Usage {
    /// A VM lies in these pools, innermost first, and uses this much; no pools: it is gone.
    pub(super) fn set(&mut self, vm: ObjectId, pools: Vec<ObjectId>, used: Used) {
        let before = match pools.is_empty() {
            true => self.vms.remove(&vm),
            false => self.vms.insert(vm, (pools.clone(), used)),
        };
        if before.as_ref().is_some_and(|(p, u)| *p == pools && *u == used) {
            return;
        }
        if let Some((pools, used)) = before {
            self.add(&pools, Used { cpu_mhz: -used.cpu_mhz, memory_bytes: -used.memory_bytes });
        }
        self.add(&pools, used);
    }

    fn add(&mut self, pools: &[ObjectId], used: Used) {
        for pool in pools {
            let sum = self.pools.entry(*pool).or_default();
            sum.cpu_mhz = sum.cpu_mhz.saturating_add(used.cpu_mhz);
            sum.memory_bytes = sum.memory_bytes.saturating_add(used.memory_bytes);
            if *sum == Used::default() {
                self.pools.remove(pool);
            }
            self.dirty.insert(*pool);
        }
    }

    pub(super) fn of(&self, pool: ObjectId) -> Used {
        self.pools.get(&pool).copied().unwrap_or_default()
    }

    /// The pools whose sums moved since the last call.
    pub(super) fn take_dirty(&mut self) -> BTreeSet<ObjectId> {
        std::mem::take(&mut self.dirty)
    }
}

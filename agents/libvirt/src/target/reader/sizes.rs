//! Sizes of the disks that no pool knows. Of a running VM libvirt asks its hypervisor's process, which may hang: then the sizes stay as they
//! were.

use super::Reader;
use crate::{
    inventory::{domain::Surroundings, get},
    native::{
        api::{Api, Handle, Sizes},
        call::CallError,
    },
};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use union::{ObjectId, Record, Value};

/// How long a disk's size is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of a VM's disks outside of pools.
pub(super) struct Elsewhere {
    vm: ObjectId,
    /// By target.
    pub known: HashMap<String, Sizes>,
    /// The targets that the last read showed.
    pub targets: Vec<String>,
    asked: HashSet<String>,
}

impl Elsewhere {
    /// What the VM was shown with; what its disks take is not shown a disk.
    pub fn before(reader: &Reader, vm: ObjectId, around: &Surroundings) -> Elsewhere {
        let record = reader.inventory.record(vm);
        let mut known = HashMap::new();
        let mut targets = Vec::new();
        if let Some(record) = &record {
            let disks = get(&reader.schema, record, "disks");
            for disk in disks.items().iter().filter_map(Value::as_record) {
                let Some(target) = get(&reader.schema, disk, "id").as_str() else { continue };
                if let Some(capacity) = get(&reader.schema, disk, "size_bytes").as_int() {
                    known.insert(target.to_owned(), Sizes { capacity, allocation: capacity, available: 0 });
                }
            }
            targets = reader.outside(record, around);
        }
        Elsewhere { vm, known, targets, asked: HashSet::new() }
    }

    /// Which disks of a fresh reading have not been asked for; but for the `whole`, only those of which nothing is known.
    pub fn missing(
        &self,
        reader: &Reader,
        fresh: &Record,
        around: &Surroundings,
        whole: bool,
    ) -> Vec<String> {
        let mut targets = reader.outside(fresh, around);
        targets.retain(|target| !self.asked.contains(target) && (whole || !self.known.contains_key(target)));
        targets
    }

    /// Asks for disks, one after the other.
    pub async fn ask(
        &mut self,
        reader: &Reader,
        api: &Api,
        handle: &Handle,
        targets: Vec<String>,
    ) -> Result<(), CallError> {
        let api = Api { patience: api.patience.min(PATIENCE), ..api.clone() };
        for target in targets {
            if reader.slow.lock().contains(&self.vm) {
                break;
            }
            match api.disk_sizes(handle, &target).await {
                Ok(Some(found)) => {
                    self.known.insert(target.clone(), found);
                }
                Ok(None) => {}
                Err(CallError::TimedOut { .. }) => {
                    reader.slow.lock().insert(self.vm);
                }
                Err(error) => return Err(error),
            }
            self.asked.insert(target);
        }
        Ok(())
    }
}

impl Reader {
    /// The targets of a VM's disks that are in no pool.
    fn outside(&self, record: &Record, around: &Surroundings) -> Vec<String> {
        let disks = get(&self.schema, record, "disks");
        let outside = disks.items().iter().filter_map(Value::as_record).filter_map(|disk| {
            let path = get(&self.schema, disk, "path").as_str();
            let inside = path.is_some_and(|path| around.volumes.contains_key(path));
            get(&self.schema, disk, "id").as_str().filter(|_| !inside).map(str::to_owned)
        });
        outside.collect()
    }
}

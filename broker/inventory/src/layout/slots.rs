//! The slots that placing reads and writes, looked up once.

use union::{Kind, Schema, Slot};

/// Declares a struct of slots for one kind, each field named as in the union.
macro_rules! slots {
    ($($name:ident: $kind:ident { $($field:ident),* $(,)? })*) => {
        $(
            #[derive(Debug)]
            #[allow(non_camel_case_types)]
            pub(super) struct $name { $(pub(super) $field: Slot,)* }
        )*
        /// All of them.
        #[derive(Debug)]
        #[allow(non_snake_case)]
        pub(super) struct Slots { $(pub(super) $name: $name,)* }

        impl Slots {
            pub(super) fn new(schema: &Schema) -> Slots {
                // The union has every one of these fields: a test looks.
                let slot = |kind, field| schema.slot(kind, field).unwrap_or(Slot(u16::MAX - 1));
                Slots { $($name: $name { $($field: slot(Kind::$kind, stringify!($field)),)* },)* }
            }

            #[cfg(test)]
            pub(super) fn names() -> Vec<(Kind, &'static str)> {
                vec![$($((Kind::$kind, stringify!($field)),)*)*]
            }
        }
    };
}

slots! {
    vm: Vm {
        name, host_id, compute_id, resource_pool_id, folder_id, datacenter_id, connection, cpu_usage_mhz, memory_usage_bytes,
    }
    host: Host {
        name, compute_id, datacenter_id, connection, maintenance, cpu_mhz, cpu_cores, cpu_threads, memory_bytes, network_ids,
        storage_pool_ids,
    }
    cluster: Cluster {
        name, standalone, folder_id, datacenter_id, resource_pool_id, host_ids, network_ids, storage_pool_ids, host_count,
        effective_host_count, cpu_cores, cpu_threads, cpu_mhz, memory_bytes, effective_cpu_mhz, effective_memory_bytes,
    }
    pool: ResourcePool {
        name, parent_id, owner_id, cpu_mhz, memory_bytes, cpu_usage_mhz, memory_usage_bytes,
    }
    network: Network { name, folder_id, datacenter_id, host_ids }
    storage: StoragePool { name, folder_id, datacenter_id, host_ids }
    datacenter: Datacenter { name, folder_id, vm_folder_id, host_folder_id, storage_folder_id, network_folder_id }
    folder: Folder { name, parent_id }
    volume: Volume { storage_pool_id }
    snapshot: Snapshot { vm_id }
    task: Task { object_id }
}

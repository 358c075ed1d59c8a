//! An inventory of any size, the same for the same figures: VMs spread evenly over hosts that share one network and one storage pool.
//! Seven of ten VMs run.

use super::{Disk, File, Host, Network, Power, Storage, Vm};

/// `vms` VMs on `hosts` hosts; at least one host.
pub fn generate(vms: u32, hosts: u32) -> File {
    let hosts = hosts.max(1);
    let host_name = |n: u32| format!("host-{n:04}");
    let vm = |n: u32| Vm {
        name: format!("vm-{n:05}"),
        host: host_name(n % hosts),
        uuid: None,
        pool: None,
        folder: None,
        power: if n % 10 < 7 { Power::Running } else { Power::Stopped },
        cpus: 1 + n % 4,
        memory_mib: 512 << (n % 3),
        networks: vec!["lan".to_owned()],
        disks: vec![Disk { gib: 10 + n % 5, storage: "store".to_owned() }],
        ip: Some(format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255)),
        guest_os: None,
        description: None,
    };
    let host = |n: u32| Host {
        name: host_name(n),
        datacenter: None,
        cluster: None,
        cores: super::cores(),
        mhz: super::mhz(),
        memory_mib: super::host_memory(),
        ip: Some(format!("192.168.{}.{}", n >> 8 & 255, n & 255)),
    };
    File {
        host: (0..hosts).map(host).collect(),
        network: vec![Network { name: "lan".to_owned(), datacenter: None, hosts: Vec::new(), vlan: 0 }],
        storage: vec![Storage {
            name: "store".to_owned(),
            datacenter: None,
            hosts: Vec::new(),
            capacity_gib: vms.saturating_mul(20).max(super::capacity()),
        }],
        vm: (0..vms).map(vm).collect(),
        ..File::default()
    }
}

//! What a simulated hypervisor has: from a file that names it, or made up to any size.
//!
//! ```toml
//! [[datacenter]]                 # none: the view's own
//! name = "Berlin"
//! [[folder]]                     # of VMs; the folders above it are made too
//! path = "Berlin/production/web"
//! [[cluster]]
//! name = "c1"
//! datacenter = "Berlin"
//! [[pool]]
//! name = "gold"
//! cluster = "c1"
//! parent = "metals"              # another pool; none: the cluster's root pool
//! [[host]]
//! name = "host1"
//! cluster = "c1"                 # or datacenter = "Berlin", or neither
//! cores = 16
//! mhz = 2400
//! memory_mib = 65536
//! [[network]]
//! name = "lan"
//! hosts = ["host1"]              # none: all hosts
//! [[storage]]
//! name = "disk1"
//! capacity_gib = 1000
//! [[vm]]
//! name = "web01"
//! host = "host1"
//! pool = "gold"
//! folder = "Berlin/production/web"
//! power = "running"              # or stopped, suspended, paused
//! cpus = 2
//! memory_mib = 2048
//! networks = ["lan"]
//! disks = [{ gib = 20, storage = "disk1" }]
//! ip = "10.0.0.11"
//! [behaviour]                    # see `fault`
//! guest_ms = 500
//! ```
//!
//! Names are unique within their kind. Every field is documented below; an unknown one is an error with its line.

mod build;
mod generate;

use crate::fault::Behaviour;
use serde::Deserialize;

pub(crate) use build::vm_template;
pub use build::{Built, build};
pub use generate::generate;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Datacenters.
    pub datacenter: Vec<Datacenter>,
    /// Folders of VMs.
    pub folder: Vec<Folder>,
    /// Clusters.
    pub cluster: Vec<Cluster>,
    /// Resource pools.
    pub pool: Vec<Pool>,
    /// Hosts.
    pub host: Vec<Host>,
    /// Networks.
    pub network: Vec<Network>,
    /// Storage pools.
    pub storage: Vec<Storage>,
    /// Virtual machines.
    pub vm: Vec<Vm>,
    /// How the hypervisor behaves.
    pub behaviour: Behaviour,
}

/// A datacenter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Datacenter {
    /// Its name.
    pub name: String,
}

/// A folder of VMs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// The datacenter's name and the names of the folders, with slashes.
    pub path: String,
}

/// A cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its datacenter.
    pub datacenter: String,
}

/// A resource pool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its cluster.
    pub cluster: String,
    /// The pool it lies in; absent: the cluster's root pool.
    #[serde(default)]
    pub parent: Option<String>,
}

/// A host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The datacenter it stands in by itself.
    #[serde(default)]
    pub datacenter: Option<String>,
    /// The cluster it belongs to.
    #[serde(default)]
    pub cluster: Option<String>,
    /// CPU cores.
    #[serde(default = "cores")]
    pub cores: u32,
    /// Clock of a core, MHz.
    #[serde(default = "mhz")]
    pub mhz: u32,
    /// Memory, MiB.
    #[serde(default = "host_memory")]
    pub memory_mib: u32,
    /// The address it is managed by.
    #[serde(default)]
    pub ip: Option<String>,
}

/// A network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its datacenter; absent: that of its first host.
    #[serde(default)]
    pub datacenter: Option<String>,
    /// The hosts that have it; none: all of its datacenter, or all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Its VLAN.
    #[serde(default)]
    pub vlan: u32,
}

/// A storage pool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Its name.
    pub name: String,
    /// Its datacenter; absent: that of its first host.
    #[serde(default)]
    pub datacenter: Option<String>,
    /// The hosts that have it; none: all of its datacenter, or all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// How large it is, GiB.
    #[serde(default = "capacity")]
    pub capacity_gib: u32,
}

/// A virtual machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// Its name.
    pub name: String,
    /// The host it is on.
    pub host: String,
    /// The uuid its guest sees; absent: one that follows from the name.
    #[serde(default)]
    pub uuid: Option<String>,
    /// Its pool; absent: the root pool of where its host is.
    #[serde(default)]
    pub pool: Option<String>,
    /// Its folder, as in `[[folder]]`.
    #[serde(default)]
    pub folder: Option<String>,
    /// What it is doing.
    #[serde(default)]
    pub power: Power,
    /// Virtual CPUs.
    #[serde(default = "cpus")]
    pub cpus: u32,
    /// Memory, MiB.
    #[serde(default = "vm_memory")]
    pub memory_mib: u32,
    /// The networks of its NICs, in order.
    #[serde(default)]
    pub networks: Vec<String>,
    /// Its disks.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Its guest's address while it runs.
    #[serde(default)]
    pub ip: Option<String>,
    /// The operating system in it.
    #[serde(default)]
    pub guest_os: Option<String>,
    /// A note.
    #[serde(default)]
    pub description: Option<String>,
}

/// A disk.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// How large it is, GiB.
    pub gib: u32,
    /// The storage pool it lies in.
    pub storage: String,
}

/// What a VM is doing.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Power {
    /// It runs.
    Running,
    /// It is off.
    #[default]
    Stopped,
    /// Its memory is saved.
    Suspended,
    /// It is in memory and does not execute.
    Paused,
}

fn cores() -> u32 {
    16
}

fn mhz() -> u32 {
    2_400
}

fn host_memory() -> u32 {
    65_536
}

fn vm_memory() -> u32 {
    1_024
}

fn cpus() -> u32 {
    1
}

fn capacity() -> u32 {
    1_000
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Not what was expected; the text names line and column.
    #[error("{0}")]
    Malformed(#[from] toml::de::Error),
    /// A name that nothing has, or two have.
    #[error("{0}")]
    Name(String),
}

/// Reads the file's text.
pub fn parse(text: &str) -> Result<File, FileError> {
    Ok(toml::from_str(text)?)
}

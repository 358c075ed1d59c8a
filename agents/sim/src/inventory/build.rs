//! A file's objects as union records.

use super::{File, FileError, Power, Vm};
use inventory::{
    Skeleton,
    plan::{self, Draft, refs},
};
use rustc_hash::FxHashMap;
use std::hash::BuildHasher as _;
use union::{
    Kind, ObjectId, Record, Schema, Value,
    pb::{
        BootDevice, Bus, Connection, DiskFormat, Firmware, FolderKind, LifecycleAction, NicModel, PowerState,
        ToolsState,
    },
};

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;

/// The records of a file, in an order in which every object comes after those it refers to.
#[derive(Debug, Default)]
pub struct Built {
    /// Objects and their facts.
    pub objects: Vec<(ObjectId, Record)>,
}

/// One name space.
struct Names<'a> {
    what: &'static str,
    ids: FxHashMap<&'a str, ObjectId>,
}

impl<'a> Names<'a> {
    fn new(
        what: &'static str,
        names: impl Iterator<Item = (&'a str, ObjectId)>,
    ) -> Result<Names<'a>, FileError> {
        let mut ids = FxHashMap::default();
        for (name, id) in names {
            if ids.insert(name, id).is_some() {
                return Err(FileError::Name(format!(
                    "two {what}s are called `{name}`; names are unique within their kind"
                )));
            }
        }
        Ok(Names { what, ids })
    }

    fn get(&self, name: &str, by: &str) -> Result<ObjectId, FileError> {
        self.ids.get(name).copied().ok_or_else(|| {
            let mut known: Vec<&str> = self.ids.keys().copied().take(20).collect();
            known.sort_unstable();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            FileError::Name(format!(
                "{by} names the {} `{name}`, which is not there; there are: {known}",
                self.what
            ))
        })
    }

    fn maybe(&self, name: Option<&String>, by: &str) -> Result<Option<ObjectId>, FileError> {
        name.map(|name| self.get(name, by)).transpose()
    }
}

/// Builds the records of a file. `owner` is the target's name: ids follow from it and the names.
pub fn build(schema: &Schema, owner: &str, file: &File) -> Result<Built, FileError> {
    let derived = |kind: Kind, name: &str| ObjectId::derived(kind, &[owner, name]);
    fn names<'a, T>(
        what: &'static str,
        items: &'a [T],
        name: impl Fn(&'a T) -> &'a str,
        id: impl Fn(&'a T) -> ObjectId,
    ) -> Result<Names<'a>, FileError> {
        Names::new(what, items.iter().map(|item| (name(item), id(item))))
    }
    let datacenters =
        names("datacenter", &file.datacenter, |d| &d.name, |d| plan::Datacenter::ids(owner, &d.name).id)?;
    let clusters = names("cluster", &file.cluster, |c| &c.name, |c| derived(Kind::Cluster, &c.name))?;
    let pools = names("pool", &file.pool, |p| &p.name, |p| derived(Kind::ResourcePool, &p.name))?;
    let hosts = names("host", &file.host, |h| &h.name, |h| derived(Kind::Host, &h.name))?;
    let networks = names("network", &file.network, |n| &n.name, |n| derived(Kind::Network, &n.name))?;
    let storage = names("storage pool", &file.storage, |s| &s.name, |s| derived(Kind::StoragePool, &s.name))?;
    names("VM", &file.vm, |v| &v.name, |v| ObjectId::derived(Kind::Vm, &[owner, &v.name]))?;
    let mut out = Built::default();
    let mut folders: FxHashMap<String, ObjectId> = FxHashMap::default();
    for datacenter in &file.datacenter {
        let ids = plan::Datacenter::ids(owner, &datacenter.name);
        out.objects.extend(ids.records(schema, &datacenter.name, None, &Skeleton::default()));
        folders.insert(datacenter.name.clone(), ids.vm);
    }
    for folder in &file.folder {
        add_folders(schema, owner, &folder.path, &mut folders, &mut out)?;
    }
    for cluster in &file.cluster {
        let datacenter = datacenters.get(&cluster.datacenter, &format!("cluster `{}`", cluster.name))?;
        let host_folder = plan::Datacenter::ids(owner, &cluster.datacenter).host;
        let record = plan::cluster(schema, &cluster.name, host_folder, datacenter);
        out.objects.push((derived(Kind::Cluster, &cluster.name), record));
    }
    for pool in &file.pool {
        let by = format!("pool `{}`", pool.name);
        let cluster = clusters.get(&pool.cluster, &by)?;
        let parent = pools.maybe(pool.parent.as_ref(), &by)?.unwrap_or(cluster);
        let record = plan::pool(schema, &pool.name, parent, cluster);
        out.objects.push((derived(Kind::ResourcePool, &pool.name), record));
    }
    let mut placed: FxHashMap<ObjectId, Option<ObjectId>> = FxHashMap::default();
    for host in &file.host {
        let by = format!("host `{}`", host.name);
        let id = derived(Kind::Host, &host.name);
        let cluster = clusters.maybe(host.cluster.as_ref(), &by)?;
        let own = datacenters.maybe(host.datacenter.as_ref(), &by)?;
        let of_cluster = file.cluster.iter().find(|c| Some(&c.name) == host.cluster.as_ref());
        let of_cluster = of_cluster.map(|c| plan::Datacenter::ids(owner, &c.datacenter).id);
        placed.insert(id, own.or(of_cluster));
        let record = Draft::new(schema, Kind::Host)
            .with("name", host.name.as_str())
            .with("uuid", id.uuid.to_string())
            .with("vendor", "hyperglot")
            .with("model", "Simulated host")
            .with("cpu_model", "Simulated CPU")
            .with("cpu_vendor", "hyperglot")
            .with("cpu_mhz", host.mhz)
            .with("cpu_packages", 1)
            .with("cpu_cores", host.cores)
            .with("cpu_threads", host.cores)
            .with("numa_nodes", 1)
            .with("memory_bytes", i64::from(host.memory_mib) * MIB)
            .with("arch", "x86_64")
            .with("hypervisor", "sim")
            .with("hypervisor_version", env!("CARGO_PKG_VERSION"))
            .with("management_ip", host.ip.clone().map(Value::from).unwrap_or_default())
            .with("max_vcpus", 64)
            .with("compute_id", cluster)
            .with("datacenter_id", own)
            .with("connection", Connection::Connected as i32)
            .with("power_state", PowerState::Running as i32)
            .with("maintenance", false)
            .done();
        out.objects.push((id, record));
    }
    // The hosts of a network or storage pool: those it names, else all of its datacenter, else all.
    let on = |named: &[String], datacenter: Option<ObjectId>, by: &str| -> Result<Vec<ObjectId>, FileError> {
        if !named.is_empty() {
            return named.iter().map(|h| hosts.get(h, by)).collect();
        }
        let all = file.host.iter().map(|h| derived(Kind::Host, &h.name));
        Ok(all.filter(|h| datacenter.is_none() || placed.get(h).copied().flatten() == datacenter).collect())
    };
    for network in &file.network {
        let by = format!("network `{}`", network.name);
        let datacenter = datacenters.maybe(network.datacenter.as_ref(), &by)?;
        let id = derived(Kind::Network, &network.name);
        let record = Draft::new(schema, Kind::Network)
            .with("name", network.name.as_str())
            .with("uuid", id.uuid.to_string())
            .with("bridge", format!("br-{}", network.name))
            .with("active", true)
            .with("autostart", true)
            .with("persistent", true)
            .with("forward", "bridge")
            .with("vlan", network.vlan)
            .with("datacenter_id", datacenter)
            .with("host_ids", refs(on(&network.hosts, datacenter, &by)?))
            .done();
        out.objects.push((id, record));
    }
    for pool in &file.storage {
        let by = format!("storage pool `{}`", pool.name);
        let datacenter = datacenters.maybe(pool.datacenter.as_ref(), &by)?;
        let id = derived(Kind::StoragePool, &pool.name);
        let lies = |disk: &&super::Disk| disk.storage == pool.name;
        let used: i64 =
            file.vm.iter().flat_map(|v| &v.disks).filter(lies).map(|d| i64::from(d.gib) * GIB).sum();
        let capacity = i64::from(pool.capacity_gib) * GIB;
        let record = Draft::new(schema, Kind::StoragePool)
            .with("name", pool.name.as_str())
            .with("uuid", id.uuid.to_string())
            .with("path", format!("/sim/{}", pool.name))
            .with("backing", "dir")
            .with("capacity_bytes", capacity)
            .with("allocation_bytes", used.min(capacity))
            .with("available_bytes", capacity.saturating_sub(used).max(0))
            .with("active", true)
            .with("autostart", true)
            .with("persistent", true)
            .with("connection", Connection::Connected as i32)
            .with("datacenter_id", datacenter)
            .with("host_ids", refs(on(&pool.hosts, datacenter, &by)?))
            .done();
        out.objects.push((id, record));
    }
    let template = vm_template(schema);
    for vm in &file.vm {
        let by = format!("VM `{}`", vm.name);
        let place = Place {
            host: hosts.get(&vm.host, &by)?,
            pool: pools.maybe(vm.pool.as_ref(), &by)?,
            folder: match &vm.folder {
                None => None,
                Some(path) => Some(add_folders(schema, owner, path, &mut folders, &mut out)?),
            },
            networks: vm.networks.iter().map(|n| networks.get(n, &by)).collect::<Result<_, _>>()?,
            storage: vm.disks.iter().map(|d| storage.get(&d.storage, &by)).collect::<Result<_, _>>()?,
        };
        let id = vm_id(owner, vm)?;
        out.objects.push((id, vm_record(schema, &template, vm, id, &place)));
    }
    Ok(out)
}

fn vm_id(owner: &str, vm: &Vm) -> Result<ObjectId, FileError> {
    let Some(text) = &vm.uuid else { return Ok(ObjectId::derived(Kind::Vm, &[owner, &vm.name])) };
    let uuid = uuid::Uuid::try_parse(text).map_err(|_| {
        let example = "4c4c4544-0042-3510-8054-b7c04f4a5331";
        FileError::Name(format!(
            "VM `{}` has the uuid `{text}`, which is none; expected one like {example}",
            vm.name
        ))
    })?;
    Ok(ObjectId::new(Kind::Vm, uuid))
}

/// Makes the folders of a path that are not there yet; the last one's id.
fn add_folders(
    schema: &Schema,
    owner: &str,
    path: &str,
    folders: &mut FxHashMap<String, ObjectId>,
    out: &mut Built,
) -> Result<ObjectId, FileError> {
    let mut names = path.split('/').filter(|n| !n.is_empty());
    let first = names.next().unwrap_or_default();
    let mut at = first.to_owned();
    let mut parent = *folders.get(first).ok_or_else(|| {
        FileError::Name(format!(
            "the folder path `{path}` must begin with a datacenter of the file; `{first}` is none"
        ))
    })?;
    let datacenter = plan::Datacenter::ids(owner, first).id;
    for name in names {
        at = format!("{at}/{name}");
        parent = match folders.get(&at) {
            Some(known) => *known,
            None => {
                let id = ObjectId::derived(Kind::Folder, &[owner, &at]);
                let record = plan::folder(schema, name, FolderKind::FolderVm, Some(parent), Some(datacenter));
                out.objects.push((id, record));
                folders.insert(at.clone(), id);
                id
            }
        };
    }
    Ok(parent)
}

struct Place {
    host: ObjectId,
    pool: Option<ObjectId>,
    folder: Option<ObjectId>,
    networks: Vec<ObjectId>,
    storage: Vec<ObjectId>,
}

/// What all VMs have in common.
pub(crate) fn vm_template(schema: &Schema) -> Record {
    let controller = part(
        schema,
        "Controller",
        &[
            ("id", "virtio0".into()),
            ("bus", (Bus::Virtio as i32).into()),
            ("index", 0.into()),
            ("model", "virtio".into()),
        ],
    );
    let video = part(
        schema,
        "Video",
        &[("model", "vga".into()), ("memory_bytes", (16 * MIB).into()), ("heads", 1.into())],
    );
    Draft::new(schema, Kind::Vm)
        .with("template", false)
        .with("connection", Connection::Connected as i32)
        .with("memory_hot_add", false)
        .with("cpu_hot_add", false)
        .with("firmware", Firmware::Bios as i32)
        .with("machine", "sim")
        .with("arch", "x86_64")
        .with("accelerator", "sim")
        .with("acpi", true)
        .with("on_poweroff", LifecycleAction::LifecycleStop as i32)
        .with("on_reboot", LifecycleAction::LifecycleRestart as i32)
        .with("on_crash", LifecycleAction::LifecycleStop as i32)
        .with("autostart", false)
        .with("persistent", true)
        .with("boot", Value::list([Value::from(BootDevice::BootDisk as i32)]))
        .with("controllers", Value::list([controller]))
        .with("video", video)
        .with("cores_per_socket", 1)
        .done()
}

fn vm_record(schema: &Schema, template: &Record, vm: &Vm, id: ObjectId, place: &Place) -> Record {
    let memory = i64::from(vm.memory_mib) * MIB;
    let disks: Vec<Value> = vm
        .disks
        .iter()
        .zip(&place.storage)
        .zip('a'..='z')
        .enumerate()
        .map(|(unit, ((disk, pool), letter))| {
            part(
                schema,
                "Disk",
                &[
                    ("id", format!("vd{letter}").into()),
                    ("bus", (Bus::Virtio as i32).into()),
                    ("controller", "virtio0".into()),
                    ("unit", count(unit)),
                    ("path", format!("/sim/{}/{}/disk{unit}.raw", disk.storage, vm.name).into()),
                    ("storage_pool_id", (*pool).into()),
                    ("size_bytes", (i64::from(disk.gib) * GIB).into()),
                    ("format", (DiskFormat::Raw as i32).into()),
                    ("read_only", false.into()),
                    ("shareable", false.into()),
                    ("backing", "file".into()),
                ],
            )
        })
        .collect();
    let nics: Vec<Value> = vm
        .networks
        .iter()
        .zip(&place.networks)
        .enumerate()
        .map(|(unit, (name, network))| {
            let mac = mac(id, unit);
            part(
                schema,
                "Nic",
                &[
                    ("id", mac.as_str().into()),
                    ("mac", mac.as_str().into()),
                    ("model", (NicModel::NicVirtio as i32).into()),
                    ("model_name", "virtio".into()),
                    ("network_id", (*network).into()),
                    ("network", name.as_str().into()),
                    ("connected", true.into()),
                    ("backing", "network".into()),
                    ("unit", count(unit)),
                ],
            )
        })
        .collect();
    let provisioned: i64 = vm.disks.iter().map(|d| i64::from(d.gib) * GIB).sum();
    let unique = |ids: &[ObjectId]| {
        let mut seen = Vec::new();
        ids.iter().for_each(|id| {
            if !seen.contains(id) {
                seen.push(*id);
            }
        });
        refs(seen)
    };
    let power = match vm.power {
        Power::Running => PowerState::Running,
        Power::Stopped => PowerState::Stopped,
        Power::Suspended => PowerState::Suspended,
        Power::Paused => PowerState::Paused,
    };
    Draft::of(schema, Kind::Vm, template.clone())
        .with("name", vm.name.as_str())
        .with("uuid", id.uuid.to_string())
        .with("instance_uuid", id.uuid.to_string())
        .with("description", vm.description.clone().map(Value::from).unwrap_or_default())
        .with("host_id", place.host)
        .with("resource_pool_id", place.pool)
        .with("folder_id", place.folder)
        .with("power_state", power as i32)
        .with("cpu_count", vm.cpus)
        .with("cpu_current", vm.cpus)
        .with("memory_bytes", memory)
        .with("memory_current_bytes", memory)
        .with("guest_os", vm.guest_os.clone().map(Value::from).unwrap_or_default())
        .with("disk_count", count(disks.len()))
        .with("nic_count", count(nics.len()))
        .with("disks", Value::list(disks))
        .with("nics", Value::list(nics))
        .with("home", vm.name.as_str())
        .with("home_pool_id", place.storage.first().copied())
        .with("storage_pool_ids", unique(&place.storage))
        .with("network_ids", unique(&place.networks))
        .with("storage_used_bytes", provisioned)
        .with("storage_provisioned_bytes", provisioned)
        .with("guest_hostname", if vm.ip.is_some() { Value::from(vm.name.as_str()) } else { Value::Absent })
        .with("guest_ip", vm.ip.clone().map(Value::from).unwrap_or_default())
        .with(
            "tools",
            (if vm.ip.is_some() { ToolsState::ToolsRunning } else { ToolsState::ToolsNotInstalled }) as i32,
        )
        .done()
}

fn count(n: usize) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// A stable MAC address with the locally administered bit.
fn mac(id: ObjectId, unit: usize) -> String {
    let hash = rustc_hash::FxBuildHasher.hash_one((id, unit));
    let [a, b, c, d, e, ..] = hash.to_le_bytes();
    format!("52:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
}

/// A part of an object by field name.
fn part(schema: &Schema, message: &str, fields: &[(&str, Value)]) -> Value {
    let Some(message) = schema.message(message) else { return Value::Absent };
    let mut record = message.record();
    for (name, value) in fields {
        match message.field(name) {
            Some(field) => record.set(field.slot, value.clone()),
            None => tracing::error!(message = message.name, name, "the union has no such field"),
        }
    }
    Value::record(record)
}

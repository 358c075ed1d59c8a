//! Domains: the rows of `mappings/libvirt/domain.toml` lift the document; here is added what the document does not say, or says of things
//! outside it: state, volumes behind disks, networks behind NICs, places, sums.

use super::{Names, get, owned, part, set, set_default, slot, snapshot};
use crate::{
    native::api::{Sizes, State},
    tables::Tables,
};
use std::collections::HashMap;
use union::{
    Kind, ObjectId, Record, Schema, Slot, SlotSet, Value,
    pb::{Connection, PowerState, ToolsState},
};
use uuid::Uuid;
use wire::xml::Element;

/// A pool as VMs see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Its id.
    pub id: ObjectId,
    /// Its name.
    pub name: String,
    /// Where its volumes lie.
    pub path: Option<String>,
    /// It can be used.
    pub active: bool,
    /// Volumes are files in a directory.
    pub directory: bool,
}

/// A volume as VMs see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: ObjectId,
    /// Its pool.
    pub pool: ObjectId,
    /// Its path.
    pub path: String,
    /// Its sizes.
    pub sizes: Sizes,
}

/// What stands around the VMs of a host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// MHz of a CPU.
    pub cpu_mhz: i64,
    /// Logical CPUs.
    pub cpus: i64,
    /// By name, in the order of the names.
    pub pools: Vec<Pool>,
    /// By path.
    pub volumes: HashMap<String, Volume>,
    /// Paths by pool's and volume's name.
    pub by_name: HashMap<(String, String), String>,
    /// Networks by name.
    pub networks: HashMap<String, ObjectId>,
    /// Networks, and bridges that are none, by bridge.
    pub bridges: HashMap<String, ObjectId>,
}

impl Surroundings {
    /// The pool whose directory holds `path`; of several the deepest.
    fn pool_of(&self, path: &str) -> Option<ObjectId> {
        let holds = |pool: &&Pool| {
            let dir = pool.path.as_deref().map(|p| p.trim_end_matches('/'));
            dir.and_then(|dir| path.strip_prefix(dir)).is_some_and(|rest| rest.starts_with('/'))
        };
        let deepest = self.pools.iter().filter(holds).max_by_key(|p| p.path.as_ref().map_or(0, String::len));
        deepest.map(|p| p.id)
    }

    /// Where a VM without disks is at home.
    fn default_pool(&self) -> Option<ObjectId> {
        let usable = || self.pools.iter().filter(|p| p.active);
        usable().find(|p| p.directory).or_else(|| usable().next()).map(|p| p.id)
    }
}

/// Everything that was asked about one domain.
pub struct Answers<'a> {
    /// What the rows lifted from its document.
    pub rows: Record,
    /// What its document says of the guest's tools.
    pub tools: ToolsState,
    /// Whether it runs.
    pub state: State,
    /// Sizes of disks that are in no pool, by target.
    pub sizes: HashMap<String, Sizes>,
    /// Its snapshots.
    pub snapshots: &'a snapshot::Lifted,
    /// When it started, if that was seen.
    pub started_ms: Option<i64>,
}

/// The fields that only a running guest has; they are emptied when it stops and left alone while it runs.
const OF_THE_RUNNING: &[&str] = &[
    "guest_ip",
    "guest_hostname",
    "guest_nics",
    "cpu_usage_mhz",
    "memory_usage_bytes",
    "memory_host_bytes",
    "uptime_s",
];

/// A VM's record and the slots that it fills.
pub fn lift(
    schema: &Schema,
    tables: &Tables,
    names: &Names,
    uuid: Uuid,
    around: &Surroundings,
    answers: Answers<'_>,
) -> (Record, SlotSet) {
    let Answers { mut rows, tools, state, sizes, snapshots, started_ms } = answers;
    let power = tables.power(state);
    let r = &mut rows;
    set(schema, r, "uuid", uuid.to_string());
    set_default(schema, r, "instance_uuid", uuid.to_string());
    set(schema, r, "host_id", names.host());
    set(schema, r, "power_state", power as i32);
    set(schema, r, "connection", Connection::Connected as i32);
    set(schema, r, "autostart", state.autostart);
    set(schema, r, "persistent", state.persistent);
    let copied = [("memory_current_bytes", "memory_bytes"), ("cpu_current", "cpu_count"), ("home", "name")];
    for (field, from) in copied {
        let value = get(schema, r, from).clone();
        set_default(schema, r, field, value);
    }
    let cpus = get(schema, r, "cpu_count").as_int();
    // Without a topology libvirt gives each CPU a socket of its own.
    set_default(schema, r, "cores_per_socket", cpus.map(|_| 1));
    let plugged = get(schema, r, "cpu_current").as_int();
    set(schema, r, "cpu_hot_add", cpus.zip(plugged).map(|(most, now)| now < most));
    set(schema, r, "max_cpu_usage_mhz", cpus.map(|n| n.saturating_mul(around.cpu_mhz)));
    // libvirt lists them in another order once the domain runs.
    let controllers = get(schema, r, "controllers").clone();
    let mut sorted: Vec<Value> = controllers.items().to_vec();
    sorted.sort_by(|a, b| id_of(schema, a).cmp(&id_of(schema, b)));
    set(schema, r, "controllers", Value::list(sorted));
    let mut places = Places::default();
    storage(schema, r, around, &sizes, &mut places);
    network(schema, r, around, &mut places);
    let home = places.pools.first().copied().or_else(|| around.default_pool());
    set(schema, r, "home_pool_id", home);
    if places.pools.is_empty() {
        places.pools.extend(home);
    }
    set(schema, r, "storage_pool_ids", Value::list(places.pools.into_iter().map(Value::Ref)));
    set(schema, r, "network_ids", Value::list(places.networks.into_iter().map(Value::Ref)));
    set(schema, r, "snapshots", snapshots.tree.clone());
    set(schema, r, "current_snapshot_id", snapshots.current.clone());
    set(schema, r, "tools", tools as i32);
    // Declared in mappings/libvirt/protocol.toml; a schema without extension fields does without.
    if let Some(slot) = schema.slot(Kind::Vm, "ext.libvirt.asleep") {
        r.set(slot, tables.asleep(state));
    }
    let runs = tables.runs(state);
    set(schema, r, "boot_time_ms", started_ms.filter(|_| runs));
    (rows, owned(schema, Kind::Vm, if runs { OF_THE_RUNNING } else { &[] }))
}

/// What is known of a machine as soon as it is told to run: that, and since when. What its document then says is seen when it is read.
pub fn started(schema: &Schema, power: PowerState, started_ms: Option<i64>) -> Vec<(Slot, Value)> {
    let facts = [("power_state", Value::Int(power as i64)), ("boot_time_ms", started_ms.into())];
    facts.into_iter().filter_map(|(field, value)| Some((slot(schema, Kind::Vm, field)?, value))).collect()
}

fn id_of<'v>(schema: &Schema, part: &'v Value) -> Option<&'v str> {
    get(schema, part.as_record()?, "id").as_str()
}

#[derive(Default)]
struct Places {
    pools: Vec<ObjectId>,
    networks: Vec<ObjectId>,
}

fn add(to: &mut Vec<ObjectId>, id: ObjectId) {
    if !to.contains(&id) {
        to.push(id);
    }
}

/// The items of a list of parts, each changed by `change`, which also learns its position.
fn each(
    schema: &Schema,
    record: &mut Record,
    field: &str,
    mut change: impl FnMut(usize, &mut Record),
) -> usize {
    let items = get(schema, record, field).clone();
    let changed: Vec<Value> = items
        .items()
        .iter()
        .filter_map(Value::as_record)
        .enumerate()
        .map(|(index, item)| {
            let mut item = Record::clone(item);
            change(index, &mut item);
            Value::record(item)
        })
        .collect();
    let count = changed.len();
    set(schema, record, field, Value::list(changed));
    count
}

/// Disks and drives: what stands behind them, and the sums.
fn storage(
    schema: &Schema,
    record: &mut Record,
    around: &Surroundings,
    sizes: &HashMap<String, Sizes>,
    places: &mut Places,
) {
    let text = |item: &Record, field: &str| get(schema, item, field).as_str().map(str::to_owned);
    let (mut used, mut provisioned, mut known) = (0i64, 0i64, true);
    let count = each(schema, record, "disks", |_, disk| {
        let target = text(disk, "id").unwrap_or_default();
        let named = text(disk, "pool").zip(text(disk, "volume"));
        let path = text(disk, "path").or_else(|| named.and_then(|name| around.by_name.get(&name).cloned()));
        let volume = path.as_deref().and_then(|p| around.volumes.get(p));
        set(schema, disk, "volume_id", volume.map(|v| v.id));
        let pool = volume.map(|v| v.pool).or_else(|| around.pool_of(path.as_deref()?));
        set(schema, disk, "storage_pool_id", pool);
        if let Some(pool) = pool {
            add(&mut places.pools, pool);
        }
        if let Some(path) = path {
            set_default(schema, disk, "path", path);
        }
        match volume.map(|v| v.sizes).or_else(|| sizes.get(&target).copied()) {
            Some(sizes) => {
                set(schema, disk, "size_bytes", sizes.capacity);
                used = used.saturating_add(sizes.allocation);
                provisioned = provisioned.saturating_add(sizes.capacity);
            }
            None => known = false,
        }
        set_default(schema, disk, "unit", unit_of(&target));
    });
    set(schema, record, "disk_count", i64::try_from(count).unwrap_or(i64::MAX));
    set(schema, record, "storage_used_bytes", known.then_some(used));
    set(schema, record, "storage_provisioned_bytes", known.then_some(provisioned));
    each(schema, record, "cdroms", |_, drive| {
        let named = text(drive, "pool").zip(text(drive, "volume"));
        let path = text(drive, "path").or_else(|| named.and_then(|name| around.by_name.get(&name).cloned()));
        let volume = path.as_deref().and_then(|p| around.volumes.get(p));
        let pool = volume.map(|v| v.pool).or_else(|| around.pool_of(path.as_deref()?));
        set(schema, drive, "storage_pool_id", pool);
        if let Some(pool) = pool {
            add(&mut places.pools, pool);
        }
        if let Some(path) = path {
            set_default(schema, drive, "path", path);
        }
        let target = text(drive, "id").unwrap_or_default();
        set_default(schema, drive, "unit", unit_of(&target));
    });
}

/// NICs: the networks behind them.
fn network(schema: &Schema, record: &mut Record, around: &Surroundings, places: &mut Places) {
    let count = each(schema, record, "nics", |index, nic| {
        set_default(schema, nic, "unit", i64::try_from(index).unwrap_or(i64::MAX));
        let name = get(schema, nic, "network").as_str();
        let bridge = get(schema, nic, "bridge").as_str();
        let found = name
            .and_then(|name| around.networks.get(name).or_else(|| around.bridges.get(name)))
            .or_else(|| around.bridges.get(bridge?))
            .copied();
        set(schema, nic, "network_id", found);
        // Only the running domain's document has it, and the network knows it: a power-on is no change of configuration.
        if get(schema, nic, "backing").as_str() == Some("network") {
            set(schema, nic, "bridge", Value::Absent);
        }
        if let Some(network) = found {
            add(&mut places.networks, network);
        }
    });
    set(schema, record, "nic_count", i64::try_from(count).unwrap_or(i64::MAX));
}

/// `vdb` is 1, `sdaa` is 26.
fn unit_of(target: &str) -> Option<i64> {
    let letters = target.get(2..).filter(|rest| !rest.is_empty() && rest.len() < 6)?;
    let number = letters.bytes().try_fold(0i64, |sum, b| match b {
        b'a'..=b'z' => Some(sum * 26 + i64::from(b - b'a') + 1),
        _ => None,
    })?;
    Some(number - 1)
}

/// What the agent's channel, of this name, says of the guest's tools.
pub fn tools(domain: Element<'_>, power: PowerState, channel: &str) -> ToolsState {
    let channels = domain.child("devices").into_iter().flat_map(|d| d.children_named("channel"));
    let mut targets = channels.filter_map(|c| c.child("target"));
    match targets.find(|t| t.attribute("name") == Some(channel)) {
        None => ToolsState::ToolsNotInstalled,
        Some(target) if power == PowerState::Running && target.attribute("state") == Some("connected") => {
            ToolsState::ToolsRunning
        }
        Some(_) => ToolsState::ToolsNotRunning,
    }
}

/// The bridges that a domain's NICs name without a network.
pub fn bridges(domain: Element<'_>) -> impl Iterator<Item = &str> {
    let interfaces = domain.child("devices").into_iter().flat_map(|d| d.children_named("interface"));
    interfaces
        .filter(|i| i.attribute("type") == Some("bridge"))
        .filter_map(|i| i.child("source")?.attribute("bridge"))
}

/// The guest's NICs with the addresses they have, for `Vm.guest_nics`; and the first address that is not of the link only.
pub fn guest_nics(schema: &Schema, vm: &Record, found: &[(String, Vec<String>)]) -> (Value, Value) {
    let nics = get(schema, vm, "nics").clone();
    let mut first = None;
    let shown = nics.items().iter().filter_map(Value::as_record).filter_map(|nic| {
        let mac = get(schema, nic, "mac").as_str()?;
        let (_, addresses) = found.iter().find(|(m, _)| m.eq_ignore_ascii_case(mac))?;
        let usable = addresses.iter().find(|a| !a.starts_with("fe80:") && !a.starts_with("127."));
        first = first.take().or_else(|| usable.cloned());
        let mut shown = part(schema, "GuestNic");
        let s = &mut shown;
        set(schema, s, "mac", mac);
        set(schema, s, "network", get(schema, nic, "network").clone());
        set(schema, s, "addresses", Value::list(addresses.iter().map(|a| Value::str(a))));
        set(schema, s, "connected", true);
        Some(Value::record(shown))
    });
    let shown: Vec<Value> = shown.collect();
    (Value::list(shown), first.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tables;

    fn state(state: i64, saved: bool) -> State {
        State { state, saved, autostart: false, persistent: true }
    }

    #[test]
    fn targets_number_their_units() {
        for (target, unit) in [
            ("vda", Some(0)),
            ("sdz", Some(25)),
            ("sdaa", Some(26)),
            ("vd", None),
            ("vdA", None),
            ("é", None),
        ] {
            assert_eq!(unit_of(target), unit, "{target}");
        }
    }

    #[test]
    fn a_path_lies_in_the_deepest_pool_that_holds_it() {
        let pool = |name: &str, path: &str, active| Pool {
            id: ObjectId::derived(Kind::StoragePool, &[name]),
            name: name.to_owned(),
            path: Some(path.to_owned()),
            active,
            directory: name != "lvm",
        };
        let pools = vec![pool("lvm", "/dev/vg", true), pool("a", "/a", false), pool("ab", "/a/b/", true)];
        let around = Surroundings { pools, ..Surroundings::default() };
        let id = |name| Some(ObjectId::derived(Kind::StoragePool, &[name]));
        assert_eq!(around.pool_of("/a/b/c.img"), id("ab"));
        assert_eq!(around.pool_of("/a/x.img"), id("a"));
        assert_eq!(around.pool_of("/ab.img"), None);
        assert_eq!(around.default_pool(), id("ab"));
    }

    #[test]
    fn tools_are_the_agents_channel() {
        let with = |state: &str| {
            format!(
                "<domain><devices><channel><target name='org.qemu.guest_agent.0'{state}/></channel></devices></domain>"
            )
        };
        let read =
            |xml: &str, power| tools(super::super::document(xml).unwrap().root(), power, tables().agent());
        let running = PowerState::Running;
        assert_eq!(read("<domain/>", running), ToolsState::ToolsNotInstalled);
        assert_eq!(read(&with(""), running), ToolsState::ToolsNotRunning);
        assert_eq!(read(&with(" state='connected'"), running), ToolsState::ToolsRunning);
        assert_eq!(read(&with(" state='connected'"), PowerState::Stopped), ToolsState::ToolsNotRunning);
    }

    /// A VM as rows would lift it: one disk by path, one by pool and volume, NICs of each kind.
    fn rows(schema: &Schema) -> Record {
        let mut vm = schema.kind(Kind::Vm).record();
        let item = |message: &str, fields: &[(&str, &str)]| {
            let mut record = part(schema, message);
            fields.iter().for_each(|(field, text)| set(schema, &mut record, field, *text));
            Value::record(record)
        };
        set(schema, &mut vm, "name", "web");
        set(schema, &mut vm, "cpu_count", 2);
        set(schema, &mut vm, "memory_bytes", 64);
        let disks = [
            item("Disk", &[("id", "vda"), ("path", "/a/d.img")]),
            item("Disk", &[("id", "vdb"), ("pool", "a"), ("volume", "d.img")]),
            item("Disk", &[("id", "vdc"), ("path", "/elsewhere")]),
        ];
        set(schema, &mut vm, "disks", Value::list(disks));
        let nics = [
            item("Nic", &[("mac", "52:54:00:00:00:01"), ("network", "lab")]),
            item("Nic", &[("mac", "52:54:00:00:00:02"), ("bridge", "br0")]),
            item("Nic", &[("mac", "52:54:00:00:00:03")]),
        ];
        set(schema, &mut vm, "nics", Value::list(nics));
        vm
    }

    #[test]
    fn a_vm_is_put_in_its_surroundings() {
        let schema = Schema::base();
        let names = Names::new("t", "h", "qemu:///system");
        let (pool, volume) = (names.pool(Uuid::nil()), names.volume(Uuid::nil(), "/a/d.img"));
        let (lab, bridge) = (names.network(Uuid::nil()), names.bridge("br0"));
        let sizes = Sizes { capacity: 100, allocation: 10, available: 0 };
        let path = "/a/d.img".to_owned();
        let around = Surroundings {
            cpu_mhz: 2000,
            volumes: HashMap::from([(path.clone(), Volume { id: volume, pool, path: path.clone(), sizes })]),
            by_name: HashMap::from([(("a".to_owned(), "d.img".to_owned()), path)]),
            networks: HashMap::from([("lab".to_owned(), lab)]),
            bridges: HashMap::from([("br0".to_owned(), bridge)]),
            ..Surroundings::default()
        };
        let lifted = snapshot::Lifted::default();
        let lift = |state, sizes: HashMap<String, Sizes>| {
            let answers = Answers {
                rows: rows(&schema),
                tools: ToolsState::ToolsNotInstalled,
                state,
                sizes,
                snapshots: &lifted,
                started_ms: Some(7),
            };
            lift(&schema, &tables(), &names, Uuid::nil(), &around, answers)
        };
        let elsewhere = Sizes { capacity: 5, allocation: 5, available: 0 };
        let (vm, slots) = lift(state(1, false), HashMap::from([("vdc".to_owned(), elsewhere)]));
        let field = |name| get(&schema, &vm, name).clone();
        assert_eq!(field("storage_pool_ids"), Value::list([Value::Ref(pool)]));
        assert_eq!(field("network_ids"), Value::list([Value::Ref(lab), Value::Ref(bridge)]));
        assert_eq!(field("storage_provisioned_bytes"), Value::Int(205));
        assert_eq!(field("storage_used_bytes"), Value::Int(25));
        assert_eq!((field("disk_count"), field("nic_count")), (Value::Int(3), Value::Int(3)));
        assert_eq!((field("max_cpu_usage_mhz"), field("boot_time_ms")), (Value::Int(4000), Value::Int(7)));
        assert_eq!((field("cores_per_socket"), field("cpu_hot_add")), (Value::Int(1), Value::Bool(false)));
        assert_eq!((field("home"), field("memory_current_bytes")), (Value::str("web"), Value::Int(64)));
        let usage = schema.slot(Kind::Vm, "cpu_usage_mhz").unwrap();
        assert!(!slots.contains(usage));
        assert!(!slots.contains(schema.slot(Kind::Vm, "operation").unwrap()));
        let (vm, slots) = lift(state(5, false), HashMap::new());
        assert!(slots.contains(usage));
        assert!(get(&schema, &vm, "boot_time_ms").is_absent());
        assert!(get(&schema, &vm, "storage_used_bytes").is_absent());
        let found = [
            ("52:54:00:00:00:01".to_owned(), vec!["fe80::1".to_owned()]),
            ("52:54:00:00:00:02".to_owned(), vec!["192.0.2.9".to_owned()]),
        ];
        let (nics, first) = guest_nics(&schema, &vm, &found);
        assert_eq!((nics.items().len(), first), (2, Value::str("192.0.2.9")));
    }
}

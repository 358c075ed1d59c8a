//! The target: facts in step, power, behind our back, loss and healing.

use super::{
    bundle,
    rig::{Rig, bios_guest},
};
use crate::{
    inventory::get,
    native::connection::Keepalive,
    target::{self, Config, Libvirt, Status},
};
use inventory::Inventory;
use lane::{NativeCall, Progress, StepKind, Target, TargetError};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use union::{
    Kind, ObjectId, Schema, Value,
    clock::SystemClock,
    command::Code,
    pb::{Connection, PowerState},
};

pub struct Bench {
    pub inventory: Arc<Inventory>,
    pub target: Arc<Libvirt>,
}

pub fn config(uri: &str) -> Config {
    Config {
        stats_every: Duration::from_millis(500),
        patience: Duration::from_secs(20),
        ..Config::new("lab", uri)
    }
}

impl Bench {
    pub async fn start(config: Config) -> Bench {
        let clock = Arc::new(SystemClock::new());
        let bundle = bundle();
        let inventory = Inventory::new(bundle.schema.clone(), 1, clock.clone());
        let target = target::connect(config, &bundle, inventory.clone(), clock).unwrap();
        let bench = Bench { inventory, target };
        bench.until("in step", |b| b.target.status() == Status::InStep).await;
        bench
    }

    /// Waits for something that will be so; gives up after a time in which it surely would.
    pub async fn until(&self, what: &str, is: impl Fn(&Bench) -> bool) {
        for _ in 0..3000 {
            if is(self) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("not {what}: {:?}, {:?}", self.target.status(), self.inventory);
    }

    pub fn field(&self, id: ObjectId, name: &str) -> Value {
        let record = self.inventory.record(id);
        record.map_or(Value::Absent, |r| get(self.inventory.schema(), &r, name).clone())
    }

    /// The fields that do not follow the running guest, and their stamps.
    fn configuration(&self, id: ObjectId) -> Vec<(String, Value)> {
        let fields = self.inventory.schema().kind(id.kind).fields.iter().filter(|f| !f.runtime);
        fields.map(|f| (f.name.clone(), self.field(id, &f.name))).collect()
    }

    fn named(&self, kind: Kind, name: &str) -> Option<ObjectId> {
        let mut ids = self.inventory.ids(kind).into_iter();
        ids.find(|id| self.field(*id, "name").as_str() == Some(name))
    }

    pub fn vm(&self, name: &str) -> ObjectId {
        self.named(Kind::Vm, name).unwrap_or_else(|| panic!("no VM {name}"))
    }

    pub fn power(&self, vm: ObjectId) -> Option<i64> {
        self.field(vm, "power_state").as_int()
    }

    async fn until_power(&self, vm: ObjectId, state: PowerState) {
        self.until(state.as_str_name(), |b| b.power(vm) == Some(state as i64)).await;
    }

    async fn call(&self, vm: ObjectId, call: &str, more: &[(&str, i64)]) -> Result<Value, TargetError> {
        let mut args = vec![(Arc::from("dom"), Value::Ref(vm))];
        args.extend(more.iter().map(|(name, n)| (Arc::from(*name), Value::Int(*n))));
        let call = NativeCall { call: call.into(), args, is: StepKind::Idempotent, undo: None, script: None };
        let progress: Progress = Arc::new(|_| {});
        self.target.perform(vm, &call, Instant::now() + Duration::from_secs(30), progress).await
    }

    async fn reread(&self, id: ObjectId) -> Result<union::command::Revision, TargetError> {
        self.target.reread(id, Instant::now() + Duration::from_secs(20)).await
    }
}

#[tokio::test]
async fn the_test_driver_is_seen_whole() {
    let rig = Rig::start();
    let bench = Bench::start(config(&rig.over_tcp("test", "default"))).await;
    let host = bench.target.host().unwrap();
    for (field, value) in [
        ("hypervisor", Value::str("TEST")),
        ("cpu_threads", Value::Int(16)),
        ("cpu_mhz", Value::Int(1400)),
        ("memory_bytes", Value::Int(3 << 30)),
        ("connection", Value::Int(Connection::Connected as i64)),
        ("management_ip", Value::str("127.0.0.1")),
    ] {
        assert_eq!(bench.field(host, field), value, "{field}");
    }
    let vm = bench.vm("test");
    assert_eq!(bench.power(vm), Some(PowerState::Running as i64));
    assert_eq!(bench.field(vm, "memory_bytes"), Value::Int(8 << 30));
    assert_eq!(bench.field(vm, "host_id"), Value::Ref(host));
    assert_eq!(bench.field(vm, "uuid"), Value::from(vm.uuid.to_string()));
    assert_eq!(bench.field(vm, "persistent"), Value::Bool(true));
    let network = bench.named(Kind::Network, "default").unwrap();
    assert_eq!(bench.field(network, "bridge"), Value::str("virbr0"));
    assert_eq!(bench.field(network, "forward"), Value::str("nat"));
    let pool = bench.named(Kind::StoragePool, "default-pool").unwrap();
    assert_eq!(bench.field(pool, "path"), Value::str("/default-pool"));
    assert_eq!(bench.field(pool, "backing"), Value::str("dir"));
    assert_eq!(bench.field(vm, "home_pool_id"), Value::Ref(pool));
    assert!(bench.target.holds(vm) && bench.target.holds(host) && bench.target.holds(pool));
    assert!(!bench.target.holds(ObjectId::derived(Kind::Vm, &["other"])));
}

#[tokio::test]
async fn snapshots_networks_and_volumes_of_the_test_driver_follow() {
    let rig = Rig::start();
    let bench = Bench::start(config(&rig.over_tcp("test", "default"))).await;
    let vm = bench.vm("test");
    let virsh = |args: &[&str]| rig.virsh_on("test", "default", args);
    for (name, about) in [("s1", "first"), ("s2", "second")] {
        virsh(&["snapshot-create-as", "test", name, about]);
    }
    bench.reread(vm).await.unwrap();
    assert_eq!(bench.inventory.count(Kind::Snapshot), 2);
    let (s1, s2) = (bench.named(Kind::Snapshot, "s1").unwrap(), bench.named(Kind::Snapshot, "s2").unwrap());
    assert_eq!(bench.field(vm, "current_snapshot_id"), Value::Ref(s2));
    assert_eq!(bench.field(s2, "parent_id"), Value::Ref(s1));
    assert_eq!(bench.field(s1, "child_ids"), Value::list([Value::Ref(s2)]));
    assert_eq!(bench.field(s1, "description"), Value::str("first"));
    assert_eq!(bench.field(vm, "snapshots").items().len(), 1);
    virsh(&["snapshot-delete", "test", "s1"]);
    bench.reread(vm).await.unwrap();
    assert!(bench.inventory.record(s1).is_none());
    assert!(!bench.target.holds(s1) && bench.target.holds(s2));
    let network = bench.named(Kind::Network, "default").unwrap();
    virsh(&["net-destroy", "default"]);
    bench.until("inactive", |b| b.field(network, "active") == Value::Bool(false)).await;
    virsh(&["net-undefine", "default"]);
    bench.until("without network", |b| b.inventory.record(network).is_none()).await;
    virsh(&["vol-create-as", "default-pool", "v1", "3M"]);
    virsh(&["pool-refresh", "default-pool"]);
    bench.until("with volume", |b| b.named(Kind::Volume, "v1").is_some()).await;
    let volume = bench.named(Kind::Volume, "v1").unwrap();
    assert_eq!(bench.field(volume, "capacity_bytes"), Value::Int(3 << 20));
    assert_eq!(bench.field(volume, "path"), Value::str("/default-pool/v1"));
}

#[tokio::test]
async fn power_is_performed_and_seen() {
    let rig = Rig::start();
    let devices = "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>\
                   <graphics type='vnc' port='-1' autoport='yes'/>\
                   <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
                   <interface type='user'><model type='e1000'/></interface></devices>";
    rig.define(&bios_guest("one").replace("</devices>", devices));
    let bench = Bench::start(config(&rig.qemu())).await;
    let vm = bench.vm("one");
    let configured = bench.configuration(vm);
    assert_eq!(bench.power(vm), Some(PowerState::Stopped as i64));
    for (call, more, state) in [
        ("DomainCreate", &[][..], PowerState::Running),
        ("DomainReset", &[("flags", 0)], PowerState::Running),
        ("DomainSuspend", &[], PowerState::Paused),
        ("DomainResume", &[], PowerState::Running),
        ("DomainManagedSave", &[("flags", 0)], PowerState::Suspended),
        ("DomainCreate", &[], PowerState::Running),
        ("DomainManagedSave", &[("flags", 0)], PowerState::Suspended),
        ("DomainManagedSaveRemove", &[("flags", 0)], PowerState::Stopped),
        ("DomainCreate", &[], PowerState::Running),
        ("DomainDestroy", &[], PowerState::Stopped),
    ] {
        bench.call(vm, call, more).await.unwrap_or_else(|e| panic!("{call}: {e}"));
        let revision = bench.reread(vm).await.unwrap();
        assert_eq!(bench.power(vm), Some(state as i64), "after {call}");
        assert!(bench.inventory.revision() >= revision);
        assert_eq!(bench.configuration(vm), configured, "{call} is no change of configuration");
    }
    let error = bench.call(vm, "DomainDestroy", &[]).await.unwrap_err();
    assert_eq!(error.cause().code, Code::InvalidState, "{error}");
    let error = bench.call(vm, "DomainExplode", &[]).await.unwrap_err();
    assert_eq!(error, TargetError::Unsupported("DomainExplode".into()));
}

#[tokio::test]
async fn what_virsh_does_behind_our_back_is_seen() {
    let rig = Rig::start();
    let bench = Bench::start(config(&rig.qemu())).await;
    rig.define(&bios_guest("two"));
    bench.until("defined", |b| b.named(Kind::Vm, "two").is_some()).await;
    let vm = bench.vm("two");
    rig.virsh(&["start", "two"]);
    bench.until_power(vm, PowerState::Running).await;
    let booted = bench.field(vm, "boot_time_ms");
    assert!(booted.as_int().is_some());
    bench.until("used", |b| b.field(vm, "cpu_usage_mhz").as_int().is_some()).await;
    bench.until("figured", |b| b.field(vm, "memory_host_bytes").as_int() > Some(0)).await;
    let host = bench.target.host().unwrap();
    bench.until("busy", |b| b.field(host, "cpu_usage_mhz").as_int().is_some()).await;
    assert!(bench.field(host, "memory_usage_bytes").as_int() > Some(0));
    assert!(bench.field(host, "uptime_s").as_int() > Some(0));
    assert!(bench.field(host, "boot_time_ms").as_int() > Some(0));
    rig.virsh(&["suspend", "two"]);
    bench.until_power(vm, PowerState::Paused).await;
    assert_eq!(bench.field(vm, "boot_time_ms"), booted);
    rig.virsh(&["resume", "two"]);
    bench.until_power(vm, PowerState::Running).await;
    rig.virsh(&["managedsave", "two"]);
    bench.until_power(vm, PowerState::Suspended).await;
    assert!(bench.field(vm, "memory_host_bytes").is_absent());
    assert!(bench.field(vm, "boot_time_ms").is_absent());
    rig.virsh(&["start", "two"]);
    bench.until_power(vm, PowerState::Running).await;
    rig.virsh(&["desc", "two", "--config", "--live", "--title", "hello"]);
    bench.until("titled", |b| b.field(vm, "title").as_str() == Some("hello")).await;
    rig.virsh(&["autostart", "two"]);
    bench.reread(vm).await.unwrap();
    assert_eq!(bench.field(vm, "autostart"), Value::Bool(true));
    rig.virsh(&["destroy", "two"]);
    bench.until_power(vm, PowerState::Stopped).await;
    rig.virsh(&["undefine", "two"]);
    bench.until("gone", |b| b.inventory.record(vm).is_none()).await;
    assert!(!bench.target.holds(vm));
    assert!(bench.inventory.tombstone(vm).is_some());
}

#[tokio::test]
async fn disks_lie_in_pools() {
    let rig = Rig::start();
    let bench = Bench::start(config(&rig.qemu())).await;
    let images = rig.images();
    let images = images.to_str().unwrap();
    rig.virsh(&["pool-create-as", "local", "dir", "--target", images]);
    bench.until("pool", |b| b.named(Kind::StoragePool, "local").is_some()).await;
    rig.virsh(&["vol-create-as", "local", "d.img", "5M", "--format", "raw"]);
    rig.virsh(&["pool-refresh", "local"]);
    bench.until("volume", |b| b.inventory.count(Kind::Volume) == 1).await;
    let disk = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{images}/d.img'/>\
         <target dev='vdb' bus='virtio'/></disk><disk type='volume' device='disk'><driver name='qemu' type='raw'/>\
         <source pool='local' volume='d.img'/><target dev='vdc' bus='virtio'/></disk>\
         <disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>\
         <interface type='user'><mac address='52:54:00:00:00:01'/><model type='e1000'/></interface></devices>"
    );
    rig.define(&bios_guest("three").replace("</devices>", &disk));
    bench.until("defined", |b| b.named(Kind::Vm, "three").is_some()).await;
    let (vm, pool) = (bench.vm("three"), bench.named(Kind::StoragePool, "local").unwrap());
    let volume = bench.named(Kind::Volume, "d.img").unwrap();
    let schema = bench.inventory.schema().clone();
    let disks = bench.field(vm, "disks");
    assert_eq!(disks.items().len(), 2);
    for (disk, unit) in disks.items().iter().zip([1, 2]) {
        let disk = disk.as_record().unwrap();
        let field = |name| get(&schema, disk, name).clone();
        assert_eq!(field("volume_id"), Value::Ref(volume));
        assert_eq!(field("storage_pool_id"), Value::Ref(pool));
        assert_eq!(field("size_bytes"), Value::Int(5 << 20));
        assert_eq!(field("path"), Value::from(format!("{images}/d.img")));
        assert_eq!(field("unit"), Value::Int(unit));
    }
    assert_eq!(bench.field(vm, "disk_count"), Value::Int(2));
    assert_eq!(bench.field(vm, "nic_count"), Value::Int(1));
    assert_eq!(bench.field(vm, "storage_pool_ids"), Value::list([Value::Ref(pool)]));
    assert_eq!(bench.field(vm, "home_pool_id"), Value::Ref(pool));
    assert_eq!(bench.field(vm, "storage_provisioned_bytes"), Value::Int(10 << 20));
    rig.virsh(&["undefine", "three"]);
    bench.until("gone", |b| b.inventory.record(vm).is_none()).await;
    rig.virsh(&["pool-destroy", "local"]);
    bench.until("pool gone", |b| b.inventory.count(Kind::StoragePool) == 0).await;
    assert_eq!(bench.inventory.count(Kind::Volume), 0);
}

#[tokio::test]
async fn a_bridge_that_is_no_network_is_shown_as_one() {
    let rig = Rig::start();
    let nics = "<interface type='bridge'><mac address='52:54:00:00:00:07'/><source bridge='br7'/>\
                <model type='virtio'/></interface></devices>";
    rig.define(&bios_guest("bridged").replace("</devices>", nics));
    let bench = Bench::start(config(&rig.qemu())).await;
    let (vm, host) = (bench.vm("bridged"), bench.target.host().unwrap());
    let bridge = bench.named(Kind::Network, "br7").unwrap();
    let shown = |b: &Bench| {
        let nic = b.field(vm, "nics").items()[0].as_record().unwrap().clone();
        let of_nic = |name| get(b.inventory.schema(), &nic, name).clone();
        assert_eq!((of_nic("network_id"), of_nic("bridge")), (Value::Ref(bridge), Value::str("br7")));
        for (field, value) in [
            ("bridge", Value::str("br7")),
            ("forward", Value::str("bridge")),
            ("active", Value::Bool(true)),
            ("host_ids", Value::list([Value::Ref(host)])),
        ] {
            assert_eq!(b.field(bridge, field), value, "{field}");
        }
        assert_eq!(b.field(vm, "network_ids"), Value::list([Value::Ref(bridge)]));
        assert_eq!(b.field(host, "network_ids"), Value::list([Value::Ref(bridge)]));
        assert!(b.target.holds(bridge));
    };
    shown(&bench);
    // libvirt names it in no list: reading everything again must not take it away.
    bench.reread(host).await.unwrap();
    bench.reread(vm).await.unwrap();
    shown(&bench);
}

#[tokio::test]
async fn a_killed_daemon_is_shown_and_heals_with_what_changed_meanwhile() {
    let mut rig = Rig::start();
    rig.define(&bios_guest("four"));
    rig.define(&bios_guest("five"));
    let bench = Bench::start(config(&rig.qemu())).await;
    let (vm, other, host) = (bench.vm("four"), bench.vm("five"), bench.target.host().unwrap());
    bench.call(vm, "DomainCreate", &[]).await.unwrap();
    bench.until_power(vm, PowerState::Running).await;
    rig.kill();
    let lost = Some(Connection::NotResponding as i64);
    bench.until("lost", |b| b.field(vm, "connection").as_int() == lost).await;
    assert_eq!(bench.field(host, "connection").as_int(), lost);
    assert_eq!(bench.power(vm), Some(PowerState::Running as i64));
    assert_eq!(bench.field(other, "name"), Value::str("five"));
    let error = bench.call(vm, "DomainDestroy", &[]).await.unwrap_err();
    assert!(matches!(error, TargetError::Unreachable(_)), "{error}");
    assert!(matches!(bench.reread(vm).await, Err(TargetError::Unreachable(_))));
    rig.launch();
    rig.virsh(&["undefine", "five"]);
    let healed = Some(Connection::Connected as i64);
    bench.until("healed", |b| b.field(vm, "connection").as_int() == healed).await;
    bench.until("in step", |b| b.target.status() == Status::InStep).await;
    bench.until("five is gone", |b| b.inventory.record(other).is_none()).await;
    assert_eq!(bench.field(host, "connection").as_int(), healed);
    rig.virsh(&["destroy", "four"]);
    bench.until_power(vm, PowerState::Stopped).await;
}

#[tokio::test]
async fn a_hanging_daemon_meets_the_deadline_and_heals() {
    let rig = Rig::start();
    rig.define(&bios_guest("six"));
    let keepalive =
        Keepalive { ask_after: Duration::from_millis(500), lost_after: Duration::from_millis(2000) };
    let bench = Bench::start(Config { keepalive, ..config(&rig.qemu()) }).await;
    let vm = bench.vm("six");
    rig.signal("STOP");
    let deadline = Instant::now() + Duration::from_millis(300);
    let read = bench.target.reread(vm, deadline).await;
    assert!(matches!(read, Err(TargetError::TimedOut | TargetError::Unreachable(_))), "{read:?}");
    let lost = Some(Connection::NotResponding as i64);
    bench.until("lost", |b| b.field(vm, "connection").as_int() == lost).await;
    rig.signal("CONT");
    bench.until("healed", |b| b.target.status() == Status::InStep).await;
    bench.call(vm, "DomainCreate", &[]).await.unwrap();
    bench.until_power(vm, PowerState::Running).await;
}

#[tokio::test]
async fn tls_and_tcp_are_targets_too() {
    let rig = Rig::start();
    rig.define(&bios_guest("seven"));
    for uri in [rig.qemu_tls(), rig.over_tcp("qemu", "session")] {
        let bench = Bench::start(config(&uri)).await;
        let vm = bench.vm("seven");
        bench.call(vm, "DomainCreate", &[]).await.unwrap();
        bench.until_power(vm, PowerState::Running).await;
        bench.call(vm, "DomainDestroy", &[]).await.unwrap();
        bench.until_power(vm, PowerState::Stopped).await;
    }
}

#[tokio::test]
async fn a_target_that_is_not_there_yet_is_waited_for() {
    let clock = Arc::new(SystemClock::new());
    let inventory = Inventory::new(Schema::base(), 1, clock.clone());
    let uri = "qemu+unix:///system?socket=/nonexistent/sock";
    let target = target::connect(config(uri), &bundle(), inventory, clock.clone()).unwrap();
    let Status::Lost(reason) = target.settled().await else { panic!("{:?}", target.status()) };
    assert!(reason.contains("/nonexistent/sock"), "{reason}");
    assert_eq!(target.host(), None);
    let inventory = Inventory::new(Schema::base(), 1, clock.clone());
    let bad = target::connect(config("nonsense"), &bundle(), inventory, clock);
    assert!(bad.is_err());
}

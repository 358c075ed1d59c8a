//! Calls that change what runs, and what lies in pools: their facts follow.

use super::{
    rig::{Rig, bios_guest},
    target::{Bench, config},
};
use lane::{NativeCall, StepKind, Target};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use union::{Kind, ObjectId, Value};

/// Live and defined at once.
const BOTH: i64 = 3;

fn call(name: &str, args: &[(&str, Value)]) -> NativeCall {
    let args = args.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect();
    NativeCall { call: name.into(), args, is: StepKind::Idempotent, undo: None, script: None }
}

impl Bench {
    async fn do_now(&self, vm: ObjectId, call: &NativeCall) {
        self.perform(vm, call).await.unwrap_or_else(|e| panic!("{call:?}: {e}"));
        self.target.reread(vm, Instant::now() + Duration::from_secs(20)).await.unwrap();
    }
}

/// A guest that takes more processors and memory while it runs.
pub fn growing(name: &str) -> String {
    bios_guest(name)
        .replace(
            "<memory unit='MiB'>32</memory>",
            "<maxMemory slots='4' unit='MiB'>512</maxMemory><memory unit='MiB'>64</memory>",
        )
        .replace("<vcpu>1</vcpu>", "<vcpu current='1'>3</vcpu>")
        .replace(
            "<devices>",
            "<cpu><numa><cell id='0' cpus='0-2' memory='64' unit='MiB'/></numa></cpu><devices>",
        )
}

#[tokio::test]
async fn a_running_guest_grows_and_its_facts_with_it() {
    let rig = Rig::start();
    rig.define(&growing("grow"));
    rig.define(&bios_guest("fixed"));
    rig.virsh(&["start", "grow"]);
    let bench = Bench::start(config(&rig.qemu())).await;
    let (vm, fixed) = (bench.vm("grow"), bench.vm("fixed"));
    let facts = |vm| ["memory_hot_add", "cpu_hot_add"].map(|field| bench.field(vm, field));
    assert_eq!(facts(vm), [Value::Bool(true), Value::Bool(true)]);
    assert_eq!(facts(fixed), [Value::Bool(false), Value::Bool(false)]);
    assert_eq!(
        (bench.field(vm, "cpu_count"), bench.field(vm, "cpu_current")),
        (Value::Int(3), Value::Int(1))
    );
    let dom = ("dom", Value::Ref(vm));
    let vcpus = |n: i64| {
        call("DomainSetVcpusFlags", &[dom.clone(), ("nvcpus", Value::Int(n)), ("flags", Value::Int(BOTH))])
    };
    bench.make(vm, &vcpus(3)).await;
    assert_eq!(bench.field(vm, "cpu_current"), Value::Int(3));
    assert_eq!(facts(vm), [Value::Bool(true), Value::Bool(false)], "no place is left");
    let more = bench.perform(vm, &vcpus(4)).await.unwrap_err();
    assert!(!more.is_ambiguous(), "{more:?}");
    let before = bench.field(vm, "memory_bytes").as_int().unwrap();
    let dimm = "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>";
    let attach = [dom.clone(), ("xml", Value::str(dimm)), ("flags", Value::Int(BOTH))];
    bench.do_now(vm, &call("DomainAttachDeviceFlags", &attach)).await;
    assert_eq!(bench.field(vm, "memory_bytes"), Value::Int(before + (128 << 20)));
    let text = "hot & described";
    let describe = [dom.clone(), ("metadata", Value::str(text)), ("flags", Value::Int(BOTH))];
    bench.make(vm, &call("DomainSetMetadata", &describe)).await;
    assert_eq!(bench.field(vm, "description"), Value::str(text));
    bench.make(vm, &call("DomainSetMetadata", &[dom.clone(), ("flags", Value::Int(BOTH))])).await;
    assert!(bench.field(vm, "description").is_absent(), "without a text it is taken away");
    let memory = [dom, ("memory", Value::Int(48 << 10)), ("flags", Value::Int(2))];
    bench.make(vm, &call("DomainSetMemoryFlags", &memory)).await;
}

#[tokio::test]
async fn a_volume_is_deleted_and_gone_from_the_facts() {
    let rig = Rig::start();
    let images = rig.images();
    rig.virsh(&["pool-create-as", "local", "dir", "--target", images.to_str().unwrap()]);
    rig.virsh(&["vol-create-as", "local", "d.img", "5M", "--format", "raw"]);
    rig.define(&bios_guest("owner"));
    let bench = Bench::start(config(&rig.qemu())).await;
    let vm = bench.vm("owner");
    let volume = *bench.inventory.ids(Kind::Volume).first().unwrap();
    let delete = call("StorageVolDelete", &[("vol", Value::Ref(volume))]);
    bench.make(vm, &delete).await;
    assert!(bench.inventory.record(volume).is_none() && !images.join("d.img").exists());
}

#[tokio::test]
async fn renames_and_definitions_behind_our_back_are_followed() {
    let rig = Rig::start();
    rig.define(&bios_guest("first"));
    let bench = Bench::start(config(&rig.qemu())).await;
    let vm = bench.vm("first");
    rig.virsh(&["domrename", "first", "second"]);
    bench.until("renamed", |b| b.field(vm, "name").as_str() == Some("second")).await;
    assert!(bench.target.holds(vm));
    let uuid = format!("<uuid>{}</uuid><memory", vm.uuid);
    rig.define(&bios_guest("second").replace("<vcpu>1", "<vcpu>2").replace("<memory", &uuid));
    bench.until("defined anew", |b| b.field(vm, "cpu_count") == Value::Int(2)).await;
    rig.virsh(&["start", "second"]);
    let nic = rig.images().join("nic.xml");
    std::fs::write(
        &nic,
        "<interface type='user'><mac address='52:54:00:00:00:0d'/><model type='e1000'/></interface>",
    )
    .unwrap();
    let nic = nic.to_str().unwrap();
    rig.virsh(&["attach-device", "second", nic, "--live"]);
    bench.until("attached", |b| b.field(vm, "nic_count") == Value::Int(1)).await;
}

//! One machine on two libvirts, and what the first reading tells.

use super::{
    bundle,
    rig::{Rig, bios_guest},
    target::{Bench, config},
};
use crate::target::{self, Config, Status};
use inventory::{Chronicle, chronicle::Filter};
use lane::Target;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use union::{Kind, ObjectId, Value, clock::SystemClock};

const UUID: &str = "4c4c4544-0042-3510-8054-b7c04f4a5331";

#[tokio::test]
async fn who_had_a_machine_first_keeps_it_until_it_lets_go() {
    let (first, second) = (Rig::start(), Rig::start());
    let xml = bios_guest("one").replace("<memory", &format!("<uuid>{UUID}</uuid><memory"));
    [&first, &second].iter().for_each(|rig| rig.define(&xml));
    let vm = ObjectId::new(Kind::Vm, UUID.parse().unwrap());
    let bench = Bench::start(config(&first.qemu())).await;
    let (chronicle, _guard) = Chronicle::new("c", &bench.inventory);
    let other = Config { name: "attic".into(), ..config(&second.qemu()) };
    let clock = Arc::new(SystemClock::new());
    let other = target::connect(other, &bundle(), bench.inventory.clone(), clock).unwrap();
    bench.until("in step", |_| other.status() == Status::InStep).await;
    let told = || -> Vec<String> {
        let found = chronicle.query(&Filter::default());
        found.iter().map(|e| e.what.to_string()).collect()
    };
    assert_eq!(told(), ["vm.trouble_began", "host.added"], "a host with what is on it is one event");
    let trouble = bench.field(vm, "trouble");
    assert!(trouble.as_str().is_some_and(|t| t.contains(" on lab and on attic")), "{trouble:?}");
    let host = Value::Ref(bench.target.host().unwrap());
    assert_eq!(bench.field(vm, "host_id"), host);
    second.virsh(&["start", "one"]);
    first.virsh(&["undefine", "one"]);
    bench.until("with who is left", |b| b.field(vm, "host_id") == other.host().into()).await;
    bench.until("running", |b| b.power(vm) == Some(1)).await;
    assert!(bench.field(vm, "trouble").is_absent() && other.holds(vm) && !bench.target.holds(vm));
    second.virsh(&["destroy", "one"]);
    second.virsh(&["undefine", "one"]);
    bench.until("gone", |b| b.inventory.record(vm).is_none()).await;
}

#[tokio::test]
async fn a_libvirt_that_never_had_a_machine_takes_nothing_away_from_who_has_it() {
    let (first, second) = (Rig::start(), Rig::start());
    first.define(&bios_guest("mine"));
    let bench = Bench::start(config(&first.qemu())).await;
    let other = Config { name: "attic".into(), ..config(&second.qemu()) };
    let clock = Arc::new(SystemClock::new());
    let other = target::connect(other, &bundle(), bench.inventory.clone(), clock).unwrap();
    bench.until("in step", |_| other.status() == Status::InStep).await;
    let vm = bench.vm("mine");
    other.reread(vm, Instant::now() + Duration::from_secs(20)).await.unwrap();
    assert_eq!(bench.field(vm, "name"), Value::str("mine"));
    assert!(bench.target.holds(vm) && !other.holds(vm));
}

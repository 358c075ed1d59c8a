//! A libvirt power call, raw and through us, against libvirt's own test driver in a libvirtd of its own.
//!
//! ```text
//! raw            our RPC client: DomainDestroy, DomainCreate
//! through us     Owner ▶ lane ▶ guard ▶ lower ▶ the same call ▶ reread ▶ Outcome
//! ```
//! Medians over the calls of one run, in turn, so that both see the same machine.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a bench that cannot run ends"
)]

use benches::rig::{self, Libvirtd, soon};
use inventory::{Inventory, Tasks};
use lane::{Limits, Owner, Reply, Target, rules::BundleRules};
use libvirt::{
    native::{self, connection::Connection},
    target::{Config, Status},
};
use std::{sync::Arc, time::Duration};
use union::{
    Clock, CommandId, Ids, Kind, ObjectId, Origin,
    clock::{SystemClock, SystemIds},
    command::Outcome,
};
use wire::xdr::XdrValue;

const ROUNDS: usize = 300;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let daemon = Libvirtd::start();
    let raw = rig::raw(&daemon.uri).await;
    let (owner, vm) = ours(&daemon.uri).await;
    let dom = handle(&raw, vm).await;
    let mut figures: [Vec<Duration>; 5] = Default::default();
    for _ in 0..ROUNDS {
        figures[0].push(call(&raw, "DOMAIN_GET_STATE", &dom, true).await);
        figures[1].push(call(&raw, "DOMAIN_DESTROY", &dom, false).await);
        figures[2].push(call(&raw, "DOMAIN_CREATE", &dom, false).await);
        settle(&owner, vm).await;
        figures[3].push(command(&owner, "PowerOff", vm).await);
        figures[4].push(command(&owner, "PowerOn", vm).await);
    }
    let labels = [
        "raw get state",
        "raw destroy",
        "raw create",
        "PowerOff through the lane",
        "PowerOn through the lane",
    ];
    println!("libvirt test driver over TCP on loopback, {ROUNDS} rounds");
    for (label, mut samples) in labels.into_iter().zip(figures) {
        samples.sort();
        println!("{label:28} p50 {:>8.1?}  p99 {:>8.1?}", samples[ROUNDS / 2], samples[ROUNDS * 99 / 100]);
    }
}

async fn handle(connection: &Connection, vm: ObjectId) -> XdrValue {
    let uuid = vec![("uuid", native::api::uuid_value(vm.uuid))];
    let found = connection.call("DOMAIN_LOOKUP_BY_UUID", uuid, soon()).await.unwrap();
    found.get("dom").unwrap().clone()
}

async fn call(connection: &Connection, procedure: &str, dom: &XdrValue, flags: bool) -> Duration {
    let mut args = vec![("dom", dom.clone())];
    if flags {
        args.push(("flags", XdrValue::Uint(0)));
    }
    rig::call(connection, procedure, args).await
}

async fn ours(uri: &str) -> (Arc<Owner>, ObjectId) {
    let bundle = benches::bundle();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let inventory = Inventory::new(Arc::clone(&bundle.schema), 1, Arc::clone(&clock));
    let tasks = Tasks::new(Arc::clone(&inventory), Arc::clone(&clock), Arc::new(SystemIds));
    let rules = Arc::new(BundleRules::new(Arc::clone(&bundle)));
    let owner = Owner::new(rules, Arc::clone(&inventory), tasks, Arc::clone(&clock), Limits::default());
    let target =
        libvirt::target::connect(Config::new("bench", uri), &bundle, Arc::clone(&inventory), clock).unwrap();
    assert_eq!(target.settled().await, Status::InStep);
    owner.adopt(target as Arc<dyn Target>);
    let vm = inventory.ids(Kind::Vm)[0];
    (owner, vm)
}

/// Lets the reader hear of what the raw calls did, so that it is not measured as part of the next command.
async fn settle(owner: &Arc<Owner>, vm: ObjectId) {
    tokio::time::sleep(Duration::from_millis(5)).await;
    let target = owner.target_of(vm).unwrap();
    target.reread(vm, soon()).await.unwrap();
}

async fn command(owner: &Arc<Owner>, verb: &str, vm: ObjectId) -> Duration {
    let bundle_schema = union::Schema::base();
    let message = bundle_schema.message(verb).unwrap();
    let mut body = message.record();
    body.set(message.field("vm_id").unwrap().slot, vm);
    let command = union::Command {
        id: CommandId(SystemIds.uuid()),
        verb: verb.into(),
        schema: message.command.clone().unwrap(),
        object: vm,
        body: Arc::new(body),
        principal: "bench".into(),
        session: "".into(),
        deadline_ms: SystemClock::new().now_ms() + 10_000,
        origin: Origin {
            protocol: "vsphere".into(),
            view: "fleet".into(),
            method: format!("{verb}VM_Task").into(),
        },
    };
    let begin = std::time::Instant::now();
    let outcome = owner.submit(command, Reply::Task).unwrap().outcome().await;
    let took = begin.elapsed();
    assert!(matches!(outcome, Outcome::Done { .. }), "{verb}: {outcome:?}");
    took
}

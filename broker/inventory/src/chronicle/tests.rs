use super::*;
use crate::{
    layout::{Layout, Skeleton, View},
    store::{Credit, Put},
    testing::{id, inventory, record, slot},
};
use union::{Schema, pb::Severity};

fn whats(chronicle: &Chronicle) -> Vec<String> {
    chronicle.query(&Filter::default()).iter().map(|e| e.what.to_string()).collect()
}

fn set(inventory: &Inventory, vm: ObjectId, field: &str, value: impl Into<Value>) {
    inventory.apply(vec![Put::Slots(vm, vec![(slot(vm.kind, field), value.into())])]);
}

#[test]
fn a_vm_s_life_is_told() {
    let inventory = inventory();
    let (chronicle, _guard) = Chronicle::new("c", &inventory);
    let vm = id(Kind::Vm, 1);
    inventory
        .apply(vec![Put::Whole(vm, record(Kind::Vm, &[("name", "a".into()), ("power_state", 2.into())]))]);
    set(&inventory, vm, "operation", 1);
    inventory.apply(vec![Put::Slots(
        vm,
        vec![(slot(Kind::Vm, "power_state"), 1.into()), (slot(Kind::Vm, "operation"), Value::Absent)],
    )]);
    set(&inventory, vm, "operation", 4);
    set(&inventory, vm, "operation", Value::Absent);
    set(&inventory, vm, "uptime_s", 7);
    set(&inventory, vm, "power_state", 3);
    set(&inventory, vm, "power_state", 1);
    set(&inventory, vm, "name", "b");
    set(&inventory, vm, "memory_bytes", 7);
    inventory.apply(vec![Put::Remove(vm)]);
    assert_eq!(
        whats(&chronicle),
        [
            "vm.registered",
            "vm.starting",
            "vm.powered_on",
            "vm.resetting",
            "vm.reset",
            "vm.suspended",
            "vm.resumed",
            "vm.renamed",
            "vm.reconfigured",
            "vm.removed",
        ]
    );
    let last = chronicle.latest().expect("some");
    assert_eq!(last.record.get(slot(Kind::Event, "vm_name")), &Value::from("b"));
    assert_eq!(last.record.get(slot(Kind::Event, "message")), &Value::from("b was removed"));
    assert_eq!(chronicle.get(last.number).map(|e| e.id), Some(last.id));
}

#[test]
fn an_event_names_who_asked_and_where() {
    let source = inventory();
    let (vm, host) = (id(Kind::Vm, 1), id(Kind::Host, 1));
    source.apply(vec![
        Put::Whole(host, record(Kind::Host, &[("name", "h".into())])),
        Put::Whole(vm, record(Kind::Vm, &[("name", "a".into()), ("host_id", host.into())])),
    ]);
    let view = View::new("fleet", &source, Layout::Fleet(Skeleton::default()));
    let (chronicle, _guard) = Chronicle::new("fleet", view.inventory());
    source.set_credit(vm, Some(Credit { principal: "ann".into(), command: "c1".into() }));
    set(&source, vm, "power_state", 1);
    source.set_credit(vm, None);
    let event = chronicle.latest().expect("one").record;
    let get = |field| event.get(slot(Kind::Event, field)).clone();
    assert_eq!(get("principal"), Value::from("ann"));
    assert_eq!(get("host_name"), Value::from("h"));
    assert_eq!(get("compute_name"), Value::from("h"));
    assert_eq!(get("datacenter_name"), Value::from("Datacenter"));
    assert_eq!(get("message"), Value::from("a on h in Datacenter is powered on"));
    let about_host = Filter { objects: Some(vec![host]), ..Filter::default() };
    assert_eq!(chronicle.query(&about_host).len(), 1);
    let by = |who: &str| Filter { principal: Some(who.to_owned()), ..Filter::default() };
    assert_eq!((chronicle.query(&by("ann")).len(), chronicle.query(&by("bob")).len()), (1, 0));
}

#[test]
fn what_a_command_makes_is_created_and_what_it_takes_away_is_its_too() {
    let source = inventory();
    let view = View::new("fleet", &source, Layout::Fleet(Skeleton::default()));
    let (chronicle, _guard) = Chronicle::new("fleet", view.inventory());
    let (vm, host) = (id(Kind::Vm, 1), id(Kind::Host, 1));
    source.apply(vec![Put::Whole(host, record(Kind::Host, &[("name", "h".into())]))]);
    let command = CommandId("0190b6d2-0000-7000-8000-0000000000ff".parse().expect("a uuid"));
    let credit = Credit { principal: "ann".into(), command: command.to_string().into() };
    let account = source.run_on([vm], &credit);
    source.apply(vec![Put::Whole(vm, record(Kind::Vm, &[("name", "a".into()), ("host_id", host.into())]))]);
    set(&source, vm, "guest_os", "other");
    drop(account);
    set(&source, vm, "memory_bytes", 7);
    let other = Credit { principal: "bob".into(), command: "c2".into() };
    let first = source.run_on([vm], &credit);
    let second = source.run_on([vm], &other);
    drop(first);
    source.apply(vec![Put::Remove(vm)]);
    drop(second);
    let told: Vec<_> = chronicle.query(&Filter { objects: Some(vec![vm]), ..Filter::default() });
    let get = |event: &Entry, field| event.record.get(slot(Kind::Event, field)).clone();
    let said: Vec<(&str, Value)> = told.iter().map(|e| (&*e.what, get(e, "principal"))).collect();
    assert_eq!(
        said,
        [
            ("vm.being_created", "ann".into()),
            ("vm.created", "ann".into()),
            ("vm.reconfigured", Value::Absent),
            ("vm.removed", "bob".into()),
        ]
    );
    let chains: Vec<Value> = told.iter().map(|event| get(event, "chain")).collect();
    let own = told.get(2).map(|event| event.number.into());
    assert_eq!(chains[..2], [command.chain().into(), command.chain().into()]);
    assert_eq!(chains.get(2).cloned(), own);
}

#[test]
fn hosts_come_and_go() {
    let inventory = inventory();
    let (chronicle, _guard) = Chronicle::new("c", &inventory);
    let (vm, host) = (id(Kind::Vm, 1), id(Kind::Host, 1));
    inventory.apply(vec![
        Put::Whole(host, record(Kind::Host, &[("connection", 1.into())])),
        Put::Whole(vm, record(Kind::Vm, &[("host_id", host.into())])),
    ]);
    set(&inventory, host, "connection", 2);
    set(&inventory, host, "connection", 1);
    set(&inventory, host, "maintenance", true);
    assert_eq!(
        whats(&chronicle),
        ["host.added", "host.connection_lost", "host.connected", "host.maintenance_entered"]
    );
}

#[test]
fn what_was_there_before_is_told_once_a_host() {
    let inventory = inventory();
    let (chronicle, _guard) = Chronicle::new("c", &inventory);
    let host = |n| id(Kind::Host, n);
    let on = |n| record(Kind::Vm, &[("host_id", host(n).into())]);
    let named = |name: &str| record(Kind::Host, &[("name", name.into())]);
    inventory.apply(vec![
        Put::Whole(host(1), named("h1")),
        Put::Whole(host(2), named("h2")),
        Put::Whole(id(Kind::Vm, 1), on(1)),
        Put::Whole(id(Kind::Vm, 2), on(1)),
        Put::Whole(id(Kind::Snapshot, 1), record(Kind::Snapshot, &[("vm_id", id(Kind::Vm, 1).into())])),
        Put::Whole(
            id(Kind::Network, 1),
            record(Kind::Network, &[("host_ids", Value::list([host(1).into()]))]),
        ),
        Put::Whole(id(Kind::Vm, 3), on(3)),
    ]);
    inventory.apply(vec![Put::Whole(id(Kind::Vm, 4), on(1))]);
    assert_eq!(whats(&chronicle), ["host.added", "host.added", "vm.registered", "vm.registered"]);
    let said: Vec<Value> = chronicle
        .query(&Filter { objects: Some(vec![host(1), host(2)]), ..Filter::default() })
        .iter()
        .map(|e| e.record.get(slot(Kind::Event, "message")).clone())
        .collect();
    assert_eq!(said[..2], [Value::from("h1 was added with 2 VMs"), Value::from("h2 was added")]);
}

#[test]
fn trouble_is_told_with_its_reason() {
    let inventory = inventory();
    let (chronicle, _guard) = Chronicle::new("c", &inventory);
    let vm = id(Kind::Vm, 1);
    inventory.apply(vec![Put::Whole(vm, record(Kind::Vm, &[("name", "a".into())]))]);
    set(&inventory, vm, "trouble", "it is on two hosts");
    let began = chronicle.latest().expect("one").record;
    assert_eq!(began.get(slot(Kind::Event, "message")), &Value::from("it is on two hosts"));
    assert_eq!(began.get(slot(Kind::Event, "severity")), &Value::Int(Severity::Error as i64));
    set(&inventory, vm, "trouble", Value::Absent);
    assert_eq!(whats(&chronicle), ["vm.registered", "vm.trouble_began", "vm.trouble_ended"]);
}

#[test]
fn the_ring_keeps_its_number_and_subscribers_hear() {
    let inventory = inventory();
    let (chronicle, _guard) = Chronicle::new("c", &inventory);
    let mut news = chronicle.subscribe();
    for _ in 0..KEEP + 3 {
        chronicle.record(Note { what: "session.logged_in", ..Note::default() });
    }
    let kept = chronicle.query(&Filter::default());
    assert_eq!((kept.len(), kept[0].number), (KEEP, 4));
    assert!(chronicle.get(3).is_none());
    assert!(matches!(news.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
    assert_eq!(chronicle.query(&Filter { after: Some(KEEP as i64 + 1), ..Filter::default() }).len(), 2);
}

#[test]
fn an_event_is_a_union_event() {
    let inventory = inventory();
    let (chronicle, _guard) = Chronicle::new("c", &inventory);
    let fields = vec![("principal", "ann".into()), ("remote_address", "10.0.0.1".into())];
    let entry = chronicle.record(Note { what: "session.login_failed", fields, ..Note::default() });
    assert_eq!(entry.record.message(), Schema::base().kind(Kind::Event).id);
    assert_eq!(entry.record.get(slot(Kind::Event, "remote_address")), &Value::from("10.0.0.1"));
    assert_eq!(entry.record.get(slot(Kind::Event, "severity")), &Value::Int(2));
    assert_eq!(entry.record.get(slot(Kind::Event, "message")), &Value::from("User ann could not log in"));
}

#[derive(Debug, Default)]
struct Blocks(parking_lot::Mutex<std::collections::BTreeMap<String, i64>>);

impl Counters for Blocks {
    fn begin(&self, name: &str, block: i64) -> i64 {
        let mut all = self.0.lock();
        let last = all.entry(name.to_owned()).or_default();
        std::mem::replace(last, *last + block)
    }
    fn reserve(&self, name: &str, to: i64) {
        self.0.lock().insert(name.to_owned(), to);
    }
}

#[test]
fn numbers_go_on_after_a_restart() {
    let blocks = Arc::new(Blocks::default());
    let mut used = 0;
    for life in 0..3 {
        let source = crate::testing::inventory();
        source.count_by(blocks.clone());
        let view = crate::View::new("fleet", &source, crate::Layout::Fleet(crate::Skeleton::default()));
        let (chronicle, _guard) = Chronicle::new("c", view.inventory());
        for _ in 0..(BLOCK * life) {
            let number = chronicle.record(Note { what: "mapping.gap", ..Note::default() }).number;
            assert!(number > used && number <= blocks.0.lock()["c"]);
            used = number;
        }
    }
    assert!(used > 3 * BLOCK && used < 7 * BLOCK);
}

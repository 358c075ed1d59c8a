use super::*;
use crate::testing::{any_batches, id, inventory, record, slot};
use proptest::prelude::*;

fn vm(fields: &[(&str, Value)]) -> Record {
    record(Kind::Vm, fields)
}

#[derive(Default)]
struct Log(Mutex<Vec<Change>>);

impl Observer for Log {
    fn changed(&self, changes: &[Change]) {
        self.0.lock().extend_from_slice(changes);
    }
}

#[test]
fn config_and_runtime_move_apart() {
    let inventory = inventory();
    let vm1 = id(Kind::Vm, 1);
    inventory.apply(vec![Put::Whole(vm1, vm(&[("name", "a".into()), ("power_state", 2.into())]))]);
    let first = inventory.get(vm1).expect("stored");
    assert_eq!(first.config, first.runtime);
    let n = inventory.apply(vec![Put::Slots(vm1, vec![(slot(Kind::Vm, "power_state"), 1.into())])]);
    let second = inventory.get(vm1).expect("stored");
    assert_eq!((second.config, second.runtime), (first.config, n));
    assert_eq!(
        second.record.get(slot(Kind::Vm, "change_version")),
        first.record.get(slot(Kind::Vm, "change_version"))
    );
    inventory.apply(vec![Put::Slots(vm1, vec![(slot(Kind::Vm, "name"), "b".into())])]);
    let third = inventory.get(vm1).expect("stored");
    assert!(third.config > second.config && third.runtime == second.runtime);
    assert_ne!(
        third.record.get(slot(Kind::Vm, "change_version")),
        first.record.get(slot(Kind::Vm, "change_version"))
    );
}

#[test]
fn a_put_that_changes_nothing_is_no_change() {
    let inventory = inventory();
    let log = Arc::new(Log::default());
    let guard = inventory.observe(log.clone());
    let vm1 = id(Kind::Vm, 1);
    let facts = || vm(&[("name", "a".into()), ("boot", Value::list([]))]);
    let before = inventory.apply(vec![Put::Whole(vm1, facts())]);
    let after = inventory.apply(vec![Put::Whole(vm1, facts()), Put::Remove(id(Kind::Vm, 2))]);
    assert_eq!((before, log.0.lock().len()), (after, 1));
    drop(guard);
    inventory.apply(vec![Put::Remove(vm1)]);
    assert_eq!(log.0.lock().len(), 1, "the guard is gone");
}

#[test]
fn whole_facts_keep_what_the_broker_keeps() {
    let inventory = inventory();
    let vm1 = id(Kind::Vm, 1);
    inventory.apply(vec![Put::Whole(vm1, vm(&[("name", "a".into())]))]);
    inventory.apply(vec![Put::Slots(vm1, vec![(slot(Kind::Vm, "operation"), 1.into())])]);
    inventory.apply(vec![Put::Whole(vm1, vm(&[("name", "b".into())]))]);
    assert_eq!(inventory.record(vm1).expect("stored").get(slot(Kind::Vm, "operation")), &Value::Int(1));
    inventory.apply(vec![Put::Part(vm1, vm(&[]), SlotSet::of(slot(Kind::Vm, "operation")))]);
    assert!(inventory.record(vm1).expect("stored").get(slot(Kind::Vm, "operation")).is_absent());
}

#[test]
fn late_figures_do_not_bring_an_object_back() {
    let inventory = inventory();
    let vm1 = id(Kind::Vm, 1);
    inventory.apply(vec![Put::Whole(vm1, vm(&[]))]);
    let gone = inventory.apply(vec![Put::Remove(vm1)]);
    inventory.apply(vec![Put::Slots(vm1, vec![(slot(Kind::Vm, "uptime_s"), 5.into())])]);
    assert!(inventory.get(vm1).is_none());
    assert_eq!(inventory.tombstone(vm1).map(|t| t.revision), Some(gone));
    inventory.apply(vec![Put::Whole(vm1, vm(&[]))]);
    assert_eq!(inventory.tombstone(vm1), None);
}

#[test]
fn the_brokers_own_facts_lie_over_whatever_is_put() {
    let inventory = inventory();
    let vm1 = id(Kind::Vm, 1);
    let (name, template) = (slot(Kind::Vm, "name"), slot(Kind::Vm, "template"));
    let shown = |slot| inventory.record(vm1).expect("stored").get(slot).clone();
    inventory.set_own(vm1, vec![(template, true.into())]);
    assert!(inventory.record(vm1).is_none(), "a layer makes no object");
    inventory.apply(vec![Put::Whole(vm1, vm(&[("name", "a".into()), ("template", false.into())]))]);
    assert_eq!((shown(name), shown(template)), ("a".into(), true.into()));
    assert_eq!(inventory.beneath(vm1).expect("stored").record.get(template), &Value::Bool(false));
    let before = inventory.revision();
    assert_eq!(inventory.set_own(vm1, vec![(template, true.into())]), before, "nothing new");
    inventory.apply(vec![Put::Slots(vm1, vec![(template, Value::Absent)])]);
    assert_eq!((shown(template), inventory.revision()), (true.into(), before));
    inventory.set_own(vm1, vec![(name, "own".into())]);
    assert_eq!((shown(name), inventory.own(vm1).len()), ("own".into(), 2));
    assert_eq!(inventory.find(Kind::Vm, name, "own"), [vm1]);
    inventory.apply(vec![Put::Remove(vm1)]);
    inventory.apply(vec![Put::Whole(vm1, vm(&[("name", "b".into())]))]);
    assert_eq!(shown(name), "own".into(), "it came back");
    inventory.set_own(vm1, vec![(name, Value::Absent), (template, Value::Absent)]);
    assert_eq!((shown(name), inventory.own(vm1).len(), inventory.owned().len()), ("b".into(), 0, 0));
}

#[test]
fn settings_are_merged_by_key_and_recent_tasks_added() {
    let inventory = inventory();
    let vm1 = id(Kind::Vm, 1);
    let setting = |key: &str, value: &str| {
        let schema = Schema::base();
        let message = schema.message("Setting").expect("a message");
        let mut record = message.record();
        record.set(message.field("key").expect("a field").slot, key);
        record.set(message.field("value").expect("a field").slot, value);
        Value::record(record)
    };
    let (settings, recent) = (slot(Kind::Vm, "settings"), slot(Kind::Vm, "recent_task_ids"));
    let tasks = |ns: &[u128]| Value::list(ns.iter().map(|n| Value::Ref(id(Kind::Task, *n))));
    let theirs = Value::list([setting("a", "1"), setting("b", "1")]);
    inventory.apply(vec![Put::Whole(vm1, vm(&[("settings", theirs), ("recent_task_ids", tasks(&[1, 2]))]))]);
    let own = Value::list([setting("c", "2"), setting("b", "2")]);
    inventory.set_own(vm1, vec![(settings, own), (recent, tasks(&[2, 3]))]);
    let record = inventory.record(vm1).expect("stored");
    let merged = Value::list([setting("a", "1"), setting("b", "2"), setting("c", "2")]);
    assert_eq!((record.get(settings), record.get(recent)), (&merged, &tasks(&[1, 2, 3])));
}

#[test]
fn what_was_seen_in_an_earlier_life_was_seen_then() {
    let inventory = inventory();
    inventory.recall([(id(Kind::Vm, 1), 7)]);
    inventory.apply((1..=2).map(|n| Put::Whole(id(Kind::Vm, n), vm(&[]))).collect());
    let born = |n| inventory.get(id(Kind::Vm, n)).expect("stored").created_ms;
    assert!(born(1) == 7 && born(2) > 7);
    inventory.apply(vec![Put::Remove(id(Kind::Vm, 1)), Put::Whole(id(Kind::Vm, 1), vm(&[]))]);
    assert_eq!(born(1), born(2), "another one");
}

#[test]
fn a_record_of_another_kind_is_not_taken() {
    let inventory = inventory();
    inventory.apply(vec![Put::Whole(id(Kind::Vm, 1), record(Kind::Host, &[]))]);
    assert_eq!(inventory.count(Kind::Vm), 0);
}

#[test]
fn texts_are_found_names_exactly_and_others_in_any_case() {
    let inventory = inventory();
    let vm1 = id(Kind::Vm, 1);
    let nics = record_of("GuestNic", "addresses", Value::list(["10.0.0.7".into(), "fe80::1".into()]));
    inventory.apply(vec![Put::Whole(
        vm1,
        vm(&[
            ("name", "Web".into()),
            ("guest_hostname", "Web.Example".into()),
            ("guest_nics", Value::list([nics])),
        ]),
    )]);
    let find = |field, text| inventory.find(Kind::Vm, slot(Kind::Vm, field), text);
    assert_eq!(find("name", "Web"), [vm1]);
    assert_eq!(find("name", "web"), []);
    assert_eq!(find("guest_hostname", "web.EXAMPLE"), [vm1]);
    assert_eq!(find("guest_nics", "fe80::1"), [vm1]);
    inventory.apply(vec![Put::Remove(vm1)]);
    assert_eq!(find("guest_hostname", "web.example"), []);
    assert!(inventory.dump_index().is_empty());
}

fn record_of(message: &str, field: &str, value: Value) -> Value {
    let schema = Schema::base();
    let message = schema.message(message).expect("a message");
    let mut record = message.record();
    record.set(message.field(field).expect("a field").slot, value);
    Value::record(record)
}

#[tokio::test]
async fn seen_resolves_when_the_revision_is_there() {
    let inventory = inventory();
    let next = Revision { n: inventory.revision().n + 1, ..inventory.revision() };
    let waiter = tokio::spawn({
        let inventory = Arc::clone(&inventory);
        async move { inventory.seen(next).await }
    });
    inventory.apply(vec![Put::Whole(id(Kind::Vm, 1), vm(&[]))]);
    waiter.await.expect("seen");
}

#[test]
fn ten_thousand_are_stored_and_found() {
    let inventory = inventory();
    let host = id(Kind::Host, 1);
    let puts = (0..10_000u128).map(|n| {
        Put::Whole(id(Kind::Vm, n), vm(&[("name", format!("vm{n}").into()), ("host_id", host.into())]))
    });
    inventory.apply(puts.collect());
    let mut on_host = Vec::new();
    inventory.referring(Kind::Vm, slot(Kind::Vm, "host_id"), host, &mut on_host);
    assert_eq!((on_host.len(), inventory.count(Kind::Vm)), (10_000, 10_000));
    assert_eq!(inventory.find(Kind::Vm, slot(Kind::Vm, "name"), "vm77"), [id(Kind::Vm, 77)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_index_is_what_the_records_say(batches in any_batches()) {
        let inventory = inventory();
        let mut last = inventory.revision();
        for batch in batches {
            let now = inventory.apply(batch);
            prop_assert!(now >= last);
            last = now;
        }
        let anew = crate::testing::inventory();
        anew.apply(
            inventory.everything().into_iter().filter_map(|c| Some(Put::Whole(c.id, Record::clone(&*c.new?)))).collect(),
        );
        prop_assert_eq!(inventory.dump_index(), anew.dump_index());
        for kind in Kind::ALL {
            prop_assert_eq!(inventory.ids(*kind), anew.ids(*kind));
        }
    }

    #[test]
    fn changes_tell_the_whole_story(batches in any_batches()) {
        let inventory = inventory();
        let log = Arc::new(Log::default());
        let _guard = inventory.observe(log.clone());
        let mut told: std::collections::BTreeMap<ObjectId, Arc<Record>> = Default::default();
        for batch in batches {
            inventory.apply(batch);
        }
        for change in log.0.lock().iter() {
            prop_assert_eq!(told.get(&change.id), change.old.as_ref());
            if let (Some(old), Some(new)) = (&change.old, &change.new) {
                prop_assert_eq!(old.changed(new).0, change.changed.0);
            }
            match &change.new {
                Some(new) => drop(told.insert(change.id, Arc::clone(new))),
                None => drop(told.remove(&change.id)),
            }
        }
        let told: Vec<ObjectId> = told.into_keys().collect();
        let held: Vec<ObjectId> = inventory.everything().iter().map(|c| c.id).collect();
        prop_assert_eq!(told, held);
    }
}

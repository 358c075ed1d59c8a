use super::*;
use crate::{
    store::Put,
    testing::{id, record, slot},
};
use std::time::Duration;
use union::{
    CommandId, Origin, Schema,
    clock::{ManualClock, SeededIds},
    command::Code,
};

fn world() -> (Arc<ManualClock>, Arc<Inventory>, Arc<Tasks>) {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let inventory = Inventory::new(Schema::base(), 1, clock.clone());
    inventory.apply(vec![Put::Whole(id(Kind::Vm, 1), record(Kind::Vm, &[("name", "web".into())]))]);
    let tasks = Tasks::new(Arc::clone(&inventory), clock.clone(), Arc::new(SeededIds::new(7)));
    (clock, inventory, tasks)
}

fn command(n: u128) -> Command {
    let schema = Schema::base();
    let message = schema.message("PowerOn").expect("a command");
    Command {
        id: CommandId(uuid::Uuid::from_u128(n)),
        verb: Arc::from("PowerOn"),
        schema: message.command.clone().expect("a command"),
        object: id(Kind::Vm, 1),
        body: Arc::new(message.record()),
        principal: Arc::from("admin"),
        session: Arc::from("s"),
        deadline_ms: i64::MAX,
        origin: Origin { protocol: "p".into(), view: "fleet".into(), method: "On_Task".into() },
    }
}

fn value(inventory: &Inventory, task: ObjectId, field: &str) -> Value {
    inventory.record(task).expect("kept").get(slot(Kind::Task, field)).clone()
}

#[test]
fn every_field_exists() {
    for name in [
        "method",
        "verb",
        "object_id",
        "object_name",
        "state",
        "progress",
        "queued_ms",
        "started_ms",
        "completed_ms",
        "principal",
        "session_id",
        "command_id",
        "result_id",
        "cancelable",
        "cancelled",
        "number",
        "fault",
        "message",
    ] {
        assert!(Schema::base().slot(Kind::Task, name).is_some(), "{name}");
    }
}

#[test]
fn a_task_goes_its_way_and_stays_as_it_ended() {
    let (clock, inventory, tasks) = world();
    let task = tasks.create(&command(1), true);
    assert_eq!(value(&inventory, task, "state"), Value::from(TaskState::Queued as i32));
    assert_eq!(value(&inventory, task, "object_name"), Value::from("web"));
    tasks.progress(task, 10);
    assert!(value(&inventory, task, "progress").is_absent(), "it has not begun");
    tasks.active(task);
    tasks.progress(task, 40);
    tasks.progress(task, 20);
    assert_eq!(value(&inventory, task, "progress"), Value::Int(40));
    clock.advance(Duration::from_secs(3));
    tasks.done(task, None);
    let started = value(&inventory, task, "started_ms").as_int().expect("set");
    assert_eq!(value(&inventory, task, "completed_ms"), Value::Int(started + 3_000));
    tasks.failed(task, &Cause::new(Code::Internal, "late"));
    assert_eq!(value(&inventory, task, "state"), Value::from(TaskState::Succeeded as i32));
    assert_eq!(tasks.cause(task), None);
}

#[test]
fn a_failed_task_keeps_its_cause() {
    let (_, inventory, tasks) = world();
    let task = tasks.create(&command(1), true);
    let cause = Cause { arguments: vec![("state".into(), "on".into())], ..Cause::new(Code::Cancelled, "no") };
    tasks.failed(task, &cause);
    assert_eq!(tasks.cause(task).as_deref(), Some(&cause));
    assert_eq!(value(&inventory, task, "cancelled"), Value::Bool(true));
}

#[test]
fn an_object_lists_its_recent_tasks() {
    let (clock, inventory, tasks) = world();
    let listed = |inventory: &Inventory| {
        inventory.record(id(Kind::Vm, 1)).expect("there").get(slot(Kind::Vm, "recent_task_ids")).clone()
    };
    let first = tasks.create(&command(1), true);
    let second = tasks.create(&command(2), true);
    assert_eq!(listed(&inventory), Value::list([first.into(), second.into()]));
    assert_eq!(tasks.recent(10), [first, second]);
    tasks.done(first, None);
    clock.advance(Duration::from_millis(RECENT_MS.unsigned_abs() + 1));
    tasks.sweep();
    assert_eq!(listed(&inventory), Value::list([second.into()]));
    assert_eq!(tasks.recent(10), [second]);
    assert!(inventory.get(first).is_some(), "kept for a day");
}

#[test]
fn ended_tasks_are_dropped_by_age_and_number() {
    let (clock, inventory, tasks) = world();
    for n in 0..(KEEP as u128 + 5) {
        let task = tasks.create(&command(n), true);
        tasks.done(task, None);
    }
    tasks.sweep();
    assert_eq!(inventory.count(Kind::Task), KEEP, "also of those that ended just now");
    clock.advance(Duration::from_millis(KEEP_MS.unsigned_abs() + 1));
    tasks.sweep();
    assert_eq!(inventory.count(Kind::Task), 0);
}

#[derive(Debug, Default)]
struct Shelf(Mutex<BTreeMap<ObjectId, Kept>>);

impl Keeper for Shelf {
    fn keep(&self, task: Kept) {
        self.0.lock().insert(task.id, task);
    }
    fn forget(&self, tasks: &[ObjectId]) {
        self.0.lock().retain(|id, _| !tasks.contains(id));
    }
}

#[test]
fn tasks_go_on_after_a_restart() {
    let (clock, before, tasks) = world();
    let shelf = Arc::new(Shelf::default());
    tasks.kept_by(shelf.clone());
    let (done, failed, running, waiting) = (
        tasks.create(&command(1), true),
        tasks.create(&command(2), true),
        tasks.create(&command(3), true),
        tasks.create(&command(4), true),
    );
    tasks.done(done, None);
    let cause = Cause::new(Code::TargetFailed, "no");
    tasks.failed(failed, &cause);
    tasks.active(running);
    let listed = |inventory: &Inventory| {
        inventory.record(id(Kind::Vm, 1)).expect("there").get(slot(Kind::Vm, "recent_task_ids")).clone()
    };

    let inventory = Inventory::new(Schema::base(), 2, clock.clone());
    let again = Tasks::new(Arc::clone(&inventory), clock.clone(), Arc::new(SeededIds::new(8)));
    let live = again.restore(shelf.0.lock().values().cloned().collect());
    again.kept_by(shelf.clone());
    inventory.apply(vec![Put::Whole(id(Kind::Vm, 1), record(Kind::Vm, &[("name", "web".into())]))]);
    assert_eq!(live, [(command(3).id, running), (command(4).id, waiting)]);
    for task in [done, failed, running, waiting] {
        assert_eq!(before.record(task), inventory.record(task));
    }
    assert_eq!(listed(&before), listed(&inventory));
    assert_eq!(again.cause(failed).as_deref(), Some(&cause));
    assert_eq!(
        (again.of(command(3).id), again.recent(9)),
        (Some(running), vec![done, failed, running, waiting])
    );
    assert_eq!(again.abandon(&live, |command| command == live[0].0), 1);
    assert_eq!(value(&inventory, waiting, "state"), Value::from(TaskState::Failed as i32));
    again.done(running, None);
    assert_eq!(value(&inventory, again.create(&command(5), true), "number"), Value::Int(5));
    clock.advance(Duration::from_millis(KEEP_MS.unsigned_abs() + 1));
    again.sweep();
    assert_eq!(shelf.0.lock().len(), 1, "only the one that still waits");
}

#[test]
fn each_task_has_a_place_of_its_own_also_one_that_is_heard_of_late() {
    let (_, agents, theirs) = world();
    let (clock, inventory, _) = world();
    let tasks = Tasks::new(Arc::clone(&inventory), clock, Arc::new(SeededIds::new(8)));
    let follow = |task: ObjectId| {
        let record = agents.record(task).expect("there");
        inventory.apply(vec![Put::Copy(task, record, 1, 1)]);
    };
    let (early, late) = (theirs.create(&command(1), true), theirs.create(&command(2), true));
    follow(late);
    let own = tasks.create(&command(3), true);
    let numbers = [early, late].map(|task| value(&agents, task, "number"));
    assert_eq!((numbers, value(&inventory, own, "number")), ([1.into(), 2.into()], Value::Int(1)));
    follow(early);
    theirs.done(late, None);
    follow(late);
    assert_eq!([late, own, early].map(|task| tasks.place(task)), [Some(1), Some(2), Some(3)]);
    inventory.apply(vec![Put::Remove(own)]);
    let next = tasks.create(&command(4), true);
    assert_eq!([own, next].map(|task| tasks.place(task)), [None, Some(4)]);
}

#[test]
fn tasks_of_others_are_recent_too_and_say_why_they_failed() {
    let (_, agents, theirs) = world();
    let (clock, inventory, _) = world();
    clock.advance(Duration::from_millis(1));
    let tasks = Tasks::new(Arc::clone(&inventory), clock, Arc::new(SeededIds::new(8)));
    let follow = |task: ObjectId| {
        let record = agents.record(task).expect("there");
        inventory.apply(vec![Put::Copy(task, record, 1, 1)]);
    };
    let other = theirs.create(&command(1), true);
    follow(other);
    let own = tasks.create(&command(2), true);
    assert_eq!(tasks.recent(9), [other, own]);
    assert_eq!(tasks.recent(1), [own]);
    let cause = Cause { fault: Arc::from("Native"), ..Cause::new(Code::TargetFailed, "no") };
    theirs.failed(other, &cause);
    follow(other);
    assert_eq!(tasks.cause(other).as_deref(), Some(&cause));
    inventory.apply(vec![Put::Remove(other)]);
    assert_eq!((tasks.recent(9), tasks.cause(other)), (vec![own], None));
}

#[test]
fn a_task_that_ends_while_it_begins_stays_ended() {
    let (_, inventory, tasks) = world();
    let cause = Cause::new(Code::Cancelled, "outrun");
    for n in 0..3_000 {
        let task = tasks.create(&command(n), true);
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                start.wait();
                tasks.begin(task, true);
                tasks.progress(task, 10);
            });
            start.wait();
            tasks.failed(task, &cause);
        });
        assert_eq!(value(&inventory, task, "state"), Value::from(TaskState::Failed as i32), "task {n}");
    }
}

use super::{
    counters::Counters,
    facts::FactKeeper,
    ids::{Kept, Lender},
    repair,
    tasks::TaskKeeper,
};
use inventory::{Fleet, Inventory, Tasks, chronicle::Counters as _, fleet::Holder, store::Put};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use store::{
    Batch, Epoch, FileStore, IdMaps, MemoryStore, Store, StoreError,
    idmap::{IdError, IdMap, Numbers},
    outbox::{Outbox, What},
};
use union::{
    Command, CommandId, Kind, ObjectId, Origin, Record, Schema, Slot, Value,
    clock::{ManualClock, SeededIds},
    command::{Cause, Code},
    pb::{self, Connection},
};
use uuid::Uuid;

const EPOCH: Epoch = Epoch(1);

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_700_000_000_000))
}

fn vm(n: u128) -> ObjectId {
    ObjectId::new(Kind::Vm, Uuid::from_u128(n))
}

fn slot(kind: Kind, field: &str) -> Slot {
    Schema::base().slot(kind, field).expect("a field")
}

fn record(kind: Kind, fields: &[(&str, Value)]) -> Record {
    let mut record = Schema::base().kind(kind).record();
    for (field, value) in fields {
        record.set(slot(kind, field), value.clone());
    }
    record
}

/// The engine's maps, lent over no bus at all; away when there are none.
#[derive(Debug, Default)]
struct Lends(Mutex<Option<Arc<IdMaps>>>);

#[async_trait::async_trait]
impl Lender for Lends {
    async fn lease(&self, wanted: pb::LeaseIds) -> Result<pb::LeasedIds, String> {
        let maps = self.0.lock().clone().ok_or("the engine is away")?;
        let scope = (&*wanted.protocol, &*wanted.view);
        let block = maps.lease("a", scope, &wanted.form, wanted.count, EPOCH).await;
        let block = block.map_err(|e| e.to_string())?;
        Ok(pb::LeasedIds { first: block.first, count: block.end - block.first })
    }
}

#[test]
fn a_map_that_counts_goes_on_after_a_restart() {
    let store = MemoryStore::new();
    let open = |store: &MemoryStore| {
        let map = store::wait(IdMap::open(Arc::new(store.clone()), "p", "fleet", Numbers::Counted));
        Kept::counted(Arc::new(map.expect("whole")), EPOCH, clock()).id_map()
    };
    let map = open(&store);
    assert_eq!(map.natives(&[(vm(1), "vm-{n}"), (vm(2), "vm-{n}")]), ["vm-1".into(), "vm-2".into()]);
    map.fix(vm(9), "root").expect("free");
    assert!(matches!(map.fix(vm(8), "root"), Err(inventory::idmap::NotKept::Taken(_))));
    map.retire(vm(1));
    let store = store.crash(|waiting| waiting);
    assert_eq!(map.native(vm(5), "vm-{n}"), None, "the store is gone");
    let map = open(&store);
    assert_eq!((map.object("vm-1"), map.is_retired(vm(1))), (Some(vm(1)), true));
    assert_eq!(map.native(vm(5), "vm-{n}").as_deref(), Some("vm-3"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_gives_out_what_it_was_leased_and_hands_it_in() {
    let engine = IdMaps::new(Arc::new(MemoryStore::new()), Numbers::Counted);
    let (lends, store) = (Arc::new(Lends::default()), MemoryStore::new());
    let open = async |store: &MemoryStore| {
        let map = IdMap::open(Arc::new(store.clone()), "p", "host:a", Numbers::Leased).await;
        let map = Arc::new(map.expect("whole"));
        Kept::leased(map, EPOCH, clock(), "a", lends.clone())
    };
    let map = open(&store).await.id_map();
    assert_eq!(map.native(vm(1), "{n}"), None, "nobody has leased it anything");
    *lends.0.lock() = Some(Arc::clone(&engine));
    let native = loop {
        match map.native(vm(1), "{n}") {
            Some(native) => break native,
            // Whoever asks does not wait for the engine; the next one may have it.
            None => tokio::task::yield_now().await,
        }
    };
    *lends.0.lock() = None;
    let store = store.crash(|waiting| waiting);
    let kept = open(&store).await;
    let map = kept.id_map();
    assert_eq!(map.known(vm(1)), Some(Arc::clone(&native)));
    let second = map.native(vm(2), "{n}").expect("of the block");
    assert_ne!(native, second);
    map.fix(vm(3), "root").expect("free");
    let task = ObjectId::new(Kind::Task, Uuid::from_u128(1));
    let number = map.native(task, "{n}").expect("of the block");
    assert!(number != native && number != second);
    while inventory::idmap::Durable::all(&*kept).len() < 4 {
        tokio::task::yield_now().await;
    }
    let handed = Outbox::new(Arc::new(store.clone())).pending(0, 100).await.expect("read");
    assert_eq!(handed.len(), 3, "a task's id is the agent's own");
    for (_, item) in &handed {
        assert_eq!(item.what, What::Ids);
        for _ in 0..2 {
            engine.adopt("a", &item.body.0, EPOCH).await.expect("the agent's own");
        }
        assert!(matches!(engine.adopt("b", &item.body.0, EPOCH).await, Err(IdError::NotOwn { .. })));
    }
    let known = engine.map("p", "host:a").await.expect("open");
    assert_eq!([1, 2, 3].map(|n| known.known(vm(n))), [Some(native), Some(second), Some("root".into())]);
    assert!(engine.adopt("a", b"no such row", EPOCH).await.is_err());
    assert!(matches!(engine.lease("a", ("p", "fleet"), "{n}", 1, EPOCH).await, Err(IdError::NotOwn { .. })));
    assert!(kept.prepare(&["host-{n}"], 1).await.is_err());
    *lends.0.lock() = Some(engine);
    kept.prepare(&["host-{n}", "{n}"], 1).await.expect("leased");
}

#[tokio::test]
async fn a_tasks_id_is_queued_ahead_of_its_intent() {
    let mut store = MemoryStore::new();
    let mut given = BTreeSet::new();
    for life in 0..3 {
        let map = IdMap::open(Arc::new(store.clone()), "p", "v", Numbers::Counted).await.expect("whole");
        let ids = Kept::counted(Arc::new(map), EPOCH, clock()).id_map();
        let task = |n: u128| ObjectId::new(Kind::Task, Uuid::from_u128(life * 1_000 + n));
        let first = ids.native(task(1), "task-{n}").expect("set aside");
        assert_eq!(ids.native(task(1), "task-{n}"), Some(Arc::clone(&first)));
        store.commit(Batch::new(), EPOCH).await.expect("an intent");
        let lost = ids.native(task(2), "task-{n}").expect("set aside");
        assert!(given.insert(Arc::clone(&first)) && given.insert(Arc::clone(&lost)), "never twice");
        store = store.crash(|_| 0);
        let map = IdMap::open(Arc::new(store.clone()), "p", "v", Numbers::Counted).await.expect("whole");
        assert_eq!(map.known(task(1)), Some(first));
        assert!(map.known(task(2)).is_none_or(|native| native == lost));
    }
}

#[tokio::test(start_paused = true)]
async fn many_that_go_at_once_are_written_together() {
    let store = MemoryStore::new();
    let map = IdMap::open(Arc::new(store.clone()), "p", "v", Numbers::Counted).await.expect("whole");
    let ids = Kept::counted(Arc::new(map), EPOCH, clock()).id_map();
    let wanted: Vec<(ObjectId, &str)> = (0..600).map(|n| (vm(n), "vm-{n}")).collect();
    assert_eq!(ids.natives(&wanted).len(), 600);
    let before = store.commit(Batch::new(), EPOCH).await.expect("open").commit;
    (0..600).for_each(|n| ids.retire(vm(n)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(store.commit(Batch::new(), EPOCH).await.expect("open").commit, before + 3);
    let again = IdMap::open(Arc::new(store.clone()), "p", "v", Numbers::Counted).await.expect("whole");
    assert!((0..600).all(|n| again.is_retired(vm(n))));
    ids.retire(vm(600));
    ids.retire(vm(1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(store.commit(Batch::new(), EPOCH).await.expect("open").commit, before + 4);
}

fn command(n: u128) -> Command {
    let schema = Schema::base();
    let message = schema.message("PowerOn").expect("a command");
    Command {
        id: CommandId(Uuid::from_u128(n)),
        verb: Arc::from("PowerOn"),
        schema: message.command.clone().expect("a command"),
        object: vm(1),
        body: Arc::new(message.record()),
        principal: Arc::from("admin"),
        session: Arc::from("s"),
        deadline_ms: i64::MAX,
        origin: Origin { protocol: "p".into(), view: "fleet".into(), method: "On_Task".into() },
    }
}

struct Life {
    tasks: Arc<Tasks>,
    inventory: Arc<Inventory>,
    keeper: Arc<TaskKeeper>,
    live: Vec<(CommandId, ObjectId)>,
}

async fn live(store: &MemoryStore, n: u64) -> Life {
    let inventory = Inventory::new(Schema::base(), n, clock());
    let tasks = Tasks::new(Arc::clone(&inventory), clock(), Arc::new(SeededIds::new(n)));
    let keeper = TaskKeeper::new(Arc::new(store.clone()), EPOCH, Schema::base());
    let live = tasks.restore(keeper.load().await.expect("read"));
    tasks.kept_by(keeper.clone());
    Life { tasks, inventory, keeper, live }
}

#[tokio::test]
async fn tasks_are_as_they_were_after_a_restart() {
    let store = MemoryStore::new();
    let first = live(&store, 1).await;
    let ids: Vec<ObjectId> = (1..=3).map(|n| first.tasks.create(&command(n), true)).collect();
    let cause = Cause { arguments: vec![("n".into(), 5.into())], ..Cause::new(Code::TargetFailed, "no") };
    first.tasks.failed(ids[0], &cause);
    first.tasks.active(ids[1]);
    first.keeper.flush().await.expect("written");
    first.tasks.done(ids[2], None);
    let store = store.crash(|waiting| waiting);
    let second = live(&store, 2).await;
    assert_eq!(second.inventory.record(ids[0]), first.inventory.record(ids[0]));
    assert_eq!(second.tasks.cause(ids[0]).as_deref(), Some(&cause));
    let known: Vec<CommandId> = second.live.iter().map(|(command, _)| *command).collect();
    assert_eq!(known, [command(2).id, command(3).id], "that the third ended was not written");
    assert_eq!(second.tasks.abandon(&second.live, |id| id == command(2).id), 1);
    assert_eq!(second.tasks.of(command(2).id), Some(ids[1]));
}

#[tokio::test]
async fn a_task_is_never_younger_than_its_commands_intent() {
    let store = MemoryStore::new();
    let first = live(&store, 1).await;
    let task = first.tasks.create(&command(7), true);
    let mut batch = Batch::new();
    first.keeper.stage(command(8).id, &mut batch);
    assert!(batch.is_empty(), "another's");
    first.keeper.stage(command(7).id, &mut batch);
    store.commit(batch, EPOCH).await.expect("written");
    let second = live(&store.crash(|_| 0), 2).await;
    assert_eq!(second.live, [(command(7).id, task)]);
}

#[tokio::test]
async fn a_task_that_is_there_is_not_waited_for_again() {
    let store = MemoryStore::new();
    let first = live(&store, 1).await;
    let task = first.tasks.create(&command(7), true);
    first.keeper.written(task).await;
    let told = first.inventory.record(task);
    first.tasks.active(task);
    first.keeper.written(task).await;
    let second = live(&store.crash(|_| 0), 2).await;
    assert_eq!(second.live, [(command(7).id, task)], "it is there once that was said");
    assert_eq!(second.inventory.record(task), told, "that it runs can wait");
}

#[tokio::test]
async fn what_the_store_does_not_take_waits_for_it() {
    let store = MemoryStore::new();
    let first = live(&store, 1).await;
    let (one, two) = (first.tasks.create(&command(1), true), first.tasks.create(&command(2), true));
    store.fail(Some(StoreError::Full { file: "it".to_owned() }));
    assert!(first.keeper.flush().await.is_err());
    first.tasks.done(one, None);
    store.fail(None);
    first.keeper.flush().await.expect("written");
    let second = live(&store.crash(|_| 0), 2).await;
    assert_eq!(second.live, [(command(2).id, two)]);
    assert_eq!(second.inventory.record(one), first.inventory.record(one));
}

fn holder(agent: &str) -> Holder {
    Holder { agent: agent.into(), target: "t".into(), protocol: "sim".into() }
}

/// A fleet over one agent of this process.
async fn fleet(store: &MemoryStore, life: u64) -> (Fleet, FactKeeper) {
    let fleet = Fleet::new(Inventory::new(Schema::base(), life, clock()));
    let keeper = FactKeeper::fleet(Arc::new(store.clone()), EPOCH, &fleet).await.expect("read");
    (fleet, keeper)
}

#[tokio::test]
async fn last_known_facts_are_shown_until_their_agent_speaks() {
    let store = MemoryStore::new();
    let (first, keeper) = fleet(&store, 1).await;
    let facts = Inventory::new(Schema::base(), 1, clock());
    let local = first.follow("a", &facts, Arc::new(|_| Some(("t".into(), "sim".into()))));
    let connected = ("connection", Value::from(Connection::Connected as i32));
    let name = |n: &str| ("name", Value::from(n));
    let put = |n, fields: &[(&str, Value)]| {
        facts.apply(vec![Put::Whole(vm(n), record(Kind::Vm, fields))]);
    };
    put(1, &[name("one"), connected.clone()]);
    put(2, &[name("two"), connected.clone()]);
    put(3, &[name("three"), connected]);
    let folder = ObjectId::new(Kind::Folder, Uuid::from_u128(1));
    first.inventory().apply(vec![Put::Whole(folder, record(Kind::Folder, &[name("own")]))]);
    first.inventory().set_own(vm(1), vec![(slot(Kind::Vm, "template"), true.into())]);
    assert!(!keeper.flush(5).await.expect("written"));
    facts.apply(vec![Put::Remove(vm(3))]);
    assert!(!keeper.flush(6).await.expect("written"));
    let usage = facts.apply(vec![Put::Slots(vm(1), vec![(slot(Kind::Vm, "cpu_usage_mhz"), 7.into())])]);
    put(2, &[name("not written")]);
    drop((local, usage));

    let (second, _keeper) = fleet(&store.crash(|waiting| waiting), 2).await;
    let shown = |n: u128, field: &str| {
        second.inventory().record(vm(n)).map(|record| record.get(slot(Kind::Vm, field)).clone())
    };
    assert_eq!([1, 2, 3].map(|n| shown(n, "name")), [Some("one".into()), Some("two".into()), None]);
    assert_eq!(shown(1, "connection"), Some(Value::from(Connection::Disconnected as i32)));
    assert_eq!(shown(1, "template"), Some(Value::Absent), "the broker's own is kept elsewhere");
    assert!(second.inventory().record(folder).is_none() && second.is_lost("a"));
    assert_eq!(second.holder(vm(1)), Some(holder("a")));
    let born = |fleet: &Fleet| fleet.inventory().get(vm(1)).map(|entry| entry.created_ms);
    assert_eq!(born(&first), born(&second));
}

#[tokio::test]
async fn the_tasks_of_an_agent_that_is_away_are_shown_after_a_restart() {
    let store = MemoryStore::new();
    let task = |n| ObjectId::new(Kind::Task, Uuid::from_u128(n));
    let put = |n: u128, state: pb::TaskState| {
        let state = ("state", Value::from(state as i32));
        Put::Whole(task(n), record(Kind::Task, &[("object_id", vm(1).into()), state]))
    };
    {
        let (first, keeper) = fleet(&store, 1).await;
        let facts = Inventory::new(Schema::base(), 1, clock());
        let _local = first.follow("a", &facts, Arc::new(|_| None));
        facts.apply(vec![put(1, pb::TaskState::Active), put(2, pb::TaskState::Active)]);
        first.inventory().apply(vec![put(3, pb::TaskState::Active)]);
        assert!(!keeper.flush(5).await.expect("written"));
        facts.apply(vec![put(1, pb::TaskState::Succeeded), Put::Remove(task(2))]);
        first.inventory().apply(vec![Put::Remove(task(3))]);
        assert!(!keeper.flush(6).await.expect("written"));
    }
    let (second, keeper) = fleet(&store, 2).await;
    let shown = |fleet: &Fleet, n: u128| {
        fleet.inventory().record(task(n)).map(|record| record.get(slot(Kind::Task, "state")).clone())
    };
    let succeeded = Some(Value::from(pb::TaskState::Succeeded as i32));
    assert_eq!([1, 2, 3].map(|n| shown(&second, n)), [succeeded, None, None]);
    // The agent comes back and has forgotten it since.
    let _local = second.follow("a", &Inventory::new(Schema::base(), 2, clock()), Arc::new(|_| None));
    assert!(!keeper.flush(7).await.expect("written"));
    let (third, _keeper) = fleet(&store, 3).await;
    assert_eq!((shown(&second, 1), shown(&third, 1)), (None, None));
    let kept =
        store::facts::Facts::new(Arc::new(store.clone())).page(Kind::Task, None, 9).await.expect("read");
    assert_eq!(
        kept.iter().map(|fact| fact.id).collect::<Vec<_>>(),
        [task(1), task(2)],
        "of the broker's own nothing"
    );
}

#[tokio::test]
async fn figures_alone_make_nothing_be_written() {
    let store = MemoryStore::new();
    let (fleet, keeper) = fleet(&store, 1).await;
    let facts = Inventory::new(Schema::base(), 1, clock());
    let _local = fleet.follow("a", &facts, Arc::new(|_| None));
    facts.apply(vec![Put::Whole(vm(1), record(Kind::Vm, &[]))]);
    keeper.flush(1).await.expect("written");
    let commits = async |store: &MemoryStore| store.commit(Batch::new(), EPOCH).await.expect("open").commit;
    let before = commits(&store).await;
    facts.apply(vec![Put::Slots(vm(1), vec![(slot(Kind::Vm, "uptime_s"), 7.into())])]);
    keeper.flush(2).await.expect("nothing to do");
    assert_eq!(commits(&store).await, before + 1);
    facts.apply(vec![Put::Slots(vm(1), vec![(slot(Kind::Vm, "power_state"), 1.into())])]);
    keeper.flush(3).await.expect("written");
    assert_eq!(commits(&store).await, before + 3);
}

#[tokio::test]
async fn an_agent_remembers_who_stood_first() {
    let store = MemoryStore::new();
    let (clock, mut born) = (clock(), Vec::new());
    for (life, order) in [[1, 2], [2, 1]].into_iter().enumerate() {
        let inventory = Inventory::new(Schema::base(), life as u64, clock.clone());
        let keeper =
            FactKeeper::first_sights(Arc::new(store.clone()), EPOCH, &inventory).await.expect("read");
        for n in order {
            inventory.apply(vec![Put::Whole(vm(n), record(Kind::Vm, &[("name", "same".into())]))]);
            clock.advance(Duration::from_millis(10));
        }
        keeper.flush(1).await.expect("written");
        born.push([1, 2].map(|n| inventory.get(vm(n)).map(|entry| entry.created_ms)));
    }
    assert_eq!(born[0], born[1]);
    assert!(born[0][0] < born[0][1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_numbers_are_set_aside_before_they_are_used() {
    let store = MemoryStore::new();
    let counters = Counters::new(Arc::new(store.clone()), EPOCH);
    assert_eq!((counters.begin("a", 100), counters.begin("b", 10)), (0, 0));
    let running = tokio::spawn({
        let counters = Arc::clone(&counters);
        async move { counters.run().await }
    });
    counters.reserve("a", 300);
    counters.reserve("a", 200);
    let rows = store::counters::Counters::new(Arc::new(store.clone()));
    while rows.last("a").await.expect("read") < 300 {
        tokio::task::yield_now().await;
    }
    running.abort();
    let again = Counters::new(Arc::new(store.crash(|waiting| waiting)), EPOCH);
    assert_eq!((again.begin("a", 100), again.begin("b", 10), again.begin("c", 1)), (300, 10, 0));
}

#[test]
fn a_damaged_store_is_replaced_and_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("engine.redb");
    let open = || FileStore::open_or_create(&path);
    {
        let store = open().expect("new");
        assert!(repair::repair(&path).is_err(), "it is in use");
        let map = store::wait(IdMap::open(store.clone(), "p", "v", Numbers::Counted)).expect("whole");
        for n in 0..200 {
            store::wait(map.native(vm(n), "vm-{n}", EPOCH)).expect("given");
        }
        store.close();
    }
    let whole = std::fs::read(&path).expect("read");
    let mut bytes = whole.clone();
    let at = bytes.windows(6).position(|text| text == b"vm-150").expect("there");
    bytes[at] ^= 4;
    std::fs::write(&path, &bytes).expect("written");
    assert!(open().is_err());
    let report = repair::repair(&path).expect("repaired");
    assert!(!report.repaired.is_whole());
    assert_eq!(std::fs::read(&report.damaged).expect("kept"), bytes);
    let store = open().expect("whole again");
    let map = store::wait(IdMap::open(store.clone(), "p", "v", Numbers::Counted)).expect("whole");
    assert_eq!(map.object("vm-42"), Some(vm(41)));
    let next = store::wait(map.native(vm(999), "vm-{n}", EPOCH)).expect("given");
    assert!(!(1..=200).any(|n| *next == *format!("vm-{n}")), "{next}");
    store.close();
    let again = repair::repair(&path).expect("a whole one can be repaired too");
    assert!(again.repaired.is_whole() && again.damaged != report.damaged);
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 3, "no file in between is left");
}

/// What happens to an installation of one process.
#[derive(Clone, Debug)]
enum Step {
    Show(u128),
    Retire(u128),
    Begin,
    End(usize),
    Flush,
    Crash(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..12u128).prop_map(Step::Show),
        1 => (1..12u128).prop_map(Step::Retire),
        3 => Just(Step::Begin),
        3 => (0..8usize).prop_map(Step::End),
        2 => Just(Step::Flush),
        2 => (0..4usize).prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whenever the power fails: an id that was shown stays its object's; a task whose command's intent was durable is there, and one
    /// whose end was written stays as it ended.
    #[test]
    fn ids_and_tasks_survive_any_crash(steps in proptest::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut store = MemoryStore::new();
            let open_ids = async |store: &MemoryStore| {
                let map = IdMap::open(Arc::new(store.clone()), "p", "v", Numbers::Counted).await.expect("whole");
                Kept::counted(Arc::new(map), EPOCH, clock()).id_map()
            };
            let mut ids = open_ids(&store).await;
            let mut lives = 1;
            let mut life = live(&store, lives).await;
            let mut shown: BTreeMap<u128, Arc<str>> = BTreeMap::new();
            let mut durable: BTreeMap<ObjectId, CommandId> = BTreeMap::new();
            let mut ended: BTreeSet<ObjectId> = BTreeSet::new();
            let mut written: BTreeSet<ObjectId> = BTreeSet::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Show(n) => {
                        let native = ids.native(vm(n), "vm-{n}").expect("kept");
                        prop_assert_eq!(&**shown.entry(n).or_insert_with(|| Arc::clone(&native)), &*native);
                    }
                    Step::Retire(n) => ids.retire(vm(n)),
                    Step::Begin => {
                        next += 1;
                        let command = command(next);
                        let task = life.tasks.create(&command, true);
                        let mut intent = Batch::new();
                        life.keeper.stage(command.id, &mut intent);
                        store.commit(intent, EPOCH).await.expect("written");
                        durable.insert(task, command.id);
                    }
                    Step::End(at) => {
                        if let Some(task) = durable.keys().nth(at) {
                            life.tasks.done(*task, None);
                            ended.insert(*task);
                        }
                    }
                    Step::Flush => {
                        life.keeper.flush().await.expect("written");
                        written.extend(&ended);
                    }
                    Step::Crash(keep) => {
                        store = store.crash(|waiting| keep.min(waiting));
                        lives += 1;
                        ids = open_ids(&store).await;
                        life = live(&store, lives).await;
                        let live: BTreeSet<ObjectId> = life.live.iter().map(|(_, task)| *task).collect();
                        for (task, command) in &durable {
                            prop_assert_eq!(life.tasks.of(*command), Some(*task));
                            prop_assert!(!(written.contains(task) && live.contains(task)));
                            prop_assert!(ended.contains(task) || live.contains(task));
                        }
                        ended.retain(|task| !live.contains(task));
                    }
                }
                for (n, native) in &shown {
                    prop_assert_eq!(ids.object(native), Some(vm(*n)));
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn agents_show_what_the_engine_says() {
    let hub = bus::MemoryHub::new();
    let inventory = || Inventory::new(Schema::base(), 1, clock());
    let (engine, far, near) = (inventory(), inventory(), inventory());
    let template = slot(Kind::Vm, "template");
    let shows = async |facts: &Arc<Inventory>, n: u128, value: Value| {
        while facts.own(vm(n)).first().map(|(_, own)| own.clone()).unwrap_or_default() != value {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    engine.set_own(vm(1), vec![(template, true.into())]);
    let publishing = tokio::spawn(super::owned::publish(
        Arc::new(hub.connect(bus::Permissions::all())),
        "d",
        1,
        Arc::clone(&engine),
    ));
    tokio::spawn(super::owned::follow(Arc::new(hub.connect(bus::Permissions::all())), "d", Arc::clone(&far)));
    tokio::spawn(super::owned::pass(Arc::clone(&engine), Arc::clone(&near)));
    for facts in [&far, &near] {
        shows(facts, 1, true.into()).await;
    }
    engine.set_own(vm(2), vec![(slot(Kind::Vm, "trouble"), "on two".into())]);
    for facts in [&far, &near] {
        shows(facts, 2, "on two".into()).await;
        assert_eq!(facts.contested(vm(2)).as_deref(), Some("on two"));
    }
    publishing.abort();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(far.own(vm(1)).len(), 1, "it stays while the engine is away");
    engine.set_own(vm(1), vec![(template, Value::Absent)]);
    tokio::spawn(super::owned::publish(
        Arc::new(hub.connect(bus::Permissions::all())),
        "d",
        2,
        Arc::clone(&engine),
    ));
    shows(&far, 1, Value::Absent).await;
    shows(&far, 2, "on two".into()).await;
}

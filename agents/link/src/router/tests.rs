use super::*;
use crate::{
    engine::{LinkError, answered},
    testing::{World, command, done, said, settle_down, vm, world},
};
use store::MemoryStore;
use union::{command::Outcome, pb::TaskState};

fn elsewhere() -> ObjectId {
    vm(1_000)
}

fn state(world: &World, task: ObjectId) -> i64 {
    let slot = world.inventory.schema().slot(union::Kind::Task, "state").unwrap();
    world.inventory.record(task).unwrap().get(slot).as_int().unwrap()
}

#[tokio::test(start_paused = true)]
async fn own_machines_need_no_engine() {
    let world = world().await;
    world.log_in("s1", "ann");
    let on = command(1, "PowerOn", vm(1));
    assert_eq!(world.router.route(&on), Route::Local);
    assert_eq!(world.router.route(&command(2, "PowerOn", elsewhere())), Route::Engine);
    let ticket = world.router.submit(on, Reply::Task).unwrap();
    let task = ticket.task.unwrap();
    assert!(matches!(ticket.outcome().await, Outcome::Done { .. }));
    assert_eq!(state(&world, task), TaskState::Succeeded as i64);
    assert_eq!(*world.machines.calls.lock(), ["PowerOn"]);
    assert!(world.engine.asked.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_live_session_nothing_goes_anywhere() {
    let world = world().await;
    world.engine_is_here();
    let refused =
        |object| world.router.submit(command(1, "PowerOn", object), Reply::Outcome).unwrap_err().code;
    assert_eq!(refused(vm(1)), Code::Permission);
    assert_eq!(refused(elsewhere()), Code::Permission);
    world.log_in("s1", "bob");
    assert_eq!(refused(vm(1)), Code::Permission, "another principal");
    let pass = world.log_in("s2", "ann");
    world.joined.grants.end(["s1", "s2"]);
    assert!(pass.ended.is_cancelled());
    assert_eq!(refused(vm(1)), Code::Permission);
    world.clock.advance(Duration::from_secs(25 * 3_600));
    assert!(world.joined.grants.believe(&world.grant("s3", "ann", "host-a").signed).is_err(), "expired");
    assert!(world.machines.calls.lock().is_empty() && world.engine.asked.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_is_said_at_once() {
    let world = world().await;
    world.log_in("s1", "ann");
    let before = tokio::time::Instant::now();
    let error = world.router.submit(command(1, "PowerOn", elsewhere()), Reply::Task).unwrap_err();
    assert_eq!((error.code, before.elapsed()), (Code::Unreachable, Duration::ZERO));
    assert!(world.tasks.recent(10).is_empty() && world.engine.asked.lock().is_empty());
    // It goes away in the moment of asking.
    world.engine_is_here();
    world.engine.says("vm.PowerOn", |_| Err(LinkError::Away("gone".into())));
    let ticket = world.router.submit(command(2, "PowerOn", elsewhere()), Reply::Task).unwrap();
    let task = ticket.task.unwrap();
    let Outcome::Refused(cause) = ticket.outcome().await else { panic!("refused") };
    assert_eq!((cause.code, state(&world, task)), (Code::Unreachable, TaskState::Failed as i64));
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_command_of_the_engines_ends_its_task() {
    let world = world().await;
    let pass = world.log_in("s1", "ann");
    world.engine_is_here();
    world.engine.open.send_replace(false);
    world.engine.answers("vm.PowerOn", said(&done()));
    let ticket = world.router.submit(command(1, "PowerOn", elsewhere()), Reply::Task).unwrap();
    let again = world.router.submit(command(1, "PowerOn", elsewhere()), Reply::Task).unwrap();
    settle_down().await;
    let task = ticket.task.unwrap();
    assert_eq!((again.task, state(&world, task)), (Some(task), TaskState::Active as i64));
    world.engine.open.send_replace(true);
    assert_eq!(ticket.outcome().await, done());
    assert_eq!(state(&world, task), TaskState::Succeeded as i64);
    let heard: Vec<pb::Submission> = world.engine.heard("vm.PowerOn");
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].grant.as_ref(), Some(&pass.now().signed));
    let envelope = heard[0].envelope.clone().unwrap();
    assert_eq!((&*envelope.verb, &*envelope.principal), ("PowerOn", "ann"));
    assert_eq!(world.router.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_too_many_is_busy_at_once_and_leaves_nothing() {
    let world = world().await;
    world.log_in("s1", "ann");
    world.log_in("s2", "ann");
    world.engine_is_here();
    let submit = |session: &str, n| {
        let asked = Command { session: session.into(), ..command(n, "PowerOn", elsewhere()) };
        world.router.submit(asked, Reply::Task)
    };
    let tickets: Vec<_> = (1..).map_while(|n| submit("s1", n).ok()).collect();
    assert_eq!(tickets.len(), (limits::IN_FLIGHT * 2).div_ceil(3));
    let tasks = world.inventory.ids(union::Kind::Task).len();
    assert_eq!(submit("s1", 5_000).unwrap_err().code, Code::Busy);
    assert_eq!(world.inventory.ids(union::Kind::Task).len(), tasks);
    // Another session has its share.
    let other = submit("s2", 6_000).unwrap();
    world.engine.answers("vm.PowerOn", said(&done()));
    for ticket in tickets.into_iter().chain([other]) {
        assert_eq!(ticket.outcome().await, done());
    }
    assert_eq!(submit("s1", 5_001).unwrap().outcome().await, done());
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_and_never_sent_again() {
    let world = world().await;
    world.log_in("s1", "ann");
    world.engine_is_here();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    world.engine.says("vm.PowerOn", |_| Err(LinkError::Lost("cut".into())));
    let count = Arc::clone(&asked);
    world.engine.says("settle", move |_| {
        let running = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 3;
        let outcome = (!running).then(|| said(&done()));
        Ok(answered(&pb::Settled { outcome, running, unknown: false }))
    });
    let ticket = world.router.submit(command(1, "PowerOn", elsewhere()), Reply::Outcome).unwrap();
    assert_eq!(ticket.outcome().await, done());
    assert_eq!(world.engine.heard::<pb::Submission>("vm.PowerOn").len(), 1);
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 4);

    world.engine.answers("settle", pb::Settled { unknown: true, ..pb::Settled::default() });
    let ticket = world.router.submit(command(2, "PowerOn", elsewhere()), Reply::Outcome).unwrap();
    let Outcome::Refused(cause) = ticket.outcome().await else { panic!("nothing was done") };
    assert_eq!(cause.code, Code::Unreachable);
    assert_eq!(world.engine.heard::<pb::Submission>("vm.PowerOn").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_task_goes_on_while_the_engine_is_away() {
    let world = world().await;
    world.log_in("s1", "ann");
    world.engine_is_here();
    let ticket = world.router.submit(command(1, "PowerOn", elsewhere()), Reply::Task).unwrap();
    settle_down().await;
    world.presence.away();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let task = ticket.task.unwrap();
    assert_eq!(state(&world, task), TaskState::Active as i64);
    world.engine.answers("settle", pb::Settled { outcome: Some(said(&done())), ..pb::Settled::default() });
    world.presence.here(2);
    assert_eq!(ticket.outcome().await, done());
    assert_eq!(state(&world, task), TaskState::Succeeded as i64);
    assert_eq!(world.engine.heard::<pb::Submission>("vm.PowerOn").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_learnt_by_the_deadline_is_unknown() {
    let world = world().await;
    world.log_in("s1", "ann");
    world.engine_is_here();
    let before = tokio::time::Instant::now();
    let ticket = world.router.submit(command(1, "PowerOn", elsewhere()), Reply::Outcome).unwrap();
    settle_down().await;
    world.presence.away();
    assert!(matches!(ticket.outcome().await, Outcome::Unknown { .. }));
    assert_eq!(before.elapsed().as_secs(), 67);
}

#[tokio::test(start_paused = true)]
async fn tasks_of_an_earlier_life_are_settled() {
    let world = world().await;
    let of = command(1, "PowerOn", elsewhere());
    let task = world.tasks.create(&of, true);
    world.tasks.begin(task, true);
    world.router.resume(task, of.id, of.object, of.deadline_ms);
    settle_down().await;
    assert_eq!((state(&world, task), world.router.under_way()), (TaskState::Active as i64, 1));
    world.engine.answers("settle", pb::Settled { outcome: Some(said(&done())), ..pb::Settled::default() });
    world.engine_is_here();
    assert!(world.router.drain(Duration::from_secs(5)).await);
    assert_eq!(state(&world, task), TaskState::Succeeded as i64);
    assert!(world.engine.heard::<pb::Submission>("vm.PowerOn").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_goes_where_the_command_went() {
    let world = world().await;
    world.log_in("s1", "ann");
    world.engine_is_here();
    let _ticket = world.router.submit(command(1, "PowerOn", elsewhere()), Reply::Outcome).unwrap();
    world.router.cancel(CommandId(uuid::Uuid::from_u128(1))).unwrap();
    settle_down().await;
    assert_eq!(world.engine.heard::<pb::About>("cancel")[0].command_id, uuid::Uuid::from_u128(1).to_string());
    world.presence.away();
    let away = world.router.cancel(CommandId(uuid::Uuid::from_u128(1))).unwrap_err();
    assert_eq!(away.code, Code::Unreachable);
    let never = world.router.cancel(CommandId(uuid::Uuid::from_u128(9))).unwrap_err();
    assert_eq!(never.code, Code::NotFound);
}

#[derive(Debug)]
struct Behind(tokio::sync::watch::Receiver<bool>);

#[async_trait]
impl Replica for Behind {
    async fn reached(&self, _: ObjectId, _: Revision, _: bool, within: Duration) -> bool {
        let mut reached = self.0.clone();
        tokio::time::timeout(within, reached.wait_for(|reached| *reached)).await.is_ok_and(|r| r.is_ok())
    }
}

#[tokio::test(start_paused = true)]
async fn no_success_is_shown_before_the_replica_holds_it() {
    let (reach, reached) = tokio::sync::watch::channel(false);
    let world = World::start(MemoryStore::new(), Arc::new(Behind(reached))).await;
    world.log_in("s1", "ann");
    world.engine_is_here();
    world.engine.answers("vm.PowerOn", said(&done()));
    let ticket = world.router.submit(command(1, "PowerOn", elsewhere()), Reply::Task).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let task = ticket.task.unwrap();
    assert_eq!((ticket.now(), state(&world, task)), (None, TaskState::Active as i64));
    reach.send_replace(true);
    assert_eq!(ticket.outcome().await, done());
    assert_eq!(state(&world, task), TaskState::Succeeded as i64);
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_without_a_word_is_missed() {
    let world = world().await;
    world.log_in("s1", "ann");
    world.engine_is_here();
    // It is asked and never answers, but knows.
    world.engine.answers("settle", pb::Settled { outcome: Some(said(&done())), ..pb::Settled::default() });
    let before = tokio::time::Instant::now();
    let ticket = world.router.submit(command(1, "PowerOn", elsewhere()), Reply::Outcome).unwrap();
    assert_eq!(ticket.outcome().await, done());
    assert!(before.elapsed() < Duration::from_secs(20));
    // Another life of it, so short a time after the first that nobody saw it away.
    let ticket = world.router.submit(command(2, "PowerOn", elsewhere()), Reply::Outcome).unwrap();
    settle_down().await;
    let before = tokio::time::Instant::now();
    world.presence.away();
    world.presence.here(2);
    assert_eq!(ticket.outcome().await, done());
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_task_of_an_own_command_ends_by_the_own_journal() {
    let world = world().await;
    world.log_in("s1", "ann");
    let ticket = world.router.submit(command(1, "PowerOn", vm(1)), Reply::Task).unwrap();
    assert!(matches!(ticket.outcome().await, Outcome::Done { .. }));
    world.joined.journal.flush().await;
    // The outcome was kept, the end of the task was not.
    let next = World::start(world.store.crash(|_| 0), Arc::new(InStep)).await;
    let one = command(1, "PowerOn", vm(1));
    let task = next.tasks.create(&one, true);
    next.tasks.begin(task, true);
    next.engine.answers("settle", pb::Settled { unknown: true, ..pb::Settled::default() });
    next.engine_is_here();
    next.router.resume(task, one.id, one.object, one.deadline_ms);
    assert!(next.router.drain(Duration::from_secs(5)).await);
    assert_eq!(state(&next, task), TaskState::Succeeded as i64);
    assert!(next.engine.heard::<pb::About>("settle").is_empty());
}

#[test]
fn commands_are_done_in_the_runtime_that_the_router_was_made_in() {
    let runtime = |name: &str| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name(name).enable_all().build().unwrap()
    };
    let (work, fronts) = (runtime("work"), runtime("fronts"));
    let world = work.block_on(world());
    world.log_in("s1", "ann");
    world.engine_is_here();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let here = Arc::clone(&seen);
    world.engine.says("vm.PowerOn", move |_| {
        here.lock().push(std::thread::current().name().map(str::to_owned));
        Ok(answered(&said(&done())))
    });
    let router = Arc::clone(&world.router);
    let asked = fronts.spawn(async move {
        let ticket = router.submit(command(1, "PowerOn", elsewhere()), Reply::Task).unwrap();
        (std::thread::current().name().map(str::to_owned), ticket.outcome().await)
    });
    let (asker, outcome) = fronts.block_on(asked).unwrap();
    assert_eq!((asker.as_deref(), outcome), (Some("fronts"), done()));
    assert_eq!(*seen.lock(), [Some("work".to_owned())]);
}

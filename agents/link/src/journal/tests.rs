use super::*;
use crate::{
    limits,
    testing::{World, command, done, vm, world},
};
use lane::{Commands as _, NativeCall, StepKind};
use store::{MemoryStore, journal::RETENTION_MS, outbox::Outbox};
use union::plan;

fn plan(calls: &[&str]) -> Plan {
    let call = |name: &&str| NativeCall {
        call: (*name).into(),
        args: vec![("vm".into(), union::Value::Ref(vm(1)))],
        is: StepKind::Once,
        undo: None,
        script: None,
    };
    let steps = calls.iter().map(|name| plan::Step { object: vm(1), call: call(name) }).collect();
    Plan { steps, appears: Some(vm(2)), bundle: "b".into(), ..Plan::default() }
}

async fn begin(world: &World, n: u128, plan: &Plan, from_engine: bool) -> Result<(), Cause> {
    let command = command(n, "PowerOn", vm(1));
    world.joined.journal.begin(Intended { command: &command, plan, from_engine, target: "machines" }).await
}

/// The same store, after a loss of power.
fn after(world: &World, keep: usize) -> MemoryStore {
    world.store.crash(|waiting| keep.min(waiting))
}

fn rows(store: &MemoryStore) -> Arc<dyn Store> {
    Arc::new(store.clone())
}

#[tokio::test(start_paused = true)]
async fn intent_and_audit_are_there_before_the_effect_or_not_at_all() {
    for keep in [0, 1] {
        let world = world().await;
        world.log_in("s1", "ann");
        let plan = plan(&["PowerOn", "Reset"]);
        let mut beginning = Box::pin(begin(&world, 1, &plan, false));
        // Far enough that the commit waits, and nobody was told.
        let waker = std::task::Waker::noop();
        let mut told = false;
        for _ in 0..2 {
            let polled = Future::poll(beginning.as_mut(), &mut std::task::Context::from_waker(waker));
            told = polled.is_ready();
        }
        drop(beginning);
        let store = after(&world, keep);
        let next = World::start(store.clone(), Arc::new(crate::router::InStep)).await;
        let unsettled = next.joined.journal.unsettled().await.unwrap();
        let waiting = next.outbox().await.len();
        assert_eq!(unsettled.len(), waiting, "one without the other");
        assert_eq!(waiting, if told { 1 } else { keep });
    }
}

#[tokio::test(start_paused = true)]
async fn what_had_begun_is_found_after_a_restart() {
    let world = world().await;
    world.log_in("s1", "ann");
    let several = plan(&["PowerOn", "Reset", "PowerOff"]);
    begin(&world, 1, &several, false).await.unwrap();
    begin(&world, 2, &plan(&["PowerOn"]), true).await.unwrap();
    begin(&world, 3, &plan(&[]), true).await.unwrap();
    begin(&world, 4, &plan(&["PowerOn"]), false).await.unwrap();
    world.joined.journal.answered(command(1, "PowerOn", vm(1)).id, 0).await.unwrap();
    world.joined.journal.ended(&command(4, "PowerOn", vm(1)), &done());
    world.joined.journal.flush().await;

    let next = World::start(after(&world, 0), Arc::new(crate::router::InStep)).await;
    let unsettled = next.joined.journal.unsettled().await.unwrap();
    let seen: Vec<_> = unsettled.iter().map(|u| (u.command.id.0.as_u128(), u.sent, u.answered)).collect();
    assert_eq!(seen, [(1, true, 1), (2, true, 0), (3, false, 0)]);
    assert_eq!((&unsettled[0].plan, &*unsettled[0].target), (&several, "machines"));
    assert_eq!(format!("{:?}", unsettled[0].command), format!("{:?}", command(1, "PowerOn", vm(1))));
    let known = |n| next.joined.journal.known(command(n, "PowerOn", vm(1)).id);
    assert_eq!(known(4).await.unwrap(), Some(done()));
    assert_eq!((known(1).await.unwrap(), known(9).await.unwrap()), (None, None));
    assert_eq!(next.joined.journal.look(command(1, "PowerOn", vm(1)).id).await.unwrap(), Some(None));
    let again = begin(&next, 1, &several, false).await.unwrap_err();
    assert_eq!(again.code, Code::InProgress);
}

#[tokio::test(start_paused = true)]
async fn own_commands_are_handed_in_and_the_engines_are_not() {
    let world = world().await;
    let pass = world.log_in("s1", "ann");
    begin(&world, 1, &plan(&["PowerOn"]), false).await.unwrap();
    begin(&world, 2, &plan(&["PowerOn"]), true).await.unwrap();
    for n in [1, 2] {
        world.joined.journal.ended(&command(n, "PowerOn", vm(1)), &done());
    }
    world.joined.journal.flush().await;
    let items = world.outbox().await;
    assert_eq!(items.iter().map(|(_, item)| item.what).collect::<Vec<_>>(), [What::Audit, What::Outcome]);
    assert_eq!(world.joined.backlog.count(), 2);
    let handing = |at: usize| Handing::decode(items[at].1.body.0.as_slice()).unwrap();
    assert_eq!(handing(0).grant, Some(pass.now().signed.clone()));
    let record = Record::from_bytes(&handing(0).body).unwrap();
    assert_eq!((&*record.principal, &*record.verb, record.object), ("ann", "PowerOn", Some(vm(1))));
    let ended = pb::HandedOutcome::decode(handing(1).body.as_slice()).unwrap();
    assert_eq!(ended.outcome, Some(done().to_pb(&crate::testing::bundle().schema)));
    assert_eq!(handing(1).grant, Some(pass.now().signed.clone()));
}

#[tokio::test(start_paused = true)]
async fn that_there_was_nothing_to_do_is_known_after_a_restart() {
    let world = world().await;
    world.log_in("s1", "ann");
    let (own, planned) = (command(1, "PowerOn", vm(1)), command(2, "PowerOn", vm(1)));
    let nothing = Outcome::Done { revision: Default::default(), result: None, already: true };
    for (command, from_engine) in [(&own, false), (&planned, true)] {
        let plan = plan(&["PowerOn"]);
        let intended = Intended { command, plan: &plan, from_engine, target: "machines" };
        world.joined.journal.already(intended, &nothing).await;
    }
    let next = World::start(after(&world, 0), Arc::new(crate::router::InStep)).await;
    assert!(next.joined.journal.unsettled().await.unwrap().is_empty());
    for command in [&own, &planned] {
        assert_eq!(next.joined.journal.known(command.id).await.unwrap(), Some(nothing.clone()));
    }
    let items = next.outbox().await;
    let of_one = items.iter().map(|(_, item)| item.what).collect::<Vec<_>>();
    assert_eq!(of_one, [What::Audit, What::Outcome], "the engine has its own");
    assert_eq!(next.joined.backlog.count(), 2);
    // A store that does not write is no reason to say no: nothing was to be done.
    next.store.fail(Some(StoreError::Full { file: "agent.redb".into() }));
    let plan = plan(&["PowerOn"]);
    let intended =
        Intended { command: &command(3, "PowerOn", vm(1)), plan: &plan, from_engine: true, target: "" };
    next.joined.journal.already(intended, &nothing).await;
}

#[derive(Debug)]
struct Flat;

impl guard::Tree for Flat {
    fn parents(&self, _: union::ObjectId, _: &mut Vec<union::ObjectId>) {}
}

#[tokio::test(start_paused = true)]
async fn what_a_session_was_refused_is_handed_in() {
    let world = world().await;
    let pass = world.log_in("s1", "ann");
    let late = i64::MAX;
    let refused = pass.authorize("PowerOff", union::command::Class::Idempotent, vm(1), &Flat, late);
    assert_eq!(refused.unwrap_err().code, Code::Permission);
    pass.authorize("Read", union::command::Class::Read, vm(1), &Flat, late).unwrap_err();
    world.joined.journal.keep_refusals().await.unwrap();
    world.joined.journal.keep_refusals().await.unwrap();
    let items = world.outbox().await;
    assert_eq!((items.len(), world.joined.backlog.count()), (1, 1));
    let handing = Handing::decode(items[0].1.body.0.as_slice()).unwrap();
    assert_eq!(handing.grant, Some(pass.now().signed.clone()));
    let record = Record::from_bytes(&handing.body).unwrap();
    assert_eq!((&*record.principal, &*record.verb, record.object), ("ann", "PowerOff", Some(vm(1))));
    assert!(record.verdict.starts_with("refused: PowerOff on vm:"), "{}", record.verdict);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_write_lets_nothing_begin() {
    let world = world().await;
    world.log_in("s1", "ann");
    world.store.fail(Some(StoreError::Full { file: "agent.redb".into() }));
    let refused = begin(&world, 1, &plan(&["PowerOn"]), false).await.unwrap_err();
    assert!(refused.code == Code::Internal && refused.message.contains("agent.redb"), "{refused}");
    let ticket = world
        .router
        .submit(command(2, "PowerOn", vm(1)), lane::Reply::Outcome)
        .expect("taken")
        .outcome()
        .await;
    assert!(matches!(ticket, Outcome::Refused(_)), "{ticket:?}");
    assert!(world.machines.calls.lock().is_empty());
    world.store.fail(None);
    begin(&world, 3, &plan(&["PowerOn"]), false).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_wait_hold_new_commands_back() {
    let world = world().await;
    let most = limits::OUTCOMES;
    let room = world.joined.journal.room.clone();
    assert_eq!(room.available_permits(), most);
    let taken = room.acquire_many(u32::try_from(most).unwrap()).await.unwrap();
    let nothing = plan(&["PowerOn"]);
    let mut held = Box::pin(begin(&world, 1, &nothing, true));
    tokio::select! {
        biased;
        _ = &mut held => panic!("there is no room"),
        () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
    }
    drop(taken);
    held.await.unwrap();
    assert_eq!(room.available_permits(), most - 1);
    world.joined.journal.ended(&command(1, "PowerOn", vm(1)), &done());
    world.joined.journal.flush().await;
    assert_eq!(room.available_permits(), most);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_stays_open_until_it_is_known() {
    let world = world().await;
    begin(&world, 1, &plan(&["PowerOn"]), true).await.unwrap();
    let one = command(1, "PowerOn", vm(1));
    let unknown = Outcome::Unknown { probe: "vm".into(), message: "lost".into() };
    world.joined.journal.ended(&one, &unknown);
    world.joined.journal.flush().await;
    assert_eq!(world.joined.journal.unsettled().await.unwrap().len(), 1);
    assert_eq!(world.joined.journal.look(one.id).await.unwrap(), Some(None));
    world.joined.journal.ended(&one, &done());
    world.joined.journal.flush().await;
    assert!(world.joined.journal.unsettled().await.unwrap().is_empty());
    assert_eq!(world.joined.journal.known(one.id).await.unwrap(), Some(done()));
    world.clock.advance(std::time::Duration::from_millis(RETENTION_MS.unsigned_abs() + 1));
    assert_eq!(world.joined.journal.expire().await.unwrap(), 1);
    assert_eq!(world.joined.journal.known(one.id).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_takes_nothing_stops_what_it_would_have_to_hear_of() {
    let world = world().await;
    world.joined.backlog.added(limits::OUTBOX);
    let refused = begin(&world, 1, &plan(&["PowerOn"]), false).await.unwrap_err();
    assert_eq!(refused.code, Code::Busy);
    begin(&world, 2, &plan(&["PowerOn"]), true).await.unwrap();
    assert!(Outbox::new(rows(&world.store)).pending(0, 10).await.unwrap().is_empty());
}

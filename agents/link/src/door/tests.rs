use super::*;
use crate::{
    engine::open,
    testing::{AGENT, NOW, World, bundle, command, vm, world},
};
use guard::Grant;
use std::time::Duration;
use store::MemoryStore;
use union::{NativeCall, StepKind, plan};

fn perform(command: &Command, grant: &Grant) -> pb::Perform {
    let schema = &bundle().schema;
    let call = NativeCall {
        call: "PowerOn".into(),
        args: vec![("vm".into(), union::Value::Ref(command.object))],
        is: StepKind::Once,
        undo: None,
        script: None,
    };
    let plan = Plan { steps: vec![plan::Step { object: command.object, call }], ..Plan::default() };
    pb::Perform {
        envelope: Some(command.to_pb(schema, "b")),
        plan: Some(plan.to_pb(schema)),
        grant: Some(grant.signed.clone()),
        engine_epoch: 5,
        target_epoch: 3,
    }
}

async fn ask(world: &World, perform: &pb::Perform) -> Result<Outcome, Cause> {
    let answer = world.link().answer("perform", Bytes::from(perform.encode_to_vec())).await;
    match open::<pb::Outcome>(&answer) {
        Ok(outcome) => Ok(Outcome::from_pb(&bundle().schema, &outcome).expect("an outcome")),
        Err(crate::LinkError::Refused(cause)) => Err(cause),
        Err(other) => panic!("{other}"),
    }
}

async fn about(world: &World, verb: &str, n: u128, epoch: u64) -> Result<pb::Settled, Cause> {
    let about = pb::About {
        command_id: uuid::Uuid::from_u128(n).to_string(),
        object_id: vm(1).to_string(),
        engine_epoch: epoch,
    };
    let answer = world.link().answer(verb, Bytes::from(about.encode_to_vec())).await;
    match open::<pb::Settled>(&answer) {
        Ok(settled) => Ok(settled),
        Err(crate::LinkError::Refused(cause)) => Err(cause),
        Err(other) => panic!("{other}"),
    }
}

fn calls(world: &World) -> usize {
    world.machines.calls.lock().len()
}

#[tokio::test(start_paused = true)]
async fn the_engine_may_and_the_same_again_is_the_same() {
    let world = world().await;
    let grant = world.grant("s1", "ann", AGENT);
    let one = perform(&command(1, "PowerOn", vm(1)), &grant);
    let first = ask(&world, &one).await.unwrap();
    assert!(matches!(first, Outcome::Done { .. }), "{first:?}");
    assert_eq!(ask(&world, &one).await.unwrap(), first);
    assert_eq!(calls(&world), 1);
    // Without a plan the owner lowers it, and the engine has the audit.
    let free = pb::Perform { plan: None, ..perform(&command(2, "PowerOn", vm(2)), &grant) };
    assert!(matches!(ask(&world, &free).await.unwrap(), Outcome::Done { .. }));
    world.joined.journal.flush().await;
    assert!(world.outbox().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn grants_are_checked_again() {
    let world = world().await;
    let one = command(1, "PowerOn", vm(1));
    let good = world.grant("s1", "ann", AGENT);
    let mut forged = perform(&one, &good);
    if let Some(grant) = &mut forged.grant {
        grant.signature[5] ^= 1;
    }
    let mut wider = perform(&one, &good);
    if let Some(grant) = &mut wider.grant {
        grant.grant.push(0);
    }
    let refused = [
        ("forged", forged),
        ("wider than signed", wider),
        ("none", pb::Perform { grant: None, ..perform(&one, &good) }),
        ("another agent's", perform(&one, &world.grant("s1", "ann", "host-b"))),
        ("another principal's", perform(&one, &world.grant("s1", "bob", AGENT))),
        ("another session's", perform(&one, &world.grant("s2", "ann", AGENT))),
    ];
    for (what, perform) in refused {
        assert_eq!(ask(&world, &perform).await.unwrap_err().code, Code::Permission, "{what}");
    }
    let scopes = |root: ObjectId, verb: &str| {
        let scope = pb::Scope { root_id: root.to_string(), verbs: vec![verb.into()], ..pb::Scope::default() };
        let content = pb::Grant { scopes: vec![scope], ..good.content.clone() };
        Grant::issue(content, crate::testing::DOMAIN, &world.engine_keys)
    };
    let narrow = ask(&world, &perform(&one, &scopes(vm(1), "PowerOff"))).await.unwrap_err();
    let beside = ask(&world, &perform(&one, &scopes(vm(2), "*"))).await.unwrap_err();
    assert_eq!((narrow.code, beside.code), (Code::Permission, Code::Permission));
    let revoke = pb::Revoke { session_ids: vec!["s1".into()] };
    let answer = world.link().answer("revoke", Bytes::from(revoke.encode_to_vec())).await;
    open::<()>(&answer).unwrap();
    assert_eq!(ask(&world, &perform(&one, &good)).await.unwrap_err().code, Code::Permission);
    assert_eq!(calls(&world), 0);
    // What hangs where only the engine knows is the engine's word.
    let folder = ObjectId::new(union::Kind::Folder, uuid::Uuid::from_u128(5));
    let content = pb::Grant {
        session_id: "s9".into(),
        scopes: vec![pb::Scope {
            root_id: folder.to_string(),
            verbs: vec!["*".into()],
            ..Default::default()
        }],
        ..good.content.clone()
    };
    let grant = Grant::issue(content, crate::testing::DOMAIN, &world.engine_keys);
    let one = Command { session: "s9".into(), ..one };
    assert!(matches!(ask(&world, &perform(&one, &grant)).await.unwrap(), Outcome::Done { .. }));
}

#[tokio::test(start_paused = true)]
async fn epochs_never_go_back_and_survive() {
    let world = world().await;
    let grant = world.grant("s1", "ann", AGENT);
    let at = |n, engine, target| pb::Perform {
        engine_epoch: engine,
        target_epoch: target,
        ..perform(&command(n, "PowerOn", vm(1)), &grant)
    };
    ask(&world, &at(1, 5, 3)).await.unwrap();
    assert_eq!(ask(&world, &at(2, 4, 3)).await.unwrap_err().code, Code::Permission, "an old engine");
    assert_eq!(ask(&world, &at(3, 0, 3)).await.unwrap_err().code, Code::Internal, "an engine without epoch");
    assert_eq!(ask(&world, &at(4, 5, 2)).await.unwrap_err().code, Code::Permission, "an old lease");
    assert_eq!(about(&world, "settle", 1, 4).await.unwrap_err().code, Code::Permission);
    ask(&world, &at(5, 6, 4)).await.unwrap();
    let calls_before = calls(&world);

    let store: MemoryStore = world.store.crash(|_| 0);
    let next = World::start(store, Arc::new(crate::router::InStep)).await;
    assert_eq!(ask(&next, &at(6, 5, 4)).await.unwrap_err().code, Code::Permission);
    assert_eq!(ask(&next, &at(7, 6, 3)).await.unwrap_err().code, Code::Permission);
    assert!(matches!(ask(&next, &at(8, 6, 4)).await.unwrap(), Outcome::Done { .. }));
    assert_eq!((calls_before, calls(&next)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_never_came_is_barred() {
    let world = world().await;
    let grant = world.grant("s1", "ann", AGENT);
    let late = perform(&command(1, "PowerOn", vm(1)), &grant);
    assert!(about(&world, "settle", 1, 5).await.unwrap().unknown);
    assert_eq!(ask(&world, &late).await.unwrap_err().code, Code::TimedOut);
    let told = about(&world, "settle", 1, 5).await.unwrap();
    let told = Outcome::from_pb(&bundle().schema, &told.outcome.unwrap()).unwrap();
    assert!(matches!(&told, Outcome::Refused(cause) if cause.code == Code::TimedOut), "{told:?}");
    assert_eq!(calls(&world), 0);
    // Nor in the next life, which was not asked.
    let next = World::start(world.store.crash(|_| 0), Arc::new(crate::router::InStep)).await;
    assert_eq!(ask(&next, &late).await.unwrap(), told);
    assert_eq!(calls(&next), 0);
    // What is here already is not barred.
    let here = perform(&command(2, "PowerOn", vm(2)), &grant);
    assert!(matches!(ask(&next, &here).await.unwrap(), Outcome::Done { .. }));
    let refused = Outcome::Refused(Cause::new(Code::TimedOut, "never"));
    assert!(!next.joined.journal.bar(command(2, "PowerOn", vm(2)).id, vm(2), &refused).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_became_of_a_command_is_told_also_after_a_restart() {
    let world = world().await;
    let grant = world.grant("s1", "ann", AGENT);
    world.machines.open.send_replace(false);
    let one = perform(&command(1, "PowerOn", vm(1)), &grant);
    let asked = ask(&world, &one);
    tokio::pin!(asked);
    tokio::select! {
        biased;
        outcome = &mut asked => panic!("{outcome:?}"),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    assert!(about(&world, "settle", 1, 5).await.unwrap().running);
    world.machines.open.send_replace(true);
    let outcome = asked.await.unwrap();
    let told = about(&world, "settle", 1, 5).await.unwrap().outcome.unwrap();
    assert_eq!(Outcome::from_pb(&bundle().schema, &told).unwrap(), outcome);
    world.joined.journal.flush().await;

    let next = World::start(world.store.crash(|_| 0), Arc::new(crate::router::InStep)).await;
    let told = about(&next, "settle", 1, 5).await.unwrap().outcome.unwrap();
    assert_eq!(Outcome::from_pb(&bundle().schema, &told).unwrap(), outcome);
    assert_eq!(ask(&next, &one).await.unwrap(), outcome);
    assert_eq!(calls(&next), 0);
}

#[tokio::test(start_paused = true)]
async fn a_command_killed_between_intent_and_outcome_is_looked_for() {
    let world = world().await;
    let grant = world.grant("s1", "ann", AGENT);
    world.machines.open.send_replace(false);
    let one = perform(&command(1, "PowerOn", vm(1)), &grant);
    {
        let asked = ask(&world, &one);
        tokio::pin!(asked);
        tokio::select! {
            biased;
            outcome = &mut asked => panic!("{outcome:?}"),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    let next = World::start(world.store.crash(|_| 0), Arc::new(crate::router::InStep)).await;
    assert!(about(&next, "settle", 1, 5).await.unwrap().running, "before it is recovered");
    let tickets = next.joined.recover().await.unwrap();
    assert_eq!(tickets.len(), 1);
    let outcome = tickets[0].clone().outcome().await;
    assert!(matches!(outcome, Outcome::Failed(_) | Outcome::Refused(_)), "not done, by looking: {outcome:?}");
    next.joined.journal.flush().await;
    let told = about(&next, "settle", 1, 5).await.unwrap().outcome.unwrap();
    assert_eq!(Outcome::from_pb(&bundle().schema, &told).unwrap(), outcome);
    assert_eq!(calls(&next), 0, "nothing is sent again");
}

#[tokio::test(start_paused = true)]
async fn one_request_too_many_is_busy_at_once() {
    let world = world().await;
    let grant = world.grant("s1", "ann", AGENT);
    world.machines.open.send_replace(false);
    let link = world.link().clone();
    let mut held = Vec::new();
    for _ in 0..limits::ANSWERED {
        held.push(link.room.acquire().await.unwrap());
    }
    let busy = ask(&world, &perform(&command(1, "PowerOn", vm(1)), &grant)).await.unwrap_err();
    assert_eq!(busy.code, Code::Busy);
    assert!(matches!(about(&world, "settle", 2, 5).await, Ok(pb::Settled { unknown: true, .. })));
    drop(held);
    let _aside = link.aside.acquire_many(u32::try_from(limits::ASIDE).unwrap()).await.unwrap();
    assert_eq!(about(&world, "settle", 3, 5).await.unwrap_err().code, Code::Busy);
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_refused() {
    let world = world().await;
    let grant = world.grant("s1", "ann", AGENT);
    let good = perform(&command(1, "PowerOn", vm(1)), &grant);
    for bad in [
        pb::Perform { envelope: None, ..good.clone() },
        pb::Perform {
            envelope: Some(pb::Envelope { verb: "Vm".into(), ..good.envelope.clone().unwrap() }),
            ..good.clone()
        },
        pb::Perform {
            plan: Some(pb::Plan { appears: "nobody".into(), ..pb::Plan::default() }),
            ..good.clone()
        },
    ] {
        assert_eq!(ask(&world, &bad).await.unwrap_err().code, Code::InvalidArgument);
    }
    for verb in ["perform", "settle", "cancel", "revoke", "grants", "bundle"] {
        let answer = world.link().answer(verb, Bytes::from_static(&[0xff; 9])).await;
        assert!(matches!(open::<()>(&answer), Err(crate::LinkError::Refused(_))), "{verb}");
    }
    let answer = world.link().answer("explode", Bytes::new()).await;
    let Err(crate::LinkError::Refused(cause)) = open::<()>(&answer) else { panic!("refused") };
    assert_eq!(cause.code, Code::NotSupported);
    assert_eq!(calls(&world), 0);
}

#[tokio::test(start_paused = true)]
async fn grants_and_bundles_are_passed_on() {
    let world = world().await;
    let pass = world.log_in("s1", "ann");
    world.log_in("s2", "ann");
    let content = pb::Grant { version: 2, issued_ms: NOW + 1, ..pass.now().content.clone() };
    let newer = Grant::issue(content, crate::testing::DOMAIN, &world.engine_keys);
    let renewed = pb::Renewed { grants: vec![newer.signed.clone()], ended: vec!["s2".into()] };
    open::<()>(&world.link().answer("grants", Bytes::from(renewed.encode_to_vec())).await).unwrap();
    assert_eq!(pass.now().content.version, 2);
    assert!(world.joined.grants.passes().has_ended("s2"));
    let bundle = world.link().bundle();
    let notice = pb::BundleNotice { hash: "abc".into(), size: 9, ..Default::default() };
    open::<()>(&world.link().answer("bundle", Bytes::from(notice.encode_to_vec())).await).unwrap();
    assert_eq!(*bundle.borrow(), Some(notice.clone()));
    world.link().taken_by(std::sync::Arc::new(Taker));
    let said: pb::BundleSaid =
        open(&world.link().answer("bundle", Bytes::from(notice.encode_to_vec())).await).unwrap();
    assert_eq!((&*said.hash, &*said.refused), ("abc", "9 bytes"));
    assert!(world.link().holds(vm(1)) && !world.link().holds(vm(1_000)));
}

/// Says what it was told.
#[derive(Debug)]
struct Taker;

#[async_trait::async_trait]
impl crate::bundle::Takes for Taker {
    async fn told(&self, notice: pb::BundleNotice) -> pb::BundleSaid {
        pb::BundleSaid {
            hash: notice.hash,
            refused: format!("{} bytes", notice.size),
            ..pb::BundleSaid::default()
        }
    }
}

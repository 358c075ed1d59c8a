use super::*;
use crate::presence::State;
use crate::testing::{DOMAIN, NOW, World, world};
use guard::Grant;

fn welcome(world: &World, epoch: u64) -> pb::Welcome {
    pb::Welcome {
        engine_epoch: epoch,
        seal_key: world.engine_keys.seal_key(),
        seal_proof: world.engine_keys.prove_seal_key(DOMAIN),
        now_ms: NOW,
        ..pb::Welcome::default()
    }
}

fn engine(world: &World, epoch: u64) {
    world.engine.answers("hello", welcome(world, epoch));
    world.engine.answers("beat", pb::Beaten { engine_epoch: epoch, hello: false });
    world.engine.answers("renew", pb::Renewed::default());
    world.engine.answers("used", ());
    world.engine.answers("outbox", pb::Taken::default());
}

async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn hellos(world: &World) -> usize {
    world.engine.heard::<pb::Hello>("hello").len()
}

#[tokio::test(start_paused = true)]
async fn says_hello_once_and_again_to_another_engine() {
    let world = world().await;
    world.joined.run();
    wait(1).await;
    assert!(!world.presence.is_here());
    engine(&world, 4);
    wait(60).await;
    assert_eq!(world.presence.now(), State::Here(4));
    let first = hellos(&world);
    wait(60).await;
    assert_eq!(hellos(&world), first);
    // A restarted engine has a greater epoch.
    engine(&world, 5);
    wait(5).await;
    assert_eq!((world.presence.now(), hellos(&world)), (State::Here(5), first + 1));
    // One of the past is no engine.
    engine(&world, 3);
    wait(10).await;
    assert!(!world.presence.is_here());
    engine(&world, 6);
    wait(5).await;
    assert_eq!(world.presence.now(), State::Here(6));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_says_nothing_is_away_within_three_seconds() {
    let world = world().await;
    engine(&world, 1);
    world.joined.run();
    wait(3).await;
    assert!(world.presence.is_here());
    world.engine.open.send_replace(false);
    wait(4).await;
    assert!(!world.presence.is_here());
    world.engine.open.send_replace(true);
    wait(2).await;
    assert!(world.presence.is_here());
}

#[tokio::test(start_paused = true)]
async fn a_welcome_ends_what_was_revoked_and_raises_leases() {
    let world = world().await;
    let (kept, revoked) = (world.log_in("s1", "ann"), world.log_in("s2", "ann"));
    engine(&world, 1);
    let welcome = pb::Welcome {
        revoked: vec!["s2".into()],
        leases: [("machines".to_owned(), 9)].into(),
        bundle: "abc".into(),
        ..welcome(&world, 1)
    };
    world.engine.answers("hello", welcome);
    let newer = pb::Grant { version: 2, issued_ms: NOW + 1, ..kept.now().content.clone() };
    let grants = vec![Grant::issue(newer, DOMAIN, &world.engine_keys).signed];
    world.engine.answers("renew", pb::Renewed { grants, ended: vec![] });
    world.joined.run();
    wait(1).await;
    assert!(revoked.ended.is_cancelled() && !kept.ended.is_cancelled());
    assert_eq!(kept.now().content.version, 2, "permissions may have changed while it was away");
    assert!(world.owner.lease("machines", 8).is_err());
    assert_eq!(world.link().bundle().borrow().as_ref().map(|b| b.hash.clone()), Some("abc".into()));
    world.joined.grants.used(&kept.session);
    wait(25).await;
    assert_eq!(world.engine.heard::<pb::Used>("used"), [pb::Used { session_ids: vec!["s1".into()] }]);
}

#[tokio::test(start_paused = true)]
async fn use_that_was_not_told_is_told_later() {
    let world = world().await;
    let pass = world.log_in("s1", "ann");
    engine(&world, 1);
    world.engine.says("used", |_| Err(LinkError::Busy));
    world.joined.grants.used(&pass.session);
    world.joined.run();
    wait(25).await;
    engine(&world, 1);
    wait(25).await;
    let told: Vec<pb::Used> = world.engine.heard("used");
    assert!(told.len() >= 2 && told.iter().all(|used| used.session_ids == ["s1"]), "{told:?}");
}

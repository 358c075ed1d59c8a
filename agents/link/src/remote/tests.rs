use super::*;
use crate::{
    engine::{LinkError, answered},
    testing::{AGENT, DOMAIN, NOW, World, world},
};
use guard::{Grant, grant};
use union::clock::SeededIds;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// An engine that knows ann with her password, and her session by its key.
fn engine_knows_ann(world: &World) {
    let welcome = pb::Welcome {
        seal_key: world.engine_keys.seal_key(),
        seal_proof: world.engine_keys.prove_seal_key(DOMAIN),
        ..pb::Welcome::default()
    };
    assert!(world.joined.logins.deps.seal_key.learn(&welcome));
    world.engine_is_here();
    let keys = world.engine_keys.clone();
    let reply = move |sender: &[u8], session: &str| {
        let sender = std::str::from_utf8(sender).unwrap();
        let scope = pb::Scope { verbs: vec!["*".into()], ..pb::Scope::default() };
        let content = pb::Grant {
            session_id: session.into(),
            principal: "ann".into(),
            agent: AGENT.into(),
            scopes: vec![scope],
            issued_ms: NOW,
            expires_ms: NOW + grant::TTL_MS,
            ..pb::Grant::default()
        };
        let key =
            seal::seal(&keys, sender, format!("key of {session}").as_bytes(), &SeededIds::new(8)).unwrap();
        let grant = Some(Grant::issue(content, DOMAIN, &keys).signed);
        answered(&pb::LoginReply { grant, sealed_key: key, ..pb::LoginReply::default() })
    };
    let refusal = |refusal: pb::LoginRefusal| {
        answered(&pb::LoginReply {
            refusal: refusal.into(),
            retry_after_ms: 1_500,
            ..pb::LoginReply::default()
        })
    };
    let opened = |keys: &Keys, body: &Bytes| {
        let request = pb::LoginRequest::decode(body.clone()).unwrap();
        let sender = String::from_utf8(request.sender_key.clone()).unwrap();
        (seal::open(keys, &sender, &request.sealed).unwrap().to_vec(), request.sender_key)
    };
    let (own, says) = (world.engine_keys.clone(), reply.clone());
    world.engine.says("login", move |body| {
        assert!(!body.windows(7).any(|w| w == b"hunter2"), "the password is not to be seen");
        let (login, sender) = opened(&own, &body);
        let login = pb::SealedLogin::decode(login.as_slice()).unwrap();
        assert_eq!((&*login.protocol, &*login.remote), ("p", "127.0.0.1"));
        Ok(match (&*login.user, &*login.password) {
            ("ann", "hunter2") => says(&sender, "s1"),
            ("flood", _) => refusal(pb::LoginRefusal::LoginRateLimited),
            ("many", _) => refusal(pb::LoginRefusal::LoginBusy),
            _ => refusal(pb::LoginRefusal::LoginWrong),
        })
    });
    for (verb, session) in [("resume", "s2"), ("again", "s3")] {
        let (own, says) = (world.engine_keys.clone(), reply.clone());
        world.engine.says(verb, move |body| {
            let (key, sender) = opened(&own, &body);
            let key = pb::SealedKey::decode(key.as_slice()).unwrap();
            Ok(match key.key.starts_with("key of ") {
                true => says(&sender, session),
                false => refusal(pb::LoginRefusal::LoginEnded),
            })
        });
    }
    world.engine.answers("logout", ());
}

use bytes::Bytes;

async fn login(world: &World, user: &str, password: &str) -> Result<Pass, LoginError> {
    let password = Secret::from(password);
    let applicant = Applicant { user, password: &password, remote: HOME, protocol: "p" };
    world.joined.logins.login(applicant).await
}

#[tokio::test(start_paused = true)]
async fn the_engine_lets_in() {
    let world = world().await;
    engine_knows_ann(&world);
    let logins = &world.joined.logins;
    let pass = login(&world, "ann", "hunter2").await.unwrap();
    assert_eq!((&*pass.session, &*pass.principal, pass.key.expose()), ("s1", "ann", "key of s1"));
    assert!(world.joined.grants.passes().find("s1").is_some());
    assert_eq!(login(&world, "ann", "wrong").await.unwrap_err(), LoginError::Wrong);
    let limited = LoginError::RateLimited { retry_after: Duration::from_millis(1_500) };
    assert_eq!(login(&world, "flood", "").await.unwrap_err(), limited);
    assert_eq!(login(&world, "many", "").await.unwrap_err(), LoginError::Busy);
    assert_eq!(&*logins.again(&pass, HOME).await.unwrap().session, "s3");
    let resumed = logins.resume(&Secret::from("key of s2"), "p").await.unwrap().unwrap();
    assert_eq!(&*resumed.session, "s2");
    logins.used(&pass);
    logins.used(&pass);
    assert_eq!(world.joined.grants.take_used(), [Arc::<str>::from("s1")]);
    logins.end(&pass).await;
    assert!(pass.ended.is_cancelled());
    assert_eq!(world.engine.heard::<pb::LoginRequest>("logout").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_of_nobody_is_asked_about_once() {
    let world = world().await;
    engine_knows_ann(&world);
    let logins = &world.joined.logins;
    let nobody = Secret::from("made up");
    for _ in 0..5 {
        assert!(logins.resume(&nobody, "p").await.unwrap().is_none());
    }
    let asked = || world.engine.heard::<pb::LoginRequest>("resume").len();
    assert_eq!(asked(), 1);
    world.clock.advance(limits::NO_SESSION);
    assert!(logins.resume(&nobody, "p").await.unwrap().is_none());
    assert_eq!(asked(), 2);
    for n in 0..limits::NO_SESSIONS + 10 {
        assert!(logins.resume(&Secret::new(format!("made up {n}")), "p").await.unwrap().is_none());
    }
    assert!(logins.nobodies.lock().len() <= limits::NO_SESSIONS);
}

#[tokio::test(start_paused = true)]
async fn without_the_engine_held_sessions_go_on_and_nobody_comes_in() {
    let world = world().await;
    engine_knows_ann(&world);
    let pass = login(&world, "ann", "hunter2").await.unwrap();
    world.presence.away();
    assert_eq!(login(&world, "ann", "hunter2").await.unwrap_err(), LoginError::Away);
    let asked = world.joined.logins.resume(&Secret::from("key of s2"), "p").await;
    assert_eq!(asked.unwrap_err(), LoginError::Away);
    let tree = crate::FactsTree(Arc::clone(&world.inventory));
    let one = crate::testing::command(1, "PowerOn", crate::testing::vm(1));
    world.joined.grants.check(&one, &tree).unwrap();
    world.joined.logins.end(&pass).await;
    assert_eq!(world.joined.grants.check(&one, &tree).unwrap_err().code, union::command::Code::Permission);
    world.engine_is_here();
    world.engine.says("login", |_| Err(LinkError::TimedOut));
    assert_eq!(login(&world, "ann", "hunter2").await.unwrap_err(), LoginError::Away);
    world.engine.says("login", |_| Err(LinkError::Busy));
    assert_eq!(login(&world, "ann", "hunter2").await.unwrap_err(), LoginError::Busy);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_engines_lets_nobody_in() {
    let world = world().await;
    engine_knows_ann(&world);
    let eve = Keys::new(&SeededIds::new(9));
    let fake = pb::Welcome {
        seal_key: eve.seal_key(),
        seal_proof: eve.prove_seal_key(DOMAIN),
        ..pb::Welcome::default()
    };
    assert!(!world.joined.logins.deps.seal_key.learn(&fake));
    assert_eq!(&*world.joined.logins.deps.seal_key.get().unwrap(), world.engine_keys.seal_key());
    // A grant that eve signed, sealed by the engine's key or by hers.
    let content = pb::Grant { session_id: "s1".into(), agent: AGENT.into(), ..pb::Grant::default() };
    let grant = Some(Grant::issue(content, DOMAIN, &eve).signed);
    for keys in [&eve, &world.engine_keys] {
        let sealed_key = seal::seal(keys, &world.keys.seal_key(), b"k", &SeededIds::new(8)).unwrap();
        world
            .engine
            .answers("login", pb::LoginReply { grant: grant.clone(), sealed_key, ..Default::default() });
        assert_eq!(login(&world, "ann", "hunter2").await.unwrap_err(), LoginError::Away);
    }
    assert!(world.joined.grants.passes().sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_logout_is_told_when_the_engine_is_back() {
    let world = world().await;
    engine_knows_ann(&world);
    let pass = login(&world, "ann", "hunter2").await.unwrap();
    tokio::spawn(Arc::clone(&world.joined.logins).run());
    world.presence.away();
    world.joined.logins.end(&pass).await;
    assert!(pass.ended.is_cancelled());
    let told = || world.engine.heard::<pb::LoginRequest>("logout").len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(told(), 0);
    world.engine_is_here();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((told(), world.joined.logins.owed.lock().len()), (1, 0));
}

use super::*;
use crate::{AgentError, Agents};
use guard::{
    Applicant, Cost, Keys, LoginError, Secret,
    authority::{Deps, Opened, Request, Response, Settings, Told, keep::Keep},
    passwords,
    people::{Change, Hashed},
};
use parking_lot::Mutex;
use prost::Message;
use std::{collections::BTreeMap, time::Duration};
use store::{Epoch, FileStore, MemoryStore, Store, StoreError, Table};
use union::{
    Clock,
    clock::{ManualClock, SeededIds},
};

const EPOCH: Epoch = Epoch(1);

async fn open(store: Arc<dyn Store>, clock: &Arc<ManualClock>) -> Arc<guard::Authority> {
    let passwords = passwords::Settings { cost: Cost::LEAST, ..Default::default() };
    let deps = Deps {
        keep: KeptStore::new(store, EPOCH),
        keys: Keys::new(&SeededIds::new(7)),
        domain: "lab".into(),
        clock: clock.clone(),
        ids: Arc::new(SeededIds::new(8)),
        settings: Settings { passwords, ..Settings::default() },
    };
    guard::Authority::open(deps).await.unwrap()
}

fn hashed(password: &str) -> Hashed {
    Hashed::new(&password.into(), Cost::LEAST, &SeededIds::new(1)).unwrap()
}

async fn login(authority: &guard::Authority, user: &str) -> Result<Opened, LoginError> {
    let remote = "192.0.2.1".parse().unwrap();
    let password = Secret::from(user);
    authority.login("east", &Applicant { user, password: &password, remote, protocol: "p" }).await
}

async fn people(authority: &guard::Authority) {
    for (name, role) in [("root", "admin"), ("eye", "read-only")] {
        let change = Change::AddUser(name.into(), hashed(name), Some(role.into()));
        authority.change("test", change).await.unwrap();
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_000_000_000));
    let path = dir.path().join("engine.redb");
    let store: Arc<dyn Store> = FileStore::open_or_create(&path).unwrap();
    let authority = open(Arc::clone(&store), &clock).await;
    people(&authority).await;
    let (kept, revoked) = (login(&authority, "eye").await.unwrap(), login(&authority, "root").await.unwrap());
    authority.resume("west", &kept.key, "p").await.unwrap();
    authority.revoke("test", Some(&revoked.grant.content.session_id), None).await.unwrap();
    let before = authority.people();
    drop((authority, store));
    let bytes = std::fs::read(&path).unwrap();
    let holds = |secret: &str| bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
    assert!(!holds(kept.key.expose()) && !holds(revoked.key.expose()), "a key is in the file");

    let store: Arc<dyn Store> = FileStore::open_or_create(&path).unwrap();
    let authority = open(Arc::clone(&store), &clock).await;
    assert_eq!(*authority.people(), *before);
    assert_eq!(authority.revoked(), std::slice::from_ref(&revoked.grant.content.session_id));
    assert!(authority.resume("east", &revoked.key, "p").await.is_none());
    let (renewed, _) = authority.renew("west", [kept.grant.content.session_id.as_str()]);
    assert_eq!(renewed.len(), 1, "where its grants are is kept");
    assert_eq!(authority.admin("test", Request::AuditVerify).await, Response::Whole(5));
    let search = Request::AuditSearch {
        user: Some("eye".into()),
        kind: None,
        object: None,
        from_ms: None,
        to_ms: None,
        before: None,
        limit: 0,
    };
    let Response::Audit(lines) = authority.admin("test", search).await else { panic!("expected entries") };
    assert_eq!((lines.len(), lines[0].verb.as_str(), lines[0].remote.as_str()), (1, "Login", "192.0.2.1"));
}

#[tokio::test]
async fn a_crash_loses_nothing_that_was_answered() {
    let clock = Arc::new(ManualClock::new(1_000_000_000));
    let store = MemoryStore::new();
    let authority = open(Arc::new(store.clone()), &clock).await;
    people(&authority).await;
    let eye = login(&authority, "eye").await.unwrap();
    let store = store.crash(|_| 0);
    assert!(
        authority.change("test", Change::RemoveUser("eye".into())).await.is_err(),
        "the old engine is over"
    );
    let authority = open(Arc::new(store.clone()), &clock).await;
    assert!(authority.resume("east", &eye.key, "p").await.is_some());
    authority.change("test", Change::RemoveUser("eye".into())).await.unwrap();
    let authority = open(Arc::new(store.crash(|_| 0)), &clock).await;
    assert!(
        authority.resume("east", &eye.key, "p").await.is_none() && login(&authority, "eye").await.is_err()
    );
}

#[tokio::test]
async fn an_engine_whose_time_is_over_changes_nothing() {
    let clock = Arc::new(ManualClock::new(1_000_000_000));
    let store = MemoryStore::new();
    let authority = open(Arc::new(store.clone()), &clock).await;
    people(&authority).await;
    let late = KeptStore::new(Arc::new(store.clone()), Epoch(2));
    late.write(vec![guard::authority::Write::Person("role/x".into(), Some(b"[]".to_vec()))]).await.unwrap();
    assert!(authority.change("test", Change::RemoveUser("eye".into())).await.is_err());
    assert!(authority.people().hash("eye").is_some());
}

#[tokio::test]
async fn permissions_that_cannot_be_read_are_not_guessed() {
    let store = MemoryStore::new();
    let mut batch = store::Batch::new();
    batch.put(Table::User, b"user/root", b"{".to_vec());
    store.commit(batch, EPOCH).await.unwrap();
    let deps = Deps {
        keep: KeptStore::new(Arc::new(store), EPOCH),
        keys: Keys::new(&SeededIds::new(7)),
        domain: "lab".into(),
        clock: Arc::new(ManualClock::new(0)),
        ids: Arc::new(SeededIds::new(8)),
        settings: Settings::default(),
    };
    let error = guard::Authority::open(deps).await.unwrap_err().to_string();
    assert!(error.contains("`user/root` cannot be read"), "{error}");
}

#[tokio::test]
async fn a_full_store_lets_in_and_changes_nothing() {
    let clock = Arc::new(ManualClock::new(1_000_000_000));
    let store = MemoryStore::new();
    let authority = open(Arc::new(store.clone()), &clock).await;
    people(&authority).await;
    store.fail(Some(StoreError::Closed));
    store.fail(Some(StoreError::TooLarge { what: "the disk", size: 1, most: 0 }));
    assert!(login(&authority, "eye").await.is_ok());
    let response = authority.admin("test", Request::UserRemove { name: "eye".into() }).await;
    assert!(
        matches!(&response, Response::Refused(why) if why.starts_with("it cannot be kept")),
        "{response:?}"
    );
    assert!(authority.people().hash("eye").is_some());
}

#[tokio::test]
async fn only_what_was_issued_for_asking_is_a_witness() {
    let clock = Arc::new(ManualClock::new(1_000_000_000));
    let authority = open(Arc::new(MemoryStore::new()), &clock).await;
    people(&authority).await;
    let eye = login(&authority, "eye").await.unwrap();
    let rights = Rights::new(Arc::clone(&authority));
    clock.advance(Duration::from_secs(2 * 24 * 3_600));
    assert_eq!(rights.issued(&eye.grant.signed).unwrap().principal, "eye");
    let mut forged = eye.grant.signed.clone();
    forged.signature[0] ^= 1;
    assert!(rights.issued(&forged).is_none() && rights.issued(&SignedGrant::default()).is_none());
    let eye = login(&authority, "eye").await.unwrap();
    let performs = rights.grant(&eye.grant.content.session_id, "west").await.unwrap();
    assert!(rights.issued(&performs).is_none());
    let taken = authority.check().take(&performs, "west", clock.now_ms()).unwrap();
    assert!(taken.content.performs_only && taken.content.principal == "eye");
    assert!(rights.grant("nonsense", "west").await.is_err());
}

type Told2 = (String, String, Vec<String>);

#[derive(Debug, Default)]
struct Recording {
    told: Mutex<Vec<Told2>>,
    /// Answers to come before the good ones, by agent.
    troubles: Mutex<BTreeMap<String, Vec<AgentError>>>,
}

#[async_trait]
impl Agents for Recording {
    async fn ask(&self, agent: &str, verb: &str, body: Bytes, _: Duration) -> Result<Bytes, AgentError> {
        if let Some(error) = self.troubles.lock().get_mut(agent).and_then(Vec::pop) {
            return Err(error);
        }
        let sessions = match verb {
            "revoke" => pb::Revoke::decode(body).unwrap().session_ids,
            _ => {
                let grants = pb::Renewed::decode(body).unwrap().grants;
                let read = |g: &SignedGrant| pb::Grant::decode(g.grant.as_slice()).unwrap().session_id;
                grants.iter().map(read).collect()
            }
        };
        self.told.lock().push((agent.to_owned(), verb.to_owned(), sessions));
        Ok(Bytes::new())
    }
}

fn grant(session: &str) -> guard::Grant {
    guard::Grant::issue(
        pb::Grant { session_id: session.into(), ..Default::default() },
        "lab",
        &Keys::new(&SeededIds::new(1)),
    )
}

#[tokio::test(start_paused = true)]
async fn one_agent_that_does_not_hear_holds_up_nobody_and_is_told_at_last() {
    let agents = Arc::new(Recording::default());
    agents.troubles.lock().insert("deaf".into(), vec![AgentError::TimedOut; 100]);
    let herald = Herald::new(agents.clone(), || vec!["deaf".to_owned(), "west".to_owned()]);
    let running = tokio::spawn(Arc::clone(&herald).run());
    let told = |agent: &str| -> Vec<String> {
        let told = agents.told.lock();
        told.iter().filter(|(to, ..)| to == agent).flat_map(|(_, _, sessions)| sessions.clone()).collect()
    };
    for (n, session) in ["a", "b", "c"].into_iter().enumerate() {
        herald.ended(session);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(told("west").len(), n + 1, "at once, while the other is still asked");
    }
    assert!(told("deaf").is_empty());
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(told("deaf"), ["a", "b", "c"]);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn agents_are_told_until_they_have_heard() {
    let agents = Arc::new(Recording::default());
    let busy = AgentError::Refused(Cause::new(union::command::Code::Busy, "busy"));
    agents.troubles.lock().insert("east".into(), vec![AgentError::TimedOut, busy]);
    // A connection that breaks for a moment, and an agent that is gone.
    agents.troubles.lock().insert("north".into(), vec![AgentError::Away; 3]);
    agents.troubles.lock().insert("gone".into(), vec![AgentError::Away; 1]);
    let names = || vec!["east".to_owned(), "north".to_owned(), "west".to_owned()];
    let herald = Herald::new(agents.clone(), names);
    herald.granted("west", &grant("a"));
    herald.granted("west", &grant("b"));
    herald.granted("gone", &grant("a"));
    herald.ended("b");
    let running = tokio::spawn(Arc::clone(&herald).run());
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut told = agents.told.lock().clone();
    told.sort();
    let line = |agent: &str, verb: &str, session: &str| {
        (agent.to_owned(), verb.to_owned(), vec![session.to_owned()])
    };
    let all =
        [("east", "revoke", "b"), ("north", "revoke", "b"), ("west", "grants", "a"), ("west", "revoke", "b")];
    assert_eq!(told, all.map(|(agent, verb, session)| line(agent, verb, session)));
    for n in 0..100 {
        let role = "r".repeat(10_000);
        let scopes = vec![pb::Scope { role, ..Default::default() }];
        let content = pb::Grant { session_id: format!("d{n}"), scopes, ..Default::default() };
        let large = guard::Grant::issue(content, "lab", &Keys::new(&SeededIds::new(1)));
        herald.granted("west", &large);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let parts: Vec<usize> = agents.told.lock().drain(4..).map(|(_, _, sessions)| sessions.len()).collect();
    assert!(parts.len() == 2 && parts.iter().sum::<usize>() == 100, "more than a message holds: {parts:?}");
    herald.ended("c");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(agents.told.lock().len(), 7);
    running.abort();
}

//! What an agent in wrong hands gains: nothing. The engine with the guard's own authority.

use crate::bed::{BUNDLE, Bed, Scripted, code, is_done, vm};
use engine::{Limits, authority::Rights};
use guard::{
    Applicant, Check, Cost, Grant, Keys,
    authority::{Deps, MemoryKeep, Opened, Settings},
    passwords,
    people::{Change, Hashed, Scope, Who},
};
use prost::Message;
use std::{collections::BTreeSet, sync::Arc};
use store::{
    Blob, MemoryStore,
    audit::{Audit, Filter, Record},
    outbox::What,
};
use union::{
    Clock,
    clock::{ManualClock, SeededIds},
    command::{Code, Outcome},
    pb,
};

struct Court {
    bed: Bed,
    authority: Arc<guard::Authority>,
    /// Of `eve`, an operator of VM 1, at agent `b`.
    eve: Opened,
    /// Of `root`, who may do everything, at agent `c`.
    root: Opened,
}

async fn login(authority: &guard::Authority, user: &str, agent: &str) -> Opened {
    let remote = "192.0.2.1".parse().unwrap();
    let applicant = Applicant { user, password: &user.into(), remote, protocol: "paper" };
    authority.login(agent, &applicant).await.unwrap()
}

async fn court() -> Court {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let passwords = passwords::Settings { cost: Cost::LEAST, ..Default::default() };
    let authority = guard::Authority::open(Deps {
        keep: Arc::new(MemoryKeep::new()),
        keys: Keys::new(&SeededIds::new(7)),
        domain: "lab".into(),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ids: Arc::new(SeededIds::new(8)),
        settings: Settings { passwords, ..Settings::default() },
    });
    let authority = authority.await.unwrap();
    let hashed = |name: &str| Hashed::new(&name.into(), Cost::LEAST, &SeededIds::new(1)).unwrap();
    let scope = Scope {
        who: Who::User("eve".into()),
        role: "operator".into(),
        root: Some(vm(1)),
        kinds: BTreeSet::new(),
    };
    for change in [
        Change::AddUser("root".into(), hashed("root"), Some("admin".into())),
        Change::AddUser("eve".into(), hashed("eve"), None),
        Change::AddScope(scope),
    ] {
        authority.change("test", change).await.unwrap();
    }
    let (eve, root) = (login(&authority, "eve", "b").await, login(&authority, "root", "c").await);
    let memory = MemoryStore::new();
    let rights = Rights::new(Arc::clone(&authority));
    let agents = Arc::new(Scripted::default());
    let store = Arc::new(memory.clone());
    let bed = Bed::start_as(store, memory, clock, agents, Limits::default(), rights).await;
    Court { bed, authority, eve, root }
}

impl Court {
    /// A command as `from` sends it.
    async fn send(
        &self,
        from: &str,
        n: u128,
        on: u128,
        (principal, session): (&str, &str),
        grant: Option<pb::SignedGrant>,
    ) -> Outcome {
        let envelope = self.bed.command(n, "PowerOn", vm(on), &[]);
        let (principal, session_id) = (principal.to_owned(), session.to_owned());
        let envelope = pb::Envelope { principal, session_id, ..envelope };
        let submission = pb::Submission { envelope: Some(envelope), grant };
        let outcome = self.bed.ask::<pb::Outcome>(from, "vm.command", &submission).await.unwrap();
        Outcome::from_pb(&BUNDLE.schema, &outcome).unwrap()
    }
}

fn of(opened: &Opened) -> (&str, &str) {
    (&opened.grant.content.principal, &opened.grant.content.session_id)
}

fn signed(opened: &Opened) -> Option<pb::SignedGrant> {
    Some(opened.grant.signed.clone())
}

#[tokio::test(start_paused = true)]
async fn an_owner_gets_a_grant_to_perform_with_and_no_other() {
    let court = court().await;
    let outcome = court.send("b", 1, 1, of(&court.eve), signed(&court.eve)).await;
    assert!(is_done(&outcome), "{outcome:?}");
    let performed = court.bed.agents.performed();
    let check: Check = court.authority.check();
    let shown = performed[0].grant.clone().unwrap();
    let grant = check.take(&shown, "a", court.bed.clock.now_ms()).unwrap();
    assert!(
        grant.content.performs_only
            && of(&court.eve) == (&grant.content.principal, &grant.content.session_id)
    );
    assert!(check.issued(&shown, "b").is_err());
    // The owner has seen a grant and the names of a session; with them it can ask for nothing.
    let outcome = court.send("a", 2, 1, of(&court.eve), Some(shown)).await;
    assert_eq!(code(&outcome), Code::Permission);
    assert_eq!(court.bed.agents.performed().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_in_wrong_hands_is_refused_and_that_is_kept() {
    let court = court().await;
    let forged = Grant::issue(court.root.grant.content.clone(), "lab", &Keys::new(&SeededIds::new(66)));
    let mut wider = court.eve.grant.content.clone();
    wider.scopes = court.root.grant.content.scopes.clone();
    let wider =
        pb::SignedGrant { grant: wider.encode_to_vec(), signature: court.eve.grant.signed.signature.clone() };
    let (eve, root) = (of(&court.eve), of(&court.root));
    let tries = [
        ("what the session may not do", "b", 2, eve, signed(&court.eve)),
        ("another principal", "b", 2, (root.0, eve.1), signed(&court.eve)),
        ("another session", "b", 2, root, signed(&court.eve)),
        ("another agent's grant", "b", 2, root, signed(&court.root)),
        ("a forged grant", "c", 2, root, Some(forged.signed)),
        ("a widened grant", "b", 2, eve, Some(wider)),
        ("no grant", "b", 1, eve, None),
        ("a session that never was", "b", 1, (eve.0, "nonsense"), signed(&court.eve)),
    ];
    for (n, (what, from, on, who, grant)) in (10..).zip(tries) {
        let outcome = court.send(from, n, on, who, grant).await;
        assert!(
            matches!(&outcome, Outcome::Refused(cause) if cause.code == Code::Permission),
            "{what}: {outcome:?}"
        );
        let said = court.bed.audit(n).await;
        assert!(said.len() == 1 && said[0].contains("refused"), "{what}: {said:?}");
    }
    assert!(court.bed.agents.performed().is_empty());
    // The same sessions, by those whose they are.
    assert!(is_done(&court.send("b", 30, 1, eve, signed(&court.eve)).await));
    assert!(is_done(&court.send("c", 31, 2, root, signed(&court.root)).await));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_session_ends_at_once() {
    let court = court().await;
    let (eve, grant) = (of(&court.eve), signed(&court.eve));
    assert!(is_done(&court.send("b", 1, 1, eve, grant.clone()).await));
    court.authority.revoke("test", Some(eve.1), None).await.unwrap();
    let outcome = court.send("b", 2, 1, eve, grant.clone()).await;
    assert_eq!(code(&outcome), Code::Permission);
    let welcome = court.bed.hello("b", 1, &[]).await.unwrap();
    assert_eq!(welcome.revoked, [eve.1]);
    // Permissions that were taken are gone at once too.
    let root = of(&court.root);
    assert!(is_done(&court.send("c", 3, 1, root, signed(&court.root)).await));
    let other = Change::AddUser(
        "two".into(),
        Hashed::new(&"two".into(), Cost::LEAST, &SeededIds::new(1)).unwrap(),
        Some("admin".into()),
    );
    court.authority.change("test", other).await.unwrap();
    court.authority.change("test", Change::RemoveScope(1)).await.unwrap();
    let outcome = court.send("c", 4, 1, root, signed(&court.root)).await;
    assert_eq!(code(&outcome), Code::Permission, "the grant that it holds says otherwise");
}

#[tokio::test(start_paused = true)]
async fn records_handed_in_for_somebody_else_are_not_believed() {
    let court = court().await;
    let (eve, root) = (of(&court.eve), of(&court.root));
    let item = |seq: u64, (principal, session): (&str, &str), grant: Option<pb::SignedGrant>| {
        let record = Record {
            at_ms: court.bed.clock.now_ms(),
            principal: principal.into(),
            session: session.into(),
            remote: "".into(),
            verb: "PowerOn".into(),
            object: Some(vm(1)),
            command: None,
            verdict: "allowed".into(),
            detail: Blob::default(),
        };
        pb::HandedItem { seq, what: What::Audit as u32, body: record.to_bytes(), grant }
    };
    let performs = court.authority.grant_to_perform(root.1, "b").unwrap().signed.clone();
    let items = vec![
        item(1, eve, signed(&court.eve)),
        item(2, root, signed(&court.eve)),
        item(3, root, signed(&court.root)),
        item(4, root, Some(performs)),
        item(5, root, None),
    ];
    let handed = pb::Handed { items, ..pb::Handed::default() };
    let taken: pb::Taken = court.bed.ask("b", "outbox", &handed).await.unwrap();
    assert_eq!(taken.seq, 5);
    let audit = Audit::new(Arc::clone(&court.bed.store));
    let mut found = audit.search(&Filter::default(), None, 10).await.unwrap();
    found.reverse();
    let said: Vec<_> =
        found.iter().map(|(_, r)| (&*r.principal, r.verdict.starts_with("not believed"))).collect();
    let not = ("agent:b", true);
    assert_eq!(said, [("eve", false), not, not, not, not]);
}

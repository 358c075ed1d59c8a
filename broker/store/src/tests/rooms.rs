//! Each room's promises, on the memory store.

use super::history::{record, vm};
use crate::{
    Batch, Blob, Epoch, MemoryStore, Store, Table,
    audit::{Audit, Filter},
    facts::{Fact, Facts},
    journal::{Begun, End, Entry, Intent, Journal, JournalError, Settled, Step, StepState},
    leases::{LeaseError, Leases},
    outbox::{Inbox, Item, Outbox, Taken, What},
    owned::{Owned, OwnedError},
    sessions::{Session, Sessions},
    testing::now,
};
use std::sync::Arc;
use union::{CommandId, Kind, command::Revision};
use uuid::Uuid;

const E: Epoch = Epoch(1);

fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

#[test]
fn the_audit_chain_is_searched_and_pruned_and_shows_every_edit() {
    let store = store();
    let audit = Audit::new(Arc::clone(&store));
    for n in 1..=1_200 {
        assert_eq!(now(audit.append(&record(n), E)).unwrap(), n as u64);
    }
    assert_eq!(now(audit.verify()).unwrap(), Ok(1_200));
    let every = now(audit.search(&Filter::default(), None, 2_000)).unwrap();
    assert_eq!((every.len(), every[0].0), (1_200, 1_200));
    let filters = [
        Filter { principal: Some("ann".into()), ..Filter::default() },
        Filter { kind: Some(Kind::Vm), ..Filter::default() },
        Filter { kind: Some(Kind::Host), ..Filter::default() },
        Filter { object: Some(vm(3)), from_ms: Some(100), to_ms: Some(700), ..Filter::default() },
        Filter { object: Some(vm(3)), principal: Some("bob".into()), ..Filter::default() },
    ];
    for filter in filters {
        let expected: Vec<_> = every
            .iter()
            .filter(|(_, r)| {
                filter.principal.as_ref().is_none_or(|p| *p == r.principal)
                    && filter.object.is_none_or(|o| r.object == Some(o))
                    && filter.kind.is_none_or(|k| r.object.is_some_and(|o| o.kind == k))
                    && filter.from_ms.is_none_or(|t| r.at_ms >= t)
                    && filter.to_ms.is_none_or(|t| r.at_ms < t)
            })
            .cloned()
            .collect();
        let mut found = Vec::new();
        loop {
            let before = found.last().map(|(seq, _)| *seq);
            let page = now(audit.search(&filter, before, 50)).unwrap();
            let last = page.len() < 50;
            found.extend(page);
            if last {
                break;
            }
        }
        assert_eq!(found, expected);
    }
    let odd = crate::audit::Record { principal: "ann\0\0\0".into(), at_ms: 901, ..record(3) };
    let other = Audit::new(self::store());
    for principal in ["ann", "ann\0\0\0\0\0\0\0\u{1}", &"ann".repeat(400)] {
        now(other.append(&crate::audit::Record { principal: principal.into(), ..odd.clone() }, E)).unwrap();
    }
    for n in 1..=3u64 {
        let principal = now(other.get(n)).unwrap().unwrap().principal;
        let filter = Filter { principal: Some(principal), ..Filter::default() };
        let found: Vec<u64> =
            now(other.search(&filter, None, 9)).unwrap().iter().map(|(seq, _)| *seq).collect();
        assert_eq!(found, [n]);
    }
    while now(audit.prune(900, E)).unwrap() > 0 {}
    assert_eq!(now(audit.verify()).unwrap(), Ok(301));
    assert_eq!(now(store.scan(Table::Index, crate::Scan::under(b"", 10_000))).unwrap().len(), 301 + 2 * 101);
    let head = now(audit.head()).unwrap();
    assert_eq!(head.seq, 1_200);
    // Edited, removed, cut off at the end: each with a valid checksum, as only the chain can tell.
    let key = 1_000u64.to_be_bytes();
    let kept = now(store.get(Table::Audit, &key)).unwrap().unwrap();
    let mut edited = kept.clone();
    *edited.last_mut().unwrap() ^= 1;
    for (value, seq) in [(Some(edited), 1_000), (None, 1_000)] {
        let mut batch = Batch::new();
        match value {
            Some(value) => batch.put(Table::Audit, &key, value),
            None => batch.remove(Table::Audit, &key),
        };
        now(store.commit(batch, E)).unwrap();
        assert_eq!(now(audit.verify()).unwrap().unwrap_err().seq, seq);
    }
    let mut batch = Batch::new();
    batch.put(Table::Audit, &key, kept).remove(Table::Audit, &1_200u64.to_be_bytes());
    now(store.commit(batch, E)).unwrap();
    assert_eq!(now(audit.verify()).unwrap().unwrap_err().seq, 1_200);
}

#[test]
fn what_an_agent_hands_in_is_taken_once_and_in_order() {
    let (agent, engine) = (store(), store());
    let (outbox, inbox) = (Outbox::new(agent), Inbox::new(Arc::clone(&engine)));
    let item = |n: u8| Item { what: What::Audit, body: Blob(vec![n]), at_ms: 1 };
    for n in 1..=5 {
        assert_eq!(now(outbox.push(&item(n), E)).unwrap(), u64::from(n));
    }
    let take = |seq: u64| {
        let mut effects = Batch::new();
        effects.append(Table::Audit, vec![1], vec![]);
        now(inbox.take("agent", seq, effects, E)).unwrap()
    };
    assert_eq!(take(2), Taken::Gap { expected: 1 });
    assert_eq!((take(1), take(2), take(1), take(3)), (Taken::Now, Taken::Now, Taken::Before, Taken::Now));
    assert_eq!(now(inbox.last("agent")).unwrap(), 3);
    assert_eq!(now(inbox.last("other")).unwrap(), 0);
    assert_eq!(now(Audit::new(engine).head()).unwrap().seq, 3);
    now(outbox.acked(3, E)).unwrap();
    let left = now(outbox.pending(0, 10)).unwrap();
    assert_eq!(left, [(4, item(4)), (5, item(5))]);
    now(outbox.acked(99, E)).unwrap();
    now(outbox.acked(2, E)).unwrap();
    assert!(now(outbox.pending(0, 10)).unwrap().is_empty());
    assert_eq!(now(outbox.push(&item(6), E)).unwrap(), 6);
}

#[test]
fn a_target_has_one_owner_by_epoch() {
    let (engine, agent) = (Leases::new(store()), Leases::new(store()));
    let first = now(engine.grant("t", "a", 1, E)).unwrap();
    let second = now(engine.grant("t", "b", 2, E)).unwrap();
    assert_eq!((first.epoch, second.epoch), (1, 2));
    now(agent.see(&first, E)).unwrap();
    now(agent.see(&second, E)).unwrap();
    now(agent.see(&second, E)).unwrap();
    let over = now(agent.see(&first, E)).unwrap_err();
    assert!(matches!(&over, LeaseError::Over { given: 1, highest, .. } if highest.epoch == 2), "{over}");
    let mut forged = second.clone();
    forged.owner = "c".into();
    assert!(now(agent.see(&forged, E)).is_err(), "one epoch, one owner");
    assert_eq!(now(agent.list()).unwrap(), [second]);
}

#[test]
fn sessions_are_found_by_key_and_listed_without_it() {
    let store = store();
    let sessions = Sessions::new(Arc::clone(&store));
    let session = |n: u128| Session {
        id: Uuid::from_u128(n),
        principal: "ann".into(),
        protocol: "vsphere".into(),
        view: "fleet".into(),
        remote: "192.0.2.1".into(),
        created_ms: 0,
        active_ms: 0,
        expires_ms: 100,
        revoked_ms: 0,
        bundle: "b".into(),
        target: Blob::default(),
        agents: vec!["east".into()],
    };
    for n in 1..=3 {
        now(sessions.begin(&format!("secret-{n}"), &session(n), Batch::new(), E)).unwrap();
    }
    assert!(now(sessions.begin("secret-1", &session(9), Batch::new(), E)).is_err());
    assert_eq!(now(sessions.live("secret-1", 50)).unwrap(), Some(session(1)));
    assert_eq!(now(sessions.live("secret-1", 100)).unwrap(), None);
    assert_eq!(now(sessions.live("secret", 50)).unwrap(), None);
    assert_eq!(now(sessions.touch("secret-1", 60, 160, E)).unwrap().unwrap().expires_ms, 160);
    assert!(now(sessions.revoke(Uuid::from_u128(2), 70, E)).unwrap());
    assert!(!now(sessions.revoke(Uuid::from_u128(8), 70, E)).unwrap());
    assert_eq!(now(sessions.live("secret-2", 71)).unwrap(), None);
    assert_eq!(now(sessions.touch("secret-2", 71, 171, E)).unwrap(), None);
    assert_eq!(now(sessions.list()).unwrap().len(), 3);
    now(sessions.end("secret-3", E)).unwrap();
    assert_eq!(now(sessions.expire(120, E)).unwrap(), 1);
    assert_eq!(now(sessions.list()).unwrap().len(), 1);
    for (key, value) in now(store.scan(Table::Session, crate::Scan::under(b"", 9))).unwrap() {
        assert!(!key.windows(6).chain(value.windows(6)).any(|w| w == b"secret"));
    }
}

#[test]
fn an_older_fact_never_replaces_a_newer_one() {
    let facts = Facts::new(store());
    let fact = |n: usize, incarnation, at, gone_ms| Fact {
        id: vm(n),
        record: Blob(vec![1]),
        config: Revision { incarnation, n: at },
        runtime: Revision { incarnation, n: 1 },
        owner: "agent".into(),
        created_ms: 1,
        modified_ms: 1,
        gone_ms,
        target: "t".into(),
        protocol: "sim".into(),
    };
    assert_eq!(now(facts.put(&[fact(1, 1, 5, 0), fact(2, 1, 5, 0)], E)).unwrap(), 2);
    assert_eq!(now(facts.put(&[fact(1, 1, 4, 0), fact(2, 1, 6, 9)], E)).unwrap(), 1);
    assert_eq!(now(facts.put(&[fact(1, 2, 3, 0)], E)).unwrap(), 1);
    assert_eq!(now(facts.get(vm(1))).unwrap(), Some(fact(1, 2, 3, 0)));
    assert_eq!(now(facts.put(&[fact(2, 1, 5, 0)], E)).unwrap(), 0, "what is gone does not come back");
    let page = now(facts.page(Kind::Vm, Some(vm(1)), 10)).unwrap();
    assert_eq!(page, [fact(2, 1, 6, 9)]);
    assert!(now(facts.page(Kind::Host, None, 10)).unwrap().is_empty());
    assert_eq!(now(facts.forget_gone(Kind::Vm, 100, E)).unwrap(), 1);
    assert_eq!(now(facts.page(Kind::Vm, None, 10)).unwrap().len(), 1);
}

#[test]
fn owned_facts_are_kept_by_object_and_name() {
    let owned = Owned::new(store());
    now(owned.set(vm(1), "tag.a", Some(b"1"), E)).unwrap();
    now(owned.set(vm(1), "folder.parent", Some(b"\0\xff"), E)).unwrap();
    now(owned.set(vm(2), "tag.a", Some(b"2"), E)).unwrap();
    let of: Vec<_> = now(owned.of(vm(1))).unwrap();
    assert_eq!(of, [("folder.parent".into(), Blob(vec![0, 255])), ("tag.a".into(), Blob(b"1".to_vec()))]);
    assert_eq!(now(owned.all()).unwrap().len(), 3);
    let mut batch = Batch::new();
    crate::owned::expect(&mut batch, vm(1), "tag.a", Some(b"0")).unwrap();
    crate::owned::stage(&mut batch, vm(1), "tag.a", Some(b"3")).unwrap();
    let shared: Arc<dyn Store> = Arc::new(MemoryStore::new());
    assert!(now(shared.commit(batch, E)).is_err());
    now(owned.clear(vm(1), E)).unwrap();
    assert_eq!(now(owned.get(vm(1), "tag.a")).unwrap(), None);
    assert_eq!(now(owned.get(vm(2), "tag.a")).unwrap(), Some(Blob(b"2".to_vec())));
    let long = "n".repeat(crate::owned::MAX_NAME + 1);
    assert!(matches!(now(owned.set(vm(1), &long, None, E)), Err(OwnedError::BadName(_))));
}

#[test]
fn a_command_may_begin_further_and_be_planned_again() {
    let store = store();
    let journal = Journal::new(Arc::clone(&store));
    let intent = |n: u128| Intent {
        id: CommandId(Uuid::from_u128(n)),
        digest: [7; 32],
        verb: "Reconfigure".into(),
        object: vm(1),
        principal: "ann".into(),
        session: "s".into(),
        deadline_ms: 9,
        begun_ms: 1,
        body: Blob::default(),
    };
    let sent = Entry { steps: vec![Step::sent(b"one".as_slice(), 1)], plans: 1, ..Entry::new(intent(1)) };
    let id = sent.intent.id;
    assert_eq!(now(journal.begin_as(sent.clone(), Batch::new(), E)).unwrap(), Begun::New);
    let never = Settled { end: End::Refused, outcome: Blob(b"never".to_vec()), at_ms: 9 };
    assert!(!now(journal.bar(sent.intent.id, sent.intent.object, never.clone(), E)).unwrap(), "it came");
    let absent = CommandId(Uuid::from_u128(77));
    for _ in 0..2 {
        assert!(now(journal.bar(absent, sent.intent.object, never.clone(), E)).unwrap());
    }
    let barred = now(journal.get(absent)).unwrap().unwrap();
    assert!(barred.intent.is_barred() && !barred.is_open() && barred.settled == Some(never));
    let late = Intent { id: absent, ..sent.intent.clone() };
    assert_eq!(now(journal.begin(late, Batch::new(), E)), Err(JournalError::Digest(absent)));
    assert_eq!(
        now(journal.begin_as(sent.clone(), Batch::new(), E)).unwrap(),
        Begun::Open(Box::new(sent.clone()))
    );
    let other = Entry::new(Intent { digest: [8; 32], ..intent(1) });
    assert_eq!(now(journal.begin_as(other, Batch::new(), E)), Err(JournalError::Digest(id)));
    let again = now(journal.again(id, Blob::default(), Blob(b"two".to_vec()), 5, E)).unwrap();
    assert_eq!((again.plans, again.steps.len()), (2, 2));
    assert_eq!(again.steps.iter().map(|s| s.state).collect::<Vec<_>>(), [StepState::Failed, StepState::Sent]);
    now(journal.answered(id, 1, true, Blob::default(), E)).unwrap();
    assert!(matches!(
        now(journal.again(id, Blob::default(), Blob::default(), 6, E)),
        Err(JournalError::Order { .. })
    ));

    let settled = Settled { end: End::Done, outcome: Blob(vec![1]), at_ms: 2 };
    let ended = Entry { settled: Some(settled.clone()), ..Entry::new(intent(2)) };
    assert_eq!(now(journal.begin_as(ended.clone(), Batch::new(), E)).unwrap(), Begun::New);
    assert_eq!(now(journal.begin_as(ended, Batch::new(), E)).unwrap(), Begun::Settled(settled));
    assert_eq!(now(journal.open_count()).unwrap(), 1);
    let later = 3 + crate::journal::RETENTION_MS;
    assert_eq!(now(journal.expire(later, E)).unwrap(), 1);
    assert_eq!(now(journal.get(CommandId(Uuid::from_u128(2)))).unwrap(), None);
}

//! Agents: their targets, and what they hand in.

use crate::bed::{Bed, Say, signed};
use prost::Message;
use std::sync::Arc;
use store::{
    audit::{Audit, Filter, Record},
    outbox::What,
};
use union::{command::Code, pb};

#[tokio::test(start_paused = true)]
async fn a_target_has_one_owner_and_each_life_its_epoch() {
    let bed = Bed::new().await;
    let welcome = bed.hello("a", 1, &["hyper", "other"]).await.unwrap();
    // The first epochs are the time in seconds, so that a store that begins anew is not behind the one that was lost.
    let first = bed.engine.epoch().0;
    assert_eq!(first, 1_000);
    assert_eq!(
        (welcome.leases["hyper"], welcome.leases["other"]),
        (first, first),
        "the same life keeps its epoch"
    );
    assert_eq!((welcome.engine_epoch, welcome.revoked), (first, vec!["old".to_owned()]));
    assert_eq!(bed.hello("a", 2, &["hyper"]).await.unwrap().leases["hyper"], first + 1);
    assert_eq!(bed.hello("a", 1, &["hyper"]).await.unwrap_err().code, Code::Permission, "an earlier life");
    // Another agent gets it only when the owner is not there.
    assert!(bed.hello("b", 1, &["hyper"]).await.unwrap().leases.is_empty());
    bed.agents.say("settle", Say::Away);
    assert_eq!(bed.hello("b", 1, &["hyper"]).await.unwrap().leases["hyper"], first + 2);
    let hello = pb::Hello { agent: "b".into(), ..pb::Hello::default() };
    assert_eq!(bed.ask::<pb::Welcome>("a", "hello", &hello).await.unwrap_err().code, Code::Permission);
    let bed = bed.restart().await;
    assert_eq!(bed.engine.epoch().0, first + 1);
}

#[tokio::test(start_paused = true)]
async fn who_beats_without_a_hello_is_asked_for_one() {
    let bed = Bed::new().await;
    let beat = |incarnation| pb::Beat { incarnation, engine_epoch: 1 };
    assert!(!bed.ask::<pb::Beaten>("a", "beat", &beat(1)).await.unwrap().hello);
    assert!(bed.ask::<pb::Beaten>("a", "beat", &beat(2)).await.unwrap().hello);
    assert!(bed.ask::<pb::Beaten>("c", "beat", &beat(1)).await.unwrap().hello);
    assert_eq!(bed.engine.heard().len(), 1);
    assert_eq!(bed.ask::<pb::Beaten>("a", "dance", &beat(1)).await.unwrap_err().code, Code::NotSupported);
    let leased = bed.ask::<pb::LeasedIds>("a", "ids", &pb::LeaseIds { count: 7, ..Default::default() }).await;
    assert_eq!(leased.unwrap().count, 7);
}

fn record(principal: &str, verb: &str) -> Record {
    Record {
        at_ms: 5,
        principal: principal.into(),
        session: format!("{principal}'s").into(),
        remote: "".into(),
        verb: verb.into(),
        object: None,
        command: None,
        verdict: "allowed".into(),
        detail: store::Blob::default(),
    }
}

fn item(seq: u64, record: &Record, grant: Option<pb::SignedGrant>) -> pb::HandedItem {
    pb::HandedItem { seq, what: What::Audit as u32, body: record.to_bytes(), grant }
}

#[tokio::test(start_paused = true)]
async fn what_is_handed_in_counts_once_and_only_with_a_grant() {
    let bed = Bed::new().await;
    let all = async || {
        let audit = Audit::new(Arc::clone(&bed.store));
        let mut found = audit.search(&Filter::default(), None, 100).await.unwrap();
        found.reverse();
        found
            .into_iter()
            .map(|(_, r)| format!("{} {} {}", r.principal, r.verb, r.verdict))
            .collect::<Vec<_>>()
    };
    let handed = |items: Vec<pb::HandedItem>| pb::Handed { items, ..pb::Handed::default() };
    let first = handed(vec![
        item(1, &record("ann", "PowerOn"), Some(signed("ann", "a"))),
        item(2, &record("bob", "PowerOff"), None),
        item(3, &record("bob", "Reset"), Some(signed("ann", "a"))),
        item(4, &record("bob", "Suspend"), Some(signed("bob", "b"))),
    ]);
    let before = all().await.len();
    assert_eq!(bed.ask::<pb::Taken>("a", "outbox", &first).await.unwrap().seq, 4);
    assert_eq!(
        bed.ask::<pb::Taken>("a", "outbox", &first).await.unwrap().seq,
        4,
        "a message that came twice"
    );
    let mut forged = signed("bob", "a");
    forged.signature = b"bob".to_vec();
    let second = handed(vec![
        item(5, &record("bob", "Pause"), Some(forged)),
        item(6, &record("agent:a", "Started"), None),
        item(8, &record("ann", "Unpause"), Some(signed("ann", "a"))),
    ]);
    assert_eq!(
        bed.ask::<pb::Taken>("a", "outbox", &second).await.unwrap().seq,
        6,
        "one is missing before the last"
    );
    let taken = all().await.split_off(before);
    assert_eq!(taken.len(), 6);
    assert_eq!(taken[0], "ann PowerOn allowed");
    for (at, verb) in [(1, "PowerOff"), (2, "Reset"), (3, "Suspend"), (4, "Pause")] {
        assert!(
            taken[at].starts_with(&format!("agent:a {verb} not believed: a handed it in for `bob`")),
            "{}",
            taken[at]
        );
    }
    assert_eq!(taken[5], "agent:a Started allowed");
    let outcome = pb::HandedOutcome {
        command_id: uuid::Uuid::from_u128(3).to_string(),
        outcome: Some(crate::bed::done(Default::default()).to_pb(&crate::bed::BUNDLE.schema)),
        verb: "PowerOn".into(),
        principal: "ann".into(),
        session_id: "ann's".into(),
        ..Default::default()
    };
    let third = handed(vec![
        pb::HandedItem {
            seq: 7,
            what: What::Outcome as u32,
            body: outcome.encode_to_vec(),
            grant: Some(signed("ann", "a")),
        },
        pb::HandedItem { seq: 8, what: What::Audit as u32, body: b"garbage".to_vec(), grant: None },
    ]);
    assert_eq!(bed.ask::<pb::Taken>("a", "outbox", &third).await.unwrap().seq, 8);
    assert_eq!(bed.audit(3).await, ["ann done"]);
    let flood = handed((9..2_000).map(|seq| item(seq, &record("ann", "x"), None)).collect());
    assert_eq!(bed.ask::<pb::Taken>("a", "outbox", &flood).await.unwrap_err().code, Code::InvalidArgument);
}

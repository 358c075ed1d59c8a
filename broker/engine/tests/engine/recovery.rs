//! What an engine that starts finds open comes to its end.

use crate::bed::{BUNDLE, Bed, Say, command, done, vm};
use engine::Limits;
use prost::Message;
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};
use store::{
    Batch, Blob, Epoch, FileStore, MemoryStore, Store,
    journal::{End, Entry, Intent, Journal, Step},
};
use union::{CommandId, Plan, Value, command::Revision, pb, plan::OwnFact};
use uuid::Uuid;

fn entry(n: u128, sent: bool) -> Entry {
    let object = vm(1 + n % 3);
    let envelope = command(2_000_000, n, "MarkAsTemplate", object, &[("vm_id", Value::Ref(object))]);
    let own = vec![OwnFact { object, field: "template".into(), value: Value::Bool(true) }];
    let plan = Plan { own, ..Plan::default() };
    let perform = pb::Perform { plan: Some(plan.to_pb(&BUNDLE.schema)), ..pb::Perform::default() };
    let call = pb::Sent { agent: "a".into(), target: "hyper".into(), perform: Some(perform) };
    let intent = Intent {
        id: CommandId(Uuid::from_u128(n)),
        digest: Sha256::digest(envelope.encode_to_vec()).into(),
        verb: "MarkAsTemplate".into(),
        object,
        principal: "ann".into(),
        session: "ann's".into(),
        deadline_ms: 2_000_000,
        begun_ms: 1,
        body: Blob(envelope.encode_to_vec()),
    };
    let steps = if sent { vec![Step::sent(call.encode_to_vec(), 1)] } else { Vec::new() };
    Entry { steps, plans: 1, ..Entry::new(intent) }
}

async fn settle(bed: &Bed) {
    while bed.engine.under_way() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_asked_about_and_what_was_not_is_over() {
    let memory = MemoryStore::new();
    let journal = Journal::new(Arc::new(memory.clone()));
    for (n, sent) in [(1, true), (2, false), (3, true)] {
        journal.begin_as(entry(n, sent), Batch::new(), Epoch(0)).await.unwrap();
    }
    let agents = Arc::new(crate::bed::Scripted::default());
    let ended =
        pb::Settled { outcome: Some(done(Revision::default()).to_pb(&BUNDLE.schema)), ..Default::default() };
    agents.say("settle", Say::Settled(ended));
    agents.say("settle", Say::Settled(pb::Settled { unknown: true, ..Default::default() }));
    let clock = Arc::new(union::clock::ManualClock::new(1_000_000));
    let bed = Bed::start(Arc::new(memory.clone()), memory, clock, agents, Limits::default()).await;
    settle(&bed).await;
    let mut ends = Vec::new();
    for n in 1..=3 {
        ends.push(bed.entry(n).await.unwrap().settled.unwrap().end);
    }
    assert_eq!(ends, [End::Done, End::Refused, End::Refused]);
    assert!(bed.agents.performed().is_empty(), "nothing is sent again");
    assert_eq!(bed.engine.own().get(vm(2), "template"), Some(Value::Bool(true)));
    assert_eq!(bed.engine.own().get(vm(1), "template"), None);
    let again = command(2_000_000, 1, "MarkAsTemplate", vm(2), &[("vm_id", Value::Ref(vm(2)))]);
    assert!(crate::bed::is_done(&bed.submit(&again).await), "its caller asks again, and is told");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_away_is_asked_when_it_is_back() {
    let memory = MemoryStore::new();
    let journal = Journal::new(Arc::new(memory.clone()));
    journal.begin_as(entry(1, true), Batch::new(), Epoch(0)).await.unwrap();
    let agents = Arc::new(crate::bed::Scripted::default());
    for _ in 0..1_000 {
        agents.say("settle", Say::Away);
    }
    let clock = Arc::new(union::clock::ManualClock::new(1_000_000));
    let bed =
        Bed::start(Arc::new(memory.clone()), memory, clock, Arc::clone(&agents), Limits::default()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = agents.asked("settle").len();
    assert!((10..40).contains(&asked), "it is asked now and then: {asked}");
    assert_eq!(bed.engine.under_way(), 1);
    // The same id joins what is under way.
    let again = command(1_000_100, 1, "MarkAsTemplate", vm(2), &[("vm_id", Value::Ref(vm(2)))]);
    assert_eq!(crate::bed::code(&bed.submit(&again).await), union::command::Code::InvalidArgument);
    bed.hello("a", 2, &["hyper"]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(agents.asked("settle").len(), asked + 1, "at once when it comes up");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_still_looking_is_asked_until_it_knows() {
    let unknown = union::command::Outcome::Unknown { probe: "1".into(), message: "no answer".into() };
    let told = |outcome: &union::command::Outcome| {
        let outcome = Some(outcome.to_pb(&BUNDLE.schema));
        Say::Settled(pb::Settled { outcome, ..Default::default() })
    };
    for (last, end) in [(done(Revision::default()), End::Done), (unknown, End::Failed)] {
        let memory = MemoryStore::new();
        let journal = Journal::new(Arc::new(memory.clone()));
        journal.begin_as(entry(1, true), Batch::new(), Epoch(0)).await.unwrap();
        let agents = Arc::new(crate::bed::Scripted::default());
        for _ in 0..1_000 {
            agents.say("settle", Say::Settled(pb::Settled { running: true, ..Default::default() }));
        }
        agents.say("settle", told(&last));
        let clock = Arc::new(union::clock::ManualClock::new(1_000_000));
        let bed =
            Bed::start(Arc::new(memory.clone()), memory, clock, Arc::clone(&agents), Limits::default()).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(bed.engine.under_way(), 1);
        assert!(bed.entry(1).await.unwrap().is_open());
        settle(&bed).await;
        assert_eq!(agents.asked("settle").len(), 1_001);
        assert_eq!(bed.entry(1).await.unwrap().settled.unwrap().end, end, "it ends either way");
    }
}

#[tokio::test]
async fn ten_thousand_open_commands_are_settled() {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = FileStore::open_or_create(dir.path().join("engine.redb")).unwrap();
    let journal = Journal::new(Arc::clone(&store));
    let mut begun = Vec::new();
    for n in 1..=10_000 {
        let journal = journal.clone();
        begun.push(tokio::spawn(
            async move { journal.begin_as(entry(n, true), Batch::new(), Epoch(0)).await },
        ));
        if begun.len() == 500 {
            for one in begun.drain(..) {
                one.await.unwrap().unwrap();
            }
        }
    }
    let agents = Arc::new(crate::bed::Scripted::default());
    for _ in 0..10_000 {
        agents.say("settle", Say::Settled(pb::Settled { unknown: true, ..Default::default() }));
    }
    let clock = Arc::new(union::clock::ManualClock::new(1_000_000));
    let bed = Bed::start(store, MemoryStore::new(), clock, agents, Limits::default()).await;
    settle(&bed).await;
    assert_eq!(journal.open_count().await.unwrap(), 0);
}

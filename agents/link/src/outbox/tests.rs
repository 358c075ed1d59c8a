use super::*;
use crate::{
    engine::{LinkError, answered},
    testing::{E, Fake, World, world},
};
use parking_lot::Mutex;
use store::{Blob, outbox};

fn pump(world: &World) -> (Pump, Arc<Backlog>) {
    let store: Arc<dyn Store> = Arc::new(world.store.clone());
    let backlog = Arc::clone(&world.joined.backlog);
    (
        Pump::new("o1".into(), store, E, Arc::clone(&backlog), world.engine.clone(), world.presence.clone()),
        backlog,
    )
}

async fn add(world: &World, n: u8, bytes: usize) {
    let store: Arc<dyn Store> = Arc::new(world.store.clone());
    let handing = Handing { grant: None, body: vec![n; bytes] };
    let item = Item { what: What::Audit, body: Blob(handing.encode_to_vec()), at_ms: 1 };
    Outbox::new(store).push(&item, E).await.unwrap();
    world.joined.backlog.added(1);
}

/// An engine that takes what comes next and nothing else; what it took.
fn takes(engine: &Arc<Fake>, most: usize) -> Arc<Mutex<Vec<(u64, u8)>>> {
    let taken: Arc<Mutex<Vec<(u64, u8)>>> = Arc::default();
    let all = Arc::clone(&taken);
    engine.says("outbox", move |body| {
        let handed = pb::Handed::decode(body).unwrap();
        let mut all = all.lock();
        for item in handed.items.iter().take(most) {
            let last = all.last().map_or(0, |(seq, _)| *seq);
            if item.seq == last + 1 {
                all.push((item.seq, item.body[0]));
            }
        }
        Ok(answered(&pb::Taken { seq: all.last().map_or(0, |(seq, _)| *seq) }))
    });
    taken
}

#[tokio::test(start_paused = true)]
async fn everything_is_handed_in_once_and_in_order() {
    let world = world().await;
    for n in 1..=5 {
        add(&world, n, 1).await;
    }
    let (pump, backlog) = pump(&world);
    let mut empty = pump.empty();
    let running = tokio::spawn(pump.run());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(backlog.count(), 5, "the engine is away");
    let taken = takes(&world.engine, 2);
    world.presence.here(1);
    empty.wait_for(|empty| *empty).await.unwrap();
    assert_eq!(*taken.lock(), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]);
    assert!(backlog.count() == 0 && world.outbox().await.is_empty());
    add(&world, 6, 1).await;
    assert_eq!(taken.lock().len(), 5, "it waits for company");
    tokio::time::sleep(2 * limits::GATHER).await;
    assert_eq!(taken.lock().last(), Some(&(6, 6)));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_hands_in_again() {
    let world = world().await;
    add(&world, 1, 1).await;
    add(&world, 2, 1).await;
    let taken = takes(&world.engine, 9);
    let (pump, _) = pump(&world);
    world.presence.here(1);
    // It takes them, and nobody hears.
    let items = vec![pb::HandedItem { seq: 1, what: 2, body: vec![1], grant: None }];
    let body = pb::Handed { items, outbox: "o1".into() };
    ask::<pb::Taken>(&*world.engine, &Verb::Service(Service::Outbox), &body, limits::SHORT).await.unwrap();
    pump.hand().await.unwrap();
    assert_eq!(*taken.lock(), [(1, 1), (2, 2)]);
    assert_eq!(pump.hand().await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_taken_stays() {
    let world = world().await;
    add(&world, 1, 1).await;
    let (pump, backlog) = pump(&world);
    world.engine.says("outbox", |_| Err(LinkError::Busy));
    assert!(pump.hand().await.is_err());
    world.engine.answers("outbox", pb::Taken { seq: 0 });
    assert!(pump.hand().await.is_err());
    assert_eq!((backlog.count(), world.outbox().await.len()), (1, 1));
    world.engine.answers("outbox", pb::Taken { seq: 99 });
    assert_eq!(pump.hand().await, Ok(1));
    assert_eq!(backlog.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_never_too_large() {
    let world = world().await;
    for n in 1..=4 {
        add(&world, n, limits::HANDED.1 / 2 - 100).await;
    }
    let (pump, _) = pump(&world);
    let taken = takes(&world.engine, 9);
    assert_eq!((pump.hand().await, pump.hand().await), (Ok(2), Ok(2)));
    assert_eq!(taken.lock().len(), 4);
    let again = Backlog::open(&(Arc::new(world.store.clone()) as Arc<dyn Store>)).await.unwrap();
    assert_eq!(again.count(), 0);
    add(&world, 5, 1).await;
    let again = Backlog::open(&(Arc::new(world.store.clone()) as Arc<dyn Store>)).await.unwrap();
    assert_eq!(again.count(), 1);
    let mut batch = store::Batch::new();
    outbox::stage(&mut batch, &Item { what: What::Ids, body: Blob(vec![7]), at_ms: 1 });
    world.store.commit(batch, E).await.unwrap();
    assert_eq!(pump.hand().await, Ok(2));
    let heard: Vec<pb::Handed> = world.engine.heard("outbox");
    let last = heard.last().unwrap().items.last().unwrap();
    assert_eq!((last.what, &*last.body), (3, &[7_u8][..]));
}

#[tokio::test(start_paused = true)]
async fn an_outbox_has_one_name_as_long_as_its_store() {
    use union::clock::SeededIds;
    let store: Arc<dyn Store> = Arc::new(store::MemoryStore::new());
    let ids = SeededIds::new(1);
    let one = name(&store, E, 1, &ids).await.unwrap();
    assert_eq!(name(&store, E, 1, &ids).await.unwrap(), one);
    let other: Arc<dyn Store> = Arc::new(store::MemoryStore::new());
    assert_ne!(name(&other, E, 1, &ids).await.unwrap(), one);
}

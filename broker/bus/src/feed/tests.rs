//! Recovery from what a publisher that cannot be trusted, or a bus that loses, does: a hand-made publisher.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::wire::{Delta, Item, Page, PageRequest};
use super::*;
use crate::{Bus, FeedEvent, FeedFollower, Headers, MemoryBus, MemoryHub, Permissions, Server};

fn item(key: &str, value: &str) -> Item {
    Item { key: key.into(), value: Some(Bytes::copy_from_slice(value.as_bytes())) }
}

fn gone(key: &str) -> Item {
    Item { key: key.into(), value: None }
}

fn put(key: &str, value: &str) -> FeedEvent {
    FeedEvent::Put { key: key.into(), bytes: Bytes::copy_from_slice(value.as_bytes()) }
}

fn synced(incarnation: u64, seq: u64) -> FeedEvent {
    FeedEvent::Synced { incarnation, seq }
}

/// A publisher by hand.
struct Hand {
    bus: MemoryBus,
    pages: Server,
    name: FeedName,
}

impl Hand {
    async fn new() -> (Self, FeedFollower) {
        let hub = MemoryHub::new();
        let name = FeedName::new("d", "a", "facts").unwrap();
        let bus = hub.connect(Permissions::all());
        let pages = bus.serve(&name.snapshot().clone().into(), 8).await.unwrap();
        let follower = FeedFollower::follow(
            Arc::new(hub.connect(Permissions::all())),
            name.clone(),
            FeedPace::default(),
        );
        (Self { bus, pages, name }, follower)
    }

    async fn delta(&self, incarnation: u64, seq: u64, items: Vec<Item>) {
        let delta = Delta { incarnation, seq, items };
        self.bus.publish(self.name.delta(), Headers::new(), delta.encode_to_vec().into()).await.unwrap();
    }

    async fn page(&mut self, incarnation: u64, seq: u64, items: Vec<Item>, last: bool) -> Option<String> {
        let request = self.pages.next().await.unwrap();
        let after = PageRequest::decode(request.message.payload.clone()).unwrap().after;
        let page = Page { incarnation, seq, items, last };
        request.reply(Headers::new(), page.encode_to_vec().into()).await.unwrap();
        after
    }
}

async fn expect(follower: &mut FeedFollower, events: &[FeedEvent]) {
    for event in events {
        assert_eq!(follower.next().await.as_ref(), Some(event));
    }
}

#[tokio::test(start_paused = true)]
async fn deltas_are_applied_to_the_pages_they_are_newer_than() {
    let (mut hand, mut follower) = Hand::new().await;
    hand.page(1, 4, vec![item("a", "a4"), item("b", "b4")], false).await;
    hand.delta(1, 4, vec![item("a", "old")]).await;
    hand.delta(1, 5, vec![item("a", "a5"), item("x", "x5")]).await;
    let after = hand.page(1, 5, vec![item("x", "x5")], true).await;
    assert_eq!(after.as_deref(), Some("b"));
    hand.delta(1, 6, vec![gone("b")]).await;
    expect(&mut follower, &[FeedEvent::Reset, put("a", "a4"), put("b", "b4"), put("x", "x5")]).await;
    expect(&mut follower, &[put("a", "a5"), synced(1, 5)]).await;
    expect(&mut follower, &[FeedEvent::Remove { key: "b".into() }, synced(1, 6)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_seen_and_repaired() {
    let (mut hand, mut follower) = Hand::new().await;
    hand.page(1, 1, vec![item("a", "1")], true).await;
    expect(&mut follower, &[FeedEvent::Reset, put("a", "1"), synced(1, 1)]).await;
    hand.delta(1, 3, vec![item("a", "3")]).await;
    expect(&mut follower, &[FeedEvent::Stale]).await;
    hand.page(1, 3, vec![item("a", "3")], true).await;
    expect(&mut follower, &[FeedEvent::Reset, put("a", "3"), synced(1, 3)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_beat_reveals_the_loss_of_the_last_delta() {
    let (mut hand, mut follower) = Hand::new().await;
    hand.page(1, 1, vec![], true).await;
    expect(&mut follower, &[FeedEvent::Reset, synced(1, 1)]).await;
    hand.delta(1, 1, vec![]).await;
    hand.delta(1, 2, vec![]).await;
    expect(&mut follower, &[FeedEvent::Stale]).await;
    hand.page(1, 2, vec![item("b", "2")], true).await;
    expect(&mut follower, &[FeedEvent::Reset, put("b", "2"), synced(1, 2)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_incarnation_starts_anew_even_between_pages() {
    let (mut hand, mut follower) = Hand::new().await;
    hand.page(1, 9, vec![item("a", "1")], false).await;
    hand.page(2, 0, vec![item("z", "2")], true).await;
    hand.page(2, 0, vec![item("b", "2")], true).await;
    let twice = [FeedEvent::Reset, put("a", "1"), FeedEvent::Reset, put("b", "2"), synced(2, 0)];
    expect(&mut follower, &twice).await;
    hand.delta(3, 1, vec![item("c", "3")]).await;
    expect(&mut follower, &[FeedEvent::Stale]).await;
    hand.page(3, 1, vec![item("c", "3")], true).await;
    expect(&mut follower, &[FeedEvent::Reset, put("c", "3"), synced(3, 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn silence_and_nonsense_make_it_stale() {
    let (mut hand, mut follower) = Hand::new().await;
    hand.page(1, 0, vec![], true).await;
    expect(&mut follower, &[FeedEvent::Reset, synced(1, 0), FeedEvent::Stale]).await;
    hand.page(1, 0, vec![], true).await;
    expect(&mut follower, &[FeedEvent::Reset, synced(1, 0)]).await;
    hand.bus.publish(hand.name.delta(), Headers::new(), Bytes::from_static(b"\xff\xff")).await.unwrap();
    expect(&mut follower, &[FeedEvent::Stale]).await;
}

#[tokio::test(start_paused = true)]
async fn the_publisher_leaves_out_what_changes_nothing_and_refuses_the_too_large() {
    let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new());
    let name = FeedName::new("d", "a", "facts").unwrap();
    let publisher = FeedPublisher::open(bus, name, 7, FeedPace::default()).await.unwrap();
    assert_eq!(publisher.put("a", Bytes::from_static(b"1")).await, Ok(1));
    assert_eq!(publisher.put("a", Bytes::from_static(b"1")).await, Ok(1));
    assert_eq!(publisher.remove("b").await, Ok(1));
    assert_eq!(publisher.remove("a").await, Ok(2));
    let huge = FeedChange::Put { key: "a".into(), bytes: Bytes::from(vec![0; crate::limits::MAX_PAYLOAD]) };
    let other = FeedChange::Put { key: "b".into(), bytes: Bytes::from_static(b"2") };
    assert!(matches!(publisher.apply(vec![huge.clone()]).await, Err(BusError::TooLarge { .. })));
    assert_eq!(publisher.seq().await, 2, "there was no old value to take away");
    assert!(matches!(publisher.apply(vec![huge, other]).await, Err(BusError::TooLarge { .. })));
    assert_eq!(publisher.seq().await, 3, "the other change is applied");
    let many: Vec<_> = (0..3)
        .map(|n| FeedChange::Put { key: n.to_string(), bytes: Bytes::from(vec![1; 200 * 1024]) })
        .collect();
    assert_eq!(publisher.apply(many).await, Ok(6), "one delta each: two do not fit one");
}

#[tokio::test(start_paused = true)]
async fn a_replica_follows_through_random_outages() {
    let hub = MemoryHub::new();
    let name = FeedName::new("d", "a", "facts").unwrap();
    let pace = FeedPace { beat: Duration::from_millis(100) };
    let publisher =
        FeedPublisher::open(Arc::new(hub.connect(Permissions::all())), name.clone(), 1, pace).await.unwrap();
    let mut follower = FeedFollower::follow(Arc::new(hub.connect(Permissions::all())), name, pace);
    let (mut truth, mut replica) = (BTreeMap::new(), BTreeMap::new());
    for n in 0_u32..400 {
        if n % 37 == 20 {
            hub.set_up(false);
        }
        let key = (n * 7 % 31).to_string();
        if n % 5 == 0 {
            truth.remove(&key);
            publisher.remove(&key).await.unwrap();
        } else {
            let value = Bytes::from(vec![u8::try_from(n % 251).unwrap(); 20_000]);
            truth.insert(key.clone(), value.clone());
            publisher.put(&key, value).await.unwrap();
        }
        if n % 37 == 25 {
            hub.set_up(true);
        }
        if n % 11 == 0 {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    hub.set_up(true);
    let last = publisher.seq().await;
    loop {
        match follower.next().await.unwrap() {
            FeedEvent::Reset => replica.clear(),
            FeedEvent::Put { key, bytes } => drop(replica.insert(key, bytes)),
            FeedEvent::Remove { key } => drop(replica.remove(&key)),
            FeedEvent::Synced { seq, .. } if seq == last => break,
            FeedEvent::Synced { .. } | FeedEvent::Stale => {}
        }
    }
    assert_eq!(replica, truth);
}

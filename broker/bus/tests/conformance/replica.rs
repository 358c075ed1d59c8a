//! Feeds over each bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, FeedChange, FeedEvent, FeedFollower, FeedName, FeedPace, FeedPublisher, Headers};
use bytes::Bytes;

use crate::bed::{Bed, text};

const PACE: FeedPace = FeedPace { beat: Duration::from_millis(200) };
/// Where silence must not be taken for the end of a publisher, however slow the machine is.
const CALM: FeedPace = FeedPace { beat: Duration::from_secs(60) };

fn name() -> FeedName {
    FeedName::new("lab1", "agent-1", "facts").unwrap()
}

async fn publisher(bus: &Arc<dyn Bus>, incarnation: u64, pace: FeedPace) -> FeedPublisher {
    FeedPublisher::open(bus.clone(), name(), incarnation, pace).await.unwrap()
}

#[derive(Default)]
struct Replica {
    items: BTreeMap<String, Bytes>,
    resets: usize,
    stale: usize,
}

impl Replica {
    /// Follows until the replica is current as of `until`.
    async fn catch_up(&mut self, follower: &mut FeedFollower, until: (u64, u64)) {
        loop {
            match follower.next().await.unwrap() {
                FeedEvent::Reset => {
                    self.resets += 1;
                    self.items.clear();
                }
                FeedEvent::Put { key, bytes } => drop(self.items.insert(key, bytes)),
                FeedEvent::Remove { key } => drop(self.items.remove(&key)),
                FeedEvent::Synced { incarnation, seq } if (incarnation, seq) == until => return,
                FeedEvent::Synced { .. } => {}
                FeedEvent::Stale => self.stale += 1,
            }
        }
    }
}

pub async fn a_late_follower_gets_everything(bed: &Bed) {
    let (sending, hearing) = (bed.connect().await, bed.connect().await);
    let publisher = publisher(&sending, 1, CALM).await;
    let value = |n: usize| Bytes::from(vec![u8::try_from(n % 251).unwrap(); 10_000]);
    let changes = (0..300).map(|n| FeedChange::Put { key: format!("vm-{n:03}"), bytes: value(n) }).collect();
    let seq = publisher.apply(changes).await.unwrap();
    let mut follower = FeedFollower::follow(hearing, name(), CALM);
    let mut replica = Replica::default();
    replica.catch_up(&mut follower, (1, seq)).await;
    assert_eq!(replica.items.len(), 300);
    assert!((0..300).all(|n| replica.items.get(&format!("vm-{n:03}")) == Some(&value(n))));

    publisher.remove("vm-007").await.unwrap();
    let seq = publisher.put("vm-300", text("new")).await.unwrap();
    replica.catch_up(&mut follower, (1, seq)).await;
    assert_eq!((replica.items.len(), replica.resets, replica.stale), (300, 1, 0));
    assert_eq!(replica.items.get("vm-300"), Some(&text("new")));
}

pub async fn a_replica_heals_after_an_outage(bed: &Bed) {
    let (sending, hearing) = (bed.connect().await, bed.connect().await);
    let publisher = publisher(&sending, 1, PACE).await;
    let seq = publisher.put("a", text("1")).await.unwrap();
    let mut follower = FeedFollower::follow(hearing.clone(), name(), PACE);
    let mut replica = Replica::default();
    replica.catch_up(&mut follower, (1, seq)).await;
    bed.break_link();
    publisher.put("a", text("2")).await.unwrap();
    let seq = publisher.put("b", text("2")).await.unwrap();
    bed.mend_link(sending.as_ref()).await;
    bed.mend_link(hearing.as_ref()).await;
    replica.catch_up(&mut follower, (1, seq)).await;
    assert_eq!(replica.items.get("a"), Some(&text("2")));
    assert_eq!(replica.items.get("b"), Some(&text("2")));
}

pub async fn a_publisher_that_starts_anew_is_followed(bed: &Bed) {
    let (sending, hearing) = (bed.connect().await, bed.connect().await);
    let mut follower = FeedFollower::follow(hearing, name(), CALM);
    let first = publisher(&sending, 1, CALM).await;
    let seq = first.put("a", text("1")).await.unwrap();
    let mut replica = Replica::default();
    replica.catch_up(&mut follower, (1, seq)).await;
    drop(first);
    let second = publisher(&sending, 2, CALM).await;
    let seq = second.put("b", text("2")).await.unwrap();
    replica.catch_up(&mut follower, (2, seq)).await;
    assert_eq!(replica.items.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(replica.stale, 1);
}

/// However much of what comes is no delta, it is fetched anew a few times only, and the replica is right in the end.
pub async fn what_is_no_delta_costs_little(bed: &Bed) {
    const WRONG: usize = 4_000;
    const PUTS: usize = 60;
    let (sending, hearing) = (bed.connect().await, bed.connect().await);
    let publisher = publisher(&sending, 1, CALM).await;
    let seq = publisher.put("a", text("1")).await.unwrap();
    let mut follower = FeedFollower::follow(hearing, name(), CALM);
    let mut replica = Replica::default();
    replica.catch_up(&mut follower, (1, seq)).await;
    for _ in 0..WRONG {
        sending.publish(name().delta(), Headers::new(), text("no delta")).await.unwrap();
    }
    for n in 0..PUTS {
        let seq = publisher.put("a", text(&n.to_string())).await.unwrap();
        replica.catch_up(&mut follower, (1, seq)).await;
    }
    assert_eq!(replica.items.get("a"), Some(&text(&(PUTS - 1).to_string())));
    assert!(replica.resets < PUTS / 2, "{} resets", replica.resets);
    assert!(replica.stale > 0);
}

//! What the broker itself says of objects (templates, settings, that several agents have one), on its way from the engine's fleet to the
//! agents' own inventories, so that host views show it and lanes refuse what is contested.
//!
//! ```text
//! engine: Tap ─▶ FeedPublisher   inventory.<domain>.engine.owned.{delta,snapshot}   FeedFollower ─▶ Follower ─▶ agent's inventory
//! one process: Tap ─▶ Follower
//! ```

use ::bus::{Bus, BusError, FeedEvent, FeedFollower, FeedName, FeedPace, FeedPublisher, feed::FeedChange};
use bytes::Bytes;
use inventory::{
    Inventory,
    owned::{Follower, Tap},
};
use std::sync::Arc;

/// The publisher's name in subjects.
const ENGINE: &str = "engine";
/// The feed's.
const OWNED: &str = "owned";

/// Publishes what the broker says of the objects in `fleet`, for as long as it is polled. `incarnation` is greater than in the last life.
///
/// # Errors
/// The names are too long for a subject, or the bus is closed.
pub async fn publish(
    bus: Arc<dyn Bus>,
    domain: &str,
    incarnation: u64,
    fleet: Arc<Inventory>,
) -> Result<(), BusError> {
    let name = FeedName::new(domain, ENGINE, OWNED)?;
    let feed = FeedPublisher::open(bus, name, incarnation, FeedPace::default()).await?;
    let tap = Tap::new(&fleet);
    loop {
        let changes = tap.next().await.into_iter().map(|(key, bytes)| match bytes {
            Some(bytes) => FeedChange::Put { key, bytes: Bytes::from(bytes) },
            None => FeedChange::Remove { key },
        });
        match feed.apply(changes.collect()).await {
            Err(BusError::Closed) => return Err(BusError::Closed),
            Err(error) => tracing::error!(%error, "agents will not see a fact of the broker's own"),
            Ok(_) => {}
        }
    }
}

/// Lays what the engine says over an agent's facts, for as long as it is polled or until the bus is closed. What was said last stays while
/// the engine is away.
///
/// # Errors
/// The names are too long for a subject.
pub async fn follow(bus: Arc<dyn Bus>, domain: &str, facts: Arc<Inventory>) -> Result<(), BusError> {
    let mut feed = FeedFollower::follow(bus, FeedName::new(domain, ENGINE, OWNED)?, FeedPace::default());
    let mut follower = Follower::new(facts);
    while let Some(event) = feed.next().await {
        let taken = match event {
            FeedEvent::Reset => {
                follower.reset();
                Ok(())
            }
            FeedEvent::Put { key, bytes } => follower.put(&key, &bytes),
            FeedEvent::Remove { key } => follower.remove(&key),
            FeedEvent::Synced { .. } => {
                follower.synced();
                Ok(())
            }
            FeedEvent::Stale => Ok(()),
        };
        if let Err(error) = taken {
            tracing::error!(%error, "what the engine says of an object cannot be read; it is left out");
        }
    }
    Ok(())
}

/// The same within one process, for as long as it is polled.
pub async fn pass(fleet: Arc<Inventory>, facts: Arc<Inventory>) {
    let tap = Tap::new(&fleet);
    let mut follower = Follower::new(facts);
    loop {
        for (key, bytes) in tap.next().await {
            let taken = match bytes {
                Some(bytes) => follower.put(&key, &bytes),
                None => follower.remove(&key),
            };
            if let Err(error) = taken {
                tracing::error!(%error, "what the broker says of an object cannot be read; it is left out");
            }
        }
    }
}

//! Follows the feeds of all agents of a domain into a fleet, over the bus.
//!
//! ```text
//! agent ─ every 2 s ─▶ inventory.<domain>.<agent>.presence.delta ─▶ Followers: a new name is followed
//! FeedFollower ─ Reset, Put, Remove, Synced ─▶ fleet::Source        Stale for 2 s ─▶ Fleet.lost      Synced ─▶ back by itself
//! ```
//!
//! An agent that is silent loses nothing but its word: its facts stay, its hosts and VMs do not respond.

use crate::{limits, router::Replica};
use ::bus::{
    Bus, BusError, Delivery, FeedEvent, FeedFollower, FeedName, FeedPace, Headers, Pattern, Subject,
    subject::unescape,
};
use async_trait::async_trait;
use bytes::Bytes;
use inventory::fleet::Fleet;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use union::{ObjectId, command::Revision};

/// The feed of an agent's facts.
pub const FACTS: &str = "facts";
/// The feed on which agents only show that they are there.
const PRESENCE: &str = "presence";
/// Agents followed at most.
pub const AGENTS: usize = 4_096;
/// Presence messages that may wait.
const WAITING: usize = 4_096;

/// Shows, for as long as it is polled, that `agent` is there.
///
/// # Errors
/// The names are too long for a subject.
pub async fn announce(bus: Arc<dyn Bus>, domain: &str, agent: &str) -> Result<(), BusError> {
    let subject = Subject::inventory(domain, agent, PRESENCE, "delta")?;
    loop {
        match bus.publish(&subject, Headers::new(), Bytes::new()).await {
            Ok(()) => {}
            Err(BusError::Closed) => return Ok(()),
            Err(error) => tracing::debug!(%error, "nobody hears now that this agent is there"),
        }
        sleep(limits::BEAT).await;
    }
}

/// The followers of a domain's agents.
pub struct Followers {
    bus: Arc<dyn Bus>,
    domain: Arc<str>,
    fleet: Fleet,
    pace: FeedPace,
    /// Agents of this process, whose facts do not come over the bus.
    own: Vec<Arc<str>>,
    following: Mutex<BTreeMap<Arc<str>, DropGuard>>,
}

impl std::fmt::Debug for Followers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followers").field("agents", &self.agents()).finish_non_exhaustive()
    }
}

impl Followers {
    /// Followers that fill `fleet`. `own`: the agents of this process, which are not followed.
    pub fn new(bus: Arc<dyn Bus>, domain: &str, fleet: Fleet, own: Vec<Arc<str>>) -> Arc<Followers> {
        let (domain, pace) = (Arc::from(domain), FeedPace::default());
        Arc::new(Followers { bus, domain, fleet, pace, own, following: Mutex::default() })
    }

    /// The agents that are followed.
    pub fn agents(&self) -> Vec<Arc<str>> {
        self.following.lock().keys().cloned().collect()
    }

    /// Follows an agent, if it is not followed yet; whether it is now.
    pub fn ensure(&self, agent: &str) -> bool {
        if self.own.iter().any(|own| **own == *agent) {
            return false;
        }
        let mut following = self.following.lock();
        if following.contains_key(agent) {
            return true;
        }
        if following.len() >= AGENTS {
            tracing::error!(agent, most = AGENTS, "too many agents; this one is not followed");
            return false;
        }
        let name = match FeedName::new(&self.domain, agent, FACTS) {
            Ok(name) => name,
            Err(error) => {
                tracing::error!(agent, %error, "an agent cannot be followed");
                return false;
            }
        };
        tracing::info!(agent, "following an agent's facts");
        let stop = CancellationToken::new();
        let follower = FeedFollower::follow(Arc::clone(&self.bus), name, self.pace);
        let agent: Arc<str> = Arc::from(agent);
        tokio::spawn(stop.clone().run_until_cancelled_owned(follow(
            self.fleet.clone(),
            Arc::clone(&agent),
            follower,
        )));
        following.insert(agent, stop.drop_guard());
        true
    }

    /// Follows an agent no more; its facts are gone with it. For an agent that was removed from the installation.
    pub fn forget(&self, agent: &str) {
        self.following.lock().remove(agent);
        self.fleet.forget(agent);
    }

    /// Follows every agent that shows itself, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        let Ok(pattern) = Pattern::feeds(&self.domain, PRESENCE, "delta") else { return };
        let mut subscription = loop {
            match self.bus.subscribe(&pattern, WAITING).await {
                Ok(subscription) => break subscription,
                Err(BusError::Closed) => return,
                Err(error) => {
                    tracing::debug!(%error, "agents cannot be listened for yet");
                    sleep(limits::PAUSE.1).await;
                }
            }
        };
        while let Some(delivery) = subscription.next().await {
            let Delivery::Message(message) = delivery else { continue };
            if let Some(agent) = message.subject.tokens().nth(2).and_then(unescape) {
                self.ensure(&agent);
            }
        }
    }
}

/// Brings what a feed tells into the fleet.
async fn follow(fleet: Fleet, agent: Arc<str>, mut feed: FeedFollower) {
    let mut source = fleet.agent(&agent);
    let mut lost_at = None;
    loop {
        let event = match lost_at {
            None => feed.next().await,
            Some(at) => match timeout_at(at, feed.next()).await {
                Ok(event) => event,
                Err(_) => {
                    lost_at = None;
                    fleet.lost(&agent);
                    continue;
                }
            },
        };
        let taken = match event {
            None => return,
            Some(FeedEvent::Reset) => {
                source.reset();
                Ok(())
            }
            Some(FeedEvent::Put { key, bytes }) => source.put(&key, &bytes),
            Some(FeedEvent::Remove { key }) => source.remove(&key),
            Some(FeedEvent::Synced { .. }) => {
                source.synced();
                lost_at = None;
                Ok(())
            }
            Some(FeedEvent::Stale) => {
                lost_at = lost_at.or(Some(Instant::now() + limits::LOST));
                Ok(())
            }
        };
        if let Err(error) = taken {
            tracing::error!(agent = &*agent, %error, "a fact of an agent cannot be read; it is left out");
        }
    }
}

/// How often a replica is looked at for an object that was made just now.
const LOOK: Duration = Duration::from_millis(5);

#[async_trait]
impl Replica for Fleet {
    async fn reached(&self, object: ObjectId, revision: Revision, made: bool, within: Duration) -> bool {
        let last = Instant::now() + within;
        while made && self.inventory().get(object).is_none() {
            if Instant::now() >= last {
                return false;
            }
            sleep(LOOK).await;
        }
        match self.holder(object) {
            Some(_) => Fleet::reached(self, object, revision, last - Instant::now()).await.is_some(),
            // The broker's own, or gone: there is no more to wait for.
            None => true,
        }
    }
}

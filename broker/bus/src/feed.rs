//! Feeds: a keyed set of opaque values kept by one publisher, and its replicas elsewhere.
//!
//! ```text
//! inventory.<domain>.<agent>.<feed>.delta       publisher ──► followers   changes, and a beat when there are none
//! inventory.<domain>.<agent>.<feed>.snapshot    follower ──► publisher    pages of the whole set, in key order
//! ```
//! The publisher stamps each delta with its incarnation (a number new at each start) and a sequence number that
//! grows by one. A follower subscribes first, then fetches the pages, then applies the deltas newer than each
//! page. Whatever it misses it notices, and starts anew:
//!
//! ```text
//! Syncing ──all pages, deltas caught up──► Synced ──gap, loss, other incarnation, silence──► Stale ──► Syncing
//! ```
//! A beat carries the current sequence number, so the loss of the very last delta is noticed too. Values are
//! bytes to this room; it knows nothing of what they mean.
//!
//! Limits: a key and a value together fit one bus message; a follower that does not keep up starts anew.

use std::time::Duration;

use bytes::Bytes;

use crate::{BusError, Subject};

mod follower;
mod publisher;
#[cfg(test)]
mod tests;
mod wire;

pub use follower::FeedFollower;
pub use publisher::FeedPublisher;

/// Which feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedName {
    delta: Subject,
    snapshot: Subject,
}

impl FeedName {
    /// The feed `feed` (`facts`, `ids`) of one agent.
    ///
    /// # Errors
    /// `InvalidSubject` when the names are too long for a subject.
    pub fn new(domain: &str, agent: &str, feed: &str) -> Result<Self, BusError> {
        Ok(Self {
            delta: Subject::inventory(domain, agent, feed, "delta")?,
            snapshot: Subject::inventory(domain, agent, feed, "snapshot")?,
        })
    }

    /// Where deltas and beats are published.
    pub fn delta(&self) -> &Subject {
        &self.delta
    }

    /// Where pages are asked for.
    pub fn snapshot(&self) -> &Subject {
        &self.snapshot
    }
}

/// How often a publisher beats; followers give up on one that is silent for three beats. Both sides of a feed
/// must agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedPace {
    /// The time between two beats.
    pub beat: Duration,
}

impl Default for FeedPace {
    fn default() -> Self {
        Self { beat: Duration::from_secs(2) }
    }
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedChange {
    /// The key has this value now.
    Put {
        /// The key.
        key: String,
        /// Its value.
        bytes: Bytes,
    },
    /// The key is gone.
    Remove {
        /// The key.
        key: String,
    },
}

/// What a follower tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedEvent {
    /// Forget everything: the whole set follows.
    Reset,
    /// The key has this value now.
    Put {
        /// The key.
        key: String,
        /// Its value.
        bytes: Bytes,
    },
    /// The key is gone.
    Remove {
        /// The key.
        key: String,
    },
    /// Everything told so far is the publisher's state as of `seq`. Comes after the last page and after every delta;
    /// between `Reset` and the first `Synced` the set is incomplete.
    Synced {
        /// The publisher's incarnation.
        incarnation: u64,
        /// The sequence number.
        seq: u64,
    },
    /// What was told may be out of date from here on: the publisher is silent or changes were missed. A `Reset`
    /// follows when it can be reached.
    Stale,
}

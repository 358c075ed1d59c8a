//! The side that keeps the set.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::wire::{Delta, Item, Page, PageRequest, fits, weight};
use super::{FeedChange, FeedName, FeedPace};
use crate::limits::{FEED_OVERHEAD, SNAPSHOT_CHUNK};
use crate::{Bus, BusError, Headers, Request, Server};

/// Page requests that may wait; more are answered Busy, and the follower asks again.
const PAGE_QUEUE: usize = 64;

/// Publishes one feed. Dropping it ends the feed: followers turn stale.
pub struct FeedPublisher {
    shared: Arc<Shared>,
    _open: DropGuard,
}

struct Shared {
    bus: Arc<dyn Bus>,
    name: FeedName,
    incarnation: u64,
    /// Held while a delta is published, so that deltas leave in the order of their numbers.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    items: BTreeMap<String, Bytes>,
    seq: u64,
}

impl FeedPublisher {
    /// Opens the feed with an empty set. `incarnation` must differ from every earlier one of this feed.
    ///
    /// # Errors
    /// As [`Bus::serve`].
    pub async fn open(
        bus: Arc<dyn Bus>,
        name: FeedName,
        incarnation: u64,
        pace: FeedPace,
    ) -> Result<Self, BusError> {
        let server = bus.serve(&name.snapshot.clone().into(), PAGE_QUEUE).await?;
        let shared = Arc::new(Shared { bus, name, incarnation, state: Mutex::default() });
        let closed = CancellationToken::new();
        tokio::spawn(closed.clone().run_until_cancelled_owned(answer_pages(shared.clone(), server)));
        tokio::spawn(closed.clone().run_until_cancelled_owned(beat(shared.clone(), pace)));
        Ok(Self { shared, _open: closed.drop_guard() })
    }

    /// Sets the value of a key. Returns the sequence number that holds it.
    ///
    /// # Errors
    /// As [`FeedPublisher::apply`].
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<u64, BusError> {
        self.apply(vec![FeedChange::Put { key: key.to_owned(), bytes }]).await
    }

    /// Takes a key away. Returns the sequence number without it.
    ///
    /// # Errors
    /// As [`FeedPublisher::apply`].
    pub async fn remove(&self, key: &str) -> Result<u64, BusError> {
        self.apply(vec![FeedChange::Remove { key: key.to_owned() }]).await
    }

    /// Applies changes in order, in as few deltas as fit. What changes nothing is left out. Returns the last sequence
    /// number. A bus that is away is not an error: the set is changed, and followers catch up when they notice.
    ///
    /// # Errors
    /// `TooLarge` when a key with its value does not fit a message. The key is then taken away, so that no replica
    /// keeps a value that is no longer true; all other changes are applied.
    pub async fn apply(&self, changes: Vec<FeedChange>) -> Result<u64, BusError> {
        let max = self.shared.bus.status().max_payload;
        let mut too_large = None;
        let mut state = self.shared.state.lock().await;
        let mut batch = Vec::new();
        let mut size = 0;
        for mut change in changes {
            if let FeedChange::Put { key, bytes } = &change {
                let size = weight(key, Some(bytes));
                if !fits(size, max) {
                    too_large = Some(BusError::TooLarge { size, max: max.saturating_sub(FEED_OVERHEAD) });
                    change = FeedChange::Remove { key: key.clone() };
                }
            }
            let Some(item) = state.change(change) else { continue };
            let weight = weight(&item.key, item.value.as_ref());
            if size + weight > SNAPSHOT_CHUNK && !batch.is_empty() {
                self.shared.publish(&mut state, std::mem::take(&mut batch)).await;
                size = 0;
            }
            size += weight;
            batch.push(item);
        }
        if !batch.is_empty() {
            self.shared.publish(&mut state, batch).await;
        }
        too_large.map_or(Ok(state.seq), Err)
    }

    /// The last sequence number.
    pub async fn seq(&self) -> u64 {
        self.shared.state.lock().await.seq
    }

    /// The incarnation given at the start.
    pub fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }
}

impl std::fmt::Debug for FeedPublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FeedPublisher").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl State {
    /// Makes the change; `None` when it changes nothing.
    fn change(&mut self, change: FeedChange) -> Option<Item> {
        match change {
            FeedChange::Put { key, bytes } => {
                if self.items.get(&key) == Some(&bytes) {
                    return None;
                }
                self.items.insert(key.clone(), bytes.clone());
                Some(Item { key, value: Some(bytes) })
            }
            FeedChange::Remove { key } => {
                self.items.remove(&key)?;
                Some(Item { key, value: None })
            }
        }
    }
}

impl Shared {
    async fn publish(&self, state: &mut State, items: Vec<Item>) {
        state.seq += 1;
        self.send(Delta { incarnation: self.incarnation, seq: state.seq, items }).await;
    }

    async fn send(&self, delta: Delta) {
        let sent = self.bus.publish(&self.name.delta, Headers::new(), delta.encode_to_vec().into()).await;
        if let Err(error) = sent {
            tracing::debug!(%error, feed = %self.name.delta, seq = delta.seq, "followers will miss a delta");
        }
    }

    async fn page(&self, request: &PageRequest) -> Page {
        let state = self.state.lock().await;
        let from = request.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Page { incarnation: self.incarnation, seq: state.seq, items: Vec::new(), last: true };
        let mut size = 0;
        for (key, value) in state.items.range::<str, _>((from, Bound::Unbounded)) {
            size += weight(key, Some(value));
            if size > SNAPSHOT_CHUNK && !page.items.is_empty() {
                page.last = false;
                break;
            }
            page.items.push(Item { key: key.clone(), value: Some(value.clone()) });
        }
        page
    }

    async fn answer(&self, request: Request) -> Result<(), BusError> {
        match PageRequest::decode(request.message.payload.clone()) {
            Ok(asked) => {
                let page = self.page(&asked).await;
                request.reply(Headers::new(), page.encode_to_vec().into()).await
            }
            Err(error) => {
                tracing::warn!(%error, feed = %self.name.snapshot, "a page request cannot be read: not answered");
                Ok(())
            }
        }
    }
}

async fn answer_pages(shared: Arc<Shared>, mut server: Server) {
    while let Some(request) = server.next().await {
        if let Err(error) = shared.answer(request).await {
            tracing::debug!(%error, feed = %shared.name.snapshot, "a page could not be sent");
        }
    }
}

async fn beat(shared: Arc<Shared>, pace: FeedPace) {
    let mut tick = tokio::time::interval(pace.beat);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let state = shared.state.lock().await;
        let beat = Delta { incarnation: shared.incarnation, seq: state.seq, items: Vec::new() };
        shared.send(beat).await;
    }
}

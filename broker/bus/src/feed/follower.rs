//! The side that keeps a replica.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use prost::Message as _;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::wire::{Delta, Item, Page, PageRequest};
use super::{FeedEvent, FeedName, FeedPace};
use crate::{Bus, BusError, Delivery, Headers, Subscription};

/// Deltas that may wait while pages are fetched; when there are more, the follower starts anew.
const DELTA_QUEUE: usize = 16_384;
/// Events that may wait for the reader.
const EVENT_QUEUE: usize = 256;
/// How long one page may take.
const PAGE_WITHIN: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Follows one feed. Dropping it ends that.
#[derive(Debug)]
pub struct FeedFollower {
    events: mpsc::Receiver<FeedEvent>,
    _open: DropGuard,
}

impl FeedFollower {
    /// Starts to follow; the publisher need not be there yet.
    pub fn follow(bus: Arc<dyn Bus>, name: FeedName, pace: FeedPace) -> Self {
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        let closed = CancellationToken::new();
        let task = Task { bus, name, pace, events: sender, fresh: None };
        tokio::spawn(closed.clone().run_until_cancelled_owned(task.run()));
        Self { events, _open: closed.drop_guard() }
    }

    /// The next event; `None` when the bus is closed.
    pub async fn next(&mut self) -> Option<FeedEvent> {
        self.events.recv().await
    }
}

struct Task {
    bus: Arc<dyn Bus>,
    name: FeedName,
    pace: FeedPace,
    events: mpsc::Sender<FeedEvent>,
    /// Since when the reader believes the replica to be current.
    fresh: Option<Instant>,
}

/// Why the replica must be fetched anew.
#[derive(Debug, Error)]
enum Lost {
    /// Deltas are missing.
    #[error("changes were missed")]
    Gap,
    /// Three beats long nothing came.
    #[error("the publisher is silent")]
    Silence,
    /// The publisher has started anew.
    #[error("the publisher has started anew")]
    OtherIncarnation,
    /// The publisher does not answer as it should.
    #[error("the publisher cannot be asked")]
    Unreachable(#[source] BusError),
}

/// Why the task ends.
struct Ended;

enum Stop {
    Lost(Lost),
    Ended,
}

impl From<Lost> for Stop {
    fn from(lost: Lost) -> Self {
        Stop::Lost(lost)
    }
}

impl From<Ended> for Stop {
    fn from(Ended: Ended) -> Self {
        Stop::Ended
    }
}

/// Up to which number each page, and so each range of keys, was current.
#[derive(Default)]
struct Pages {
    /// Last key and number of each page but the last, in key order.
    inner: Vec<(String, u64)>,
    last: u64,
}

impl Pages {
    fn seq_of(&self, key: &str) -> u64 {
        let at = self.inner.partition_point(|(end, _)| end.as_str() < key);
        self.inner.get(at).map_or(self.last, |(_, seq)| *seq)
    }
}

impl Task {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut subscription = None;
        loop {
            let stop = match self.listen(&mut subscription).await {
                Ok(deltas) => self.replicate(deltas).await.err().unwrap_or(Stop::Ended),
                Err(stop) => stop,
            };
            let Stop::Lost(lost) = stop else { return };
            if let Some(since) = self.fresh.take() {
                // One that is in step for a moment only is fetched more and more seldom.
                if since.elapsed() >= LAST_PAUSE {
                    pause = FIRST_PAUSE;
                }
                tracing::info!(feed = %self.name.delta, lost = &lost as &dyn std::error::Error, "a replica is stale");
                if self.tell(FeedEvent::Stale).await.is_err() {
                    return;
                }
            } else {
                tracing::debug!(feed = %self.name.delta, lost = &lost as &dyn std::error::Error, "a replica is not in sync yet");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// The subscription to the deltas; made once, the bus keeps it over outages.
    async fn listen<'a>(&self, kept: &'a mut Option<Subscription>) -> Result<&'a mut Subscription, Stop> {
        if kept.is_none() {
            match self.bus.subscribe(&self.name.delta.clone().into(), DELTA_QUEUE).await {
                Ok(subscription) => *kept = Some(subscription),
                Err(BusError::Closed) => return Err(Stop::Ended),
                Err(error) => return Err(Lost::Unreachable(error).into()),
            }
        }
        kept.as_mut().ok_or(Stop::Ended)
    }

    /// Fetches the set and follows it until something is missed.
    async fn replicate(&mut self, deltas: &mut Subscription) -> Result<(), Stop> {
        drop_waiting(deltas)?;
        let mut pages = Pages::default();
        let (incarnation, mut seq) = self.fetch(&mut pages).await?;
        self.sync(incarnation, seq, &pages).await?;
        loop {
            let delta = self.next_delta(deltas).await?;
            if delta.incarnation != incarnation {
                return Err(Lost::OtherIncarnation.into());
            }
            if delta.seq <= seq {
                continue;
            }
            if delta.items.is_empty() || delta.seq != seq + 1 {
                return Err(Lost::Gap.into());
            }
            seq = delta.seq;
            for item in delta.items {
                if seq > pages.seq_of(&item.key) {
                    self.tell(event_of(item)).await?;
                }
            }
            self.sync(incarnation, seq, &pages).await?;
        }
    }

    /// Fetches all pages; returns the incarnation and the number of the first page.
    async fn fetch(&mut self, pages: &mut Pages) -> Result<(u64, u64), Stop> {
        let mut page = self.page(None).await?;
        let first = (page.incarnation, page.seq);
        self.tell(FeedEvent::Reset).await?;
        loop {
            pages.last = page.seq;
            let end = page.items.last().map(|item| item.key.clone());
            for item in page.items {
                self.tell(event_of(item)).await?;
            }
            let (Some(end), false) = (end, page.last) else { return Ok(first) };
            pages.inner.push((end.clone(), page.seq));
            page = self.page(Some(end)).await?;
            if page.incarnation != first.0 {
                return Err(Lost::OtherIncarnation.into());
            }
        }
    }

    async fn page(&self, after: Option<String>) -> Result<Page, Stop> {
        let request = PageRequest { after }.encode_to_vec();
        let asking = self.bus.request(&self.name.snapshot, Headers::new(), Bytes::from(request), PAGE_WITHIN);
        let answer = match asking.await {
            Ok(answer) => answer,
            Err(BusError::Closed) => return Err(Stop::Ended),
            Err(error) => return Err(Lost::Unreachable(error).into()),
        };
        Page::decode(answer.payload).map_err(|error| {
            tracing::warn!(%error, feed = %self.name.snapshot, "a page cannot be read");
            Lost::Gap.into()
        })
    }

    async fn next_delta(&self, deltas: &mut Subscription) -> Result<Delta, Stop> {
        let message = match tokio::time::timeout(self.pace.beat * 3, deltas.next()).await {
            Ok(Some(Delivery::Message(message))) => message,
            Ok(Some(Delivery::Lagged(_))) => return Err(Lost::Gap.into()),
            Ok(None) => return Err(Stop::Ended),
            Err(_) => return Err(Lost::Silence.into()),
        };
        Delta::decode(message.payload).map_err(|error| {
            tracing::warn!(%error, feed = %self.name.delta, "a delta cannot be read");
            Lost::Gap.into()
        })
    }

    /// Tells that the replica is current as of `seq`, when all pages are reached.
    async fn sync(&mut self, incarnation: u64, seq: u64, pages: &Pages) -> Result<(), Ended> {
        if seq >= pages.last {
            self.fresh.get_or_insert_with(Instant::now);
            self.tell(FeedEvent::Synced { incarnation, seq }).await?;
        }
        Ok(())
    }

    async fn tell(&self, event: FeedEvent) -> Result<(), Ended> {
        self.events.send(event).await.map_err(|_| Ended)
    }
}

/// Takes the deltas that wait out of the queue, and loses nothing: the first page, which is asked for after this, holds what they tell.
/// However many of them are wrong, they cost one fetch.
fn drop_waiting(deltas: &mut Subscription) -> Result<(), Ended> {
    for _ in 0..DELTA_QUEUE {
        match deltas.next().now_or_never() {
            None => break,
            Some(Some(_)) => {}
            Some(None) => return Err(Ended),
        }
    }
    Ok(())
}

fn event_of(item: Item) -> FeedEvent {
    match item.value {
        Some(bytes) => FeedEvent::Put { key: item.key, bytes },
        None => FeedEvent::Remove { key: item.key },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_belongs_to_its_page() {
        let pages = Pages { inner: vec![("d".into(), 3), ("m".into(), 5)], last: 9 };
        let seqs: Vec<_> = ["a", "d", "e", "m", "z"].map(|key| pages.seq_of(key)).into();
        assert_eq!(seqs, [3, 3, 5, 5, 9]);
    }
}

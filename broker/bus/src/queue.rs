//! The bounded queue behind a subscription: it loses the newest when full, and says so.
//!
//! ```text
//!            push, room               push, full                 push, room again
//!   [..m]  ────────────►  [..m m]   ────────────►  lost += 1   ────────────►  [.. Lagged(lost) m]
//! ```
//! A `Lagged` stands exactly where messages are missing, and takes no room of its own: the queue holds at most
//! `capacity` messages and one `Lagged` before each. Without a later message the reader still gets it, last.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio_util::sync::DropGuard;

use crate::limits::MAX_QUEUE;
use crate::{Delivery, Message};

/// The writing side; the implementation keeps it, the [`Subscription`] reads.
#[derive(Debug)]
pub(crate) struct DeliveryQueue {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    list: VecDeque<Delivery>,
    messages: usize,
    /// Messages lost since the last entry; `Some(0)` for a loss of unknown size.
    lost: Option<u64>,
    ended: bool,
    abandoned: bool,
    waker: Option<Waker>,
}

impl DeliveryQueue {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity: capacity.clamp(1, MAX_QUEUE), state: Mutex::default() })
    }

    /// Queues a message, or counts it as lost.
    pub(crate) fn push(&self, message: Message) {
        let mut state = self.state.lock();
        if state.ended || state.abandoned {
            return;
        }
        if state.messages >= self.capacity {
            state.lost = Some(state.lost.unwrap_or(0).saturating_add(1));
        } else {
            if let Some(lost) = state.lost.take() {
                state.list.push_back(Delivery::Lagged(lost));
            }
            state.list.push_back(Delivery::Message(message));
            state.messages += 1;
        }
        wake(state);
    }

    /// Notes that messages were lost here, and that nobody knows how many.
    pub(crate) fn mark_gap(&self) {
        let mut state = self.state.lock();
        if !state.ended {
            state.lost = Some(state.lost.unwrap_or(0));
            wake(state);
        }
    }

    /// No more messages come; what is queued is still delivered.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        wake(state);
    }

    /// Whether the reader is gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.state.lock().abandoned
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<Delivery>> {
        let mut state = self.state.lock();
        if let Some(delivery) = state.list.pop_front() {
            if matches!(delivery, Delivery::Message(_)) {
                state.messages = state.messages.saturating_sub(1);
            }
            return Poll::Ready(Some(delivery));
        }
        if let Some(lost) = state.lost.take() {
            return Poll::Ready(Some(Delivery::Lagged(lost)));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn wake(mut state: parking_lot::MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A stream of [`Delivery`]; it ends when the bus is closed. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<DeliveryQueue>,
    _guard: Option<DropGuard>,
}

impl Subscription {
    pub(crate) fn new(queue: Arc<DeliveryQueue>, guard: Option<DropGuard>) -> Self {
        Self { queue, _guard: guard }
    }

    /// The next delivery; `None` when the bus is closed. May be dropped while it waits without losing anything.
    pub async fn next(&mut self) -> Option<Delivery> {
        StreamExt::next(self).await
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.queue.poll(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.abandoned = true;
        state.list.clear();
        state.messages = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Headers, Subject};

    fn message(n: u8) -> Message {
        Message {
            subject: Subject::task("d", "1").unwrap(),
            headers: Headers::new(),
            payload: Bytes::copy_from_slice(&[n]),
        }
    }

    fn seen(delivery: Option<Delivery>) -> Option<Result<u8, u64>> {
        delivery.map(|delivery| match delivery {
            Delivery::Message(message) => Ok(message.payload[0]),
            Delivery::Lagged(lost) => Err(lost),
        })
    }

    #[tokio::test]
    async fn a_loss_is_seen_where_it_happened() {
        let queue = DeliveryQueue::new(2);
        let mut reader = Subscription::new(queue.clone(), None);
        for n in 0..5 {
            queue.push(message(n));
        }
        assert_eq!(seen(reader.next().await), Some(Ok(0)));
        queue.push(message(5));
        queue.push(message(6));
        queue.end();
        let mut rest = Vec::new();
        while let Some(delivery) = seen(reader.next().await) {
            rest.push(delivery);
        }
        assert_eq!(rest, [Ok(1), Err(3), Ok(5), Err(1)]);
    }

    #[tokio::test]
    async fn a_gap_without_a_count_is_seen() {
        let queue = DeliveryQueue::new(2);
        let mut reader = Subscription::new(queue.clone(), None);
        queue.mark_gap();
        queue.mark_gap();
        queue.push(message(1));
        assert_eq!(seen(reader.next().await), Some(Err(0)));
        assert_eq!(seen(reader.next().await), Some(Ok(1)));
        drop(reader);
        assert!(queue.is_abandoned());
        queue.push(message(2));
        assert!(queue.state.lock().list.is_empty());
    }
}

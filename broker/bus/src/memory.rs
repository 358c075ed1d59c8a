//! The bus in one process: for tests and simulation, with the manners of the real one.
//!
//! A [`MemoryHub`] is the server, a [`MemoryBus`] one connection to it. Delivery is synchronous and in the order
//! of subscription, so a run repeats exactly. [`MemoryHub::set_up`] takes the link down and up for all.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::limits::{MAX_PAYLOAD, MAX_PENDING, MAX_QUEUE};
use crate::queue::DeliveryQueue;
use crate::server::{Answer, ReplySink, TakenCount};
use crate::{Bus, BusError, BusStatus, Headers, Link, Message, Pattern, Replier, Request, Server};
use crate::{Subject, Subscription};

mod hub;
mod permissions;

pub use hub::MemoryHub;
pub use permissions::Permissions;

/// One connection to a [`MemoryHub`].
pub struct MemoryBus {
    hub: MemoryHub,
    id: u64,
    permissions: Permissions,
    closed: CancellationToken,
    pending: AtomicUsize,
    taken: Arc<TakenCount>,
}

impl MemoryBus {
    /// A bus of its own: a hub with this one connection, and every permission.
    pub fn new() -> Self {
        MemoryHub::new().connect(Permissions::all())
    }

    pub(crate) fn joined(hub: MemoryHub, id: u64, permissions: Permissions) -> Self {
        Self {
            hub,
            id,
            permissions,
            closed: CancellationToken::new(),
            pending: AtomicUsize::new(0),
            taken: Arc::default(),
        }
    }

    fn check_send(&self, subject: &Subject, headers: &Headers, payload: &Bytes) -> Result<(), BusError> {
        self.check_open()?;
        if !self.permissions.may_publish(subject) {
            return Err(BusError::Denied { subject: subject.to_string() });
        }
        check_size(headers, payload)
    }

    fn check_listen(&self, pattern: &Pattern) -> Result<(), BusError> {
        self.check_open()?;
        if !self.permissions.may_subscribe(pattern) {
            return Err(BusError::Denied { subject: pattern.to_string() });
        }
        Ok(())
    }

    fn check_open(&self) -> Result<(), BusError> {
        if self.closed.is_cancelled() {
            return Err(BusError::Closed);
        }
        if self.hub.is_up() { Ok(()) } else { Err(BusError::Disconnected) }
    }
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBus").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Drop for MemoryBus {
    fn drop(&mut self) {
        self.closed.cancel();
        self.hub.leave(self.id);
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish(&self, subject: &Subject, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        self.check_send(subject, &headers, &payload)?;
        self.hub.publish(Message { subject: subject.clone(), headers, payload });
        Ok(())
    }

    async fn request(
        &self,
        subject: &Subject,
        headers: Headers,
        payload: Bytes,
        within: Duration,
    ) -> Result<Message, BusError> {
        self.check_send(subject, &headers, &payload)?;
        let _pending = Pending::enter(&self.pending)?;
        let outage = self.hub.next_outage();
        let (sender, answer) = oneshot::channel();
        let message = Message { subject: subject.clone(), headers, payload };
        self.hub.request(message, sender)?;
        let answer = async move {
            match answer.await {
                Ok(answer) => answer,
                // The server dropped the request: nobody will answer, as on the real bus.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = self.closed.cancelled() => Err(BusError::Closed),
            () = outage => Err(BusError::Disconnected),
            () = tokio::time::sleep(within) => Err(BusError::Timeout),
        }
    }

    async fn serve(&self, pattern: &Pattern, capacity: usize) -> Result<Server, BusError> {
        self.check_listen(pattern)?;
        let (sender, receiver) = mpsc::channel(capacity.clamp(1, MAX_QUEUE));
        self.hub.add_server(pattern.clone(), sender, self.taken.clone(), self.id);
        Ok(Server::new(receiver, None))
    }

    async fn subscribe(&self, pattern: &Pattern, capacity: usize) -> Result<Subscription, BusError> {
        self.check_listen(pattern)?;
        let queue = DeliveryQueue::new(capacity);
        self.hub.add_subscription(pattern.clone(), queue.clone(), self.id);
        Ok(Subscription::new(queue, None))
    }

    async fn flush(&self) -> Result<(), BusError> {
        self.check_open()
    }

    async fn drain(&self, limit: Duration) -> Result<(), BusError> {
        self.check_open()?;
        self.hub.retire_servers(self.id);
        let settled = tokio::time::timeout(limit, self.taken.all_answered()).await;
        self.close().await;
        settled.map_err(|_| BusError::Timeout)
    }

    async fn close(&self) {
        self.closed.cancel();
        self.hub.leave(self.id);
    }

    fn status(&self) -> BusStatus {
        let link = match (self.closed.is_cancelled(), self.hub.is_up()) {
            (true, _) => Link::Closed,
            (false, true) => Link::Connected,
            (false, false) => Link::Disconnected,
        };
        let pending = self.pending.load(Ordering::Acquire);
        BusStatus { link, pending, max_payload: MAX_PAYLOAD, server: None }
    }
}

fn check_size(headers: &Headers, payload: &Bytes) -> Result<(), BusError> {
    let size = headers.wire_len() + payload.len();
    if size > MAX_PAYLOAD { Err(BusError::TooLarge { size, max: MAX_PAYLOAD }) } else { Ok(()) }
}

/// Counts a request for as long as it is under way.
struct Pending<'a>(&'a AtomicUsize);

impl<'a> Pending<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Self, BusError> {
        let before = count.fetch_add(1, Ordering::AcqRel);
        let entered = Self(count);
        if before >= MAX_PENDING { Err(BusError::Busy) } else { Ok(entered) }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The way back within the process.
struct MemoryReply {
    subject: Subject,
    caller: oneshot::Sender<Result<Message, BusError>>,
    hub: MemoryHub,
}

impl MemoryReply {
    fn request(self, message: Message, taken: &Arc<TakenCount>) -> Request {
        Request { message, replier: Replier::new(Box::new(self), taken.take()) }
    }
}

#[async_trait]
impl ReplySink for MemoryReply {
    async fn send(self: Box<Self>, answer: Answer) -> Result<(), BusError> {
        if !self.hub.is_up() {
            return Err(BusError::Disconnected);
        }
        let (answer, outcome) = match answer {
            Answer::Busy => (Err(BusError::Busy), Ok(())),
            Answer::Reply { headers, payload } => match check_size(&headers, &payload) {
                Ok(()) => (Ok(Message { subject: self.subject, headers, payload }), Ok(())),
                Err(error) => (Err(error.clone()), Err(error)),
            },
        };
        // A caller who stopped waiting is gone: that is its affair.
        drop(self.caller.send(answer));
        outcome
    }
}

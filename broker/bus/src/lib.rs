//! The message bus: everything hyperglot's parts say to each other, and all that monitors may hear.
//!
//! ```text
//!   publisher ──publish──► subject ──► subscription (bounded queue; a loss is seen as `Delivery::Lagged`)
//!   caller    ──request──► subject ──► server       (bounded queue; full answers Busy at once)
//!                 ▲                      │
//!                 └──────── reply ◄──────┘
//! ```
//!
//! One trait, [`Bus`], with two implementations that pass one conformance suite (`tests/conformance.rs`):
//! * [`NatsBus`], over a supervised nats-server child ([`child::NatsChild`]) or somebody's own cluster;
//! * [`MemoryBus`], in process and deterministic, for tests and simulation.
//!
//! Promises of every implementation:
//! * what one publisher sends to one subject arrives at one subscriber in that order, or a loss is seen;
//! * nothing is kept for later: while the link is down a publish or request fails with
//!   [`BusError::Disconnected`], and a request that was under way fails at once with the same cause. Its effect
//!   is then unknown: settle it by looking, never by sending again;
//! * a request without a listener fails at once with [`BusError::NoResponders`];
//! * a request that times out leaves nothing behind;
//! * the servers of one subject share its requests: each request reaches one of them.
//!
//! Limits are in [`limits`].
#![forbid(unsafe_code)]

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub mod child;
pub mod cloudevent;
mod error;
pub mod feed;
mod headers;
pub mod limits;
mod memory;
mod message;
mod nats;
mod private;
mod queue;
mod server;
mod serving;
pub mod subject;

pub use child::{
    AgentAccount, ChildConfig, ChildError, ChildState, MonitorCredentials, NatsChild, ServerTls,
};
pub use cloudevent::CloudEvent;
pub use error::BusError;
pub use feed::{FeedChange, FeedEvent, FeedFollower, FeedName, FeedPace, FeedPublisher};
pub use headers::Headers;
pub use memory::{MemoryBus, MemoryHub, Permissions};
pub use message::{Delivery, Message};
pub use nats::{ConnectError, EVENT_STREAM, EventStreamError, Login, NatsBus, NatsOptions};
pub use private::write_private;
pub use queue::Subscription;
pub use server::{Replier, Request, Server};
pub use serving::Serving;
pub use subject::{Pattern, Subject, Topic};

/// Whether the bus can carry messages now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Messages flow.
    Connected,
    /// The link is down; the implementation is trying to get it back.
    Disconnected,
    /// Closed by this process, for good.
    Closed,
}

/// What `hyperglot status` and the metrics say about a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusStatus {
    /// Whether messages flow.
    pub link: Link,
    /// Requests waiting for their answer.
    pub pending: usize,
    /// The largest message (headers and payload) in bytes.
    pub max_payload: usize,
    /// Name and version of the server, where there is one.
    pub server: Option<String>,
}

/// A message bus. Implementations are cheap to share (`Arc<dyn Bus>`).
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Sends to whoever listens now. `Ok` means handed to the link, not heard by anyone.
    ///
    /// # Errors
    /// `Disconnected`, `TooLarge`, `Busy` (the link does not take more now), `Closed`. `Denied` at once where the
    /// implementation knows it, otherwise from the next [`Bus::flush`] and from every later publish on the subject.
    async fn publish(&self, subject: &Subject, headers: Headers, payload: Bytes) -> Result<(), BusError>;

    /// Sends and waits at most `within` for the answer.
    ///
    /// # Errors
    /// `NoResponders`, `Timeout`, `Denied`, `TooLarge` (the request, or the answer), `Disconnected`, `Busy` (the
    /// server's queue is full, or too many requests are under way here), `Closed`.
    async fn request(
        &self,
        subject: &Subject,
        headers: Headers,
        payload: Bytes,
        within: Duration,
    ) -> Result<Message, BusError>;

    /// Answers the requests on `pattern`. At most `capacity` wait in the queue; the rest are answered Busy.
    /// When this returns the server is known to the bus. Messages that ask for no answer are not delivered.
    ///
    /// # Errors
    /// `Denied`, `Disconnected`, `Busy`, `Closed`.
    async fn serve(&self, pattern: &Pattern, capacity: usize) -> Result<Server, BusError>;

    /// Listens to `pattern`. At most `capacity` messages wait; a loss arrives as [`Delivery::Lagged`].
    /// When this returns the subscription is known to the bus.
    ///
    /// # Errors
    /// `Denied`, `Disconnected`, `Busy`, `Closed`.
    async fn subscribe(&self, pattern: &Pattern, capacity: usize) -> Result<Subscription, BusError>;

    /// Waits until the bus has seen everything published before.
    ///
    /// # Errors
    /// `Denied` with the first subject that was denied to this bus handle since the last flush; `Disconnected`,
    /// `Timeout`, `Closed`.
    async fn flush(&self) -> Result<(), BusError>;

    /// Takes no more requests, waits at most `limit` until those taken are answered, flushes, closes.
    ///
    /// # Errors
    /// `Timeout` when requests were still unanswered at the limit; the bus is closed all the same.
    async fn drain(&self, limit: Duration) -> Result<(), BusError>;

    /// Closes now: requests under way fail with `Closed`, servers and subscriptions end.
    async fn close(&self);

    /// The state of the link.
    fn status(&self) -> BusStatus;
}

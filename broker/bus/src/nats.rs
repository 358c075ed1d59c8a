//! The bus over NATS.
//!
//! The client library drops messages when a subscription is full, keeps an entry for each request that timed out,
//! reports a refused publish to a callback only and lets a request hang over a lost connection. So here every
//! subscription has a reader that always drains into a bounded queue of ours ([`crate::Delivery::Lagged`] or Busy when
//! that is full), requests are kept by our own [`requester`], and [`watch`] brings the callback's news to the callers.
//!
//! ```text
//! connection ──► library queue ──► reader task ──► our bounded queue ──► Subscription | Server
//!            └─► events ─────────► watch ────────► requester, queues
//! ```
//! A request that meets a lost link may still be sent by the library once the link is back, after its caller was
//! told Disconnected: commands carry their own deadline, and whoever performs them checks it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::limits::{FLUSH_WAIT, MAX_QUEUE, PUBLISH_WAIT};
use crate::queue::DeliveryQueue;
use crate::server::TakenCount;
use crate::{Bus, BusError, BusStatus, Headers, Link, Message, Pattern, Server, Subject, Subscription};

mod events;
mod lift;
mod options;
mod readers;
mod requester;
mod watch;

pub use events::{EVENT_STREAM, EventStreamError};
pub use options::{ConnectError, Login, NatsOptions};

use requester::Requester;
use watch::Watch;

/// How often the link is looked at besides listening to its events, which the library may drop under flood.
const LINK_CHECK: Duration = Duration::from_millis(100);
/// Servers of one subject share its requests through this queue group.
const GROUP: &str = "hyperglot";

/// A connection to a NATS server. Dropping it closes the connection.
pub struct NatsBus {
    core: Arc<Core>,
    _open: DropGuard,
}

/// What the tasks of one connection share.
struct Core {
    client: Client,
    requester: Arc<Requester>,
    watch: Arc<Watch>,
    taken: Arc<TakenCount>,
    /// No more requests are taken.
    retired: CancellationToken,
    closed: CancellationToken,
}

impl NatsBus {
    /// Connects; afterwards the connection is kept up without an end.
    ///
    /// # Errors
    /// [`ConnectError`] when the first connect fails.
    pub async fn connect(options: &NatsOptions) -> Result<Self, ConnectError> {
        let watch = Arc::new(Watch::default());
        let events = watch.clone();
        let lowered = options.lower().await?.event_callback(move |event| {
            let events = events.clone();
            async move { events.take(event) }
        });
        let refused = |reason: String| ConnectError::Server { url: without_login(&options.url), reason };
        let urls: Vec<&str> = options.url.split(',').map(str::trim).collect();
        let client = lowered.connect(urls).await.map_err(|error| refused(error.to_string()))?;
        let requester = Requester::new(client.new_inbox());
        watch.attach(requester.clone());
        let inbox =
            client.subscribe(requester.inbox_pattern()).await.map_err(|error| refused(error.to_string()))?;
        let closed = CancellationToken::new();
        let core = Arc::new(Core {
            client,
            requester,
            watch,
            taken: Arc::default(),
            retired: closed.child_token(),
            closed,
        });
        tokio::spawn(readers::read_answers(core.requester.clone(), inbox, core.closed.clone()));
        tokio::spawn(readers::check_link(core.clone()));
        Ok(Self { _open: core.closed.clone().drop_guard(), core })
    }
}

impl fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBus").field("status", &self.status()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&self, subject: &Subject, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        self.core.watch.check_publish(subject.as_str())?;
        self.core.send(subject.as_str(), None, &headers, payload).await
    }

    async fn request(
        &self,
        subject: &Subject,
        headers: Headers,
        payload: Bytes,
        within: Duration,
    ) -> Result<Message, BusError> {
        self.core.watch.check_publish(subject.as_str())?;
        self.core.request(subject, &headers, payload, within).await
    }

    async fn serve(&self, pattern: &Pattern, capacity: usize) -> Result<Server, BusError> {
        self.core.check_open()?;
        let client = &self.core.client;
        let subscribing = client.queue_subscribe(pattern.as_str().to_owned(), GROUP.to_owned());
        let subscriber = self.core.listening(pattern, subscribing.await).await?;
        let (sender, receiver) = mpsc::channel(capacity.clamp(1, MAX_QUEUE));
        let ended = self.core.retired.child_token();
        tokio::spawn(readers::read_requests(self.core.clone(), subscriber, sender, ended.clone()));
        Ok(Server::new(receiver, Some(ended.drop_guard())))
    }

    async fn subscribe(&self, pattern: &Pattern, capacity: usize) -> Result<Subscription, BusError> {
        self.core.check_open()?;
        let queue = DeliveryQueue::new(capacity);
        self.core.watch.add_queue(&queue);
        let subscribing = self.core.client.subscribe(pattern.as_str().to_owned());
        let subscriber = self.core.listening(pattern, subscribing.await).await?;
        let ended = self.core.closed.child_token();
        tokio::spawn(readers::read_messages(subscriber, queue.clone(), ended.clone()));
        Ok(Subscription::new(queue, Some(ended.drop_guard())))
    }

    async fn flush(&self) -> Result<(), BusError> {
        self.core.round_trip().await?;
        self.core.watch.take_denied()
    }

    async fn drain(&self, limit: Duration) -> Result<(), BusError> {
        self.core.check_open()?;
        self.core.retired.cancel();
        let settled = tokio::time::timeout(limit, self.core.taken.all_answered()).await;
        let flushed = self.core.round_trip().await;
        self.close().await;
        settled.map_err(|_| BusError::Timeout)?;
        flushed
    }

    async fn close(&self) {
        if self.core.closed.is_cancelled() {
            return;
        }
        self.core.closed.cancel();
        self.core.requester.fail_all(&BusError::Closed);
        if self.core.client.drain().await.is_err() {
            tracing::debug!("the bus connection was closed already");
        }
    }

    fn status(&self) -> BusStatus {
        let info = self.core.client.server_info();
        let server = (!info.version.is_empty())
            .then(|| format!("{} (nats-server {})", info.server_name, info.version));
        BusStatus {
            link: self.core.link(),
            pending: self.core.requester.count(),
            max_payload: self.core.client.max_payload(),
            server,
        }
    }
}

impl Core {
    fn link(&self) -> Link {
        if self.closed.is_cancelled() {
            return Link::Closed;
        }
        match self.client.connection_state() {
            State::Connected => Link::Connected,
            State::Pending | State::Disconnected => Link::Disconnected,
        }
    }

    fn check_open(&self) -> Result<(), BusError> {
        match self.link() {
            Link::Connected => Ok(()),
            Link::Disconnected => Err(BusError::Disconnected),
            Link::Closed => Err(BusError::Closed),
        }
    }

    /// Which connection this is, counted from the first.
    fn connection(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Acquire)
    }

    /// Hands a message to the library, waiting a bounded time for room.
    async fn send(
        &self,
        subject: &str,
        reply_to: Option<String>,
        headers: &Headers,
        payload: Bytes,
    ) -> Result<(), BusError> {
        self.check_open()?;
        let (size, max) = (headers.wire_len() + payload.len(), self.client.max_payload());
        if size > max {
            return Err(BusError::TooLarge { size, max });
        }
        let subject = subject.to_owned();
        let headers = lift::lower_headers(headers);
        let client = &self.client;
        let sending = async {
            match (reply_to, headers) {
                (None, None) => client.publish(subject, payload).await,
                (None, Some(headers)) => client.publish_with_headers(subject, headers, payload).await,
                (Some(to), None) => client.publish_with_reply(subject, to, payload).await,
                (Some(to), Some(headers)) => {
                    client.publish_with_reply_and_headers(subject, to, headers, payload).await
                }
            }
        };
        match tokio::time::timeout(PUBLISH_WAIT, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(lift::lift_publish_error(&error, size, max)),
            Err(_) => Err(BusError::Busy),
        }
    }

    async fn request(
        &self,
        subject: &Subject,
        headers: &Headers,
        payload: Bytes,
        within: Duration,
    ) -> Result<Message, BusError> {
        let mut under_way = self.requester.enter(subject, self.connection())?;
        let asking = async {
            self.send(subject.as_str(), Some(under_way.reply_to()), headers, payload).await?;
            (&mut under_way.answer).await.unwrap_or(Err(BusError::Closed))
        };
        tokio::select! {
            biased;
            answer = asking => answer,
            () = tokio::time::sleep(within) => Err(BusError::Timeout),
            () = self.closed.cancelled() => Err(BusError::Closed),
        }
    }

    /// Sends something to ourselves and waits for it: the server has then seen all that was sent before, and its
    /// refusals have arrived. The second time round lets the event task, woken before, have its turn.
    async fn round_trip(&self) -> Result<(), BusError> {
        for _ in 0..2 {
            let inbox = Subject::parse(&self.requester.inbox_pattern().replace('*', "echo"))?;
            let mut echo = self.requester.enter(&inbox, self.connection())?;
            self.send(&echo.reply_to(), None, &Headers::new(), Bytes::new()).await?;
            match tokio::time::timeout(FLUSH_WAIT, &mut echo.answer).await {
                Ok(Ok(answer)) => answer.map(drop)?,
                Ok(Err(_)) => return Err(BusError::Closed),
                Err(_) => return Err(BusError::Timeout),
            }
        }
        Ok(())
    }

    /// Waits until the server knows the subscription, or has refused it.
    async fn listening<E>(
        &self,
        pattern: &Pattern,
        subscribed: Result<Subscriber, E>,
    ) -> Result<Subscriber, BusError> {
        let subscriber = subscribed.map_err(|_| BusError::Closed)?;
        // A refusal comes before the answer, but by another way through the library: the second round leaves it the time.
        self.round_trip().await?;
        self.round_trip().await?;
        if self.watch.is_listen_denied(pattern.as_str()) {
            return Err(BusError::Denied { subject: pattern.to_string() });
        }
        Ok(subscriber)
    }
}

/// The address without `user:password@`.
fn without_login(url: &str) -> String {
    url.split(',')
        .map(|url| match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            (None, Some((_, host))) => host.to_owned(),
            (_, None) => url.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_cut_from_addresses() {
        assert_eq!(without_login("nats://u:p@h:1,nats://h2:2"), "nats://h:1,nats://h2:2");
        assert_eq!(without_login("u:p@h:1"), "h:1");
    }
}

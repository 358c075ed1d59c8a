//! What the connection tells aside from messages: lost and found links, refused permissions, lost messages.
//!
//! The client library reports these to one callback and not to the caller concerned; here they reach the caller.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_nats::{Event, ServerError};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::requester::Requester;
use crate::BusError;
use crate::limits::MAX_DENIED;
use crate::queue::DeliveryQueue;

/// The listeners to one connection's events.
#[derive(Debug, Default)]
pub(super) struct Watch {
    requester: OnceLock<Arc<Requester>>,
    was_connected: AtomicBool,
    publishes: Mutex<Denied>,
    listens: Mutex<VecDeque<String>>,
    queues: Mutex<Vec<Weak<DeliveryQueue>>>,
}

/// How long a refused subject is refused here without asking the server again: permissions may change.
const DENIED_FOR: Duration = Duration::from_secs(10);

/// Subjects that the server refused lately.
#[derive(Debug, Default)]
struct Denied {
    subjects: VecDeque<(String, Instant)>,
    unflushed: Option<String>,
}

impl Watch {
    /// Names the requests to be failed; until then there are none.
    pub(super) fn attach(&self, requester: Arc<Requester>) {
        // Called once, by the connect; a second call would change nothing.
        drop(self.requester.set(requester));
    }

    /// Adds a queue that must see losses.
    pub(super) fn add_queue(&self, queue: &Arc<DeliveryQueue>) {
        let mut queues = self.queues.lock();
        queues.retain(|queue| queue.upgrade().is_some_and(|queue| !queue.is_abandoned()));
        queues.push(Arc::downgrade(queue));
    }

    /// Takes an event of the connection.
    pub(super) fn take(&self, event: Event) {
        match event {
            Event::Connected => self.connected(),
            Event::Disconnected => self.fail_all(&BusError::Disconnected),
            Event::SlowConsumer(_) => {
                tracing::warn!("the bus client lost messages: every subscription is told to start anew");
                self.mark_gaps();
            }
            Event::ServerError(ServerError::Other(text)) => match read_violation(&text) {
                Some(Violation::Publish(subject)) => self.publish_denied(subject),
                Some(Violation::Listen(pattern)) => {
                    tracing::warn!(pattern, "the bus refused a subscription");
                    remember(&mut self.listens.lock(), pattern);
                }
                None => tracing::warn!(error = %text, "the bus server reports an error"),
            },
            Event::ServerError(error) => tracing::warn!(%error, "the bus server reports an error"),
            Event::ClientError(error) => tracing::warn!(%error, "the bus client reports an error"),
            Event::LameDuckMode => tracing::info!("the bus server is about to stop"),
            Event::Draining | Event::Closed => {}
        }
    }

    fn connected(&self) {
        *self.publishes.lock() = Denied::default();
        self.listens.lock().clear();
        if self.was_connected.swap(true, Ordering::AcqRel) {
            tracing::info!("the bus connection is back");
            self.mark_gaps();
        }
    }

    fn publish_denied(&self, subject: &str) {
        // An account that may send nothing may not even send to itself: that refusal ends a round trip as well
        // as the echo would, for it comes after the refusals of all that was sent before.
        if self.requester.get().is_some_and(|requester| requester.settle_echo(subject)) {
            return;
        }
        tracing::warn!(subject, "the bus refused a message");
        let mut denied = self.publishes.lock();
        denied.subjects.retain(|(known, _)| known != subject);
        if denied.subjects.len() >= MAX_DENIED {
            denied.subjects.pop_front();
        }
        denied.subjects.push_back((subject.to_owned(), Instant::now()));
        denied.unflushed.get_or_insert_with(|| subject.to_owned());
        drop(denied);
        if let Some(requester) = self.requester.get() {
            requester.fail_subject(subject, &BusError::Denied { subject: subject.to_owned() });
        }
    }

    fn fail_all(&self, cause: &BusError) {
        if let Some(requester) = self.requester.get() {
            requester.fail_all(cause);
        }
    }

    fn mark_gaps(&self) {
        for queue in self.queues.lock().iter().filter_map(Weak::upgrade) {
            queue.mark_gap();
        }
    }

    /// Fails when the subject is known to be refused.
    pub(super) fn check_publish(&self, subject: &str) -> Result<(), BusError> {
        let mut denied = self.publishes.lock();
        while denied.subjects.front().is_some_and(|(_, at)| at.elapsed() > DENIED_FOR) {
            denied.subjects.pop_front();
        }
        if denied.subjects.iter().any(|(known, _)| known == subject) {
            return Err(BusError::Denied { subject: subject.to_owned() });
        }
        Ok(())
    }

    /// Whether the server refused this subscription since the last connect.
    pub(super) fn is_listen_denied(&self, pattern: &str) -> bool {
        self.listens.lock().iter().any(|known| known == pattern)
    }

    /// Fails with the first publish refused since the last call.
    pub(super) fn take_denied(&self) -> Result<(), BusError> {
        match self.publishes.lock().unflushed.take() {
            Some(subject) => Err(BusError::Denied { subject }),
            None => Ok(()),
        }
    }
}

fn remember(list: &mut VecDeque<String>, subject: &str) {
    if list.iter().any(|known| known == subject) {
        return;
    }
    if list.len() >= MAX_DENIED {
        list.pop_front();
    }
    list.push_back(subject.to_owned());
}

#[derive(Debug, PartialEq, Eq)]
enum Violation<'a> {
    Publish(&'a str),
    Listen(&'a str),
}

/// Reads nats-server's `Permissions Violation for Publish to "x"` and `… for Subscription to "x"`.
fn read_violation(text: &str) -> Option<Violation<'_>> {
    let rest = text.trim().trim_matches('\'').strip_prefix("Permissions Violation for ")?;
    let mut quoted = rest.split('"');
    let what = quoted.next()?;
    let subject = quoted.next()?;
    match what.trim() {
        "Publish to" => Some(Violation::Publish(subject)),
        "Subscription to" => Some(Violation::Listen(subject)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_read() {
        let text = "Permissions Violation for Publish to \"cmd.d.vm.x\"";
        assert_eq!(read_violation(text), Some(Violation::Publish("cmd.d.vm.x")));
        let text = "Permissions Violation for Subscription to \"cmd.>\" using queue \"q\"";
        assert_eq!(read_violation(text), Some(Violation::Listen("cmd.>")));
        assert_eq!(read_violation("Permissions Violation for Publish to "), None);
        assert_eq!(read_violation("stale connection"), None);
    }

    #[tokio::test]
    async fn lost_messages_and_links_are_seen_by_every_queue() {
        let watch = Watch::default();
        let queue = DeliveryQueue::new(4);
        watch.add_queue(&queue);
        let mut subscription = crate::Subscription::new(queue.clone(), None);
        watch.take(Event::Connected);
        watch.take(Event::SlowConsumer(7));
        assert_eq!(subscription.next().await, Some(crate::Delivery::Lagged(0)));
        watch.take(Event::Disconnected);
        watch.take(Event::Connected);
        assert_eq!(subscription.next().await, Some(crate::Delivery::Lagged(0)));
        queue.end();
        assert_eq!(subscription.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_denied_subject_is_remembered_for_a_while() {
        let watch = Watch::default();
        let denied =
            || Event::ServerError(ServerError::Other("Permissions Violation for Publish to \"a.b\"".into()));
        watch.take(Event::Connected);
        watch.take(denied());
        assert!(watch.check_publish("a.b").is_err());
        assert!(watch.check_publish("a.c").is_ok());
        assert_eq!(watch.take_denied(), Err(BusError::Denied { subject: "a.b".into() }));
        assert_eq!(watch.take_denied(), Ok(()));
        watch.take(Event::Connected);
        assert!(watch.check_publish("a.b").is_ok());
        watch.take(denied());
        tokio::time::advance(DENIED_FOR * 2).await;
        assert!(watch.check_publish("a.b").is_ok());
    }
}

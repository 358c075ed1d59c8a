//! The tasks of one connection: they always drain, so that the client library never has to drop a message.

use std::sync::Arc;

use async_nats::Subscriber;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::requester::Requester;
use super::{Core, LINK_CHECK, lift};
use crate::queue::DeliveryQueue;
use crate::server::{Answer, ReplySink};
use crate::{BusError, Headers, Link, Replier, Request};

/// Settles requests with the answers that arrive at the inbox.
pub(super) async fn read_answers(
    requester: Arc<Requester>,
    mut inbox: Subscriber,
    closed: CancellationToken,
) {
    while let Some(Some(message)) = closed.run_until_cancelled(inbox.next()).await {
        let to = message.subject.clone();
        requester.settle(&to, |asked| lift::lift_answer(asked, message));
    }
    requester.fail_all(&BusError::Closed);
}

/// Fails the requests of a lost connection even when its event got lost.
pub(super) async fn check_link(core: Arc<Core>) {
    let mut tick = tokio::time::interval(LINK_CHECK);
    while core.closed.run_until_cancelled(tick.tick()).await.is_some() {
        if core.link() == Link::Disconnected {
            core.requester.fail_all(&BusError::Disconnected);
        } else {
            core.requester.fail_older(core.connection(), &BusError::Disconnected);
        }
    }
}

/// Feeds a subscription's queue.
pub(super) async fn read_messages(
    mut subscriber: Subscriber,
    queue: Arc<DeliveryQueue>,
    ended: CancellationToken,
) {
    while let Some(Some(message)) = ended.run_until_cancelled(subscriber.next()).await {
        match lift::lift_message(message) {
            Some(message) => queue.push(message),
            None => queue.mark_gap(),
        }
    }
    queue.end();
}

/// Feeds a server's queue, and answers Busy when it is full.
pub(super) async fn read_requests(
    core: Arc<Core>,
    mut subscriber: Subscriber,
    queue: mpsc::Sender<Request>,
    ended: CancellationToken,
) {
    loop {
        let next = match ended.run_until_cancelled(subscriber.next()).await {
            Some(next) => next,
            // Retired: what the library still holds is answered too, with Busy.
            None if !queue.is_closed() && subscriber.unsubscribe().await.is_ok() => {
                refuse_rest(&core, subscriber).await;
                break;
            }
            None => break,
        };
        let Some(mut message) = next else { break };
        let Some(reply_to) = message.reply.take() else {
            tracing::debug!(subject = %message.subject, "a message to a server asks for no answer: dropped");
            continue;
        };
        let reply_to = reply_to.to_string();
        let Some(message) = lift::lift_message(message) else { continue };
        let sink = NatsReply { core: core.clone(), reply_to };
        let request = Request { message, replier: Replier::new(Box::new(sink), core.taken.take()) };
        match queue.try_send(request) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(request)) => {
                if let Err(error) = request.refuse_busy().await {
                    tracing::warn!(%error, "a request met a full queue, and its caller could not be told");
                }
            }
            Err(mpsc::error::TrySendError::Closed(_)) => break,
        }
    }
}

async fn refuse_rest(core: &Core, mut subscriber: Subscriber) {
    while let Some(message) = subscriber.next().await {
        let (Some(reply_to), Ok(busy)) = (message.reply, lift::busy()) else { continue };
        if let Err(error) = core.send(&reply_to, None, &busy, Bytes::new()).await {
            tracing::warn!(%error, "a request came while draining, and its caller could not be told");
        }
    }
}

/// The way back over NATS.
struct NatsReply {
    core: Arc<Core>,
    reply_to: String,
}

#[async_trait]
impl ReplySink for NatsReply {
    async fn send(self: Box<Self>, answer: Answer) -> Result<(), BusError> {
        let (headers, payload) = match answer {
            Answer::Reply { headers, payload } => (headers, payload),
            Answer::Busy => (lift::busy()?, Bytes::new()),
        };
        let sent = self.core.send(&self.reply_to, None, &headers, payload).await;
        if let Err(BusError::TooLarge { size, max }) = sent {
            let excuse: Headers = lift::too_large(size, max)?;
            self.core.send(&self.reply_to, None, &excuse, Bytes::new()).await?;
        }
        sent
    }
}

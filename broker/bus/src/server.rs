//! Requests as a server sees them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::DropGuard;

use crate::{BusError, Headers, Message};

/// A stream of [`Request`]s; it ends when the bus is closed or drained. Dropping it ends the service: requests
/// still queued are not answered, and their callers time out.
#[derive(Debug)]
pub struct Server {
    requests: mpsc::Receiver<Request>,
    _guard: Option<DropGuard>,
}

impl Server {
    pub(crate) fn new(requests: mpsc::Receiver<Request>, guard: Option<DropGuard>) -> Self {
        Self { requests, _guard: guard }
    }

    /// The next request; `None` when the bus is closed or drained.
    pub async fn next(&mut self) -> Option<Request> {
        self.requests.recv().await
    }
}

impl Stream for Server {
    type Item = Request;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        self.requests.poll_recv(cx)
    }
}

/// A request and the way to answer it. One that is dropped is never answered: its caller times out.
#[derive(Debug)]
pub struct Request {
    /// What was sent.
    pub message: Message,
    /// The way back.
    pub replier: Replier,
}

impl Request {
    /// Answers.
    ///
    /// # Errors
    /// As [`Replier::reply`].
    pub async fn reply(self, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        self.replier.reply(headers, payload).await
    }

    /// Refuses: the caller gets [`BusError::Busy`].
    ///
    /// # Errors
    /// As [`Replier::reply`].
    pub async fn refuse_busy(self) -> Result<(), BusError> {
        self.replier.refuse_busy().await
    }
}

/// The way back to the caller of one request.
pub struct Replier {
    sink: Box<dyn ReplySink>,
    _taken: Taken,
}

impl Replier {
    pub(crate) fn new(sink: Box<dyn ReplySink>, taken: Taken) -> Self {
        Self { sink, _taken: taken }
    }

    /// Answers. A caller who is gone is not an error.
    ///
    /// # Errors
    /// `TooLarge` (the caller gets the same error at once), `Disconnected`, `Busy`, `Closed`.
    pub async fn reply(self, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        self.sink.send(Answer::Reply { headers, payload }).await
    }

    /// Refuses: the caller gets [`BusError::Busy`].
    ///
    /// # Errors
    /// `Disconnected`, `Busy`, `Closed`.
    pub async fn refuse_busy(self) -> Result<(), BusError> {
        self.sink.send(Answer::Busy).await
    }
}

impl std::fmt::Debug for Replier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replier")
    }
}

pub(crate) enum Answer {
    Reply { headers: Headers, payload: Bytes },
    Busy,
}

#[async_trait]
pub(crate) trait ReplySink: Send + Sync {
    async fn send(self: Box<Self>, answer: Answer) -> Result<(), BusError>;
}

/// Counts the requests taken and not yet answered, for draining.
#[derive(Debug, Default)]
pub(crate) struct TakenCount {
    count: AtomicUsize,
    zero: Notify,
}

impl TakenCount {
    pub(crate) fn take(self: &Arc<Self>) -> Taken {
        self.count.fetch_add(1, Ordering::AcqRel);
        Taken(self.clone())
    }

    /// Waits until every request taken is answered or dropped.
    pub(crate) async fn all_answered(&self) {
        loop {
            let zero = self.zero.notified();
            tokio::pin!(zero);
            zero.as_mut().enable();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            zero.await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Taken(Arc<TakenCount>);

impl Drop for Taken {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.zero.notify_waiters();
        }
    }
}

//! Requests under way over NATS.
//!
//! All answers come to one private inbox, `<prefix>.<random>.*`; the last token tells them apart.
//!
//! ```text
//!   enter ──► waiting ──answer──────────────► settled
//!                │ ├────denied, link lost──► settled with the cause, at once
//!                │ └────bus closed─────────► settled with Closed
//!                └──── caller gone, or its time is up: the guard takes the entry away
//! ```
//! So the table holds exactly the requests whose callers still wait; it never grows with those who gave up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::limits::MAX_PENDING;
use crate::{BusError, Headers, Message, Subject};

/// The requests under way of one connection.
#[derive(Debug)]
pub(super) struct Requester {
    inbox: String,
    next: AtomicU64,
    waiting: Mutex<FxHashMap<u64, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    subject: Subject,
    /// The connection (counted) over which it was sent.
    connection: u64,
    caller: oneshot::Sender<Result<Message, BusError>>,
}

/// A request under way; dropping it forgets the request.
pub(super) struct UnderWay {
    requester: Arc<Requester>,
    token: u64,
    /// Gets the answer, or the cause why there is none.
    pub(super) answer: oneshot::Receiver<Result<Message, BusError>>,
}

impl Requester {
    /// `inbox` is the private subject without the last token.
    pub(super) fn new(inbox: String) -> Arc<Self> {
        Arc::new(Self { inbox, next: AtomicU64::new(1), waiting: Mutex::default() })
    }

    /// The pattern on which answers arrive.
    pub(super) fn inbox_pattern(&self) -> String {
        format!("{}.*", self.inbox)
    }

    /// Enters a request to `subject` sent over the `connection`-th connection.
    pub(super) fn enter(self: &Arc<Self>, subject: &Subject, connection: u64) -> Result<UnderWay, BusError> {
        let (caller, answer) = oneshot::channel();
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_PENDING {
            return Err(BusError::Busy);
        }
        waiting.insert(token, Waiting { subject: subject.clone(), connection, caller });
        drop(waiting);
        Ok(UnderWay { requester: self.clone(), token, answer })
    }

    /// How many are under way.
    pub(super) fn count(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Settles the request whose answer arrived at `inbox`. An unknown token is a late answer: dropped.
    pub(super) fn settle(&self, inbox: &str, lift: impl FnOnce(&Subject) -> Result<Message, BusError>) {
        let token = inbox.strip_prefix(self.inbox.as_str()).and_then(|rest| rest.strip_prefix('.'));
        let Some(token) = token.and_then(|token| token.parse::<u64>().ok()) else { return };
        let Some(request) = self.waiting.lock().remove(&token) else { return };
        let answer = lift(&request.subject);
        // The caller may have stopped waiting this instant: that is its affair.
        drop(request.caller.send(answer));
    }

    /// Settles a message to ourselves that was refused; whether `inbox` is one of ours.
    pub(super) fn settle_echo(&self, inbox: &str) -> bool {
        let ours = inbox.strip_prefix(self.inbox.as_str()).is_some_and(|rest| rest.starts_with('.'));
        if ours {
            self.settle(inbox, |subject| {
                Ok(Message { subject: subject.clone(), headers: Headers::new(), payload: Bytes::new() })
            });
        }
        ours
    }

    /// Fails the requests to one subject.
    pub(super) fn fail_subject(&self, subject: &str, cause: &BusError) {
        self.fail(cause, |request| request.subject.as_str() == subject);
    }

    /// Fails the requests of earlier connections than the `current`-th.
    pub(super) fn fail_older(&self, current: u64, cause: &BusError) {
        self.fail(cause, |request| request.connection < current);
    }

    /// Fails every request.
    pub(super) fn fail_all(&self, cause: &BusError) {
        self.fail(cause, |_| true);
    }

    fn fail(&self, cause: &BusError, concerned: impl Fn(&Waiting) -> bool) {
        let mut failed = Vec::new();
        self.waiting.lock().retain(|token, request| {
            if concerned(request) {
                failed.push(*token);
            }
            true
        });
        for token in failed {
            let request = self.waiting.lock().remove(&token);
            if let Some(request) = request {
                drop(request.caller.send(Err(cause.clone())));
            }
        }
    }
}

impl UnderWay {
    /// Where the answer is to be sent.
    pub(super) fn reply_to(&self) -> String {
        format!("{}.{}", self.requester.inbox, self.token)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.requester.waiting.lock().remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(id: &str) -> Subject {
        Subject::task("d", id).unwrap()
    }

    fn answer(subject: &Subject) -> Result<Message, BusError> {
        Ok(Message { subject: subject.clone(), headers: Headers::new(), payload: Bytes::new() })
    }

    #[test]
    fn settled_once_by_its_own_token() {
        let requester = Requester::new("_INBOX.x".into());
        let mut one = requester.enter(&subject("1"), 1).unwrap();
        let mut two = requester.enter(&subject("2"), 1).unwrap();
        for stray in ["_INBOX.x", "_INBOX.x.", "_INBOX.x.99", "_INBOX.y.1", "_INBOX.xx.1", "_INBOX.x.a"] {
            requester.settle(stray, answer);
        }
        requester.settle(&two.reply_to(), answer);
        requester.settle(&two.reply_to(), answer);
        assert_eq!(two.answer.try_recv().unwrap().unwrap().subject, subject("2"));
        assert!(one.answer.try_recv().is_err());
        assert_eq!(requester.count(), 1);
        drop(one);
        assert_eq!(requester.count(), 0);
    }

    #[test]
    fn failed_by_subject_and_by_connection() {
        let requester = Requester::new("_INBOX.x".into());
        let mut old = requester.enter(&subject("1"), 1).unwrap();
        let mut new = requester.enter(&subject("2"), 2).unwrap();
        requester.fail_older(2, &BusError::Disconnected);
        assert_eq!(old.answer.try_recv().unwrap(), Err(BusError::Disconnected));
        assert!(new.answer.try_recv().is_err());
        let denied = BusError::Denied { subject: "task.d.2".into() };
        requester.fail_subject("task.d.2", &denied);
        assert_eq!(new.answer.try_recv().unwrap(), Err(denied));
        assert_eq!(requester.count(), 0);
    }

    #[test]
    fn bounded() {
        let requester = Requester::new("_INBOX.x".into());
        let all: Vec<_> = (0..MAX_PENDING).map(|_| requester.enter(&subject("1"), 1).unwrap()).collect();
        assert!(matches!(requester.enter(&subject("1"), 1), Err(BusError::Busy)));
        drop(all);
        assert_eq!(requester.count(), 0);
    }
}

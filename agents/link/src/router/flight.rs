//! One command at the engine, from submission to its end.
//!
//! ```text
//! submitted ─ Outcome ─────────────────────────────────────────────────────▶ ended
//!     │ refused, away, busy: nothing was sent ─▶ Refused ──────────────────▶ ended
//!     │ answer lost, engine away
//!     ▼
//! settling: engine there? ask what became of it ─ Outcome, unknown ────────▶ ended
//!     └─ running: ask again      deadline + 7 s ─▶ Unknown ────────────────▶ ended
//! ```
//!
//! Nothing is ever sent twice: what the engine says it never heard of, it refuses from then on.

use super::{Earlier, Router, room::Place};
use crate::{
    engine::{LinkError, Service, Verb, ask},
    limits,
};
use lane::Ending;
use std::time::Duration;
use tokio::time::Instant;
use union::{
    CommandId, ObjectId,
    command::{Cause, Code, Outcome},
    pb,
};

/// A command under way.
pub(super) struct Flight {
    pub command: CommandId,
    pub object: ObjectId,
    pub task: Option<ObjectId>,
    pub deadline_ms: i64,
    pub ending: Ending,
    pub place: Option<Place>,
}

impl Flight {
    /// Sends the command if there is one to send, and sees it to its end.
    pub async fn run(self, router: &Router, submission: Option<(Verb, pb::Submission)>) {
        let left = self.deadline_ms.saturating_sub(router.clock.now_ms());
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        let last = Instant::now() + left + limits::SETTLE;
        let outcome = match submission {
            // The lanes know what became of the calls, the engine what became of the command.
            None if router.is_engines(self.command).await => self.settle(router, last).await,
            None => match router.earlier(self.command).await {
                Earlier::Ended(outcome) => outcome,
                Earlier::Open => {
                    router.flights.lock().remove(&self.command);
                    return;
                }
                Earlier::Never => self.settle(router, last).await,
            },
            Some((verb, submission)) => {
                match self.submit(router, &verb, &submission, left + limits::ANSWER).await {
                    Ok(outcome) => outcome,
                    Err(error) if error.is_ambiguous() => {
                        tracing::info!(command = %self.command, %error, "a command's answer was lost; asking what became of it");
                        self.settle(router, last).await
                    }
                    Err(error) => Outcome::Refused(error.cause()),
                }
            }
        };
        union::fail::point("link.outcome-heard");
        self.end(router, outcome).await;
    }

    async fn submit(
        &self,
        router: &Router,
        verb: &Verb,
        submission: &pb::Submission,
        within: Duration,
    ) -> Result<Outcome, LinkError> {
        let asked = ask::<pb::Outcome>(&*router.engine, verb, submission, within);
        let kept = async {
            if let Some(tasks) = router.kept.get().filter(|_| self.task.is_some())
                && let Err(error) = tasks.flush_along().await
            {
                tracing::warn!(command = %self.command, %error, "a command's task is not kept; it is tried again");
            }
        };
        let asked = async { futures_util::future::join(kept, asked).await.1 };
        tokio::pin!(asked);
        let other = router.presence.until_other();
        tokio::pin!(other);
        loop {
            tokio::select! {
                biased;
                outcome = &mut asked => {
                    union::fail::point("link.answered");
                    return read(router, &outcome?);
                }
                () = &mut other => return Err(LinkError::Lost("the engine went away".to_owned())),
                // An answer may be lost without a word.
                () = tokio::time::sleep(limits::ASK_AGAIN) => {
                    if let Some(outcome) = self.ask(router).await {
                        return Ok(outcome);
                    }
                }
            }
        }
    }

    /// Asks what became of the command until that is known.
    async fn settle(&self, router: &Router, last: Instant) -> Outcome {
        let (mut pause, longest) = limits::PAUSE;
        loop {
            let asked = async {
                router.presence.until_here().await;
                self.ask(router).await
            };
            match tokio::time::timeout_at(last, asked).await {
                Err(_) => break,
                Ok(Some(outcome)) => return outcome,
                Ok(None) => {}
            }
            if tokio::time::timeout_at(last, tokio::time::sleep(pause)).await.is_err() {
                break;
            }
            pause = (pause * 2).min(longest);
        }
        Outcome::Unknown {
            probe: self.object.to_string(),
            message: "the engine did not say in time what became of the command; look at the object"
                .to_owned(),
        }
    }

    /// Asks once what became of the command; `None`: that is not known now.
    async fn ask(&self, router: &Router) -> Option<Outcome> {
        let about = pb::About {
            command_id: self.command.to_string(),
            object_id: self.object.to_string(),
            ..pb::About::default()
        };
        let verb = Verb::Service(Service::Settle);
        match ask::<pb::Settled>(&*router.engine, &verb, &about, limits::SHORT).await {
            Ok(pb::Settled { outcome: Some(outcome), .. }) => match read(router, &outcome) {
                Ok(outcome) => return Some(outcome),
                Err(error) => tracing::warn!(command = %self.command, %error, "an outcome cannot be read"),
            },
            Ok(settled) if settled.unknown => {
                return Some(Outcome::Refused(Cause::new(
                    Code::Unreachable,
                    "the command did not reach the engine; nothing was done",
                )));
            }
            Ok(_) => {}
            Err(LinkError::Refused(cause)) => {
                tracing::warn!(command = %self.command, %cause, "the engine does not say what became of a command");
            }
            Err(error) => {
                tracing::debug!(command = %self.command, %error, "what became of a command cannot be asked now");
            }
        }
        None
    }

    async fn end(self, router: &Router, outcome: Outcome) {
        if let Outcome::Done { revision, result, .. } = &outcome {
            let seen = result.unwrap_or(self.object);
            if !router.replica.reached(seen, *revision, result.is_some(), limits::REACHED).await {
                tracing::warn!(command = %self.command, object = %seen, "a front's replica is behind a command that is done");
            }
        }
        // Who sees the task end may ask for the next.
        drop(self.place);
        if let Some(task) = self.task {
            super::end_task(&router.tasks, task, &outcome);
        }
        union::fail::point("link.task-ended");
        router.flights.lock().remove(&self.command);
        self.ending.end(outcome);
    }
}

fn read(router: &Router, outcome: &pb::Outcome) -> Result<Outcome, LinkError> {
    let schema = std::sync::Arc::clone(&router.bundle.read().schema);
    Outcome::from_pb(&schema, outcome).map_err(|e| LinkError::Garbled(e.to_string()))
}

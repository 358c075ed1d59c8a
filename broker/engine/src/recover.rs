//! Recovery: every command that the journal has open when the engine starts comes to its end.
//!
//! ```text
//! open ─▶ nothing was sent: Refused (a folder being emptied: gone on with) │ sent: settled with its owner, own facts with the outcome, once
//! ```
//! Those of an owner that is away wait for it; they are in flight, so the same id again joins them.

use crate::{
    engine::{Engine, StartError},
    flight::{Joined, Landing},
    fly::refused,
    record::Sent,
    submit::Errand,
};
use prost::Message;
use std::sync::Arc;
use store::journal::Entry;
use union::{
    Command,
    command::{Code, Outcome},
    pb,
};

/// Entries read at a time.
const PAGE: usize = 1_024;

impl Engine {
    /// Puts every open command in flight again.
    pub(crate) async fn recover(&self) -> Result<usize, StartError> {
        let mut recovering = Vec::new();
        let mut beyond = None;
        loop {
            let page = self.journal.open(beyond, PAGE).await?;
            let last = page.len() < PAGE;
            for entry in page {
                beyond = Some(entry.intent.id);
                let (id, digest, object) = (entry.intent.id, entry.intent.digest, entry.intent.object);
                if let Joined::New(flight, landing) = self.flights.join(id, digest, &Arc::from(""), object) {
                    recovering.push(flight.outcome);
                    if &*entry.intent.verb == "DestroyFolder" {
                        self.doom(object);
                    }
                    // Before any new command: what it changes of the broker's own facts comes first.
                    let kept = self.sent(&entry).and_then(|sent| sent.plan.own.first().map(|own| own.object));
                    let turn = kept.and_then(|id| self.own_turn(id).try_lock_owned().ok());
                    self.launch(landing, None, Errand::Open(Box::new(entry), turn));
                }
            }
            if last {
                break;
            }
        }
        let count = recovering.len();
        if count > 0 {
            tracing::info!(count, "commands of an earlier life are being settled");
            self.spawn(async move {
                for mut outcome in recovering {
                    // Closed when the command has landed: then its outcome is recorded too.
                    while outcome.changed().await.is_ok() {}
                }
                tracing::info!(count, "the engine's commands of an earlier life are settled");
            });
        }
        Ok(count)
    }

    /// What of an open command may have reached an owner.
    fn sent(&self, entry: &Entry) -> Option<Sent> {
        let step = entry.steps.last().filter(|_| entry.was_sent())?;
        Sent::of(step, self.schema())
    }

    /// Brings an open command to its end.
    pub(crate) async fn resume(&self, entry: Entry, landing: &Landing) -> Outcome {
        let id = entry.intent.id;
        let envelope = pb::Envelope::decode(entry.intent.body.0.as_slice()).ok();
        let command = envelope.and_then(|e| Some((Command::from_pb(self.schema(), &e).ok()?, e)));
        let Some((command, envelope)) = command else {
            tracing::error!(command = %id, "an open command of the journal cannot be read; it stays open");
            return Outcome::Unknown {
                probe: id.to_string(),
                message: "the journal's record of the command cannot be read".to_owned(),
            };
        };
        let command = Command { principal: Arc::clone(&entry.intent.principal), ..command };
        let Some(sent) = self.sent(&entry) else {
            if self.is_own(&command) {
                return self.destroy_on(&entry, &command, envelope, landing).await;
            }
            let outcome = refused(
                Code::Unreachable,
                "the engine restarted before the command was sent; nothing was done",
            );
            return self.conclude(&command, outcome, None, landing).await;
        };
        *landing.owner.lock() = Some(Arc::from(&*sent.agent));
        let outcome = self.settle(id, command.object, &sent.agent).await;
        // Nobody plans it again in this life: its caller is gone, or told that it is not known.
        let outcome = match outcome {
            Outcome::Refused(cause) if cause.code == Code::Changed => refused(
                Code::Busy,
                "the object changed while the engine restarted; nothing was done, try again",
            ),
            other => other,
        };
        self.conclude(&command, outcome, Some(&sent.plan), landing).await
    }
}

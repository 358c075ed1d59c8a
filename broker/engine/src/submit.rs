//! A command's way through the engine.
//!
//! ```text
//! submit ─▶ in flight? joined │ gate ─▶ fly ─▶ in the journal? what is recorded
//!                                        ├─▶ admitted? prepared? ── no ─▶ Refused, recorded
//!                                        ▼
//!    intent + audit + plan + sent: one commit ─▶ perform ─▶ ended │ lost ─▶ settle │ CHANGED ─▶ prepared again
//!    outcome (+ own facts): one commit ─▶ the replica holds it ─▶ told
//! ```

use crate::{
    engine::Engine,
    flight::{Flight, Joined, Landing},
    fly::given_up,
    limits::Permit,
    record,
};
use bytes::Bytes;
use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, sync::Arc};
use store::journal::Entry;
use tokio::{sync::OwnedMutexGuard, time::timeout};
use union::{
    Command,
    command::{Cause, Code, Outcome},
    fail::point,
    pb,
};

/// A submission that was read.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub from: Arc<str>,
    pub command: Command,
    pub envelope: pb::Envelope,
    pub digest: [u8; 32],
    pub grant: Option<pb::SignedGrant>,
}

/// Why a command flies.
#[derive(Debug)]
pub(crate) enum Errand {
    /// It was submitted.
    Submitted(Box<Asked>),
    /// It is a part of one that was admitted in an earlier life of the engine.
    Owed(Box<Asked>),
    /// The journal has it and it is not settled; with its turn at what the broker keeps of its object.
    Open(Box<Entry>, Option<OwnedMutexGuard<()>>),
}

impl Engine {
    /// Takes a command and waits for its outcome, a while beyond its deadline at most.
    pub(crate) async fn submit(&self, from: &str, body: &Bytes) -> Outcome {
        let asked = match self.read_submission(from, body) {
            Ok(asked) => asked,
            Err(cause) => return Outcome::Refused(cause),
        };
        let (id, deadline_ms) = (asked.command.id, asked.command.deadline_ms);
        let flight = match self.depart(asked, false) {
            Ok(flight) => flight,
            Err(cause) => return Outcome::Refused(cause),
        };
        let within = self.left(deadline_ms) + self.deps.limits.grace;
        let mut outcome = flight.outcome;
        let ended = timeout(within, outcome.wait_for(Option::is_some)).await;
        let ended = ended.ok().and_then(Result::ok).and_then(|o| o.clone());
        point("engine.before-answer");
        ended.unwrap_or_else(|| Outcome::Unknown {
            probe: id.to_string(),
            message: "it is not yet known what became of the command; the engine goes on asking".to_owned(),
        })
    }

    fn read_submission(&self, from: &str, body: &Bytes) -> Result<Asked, Cause> {
        let submission: pb::Submission = record::read(body, "a command")?;
        let envelope = submission
            .envelope
            .ok_or_else(|| Cause::new(Code::InvalidArgument, "a submission without a command"))?;
        let command = Command::from_pb(self.schema(), &envelope)
            .map_err(|error| Cause::new(Code::InvalidArgument, error.to_string()))?;
        let digest = record::digest(&envelope);
        Ok(Asked { from: Arc::from(from), command, envelope, digest, grant: submission.grant })
    }

    /// Puts a command on its way, or finds it there. `owed`: its permission was given in an earlier life.
    pub(crate) fn depart(&self, asked: Asked, owed: bool) -> Result<Flight, Cause> {
        let Asked { command, digest, from, .. } = &asked;
        let (flight, landing) = match self.flights.join(command.id, *digest, from, command.object) {
            Joined::Known(flight) if flight.digest == *digest => return Ok(flight),
            Joined::Known(_) => return Err(other_content(command)),
            Joined::Fenced => return Err(given_up(command.id)),
            Joined::New(flight, landing) => (flight, landing),
        };
        if owed {
            self.launch(landing, None, Errand::Owed(Box::new(asked)));
            return Ok(flight);
        }
        let permit = self.gate.enter(from, &self.deps.limits)?;
        point("engine.submitted");
        self.launch(landing, Some(permit), Errand::Submitted(Box::new(asked)));
        Ok(flight)
    }

    /// Lets a command fly to its end, whatever happens to who asked.
    pub(crate) fn launch(&self, landing: Landing, permit: Option<Permit>, errand: Errand) {
        let Some(engine) = self.me.upgrade() else { return };
        self.spawn(async move {
            let fly = async {
                match errand {
                    Errand::Submitted(asked) => engine.fly(*asked, false, &landing).await,
                    Errand::Owed(asked) => engine.fly(*asked, true, &landing).await,
                    Errand::Open(entry, turn) => {
                        let outcome = engine.resume(*entry, &landing).await;
                        drop(turn);
                        outcome
                    }
                }
            };
            let flown = AssertUnwindSafe(fly).catch_unwind().await;
            let outcome = flown.unwrap_or_else(|_| Outcome::Unknown {
                probe: String::new(),
                message: "the engine failed while the command was under way; the log says where".to_owned(),
            });
            landing.tell(outcome);
            drop(permit);
        });
    }
}

fn other_content(command: &Command) -> Cause {
    let message =
        format!("command {} was sent before with another content; a new command needs a new id", command.id);
    Cause::new(Code::InvalidArgument, message)
}

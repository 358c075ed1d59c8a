//! A submitted command, in its caller's hands.

use tokio::sync::watch;
use union::{CommandId, ObjectId, command::Outcome};

/// Waits for a command's outcome. Dropping it does not cancel the command.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The command.
    pub command: CommandId,
    /// Its task, if the caller asked for one.
    pub task: Option<ObjectId>,
    pub(crate) outcome: watch::Receiver<Option<Outcome>>,
}

/// The other end of a [`Ticket`]: says once how its command ended. Dropped without a word: the outcome is unknown.
#[derive(Debug)]
pub struct Ending {
    outcome: watch::Sender<Option<Outcome>>,
}

impl Ending {
    /// The command ended so.
    pub fn end(self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Ticket {
    /// A ticket for a command that is performed elsewhere.
    pub fn open(command: CommandId, task: Option<ObjectId>) -> (Ticket, Ending) {
        let (sender, outcome) = watch::channel(None);
        (Ticket { command, task, outcome }, Ending { outcome: sender })
    }

    /// What became of it. When this returns, the inventory holds the outcome's revision and the task has ended.
    pub async fn outcome(mut self) -> Outcome {
        let ended = self.outcome.wait_for(Option::is_some).await.map(|o| o.clone());
        ended.ok().flatten().unwrap_or_else(|| Outcome::Unknown {
            probe: String::new(),
            message: "the agent stopped before the command ended".to_owned(),
        })
    }

    /// What became of it, if it has ended.
    pub fn now(&self) -> Option<Outcome> {
        self.outcome.borrow().clone()
    }
}

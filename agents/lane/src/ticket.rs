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

impl Ticket {
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

//! What a lane tells a durable store: the intent before the effect, the outcome after it; and what it asks of one that was there before it.
//!
//! ```text
//! known? ─▶ (guards, reread, lower) ─▶ begin ─▶ call ─ answered ─▶ call ─ answered ─▶ … ─▶ ended
//!                  ├─ nothing to do ─▶ already
//!                  └─ refused ─▶ declined
//! after a restart: Unsettled ─▶ looked at, never sent again ─▶ ended
//! ```

use async_trait::async_trait;
use std::{fmt::Debug, sync::Arc};
use union::{
    Command, CommandId, Plan,
    command::{Cause, Outcome},
};

/// A command about to take effect.
#[derive(Debug)]
pub struct Intended<'a> {
    /// The command.
    pub command: &'a Command,
    /// The calls that will be made, with their undo.
    pub plan: &'a Plan,
    /// The engine sent it and keeps its audit; otherwise this agent does.
    pub from_engine: bool,
    /// The target that will be called, by its name in the configuration.
    pub target: &'a str,
}

/// A command whose intent was kept and whose outcome was not: it may have taken effect.
#[derive(Clone, Debug)]
pub struct Unsettled {
    /// The command.
    pub command: Command,
    /// The calls, as they were intended.
    pub plan: Plan,
    /// Whether a call may have been sent; if not, nothing was done, and nothing is looked at.
    pub sent: bool,
    /// How many of the plan's steps are known to have been answered well.
    pub answered: usize,
    /// The target that was called; empty: not known, all are looked at.
    pub target: Arc<str>,
    /// Why it failed, where that is known and its answered steps are still to be taken back.
    pub failed: Option<Cause>,
}

/// What an owner knows of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// It waits or runs.
    Running,
    /// It ended so.
    Ended(Outcome),
}

/// Keeps intents and outcomes.
#[async_trait]
pub trait Recorder: Send + Sync + Debug {
    /// The outcome of a command that ended before, in this life of the agent or an earlier one. Asked when its turn has come.
    ///
    /// # Errors
    /// The cause by which the command is refused: whether it was here before cannot be said.
    async fn known(&self, _command: CommandId) -> Result<Option<Outcome>, Cause> {
        Ok(None)
    }

    /// Keeps the intent, and the audit record where that is this agent's. Durable when it returns; what cannot be kept is not done.
    ///
    /// # Errors
    /// The cause by which the command is refused.
    async fn begin(&self, intended: Intended<'_>) -> Result<(), Cause>;

    /// A step of a plan of several was answered well. Durable when it returns.
    ///
    /// # Errors
    /// The cause by which the rest of the plan is taken back.
    async fn answered(&self, command: CommandId, step: usize) -> Result<(), Cause>;

    /// A command that was begun ended. May be kept a moment later: an outcome that is lost is settled by looking.
    fn ended(&self, command: &Command, outcome: &Outcome);

    /// What became of a command that ended as unknown has been found out: it ends again, so.
    fn found(&self, command: &Command, outcome: &Outcome) {
        self.ended(command, outcome);
    }

    /// A command that finds done what it asks for ends so without having begun. Durable when it returns: nothing else tells of it.
    async fn already(&self, intended: Intended<'_>, outcome: &Outcome) {
        self.declined(intended.command, outcome);
    }

    /// A command ended without having begun: nothing was done.
    fn declined(&self, _command: &Command, _outcome: &Outcome) {}
}

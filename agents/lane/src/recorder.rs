//! What a lane tells a durable store: the intent before the effect, the outcome after it.

use async_trait::async_trait;
use std::fmt::Debug;
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
}

/// Keeps intents and outcomes.
#[async_trait]
pub trait Recorder: Send + Sync + Debug {
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

    /// The command ended. May be kept a moment later: an outcome that is lost is settled by looking.
    fn ended(&self, command: &Command, outcome: &Outcome);
}

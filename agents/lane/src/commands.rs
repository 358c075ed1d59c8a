//! Where a front sends commands: the owner itself, or what decides between it and the engine.

use crate::{Owner, Reply, Ticket};
use async_trait::async_trait;
use std::fmt::Debug;
use union::{Command, CommandId, ObjectId, command::Cause};

/// Takes commands.
#[async_trait]
pub trait Commands: Send + Sync + Debug {
    /// Takes a command. Never waits: what cannot be taken on now is refused now.
    ///
    /// # Errors
    /// The cause, as the caller's protocol will say it.
    fn submit(&self, command: Command, reply: Reply) -> Result<Ticket, Cause>;

    /// Cancels a command that was taken.
    ///
    /// # Errors
    /// The cause: it is not known, has ended, or runs and may not be given up.
    fn cancel(&self, command: CommandId) -> Result<(), Cause>;

    /// Waits until a task will be there after a restart too, or cannot be kept now. Nobody is told a task before.
    async fn kept(&self, task: ObjectId) {
        let _unkept = task;
    }
}

impl Commands for Owner {
    fn submit(&self, command: Command, reply: Reply) -> Result<Ticket, Cause> {
        Owner::submit(self, command, reply)
    }

    fn cancel(&self, command: CommandId) -> Result<(), Cause> {
        Owner::cancel(self, command)
    }
}

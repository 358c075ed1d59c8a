//! The way from the engine to the agents.

use async_trait::async_trait;
use bytes::Bytes;
use std::{fmt::Debug, time::Duration};
use union::command::{Cause, Code};

/// Why a question to an agent has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AgentError {
    /// Nobody listens for it: nothing was sent.
    #[error("the agent is away")]
    Away,
    /// It was sent and is not answered: whether it arrived is not known.
    #[error("the agent did not answer in time")]
    TimedOut,
    /// The agent refused it as a whole: nothing was done.
    #[error("the agent refused: {0}")]
    Refused(Cause),
}

impl AgentError {
    /// As the cause of a command of which nothing was done.
    pub fn cause(&self, agent: &str) -> Cause {
        match self {
            AgentError::Refused(cause) => cause.clone(),
            AgentError::Away => {
                Cause::new(Code::Unreachable, format!("the agent {agent} is away; nothing was done"))
            }
            AgentError::TimedOut => {
                Cause::new(Code::TimedOut, format!("the agent {agent} did not answer in time"))
            }
        }
    }
}

/// What an agent offers, by its hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Its targets: name and protocol.
    pub targets: Vec<(String, String)>,
    /// Its life: greater than the one before.
    pub incarnation: u64,
    /// Its version.
    pub version: String,
}

/// Asks agents.
#[async_trait]
pub trait Agents: Send + Sync + Debug {
    /// The answer to `body` under `verb`, for example `perform`, out of its [`pb::Reply`](union::pb::Reply).
    ///
    /// # Errors
    /// [`AgentError`] says whether it may have arrived.
    async fn ask(&self, agent: &str, verb: &str, body: Bytes, within: Duration) -> Result<Bytes, AgentError>;
}

//! The ways between the engine and agents: over the bus, or next door in the same process.
//!
//! ```text
//! agent of this process ─ NextDoor ─▶ Engine        agents of other machines ─ bus, signed ─▶ engine::bus ─▶ Engine
//! Engine ─ Ways ─┬─ the agent of this process ─▶ Link
//!                └─ any other ─▶ bus, signed
//! ```

use ::link::{Link, LinkError, Verb};
use async_trait::async_trait;
use bytes::Bytes;
use engine::{AgentError, Agents, Engine, unwrap_reply};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// The engine, from the agent of the same process.
#[derive(Debug)]
pub struct NextDoor {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The agent's name.
    pub agent: Arc<str>,
}

#[async_trait]
impl ::link::Engine for NextDoor {
    async fn ask(&self, verb: &Verb, body: Bytes, within: Duration) -> Result<Bytes, LinkError> {
        let word = match verb {
            Verb::Command { kind, verb } => format!("{}.{verb}", kind.word()),
            Verb::Service(service) => service.word().to_owned(),
        };
        let answer = self.engine.answer(&self.agent, &word, body);
        tokio::time::timeout(within, answer).await.map_err(|_| LinkError::TimedOut)
    }
}

/// The agents, from the engine.
#[derive(Debug)]
pub struct Ways {
    /// Those of other processes.
    pub others: Arc<dyn Agents>,
    /// The one of this process, once it is up.
    pub own: OnceLock<(Arc<str>, Arc<Link>)>,
}

#[async_trait]
impl Agents for Ways {
    async fn ask(&self, agent: &str, verb: &str, body: Bytes, within: Duration) -> Result<Bytes, AgentError> {
        match self.own.get() {
            Some((name, link)) if **name == *agent => {
                let answer = tokio::time::timeout(within, link.answer(verb, body)).await;
                let answer = answer.map_err(|_| AgentError::TimedOut)?;
                unwrap_reply(&answer, &union::Schema::base())
            }
            _ => self.others.ask(agent, verb, body, within).await,
        }
    }
}

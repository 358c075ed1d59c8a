//! The network: between the engine and the agents, with all that may happen to a message.
//!
//! ```text
//! ask ─▶ nobody there: Away │ lost │ late │ twice ─▶ the receiver of that moment, if it still lives ─▶ its answer: lost │ late
//! ```

use crate::{life::Life, rng::Rng};
use async_trait::async_trait;
use bytes::Bytes;
use engine::{AgentError, Agents, Engine, unwrap_reply};
use inventory::Inventory;
use link::{Link, LinkError, Router, Verb};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};
use union::Schema;

/// An agent that is up.
#[derive(Clone, Debug)]
pub struct AgentUp {
    /// Its life.
    pub life: Arc<Life>,
    /// Its door.
    pub link: Arc<Link>,
    /// Its facts.
    pub facts: Arc<Inventory>,
    /// What its fronts send commands to.
    pub router: Arc<Router>,
    /// Its lanes.
    pub owner: Arc<lane::Owner>,
    /// Its journal.
    pub journal: Arc<link::Journal>,
}

/// An engine that is up.
#[derive(Clone, Debug)]
pub struct EngineUp {
    /// Its life.
    pub life: Arc<Life>,
    /// Itself.
    pub engine: Arc<Engine>,
    /// Its replica of the facts.
    pub facts: Arc<Inventory>,
}

#[derive(Debug, Default)]
struct State {
    engine: Option<EngineUp>,
    agents: BTreeMap<String, AgentUp>,
    parted: Vec<String>,
    /// In thousandths: a lost request, a lost answer, a doubled request.
    faults: [u64; 3],
}

/// The network.
#[derive(Debug)]
pub struct Net {
    rng: Arc<Rng>,
    schema: Arc<Schema>,
    state: Mutex<State>,
}

/// How a message fares.
struct Way {
    out: Duration,
    back: Duration,
    lost: bool,
    unanswered: bool,
    twice: Option<Duration>,
    late: Option<Duration>,
}

impl Net {
    /// A network without anybody.
    pub fn new(schema: Arc<Schema>, rng: Arc<Rng>) -> Arc<Net> {
        Arc::new(Net { rng, schema, state: Mutex::default() })
    }

    /// How often things go wrong, in thousandths: a lost request, a lost answer, a doubled request.
    pub fn set_faults(&self, faults: [u64; 3]) {
        self.state.lock().faults = faults;
    }

    /// Parts an agent from the engine, or joins them.
    pub fn part(&self, agent: &str, parted: bool) {
        let mut state = self.state.lock();
        state.parted.retain(|other| other != agent);
        if parted {
            state.parted.push(agent.to_owned());
        }
    }

    /// Whether an agent and the engine are parted.
    pub fn is_parted(&self, agent: &str) -> bool {
        self.state.lock().parted.iter().any(|other| other == agent)
    }

    /// The engine comes up.
    pub fn engine_up(&self, up: EngineUp) {
        self.state.lock().engine = Some(up);
    }

    /// An agent comes up.
    pub fn agent_up(&self, name: &str, up: AgentUp) {
        self.state.lock().agents.insert(name.to_owned(), up);
    }

    /// The engine, if it is alive.
    pub fn engine(&self) -> Option<EngineUp> {
        self.state.lock().engine.clone().filter(|up| !up.life.is_over())
    }

    /// An agent, if it is alive.
    pub fn agent(&self, name: &str) -> Option<AgentUp> {
        self.state.lock().agents.get(name).cloned().filter(|up| !up.life.is_over())
    }

    fn way(&self) -> Way {
        let [lost, unanswered, twice] = self.state.lock().faults;
        Way {
            out: self.rng.ms(0, 20),
            back: self.rng.ms(0, 20),
            lost: self.rng.chance(lost),
            unanswered: self.rng.chance(unanswered),
            twice: self.rng.chance(twice).then(|| self.rng.ms(1, 300)),
            // What counts as lost may come all the same, when nobody waits for it any more.
            late: self.rng.chance(500).then(|| self.rng.ms(300, 8_000)),
        }
    }

    /// Carries a question to a receiver that lives in `to`. `None`: no answer came within that time.
    async fn carry<F>(
        &self,
        to: Arc<Life>,
        within: Duration,
        ask: impl Fn() -> F + Send + Sync + 'static,
    ) -> Option<Bytes>
    where
        F: Future<Output = Bytes> + Send + 'static,
    {
        let way = self.way();
        let ask = Arc::new(ask);
        let later = if way.lost { way.late } else { way.twice };
        if let Some(later) = later {
            let (ask, to, out) = (Arc::clone(&ask), Arc::clone(&to), way.out);
            tokio::spawn(async move {
                sleep(out + later).await;
                if !to.is_over() {
                    ask().await;
                }
            });
        }
        let asked = tokio::spawn(async move {
            sleep(way.out).await;
            if way.lost || to.is_over() {
                return None;
            }
            let answer = ask().await;
            sleep(way.back).await;
            (!way.unanswered && !to.is_over()).then_some(answer)
        });
        match timeout(within, asked).await {
            Ok(Ok(Some(answer))) => Some(answer),
            Ok(_) => {
                // It will not come; who asked does not know that.
                sleep(within).await;
                None
            }
            Err(_) => None,
        }
    }
}

/// The way from an agent to the engine.
#[derive(Debug)]
pub struct ToEngine {
    /// The network.
    pub net: Arc<Net>,
    /// Who asks.
    pub agent: String,
    /// In which life.
    pub life: Arc<Life>,
}

#[async_trait]
impl link::Engine for ToEngine {
    async fn ask(&self, verb: &Verb, body: Bytes, within: Duration) -> Result<Bytes, LinkError> {
        self.life.alive().await;
        let Some(up) = self.net.engine().filter(|_| !self.net.is_parted(&self.agent)) else {
            return Err(LinkError::Away("nobody listens".to_owned()));
        };
        let (engine, agent, verb) = (up.engine, self.agent.clone(), verb.word().into_owned());
        let ask = move || {
            let (engine, agent, verb, body) =
                (Arc::clone(&engine), agent.clone(), verb.clone(), body.clone());
            async move { engine.answer(&agent, &verb, body).await }
        };
        let answer = self.net.carry(up.life, within, ask).await;
        self.life.alive().await;
        answer.ok_or(LinkError::TimedOut)
    }
}

/// The way from the engine to the agents.
#[derive(Debug)]
pub struct ToAgents {
    /// The network.
    pub net: Arc<Net>,
    /// The engine's life.
    pub life: Arc<Life>,
}

#[async_trait]
impl Agents for ToAgents {
    async fn ask(&self, agent: &str, verb: &str, body: Bytes, within: Duration) -> Result<Bytes, AgentError> {
        self.life.alive().await;
        let Some(up) = self.net.agent(agent).filter(|_| !self.net.is_parted(agent)) else {
            return Err(AgentError::Away);
        };
        let (link, verb) = (up.link, verb.to_owned());
        let ask = move || {
            let (link, verb, body) = (Arc::clone(&link), verb.clone(), body.clone());
            async move { link.answer(&verb, body).await }
        };
        let answer = self.net.carry(up.life, within, ask).await;
        self.life.alive().await;
        unwrap_reply(&answer.ok_or(AgentError::TimedOut)?, &self.net.schema)
    }
}

//! The network: between the engine and the agents, with all that may happen to a message.
//!
//! ```text
//! ask ─▶ nobody there: Away │ lost │ late │ twice ─▶ the receiver of that moment, if it still lives ─▶ its answer: lost │ late
//! ```
//!
//! What comes late, or a second time, comes to whoever lives then under that name.

use crate::{authority::Numbers, check::Watch, flaw::Flaw, life::Life, rng::Rng, world::AGENTS};
use async_trait::async_trait;
use bytes::Bytes;
use engine::{AgentError, Agents, Engine, unwrap_reply};
use inventory::Inventory;
use link::{Joined, LinkError, Router, Verb};
use parking_lot::Mutex;
use prost::Message;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};
use union::{Ids, Schema, pb};

/// How long an agent may take to note that another engine has welcomed it.
const NOTED: Duration = Duration::from_millis(100);

/// An agent that is up.
#[derive(Clone, Debug)]
pub struct AgentUp {
    /// Its life.
    pub life: Arc<Life>,
    /// Its side of the link: its door, its sessions, its journal.
    pub joined: Arc<Joined>,
    /// Its facts.
    pub facts: Arc<Inventory>,
    /// What its fronts send commands to.
    pub router: Arc<Router>,
    /// Its lanes.
    pub owner: Arc<lane::Owner>,
}

/// An engine that is up.
#[derive(Clone, Debug)]
pub struct EngineUp {
    /// Its life.
    pub life: Arc<Life>,
    /// Itself.
    pub engine: Arc<Engine>,
    /// Who may do what.
    pub authority: Arc<guard::Authority>,
    /// Its id map.
    pub numbers: Arc<Numbers>,
    /// Its replica of the facts.
    pub facts: Arc<Inventory>,
}

#[derive(Debug, Default)]
struct State {
    engine: Option<EngineUp>,
    agents: BTreeMap<String, AgentUp>,
    parted: Vec<String>,
    /// Since when everybody is up and nobody is parted.
    calm: Option<Instant>,
    /// By agent, the highest epoch of an engine that has welcomed it in this life, and when.
    welcomed: BTreeMap<String, (u64, Instant)>,
    /// In thousandths: a lost request, a lost answer, a doubled request.
    faults: [u64; 3],
}

/// The network.
#[derive(Debug)]
pub struct Net {
    rng: Arc<Rng>,
    schema: Arc<Schema>,
    watch: Arc<Watch>,
    flaw: Option<Flaw>,
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
    pub fn new(schema: Arc<Schema>, rng: Arc<Rng>, watch: Arc<Watch>, flaw: Option<Flaw>) -> Arc<Net> {
        Arc::new(Net { rng, schema, watch, flaw, state: Mutex::default() })
    }

    /// Whether everybody has been up, and nobody parted, for so long.
    pub fn is_calm(&self, long: Duration) -> bool {
        self.state.lock().calm.is_some_and(|since| since.elapsed() >= long)
    }

    /// Somebody is no longer up or reachable, or is again.
    pub fn stir(&self) {
        let all = self.engine().is_some() && AGENTS.iter().all(|name| self.agent(name).is_some());
        let mut state = self.state.lock();
        state.calm = (all && state.parted.is_empty()).then(Instant::now);
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
        drop(state);
        self.stir();
    }

    /// Whether an agent and the engine are parted.
    pub fn is_parted(&self, agent: &str) -> bool {
        self.state.lock().parted.iter().any(|other| other == agent)
    }

    /// The engine comes up.
    pub fn engine_up(&self, up: EngineUp) {
        self.state.lock().engine = Some(up);
        self.stir();
    }

    /// An agent comes up.
    pub fn agent_up(&self, name: &str, up: AgentUp) {
        let mut state = self.state.lock();
        state.agents.insert(name.to_owned(), up);
        state.welcomed.remove(name);
        drop(state);
        self.stir();
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

    /// Carries a question to a receiver that lives in `to`; `ask` is told whether it comes late, to whoever is there then. `None`: no
    /// answer came within that time.
    async fn carry<F>(
        &self,
        to: Arc<Life>,
        within: Duration,
        ask: impl Fn(bool) -> F + Send + Sync + 'static,
    ) -> Option<Bytes>
    where
        F: Future<Output = Bytes> + Send + 'static,
    {
        let way = self.way();
        let ask = Arc::new(ask);
        let later = if way.lost { way.late } else { way.twice };
        if let Some(later) = later {
            let (ask, out) = (Arc::clone(&ask), way.out);
            tokio::spawn(async move {
                sleep(out + later).await;
                ask(true).await;
            });
        }
        let asked = tokio::spawn(async move {
            sleep(way.out).await;
            if way.lost || to.is_over() {
                return None;
            }
            let answer = ask(false).await;
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
        self.net.watch.tell(|| format!("{agent} asks the engine to {verb}"));
        let hello = verb == "hello";
        let net = Arc::clone(&self.net);
        let ask = move |late| {
            let (agent, verb, body) = (agent.clone(), verb.clone(), body.clone());
            let engine = match late {
                false => Some(Arc::clone(&engine)),
                true => net.engine().filter(|_| !net.is_parted(&agent)).map(|up| up.engine),
            };
            async move {
                match engine {
                    Some(engine) => engine.answer(&agent, &verb, body).await,
                    None => Bytes::new(),
                }
            }
        };
        let answer = self.net.carry(up.life, within, ask).await;
        self.life.alive().await;
        if let Some(answer) = answer.as_ref().filter(|_| hello) {
            self.net.welcomed(&self.agent, answer);
        }
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
        let (net, link, agent, verb) =
            (Arc::clone(&self.net), Arc::clone(&up.joined.link), agent.to_owned(), verb.to_owned());
        net.watch.tell(|| format!("the engine asks {agent} to {verb}"));
        let ask = move |again| {
            let (net, agent) = (Arc::clone(&net), agent.clone());
            let (verb, body) = (verb.clone(), body.clone());
            let link = match again {
                false => Some(Arc::clone(&link)),
                true => {
                    net.agent(&agent).filter(|_| !net.is_parted(&agent)).map(|up| Arc::clone(&up.joined.link))
                }
            };
            async move {
                let Some(link) = link else { return Bytes::new() };
                if verb != "perform" {
                    return link.answer(&verb, body).await;
                }
                let (body, past) = net.passing(&agent, body, again);
                let answer = link.answer(&verb, body).await;
                if past && unwrap_reply(&answer, &net.schema).is_ok() {
                    net.watch.broken(format!("{agent} did what an engine of the past had sent"));
                }
                answer
            }
        };
        let answer = self.net.carry(up.life, within, ask).await;
        self.life.alive().await;
        unwrap_reply(&answer.ok_or(AgentError::TimedOut)?, &self.net.schema)
    }
}

impl Net {
    /// An engine welcomes an agent.
    fn welcomed(&self, agent: &str, answer: &Bytes) {
        let Ok(welcome) = unwrap_reply(answer, &self.schema) else { return };
        let epoch = pb::Welcome::decode(&*welcome).map_or(0, |welcome| welcome.engine_epoch);
        let mut state = self.state.lock();
        if state.welcomed.get(agent).is_none_or(|(seen, _)| *seen < epoch) {
            state.welcomed.insert(agent.to_owned(), (epoch, Instant::now()));
        }
    }

    /// A plan that arrives at an agent, and whether it is of an engine before the one that has welcomed the agent.
    fn passing(&self, agent: &str, body: Bytes, again: bool) -> (Bytes, bool) {
        let Ok(mut perform) = pb::Perform::decode(&*body) else { return (body, false) };
        let welcomed = self.state.lock().welcomed.get(agent).copied();
        // It takes a moment until the agent has noted it.
        let present = welcomed.filter(|(_, at)| at.elapsed() >= NOTED).map_or(0, |(epoch, _)| epoch);
        let past = perform.engine_epoch < present;
        match &mut perform.envelope {
            Some(envelope) if again && self.flaw == Some(Flaw::Renumbers) => {
                envelope.command_id = self.rng.uuid().to_string();
            }
            _ => return (body, past),
        }
        (Bytes::from(perform.encode_to_vec()), past)
    }
}

//! What `hyperglot ctl` asks a running broker, on `service.control-<domain>.ask`. Only the installation's own account may publish there.

use crate::{
    ctl_mapping::{MappingAnswer, MappingAsk},
    engine_room::EngineRoom,
    join::{self, Token},
    pushes::Pushes,
};
use bus::{Bus, BusError, Headers, NatsChild, Request as Question, Subject};
use guard::authority::admin;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use union::{Clock, Ids};

/// Questions that may wait.
const QUEUE: usize = 64;
/// Questions that are answered at a time.
pub const ASKING: usize = 8;

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Users, roles, scopes, sessions, audit.
    Admin {
        /// Who asks, for the audit.
        by: String,
        /// What.
        request: admin::Request,
    },
    /// A token for a new agent, or one that lost its keys.
    AgentToken {
        /// Its name.
        name: String,
        /// How long it may be used, seconds.
        valid_s: u64,
    },
    /// Who has joined.
    AgentList,
    /// An agent is sent away.
    AgentRemove {
        /// Its name.
        name: String,
    },
    /// The mappings in force.
    Mapping(MappingAsk),
}

/// An agent, listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentLine {
    /// Its name.
    pub name: String,
    /// When it joined, Unix milliseconds.
    pub joined_ms: i64,
    /// When the engine heard it last in this life, Unix milliseconds.
    pub heard_ms: Option<i64>,
    /// Whether its facts are not up to date.
    pub lost: bool,
    /// Its public key.
    pub key: String,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Users, roles, scopes, sessions, audit.
    Admin(admin::Response),
    /// A token.
    Token(String),
    /// Who has joined.
    Agents(Vec<AgentLine>),
    /// The mappings in force.
    Mapping(MappingAnswer),
    /// It is done.
    Done(String),
    /// It was refused, and nothing was changed.
    Refused(String),
}

/// Answers.
pub struct CtlDesk {
    /// The engine.
    pub room: Arc<EngineRoom>,
    /// The bus's server, if it is ours.
    pub child: Option<Arc<NatsChild>>,
    /// The domain.
    pub domain: Arc<str>,
    /// The host by which agents reach the bus.
    pub advertised: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub ids: Arc<dyn Ids>,
    /// The authority's certificate, PEM.
    pub ca: String,
    /// Takes mappings.
    pub pushes: Pushes,
    /// Questions that may be answered at a time.
    pub asking: Arc<Semaphore>,
}

/// Where it is asked.
pub fn subject(domain: &str) -> Result<Subject, BusError> {
    Subject::service(&format!("control-{domain}"), "ask")
}

impl CtlDesk {
    /// Answers until the bus closes.
    pub async fn open(self: Arc<Self>, bus: &Arc<dyn Bus>) -> Result<(), BusError> {
        let mut questions = bus.serve(&subject(&self.domain)?.into(), QUEUE).await?;
        tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                let desk = Arc::clone(&self);
                let answering = async move { desk.reply(question).await };
                // What waits for agents keeps nobody else waiting.
                match Arc::clone(&self.asking).try_acquire_owned() {
                    Ok(room) => drop(tokio::spawn(async move {
                        answering.await;
                        drop(room);
                    })),
                    Err(_) => answering.await,
                }
            }
        });
        Ok(())
    }

    async fn reply(&self, question: Question) {
        let answer = match serde_json::from_slice(&question.message.payload) {
            Ok(ask) => self.answer(ask).await,
            // The error's text would quote the question, which may hold a hash.
            Err(e) => Answer::Refused(format!(
                "the question cannot be read at column {}: ctl and broker must be of one version",
                e.column()
            )),
        };
        let body = serde_json::to_vec(&answer).unwrap_or_default();
        if let Err(e) = question.reply(Headers::new(), body.into()).await {
            tracing::debug!(error = %e, "an answer to ctl did not leave");
        }
    }

    async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Admin { by, request } => Answer::Admin(self.room.authority.admin(&by, request).await),
            Ask::AgentToken { name, valid_s } => {
                self.token(&name, valid_s).await.map_or_else(Answer::Refused, Answer::Token)
            }
            Ask::Mapping(ask) => Answer::Mapping(self.pushes.answer(&self.room, ask).await),
            Ask::AgentList => self.agents().await.map_or_else(Answer::Refused, Answer::Agents),
            Ask::AgentRemove { name } => self.remove(&name).await.map_or_else(Answer::Refused, Answer::Done),
        }
    }

    async fn token(&self, name: &str, valid_s: u64) -> Result<String, String> {
        let Some(child) = &self.child else {
            return Err("the bus is a NATS of your own: make the agent's account there, and give it agent.json by hand".to_owned());
        };
        let room = &self.room;
        if room.ways.own.get().is_some_and(|(own, _)| **own == *name) {
            return Err(format!(
                "{name} is the broker's own agent, called after its machine: give the new agent another name, for example {name}-hosts"
            ));
        }
        let secret = join::invite(
            &room.members,
            name,
            Duration::from_secs(valid_s),
            self.clock.as_ref(),
            self.ids.as_ref(),
            room.epoch,
        )
        .await?;
        let tls = child.speaks_tls();
        let token = Token {
            url: format!("{}://{}:{}", if tls { "tls" } else { "nats" }, self.advertised, child.port()),
            password: child.join_password().to_owned(),
            domain: self.domain.to_string(),
            secret,
            ca: tls.then(|| self.ca.clone()),
        };
        token.write().map_err(|e| e.to_string())
    }

    async fn agents(&self) -> Result<Vec<AgentLine>, String> {
        let members = self.room.members.members().await.map_err(|e| e.to_string())?;
        let heard = self.room.engine.heard();
        let line = |m: store::agents::Member| AgentLine {
            heard_ms: heard.iter().find(|(name, _)| *name == m.name).map(|(_, at)| *at),
            lost: self.room.fleet.is_lost(&m.name),
            name: m.name.to_string(),
            joined_ms: m.joined_ms,
            key: m.nkey.to_string(),
        };
        Ok(members.into_iter().map(line).collect())
    }

    async fn remove(&self, name: &str) -> Result<String, String> {
        match self.room.remove(name, self.child.as_deref()).await {
            Ok(true) => Ok(format!(
                "{name} is no agent of this domain any more; its facts stay until they are forgotten"
            )),
            Ok(false) => Err(format!("there is no agent {name}; `hyperglot ctl agent list` shows them")),
            Err(e) => Err(e.to_string()),
        }
    }
}

//! Tells agents which sessions have ended and which grants are new.
//!
//! ```text
//! authority ─ told, never waits ─▶ queue ─▶ run: gathered by agent ─▶ one message at a time to each, all agents at once
//!     Away, TimedOut, Busy ──▶ again, until it hears or is no longer one of the agents that are up
//! ```
//!
//! An agent whose connection broke for a moment does not say hello again, so it is told when it can be reached; one that starts anew hears all
//! of it with its hello, and may hear it twice. One agent that is slow holds up nobody else's news. Limits: [`QUEUED`] notices wait, and as many for each agent; one more is logged
//! and left out. A command of a session that has ended is refused by the engine whatever an agent thinks.

use crate::{AgentError, Agents};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use guard::{Grant, authority::Told};
use parking_lot::Mutex;
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;
use union::{command::Code, pb};

/// Notices that wait.
pub const QUEUED: usize = 65_536;
/// Ended sessions in one message.
const AT_ONCE: usize = 256;
/// Bytes of grants in one message: the bus takes 1 MiB.
const BYTES: usize = 512 * 1_024;
const WITHIN: Duration = Duration::from_secs(5);
/// After how many tries in vain it is said each time.
const LOUD: u32 = 12;
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Queue {
    ended: BTreeSet<String>,
    /// By agent and session.
    granted: BTreeMap<(String, String), pb::SignedGrant>,
}

impl Queue {
    fn len(&self) -> usize {
        self.ended.len() + self.granted.len()
    }

    /// Whether there is room; it is said if not.
    fn has_room(&self) -> bool {
        let room = self.len() < QUEUED;
        if !room {
            tracing::error!(
                waiting = self.len(),
                "agents are not told of a change of sessions: too many wait"
            );
        }
        room
    }

    fn end(&mut self, sessions: &BTreeSet<String>) {
        for session in sessions {
            self.granted.retain(|(_, of), _| of != session);
            if self.has_room() {
                self.ended.insert(session.clone());
            }
        }
    }

    fn grant(&mut self, at: (String, String), grant: pb::SignedGrant) {
        if self.has_room() {
            self.granted.insert(at, grant);
        }
    }

    /// What one agent is told.
    fn messages(self) -> Vec<(&'static str, Bytes)> {
        let ended: Vec<String> = self.ended.into_iter().collect();
        let revoke = |some: &[String]| pb::Revoke { session_ids: some.to_vec() };
        let mut messages: Vec<_> =
            ended.chunks(AT_ONCE).map(|some| ("revoke", Bytes::from(revoke(some).encode_to_vec()))).collect();
        let mut renewed = pb::Renewed::default();
        for grant in self.granted.into_values() {
            if renewed.encoded_len() + grant.encoded_len() > BYTES && !renewed.grants.is_empty() {
                messages.push(("grants", Bytes::from(std::mem::take(&mut renewed).encode_to_vec())));
            }
            renewed.grants.push(grant);
        }
        if !renewed.grants.is_empty() {
            messages.push(("grants", Bytes::from(renewed.encode_to_vec())));
        }
        messages
    }
}

/// Who is there to be told.
type Names = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// Tells agents.
pub struct Herald {
    agents: Arc<dyn Agents>,
    names: Names,
    queue: Mutex<Queue>,
    news: Notify,
}

impl fmt::Debug for Herald {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Herald").field("waiting", &self.queue.lock().len()).finish_non_exhaustive()
    }
}

impl Told for Herald {
    fn ended(&self, session: &str) {
        self.put(|queue| queue.end(&BTreeSet::from([session.to_owned()])));
    }

    fn granted(&self, agent: &str, grant: &Grant) {
        self.put(|queue| {
            let at = (agent.to_owned(), grant.content.session_id.clone());
            queue.grant(at, grant.signed.clone());
        });
    }
}

impl Herald {
    /// Nothing to tell yet. `names` are the agents that are up.
    pub fn new(
        agents: Arc<dyn Agents>,
        names: impl Fn() -> Vec<String> + Send + Sync + 'static,
    ) -> Arc<Herald> {
        Arc::new(Herald { agents, names: Box::new(names), queue: Mutex::default(), news: Notify::new() })
    }

    fn put(&self, put: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        put(&mut queue);
        drop(queue);
        self.news.notify_one();
    }

    /// Tells for as long as the future is polled.
    pub async fn run(self: Arc<Self>) {
        let mut waiting: BTreeMap<String, Queue> = BTreeMap::new();
        let mut telling = FuturesUnordered::new();
        let mut told = BTreeSet::new();
        loop {
            tokio::select! {
                biased;
                Some(agent) = telling.next(), if !telling.is_empty() => drop(told.remove(&agent)),
                () = self.news.notified() => {}
            }
            let news = std::mem::take(&mut *self.queue.lock());
            if !news.ended.is_empty() {
                for agent in (self.names)() {
                    waiting.entry(agent).or_default().end(&news.ended);
                }
            }
            for ((agent, session), grant) in news.granted {
                waiting.entry(agent.clone()).or_default().grant((agent, session), grant);
            }
            // Each agent hears one message after the other, and none waits for another agent.
            while let Some(agent) = waiting.keys().find(|agent| !told.contains(*agent)).cloned() {
                let Some(queue) = waiting.remove(&agent) else { break };
                told.insert(agent.clone());
                telling.push(self.tell(agent, queue.messages()));
            }
        }
    }

    /// In order; one that is slow or away is asked until it hears. Who was told.
    async fn tell(&self, agent: String, messages: Vec<(&'static str, Bytes)>) -> String {
        for (verb, body) in messages {
            let mut tries = 0_u32;
            loop {
                tries += 1;
                match self.agents.ask(&agent, verb, body.clone(), WITHIN).await {
                    Ok(_) => break,
                    Err(AgentError::Away) => {
                        if !(self.names)().contains(&agent) {
                            return agent;
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(AgentError::Refused(cause)) if cause.code != Code::Busy => {
                        tracing::error!(agent, verb, %cause, "an agent refuses news of its sessions");
                        return agent;
                    }
                    Err(error) => {
                        if tries.is_multiple_of(LOUD) {
                            tracing::error!(agent, verb, %error, tries, "an agent does not take news of its sessions; it is told again");
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
        agent
    }
}

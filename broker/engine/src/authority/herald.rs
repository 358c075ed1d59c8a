//! Tells agents which sessions have ended and which grants are new.
//!
//! ```text
//! authority ─ told, never waits ─▶ queue ─▶ run: gathered, one message an agent ─▶ agents
//!     an agent that is away hears it when it says hello ◀── Away       TimedOut, Busy ──▶ again, for a minute
//! ```
//!
//! One agent that is slow holds up the news of the others for at most a minute. Limits: [`QUEUED`] notices wait; one more is logged and
//! left out. A command of a session that has ended is refused by the engine whatever an agent thinks.

use crate::{AgentError, Agents};
use bytes::Bytes;
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
const TRIES: u32 = 12;
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
        self.put(|queue| {
            queue.granted.retain(|(_, of), _| of != session);
            queue.ended.insert(session.to_owned());
        });
    }

    fn granted(&self, agent: &str, grant: &Grant) {
        self.put(|queue| {
            let at = (agent.to_owned(), grant.content.session_id.clone());
            queue.granted.insert(at, grant.signed.clone());
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
        if queue.len() >= QUEUED {
            tracing::error!(
                waiting = queue.len(),
                "agents are not told of a change of sessions: too many wait"
            );
            return;
        }
        put(&mut queue);
        drop(queue);
        self.news.notify_one();
    }

    /// Tells for as long as the future is polled.
    pub async fn run(self: Arc<Self>) {
        loop {
            let news = std::mem::take(&mut *self.queue.lock());
            if news.len() == 0 {
                self.news.notified().await;
                continue;
            }
            let mut to: BTreeMap<String, Vec<(&'static str, Bytes)>> = BTreeMap::new();
            let ended: Vec<String> = news.ended.into_iter().collect();
            for agent in (self.names)() {
                let messages = ended.chunks(AT_ONCE).map(|some| {
                    let revoke = pb::Revoke { session_ids: some.to_vec() };
                    ("revoke", Bytes::from(revoke.encode_to_vec()))
                });
                to.entry(agent).or_default().extend(messages);
            }
            let mut granted: BTreeMap<String, Vec<pb::SignedGrant>> = BTreeMap::new();
            for ((agent, _), grant) in news.granted {
                granted.entry(agent).or_default().push(grant);
            }
            for (agent, grants) in granted {
                let messages = to.entry(agent).or_default();
                let mut renewed = pb::Renewed::default();
                for grant in grants {
                    if renewed.encoded_len() + grant.encoded_len() > BYTES && !renewed.grants.is_empty() {
                        messages.push(("grants", Bytes::from(std::mem::take(&mut renewed).encode_to_vec())));
                    }
                    renewed.grants.push(grant);
                }
                messages.push(("grants", Bytes::from(renewed.encode_to_vec())));
            }
            let telling = to.into_iter().map(|(agent, messages)| self.tell(agent, messages));
            futures_util::future::join_all(telling).await;
        }
    }

    /// In order; one that is slow is asked again, one that is away hears it when it comes.
    async fn tell(&self, agent: String, messages: Vec<(&'static str, Bytes)>) {
        for (verb, body) in messages {
            let mut tries = 0;
            loop {
                tries += 1;
                match self.agents.ask(&agent, verb, body.clone(), WITHIN).await {
                    Ok(_) => break,
                    Err(AgentError::Away) => return,
                    Err(AgentError::Refused(cause)) if cause.code != Code::Busy => {
                        tracing::error!(agent, verb, %cause, "an agent refuses news of its sessions");
                        return;
                    }
                    Err(error) if tries >= TRIES => {
                        tracing::error!(agent, verb, %error, "an agent does not take news of its sessions");
                        return;
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        }
    }
}

//! Where the authority keeps what must survive: rows of people, sessions, the audit. The engine's store is behind it, or memory.

use async_trait::async_trait;
use parking_lot::Mutex;
use std::{collections::BTreeMap, fmt::Debug, sync::Arc};
use union::{CommandId, Kind, ObjectId};
use uuid::Uuid;

/// A session as it is kept, under the SHA-256 of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is called in lists.
    pub id: Uuid,
    /// Whose.
    pub principal: Arc<str>,
    /// In which protocol.
    pub protocol: Arc<str>,
    /// From where.
    pub remote: Arc<str>,
    /// When it began, Unix milliseconds.
    pub created_ms: i64,
    /// When it was last used.
    pub active_ms: i64,
    /// When it ends by itself.
    pub expires_ms: i64,
    /// When it was revoked; 0: it was not.
    pub revoked_ms: i64,
    /// The bundle it began with.
    pub bundle: Arc<str>,
    /// The agents where it began or was resumed.
    pub agents: Vec<Arc<str>>,
}

/// One entry of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Who.
    pub principal: Arc<str>,
    /// In which session.
    pub session: Arc<str>,
    /// From where: an address, or an agent.
    pub remote: Arc<str>,
    /// The union command, or for example `Login`.
    pub verb: Arc<str>,
    /// On what.
    pub object: Option<ObjectId>,
    /// By which command.
    pub command: Option<CommandId>,
    /// Allowed, or why not, or what came of it.
    pub verdict: Arc<str>,
    /// More, as JSON; without secrets.
    pub detail: String,
}

/// What to look for in the audit; everything that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Who.
    pub principal: Option<Arc<str>>,
    /// On which kind of object.
    pub kind: Option<Kind>,
    /// On which object.
    pub object: Option<ObjectId>,
    /// Not before, Unix milliseconds.
    pub from_ms: Option<i64>,
    /// Before, Unix milliseconds.
    pub to_ms: Option<i64>,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A row of people, or its end.
    Person(String, Option<Vec<u8>>),
    /// A session, or its end, by the hash of its key.
    Session([u8; 32], Option<Kept>),
    /// An entry for the audit.
    Audit(Entry),
}

/// What there was at the start.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The rows of people.
    pub people: Vec<(String, Vec<u8>)>,
    /// The sessions, by the hash of their keys.
    pub sessions: Vec<([u8; 32], Kept)>,
}

/// The store said no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeepError(pub String);

/// Where in the audit chain something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// At which entry.
    pub seq: u64,
    /// What.
    pub what: String,
}

/// Keeps what must survive.
#[async_trait]
pub trait Keep: Send + Sync + Debug {
    /// Everything there is.
    async fn load(&self) -> Result<Loaded, KeepError>;

    /// Writes all of it, or nothing; durable when it returns.
    async fn write(&self, writes: Vec<Write>) -> Result<(), KeepError>;

    /// Entries that hold, the newest first, of those before number `before`.
    async fn search(
        &self,
        filter: &Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Entry)>, KeepError>;

    /// Follows the audit chain: the number of entries, or the first that is wrong.
    async fn verify(&self) -> Result<Result<u64, Break>, KeepError>;
}

impl Filter {
    /// Whether an entry is looked for.
    pub fn holds(&self, entry: &Entry) -> bool {
        self.principal.as_ref().is_none_or(|p| *p == entry.principal)
            && self.kind.is_none_or(|k| entry.object.is_some_and(|o| o.kind == k))
            && self.object.is_none_or(|o| entry.object == Some(o))
            && self.from_ms.is_none_or(|t| entry.at_ms >= t)
            && self.to_ms.is_none_or(|t| entry.at_ms < t)
    }
}

#[derive(Debug, Default)]
struct Rows {
    people: BTreeMap<String, Vec<u8>>,
    sessions: BTreeMap<[u8; 32], Kept>,
    audit: Vec<Entry>,
    refuses: bool,
}

/// Keeps it in memory, for tests and for a process that is to forget. Its audit cannot be tampered with from outside.
#[derive(Clone, Debug, Default)]
pub struct MemoryKeep {
    rows: Arc<Mutex<Rows>>,
}

impl MemoryKeep {
    /// Nothing kept.
    pub fn new() -> MemoryKeep {
        MemoryKeep::default()
    }

    /// Refuses every write from now on, as a full disk does, or none.
    pub fn refuse(&self, refuses: bool) {
        self.rows.lock().refuses = refuses;
    }

    /// The audit, oldest first.
    pub fn audit(&self) -> Vec<Entry> {
        self.rows.lock().audit.clone()
    }
}

#[async_trait]
impl Keep for MemoryKeep {
    async fn load(&self) -> Result<Loaded, KeepError> {
        let rows = self.rows.lock();
        Ok(Loaded {
            people: rows.people.clone().into_iter().collect(),
            sessions: rows.sessions.clone().into_iter().collect(),
        })
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), KeepError> {
        let mut rows = self.rows.lock();
        if rows.refuses {
            return Err(KeepError("the store takes no writes".to_owned()));
        }
        for write in writes {
            match write {
                Write::Person(key, Some(value)) => drop(rows.people.insert(key, value)),
                Write::Person(key, None) => drop(rows.people.remove(&key)),
                Write::Session(key, Some(session)) => drop(rows.sessions.insert(key, session)),
                Write::Session(key, None) => drop(rows.sessions.remove(&key)),
                Write::Audit(entry) => rows.audit.push(entry),
            }
        }
        Ok(())
    }

    async fn search(
        &self,
        filter: &Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Entry)>, KeepError> {
        let rows = self.rows.lock();
        let numbered = rows.audit.iter().enumerate().rev().map(|(at, entry)| (at as u64 + 1, entry));
        let wanted = numbered.filter(|(seq, entry)| before.is_none_or(|b| *seq < b) && filter.holds(entry));
        Ok(wanted.take(limit).map(|(seq, entry)| (seq, entry.clone())).collect())
    }

    async fn verify(&self) -> Result<Result<u64, Break>, KeepError> {
        Ok(Ok(u64::try_from(self.rows.lock().audit.len()).unwrap_or(u64::MAX)))
    }
}

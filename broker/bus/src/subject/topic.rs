//! Topics: subjects read back into their parts.

use super::{Subject, unescape};

/// A subject of the table, its tokens unescaped. The constructors of [`Subject`] go the other way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// `event.<domain>.<kind>.<id>.<what>`
    Event {
        /// The domain.
        domain: String,
        /// The kind of object.
        kind: String,
        /// The object's union id.
        id: String,
        /// What happened, past tense.
        what: String,
    },
    /// `metric.<domain>.<kind>.<id>`
    Metric {
        /// The domain.
        domain: String,
        /// The kind of object.
        kind: String,
        /// The object's union id.
        id: String,
    },
    /// `task.<domain>.<id>`
    Task {
        /// The domain.
        domain: String,
        /// The task's id.
        id: String,
    },
    /// `audit.<domain>.<principal>`
    Audit {
        /// The domain.
        domain: String,
        /// Who acted.
        principal: String,
    },
    /// `console.<domain>.<console>.<what>`
    Console {
        /// The domain.
        domain: String,
        /// The console's id.
        console: String,
        /// What happened.
        what: String,
    },
    /// `cmd.<domain>.<kind>.<verb>`
    Cmd {
        /// The domain.
        domain: String,
        /// The kind of object.
        kind: String,
        /// The command's verb.
        verb: String,
    },
    /// `agent.<domain>.<agent>.<verb>`
    Agent {
        /// The domain.
        domain: String,
        /// The agent's id.
        agent: String,
        /// What it is asked.
        verb: String,
    },
    /// `inventory.<domain>.<agent>.<feed>.<part>`
    Inventory {
        /// The domain.
        domain: String,
        /// The agent's id.
        agent: String,
        /// The feed's name.
        feed: String,
        /// `snapshot` or `delta`.
        part: String,
    },
    /// `service.<name>.<verb>`
    Service {
        /// The service broker's name.
        name: String,
        /// What it is asked.
        verb: String,
    },
}

impl Topic {
    pub(super) fn read(subject: &Subject) -> Option<Topic> {
        let mut tokens = subject.tokens();
        let root = tokens.next()?;
        let rest: Vec<String> = tokens.map(unescape).collect::<Option<_>>()?;
        let mut rest = rest.into_iter();
        let mut next = || rest.next();
        let topic = match root {
            "event" => Topic::Event { domain: next()?, kind: next()?, id: next()?, what: next()? },
            "metric" => Topic::Metric { domain: next()?, kind: next()?, id: next()? },
            "task" => Topic::Task { domain: next()?, id: next()? },
            "audit" => Topic::Audit { domain: next()?, principal: next()? },
            "console" => Topic::Console { domain: next()?, console: next()?, what: next()? },
            "cmd" => Topic::Cmd { domain: next()?, kind: next()?, verb: next()? },
            "agent" => Topic::Agent { domain: next()?, agent: next()?, verb: next()? },
            "inventory" => Topic::Inventory { domain: next()?, agent: next()?, feed: next()?, part: next()? },
            "service" => Topic::Service { name: next()?, verb: next()? },
            _ => return None,
        };
        next().is_none().then_some(topic)
    }
}

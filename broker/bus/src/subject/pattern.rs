//! Patterns: subjects with wildcards, for listening.

use std::fmt;
use std::sync::Arc;

use super::{Subject, check, escape_into};
use crate::BusError;

/// A subject in which `*` stands for one token and a last `>` for one or more.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// `InvalidSubject` for a wildcard inside a token, `>` before the end, and what [`Subject::parse`] refuses.
    pub fn parse(text: &str) -> Result<Self, BusError> {
        check(text)?;
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            if token == ">" && tokens.peek().is_some() {
                return Err(BusError::invalid_subject(text, "expected > only as the last token"));
            }
            if token.len() > 1 && token.contains(['*', '>']) {
                return Err(BusError::invalid_subject(text, "expected wildcards as whole tokens"));
            }
        }
        Ok(Pattern(text.into()))
    }

    fn build(root: &str, tokens: &[&str], wild: &str) -> Result<Self, BusError> {
        let mut text = root.to_owned();
        for token in tokens {
            text.push('.');
            escape_into(token, &mut text);
        }
        text.push('.');
        text.push_str(wild);
        Pattern::parse(&text)
    }

    /// Everything below one root of the table: `event.>` for `event`.
    ///
    /// # Errors
    /// `InvalidSubject` when `root` is not one plain token.
    pub fn root(root: &str) -> Result<Self, BusError> {
        Self::build(root, &[], ">")
    }

    /// The events of one domain: `event.<domain>.>`.
    ///
    /// # Errors
    /// `InvalidSubject` when too long; so for every constructor here.
    pub fn events(domain: &str) -> Result<Self, BusError> {
        Self::build("event", &[domain], ">")
    }

    /// The commands of one domain: `cmd.<domain>.*.*`.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn commands(domain: &str) -> Result<Self, BusError> {
        Self::build("cmd", &[domain], "*.*")
    }

    /// Everything to one agent: `agent.<domain>.<agent>.*`.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn agent(domain: &str, agent: &str) -> Result<Self, BusError> {
        Self::build("agent", &[domain, agent], "*")
    }

    /// The feeds of one domain: `inventory.<domain>.>`.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn inventory(domain: &str) -> Result<Self, BusError> {
        Self::build("inventory", &[domain], ">")
    }

    /// One part of one feed of every agent: `inventory.<domain>.*.<feed>.<part>`.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn feeds(domain: &str, feed: &str, part: &str) -> Result<Self, BusError> {
        let tail = format!("*.{}.{}", super::escape(feed), super::escape(part));
        Self::build("inventory", &[domain], &tail)
    }

    /// Everything to one service broker: `service.<name>.*`.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn service(name: &str) -> Result<Self, BusError> {
        Self::build("service", &[name], "*")
    }

    /// Whether the subject falls under the pattern.
    pub fn matches(&self, subject: &Subject) -> bool {
        let mut tokens = subject.tokens();
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// Whether every subject under `other` falls under this pattern too.
    pub fn covers(&self, other: &Pattern) -> bool {
        let mut theirs = other.0.split('.');
        for ours in self.0.split('.') {
            match (ours, theirs.next()) {
                (">", Some(_)) => return true,
                ("*", Some(token)) if token != ">" => {}
                (ours, Some(token)) if ours == token => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// The pattern as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Subject> for Pattern {
    fn from(subject: Subject) -> Self {
        Pattern(subject.0)
    }
}

impl From<&Subject> for Pattern {
    fn from(subject: &Subject) -> Self {
        Pattern(subject.0.clone())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.0)
    }
}

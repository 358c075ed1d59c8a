//! Subjects: the only place where they are built and read.
//!
//! A subject is at most 8 tokens joined by dots, at most 255 bytes. A token that carries an id or a name is
//! escaped: letters, digits, `-` and `_` stay, every other byte becomes `=XX` (upper-case hexadecimal), the
//! empty text becomes `=`. Escaping is a bijection, and its result is legal in NATS subjects and keys alike.
//!
//! ```text
//! event.<domain>.<kind>.<id>.<what>        facts, past tense          metric.<domain>.<kind>.<id>   samples
//! task.<domain>.<id>                       progress                   audit.<domain>.<principal>
//! console.<domain>.<console>.<what>        states, never pixels       service.<name>.<verb>
//! cmd.<domain>.<kind>.<verb>               to the engine              agent.<domain>.<agent>.<verb>  to an owner
//! inventory.<domain>.<agent>.<feed>.<part> snapshots and deltas
//! ```

use std::fmt;
use std::sync::Arc;

use crate::BusError;
use crate::limits::{MAX_SUBJECT, MAX_TOKENS};

mod pattern;
#[cfg(test)]
mod tests;
mod topic;

pub use pattern::Pattern;
pub use topic::Topic;

/// A concrete subject: no wildcards.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(Arc<str>);

impl Subject {
    /// Reads a subject as it stands on the wire.
    ///
    /// # Errors
    /// `InvalidSubject` for wildcards, empty tokens, blanks, anything but ASCII, too many tokens or bytes.
    pub fn parse(text: &str) -> Result<Self, BusError> {
        check(text)?;
        if text.contains(['*', '>']) {
            return Err(BusError::invalid_subject(text, "expected no wildcards (* and >) in a subject"));
        }
        Ok(Subject(text.into()))
    }

    /// Joins `root` and the tokens, escaping each token.
    fn build(root: &str, tokens: &[&str]) -> Result<Self, BusError> {
        let mut text = root.to_owned();
        for token in tokens {
            text.push('.');
            escape_into(token, &mut text);
        }
        Subject::parse(&text)
    }

    /// `event.<domain>.<kind>.<id>.<what>`: a fact, in the past tense.
    ///
    /// # Errors
    /// `InvalidSubject` when the escaped subject is longer than 255 bytes; so for every constructor here.
    pub fn event(domain: &str, kind: &str, id: &str, what: &str) -> Result<Self, BusError> {
        Self::build("event", &[domain, kind, id, what])
    }

    /// `metric.<domain>.<kind>.<id>`: samples.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn metric(domain: &str, kind: &str, id: &str) -> Result<Self, BusError> {
        Self::build("metric", &[domain, kind, id])
    }

    /// `task.<domain>.<id>`: state and progress of a task.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn task(domain: &str, id: &str) -> Result<Self, BusError> {
        Self::build("task", &[domain, id])
    }

    /// `audit.<domain>.<principal>`: copies of audit records.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn audit(domain: &str, principal: &str) -> Result<Self, BusError> {
        Self::build("audit", &[domain, principal])
    }

    /// `console.<domain>.<console>.<what>`: states of a console, never pixels.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn console(domain: &str, console: &str, what: &str) -> Result<Self, BusError> {
        Self::build("console", &[domain, console, what])
    }

    /// `cmd.<domain>.<kind>.<verb>`: a command to the engine, request and reply.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn cmd(domain: &str, kind: &str, verb: &str) -> Result<Self, BusError> {
        Self::build("cmd", &[domain, kind, verb])
    }

    /// `agent.<domain>.<agent>.<verb>`: to an owner, request and reply.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn agent(domain: &str, agent: &str, verb: &str) -> Result<Self, BusError> {
        Self::build("agent", &[domain, agent, verb])
    }

    /// `inventory.<domain>.<agent>.<feed>.<part>`: one part (`snapshot`, `delta`) of a feed.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn inventory(domain: &str, agent: &str, feed: &str, part: &str) -> Result<Self, BusError> {
        Self::build("inventory", &[domain, agent, feed, part])
    }

    /// `service.<name>.<verb>`: to a service broker, request and reply.
    ///
    /// # Errors
    /// `InvalidSubject` when too long.
    pub fn service(name: &str, verb: &str) -> Result<Self, BusError> {
        Self::build("service", &[name, verb])
    }

    /// What the subject is about, when it is one of the table's.
    pub fn topic(&self) -> Option<Topic> {
        Topic::read(self)
    }

    /// The subject as it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tokens, still escaped.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({})", self.0)
    }
}

/// Makes one token out of any text.
pub fn escape(text: &str) -> String {
    let mut token = String::with_capacity(text.len() + 2);
    escape_into(text, &mut token);
    token
}

fn escape_into(text: &str, out: &mut String) {
    if text.is_empty() {
        out.push('=');
    }
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            out.push(char::from(byte));
        } else {
            out.push('=');
            out.push(hex_digit(byte >> 4));
            out.push(hex_digit(byte & 15));
        }
    }
}

fn hex_digit(value: u8) -> char {
    char::from(if value < 10 { b'0' + value } else { b'A' + (value - 10) })
}

/// Reads a token that [`escape`] made; `None` for any other text.
pub fn unescape(token: &str) -> Option<String> {
    if token == "=" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'=' {
            let value = (hex_value(rest.next()?)? << 4) | hex_value(rest.next()?)?;
            bytes.push(value);
        } else {
            bytes.push(byte);
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.is_empty() && escape(&text) == token).then_some(text)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// What subjects and patterns have in common.
fn check(text: &str) -> Result<(), BusError> {
    if text.len() > MAX_SUBJECT {
        return Err(BusError::invalid_subject(text, "expected at most 255 bytes"));
    }
    let mut count = 0;
    for token in text.split('.') {
        count += 1;
        if token.is_empty() {
            return Err(BusError::invalid_subject(text, "expected no empty token"));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BusError::invalid_subject(text, "expected printable ASCII without blanks"));
        }
    }
    if count > MAX_TOKENS {
        return Err(BusError::invalid_subject(text, "expected at most 8 tokens"));
    }
    Ok(())
}

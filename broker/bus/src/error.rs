//! Why the bus did not do what it was asked.

use thiserror::Error;

/// The causes of a failed bus operation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BusError {
    /// Nobody serves the subject.
    #[error("nobody answers this subject now: the part that serves it is not running or not connected")]
    NoResponders,
    /// No answer in time. Whether the request had an effect is unknown.
    #[error("no answer within the time allowed")]
    Timeout,
    /// The account's permissions forbid the subject.
    #[error("this account may not use the subject {subject}: check the account the connection uses")]
    Denied {
        /// The subject or pattern that was refused.
        subject: String,
    },
    /// The message is larger than the bus carries.
    #[error("the message has {size} bytes, the bus carries at most {max}")]
    TooLarge {
        /// Bytes of headers and payload.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The link is down. For a request under way, whether it had an effect is unknown.
    #[error("the bus connection is down")]
    Disconnected,
    /// A bounded queue is full: try again later.
    #[error("the bus queue is full: try again later")]
    Busy,
    /// The text is not a subject or pattern.
    #[error("{subject:?} is not a bus subject: {reason}")]
    InvalidSubject {
        /// The text as given, cut to 64 characters.
        subject: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The text cannot be a header.
    #[error("{name:?} is not a usable header: {reason}")]
    InvalidHeader {
        /// The header's name, cut to 64 characters.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// This process closed the bus.
    #[error("the bus is closed")]
    Closed,
}

impl BusError {
    pub(crate) fn invalid_subject(subject: &str, reason: &'static str) -> Self {
        BusError::InvalidSubject { subject: cut(subject), reason }
    }

    pub(crate) fn invalid_header(name: &str, reason: &'static str) -> Self {
        BusError::InvalidHeader { name: cut(name), reason }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

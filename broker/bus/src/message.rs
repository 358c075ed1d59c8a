//! What travels.

use bytes::Bytes;

use crate::{Headers, Subject};

/// A message as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was sent; for an answer, the subject of the request.
    pub subject: Subject,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub payload: Bytes,
}

/// What a subscription hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A message.
    Message(Message),
    /// Messages were lost before the next one: at least so many, 0 when the number cannot be known (the link was
    /// down for a while). Whoever keeps state fetches it anew.
    Lagged(u64),
}

impl Delivery {
    /// The message, when it is one.
    pub fn message(self) -> Option<Message> {
        match self {
            Delivery::Message(message) => Some(message),
            Delivery::Lagged(_) => None,
        }
    }
}

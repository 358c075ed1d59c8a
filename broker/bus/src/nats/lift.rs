//! Between our messages and the client library's.
//!
//! What the bus itself has to say to a caller travels in one header, `Hyperglot-Bus`: `busy`, or
//! `too-large <size> <max>` when the answer did not fit.

use async_nats::{HeaderMap, PublishError, StatusCode};

use crate::{BusError, Headers, Message, Subject};

/// The header in which the bus speaks for a server.
pub(super) const STATUS: &str = "Hyperglot-Bus";
const BUSY: &str = "busy";
const TOO_LARGE: &str = "too-large";

/// Our headers as the library wants them; `None` when there are none.
pub(super) fn lower_headers(headers: &Headers) -> Option<HeaderMap> {
    if headers.is_empty() {
        return None;
    }
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        map.append(name, value);
    }
    Some(map)
}

/// A received message; `None` when its subject or headers exceed our limits.
pub(super) fn lift_message(message: async_nats::Message) -> Option<Message> {
    let subject = Subject::parse(&message.subject).ok()?;
    lift_as(subject, message)
}

/// A received message under the subject it answers.
fn lift_as(subject: Subject, message: async_nats::Message) -> Option<Message> {
    let mut headers = Headers::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        for value in values {
            headers.push(name.as_ref(), value.as_str()).ok()?;
        }
    }
    Some(Message { subject, headers, payload: message.payload })
}

/// What an answer says: the message, or why there is none.
pub(super) fn lift_answer(asked: &Subject, message: async_nats::Message) -> Result<Message, BusError> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(BusError::NoResponders);
    }
    let answer = lift_as(asked.clone(), message).ok_or_else(|| {
        BusError::invalid_header(STATUS, "expected an answer with at most 64 plain headers")
    })?;
    match answer.headers.get(STATUS) {
        None => Ok(answer),
        Some(status) => Err(read_status(status)),
    }
}

fn read_status(status: &str) -> BusError {
    let mut words = status.split(' ');
    match (words.next(), words.next().map(str::parse), words.next().map(str::parse)) {
        (Some(TOO_LARGE), Some(Ok(size)), Some(Ok(max))) => BusError::TooLarge { size, max },
        _ => BusError::Busy,
    }
}

/// The header that says Busy.
pub(super) fn busy() -> Result<Headers, BusError> {
    Headers::new().with(STATUS, BUSY)
}

/// The header that says why an answer could not be sent.
pub(super) fn too_large(size: usize, max: usize) -> Result<Headers, BusError> {
    Headers::new().with(STATUS, &format!("{TOO_LARGE} {size} {max}"))
}

/// The library's publish error as ours.
pub(super) fn lift_publish_error(error: &PublishError, size: usize, max: usize) -> BusError {
    match error.kind() {
        async_nats::PublishErrorKind::MaxPayloadExceeded => BusError::TooLarge { size, max },
        async_nats::PublishErrorKind::InvalidSubject => {
            BusError::invalid_subject("", "expected a subject the server takes")
        }
        async_nats::PublishErrorKind::Send => BusError::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_header_is_read_back() {
        let read = |headers: Result<Headers, BusError>| read_status(headers.unwrap().get(STATUS).unwrap());
        assert_eq!(read(busy()), BusError::Busy);
        assert_eq!(read(too_large(9, 8)), BusError::TooLarge { size: 9, max: 8 });
    }
}

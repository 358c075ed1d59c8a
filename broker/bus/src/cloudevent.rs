//! CloudEvents 1.0 in binary mode: the attributes as `ce-` headers, the data as the body.
//!
//! The header names are those of the NATS binding's binary mode; `Nats-Msg-Id` repeats the id, so that the
//! event stream drops a second publish of one event.

use bytes::Bytes;

use crate::{BusError, Headers, Message};

/// The version of the CloudEvents specification the headers follow.
pub const SPEC_VERSION: &str = "1.0";

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudEvent {
    /// Unique together with `source`.
    pub id: String,
    /// Where it happened, a URI reference: `/lab1/agent-7`.
    pub source: String,
    /// What happened: `hyperglot.vm.powered_on`.
    pub kind: String,
    /// When, RFC 3339.
    pub time: String,
    /// The object it is about, where there is one.
    pub subject: Option<String>,
    /// The facts, as JSON.
    pub data: Bytes,
}

impl CloudEvent {
    /// The headers the event travels with.
    ///
    /// # Errors
    /// `InvalidHeader` when an attribute has a line break or a required one is empty.
    pub fn headers(&self) -> Result<Headers, BusError> {
        let required = [
            ("ce-id", &self.id),
            ("ce-source", &self.source),
            ("ce-type", &self.kind),
            ("ce-time", &self.time),
        ];
        let mut headers = Headers::new();
        for (name, value) in required {
            if value.is_empty() {
                return Err(BusError::invalid_header(name, "expected a value"));
            }
            headers.push(name, value)?;
        }
        headers.push("ce-specversion", SPEC_VERSION)?;
        if let Some(subject) = &self.subject {
            headers.push("ce-subject", subject)?;
        }
        headers.push("content-type", "application/json")?;
        headers.push("Nats-Msg-Id", &self.id)?;
        Ok(headers)
    }

    /// Reads an event; `None` when the message is not one, or of another version of the specification.
    pub fn read(message: &Message) -> Option<CloudEvent> {
        let header = |name| message.headers.get(name).filter(|value| !value.is_empty());
        if header("ce-specversion") != Some(SPEC_VERSION) {
            return None;
        }
        Some(CloudEvent {
            id: header("ce-id")?.to_owned(),
            source: header("ce-source")?.to_owned(),
            kind: header("ce-type")?.to_owned(),
            time: header("ce-time")?.to_owned(),
            subject: header("ce-subject").map(str::to_owned),
            data: message.payload.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subject;

    fn event() -> CloudEvent {
        CloudEvent {
            id: "e-1".into(),
            source: "/lab1/agent-7".into(),
            kind: "hyperglot.vm.powered_on".into(),
            time: "2026-01-02T03:04:05Z".into(),
            subject: Some("vm-1".into()),
            data: Bytes::from_static(br#"{"state":"running"}"#),
        }
    }

    #[test]
    fn written_and_read_back() {
        let event = event();
        let headers = event.headers().unwrap();
        assert_eq!(headers.get("Nats-Msg-Id"), Some("e-1"));
        assert_eq!(headers.get("content-type"), Some("application/json"));
        let subject = Subject::event("lab1", "vm", "vm-1", "powered_on").unwrap();
        let message = Message { subject, headers, payload: event.data.clone() };
        assert_eq!(CloudEvent::read(&message), Some(event));
    }

    #[test]
    fn refuses_incomplete_events() {
        assert!(CloudEvent { id: String::new(), ..event() }.headers().is_err());
        assert!(CloudEvent { kind: "a\nb".into(), ..event() }.headers().is_err());
        let subject = Subject::task("d", "1").unwrap();
        let other = Message { subject, headers: Headers::new(), payload: Bytes::new() };
        assert_eq!(CloudEvent::read(&other), None);
    }
}

//! The stream that keeps events for monitors who come late.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use thiserror::Error;

use super::NatsBus;

/// The stream's name.
pub const EVENT_STREAM: &str = "EVENTS";
/// How long an event is kept.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many bytes are kept at most; the oldest go first.
const KEEP_BYTES: i64 = 1024 * 1024 * 1024;
/// Within this time a second publish of one `Nats-Msg-Id` is dropped.
const DEDUPE: Duration = Duration::from_secs(120);

/// Why the event stream could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot set up the event stream {EVENT_STREAM}: {reason}; the server must have JetStream enabled")]
pub struct EventStreamError {
    /// What the server or the client library said.
    pub reason: String,
}

impl NatsBus {
    /// Makes sure that `event.>` is kept: in a file, 7 days, 1 GiB, the oldest discarded, one event once.
    ///
    /// # Errors
    /// [`EventStreamError`].
    pub async fn keep_events(&self) -> Result<(), EventStreamError> {
        let config = Config {
            name: EVENT_STREAM.to_owned(),
            subjects: vec!["event.>".to_owned()],
            storage: StorageType::File,
            max_age: KEEP,
            max_bytes: KEEP_BYTES,
            discard: DiscardPolicy::Old,
            duplicate_window: DEDUPE,
            allow_direct: true,
            num_replicas: 1,
            ..Config::default()
        };
        let context = jetstream::new(self.core.client.clone());
        let refused =
            |error: jetstream::context::CreateStreamError| EventStreamError { reason: error.to_string() };
        context.create_or_update_stream(config).await.map(drop).map_err(refused)
    }

    /// How many events are kept now.
    ///
    /// # Errors
    /// [`EventStreamError`].
    pub async fn kept_events(&self) -> Result<u64, EventStreamError> {
        let context = jetstream::new(self.core.client.clone());
        let failed = |reason: String| EventStreamError { reason };
        let mut stream = context.get_stream(EVENT_STREAM).await.map_err(|error| failed(error.to_string()))?;
        let info = stream.info().await.map_err(|error| failed(error.to_string()))?;
        Ok(info.state.messages)
    }
}

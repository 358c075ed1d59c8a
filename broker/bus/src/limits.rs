//! Every limit of the bus, in one place.

use std::time::Duration;

/// The largest message in bytes, headers included (nats-server's own default for `max_payload`).
pub const MAX_PAYLOAD: usize = 1024 * 1024;
/// The most tokens of a subject (DESIGN 7).
pub const MAX_TOKENS: usize = 8;
/// The longest subject in bytes (nats-server's guidance is below 256).
pub const MAX_SUBJECT: usize = 255;
/// The most headers of a message.
pub const MAX_HEADERS: usize = 64;
/// The most requests one bus handle keeps under way; the next one is refused Busy.
pub const MAX_PENDING: usize = 16_384;
/// The largest queue a subscription or server may ask for; larger wishes are cut to this.
pub const MAX_QUEUE: usize = 65_536;
/// How long a publish waits for a link that takes nothing before it is refused Busy.
pub const PUBLISH_WAIT: Duration = Duration::from_secs(1);
/// How long a flush, or the confirmation of a subscription, may take.
pub const FLUSH_WAIT: Duration = Duration::from_secs(5);
/// Denied subjects remembered per connection, so that a later publish fails at once.
pub const MAX_DENIED: usize = 1024;
/// The bytes of items that one snapshot chunk carries at most (a single larger item travels alone).
pub const SNAPSHOT_CHUNK: usize = 256 * 1024;
/// What a feed message may need beyond key and value, in bytes.
pub const FEED_OVERHEAD: usize = 1024;

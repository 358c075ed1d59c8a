//! Every limit of this front that is not one of the wire's or of a single module's syntax.

use std::time::Duration;

/// Sessions.
pub(crate) const SESSIONS: usize = 1_000;
/// Sessions of one user: a script that never logs out must leave others their room.
pub(crate) const SESSIONS_OF_USER: usize = 500;
/// Collectors, filters and views a session may have open.
pub(crate) const MADE: usize = 1_000;
/// Waits a session may have open.
pub(crate) const WAITS: usize = 32;
/// Pages a session may leave unread.
pub(crate) const PAGES: usize = 32;
/// How long an unread page is kept.
pub(crate) const PAGE_AGE: Duration = Duration::from_secs(15 * 60);
/// Object updates in one `WaitForUpdatesEx` answer, whatever the client asks; the real product's figure.
pub(crate) const UPDATES: usize = 100;
/// Objects in one page when the client does not say.
pub(crate) const PAGE: usize = 100_000;
/// Bytes after which a page ends, whatever number of objects was asked for.
pub(crate) const PAGE_BYTES: usize = 32 << 20;
/// Bytes of an answer that has no pages.
pub(crate) const ANSWER_BYTES: usize = 256 << 20;
/// Specifications in one retrieval.
pub(crate) const SPECS: usize = 1_000;
/// Objects that the specifications of one retrieval may select together.
pub(crate) const SELECTED: usize = 1_000_000;
/// How long a wait lasts that does not say.
pub(crate) const WAIT: Duration = Duration::from_secs(10 * 60);
/// A session without requests for this long is closed.
pub(crate) const IDLE: Duration = Duration::from_secs(30 * 60);
/// How long a ticket for cloning a session may lie.
pub(crate) const TICKET_AGE: Duration = Duration::from_secs(120);
/// Events in one answer.
pub(crate) const EVENTS: usize = 1_000;
/// Mapping bundles at work at a time.
pub(crate) const BUNDLES: usize = 4;
/// How long sessions may stay with a bundle after it was superseded.
pub(crate) const BUNDLE_AGE: Duration = Duration::from_secs(24 * 3_600);
/// How long a command may take.
pub(crate) const COMMAND: Duration = Duration::from_secs(10 * 60);

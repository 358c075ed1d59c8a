//! Opening a session: what libvirt's client says before its first question.
//!
//! ```text
//! AUTH_LIST ─▶ (AUTH_POLKIT) ─▶ CONNECT_SUPPORTS_FEATURE ─▶ CONNECT_OPEN ─▶ open
//! ```
//! Authentication: none, and polkit on a unix socket (the server looks at who we are). SASL is refused with its name.

use crate::native::{
    call::CallError,
    connection::{Connection, Event, Keepalive},
    transport::{self, ConnectError},
    uri::Uri,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use wire::xdr::{Schema, XdrValue};

/// No session.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No stream.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Not in time.
    #[error("no session within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The server wants a way to authenticate that is not served here.
    #[error(
        "libvirtd asks for authentication {0:?} (1 is SASL); expected 0 (none) or 2 (polkit): use a unix socket or a TLS client certificate"
    )]
    Authentication(Vec<i64>),
}

const AUTH_NONE: i64 = 0;
const AUTH_POLKIT: i64 = 2;
/// `VIR_DRV_FEATURE_PROGRAM_KEEPALIVE`.
const FEATURE_KEEPALIVE: i32 = 10;

/// Opens a session within `patience`.
///
/// # Errors
/// As [`OpenError`] tells.
pub async fn open(
    uri: &Uri,
    schema: Arc<Schema>,
    keepalive: Keepalive,
    patience: Duration,
) -> Result<(Connection, mpsc::Receiver<Event>), OpenError> {
    let deadline = Instant::now() + patience;
    let stream = timeout_at(deadline, transport::connect(&uri.transport))
        .await
        .map_err(|_| OpenError::TimedOut(patience))??;
    let (connection, events) = Connection::start(stream, schema);
    let offered = connection.call("AUTH_LIST", Vec::new(), deadline).await?;
    let offered: Vec<i64> = offered
        .get("types")
        .map(|types| types.items().iter().filter_map(XdrValue::as_int).collect())
        .unwrap_or_default();
    if !offered.is_empty() && !offered.contains(&AUTH_NONE) {
        if !offered.contains(&AUTH_POLKIT) {
            return Err(OpenError::Authentication(offered));
        }
        connection.call("AUTH_POLKIT", Vec::new(), deadline).await?;
    }
    let feature = vec![("feature", XdrValue::Int(FEATURE_KEEPALIVE))];
    let answer = connection.call("CONNECT_SUPPORTS_FEATURE", feature, deadline).await?;
    if answer.get("supported").and_then(XdrValue::as_int) == Some(1) {
        connection.keep_alive(keepalive);
    }
    let args = vec![
        ("name", XdrValue::some(XdrValue::text(&uri.name))),
        ("flags", XdrValue::Uint(u32::from(uri.read_only))),
    ];
    connection.call("CONNECT_OPEN", args, deadline).await?;
    Ok((connection, events))
}

//! Connections for the lane's calls: opened when needed, another when all of one's places are taken, so that a power-off never waits
//! behind five slow saves.

use crate::{
    native::{
        connection::{Connection, Keepalive},
        uri::Uri,
    },
    session::{self, OpenError},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};
use wire::xdr::Schema;

/// Most connections for commands; libvirtd counts the reader's too and lets a client machine have 20 that have not yet authenticated.
const MOST: usize = 8;

/// How long a new one may take; a command that has longer is told that its target hangs all the same.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);

/// The connections.
pub struct Commands {
    uri: Arc<Uri>,
    schema: Arc<Schema>,
    keepalive: Keepalive,
    open: Mutex<Vec<Connection>>,
}

impl Commands {
    /// None yet.
    pub fn new(uri: Arc<Uri>, schema: Arc<Schema>, keepalive: Keepalive) -> Commands {
        Commands { uri, schema, keepalive, open: Mutex::new(Vec::new()) }
    }

    /// A connection with a free place, or the one with the most once there are [`MOST`].
    ///
    /// # Errors
    /// None could be opened by `deadline`.
    pub async fn connection(&self, deadline: Instant) -> Result<Connection, OpenError> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let Ok(mut open) = tokio::time::timeout_at(deadline, self.open.lock()).await else {
            return Err(OpenError::TimedOut(patience));
        };
        open.retain(|c| c.closed().is_none());
        let freest = open.iter().max_by_key(|c| c.free());
        if let Some(connection) = freest.filter(|c| c.free() > 0 || open.len() >= MOST) {
            return Ok(connection.clone());
        }
        let patience = patience.min(OPEN_PATIENCE);
        let opened = session::open(&self.uri, self.schema.clone(), self.keepalive, patience).await;
        let (connection, _no_events) = opened?;
        open.push(connection.clone());
        Ok(connection)
    }
}

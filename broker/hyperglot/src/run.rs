//! What every long-running role begins and ends with.

use crate::Failure;
use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::Arc,
    time::Duration,
};
use store::FileStore;
use tokio::signal::unix::{SignalKind, signal};

/// How long clients may take to finish what they began when the program is told to stop.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Makes `data_dir` and takes it for this process alone.
pub fn own(data_dir: &Path) -> Result<File, Failure> {
    let wrong = |e: std::io::Error| Failure::other(format!("data_dir = \"{}\": {e}", data_dir.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(wrong)?;
    let lock = File::create(data_dir.join("lock")).map_err(wrong)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Failure::other(format!(
            "data_dir = \"{}\" is in use by another hyperglot: stop it, or give this one a data_dir of its own",
            data_dir.display()
        ))),
        Err(TryLockError::Error(e)) => Err(wrong(e)),
    }
}

/// A store, or why it cannot be used and what to do.
pub fn open_store(path: &Path) -> Result<Arc<FileStore>, Failure> {
    FileStore::open_or_create(path).map_err(|e| {
        Failure::Other(format!(
            "the store {} cannot be used: {e}. Nothing was changed. `hyperglot ctl repair {}` saves what can be read into a new \
             file and keeps this one beside it",
            path.display(),
            path.display()
        ))
    })
}

/// SIGTERM, SIGINT, SIGHUP.
pub struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Stop {
    /// Listens for all of them.
    pub fn new() -> Result<Stop, Failure> {
        let on = |kind| signal(kind).map_err(Failure::other);
        Ok(Stop {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    /// Waits for the next of them, and says which it was.
    pub async fn wait(&mut self) {
        let signal = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        };
        tracing::info!(signal, "told to stop");
    }
}

/// Serves until told to stop, then closes; told a second time, nothing more is waited for.
pub async fn until_told(
    stop: &mut Stop,
    serving: impl Future<Output = Result<(), Failure>>,
    close: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let ended = tokio::select! {
        ended = serving => ended,
        () = stop.wait() => Ok(()),
    };
    if ended.is_ok() {
        tracing::info!("stopping: no new connections; what was begun may take {} s", PATIENCE.as_secs());
    }
    if let Err(failure) = &ended {
        tracing::error!(%failure, "stopping");
    }
    let ended = tokio::select! {
        () = close => ended,
        () = stop.wait() => Err(Failure::other("told to stop a second time: what was begun was not waited for")),
    };
    if ended.is_ok() {
        tracing::info!("stopped");
    }
    ended
}

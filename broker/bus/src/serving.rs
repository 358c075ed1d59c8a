//! What answers on the bus until it is dropped.

use std::time::Duration;

use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Answers until dropped.
#[derive(Debug)]
pub struct Serving {
    tracker: TaskTracker,
    stop: CancellationToken,
    _open: DropGuard,
}

impl Default for Serving {
    fn default() -> Serving {
        Serving::new()
    }
}

impl Serving {
    /// Answers from now on.
    pub fn new() -> Serving {
        let stop = CancellationToken::new();
        Serving { tracker: TaskTracker::new(), stop: stop.clone(), _open: stop.drop_guard() }
    }

    /// Counts the answers under way.
    pub fn tracker(&self) -> TaskTracker {
        self.tracker.clone()
    }

    /// Says when no more requests are taken.
    pub fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Takes no more requests, and waits at most `patience` until those taken are answered; whether they are.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

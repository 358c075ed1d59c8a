//! What the authority does now and then: ends idle sessions, writes which were used.

use super::{Authority, Write};
use std::{sync::Arc, time::Duration};

const EVERY: Duration = Duration::from_secs(30);

impl Authority {
    /// Sweeps for as long as the future is polled.
    pub async fn keep_swept(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.sweep().await;
            self.flush().await;
        }
    }

    /// Ends idle sessions and forgets revoked ones whose grants have all expired; how many.
    pub async fn sweep(&self) -> usize {
        let _turn = self.turn.lock().await;
        let now = self.now();
        let gone: Vec<_> = {
            let mut table = self.table.lock();
            let over = table.ids(|live| live.kept.expires_ms <= now);
            over.iter().filter_map(|id| table.remove(id)).collect()
        };
        let writes = gone.iter().map(|live| Write::Session(live.hash, None)).collect::<Vec<_>>();
        if writes.is_empty() {
            return 0;
        }
        if let Err(error) = self.deps.keep.write(writes).await {
            tracing::error!(%error, "the end of idle sessions was not written");
        }
        for live in gone.iter().filter(|live| live.kept.revoked_ms == 0) {
            let session = live.kept.id.to_string();
            tracing::debug!(user = %live.kept.principal, session, "an idle session ended");
            self.forget(&session);
            self.tell_all(|told| told.ended(&session));
        }
        gone.len()
    }

    /// Writes which sessions were used, and what the store did not take before.
    pub async fn flush(&self) {
        let _turn = self.turn.lock().await;
        let dirty: Vec<_> = {
            let mut table = self.table.lock();
            let dirty = table.iter_mut().filter(|live| live.dirty);
            dirty
                .map(|live| {
                    live.dirty = false;
                    (live.hash, live.kept.clone())
                })
                .collect()
        };
        if dirty.is_empty() {
            return;
        }
        let writes = dirty.iter().map(|(hash, kept)| Write::Session(*hash, Some(kept.clone()))).collect();
        if let Err(error) = self.deps.keep.write(writes).await {
            tracing::error!(%error, "the use of sessions was not written; it is tried again");
            let mut table = self.table.lock();
            for (_, kept) in dirty {
                if let Some(live) = table.get_mut(&kept.id.to_string()) {
                    live.dirty = true;
                }
            }
        }
    }
}

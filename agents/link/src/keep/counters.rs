//! Numbers of events that go on after a restart.

use inventory::chronicle;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use store::{Epoch, Store, StoreError, counters::Counters as Rows};
use tokio::sync::Notify;

/// The counters of a store. What is reserved is written by [`Counters::run`].
#[derive(Debug)]
pub struct Counters {
    rows: Rows,
    epoch: Epoch,
    wanted: Mutex<BTreeMap<String, u64>>,
    wake: Notify,
}

impl Counters {
    /// The counters in `store`, to be given to [`inventory::Inventory::count_by`].
    pub fn new(store: Arc<dyn Store>, epoch: Epoch) -> Arc<Counters> {
        Arc::new(Counters { rows: Rows::new(store), epoch, wanted: Mutex::default(), wake: Notify::new() })
    }

    /// Writes what is reserved, for as long as it is polled.
    pub async fn run(&self) {
        loop {
            let wake = self.wake.notified();
            let wanted = self.wanted.lock().clone();
            for (name, to) in wanted {
                match self.rows.reserve(&name, to, self.epoch).await {
                    Ok(()) => {
                        let mut wanted = self.wanted.lock();
                        if wanted.get(&name) == Some(&to) {
                            wanted.remove(&name);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(counter = name, %error, "numbers could not be set aside");
                        tokio::time::sleep(super::AGAIN).await;
                        self.wake.notify_one();
                    }
                }
            }
            wake.await;
        }
    }

    async fn first(&self, name: &str, block: u64) -> Result<u64, StoreError> {
        let last = self.rows.last(name).await?;
        self.rows.reserve(name, last.saturating_add(block), self.epoch).await?;
        Ok(last)
    }
}

impl chronicle::Counters for Counters {
    fn begin(&self, name: &str, block: i64) -> i64 {
        let last = super::wait(self.first(name, block.unsigned_abs())).unwrap_or_else(|error| {
            tracing::error!(counter = name, %error, "a counter cannot be read or set; it begins anew");
            0
        });
        i64::try_from(last).unwrap_or(i64::MAX)
    }

    fn reserve(&self, name: &str, to: i64) {
        let mut wanted = self.wanted.lock();
        let place = wanted.entry(name.to_owned()).or_default();
        *place = to.unsigned_abs().max(*place);
        drop(wanted);
        self.wake.notify_one();
    }
}

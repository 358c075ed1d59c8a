//! Hands in what this agent did by itself: audit records, outcomes, ids, in their order, until the engine has said that it took them.
//!
//! ```text
//! outbox 1 2 3 … ─ engine here ─▶ Handed(1..n) ─▶ Taken(seq): 1..seq are removed
//!                        └─ away, busy, refused: the same again later
//! ```

use crate::{
    engine::{Engine, Service, Verb, ask},
    journal::Handing,
    limits,
    presence::Presence,
};
use prost::Message;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use store::{
    Epoch, Store, StoreError,
    leases::{Lease, LeaseError, Leases},
    outbox::{Item, Outbox, What},
};
use tokio::sync::{Notify, watch};
use union::{Ids, pb};

/// How much waits to be handed in.
#[derive(Debug, Default)]
pub struct Backlog {
    count: AtomicUsize,
    wake: Notify,
}

impl Backlog {
    /// The backlog of a store, counted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open(store: &Arc<dyn Store>) -> Result<Arc<Backlog>, StoreError> {
        let outbox = Outbox::new(Arc::clone(store));
        let (mut count, mut beyond) = (0, 0);
        loop {
            let page = outbox.pending(beyond, 4_096).await?;
            let Some((last, _)) = page.last() else { break };
            (count, beyond) = (count + page.len(), *last);
        }
        Ok(Arc::new(Backlog { count: AtomicUsize::new(count), wake: Notify::new() }))
    }

    /// How many records wait.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether no more may be added.
    pub fn is_full(&self) -> bool {
        self.count() >= limits::OUTBOX
    }

    /// Records were added: they are handed in soon.
    pub fn added(&self, count: usize) {
        self.count.fetch_add(count, Ordering::AcqRel);
        self.wake.notify_one();
    }

    fn taken(&self, count: usize) {
        // What others put into the outbox is not counted, so this may be more than was added.
        let mut now = self.count();
        while let Err(other) = self.count.compare_exchange_weak(
            now,
            now.saturating_sub(count),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            now = other;
        }
    }
}

/// Under which the name of an outbox is kept; no target can be called so.
const NAME: &str = "\u{1f}outbox";

/// The name of the outbox in `store`: made with the first look, and kept as long as the store is.
///
/// # Errors
/// The store's.
pub async fn name(
    store: &Arc<dyn Store>,
    epoch: Epoch,
    now_ms: i64,
    ids: &dyn Ids,
) -> Result<String, StoreError> {
    let leases = Leases::new(Arc::clone(store));
    if let Some(known) = leases.get(NAME).await? {
        return Ok(known.owner.to_string());
    }
    let owner = ids.uuid().to_string();
    let lease = Lease { target: NAME.into(), owner: Arc::from(&*owner), epoch: 1, at_ms: now_ms };
    match leases.see(&lease, epoch).await {
        Ok(()) => Ok(owner),
        Err(LeaseError::Over { highest, .. }) => Ok(highest.owner.to_string()),
        Err(LeaseError::Store(error)) => Err(error),
    }
}

/// Hands in an outbox.
#[derive(Debug)]
pub struct Pump {
    name: String,
    outbox: Outbox,
    epoch: Epoch,
    backlog: Arc<Backlog>,
    engine: Arc<dyn Engine>,
    presence: Presence,
    empty: watch::Sender<bool>,
}

impl Pump {
    /// A pump for the outbox in `store`, which is called `name`.
    pub fn new(
        name: String,
        store: Arc<dyn Store>,
        epoch: Epoch,
        backlog: Arc<Backlog>,
        engine: Arc<dyn Engine>,
        presence: Presence,
    ) -> Pump {
        let outbox = Outbox::new(store);
        Pump { name, outbox, epoch, backlog, engine, presence, empty: watch::Sender::new(false) }
    }

    /// Whether the engine has everything, as of the pump's last look.
    pub fn empty(&self) -> watch::Receiver<bool> {
        self.empty.subscribe()
    }

    /// Hands in for as long as it is polled.
    pub async fn run(self) {
        let (first, longest) = limits::PAUSE;
        let mut pause = first;
        loop {
            self.presence.until_here().await;
            match self.hand().await {
                Ok(0) => {
                    pause = first;
                    self.empty.send_replace(true);
                    // Ids are put into the outbox by others, who do not wake us.
                    let woken = tokio::time::timeout(Duration::from_secs(1), self.backlog.wake.notified());
                    if woken.await.is_ok() {
                        // A command's audit and its outcome go together, after it.
                        tokio::time::sleep(limits::GATHER).await;
                    }
                }
                Ok(_) => pause = first,
                Err(why) => {
                    tracing::info!(
                        why,
                        waiting = self.backlog.count(),
                        "the engine does not take what this agent did by itself; it is offered again"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    /// Hands in one message of records; how many were taken.
    async fn hand(&self) -> Result<usize, String> {
        let pending = self.outbox.pending(0, limits::HANDED.0).await.map_err(|e| e.to_string())?;
        let mut items = Vec::with_capacity(pending.len());
        let mut bytes = 0;
        for (seq, item) in pending {
            bytes += item.body.0.len();
            if bytes > limits::HANDED.1 && !items.is_empty() {
                break;
            }
            items.push(handed(seq, item));
        }
        let Some(last) = items.last().map(|item| item.seq) else { return Ok(0) };
        self.empty.send_replace(false);
        let seqs: Vec<u64> = items.iter().map(|item| item.seq).collect();
        let verb = Verb::Service(Service::Outbox);
        let taken = ask::<pb::Taken>(
            &*self.engine,
            &verb,
            &pb::Handed { items, outbox: self.name.clone() },
            limits::LONG,
        )
        .await;
        let taken = taken.map_err(|e| e.to_string())?.seq;
        if seqs.first().is_none_or(|first| taken < *first) {
            return Err(format!("the engine has taken up to {taken}, {last} were offered"));
        }
        union::fail::point("link.handed");
        self.outbox.acked(taken.min(last), self.epoch).await.map_err(|e| e.to_string())?;
        let count = seqs.iter().filter(|seq| **seq <= taken).count();
        self.backlog.taken(count);
        Ok(count)
    }
}

fn handed(seq: u64, item: Item) -> pb::HandedItem {
    let what = match item.what {
        What::Outcome => 1,
        What::Audit => 2,
        What::Ids => 3,
    };
    let (body, grant) = match item.what {
        // As the id maps wrote it.
        What::Ids => (item.body.0, None),
        _ => match Handing::decode(item.body.0.as_slice()) {
            Ok(handing) => (handing.body, handing.grant),
            Err(_) => (item.body.0, None),
        },
    };
    pb::HandedItem { seq, what, body, grant }
}

#[cfg(test)]
mod tests;

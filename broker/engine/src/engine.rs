//! The engine: what it holds, its start and its end.

use crate::{Deps, flight::Flights, limits::Gate, own::OwnFacts, tree::Tree};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use store::{
    Epoch, Store, StoreError,
    journal::Journal,
    leases::{Lease, LeaseError, Leases, following},
    outbox::Inbox,
};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use union::{Clock, ObjectId, Schema};

/// The name under which the engine leases its own domain.
pub(crate) const ENGINE: &str = "engine";
/// How often what is too old is forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// The engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read or written.
    #[error("the engine's store cannot be used: {0}")]
    Store(#[from] StoreError),
    /// Another engine took the store over.
    #[error("the engine's epoch was not granted: {0}")]
    Epoch(#[from] LeaseError),
}

/// Makes this life of the engine the one that may write: what earlier ones sent is refused from now on. Called once, before any room
/// of the store is opened; all of them write with the epoch that comes back.
///
/// # Errors
/// [`StartError`] when the store refuses.
pub async fn begin_epoch(store: &Arc<dyn Store>, clock: &dyn Clock) -> Result<Epoch, StartError> {
    let leases = Leases::new(Arc::clone(store));
    let now = clock.now_ms();
    let next = following(leases.get(ENGINE).await?.as_ref(), now);
    let lease = leases.grant(ENGINE, ENGINE, now, Epoch(next)).await?;
    Ok(Epoch(lease.epoch))
}

/// An agent, as far as the engine knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub incarnation: u64,
    pub heard_ms: i64,
    /// What it offers.
    pub targets: Vec<Arc<str>>,
}

/// The engine of a domain.
#[derive(Debug)]
pub struct Engine {
    pub(crate) me: Weak<Engine>,
    pub(crate) deps: Deps,
    pub(crate) tree: Tree,
    pub(crate) journal: Journal,
    pub(crate) inbox: Inbox,
    pub(crate) leases: Leases,
    pub(crate) granted: Mutex<FxHashMap<Arc<str>, Lease>>,
    pub(crate) known: Mutex<FxHashMap<Arc<str>, Known>>,
    pub(crate) own: Arc<OwnFacts>,
    pub(crate) flights: Arc<Flights>,
    pub(crate) gate: Gate,
    /// The turn of commands that change the tree.
    pub(crate) tree_turn: tokio::sync::Mutex<()>,
    /// Folders that are being destroyed: nothing is put into them any more.
    pub(crate) doomed: Mutex<Vec<ObjectId>>,
    /// The turns of commands that change what the broker keeps of an object.
    pub(crate) own_turns: Mutex<FxHashMap<ObjectId, Weak<tokio::sync::Mutex<()>>>>,
    /// The room for questions about lost commands, by agent.
    pub(crate) asking: Mutex<FxHashMap<Arc<str>, Arc<Semaphore>>>,
    /// Moves when an agent comes up.
    pub(crate) arrivals: watch::Sender<u64>,
    pub(crate) tracker: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

impl Engine {
    /// An engine on its store. When this returns, the broker's own facts are shown, and recovery has begun: every open command is in
    /// flight again.
    ///
    /// # Errors
    /// [`StartError`] when the store cannot be read.
    pub async fn start(deps: Deps) -> Result<Arc<Engine>, StartError> {
        let schema = Arc::clone(deps.facts.inventory().schema());
        let own = OwnFacts::new(Arc::clone(&deps.store), Arc::clone(&deps.facts), schema);
        own.load().await?;
        let leases = Leases::new(Arc::clone(&deps.store));
        let granted = leases.list().await?.into_iter().map(|l| (Arc::clone(&l.target), l)).collect();
        let engine = Arc::new_cyclic(|me| Engine {
            me: Weak::clone(me),
            tree: Tree::new(Arc::clone(&deps.view)),
            journal: Journal::new(Arc::clone(&deps.store)),
            inbox: Inbox::new(Arc::clone(&deps.store)),
            leases,
            granted: Mutex::new(granted),
            known: Mutex::default(),
            own: Arc::new(own),
            flights: Arc::default(),
            gate: Gate::default(),
            tree_turn: tokio::sync::Mutex::default(),
            doomed: Mutex::default(),
            own_turns: Mutex::default(),
            asking: Mutex::default(),
            arrivals: watch::Sender::new(0),
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            deps,
        });
        engine.recover().await?;
        engine.sweep_now_and_then();
        Ok(engine)
    }

    /// The broker's own facts.
    pub fn own(&self) -> &Arc<OwnFacts> {
        &self.own
    }

    /// Which life of the engine this is.
    pub fn epoch(&self) -> Epoch {
        self.deps.epoch
    }

    /// Commands under way, those that are being settled among them.
    pub fn under_way(&self) -> usize {
        self.flights.count()
    }

    pub(crate) fn schema(&self) -> &Schema {
        self.deps.facts.inventory().schema()
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.deps.clock.now_ms()
    }

    /// How long until `deadline_ms`, at most the longest that is allowed.
    pub(crate) fn left(&self, deadline_ms: i64) -> Duration {
        let left = u64::try_from(deadline_ms.saturating_sub(self.now_ms())).unwrap_or(0);
        Duration::from_millis(left).min(self.deps.limits.longest)
    }

    /// The turn of those who change what the broker keeps of an object.
    pub(crate) fn own_turn(&self, id: ObjectId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.own_turns.lock();
        if let Some(turn) = turns.get(&id).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(id, Arc::downgrade(&turn));
        turn
    }

    /// The room for questions about lost commands to an agent, so that one that hangs does not keep others from being asked.
    pub(crate) fn room_to_ask(&self, agent: &str) -> Arc<Semaphore> {
        let mut asking = self.asking.lock();
        if let Some(room) = asking.get(agent) {
            return Arc::clone(room);
        }
        let room = Arc::new(Semaphore::new(self.deps.limits.asking));
        asking.insert(Arc::from(agent), Arc::clone(&room));
        room
    }

    /// Gives up: what is under way is left to the next start, which settles it.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Does work that ends when the engine stops.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = work => {}
            }
        });
    }

    fn sweep_now_and_then(&self) {
        let me = Weak::clone(&self.me);
        self.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(engine) = me.upgrade() else { return };
                loop {
                    match engine.journal.expire(engine.now_ms(), engine.deps.epoch).await {
                        Ok(0) => break,
                        Ok(count) => tracing::debug!(count, "settled commands were forgotten"),
                        Err(error) => {
                            tracing::warn!(%error, "settled commands could not be forgotten");
                            break;
                        }
                    }
                }
            }
        });
    }
}

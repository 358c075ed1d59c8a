//! What an agent tells the bus: its facts as a feed, its events as CloudEvents, its tasks.
//!
//! ```text
//! Inventory ─observer─▶ bounded queue ─▶ FeedPublisher   inventory.<domain>.<agent>.facts.{delta,snapshot}
//!                                  └──▶ task.<domain>.<id>
//! Chronicle ─subscription────────────▶ event.<domain>.<kind>.<id>.<what>
//! ```
//!
//! A queue that is full is not waited for: the feed is then set from the whole inventory, so the bus may be late but never wrong.
//!
//! What need not be there at once gathers for a moment and leaves together: events, the steps of tasks, and in the engine's own process, which
//! leads its fleet by itself, all facts. What others wait for with a command of the engine's does not gather.

use crate::json;
use bus::{
    Bus, BusError, CloudEvent, Headers, Subject,
    feed::{FeedChange, FeedName, FeedPace, FeedPublisher},
};
use bytes::Bytes;
use inventory::{Change, Chronicle, Inventory, Observer, ObserverGuard, chronicle, feed, fleet::Finder};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{broadcast::error::RecvError, mpsc, watch};
use tokio_util::sync::CancellationToken;
use union::{Kind, ObjectId, Schema, SlotSet};

/// Batches of changes that may wait for the bus.
const QUEUE: usize = 1_024;
/// How often what no target held is looked at again.
const HELD_EVERY: Duration = Duration::from_millis(100);
/// Kinds of what targets hold.
const TARGETS: [Kind; 4] = [Kind::Vm, Kind::Host, Kind::Network, Kind::StoragePool];
/// How often gaps of the mappings are told.
const GAPS_EVERY: Duration = Duration::from_secs(2);
/// How long what need not be there at once waits for company.
const GATHER: Duration = Duration::from_millis(4);
/// How often events are offered again to a bus that does not take them.
const RETRY: Duration = Duration::from_millis(200);

/// Whose facts they are.
#[derive(Clone)]
pub struct Publisher {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The installation.
    pub domain: Arc<str>,
    /// This agent.
    pub agent: Arc<str>,
    /// Its engine is in this process and needs no feed.
    pub led: bool,
}

/// Lets pass what another try may mend; anything else is told and done with.
fn given_up(sent: Result<(), BusError>) -> Result<(), BusError> {
    match sent {
        Err(e @ (BusError::Disconnected | BusError::Busy | BusError::Timeout | BusError::Closed)) => Err(e),
        Err(e) => {
            tracing::warn!(error = %e, "the bus refuses an event");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

struct Tap {
    queue: mpsc::Sender<Vec<Change>>,
    overflowed: Arc<AtomicBool>,
}

impl Observer for Tap {
    fn changed(&self, changes: &[Change]) {
        if self.queue.try_send(changes.to_vec()).is_err() {
            self.overflowed.store(true, Ordering::Release);
        }
    }
}

/// Feeds the bus until dropped.
pub struct Publishing {
    told: watch::Receiver<i64>,
    queue: mpsc::Sender<Vec<Change>>,
    overflowed: Arc<AtomicBool>,
    steps: Steps,
    _tap: ObserverGuard,
    _stop: tokio_util::sync::DropGuard,
}

/// The targets that have given all their facts.
type Steps = Arc<Mutex<BTreeSet<String>>>;

impl Publishing {
    /// Tells that a target has given all its facts, for the first time in this life of the agent.
    pub fn in_step(&self, target: &str) {
        self.steps.lock().insert(target.to_owned());
        // Behind what the target has put, which waits in the same queue.
        if self.queue.try_send(Vec::new()).is_err() {
            self.overflowed.store(true, Ordering::Release);
        }
    }

    /// Ends when the bus has every event of `chronicle` that is there now, or after `within`.
    pub async fn finish(mut self, chronicle: &Chronicle, within: Duration) {
        let latest = chronicle.latest().map_or(0, |latest| latest.number);
        let told = tokio::time::timeout(within, self.told.wait_for(|told| *told >= latest)).await;
        if !matches!(told, Ok(Ok(_))) {
            tracing::warn!("the last events did not reach the bus");
        }
    }
}

impl Publisher {
    /// Opens the feed of `inventory` and follows `chronicle`. `finder` knows which target holds an object.
    pub async fn start(
        &self,
        inventory: &Arc<Inventory>,
        incarnation: u64,
        chronicle: &Arc<Chronicle>,
        finder: Finder,
    ) -> Result<Publishing, BusError> {
        let name = FeedName::new(&self.domain, &self.agent, "facts")?;
        let feed = FeedPublisher::open(Arc::clone(&self.bus), name, incarnation, FeedPace::default()).await?;
        let (queue, batches) = mpsc::channel(QUEUE);
        let overflowed = Arc::new(AtomicBool::new(false));
        let tap = Tap { queue: queue.clone(), overflowed: Arc::clone(&overflowed) };
        let tap = inventory.observe_all(Arc::new(tap));
        let steps = Steps::default();
        let stop = CancellationToken::new();
        let facts = Facts {
            to: self.clone(),
            inventory: Arc::clone(inventory),
            feed,
            overflowed: Arc::clone(&overflowed),
            told: HashSet::new(),
            unheld: HashSet::new(),
            finder,
            steps: Arc::clone(&steps),
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(facts.run(batches)));
        let (telling, told) = watch::channel(0);
        tokio::spawn(stop.clone().run_until_cancelled_owned(self.clone().events(
            Arc::clone(chronicle),
            "",
            telling,
        )));
        let (inventory, chronicle) = (Arc::clone(inventory), Arc::clone(chronicle));
        tokio::spawn(stop.clone().run_until_cancelled_owned(tell_gaps(inventory, chronicle)));
        Ok(Publishing { told, queue, overflowed, steps, _tap: tap, _stop: stop.drop_guard() })
    }

    /// Publishes the events whose word begins with `prefix`, for as long as it is polled; `told` is the number of the last one that the
    /// bus is known to have. What a lost link may have swallowed is published again under the same id.
    pub async fn events(self, chronicle: Arc<Chronicle>, prefix: &'static str, told: watch::Sender<i64>) {
        let mut news = chronicle.subscribe();
        let mut out = false;
        loop {
            // What happened before the subscription is told without waiting for what happens next. The chronicle keeps more than a
            // subscription does.
            while chronicle.latest().is_some_and(|latest| latest.number > *told.borrow()) {
                let before = *told.borrow();
                match self.events_after(&chronicle, prefix, before).await {
                    Ok(last) => {
                        if std::mem::take(&mut out) {
                            tracing::info!("the bus has every event again");
                        }
                        told.send_replace(last);
                    }
                    Err(BusError::Closed) => return,
                    Err(e) => {
                        if !std::mem::replace(&mut out, true) {
                            tracing::warn!(error = %e, "events wait for the bus");
                        }
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
            if let Err(RecvError::Closed) = news.recv().await {
                return;
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Publishes what is numbered above `told`; the number of the last.
    async fn events_after(&self, chronicle: &Chronicle, prefix: &str, told: i64) -> Result<i64, BusError> {
        let waiting = chronicle.query(&chronicle::Filter { after: Some(told), ..Default::default() });
        let lost = waiting.first().map_or(0, |first| first.number - told - 1);
        if lost > 0 && told > 0 {
            tracing::warn!(lost, "events that the bus has not seen are no longer kept");
        }
        let mut any = false;
        for event in waiting.iter().filter(|e| e.what.starts_with(prefix)) {
            self.event(chronicle.inventory().schema(), event).await?;
            any = true;
        }
        if any {
            given_up(self.bus.flush().await)?;
        }
        Ok(waiting.last().map_or(told, |last| last.number))
    }

    /// Publishes one event; an error is one that passes.
    async fn event(&self, schema: &Schema, event: &chronicle::Entry) -> Result<(), BusError> {
        let (kind, what) = event.what.split_once('.').unwrap_or(("event", &event.what));
        let object = event.object.map(|o| o.uuid.to_string()).unwrap_or_default();
        let cloud = CloudEvent {
            id: event.id.uuid.to_string(),
            source: format!("/{}/{}", self.domain, self.agent),
            kind: format!("hyperglot.{}", event.what),
            time: json::time(event.time_ms),
            subject: event.object.map(|o| o.to_string()),
            data: Bytes::from(json::record(schema, &event.record).to_string()),
        };
        let sent = match (Subject::event(&self.domain, kind, &object, what), cloud.headers()) {
            (Ok(subject), Ok(headers)) => self.bus.publish(&subject, headers, cloud.data).await,
            (Err(e), _) | (_, Err(e)) => Err(e),
        };
        given_up(sent)
    }

    async fn task(&self, schema: &Schema, change: &Change) {
        let Some(record) = &change.new else { return };
        let body = Bytes::from(json::record(schema, record).to_string());
        let Ok(subject) = Subject::task(&self.domain, &change.id.uuid.to_string()) else { return };
        if let Err(e) = self.bus.publish(&subject, Headers::new(), body).await {
            tracing::debug!(task = %change.id, error = %e, "a task's step did not reach the bus");
        }
    }
}

/// Makes an event of each place where a mapping first met a value it could not show or read.
async fn tell_gaps(inventory: Arc<Inventory>, chronicle: Arc<Chronicle>) {
    loop {
        for gap in inventory.gaps().take_news() {
            tracing::info!(protocol = &*gap.protocol, path = &*gap.path, why = gap.why, "a value has no row");
            let message =
                format!("{}: `{}` met a value that no row understands: {}", gap.protocol, gap.path, gap.why);
            chronicle.record(chronicle::Note { what: "mapping.gap", message, ..Default::default() });
        }
        tokio::time::sleep(GAPS_EVERY).await;
    }
}

/// Sets the feed to what the inventory holds.
struct Facts {
    to: Publisher,
    inventory: Arc<Inventory>,
    feed: FeedPublisher,
    overflowed: Arc<AtomicBool>,
    /// What the feed holds.
    told: HashSet<ObjectId>,
    /// What was told before a target held it: facts of an earlier life, and of a target that is being adopted. Told again when one does,
    /// because only then others know how it is spoken to.
    unheld: HashSet<ObjectId>,
    finder: Finder,
    steps: Steps,
}

impl Facts {
    async fn run(mut self, mut batches: mpsc::Receiver<Vec<Change>>) {
        let mut look = tokio::time::interval(HELD_EVERY);
        loop {
            let batch = tokio::select! {
                batch = batches.recv() => batch,
                _ = look.tick(), if !self.unheld.is_empty() => {
                    self.tell_held().await;
                    continue;
                }
            };
            let Some(mut batch) = batch else { return };
            self.gather(&mut batch, &mut batches).await;
            if self.overflowed.swap(false, Ordering::AcqRel) {
                while batches.try_recv().is_ok() {}
                tracing::warn!("facts change faster than the bus takes them; setting the feed anew");
                self.renew().await;
            } else {
                self.tell(&batch).await;
            }
        }
    }

    /// Waits for company unless somebody waits for this, and takes what has come in.
    async fn gather(&self, batch: &mut Vec<Change>, batches: &mut mpsc::Receiver<Vec<Change>>) {
        let pressing = |batch: &[Change]| batch.is_empty() || batch.iter().any(|change| self.presses(change));
        let until = tokio::time::Instant::now() + GATHER;
        if self.to.led {
            tokio::time::sleep_until(until).await;
        } else {
            while !pressing(batch)
                && let Ok(Some(more)) = tokio::time::timeout_at(until, batches.recv()).await
            {
                let pressed = pressing(&more);
                batch.extend(more);
                if pressed {
                    break;
                }
            }
        }
        for _ in 0..QUEUE {
            let Ok(more) = batches.try_recv() else { break };
            batch.extend(more);
        }
    }

    /// Whether a change may be what a command of the engine's waits for: tasks are not, nor that a command has begun.
    fn presses(&self, change: &Change) -> bool {
        let operation = self.inventory.schema().slot(change.id.kind, "operation");
        let begins = operation.zip(change.new.as_ref()).is_some_and(|(slot, new)| {
            change.old.is_some() && change.changed == SlotSet::of(slot) && !new.get(slot).is_absent()
        });
        change.id.kind != Kind::Task && !begins
    }

    async fn renew(&mut self) {
        let all = self.inventory.everything();
        let now: HashSet<ObjectId> = all.iter().map(|c| c.id).collect();
        let gone = self.told.difference(&now).map(|id| FeedChange::Remove { key: id.to_string() }).collect();
        self.told.retain(|id| now.contains(id));
        self.set(gone).await;
        self.tell(&all).await;
    }

    /// Tells anew what a target has come to hold.
    async fn tell_held(&mut self) {
        let held: HashSet<ObjectId> =
            self.unheld.iter().copied().filter(|id| (self.finder)(*id).is_some()).collect();
        if !held.is_empty() {
            let all = self.inventory.everything();
            let again: Vec<Change> = all.into_iter().filter(|change| held.contains(&change.id)).collect();
            self.tell(&again).await;
            self.unheld.retain(|id| !held.contains(id));
        }
    }

    async fn tell(&mut self, batch: &[Change]) {
        let schema = Arc::clone(self.inventory.schema());
        let mut changes = Vec::with_capacity(batch.len());
        let last: HashMap<ObjectId, usize> = batch.iter().enumerate().map(|(at, c)| (c.id, at)).collect();
        for (_, change) in batch.iter().enumerate().filter(|(at, c)| last.get(&c.id) == Some(at)) {
            let held = (self.finder)(change.id);
            let waits = held.is_none() && change.new.is_some() && TARGETS.contains(&change.id.kind);
            match waits {
                true => self.unheld.insert(change.id),
                false => self.unheld.remove(&change.id),
            };
            let held = held.unwrap_or_default();
            let held = feed::Held { target: &held.0, protocol: &held.1 };
            let (key, bytes) = feed::encode(&schema, change, held);
            changes.push(match bytes {
                Some(bytes) => {
                    self.told.insert(change.id);
                    FeedChange::Put { key, bytes: Bytes::from(bytes) }
                }
                None => {
                    self.told.remove(&change.id);
                    FeedChange::Remove { key }
                }
            });
        }
        // What makes a whole of them comes behind them, and a target's word behind its facts.
        let mut marks: Vec<_> = batch.last().map(|last| feed::revision(last.revision)).into_iter().collect();
        marks.extend(self.steps.lock().iter().map(|target| feed::in_step(target)));
        changes.extend(marks.into_iter().map(|(key, bytes)| FeedChange::Put { key, bytes: bytes.into() }));
        self.set(changes).await;
        for change in batch.iter().filter(|c| c.id.kind == Kind::Task) {
            self.to.task(&schema, change).await;
        }
    }

    async fn set(&self, changes: Vec<FeedChange>) {
        if let Err(e) = self.feed.apply(changes).await {
            tracing::error!(error = %e, "a fact is too large for the bus; replicas will not see it");
        }
    }
}

//! Id maps of fronts, over the store's.
//!
//! ```text
//! IdMap.natives ─▶ give ─▶ store ─ ok ─▶ shown
//!                            └─ Leased, none left ─▶ the objects are not shown yet; Lender (the engine) ─▶ hold
//! Leased, less than half a block left ─▶ the lender is asked in the background
//! ```
//!
//! A task is shown the moment it is made, so it does not wait for a disk of its own: its number is of a block set aside before, and the pair is
//! queued for the store at once, to be written by the same sync as the intent of the task's command, which is queued behind it: durable not
//! after the intent, and before anybody is told.
//!
//! The view of a map says whose it is: `fleet` is the engine's alone; the view of one host is its agent's (`host:<agent>` for example), who
//! hands each pair to the engine through its outbox.

use async_trait::async_trait;
use inventory::idmap::{Durable, NotKept, Taken};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    collections::BTreeSet,
    fmt::Debug,
    ops::Range,
    sync::Arc,
    task::{Context, Waker},
};
use store::{
    Epoch, StoreError,
    idmap::{Block, Given, IdError, IdMap, MAX_BLOCK, Pair},
};
use tokio::{runtime::Handle, sync::oneshot};
use union::{Clock, Kind, ObjectId, pb};

/// Numbers leased at a time.
pub const BLOCK: u64 = 1_000;
/// Numbers of tasks set aside at a time.
const ASIDE: u64 = BLOCK / 4;
/// Objects that are marked as gone in one commit.
const TOGETHER: usize = 512;

/// Who leases numbers: the engine, by its verb `ids`.
#[async_trait]
pub trait Lender: Send + Sync + Debug {
    /// A block of numbers that only this agent gives out.
    ///
    /// # Errors
    /// Why there is none, in words.
    async fn lease(&self, wanted: pb::LeaseIds) -> Result<pb::LeasedIds, String>;
}

/// An id map of a front, kept in the store.
#[derive(Debug)]
pub struct Kept {
    map: Arc<IdMap>,
    epoch: Epoch,
    clock: Arc<dyn Clock>,
    leased: Option<Arc<Leased>>,
    /// Objects that are gone, until that is written.
    gone: Arc<Mutex<BTreeSet<ObjectId>>>,
    /// Objects that are to be forgotten, until they are.
    old: Arc<Mutex<BTreeSet<ObjectId>>>,
    ahead: Arc<Mutex<Ahead>>,
}

/// Ids given out before they are written.
#[derive(Debug, Default)]
struct Ahead {
    /// Numbers set aside, by form, and those that follow them.
    ranges: FxHashMap<Arc<str>, Range<u64>>,
    next: FxHashMap<Arc<str>, Range<u64>>,
    /// Forms of which more numbers are being set aside.
    asking: FxHashSet<Arc<str>>,
    /// What is being written.
    writing: FxHashMap<ObjectId, Arc<str>>,
    /// Who waits for that.
    waiting: FxHashMap<ObjectId, Vec<oneshot::Sender<()>>>,
    /// What the store refused, and is tried again: nobody waits for that. Its number is set aside, so it is never another's.
    refused: FxHashSet<ObjectId>,
}

impl Ahead {
    /// Lets those go on who wait for an object's id.
    fn release(&mut self, id: ObjectId) {
        for waiting in self.waiting.remove(&id).into_iter().flatten() {
            // Whoever waited may have gone.
            waiting.send(()).ok();
        }
    }
}

/// What an agent's map needs besides.
#[derive(Debug)]
struct Leased {
    map: Arc<IdMap>,
    epoch: Epoch,
    agent: Arc<str>,
    lender: Arc<dyn Lender>,
    /// Forms that are being asked for.
    asking: Mutex<FxHashSet<Arc<str>>>,
}

impl Kept {
    /// A map whose numbers are counted: the engine's own.
    pub fn counted(map: Arc<IdMap>, epoch: Epoch, clock: Arc<dyn Clock>) -> Arc<Kept> {
        Arc::new(Kept {
            map,
            epoch,
            clock,
            leased: None,
            gone: Arc::default(),
            old: Arc::default(),
            ahead: Arc::default(),
        })
    }

    /// A map of `agent`, whose numbers the engine leases.
    pub fn leased(
        map: Arc<IdMap>,
        epoch: Epoch,
        clock: Arc<dyn Clock>,
        agent: &str,
        lender: Arc<dyn Lender>,
    ) -> Arc<Kept> {
        let leased = Leased {
            map: Arc::clone(&map),
            epoch,
            agent: Arc::from(agent),
            lender,
            asking: Mutex::default(),
        };
        let leased = Some(Arc::new(leased));
        Arc::new(Kept {
            map,
            epoch,
            clock,
            leased,
            gone: Arc::default(),
            old: Arc::default(),
            ahead: Arc::default(),
        })
    }

    /// The fast copy of it, for a front.
    pub fn id_map(self: &Arc<Kept>) -> Arc<inventory::IdMap> {
        let (protocol, view) = (Arc::clone(self.map.protocol()), Arc::clone(self.map.view()));
        Arc::new(inventory::IdMap::durable(&protocol, &view, Arc::clone(self) as Arc<dyn Durable>))
    }

    /// Whether it has given any id out, ever.
    pub fn has_given(&self) -> bool {
        !self.map.pairs().is_empty()
    }

    /// Asks for numbers of these forms ahead of their first use, until there are `least` of each.
    ///
    /// # Errors
    /// Why there are none, in words.
    pub async fn prepare(&self, forms: &[&str], least: u64) -> Result<(), String> {
        let Some(leased) = &self.leased else { return Ok(()) };
        for form in forms {
            let left = self.map.remaining(form);
            if left < least {
                leased.refill(&Arc::from(*form), BLOCK.max(least - left)).await?;
            }
        }
        Ok(())
    }

    fn natives(&self, wanted: &[(ObjectId, &str)]) -> Result<Vec<Arc<str>>, IdError> {
        self.refilled(wanted.len(), || super::wait(self.map.natives(wanted, self.epoch)))
    }

    /// What `give` gives. Where numbers have run out the lender is asked, but not waited for: whoever asks here may hold what the answer
    /// would have to pass.
    fn refilled<T>(&self, wanted: usize, give: impl FnOnce() -> Result<T, IdError>) -> Result<T, IdError> {
        let given = give();
        if let (Err(IdError::Exhausted { form }), Some(leased)) = (&given, &self.leased)
            && let Ok(handle) = Handle::try_current()
        {
            tracing::warn!(%form, "no numbers are left; objects of this kind are shown when the engine leases more");
            leased.refill_later(&handle, form, BLOCK.max(u64::try_from(wanted).unwrap_or(BLOCK)));
        }
        given
    }
}

/// Sees something that takes a map's turn to its end, on a thread of its own: those who wait in place for the turn may be all the workers
/// there are, or hold what all of these wait for, so who has it must not need one.
fn on_its_own(handle: &Handle, asked: impl Future<Output = ()> + Send + 'static) {
    handle.spawn_blocking(move || store::wait(asked));
}

/// An id that may be given out before it is written.
fn is_quick(id: ObjectId, form: &str) -> bool {
    id.kind == Kind::Task && form.contains("{n}") && !form.contains("{uuid}")
}

impl Kept {
    /// Ids of tasks, out of numbers set aside.
    fn quick(&self, handle: &Handle, wanted: &[(ObjectId, &str)]) -> Result<Vec<Arc<str>>, IdError> {
        let mut ahead = self.ahead.lock();
        let mut natives = Vec::with_capacity(wanted.len());
        let mut new = Vec::new();
        for (id, form) in wanted {
            if let Some(known) = self.map.known(*id).or_else(|| ahead.writing.get(id).cloned()) {
                natives.push(known);
                continue;
            }
            let known = ahead.ranges.get_key_value(*form).map(|(form, _)| Arc::clone(form));
            let form: Arc<str> = known.unwrap_or_else(|| Arc::from(*form));
            let (native, number) = loop {
                let Some(number) = ahead.ranges.get_mut(&form).and_then(Iterator::next) else {
                    let range = match ahead.next.remove(&form) {
                        Some(next) => next,
                        None => {
                            let reserve = || super::wait(self.map.reserve(&form, ASIDE, self.epoch));
                            self.refilled(wanted.len(), reserve)?
                        }
                    };
                    ahead.ranges.insert(Arc::clone(&form), range);
                    continue;
                };
                let native: Arc<str> = Arc::from(form.replace("{n}", &number.to_string()));
                if self.map.object(&native).is_none() {
                    break (native, number);
                }
            };
            ahead.writing.insert(*id, Arc::clone(&native));
            natives.push(Arc::clone(&native));
            new.push(Given { id: *id, pair: Pair { native, form, number, retired_ms: 0 } });
        }
        for given in &new {
            self.set_aside(handle, &mut ahead, &given.pair.form);
        }
        drop(ahead);
        if !new.is_empty() {
            self.write(handle, new);
        }
        Ok(natives)
    }

    /// Has more numbers set aside when few are left, so that nobody waits for them.
    fn set_aside(&self, handle: &Handle, ahead: &mut Ahead, form: &Arc<str>) {
        let left = ahead.ranges.get(form).map_or(0, |range| range.end.saturating_sub(range.start));
        if left > ASIDE / 2 || ahead.next.contains_key(form) || !ahead.asking.insert(Arc::clone(form)) {
            return;
        }
        let (map, ahead, epoch) = (Arc::clone(&self.map), Arc::clone(&self.ahead), self.epoch);
        let form = Arc::clone(form);
        on_its_own(handle, async move {
            let reserved = map.reserve(&form, ASIDE, epoch).await;
            let mut ahead = ahead.lock();
            ahead.asking.remove(&form);
            match reserved {
                Ok(range) => drop(ahead.next.insert(form, range)),
                // Who needs one finds out, and says so.
                Err(why) => tracing::debug!(%form, %why, "no numbers were set aside ahead"),
            }
        });
    }

    /// Queues pairs for the store now, and sees to it that they get there.
    fn write(&self, handle: &Handle, new: Vec<Given>) {
        let (map, ahead, epoch) = (Arc::clone(&self.map), Arc::clone(&self.ahead), self.epoch);
        let mut writing = Box::pin(async move {
            while let Err(error) = map.record(&new, epoch).await {
                tracing::warn!(%error, "ids of tasks are not kept");
                let passes = matches!(
                    error,
                    IdError::Store(
                        StoreError::Busy { .. } | StoreError::Full { .. } | StoreError::ReadOnly { .. }
                    )
                );
                if !passes {
                    break;
                }
                {
                    let mut ahead = ahead.lock();
                    for given in &new {
                        ahead.refused.insert(given.id);
                        ahead.release(given.id);
                    }
                }
                tokio::time::sleep(super::AGAIN).await;
            }
            let mut ahead = ahead.lock();
            for given in &new {
                ahead.writing.remove(&given.id);
                ahead.refused.remove(&given.id);
                ahead.release(given.id);
            }
        });
        // The first step puts them into the store's queue, ahead of whatever this thread asks of the store next.
        let _runtime = handle.enter();
        if writing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            // Nobody waits for it in place, and it takes no turn: it needs no thread of its own.
            handle.spawn(writing);
        }
    }
}

impl Leased {
    /// Asks for a block and holds it.
    async fn refill(&self, form: &Arc<str>, count: u64) -> Result<(), String> {
        let wanted = pb::LeaseIds {
            protocol: self.map.protocol().to_string(),
            view: self.map.view().to_string(),
            form: form.to_string(),
            count: count.min(MAX_BLOCK),
        };
        let pb::LeasedIds { first, count } = self.lender.lease(wanted).await?;
        let end = first.checked_add(count).ok_or("the engine leased more numbers than there are")?;
        let block = Block { form: Arc::clone(form), agent: Arc::clone(&self.agent), first, end, next: first };
        // The map's turn is held by a thread of its own: those who wait for it in place may be all the workers there are.
        let (map, epoch) = (Arc::clone(&self.map), self.epoch);
        let held = tokio::task::spawn_blocking(move || store::wait(map.hold(block, epoch))).await;
        held.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    fn refill_later(self: &Arc<Leased>, handle: &Handle, form: &Arc<str>, count: u64) {
        if !self.asking.lock().insert(Arc::clone(form)) {
            return;
        }
        let (me, form) = (Arc::clone(self), Arc::clone(form));
        handle.spawn(async move {
            let asked = me.refill(&form, count).await;
            me.asking.lock().remove(&form);
            if let Err(why) = asked {
                tracing::debug!(%form, why, "no numbers were leased ahead");
            }
        });
    }

    /// After numbers were given out.
    fn look_ahead(self: &Arc<Leased>, forms: impl Iterator<Item = Arc<str>>) {
        let Ok(handle) = Handle::try_current() else { return };
        let forms: FxHashSet<Arc<str>> = forms.filter(|form| form.contains("{n}")).collect();
        for form in forms.iter().filter(|form| self.map.remaining(form) < BLOCK / 2) {
            self.refill_later(&handle, form, BLOCK);
        }
    }
}

fn not_kept(error: IdError) -> NotKept {
    match error {
        IdError::Taken { native, by, wanted } => Taken { native, by, wanted }.into(),
        IdError::Forked { id, known, .. } => Taken { native: known, by: id, wanted: id }.into(),
        other => NotKept::Store(other.to_string()),
    }
}

impl Durable for Kept {
    fn give(&self, wanted: &[(ObjectId, &str)]) -> Result<Vec<Arc<str>>, NotKept> {
        let natives = match Handle::try_current() {
            Ok(handle) if wanted.iter().all(|(id, form)| is_quick(*id, form)) => self.quick(&handle, wanted),
            _ => self.natives(wanted),
        };
        let natives = natives.map_err(not_kept)?;
        if let Some(leased) = &self.leased {
            leased.look_ahead(wanted.iter().map(|(_, form)| Arc::from(*form)));
        }
        Ok(natives)
    }

    fn fix(&self, id: ObjectId, native: &str) -> Result<Arc<str>, NotKept> {
        super::wait(self.map.fix(id, native, self.epoch)).map_err(not_kept)
    }

    fn retire(&self, id: ObjectId) -> Result<(), NotKept> {
        let Ok(handle) = Handle::try_current() else {
            return super::wait(self.map.retire(id, self.clock.now_ms(), self.epoch)).map_err(not_kept);
        };
        // Many go at once: they are written together a moment later. What is lost of it, its target says again.
        let first = {
            let mut gone = self.gone.lock();
            gone.insert(id) && gone.len() == 1
        };
        if first {
            let (map, gone, epoch) = (Arc::clone(&self.map), Arc::clone(&self.gone), self.epoch);
            let clock = Arc::clone(&self.clock);
            handle.spawn(async move {
                tokio::time::sleep(super::GATHER).await;
                let ids: Vec<ObjectId> = std::mem::take(&mut *gone.lock()).into_iter().collect();
                on_its_own(&Handle::current(), async move {
                    for ids in ids.chunks(TOGETHER) {
                        if let Err(error) = map.retire_all(ids, clock.now_ms(), epoch).await {
                            tracing::warn!(%error, "that objects are gone was not kept");
                        }
                    }
                });
            });
        }
        Ok(())
    }

    fn forget(&self, ids: &[ObjectId]) {
        let Ok(handle) = Handle::try_current() else {
            if let Err(error) = super::wait(self.map.forget(ids, self.epoch)) {
                tracing::warn!(%error, "ids of old objects were not forgotten; a later start does it");
            }
            return;
        };
        let first = {
            let mut old = self.old.lock();
            let first = old.is_empty();
            old.extend(ids);
            first && !old.is_empty()
        };
        if first {
            let (map, old, epoch) = (Arc::clone(&self.map), Arc::clone(&self.old), self.epoch);
            handle.spawn(async move {
                tokio::time::sleep(super::GATHER).await;
                let ids: Vec<ObjectId> = std::mem::take(&mut *old.lock()).into_iter().collect();
                on_its_own(&Handle::current(), async move {
                    for ids in ids.chunks(TOGETHER) {
                        if let Err(error) = map.forget(ids, epoch).await {
                            tracing::warn!(%error, "ids of old objects were not forgotten; a later start does it");
                        }
                    }
                });
            });
        }
    }

    fn all(&self) -> Vec<(ObjectId, Arc<str>, bool)> {
        let pairs = self.map.pairs().into_iter();
        pairs.map(|Given { id, pair }| (id, pair.native, pair.retired_ms != 0)).collect()
    }

    fn writing(&self, id: ObjectId) -> Option<oneshot::Receiver<()>> {
        let mut ahead = self.ahead.lock();
        if !ahead.writing.contains_key(&id) || ahead.refused.contains(&id) {
            return None;
        }
        let (written, waits) = oneshot::channel();
        ahead.waiting.entry(id).or_default().push(written);
        Some(waits)
    }
}

#[cfg(test)]
mod tests;

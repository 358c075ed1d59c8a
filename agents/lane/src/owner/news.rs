//! Who waits for news of an object: a command whose call was answered, for the facts that show its effect.

use inventory::{Change, Inventory, Observer, ObserverGuard};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tokio::sync::Notify;
use union::ObjectId;

/// By object, how many wait and what wakes them. Bounded by the commands that run.
type Waiting = Mutex<FxHashMap<ObjectId, (usize, Arc<Notify>)>>;

/// Tells commands of changes to their objects.
#[derive(Debug)]
pub(crate) struct News {
    desk: Arc<Desk>,
    _watch: ObserverGuard,
}

#[derive(Debug, Default)]
struct Desk {
    waiting: Waiting,
}

impl Observer for Desk {
    fn changed(&self, changes: &[Change]) {
        let waiting = self.waiting.lock();
        if waiting.is_empty() {
            return;
        }
        for change in changes {
            if let Some((_, wake)) = waiting.get(&change.id) {
                wake.notify_waiters();
            }
        }
    }
}

impl News {
    pub fn of(inventory: &Arc<Inventory>) -> News {
        let desk = Arc::<Desk>::default();
        let watch = inventory.observe(Arc::clone(&desk) as Arc<dyn Observer>);
        News { desk, _watch: watch }
    }

    /// From now on changes to the object are told.
    pub fn subscribe(&self, id: ObjectId) -> Subscription {
        let mut waiting = self.desk.waiting.lock();
        let (count, wake) = waiting.entry(id).or_default();
        *count += 1;
        Subscription { desk: Arc::clone(&self.desk), id, wake: Arc::clone(wake) }
    }
}

/// One who waits for news of an object.
#[derive(Debug)]
pub(crate) struct Subscription {
    desk: Arc<Desk>,
    id: ObjectId,
    wake: Arc<Notify>,
}

impl Subscription {
    /// Waits until `holds` gives something: asked now, and after each change to the object.
    pub async fn until<T>(&self, holds: impl Fn() -> Option<T>) -> T {
        loop {
            let told = self.wake.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            if let Some(found) = holds() {
                return found;
            }
            told.await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut waiting = self.desk.waiting.lock();
        if let Some((count, _)) = waiting.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.id);
            }
        }
    }
}

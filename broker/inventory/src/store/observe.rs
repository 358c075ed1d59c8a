//! Who is told of changes, and how: synchronously, batch by batch, in order.

use super::{Change, Inventory};
use std::sync::{Arc, Weak};
use union::ObjectId;

/// Is told every change.
pub trait Observer: Send + Sync {
    /// Called after the store holds the changes, batch by batch in order. Must be quick, and must not apply to the same inventory.
    fn changed(&self, changes: &[Change]);

    /// What the broker itself says of these objects has changed, whether they are there or not. As `changed`, and after it.
    fn owned(&self, _ids: &[ObjectId]) {}
}

pub(super) type Observers = Arc<Vec<(u64, Arc<dyn Observer>)>>;

impl Inventory {
    /// Tells `observer` every change from now on, until the guard is dropped.
    pub fn observe(self: &Arc<Self>, observer: Arc<dyn Observer>) -> ObserverGuard {
        let _order = self.writer.lock();
        self.enlist(observer)
    }

    /// Tells `observer` all objects as new, then every change; nothing is missed or told twice in between.
    pub fn observe_all(self: &Arc<Self>, observer: Arc<dyn Observer>) -> ObserverGuard {
        let _order = self.writer.lock();
        let all = self.everything();
        if !all.is_empty() {
            observer.changed(&all);
        }
        let owned = self.owned();
        if !owned.is_empty() {
            observer.owned(&owned);
        }
        self.enlist(observer)
    }

    fn enlist(self: &Arc<Self>, observer: Arc<dyn Observer>) -> ObserverGuard {
        let mut observers = self.observers.write();
        observers.0 += 1;
        let id = observers.0;
        let mut list = Vec::clone(&observers.1);
        list.push((id, observer));
        observers.1 = Arc::new(list);
        ObserverGuard { inventory: Arc::downgrade(self), id }
    }
}

/// Ends an observation when dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the observation"]
pub struct ObserverGuard {
    inventory: Weak<Inventory>,
    id: u64,
}

impl Drop for ObserverGuard {
    fn drop(&mut self) {
        if let Some(inventory) = self.inventory.upgrade() {
            let mut observers = inventory.observers.write();
            let left = observers.1.iter().filter(|(id, _)| *id != self.id).cloned().collect();
            observers.1 = Arc::new(left);
        }
    }
}

//! Who reads an object, one at a time, and who need not because another did.
//!
//! ```text
//! asked ─▶ turn ─▶ a read that began since, and saw as much, has ended? its revision
//!                  └─ no ─▶ begin ─▶ read ─▶ end
//! ```

use super::Extent;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use union::{ObjectId, command::Revision};

/// The gates of the objects that are being read.
#[derive(Debug, Default)]
pub(super) struct Gates(Mutex<FxHashMap<ObjectId, Arc<Gate>>>);

impl Gates {
    /// The gate of an object.
    pub fn of(&self, id: ObjectId) -> Arc<Gate> {
        Arc::clone(self.0.lock().entry(id).or_default())
    }

    /// Whoever had come to a gate goes; nobody else there: it is taken down.
    pub fn leave(&self, id: ObjectId, gate: Arc<Gate>) {
        let mut gates = self.0.lock();
        drop(gate);
        if gates.get(&id).is_some_and(|left| Arc::strong_count(left) == 1) {
            gates.remove(&id);
        }
    }
}

/// One object's.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// How many reads have begun.
    begun: AtomicU64,
    last: tokio::sync::Mutex<Last>,
}

/// The last reads that ended well.
#[derive(Debug, Default)]
pub(super) struct Last {
    /// Which read it was, counted from 1, and what holds it.
    any: Option<(u64, Revision)>,
    whole: Option<(u64, Revision)>,
}

impl Gate {
    /// To be kept until one's turn has come: reads that begin after this have a higher number.
    pub fn asked(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// One's turn.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, Last> {
        self.last.lock().await
    }

    /// The number of a read that begins now.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }
}

impl Last {
    /// What holds a read that began after `asked` and saw at least as much.
    pub fn read_since(&self, asked: u64, extent: Extent) -> Option<Revision> {
        let last = if extent == Extent::Whole { self.whole } else { self.any };
        last.filter(|(began, _)| *began > asked).map(|(_, revision)| revision)
    }

    /// A read ended.
    pub fn end(&mut self, began: u64, extent: Extent, revision: Revision) {
        self.any = Some((began, revision));
        if extent == Extent::Whole {
            self.whole = self.any;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::Kind;

    fn revision(n: u64) -> Revision {
        Revision { n, ..Revision::default() }
    }

    #[tokio::test]
    async fn only_a_read_that_began_later_and_saw_as_much_will_do() {
        let gates = Gates::default();
        let id = ObjectId::new(Kind::Vm, uuid::Uuid::nil());
        let gate = gates.of(id);
        let early = gate.asked();
        let began = gate.begin();
        let late = gate.asked();
        gate.turn().await.end(began, Extent::Run, revision(7));
        let turn = gate.turn().await;
        assert_eq!(turn.read_since(early, Extent::Run), Some(revision(7)));
        assert_eq!((turn.read_since(late, Extent::Run), turn.read_since(early, Extent::Whole)), (None, None));
        drop(turn);
        let began = gate.begin();
        gate.turn().await.end(began, Extent::Whole, revision(8));
        let turn = gate.turn().await;
        assert_eq!(turn.read_since(late, Extent::Run), Some(revision(8)));
        assert_eq!(turn.read_since(late, Extent::Whole), Some(revision(8)));
        drop(turn);
        let other = gates.of(id);
        gates.leave(id, gate);
        assert_eq!(gates.0.lock().len(), 1);
        gates.leave(id, other);
        assert!(gates.0.lock().is_empty());
    }
}

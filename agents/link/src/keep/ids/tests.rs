use super::*;
use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};
use store::{Batch, Committed, Health, IdMaps, MemoryStore, Row, Scan, Store, Table, idmap::Numbers};
use tokio::sync::watch;
use union::clock::ManualClock;
use uuid::Uuid;

const EPOCH: Epoch = Epoch(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// A store that writes when it is let.
#[derive(Debug)]
struct Gate {
    inner: MemoryStore,
    open: watch::Sender<bool>,
    /// Whether it has no room.
    full: AtomicBool,
    waiting: watch::Sender<usize>,
}

#[async_trait]
impl Store for Gate {
    async fn commit(&self, batch: Batch, epoch: Epoch) -> Result<Committed, StoreError> {
        let mut open = self.open.subscribe();
        self.waiting.send_modify(|waiting| *waiting += 1);
        open.wait_for(|open| *open).await.expect("we hold it");
        self.waiting.send_modify(|waiting| *waiting -= 1);
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreError::Full { file: "here".into() });
        }
        self.inner.commit(batch, epoch).await
    }
    async fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(table, key).await
    }
    async fn scan(&self, table: Table, scan: Scan) -> Result<Vec<Row>, StoreError> {
        self.inner.scan(table, scan).await
    }
    fn health(&self) -> Health {
        self.inner.health()
    }
}

fn gate() -> Arc<Gate> {
    Arc::new(Gate {
        inner: MemoryStore::new(),
        open: watch::Sender::new(true),
        full: AtomicBool::new(false),
        waiting: watch::Sender::new(0),
    })
}

fn kept(gate: &Arc<Gate>) -> Arc<Kept> {
    let map = IdMap::open(Arc::clone(gate) as Arc<dyn Store>, "p", "v", Numbers::Counted);
    let map = store::wait(map).expect("whole");
    Kept::counted(Arc::new(map), EPOCH, Arc::new(ManualClock::new(1)))
}

fn object(kind: Kind, n: u128) -> ObjectId {
    ObjectId::new(kind, Uuid::from_u128(n))
}

/// Waits until something is so that other threads bring about.
fn until(is_so: impl Fn() -> bool) {
    let mut pauses = (0..PATIENCE.as_millis()).map(|_| thread::sleep(Duration::from_millis(1)));
    while !is_so() {
        pauses.next().expect("it comes about");
    }
}

/// A runtime with one worker.
fn one_worker() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
}

/// While something is being written that has the map's turn, every worker waits for somebody who waits for the turn.
fn stands_still(before: impl FnOnce(&Kept), begin: impl FnOnce(&Kept)) {
    let runtime = one_worker();
    let gate = gate();
    let kept = kept(&gate);
    kept.give(&[(object(Kind::Vm, 1), "vm-{n}")]).expect("a number");
    before(&kept);
    gate.open.send_replace(false);
    {
        let _runtime = runtime.enter();
        begin(&kept);
    }
    let mut waiting = gate.waiting.subscribe();
    store::wait(waiting.wait_for(|waiting| *waiting == 1)).map(drop).expect("it is written");
    let (given, gave) = mpsc::channel();
    let (standing, stands) = mpsc::channel();
    let worker = runtime.spawn(async move {
        standing.send(()).expect("we wait");
        gave.recv_timeout(PATIENCE).expect("a number while no worker is free")
    });
    stands.recv_timeout(PATIENCE).expect("the worker stands still");
    let asker = Arc::clone(&kept);
    thread::spawn(move || given.send(asker.give(&[(object(Kind::Vm, 2), "vm-{n}")]).is_ok()));
    gate.open.send_replace(true);
    assert!(runtime.block_on(worker).expect("it goes on"));
}

#[test]
fn who_marks_objects_as_gone_needs_no_worker() {
    stands_still(|_| {}, |kept| kept.retire(object(Kind::Vm, 1)).expect("queued"));
}

#[test]
fn who_forgets_objects_needs_no_worker() {
    let retired = |kept: &Kept| kept.retire(object(Kind::Vm, 1)).expect("written");
    stands_still(retired, |kept| kept.forget(&[object(Kind::Vm, 1)]));
}

#[test]
fn numbers_of_tasks_are_set_aside_before_they_run_out() {
    let runtime = one_worker();
    let gate = gate();
    let kept = kept(&gate);
    let mut given = FxHashSet::default();
    let mut give = |from: u64, count: u64| {
        let _runtime = runtime.enter();
        for n in from..from + count {
            let native = kept.give(&[(object(Kind::Task, n.into()), "task-{n}")]).expect("a number");
            assert!(given.insert(native), "never twice");
        }
    };
    give(1, ASIDE / 2);
    until(|| kept.ahead.lock().next.contains_key("task-{n}"));
    // What was set aside is used up without the store.
    gate.open.send_replace(false);
    give(1_000, ASIDE + ASIDE / 2);
    gate.open.send_replace(true);
    give(2_000, ASIDE);
    until(|| kept.ahead.lock().writing.is_empty());
    let again = IdMaps::new(gate, Numbers::Counted);
    let map = store::wait(again.map("p", "v")).expect("whole");
    assert_eq!(map.pairs().len(), given.len(), "all are kept");
}

#[test]
fn nobody_waits_for_an_id_while_there_is_no_room_and_it_is_written_later() {
    let runtime = one_worker();
    let gate = gate();
    let kept = kept(&gate);
    let (first, second) = (object(Kind::Task, 1), object(Kind::Task, 2));
    {
        let _runtime = runtime.enter();
        kept.give(&[(first, "task-{n}")]).expect("a number");
        until(|| kept.writing(first).is_none());
        gate.full.store(true, Ordering::SeqCst);
        gate.open.send_replace(false);
        kept.give(&[(second, "task-{n}")]).expect("a number that was set aside");
    }
    let waits = kept.writing(second).expect("it is not written yet");
    gate.open.send_replace(true);
    runtime.block_on(waits).expect("who waits is let go");
    assert!(kept.writing(second).is_none(), "nor does anybody wait who comes later");
    assert_eq!(kept.map.known(second), None);
    gate.full.store(false, Ordering::SeqCst);
    until(|| kept.map.known(second).is_some());
}

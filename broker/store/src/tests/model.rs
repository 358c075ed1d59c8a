//! Id map and journal against a model, on the memory store, with crashes at any commit.

use super::history::{intent, record, vm};
use crate::{
    Batch, Blob, Epoch, MemoryStore, Store, StoreError, audit,
    idmap::{Given, IdError, IdMap, Numbers, Pair},
    journal::{Begun, End, Journal, JournalError, Settled, Step},
    testing::now,
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
};
use union::{Kind, ObjectId};
use uuid::Uuid;

const E: Epoch = Epoch(1);
const FORM: &str = "vm-{n}";
const TASKS: &str = "task-{n}";

fn task(n: usize) -> ObjectId {
    ObjectId::new(Kind::Task, Uuid::from_u128(n as u128))
}

/// Asks for something and loses power before the answer.
fn abandoned<F: Future>(future: F) {
    let mut future = pin!(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[derive(Clone, Debug)]
enum IdOp {
    Native(Vec<usize>),
    Fix(usize, usize),
    Retire(usize),
    /// Leases a block to the agent, which takes it.
    Lease(u64),
    /// The agent gives out an id by itself.
    Away(usize),
    /// The engine, or the agent, gives out two ids of tasks before they are written, and writes them if it gets that far.
    Ahead(bool, bool),
    /// The engine, or the agent, forgets one of the last tasks; perhaps it loses power meanwhile, and that many commits survive.
    Forget(bool, usize, Option<usize>),
    /// The agent hands in what it gave out.
    HandIn,
    /// The engine loses power, perhaps within an allocation of which that many commits survive.
    Crash(Option<usize>, usize),
    AgentCrash(Option<usize>, usize),
}

fn id_op() -> impl Strategy<Value = IdOp> {
    prop_oneof![
        4 => proptest::collection::vec(0usize..20, 1..4).prop_map(IdOp::Native),
        1 => (0usize..20, 0usize..8).prop_map(|(id, n)| IdOp::Fix(id, n)),
        1 => (0usize..20).prop_map(IdOp::Retire),
        2 => (1u64..4).prop_map(IdOp::Lease),
        4 => (20usize..40).prop_map(IdOp::Away),
        2 => any::<(bool, bool)>().prop_map(|(agent, written)| IdOp::Ahead(agent, written)),
        2 => (any::<bool>(), 0usize..4, proptest::option::of(0usize..2)).prop_map(|(agent, back, lost)| IdOp::Forget(agent, back, lost)),
        1 => Just(IdOp::HandIn),
        2 => (proptest::option::of(0usize..20), 0usize..2).prop_map(|(id, keep)| IdOp::Crash(id, keep)),
        2 => (proptest::option::of(20usize..40), 0usize..2).prop_map(|(id, keep)| IdOp::AgentCrash(id, keep)),
    ]
}

fn open(store: &MemoryStore, numbers: Numbers) -> IdMap {
    now(IdMap::open(Arc::new(store.clone()), "vsphere", "fleet", numbers)).expect("it agrees with itself")
}

/// What was shown to somebody.
#[derive(Default)]
struct Shown {
    native: BTreeMap<ObjectId, Arc<str>>,
    union: BTreeMap<Arc<str>, ObjectId>,
}

impl Shown {
    fn show(&mut self, id: ObjectId, native: &Arc<str>) {
        let known = self.native.entry(id).or_insert_with(|| Arc::clone(native));
        assert_eq!(known, native, "{id} has two native ids");
        let known = *self.union.entry(Arc::clone(native)).or_insert(id);
        assert_eq!(known, id, "{native} names two objects");
    }
}

fn ids(ops: Vec<IdOp>) {
    let (mut engine_store, mut agent_store) = (MemoryStore::new(), MemoryStore::new());
    let mut engine = open(&engine_store, Numbers::Counted);
    let mut agent = open(&agent_store, Numbers::Leased);
    let mut shown = Shown::default();
    let mut retired = BTreeSet::new();
    let mut tasks = 1_000;
    for op in ops {
        match op {
            IdOp::Native(wanted) => {
                let wanted: Vec<_> = wanted.iter().map(|n| (vm(*n), FORM)).collect();
                let natives = now(engine.natives(&wanted, E)).unwrap();
                for ((id, _), native) in wanted.iter().zip(&natives) {
                    shown.show(*id, native);
                }
            }
            IdOp::Fix(id, n) => match now(engine.fix(vm(id), &format!("vm-{n}"), E)) {
                Ok(native) => shown.show(vm(id), &native),
                Err(IdError::Taken { by, wanted, .. }) => assert_ne!(by, wanted),
                Err(IdError::Forked { id, known, native }) => {
                    assert_eq!(engine.known(id), Some(Arc::clone(&known)));
                    assert_ne!(known, native);
                }
                Err(IdError::Reserved { agent, .. }) => assert_eq!(&*agent, "agent"),
                Err(e) => panic!("{e}"),
            },
            IdOp::Retire(id) => {
                now(engine.retire(vm(id), 5, E)).unwrap();
                if engine.known(vm(id)).is_some() {
                    retired.insert(vm(id));
                }
            }
            IdOp::Lease(count) => {
                let block = now(engine.lease(TASKS, "agent", count, E)).unwrap();
                now(agent.hold(block, E)).unwrap();
                let block = now(engine.lease(FORM, "agent", count, E)).unwrap();
                now(agent.hold(block.clone(), E)).unwrap();
                let left = agent.remaining(FORM);
                now(agent.hold(block, E)).unwrap();
                assert_eq!(agent.remaining(FORM), left);
            }
            IdOp::Away(id) => match now(agent.native(vm(id), FORM, E)) {
                Ok(native) => shown.show(vm(id), &native),
                Err(IdError::Exhausted { .. }) => assert_eq!(agent.remaining(FORM), 0),
                Err(e) => panic!("{e}"),
            },
            IdOp::Ahead(by_agent, written) => {
                let map = if by_agent { &agent } else { &engine };
                let range = match now(map.reserve(TASKS, 2, E)) {
                    Err(IdError::Exhausted { .. }) if by_agent => continue,
                    reserved => reserved.unwrap(),
                };
                assert!((1..=2).contains(&range.clone().count()));
                for number in range {
                    tasks += 1;
                    let native: Arc<str> = format!("task-{number}").into();
                    shown.show(task(tasks), &native);
                    let pair = Pair { native: native.clone(), form: TASKS.into(), number, retired_ms: 0 };
                    let given = [Given { id: task(tasks), pair }];
                    match written {
                        true => (0..2).for_each(|_| now(map.record(&given, E)).unwrap()),
                        false => abandoned(map.record(&given, E)),
                    }
                    assert_eq!(map.known(task(tasks)).as_ref(), Some(&native).filter(|_| written));
                }
            }
            IdOp::Forget(by_agent, back, lost) => {
                let map = if by_agent { &agent } else { &engine };
                let id = task(tasks.saturating_sub(back));
                let Some(native) = map.known(id) else { continue };
                if let Some(keep) = lost {
                    abandoned(map.forget(&[id], E));
                    if by_agent {
                        agent_store = agent_store.crash(|_| keep);
                        agent = open(&agent_store, Numbers::Leased);
                    } else {
                        engine_store = engine_store.crash(|_| keep);
                        engine = open(&engine_store, Numbers::Counted);
                    }
                    let map = if by_agent { &agent } else { &engine };
                    assert_eq!(map.known(id).is_some(), map.object(&native).is_some());
                } else {
                    assert_eq!(now(map.forget(&[id], E)).unwrap(), 1);
                    assert_eq!((map.known(id), map.object(&native)), (None, None));
                }
            }
            IdOp::HandIn => {
                let given = agent.pairs();
                match now(engine.adopt("agent", &given, E)) {
                    Ok(()) => {
                        given.iter().for_each(|g| assert_eq!(engine.known(g.id), Some(g.pair.native.clone())))
                    }
                    // A number of a block was fixed for another object: said, not hidden.
                    Err(IdError::Taken { by, wanted, .. }) => assert_ne!(by, wanted),
                    Err(e) => panic!("{e}"),
                }
                let forged = now(engine.adopt("stranger", &given, E));
                assert!(given.is_empty() || matches!(forged, Err(IdError::NotLeased { .. })), "{forged:?}");
            }
            IdOp::Crash(id, keep) => {
                if let Some(id) = id.filter(|id| engine.known(vm(*id)).is_none()) {
                    abandoned(engine.native(vm(id), FORM, E));
                }
                engine_store = engine_store.crash(|_| keep);
                engine = open(&engine_store, Numbers::Counted);
            }
            IdOp::AgentCrash(id, keep) => {
                let left = agent.remaining(FORM) > 0;
                if let Some(id) = id.filter(|id| left && agent.known(vm(*id)).is_none()) {
                    abandoned(agent.native(vm(id), FORM, E));
                }
                agent_store = agent_store.crash(|_| keep);
                agent = open(&agent_store, Numbers::Leased);
            }
        }
        for id in (0..20).map(vm) {
            assert!(shown.native.get(&id).is_none_or(|native| engine.known(id).as_ref() == Some(native)));
            assert_eq!(engine.is_retired(id), retired.contains(&id));
        }
        for id in (20..40).map(vm) {
            assert!(shown.native.get(&id).is_none_or(|native| agent.known(id).as_ref() == Some(native)));
        }
    }
}

#[derive(Clone, Debug)]
enum JournalOp {
    Begin(usize, bool),
    Plan(usize, usize),
    Sent(usize, u32),
    Answered(usize, u32, bool),
    Undone(usize, u32),
    Settle(usize, u8),
    Crash,
    Expire(i64),
}

fn journal_op() -> impl Strategy<Value = JournalOp> {
    let id = 0usize..4;
    prop_oneof![
        4 => (id.clone(), proptest::bool::weighted(0.1)).prop_map(|(id, other)| JournalOp::Begin(id, other)),
        3 => (id.clone(), 0usize..3).prop_map(|(id, n)| JournalOp::Plan(id, n)),
        4 => (id.clone(), 0u32..3).prop_map(|(id, n)| JournalOp::Sent(id, n)),
        4 => (id.clone(), 0u32..3, any::<bool>()).prop_map(|(id, n, done)| JournalOp::Answered(id, n, done)),
        1 => (id.clone(), 0u32..3).prop_map(|(id, n)| JournalOp::Undone(id, n)),
        2 => (id, 1u8..5).prop_map(|(id, end)| JournalOp::Settle(id, end)),
        1 => Just(JournalOp::Crash),
        1 => (0i64..3).prop_map(JournalOp::Expire),
    ]
}

/// A command in the model: the letters of its steps (p s d f u), and how it ended.
#[derive(Clone, Debug, Default)]
struct Model {
    steps: Vec<char>,
    end: Option<(End, i64)>,
}

impl Model {
    fn open(&self) -> bool {
        !matches!(self.end, Some((End::Done | End::Failed | End::Refused, _)))
    }

    /// Whether the step may go from one of `from` to `to`; goes.
    fn step(&mut self, n: u32, from: &str, to: char) -> bool {
        let open = self.open();
        let step = self.steps.get_mut(n as usize).filter(|step| open && from.contains(**step));
        step.map(|step| *step = to).is_some()
    }
}

fn journal(ops: Vec<JournalOp>) {
    const DAY: i64 = crate::journal::RETENTION_MS;
    let mut store = MemoryStore::new();
    let mut journal = Journal::new(Arc::new(store.clone()));
    let mut model: BTreeMap<usize, Model> = BTreeMap::new();
    let mut audited = 0;
    for (at, op) in ops.into_iter().enumerate() {
        let id = |n: usize| intent(n).id;
        match op {
            JournalOp::Begin(n, other) => {
                let mut wanted = intent(n);
                if other {
                    wanted.digest = [255; 32];
                }
                let mut also = Batch::new();
                audit::stage(&mut also, &record(n));
                match (now(journal.begin(wanted, also, E)), model.get(&n)) {
                    (Ok(Begun::New), None) if !other => {
                        model.insert(n, Model::default());
                        audited += 1;
                    }
                    (Ok(Begun::New), None) => {
                        panic!("a digest of its own is recorded as it is; begin it as ours first")
                    }
                    (Err(JournalError::Digest(_)), Some(_)) if other => {}
                    (Ok(Begun::Open(_)), Some(known)) if !other => assert!(known.open()),
                    (Ok(Begun::Settled(settled)), Some(known)) if !other => {
                        assert_eq!(known.end.map(|(end, _)| end), Some(settled.end));
                    }
                    (got, known) => panic!("{got:?} of {known:?}"),
                }
            }
            JournalOp::Plan(n, steps) => {
                let plan = vec![Step::planned(vec![1], vec![2]); steps];
                let done = now(journal.planned(id(n), Blob::default(), plan, E)).is_ok();
                let may = model.get_mut(&n).filter(|m| m.open() && m.steps.iter().all(|s| *s == 'p'));
                assert_eq!(done, may.map(|m| m.steps = vec!['p'; steps]).is_some());
            }
            JournalOp::Sent(n, step) => {
                let done = now(journal.sent(id(n), step, 1, E)).is_ok();
                assert_eq!(done, model.get_mut(&n).is_some_and(|m| m.step(step, "p", 's')));
            }
            JournalOp::Answered(n, step, fine) => {
                let done = now(journal.answered(id(n), step, fine, Blob::default(), E)).is_ok();
                let to = if fine { 'd' } else { 'f' };
                assert_eq!(done, model.get_mut(&n).is_some_and(|m| m.step(step, "s", to)));
            }
            JournalOp::Undone(n, step) => {
                let done = now(journal.undone(id(n), step, E)).is_ok();
                assert_eq!(done, model.get_mut(&n).is_some_and(|m| m.step(step, "sd", 'u')));
            }
            JournalOp::Settle(n, end) => {
                let end = [End::Done, End::Failed, End::Refused, End::Unknown][usize::from(end) - 1];
                let settled = Settled { end, outcome: Blob(vec![end as u8]), at_ms: at as i64 };
                let done = now(journal.settle(id(n), settled, Batch::new(), E)).is_ok();
                let may =
                    model.get_mut(&n).filter(|m| m.open() || m.end.is_some_and(|(known, _)| known == end));
                let same = may.as_ref().and_then(|m| m.end).filter(|(known, _)| *known == end);
                assert_eq!(done, may.map(|m| m.end = same.or(Some((end, at as i64)))).is_some());
            }
            JournalOp::Crash => {
                store = store.crash(|_| 0);
                journal = Journal::new(Arc::new(store.clone()));
            }
            JournalOp::Expire(back) => {
                let until = at as i64 - back;
                let old = |m: &Model| !m.open() && m.end.is_some_and(|(_, ended)| ended < until);
                let count = model.values().filter(|m| old(m)).count();
                model.retain(|_, m| !old(m));
                assert_eq!(now(journal.expire(DAY + until, E)).unwrap(), count);
            }
        }
        let open: Vec<_> = now(journal.open(None, 100)).unwrap().iter().map(|e| e.intent.id).collect();
        let expected: Vec<_> = model.iter().filter(|(_, m)| m.open()).map(|(n, _)| id(*n)).collect();
        assert_eq!(open, expected);
        let audit = audit::Audit::new(Arc::new(store.clone()));
        assert_eq!(now(audit.verify()).unwrap(), Ok(audited));
        for (n, m) in &model {
            let entry = now(journal.get(id(*n))).unwrap().unwrap();
            let letters: Vec<char> =
                entry.steps.iter().map(|s| ['p', 's', 'd', 'f', 'u'][s.state as usize]).collect();
            assert_eq!(letters, m.steps);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn ids_are_never_reused_nor_forked(ops in proptest::collection::vec(id_op(), 1..60)) {
        ids(ops);
    }

    #[test]
    fn the_journal_is_its_state_machine(ops in proptest::collection::vec(journal_op(), 1..60)) {
        let ops = ops.into_iter().scan(BTreeSet::new(), |begun, op| Some(match op {
            // The first begin of a command is ours, so that the model knows its digest.
            JournalOp::Begin(n, _) if begun.insert(n) => JournalOp::Begin(n, false),
            JournalOp::Begin(n, true) => JournalOp::Begin(n, false),
            op => op,
        }));
        journal(ops.collect());
    }
}

#[test]
fn another_digest_under_a_known_id_is_refused() {
    let journal = Journal::new(Arc::new(MemoryStore::new()));
    assert_eq!(now(journal.begin(intent(1), Batch::new(), E)).unwrap(), Begun::New);
    let mut forged = intent(1);
    forged.digest = [9; 32];
    let refused = now(journal.begin(forged, Batch::new(), E)).unwrap_err();
    assert_eq!(refused, JournalError::Digest(intent(1).id));
    assert!(matches!(now(journal.begin(intent(1), Batch::new(), E)).unwrap(), Begun::Open(_)));
}

#[test]
fn two_writers_on_one_store_agree() {
    let store = MemoryStore::new();
    let (a, b) = (open(&store, Numbers::Counted), open(&store, Numbers::Counted));
    let first = now(a.native(vm(1), FORM, E)).unwrap();
    assert_eq!(now(b.native(vm(1), FORM, E)).unwrap(), first);
    let second = now(b.native(vm(2), FORM, E)).unwrap();
    assert_ne!(first, second);
    assert_eq!(now(a.native(vm(2), FORM, E)).unwrap(), second);
    now(a.retire(vm(2), 1, E)).unwrap();
    now(b.retire(vm(2), 2, E)).unwrap();
    assert!(b.is_retired(vm(2)));
}

#[test]
fn a_stale_epoch_and_a_failed_store_give_nothing_out() {
    let store = MemoryStore::new();
    let map = open(&store, Numbers::Counted);
    let first = now(map.native(vm(1), FORM, Epoch(5))).unwrap();
    let stale = now(map.native(vm(2), FORM, Epoch(4))).unwrap_err();
    assert_eq!(stale, IdError::Store(StoreError::Stale { given: 4, highest: 5 }));
    store.fail(Some(StoreError::Full { file: "memory".to_owned() }));
    assert!(now(map.native(vm(2), FORM, Epoch(5))).is_err());
    assert_eq!((map.known(vm(2)), map.known(vm(1))), (None, Some(first)));
    store.fail(None);
    assert_eq!(&*now(map.native(vm(2), FORM, Epoch(5))).unwrap(), "vm-2");
    assert_eq!(store.health(), crate::Health::Open);
}

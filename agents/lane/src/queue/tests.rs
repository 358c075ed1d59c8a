use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

fn job(n: u128, verb: &str) -> Job<()> {
    Job { id: CommandId(Uuid::from_u128(n)), verb: Arc::from(verb), load: () }
}

/// off overtakes suspend; the same twice is satisfied; reset refuses all; else queue.
fn table(running: &str, arriving: &str) -> Conflict {
    match (running, arriving) {
        ("suspend", "off") => Conflict::Overtake,
        ("reset", _) => Conflict::Refuse(Arc::from("InProgress")),
        (a, b) if a == b => Conflict::Satisfied,
        _ => Conflict::Queue,
    }
}

fn arrive(queue: &mut Queue<()>, n: u128, verb: &str) -> Arrival<()> {
    queue.arrive(job(n, verb), |running| table(running, verb)).0
}

fn ids(jobs: &[Job<()>]) -> Vec<u128> {
    jobs.iter().map(|j| j.id.0.as_u128()).collect()
}

#[test]
fn the_table_decides() {
    let mut queue = Queue::new(3);
    assert!(matches!(arrive(&mut queue, 1, "suspend"), Arrival::Started));
    assert!(matches!(arrive(&mut queue, 2, "suspend"), Arrival::Joined(_)));
    assert!(matches!(arrive(&mut queue, 3, "on"), Arrival::Queued));
    assert!(matches!(arrive(&mut queue, 4, "suspend"), Arrival::Queued), "an `on` lies between");
    assert!(matches!(arrive(&mut queue, 5, "suspend"), Arrival::Full));
    let Arrival::Overtook(outrun) = arrive(&mut queue, 6, "off") else { panic!("off overtakes") };
    assert_eq!(ids(&outrun), [1, 2, 4]);
    assert!(queue.finish(CommandId(Uuid::from_u128(1))).is_none(), "it was outrun");
    let ended = queue.finish(CommandId(Uuid::from_u128(6))).expect("it ran");
    assert_eq!((ids(&ended), queue.running().map(|j| &*j.verb)), (vec![6], Some("on")));
}

#[test]
fn a_busy_object_refuses() {
    let mut queue = Queue::new(3);
    arrive(&mut queue, 1, "reset");
    assert!(matches!(arrive(&mut queue, 2, "off"), Arrival::Refused { .. }));
    assert_eq!(queue.len(), 1);
}

#[test]
fn a_waiting_job_can_be_cancelled_and_a_running_one_cannot() {
    let mut queue = Queue::new(4);
    for (n, verb) in [(1, "on"), (2, "off"), (3, "off")] {
        arrive(&mut queue, n, verb);
    }
    let id = |n| CommandId(Uuid::from_u128(n));
    assert!(matches!(queue.cancel(id(1)), Cancelled::Running));
    assert!(matches!(queue.cancel(id(9)), Cancelled::Absent));
    let Cancelled::Waiting(out) = queue.cancel(id(3)) else { panic!("a follower waits") };
    assert_eq!(ids(&out), [3]);
    let Cancelled::Waiting(out) = queue.cancel(id(2)) else { panic!("it waits") };
    assert_eq!(ids(&out), [2]);
    assert_eq!(queue.len(), 1);
}

#[test]
fn who_is_late_is_taken_out_and_whoever_follows_takes_its_place() {
    let mut queue: Queue<bool> = Queue::new(9);
    for (n, verb, late) in
        [(1, "on", true), (2, "off", true), (3, "off", false), (4, "on", true), (5, "on", true)]
    {
        let job = Job { id: CommandId(Uuid::from_u128(n)), verb: Arc::from(verb), load: late };
        queue.arrive(job, |running| table(running, verb));
    }
    let out = queue.take_waiting(|late| *late);
    let ids: Vec<u128> = out.iter().map(|job| job.id.0.as_u128()).collect();
    assert_eq!(ids, [2, 5, 4], "the running one stays");
    queue.finish(CommandId(Uuid::from_u128(1))).expect("it ran");
    assert_eq!(queue.running().map(|job| job.id.0.as_u128()), Some(3));
    assert_eq!(queue.len(), 1);
}

#[test]
fn a_job_that_must_go_in_does() {
    let mut queue = Queue::new(1);
    assert!(queue.refusal(|running| table(running, "off")).is_none());
    assert!(queue.admit(job(1, "reset")));
    assert!(matches!(queue.refusal(|running| table(running, "off")), Some(Arrival::Refused { .. })));
    assert!(!queue.admit(job(2, "on")) && !queue.admit(job(3, "on")));
    assert!(matches!(queue.refusal(|_| Conflict::Queue), Some(Arrival::Full)));
    assert_eq!(queue.len(), 3);
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(usize),
    Finish,
    FinishStale,
    Cancel(u128),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0usize..4).prop_map(Step::Arrive),
        3 => Just(Step::Finish),
        1 => Just(Step::FinishStale),
        1 => (1u128..40).prop_map(Step::Cancel),
    ]
}

fn conflict() -> impl Strategy<Value = Conflict> {
    prop_oneof![
        4 => Just(Conflict::Queue),
        1 => Just(Conflict::Refuse(Arc::from("Busy"))),
        1 => Just(Conflict::Overtake),
        1 => Just(Conflict::Satisfied),
    ]
}

const VERBS: [&str; 4] = ["a", "b", "c", "d"];

proptest! {
    /// Any table, any history: every job leaves exactly once, in order unless overtaken; nothing waits behind nothing; the bound holds.
    #[test]
    fn every_job_leaves_once(
        table in proptest::collection::vec(conflict(), 16),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let rule = |running: &str, arriving: &str| {
            let at = |verb| VERBS.iter().position(|v| *v == verb).expect("a verb");
            table[at(running) * 4 + at(arriving)].clone()
        };
        let mut queue = Queue::new(5);
        let mut inside: BTreeMap<u128, ()> = BTreeMap::new();
        let mut next = 0u128;
        let mut last_started = 0u128;
        let leave = |jobs: Vec<Job<()>>, inside: &mut BTreeMap<u128, ()>| {
            for job in jobs {
                assert!(inside.remove(&job.id.0.as_u128()).is_some(), "left twice or never came");
            }
        };
        for step in steps {
            match step {
                Step::Arrive(verb) => {
                    next += 1;
                    let arriving = VERBS[verb];
                    let was_idle = queue.is_empty();
                    let (arrival, back) = queue.arrive(job(next, arriving), |running| rule(running, arriving));
                    match arrival {
                        Arrival::Started => {
                            prop_assert!(was_idle);
                            inside.insert(next, ());
                            last_started = next;
                        }
                        Arrival::Overtook(outrun) => {
                            prop_assert_eq!(outrun[0].id.0.as_u128(), last_started);
                            leave(outrun, &mut inside);
                            inside.insert(next, ());
                            last_started = next;
                        }
                        Arrival::Queued | Arrival::Joined(_) => {
                            prop_assert!(!was_idle);
                            inside.insert(next, ());
                        }
                        Arrival::Refused { .. } | Arrival::Full => prop_assert!(back.is_some()),
                    }
                }
                Step::Finish => {
                    if let Some(id) = queue.running().map(|j| j.id) {
                        let ended = queue.finish(id).expect("it runs");
                        prop_assert_eq!(ended[0].id, id);
                        if let Some(started) = queue.running() {
                            last_started = started.id.0.as_u128();
                        }
                        leave(ended, &mut inside);
                    }
                }
                Step::FinishStale => prop_assert!(queue.finish(CommandId(Uuid::from_u128(10_000))).is_none()),
                Step::Cancel(n) => {
                    if let Cancelled::Waiting(out) = queue.cancel(CommandId(Uuid::from_u128(n))) {
                        prop_assert_eq!(out[0].id.0.as_u128(), n);
                        leave(out, &mut inside);
                    }
                }
            }
            prop_assert_eq!(queue.len(), inside.len());
            prop_assert_eq!(queue.is_empty(), inside.is_empty());
            prop_assert!(queue.len() <= 6);
        }
        while let Some(id) = queue.running().map(|j| j.id) {
            let ended = queue.finish(id).expect("it runs");
            leave(ended, &mut inside);
        }
        prop_assert!(inside.is_empty());
    }

    /// Without overtaking, jobs start in the order of their arrival.
    #[test]
    fn jobs_start_in_order(steps in proptest::collection::vec(any::<bool>(), 1..60)) {
        let mut queue = Queue::new(8);
        let (mut next, mut started) = (0u128, Vec::new());
        for arrive in steps {
            if arrive {
                next += 1;
                if let (Arrival::Started, _) = queue.arrive(job(next, "a"), |_| Conflict::Queue) {
                    started.push(next);
                }
            } else if let Some(id) = queue.running().map(|j| j.id)
                && queue.finish(id).is_some()
                && let Some(job) = queue.running()
            {
                started.push(job.id.0.as_u128());
            }
        }
        prop_assert!(started.is_sorted());
    }
}

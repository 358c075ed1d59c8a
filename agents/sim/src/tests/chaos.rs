//! Several clients, a few VMs, a hypervisor that fails, loses, hangs and goes away: what holds all the same. Each seed is one run.

use super::*;
use crate::fault::pick;
use parking_lot::Mutex;
use std::{collections::BTreeSet, sync::atomic::Ordering};

const VERBS: [&str; 5] = ["PowerOn", "PowerOff", "Suspend", "Reset", "PowerOff"];
const CLIENTS: u64 = 4;
const COMMANDS: usize = 12;

fn rough() -> Behaviour {
    let chances =
        Chances { latency_ms: Some((1, 400)), fail: 0.1, lose_request: 0.1, lose_reply: 0.1, hang: 0.05 };
    let read = Chances { latency_ms: Some((0, 20)), ..Chances::default() };
    Behaviour {
        all: chances,
        calls: [("Read".to_owned(), read)].into(),
        lose_event: 0.3,
        ..Behaviour::default()
    }
}

/// A Done outcome: when, on which VM, by which verb, whether something was done.
type Log = Mutex<Vec<(ObjectId, &'static str, bool)>>;

async fn client(w: &World, number: u64, vms: &[ObjectId], log: &Log) -> Vec<Outcome> {
    let ids = SeededIds::new(number);
    let mut outcomes = Vec::new();
    for _ in 0..COMMANDS {
        sleep(Duration::from_millis(pick(&ids, 300))).await;
        let vm = vms[usize::try_from(pick(&ids, vms.len() as u64)).expect("small")];
        let verb = VERBS[usize::try_from(pick(&ids, VERBS.len() as u64)).expect("small")];
        if verb == "Reset" {
            w.resets.fetch_add(1, Ordering::Relaxed);
        }
        let start = Instant::now();
        let outcome = w.ask(vm, verb).await;
        // Its own deadline and settling, behind at most as many others as there are other clients.
        let most = Duration::from_secs(5 + 5) * u32::try_from(CLIENTS).expect("small");
        assert!(start.elapsed() <= most, "{verb} took {:?}", start.elapsed());
        if let Outcome::Done { already, .. } = &outcome {
            log.lock().push((vm, verb, !already));
        }
        outcomes.push(outcome);
    }
    outcomes
}

async fn run(seed: u64) -> (Vec<Vec<Outcome>>, Vec<crate::task::Effect>) {
    let w = ruled(mapped(), Source::Text(FLEET.into()), Some(rough()), seed);
    let vms = w.inventory.ids(Kind::Vm);
    let log = Log::default();
    let weather = async {
        for _ in 0..3 {
            sleep(Duration::from_millis(700)).await;
            w.sim.set_away(true);
            sleep(Duration::from_millis(300)).await;
            w.sim.set_away(false);
        }
    };
    let numbers = (0..CLIENTS).map(|n| seed * CLIENTS + n);
    let mut clients: Vec<_> = numbers.map(|n| Box::pin(client(&w, n, &vms, &log))).collect();
    let [a, b, c, d] = &mut clients[..] else { panic!("four clients") };
    let (a, b, c, d, ()) = tokio::join!(a, b, c, d, weather);
    let outcomes = vec![a, b, c, d];
    sleep(Duration::from_secs(20)).await;
    assert_eq!(w.owner.count(), 0, "every command has ended");
    for vm in &vms {
        let record = w.inventory.record(*vm).expect("there");
        assert!(record.get(slot(Kind::Vm, "operation")).is_absent(), "nothing is under way on {vm}");
        assert_eq!(w.inventory.credit(*vm), None);
        w.sim.reread(*vm, Instant::now() + Duration::from_secs(5)).await.expect("it is here");
    }
    let effects = w.sim.effects();
    let asked = outcomes.iter().flatten().count();
    assert_eq!(asked, COMMANDS * usize::try_from(CLIENTS).expect("small"));
    let resets = w.resets.load(Ordering::Relaxed);
    assert!(
        effects.iter().filter(|e| &*e.call == "Reset").count() <= resets,
        "a reset was done twice, seed {seed}"
    );
    for vm in &vms {
        // What was reported as done was done, in the order in which it was reported.
        let mut done = effects.iter().filter(|e| e.object == *vm);
        for (_, verb, _) in log.lock().iter().filter(|(id, _, did)| id == vm && *did) {
            assert!(done.any(|e| &*e.call == *verb), "{verb} of {vm} was reported and not done, seed {seed}");
        }
    }
    (outcomes, effects)
}

#[test]
fn whatever_happens_every_command_ends_and_what_is_reported_was_done() {
    let mut kinds = BTreeSet::new();
    for seed in 0..40 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let (outcomes, _) = runtime.expect("a runtime").block_on(run(seed));
        kinds.extend(outcomes.iter().flatten().map(|outcome| match outcome {
            Outcome::Done { already: false, .. } => "done",
            Outcome::Done { .. } => "already",
            Outcome::Failed(cause) => cause.code.as_str_name(),
            Outcome::Refused(_) => "refused",
            Outcome::Unknown { .. } => "unknown",
        }));
    }
    // The weather was rough enough to see all of it.
    for kind in ["done", "already", "unknown", "CANCELLED", "TARGET_FAILED", "UNREACHABLE", "TIMED_OUT"] {
        assert!(kinds.contains(kind), "{kind} never happened; only {kinds:?}");
    }
}

//! Histories of several clients on a few VMs, with mishaps: what was observed has an order in which one after the other could have done it.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Ask {
    client: u64,
    vm: u128,
    other: Option<u128>,
    pause: u64,
    act: Option<u8>,
}

fn ask() -> impl Strategy<Value = Ask> {
    let other = proptest::option::weighted(0.25, 1u128..=3);
    let act = proptest::option::weighted(0.3, 0u8..4);
    (0u64..4, 1u128..=3, other, 0u64..30, act).prop_map(|(client, vm, other, pause, act)| Ask {
        client,
        vm,
        other: other.filter(|o| *o != vm),
        pause,
        act,
    })
}

/// One write as its client saw it.
#[derive(Clone, Debug)]
struct Seen {
    start: Instant,
    end: Instant,
    text: String,
    vms: Vec<u128>,
    outcome: &'static str,
}

async fn client(w: &Plans, asks: Vec<(usize, Ask)>, log: &Mutex<Vec<Seen>>) {
    for (number, ask) in asks {
        tokio::time::sleep(Duration::from_millis(ask.pause)).await;
        let text = format!("w{number}");
        let vms: Vec<u128> = [Some(ask.vm), ask.other].into_iter().flatten().collect();
        let steps = vms.iter().map(|n| (vm(*n), undone("Note", &text, "back")));
        let start = Instant::now();
        let outcome = w.send("Reconfigure", vm(ask.vm), plan(steps)).outcome().await;
        log.lock().push(Seen { start, end: Instant::now(), text, vms, outcome: word(&outcome) });
    }
}

async fn run(asks: Vec<Ask>) {
    let acts = asks.iter().map(|ask| match ask.act {
        Some(0) => Act::DoneLost,
        Some(1) => Act::NotDoneLost,
        Some(2) => Act::No,
        _ => Act::Well,
    });
    let w = plans(acts);
    let log = Mutex::new(Vec::new());
    let of = |client: u64| {
        let asks = asks.iter().cloned().enumerate().filter(|(_, a)| a.client == client).collect();
        self::client(&w, asks, &log)
    };
    tokio::join!(of(0), of(1), of(2), of(3));
    assert_eq!((w.owner.count(), w.owner.lanes.lock().lanes.len()), (0, 0), "no lane is stuck");
    assert!(!w.target.state.lock().overlapped, "two calls about one VM at once");
    let log = log.into_inner();
    assert_eq!(log.len(), asks.len());
    let calls = w.calls();
    for seen in &log {
        // Never sent twice.
        let sent = calls.iter().filter(|c| **c == format!("Note {}", seen.text)).count();
        assert!(sent <= seen.vms.len(), "{seen:?}: {calls:?}");
    }
    for n in 1..=3u128 {
        // Writes that were done, in the order of their effect, agree with the order in which they were seen.
        let done: Vec<&Seen> = log.iter().filter(|s| s.vms.contains(&n) && s.outcome == "done").collect();
        let at = |s: &Seen| calls.iter().position(|c| *c == format!("Note {}", s.text)).expect("it was made");
        for a in &done {
            for b in &done {
                assert!(
                    a.end > b.start || at(a) <= at(b),
                    "{a:?} ended before {b:?} began, and came after it"
                );
            }
        }
        // The last one that was done is what is there, unless one that failed was taken back after it, or could not be.
        let note = w.machine(vm(n)).1;
        let last = done.iter().max_by_key(|s| at(s)).map(|s| s.text.clone()).unwrap_or_default();
        let halves = log.iter().filter(|s| s.vms.contains(&n) && s.outcome != "done" && s.vms.len() > 1);
        let disturbed =
            halves.clone().count() > 0 && note == "back" || halves.into_iter().any(|s| s.text == note);
        assert!(note == last || disturbed, "vm{n} says {note}, not {last}: {calls:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn what_is_seen_has_an_order(asks in proptest::collection::vec(ask(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(run(asks));
    }
}

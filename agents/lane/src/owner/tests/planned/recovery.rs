//! After a restart: what became of what had begun.

use super::*;
use crate::Unsettled;
use union::pb::TaskState;

fn unsettled(w: &Plans, verb: &str, object: ObjectId, plan: Plan, answered: usize) -> Unsettled {
    let command = w.command(verb, object);
    Unsettled { command, plan, sent: true, answered, target: Arc::from("hyper"), failed: None }
}

fn one(w: &Plans, of: Unsettled) -> Ticket {
    w.owner.recover(vec![of]).pop().expect("a ticket")
}

impl Plans {
    fn turn_into(&self, name: &str) {
        self.target.state.lock().machines.entry(vm(1)).and_modify(|m| m.0 = name.into());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_found_and_what_was_not_is_not_done() {
    for (name, end) in [("web", "done"), ("vm1", "failed")] {
        let w = plans([]);
        w.turn_into(name);
        let ticket = one(&w, unsettled(&w, "Reconfigure", vm(1), plan([(vm(1), call("Name", "web"))]), 0));
        assert_eq!(w.owner.outcome(ticket.command), Some(Known::Running));
        assert_eq!(word(&ticket.outcome().await), end);
        assert!(w.calls().is_empty(), "nothing is sent again");
        assert_eq!(w.notes.told(), [format!("ended {end}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_made_or_removed_before_the_crash_is_found() {
    let w = plans([]);
    w.target.state.lock().machines.insert(vm(9), ("new".into(), String::new()));
    let make = Plan { appears: Some(vm(9)), ..plan([(vm(9), call("Make", "new"))]) };
    let outcome = one(&w, unsettled(&w, "CreateVm", folder(), make, 0)).outcome().await;
    assert!(matches!(outcome, Outcome::Done { result: Some(id), .. } if id == vm(9)), "{outcome:?}");
    assert!(w.inventory.record(vm(9)).is_some());
    let gone = || Plan { vanishes: Some(vm(1)), ..plan([(vm(1), call("Drop", ""))]) };
    let w = plans([]);
    w.target.state.lock().machines.remove(&vm(1));
    assert_eq!(word(&one(&w, unsettled(&w, "DestroyVm", vm(1), gone(), 0)).outcome().await), "done");
    assert!(w.inventory.record(vm(1)).is_none());
    let w = plans([]);
    assert_eq!(word(&one(&w, unsettled(&w, "DestroyVm", vm(1), gone(), 0)).outcome().await), "failed");
}

#[tokio::test(start_paused = true)]
async fn half_a_plan_is_taken_back() {
    let two = || plan([(vm(1), undone("Name", "web", "vm1")), (vm(1), undone("Note", "x", ""))]);
    // The first was answered, the second not sent.
    let w = plans([]);
    w.turn_into("web");
    let outcome = one(&w, unsettled(&w, "Reconfigure", vm(1), two(), 1)).outcome().await;
    assert_eq!((word(&outcome), w.calls()), ("failed", vec!["Name vm1".to_owned()]));
    // The first was done and not known to be; the second was never sent, and is not sent now.
    let w = plans([]);
    w.turn_into("web");
    let outcome = one(&w, unsettled(&w, "Reconfigure", vm(1), two(), 0)).outcome().await;
    assert_eq!((word(&outcome), w.calls()), ("failed", vec!["Name vm1".to_owned()]));
    // Both were done.
    let w = plans([]);
    w.target.state.lock().machines.insert(vm(1), ("web".into(), "x".into()));
    assert_eq!(word(&one(&w, unsettled(&w, "Reconfigure", vm(1), two(), 1)).outcome().await), "done");
    assert!(w.calls().is_empty());
    let w = plans([]);
    assert_eq!(word(&one(&w, unsettled(&w, "Reconfigure", vm(1), two(), 2)).outcome().await), "done");
    assert!(w.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_leaves_nothing_to_look_at_and_what_was_not_sent_have_failed() {
    let w = plans([]);
    let reset = || unsettled(&w, "Reset", vm(1), plan([(vm(1), call("Reset", ""))]), 0);
    assert_eq!(code(&one(&w, reset()).outcome().await), Code::TimedOut);
    assert_eq!(code(&one(&w, Unsettled { sent: false, ..reset() }).outcome().await), Code::Unreachable);
    assert!(w.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_answer_is_waited_for_while_others_time_out_behind() {
    let w = plans([]);
    w.target.state.lock().blind = u32::MAX;
    let of = unsettled(&w, "Reconfigure", vm(1), plan([(vm(1), call("Name", "web"))]), 0);
    let old = w.tasks.create(&of.command, true);
    let id = of.command.id;
    let ticket = one(&w, of.clone());
    assert_eq!((ticket.task, ticket.command), (Some(old), id));
    // The same id again: the same command.
    let again = w.owner.submit_planned(of.command, of.plan, Reply::Outcome).expect("known");
    assert_eq!(again.task, Some(old));
    let behind = w.send("Reconfigure", vm(1), plan([(vm(1), call("Note", "x"))]));
    let start = Instant::now();
    assert_eq!(code(&behind.outcome().await), Code::TimedOut);
    assert!(start.elapsed() <= Duration::from_secs(11));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(w.owner.outcome(id), Some(Known::Running));
    let state = || {
        let slot = w.inventory.schema().slot(Kind::Task, "state").expect("a field");
        w.inventory.record(old).expect("there").get(slot).as_int().expect("set")
    };
    assert_eq!(state(), TaskState::Active as i64);
    w.turn_into("web");
    w.target.state.lock().blind = 0;
    assert_eq!(word(&ticket.outcome().await), "done");
    assert_eq!(state(), TaskState::Succeeded as i64);
    let next = w.send("Reconfigure", vm(1), plan([(vm(1), call("Note", "y"))]));
    assert_eq!(word(&next.outcome().await), "done");
    assert_eq!(w.calls(), ["Note y"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_configured_no_more_is_waited_for_and_can_be_given_up() {
    let w = plans([]);
    let gone = Unsettled {
        target: Arc::from("elsewhere"),
        ..unsettled(&w, "Suspend", vm(1), plan([(vm(1), call("Name", "web"))]), 0)
    };
    // Another target has the object by now: it is asked.
    assert_eq!(word(&one(&w, gone.clone()).outcome().await), "failed");
    let ticket = one(&w, Unsettled { command: w.command("Suspend", vm(7)), ..gone });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(ticket.now().is_none());
    w.owner.cancel(ticket.command).expect("the table lets it");
    assert_eq!(code(&ticket.outcome().await), Code::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_at_its_end_is_found_out_while_nothing_else_begins() {
    for (act, end) in [(Act::DoneLost, "done"), (Act::NotDoneLost, "failed"), (Act::Hang, "failed")] {
        let w = plans([act]);
        let ticket = w.send("Reconfigure", vm(1), plan([(vm(1), call("Name", "web"))]));
        tokio::time::sleep(Duration::from_millis(3)).await;
        w.target.state.lock().blind = u32::MAX;
        assert_eq!(word(&ticket.clone().outcome().await), "unknown", "{act:?}");
        let now = || match w.owner.outcome(ticket.command) {
            Some(Known::Ended(outcome)) => word(&outcome),
            other => panic!("{other:?}"),
        };
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(now(), "unknown");
        w.target.state.lock().blind = 0;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(now(), end, "{act:?}");
        assert_eq!(w.calls().len(), 1);
        assert_eq!(w.notes.told().last().cloned(), Some(format!("found {end}")));
        assert!(w.owner.lanes.lock().doubts.is_empty());
    }
    // The next command lets it look at once, whatever the pause between two looks was by then.
    let w = plans([Act::DoneLost, Act::Well]);
    let ticket = w.send("Reconfigure", vm(1), plan([(vm(1), call("Name", "web"))]));
    tokio::time::sleep(Duration::from_millis(3)).await;
    w.target.state.lock().blind = u32::MAX;
    assert_eq!(word(&ticket.clone().outcome().await), "unknown");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(w.owner.is_looked_for(ticket.command));
    w.target.state.lock().blind = 0;
    assert_eq!(word(&w.reconfigure(plan([(vm(1), call("Name", "db"))])).await), "done");
    assert!(!w.owner.is_looked_for(ticket.command));
    let Some(Known::Ended(outcome)) = w.owner.outcome(ticket.command) else { panic!("it ended") };
    assert_eq!(word(&outcome), "done", "looked for before the next began");
    let w = plans([Act::NotDoneLost, Act::Well]);
    let ticket = w.send("Reconfigure", vm(1), plan([(vm(1), call("Name", "web"))]));
    tokio::time::sleep(Duration::from_millis(3)).await;
    w.target.state.lock().blind = u32::MAX;
    assert_eq!(word(&ticket.clone().outcome().await), "unknown");
    w.target.state.lock().blind = 0;
    assert_eq!(word(&w.reconfigure(plan([(vm(1), call("Name", "web"))])).await), "done");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let Some(Known::Ended(outcome)) = w.owner.outcome(ticket.command) else { panic!("it ended") };
    assert_eq!(word(&outcome), "unknown", "the name could be the other's doing");
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_for_good_before_the_crash_is_done_and_what_was_not_is_not() {
    for answered in [0, 1] {
        let w = plans([]);
        w.target.state.lock().machines.remove(&vm(1));
        let outcome = one(&w, unsettled(&w, "DestroyVm", vm(1), destroy(), answered)).outcome().await;
        assert_eq!((word(&outcome), w.calls().len()), ("done", 0), "{answered}");
        assert!(w.inventory.record(vm(1)).is_none());
    }
    let w = plans([]);
    assert_eq!(word(&one(&w, unsettled(&w, "DestroyVm", vm(1), destroy(), 0)).outcome().await), "failed");
    // A step that can be taken back is.
    let steps = [(vm(2), undone("Name", "x", "vm2")), (vm(1), call("Drop", "")), (vm(1), call("Wipe", ""))];
    let half = Plan { vanishes: Some(vm(1)), ..plan(steps) };
    let w = plans([]);
    assert_eq!(word(&one(&w, unsettled(&w, "DestroyVm", vm(1), half, 1)).outcome().await), "failed");
    assert_eq!(w.calls(), ["Name vm2"]);
}

fn two() -> Plan {
    plan([(vm(1), undone("Name", "web", "vm1")), (vm(1), undone("Note", "x", ""))])
}

/// Half a plan, told as unknown since the target went away within it.
async fn half(acts: [Act; 2], away_ms: u64) -> (Plans, CommandId) {
    let w = plans(acts);
    let ticket = w.send("Reconfigure", vm(1), two());
    tokio::time::sleep(Duration::from_millis(away_ms)).await;
    w.target.state.lock().away = true;
    assert_eq!(word(&ticket.clone().outcome().await), "unknown", "{acts:?}");
    (w, ticket.command)
}

#[tokio::test(start_paused = true)]
async fn half_a_plan_is_taken_back_as_soon_as_its_target_is_back_and_nothing_comes_between() {
    // The first was done and its answer lost; the second was lost; the second was refused and the way back was cut.
    for (acts, away_ms) in
        [([Act::DoneLost, Act::Well], 3), ([Act::Well, Act::NotDoneLost], 8), ([Act::Well, Act::No], 8)]
    {
        let (w, id) = half(acts, away_ms).await;
        assert_eq!(w.owner.outcome(id), Some(Known::Running), "{acts:?}");
        let late = w.send("Reconfigure", vm(1), plan([(vm(1), call("Note", "late"))]));
        assert_eq!(code(&late.outcome().await), Code::TimedOut, "the lane is held");
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(w.owner.outcome(id), Some(Known::Running), "{acts:?}");
        let behind = w.send("Reconfigure", vm(1), plan([(vm(1), call("Note", "after"))]));
        w.target.state.lock().away = false;
        assert_eq!(word(&behind.outcome().await), "done");
        let Some(Known::Ended(Outcome::Failed(cause))) = w.owner.outcome(id) else { panic!("{acts:?}") };
        assert_eq!(cause.native_code == 7, matches!(acts[1], Act::No), "it says why it failed: {cause}");
        assert_eq!(w.machine(vm(1)), ("vm1".into(), "after".into()), "{acts:?}");
        let calls = w.calls();
        assert_eq!(calls.iter().filter(|call| *call == "Name web").count(), 1, "{calls:?}");
        assert!(calls.iter().filter(|call| *call == "Note x").count() <= 1, "{calls:?}");
        assert_eq!(calls.last().map(String::as_str), Some("Note after"), "{calls:?}");
        let told = w.notes.told();
        let ends: Vec<_> = told.iter().filter(|told| told.starts_with("ended")).collect();
        assert_eq!(ends, ["ended unknown", "ended failed", "ended done"], "{told:?}");
        assert_eq!((w.owner.count(), w.owner.lanes.lock().lanes.len()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_plan_of_which_the_rest_was_done_is_done() {
    let (w, id) = half([Act::Well, Act::DoneLost], 8).await;
    w.target.state.lock().away = false;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(matches!(w.owner.outcome(id), Some(Known::Ended(Outcome::Done { .. }))));
    assert_eq!(w.calls(), ["Name web", "Note x"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_target_that_is_there_does_not_take_back_stays_and_holds_nothing() {
    let w = plans([Act::Well, Act::No, Act::No]);
    let outcome = w.reconfigure(two()).await;
    let Outcome::Failed(cause) = outcome else { panic!("{outcome:?}") };
    assert!(cause.message.contains("taking back step 1 (Name) failed"), "{cause}");
    assert_eq!(w.owner.count(), 0);
}

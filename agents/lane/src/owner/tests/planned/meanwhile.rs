//! Somebody else changes the machine while a plan is performed.

use super::*;

#[tokio::test(start_paused = true)]
async fn only_a_field_that_was_read_and_has_changed_refuses_a_plan() {
    let w = plans([]);
    let renamed = || Plan { reads: vec![read("name", "vm1")], ..plan([(vm(1), call("Note", "x"))]) };
    w.target.state.lock().machines.entry(vm(1)).and_modify(|m| m.1 = "by hand".into());
    assert_eq!(word(&w.reconfigure(renamed()).await), "done", "nobody read the note");
    let name = w.inventory.schema().slot(Kind::Vm, "name").map(SlotSet::of);
    assert_eq!(w.target.state.lock().relied_on, name);
    w.target.state.lock().machines.entry(vm(1)).and_modify(|m| m.0 = "by hand".into());
    let calls = w.calls().len();
    let outcome = w.reconfigure(renamed()).await;
    let Outcome::Refused(cause) = outcome else { panic!("{outcome:?}") };
    assert_eq!((cause.code, w.calls().len()), (Code::Changed, calls));
    assert!(cause.message.contains("`name`"), "{cause}");
    assert_eq!(w.notes.told().last().map(String::as_str), Some("declined refused"));
    // What nobody here holds is the engine's to watch.
    let other = Read { object: folder(), ..read("name", "old") };
    let plan = Plan { reads: vec![other], ..plan([(vm(1), call("Note", "y"))]) };
    assert_eq!(word(&w.reconfigure(plan).await), "done");
}

/// What a plan for a machine that runs did to one that is off by then is taken back, and its caller told soon.
#[tokio::test(start_paused = true)]
async fn a_plan_for_another_power_state_is_taken_back() {
    let w = plans([]);
    let calls = [(vm(1), undone("Note", "x", "")), (vm(1), call("Nap", ""))];
    let reads = vec![Read { object: vm(1), field: Arc::from("power_state"), value: Value::Int(RUNNING) }];
    let start = Instant::now();
    let outcome = w.send("Suspend", vm(1), Plan { reads, ..plan(calls) }).outcome().await;
    let Outcome::Failed(cause) = outcome else { panic!("{outcome:?}") };
    assert_eq!(cause.code, Code::InvalidState, "{cause}");
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(w.calls(), ["Note x", "Nap ", "Note "]);
    assert_eq!(w.machine(vm(1)).1, "");
}

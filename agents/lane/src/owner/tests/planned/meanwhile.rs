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

/// A plan for a machine that runs, whose last call somebody puts to sleep.
fn napped() -> Plan {
    let calls = [(vm(1), undone("Note", "x", "")), (vm(1), call("Nap", ""))];
    let reads = vec![Read { object: vm(1), field: Arc::from("power_state"), value: Value::Int(RUNNING) }];
    Plan { reads, ..plan(calls) }
}

/// What it did to one that is off by then is taken back, and its caller told soon.
#[tokio::test(start_paused = true)]
async fn a_plan_for_another_power_state_is_taken_back() {
    let w = plans([]);
    let mut command = w.command("Reconfigure", vm(1));
    let mut body = Record::clone(&command.body);
    body.set(description(&command).expect("a field"), "y");
    command.body = Arc::new(body);
    let start = Instant::now();
    let outcome = w.owner.submit_planned(command, napped(), Reply::Task).expect("taken").outcome().await;
    let Outcome::Failed(cause) = outcome else { panic!("{outcome:?}") };
    assert_eq!(cause.code, Code::InvalidState, "{cause}");
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(w.calls(), ["Note x", "Nap ", "Note "]);
    assert_eq!(w.machine(vm(1)).1, "");
}

/// Whoever stopped or paused a machine after it was started must not have it destroyed for that.
#[tokio::test(start_paused = true)]
async fn a_power_command_is_not_taken_back_for_what_others_did_after_it() {
    let w = plans([]);
    let outcome = w.send("Suspend", vm(1), napped()).outcome().await;
    let Outcome::Failed(cause) = outcome else { panic!("{outcome:?}") };
    assert_eq!((cause.code, w.calls()), (Code::TimedOut, vec!["Note x".to_owned(), "Nap ".to_owned()]));
}

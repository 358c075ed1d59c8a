//! A command's way: recorded once, planned, sent once, settled by asking.

use crate::bed::{BUNDLE, Bed, Say, code, done, host, is_done, plan_of, refused, vm, vm_folder};
use engine::Limits;
use inventory::Put;
use std::time::Duration;
use store::{MemoryStore, journal::End};
use tokio::time::Instant;
use union::{
    Kind, Value,
    command::{Code, Outcome, Revision},
    pb,
};

fn described(text: &str) -> Vec<(&'static str, Value)> {
    vec![("vm_id", Value::Ref(vm(1))), ("description", Value::from(text))]
}

fn never() -> pb::Settled {
    pb::Settled { unknown: true, ..pb::Settled::default() }
}

fn ended(outcome: &Outcome) -> pb::Settled {
    pb::Settled { outcome: Some(outcome.to_pb(&BUNDLE.schema)), ..pb::Settled::default() }
}

#[tokio::test(start_paused = true)]
async fn the_same_command_is_done_once_and_another_content_is_refused() {
    let bed = Bed::new().await;
    let command = bed.command(1, "Reconfigure", vm(1), &described("x"));
    let outcome = bed.submit(&command).await;
    assert!(is_done(&outcome), "{outcome:?}");
    assert_eq!(bed.submit(&command).await, outcome);
    assert_eq!(bed.agents.performed().len(), 1);
    let entry = bed.entry(1).await.unwrap();
    assert_eq!((entry.plans, entry.settled.unwrap().end), (1, End::Done));
    assert_eq!(
        bed.audit(1).await,
        ["ann allowed", "ann done"],
        "the session's principal, not the asserted one"
    );
    let other = bed.command(1, "Reconfigure", vm(1), &described("y"));
    assert_eq!(code(&bed.submit(&other).await), Code::InvalidArgument);
    let bed = bed.restart().await;
    assert!(is_done(&bed.submit(&command).await));
    assert_eq!(code(&bed.submit(&other).await), Code::InvalidArgument);
    assert_eq!(bed.agents.performed().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_depends_on_facts_is_planned_and_what_does_not_is_handed_on() {
    let bed = Bed::new().await;
    assert!(is_done(&bed.does("Reconfigure", vm(1), &described("x")).await));
    assert!(is_done(
        &bed.does("RenameVm", vm(1), &[("vm_id", Value::Ref(vm(1))), ("name", "new".into())]).await
    ));
    let performed = bed.agents.performed();
    let plan = plan_of(&performed[0]).unwrap();
    assert_eq!(plan.steps.len(), 1);
    assert_eq!(plan.bundle.to_string(), BUNDLE.hash);
    assert!(
        plan.reads.iter().any(|read| &*read.field == "name" && read.value == Value::from("vm1")),
        "{plan:?}"
    );
    assert_eq!(plan_of(&performed[1]), None);
    let envelope = performed[1].envelope.clone().unwrap();
    assert_eq!(
        (envelope.principal.as_str(), performed[1].engine_epoch, performed[1].target_epoch),
        ("ann", bed.engine.epoch().0, bed.engine.epoch().0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_made_anew_three_times_and_then_busy() {
    let bed = Bed::new().await;
    bed.agents.say("perform", Say::Outcome(refused(Code::Changed)));
    let schema = bed.facts.schema().clone();
    let name = schema.slot(Kind::Vm, "name").unwrap();
    let (facts, rename) = (bed.facts.clone(), move |facts: &inventory::Inventory, to: &str| {
        facts.apply(vec![Put::Slots(vm(1), vec![(name, to.into())])]);
    });
    let moving = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(30)).await;
        rename(&facts, "by hand");
    });
    let command = bed.command(1, "Reconfigure", vm(1), &described("x"));
    assert!(is_done(&bed.submit(&command).await));
    moving.await.unwrap();
    let performed = bed.agents.performed();
    assert_eq!(performed.len(), 2);
    let read =
        |at: usize| plan_of(&performed[at]).unwrap().reads.iter().find(|r| &*r.field == "name").cloned();
    assert_eq!(read(0).unwrap().value, Value::from("vm1"));
    assert_eq!(read(1).unwrap().value, Value::from("by hand"), "from what the replica has by now");
    assert_eq!(bed.entry(1).await.unwrap().plans, 2);
    for _ in 0..3 {
        bed.agents.say("perform", Say::Outcome(refused(Code::Changed)));
    }
    let command = bed.command(2, "Reconfigure", vm(1), &described("y"));
    assert_eq!(code(&bed.submit(&command).await), Code::Busy);
    assert_eq!(bed.agents.performed().len(), 5);
    assert_eq!(bed.audit(2).await.len(), 2, "one record before the effect, one of the end");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_away_fails_the_command_at_once() {
    let bed = Bed::new().await;
    bed.agents.say("perform", Say::Away);
    let before = Instant::now();
    let marked = bed.does("MarkAsTemplate", vm(1), &[("vm_id", Value::Ref(vm(1)))]).await;
    assert_eq!(code(&marked), Code::Unreachable);
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(bed.engine.own().all().is_empty());
    assert!(bed.agents.asked("settle").is_empty(), "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_settled_by_asking_and_never_sent_again() {
    let bed = Bed::new().await;
    bed.agents.say("perform", Say::Silent);
    bed.agents.say("settle", Say::Settled(pb::Settled { running: true, ..pb::Settled::default() }));
    bed.agents.say("settle", Say::Away);
    bed.agents.say("settle", Say::Settled(ended(&done(Revision::default()))));
    let command = bed.command(1, "MarkAsTemplate", vm(1), &[("vm_id", Value::Ref(vm(1)))]);
    assert!(is_done(&bed.submit(&command).await));
    assert_eq!((bed.agents.performed().len(), bed.agents.asked("settle").len()), (1, 3));
    assert_eq!(bed.engine.own().get(vm(1), "template"), Some(Value::Bool(true)));
    // It never came, and never will.
    bed.agents.say("perform", Say::Silent);
    bed.agents.say("settle", Say::Settled(never()));
    let command = bed.command(2, "MarkAsVm", vm(1), &[("vm_id", Value::Ref(vm(1)))]);
    assert_eq!(code(&bed.submit(&command).await), Code::Unreachable);
    assert_eq!(bed.engine.own().get(vm(1), "template"), Some(Value::Bool(true)));
}

#[tokio::test(start_paused = true)]
async fn what_leaves_no_trace_ends_as_a_timeout() {
    let bed = Bed::new().await;
    let unknown = Outcome::Unknown { probe: String::new(), message: "who knows".into() };
    bed.agents.say("perform", Say::Outcome(unknown.clone()));
    bed.agents.say("settle", Say::Settled(ended(&unknown)));
    let reset = bed.command(1, "Reset", vm(1), &[("vm_id", Value::Ref(vm(1)))]);
    assert_eq!(code(&bed.submit(&reset).await), Code::TimedOut);
    assert_eq!(bed.agents.performed().len(), 1);
    assert_eq!(bed.entry(1).await.unwrap().settled.unwrap().end, End::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_caller_hears_in_time_that_it_is_not_known_and_may_ask_later() {
    let bed = Bed::new().await;
    bed.agents.say("perform", Say::Never);
    let command = bed.command(1, "Reconfigure", vm(1), &described("x"));
    let before = Instant::now();
    assert!(matches!(bed.submit(&command).await, Outcome::Unknown { .. }));
    assert_eq!(before.elapsed(), Duration::from_secs(10), "its deadline, and a while");
    let about = pb::About { command_id: command.command_id.clone(), ..pb::About::default() };
    assert!(bed.ask::<pb::Settled>("a", "settle", &about).await.unwrap().running);
    assert_eq!(bed.engine.under_way(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_about_what_never_came_gets_it_refused_for_ever() {
    let bed = Bed::new().await;
    let command = bed.command(1, "Reconfigure", vm(1), &described("x"));
    let about = pb::About { command_id: command.command_id.clone(), ..pb::About::default() };
    assert!(bed.ask::<pb::Settled>("a", "settle", &about).await.unwrap().unknown);
    assert_eq!(code(&bed.submit(&command).await), Code::Cancelled);
    let bed = bed.restart().await;
    assert_eq!(code(&bed.submit(&command).await), Code::Cancelled, "by the next life of the engine, too");
    let told = bed.ask::<pb::Settled>("a", "settle", &about).await.unwrap();
    assert!(told.outcome.is_some() && !told.running, "{told:?}");
    assert!(bed.agents.performed().is_empty());
    let garbage = pb::About { command_id: "x".into(), ..pb::About::default() };
    assert_eq!(
        bed.ask::<pb::Settled>("a", "settle", &garbage).await.unwrap_err().code,
        Code::InvalidArgument
    );
}

#[tokio::test(start_paused = true)]
async fn one_agent_cannot_take_all_the_room() {
    let limits = Limits { total: 3, per_agent: 2, ..Limits::default() };
    let bed = Bed::with(MemoryStore::new(), limits).await;
    for _ in 0..3 {
        bed.agents.say("perform", Say::Never);
    }
    let commands: Vec<_> = (1..=3).map(|n| bed.command(n, "Reconfigure", vm(n), &described("x"))).collect();
    let (a, b) = (bed.submit(&commands[0]), bed.submit(&commands[1]));
    let third = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let before = Instant::now();
        let outcome = bed.submit(&commands[2]).await;
        (outcome, before.elapsed())
    };
    let (first, second, (third, took)) = tokio::join!(a, b, third);
    assert!(matches!((first, second), (Outcome::Unknown { .. }, Outcome::Unknown { .. })));
    assert_eq!((code(&third), took), (Code::Busy, Duration::ZERO));
    assert_eq!(bed.entry(3).await, None, "nothing was done, not even written");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_and_what_comes_too_late_is_refused_and_in_the_audit() {
    let bed = Bed::new().await;
    let mut forbidden = bed.command(1, "Reconfigure", vm(1), &described("x"));
    forbidden.session_id = "mallory's".into();
    assert_eq!(code(&bed.submit(&forbidden).await), Code::Permission);
    assert_eq!(bed.audit(1).await, ["whoever refused: not mallory"]);
    let mut late = bed.command(2, "Reconfigure", vm(1), &described("x"));
    late.deadline_ms = 1;
    assert_eq!(code(&bed.submit(&late).await), Code::TimedOut);
    let lost = bed.command(3, "Reconfigure", vm(99), &[("vm_id", Value::Ref(vm(99)))]);
    assert_eq!(code(&bed.submit(&lost).await), Code::NotFound);
    assert!(bed.agents.performed().is_empty());
    let nonsense = pb::Submission::default();
    let outcome = bed.ask::<pb::Outcome>("a", "vm.x", &nonsense).await.unwrap();
    assert_eq!(code(&Outcome::from_pb(&BUNDLE.schema, &outcome).unwrap()), Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn only_who_sent_a_command_cancels_it() {
    let bed = Bed::new().await;
    bed.agents.say("perform", Say::Never);
    let command = bed.command(1, "Reconfigure", vm(1), &described("x"));
    let about = pb::About { command_id: command.command_id.clone(), ..pb::About::default() };
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let stranger = bed.ask::<pb::Settled>("b", "cancel", &about).await.unwrap_err();
        assert_eq!(stranger.code, Code::NotFound);
        assert!(bed.ask::<pb::Settled>("a", "cancel", &about).await.unwrap().running);
    };
    tokio::join!(bed.submit(&command), meanwhile);
    let asked = bed.agents.asked("cancel");
    assert_eq!((asked.len(), asked[0].0.as_str()), (1, "a"), "its owner is told");
}

#[tokio::test(start_paused = true)]
async fn what_the_broker_keeps_is_shown_and_gone_with_its_object() {
    let bed = Bed::new().await;
    let setting = |key: &str, value: &str| {
        let message = BUNDLE.schema.message("Setting").unwrap();
        let mut record = message.record();
        record.set(message.field("key").unwrap().slot, key);
        record.set(message.field("value").unwrap().slot, value);
        Value::list([Value::record(record)])
    };
    let set = |key: &str, value: &str| vec![("vm_id", Value::Ref(vm(1))), ("settings", setting(key, value))];
    // Both are planned from the same facts if nobody takes care.
    let (one, two) = (set("a", "1"), set("b", "2"));
    let (first, second) =
        tokio::join!(bed.does("Reconfigure", vm(1), &one), bed.does("Reconfigure", vm(1), &two));
    assert!(is_done(&first) && is_done(&second));
    let kept = bed.engine.own().get(vm(1), "settings").unwrap();
    assert_eq!(kept.items().len(), 2, "{kept:?}");
    let slot = BUNDLE.schema.slot(Kind::Vm, "settings").unwrap();
    let shown = |bed: &Bed| bed.fleet.inventory().record(vm(1)).map(|r| r.get(slot).items().len());
    assert_eq!(shown(&bed), Some(2));
    let bed = bed.restart().await;
    assert_eq!(shown(&bed), Some(2));
    assert!(is_done(&bed.does("DestroyVm", vm(1), &[("vm_id", Value::Ref(vm(1)))]).await));
    assert!(bed.engine.own().all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_vm_goes_to_a_host_and_lies_where_it_was_made() {
    let bed = Bed::new().await;
    let record = |name: &str| {
        let mut record = BUNDLE.schema.kind(Kind::Vm).record();
        record.set(BUNDLE.schema.slot(Kind::Vm, "name").unwrap(), name);
        Value::record(record)
    };
    let made = |n: u128, name: &str| {
        vec![("folder_id", Value::Ref(vm_folder())), ("vm_id", Value::Ref(vm(n))), ("vm", record(name))]
    };
    assert!(is_done(&bed.does("CreateVm", vm_folder(), &made(50, "new")).await));
    let plan = plan_of(&bed.agents.performed()[0]).unwrap();
    assert_eq!(plan.appears, Some(vm(50)));
    let args = &plan.steps[0].call.args;
    assert!(args.iter().any(|(name, value)| &**name == "host" && *value == Value::Ref(host())), "{args:?}");
    assert_eq!(code(&bed.does("CreateVm", vm_folder(), &made(1, "other")).await), Code::Duplicate);
    assert_eq!(code(&bed.does("CreateVm", vm_folder(), &made(51, "vm2")).await), Code::Duplicate);
    let slot = BUNDLE.schema.slot(Kind::Host, "maintenance").unwrap();
    bed.facts.apply(vec![Put::Slots(host(), vec![(slot, Value::Bool(true))])]);
    assert_eq!(code(&bed.does("CreateVm", vm_folder(), &made(52, "there")).await), Code::Unreachable);
}

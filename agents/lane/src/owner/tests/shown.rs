//! Effects that facts show before the lane's own look comes back.

use super::*;

/// The target's reader says what it has heard.
fn told(w: &World, power: i64) {
    let slot = w.inventory.schema().slot(Kind::Vm, "power_state").expect("a field");
    w.inventory.apply(vec![Put::Slots(w.vm, vec![(slot, power.into())])]);
}

async fn a_second() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn facts_that_show_the_effect_end_a_command() {
    let w = world(STOPPED, [Act::Well]);
    w.target.state.lock().stuck = true;
    let ticket = w.submit("PowerOn");
    a_second().await;
    assert_eq!((w.calls().len(), ticket.now()), (1, None), "nothing shows it yet");
    told(&w, SUSPENDED);
    a_second().await;
    assert_eq!(ticket.now(), None, "that is not it");
    told(&w, RUNNING);
    let Outcome::Done { revision, already: false, .. } = ticket.clone().outcome().await else {
        panic!("done")
    };
    assert!(revision <= w.inventory.revision());
    assert_eq!(w.task_state(&ticket), TaskState::Succeeded as i64);
}

#[tokio::test(start_paused = true)]
async fn facts_do_not_end_what_was_not_answered() {
    let w = world(STOPPED, [Act::Slow(5_000)]);
    let ticket = w.submit("PowerOn");
    a_second().await;
    told(&w, RUNNING);
    a_second().await;
    assert_eq!(ticket.now(), None, "the call is under way");
    assert!(matches!(ticket.outcome().await, Outcome::Done { .. }));
}

#[tokio::test(start_paused = true)]
async fn facts_do_not_end_what_says_more_than_they_show() {
    let w = world(STOPPED, [Act::Well]);
    w.target.state.lock().stuck = true;
    let mut command = w.command("PowerOn");
    let mut body = Record::clone(&command.body);
    let slot = Schema::base().message("PowerOn").expect("a command").field("host_id").expect("a field").slot;
    body.set(slot, ObjectId::new(Kind::Host, uuid::Uuid::from_u128(9)));
    command.body = Arc::new(body);
    let ticket = w.owner.submit(command, Reply::Task).expect("taken");
    a_second().await;
    told(&w, RUNNING);
    a_second().await;
    assert_eq!(ticket.now(), None, "it is looked for");
    w.target.state.lock().stuck = false;
    assert!(matches!(ticket.outcome().await, Outcome::Done { .. }));
}

#[tokio::test(start_paused = true)]
async fn facts_end_nothing_while_an_overtaken_call_may_be_under_way() {
    let w = world(RUNNING, [Act::Hang, Act::Well]);
    let suspend = w.submit("Suspend");
    a_second().await;
    let off = w.submit("PowerOff");
    assert_eq!(code(&suspend.outcome().await), Code::Cancelled);
    while w.calls().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    w.target.state.lock().stuck = true;
    for _ in 0..5 {
        a_second().await;
        told(&w, RUNNING);
        told(&w, STOPPED);
    }
    assert_eq!((w.calls().len(), off.now()), (2, None), "it is looked for");
    w.target.state.lock().stuck = false;
    assert!(matches!(off.outcome().await, Outcome::Done { .. }));
}

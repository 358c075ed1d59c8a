use super::*;
use crate::target::{Progress, TargetError};
use async_trait::async_trait;
use inventory::Put;
use mapping::{NativeCall, StepKind};
use std::collections::VecDeque as Script;
use union::{
    Ids, Kind, Origin, Record, Schema, Slot, SlotSet, Value,
    clock::{ManualClock, SeededIds},
    command::{Outcome, Revision},
    pb::{PowerState, TaskState},
    plan::Step,
};

/// What the fake target does with a call.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Does it and says so.
    Well,
    /// Does it; the answer is lost.
    DoneLost,
    /// Loses the call.
    NotDoneLost,
    /// Never answers.
    Hang,
    /// Says no.
    No,
    /// Cannot be reached.
    Away,
    /// Says yes, and does it this many looks later.
    Later(u32),
    /// Takes this many milliseconds.
    Slow(u64),
    /// Has a bug.
    Panic,
}

struct Fake {
    inventory: Arc<Inventory>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    script: Script<Act>,
    calls: Vec<String>,
    power: i64,
    later: Option<(u32, i64)>,
    blind: u32,
    aborted: u32,
    rereads: u32,
    /// Looks do not come back.
    stuck: bool,
}

mod planned;
mod shown;

const RUNNING: i64 = PowerState::Running as i64;
const STOPPED: i64 = PowerState::Stopped as i64;
const SUSPENDED: i64 = PowerState::Suspended as i64;

fn to(call: &str) -> Option<i64> {
    match call {
        "On" => Some(RUNNING),
        "Off" => Some(STOPPED),
        "Save" => Some(SUSPENDED),
        _ => None,
    }
}

#[async_trait]
impl Target for Fake {
    fn protocol(&self) -> &str {
        "fake"
    }

    fn name(&self) -> &str {
        "fake"
    }

    fn holds(&self, id: ObjectId) -> bool {
        id.kind == Kind::Vm
    }

    async fn perform(
        &self,
        _: ObjectId,
        call: &NativeCall,
        _: Instant,
        progress: Progress,
    ) -> Result<Value, TargetError> {
        let act = {
            let mut state = self.state.lock();
            state.calls.push(call.call.to_string());
            state.script.pop_front().unwrap_or(Act::Well)
        };
        progress(50);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let effect = || {
            if let Some(power) = to(&call.call) {
                self.state.lock().power = power;
            }
        };
        match act {
            Act::Well => {
                effect();
                Ok(Value::Absent)
            }
            Act::DoneLost => {
                effect();
                Err(TargetError::Lost("reset".into()))
            }
            Act::NotDoneLost => Err(TargetError::Lost("reset".into())),
            Act::Hang => std::future::pending().await,
            Act::No => Err(TargetError::Failed { code: 55, means: None, message: "no".into() }),
            Act::Away => Err(TargetError::Unreachable("no route".into())),
            Act::Slow(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                effect();
                Ok(Value::Absent)
            }
            Act::Panic => panic!("a bug of the target's"),
            Act::Later(looks) => {
                self.state.lock().later = to(&call.call).map(|power| (looks, power));
                Ok(Value::Absent)
            }
        }
    }

    async fn reread(&self, id: ObjectId, _: Instant) -> Result<Revision, TargetError> {
        self.state.lock().rereads += 1;
        while self.state.lock().stuck {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let power = {
            let mut state = self.state.lock();
            if state.blind > 0 {
                state.blind -= 1;
                return Err(TargetError::Unreachable("no route".into()));
            }
            if let Some((looks, power)) = state.later {
                if looks == 0 {
                    state.power = power;
                    state.later = None;
                } else {
                    state.later = Some((looks - 1, power));
                }
            }
            state.power
        };
        let slot = self.inventory.schema().slot(Kind::Vm, "power_state").expect("a field");
        Ok(self.inventory.apply(vec![Put::Slots(id, vec![(slot, power.into())])]))
    }

    async fn abort(&self, _: ObjectId, _: Instant) -> Result<(), TargetError> {
        self.state.lock().aborted += 1;
        Ok(())
    }
}

struct Table;

fn power(record: &Record) -> i64 {
    let slot = Schema::base().slot(Kind::Vm, "power_state").expect("a field");
    record.get(slot).as_int().unwrap_or(0)
}

/// Where a command says a description.
fn description(command: &Command) -> Option<Slot> {
    Some(Schema::base().message(&command.verb)?.field("description")?.slot)
}

/// Whether the object has the description that a command sets, if it sets one.
fn described(command: &Command, object: &Record) -> Option<bool> {
    let wanted = command.body.get(description(command)?);
    let slot = Schema::base().slot(Kind::Vm, "description")?;
    (!wanted.is_absent()).then(|| object.get(slot) == wanted)
}

impl Rules for Table {
    fn conflict(&self, _: &Origin, running: &str, arriving: &str) -> Conflict {
        match (running, arriving) {
            ("Suspend", "PowerOff" | "Cancel") | ("Unpause", "PowerOff") => Conflict::Overtake,
            ("Reset", _) => Conflict::Refuse(Arc::from("TaskInProgress")),
            (a, b) if a == b => Conflict::Satisfied,
            _ => Conflict::Queue,
        }
    }

    fn guard(&self, command: &Command, object: &Record, _: &Inventory) -> Result<(), Cause> {
        match (&*command.verb, power(object)) {
            ("Suspend" | "Reset", state) if state != RUNNING => Err(Cause {
                fault: "InvalidPowerState".into(),
                ..Cause::new(Code::InvalidState, "it is off")
            }),
            _ => Ok(()),
        }
    }

    fn lower(&self, _: &str, command: &Command, _: &Record, _: &Inventory) -> Result<Plan, Cause> {
        let call = match &*command.verb {
            "PowerOn" | "Unpause" => "On",
            "PowerOff" => "Off",
            "Suspend" => "Save",
            "Reset" => "Reset",
            other => return Err(Cause::new(Code::NotSupported, format!("no {other}"))),
        };
        let call = NativeCall {
            call: Arc::from(call),
            args: Vec::new(),
            is: StepKind::Idempotent,
            undo: None,
            script: None,
        };
        Ok(Plan { steps: vec![Step { object: command.object, call }], ..Plan::default() })
    }

    fn expected(&self, _: &str, command: &Command, object: &Record, _: &Inventory) -> Option<bool> {
        let wanted = match &*command.verb {
            "PowerOn" | "Unpause" => RUNNING,
            "PowerOff" => STOPPED,
            "Suspend" => SUSPENDED,
            "Reconfigure" => return described(command, object),
            _ => return None,
        };
        Some(power(object) == wanted)
    }

    fn compared(&self, _: &str, command: &Command) -> SlotSet {
        description(command).map_or(SlotSet::EMPTY, SlotSet::of)
    }
}

struct World {
    owner: Arc<Owner>,
    target: Arc<Fake>,
    inventory: Arc<Inventory>,
    clock: Arc<ManualClock>,
    ids: SeededIds,
    vm: ObjectId,
}

fn world(power: i64, script: impl IntoIterator<Item = Act>) -> World {
    limited(power, script, Limits::default())
}

fn limited(power: i64, script: impl IntoIterator<Item = Act>, limits: Limits) -> World {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let inventory = Inventory::new(Schema::base(), 1, clock.clone());
    let tasks = Tasks::new(Arc::clone(&inventory), clock.clone(), Arc::new(SeededIds::new(1)));
    let vm = ObjectId::new(Kind::Vm, uuid::Uuid::from_u128(1));
    let schema = Schema::base();
    let mut record = schema.kind(Kind::Vm).record();
    record.set(schema.slot(Kind::Vm, "power_state").expect("a field"), power);
    inventory.apply(vec![Put::Whole(vm, record)]);
    let state = State { script: script.into_iter().collect(), power, ..State::default() };
    let target = Arc::new(Fake { inventory: Arc::clone(&inventory), state: Mutex::new(state) });
    let owner = Owner::new(Arc::new(Table), Arc::clone(&inventory), tasks, clock.clone(), limits);
    owner.adopt(target.clone());
    World { owner, target, inventory, clock, ids: SeededIds::new(2), vm }
}

impl World {
    fn command(&self, verb: &str) -> Command {
        let schema = Schema::base();
        let message = schema.message(verb).expect("a command");
        Command {
            id: CommandId(self.ids.uuid()),
            verb: Arc::from(verb),
            schema: message.command.clone().expect("a command"),
            object: self.vm,
            body: Arc::new(message.record()),
            principal: Arc::from("ann"),
            session: Arc::from("s"),
            deadline_ms: self.clock.now_ms() + 10_000,
            origin: Origin { protocol: "p".into(), view: "fleet".into(), method: "M_Task".into() },
        }
    }

    fn submit(&self, verb: &str) -> Ticket {
        self.owner.submit(self.command(verb), Reply::Task).expect("taken")
    }

    fn calls(&self) -> Vec<String> {
        self.target.state.lock().calls.clone()
    }

    fn field(&self, id: ObjectId, name: &str) -> Value {
        let slot = self.inventory.schema().slot(id.kind, name).expect("a field");
        self.inventory.record(id).expect("there").get(slot).clone()
    }

    fn task_state(&self, ticket: &Ticket) -> i64 {
        self.field(ticket.task.expect("asked for"), "state").as_int().expect("set")
    }
}

fn code(outcome: &Outcome) -> Code {
    match outcome {
        Outcome::Failed(cause) | Outcome::Refused(cause) => cause.code,
        other => panic!("no cause in {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_is_done_and_seen() {
    let w = world(STOPPED, [Act::Later(3)]);
    let ticket = w.submit("PowerOn");
    tokio::task::yield_now().await;
    assert_eq!(w.task_state(&ticket), TaskState::Active as i64);
    assert_eq!(w.calls(), ["On"]);
    // It is shown before the call.
    assert_eq!(w.field(w.vm, "operation"), Value::Int(1));
    let Outcome::Done { revision, already: false, .. } = ticket.clone().outcome().await else {
        panic!("done")
    };
    w.inventory.seen(revision).await;
    assert_eq!(w.field(w.vm, "power_state"), Value::Int(RUNNING));
    assert!(w.field(w.vm, "operation").is_absent());
    assert_eq!(w.task_state(&ticket), TaskState::Succeeded as i64);
    assert_eq!((w.calls(), w.owner.count()), (vec!["On".to_owned()], 0));
    assert_eq!(w.inventory.credit(w.vm), None);
}

#[tokio::test(start_paused = true)]
async fn a_guard_refuses_on_fresh_facts_only() {
    let w = world(STOPPED, []);
    let outcome = w.submit("Suspend").outcome().await;
    let Outcome::Refused(cause) = outcome else { panic!("refused") };
    assert_eq!((&*cause.fault, w.calls().len()), ("InvalidPowerState", 0));
    // Somebody started it behind our back.
    w.target.state.lock().power = RUNNING;
    assert!(matches!(w.submit("Suspend").outcome().await, Outcome::Done { .. }));
}

#[tokio::test(start_paused = true)]
async fn what_is_so_already_is_not_done_again() {
    let w = world(RUNNING, []);
    assert!(matches!(w.submit("PowerOn").outcome().await, Outcome::Done { already: true, .. }));
    assert!(w.calls().is_empty());
    // The facts said running, but it is not.
    w.target.state.lock().power = STOPPED;
    assert!(matches!(w.submit("PowerOn").outcome().await, Outcome::Done { already: false, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_hard_power_off_overtakes_a_hung_suspend() {
    let w = world(RUNNING, [Act::Hang, Act::Well]);
    let suspend = w.submit("Suspend");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let off = w.submit("PowerOff");
    assert_eq!(code(&suspend.outcome().await), Code::Cancelled);
    assert!(matches!(off.outcome().await, Outcome::Done { already: false, .. }));
    assert_eq!(w.calls(), ["Save", "Off"]);
    assert_eq!(w.target.state.lock().aborted, 1);
    assert!(w.field(w.vm, "operation").is_absent());
}

/// The facts say stopped, and it is about to run: what was outrun decides what is to be done.
#[tokio::test(start_paused = true)]
async fn an_outrun_call_ends_first_or_its_effect_is_taken_for_possible() {
    for act in [Act::Slow(300), Act::Hang] {
        let w = world(STOPPED, [act]);
        let on = w.submit("Unpause");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let off = w.submit("PowerOff");
        assert_eq!(code(&on.outcome().await), Code::Cancelled);
        let start = Instant::now();
        assert!(matches!(off.outcome().await, Outcome::Done { already: false, .. }), "{act:?}");
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(w.calls(), ["On", "Off"]);
        assert_eq!(w.field(w.vm, "power_state"), Value::Int(STOPPED));
    }
}

/// Once more, and no more: what does not show then does not show.
#[tokio::test(start_paused = true)]
async fn what_an_outrun_call_undid_is_asked_once_more() {
    for (again, done) in [(Act::Well, true), (Act::Later(u32::MAX), false)] {
        let w = world(RUNNING, [Act::Hang, Act::Later(u32::MAX), again]);
        let suspend = w.submit("Suspend");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let off = w.submit("PowerOff");
        assert_eq!(code(&suspend.outcome().await), Code::Cancelled);
        assert_eq!(matches!(off.outcome().await, Outcome::Done { already: false, .. }), done);
        assert_eq!(w.calls(), ["Save", "Off", "Off"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_outrun_before_its_call_makes_none() {
    let w = world(RUNNING, []);
    let (suspend, off) = (w.submit("Suspend"), w.submit("PowerOff"));
    assert_eq!(code(&suspend.outcome().await), Code::Cancelled);
    assert!(matches!(off.outcome().await, Outcome::Done { .. }));
    assert_eq!(w.calls(), ["Off"]);
}

#[tokio::test(start_paused = true)]
async fn commands_wait_their_turn_join_or_are_refused() {
    let w = world(STOPPED, []);
    let (on, twice, off) = (w.submit("PowerOn"), w.submit("PowerOn"), w.submit("PowerOff"));
    assert_eq!(w.task_state(&off), TaskState::Queued as i64);
    assert!(matches!(on.outcome().await, Outcome::Done { already: false, .. }));
    assert!(matches!(twice.outcome().await, Outcome::Done { already: true, .. }));
    assert!(matches!(off.outcome().await, Outcome::Done { .. }));
    assert_eq!(w.calls(), ["On", "Off"]);
    w.target.state.lock().power = RUNNING;
    let reset = w.submit("Reset");
    let refused = w.owner.submit(w.command("PowerOff"), Reply::Task).expect_err("a reset is under way");
    assert_eq!((refused.code, &*refused.fault), (Code::InProgress, "TaskInProgress"));
    assert!(matches!(reset.outcome().await, Outcome::Done { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_settled_by_looking() {
    let w = world(STOPPED, [Act::DoneLost]);
    w.target.state.lock().blind = 2;
    assert!(matches!(w.submit("PowerOn").outcome().await, Outcome::Done { .. }));
    assert_eq!(w.calls(), ["On"]);
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_call_that_went_missing_is_sent_once_more() {
    let w = world(STOPPED, [Act::NotDoneLost]);
    assert!(matches!(w.submit("PowerOn").outcome().await, Outcome::Done { .. }));
    assert_eq!(w.calls(), ["On", "On"]);
    let w = world(STOPPED, [Act::NotDoneLost, Act::NotDoneLost]);
    assert_eq!(code(&w.submit("PowerOn").outcome().await), Code::TimedOut);
    assert_eq!(w.calls(), ["On", "On"]);
}

#[tokio::test(start_paused = true)]
async fn a_once_command_is_never_sent_again() {
    for act in [Act::DoneLost, Act::NotDoneLost] {
        let w = world(RUNNING, [act]);
        let ticket = w.submit("Reset");
        assert!(matches!(ticket.clone().outcome().await, Outcome::Unknown { .. }));
        assert_eq!((w.calls(), w.task_state(&ticket)), (vec!["Reset".to_owned()], TaskState::Failed as i64));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_target_costs_no_more_than_the_deadline() {
    let w = world(RUNNING, [Act::Hang]);
    w.target.state.lock().blind = u32::MAX;
    let start = Instant::now();
    assert!(matches!(w.submit("Suspend").outcome().await, Outcome::Unknown { .. }));
    assert!(start.elapsed() <= Duration::from_secs(15));
    let w = world(RUNNING, [Act::Hang]);
    let start = Instant::now();
    assert_eq!(code(&w.submit("Suspend").outcome().await), Code::TimedOut);
    assert!(start.elapsed() <= Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_away_or_says_no_fails_the_command() {
    let w = world(STOPPED, [Act::Away]);
    assert_eq!(code(&w.submit("PowerOn").outcome().await), Code::Unreachable);
    let w = world(STOPPED, [Act::No]);
    let Outcome::Failed(cause) = w.submit("PowerOn").outcome().await else { panic!("failed") };
    assert_eq!((cause.code, cause.native_code, &*cause.message), (Code::TargetFailed, 55, "no"));
    // It said no because it was so by then.
    let w = world(STOPPED, [Act::No]);
    let ticket = w.submit("PowerOn");
    tokio::task::yield_now().await;
    w.target.state.lock().power = RUNNING;
    assert!(matches!(ticket.outcome().await, Outcome::Done { already: true, .. }));
}

#[tokio::test(start_paused = true)]
async fn an_effect_that_never_shows_is_a_timeout() {
    let w = world(STOPPED, [Act::Later(u32::MAX)]);
    let command = Command { deadline_ms: w.clock.now_ms() + 3_600_000, ..w.command("PowerOn") };
    let (ticket, start) = (w.owner.submit(command, Reply::Task).expect("taken"), Instant::now());
    assert_eq!(code(&ticket.outcome().await), Code::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(62));
}

#[tokio::test(start_paused = true)]
async fn one_id_is_one_command() {
    let w = world(STOPPED, []);
    let command = w.command("PowerOn");
    let first = w.owner.submit(command.clone(), Reply::Task).expect("taken");
    let second = w.owner.submit(command.clone(), Reply::Task).expect("known");
    assert_eq!((first.task, first.clone().outcome().await), (second.task, second.outcome().await));
    let third = w.owner.submit(command, Reply::Task).expect("still known");
    assert_eq!(third.now(), first.now());
    assert_eq!(w.calls(), ["On"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_lane_and_a_full_owner_are_busy() {
    let limits = Limits { lane: 2, owner: 3, ..Limits::default() };
    let w = limited(STOPPED, [Act::Hang], limits);
    for verb in ["PowerOn", "PowerOff", "PowerOn"] {
        w.submit(verb);
    }
    let busy = w.owner.submit(w.command("PowerOff"), Reply::Outcome).expect_err("full");
    assert_eq!(busy.code, Code::Busy);
    let w = limited(STOPPED, [Act::Hang], Limits { owner: 9, ..limits });
    for verb in ["PowerOn", "PowerOff", "PowerOn"] {
        w.submit(verb);
    }
    let busy = w.owner.submit(w.command("PowerOff"), Reply::Outcome).expect_err("full");
    assert!(busy.message.contains("wait for"), "{busy}");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_command_is_cancelled_a_running_one_by_the_table() {
    let w = world(STOPPED, [Act::Hang]);
    let (on, off) = (w.submit("PowerOn"), w.submit("PowerOff"));
    tokio::task::yield_now().await;
    assert_eq!(w.owner.cancel(on.command).expect_err("not this one").code, Code::InvalidState);
    let cancelable = |w: &World, ticket: &Ticket| w.field(ticket.task.expect("asked for"), "cancelable");
    assert_eq!((cancelable(&w, &on), cancelable(&w, &off)), (Value::Bool(false), Value::Bool(true)));
    w.owner.cancel(off.command).expect("it waits");
    assert_eq!(code(&off.outcome().await), Code::Cancelled);
    let w = world(RUNNING, [Act::Hang, Act::Well]);
    let (suspend, reset) = (w.submit("Suspend"), w.submit("Reset"));
    tokio::task::yield_now().await;
    w.owner.cancel(suspend.command).expect("the table lets it");
    assert_eq!(code(&suspend.outcome().await), Code::Cancelled);
    assert!(matches!(reset.outcome().await, Outcome::Done { .. }));
    assert_eq!(w.owner.cancel(on.command).expect_err("unknown").code, Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_or_refused_by_the_target_s_table_is_told() {
    let w = world(RUNNING, []);
    assert_eq!(code(&w.submit("StandbyGuest").outcome().await), Code::NotSupported);
    w.inventory.apply(vec![Put::Remove(w.vm)]);
    let gone = w.owner.submit(w.command("PowerOn"), Reply::Task).expect_err("gone");
    assert_eq!(gone.code, Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_turn_comes_too_late_is_not_done() {
    let w = world(STOPPED, []);
    let mut late = w.command("PowerOn");
    late.deadline_ms = w.clock.now_ms();
    let outcome = w.owner.submit(late, Reply::Task).expect("taken").outcome().await;
    assert_eq!((code(&outcome), w.calls().len()), (Code::TimedOut, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_what_is_here() {
    let w = world(STOPPED, []);
    let on = w.submit("PowerOn");
    assert!(w.owner.drain(Duration::from_secs(5)).await);
    assert!(on.now().is_some());
    let late = w.owner.submit(w.command("PowerOff"), Reply::Task).expect_err("closed");
    assert_eq!(late.code, Code::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn a_target_with_a_bug_does_not_block_its_lane() {
    let w = world(STOPPED, [Act::Panic]);
    let (on, off) = (w.submit("PowerOn"), w.submit("PowerOff"));
    assert!(matches!(on.outcome().await, Outcome::Unknown { .. }));
    assert!(matches!(off.outcome().await, Outcome::Done { .. }));
    assert!(w.field(w.vm, "operation").is_absent());
}

#[tokio::test(start_paused = true)]
async fn one_identity_on_two_targets_freezes_the_object() {
    let w = world(STOPPED, []);
    let [first, second] = ["a", "b"].map(|name| inventory::Claims::new(&w.inventory, name));
    first.take(w.vm);
    let waits = w.submit("PowerOn");
    second.take(w.vm);
    assert!(matches!(waits.outcome().await, Outcome::Refused(cause) if cause.code == Code::InvalidState));
    let frozen = w.owner.submit(w.command("PowerOn"), Reply::Task).expect_err("which one?");
    assert_eq!((frozen.code, w.calls().len()), (Code::InvalidState, 0));
    assert!(frozen.message.contains("on a and on b"), "{}", frozen.message);
    second.release(w.vm);
    assert!(matches!(w.submit("PowerOn").outcome().await, Outcome::Done { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waits_ends_at_its_own_deadline() {
    let w = world(STOPPED, [Act::Hang]);
    let mut hung = w.command("PowerOn");
    hung.deadline_ms = w.clock.now_ms() + 3_600_000;
    let hung = w.owner.submit(hung, Reply::Task).expect("taken");
    let (waits, follows) = (w.submit("PowerOff"), w.submit("PowerOff"));
    let start = Instant::now();
    for late in [waits, follows] {
        assert_eq!(code(&late.clone().outcome().await), Code::TimedOut);
        assert_eq!(w.task_state(&late), TaskState::Failed as i64);
    }
    assert!(start.elapsed() <= Duration::from_secs(11));
    assert!(hung.now().is_none());
    assert_eq!((w.owner.count(), w.calls().len()), (1, 1));
}

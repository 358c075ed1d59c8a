//! Plans: read-sets, steps and their undo, durable intents, recovery, several lanes.

use super::*;
use crate::recorder::{Intended, Recorder};
use crate::{Dispatch, Known};
use std::collections::{BTreeMap, BTreeSet};
use union::{
    SlotSet,
    plan::{OwnFact, Read},
};

mod history;
mod meanwhile;
mod recovery;

/// A hypervisor whose machines have a name and a note.
pub(super) struct Hyper {
    inventory: Arc<Inventory>,
    state: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    machines: BTreeMap<ObjectId, (String, String)>,
    script: Script<Act>,
    calls: Vec<String>,
    blind: u32,
    /// Neither calls nor reads are answered, and calls do nothing.
    away: bool,
    busy: BTreeSet<ObjectId>,
    overlapped: bool,
    /// Asleep, by somebody else's hand.
    naps: bool,
    /// What was to be known before the last plan.
    relied_on: Option<SlotSet>,
}

impl Hyper {
    fn put(&self, id: ObjectId) -> Revision {
        let slot = |field| self.inventory.schema().slot(Kind::Vm, field).expect("a field");
        let (machine, power) = {
            let state = self.state.lock();
            (state.machines.get(&id).cloned(), if state.naps { STOPPED } else { RUNNING })
        };
        self.inventory.apply(vec![match machine {
            None => Put::Remove(id),
            Some((name, note)) => {
                let mut record = self.inventory.schema().kind(Kind::Vm).record();
                record.set(slot("name"), name);
                record.set(slot("description"), note);
                record.set(slot("power_state"), power);
                Put::Whole(id, record)
            }
        }])
    }

    fn text(call: &NativeCall) -> String {
        call.args.iter().find_map(|(_, v)| v.as_str()).unwrap_or_default().to_owned()
    }

    fn effect(&self, id: ObjectId, call: &NativeCall) {
        let mut state = self.state.lock();
        let text = Hyper::text(call);
        match &*call.call {
            "Make" => drop(state.machines.insert(id, (text, String::new()))),
            "Drop" => drop(state.machines.remove(&id)),
            "Nap" => state.naps = true,
            "Name" => drop(state.machines.get_mut(&id).map(|m| m.0 = text)),
            "Note" => drop(state.machines.get_mut(&id).map(|m| m.1 = text)),
            _ => {}
        }
    }
}

#[async_trait]
impl Target for Hyper {
    fn protocol(&self) -> &str {
        "hyper"
    }

    fn name(&self) -> &str {
        "hyper"
    }

    fn holds(&self, id: ObjectId) -> bool {
        id.kind == Kind::Host || self.state.lock().machines.contains_key(&id)
    }

    async fn perform(
        &self,
        object: ObjectId,
        call: &NativeCall,
        _: Instant,
        _: Progress,
    ) -> Result<Value, TargetError> {
        let act = {
            let mut state = self.state.lock();
            if state.away {
                return Err(TargetError::Unreachable("no route".into()));
            }
            let text = Hyper::text(call);
            state.calls.push(format!("{} {text}", call.call));
            state.overlapped |= !state.busy.insert(object);
            state.script.pop_front().unwrap_or(Act::Well)
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.state.lock().busy.remove(&object);
        let lost = || TargetError::Lost("reset".into());
        match act {
            Act::DoneLost => self.effect(object, call),
            Act::NotDoneLost => return Err(lost()),
            Act::No => return Err(TargetError::Failed { code: 7, means: None, message: "no".into() }),
            Act::Hang => std::future::pending().await,
            _ => self.effect(object, call),
        }
        if matches!(act, Act::DoneLost) { Err(lost()) } else { Ok(Value::Absent) }
    }

    async fn refresh(&self, id: ObjectId, fields: SlotSet, until: Instant) -> Result<Revision, TargetError> {
        self.state.lock().relied_on = Some(fields);
        self.reread(id, until).await
    }

    async fn reread(&self, id: ObjectId, _: Instant) -> Result<Revision, TargetError> {
        {
            let mut state = self.state.lock();
            if state.blind > 0 || state.away {
                state.blind = state.blind.saturating_sub(1);
                return Err(TargetError::Unreachable("no route".into()));
            }
        }
        if id.kind != Kind::Vm {
            return Ok(self.inventory.revision());
        }
        Ok(self.put(id))
    }

    async fn effective(
        &self,
        object: ObjectId,
        call: &NativeCall,
        _: Instant,
    ) -> Result<Option<bool>, TargetError> {
        let state = self.state.lock();
        let Some((name, note)) = state.machines.get(&object) else { return Ok(None) };
        Ok(match &*call.call {
            "Name" => Some(*name == Hyper::text(call)),
            "Note" => Some(*note == Hyper::text(call)),
            _ => None,
        })
    }
}

/// Notes what it is told.
#[derive(Debug, Default)]
pub(super) struct Notes {
    told: Mutex<Vec<String>>,
    full: Mutex<Option<&'static str>>,
    before: Mutex<BTreeMap<CommandId, Outcome>>,
}

impl Notes {
    fn told(&self) -> Vec<String> {
        self.told.lock().clone()
    }

    fn refuses(&self, what: &str) -> Result<(), Cause> {
        match *self.full.lock() {
            Some(full) if full == what => Err(Cause::new(Code::Internal, "the disk is full")),
            _ => Ok(()),
        }
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done { .. } => "done",
        Outcome::Failed(_) => "failed",
        Outcome::Refused(_) => "refused",
        Outcome::Unknown { .. } => "unknown",
    }
}

#[async_trait]
impl Recorder for Notes {
    async fn known(&self, command: CommandId) -> Result<Option<Outcome>, Cause> {
        Ok(self.before.lock().get(&command).cloned())
    }

    async fn begin(&self, intended: Intended<'_>) -> Result<(), Cause> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.refuses("begin")?;
        let whose = if intended.from_engine { "engine's" } else { "own" };
        self.told.lock().push(format!("begin {whose} {} on {}", intended.plan.steps.len(), intended.target));
        Ok(())
    }

    async fn answered(&self, _: CommandId, step: usize) -> Result<(), Cause> {
        self.refuses("answered")?;
        self.told.lock().push(format!("answered {step}"));
        Ok(())
    }

    fn ended(&self, _: &Command, outcome: &Outcome) {
        self.told.lock().push(format!("ended {}", word(outcome)));
    }

    fn found(&self, _: &Command, outcome: &Outcome) {
        self.told.lock().push(format!("found {}", word(outcome)));
    }

    fn declined(&self, _: &Command, outcome: &Outcome) {
        self.told.lock().push(format!("declined {}", word(outcome)));
    }
}

pub(super) struct Plans {
    owner: Arc<Owner>,
    target: Arc<Hyper>,
    notes: Arc<Notes>,
    inventory: Arc<Inventory>,
    tasks: Arc<Tasks>,
    ids: SeededIds,
}

const NOW: i64 = 1_700_000_000_000;

fn vm(n: u128) -> ObjectId {
    ObjectId::new(Kind::Vm, uuid::Uuid::from_u128(n))
}

fn host() -> ObjectId {
    ObjectId::new(Kind::Host, uuid::Uuid::from_u128(99))
}

fn folder() -> ObjectId {
    ObjectId::new(Kind::Folder, uuid::Uuid::from_u128(98))
}

fn call(name: &str, text: &str) -> NativeCall {
    let args = vec![(Arc::from("text"), Value::str(text))];
    NativeCall { call: Arc::from(name), args, is: StepKind::Once, undo: None, script: None }
}

fn undone(name: &str, text: &str, back: &str) -> NativeCall {
    let undo = NativeCall { is: StepKind::Idempotent, ..call(name, back) };
    NativeCall { undo: Some(Box::new(undo)), ..call(name, text) }
}

fn plan(calls: impl IntoIterator<Item = (ObjectId, NativeCall)>) -> Plan {
    let steps = calls.into_iter().map(|(object, call)| Step { object, call });
    Plan { steps: steps.collect(), ..Plan::default() }
}

fn plans(script: impl IntoIterator<Item = Act>) -> Plans {
    let clock = Arc::new(ManualClock::new(NOW));
    let inventory = Inventory::new(Schema::base(), 1, clock.clone());
    let tasks = Tasks::new(Arc::clone(&inventory), clock.clone(), Arc::new(SeededIds::new(1)));
    let machines = (1..=3).map(|n| (vm(n), (format!("vm{n}"), String::new()))).collect();
    let inside = Inside { machines, script: script.into_iter().collect(), ..Inside::default() };
    let target = Arc::new(Hyper { inventory: Arc::clone(&inventory), state: Mutex::new(inside) });
    for n in 1..=3 {
        target.put(vm(n));
    }
    let limits = Limits::default();
    let owner = Owner::new(Arc::new(Table), Arc::clone(&inventory), Arc::clone(&tasks), clock, limits);
    owner.adopt(target.clone());
    let notes = Arc::new(Notes::default());
    assert!(owner.record_with(notes.clone()));
    Plans { owner, target, notes, inventory, tasks, ids: SeededIds::new(2) }
}

impl Plans {
    fn command(&self, verb: &str, object: ObjectId) -> Command {
        let message = Schema::base();
        let message = message.message(verb).expect("a command");
        let mut body = message.record();
        if let Some(host_id) = message.field("host_id") {
            body.set(host_id.slot, host());
        }
        Command {
            id: CommandId(self.ids.uuid()),
            verb: Arc::from(verb),
            schema: message.command.clone().expect("a command"),
            object,
            body: Arc::new(body),
            principal: Arc::from("ann"),
            session: Arc::from("s"),
            deadline_ms: NOW + 10_000,
            origin: Origin { protocol: "p".into(), view: "fleet".into(), method: "M_Task".into() },
        }
    }

    fn send(&self, verb: &str, object: ObjectId, plan: Plan) -> Ticket {
        self.owner.submit_planned(self.command(verb, object), plan, Reply::Task).expect("taken")
    }

    async fn reconfigure(&self, plan: Plan) -> Outcome {
        self.send("Reconfigure", vm(1), plan).outcome().await
    }

    fn calls(&self) -> Vec<String> {
        self.target.state.lock().calls.clone()
    }

    fn machine(&self, id: ObjectId) -> (String, String) {
        self.target.state.lock().machines.get(&id).cloned().expect("there")
    }
}

fn read(field: &str, value: impl Into<Value>) -> Read {
    Read { object: vm(1), field: Arc::from(field), value: value.into() }
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_performed_and_kept_step_by_step() {
    let w = plans([]);
    let ticket =
        w.send("Reconfigure", vm(1), plan([(vm(1), call("Name", "web")), (vm(1), call("Note", "x"))]));
    assert_eq!(w.owner.outcome(ticket.command), Some(Known::Running));
    let outcome = ticket.clone().outcome().await;
    let Outcome::Done { revision, result: None, already: false } = outcome else { panic!("{outcome:?}") };
    assert!(w.inventory.revision() >= revision);
    assert_eq!(w.machine(vm(1)), ("web".into(), "x".into()));
    assert_eq!(w.calls(), ["Name web", "Note x"]);
    assert_eq!(w.notes.told(), ["begin engine's 2 on hyper", "answered 0", "answered 1", "ended done"]);
    assert_eq!(w.owner.outcome(ticket.command), Some(Known::Ended(outcome)));
    assert_eq!(w.owner.outcome(CommandId(uuid::Uuid::nil())), None);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_takes_back_those_before_it_last_first() {
    let three = || {
        plan([
            (vm(1), undone("Name", "web", "vm1")),
            (vm(1), undone("Note", "x", "")),
            (vm(1), call("Boom", "")),
        ])
    };
    let w = plans([Act::Well, Act::Well, Act::No]);
    let outcome = w.reconfigure(three()).await;
    let Outcome::Failed(cause) = outcome else { panic!("{outcome:?}") };
    assert_eq!((cause.native_code, &*cause.message), (7, "no"));
    assert_eq!(w.calls(), ["Name web", "Note x", "Boom ", "Note ", "Name vm1"]);
    assert_eq!(w.machine(vm(1)), ("vm1".into(), String::new()));
    // A step that cannot be taken back is named.
    let w = plans([Act::Well, Act::No]);
    let outcome = w.reconfigure(plan([(vm(1), call("Name", "web")), (vm(1), call("Boom", ""))])).await;
    let Outcome::Failed(cause) = outcome else { panic!("{outcome:?}") };
    assert!(cause.message.contains("step 1 (Name) cannot be taken back"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_within_a_plan_is_looked_for_and_never_sent_again() {
    let two = || plan([(vm(1), undone("Name", "web", "vm1")), (vm(1), call("Note", "x"))]);
    let w = plans([Act::DoneLost, Act::DoneLost]);
    w.target.state.lock().blind = 1;
    assert_eq!(code(&w.reconfigure(two()).await), Code::Unreachable, "it is read before anything is sent");
    assert_eq!(word(&w.reconfigure(two()).await), "done");
    assert_eq!(w.calls(), ["Name web", "Note x"]);
    let w = plans([Act::Well, Act::NotDoneLost]);
    assert_eq!(code(&w.reconfigure(two()).await), Code::TimedOut);
    assert_eq!(w.calls(), ["Name web", "Note x", "Name vm1"]);
    assert_eq!(w.machine(vm(1)).0, "vm1");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_not_done() {
    let w = plans([]);
    *w.notes.full.lock() = Some("begin");
    let outcome = w.reconfigure(plan([(vm(1), call("Name", "web"))])).await;
    assert_eq!((code(&outcome), w.calls().len()), (Code::Internal, 0));
    *w.notes.full.lock() = Some("answered");
    let two = plan([(vm(1), undone("Name", "web", "vm1")), (vm(1), call("Note", "x"))]);
    assert_eq!(code(&w.reconfigure(two).await), Code::Internal);
    assert_eq!(w.calls(), ["Name web", "Name vm1"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_appears_or_vanishes_is_what_is_looked_for() {
    for (act, end) in [(Act::Well, "done"), (Act::DoneLost, "done"), (Act::NotDoneLost, "failed")] {
        let w = plans([act]);
        let make = Plan { appears: Some(vm(9)), ..plan([(vm(9), call("Make", "new"))]) };
        let outcome = w.send("CreateVm", folder(), make).outcome().await;
        assert_eq!(word(&outcome), end, "{act:?}");
        if let Outcome::Done { result, .. } = outcome {
            assert_eq!(result, Some(vm(9)));
            assert!(w.inventory.record(vm(9)).is_some());
        }
        let w = plans([act]);
        let drop = Plan { vanishes: Some(vm(1)), ..plan([(vm(1), call("Drop", ""))]) };
        let outcome = w.send("DestroyVm", vm(1), drop).outcome().await;
        assert_eq!((word(&outcome), w.calls().len()), (end, 1), "{act:?}");
        assert_eq!(w.inventory.record(vm(1)).is_none(), end == "done");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mark_that_was_there_before_a_step_does_not_tell_of_it() {
    let w = plans([Act::Well, Act::NotDoneLost]);
    let steps = [(vm(9), undone("Make", "new", "")), (vm(9), call("Wipe", "disk"))];
    let outcome = w.send("CreateVm", folder(), Plan { appears: Some(vm(9)), ..plan(steps) }).outcome().await;
    assert_eq!(word(&outcome), "unknown", "whether the disk is as it should be cannot be seen: {outcome:?}");
}

fn destroy() -> Plan {
    let steps = [(vm(1), call("Drop", "")), (vm(1), call("Wipe", "disk"))];
    Plan { vanishes: Some(vm(1)), ..plan(steps) }
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_and_cannot_come_back_is_removed_whatever_becomes_of_the_calls_behind() {
    for acts in [[Act::Well, Act::NotDoneLost], [Act::Well, Act::DoneLost], [Act::DoneLost, Act::NotDoneLost]]
    {
        let w = plans(acts);
        assert_eq!(word(&w.send("DestroyVm", vm(1), destroy()).outcome().await), "done", "{acts:?}");
        assert_eq!(w.calls(), ["Drop ", "Wipe disk"], "each is made once");
    }
    // The deadline comes while the first is under way.
    let w = plans([Act::Hang]);
    let ticket = w.send("DestroyVm", vm(1), destroy());
    tokio::time::sleep(Duration::from_secs(9)).await;
    w.target.state.lock().machines.remove(&vm(1));
    assert_eq!(word(&ticket.outcome().await), "done");
    assert_eq!(w.calls(), ["Drop "]);
    // What the target refuses is told.
    let w = plans([Act::Well, Act::No]);
    let outcome = w.send("DestroyVm", vm(1), destroy()).outcome().await;
    let Outcome::Failed(cause) = outcome else { panic!("{outcome:?}") };
    assert!(cause.message.contains("step 1 (Drop) cannot be taken back"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_of_facts_alone_makes_no_call() {
    let w = plans([]);
    let own = OwnFact { object: vm(1), field: Arc::from("template"), value: Value::Bool(true) };
    let outcome = w.reconfigure(Plan { own: vec![own], ..Plan::default() }).await;
    assert!(matches!(outcome, Outcome::Done { already: false, .. }), "{outcome:?}");
    let outcome = w.reconfigure(Plan::default()).await;
    assert!(matches!(outcome, Outcome::Done { already: true, .. }), "{outcome:?}");
    assert_eq!(w.notes.told(), ["declined done", "declined done"]);
}

#[tokio::test(start_paused = true)]
async fn a_stale_lease_is_refused_when_it_comes_and_when_it_has_waited() {
    let w = plans([Act::Hang]);
    let send = |epoch, deadline_ms| {
        let plan = plan([(vm(1), call("Name", "web"))]);
        let dispatch = Dispatch { plan: Some(plan), epoch: Some(epoch) };
        let command = Command { deadline_ms, ..w.command("Reconfigure", vm(1)) };
        w.owner.dispatch(command, dispatch, Reply::Outcome)
    };
    let hung = send(3, NOW + 10_000).expect("taken");
    let waits = send(3, NOW + 60_000).expect("taken");
    tokio::time::sleep(Duration::from_millis(50)).await;
    w.owner.lease("hyper", 4).expect("a newer one");
    assert_eq!(w.owner.lease("hyper", 3).expect_err("an older one").code, Code::InvalidState);
    assert_eq!(send(3, NOW + 10_000).expect_err("an older one").code, Code::InvalidState);
    assert_eq!(word(&hung.outcome().await), "failed");
    assert_eq!(code(&waits.outcome().await), Code::InvalidState);
    assert_eq!(w.calls(), ["Name web"]);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_ended_in_an_earlier_life_is_answered_not_performed() {
    let w = plans([]);
    let command = w.command("Reconfigure", vm(1));
    let before = Outcome::Done { revision: Revision { incarnation: 7, n: 7 }, result: None, already: false };
    w.notes.before.lock().insert(command.id, before.clone());
    let ticket =
        w.owner.submit_planned(command, plan([(vm(1), call("Name", "web"))]), Reply::Task).expect("taken");
    let Outcome::Done { revision, .. } = ticket.outcome().await else { panic!("done") };
    assert!(revision.incarnation == 7 && w.calls().is_empty() && w.notes.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_while_its_intent_is_written_does_nothing_and_is_kept_as_such() {
    let w = plans([Act::Well]);
    let suspend = w.send("Suspend", vm(1), plan([(vm(1), call("Name", "web"))]));
    tokio::task::yield_now().await;
    w.owner.cancel(suspend.command).expect("the table lets it");
    assert!(matches!(suspend.outcome().await, Outcome::Failed(_) | Outcome::Refused(_)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(w.calls().is_empty());
    let told = w.notes.told();
    let begun = told.iter().filter(|t| t.starts_with("begin")).count();
    assert_eq!(begun, told.iter().filter(|t| t.starts_with("ended")).count(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hard_power_off_overtakes_a_hung_plan() {
    let w = plans([Act::Hang, Act::Well]);
    let hung = w.send("Suspend", vm(1), plan([(vm(1), call("Name", "web"))]));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let off = w.send("PowerOff", vm(1), plan([(vm(1), call("Note", "off"))]));
    assert_eq!(code(&hung.outcome().await), Code::Cancelled);
    off.outcome().await;
    assert_eq!(w.calls(), ["Name web", "Note off"]);
    assert!(w.notes.told().contains(&"ended failed".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_plan_about_several_vms_holds_the_lanes_of_all() {
    let w = plans([]);
    let both = || plan([(vm(1), call("Name", "a")), (vm(2), call("Name", "a"))]);
    let (first, second) = (w.send("RenameVm", vm(2), both()), w.send("RenameVm", vm(1), both()));
    let single = w.send("Reconfigure", vm(2), plan([(vm(2), call("Note", "single"))]));
    let free = w.send("Reconfigure", vm(3), plan([(vm(3), call("Note", "free"))]));
    assert_eq!(w.owner.count(), 4);
    for ticket in [first, second, single, free] {
        assert_eq!(word(&ticket.outcome().await), "done");
    }
    let calls = w.calls();
    let at = |what: &str| calls.iter().position(|c| c == what).expect("made");
    assert!(at("Note free") < at("Note single") && at("Note single") == calls.len() - 1, "{calls:?}");
    assert!(!w.target.state.lock().overlapped);
    assert_eq!(w.owner.count(), 0);
    assert!(w.owner.lanes.lock().lanes.is_empty() && w.owner.lanes.lock().others.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_waits_for_several_lanes_can_be_cancelled_and_lets_all_go() {
    let w = plans([Act::Hang]);
    let hung = w.send("Reconfigure", vm(1), plan([(vm(1), call("Note", "hung"))]));
    let both = w.send("RenameVm", vm(2), plan([(vm(1), call("Name", "a")), (vm(2), call("Name", "a"))]));
    let behind = w.send("Reconfigure", vm(2), plan([(vm(2), call("Note", "behind"))]));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(behind.now().is_none(), "the plan is first there");
    // It is first in its own lane and has not begun.
    assert_eq!(w.owner.cancel(both.command).map_err(|c| c.code), Err(Code::InvalidState));
    assert_eq!(word(&hung.outcome().await), "failed");
    assert_eq!(word(&both.outcome().await), "failed", "its deadline has passed");
    assert_eq!(word(&behind.outcome().await), "failed");
    assert_eq!((w.owner.count(), w.owner.lanes.lock().lanes.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_command_of_this_agent_is_kept_as_its_own_and_one_that_the_engine_forwards_is_not() {
    let w = plans([]);
    let own = w.owner.submit(w.command("Reset", vm(1)), Reply::Outcome).expect("taken");
    assert_eq!(word(&own.outcome().await), "done");
    let command = w.command("Reset", vm(1));
    let forwarded = w.owner.dispatch(command, Dispatch::default(), Reply::Outcome).expect("taken");
    assert_eq!(word(&forwarded.outcome().await), "done");
    assert_eq!(w.calls(), ["Reset ", "Reset "]);
    let told = ["begin own 1 on hyper", "ended done", "begin engine's 1 on hyper", "ended done"];
    assert_eq!(w.notes.told(), told);
    // It is so already: there is nothing to keep an intent of.
    let on = w.owner.submit(w.command("PowerOn", vm(1)), Reply::Outcome).expect("taken");
    assert!(matches!(on.outcome().await, Outcome::Done { already: true, .. }));
    assert_eq!(w.notes.told()[4..], ["declined done"]);
}

static REACHED: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

#[tokio::test(start_paused = true)]
async fn every_failpoint_is_passed() {
    let first = union::fail::install(|name| {
        REACHED.lock().insert(name);
    });
    assert!(first);
    let w = plans([Act::Well, Act::No]);
    w.reconfigure(plan([(vm(1), undone("Name", "web", "vm1")), (vm(1), call("Note", "x"))])).await;
    let command = w.command("Reset", vm(1));
    let plan = plan([(vm(1), call("Reset", ""))]);
    let target = Arc::from("hyper");
    let begun = crate::Unsettled { command, plan, sent: true, answered: 0, target, failed: None };
    for ticket in w.owner.recover(vec![begun]) {
        ticket.outcome().await;
    }
    let reached = REACHED.lock();
    assert_eq!(crate::POINTS.iter().find(|point| !reached.contains(**point)), None);
    assert!(reached.iter().all(|point| crate::POINTS.contains(point)), "{reached:?}");
}

#[tokio::test(start_paused = true)]
async fn a_plan_about_what_is_elsewhere_or_frozen_is_refused_whole() {
    let w = plans([]);
    let two = |other| plan([(vm(1), call("Name", "web")), (other, call("Name", "web"))]);
    assert_eq!(code(&w.reconfigure(two(vm(7))).await), Code::NotFound);
    let [first, second] = ["a", "b"].map(|name| inventory::Claims::new(&w.inventory, name));
    assert!(first.take(vm(2)) && !second.take(vm(2)));
    assert_eq!(code(&w.reconfigure(two(vm(2))).await), Code::InvalidState);
    assert!(w.calls().is_empty());
}

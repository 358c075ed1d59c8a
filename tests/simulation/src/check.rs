//! What must hold: while it happens, and when all is settled.

use crate::{
    client::{Asked, End, History},
    life::Life,
    world::{AGENTS, VMS, World, bundle, vm},
};
use inventory::{Change, Inventory, Observer, ObserverGuard};
use link::router::Route;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
};
use store::{
    Store,
    audit::{Audit, Filter},
    journal::{End as Ended, Journal},
};
use union::{
    Command, CommandId, Kind, ObjectId, Value,
    command::{Class, Outcome},
    pb::TaskState,
};

/// Looks on, and notes what is broken.
#[derive(Debug, Default)]
pub struct Watch {
    broken: Arc<Mutex<Vec<String>>>,
    guards: Mutex<Vec<ObserverGuard>>,
}

/// Sees that the descriptions of a VM, which count up, never count down.
struct Forward {
    life: Weak<Life>,
    broken: Arc<Mutex<Vec<String>>>,
    last: Mutex<BTreeMap<ObjectId, String>>,
}

impl Observer for Forward {
    fn changed(&self, changes: &[Change]) {
        if self.life.upgrade().is_none_or(|life| life.is_over()) {
            return;
        }
        let slot = bundle().schema.slot(Kind::Vm, "description");
        for change in changes.iter().filter(|change| change.id.kind == Kind::Vm) {
            let text = change
                .new
                .as_ref()
                .zip(slot)
                .and_then(|(record, slot)| record.get(slot).as_str().map(str::to_owned));
            let Some(text) = text else { continue };
            let mut last = self.last.lock();
            if let Some(before) = last.get(&change.id).filter(|before| **before > text) {
                self.broken.lock().push(format!("{} went back from `{before}` to `{text}`", change.id));
            }
            last.insert(change.id, text);
        }
    }
}

impl Watch {
    /// Something does not hold.
    pub fn broken(&self, what: String) {
        self.broken.lock().push(what);
    }

    /// Everything that did not hold so far.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.broken.lock())
    }

    /// A life of the engine has begun.
    pub fn engine_began(&self, life: &Arc<Life>, facts: &Arc<Inventory>) {
        let forward =
            Forward { life: Arc::downgrade(life), broken: Arc::clone(&self.broken), last: Mutex::default() };
        self.guards.lock().push(facts.observe_all(Arc::new(forward)));
    }

    /// A client was told that its command has ended: its front's replica shows it.
    pub fn acknowledged(&self, world: &World, command: &Command, outcome: &Outcome, route: Route) {
        if let (Outcome::Failed(cause) | Outcome::Refused(cause), "CreateFolder") = (outcome, &*command.verb)
        {
            tracing::trace!(%cause, "no folder");
        }
        if !matches!(outcome, Outcome::Done { .. }) || route != Route::Engine {
            return;
        }
        let Some(engine) = world.net.engine() else { return };
        if &*command.verb == "CreateFolder" {
            let made =
                bundle().schema.message("CreateFolder").and_then(|m| m.field("folder_id")).map(|f| f.slot);
            let made = made.and_then(|slot| command.body.get(slot).as_ref_id());
            if let Some(made) = made
                && engine.facts.record(made).is_none()
            {
                self.broken(format!("{made} was acknowledged and is not shown"));
            }
        }
    }
}

/// What is still under way.
pub fn stuck(world: &World) -> String {
    let engine =
        world.net.engine().map_or("down".to_owned(), |up| format!("{} under way", up.engine.under_way()));
    let agents: Vec<String> = AGENTS
        .iter()
        .map(|name| match world.net.agent(name) {
            None => format!("{name} down"),
            Some(up) => {
                format!("{name} {} in lanes, {} at the engine", up.owner.count(), up.router.under_way())
            }
        })
        .collect();
    format!("not settled: engine {engine}; {}", agents.join("; "))
}

/// Whether everything holds.
pub async fn check(world: &World, histories: &[History], what: &mut Vec<String>) {
    let all: Vec<&Asked> = histories.iter().flat_map(|history| &history.asked).collect();
    effects(world, &all, what);
    machines(world, histories, what);
    own(world, &all, what);
    numbers(histories, what);
    tasks(world, what);
    journals(world, &all, what).await;
}

/// At most one effect of each, exactly one of what was done, none of what was not.
fn effects(world: &World, all: &[&Asked], what: &mut Vec<String>) {
    let log: Vec<_> = world.metals.iter().flat_map(|metal| metal.log()).collect();
    for asked in all {
        let (call, field) = match &*asked.command.verb {
            "Reconfigure" => ("Describe", "description"),
            "RenameVm" => ("Rename", "name"),
            "CreateVm" => ("Create", "vm_id"),
            "DestroyVm" => ("Destroy", "vm_id"),
            _ => continue,
        };
        let count = log
            .iter()
            .filter(|effect| {
                effect.call == call
                    && match asked.field(field) {
                        Some(Value::Ref(vm)) => effect.vm == *vm,
                        Some(Value::Str(token)) => effect.token == **token,
                        _ => false,
                    }
            })
            .count();
        let fits = match &asked.end {
            End::Known(Outcome::Done { already: false, .. }) => count == 1,
            End::Known(Outcome::Done { already: true, .. } | Outcome::Unknown { .. }) => count <= 1,
            End::Known(Outcome::Failed(_) | Outcome::Refused(_)) | End::Never => {
                // A VM is destroyed by the command after the one that failed, perhaps.
                count == 0 || (call == "Destroy" && count == 1)
            }
        };
        if !fits {
            what.push(format!(
                "{} {} ended {:?} and had {count} effects",
                asked.command.verb, asked.command.id, asked.end
            ));
        }
    }
    let vms: BTreeSet<ObjectId> = all.iter().map(|asked| asked.command.object).collect();
    for id in vms {
        let resets = |fits: fn(&End) -> bool| {
            all.iter()
                .filter(|a| a.command.object == id && &*a.command.verb == "Reset" && fits(&a.end))
                .count()
        };
        let happened = log.iter().filter(|effect| effect.vm == id && effect.call == "Reset").count();
        let (least, most) = (
            resets(End::is_done),
            resets(|end| !matches!(end, End::Never | End::Known(Outcome::Refused(_)))),
        );
        if happened < least || happened > most {
            what.push(format!(
                "{id} was reset {happened} times; {least} were done, at most {most} may have been"
            ));
        }
    }
}

/// What a client was told last is what is true.
fn machines(world: &World, histories: &[History], what: &mut Vec<String>) {
    for (at, metal) in world.metals.iter().enumerate() {
        for n in 1..=VMS {
            let id = vm(at, n);
            let Some(machine) = metal.machine(id) else {
                what.push(format!("{id} is gone"));
                continue;
            };
            let asked: Vec<&Asked> =
                histories.iter().flat_map(|h| &h.asked).filter(|a| a.command.object == id).collect();
            let (mut description, mut memory, mut power) =
                (Some(String::new()), Some(1_i64 << 30), Some(false));
            for one in asked {
                let sure = !one.end.is_unknown();
                // The hypervisor did not let a step be taken back, and the client was told so.
                if matches!(&one.end, End::Known(Outcome::Failed(cause)) if cause.message.contains("stays in part"))
                {
                    memory = None;
                }
                if !sure || one.end.is_done() {
                    let text = |name| one.field(name).and_then(|v| v.as_str().map(str::to_owned));
                    match &*one.command.verb {
                        "PowerOn" => power = sure.then_some(true),
                        "PowerOff" => power = sure.then_some(false),
                        "Reconfigure" => {
                            description = sure.then(|| text("description").unwrap_or_default());
                            if let Some(bytes) = one.field("memory_bytes").and_then(Value::as_int) {
                                memory = sure.then_some(bytes);
                            }
                        }
                        _ => {}
                    }
                }
            }
            let wrong =
                |name: &str, told: String, is: String| format!("{id}: {name} should be {told}, it is {is}");
            if let Some(told) = description.filter(|told| *told != machine.description) {
                what.push(wrong("its description", told, machine.description.clone()));
            }
            if let Some(told) = memory.filter(|told| *told != machine.memory) {
                what.push(wrong("its memory", told.to_string(), machine.memory.to_string()));
            }
            if let Some(told) = power.filter(|told| *told != machine.on) {
                what.push(wrong("its power", told.to_string(), machine.on.to_string()));
            }
        }
    }
}

/// The broker's own facts are exactly as the acknowledged commands say.
fn own(world: &World, all: &[&Asked], what: &mut Vec<String>) {
    let Some(engine) = world.net.engine() else { return };
    let mut told: BTreeMap<(ObjectId, String), Value> = BTreeMap::new();
    let mut unsure: BTreeSet<ObjectId> = BTreeSet::new();
    for asked in all {
        let object = asked.command.object;
        if asked.end.is_unknown() {
            unsure.insert(object);
        }
        if !asked.end.is_done() {
            // A folder that was not emptied to the end may have lost some of what was in it.
            if &*asked.command.verb == "DestroyFolder" && matches!(asked.end, End::Known(Outcome::Failed(_)))
            {
                unsure.extend(inside(&told, object));
            }
            continue;
        }
        let reference = |name| asked.field(name).and_then(Value::as_ref_id);
        match &*asked.command.verb {
            "MarkAsTemplate" => drop(told.insert((object, "template".to_owned()), Value::Bool(true))),
            "MarkAsVm" => drop(told.insert((object, "template".to_owned()), Value::Bool(false))),
            "Reconfigure" => {
                if let Some(settings) = asked.field("settings") {
                    let place = told.entry((object, "settings".to_owned())).or_default();
                    *place = merged(place, settings);
                }
            }
            "CreateFolder" => {
                let (Some(id), Some(parent)) = (reference("folder_id"), reference("parent_id")) else {
                    continue;
                };
                told.insert((id, "parent_id".to_owned()), Value::Ref(parent));
                told.insert((id, "name".to_owned()), asked.field("name").cloned().unwrap_or_default());
            }
            "RenameFolder" => {
                told.insert((object, "name".to_owned()), asked.field("name").cloned().unwrap_or_default());
            }
            "MoveIntoFolder" => {
                for id in asked.field("object_ids").into_iter().flat_map(Value::refs) {
                    let field = if id.kind == Kind::Vm { "folder_id" } else { "parent_id" };
                    told.insert((id, field.to_owned()), Value::Ref(object));
                }
            }
            "CreateVm" => {
                if let Some(made) = reference("vm_id").filter(|_| object != crate::client::vm_folder()) {
                    told.insert((made, "folder_id".to_owned()), Value::Ref(object));
                }
            }
            "DestroyVm" => told.retain(|(id, _), _| *id != object),
            "DestroyFolder" => {
                for vm in inside(&told, object).into_iter().filter(|id| !unsure.contains(id)) {
                    if world.metals.iter().any(|metal| metal.machine(vm).is_some()) {
                        what.push(format!("{vm} lies in {object}, which is gone, and is still there"));
                    }
                }
                destroy(&mut told, object);
            }
            _ => {}
        }
    }
    let mut kept: BTreeMap<(ObjectId, String), Value> = BTreeMap::new();
    for fact in engine.engine.own().all() {
        // The kind follows from the parent's.
        if &*fact.field != "kind" {
            kept.insert((fact.object, fact.field.to_string()), sorted(&fact.value));
        }
    }
    let keys: BTreeSet<_> = told.keys().chain(kept.keys()).cloned().collect();
    for key in keys.into_iter().filter(|(object, _)| !unsure.contains(object)) {
        let (should, is) = (told.get(&key).map(sorted), kept.get(&key));
        if should.as_ref() != is {
            what.push(format!(
                "the broker should keep {should:?} as {} of {}, it keeps {is:?}",
                key.1, key.0
            ));
        }
    }
    for ((object, field), value) in &kept {
        let shown = engine.facts.record(*object).zip(bundle().schema.slot(object.kind, field));
        if let Some((record, slot)) = shown
            && sorted(record.get(slot)) != *value
        {
            what.push(format!(
                "{object} shows {:?} as {field}, the broker keeps {value:?}",
                record.get(slot)
            ));
        }
    }
}

/// Settings have no order.
fn sorted(value: &Value) -> Value {
    let Value::List(items) = value else { return value.clone() };
    let mut items = items.to_vec();
    items.sort_by_key(|item| format!("{item:?}"));
    Value::list(items)
}

fn merged(before: &Value, settings: &Value) -> Value {
    let slot = bundle().schema.message("Setting").and_then(|m| m.field("key")).map(|f| f.slot);
    let key = |value: &Value| value.as_record().zip(slot).map(|(r, slot)| r.get(slot).clone());
    let fresh = settings.items().iter().filter(|new| !before.items().iter().any(|old| key(old) == key(new)));
    let replaced = before
        .items()
        .iter()
        .map(|old| settings.items().iter().find(|new| key(new) == key(old)).unwrap_or(old));
    Value::list(replaced.chain(fresh).cloned())
}

/// Where an object lies.
fn is_place(field: &str) -> bool {
    matches!(field, "parent_id" | "folder_id")
}

/// The VMs that were said to lie in a folder or below.
fn inside(told: &BTreeMap<(ObjectId, String), Value>, folder: ObjectId) -> Vec<ObjectId> {
    let here = told.iter().filter(|((_, field), value)| is_place(field) && **value == Value::Ref(folder));
    let here: Vec<ObjectId> = here.map(|((id, _), _)| *id).collect();
    let below = |id: &ObjectId| match id.kind {
        Kind::Folder => inside(told, *id),
        _ => vec![*id],
    };
    here.iter().flat_map(below).collect()
}

fn destroy(told: &mut BTreeMap<(ObjectId, String), Value>, folder: ObjectId) {
    let below: Vec<ObjectId> = told
        .iter()
        .filter(|((_, field), value)| is_place(field) && **value == Value::Ref(folder))
        .map(|((id, _), _)| *id)
        .collect();
    told.retain(|(id, _), _| *id != folder);
    for id in below {
        destroy(told, id);
    }
}

/// No number is given out twice.
fn numbers(histories: &[History], what: &mut Vec<String>) {
    let mut blocks: Vec<(u64, u64)> = histories.iter().flat_map(|h| h.leased.iter().copied()).collect();
    blocks.sort_unstable();
    for pair in blocks.windows(2) {
        if let [(first, count), (next, _)] = pair
            && first + count > *next
        {
            what.push(format!("the numbers from {next} were leased twice"));
        }
    }
}

/// Every task has ended.
fn tasks(world: &World, what: &mut Vec<String>) {
    for name in AGENTS {
        let Some(up) = world.net.agent(name) else { continue };
        let slot = bundle().schema.slot(Kind::Task, "state");
        for id in up.facts.ids(Kind::Task) {
            let state = up.facts.record(id).zip(slot).and_then(|(record, slot)| record.get(slot).as_int());
            let over = [TaskState::Succeeded, TaskState::Failed].map(|s| i64::from(s as i32));
            if state.is_none_or(|state| !over.contains(&state)) {
                what.push(format!("{id} of {name} has not ended"));
            }
        }
    }
}

/// Nothing is open, what is recorded is what was told, and each effect has its one record in a chain that verifies.
async fn journals(world: &World, all: &[&Asked], what: &mut Vec<String>) {
    for name in ["engine", "a", "b"] {
        let Some(store) = world.store(name) else { continue };
        let journal = Journal::new(Arc::clone(&store));
        match journal.open(None, 1_024).await {
            Ok(open) => {
                for entry in open {
                    let unknown = entry.settled.is_some_and(|settled| settled.end == Ended::Unknown);
                    if !unknown {
                        what.push(format!(
                            "{} {} is still open in the journal of {name}",
                            entry.intent.verb, entry.intent.id
                        ));
                    }
                }
            }
            Err(error) => what.push(format!("the journal of {name} cannot be read: {error}")),
        }
    }
    let Some(store) = world.store("engine") else { return };
    chain(store, all, what).await;
}

async fn chain(store: Arc<dyn Store>, all: &[&Asked], what: &mut Vec<String>) {
    let audit = Audit::new(store);
    match audit.verify().await {
        Ok(Ok(_)) => {}
        other => what.push(format!("the audit chain does not verify: {other:?}")),
    }
    let mut allowed: BTreeMap<CommandId, usize> = BTreeMap::new();
    let mut before = None;
    loop {
        let page = audit.search(&Filter::default(), before, 512).await.unwrap_or_default();
        let Some((last, _)) = page.last() else { break };
        before = Some(*last);
        for (_, record) in &page {
            if let Some(id) = record.command.filter(|_| &*record.verdict == "allowed") {
                *allowed.entry(id).or_default() += 1;
            }
        }
    }
    for asked in all.iter().filter(|asked| asked.command.schema.class != Class::Read) {
        let count = allowed.get(&asked.command.id).copied().unwrap_or(0);
        let done = matches!(asked.end, End::Known(Outcome::Done { already: false, .. }));
        if count > 1 || (done && count != 1) {
            what.push(format!(
                "{} {} ended {:?} with {count} audit records",
                asked.command.verb, asked.command.id, asked.end
            ));
        }
    }
}

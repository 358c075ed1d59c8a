//! What must hold: while it happens, and when all is settled.

mod effects;
mod own;
mod records;

use crate::{
    client::{Asked, End, History},
    life::Life,
    net::AgentUp,
    world::{AGENTS, World, bundle},
};
use inventory::{Change, Inventory, Observer, ObserverGuard};
use link::router::Route;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::Instant;
use union::{Command, Kind, ObjectId, Value, command::Outcome};

/// How long everybody has to be up until the fleet shows what was acknowledged.
const CALM: Duration = Duration::from_secs(3);

/// Looks on, and notes what is broken.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    broken: Arc<Mutex<Vec<String>>>,
    guards: Mutex<Vec<ObserverGuard>>,
    revoked: Mutex<BTreeSet<String>>,
    story: Mutex<Vec<String>>,
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

/// What an inventory says of a VM.
fn description(facts: &Inventory, vm: ObjectId) -> Option<String> {
    let slot = bundle().schema.slot(Kind::Vm, "description")?;
    facts.record(vm)?.get(slot).as_str().map(str::to_owned)
}

/// A field of a command's body.
fn field(command: &Command, name: &str) -> Option<Value> {
    let slot = bundle().schema.message(&command.verb)?.field(name)?.slot;
    Some(command.body.get(slot).clone())
}

impl Watch {
    /// The world begins.
    pub fn new() -> Arc<Watch> {
        Arc::new(Watch {
            began: Instant::now(),
            broken: Arc::default(),
            guards: Mutex::default(),
            revoked: Mutex::default(),
            story: Mutex::default(),
        })
    }

    /// Something does not hold.
    pub fn broken(&self, what: String) {
        self.broken.lock().push(what);
    }

    /// Everything that did not hold so far.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.broken.lock())
    }

    /// Something happens.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        let at = self.began.elapsed();
        self.story.lock().push(format!("{at:?} {}", what()));
    }

    /// Everything that happened, in order.
    pub fn story(&self) -> Vec<String> {
        std::mem::take(&mut *self.story.lock())
    }

    /// A life has begun, which shows these facts.
    pub fn began(&self, life: &Arc<Life>, facts: &Arc<Inventory>) {
        let forward =
            Forward { life: Arc::downgrade(life), broken: Arc::clone(&self.broken), last: Mutex::default() };
        self.guards.lock().push(facts.observe_all(Arc::new(forward)));
    }

    /// An administrator was told that a session is revoked.
    pub fn revoked(&self, session: &str) {
        self.tell(|| format!("{session} is revoked"));
        self.revoked.lock().insert(session.to_owned());
    }

    /// Whether an administrator was told that a session is revoked.
    pub fn is_revoked(&self, session: &str) -> bool {
        self.revoked.lock().contains(session)
    }

    /// A client was told that its command has ended: the next read shows it, at the agent that did it, and in the fleet.
    pub fn acknowledged(&self, world: &World, command: &Command, outcome: &Outcome, at: (Route, &AgentUp)) {
        let (route, up) = at;
        if !matches!(outcome, Outcome::Done { .. }) {
            return;
        }
        let engine = world.net.engine();
        if let Some(text) = field(command, "description").and_then(|v| v.as_str().map(str::to_owned)) {
            let own = up.owner.target_of(command.object).is_some().then_some(("its agent", &up.facts));
            let fleet =
                engine.as_ref().filter(|_| world.net.is_calm(CALM)).map(|up| ("the fleet", &up.facts));
            for (who, facts) in own.into_iter().chain(fleet) {
                let shown = description(facts, command.object);
                if shown.as_ref().is_none_or(|shown| *shown < text) {
                    self.broken(format!("`{text}` was acknowledged and {who} shows {shown:?}"));
                }
            }
        }
        if let Some(engine) = engine.filter(|_| route == Route::Engine && &*command.verb == "CreateFolder")
            && let Some(made) = field(command, "folder_id").and_then(|v| v.as_ref_id())
            && engine.facts.record(made).is_none()
        {
            self.broken(format!("{made} was acknowledged and is not shown"));
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
    effects::check(world, &all, what);
    effects::machines(world, &all, what);
    own::check(world, &all, what);
    numbers(histories, what);
    sessions(world, &all, what);
    records::tasks(world, &all, what);
    records::journals(world, &all, what).await;
}

/// What a session may not do is not done: one that only reads, one of another, one that was revoked; and what was revoked stays so.
fn sessions(world: &World, all: &[&Asked], what: &mut Vec<String>) {
    for asked in all.iter().filter(|asked| asked.forbidden) {
        if !matches!(&asked.end, End::Known(Outcome::Refused(_)) | End::Never) {
            what.push(format!("{} by one who only reads ended {:?}", asked.command.verb, asked.end));
        }
    }
    let late = |asked: &&&Asked| asked.revoked && asked.route == Route::Engine;
    for asked in all.iter().filter(late).filter(|asked| asked.end.is_done()) {
        what.push(format!("{} of a session that was revoked was done", asked.command.verb));
    }
    for session in world.watch.revoked.lock().iter() {
        for name in AGENTS {
            let held =
                world.net.agent(name).is_some_and(|up| up.joined.grants.passes().find(session).is_some());
            if held {
                what.push(format!("{name} still holds {session}, which was revoked"));
            }
        }
        if let Some(up) = world.net.engine()
            && up.authority.grant_to_perform(session, "a").is_ok()
        {
            what.push(format!("{session} was revoked, and the engine grants it"));
        }
    }
}

/// No number is given out twice; what an object is called stays so, and nothing else is called so.
fn numbers(histories: &[History], what: &mut Vec<String>) {
    let mut names: BTreeMap<&str, ObjectId> = BTreeMap::new();
    let mut called: BTreeMap<ObjectId, &str> = BTreeMap::new();
    for (id, name) in histories.iter().flat_map(|history| &history.called) {
        let (other, before) = (*names.entry(name).or_insert(*id), *called.entry(*id).or_insert(name));
        if other != *id || before != name {
            what.push(format!("{id} is called {name}, as {other} is; before it was {before}"));
        }
    }
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

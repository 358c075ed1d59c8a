//! Clients: one for each VM, so that what an object should be can be told from what its client was told; one that makes and destroys VMs, one
//! that keeps folders, one that leases numbers. Each asks the next thing when it knows what became of the last.

use crate::{
    authority::{PRINCIPAL, SESSION},
    net::{AgentUp, ToEngine},
    world::{AGENTS, VMS, World, bundle, vm},
};
use inventory::plan::Datacenter;
use lane::{Commands, Known, Reply};
use link::{Service, Verb, engine::ask, router::Route};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use union::{
    Command, CommandId, Ids, Kind, ObjectId, Origin, Value,
    command::{Cause, Code, Outcome},
    pb,
};
use uuid::Uuid;

/// What became of a command, as its client knows in the end.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// This.
    Known(Outcome),
    /// It was never taken, and never will be.
    Never,
}

impl End {
    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        matches!(self, End::Known(Outcome::Done { .. }))
    }

    /// Whether that is known.
    pub fn is_unknown(&self) -> bool {
        matches!(self, End::Known(Outcome::Unknown { .. }))
    }
}

/// One command and its end.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The command.
    pub command: Command,
    /// What it asked for, by field.
    pub fields: Vec<(&'static str, Value)>,
    /// Its end.
    pub end: End,
}

impl Asked {
    /// A field of it.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }
}

/// What a client asked, in its order.
#[derive(Debug, Default)]
pub struct History {
    /// All of it.
    pub asked: Vec<Asked>,
    /// Numbers that were leased: first and count.
    pub leased: Vec<(u64, u64)>,
}

/// The VM folder of the fleet view.
pub fn vm_folder() -> ObjectId {
    Datacenter::ids("view fleet", "default").vm
}

/// Starts the clients.
pub fn start(world: &Arc<World>) -> Vec<JoinHandle<History>> {
    let mut clients = Vec::new();
    for at in 0..AGENTS.len() {
        for n in 1..=VMS {
            clients.push(tokio::spawn(one_vm(Arc::clone(world), vm(at, n))));
        }
        clients.push(tokio::spawn(coming_and_going(Arc::clone(world), at)));
    }
    clients.push(tokio::spawn(folders(Arc::clone(world))));
    clients.push(tokio::spawn(numbers(Arc::clone(world))));
    clients
}

/// A command with these fields.
fn command(world: &World, verb: &str, object: ObjectId, fields: &[(&'static str, Value)]) -> Option<Command> {
    let schema = &bundle().schema;
    let message = schema.message(verb)?;
    let mut body = message.record();
    for (field, value) in fields {
        body.set(message.field(field)?.slot, value.clone());
    }
    let now_ms = world.clock.now_ms();
    Some(Command {
        id: CommandId(world.rng.ordered_uuid(now_ms)),
        verb: Arc::from(verb),
        schema: message.command.clone()?,
        object,
        body: Arc::new(body),
        principal: Arc::from(PRINCIPAL),
        session: Arc::from(SESSION),
        deadline_ms: now_ms + 4_000,
        origin: Origin { protocol: "paper".into(), view: "fleet".into(), method: "".into() },
    })
}

async fn one_vm(world: Arc<World>, vm: ObjectId) -> History {
    let mut history = History::default();
    let mut n = 0;
    while !world.is_peace() {
        sleep(world.rng.ms(20, 900)).await;
        n += 1;
        let token = format!("{n:06} {}", vm.uuid.as_u128());
        let (verb, fields) = match world.rng.below(10) {
            0 => ("PowerOn", vec![]),
            1 => ("PowerOff", vec![]),
            2 => ("Reset", vec![]),
            3 => ("MarkAsTemplate", vec![]),
            4 => ("MarkAsVm", vec![]),
            // The first is renamed by hand now and then, which hides an effect from whoever looks for it.
            5 if vm.uuid.as_u128() % 100 != 1 => ("RenameVm", vec![("name", Value::from(token))]),
            6 => {
                let key = format!("key{}", world.rng.below(3));
                (
                    "Reconfigure",
                    vec![("description", Value::from(token.clone())), ("settings", setting(&key, &token))],
                )
            }
            7 => {
                let bytes = (1 + i64::try_from(world.rng.below(8)).unwrap_or(0)) << 30;
                (
                    "Reconfigure",
                    vec![("description", Value::from(token)), ("memory_bytes", Value::Int(bytes))],
                )
            }
            _ => ("Reconfigure", vec![("description", Value::from(token))]),
        };
        perform(&world, &mut history, verb, vm, [vec![("vm_id", Value::Ref(vm))], fields].concat()).await;
    }
    history
}

fn setting(key: &str, value: &str) -> Value {
    let schema = &bundle().schema;
    let Some(message) = schema.message("Setting") else { return Value::Absent };
    let mut record = message.record();
    for (field, text) in [("key", key), ("value", value)] {
        if let Some(field) = message.field(field) {
            record.set(field.slot, text);
        }
    }
    Value::list([Value::record(record)])
}

async fn coming_and_going(world: Arc<World>, at: usize) -> History {
    let mut history = History::default();
    let Some(host) = world.metals.get(at).map(|metal| metal.host) else { return history };
    let mut there: Vec<ObjectId> = Vec::new();
    let mut own: Option<ObjectId> = None;
    while !world.is_peace() {
        sleep(world.rng.ms(100, 1_200)).await;
        match (world.rng.below(10), own, there.last().copied()) {
            (0..=2, _, Some(vm)) => {
                there.pop();
                perform(&world, &mut history, "DestroyVm", vm, vec![("vm_id", Value::Ref(vm))]).await;
                continue;
            }
            (3, Some(folder), Some(vm)) => {
                let moved = Value::list([Value::Ref(vm)]);
                let fields = vec![("folder_id", Value::Ref(folder)), ("object_ids", moved)];
                perform(&world, &mut history, "MoveIntoFolder", folder, fields).await;
                continue;
            }
            (4, Some(folder), _) => {
                perform(
                    &world,
                    &mut history,
                    "DestroyFolder",
                    folder,
                    vec![("folder_id", Value::Ref(folder))],
                )
                .await;
                continue;
            }
            (5, _, _) => {
                let made = ObjectId::new(Kind::Folder, world.rng.uuid());
                let fields = vec![
                    ("parent_id", Value::Ref(vm_folder())),
                    ("name", Value::from(made.uuid.to_string())),
                    ("folder_id", Value::Ref(made)),
                ];
                perform(&world, &mut history, "CreateFolder", vm_folder(), fields).await;
                own = Some(made);
                continue;
            }
            _ => {}
        }
        let made = ObjectId::new(Kind::Vm, world.rng.uuid());
        let mut record = bundle().schema.kind(Kind::Vm).record();
        if let Some(slot) = bundle().schema.slot(Kind::Vm, "name") {
            record.set(slot, made.uuid.to_string());
        }
        let folder = own.filter(|_| world.rng.chance(500)).unwrap_or_else(vm_folder);
        let fields = vec![
            ("folder_id", Value::Ref(folder)),
            ("host_id", Value::Ref(host)),
            ("vm_id", Value::Ref(made)),
            ("vm", Value::record(record)),
        ];
        perform(&world, &mut history, "CreateVm", folder, fields).await;
        there.push(made);
    }
    history
}

async fn folders(world: Arc<World>) -> History {
    let mut history = History::default();
    let mut known: Vec<ObjectId> = Vec::new();
    let mut n = 0;
    while !world.is_peace() {
        sleep(world.rng.ms(50, 900)).await;
        n += 1;
        let name = Value::from(format!("folder {}", world.rng.below(12)));
        let some = |known: &[ObjectId]| world.rng.pick(known).copied();
        let parent = some(&known).filter(|_| world.rng.chance(500)).unwrap_or_else(vm_folder);
        match (world.rng.below(6), some(&known)) {
            (0, Some(folder)) => {
                let fields = vec![("folder_id", Value::Ref(folder)), ("name", name)];
                perform(&world, &mut history, "RenameFolder", folder, fields).await;
            }
            (1, Some(folder)) => {
                let moved = Value::list([Value::Ref(folder)]);
                let fields = vec![("folder_id", Value::Ref(parent)), ("object_ids", moved)];
                perform(&world, &mut history, "MoveIntoFolder", parent, fields).await;
            }
            (2, Some(folder)) => {
                let fields = vec![("folder_id", Value::Ref(folder))];
                perform(&world, &mut history, "DestroyFolder", folder, fields).await;
            }
            _ => {
                let made = ObjectId::new(Kind::Folder, Uuid::from_u128(10_000 + n));
                let fields =
                    vec![("parent_id", Value::Ref(parent)), ("name", name), ("folder_id", Value::Ref(made))];
                perform(&world, &mut history, "CreateFolder", parent, fields).await;
                known.push(made);
            }
        }
    }
    history
}

async fn numbers(world: Arc<World>) -> History {
    let mut history = History::default();
    while !world.is_peace() {
        sleep(world.rng.ms(300, 2_000)).await;
        let Some((name, up)) = front(&world) else { continue };
        let engine = ToEngine { net: Arc::clone(&world.net), agent: name, life: Arc::clone(&up.life) };
        let wanted =
            pb::LeaseIds { protocol: "paper".into(), view: "fleet".into(), form: "n-{n}".into(), count: 5 };
        let verb = Verb::Service(Service::Ids);
        let leased = alive(&up, ask::<pb::LeasedIds>(&engine, &verb, &wanted, Duration::from_secs(1))).await;
        if let Some(Ok(leased)) = leased {
            history.leased.push((leased.first, leased.count));
        }
    }
    history
}

/// An agent that is up.
fn front(world: &World) -> Option<(String, AgentUp)> {
    let name = world.rng.pick(&AGENTS)?;
    Some(((*name).to_owned(), world.net.agent(name)?))
}

/// What comes of something in a process, if that lives long enough.
async fn alive<T>(up: &AgentUp, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = up.life.over() => None,
        done = work => (!up.life.is_over()).then_some(done),
    }
}

/// Asks through some front, and finds out what became of it.
async fn perform(
    world: &World,
    history: &mut History,
    verb: &str,
    object: ObjectId,
    fields: Vec<(&'static str, Value)>,
) {
    let Some(command) = command(world, verb, object, &fields) else {
        world.watch.broken(format!("the union has no {verb} with such fields"));
        return;
    };
    let Some((name, up)) = front(world) else { return };
    let route = up.router.route(&command);
    let reply = if world.rng.chance(500) { Reply::Task } else { Reply::Outcome };
    let end = match up.router.submit(command.clone(), reply) {
        Err(cause) if up.life.is_over() => {
            tracing::debug!(%cause, "nobody heard it");
            settle(world, &command, route, &name).await
        }
        Err(cause) => End::Known(Outcome::Refused(cause)),
        Ok(ticket) => match alive(&up, ticket.outcome()).await {
            Some(Outcome::Unknown { .. }) | None => settle(world, &command, route, &name).await,
            Some(outcome) => {
                world.watch.acknowledged(world, &command, &outcome, route);
                End::Known(outcome)
            }
        },
    };
    tracing::debug!(command = %command.id, %object, verb, end = ?end, "known in the end");
    history.asked.push(Asked { command, fields, end });
}

/// Looks until it is known what became of a command.
async fn settle(world: &World, command: &Command, route: Route, agent: &str) -> End {
    loop {
        sleep(Duration::from_millis(200)).await;
        let known = match route {
            Route::Engine => ask_engine(world, command.id).await,
            Route::Local => ask_agent(world, command.id, agent).await,
        };
        if let Some(end) = known {
            return end;
        }
    }
}

async fn ask_engine(world: &World, id: CommandId) -> Option<End> {
    let (name, up) = front(world)?;
    let engine = ToEngine { net: Arc::clone(&world.net), agent: name, life: Arc::clone(&up.life) };
    let about = pb::About { command_id: id.to_string(), ..pb::About::default() };
    let verb = Verb::Service(Service::Settle);
    let settled = alive(&up, ask::<pb::Settled>(&engine, &verb, &about, Duration::from_secs(1))).await;
    let settled = settled?.ok()?;
    if settled.unknown {
        return Some(End::Never);
    }
    let outcome = Outcome::from_pb(&bundle().schema, &settled.outcome?).ok()?;
    (!matches!(outcome, Outcome::Unknown { .. })).then_some(End::Known(outcome))
}

async fn ask_agent(world: &World, id: CommandId, agent: &str) -> Option<End> {
    let up = world.net.agent(agent)?;
    match up.owner.outcome(id) {
        Some(Known::Ended(outcome)) => return Some(End::Known(outcome)),
        Some(Known::Running) => return None,
        None => {}
    }
    let look = alive(&up, timeout(Duration::from_secs(1), up.journal.look(id))).await?;
    match look.ok()? {
        Ok(None) => Some(End::Never),
        Ok(Some(outcome)) => outcome.map(End::Known),
        Err(Cause { code: Code::Internal, .. }) => None,
        Err(_) => None,
    }
}

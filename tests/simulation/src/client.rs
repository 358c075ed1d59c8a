//! Clients: one for each VM, so that what an object should be can be told from what its client was told; one that makes and destroys VMs, one
//! that keeps folders, one that leases numbers. Each asks the next thing when it knows what became of the last.

use crate::{
    authority::{ADMIN, Login, REMOTE},
    life::Life,
    net::{AgentUp, ToEngine},
    world::{AGENTS, PROTOCOL, VMS, World, bundle, vm},
};
use guard::{
    Logins as _, Pass,
    authority::{Request, Response, admin::SessionLine},
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

mod intruder;

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

    /// Whether that is not known.
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
    /// Its session had been revoked, and the administrator told so, before it was sent.
    pub revoked: bool,
    /// Its client had to look for its end.
    pub found: bool,
    /// Its client may not do it.
    pub forbidden: bool,
    /// Where it went.
    pub route: Route,
    /// The task that its client was told of: of which agent.
    pub task: Option<(String, ObjectId)>,
}

impl Asked {
    /// A field of it.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }
}

/// What a client asked, in its order.
#[derive(Debug)]
pub struct History {
    /// The session that it uses.
    login: Login,
    /// All of it.
    pub asked: Vec<Asked>,
    /// Numbers that were leased: first and count.
    pub leased: Vec<(u64, u64)>,
    /// What an object is called in the fleet view, as often as somebody asked.
    pub called: Vec<(ObjectId, String)>,
}

impl History {
    /// A client with a session.
    fn new(login: Login) -> History {
        History { login, asked: Vec::new(), leased: Vec::new(), called: Vec::new() }
    }
}

/// The VM folder of the fleet view.
pub fn vm_folder() -> ObjectId {
    Datacenter::ids("view fleet", "default").vm
}

/// How many clients have a session of their own.
pub const CLIENTS: usize = AGENTS.len() * 3 + 2;

/// Starts the clients.
pub fn start(world: &Arc<World>) -> Vec<JoinHandle<History>> {
    let mut logins = world.logins.clients.iter().cloned();
    let mut history = || History::new(logins.next().unwrap_or_else(|| world.logins.root.clone()));
    let mut clients = Vec::new();
    for at in 0..AGENTS.len() {
        for n in 1..=VMS {
            clients.push(tokio::spawn(one_vm(Arc::clone(world), vm(at, n), history())));
        }
        clients.push(tokio::spawn(coming_and_going(Arc::clone(world), at, history())));
    }
    clients.push(tokio::spawn(folders(Arc::clone(world), history())));
    clients.push(tokio::spawn(numbers(Arc::clone(world), history())));
    clients.push(tokio::spawn(intruder::run(Arc::clone(world), History::new(world.logins.reader.clone()))));
    clients.push(tokio::spawn(administrator(Arc::clone(world), History::new(world.logins.root.clone()))));
    clients
}

/// A command with these fields.
fn command(
    world: &World,
    who: (&Arc<str>, &Arc<str>),
    verb: &str,
    object: ObjectId,
    fields: &[(&'static str, Value)],
) -> Option<Command> {
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
        principal: Arc::clone(who.0),
        session: Arc::clone(who.1),
        deadline_ms: now_ms + 4_000,
        origin: Origin { protocol: PROTOCOL.into(), view: "fleet".into(), method: "".into() },
    })
}

async fn one_vm(world: Arc<World>, vm: ObjectId, mut history: History) -> History {
    let mut n = 0;
    while !world.is_peace() {
        sleep(world.rng.ms(20, 900)).await;
        n += 1;
        let token = format!("{n:06} {}", vm.uuid.as_u128());
        // The first VM has power most of the time, the others do not.
        let first = vm.uuid.as_u128() % 100 == 1;
        let (verb, fields) = match world.rng.below(12) {
            0 => ("PowerOn", vec![]),
            1 => ("PowerOff", vec![]),
            2 if first => ("PowerOn", vec![]),
            2 => ("PowerOff", vec![]),
            3 if first => ("Reset", vec![]),
            3 | 4 => ("MarkAsTemplate", vec![]),
            5 => ("MarkAsVm", vec![]),
            // The first is renamed by hand now and then, which hides an effect from whoever looks for it.
            6 if !first => ("RenameVm", vec![("name", Value::from(token))]),
            7 => {
                let key = format!("key{}", world.rng.below(3));
                (
                    "Reconfigure",
                    vec![("description", Value::from(token.clone())), ("settings", setting(&key, &token))],
                )
            }
            8 | 9 => {
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

async fn coming_and_going(world: Arc<World>, at: usize, mut history: History) -> History {
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

async fn folders(world: Arc<World>, mut history: History) -> History {
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

async fn numbers(world: Arc<World>, mut history: History) -> History {
    while !world.is_peace() {
        sleep(world.rng.ms(300, 2_000)).await;
        let Some((name, up)) = front(&world) else { continue };
        let engine = ToEngine { net: Arc::clone(&world.net), agent: name, life: Arc::clone(&up.life) };
        if let Some(up) = world.net.engine() {
            let vm = vm(usize::from(world.rng.chance(500)), 1 + u128::from(world.rng.below(6)));
            let called = up.numbers.map.native(vm, "vm-{n}", up.numbers.epoch);
            if let Some(Ok(called)) = during(&up.life, called).await {
                history.called.push((vm, called.to_string()));
            }
        }
        let wanted =
            pb::LeaseIds { protocol: PROTOCOL.into(), view: "fleet".into(), form: "n-{n}".into(), count: 5 };
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
    during(&up.life, work).await
}

async fn during<T>(life: &Life, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = life.over() => None,
        done = work => (!life.is_over()).then_some(done),
    }
}

/// A session at an agent, whether it knows it or has to ask; `Some(None)`: it has ended.
async fn resume(up: &AgentUp, login: &Login) -> Option<Option<Pass>> {
    match up.joined.grants.passes().find(&login.session) {
        Some(pass) => Some(Some(pass)),
        None => alive(up, up.joined.logins.resume(&login.key, PROTOCOL)).await?.ok(),
    }
}

/// The client's session at an agent; another one if it has ended.
async fn pass(world: &World, up: &AgentUp, login: &mut Login) -> Option<Pass> {
    if let Some(pass) = resume(up, login).await? {
        return Some(pass);
    }
    let root = resume(up, &world.logins.root).await??;
    let pass = alive(up, up.joined.logins.again(&root, REMOTE)).await?.ok()?;
    *login = Login { session: Arc::clone(&pass.session), key: pass.key.clone() };
    Some(pass)
}

/// Revokes sessions of clients now and then.
async fn administrator(world: Arc<World>, history: History) -> History {
    while !world.is_peace() {
        sleep(world.rng.ms(500, 4_000)).await;
        let Some(up) = world.net.engine() else { continue };
        let list = Request::SessionList { user: Some(ADMIN.to_owned()) };
        let Some(Response::Sessions(lines, _)) = during(&up.life, up.authority.admin("root", list)).await
        else {
            continue;
        };
        let good = |line: &&SessionLine| !line.revoked && *line.id != *history.login.session;
        let ids: Vec<String> = lines.iter().filter(good).map(|line| line.id.clone()).collect();
        let Some(session) = world.rng.pick(&ids).cloned() else { continue };
        let revoke = Request::SessionRevoke { session: Some(session.clone()), user: None };
        if let Some(Response::Done(_)) = during(&up.life, up.authority.admin("root", revoke)).await {
            world.watch.revoked(&session);
        }
    }
    history
}

/// Asks through some front, and finds out what became of it.
async fn perform(
    world: &World,
    history: &mut History,
    verb: &str,
    object: ObjectId,
    fields: Vec<(&'static str, Value)>,
) {
    let Some((name, up)) = front(world) else { return };
    let Some(pass) = pass(world, &up, &mut history.login).await else { return };
    let Some(command) = command(world, (&pass.principal, &pass.session), verb, object, &fields) else {
        world.watch.broken(format!("the union has no {verb} with such fields"));
        return;
    };
    let revoked = world.watch.is_revoked(&command.session);
    let route = up.router.route(&command);
    let reply = if world.rng.chance(500) { Reply::Task } else { Reply::Outcome };
    world.watch.tell(|| format!("{} {verb} {object} is asked of {name}", command.id));
    let mut task = None;
    let (end, found) = match up.router.submit(command.clone(), reply) {
        Err(cause) if up.life.is_over() => {
            tracing::debug!(%cause, "nobody heard it");
            (settle(world, &command, route, &name).await, true)
        }
        Err(cause) => (End::Known(Outcome::Refused(cause)), false),
        Ok(ticket) => {
            // A front tells of a task when it is sure that it will know it.
            if let Some(id) = ticket.task
                && alive(&up, up.router.kept(id)).await.is_some()
            {
                task = Some((name.clone(), id));
            }
            match alive(&up, ticket.outcome()).await {
                Some(Outcome::Unknown { .. }) | None => (settle(world, &command, route, &name).await, true),
                Some(outcome) => {
                    world.watch.acknowledged(world, &command, &outcome, (route, &up));
                    (End::Known(outcome), false)
                }
            }
        }
    };
    tracing::debug!(command = %command.id, %object, verb, end = ?end, "known in the end");
    world.watch.tell(|| format!("{} ended as {end:?}", command.id));
    let forbidden = command.session == world.logins.reader.session;
    history.asked.push(Asked { command, fields, end, found, revoked, forbidden, route, task });
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
    let look = alive(&up, timeout(Duration::from_secs(1), up.joined.journal.look(id))).await?;
    match look.ok()? {
        Ok(None) => Some(End::Never),
        Ok(Some(outcome)) => outcome.map(End::Known),
        Err(Cause { code: Code::Internal, .. }) => None,
        Err(_) => None,
    }
}

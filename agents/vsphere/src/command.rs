//! Every method that has a row among the mapping's commands: lifted, authorized, given to whoever takes commands, answered. No method is
//! known here by name; whether a command goes to a lane of this process or to the engine is not decided here either.
//!
//! ```text
//! native call ─ lift ─▶ union command ─ authorize ─▶ Commands::submit ─┬─ reply "task": the task, at once
//!                                                                      ├─ reply "value": the object, when it is done
//!                                                                      └─ reply "void": when it is done
//! ```

use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault, Field},
    inventory::{Catalog, Key, TypeId},
    limits, native, permission,
};
use mapping::{CommandMap, LiftError, NativeArgs, NativeRef, NativeValue, Reader, Resolve};
use std::sync::Arc;
use union::{
    Command, CommandId, Kind, ObjectId, Origin, Record, Value,
    command::{Cause, Code, Outcome},
    schema::CommandSchema,
};
use wire::xml::Element;

/// The command that serves a method of a type, if one does.
pub(crate) fn of(call: &Call<'_>, ty: TypeId) -> Option<Arc<CommandMap>> {
    let catalog = call.catalog();
    catalog.protocol().command_of(catalog.type_name(ty), call.method).cloned()
}

/// Runs a command.
pub(crate) async fn run(call: &Call<'_>, map: &CommandMap) -> Answer<Reply> {
    let body = lift(call, map)?;
    let object =
        map.object(&body).or(call.receiver.object()).ok_or_else(|| Fault::not_found(call.this.clone()))?;
    let wanted = Wanted { verb: &map.verb, schema: &map.schema, method: &map.method, object, body };
    if map.reply == mapping::Reply::Task {
        let ticket = submit(call, wanted, lane::Reply::Task)?;
        return task(call, ticket.task).await;
    }
    let ticket = submit(call, wanted, lane::Reply::Outcome)?;
    let cause = match ticket.outcome().await {
        Outcome::Done { result, .. } if map.reply == mapping::Reply::Value => {
            return call.references(result.as_slice());
        }
        Outcome::Done { .. } => return Ok(Reply::Void),
        Outcome::Failed(cause) | Outcome::Refused(cause) => cause,
        Outcome::Unknown { message, .. } => Cause::new(Code::TimedOut, message),
    };
    let cause = permission::named(call.catalog(), cause, &map.verb, None, object);
    Err(call.front.fault_of(&cause, &call.this))
}

/// The union command of a call; the facts of what it is sent to are looked at where its rows need them.
fn lift(call: &Call<'_>, map: &CommandMap) -> Answer<Record> {
    let catalog = call.catalog();
    let stored =
        if map.needs_stored() { call.receiver.object().and_then(|id| catalog.record(id)) } else { None };
    let arguments = Arguments { element: call.element, this: Some(&call.this) };
    let stored = stored.as_deref().map(|record| (record, catalog as &dyn Reader));
    map.lift(&arguments, &Objects(call), stored).map_err(|error| lift_fault(error, &call.this, call.element))
}

/// The reference of a task, as an answer. What is told will be there after a restart too.
pub(crate) async fn task(call: &Call<'_>, task: Option<ObjectId>) -> Answer<Reply> {
    let told = task.and_then(|task| Some((task, call.catalog().reference(task)?)));
    let (task, reference) = told.ok_or_else(|| {
        call.front.fault_of(&Cause::new(Code::Internal, "the task is not shown in this view"), &call.this)
    })?;
    call.front.commands.kept(task).await;
    call.catalog().kept(task).await;
    Ok(Reply::reference(&reference))
}

/// A lifted command before it has an id.
pub(crate) struct Wanted<'a> {
    /// The union command.
    pub(crate) verb: &'a Arc<str>,
    /// What the union says of it.
    pub(crate) schema: &'a CommandSchema,
    /// The native method it came as.
    pub(crate) method: &'a Arc<str>,
    /// What it acts on.
    pub(crate) object: ObjectId,
    /// Its message.
    pub(crate) body: Record,
}

/// Authorizes a command and gives it to the owner.
pub(crate) fn submit(call: &Call<'_>, wanted: Wanted<'_>, reply: lane::Reply) -> Answer<lane::Ticket> {
    let session = call.session()?;
    let front = call.front;
    let fault = |cause: Cause| front.fault_of(&cause, &call.this);
    // What a command names several of is acted on as much as the object it is sent to.
    let acted_on = [wanted.object].into_iter().chain(listed(&wanted.body));
    let tree = permission::Above(&front.catalog);
    for object in acted_on {
        session
            .pass
            .authorize(wanted.verb, wanted.schema.class, object, &tree, front.clock.now_ms())
            .map_err(|c| {
                fault(permission::named(&front.catalog, c, wanted.verb, Some(&wanted.body), object))
            })?;
    }
    let now = front.clock.now_ms();
    let command = Command {
        id: CommandId(front.ids.ordered_uuid(now)),
        verb: wanted.verb.clone(),
        schema: wanted.schema.clone(),
        object: front.catalog.view().in_fleet(wanted.object),
        body: Arc::new(in_fleet(&front.catalog, wanted.object, wanted.body)),
        principal: session.principal.clone(),
        session: session.id.clone(),
        deadline_ms: now + i64::try_from(limits::COMMAND.as_millis()).unwrap_or(i64::MAX),
        origin: Origin {
            protocol: front.catalog.protocol().name.clone(),
            view: front.catalog.view().name().clone(),
            method: wanted.method.clone(),
        },
    };
    front.commands.submit(command, reply).map_err(fault)
}

/// A command in the fleet's words: the fixed parts of a host's tree are parts of the fleet's, and what is made there is made on the host.
fn in_fleet(catalog: &Catalog, object: ObjectId, mut body: Record) -> Record {
    let view = catalog.view();
    let Some(host) = view.host() else { return body };
    let message = catalog.schema().get(body.message());
    for field in message.into_iter().flat_map(|message| &message.fields) {
        if let Value::Ref(id) = body.get(field.slot) {
            let id = view.in_fleet(*id);
            body.set(field.slot, Value::Ref(id));
        } else if field.name == "host_id" && object.kind == Kind::Folder {
            body.set(field.slot, Value::Ref(host));
        }
    }
    body
}

/// The objects in the lists of a command.
fn listed(body: &Record) -> impl Iterator<Item = ObjectId> {
    let lists = body
        .slots()
        .iter()
        .filter_map(|value| if let Value::List(items) = value { Some(items) } else { None });
    lists.flat_map(|items| items.iter().filter_map(Value::as_ref_id))
}

/// A path as clients know it: without the types that rows name in it.
fn plain(path: &str) -> String {
    let names = path.split('.').map(|name| name.split_once(':').map_or(name, |(name, _)| name));
    names.collect::<Vec<_>>().join(".")
}

/// The change of a device that a path leads into: the path to it, and its position.
fn change_of(path: &str) -> Option<(&str, i64)> {
    let (list, rest) = path.split_once("Change[")?;
    let (index, _) = rest.split_once(']')?;
    let end = list.len() + "Change[".len() + index.len() + 1;
    Some((path.get(..end)?, index.parse().ok()?))
}

/// The text that a path leads to, `spec.deviceChange[0].device.backing.fileName`.
fn text_at<'r>(call: Element<'r>, path: &str) -> Option<&'r str> {
    let found = path.split('.').try_fold(call, |element, name| {
        let (name, index) = name.split_once('[').unwrap_or((name, "0]"));
        element.children_named(name).nth(index.trim_end_matches(']').parse().ok()?)
    });
    found.map(Element::text)
}

fn wrong_device(property: String, index: i64, why: &str) -> Fault {
    Fault::new("InvalidDeviceSpec", format!("Invalid configuration for device '{index}'."))
        .with("property", Field::Text(Arc::from(property)))
        .with("deviceIndex", Field::Int(index))
        .about(why)
}

fn wrong_path(path: &str, property: &str) -> Fault {
    Fault::new("InvalidDatastorePath", format!("Invalid datastore path '{path}'."))
        .with("datastorePath", Field::Text(Arc::from(path)))
        .about(property)
}

/// The fault of a call that cannot be lifted.
pub(crate) fn lift_fault(error: LiftError, this: &NativeRef, call: Element<'_>) -> Fault {
    match error {
        LiftError::Missing { path } if &*path == "this" => Fault::not_found(this.clone()),
        LiftError::Missing { path } => Fault::invalid_argument(&plain(&path), "it is required"),
        LiftError::BadValue { path, why } => {
            let path = plain(&path);
            match (change_of(&path), text_at(call, &path)) {
                (_, Some(text)) if FILES.iter().any(|field| path.ends_with(field)) => wrong_path(text, &path),
                (Some((_, index)), _) => wrong_device(path, index, &why),
                _ => Fault::invalid_argument(&path, &why),
            }
        }
        LiftError::NoObject { native, .. } => Fault::not_found(native),
        LiftError::NoName { path, kind: Kind::StoragePool, name } => {
            wrong_path(&format!("[{name}]"), &plain(&path))
        }
        LiftError::NoName { path, kind, name } => {
            let (path, why) = (plain(&path), format!("there is no {kind} `{name}`"));
            match change_of(&path) {
                Some((_, index)) => wrong_device(path, index, &why),
                None => Fault::invalid_argument(&path, &why),
            }
        }
        LiftError::NoItem { path, index, key } => {
            let path = plain(&path);
            let device = change_of(&path).map_or(path.as_str(), |(change, _)| change);
            let why = format!("there is no device with the key {key}");
            wrong_device(format!("{device}.device.key"), i64::try_from(index).unwrap_or(0), &why)
        }
        LiftError::NotSupported { path, why } => {
            let path = plain(&path);
            Fault::new("NotSupported", format!("The operation is not supported on the object: {path}: {why}"))
        }
        // What is made has no devices yet that could be changed.
        LiftError::NoFacts { path } if path.ends_with("Change") || path.contains("Change[") => {
            let index = change_of(&path).map_or(0, |(_, index)| index);
            wrong_device(format!("{path}.operation"), index, "there are no devices yet")
        }
        LiftError::NoFacts { .. } => Fault::not_found(this.clone()),
    }
}

/// The fields that name a file of a datastore.
const FILES: &[&str] = &[".fileName", ".vmPathName"];

/// A call's arguments, or one structure among them, as lifting reads them.
struct Arguments<'c, 'r> {
    element: Element<'r>,
    /// What the call is sent to, of the call itself.
    this: Option<&'c NativeRef>,
}

impl<'r> Arguments<'_, 'r> {
    /// The structure that holds the last name of a path, and that name.
    fn at<'p>(&self, path: &'p str) -> Option<(Element<'r>, &'p str)> {
        let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
        let mut parents = parents.split('.').filter(|name| !name.is_empty());
        Some((parents.try_fold(self.element, |element, name| element.child(name))?, last))
    }
}

impl NativeArgs for Arguments<'_, '_> {
    fn get(&self, path: &str) -> Option<NativeValue> {
        if path == "this" {
            return self.this.cloned().map(NativeValue::Ref);
        }
        let (parent, last) = self.at(path)?;
        let mut values: Vec<NativeValue> = parent.children_named(last).map(value).collect();
        match values.len() {
            0 | 1 => values.pop(),
            _ => Some(NativeValue::Items(values)),
        }
    }

    fn items(&self, path: &str) -> Vec<Box<dyn NativeArgs + '_>> {
        let Some((parent, last)) = self.at(path) else { return Vec::new() };
        let items = parent.children_named(last);
        items.map(|element| Box::new(Arguments { element, this: None }) as Box<dyn NativeArgs>).collect()
    }

    fn type_name(&self) -> Option<String> {
        let name = self.element.xsi_type()?;
        Some(name.rsplit_once(':').map_or(name, |(_, local)| local).to_owned())
    }

    fn names(&self, path: &str) -> Vec<String> {
        let within = match path {
            "" => Some(self.element),
            path => self.at(path).and_then(|(parent, last)| parent.child(last)),
        };
        let mut names: Vec<String> = Vec::new();
        for child in within.into_iter().flat_map(|element| element.children()) {
            let own = self.this.is_some() && path.is_empty() && child.name() == "_this";
            if !own && !names.iter().any(|known| known == child.name()) {
                names.push(child.name().to_owned());
            }
        }
        names
    }
}

fn value(element: Element<'_>) -> NativeValue {
    match element.attribute("type").and_then(|_| native::reference(element)) {
        Some(reference) => NativeValue::Ref(reference),
        None => NativeValue::Text(element.text().to_owned()),
    }
}

/// References and names of objects, as lifting resolves them.
pub(crate) struct Objects<'c, 'r>(pub(crate) &'c Call<'r>);

impl Resolve for Objects<'_, '_> {
    fn resolve(&self, native: &NativeRef) -> Option<ObjectId> {
        self.0.catalog().resolve(native).and_then(Key::object)
    }

    fn named(&self, kind: Kind, name: &str) -> Option<ObjectId> {
        let catalog = self.0.catalog();
        let slot = catalog.schema().slot(kind, "name")?;
        let sight = self.0.sight();
        catalog.inventory().find(kind, slot, name).into_iter().find(|id| sight.sees(*id))
    }

    fn fresh(&self, kind: Kind) -> Option<ObjectId> {
        Some(ObjectId::new(kind, self.0.front.ids.uuid()))
    }
}

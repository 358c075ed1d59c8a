//! Every method that has a row among the mapping's commands: lifted, authorized, given to the owner, answered. No method is known here
//! by name.
//!
//! ```text
//! native call ─ lift ─▶ union command ─ authorize ─▶ Owner::submit ─┬─ reply "task": the task, at once
//!                                                                   └─ reply "void": when it is done
//! ```

use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    inventory::{Key, TypeId},
    limits, native, permission,
};
use mapping::{CommandMap, LiftError, NativeArgs, NativeRef, NativeValue, Resolve};
use std::sync::Arc;
use union::{
    Command, CommandId, ObjectId, Origin, Record,
    command::{Cause, Code, Outcome},
    schema::CommandSchema,
};
use wire::xml::Element;

/// The command that serves a method of a type, if one does.
pub(crate) fn of(call: &Call<'_>, ty: TypeId) -> Option<Arc<CommandMap>> {
    let map = call.catalog().protocol().command(call.method)?;
    call.catalog().is_a_named(ty, &map.on_type).then(|| map.clone())
}

/// Runs a command.
pub(crate) async fn run(call: &Call<'_>, map: &CommandMap) -> Answer<Reply> {
    let body = map.lift(&Arguments(call), &Objects(call), None).map_err(|error| lift_fault(error, &call.this))?;
    let object =
        map.object(&body).or(call.receiver.object()).ok_or_else(|| Fault::not_found(call.this.clone()))?;
    let wanted = Wanted { verb: &map.verb, schema: &map.schema, method: &map.method, object, body };
    match map.reply {
        mapping::Reply::Task => {
            let ticket = submit(call, wanted, lane::Reply::Task)?;
            task(call, ticket.task)
        }
        mapping::Reply::Void | mapping::Reply::Value => {
            let ticket = submit(call, wanted, lane::Reply::Outcome)?;
            match ticket.outcome().await {
                Outcome::Done { result, .. } => match map.reply {
                    mapping::Reply::Value => call.references(result.as_slice()),
                    _ => Ok(Reply::Void),
                },
                Outcome::Failed(cause) | Outcome::Refused(cause) => {
                    Err(call.front.fault_of(&cause, &call.this))
                }
                Outcome::Unknown { message, .. } => {
                    Err(call.front.fault_of(&Cause::new(Code::TimedOut, message), &call.this))
                }
            }
        }
    }
}

/// The reference of a task, as an answer.
pub(crate) fn task(call: &Call<'_>, task: Option<ObjectId>) -> Answer<Reply> {
    let reference = task.and_then(|task| call.catalog().reference(task));
    let reference = reference.ok_or_else(|| {
        call.front.fault_of(&Cause::new(Code::Internal, "the task is not shown in this view"), &call.this)
    })?;
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
    let named = |cause: Cause| {
        let body = Some(&wanted.body);
        fault(permission::named(&front.catalog, cause, wanted.verb, body, wanted.object))
    };
    let class = wanted.schema.class;
    let tree = permission::Above(&front.catalog);
    session.pass.authorize(wanted.verb, class, wanted.object, &tree, front.clock.now_ms()).map_err(named)?;
    let now = front.clock.now_ms();
    let command = Command {
        id: CommandId(front.ids.ordered_uuid(now)),
        verb: wanted.verb.clone(),
        schema: wanted.schema.clone(),
        object: wanted.object,
        body: Arc::new(wanted.body),
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

/// The fault of a call that cannot be lifted.
pub(crate) fn lift_fault(error: LiftError, this: &NativeRef) -> Fault {
    match error {
        LiftError::Missing { path } if &*path == "this" => Fault::not_found(this.clone()),
        LiftError::Missing { path } => Fault::invalid_argument(&path, "it is required"),
        LiftError::BadValue { path, why } => Fault::invalid_argument(&path, &why),
        LiftError::NoObject { native, .. } => Fault::not_found(native),
        LiftError::NoName { path, kind, name } => {
            Fault::invalid_argument(&path, &format!("there is no {kind} `{name}`"))
        }
        LiftError::NoItem { path, key, .. } => {
            Fault::invalid_argument(&path, &format!("there is no item with the key {key}"))
        }
        LiftError::NotSupported { path, why } => Fault::invalid_argument(&path, &why),
        LiftError::NoFacts { path } => {
            Fault::invalid_argument(&path, "the object's stored facts are not at hand")
        }
    }
}

/// A call's arguments, as lifting reads them.
pub(crate) struct Arguments<'c, 'r>(pub(crate) &'c Call<'r>);

impl NativeArgs for Arguments<'_, '_> {
    fn get(&self, path: &str) -> Option<NativeValue> {
        if path == "this" {
            return Some(NativeValue::Ref(self.0.this.clone()));
        }
        let mut names = path.split('.');
        let first = names.next()?;
        let (parent, last) = names.fold((self.0.element, first), |(parent, name), next| {
            (parent.child(name).unwrap_or(parent), next)
        });
        let mut values: Vec<NativeValue> = parent.children_named(last).map(value).collect();
        match values.len() {
            0 | 1 => values.pop(),
            _ => Some(NativeValue::Items(values)),
        }
    }
}

fn value(element: Element<'_>) -> NativeValue {
    match element.attribute("type").and_then(|_| native::reference(element)) {
        Some(reference) => NativeValue::Ref(reference),
        None => NativeValue::Text(element.text().to_owned()),
    }
}

/// References to objects, as lifting resolves them.
pub(crate) struct Objects<'c, 'r>(pub(crate) &'c Call<'r>);

impl Resolve for Objects<'_, '_> {
    fn resolve(&self, native: &NativeRef) -> Option<ObjectId> {
        self.0.catalog().resolve(native).and_then(Key::object)
    }
}

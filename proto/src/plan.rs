//! A plan: what a lowered command comes down to, as the engine journals it and an owner's lane performs it.
//!
//! ```text
//! Plan ─┬─ reads   what it was made from; a field that has changed since refuses the plan, nothing else does
//!       ├─ steps   native calls in order, each about one object of one owner, each with its undo
//!       └─ own     facts that the broker keeps for objects whose hypervisor has no place for them
//! Step.call.script ── paths and values, never a document ──▶ applied in the owner's lane to the hypervisor's own document
//! ```
//!
//! Objects, lists and fields are named as in `union/v1/*.proto`, so a plan outlives the bundle that made it.

use crate::{
    codec::{self, CodecError},
    id::{BadObjectId, ObjectId},
    pb,
    record::Record,
    schema::Schema,
    value::Value,
};
use std::sync::Arc;

/// Whether a call may be sent again when its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Twice is as good as once.
    Idempotent,
    /// At most once.
    Once,
}

/// One call of a target. Values are union values: the target writes object ids in its own way.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeCall {
    /// The call, for example `DomainCreate`.
    pub call: Arc<str>,
    /// Its arguments by name, in the order of the mapping file.
    pub args: Vec<(Arc<str>, Value)>,
    /// Whether it may be repeated.
    pub is: StepKind,
    /// What takes it back.
    pub undo: Option<Box<NativeCall>>,
    /// For a call that takes a document: what to change in the hypervisor's own.
    pub script: Option<Arc<Script>>,
}

/// Changes to one native document.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// The argument that takes the document's text, for example `xml`.
    pub argument: Arc<str>,
    /// Which text is edited, in the target's words, for example `inactive`, `live`, `device`; `new`: a fragment of its own.
    pub form: Arc<str>,
    /// What to change.
    pub changes: Vec<ScriptChange>,
}

/// One change of a [`Script`]. Fields are those of the object's union message.
#[derive(Clone, Debug, PartialEq)]
pub enum ScriptChange {
    /// A field of the object; absent: unset it.
    Set {
        /// The field.
        field: Arc<str>,
        /// Its new value.
        value: Value,
    },
    /// Fields of an item.
    Edit {
        /// The list.
        list: Arc<str>,
        /// The item's key.
        key: Arc<str>,
        /// What it shall say; what is absent stays.
        item: Arc<Record>,
        /// Fields to unset.
        clear: Vec<Arc<str>>,
    },
    /// A new item at the end of a list.
    Add {
        /// The list.
        list: Arc<str>,
        /// The item.
        item: Arc<Record>,
    },
    /// An item taken away.
    Remove {
        /// The list.
        list: Arc<str>,
        /// Its key.
        key: Arc<str>,
    },
}

/// A fact that a plan relies on.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// Whose.
    pub object: ObjectId,
    /// The field.
    pub field: Arc<str>,
    /// What it was.
    pub value: Value,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The object that the call is about; its owner performs it.
    pub object: ObjectId,
    /// The call.
    pub call: NativeCall,
}

/// A fact that the broker keeps; absent: no longer.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnFact {
    /// Whose.
    pub object: ObjectId,
    /// The field.
    pub field: Arc<str>,
    /// Its value.
    pub value: Value,
}

/// A lowered command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What it relies on.
    pub reads: Vec<Read>,
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// What the broker keeps once all steps are done.
    pub own: Vec<OwnFact>,
    /// The object that is there when the plan is done: the one to look for, and the command's result.
    pub appears: Option<ObjectId>,
    /// The object that is gone when the plan is done.
    pub vanishes: Option<ObjectId>,
    /// The hash of the bundle that lowered it.
    pub bundle: Arc<str>,
}

/// Bytes that are no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not protobuf.
    #[error("a plan cannot be read: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A record in it cannot be read.
    #[error("a plan's record cannot be read: {0}")]
    Record(#[from] CodecError),
    /// It names no object.
    #[error("a plan names no object: {0}")]
    Id(#[from] BadObjectId),
    /// A required part is missing, or the schema has no such message.
    #[error("a plan cannot be read: {0}")]
    Content(String),
}

impl Plan {
    /// As it crosses the bus and stands in the journal.
    pub fn to_pb(&self, schema: &Schema) -> pb::Plan {
        let read = |r: &Read| pb::PlanFact {
            object_id: r.object.to_string(),
            field: r.field.to_string(),
            value: value_to_pb(schema, &r.value),
        };
        let own = |f: &OwnFact| pb::PlanFact {
            object_id: f.object.to_string(),
            field: f.field.to_string(),
            value: value_to_pb(schema, &f.value),
        };
        pb::Plan {
            reads: self.reads.iter().map(read).collect(),
            steps: self
                .steps
                .iter()
                .map(|s| pb::PlanStep {
                    object_id: s.object.to_string(),
                    call: Some(call_to_pb(schema, &s.call)),
                })
                .collect(),
            own: self.own.iter().map(own).collect(),
            appears: self.appears.map(|id| id.to_string()).unwrap_or_default(),
            vanishes: self.vanishes.map(|id| id.to_string()).unwrap_or_default(),
            bundle: self.bundle.to_string(),
        }
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`PlanError`] for bytes of another schema or an id that is none.
    pub fn from_pb(schema: &Schema, plan: &pb::Plan) -> Result<Plan, PlanError> {
        let object = |text: &str| (!text.is_empty()).then(|| text.parse()).transpose();
        let mut out = Plan {
            appears: object(&plan.appears)?,
            vanishes: object(&plan.vanishes)?,
            bundle: Arc::from(&*plan.bundle),
            ..Plan::default()
        };
        for read in &plan.reads {
            out.reads.push(Read {
                object: read.object_id.parse()?,
                field: Arc::from(&*read.field),
                value: value_from_pb(schema, read.value.as_ref())?,
            });
        }
        for step in &plan.steps {
            let call =
                step.call.as_ref().ok_or_else(|| PlanError::Content("a step without a call".into()))?;
            out.steps
                .push(Step { object: step.object_id.parse()?, call: call_from_pb(schema, call, DEEPEST)? });
        }
        for own in &plan.own {
            out.own.push(OwnFact {
                object: own.object_id.parse()?,
                field: Arc::from(&*own.field),
                value: value_from_pb(schema, own.value.as_ref())?,
            });
        }
        Ok(out)
    }
}

/// An undo of an undo of an undo.
const DEEPEST: u8 = 3;

fn call_to_pb(schema: &Schema, call: &NativeCall) -> pb::PlanCall {
    pb::PlanCall {
        call: call.call.to_string(),
        args: call
            .args
            .iter()
            .map(|(name, value)| pb::PlanArgument {
                name: name.to_string(),
                value: value_to_pb(schema, value),
            })
            .collect(),
        once: call.is == StepKind::Once,
        undo: call.undo.as_ref().map(|undo| Box::new(call_to_pb(schema, undo))),
        script: call.script.as_ref().map(|script| script_to_pb(schema, script)),
    }
}

fn call_from_pb(schema: &Schema, call: &pb::PlanCall, deepest: u8) -> Result<NativeCall, PlanError> {
    let undo = match (&call.undo, deepest) {
        (None, _) => None,
        (Some(_), 0) => return Err(PlanError::Content("undos nest too deep".into())),
        (Some(undo), n) => Some(Box::new(call_from_pb(schema, undo, n - 1)?)),
    };
    let mut args = Vec::with_capacity(call.args.len());
    for arg in &call.args {
        args.push((Arc::from(&*arg.name), value_from_pb(schema, arg.value.as_ref())?));
    }
    Ok(NativeCall {
        call: Arc::from(&*call.call),
        args,
        is: if call.once { StepKind::Once } else { StepKind::Idempotent },
        undo,
        script: call.script.as_ref().map(|s| script_from_pb(schema, s).map(Arc::new)).transpose()?,
    })
}

fn script_to_pb(schema: &Schema, script: &Script) -> pb::PlanScript {
    use pb::plan_change::What;
    let change = |change: &ScriptChange| pb::PlanChange {
        what: Some(match change {
            ScriptChange::Set { field, value } => {
                What::Set(pb::PlanSet { field: field.to_string(), value: value_to_pb(schema, value) })
            }
            ScriptChange::Edit { list, key, item, clear } => What::Edit(pb::PlanEdit {
                list: list.to_string(),
                key: key.to_string(),
                item: Some(record_to_pb(schema, item)),
                clear: clear.iter().map(ToString::to_string).collect(),
            }),
            ScriptChange::Add { list, item } => What::Add(pb::PlanEdit {
                list: list.to_string(),
                item: Some(record_to_pb(schema, item)),
                ..pb::PlanEdit::default()
            }),
            ScriptChange::Remove { list, key } => What::Remove(pb::PlanEdit {
                list: list.to_string(),
                key: key.to_string(),
                ..pb::PlanEdit::default()
            }),
        }),
    };
    pb::PlanScript {
        argument: script.argument.to_string(),
        form: script.form.to_string(),
        changes: script.changes.iter().map(change).collect(),
    }
}

fn script_from_pb(schema: &Schema, script: &pb::PlanScript) -> Result<Script, PlanError> {
    use pb::plan_change::What;
    let item = |edit: &pb::PlanEdit| {
        let item = edit.item.as_ref().ok_or_else(|| PlanError::Content("a change without an item".into()))?;
        record_from_pb(schema, item)
    };
    let mut changes = Vec::with_capacity(script.changes.len());
    for change in &script.changes {
        let what =
            change.what.as_ref().ok_or_else(|| PlanError::Content("a change of no known sort".into()))?;
        changes.push(match what {
            What::Set(set) => ScriptChange::Set {
                field: Arc::from(&*set.field),
                value: value_from_pb(schema, set.value.as_ref())?,
            },
            What::Edit(edit) => ScriptChange::Edit {
                list: Arc::from(&*edit.list),
                key: Arc::from(&*edit.key),
                item: item(edit)?,
                clear: edit.clear.iter().map(|c| Arc::from(&**c)).collect(),
            },
            What::Add(edit) => ScriptChange::Add { list: Arc::from(&*edit.list), item: item(edit)? },
            What::Remove(edit) => {
                ScriptChange::Remove { list: Arc::from(&*edit.list), key: Arc::from(&*edit.key) }
            }
        });
    }
    Ok(Script { argument: Arc::from(&*script.argument), form: Arc::from(&*script.form), changes })
}

fn record_to_pb(schema: &Schema, record: &Record) -> pb::RecordValue {
    let message = schema.get(record.message()).map(|m| m.name.to_string()).unwrap_or_default();
    pb::RecordValue { message, body: codec::encode(schema, record) }
}

fn record_from_pb(schema: &Schema, record: &pb::RecordValue) -> Result<Arc<Record>, PlanError> {
    let message = schema
        .message(&record.message)
        .ok_or_else(|| PlanError::Content(format!("there is no union message `{}`", record.message)))?;
    Ok(Arc::new(codec::decode(schema, message.id, &record.body)?))
}

/// A value with records in it, which [`Value::to_pb`] cannot write.
pub fn value_to_pb(schema: &Schema, value: &Value) -> Option<pb::Value> {
    use pb::value::Kind;
    match value {
        Value::Record(record) => {
            Some(pb::Value { kind: Some(Kind::RecordValue(record_to_pb(schema, record))) })
        }
        Value::List(items) => {
            let items = items.iter().filter_map(|item| value_to_pb(schema, item)).collect();
            Some(pb::Value { kind: Some(Kind::ListValue(pb::ValueList { items })) })
        }
        other => other.to_pb(),
    }
}

/// Reads what [`value_to_pb`] wrote; none is [`Value::Absent`].
///
/// # Errors
/// [`PlanError`] for a record of another schema.
pub fn value_from_pb(schema: &Schema, value: Option<&pb::Value>) -> Result<Value, PlanError> {
    use pb::value::Kind;
    match value {
        None => Ok(Value::Absent),
        Some(pb::Value { kind: Some(Kind::RecordValue(record)) }) => {
            Ok(Value::Record(record_from_pb(schema, record)?))
        }
        Some(pb::Value { kind: Some(Kind::ListValue(list)) }) => {
            let items: Result<Vec<Value>, PlanError> =
                list.items.iter().map(|item| value_from_pb(schema, Some(item))).collect();
            Ok(Value::list(items?))
        }
        Some(other) => Ok(Value::from_pb(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use uuid::Uuid;

    #[test]
    fn a_plan_survives_the_bus() {
        let schema = Schema::base();
        let vm = ObjectId::new(Kind::Vm, Uuid::from_u128(7));
        let cdrom = schema.message("Cdrom").unwrap();
        let mut item = cdrom.record();
        item.set(cdrom.field("path").unwrap().slot, "/iso/a.iso");
        let item = Arc::new(item);
        let undo =
            NativeCall { call: "B".into(), args: vec![], is: StepKind::Idempotent, undo: None, script: None };
        let script = Script {
            argument: "xml".into(),
            form: "inactive".into(),
            changes: vec![
                ScriptChange::Set { field: "memory_bytes".into(), value: Value::Int(1 << 30) },
                ScriptChange::Set { field: "description".into(), value: Value::Absent },
                ScriptChange::Edit {
                    list: "cdroms".into(),
                    key: "sda".into(),
                    item: item.clone(),
                    clear: vec!["pool".into()],
                },
                ScriptChange::Add { list: "cdroms".into(), item: item.clone() },
                ScriptChange::Remove { list: "nics".into(), key: "52:54:00:00:00:01".into() },
            ],
        };
        let plan = Plan {
            reads: vec![Read {
                object: vm,
                field: "cdroms".into(),
                value: Value::list([Value::Record(item)]),
            }],
            steps: vec![Step {
                object: vm,
                call: NativeCall {
                    call: "A".into(),
                    args: vec![("dom".into(), Value::Ref(vm)), ("flags".into(), Value::Int(3))],
                    is: StepKind::Once,
                    undo: Some(Box::new(undo)),
                    script: Some(Arc::new(script)),
                },
            }],
            own: vec![OwnFact { object: vm, field: "template".into(), value: Value::Bool(true) }],
            appears: Some(vm),
            vanishes: None,
            bundle: "abc".into(),
        };
        assert_eq!(Plan::from_pb(&schema, &plan.to_pb(&schema)).unwrap(), plan);
    }
}

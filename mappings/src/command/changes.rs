//! Changes of devices as the union's commands list them, and as scripts make them; and scripts turned back.

use std::sync::Arc;
use union::{
    FieldType, MessageId, Record, Schema, Slot, Value,
    plan::{Script, ScriptChange},
    schema::MessageSchema,
};

/// The slots of one change in a command.
#[derive(Clone, Debug)]
pub(crate) struct ChangeSlots {
    pub op: Slot,
    pub list: Slot,
    pub key: Slot,
    pub clear: Slot,
    pub add: i64,
    pub edit: i64,
    pub remove: i64,
    /// The fields that hold the item, by its message.
    pub parts: Vec<(MessageId, Slot)>,
}

impl ChangeSlots {
    /// Those of a message, if it is a change.
    pub fn of(message: &MessageSchema) -> Option<ChangeSlots> {
        let slot = |name: &str| message.field(name).map(|f| f.slot);
        let FieldType::Enum(ops) = &message.field("op")?.ty else { return None };
        let part = |f: &union::schema::FieldSchema| match f.ty {
            FieldType::Message(id) if !f.repeated => Some((id, f.slot)),
            _ => None,
        };
        Some(ChangeSlots {
            op: slot("op")?,
            list: slot("list")?,
            key: slot("key")?,
            clear: slot("clear")?,
            add: ops.number("DEVICE_ADD")?,
            edit: ops.number("DEVICE_EDIT")?,
            remove: ops.number("DEVICE_REMOVE")?,
            parts: message.fields.iter().filter_map(part).collect(),
        })
    }

    /// A command's change as a script has it; `None`: it says too little to be one.
    pub fn change(&self, change: &Record) -> Option<ScriptChange> {
        let list: Arc<str> = Arc::from(change.get(self.list).as_str()?);
        let key = change.get(self.key).as_str().map(Arc::from);
        let item = self.parts.iter().find_map(|(_, slot)| match change.get(*slot) {
            Value::Record(item) => Some(item.clone()),
            _ => None,
        });
        let op = change.get(self.op).as_int()?;
        if op == self.add {
            return Some(ScriptChange::Add { list, item: item? });
        }
        if op == self.remove {
            return Some(ScriptChange::Remove { list, key: key? });
        }
        let clear = change.get(self.clear).items().iter().filter_map(|c| c.as_str().map(Arc::from)).collect();
        (op == self.edit).then_some(())?;
        Some(ScriptChange::Edit { list, key: key?, item: item?, clear })
    }
}

/// The script that makes the object again what it is; `None`: nobody can say which item an addition became.
pub(crate) fn back(script: &Script, object: &Record, schema: &Schema) -> Option<Script> {
    let message = schema.get(object.message())?;
    let stored = |list: &str, key: &str| -> Option<Arc<Record>> {
        let items = object.get(message.field(list)?.slot).items().iter();
        let id = |item: &&Arc<Record>| {
            let slot = schema.get(item.message()).and_then(|m| m.field("id")).map(|f| f.slot);
            slot.is_some_and(|slot| item.get(slot).as_str() == Some(key))
        };
        items.filter_map(|v| if let Value::Record(item) = v { Some(item) } else { None }).find(id).cloned()
    };
    let one = |change: &ScriptChange| -> Option<ScriptChange> {
        Some(match change {
            ScriptChange::Set { field, .. } => {
                let value = object.get(message.field(field)?.slot).clone();
                ScriptChange::Set { field: field.clone(), value }
            }
            ScriptChange::Edit { list, key, item, clear } => {
                let was = stored(list, key)?;
                let of = schema.get(item.message())?;
                let (mut item, mut gone) = (of.record(), Vec::new());
                for field in &of.fields {
                    let said = match change {
                        ScriptChange::Edit { item, .. } => !item.get(field.slot).is_absent(),
                        _ => false,
                    };
                    if said || clear.iter().any(|c| **c == *field.name) {
                        match was.get(field.slot) {
                            Value::Absent => gone.push(Arc::from(field.name.as_str())),
                            value => item.set(field.slot, value.clone()),
                        }
                    }
                }
                ScriptChange::Edit { list: list.clone(), key: key.clone(), item: Arc::new(item), clear: gone }
            }
            ScriptChange::Add { list, item } => {
                let of = schema.get(item.message())?;
                let key = ["id", "mac"].iter().find_map(|name| item.get(of.field(name)?.slot).as_str())?;
                ScriptChange::Remove { list: list.clone(), key: Arc::from(key) }
            }
            ScriptChange::Remove { list, key } => {
                ScriptChange::Add { list: list.clone(), item: stored(list, key)? }
            }
        })
    };
    let changes = script.changes.iter().rev().map(one).collect::<Option<Vec<_>>>()?;
    Some(Script { argument: script.argument.clone(), form: script.form.clone(), changes })
}

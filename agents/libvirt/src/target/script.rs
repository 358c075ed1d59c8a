//! A plan's script as changes to a domain's document: fields become slots, references become the names that libvirt has for the objects, and
//! a new device gets the name or the address that its key is.
//!
//! ```text
//! Set, Edit, Add, Remove ──▶ what the document says now, overlaid ──▶ mapping::edit::Change
//!                              │ network_id ─▶ backing + network | bridge
//!                              │ volume_id, storage_pool_id + path ─▶ backing + path | pool + volume
//!                              │ controller + unit of a new drive ─▶ the letter of its target
//!                              ╰ no key ─▶ the first free target, a MAC address made from the VM's uuid
//! ```
//! Pure: the document has been read, and nothing is sent here.

mod devices;

use crate::inventory::{Names, get, set};
use inventory::Inventory;
use mapping::edit::{Change, Refusal};
use std::sync::Arc;
use union::{
    Kind, ObjectId, Record, Schema, Slot, Value,
    command::Code,
    plan::{Script, ScriptChange},
};

/// What a script is read with.
pub struct Scripting<'a> {
    pub schema: &'a Schema,
    pub inventory: &'a Inventory,
    pub names: &'a Names,
}

/// What the changes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// To be made.
    Make,
    /// To see whether they are there: what is added may be, what is removed need not be.
    Look,
}

/// A script that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum BadScript {
    /// The union has no such field.
    #[error("a domain has no field `{0}`")]
    NoField(String),
    /// Not what the field holds.
    #[error("`{0}` holds something else than it was given")]
    Mismatch(String),
    /// An object that is not in the inventory, or lacks what libvirt names it by.
    #[error("`{field}`: libvirt has no {object}")]
    NoObject {
        /// The field that refers to it.
        field: &'static str,
        /// The object.
        object: ObjectId,
    },
    /// No name is left for a new device.
    #[error("`{0}`: there is no free name for another device; remove one first")]
    Full(String),
    /// A new device without a key: nobody can say which one it became.
    #[error("`{0}`: a device without a key cannot be looked for")]
    NoKey(String),
    /// The document does not hold it.
    #[error(
        "`{field}` of {list} {key} is no part of the domain's document: it is changed by a call of its own"
    )]
    Elsewhere {
        /// The list.
        list: String,
        /// The item.
        key: String,
        /// The field.
        field: String,
    },
    /// No argument of the call takes a document.
    #[error("{call} has no argument `{argument}` that takes a document")]
    NoArgument {
        /// The call.
        call: String,
        /// What the script names.
        argument: String,
    },
    /// A form that is none, or one that needs other changes.
    #[error("form `{form}`: {why}")]
    Form {
        /// The form.
        form: String,
        /// What was expected.
        why: &'static str,
    },
    /// The document cannot be changed so.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl BadScript {
    /// What it means in the union.
    pub fn code(&self) -> Code {
        match self {
            BadScript::NoObject { .. } => Code::NotFound,
            BadScript::Elsewhere { .. } => Code::NotSupported,
            BadScript::NoField(_)
            | BadScript::Mismatch(_)
            | BadScript::Full(_)
            | BadScript::NoKey(_)
            | BadScript::NoArgument { .. }
            | BadScript::Form { .. } => Code::InvalidArgument,
            BadScript::Refused(refusal) => match refusal {
                Refusal::Parse(_) | Refusal::Root { .. } => Code::TargetFailed,
                Refusal::Required { .. }
                | Refusal::Form { .. }
                | Refusal::Character { .. }
                | Refusal::NoKey { .. }
                | Refusal::NoItem { .. }
                | Refusal::AtMost { .. }
                | Refusal::NotWhole { .. }
                | Refusal::Rule { .. }
                | Refusal::KeyTaken { .. }
                | Refusal::Exclusive { .. } => Code::InvalidArgument,
                // The document holds what the rows cannot keep, or cannot say.
                _ => Code::NotSupported,
            },
        }
    }
}

/// Fields that are facts of what stands around a VM; its document names them in other ways.
const REFERENCES: &[&str] = &["network_id", "volume_id", "storage_pool_id"];
/// Fields that libvirt allocates, or that other calls change.
const FACTS: &[&str] = &["unit", "controller", "size_bytes", "model_name"];

impl Scripting<'_> {
    /// The changes to the document of `vm` that says `old`.
    ///
    /// # Errors
    /// [`BadScript`]: nothing is to be sent then.
    pub fn changes(
        &self,
        script: &Script,
        vm: ObjectId,
        old: &Record,
        aim: Aim,
    ) -> Result<Vec<Change>, BadScript> {
        let mut made = Vec::with_capacity(script.changes.len());
        // What the document will say so far: names that are taken.
        let mut so_far = old.clone();
        for change in &script.changes {
            made.extend(self.change(change, vm, &mut so_far, aim)?);
        }
        Ok(made)
    }

    fn change(
        &self,
        change: &ScriptChange,
        vm: ObjectId,
        so_far: &mut Record,
        aim: Aim,
    ) -> Result<Option<Change>, BadScript> {
        match change {
            ScriptChange::Set { field, value } => {
                let value = self.whole(field, value, vm, so_far)?;
                let field = self.slot(field)?;
                so_far.set(field, value.clone());
                Ok(Some(Change::Set { field, value }))
            }
            ScriptChange::Edit { list, key, item, clear } => {
                self.edit(list, key, item, clear, vm, so_far).map(Some)
            }
            ScriptChange::Add { list, item } => {
                let field = self.slot(list)?;
                let key = self.text(item, "id").or_else(|| self.text(item, "mac"));
                if aim == Aim::Look {
                    let key = key.ok_or_else(|| BadScript::NoKey(list.to_string()))?;
                    if self.find(so_far, field, &key).is_some() {
                        return self.edit(list, &key, item, &[], vm, so_far).map(Some);
                    }
                }
                let item = self.new_item(list, item, vm, so_far)?;
                self.push(so_far, field, item.clone());
                Ok(Some(Change::Add { field, item }))
            }
            ScriptChange::Remove { list, key } => {
                let field = self.slot(list)?;
                if aim == Aim::Look && self.find(so_far, field, key).is_none() {
                    return Ok(None);
                }
                let left: Vec<Value> = so_far
                    .get(field)
                    .items()
                    .iter()
                    .filter(|item| {
                        item.as_record().is_none_or(|i| self.text(i, "id").as_deref() != Some(key))
                    })
                    .cloned()
                    .collect();
                so_far.set(field, Value::list(left));
                Ok(Some(Change::Remove { field, key: key.clone() }))
            }
        }
    }

    fn slot(&self, field: &str) -> Result<Slot, BadScript> {
        self.schema.slot(Kind::Vm, field).ok_or_else(|| BadScript::NoField(field.to_owned()))
    }

    fn text(&self, record: &Record, field: &str) -> Option<Arc<str>> {
        match get(self.schema, record, field) {
            Value::Str(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    fn find<'r>(&self, record: &'r Record, field: Slot, key: &str) -> Option<&'r Arc<Record>> {
        let items = record.get(field).items().iter().filter_map(Value::as_record);
        let mut items = items.filter(|i| self.text(i, "id").is_some_and(|id| id.eq_ignore_ascii_case(key)));
        items.next()
    }

    fn push(&self, record: &mut Record, field: Slot, item: Record) {
        let mut items: Vec<Value> = record.get(field).items().to_vec();
        items.push(Value::record(item));
        record.set(field, Value::list(items));
    }

    /// The value of a field; the items of a list, all of them new.
    fn whole(&self, field: &str, value: &Value, vm: ObjectId, so_far: &Record) -> Result<Value, BadScript> {
        let Value::List(items) = value else { return Ok(value.clone()) };
        let slot = self.slot(field)?;
        let mut so_far = so_far.clone();
        so_far.set(slot, Value::Absent);
        let mut made = Vec::with_capacity(items.len());
        for item in items.iter() {
            let Value::Record(item) = item else {
                made.push(item.clone());
                continue;
            };
            let item = self.new_item(field, item, vm, &so_far)?;
            self.push(&mut so_far, slot, item.clone());
            made.push(Value::record(item));
        }
        Ok(Value::list(made))
    }

    fn edit(
        &self,
        list: &str,
        key: &str,
        item: &Record,
        clear: &[Arc<str>],
        vm: ObjectId,
        so_far: &Record,
    ) -> Result<Change, BadScript> {
        let field = self.slot(list)?;
        let missing = || Refusal::NoItem { field: list.to_owned(), key: key.to_owned() };
        let old = self.find(so_far, field, key).ok_or_else(missing)?;
        let shown = self.inventory.record(vm).and_then(|r| self.find(&r, field, key).cloned());
        let mut new = self.overlay(list, key, item, clear, old, shown.as_deref())?;
        self.resolve(list, item, clear, Some(old), &mut new)?;
        let changed = new.changed(old);
        let set = changed.iter().map(|slot| (slot, new.get(slot).clone())).collect();
        let key = self.text(old, "id").unwrap_or_else(|| Arc::from(key));
        Ok(Change::Edit { field, key, set })
    }

    /// What an item shall say, references apart.
    fn overlay(
        &self,
        list: &str,
        key: &str,
        item: &Record,
        clear: &[Arc<str>],
        old: &Record,
        shown: Option<&Record>,
    ) -> Result<Record, BadScript> {
        let mut new = old.clone();
        if item.message() != old.message() {
            return Err(BadScript::Mismatch(list.to_owned()));
        }
        let fields = self.schema.get(item.message()).map(|m| m.fields.as_slice()).unwrap_or_default();
        for field in fields {
            let (name, value) = (field.name.as_str(), item.get(field.slot));
            let known = shown.is_some_and(|shown| shown.get(field.slot) == value);
            let same = value.as_str().is_some_and(|v| v.eq_ignore_ascii_case(key));
            if value.is_absent() || REFERENCES.contains(&name) || (FACTS.contains(&name) && known) {
                continue;
            }
            if (name == "size_bytes") || (name == "id" && !same) {
                return Err(BadScript::Elsewhere {
                    list: list.to_owned(),
                    key: key.to_owned(),
                    field: name.to_owned(),
                });
            }
            if name != "id" && !(name == "mac" && same) {
                new.set(field.slot, value.clone());
            }
        }
        for name in clear {
            let field = fields.iter().find(|f| *f.name == **name);
            let slot = field.ok_or_else(|| BadScript::NoField(format!("{list}.{name}")))?.slot;
            if !REFERENCES.contains(&&**name) {
                new.set(slot, Value::Absent);
            }
        }
        Ok(new)
    }

    /// A device that is not there yet, under a key of its own.
    fn new_item(
        &self,
        list: &str,
        given: &Record,
        vm: ObjectId,
        so_far: &Record,
    ) -> Result<Record, BadScript> {
        let mut item = given.clone();
        match list {
            "nics" => {
                self.resolve(list, given, &[], None, &mut item)?;
                let key = match self.text(given, "mac").or_else(|| self.text(given, "id")) {
                    Some(mac) => mac.to_lowercase(),
                    None => self.free_mac(vm, so_far).ok_or_else(|| BadScript::Full(list.to_owned()))?,
                };
                set(self.schema, &mut item, "id", key.as_str());
                // The key is written by the list; which address it is follows from it.
                for field in ["mac", "unit", "model_name"] {
                    set(self.schema, &mut item, field, Value::Absent);
                }
            }
            "disks" | "cdroms" => {
                self.resolve(list, given, &[], None, &mut item)?;
                let bus = self.bus(list, given, so_far);
                set(self.schema, &mut item, "bus", bus as i32);
                let key = match self.text(given, "id") {
                    Some(key) => key.to_string(),
                    None => self
                        .free_target(bus, get(self.schema, given, "unit").as_int(), so_far)
                        .ok_or_else(|| BadScript::Full(list.to_owned()))?,
                };
                set(self.schema, &mut item, "id", key);
                for field in ["unit", "controller"] {
                    set(self.schema, &mut item, field, Value::Absent);
                }
            }
            _ => {}
        }
        Ok(item)
    }
}

#[cfg(test)]
mod tests;

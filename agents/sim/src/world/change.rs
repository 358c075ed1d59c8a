//! What the calls about configuration do to a VM's record.
//!
//! A call says it by arguments named like the fields of the union command, or by a script. `devices` are changes of items by their id,
//! `settings` are merged by key. While a VM runs, CPUs and memory can be added where the VM allows that, and what the guest cannot see
//! can change; all else is refused.

use crate::native::Refusal;
use lane::NativeCall;
use std::sync::Arc;
use union::{
    Kind, ObjectId, Record, Schema, Value,
    pb::{DeviceOp, PowerState},
    plan::ScriptChange,
};

/// Arguments that say about which object the call is, or what the caller had seen.
const ADDRESS: &[&str] = &[
    "vm",
    "vm_id",
    "change_version",
    "host",
    "host_id",
    "resource_pool_id",
    "folder_id",
    "keep_files",
    "this",
];
/// Fields that a running guest does not see change.
const ANY_TIME: &[&str] =
    &["name", "description", "title", "instance_uuid", "settings", "boot", "guest_os", "template"];

/// A record to be changed.
pub struct Change<'a> {
    /// The union.
    pub schema: &'a Schema,
    /// What objects are called.
    pub name_of: &'a dyn Fn(ObjectId) -> Option<Arc<str>>,
    /// The VM's state; `None`: it is being made.
    pub state: Option<PowerState>,
    /// Nothing is changed, it is only asked whether anything would be: an item that is there need not be added, one that is not need not
    /// be taken away.
    pub asking: bool,
}

impl Change<'_> {
    /// Makes the changes that `call` asks for.
    ///
    /// # Errors
    /// Why none can be made; the record may be changed in part.
    pub fn apply(&self, record: &mut Record, call: &NativeCall) -> Result<(), Refusal> {
        match &*call.call {
            "MarkAsTemplate" => self.set(record, call, "template", &Value::Bool(true))?,
            "MarkAsVm" => self.set(record, call, "template", &Value::Bool(false))?,
            _ => {}
        }
        for (name, value) in &call.args {
            match &**name {
                address if ADDRESS.contains(&address) => {}
                "devices" => value.items().iter().try_for_each(|item| self.device(record, call, item))?,
                list @ ("disks" | "cdroms" | "nics") if self.state.is_none() => {
                    let items = value.items().iter().filter_map(Value::as_record);
                    items.into_iter().try_for_each(|item| self.add(record, list, item))?;
                }
                field => self.set(record, call, field, value)?,
            }
        }
        for change in call.script.iter().flat_map(|script| &script.changes) {
            match change {
                ScriptChange::Set { field, value } => self.set(record, call, field, value)?,
                ScriptChange::Edit { list, key, item, clear } => {
                    self.edit(record, list, key, item, &clear.iter().map(|c| &**c).collect::<Vec<_>>())?;
                }
                ScriptChange::Add { list, item } => self.add(record, list, item)?,
                ScriptChange::Remove { list, key } => self.remove(record, list, key)?,
            }
        }
        self.follow(record);
        Ok(())
    }

    fn refused<T>(&self, call: &NativeCall) -> Result<T, Refusal> {
        let state = self.state.unwrap_or(PowerState::Stopped).as_str_name();
        Err(Refusal::State { call: call.call.to_string(), state })
    }

    fn set(&self, record: &mut Record, call: &NativeCall, field: &str, value: &Value) -> Result<(), Refusal> {
        let Some(slot) = self.schema.slot(Kind::Vm, field) else {
            return Err(Refusal::Argument(format!("a VM has no `{field}` that {} could set", call.call)));
        };
        if field == "settings" && self.state.is_some() {
            return self.settings(record, value);
        }
        let old = record.get(slot);
        let off = matches!(self.state, None | Some(PowerState::Stopped));
        if old != value && !off && !ANY_TIME.contains(&field) {
            let grows = old.as_int().zip(value.as_int()).is_some_and(|(old, new)| new > old);
            let hot = match field {
                "cpu_count" => self.flag(record, "cpu_hot_add"),
                "memory_bytes" => self.flag(record, "memory_hot_add"),
                _ => false,
            };
            if !(hot && grows) {
                return self.refused(call);
            }
        }
        record.set(slot, value.clone());
        let current = match field {
            "cpu_count" => "cpu_current",
            "memory_bytes" => "memory_current_bytes",
            _ => return Ok(()),
        };
        if let Some(slot) = self.schema.slot(Kind::Vm, current) {
            record.set(slot, value.clone());
        }
        Ok(())
    }

    fn flag(&self, record: &Record, field: &str) -> bool {
        self.schema.slot(Kind::Vm, field).and_then(|slot| record.get(slot).as_bool()).unwrap_or(false)
    }

    fn settings(&self, record: &mut Record, wanted: &Value) -> Result<(), Refusal> {
        let Some(slot) = self.schema.slot(Kind::Vm, "settings") else { return Ok(()) };
        let mut all: Vec<Value> = record.get(slot).items().to_vec();
        for setting in wanted.items().iter().filter_map(Value::as_record) {
            let key = self.text(setting, "key");
            all.retain(|old| old.as_record().is_none_or(|old| self.text(old, "key") != key));
            if self.text(setting, "value").is_some_and(|v| !v.is_empty()) {
                all.push(Value::Record(Arc::clone(setting)));
            }
        }
        record.set(slot, Value::list(all));
        Ok(())
    }

    fn text(&self, record: &Record, field: &str) -> Option<Arc<str>> {
        match self.part(record, field) {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// A field of a part.
    fn part(&self, record: &Record, field: &str) -> Value {
        let field = self.schema.get(record.message()).and_then(|m| m.field(field));
        field.map(|f| record.get(f.slot).clone()).unwrap_or_default()
    }

    fn put(&self, record: &mut Record, field: &str, value: Value) {
        if let Some(field) = self.schema.get(record.message()).and_then(|m| m.field(field)) {
            record.set(field.slot, value);
        }
    }

    /// One `DeviceChange`.
    fn device(&self, record: &mut Record, call: &NativeCall, change: &Value) -> Result<(), Refusal> {
        let bad = |what: &str| Refusal::Argument(format!("{}: a device change {what}", call.call));
        let change = change.as_record().ok_or_else(|| bad("is none"))?;
        let list = self.text(change, "list").ok_or_else(|| bad("names no list"))?;
        let key = self.text(change, "key").unwrap_or_else(|| Arc::from(""));
        let item = ["disk", "cdrom", "nic"].iter().find_map(|f| self.part(change, f).as_record().cloned());
        let op = self.part(change, "op").as_int().and_then(|n| i32::try_from(n).ok());
        match (op.and_then(|n| DeviceOp::try_from(n).ok()), item) {
            (Some(DeviceOp::DeviceAdd), Some(item)) => self.add(record, &list, &item),
            (Some(DeviceOp::DeviceEdit), Some(item)) => {
                let clear = self.part(change, "clear");
                let clear: Vec<&str> = clear.items().iter().filter_map(Value::as_str).collect();
                self.edit(record, &list, &key, &item, &clear)
            }
            (Some(DeviceOp::DeviceRemove), _) => self.remove(record, &list, &key),
            _ => Err(bad("says neither what to do nor with what")),
        }
    }

    fn items(&self, record: &Record, list: &str) -> Result<(union::Slot, Vec<Value>), Refusal> {
        let slot = self.schema.slot(Kind::Vm, list);
        let slot = slot.ok_or_else(|| Refusal::Argument(format!("a VM has no list `{list}`")))?;
        Ok((slot, record.get(slot).items().to_vec()))
    }

    fn position(&self, items: &[Value], list: &str, key: &str) -> Result<usize, Refusal> {
        let is = |item: &Value| item.as_record().and_then(|r| self.text(r, "id")).as_deref() == Some(key);
        items.iter().position(is).ok_or_else(|| Refusal::Argument(format!("there is no `{key}` in `{list}`")))
    }

    fn edit(
        &self,
        record: &mut Record,
        list: &str,
        key: &str,
        wanted: &Record,
        clear: &[&str],
    ) -> Result<(), Refusal> {
        let (slot, mut items) = self.items(record, list)?;
        let at = self.position(&items, list, key)?;
        let Some(place) = items.get_mut(at) else { return Ok(()) };
        let Some(old) = place.as_record() else { return Ok(()) };
        let mut item = Record::clone(old);
        let fields = self.schema.get(item.message()).map(|m| m.fields.as_slice()).unwrap_or_default();
        for field in fields {
            if clear.contains(&field.name.as_str()) {
                item.set(field.slot, Value::Absent);
            } else if !wanted.get(field.slot).is_absent() {
                item.set(field.slot, wanted.get(field.slot).clone());
            }
        }
        self.name_network(&mut item);
        *place = Value::record(item);
        record.set(slot, Value::list(items));
        Ok(())
    }

    fn add(&self, record: &mut Record, list: &str, wanted: &Record) -> Result<(), Refusal> {
        let (slot, mut items) = self.items(record, list)?;
        if self.asking && items.iter().filter_map(Value::as_record).any(|item| self.says(item, wanted)) {
            return Ok(());
        }
        let mut item = wanted.clone();
        if self.text(&item, "id").is_none() {
            let free = (0..)
                .map(|n| self.fresh(record, list, n))
                .find(|id| self.position(&items, list, id).is_err());
            let id = Value::from(free.unwrap_or_default());
            self.put(&mut item, "mac", id.clone());
            self.put(&mut item, "id", id);
        }
        if let Some(id) = self.text(&item, "id")
            && self.position(&items, list, &id).is_ok()
        {
            return Err(Refusal::Argument(format!("there is a `{id}` in `{list}` already")));
        }
        self.name_network(&mut item);
        items.push(Value::record(item));
        record.set(slot, Value::list(items));
        Ok(())
    }

    /// Whether an item says everything that is wanted of it.
    fn says(&self, item: &Record, wanted: &Record) -> bool {
        let fields = self.schema.get(wanted.message()).map(|m| m.fields.as_slice()).unwrap_or_default();
        fields.iter().all(|f| wanted.get(f.slot).is_absent() || wanted.get(f.slot) == item.get(f.slot))
    }

    /// The n-th id of an item that came without one.
    fn fresh(&self, record: &Record, list: &str, n: usize) -> String {
        let letter = char::from(b'a' + u8::try_from(n % 26).unwrap_or(0));
        match list {
            "disks" => format!("vd{letter}"),
            "cdroms" => format!("sd{letter}"),
            _ => {
                let uuid = self.schema.slot(Kind::Vm, "uuid").map(|slot| record.get(slot).clone());
                let hex: String = uuid
                    .iter()
                    .filter_map(Value::as_str)
                    .flat_map(str::chars)
                    .filter(char::is_ascii_hexdigit)
                    .take(6)
                    .collect();
                let pair = |at: usize| hex.get(at..at + 2).unwrap_or("00").to_owned();
                format!("52:{}:{}:{}:{:02x}:{:02x}", pair(0), pair(2), pair(4), n / 256 % 256, n % 256)
            }
        }
    }

    fn remove(&self, record: &mut Record, list: &str, key: &str) -> Result<(), Refusal> {
        let (slot, mut items) = self.items(record, list)?;
        let at = match self.position(&items, list, key) {
            Err(_) if self.asking => return Ok(()),
            at => at?,
        };
        items.remove(at);
        record.set(slot, Value::list(items));
        Ok(())
    }

    fn name_network(&self, item: &mut Record) {
        if let Some(network) = self.part(item, "network_id").as_ref_id()
            && let Some(name) = (self.name_of)(network)
        {
            self.put(item, "network", Value::Str(name));
        }
    }

    /// What follows from the lists.
    fn follow(&self, record: &mut Record) {
        for (list, field, count, refs) in [
            ("nics", "network_id", "nic_count", "network_ids"),
            ("disks", "storage_pool_id", "disk_count", "storage_pool_ids"),
        ] {
            let Ok((_, items)) = self.items(record, list) else { continue };
            let mut of: Vec<ObjectId> = Vec::new();
            for item in items.iter().filter_map(Value::as_record) {
                of.extend(self.part(item, field).as_ref_id().filter(|id| !of.contains(id)));
            }
            self.put(record, refs, Value::list(of.into_iter().map(Value::Ref)));
            self.put(record, count, Value::Int(i64::try_from(items.len()).unwrap_or(i64::MAX)));
        }
    }
}

//! A lane's call as a procedure of the schema: names and values.
//!
//! `DomainCreate` is `REMOTE_PROC_DOMAIN_CREATE`; an argument is a field of its args struct; a reference becomes the handle that the
//! field's struct is.

use crate::{inventory::get, native::api::uuid_value};
use inventory::Inventory;
use std::{collections::HashMap, sync::Arc};
use union::{Kind, ObjectId, Record, Value};
use uuid::Uuid;
use wire::xdr::{self, EncodeError, Procedure, ProcedureKind, Schema, Struct, Type, XdrValue};

/// Finds procedures by the names that effect tables use.
#[derive(Debug)]
pub struct Calls {
    by_name: HashMap<String, Arc<Procedure>>,
}

/// An argument that cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum BadArgument {
    /// Not of the field's type.
    #[error("argument `{name}`: {value} is no {expected}")]
    Mismatch {
        /// The argument.
        name: String,
        /// What was given.
        value: String,
        /// The field's type.
        expected: String,
    },
    /// An object that is not in the inventory, or lacks what libvirt names it by.
    #[error("argument `{name}`: libvirt has no {object}")]
    NoObject {
        /// The argument.
        name: String,
        /// The object.
        object: ObjectId,
    },
    /// The struct has no such field, or needs another.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

impl Calls {
    /// All calls of the schema.
    pub fn new(schema: &Schema) -> Calls {
        let calls = schema.procedures().filter(|p| p.kind == ProcedureKind::Call);
        let named = calls.filter_map(|p| Some((plain(p.name.strip_prefix("REMOTE_PROC_")?), p.clone())));
        Calls { by_name: named.collect() }
    }

    /// The procedure that `call` names.
    pub fn find(&self, call: &str) -> Option<&Arc<Procedure>> {
        self.by_name.get(&plain(call))
    }
}

/// The args struct of a call.
///
/// # Errors
/// An argument that the struct does not have, that does not fit, or that names an object libvirt does not have.
pub fn lower(
    procedure: &Procedure,
    args: &[(Arc<str>, Value)],
    inventory: &Inventory,
) -> Result<Option<XdrValue>, BadArgument> {
    let Some(of) = &procedure.args else { return Ok(None) };
    let mut given = Vec::with_capacity(args.len());
    for (name, value) in args {
        let Some(field) = of.fields.iter().find(|f| f.name == *name) else {
            // Says which fields there are.
            given.push((&**name, XdrValue::NONE));
            continue;
        };
        if !value.is_absent() {
            given.push((&**name, Lowering { name, inventory }.value(&field.ty, value)?));
        }
    }
    Ok(Some(xdr::record(of, given)?))
}

struct Lowering<'a> {
    name: &'a str,
    inventory: &'a Inventory,
}

impl Lowering<'_> {
    fn value(&self, ty: &Type, value: &Value) -> Result<XdrValue, BadArgument> {
        let lowered = match (ty, value) {
            (Type::Optional(of), value) => Some(XdrValue::some(self.value(of, value)?)),
            (Type::Int, Value::Int(n)) => i32::try_from(*n).ok().map(XdrValue::Int),
            (Type::Uint, Value::Int(n)) => u32::try_from(*n).ok().map(XdrValue::Uint),
            (Type::Hyper, Value::Int(n)) => Some(XdrValue::Hyper(*n)),
            (Type::Uhyper, Value::Int(n)) => u64::try_from(*n).ok().map(XdrValue::Uhyper),
            (Type::Int, Value::Bool(b)) => Some(XdrValue::Int(i32::from(*b))),
            (Type::Uint, Value::Bool(b)) => Some(XdrValue::Uint(u32::from(*b))),
            (Type::Bool, Value::Bool(b)) => Some(XdrValue::Bool(*b)),
            (Type::Double, Value::Float(n)) => Some(XdrValue::Double(*n)),
            (Type::Text(_), Value::Str(text)) => Some(XdrValue::Text(text.clone())),
            (Type::FixedBytes(16), Value::Ref(id)) => Some(uuid_value(self.uuid(*id)?)),
            (Type::Struct(of), Value::Ref(id)) => Some(self.handle(of, *id)?),
            _ => None,
        };
        lowered.ok_or_else(|| BadArgument::Mismatch {
            name: self.name.to_owned(),
            value: format!("{value:?}"),
            expected: ty.to_string(),
        })
    }

    fn none(&self, object: ObjectId) -> BadArgument {
        BadArgument::NoObject { name: self.name.to_owned(), object }
    }

    fn record(&self, id: ObjectId) -> Result<Arc<Record>, BadArgument> {
        self.inventory.record(id).ok_or_else(|| self.none(id))
    }

    fn text(&self, id: ObjectId, field: &str) -> Result<XdrValue, BadArgument> {
        let record = self.record(id)?;
        match get(self.inventory.schema(), &record, field) {
            Value::Str(text) => Ok(XdrValue::Text(text.clone())),
            _ => Err(self.none(id)),
        }
    }

    /// A VM's uuid is its id's; the others keep libvirt's in their records.
    fn uuid(&self, id: ObjectId) -> Result<Uuid, BadArgument> {
        if id.kind == Kind::Vm {
            return Ok(id.uuid);
        }
        let record = self.record(id)?;
        let text = get(self.inventory.schema(), &record, "uuid").as_str();
        text.and_then(|t| Uuid::try_parse(t).ok()).ok_or_else(|| self.none(id))
    }

    fn referred(&self, id: ObjectId, field: &str) -> Result<ObjectId, BadArgument> {
        let record = self.record(id)?;
        get(self.inventory.schema(), &record, field).as_ref_id().ok_or_else(|| self.none(id))
    }

    /// The struct that names an object: its fields tell of which kind it is.
    fn handle(&self, of: &Arc<Struct>, id: ObjectId) -> Result<XdrValue, BadArgument> {
        let mut fields = Vec::new();
        for field in &of.fields {
            let value = match (&*field.name, id.kind) {
                ("uuid", _) => uuid_value(self.uuid(id)?),
                ("name", _) => self.text(id, "name")?,
                // The server finds a domain by its uuid; -1 is "not known".
                ("id", Kind::Vm) => XdrValue::Int(-1),
                ("key", Kind::Volume) => self.text(id, "key")?,
                ("pool", Kind::Volume) => self.text(self.referred(id, "storage_pool_id")?, "name")?,
                ("dom", Kind::Snapshot) => self.value(&field.ty, &Value::Ref(self.referred(id, "vm_id")?))?,
                _ => return Err(self.none(id)),
            };
            fields.push((&*field.name, value));
        }
        Ok(xdr::record(of, fields)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native;
    use inventory::Put;
    use union::{Schema as Union, clock::ManualClock};

    fn rig() -> (Calls, Arc<Inventory>, ObjectId) {
        let union = Union::base();
        let inventory = Inventory::new(union.clone(), 1, Arc::new(ManualClock::new(0)));
        let vm = ObjectId::new(Kind::Vm, Uuid::from_u128(7));
        let mut record = union.kind(Kind::Vm).record();
        crate::inventory::set(&union, &mut record, "name", "web");
        inventory.apply(vec![Put::Whole(vm, record)]);
        (Calls::new(&native::schema().unwrap()), inventory, vm)
    }

    #[test]
    fn every_call_is_found_by_its_plain_name() {
        let schema = native::schema().unwrap();
        let calls = Calls::new(&schema);
        let plainly = schema.procedures().filter(|p| p.kind == ProcedureKind::Call).count();
        assert_eq!(calls.by_name.len(), plainly);
        for (call, number) in
            [("DomainCreate", 9), ("DomainPMSuspendForDuration", 297), ("DomainGetXMLDesc", 14)]
        {
            assert_eq!(
                calls.find(call).unwrap().number,
                schema.procedure_named(&calls.find(call).unwrap().name).unwrap().number
            );
            if number < 100 {
                assert_eq!(calls.find(call).unwrap().number, number);
            }
        }
        assert!(calls.find("DomainExplode").is_none());
    }

    #[test]
    fn a_vm_becomes_its_handle() {
        let (calls, inventory, vm) = rig();
        let args = [(Arc::from("dom"), Value::Ref(vm)), (Arc::from("flags"), Value::Int(2))];
        let lowered = lower(calls.find("DomainManagedSave").unwrap(), &args, &inventory).unwrap().unwrap();
        assert_eq!(lowered.get("dom.name"), Some(&XdrValue::text("web")));
        assert_eq!(lowered.get("dom.id"), Some(&XdrValue::Int(-1)));
        assert_eq!(lowered.get("dom.uuid").and_then(XdrValue::as_bytes).unwrap()[15], 7);
        assert_eq!(lowered.get("flags"), Some(&XdrValue::Uint(2)));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let (calls, inventory, vm) = rig();
        let save = calls.find("DomainManagedSave").unwrap();
        let error = |args: &[(Arc<str>, Value)]| lower(save, args, &inventory).unwrap_err().to_string();
        let dom = || (Arc::from("dom"), Value::Ref(vm));
        assert!(error(&[]).contains("needs field `dom`"));
        assert!(error(&[dom(), (Arc::from("flag"), Value::Int(1))]).contains("no field `flag`"));
        assert!(error(&[dom(), (Arc::from("flags"), Value::Int(-1))]).contains("is no uint"));
        let gone = ObjectId::new(Kind::Vm, Uuid::from_u128(8));
        assert!(error(&[(Arc::from("dom"), Value::Ref(gone))]).contains("libvirt has no vm:"));
    }
}

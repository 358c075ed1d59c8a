//! The objects a case knows, as a reader and as an id map.

use crate::{
    command::{Resolve, read::union_record},
    data::{Fields, Item},
    load::Bundle,
    protocol::Protocol,
    reader::{Gap, NativeRef, Reader},
    report::Findings,
};
use std::{cell::RefCell, collections::BTreeMap, sync::Arc};
use union::{Kind, ObjectId, Record, Slot, Value, schema::Schema};

/// What surrounds a case.
pub(super) struct World {
    pub view: String,
    schema: Arc<Schema>,
    objects: BTreeMap<ObjectId, (Option<NativeRef>, Arc<Record>)>,
    /// The native type that shows each kind.
    types: BTreeMap<Kind, Arc<str>>,
    pub gaps: RefCell<Vec<Gap>>,
}

impl World {
    pub fn new(protocol: &Protocol, schema: &Arc<Schema>, view: &str) -> World {
        let mut types = BTreeMap::new();
        for maps in protocol.showing.values() {
            for map in maps.iter().rev().filter(|m| m.managed) {
                if let Some(kind) = schema.get(map.union).and_then(|m| m.kind) {
                    types.insert(kind, map.native_type.clone());
                }
            }
        }
        World {
            view: view.to_owned(),
            schema: schema.clone(),
            objects: BTreeMap::new(),
            types,
            gaps: RefCell::default(),
        }
    }

    pub fn add(&mut self, id: ObjectId, native: Option<NativeRef>, record: Record) {
        self.objects.insert(id, (native, Arc::new(record)));
    }

    /// Reads `objects = [ { id, native, fields } ]`.
    pub fn read(&mut self, items: &[Item], bundle: &Bundle, findings: &mut Findings) {
        for item in items {
            let Some(table) = item.as_table() else { continue };
            let mut fields = Fields::new(table, "an object of a case");
            let id = fields.need_str("id", findings);
            let native = fields.str("native", findings).map(|(t, _)| native(t));
            let values = fields.table("fields", findings);
            fields.finish(findings);
            let Some((text, span)) = id else { continue };
            let Ok(id) = text.parse::<ObjectId>() else {
                findings.error(span, format!("`{text}` is not an object id, `<kind>:<uuid>`"));
                continue;
            };
            let message = bundle.schema.kind(id.kind);
            let record = match values {
                Some(table) => union_record(&bundle.schema, message, table, findings),
                None => message.record(),
            };
            self.add(id, native, record);
        }
    }
}

/// `Type id` as a reference.
pub(super) fn native(text: &str) -> NativeRef {
    let (ty, id) = text.split_once(' ').unwrap_or(("", text));
    NativeRef { ty: Arc::from(ty), id: Arc::from(id.trim()) }
}

impl Reader for World {
    fn object(&self, id: ObjectId) -> Option<Arc<Record>> {
        self.objects.get(&id).map(|(_, record)| record.clone())
    }

    fn referring(&self, kind: Kind, slot: Slot, to: ObjectId, out: &mut Vec<ObjectId>) {
        for (id, (_, record)) in &self.objects {
            if id.kind == kind && record.get(slot).refs().any(|r| r == to) {
                out.push(*id);
            }
        }
    }

    fn every(&self, kind: Kind) -> Option<Vec<ObjectId>> {
        Some(self.objects.keys().copied().filter(|id| id.kind == kind).collect())
    }

    fn native_ref(&self, id: ObjectId) -> Option<NativeRef> {
        if let Some((Some(native), _)) = self.objects.get(&id) {
            return Some(native.clone());
        }
        let ty = self.types.get(&id.kind).cloned().unwrap_or_else(|| Arc::from(id.kind.message()));
        Some(NativeRef { ty, id: Arc::from(id.to_string()) })
    }

    fn view(&self) -> &str {
        &self.view
    }

    fn gap(&self, gap: Gap) {
        self.gaps.borrow_mut().push(gap);
    }
}

impl Resolve for World {
    /// An object of the case, or one made up for the reference.
    fn resolve(&self, native: &NativeRef) -> Option<ObjectId> {
        let known = self.objects.iter().find(|(_, (n, _))| n.as_ref() == Some(native)).map(|(id, _)| *id);
        known.or_else(|| {
            let kind = self.types.iter().find(|(_, ty)| **ty == native.ty).map(|(kind, _)| *kind)?;
            Some(ObjectId::derived(kind, &[&native.ty, &native.id]))
        })
    }

    fn named(&self, kind: Kind, name: &str) -> Option<ObjectId> {
        let slot = self.schema.slot(kind, "name")?;
        let fits = |(id, (_, record)): &(&ObjectId, &(Option<NativeRef>, Arc<Record>))| {
            id.kind == kind && record.get(slot).as_str() == Some(name)
        };
        self.objects.iter().find(fits).map(|(id, _)| *id)
    }

    /// Always the same, so that cases can name it.
    fn fresh(&self, kind: Kind) -> Option<ObjectId> {
        Some(ObjectId::new(kind, uuid::Uuid::nil()))
    }
}

/// A union value as text: enumerations by name, references natively where the case made them up.
pub(super) fn value_text(value: &Value, shape: &crate::flow::Shape) -> String {
    match (value, &shape.flow) {
        (Value::Absent, _) => "(unset)".to_owned(),
        (Value::Int(n), crate::flow::Flow::Enum(e)) => {
            e.name_of(*n).map_or_else(|| n.to_string(), str::to_owned)
        }
        (Value::Int(n), _) => n.to_string(),
        (Value::Bool(b), _) => b.to_string(),
        (Value::Float(n), _) => n.to_string(),
        (Value::Str(text), _) => text.to_string(),
        (Value::Ref(id), _) => id.to_string(),
        (Value::List(items), _) => items.iter().map(|v| value_text(v, shape)).collect::<Vec<_>>().join(", "),
        (other, _) => format!("{other:?}"),
    }
}

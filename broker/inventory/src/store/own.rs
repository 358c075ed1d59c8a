//! Layers: what the broker itself says of an object, laid over what its target says.
//!
//! ```text
//! target's value ─▶ under ─┐
//! broker's value ─▶ own  ──┴─▶ shown: the broker's; of lists whose items have a `key`, item by item; of recent tasks, both
//! ```
//!
//! A layer survives every put, also the removal of its object: one that comes back is shown as the broker has it.

use super::{Entry, Inventory, Put};
use crate::merge::same;
use rustc_hash::FxHashMap;
use std::{collections::BTreeMap, sync::Arc};
use union::{FieldType, Kind, ObjectId, Record, Schema, Slot, SlotSet, Value, command::Revision};

/// One field: both values.
#[derive(Clone, Debug)]
struct Laid {
    own: Value,
    under: Value,
}

/// The layers of all objects.
#[derive(Debug, Default)]
pub(super) struct Layers {
    of: FxHashMap<ObjectId, BTreeMap<Slot, Laid>>,
}

impl Layers {
    /// Takes over what a put says of an object's covered fields, and makes the put say what is to be shown. A field in `kept` that the
    /// put leaves absent is as it was.
    pub(super) fn cover(
        &mut self,
        schema: &Schema,
        id: ObjectId,
        record: &mut Arc<Record>,
        taken: &mut SlotSet,
        kept: SlotSet,
    ) {
        let Some(layer) = self.of.get_mut(&id) else { return };
        let record = Arc::make_mut(record);
        for (slot, laid) in layer {
            let value = record.get(*slot);
            if taken.contains(*slot) && !(kept.contains(*slot) && value.is_absent()) {
                laid.under = value.clone();
            }
            record.set(*slot, shown(schema, id.kind, *slot, laid));
            taken.insert(*slot);
        }
    }

    /// Sets or takes off fields of a layer; what is then to be shown in them. `now` is the object's record.
    pub(super) fn set(
        &mut self,
        schema: &Schema,
        id: ObjectId,
        values: Vec<(Slot, Value)>,
        now: Option<&Record>,
    ) -> Vec<(Slot, Value)> {
        let layer = self.of.entry(id).or_default();
        let mut next = Vec::with_capacity(values.len());
        for (slot, own) in values {
            if own.is_absent() {
                next.extend(layer.remove(&slot).map(|laid| (slot, laid.under)));
                continue;
            }
            let laid = layer.entry(slot).or_insert_with(|| Laid {
                own: Value::Absent,
                under: now.map_or(Value::Absent, |record| record.get(slot).clone()),
            });
            laid.own = own;
            next.push((slot, shown(schema, id.kind, slot, laid)));
        }
        if layer.is_empty() {
            self.of.remove(&id);
        }
        next
    }

    /// The object is gone: its target says nothing of it any more.
    pub(super) fn bare(&mut self, id: ObjectId) {
        for laid in self.of.get_mut(&id).into_iter().flat_map(BTreeMap::values_mut) {
            laid.under = Value::Absent;
        }
    }

    /// The broker's own values of an object.
    pub(super) fn get(&self, id: ObjectId) -> Vec<(Slot, Value)> {
        let layer = self.of.get(&id).into_iter().flatten();
        layer.map(|(slot, laid)| (*slot, laid.own.clone())).collect()
    }

    /// One of them.
    pub(super) fn value(&self, id: ObjectId, slot: Slot) -> Option<&Value> {
        self.of.get(&id)?.get(&slot).map(|laid| &laid.own)
    }

    /// The objects that have a layer, in no order.
    pub(super) fn ids(&self) -> Vec<ObjectId> {
        self.of.keys().copied().collect()
    }
}

fn shown(schema: &Schema, kind: Kind, slot: Slot, laid: &Laid) -> Value {
    let Some(field) = schema.kind(kind).field_at(slot).filter(|field| field.repeated) else {
        return laid.own.clone();
    };
    let (under, own) = (laid.under.items(), laid.own.items());
    match &field.ty {
        FieldType::Ref(_) if field.name == "recent_task_ids" => {
            let both = under.iter().filter(|item| !own.contains(item)).chain(own);
            let mut both: Vec<Value> = both.cloned().collect();
            // The first 48 bits of an ordered uuid are its time: the newest comes last, whoever made it.
            both.sort_by_key(|task| task.as_ref_id().map(|id| id.uuid.as_u128() >> 80));
            Value::List(both.into())
        }
        FieldType::Message(part) => {
            let message = schema.get(*part);
            let key = message.and_then(|m| m.field("key")).filter(|key| matches!(key.ty, FieldType::Str));
            let Some(key) = key.map(|key| key.slot) else { return laid.own.clone() };
            let key_of = |item: &Value| item.as_record().map(|part| part.get(key).clone());
            let named = |item: &Value| own.iter().find(|own| key_of(own) == key_of(item));
            let replaced = under.iter().map(|item| named(item).unwrap_or(item));
            let added = own.iter().filter(|own| !under.iter().any(|item| key_of(item) == key_of(own)));
            Value::list(replaced.chain(added).cloned())
        }
        _ => laid.own.clone(),
    }
}

impl Inventory {
    /// Lays the broker's own values over those of the object's target, whatever is put; an absent value takes the layer off its field.
    /// Lists whose items have a `key` (settings) are merged by it. The object need not be there yet.
    pub fn set_own(&self, id: ObjectId, values: Vec<(Slot, Value)>) -> Revision {
        self.apply(vec![Put::Own(id, values)])
    }

    /// The broker's own values of an object, by slot.
    pub fn own(&self, id: ObjectId) -> Vec<(Slot, Value)> {
        self.state.read().layers.get(id)
    }

    /// An object as its target says it is, without what the broker lays over it.
    pub fn beneath(&self, id: ObjectId) -> Option<Entry> {
        let state = self.state.read();
        let mut entry = state.entries.get(&id)?.clone();
        if let Some(layer) = state.layers.of.get(&id) {
            let mut record = Record::clone(&entry.record);
            for (slot, laid) in layer {
                record.set(*slot, laid.under.clone());
            }
            entry.record = Arc::new(record);
        }
        Some(entry)
    }

    /// The objects of which the broker says something itself, ordered.
    pub fn owned(&self) -> Vec<ObjectId> {
        let mut ids = self.state.read().layers.ids();
        ids.sort_unstable();
        ids
    }

    /// Why the broker says that nothing can be done to an object.
    pub(crate) fn own_trouble(&self, id: ObjectId) -> Option<String> {
        let slot = self.schema.slot(id.kind, "trouble")?;
        let state = self.state.read();
        state.layers.value(id, slot).and_then(Value::as_str).map(str::to_owned)
    }

    /// Whether a layer already is as these values would make it.
    pub(super) fn is_own(layers: &Layers, id: ObjectId, values: &[(Slot, Value)]) -> bool {
        values.iter().all(|(slot, value)| same(layers.value(id, *slot).unwrap_or(&Value::Absent), value))
    }
}

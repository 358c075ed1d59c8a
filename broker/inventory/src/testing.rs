//! A small world for tests: a few ids of every kind, random facts about them, and random changes.

use crate::store::{Inventory, Put};
use proptest::prelude::*;
use std::sync::Arc;
use union::{FieldType, Kind, ObjectId, Record, Schema, Slot, Value, clock::ManualClock};

pub(crate) fn id(kind: Kind, n: u128) -> ObjectId {
    ObjectId::new(kind, uuid::Uuid::from_u128(n))
}

pub(crate) fn inventory() -> Arc<Inventory> {
    Inventory::new(Schema::base(), 1_000, Arc::new(ManualClock::new(1_700_000_000_000)))
}

pub(crate) fn slot(kind: Kind, field: &str) -> Slot {
    Schema::base().slot(kind, field).unwrap_or_else(|| panic!("{kind} has no field {field}"))
}

/// A record with these fields.
pub(crate) fn record(kind: Kind, fields: &[(&str, Value)]) -> Record {
    let schema = Schema::base();
    let mut record = schema.kind(kind).record();
    for (field, value) in fields {
        record.set(slot(kind, field), value.clone());
    }
    record
}

const KINDS: &[(Kind, u128)] = &[
    (Kind::Vm, 4),
    (Kind::Host, 3),
    (Kind::Cluster, 2),
    (Kind::Folder, 1),
    (Kind::Datacenter, 2),
    (Kind::ResourcePool, 2),
    (Kind::Network, 2),
    (Kind::StoragePool, 2),
    (Kind::Volume, 2),
    (Kind::Snapshot, 2),
    (Kind::Task, 3),
];

pub(crate) fn any_id() -> impl Strategy<Value = ObjectId> {
    proptest::sample::select(KINDS).prop_flat_map(|(kind, n)| (1..=n).prop_map(move |n| id(kind, n)))
}

fn value(ty: &FieldType, repeated: bool, seed: u32) -> Value {
    let one = |seed: u32| match ty {
        FieldType::Bool => Value::Bool(seed % 2 == 1),
        FieldType::Int32 | FieldType::Int64 => Value::Int(i64::from(seed % 5)),
        FieldType::Float => Value::Float(f64::from(seed % 5)),
        FieldType::Str => Value::from(["web", "Web", "web (1)", ""][seed as usize % 4]),
        FieldType::Bytes => Value::Bytes(Arc::from([seed as u8])),
        FieldType::Enum(e) => Value::Int(e.values[seed as usize % e.values.len()].1),
        FieldType::Ref(kinds) => {
            let all: Vec<ObjectId> = KINDS
                .iter()
                .filter(|(k, _)| kinds.is_empty() || kinds.contains(k))
                .flat_map(|(k, n)| (1..=*n).map(|n| id(*k, n)))
                .collect();
            match all.is_empty() {
                true => Value::Absent,
                false => Value::Ref(all[seed as usize % all.len()]),
            }
        }
        FieldType::Message(_) => Value::Absent,
    };
    if repeated {
        Value::list((0..seed % 3).map(|n| one(seed.wrapping_add(n * 7))).filter(|v| !v.is_absent()))
    } else {
        one(seed)
    }
}

/// Random facts: every field is set with probability one half.
pub(crate) fn facts(kind: Kind, seeds: &[u32]) -> Vec<(Slot, Value)> {
    let schema = Schema::base();
    let fields = schema.kind(kind).fields.iter().zip(seeds.iter().cycle());
    fields
        .enumerate()
        .filter(|(n, (_, seed))| (*seed >> (n % 7)) & 1 == 0)
        .map(|(n, (f, seed))| {
            (f.slot, value(&f.ty, f.repeated, seed.wrapping_mul(31).wrapping_add(n as u32)))
        })
        .collect()
}

pub(crate) fn any_put() -> impl Strategy<Value = Put> {
    (any_id(), proptest::collection::vec(any::<u32>(), 3..9), 0..10u8).prop_map(|(id, seeds, how)| {
        let facts = facts(id.kind, &seeds);
        match how {
            0..=4 => {
                let mut record = Schema::base().kind(id.kind).record();
                facts.into_iter().for_each(|(slot, value)| record.set(slot, value));
                Put::Whole(id, record)
            }
            5..=7 => Put::Slots(id, facts.into_iter().take(3).collect()),
            _ => Put::Remove(id),
        }
    })
}

pub(crate) fn any_batches() -> impl Strategy<Value = Vec<Vec<Put>>> {
    proptest::collection::vec(proptest::collection::vec(any_put(), 1..6), 1..25)
}

/// All records, comparable: absent and empty alike, trailing slots cut.
pub(crate) fn contents(inventory: &Inventory) -> Vec<(ObjectId, Vec<Value>)> {
    let all = inventory.everything();
    all.into_iter()
        .filter_map(|change| {
            let slots = change.new?;
            let mut values: Vec<Value> =
                slots.slots().iter().map(|v| if v.is_absent() { Value::Absent } else { v.clone() }).collect();
            while values.last().is_some_and(Value::is_absent) {
                values.pop();
            }
            Some((change.id, values))
        })
        .collect()
}

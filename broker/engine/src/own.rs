//! What the broker itself keeps of objects: folders, the place of VMs, settings, templates.
//!
//! ```text
//! stage(batch, facts) ─ one commit with the outcome ─▶ show(facts): laid over the target's facts, folders put whole
//! load() at start: all of them shown before the first command
//! ```
//!
//! A fact is a row by object and field of the union; its value is the encoded `Value`. An object of which the broker keeps the field
//! `kind` is wholly the broker's own: a folder. Whoever follows the layers of
//! the fleet's inventory is told them.

use crate::Facts;
use parking_lot::Mutex;
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};
use store::{
    Batch, Store, StoreError,
    owned::{self, Owned, OwnedError},
};
use union::{
    Kind, ObjectId, Schema, Value,
    command::Revision,
    pb,
    plan::{OwnFact, value_from_pb, value_to_pb},
};

type Layers = BTreeMap<ObjectId, BTreeMap<Arc<str>, Value>>;

/// The broker's own facts.
#[derive(Debug)]
pub struct OwnFacts {
    store: Arc<dyn Store>,
    facts: Arc<dyn Facts>,
    schema: Arc<Schema>,
    layers: Mutex<Layers>,
}

fn whole(layer: &BTreeMap<Arc<str>, Value>) -> bool {
    layer.contains_key("kind")
}

impl OwnFacts {
    pub(crate) fn new(store: Arc<dyn Store>, facts: Arc<dyn Facts>, schema: Arc<Schema>) -> OwnFacts {
        OwnFacts { store, facts, schema, layers: Mutex::default() }
    }

    /// Shows all that is in the store.
    pub(crate) async fn load(&self) -> Result<usize, StoreError> {
        let mut layers = Layers::new();
        for (id, name, blob) in Owned::new(Arc::clone(&self.store)).all().await? {
            let value = pb::Value::decode(blob.0.as_slice()).ok();
            match value.and_then(|v| value_from_pb(&self.schema, Some(&v)).ok()) {
                Some(value) => drop(layers.entry(id).or_default().insert(name, value)),
                None => {
                    tracing::error!(object = %id, field = %name, "a fact of the broker's own cannot be read; it is left out")
                }
            }
        }
        let count = layers.len();
        let all: Vec<OwnFact> = every(&layers);
        *self.layers.lock() = Layers::new();
        self.show(&all);
        Ok(count)
    }

    /// All of them, by object and field.
    pub fn all(&self) -> Vec<OwnFact> {
        every(&self.layers.lock())
    }

    /// A field that the broker keeps of an object.
    pub fn get(&self, id: ObjectId, field: &str) -> Option<Value> {
        self.layers.lock().get(&id)?.get(field).cloned()
    }

    /// The fields that the broker keeps of an object.
    pub(crate) fn fields(&self, id: ObjectId) -> Vec<Arc<str>> {
        self.layers.lock().get(&id).map(|layer| layer.keys().cloned().collect()).unwrap_or_default()
    }

    /// Whether the broker keeps a field of an object.
    pub(crate) fn keeps(&self, id: ObjectId, field: &str) -> bool {
        self.layers.lock().get(&id).is_some_and(|layer| layer.contains_key(field))
    }

    /// The objects of a kind of which the broker keeps that `field` names one of `places`.
    pub(crate) fn naming(&self, kind: Kind, field: &str, places: &[ObjectId]) -> Vec<ObjectId> {
        let layers = self.layers.lock();
        let named = |layer: &BTreeMap<Arc<str>, Value>| layer.get(field).and_then(Value::as_ref_id);
        let of_kind = layers.iter().filter(|(id, _)| id.kind == kind);
        of_kind
            .filter(|(_, layer)| named(layer).is_some_and(|at| places.contains(&at)))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Whether an object is the broker's alone.
    pub(crate) fn is_whole(&self, id: ObjectId) -> bool {
        self.layers.lock().get(&id).is_some_and(whole)
    }

    /// How many objects are the broker's alone.
    pub(crate) fn count_whole(&self) -> usize {
        self.layers.lock().values().filter(|layer| whole(layer)).count()
    }

    /// Facts that take away all that is kept of an object.
    pub(crate) fn clearing(&self, id: ObjectId) -> Vec<OwnFact> {
        let layers = self.layers.lock();
        let fields = layers.get(&id).map(|layer| layer.keys().cloned().collect::<Vec<_>>());
        let fields = fields.unwrap_or_default().into_iter();
        fields.map(|field| OwnFact { object: id, field, value: Value::Absent }).collect()
    }

    /// Adds facts to a batch; an absent value removes one.
    pub(crate) fn stage(&self, batch: &mut Batch, facts: &[OwnFact]) -> Result<(), OwnedError> {
        for fact in facts {
            let value = value_to_pb(&self.schema, &fact.value).map(|v| v.encode_to_vec());
            owned::stage(batch, fact.object, &fact.field, value.as_deref())?;
        }
        Ok(())
    }

    /// Shows facts that are durable. The revision that shows them.
    pub(crate) fn show(&self, facts: &[OwnFact]) -> Revision {
        let mut objects: Vec<ObjectId> = facts.iter().map(|f| f.object).collect();
        objects.sort_unstable();
        objects.dedup();
        let mut layers = self.layers.lock();
        let mut revision = Revision::default();
        for id in objects {
            let mine = || facts.iter().filter(|f| f.object == id);
            let was_whole = layers.get(&id).is_some_and(whole);
            let layer = layers.entry(id).or_default();
            for fact in mine() {
                match fact.value.is_absent() {
                    true => drop(layer.remove(&fact.field)),
                    false => drop(layer.insert(Arc::clone(&fact.field), fact.value.clone())),
                }
            }
            let slot = |field: &str| self.schema.slot(id.kind, field);
            let at = if whole(layer) {
                let mut record = self.schema.kind(id.kind).record();
                for (field, value) in &*layer {
                    if let Some(slot) = slot(field) {
                        record.set(slot, value.clone());
                    }
                }
                self.facts.put_own(id, Some(record))
            } else if was_whole {
                self.facts.put_own(id, None)
            } else {
                let values = mine().filter_map(|f| Some((slot(&f.field)?, f.value.clone()))).collect();
                self.facts.set_own(id, values)
            };
            if layer.is_empty() {
                layers.remove(&id);
            }
            revision = revision.max(at);
        }
        revision
    }

    /// A folder's facts.
    pub(crate) fn folder(&self, id: ObjectId, name: &str, kind: i64, parent: ObjectId) -> Vec<OwnFact> {
        let fact = |field: &str, value: Value| OwnFact { object: id, field: Arc::from(field), value };
        debug_assert!(id.kind == Kind::Folder);
        vec![
            fact("name", Value::str(name)),
            fact("kind", Value::Int(kind)),
            fact("parent_id", Value::Ref(parent)),
        ]
    }
}

fn every(layers: &Layers) -> Vec<OwnFact> {
    let of = |(id, layer): (&ObjectId, &BTreeMap<Arc<str>, Value>)| {
        let id = *id;
        let fact = move |(field, value): (&Arc<str>, &Value)| OwnFact {
            object: id,
            field: Arc::clone(field),
            value: value.clone(),
        };
        layer.iter().map(fact).collect::<Vec<_>>()
    };
    layers.iter().flat_map(of).collect()
}

//! Look-ups kept with the store: who refers to an object, by which field; and which objects have a text in a field.
//!
//! Every top-level reference field is indexed. Of the texts, those by which the protocols look objects up ([`TEXTS`]); all but names
//! without regard to ASCII case. References inside parts (a disk's volume) are not indexed: the top-level lists
//! (`storage_pool_ids`, `network_ids`) stand for them.

use rustc_hash::FxHashMap;
use std::{collections::BTreeSet, sync::Arc};
use union::{FieldType, Kind, ObjectId, Record, Schema, Slot, SlotSet, Value};

/// Indexed texts besides every kind's `name`. A field that holds parts is looked through for its texts.
const TEXTS: &[(Kind, &str)] = &[
    (Kind::Vm, "uuid"),
    (Kind::Vm, "instance_uuid"),
    (Kind::Vm, "guest_ip"),
    (Kind::Vm, "guest_hostname"),
    (Kind::Vm, "guest_nics"),
    (Kind::Vm, "home"),
    (Kind::Host, "uuid"),
    (Kind::Host, "management_ip"),
    (Kind::Network, "uuid"),
    (Kind::StoragePool, "uuid"),
    (Kind::Volume, "path"),
    (Kind::Volume, "key"),
    (Kind::Task, "command_id"),
];

/// A set that is mostly of one.
#[derive(Debug)]
enum Ids {
    One(ObjectId),
    Many(BTreeSet<ObjectId>),
}

impl Ids {
    fn insert(&mut self, id: ObjectId) {
        match self {
            Ids::One(only) if *only == id => {}
            Ids::One(only) => *self = Ids::Many(BTreeSet::from([*only, id])),
            Ids::Many(set) => {
                set.insert(id);
            }
        }
    }

    /// Whether nothing is left.
    fn remove(&mut self, id: ObjectId) -> bool {
        match self {
            Ids::One(only) => *only == id,
            Ids::Many(set) => {
                set.remove(&id);
                set.is_empty()
            }
        }
    }

    fn copy_to(&self, out: &mut Vec<ObjectId>) {
        match self {
            Ids::One(only) => out.push(*only),
            Ids::Many(set) => out.extend(set),
        }
    }
}

/// Which slots of a kind are indexed.
#[derive(Clone, Copy, Debug, Default)]
struct Indexed {
    refs: SlotSet,
    texts: SlotSet,
    exact: SlotSet,
}

#[derive(Debug)]
pub(crate) struct Index {
    indexed: Vec<Indexed>,
    refs: FxHashMap<(Kind, Slot, ObjectId), Ids>,
    texts: FxHashMap<(Kind, Slot), FxHashMap<Arc<str>, Ids>>,
}

impl Index {
    pub(crate) fn new(schema: &Schema) -> Index {
        let indexed = Kind::ALL
            .iter()
            .map(|kind| {
                let mut one = Indexed::default();
                for field in &schema.kind(*kind).fields {
                    if matches!(field.ty, FieldType::Ref(_)) {
                        one.refs.insert(field.slot);
                    }
                    if field.name == "name" {
                        one.texts.insert(field.slot);
                        one.exact.insert(field.slot);
                    } else if TEXTS.iter().any(|(k, name)| k == kind && *name == field.name) {
                        one.texts.insert(field.slot);
                    }
                }
                one
            })
            .collect();
        Index { indexed, refs: FxHashMap::default(), texts: FxHashMap::default() }
    }

    fn indexed(&self, kind: Kind) -> Indexed {
        self.indexed.get(kind as usize).copied().unwrap_or_default()
    }

    /// Whether `find` knows this field.
    pub(crate) fn finds(&self, kind: Kind, slot: Slot) -> bool {
        self.indexed(kind).texts.contains(slot)
    }

    /// Follows one object from `old` to `new`, which differ in `changed`.
    pub(crate) fn update(
        &mut self,
        id: ObjectId,
        old: Option<&Record>,
        new: Option<&Record>,
        changed: SlotSet,
    ) {
        let indexed = self.indexed(id.kind);
        for slot in SlotSet(changed.0 & indexed.refs.0).iter() {
            for to in old.into_iter().flat_map(|r| r.get(slot).refs()) {
                let key = (id.kind, slot, to);
                if self.refs.get_mut(&key).is_some_and(|ids| ids.remove(id)) {
                    self.refs.remove(&key);
                }
            }
            for to in new.into_iter().flat_map(|r| r.get(slot).refs()) {
                self.refs.entry((id.kind, slot, to)).or_insert(Ids::One(id)).insert(id);
            }
        }
        for slot in SlotSet(changed.0 & indexed.texts.0).iter() {
            let exact = indexed.exact.contains(slot);
            let by_text = self.texts.entry((id.kind, slot)).or_default();
            if let Some(old) = old {
                each_text(old.get(slot), &mut |text| {
                    let key = folded(text, exact);
                    if by_text.get_mut(&key).is_some_and(|ids| ids.remove(id)) {
                        by_text.remove(&key);
                    }
                });
            }
            if let Some(new) = new {
                each_text(new.get(slot), &mut |text| {
                    by_text.entry(folded(text, exact)).or_insert(Ids::One(id)).insert(id);
                });
            }
        }
    }

    pub(crate) fn referring(&self, kind: Kind, slot: Slot, to: ObjectId, out: &mut Vec<ObjectId>) {
        if let Some(ids) = self.refs.get(&(kind, slot, to)) {
            ids.copy_to(out);
        }
    }

    pub(crate) fn find(&self, kind: Kind, slot: Slot, text: &str) -> Vec<ObjectId> {
        let mut out = Vec::new();
        let exact = self.indexed(kind).exact.contains(slot);
        let lower;
        let text = if exact || !text.bytes().any(|b| b.is_ascii_uppercase()) {
            text
        } else {
            lower = text.to_ascii_lowercase();
            &lower
        };
        if let Some(ids) = self.texts.get(&(kind, slot)).and_then(|texts| texts.get(text)) {
            ids.copy_to(&mut out);
        }
        out
    }

    /// Everything it holds, in a form that two indexes of the same objects share.
    #[cfg(test)]
    pub(crate) fn dump(&self) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        let mut ids = Vec::new();
        for (key, set) in &self.refs {
            set.copy_to(&mut ids);
            out.extend(ids.drain(..).map(|id| format!("{key:?} <- {id}")));
        }
        for (field, texts) in &self.texts {
            for (text, set) in texts {
                set.copy_to(&mut ids);
                out.extend(ids.drain(..).map(|id| format!("{field:?} {text} <- {id}")));
            }
        }
        out
    }
}

fn folded(text: &Arc<str>, exact: bool) -> Arc<str> {
    if exact || !text.bytes().any(|b| b.is_ascii_uppercase()) {
        Arc::clone(text)
    } else {
        Arc::from(text.to_ascii_lowercase())
    }
}

fn each_text(value: &Value, found: &mut impl FnMut(&Arc<str>)) {
    match value {
        Value::Str(text) => found(text),
        Value::List(items) => items.iter().for_each(|item| each_text_dyn(item, found)),
        Value::Record(part) => part.slots().iter().for_each(|value| each_text_dyn(value, found)),
        _ => {}
    }
}

/// Breaks the recursion of closure types.
fn each_text_dyn(value: &Value, found: &mut dyn FnMut(&Arc<str>)) {
    each_text(value, &mut |text| found(text));
}

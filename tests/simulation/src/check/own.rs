//! The broker's own facts: what the engine keeps and shows, beside what clients were told.

use crate::{
    client::{Asked, End},
    world::{World, bundle},
};
use std::collections::{BTreeMap, BTreeSet};
use union::{Kind, ObjectId, Value, command::Outcome};

/// The broker's own facts are exactly as the acknowledged commands say.
pub(super) fn check(world: &World, all: &[&Asked], what: &mut Vec<String>) {
    let Some(engine) = world.net.engine() else { return };
    let mut told: BTreeMap<(ObjectId, String), Value> = BTreeMap::new();
    let mut unsure: BTreeSet<ObjectId> = BTreeSet::new();
    for asked in all {
        let object = asked.command.object;
        if asked.end.is_unknown() {
            unsure.insert(object);
        }
        if !asked.end.is_done() {
            // A folder that was not emptied to the end may have lost some of what was in it.
            if &*asked.command.verb == "DestroyFolder" && matches!(asked.end, End::Known(Outcome::Failed(_)))
            {
                unsure.extend(inside(&told, object));
            }
            continue;
        }
        let reference = |name| asked.field(name).and_then(Value::as_ref_id);
        match &*asked.command.verb {
            "MarkAsTemplate" => drop(told.insert((object, "template".to_owned()), Value::Bool(true))),
            "MarkAsVm" => drop(told.insert((object, "template".to_owned()), Value::Bool(false))),
            "Reconfigure" => {
                if let Some(settings) = asked.field("settings") {
                    let place = told.entry((object, "settings".to_owned())).or_default();
                    *place = merged(place, settings);
                }
            }
            "CreateFolder" => {
                let (Some(id), Some(parent)) = (reference("folder_id"), reference("parent_id")) else {
                    continue;
                };
                told.insert((id, "parent_id".to_owned()), Value::Ref(parent));
                told.insert((id, "name".to_owned()), asked.field("name").cloned().unwrap_or_default());
            }
            "RenameFolder" => {
                told.insert((object, "name".to_owned()), asked.field("name").cloned().unwrap_or_default());
            }
            "MoveIntoFolder" => {
                for id in asked.field("object_ids").into_iter().flat_map(Value::refs) {
                    let field = if id.kind == Kind::Vm { "folder_id" } else { "parent_id" };
                    told.insert((id, field.to_owned()), Value::Ref(object));
                }
            }
            "CreateVm" => {
                if let Some(made) = reference("vm_id").filter(|_| object != crate::client::vm_folder()) {
                    told.insert((made, "folder_id".to_owned()), Value::Ref(object));
                }
            }
            "DestroyVm" => told.retain(|(id, _), _| *id != object),
            "DestroyFolder" => {
                for vm in inside(&told, object).into_iter().filter(|id| !unsure.contains(id)) {
                    if world.metals.iter().any(|metal| metal.machine(vm).is_some()) {
                        what.push(format!("{vm} lies in {object}, which is gone, and is still there"));
                    }
                }
                destroy(&mut told, object);
            }
            _ => {}
        }
    }
    let mut kept: BTreeMap<(ObjectId, String), Value> = BTreeMap::new();
    for fact in engine.engine.own().all() {
        // The kind follows from the parent's.
        if &*fact.field != "kind" {
            kept.insert((fact.object, fact.field.to_string()), sorted(&fact.value));
        }
    }
    let keys: BTreeSet<_> = told.keys().chain(kept.keys()).cloned().collect();
    for key in keys.into_iter().filter(|(object, _)| !unsure.contains(object)) {
        let (should, is) = (told.get(&key).map(sorted), kept.get(&key));
        if should.as_ref() != is {
            what.push(format!(
                "the broker should keep {should:?} as {} of {}, it keeps {is:?}",
                key.1, key.0
            ));
        }
    }
    for ((object, field), value) in &kept {
        let shown = engine.facts.record(*object).zip(bundle().schema.slot(object.kind, field));
        if let Some((record, slot)) = shown
            && sorted(record.get(slot)) != *value
        {
            what.push(format!(
                "{object} shows {:?} as {field}, the broker keeps {value:?}",
                record.get(slot)
            ));
        }
    }
}

/// Settings have no order.
fn sorted(value: &Value) -> Value {
    let Value::List(items) = value else { return value.clone() };
    let mut items = items.to_vec();
    items.sort_by_key(|item| format!("{item:?}"));
    Value::list(items)
}

fn merged(before: &Value, settings: &Value) -> Value {
    let slot = bundle().schema.message("Setting").and_then(|m| m.field("key")).map(|f| f.slot);
    let key = |value: &Value| value.as_record().zip(slot).map(|(r, slot)| r.get(slot).clone());
    let fresh = settings.items().iter().filter(|new| !before.items().iter().any(|old| key(old) == key(new)));
    let replaced = before
        .items()
        .iter()
        .map(|old| settings.items().iter().find(|new| key(new) == key(old)).unwrap_or(old));
    Value::list(replaced.chain(fresh).cloned())
}

/// Where an object lies.
fn is_place(field: &str) -> bool {
    matches!(field, "parent_id" | "folder_id")
}

/// The VMs that were said to lie in a folder or below.
fn inside(told: &BTreeMap<(ObjectId, String), Value>, folder: ObjectId) -> Vec<ObjectId> {
    let here = told.iter().filter(|((_, field), value)| is_place(field) && **value == Value::Ref(folder));
    let here: Vec<ObjectId> = here.map(|((id, _), _)| *id).collect();
    let below = |id: &ObjectId| match id.kind {
        Kind::Folder => inside(told, *id),
        _ => vec![*id],
    };
    here.iter().flat_map(below).collect()
}

fn destroy(told: &mut BTreeMap<(ObjectId, String), Value>, folder: ObjectId) {
    let below: Vec<ObjectId> = told
        .iter()
        .filter(|((_, field), value)| is_place(field) && **value == Value::Ref(folder))
        .map(|((id, _), _)| *id)
        .collect();
    told.retain(|(id, _), _| *id != folder);
    for id in below {
        destroy(told, id);
    }
}

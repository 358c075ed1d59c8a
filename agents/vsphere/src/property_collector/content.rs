//! Properties on the wire: of facts through the mapping, of made objects by name.

use super::{
    plan::{Plan, Property},
    spec::FilterSpec,
    updates::What,
};
use crate::{
    call::Call,
    fault::{Answer, Fault},
    inventory::Key,
    made::{Made, Thing},
    native::{self, Soap, TaskOutcome},
    views::ViewKind,
};
use mapping::{NativeRef, ObjectMap, Selection};
use std::sync::Arc;
use union::{ObjectId, Record};
use wire::soap::encode::Encoder;

/// Properties of the singletons that answer without a session.
const OPEN: &[(&str, &[&str])] = &[
    ("ServiceInstance", &["content", "serverClock", "capability"]),
    ("SessionManager", &["currentSession", "defaultLocale", "messageLocaleList", "supportedLocaleList"]),
];

/// The property of a task that no row shows: the front has the cause with its fields.
pub(super) const TASK_ERROR: &str = "info.error";

/// Whether a property may be read without a session.
pub(crate) fn is_open(call: &Call<'_>, key: Key, path: &str) -> bool {
    let Key::Fact(_, ty) = key else { return false };
    let first = path.split(['.', '[']).next().unwrap_or_default();
    let name = call.catalog().type_name(ty);
    OPEN.iter().any(|(open, paths)| *open == name && paths.contains(&first))
}

/// `<path/><fault/>` of something that cannot be shown.
pub(crate) fn put_missing(out: &mut Encoder, path: &str, fault: &Fault) {
    out.open("missingSet");
    out.leaf("path", path);
    out.open("fault");
    fault.encode_localized(out);
    out.close("fault");
    out.close("missingSet");
}

/// The content of an `ObjectContent`; false: the object is gone.
pub(crate) fn put_fact(call: &Call<'_>, out: &mut Encoder, key: Key, plan: &Plan) -> bool {
    let Some((id, record, reference)) = there(call, key, plan) else { return false };
    native::put_reference(out, "obj", &reference);
    for property in &plan.properties {
        if let Property::Mapped(selection) = property {
            put_pair(out, "propSet", selection.path(), false, |out| {
                put_selection(call, out, "val", id, &record, plan, selection)
            });
        }
    }
    for property in &plan.properties {
        if let Property::Missing(path, fault) = property {
            put_missing(out, path, fault);
        }
    }
    true
}

/// The changes of an `ObjectUpdate`; false: the object is gone.
pub(crate) fn put_changes(call: &Call<'_>, out: &mut Encoder, key: Key, plan: &Plan, what: What) -> bool {
    let Some((id, record, _)) = there(call, key, plan) else { return false };
    for (number, property) in plan.properties.iter().enumerate() {
        let Property::Mapped(selection) = property else { continue };
        let unset = match what {
            What::Modify(bits) if bits.contains(number) => true,
            What::Modify(_) | What::Leave => continue,
            What::Enter => false,
        };
        put_pair(out, "changeSet", selection.path(), unset, |out| {
            put_selection(call, out, "val", id, &record, plan, selection)
        });
    }
    if what == What::Enter {
        for property in &plan.properties {
            if let Property::Missing(path, fault) = property {
                put_missing(out, path, fault);
            }
        }
    }
    true
}

/// `<propSet><name/><val/></propSet>`, or a `changeSet` with its `op`. A property without a value is left out, or with `unset` told as
/// assigned nothing.
fn put_pair(
    out: &mut Encoder,
    element: &str,
    path: &str,
    unset: bool,
    value: impl FnOnce(&mut Encoder) -> bool,
) {
    let mark = out.mark();
    out.open(element);
    out.leaf("name", path);
    if element == "changeSet" {
        out.raw("<op>assign</op>");
    }
    let shown = value(out);
    out.close(element);
    if !shown && !unset {
        out.rollback(mark);
    }
}

fn there(call: &Call<'_>, key: Key, plan: &Plan) -> Option<(ObjectId, Arc<Record>, NativeRef)> {
    let id = key.object()?;
    Some((id, call.front.record(call, id, |slot| plan.looks_at(slot))?, call.catalog().reference_of(key)?))
}

fn put_selection(
    call: &Call<'_>,
    out: &mut Encoder,
    name: &str,
    id: ObjectId,
    record: &Record,
    plan: &Plan,
    selection: &Selection,
) -> bool {
    put_rendered(call, out, name, id, record, &plan.map, selection)
}

fn put_rendered(
    call: &Call<'_>,
    out: &mut Encoder,
    name: &str,
    id: ObjectId,
    record: &Record,
    map: &ObjectMap,
    selection: &Selection,
) -> bool {
    let outcome = call.front.task_outcome(id);
    if let Some(TaskOutcome::Error(fault)) = outcome.as_ref().filter(|_| selection.path() == TASK_ERROR) {
        out.open_typed(name, "LocalizedMethodFault");
        fault.encode_localized(out);
        out.close(name);
        return true;
    }
    let mut soap = Soap::new(out, &call.front.tags, name).with_outcome(outcome).seen_by(call.sight());
    map.render(selection, id, record, call.catalog(), call.version, &mut soap)
}

/// One property as a `propSet`; left out when it has no value or cannot be read.
pub(crate) fn put_property(call: &Call<'_>, out: &mut Encoder, key: Key, path: &str) {
    put_pair(out, "propSet", path, false, |out| matches!(put_value(call, out, "val", key, path), Ok(true)));
}

/// One property of an object, by itself; false: it has no value.
pub(crate) fn put_value(
    call: &Call<'_>,
    out: &mut Encoder,
    name: &str,
    key: Key,
    path: &str,
) -> Answer<bool> {
    match key {
        Key::Fact(id, ty) => {
            if let Some(shown) = put_own(call, out, name, key, path) {
                return Ok(shown);
            }
            let gone = || Fault::not_found(call.this.clone());
            let map = call.catalog().map(ty).ok_or_else(gone)?;
            let selection = map.select(path, call.version).map_err(|_| Fault::invalid_property(path))?;
            let record =
                call.front.record(call, id, |slot| selection.deps().own.contains(slot)).ok_or_else(gone)?;
            Ok(put_rendered(call, out, name, id, &record, map, &selection))
        }
        Key::Made(made) => call
            .front
            .with_made(made, |made| put_made_value(call, out, name, made, path))
            .ok_or_else(|| Fault::not_found(call.this.clone()))?
            .ok_or_else(|| Fault::invalid_property(path)),
    }
}

/// Properties of singletons that list what the session made; `None`: it is none of these.
fn put_own(call: &Call<'_>, out: &mut Encoder, name: &str, key: Key, path: &str) -> Option<bool> {
    let Key::Fact(_, ty) = key else { return None };
    let workshop = call.front.workshop.lock();
    let references: Vec<NativeRef> = match (call.catalog().type_name(ty), path) {
        ("ViewManager", "viewList") => {
            let own = workshop.all_of(call.session_key());
            own.filter(|(_, made)| matches!(made.thing, Thing::View(_)))
                .map(|(_, made)| made.reference.clone())
                .collect()
        }
        ("PropertyCollector", "filter") => call
            .session
            .as_ref()
            .map(|session| workshop.filters_of(session.data.collector()))
            .unwrap_or_default(),
        _ => return None,
    };
    native::put_reference_array(out, name, &references);
    Some(true)
}

/// The content of a made object's `ObjectContent`; false: it is gone.
pub(crate) fn put_made(call: &Call<'_>, out: &mut Encoder, number: u64, spec: &FilterSpec) -> bool {
    let shown = call.front.with_made(number, |made| {
        native::put_reference(out, "obj", &made.reference);
        each_made_property(call, out, made, spec, "propSet");
    });
    shown.is_some()
}

/// The changes of a made object; false: it is gone.
pub(crate) fn put_made_changes(call: &Call<'_>, out: &mut Encoder, number: u64, spec: &FilterSpec) -> bool {
    call.front.with_made(number, |made| each_made_property(call, out, made, spec, "changeSet")).is_some()
}

fn each_made_property(call: &Call<'_>, out: &mut Encoder, made: &Made, spec: &FilterSpec, element: &str) {
    let sets = || spec.sets.iter().filter(|set| made.is_a(call.catalog(), &set.ty));
    let mut seen: Vec<&str> = Vec::new();
    let all = if sets().any(|set| set.all) { made_properties(made) } else { &[] };
    let paths = all.iter().copied().chain(sets().flat_map(|set| set.paths.iter().map(|path| &**path)));
    let mut missing = Vec::new();
    for path in paths {
        if seen.contains(&path) {
            continue;
        }
        seen.push(path);
        let mut known = true;
        put_pair(out, element, path, false, |out| {
            let shown = put_made_value(call, out, "val", made, path);
            known = shown.is_some();
            shown.unwrap_or(false)
        });
        if !known {
            missing.push(path);
        }
    }
    for path in missing {
        put_missing(out, path, &Fault::invalid_property(path));
    }
}

fn made_properties(made: &Made) -> &'static [&'static str] {
    match &made.thing {
        Thing::Collector { .. } => &["filter"],
        Thing::Filter { .. } => &["spec", "partialUpdates"],
        Thing::View(view) => match view.kind {
            ViewKind::Container { .. } => &["view", "container", "type", "recursive"],
            ViewKind::List | ViewKind::Inventory { .. } => &["view"],
        },
        Thing::Events(_) | Thing::Tasks(_) => &["latestPage"],
    }
}

/// One property of a made object; `None`: it has no such property.
fn put_made_value(call: &Call<'_>, out: &mut Encoder, name: &str, made: &Made, path: &str) -> Option<bool> {
    match (&made.thing, path) {
        (Thing::View(view), "view") => {
            let references: Vec<NativeRef> = view
                .members
                .iter()
                .filter(|key| key.object().is_none_or(|id| call.sight().sees(id)))
                .filter_map(|key| call.catalog().reference_of(*key))
                .collect();
            native::put_reference_array(out, name, &references);
            Some(true)
        }
        (Thing::View(view), _) => {
            let ViewKind::Container { container, types, recursive } = &view.kind else { return None };
            match path {
                "container" => {
                    let reference = call.catalog().reference(*container);
                    if let Some(reference) = &reference {
                        native::put_typed_reference(out, name, reference);
                    }
                    Some(reference.is_some())
                }
                "type" => {
                    out.open_typed(name, "ArrayOfString");
                    for ty in types {
                        out.typed_leaf("string", "xsd:string", call.catalog().type_name(*ty));
                    }
                    out.close(name);
                    Some(true)
                }
                "recursive" => {
                    out.typed_leaf(name, "xsd:boolean", if *recursive { "true" } else { "false" });
                    Some(true)
                }
                _ => None,
            }
        }
        (Thing::Events(pages), "latestPage") => Some(pages.put_latest(call, out, name)),
        (Thing::Tasks(pages), "latestPage") => Some(pages.put_latest(call, out, name)),
        (Thing::Collector { .. }, "filter") => {
            // A collector is looked at outside the lock.
            let workshop = call.front.workshop.lock();
            let filters = workshop.of(call.session_key(), &made.reference.id).map(|n| workshop.filters_of(n));
            native::put_reference_array(out, name, &filters.unwrap_or_default());
            Some(true)
        }
        (Thing::Filter { spec, .. }, "spec") => {
            spec.encode(out, name);
            Some(true)
        }
        (Thing::Filter { partial, .. }, "partialUpdates") => {
            out.typed_leaf(name, "xsd:boolean", if *partial { "true" } else { "false" });
            Some(true)
        }
        _ => None,
    }
}

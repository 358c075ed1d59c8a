//! A native call's arguments as a union command, row by row.

use super::{
    Argument, CommandMap, Form, ItemRows, LiftError, NativeArgs, NativeValue, Place, Resolve, primitive,
};
use crate::{
    flow::{Flow, kind_names},
    lens::Chain,
    reader::Reader,
    schema::{NativeField, NativeType, Primitive},
};
use std::sync::Arc;
use union::{Kind, ObjectId, Record, Value};
use uuid::Uuid;

/// Most items of one list of a call.
const MOST_ITEMS: usize = 1024;
/// How deep a call's structures are searched for arguments that no row reads.
const DEEPEST: usize = 8;

impl CommandMap {
    /// The union command of a native call. `stored`: the object that the call is about and what surrounds it, for edits of its lists;
    /// see [`CommandMap::needs_stored`].
    ///
    /// # Errors
    /// [`LiftError`], with the argument's path.
    pub fn lift(
        &self,
        args: &dyn NativeArgs,
        ids: &dyn Resolve,
        stored: Option<(&Record, &dyn Reader)>,
    ) -> Result<Record, LiftError> {
        let mut record = Record::new(self.message, self.slots);
        for (slot, value) in &self.consts {
            record.set(*slot, value.clone());
        }
        for fresh in &self.fresh {
            record.set(fresh.to, Value::Ref(self.fresh_id(fresh, args, ids)?));
        }
        for row in &self.rows {
            row.lift(args, ids, &mut record, "")?;
        }
        let id = self.object(&record).unwrap_or_else(|| ObjectId::new(self.on, Uuid::nil()));
        for row in &self.rows {
            row.keys(args, &self.edits, id, stored)?;
        }
        for edit in &self.edits {
            edit.lift(args, ids, stored.map(|(object, reader)| (id, object, reader)), &mut record)?;
        }
        self.all_read(args, "", 0)?;
        Ok(record)
    }

    /// Whether lifting looks at the stored object.
    pub fn needs_stored(&self) -> bool {
        self.edits.iter().any(super::device::DeviceEdit::needs_stored)
    }

    fn fresh_id(
        &self,
        fresh: &super::Fresh,
        args: &dyn NativeArgs,
        ids: &dyn Resolve,
    ) -> Result<ObjectId, LiftError> {
        if let Some(path) = &fresh.from
            && let Some(NativeValue::Text(text)) = args.get(path)
            && !text.is_empty()
        {
            let uuid = Uuid::try_parse(&text).ok().filter(|uuid| !uuid.is_nil() && !uuid.is_max());
            let why = || LiftError::BadValue {
                path: path.clone(),
                why: format!("`{text}` is no uuid of anything"),
            };
            return Ok(ObjectId::new(fresh.kind, uuid.ok_or_else(why)?));
        }
        let none = || LiftError::NotSupported {
            path: Arc::from("this"),
            why: format!("no {} can be made here", fresh.kind),
        };
        ids.fresh(fresh.kind).ok_or_else(none)
    }

    /// Every argument is read by a row, or left out on purpose: nothing is ignored in silence.
    fn all_read(&self, args: &dyn NativeArgs, prefix: &str, depth: usize) -> Result<(), LiftError> {
        for name in args.names(prefix) {
            let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            let mut below = false;
            let known = self.known().any(|known| {
                let rest = known.strip_prefix(path.as_str());
                below |= rest.is_some_and(|rest| rest.starts_with('.'));
                rest.is_some_and(str::is_empty)
            });
            if known || path == "this" || declined(args, &path) {
                continue;
            }
            if !below || depth >= DEEPEST {
                let why = format!("{} has no row for it", self.method);
                return Err(LiftError::NotSupported { path: Arc::from(path), why });
            }
            self.all_read(args, &path, depth + 1)?;
        }
        Ok(())
    }

    fn known(&self) -> impl Iterator<Item = &Arc<str>> {
        let edits = self.edits.iter().map(|e| &e.path);
        let fresh = self.fresh.iter().filter_map(|f| f.from.as_ref());
        self.rows.iter().map(|r| &r.path).chain(edits).chain(fresh).chain(self.ignored.iter().map(|(p, _)| p))
    }
}

/// An option that is not wanted needs no row: what is not offered is off.
fn declined(args: &dyn NativeArgs, path: &str) -> bool {
    args.get(path) == Some(NativeValue::Text("false".to_owned())) && args.names(path).is_empty()
}

impl Place {
    /// Sets the value, making the part if it is not there.
    pub fn set(&self, record: &mut Record, value: Value) {
        let Some((message, width, inner)) = self.part else { return record.set(self.slot, value) };
        if value.is_absent() {
            return;
        }
        let mut part = match record.get(self.slot) {
            Value::Record(part) => Record::clone(part),
            _ => Record::new(message, width),
        };
        part.set(inner, value);
        record.set(self.slot, Value::record(part));
    }
}

impl Argument {
    /// Reads the argument into the record. `within`: where `args` itself stands in the call.
    pub fn lift(
        &self,
        args: &dyn NativeArgs,
        ids: &dyn Resolve,
        record: &mut Record,
        within: &str,
    ) -> Result<(), LiftError> {
        let path = || {
            if within.is_empty() { self.path.clone() } else { Arc::from(format!("{within}.{}", self.path)) }
        };
        match &self.form {
            Form::Value { to, field, chain } => {
                let value = match args.get(&self.path) {
                    None if field.optional || field.list => return Ok(()),
                    None => return Err(LiftError::Missing { path: path() }),
                    Some(value) => value,
                };
                // A list of one arrives as one.
                let value = match value {
                    one if field.list && !matches!(one, NativeValue::Items(_)) => {
                        NativeValue::Items(vec![one])
                    }
                    other => other,
                };
                let native = native(&path(), field, value, ids)?;
                to.set(record, read_back(&path(), chain, native)?);
            }
            Form::Items { to, types } => {
                let items = args.items(&self.path);
                if items.is_empty() {
                    return Ok(());
                }
                bounded(&path(), items.len())?;
                let mut made = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let at = format!("{}[{index}]", path());
                    made.push(Value::record(one_of(types, item.as_ref(), ids, &at)?));
                }
                to.set(record, Value::list(made));
            }
            Form::Types { to, values, declared, .. } => {
                let items = args.items(&self.path);
                if items.is_empty() {
                    return Ok(());
                }
                bounded(&path(), items.len())?;
                let mut made: Vec<Value> = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let ty = item.type_name().unwrap_or_else(|| declared.to_string());
                    let value = values.iter().find(|(t, _)| **t == *ty).map(|(_, v)| v.clone());
                    let why = || LiftError::NotSupported {
                        path: Arc::from(format!("{}[{index}]", path())),
                        why: format!("`{ty}` has no row"),
                    };
                    let value = value.ok_or_else(why)?;
                    // What counts by its type is there once.
                    if !made.contains(&value) {
                        made.push(value);
                    }
                }
                to.set(record, Value::list(made));
            }
            Form::Named { to, kind } => {
                if let Some(NativeValue::Text(name)) = args.get(&self.path).filter(filled) {
                    to.set(record, Value::Ref(named(ids, *kind, &name, &path())?));
                }
            }
            Form::File { pool, file } => {
                if let Some(NativeValue::Text(text)) = args.get(&self.path).filter(filled) {
                    let (found, rest) = file_name(ids, &text, &path())?;
                    if let Some(to) = pool {
                        to.set(record, found.map_or(Value::Absent, Value::Ref));
                    }
                    if let Some(to) = file.as_ref().filter(|_| !rest.is_empty()) {
                        to.set(record, Value::str(rest));
                    }
                }
            }
        }
        Ok(())
    }
}

fn filled(value: &NativeValue) -> bool {
    matches!(value, NativeValue::Text(text) if !text.is_empty())
}

fn bounded(path: &Arc<str>, items: usize) -> Result<(), LiftError> {
    if items > MOST_ITEMS {
        let why = format!("at most {MOST_ITEMS} items are taken, there are {items}");
        return Err(LiftError::BadValue { path: path.clone(), why });
    }
    Ok(())
}

/// An item by the rows of its type; without a type by the first.
fn one_of(
    types: &[ItemRows],
    item: &dyn NativeArgs,
    ids: &dyn Resolve,
    at: &str,
) -> Result<Record, LiftError> {
    let ty = item.type_name();
    let rows = types.iter().find(|rows| ty.as_ref().is_none_or(|ty| *rows.ty == **ty));
    let none = || LiftError::NotSupported {
        path: Arc::from(at),
        why: format!("`{}` has no rows", ty.clone().unwrap_or_default()),
    };
    let rows = rows.ok_or_else(none)?;
    let mut record = Record::new(rows.message, rows.width);
    for row in &rows.rows {
        row.lift(item, ids, &mut record, at)?;
    }
    if let Some((slot, path)) = &rows.key
        && record.get(*slot).as_str().is_none_or(str::is_empty)
    {
        let path = Arc::from(format!("{at}.{path}"));
        return Err(LiftError::BadValue { path, why: "it is empty".to_owned() });
    }
    Ok(record)
}

/// The object that the view calls so.
pub(super) fn named(
    ids: &dyn Resolve,
    kind: Kind,
    name: &str,
    path: &Arc<str>,
) -> Result<ObjectId, LiftError> {
    let none = || LiftError::NoName { path: path.clone(), kind, name: name.to_owned() };
    ids.named(kind, name).ok_or_else(none)
}

/// `[store] path/of/file`: the store, and the path in it, which begins there even with a slash. `[]` names no store: that is only for what
/// is shown so, since a file of the host's own is nobody's to name.
pub(super) fn file_name<'t>(
    ids: &dyn Resolve,
    text: &'t str,
    path: &Arc<str>,
) -> Result<(Option<ObjectId>, &'t str), LiftError> {
    let bad = |why: &str| LiftError::BadValue { path: path.clone(), why: format!("`{text}` {why}") };
    let parts = text.trim().strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (store, file) = parts.ok_or_else(|| bad("is not `[store] path/of/file`"))?;
    let file = file.trim();
    if file.split('/').any(|part| part == "..") {
        return Err(bad("leads out of its store"));
    }
    let store = store.trim();
    if store.is_empty() {
        return if file.is_empty() { Ok((None, file)) } else { Err(bad("names no store")) };
    }
    Ok((Some(named(ids, Kind::StoragePool, store, path)?), file.trim_start_matches('/')))
}

/// Through the lenses of a row; a reference is one to the kinds of object that the union's field names.
pub(super) fn read_back(path: &Arc<str>, chain: &Chain, native: Value) -> Result<Value, LiftError> {
    let bad = |why: String| LiftError::BadValue { path: path.clone(), why };
    let value = chain.read(native).map_err(bad)?;
    let one = match &value {
        Value::List(items) => items.iter().collect(),
        one => vec![one],
    };
    for value in one {
        match (&chain.shape.flow, value) {
            (Flow::NativeRef(kinds), Value::Ref(id)) if kinds.is_empty() || kinds.contains(&id.kind) => {}
            (Flow::NativeRef(kinds), Value::Ref(id)) => {
                return Err(bad(format!("it names a {}, expected is a {}", id.kind, kind_names(kinds))));
            }
            (Flow::NativeRef(_), Value::Absent) => {}
            (Flow::NativeRef(_), _) => return Err(bad("a reference is expected".to_owned())),
            (_, Value::Ref(_)) => return Err(bad("a reference cannot stand here".to_owned())),
            _ => {}
        }
    }
    Ok(value)
}

/// Types an argument by the native schema.
pub(super) fn native(
    path: &Arc<str>,
    field: &NativeField,
    value: NativeValue,
    ids: &dyn Resolve,
) -> Result<Value, LiftError> {
    let bad = |why: String| LiftError::BadValue { path: path.clone(), why };
    match value {
        NativeValue::Items(items) => {
            bounded(path, items.len())?;
            let items: Result<Vec<Value>, LiftError> =
                items.into_iter().map(|v| native(path, field, v, ids)).collect();
            items.map(Value::list)
        }
        NativeValue::Ref(reference) => match ids.resolve(&reference) {
            Some(id) => Ok(Value::Ref(id)),
            None => Err(LiftError::NoObject { path: path.clone(), native: reference }),
        },
        NativeValue::Text(text) => match field.ty {
            NativeType::Primitive(Primitive::AnyType) => Ok(Value::from(text)),
            NativeType::Primitive(p) => {
                primitive(p, &text).ok_or_else(|| bad(format!("`{text}` is not {}", p.name())))
            }
            NativeType::Enum(_) => Ok(Value::from(text)),
            NativeType::Ref(_) | NativeType::Data(_) => {
                Err(bad("a simple value cannot stand here".to_owned()))
            }
        },
    }
}

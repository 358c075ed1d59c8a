//! Arguments that name items of what an edit of the same command shows: `keys = { field = "deviceKey", like = "spec.deviceChange", of = .. }`.
//!
//! ```text
//! key ─▶ the shown item with it ─┬─ of the kind that the structure stands for, and the first of it (or after the first) ─▶ good
//!                                ├─ of another kind                                                                       ─▶ BadValue
//!                                ├─ not the first of its kind: only the kind counts, so it could not be kept              ─▶ NotSupported
//!                                ╰─ none: an item that the same call adds ─▶ good │ nothing ─▶ BadValue
//! ```

use super::{
    Argument, Form, LiftError, NativeArgs, NativeValue,
    device::{DeviceEdit, Op},
};
use crate::{
    reader::Reader,
    render::{NodeKind, Walk},
    schema::VersionIndex,
};
use std::sync::Arc;
use union::{ObjectId, Record};

/// A field of structures that names items of what an edit of the same command shows.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The field.
    pub field: Arc<str>,
    /// The edit's argument.
    pub like: Arc<str>,
    /// By the structure's type: the types that the item may be of.
    pub of: Vec<(Arc<str>, Vec<Arc<str>>)>,
}

impl Argument {
    /// Where a row's items name items of what an edit shows: they are there, of the kind that the type of the item stands for, and what
    /// counts by its type alone begins with the first of that kind.
    pub(super) fn keys(
        &self,
        args: &dyn NativeArgs,
        edits: &[DeviceEdit],
        id: ObjectId,
        stored: Option<(&Record, &dyn Reader)>,
    ) -> Result<(), LiftError> {
        let Form::Types { keys: Some(keys), .. } = &self.form else { return Ok(()) };
        let edit = edits.iter().find(|edit| edit.path == keys.like);
        let (Some(edit), Some((object, reader))) = (edit, stored) else { return Ok(()) };
        let mut kinds: Vec<String> = Vec::new();
        for (index, item) in args.items(&self.path).iter().enumerate() {
            let ty = item.type_name().unwrap_or_default();
            let Some((_, of)) = keys.of.iter().find(|(t, _)| **t == *ty) else { continue };
            let path: Arc<str> = Arc::from(format!("{}[{index}].{}", self.path, keys.field));
            let Some(NativeValue::Text(key)) = item.get(&keys.field) else {
                return Err(LiftError::Missing { path });
            };
            let Some((shown, position)) = edit.shown_with(key.trim(), id, object, reader) else {
                if edit.adds(args, key.trim()) {
                    continue;
                }
                return Err(LiftError::BadValue {
                    path,
                    why: format!("there is nothing with the key {key}"),
                });
            };
            if !of.contains(&shown) {
                return Err(LiftError::BadValue { path, why: format!("{key} is the key of a {shown}") });
            }
            if position > 0 && !kinds.contains(&ty) {
                let why = format!("the first of its kind comes first, {key} is another");
                return Err(LiftError::NotSupported { path, why });
            }
            kinds.push(ty);
        }
        Ok(())
    }
}

impl DeviceEdit {
    /// The type of the shown item with a key, and its position in its list.
    fn shown_with(
        &self,
        key: &str,
        id: ObjectId,
        object: &Record,
        reader: &dyn Reader,
    ) -> Option<(Arc<str>, usize)> {
        let NodeKind::List(list) = &self.compiled.node(self.list)?.kind else { return None };
        let walk = Walk::new(id, object, reader, VersionIndex::NEWEST);
        let mut found = None;
        self.compiled.items(list, &walk, &mut |entry, walk| {
            let body = self.compiled.body(entry.body);
            let is = body.and_then(|body| self.compiled.key(list, body, walk)).is_some_and(|k| k == key);
            if is {
                found = Some((entry.place.item.concrete.clone(), walk.frame.index));
            }
            !is
        });
        found
    }

    /// Whether the call adds an item with this key.
    fn adds(&self, args: &dyn NativeArgs, key: &str) -> bool {
        let add = self.ops.iter().filter(|(_, op)| *op == Op::Add).map(|(word, _)| &**word);
        let words: Vec<&str> = add.collect();
        let text = |value| if let Some(NativeValue::Text(text)) = value { text } else { String::new() };
        let changes = args.items(&self.path);
        let added = changes.iter().filter(|change| words.contains(&text(change.get(&self.op)).as_str()));
        added.flat_map(|change| change.items(&self.item)).any(|item| text(item.get("key")).trim() == key)
    }
}

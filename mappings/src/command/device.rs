//! `[command.X.edit."path"]`: changes of a list of structures, whose keys resolve against the list as the object's own rows show it.
//!
//! ```text
//! change ─┬─ add    ─▶ the item's rows read backwards                                     ─▶ Add
//!         ├─ edit   ─▶ the shown item with that key; what differs from what it shows      ─▶ Edit, or nothing
//!         ╰─ remove ─▶ the shown item with that key                                       ─▶ Remove
//! ```
//! A row that can be read backwards reads; `[object.X.read]` adds rows for what is shown by an expression.

use super::{
    LiftError, NativeArgs, NativeValue, Resolve,
    changes::ChangeSlots,
    lift::{file_name, named, native, read_back},
};
use crate::{
    cel::Program,
    lens::{Chain, Class},
    reader::Reader,
    render::{BodyId, Compiled, Entry, Leaf, List, NodeId, NodeKind, Source, ValueKind, Walk},
    schema::{NativeField, NativeType, Primitive, TypeId, VersionIndex},
};
use std::{collections::BTreeMap, sync::Arc};
use union::{Kind, MessageId, ObjectId, Record, Slot, Value};

/// Most changes of one call.
const MOST_CHANGES: usize = 256;

/// One edit, compiled.
#[derive(Debug)]
pub(crate) struct DeviceEdit {
    /// The argument that lists the changes.
    pub path: Arc<str>,
    /// The rows whose list it is, for people.
    pub like: Arc<str>,
    pub at: Arc<str>,
    pub compiled: Arc<Compiled>,
    pub list: NodeId,
    /// The field of a change that says what it does, and its words.
    pub op: Arc<str>,
    pub ops: Vec<(Arc<str>, Op)>,
    /// The field of a change that holds the structure.
    pub item: Arc<str>,
    /// Types that need not be added, with the reason.
    pub given: Vec<(Arc<str>, Arc<str>)>,
    /// Types that cannot change, with the reason.
    pub refused: Vec<(Arc<str>, Arc<str>)>,
    /// By native type.
    pub reads: BTreeMap<Arc<str>, Reads>,
    /// The lists that items may belong to.
    pub lists: Vec<ItemList>,
    pub to: Target,
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Edit,
    Remove,
}

/// A list of the stored object.
#[derive(Debug)]
pub(crate) struct ItemList {
    pub slot: Slot,
    pub name: Arc<str>,
    pub message: MessageId,
    pub width: usize,
    pub id: Slot,
    /// The field of a change that holds such an item.
    pub part: Slot,
    pub fields: Vec<Arc<str>>,
}

/// Where changes go.
#[derive(Debug)]
pub(crate) enum Target {
    /// A list of changes.
    Changes { slot: Slot, message: MessageId, width: usize, change: ChangeSlots },
    /// The lists of a new object.
    New { slot: Slot, message: MessageId, width: usize },
}

/// `[object.X.read]` and `new`.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pub rows: Vec<ReadRow>,
    /// What an item of this type has when it is added.
    pub new: Vec<(Slot, Value)>,
}

/// One row that is only read.
#[derive(Debug)]
pub(crate) struct ReadRow {
    pub path: Arc<str>,
    /// Names and the types they are narrowed to.
    pub segments: Vec<(Arc<str>, Option<Arc<str>>)>,
    pub when: Option<Program>,
    pub form: ReadForm,
    pub text: Arc<str>,
    pub at: Arc<str>,
}

#[derive(Debug)]
pub(crate) enum ReadForm {
    Value { slot: Slot, field: NativeField, chain: Chain },
    Named { slot: Slot, kind: Kind },
    File { pool: Slot, file: Slot, base: Option<Slot> },
    Clear(Vec<Slot>),
}

/// The object that the edit is about.
type Stored<'a> = (ObjectId, &'a Record, &'a dyn Reader);

/// What a structure says of an item.
#[derive(Default)]
struct Said {
    set: Vec<(Slot, Value)>,
    /// Slots that keep what is stored, whatever other rows say.
    same: Vec<Slot>,
    clear: Vec<Slot>,
}

impl Said {
    fn set(&mut self, slot: Slot, value: Value) {
        if !self.same.contains(&slot) && !self.set.iter().any(|(s, _)| *s == slot) {
            self.set.push((slot, value));
        }
    }
}

impl DeviceEdit {
    pub fn needs_stored(&self) -> bool {
        matches!(self.to, Target::Changes { .. })
    }

    /// Reads the changes into the command's record.
    pub fn lift(
        &self,
        args: &dyn NativeArgs,
        ids: &dyn Resolve,
        stored: Option<Stored<'_>>,
        record: &mut Record,
    ) -> Result<(), LiftError> {
        let changes = args.items(&self.path);
        if changes.len() > MOST_CHANGES {
            let why = format!("at most {MOST_CHANGES} changes are taken, there are {}", changes.len());
            return Err(LiftError::BadValue { path: self.path.clone(), why });
        }
        let Some(NodeKind::List(list)) = self.compiled.node(self.list).map(|n| &n.kind) else {
            return Ok(());
        };
        let mut changed: Vec<String> = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let at = format!("{}[{index}]", self.path);
            let op = self.op(change.as_ref(), &at)?;
            let items = change.items(&self.item);
            let missing = || LiftError::Missing { path: Arc::from(format!("{at}.{}", self.item)) };
            let item = items.first().ok_or_else(missing)?.as_ref();
            let within = format!("{at}.{}", self.item);
            match op {
                Op::Add => self.add(list, item, ids, &within, record)?,
                Op::Edit | Op::Remove => {
                    let key = list.key.as_deref().unwrap_or("key");
                    if let Some(NativeValue::Text(text)) = item.get(key) {
                        if changed.contains(&text) {
                            let why = "an item is changed at most once in a call".to_owned();
                            return Err(LiftError::BadValue {
                                path: Arc::from(format!("{within}.{key}")),
                                why,
                            });
                        }
                        changed.push(text);
                    }
                    let stored = stored.filter(|_| self.needs_stored());
                    let stored = stored.ok_or_else(|| LiftError::NoFacts { path: self.path.clone() })?;
                    self.change(list, op, item, ids, stored, (index, &within), record)?;
                }
            }
        }
        Ok(())
    }

    fn op(&self, change: &dyn NativeArgs, at: &str) -> Result<Op, LiftError> {
        let Some(NativeValue::Text(text)) = change.get(&self.op) else { return Ok(Op::Edit) };
        let found = self.ops.iter().find(|(word, _)| **word == *text).map(|(_, op)| *op);
        found.ok_or_else(|| LiftError::BadValue {
            path: Arc::from(format!("{at}.{}", self.op)),
            why: format!("`{text}` is no operation"),
        })
    }

    fn add(
        &self,
        list: &List,
        item: &dyn NativeArgs,
        ids: &dyn Resolve,
        at: &str,
        record: &mut Record,
    ) -> Result<(), LiftError> {
        let ty = item.type_name().unwrap_or_default();
        self.may_change(&ty, at)?;
        if self.given.iter().any(|(name, _)| **name == *ty) {
            return Ok(());
        }
        let entry = list.entries.iter().find(|e| *e.place.item.concrete == *ty && self.list_of(e).is_some());
        let Some((entry, of)) = entry.and_then(|e| Some((e, self.list_of(e)?))) else {
            return Err(LiftError::NotSupported {
                path: Arc::from(at),
                why: format!("a `{ty}` cannot be added"),
            });
        };
        let reads = self.reads.get(&*ty);
        let mut said = Said::default();
        self.read(entry, reads, item, ids, None, at, &mut said)?;
        let mut made = Record::new(of.message, of.width);
        for (slot, value) in reads.iter().flat_map(|r| &r.new) {
            made.set(*slot, value.clone());
        }
        for (slot, value) in said.set {
            made.set(slot, value);
        }
        match &self.to {
            Target::Changes { .. } => self.push(record, Op::Add, of, None, made, &[]),
            Target::New { slot, message, width } => {
                let mut whole = match record.get(*slot) {
                    Value::Record(part) => Record::clone(part),
                    _ => Record::new(*message, *width),
                };
                let mut items = whole.get(of.slot).items().to_vec();
                items.push(Value::record(made));
                whole.set(of.slot, Value::list(items));
                record.set(*slot, Value::record(whole));
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn change(
        &self,
        list: &List,
        op: Op,
        item: &dyn NativeArgs,
        ids: &dyn Resolve,
        (id, object, reader): Stored<'_>,
        (index, at): (usize, &str),
        record: &mut Record,
    ) -> Result<(), LiftError> {
        let key_name = list.key.clone().unwrap_or_else(|| Arc::from("key"));
        let key = match item.get(&key_name) {
            Some(NativeValue::Text(text)) => text.trim().to_owned(),
            _ => return Err(LiftError::Missing { path: Arc::from(format!("{at}.{key_name}")) }),
        };
        let walk = Walk::new(id, object, reader, VersionIndex::NEWEST);
        let mut found: Option<Result<(), LiftError>> = None;
        self.compiled.items(list, &walk, &mut |entry, walk| {
            let body = self.compiled.body(entry.body);
            if body.and_then(|body| self.compiled.key(list, body, walk)).is_none_or(|k| k != key) {
                return true;
            }
            found = Some(self.change_of(entry, op, item, ids, walk, at, record));
            false
        });
        found.unwrap_or(Err(LiftError::NoItem { path: Arc::from(at), index, key }))
    }

    #[allow(clippy::too_many_arguments)]
    fn change_of(
        &self,
        entry: &Entry,
        op: Op,
        item: &dyn NativeArgs,
        ids: &dyn Resolve,
        walk: &Walk<'_>,
        at: &str,
        record: &mut Record,
    ) -> Result<(), LiftError> {
        let shown = &entry.place.item.concrete;
        self.may_change(shown, at)?;
        let Some(of) = self.list_of(entry) else {
            let why = format!("this {shown} cannot be changed");
            return Err(LiftError::NotSupported { path: Arc::from(at), why });
        };
        if let Some(ty) = item.type_name().filter(|ty| op == Op::Edit && **ty != **shown) {
            let why = format!("the item is a {shown}, not a {ty}");
            return Err(LiftError::BadValue { path: Arc::from(at), why });
        }
        let id = walk.frame.item.get(of.id).as_str().map(Arc::from);
        if op == Op::Remove {
            self.push(record, op, of, id, Record::new(of.message, of.width), &[]);
            return Ok(());
        }
        let mut said = Said::default();
        self.read(entry, self.reads.get(shown), item, ids, Some(walk), at, &mut said)?;
        let mut made = Record::new(of.message, of.width);
        said.clear.retain(|slot| {
            !walk.frame.item.get(*slot).is_absent() && !said.set.iter().any(|(set, _)| set == slot)
        });
        for (slot, value) in &said.set {
            made.set(*slot, value.clone());
        }
        if !said.set.is_empty() || !said.clear.is_empty() {
            self.push(record, op, of, id, made, &said.clear);
        }
        Ok(())
    }

    fn may_change(&self, ty: &str, at: &str) -> Result<(), LiftError> {
        match self.refused.iter().find(|(name, _)| **name == *ty) {
            Some((_, why)) => Err(LiftError::NotSupported { path: Arc::from(at), why: why.to_string() }),
            None => Ok(()),
        }
    }

    /// The list that an entry's items come from, if they can be changed.
    fn list_of(&self, entry: &Entry) -> Option<&ItemList> {
        let slot = entry.from.as_ref()?.first()?;
        self.lists.iter().find(|list| list.slot == *slot)
    }

    /// Adds a change to the command.
    fn push(
        &self,
        record: &mut Record,
        what: Op,
        of: &ItemList,
        id: Option<Arc<str>>,
        item: Record,
        cleared: &[Slot],
    ) {
        let Target::Changes { slot, message, width, change: slots } = &self.to else { return };
        let mut change = Record::new(*message, *width);
        change.set(
            slots.op,
            match what {
                Op::Add => slots.add,
                Op::Edit => slots.edit,
                Op::Remove => slots.remove,
            },
        );
        change.set(slots.list, Value::Str(of.name.clone()));
        if let Some(id) = id {
            change.set(slots.key, Value::Str(id));
        }
        if what != Op::Remove {
            change.set(of.part, Value::record(item));
        }
        if !cleared.is_empty() {
            let name = |slot: &Slot| of.fields.get(usize::from(slot.0)).cloned().map(Value::Str);
            change.set(slots.clear, Value::list(cleared.iter().filter_map(name)));
        }
        let mut changes = record.get(*slot).items().to_vec();
        changes.push(Value::record(change));
        record.set(*slot, Value::list(changes));
    }

    /// What the structure says of the item, where it differs from what is shown.
    #[allow(clippy::too_many_arguments)]
    fn read(
        &self,
        entry: &Entry,
        reads: Option<&Reads>,
        item: &dyn NativeArgs,
        ids: &dyn Resolve,
        walk: Option<&Walk<'_>>,
        at: &str,
        said: &mut Said,
    ) -> Result<(), LiftError> {
        for row in reads.iter().flat_map(|r| &r.rows) {
            if let Some(when) = &row.when
                && !walk.is_some_and(|walk| when.holds(&walk.frame))
            {
                continue;
            }
            let shown = walk.and_then(|walk| self.shown(entry.body, &row.segments, walk));
            row.read(item, ids, walk, (at, shown.as_deref()), said)?;
        }
        self.fields(entry.body, item, ids, walk, at, said)
    }

    /// What the stored item shows at a row's place.
    fn shown(
        &self,
        body: BodyId,
        segments: &[(Arc<str>, Option<Arc<str>>)],
        walk: &Walk<'_>,
    ) -> Option<String> {
        let ((name, narrow), rest) = segments.split_first()?;
        let node = self.compiled.node(*self.compiled.body(body)?.by_name.get(name)?)?;
        match (&node.kind, rest) {
            (NodeKind::Leaf(leaf), []) => leaf.text(walk),
            (NodeKind::Struct(variants), rest) => {
                let (_, variant) = self.compiled.variant(variants, walk)?;
                let fits = narrow.as_ref().is_none_or(|narrow| *narrow == variant.place.item.concrete);
                fits.then(|| self.shown(variant.body, rest, walk)).flatten()
            }
            _ => None,
        }
    }

    fn fields(
        &self,
        body: BodyId,
        item: &dyn NativeArgs,
        ids: &dyn Resolve,
        walk: Option<&Walk<'_>>,
        at: &str,
        said: &mut Said,
    ) -> Result<(), LiftError> {
        let nodes = self.compiled.body(body).map_or(&[][..], |b| &b.children);
        for node in nodes.iter().filter_map(|id| self.compiled.node(*id)) {
            let name = &*node.place.field.name;
            match &node.kind {
                NodeKind::Leaf(leaf) if node.class < Class::RenderOnly => {
                    if let (Source::Slot(slot), Some(value)) = (&leaf.source, item.get(name)) {
                        let path: Arc<str> = Arc::from(format!("{at}.{name}"));
                        let field = shown_as(node.place.field.kind, node.list);
                        let given = native(&path, &field, value, ids)?;
                        // A device says nothing by an empty text.
                        if given.as_str() == Some("") {
                            continue;
                        }
                        if walk.is_some_and(|walk| shows(leaf, walk, &given)) {
                            continue;
                        }
                        said.set(*slot, read_back(&path, &leaf.chain, given)?);
                    }
                }
                NodeKind::Struct(variants) => {
                    for part in item.items(name).iter().take(1) {
                        let ty = part.type_name();
                        let fits = |v: &&crate::render::Variant| {
                            ty.as_ref().is_none_or(|ty| **ty == *v.place.item.concrete)
                        };
                        if let Some(variant) = variants.iter().find(fits) {
                            let at = format!("{at}.{name}");
                            self.fields(variant.body, part.as_ref(), ids, walk, &at, said)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A field of the kind that the row writes.
fn shown_as(kind: ValueKind, list: bool) -> NativeField {
    let ty = match kind {
        ValueKind::Primitive(p) => NativeType::Primitive(p),
        ValueKind::Ref => NativeType::Ref(TypeId(0)),
        ValueKind::Enum | ValueKind::Data => NativeType::Primitive(Primitive::String),
    };
    NativeField { name: Arc::from(""), ty, optional: true, list, since: VersionIndex::default() }
}

/// Whether the stored item shows the value already.
fn shows(leaf: &Leaf, walk: &Walk<'_>, given: &Value) -> bool {
    leaf.chain.show(leaf.raw(walk), walk.frame.index).is_ok_and(|shown| *shown == *given)
}

impl ReadRow {
    fn read(
        &self,
        item: &dyn NativeArgs,
        ids: &dyn Resolve,
        walk: Option<&Walk<'_>>,
        (at, shown): (&str, Option<&str>),
        said: &mut Said,
    ) -> Result<(), LiftError> {
        let mut result = Ok(());
        descend(item, &self.segments, &mut |parent, name| {
            let given = parent.get(name);
            match (&self.form, given, shown) {
                (ReadForm::Clear(_), ..) => {}
                (form, Some(NativeValue::Text(text)), Some(shown)) if text == shown => {
                    match form {
                        ReadForm::File { pool, file, .. } => said.same.extend([*pool, *file]),
                        ReadForm::Value { slot, .. } => said.same.push(*slot),
                        _ => {}
                    }
                    return;
                }
                _ => {}
            }
            result = self.value(parent, name, ids, walk, at, said);
        });
        result
    }

    fn value(
        &self,
        parent: &dyn NativeArgs,
        name: &str,
        ids: &dyn Resolve,
        walk: Option<&Walk<'_>>,
        at: &str,
        said: &mut Said,
    ) -> Result<(), LiftError> {
        let path: Arc<str> = Arc::from(format!("{at}.{}", self.path));
        let stored = |slot: Slot| walk.map_or(&Value::Absent, |walk| walk.frame.item.get(slot));
        let text = || match parent.get(name) {
            Some(NativeValue::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        match &self.form {
            ReadForm::Value { slot, field, chain } => {
                let Some(value) = parent.get(name) else { return Ok(()) };
                let given = native(&path, field, value, ids)?;
                said.set(*slot, read_back(&path, chain, given)?);
            }
            ReadForm::Named { slot, kind } => {
                if let Some(name) = text() {
                    let found = named(ids, *kind, &name, &path)?;
                    if stored(*slot).as_ref_id() != Some(found) {
                        said.set(*slot, Value::Ref(found));
                    }
                }
            }
            ReadForm::File { pool, file, base } => {
                let Some(text) = text() else { return Ok(()) };
                let (found, rest) = file_name(ids, &text, &path)?;
                let is = stored(*file).as_str().unwrap_or("");
                let home = base.zip(found.zip(walk)).and_then(|(base, (pool, walk))| {
                    walk.frame.reader.object(pool)?.get(base).as_str().map(str::to_owned)
                });
                let same = is == rest
                    || home.is_some_and(|home| {
                        is.strip_prefix(home.trim_end_matches('/')).and_then(|r| r.strip_prefix('/'))
                            == Some(rest)
                    });
                if same && !rest.is_empty() && (found.is_none() || stored(*pool).as_ref_id() == found) {
                    said.same.extend([*pool, *file]);
                } else if !rest.is_empty() {
                    said.set(*file, Value::str(rest));
                    match found {
                        Some(found) => said.set(*pool, Value::Ref(found)),
                        None => {
                            said.same.push(*pool);
                            said.clear.push(*pool);
                        }
                    }
                }
            }
            ReadForm::Clear(slots) => {
                if !parent.items(name).is_empty() || parent.get(name).is_some() {
                    said.clear.extend(slots);
                }
            }
        }
        Ok(())
    }
}

/// Follows the names, each of the type it is narrowed to, and calls with what holds the last one.
fn descend(
    args: &dyn NativeArgs,
    segments: &[(Arc<str>, Option<Arc<str>>)],
    found: &mut dyn FnMut(&dyn NativeArgs, &str),
) {
    match segments {
        [] => {}
        [(name, None)] => found(args, name),
        [(name, narrow), rest @ ..] => {
            for part in args.items(name).iter().take(1) {
                let ty = part.type_name();
                if narrow.as_ref().is_some_and(|narrow| ty.as_ref().is_none_or(|ty| **ty != **narrow)) {
                    continue;
                }
                match rest {
                    [] => found(args, name),
                    rest => descend(part.as_ref(), rest, found),
                }
            }
        }
    }
}

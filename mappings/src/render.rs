//! Compiled rows at work: from a record's slots to native values, in the order of the native schema.
//!
//! ```text
//! body (a structure's fields in order) ─▶ node ─┬─ leaf: source ▶ lenses ▶ one Emit call
//!                                               ├─ struct: begin, the variant's body, end; rolled back when nothing in it is set
//!                                               └─ list: for each entry and item, its body
//! ```
//! No allocation a property on the plain paths: slots and enumeration texts are borrowed.
//!
//! Limits: structures nest 48 deep (snapshot trees); deeper parts are left out and reported.

use crate::{
    cel::{Frame, Path, Program},
    lens::{Chain, Class, EnumTable, Lens},
    reader::{Gap, NativeRef, Reader},
    schema::{Primitive, VersionIndex},
};
use rustc_hash::FxHashMap;
use std::{borrow::Cow, sync::Arc};
use union::{Kind, ObjectId, Record, Slot, SlotSet, Value};

mod list;

/// How deep structures nest in what is shown.
const MAX_DEPTH: usize = 48;

/// Where a value stands in what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The value of a property that was asked for.
    Property,
    /// All items of a list that was asked for; `concrete` names the items' declared type.
    Array,
    /// One of those items.
    Item,
    /// A field of a structure; of a list field each item.
    Field,
}

/// What kind of thing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// A simple value.
    Primitive(Primitive),
    /// An enumeration's text.
    Enum,
    /// A structure.
    Data,
    /// A reference.
    Ref,
}

/// Everything the wire needs to know of a place where a value may be written; fixed when the bundle is loaded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldMeta {
    /// The field's wire name; for an item the declared type's name.
    pub name: Arc<str>,
    /// The wire name of the type that is written here.
    pub concrete: Arc<str>,
    /// What kind of thing that is.
    pub kind: ValueKind,
    /// Where it stands.
    pub role: Role,
    /// The reader cannot know the type from the schema: it must be told.
    pub typed: bool,
    /// Its place in [`crate::Protocol::fields`]: the wire's own tables are indexed by it.
    pub index: u32,
}

/// Receives native values in schema order. `begin`/`end` enclose structures and arrays; the other calls write one whole value each.
pub trait Emit {
    /// A structure or array begins.
    fn begin(&mut self, f: &FieldMeta);
    /// It ends.
    fn end(&mut self, f: &FieldMeta);
    /// A truth value.
    fn bool(&mut self, f: &FieldMeta, v: bool);
    /// An integer.
    fn int(&mut self, f: &FieldMeta, v: i64);
    /// A real number.
    fn float(&mut self, f: &FieldMeta, v: f64);
    /// Text, or an enumeration's text.
    fn text(&mut self, f: &FieldMeta, v: &str);
    /// A moment, Unix milliseconds.
    fn time(&mut self, f: &FieldMeta, ms: i64);
    /// Bytes.
    fn bytes(&mut self, f: &FieldMeta, v: &[u8]);
    /// A reference.
    fn reference(&mut self, f: &FieldMeta, r: &NativeRef);
    /// A point to go back to.
    fn mark(&self) -> usize;
    /// Forgets everything since the mark.
    fn rollback(&mut self, mark: usize);
}

/// What a property's value depends on, in the slots of the object that shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deps {
    /// Own slots.
    pub own: SlotSet,
    /// Objects of a kind whose slot names this object.
    pub reverse: Vec<(Kind, Slot)>,
    /// Slots of the objects that an own slot names. The own slot may be a list whose items hold the reference.
    pub hops: Vec<(Slot, Kind, SlotSet)>,
}

impl Deps {
    /// Adds everything `other` depends on.
    pub fn add(&mut self, other: &Deps) {
        self.own = self.own.union(other.own);
        for reverse in &other.reverse {
            if !self.reverse.contains(reverse) {
                self.reverse.push(*reverse);
            }
        }
        for (slot, kind, slots) in &other.hops {
            match self.hops.iter_mut().find(|h| (h.0, h.1) == (*slot, *kind)) {
                Some(known) => known.2 = known.2.union(*slots),
                None => self.hops.push((*slot, *kind, *slots)),
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BodyId(pub u32);

/// The metas of one value, by role.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub field: Arc<FieldMeta>,
    pub property: Arc<FieldMeta>,
    pub item: Arc<FieldMeta>,
}

impl Place {
    fn meta(&self, role: Role) -> &FieldMeta {
        match role {
            Role::Field => &self.field,
            Role::Item => &self.item,
            Role::Property | Role::Array => &self.property,
        }
    }
}

/// One property of a structure.
#[derive(Debug)]
pub(crate) struct Node {
    pub since: VersionIndex,
    pub required: bool,
    pub list: bool,
    pub array: Option<Arc<FieldMeta>>,
    pub place: Place,
    pub kind: NodeKind,
    pub deps: Deps,
    /// Path from the object or item.
    pub path: Arc<str>,
    /// The row as written, and `file:line`.
    pub row: Arc<str>,
    pub at: Arc<str>,
    pub class: Class,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Leaf(Leaf),
    Struct(Vec<Variant>),
    List(List),
}

/// One type a structure may have.
#[derive(Debug)]
pub(crate) struct Variant {
    pub place: Place,
    pub since: VersionIndex,
    pub when: Option<Program>,
    pub body: BodyId,
}

#[derive(Debug)]
pub(crate) struct List {
    pub entries: Vec<Entry>,
    /// The field of the items that keyed paths name.
    pub key: Option<Arc<str>>,
}

/// One kind of item.
#[derive(Debug)]
pub(crate) struct Entry {
    pub place: Place,
    pub since: VersionIndex,
    pub from: Option<Path>,
    /// Of a list of an enumeration: the value that this entry shows.
    pub is: Option<i64>,
    pub when: Option<Program>,
    pub body: BodyId,
}

/// A structure's fields.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pub children: Vec<NodeId>,
    pub by_name: FxHashMap<Arc<str>, NodeId>,
    pub constant: bool,
}

#[derive(Debug)]
pub(crate) struct Leaf {
    pub source: Source,
    pub chain: Chain,
    pub out: Out,
}

/// Where a leaf's value comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Slot(Slot),
    Item(Path),
    Parent(Path),
    /// The reference of the object (`parent`), or of the item where it is an object.
    Id {
        parent: bool,
    },
    Hop {
        parent: bool,
        from: Path,
        to: Path,
    },
    Const(Value),
    /// By view.
    Views(Vec<(Arc<str>, Value)>),
    Cel(Box<Program>),
    Reverse(Vec<(Kind, Slot)>),
}

/// How a leaf's value is written.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    Bool,
    Int(i64, i64),
    Float,
    Text,
    Time,
    Bytes,
    /// An object, as a reference.
    Ref,
    /// A native id, as a reference to this type; `Type:id` names another.
    RefText(Arc<str>),
    /// An object, as its native id.
    Id,
    /// By what it is.
    Any,
}

/// Whether something was written: nothing, only constants, or facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shown {
    Nothing,
    Constant,
    Facts,
}

/// All compiled bodies of a protocol.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    pub nodes: Vec<Node>,
    pub bodies: Vec<Body>,
    pub metas: Vec<Arc<FieldMeta>>,
}

/// What one rendering walks over.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub frame: Frame<'a>,
    pub version: VersionIndex,
    pub depth: usize,
}

impl<'a> Walk<'a> {
    pub fn new(id: ObjectId, record: &'a Record, reader: &'a dyn Reader, version: VersionIndex) -> Walk<'a> {
        Walk { frame: Frame::object(id, record, reader), version, depth: 0 }
    }

    /// Over one item of a list.
    pub fn item(&self, item: &'a Record, index: usize) -> Walk<'a> {
        Walk { frame: Frame { item, index, ..self.frame }, depth: self.depth + 1, ..*self }
    }
}

impl Compiled {
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    pub fn body(&self, id: BodyId) -> Option<&Body> {
        self.bodies.get(id.0 as usize)
    }

    /// Writes the fields of a structure.
    pub fn fields<'a>(&'a self, body: BodyId, walk: &Walk<'a>, out: &mut dyn Emit) -> Shown {
        let mut shown = Shown::Nothing;
        if walk.depth > MAX_DEPTH {
            walk.frame
                .reader
                .gap(Gap { path: Arc::from(""), why: format!("nested deeper than {MAX_DEPTH}") });
            return shown;
        }
        for child in self.body(body).map_or(&[][..], |b| &b.children) {
            shown = shown.max(self.show(*child, Role::Field, walk, out));
        }
        shown
    }

    /// Writes one node.
    pub fn show<'a>(&'a self, id: NodeId, role: Role, walk: &Walk<'a>, out: &mut dyn Emit) -> Shown {
        let Some(node) = self.node(id).filter(|n| n.since <= walk.version) else { return Shown::Nothing };
        match &node.kind {
            NodeKind::Leaf(leaf) => self.leaf(node, leaf, role, walk, out),
            NodeKind::Struct(variants) => self.structure(node, variants, role, walk, out),
            NodeKind::List(list) => self.list(node, list, role, walk, out),
        }
    }

    /// The variant that the object's facts choose.
    pub fn variant<'a, 'n>(&'a self, variants: &'n [Variant], walk: &Walk<'a>) -> Option<(usize, &'n Variant)>
    where
        'n: 'a,
    {
        let fits =
            |v: &&'n Variant| v.since <= walk.version && v.when.as_ref().is_none_or(|w| w.holds(&walk.frame));
        variants.iter().enumerate().find(|(_, v)| fits(v))
    }

    fn structure<'a>(
        &'a self,
        node: &'a Node,
        variants: &'a [Variant],
        role: Role,
        walk: &Walk<'a>,
        out: &mut dyn Emit,
    ) -> Shown {
        let Some((_, variant)) = self.variant(variants, walk) else { return Shown::Nothing };
        let meta = variant.place.meta(role);
        let mark = out.mark();
        out.begin(meta);
        let deeper = Walk { depth: walk.depth + 1, ..*walk };
        let shown = self.fields(variant.body, &deeper, out);
        let stays = match shown {
            Shown::Facts => true,
            _ if variant.when.is_some() || node.required => true,
            Shown::Constant => self.body(variant.body).is_some_and(|b| b.constant),
            Shown::Nothing => false,
        };
        if !stays {
            out.rollback(mark);
            return Shown::Nothing;
        }
        out.end(meta);
        if variant.when.is_some() { Shown::Facts } else { shown.max(Shown::Constant) }
    }

    fn leaf<'a>(
        &'a self,
        node: &'a Node,
        leaf: &'a Leaf,
        role: Role,
        walk: &Walk<'a>,
        out: &mut dyn Emit,
    ) -> Shown {
        if let (Source::Slot(slot), Some(table)) = (&leaf.source, leaf.plain_enum())
            && let Some(text) = walk.frame.item.get(*slot).as_int().and_then(|n| table.text(n))
            && !node.list
        {
            out.text(node.place.meta(role), text);
            return Shown::Facts;
        }
        if let (Source::Slot(slot), [], false) = (&leaf.source, leaf.chain.lenses.as_slice(), node.list) {
            let wrote = leaf.write(node, walk.frame.item.get(*slot), node.place.meta(role), walk, out);
            return if wrote { Shown::Facts } else { Shown::Nothing };
        }
        let constant = matches!(leaf.source, Source::Const(_) | Source::Views(_));
        let raw = leaf.raw(walk);
        let shown = if constant || raw.is_absent() { Shown::Constant } else { Shown::Facts };
        let value = leaf.value(raw, walk, &node.path);
        if !node.list {
            let one = match &*value {
                Value::List(items) => items.first(),
                one => Some(one),
            };
            let wrote = one.is_some_and(|v| leaf.write(node, v, node.place.meta(role), walk, out));
            return if wrote { shown } else { Shown::Nothing };
        }
        self.leaf_list(node, leaf, &value, role, walk, out, shown)
    }
}

impl Leaf {
    /// The enumeration of a chain that is nothing else, but for a default: its texts are borrowed.
    fn plain_enum(&self) -> Option<&EnumTable> {
        match self.chain.lenses.as_slice() {
            [Lens::Enum(table)] | [Lens::Enum(table), Lens::Default(_)] => Some(table),
            _ => None,
        }
    }

    /// The union value before the lenses.
    pub fn raw<'a>(&'a self, walk: &Walk<'a>) -> Cow<'a, Value> {
        let frame = &walk.frame;
        match &self.source {
            Source::Slot(slot) => Cow::Borrowed(frame.item.get(*slot)),
            Source::Item(path) => Cow::Borrowed(crate::cel::walk(frame.item, path)),
            Source::Parent(path) => Cow::Borrowed(crate::cel::walk(frame.object, path)),
            Source::Id { parent } => Cow::Owned(Value::Ref(if *parent { frame.id } else { frame.own })),
            Source::Hop { parent, from, to } => {
                let record = if *parent { frame.object } else { frame.item };
                let other = crate::cel::walk(record, from).as_ref_id().and_then(|id| frame.reader.object(id));
                Cow::Owned(other.map_or(Value::Absent, |other| crate::cel::walk(&other, to).clone()))
            }
            Source::Const(value) => Cow::Borrowed(value),
            Source::Views(views) => {
                let view = frame.reader.view();
                views
                    .iter()
                    .find(|(v, _)| &**v == view)
                    .map_or(Cow::Owned(Value::Absent), |(_, v)| Cow::Borrowed(v))
            }
            Source::Cel(program) => program.eval(frame),
            Source::Reverse(sources) => {
                let mut ids = Vec::new();
                for (kind, slot) in sources {
                    frame.reader.referring(*kind, *slot, frame.id, &mut ids);
                }
                Cow::Owned(Value::list(ids.into_iter().map(Value::Ref)))
            }
        }
    }

    /// The native value. A value that a lens does not know is a gap and counts as unset from there on, so that a default still holds.
    fn value<'a>(&'a self, raw: Cow<'a, Value>, walk: &Walk<'a>, path: &Arc<str>) -> Cow<'a, Value> {
        let mut value = raw;
        for lens in &self.chain.lenses {
            value = lens.show(value, walk.frame.index).unwrap_or_else(|why| {
                walk.frame.reader.gap(Gap { path: path.clone(), why });
                Cow::Owned(Value::Absent)
            });
        }
        value
    }

    /// The native value as text, for keys and tests.
    pub fn text(&self, walk: &Walk<'_>) -> Option<String> {
        match &*self.chain.show(self.raw(walk), walk.frame.index).ok()? {
            Value::Int(n) => Some(n.to_string()),
            Value::Str(text) => Some(text.to_string()),
            Value::Bool(b) => Some(b.to_string()),
            Value::Ref(id) => walk.frame.reader.native_ref(*id).map(|r| r.id.to_string()),
            _ => None,
        }
    }

    /// Writes one value; `false`: it could not be.
    fn write(&self, node: &Node, value: &Value, f: &FieldMeta, walk: &Walk<'_>, out: &mut dyn Emit) -> bool {
        let reader = walk.frame.reader;
        match (&self.out, value) {
            (_, Value::Absent) => return false,
            (Out::Bool | Out::Any, Value::Bool(v)) => out.bool(f, *v),
            (Out::Int(least, most), Value::Int(v)) if v >= least && v <= most => out.int(f, *v),
            (Out::Any, Value::Int(v)) if f.kind == ValueKind::Primitive(Primitive::DateTime) => {
                out.time(f, *v)
            }
            (Out::Any, Value::Int(v)) => out.int(f, *v),
            (Out::Float | Out::Any, Value::Float(v)) => out.float(f, *v),
            (Out::Float, Value::Int(v)) => out.float(f, real(*v)),
            (Out::Text | Out::Any, Value::Str(v)) => out.text(f, v),
            (Out::Time, Value::Int(v)) => out.time(f, *v),
            (Out::Bytes | Out::Any, Value::Bytes(v)) => out.bytes(f, v),
            (Out::Ref | Out::Any, Value::Ref(id)) => match reader.native_ref(*id) {
                Some(native) => out.reference(f, &native),
                None => return false,
            },
            (Out::Id, Value::Ref(id)) => match reader.native_ref(*id) {
                Some(native) => out.text(f, &native.id),
                None => return false,
            },
            (Out::RefText(ty), Value::Str(text)) => {
                let other =
                    text.split_once(':').filter(|(ty, _)| ty.starts_with(|c: char| c.is_ascii_uppercase()));
                let native = match other {
                    Some((ty, id)) => NativeRef { ty: Arc::from(ty), id: Arc::from(id) },
                    None => NativeRef { ty: ty.clone(), id: text.clone() },
                };
                out.reference(f, &native);
            }
            (_, other) => {
                let why = format!("{other:?} does not fit {}", f.concrete);
                reader.gap(Gap { path: node.path.clone(), why });
                return false;
            }
        }
        true
    }
}

#[allow(clippy::cast_precision_loss)]
fn real(n: i64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests;

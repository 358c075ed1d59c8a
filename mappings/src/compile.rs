//! From rows as written to bodies, nodes and leaves; every row is checked against both schemas on the way.
//!
//! ```text
//! rows of a type ── grouped by the first name of their paths, in schema order ──▶ a body
//!   one name left  ─▶ leaf (source.rs) or list (lists.rs)
//!   more names     ─▶ structure, a variant for each subtype that a path names (structs.rs)
//! ```

use crate::{
    cel::{Program, Reads, Scope},
    lens::{Class, Env, split},
    render::{
        Body, BodyId, Compiled, Deps, FieldMeta, Node, NodeId, NodeKind, Place, Role, Source, ValueKind,
    },
    report::{Findings, Span, did_you_mean},
    schema::{NativeField, NativeType, TypeDef, TypeId, TypeKind},
    table::{Form, RawObject, RawRow},
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::BTreeMap, sync::Arc};
use union::{Kind, MessageId, Slot, SlotSet};

mod lists;
mod source;
mod structs;
mod writers;

pub(crate) use source::union_path;

/// Most names in a native path.
const MAX_NAMES: usize = 32;

/// What is known of a compiled row, for people.
#[derive(Clone, Debug)]
pub struct RowInfo {
    /// The native path.
    pub path: Arc<str>,
    /// The row as written.
    pub text: Arc<str>,
    /// `file:line`.
    pub at: Arc<str>,
    /// What it promises.
    pub class: Class,
    /// The union field it writes, if it does.
    pub writes: Option<Arc<str>>,
    pub(crate) node: NodeId,
}

/// One name of a native path.
#[derive(Clone, Debug)]
struct Segment {
    name: Arc<str>,
    narrow: Option<Arc<str>>,
}

/// A row and the part of its path that is still to go.
#[derive(Clone)]
struct Pending<'a> {
    row: &'a RawRow,
    segments: Arc<[Segment]>,
    at: usize,
}

impl Pending<'_> {
    fn head(&self) -> Option<&Segment> {
        self.segments.get(self.at)
    }

    fn last(&self) -> bool {
        self.at + 1 == self.segments.len()
    }

    fn deeper(&self) -> Self {
        Pending { at: self.at + 1, ..self.clone() }
    }
}

/// Whose rows these are.
#[derive(Clone, Debug)]
struct Stand {
    /// The message of the record the rows read.
    item: MessageId,
    /// The message of the object it belongs to.
    object: MessageId,
    /// The object's slot that holds the item.
    slot: Option<Slot>,
    /// In the rows of a list's item.
    inside: bool,
    /// The item is an object of this kind that the slot names.
    other: Option<Kind>,
}

impl Stand {
    fn scope(&self) -> Scope {
        if self.inside { Scope::item(self.item, self.object) } else { Scope::object(self.item) }
    }

    /// What an expression reads, in slots of the object.
    fn deps(&self, reads: &Reads) -> Deps {
        let mut deps = Deps { own: reads.object, ..Deps::default() };
        match self.slot {
            Some(_) if reads.item.is_empty() => {}
            Some(slot) => {
                deps.own.insert(slot);
                deps.hops.extend(self.other.map(|kind| (slot, kind, reads.item)));
            }
            None => deps.own = deps.own.union(reads.item),
        }
        for (root, slot, kind, slots) in &reads.hops {
            let from = if *root == crate::cel::Root::Item { self.slot.unwrap_or(*slot) } else { *slot };
            deps.add(&Deps { hops: vec![(from, *kind, *slots)], ..Deps::default() });
        }
        deps
    }
}

/// The conditions of `[object.X.when]` and which of them were met in the rows.
struct Whens<'a> {
    raw: &'a RawObject,
    used: FxHashSet<Arc<str>>,
}

type BodyKey = (TypeId, MessageId, MessageId, Option<Slot>, bool, usize);

pub(crate) struct Compiler<'a> {
    pub env: Env<'a>,
    pub objects: &'a BTreeMap<Arc<str>, RawObject>,
    pub findings: &'a mut Findings,
    pub compiled: Compiled,
    /// Rows by table.
    pub rows: BTreeMap<Arc<str>, Vec<RowInfo>>,
    cache: FxHashMap<BodyKey, BodyId>,
    body_deps: Vec<Deps>,
    metas: FxHashMap<FieldMeta, Arc<FieldMeta>>,
}

/// A compiled `[object.X]`.
pub(crate) struct CompiledObject {
    pub body: BodyId,
    pub ty: TypeId,
    pub message: MessageId,
    pub when: Option<Program>,
}

impl<'a> Compiler<'a> {
    pub fn new(
        env: Env<'a>,
        objects: &'a BTreeMap<Arc<str>, RawObject>,
        findings: &'a mut Findings,
    ) -> Compiler<'a> {
        Compiler {
            env,
            objects,
            findings,
            compiled: Compiled::default(),
            rows: BTreeMap::new(),
            cache: FxHashMap::default(),
            body_deps: Vec::new(),
            metas: FxHashMap::default(),
        }
    }

    /// Compiles one object table as an object of its own. `quietly`: errors are not the table's fault, as it is used inside others.
    pub fn object(&mut self, raw: &'a RawObject, quietly: bool) -> Option<CompiledObject> {
        let ty = self.env.native.named(&raw.name)?;
        let message = self.message(raw)?;
        let mut scratch = self.findings.scratch();
        if quietly {
            std::mem::swap(self.findings, &mut scratch);
        }
        let place = Stand { item: message, object: message, slot: None, inside: false, other: None };
        let body = self.table(ty, raw, &place);
        let when = raw.when.as_ref().and_then(|(text, span)| {
            crate::cel::condition(text, *span, &Scope::object(message), self.env.union, self.findings)
        });
        let failed = quietly && self.findings.failed();
        if quietly {
            std::mem::swap(self.findings, &mut scratch);
        }
        (!failed).then_some(CompiledObject { body, ty, message, when })
    }

    fn message(&mut self, raw: &RawObject) -> Option<MessageId> {
        let (name, span) = raw.union.as_ref()?;
        let found = self.env.union.message(name).map(|m| m.id);
        if found.is_none() {
            let help = did_you_mean(name, self.env.union.messages().iter().map(|m| m.name.as_str()));
            self.findings.error_help(*span, format!("the union has no message `{name}`"), help);
        }
        found
    }

    /// The rows of a table: its own, then those inherited from abstract tables above it.
    fn effective(&self, raw: &'a RawObject) -> Vec<&'a RawRow> {
        let mut rows: Vec<&RawRow> = raw.rows.iter().collect();
        let Some(ty) = self.env.native.named(&raw.name) else { return rows };
        for above in self.env.native.chain(ty).skip(1) {
            let table = self.objects.get(self.env.native.name(above)).filter(|t| t.is_abstract);
            for row in table.map_or(&[][..], |t| &t.rows) {
                if !rows.iter().any(|r| r.path == row.path) {
                    rows.push(row);
                }
            }
        }
        rows
    }

    /// The body of a table's rows at a place; made once.
    fn table(&mut self, ty: TypeId, raw: &'a RawObject, place: &Stand) -> BodyId {
        let key = (ty, place.item, place.object, place.slot, place.inside, std::ptr::from_ref(raw) as usize);
        if let Some(known) = self.cache.get(&key) {
            return *known;
        }
        let rows = self.effective(raw);
        // Inherited rows first: where both write, the own row is the one to change.
        let mut by_age = rows.clone();
        by_age.rotate_left(raw.rows.len());
        self.check_writers(&raw.name, &by_age);
        let mut whens = Whens { raw, used: FxHashSet::default() };
        let pending = rows.iter().filter_map(|row| self.pending(row)).collect();
        let body = self.reserve();
        self.cache.insert(key, body);
        self.fill(body, ty, pending, place, &mut whens, "", raw.span, Some(&raw.name));
        for ((path, span), _) in raw.whens.iter().filter(|((path, _), _)| !whens.used.contains(path)) {
            let help = Some(
                "a condition names a structure as the rows do, for example `info:LocalDatastoreInfo`"
                    .to_owned(),
            );
            self.findings.error_help(*span, format!("no row of {} begins with `{path}`", raw.name), help);
        }
        body
    }

    fn pending(&mut self, row: &'a RawRow) -> Option<Pending<'a>> {
        let segments: Vec<Segment> = row
            .path
            .split('.')
            .map(|part| match part.split_once(':') {
                Some((name, narrow)) => Segment { name: Arc::from(name), narrow: Some(Arc::from(narrow)) },
                None => Segment { name: Arc::from(part), narrow: None },
            })
            .collect();
        if segments.len() > MAX_NAMES {
            self.findings.error(row.path_span, format!("a native path has at most {MAX_NAMES} names"));
            return None;
        }
        if segments.iter().any(|s| s.name.is_empty()) {
            let help = Some("names with dots between them, `config.hardware.memoryMB`".to_owned());
            self.findings.error_help(row.path_span, format!("`{}` is not a native path", row.path), help);
            return None;
        }
        Some(Pending { row, segments: Arc::from(segments), at: 0 })
    }

    fn reserve(&mut self) -> BodyId {
        self.compiled.bodies.push(Body::default());
        self.body_deps.push(Deps::default());
        BodyId(u32::try_from(self.compiled.bodies.len() - 1).unwrap_or(u32::MAX))
    }

    /// Compiles rows into a body, in the order of the native type.
    #[allow(clippy::too_many_arguments)]
    fn fill(
        &mut self,
        body: BodyId,
        ty: TypeId,
        mut rows: Vec<Pending<'a>>,
        place: &Stand,
        whens: &mut Whens<'a>,
        prefix: &str,
        span: Span,
        table: Option<&Arc<str>>,
    ) {
        let Some(def) = self.env.native.get(ty) else { return };
        let mut done = Body { constant: true, ..Body::default() };
        let mut deps = Deps::default();
        let wild: Vec<Pending<'a>> =
            rows.extract_if(.., |p| p.head().is_some_and(|h| &*h.name == "*")).collect();
        for field in &def.fields {
            let mut group: Vec<Pending<'a>> =
                rows.extract_if(.., |p| p.head().is_some_and(|h| h.name == field.name)).collect();
            if group.is_empty() && !field.optional && !field.list {
                group.extend(wild.iter().filter(|w| self.fits(w, field)).cloned());
            }
            if group.is_empty() {
                if !field.optional && !field.list && def.kind != TypeKind::Managed {
                    let message = format!(
                        "{} requires `{}` ({}); no row gives it",
                        def.name,
                        field.name,
                        self.env.native.describe(field)
                    );
                    self.findings.error(span, message);
                }
                continue;
            }
            let path = join(prefix, &field.name);
            let Some(node) = self.group(field, group, place, whens, &path) else { continue };
            deps.add(&self.node_deps(node));
            done.constant &= self.is_constant(node);
            done.children.push(node);
            done.by_name.insert(field.name.clone(), node);
        }
        for row in rows {
            self.unknown_property(def, &row);
            // The other side is checked all the same, so that one run says everything.
            if let Form::Field { text, span, .. } = &row.row.form {
                self.source(&split(text).0, *span, place);
            }
        }
        if let Some(slot) = self.compiled.bodies.get_mut(body.0 as usize) {
            *slot = done;
        }
        if let Some(slot) = self.body_deps.get_mut(body.0 as usize) {
            *slot = deps;
        }
        if let Some(table) = table {
            self.note_rows(table, body);
        }
    }

    /// Whether a `*` row may stand for the field.
    fn fits(&self, row: &Pending<'_>, field: &NativeField) -> bool {
        let Form::Const(item) = &row.row.form else { return false };
        row.last() && crate::lens::constant(item, field, &self.env).is_ok()
    }

    /// All rows that begin with one field.
    fn group(
        &mut self,
        field: &NativeField,
        group: Vec<Pending<'a>>,
        place: &Stand,
        whens: &mut Whens<'a>,
        path: &str,
    ) -> Option<NodeId> {
        let (ends, deeper): (Vec<_>, Vec<_>) = group.into_iter().partition(Pending::last);
        if let (Some(end), Some(below)) = (ends.first(), deeper.first()) {
            let message = format!(
                "`{}` has a row of its own, and so has `{}`: one of them must go",
                end.row.path, below.row.path
            );
            self.findings.error(below.row.path_span, message);
            return None;
        }
        match ends.first() {
            None => self.structure(field, deeper, place, whens, path),
            Some(end) => {
                if let Some(Segment { narrow: Some(narrow), .. }) = end.head() {
                    let message = format!(
                        "`:{narrow}` narrows a structure whose fields have rows; `{path}` is a row itself"
                    );
                    self.findings.error(end.row.path_span, message);
                }
                self.end(field, end.row, place, path)
            }
        }
    }

    fn unknown_property(&mut self, def: &TypeDef, row: &Pending<'_>) {
        let name = row.head().map(|h| h.name.clone()).unwrap_or_default();
        let mut help = did_you_mean(&name, def.fields.iter().map(|f| &*f.name));
        if let Some(ty) = self.env.native.named(&def.name) {
            let heirs = self.env.native.family(ty);
            let heir = heirs
                .iter()
                .skip(1)
                .find(|t| self.env.native.get(**t).is_some_and(|d| d.field(&name).is_some()));
            if let Some(heir) = heir {
                let below = self.env.native.name(*heir);
                help = Some(format!("its subtype {below} has: narrow the path with `:{below}`"));
            }
        }
        self.findings.error_help(
            row.row.path_span,
            format!("native type {} has no property `{name}`", def.name),
            help,
        );
    }

    fn node_deps(&self, node: NodeId) -> Deps {
        self.compiled.node(node).map(|n| n.deps.clone()).unwrap_or_default()
    }

    fn is_constant(&self, node: NodeId) -> bool {
        let constant = |body: BodyId| self.compiled.body(body).is_some_and(|b| b.constant);
        match self.compiled.node(node).map(|n| &n.kind) {
            Some(NodeKind::Leaf(leaf)) => matches!(leaf.source, Source::Const(_) | Source::Views(_)),
            Some(NodeKind::Struct(variants)) => variants.iter().all(|v| v.when.is_none() && constant(v.body)),
            Some(NodeKind::List(list)) => list.entries.iter().all(|e| e.from.is_none() && constant(e.body)),
            None => true,
        }
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.compiled.nodes.push(node);
        NodeId(u32::try_from(self.compiled.nodes.len() - 1).unwrap_or(u32::MAX))
    }

    /// The metas of a value declared by `field` and written as `concrete`.
    fn place(&mut self, field: &NativeField, concrete: &Arc<str>, kind: ValueKind) -> Place {
        let declared = self.declared(field);
        let polymorphic = match field.ty {
            NativeType::Data(id) => self.env.native.is_polymorphic(id) || *declared != **concrete,
            NativeType::Primitive(crate::schema::Primitive::AnyType) => true,
            _ => false,
        };
        Place {
            field: self.meta(field.name.clone(), concrete, kind, Role::Field, polymorphic),
            property: self.meta(field.name.clone(), concrete, kind, Role::Property, true),
            item: self.meta(declared, concrete, kind, Role::Item, true),
        }
    }

    /// The meta around a list that was asked for.
    fn array(&mut self, field: &NativeField, kind: ValueKind) -> Option<Arc<FieldMeta>> {
        let declared = self.declared(field);
        field.list.then(|| self.meta(field.name.clone(), &declared, kind, Role::Array, true))
    }

    /// The wire name of the field's declared type.
    fn declared(&self, field: &NativeField) -> Arc<str> {
        Arc::from(match field.ty {
            NativeType::Primitive(p) => p.name(),
            NativeType::Enum(id) | NativeType::Data(id) => self.env.native.name(id),
            NativeType::Ref(_) => "ManagedObjectReference",
        })
    }

    fn meta(
        &mut self,
        name: Arc<str>,
        concrete: &Arc<str>,
        kind: ValueKind,
        role: Role,
        typed: bool,
    ) -> Arc<FieldMeta> {
        let key = FieldMeta { name, concrete: concrete.clone(), kind, role, typed, index: 0 };
        if let Some(known) = self.metas.get(&key) {
            return known.clone();
        }
        let index = u32::try_from(self.compiled.metas.len()).unwrap_or(u32::MAX);
        let meta = Arc::new(FieldMeta { index, ..key.clone() });
        self.metas.insert(key, meta.clone());
        self.compiled.metas.push(meta.clone());
        meta
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// The slots as a set, where only the first of a path counts.
fn first(path: &[Slot]) -> SlotSet {
    path.first().map_or(SlotSet::EMPTY, |slot| SlotSet::of(*slot))
}

//! Lists of structures, and parts shown by whichever table fits.

use super::{Compiler, Stand, Whens, first};
use crate::{
    cel::{Path, Scope, condition},
    flow::{Flow, Shape},
    lens::Class,
    render::{BodyId, Deps, Entry, List, Node, NodeId, NodeKind, ValueKind},
    report::did_you_mean,
    schema::{NativeField, NativeType, Primitive, TypeId},
    table::{Placed, RawEntry, RawObject, RawRow},
};
use rustc_hash::FxHashSet;
use std::sync::Arc;
use union::MessageId;

impl<'a> Compiler<'a> {
    /// `{ list = ... }`.
    pub(super) fn list(
        &mut self,
        field: &NativeField,
        row: &'a RawRow,
        raw: &'a [RawEntry],
        key: Option<&Placed>,
        stand: &Stand,
        path: &str,
    ) -> Option<NodeId> {
        let declared = self.list_type(field, row)?;
        let mut entries = Vec::new();
        let mut deps = Deps::default();
        let mut types = Vec::new();
        for entry in raw {
            if let Some((ty, entry)) = self.entry(field, declared, entry, stand, &mut deps) {
                types.push(ty);
                entries.push(entry);
            }
        }
        let key = self.list_key(key, &types);
        self.list_node(field, row, entries, key, deps, path, "(list)")
    }

    /// The structure that the items are declared as; `None` inside: any.
    fn list_type(&mut self, field: &NativeField, row: &RawRow) -> Option<Option<TypeId>> {
        match field.ty {
            NativeType::Data(id) => Some(Some(id)),
            NativeType::Primitive(Primitive::AnyType) => Some(None),
            _ => {
                let is = self.env.native.describe(field);
                self.findings
                    .error(row.span, format!("`list` and `show` make structures, `{}` is {is}", field.name));
                None
            }
        }
    }

    fn entry(
        &mut self,
        field: &NativeField,
        declared: Option<TypeId>,
        raw: &'a RawEntry,
        stand: &Stand,
        deps: &mut Deps,
    ) -> Option<(TypeId, Entry)> {
        let native = self.env.native;
        let (name, span) = &raw.ty;
        let ty = native.named(name).filter(|ty| declared.is_none_or(|d| native.is_a(*ty, d)));
        let Some(ty) = ty else {
            let family = declared.map(|d| native.family(d)).unwrap_or_default();
            let help = did_you_mean(name, family.iter().map(|t| native.name(*t)));
            let of = declared.map_or("structure", |d| native.name(d));
            self.findings.error_help(*span, format!("`{name}` is not a kind of {of}"), help);
            return None;
        };
        let mut inner = Stand { inside: true, ..stand.clone() };
        let (mut from, mut is) = (None, None);
        if let Some((text, span)) = &raw.from {
            let (path, shape) = self.union_path(stand.item, text, *span)?;
            (inner.item, inner.other) = match &shape.flow {
                Flow::Part(part) => (*part, None),
                Flow::Ref(kinds) if kinds.len() == 1 => {
                    let kind = kinds.first().copied();
                    (kind.map_or(stand.item, |k| self.env.union.kind(k).id), kind)
                }
                // One item for each time that the value is in the list; its rows read the object.
                Flow::Enum(e) if shape.list && raw.is.is_some() => {
                    let (name, at) = raw.is.as_ref()?;
                    is = e.number(name);
                    if is.is_none() {
                        let help = did_you_mean(name, e.values.iter().map(|(n, _)| n.as_str()));
                        let message = format!("enumeration {} has no value `{name}`", e.name);
                        self.findings.error_help(*at, message, help);
                        return None;
                    }
                    (inner.item, inner.other)
                }
                _ => {
                    let is = shape.describe(native, self.env.union);
                    let message =
                        format!("a list is made of parts or of objects of one kind, `{text}` is {is}");
                    self.findings.error(*span, message);
                    return None;
                }
            };
            inner.slot = stand.slot.or(path.first().copied());
            self.add_own(deps, stand, &path);
            from = Some(path);
        }
        if let Some((name, at)) = raw.is.as_ref().filter(|_| is.is_none()) {
            self.findings.error(*at, format!("`is = \"{name}\"` is for lists of an enumeration"));
        }
        let when = raw.when.as_ref().and_then(|(text, span)| {
            let scope = Scope::entry(inner.item, stand.object);
            condition(text, *span, &scope, self.env.union, self.findings)
        });
        if let Some(when) = &when {
            deps.add(&inner.deps(&when.reads));
        }
        let body = self.entry_body(ty, raw, &inner)?;
        deps.add(&self.body_deps.get(body.0 as usize).cloned().unwrap_or_default());
        Some((ty, Entry { is, ..self.make_entry(field, ty, from, when, body) }))
    }

    fn add_own(&self, deps: &mut Deps, stand: &Stand, path: &Path) {
        let own = stand.slot.map_or_else(|| first(path), union::SlotSet::of);
        deps.add(&Deps { own, ..Deps::default() });
    }

    fn make_entry(
        &mut self,
        field: &NativeField,
        ty: TypeId,
        from: Option<Path>,
        when: Option<crate::cel::Program>,
        body: BodyId,
    ) -> Entry {
        let concrete: Arc<str> = Arc::from(self.env.native.name(ty));
        let since = self.env.native.get(ty).map(|t| t.since).unwrap_or_default();
        Entry { place: self.place(field, &concrete, ValueKind::Data), since, from, is: None, when, body }
    }

    /// The body of an entry: rows in place, or the type's own table.
    fn entry_body(&mut self, ty: TypeId, raw: &'a RawEntry, inner: &Stand) -> Option<BodyId> {
        if let Some(rows) = &raw.rows {
            let refs: Vec<&RawRow> = rows.iter().collect();
            self.check_writers(&raw.ty.0, &refs);
            let pending = refs.iter().filter_map(|row| self.pending(row)).collect();
            let body = self.reserve();
            let none = empty_object();
            let mut whens = Whens { raw: none, used: FxHashSet::default() };
            self.fill(body, ty, pending, inner, &mut whens, "", raw.span, None);
            return Some(body);
        }
        let (name, span) = &raw.ty;
        let Some(table) = self.objects.get(name).filter(|t| !t.is_abstract) else {
            let help = Some(format!("write [object.{name}] with its rows, or give `rows` here"));
            self.findings.error_help(*span, format!("there is no table [object.{name}]"), help);
            return None;
        };
        let message = self.message(table)?;
        if message != inner.item {
            let name_of = |id: MessageId| self.env.union.get(id).map_or("?", |m| m.name.as_str());
            let shows = format!(
                "[object.{name}] shows {}, but here it gets {}",
                name_of(message),
                name_of(inner.item)
            );
            let help =
                raw.from.is_none().then(|| "without `from` an item is made of the object itself".to_owned());
            self.findings.error_help(*span, shows, help);
            return None;
        }
        Some(self.table(ty, table, inner))
    }

    /// The key field: the one named, or `key` if all items have it.
    fn list_key(&mut self, key: Option<&Placed>, types: &[TypeId]) -> Option<Arc<str>> {
        let has = |ty: &TypeId, name: &str| self.env.native.get(*ty).is_some_and(|d| d.field(name).is_some());
        match key {
            None => types.iter().all(|ty| has(ty, "key")).then(|| Arc::from("key")),
            Some((name, span)) => {
                if let Some(ty) = types.iter().find(|ty| !has(ty, name)) {
                    let message =
                        format!("{} has no property `{name}` to be the key", self.env.native.name(*ty));
                    self.findings.error(*span, message);
                }
                Some(name.clone())
            }
        }
    }

    /// `{ show = "part" }`: an entry for every table that shows the part's message natively.
    pub(super) fn shown(
        &mut self,
        field: &NativeField,
        row: &'a RawRow,
        from: &'a Placed,
        stand: &Stand,
        path: &str,
    ) -> Option<NodeId> {
        let declared = self.list_type(field, row)?;
        let (slots, shape) = self.union_path(stand.item, &from.0, from.1)?;
        let Shape { flow: Flow::Part(part), .. } = shape else {
            let is = shape.describe(self.env.native, self.env.union);
            self.findings.error(from.1, format!("`show` needs a part, `{}` is {is}", from.0));
            return None;
        };
        let inner = Stand {
            item: part,
            object: stand.object,
            slot: stand.slot.or(slots.first().copied()),
            inside: true,
            other: None,
        };
        let mut deps = Deps::default();
        self.add_own(&mut deps, stand, &slots);
        let name = self.env.union.get(part).map(|m| m.name.clone()).unwrap_or_default();
        let native = self.env.native;
        let tables: Vec<(TypeId, &'a RawObject)> = self
            .objects
            .values()
            .filter(|t| !t.is_abstract && t.union.as_ref().is_some_and(|(u, _)| **u == *name))
            .filter_map(|t| native.named(&t.name).map(|ty| (ty, t)))
            .filter(|(ty, _)| declared.is_none_or(|d| native.is_a(*ty, d)))
            .collect();
        if tables.is_empty() {
            let of = declared.map_or("anyType", |d| native.name(d));
            self.findings.error(row.span, format!("no table shows {name} as a kind of {of}"));
            return None;
        }
        let mut entries = Vec::new();
        for (ty, table) in tables {
            let when = table.when.as_ref().and_then(|(text, span)| {
                condition(text, *span, &Scope::object(part), self.env.union, self.findings)
            });
            let body = self.table(ty, table, &inner);
            entries.push(self.make_entry(field, ty, Some(slots.clone()), when, body));
        }
        let key =
            entries.iter().all(|e| self.compiled.body(e.body).is_some_and(|b| b.by_name.contains_key("key")));
        self.list_node(field, row, entries, key.then(|| Arc::from("key")), deps, path, "(show)")
    }

    #[allow(clippy::too_many_arguments)]
    fn list_node(
        &mut self,
        field: &NativeField,
        row: &RawRow,
        entries: Vec<Entry>,
        key: Option<Arc<str>>,
        deps: Deps,
        path: &str,
        text: &str,
    ) -> Option<NodeId> {
        let place = match entries.first() {
            Some(entry) => entry.place.clone(),
            None => return None,
        };
        let array = self.array(field, ValueKind::Data);
        let at = Arc::from(self.findings.place(row.span));
        Some(self.push(Node {
            since: field.since,
            required: !field.optional,
            list: field.list,
            array,
            place,
            kind: NodeKind::List(List { entries, key }),
            deps,
            path: Arc::from(path),
            row: Arc::from(text),
            at,
            class: Class::RenderOnly,
        }))
    }
}

/// A table without conditions, for rows in place.
fn empty_object() -> &'static RawObject {
    static EMPTY: std::sync::OnceLock<RawObject> = std::sync::OnceLock::new();
    EMPTY.get_or_init(|| RawObject {
        name: Arc::from(""),
        span: crate::report::Span::default(),
        union: None,
        when: None,
        is_abstract: true,
        rows: Vec::new(),
        whens: Vec::new(),
        reads: None,
        new: None,
    })
}

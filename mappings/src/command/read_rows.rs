//! `[command.METHOD.rows]`: read, checked, compiled.

use super::{
    Argument, Form, ItemRows, Place,
    keys::Keys,
    read::{Method, Reading, union_value},
};
use crate::{
    compile::union_path,
    data::{Fields, Item, Node, Table},
    flow::{Flow, Shape},
    lens::{Class, chain, meets, split},
    report::{Span, did_you_mean},
    schema::{NativeField, NativeType, TypeId},
    table::Placed,
};
use std::sync::Arc;
use union::{Kind, schema::MessageSchema};

/// Where an argument's path begins.
#[derive(Clone, Copy)]
enum Base<'a> {
    /// At the parameters of a method.
    Method(Method<'a>),
    /// At the fields of a structure.
    Data(TypeId),
}

impl<'a> Reading<'a> {
    /// The rows of a command.
    pub(super) fn arguments(
        &mut self,
        table: &Table,
        method: Method<'a>,
        message: &'a MessageSchema,
    ) -> Vec<Argument> {
        self.rows_of(table, Base::Method(method), message)
    }

    fn rows_of(&mut self, table: &Table, base: Base<'a>, message: &'a MessageSchema) -> Vec<Argument> {
        let mut rows = Vec::new();
        for entry in &table.entries {
            let at = Arc::from(self.findings.place(entry.value.span));
            let field = match base {
                Base::Method((ty, method)) => self.parameter(&entry.key, entry.key_span, ty, method),
                Base::Data(ty) => self.path_in(ty, &entry.key, entry.key_span),
            };
            let Some(field) = field else { continue };
            let form = match &entry.value.node {
                Node::Str(text) => self.value_row((text, entry.value.span), &field, message),
                Node::Table(table) => self.table_row(table, &field, message),
                _ => {
                    let is = entry.value.what();
                    self.findings
                        .error(entry.value.span, format!("a command's row is a text or a table, not {is}"));
                    None
                }
            };
            let text = match &entry.value.node {
                Node::Str(text) => text.clone(),
                _ => form.as_ref().map_or_else(|| Arc::from(""), describe),
            };
            rows.extend(form.map(|form| Argument { path: entry.key.clone(), form, text, at }));
        }
        rows
    }

    /// `"field | lenses"`.
    pub(super) fn value_row(
        &mut self,
        (text, span): (&Arc<str>, Span),
        field: &NativeField,
        message: &MessageSchema,
    ) -> Option<Form> {
        let (name, words) = split(text);
        let (to, shape) = self.place(&(Arc::from(name), span), message)?;
        let chain = chain(shape, &words, span, self.env, self.findings)?;
        if let Err((message, help)) = meets(&chain.shape, field, self.env) {
            self.findings.error_help(span, message, help);
            return None;
        }
        if let Some(lens) = chain.lenses.iter().find(|l| l.class() == Class::RenderOnly) {
            let text = format!("`{}` cannot be read backwards, so it has no place in a command", lens.name());
            self.findings.error(span, text);
            return None;
        }
        Some(Form::Value { to, field: field.clone(), chain })
    }

    /// The rows that are tables.
    fn table_row(&mut self, table: &Table, field: &NativeField, message: &'a MessageSchema) -> Option<Form> {
        let mut fields = Fields::new(table, "a command's row");
        let to = fields.str("to", self.findings).map(|(t, s)| (t.clone(), s));
        let list = fields.get("list");
        let types = fields.table("types", self.findings);
        let keys = fields.table("keys", self.findings);
        let named = fields.str("named", self.findings).map(|(t, s)| (t.clone(), s));
        let pool = fields.str("pool", self.findings).map(|(t, s)| (t.clone(), s));
        let file = fields.str("file", self.findings).map(|(t, s)| (t.clone(), s));
        fields.finish(self.findings);
        match (to, list, types, named) {
            (None, Some(list), None, None) => self.list_row(list, field, message),
            (Some(to), None, Some(types), None) => self.types_row(&to, (types, keys), field, message),
            (Some((text, span)), None, None, None) => self.value_row((&text, span), field, message),
            (None, None, None, Some(named)) => {
                let (to, shape) = self.place(&named, message)?;
                let kind = self.one_kind(&shape, &named)?;
                Some(Form::Named { to, kind })
            }
            (None, None, None, None) if pool.is_some() || file.is_some() => {
                let pool = pool.and_then(|p| self.place(&p, message)).map(|(to, _)| to);
                let file = file.and_then(|p| self.place(&p, message)).map(|(to, _)| to);
                Some(Form::File { pool, file })
            }
            _ => {
                let text =
                    "a command's row needs one of `to`, `list`, `types` with `to`, `named`, `pool` or `file`";
                self.findings.error(table.span, text);
                None
            }
        }
    }

    pub(super) fn one_kind(&mut self, shape: &Shape, (name, span): &Placed) -> Option<Kind> {
        match &shape.flow {
            Flow::Ref(kinds) if kinds.len() == 1 => kinds.first().copied(),
            _ => {
                let is = shape.describe(self.env.native, self.env.union);
                self.findings.error(*span, format!("`{name}` must name one kind of object, it is {is}"));
                None
            }
        }
    }

    /// `{ list = { OptionValue = "settings" } }`, or entries with rows of their own.
    fn list_row(&mut self, list: &Item, field: &NativeField, message: &'a MessageSchema) -> Option<Form> {
        let NativeType::Data(declared) = field.ty else {
            let is = self.env.native.describe(field);
            self.findings.error(list.span, format!("`list` reads structures, `{}` is {is}", field.name));
            return None;
        };
        let mut target: Option<Place> = None;
        let mut types = Vec::new();
        for entry in crate::table::entries(list, self.findings) {
            let Some((from, span)) = entry.from.clone() else {
                self.findings.error(entry.span, "an entry of a command's list needs `from`, the union list");
                continue;
            };
            let Some((to, shape)) = self.place(&(from, span), message) else { continue };
            let Shape { flow: Flow::Part(part), list: true } = shape else {
                let is = shape.describe(self.env.native, self.env.union);
                self.findings.error(span, format!("`list` makes a list of parts, `{}` is {is}", to.name));
                continue;
            };
            if target.as_ref().is_some_and(|t| t.name != to.name) {
                self.findings.error(span, "all entries of a command's list fill the same union list");
            }
            target.get_or_insert(to);
            let native = self.env.native;
            let (name, at) = &entry.ty;
            let Some(ty) = native.named(name).filter(|ty| native.is_a(*ty, declared)) else {
                let family = native.family(declared);
                let help = did_you_mean(name, family.iter().map(|t| native.name(*t)));
                let text = format!("`{name}` is not a kind of {}", native.name(declared));
                self.findings.error_help(*at, text, help);
                continue;
            };
            let Some(part) = self.env.union.get(part) else { continue };
            let raw = list.node_rows(name);
            let rows = match raw {
                Some(table) => self.rows_of(table, Base::Data(ty), part),
                None => self.same_names(ty, part, entry.span),
            };
            let key = part.field("key").and_then(|key| {
                let writes = |row: &&Argument| matches!(&row.form, Form::Value { to, .. } if to.part.is_none() && to.slot == key.slot);
                rows.iter().find(writes).map(|row| (key.slot, row.path.clone()))
            });
            types.push(ItemRows { ty: name.clone(), message: part.id, width: part.fields.len(), rows, key });
        }
        Some(Form::Items { to: target?, types })
    }

    /// Without rows the fields of equal names belong together.
    fn same_names(&mut self, ty: TypeId, part: &'a MessageSchema, span: Span) -> Vec<Argument> {
        let native = self.env.native;
        let mut rows = Vec::new();
        for field in native.get(ty).map_or(&[][..], |t| &t.fields) {
            if part.field(&field.name).is_some() {
                let form = self.value_row((&field.name, span), field, part);
                let at = Arc::from(self.findings.place(span));
                let text = field.name.clone();
                rows.extend(form.map(|form| Argument { path: field.name.clone(), form, text, at }));
            }
        }
        if rows.is_empty() {
            let text =
                format!("{} and {} have no field of one name: give `rows`", native.name(ty), part.name);
            self.findings.error(span, text);
        }
        rows
    }

    /// `{ to = "boot", types = { BootableCdromDevice = "BOOT_CDROM" } }`.
    fn types_row(
        &mut self,
        to: &Placed,
        (types, keys): (&Table, Option<&Table>),
        field: &NativeField,
        message: &'a MessageSchema,
    ) -> Option<Form> {
        let (place, shape) = self.place(to, message)?;
        let NativeType::Data(declared) = field.ty else {
            let is = self.env.native.describe(field);
            self.findings.error(types.span, format!("`types` reads structures, `{}` is {is}", field.name));
            return None;
        };
        if !shape.list {
            self.findings.error(to.1, format!("`types` fills a list, `{}` is none", to.0));
            return None;
        }
        let one = Shape::one(shape.flow.clone());
        let mut values = Vec::new();
        for entry in &types.entries {
            let native = self.env.native;
            if native.named(&entry.key).is_none_or(|ty| !native.is_a(ty, declared)) {
                let family = native.family(declared);
                let help = did_you_mean(&entry.key, family.iter().map(|t| native.name(*t)));
                let text = format!("`{}` is not a kind of {}", entry.key, native.name(declared));
                self.findings.error_help(entry.key_span, text, help);
                continue;
            }
            match union_value(&one, &entry.value) {
                Some(value) => values.push((entry.key.clone(), value)),
                None => {
                    let is = one.describe(self.env.native, self.env.union);
                    self.findings.error(entry.value.span, format!("this is not {is}"));
                }
            }
        }
        let keys = keys.and_then(|keys| self.keys(keys, declared));
        Some(Form::Types { to: place, values, declared: Arc::from(self.env.native.name(declared)), keys })
    }

    /// `keys = { field = "deviceKey", like = "spec.deviceChange", of = { BootableDiskDevice = "VirtualDisk" } }`.
    fn keys(&mut self, table: &Table, declared: TypeId) -> Option<Keys> {
        let mut fields = Fields::new(table, "`keys`");
        let field = fields.str("field", self.findings).map(|(t, s)| (t.clone(), s));
        let like = fields.str("like", self.findings).map(|(t, _)| t.clone());
        let of = fields.table("of", self.findings);
        fields.finish(self.findings);
        let (Some((field, span)), Some(like), Some(of)) = (field, like, of) else {
            self.findings.error(table.span, "`keys` needs `field`, `like` and `of`");
            return None;
        };
        let native = self.env.native;
        let mut kinds = Vec::new();
        for entry in &of.entries {
            let ty = native.named(&entry.key).filter(|ty| native.is_a(*ty, declared));
            let Some(ty) = ty else {
                let text = format!("`{}` is not a kind of {}", entry.key, native.name(declared));
                self.findings.error(entry.key_span, text);
                continue;
            };
            if native.get(ty).and_then(|t| t.field(&field)).is_none() {
                self.findings.error(span, format!("native type {} has no property `{field}`", entry.key));
            }
            let item = entry.value.as_str().and_then(|name| native.named(name));
            let Some(item) = item else {
                self.findings.error(entry.value.span, "this is no native type");
                continue;
            };
            let family = native.family(item).into_iter().map(|ty| Arc::from(native.name(ty))).collect();
            kinds.push((entry.key.clone(), family));
        }
        Some(Keys { field, like, of: kinds })
    }

    /// A field of the command, or of a part of it.
    fn place(&mut self, (name, span): &Placed, message: &MessageSchema) -> Option<(Place, Shape)> {
        let (path, shape) = match union_path(self.env.union, message.id, name) {
            Ok(found) => found,
            Err((text, help)) => {
                self.findings.error_help(*span, text, help);
                return None;
            }
        };
        let place = match path.as_slice() {
            [slot] => Place { slot: *slot, part: None, name: name.clone() },
            [slot, inner] => {
                let part = message.field_at(*slot).and_then(|f| match &f.ty {
                    union::FieldType::Message(id) => self.env.union.get(*id),
                    _ => None,
                })?;
                Place { slot: *slot, part: Some((part.id, part.fields.len(), *inner)), name: name.clone() }
            }
            _ => {
                self.findings
                    .error(*span, "a command's row writes a field of the command or of a part of it");
                return None;
            }
        };
        Some((place, shape))
    }

    /// The native field that an argument's path names.
    pub(super) fn parameter(
        &mut self,
        path: &str,
        span: Span,
        ty: TypeId,
        method: &'a crate::schema::NativeMethod,
    ) -> Option<NativeField> {
        if path == "this" {
            return Some(NativeField {
                name: Arc::from("this"),
                ty: NativeType::Ref(ty),
                optional: false,
                list: false,
                since: method.since,
            });
        }
        let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
        let Some(field) = method.parameters.iter().find(|p| &*p.name == first).cloned() else {
            let help = did_you_mean(first, method.parameters.iter().map(|p| &*p.name).chain(["this"]));
            self.findings.error_help(span, format!("{} has no parameter `{first}`", method.name), help);
            return None;
        };
        let Some(rest) = rest else { return Some(field) };
        let NativeType::Data(id) = field.ty else {
            self.findings.error(span, format!("`{}` of `{path}` has no fields", field.name));
            return None;
        };
        let inner = self.path_in(id, rest, span)?;
        Some(NativeField { optional: field.optional || inner.optional, ..inner })
    }

    /// The field at a path within a structure.
    pub(super) fn path_in(&mut self, mut ty: TypeId, path: &str, span: Span) -> Option<NativeField> {
        let mut names = path.split('.').peekable();
        let mut optional = false;
        loop {
            let segment = names.next()?;
            let (name, narrow) = segment.split_once(':').map_or((segment, None), |(a, b)| (a, Some(b)));
            let native = self.env.native;
            let Some(field) = native.get(ty).and_then(|t| t.field(name)) else {
                let fields = native.get(ty).map_or(&[][..], |d| &d.fields);
                let help = did_you_mean(name, fields.iter().map(|f| &*f.name));
                let message = format!("native type {} has no property `{name}`", native.name(ty));
                self.findings.error_help(span, message, help);
                return None;
            };
            optional |= field.optional;
            let mut field = field.clone();
            if let (Some(narrow), NativeType::Data(declared)) = (narrow, field.ty) {
                match native.named(narrow).filter(|t| native.is_a(*t, declared)) {
                    Some(narrowed) => field.ty = NativeType::Data(narrowed),
                    None => {
                        let family = native.family(declared);
                        let help = did_you_mean(narrow, family.iter().map(|t| native.name(*t)));
                        let text = format!("`{narrow}` is not a kind of {}", native.name(declared));
                        self.findings.error_help(span, text, help);
                        return None;
                    }
                }
            }
            if names.peek().is_none() {
                return Some(NativeField { optional, ..field });
            }
            let NativeType::Data(id) = field.ty else {
                self.findings.error(span, format!("`{}` of `{path}` has no fields", field.name));
                return None;
            };
            ty = id;
        }
    }
}

fn describe(form: &Form) -> Arc<str> {
    Arc::from(match form {
        Form::Value { to, .. } => to.name.to_string(),
        Form::Items { to, types } => {
            let names: Vec<&str> = types.iter().map(|t| &*t.ty).collect();
            format!("{} (a list of {})", to.name, names.join(", "))
        }
        Form::Types { to, values, .. } => {
            let names: Vec<&str> = values.iter().map(|(t, _)| &**t).collect();
            format!("{} (by type: {})", to.name, names.join(", "))
        }
        Form::Named { to, kind } => format!("{} (the {kind} of that name)", to.name),
        Form::File { pool, file } => {
            let names: Vec<&str> = pool.iter().chain(file).map(|p| &*p.name).collect();
            format!("{} (from `[store] file`)", names.join(", "))
        }
    })
}

impl Item {
    /// The rows of the entry for a type: `[{ type = "T", from = "f", rows = { .. } }]`.
    fn node_rows(&self, ty: &str) -> Option<&Table> {
        let Node::Array(items) = &self.node else { return None };
        items
            .iter()
            .filter_map(Item::as_table)
            .find(|t| t.get("type").and_then(Item::as_str).is_some_and(|t| **t == *ty))?
            .get("rows")?
            .as_table()
    }
}

//! `[command.METHOD.edit]` and `[object.TYPE.read]`: read, checked, compiled.

use super::{
    Form, Place,
    changes::ChangeSlots,
    device::{DeviceEdit, ItemList, Op, ReadForm, ReadRow, Reads, Target},
    read::{Method, Reading},
};
use crate::{
    cel::{Scope, condition},
    data::{Fields, Item, Node, Table},
    flow::Shape,
    render::{List, NodeKind},
    report::{Span, did_you_mean},
    schema::{NativeField, NativeType, TypeId},
    table::{Placed, placed},
};
use std::{collections::BTreeMap, sync::Arc};
use union::{
    Kind, Slot,
    schema::{FieldSchema, MessageSchema},
};

/// What a protocol calls the operations.
type Words = Vec<(Arc<str>, Op)>;

impl<'a> Reading<'a> {
    /// `[command.X.edit."path"]`.
    pub(super) fn edit(
        &mut self,
        path: &Arc<str>,
        span: Span,
        item: &Item,
        (ty, method): Method<'a>,
        message: &'a MessageSchema,
    ) -> Option<DeviceEdit> {
        let Some(table) = item.as_table() else {
            self.findings.error(item.span, "an edit is a table");
            return None;
        };
        let mut fields = Fields::new(table, format!("the edit `{path}`"));
        let like = fields.need_str("like", self.findings);
        let to = fields.need_str("to", self.findings).map(|(t, s)| (t.clone(), s));
        let op = fields.table("op", self.findings);
        let inner = fields.need_str("item", self.findings);
        let given = fields.table("given", self.findings);
        let refused = fields.table("refused", self.findings);
        fields.finish(self.findings);
        let field = self.parameter(path, span, ty, method)?;
        let NativeType::Data(change) = field.ty else {
            let is = self.env.native.describe(&field);
            self.findings.error(span, format!("an edit reads structures, `{path}` is {is}"));
            return None;
        };
        let (inner, inner_span) = inner?;
        let held = self.path_in(change, inner, inner_span)?;
        let NativeType::Data(held) = held.ty else {
            self.findings.error(inner_span, format!("`{inner}` is no structure"));
            return None;
        };
        let (op, ops) = self.ops(op, change, table.span)?;
        let (like, like_span) = like?;
        let node = self.like(like, like_span, ty)?;
        let NodeKind::List(list) = &self.compiled.node(node)?.kind else {
            self.findings.error(like_span, format!("`{like}` is not a list row"));
            return None;
        };
        let (target, lists) = self.target(&to?, message, list)?;
        let mut reads = BTreeMap::new();
        for entry in &list.entries {
            let slot = entry.from.as_ref().and_then(|path| path.first());
            let Some(of) = lists.iter().find(|l| Some(&l.slot) == slot) else { continue };
            let Some(part) = self.env.union.get(of.message) else { continue };
            let name = entry.place.item.concrete.clone();
            if let Some(found) = self.reads(&name, part) {
                reads.insert(name, found);
            }
        }
        let given = self.reasons(given, held);
        let refused = self.reasons(refused, held);
        Some(DeviceEdit {
            path: path.clone(),
            like: like.clone(),
            at: Arc::from(self.findings.place(span)),
            compiled: self.compiled.clone(),
            list: node,
            op,
            ops,
            item: inner.clone(),
            given,
            refused,
            reads,
            lists,
            to: target,
        })
    }

    /// Types with a reason each; those below them too.
    fn reasons(&mut self, table: Option<&Table>, declared: TypeId) -> Vec<(Arc<str>, Arc<str>)> {
        let mut out: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for entry in table.map_or(&[][..], |t| &t.entries) {
            let native = self.env.native;
            let Some(ty) = native.named(&entry.key).filter(|t| native.is_a(*t, declared)) else {
                let family = native.family(declared);
                let help = did_you_mean(&entry.key, family.iter().map(|t| native.name(*t)));
                let text = format!("`{}` is not a kind of {}", entry.key, native.name(declared));
                self.findings.error_help(entry.key_span, text, help);
                continue;
            };
            if let Some((why, _)) = placed(&entry.value, "the reason", self.findings) {
                out.extend(native.family(ty).iter().map(|t| (Arc::from(native.name(*t)), why.clone())));
            }
        }
        out
    }

    /// `op = { field = "operation", add = "add", edit = "edit", remove = "remove" }`.
    fn ops(&mut self, table: Option<&Table>, change: TypeId, span: Span) -> Option<(Arc<str>, Words)> {
        let Some(table) = table else {
            self.findings.error(span, "an edit needs `op = { field = \"...\", add = \"...\", ... }`");
            return None;
        };
        let mut fields = Fields::new(table, "`op`");
        let field = fields.need_str("field", self.findings);
        let mut ops = Vec::new();
        let mut spans = Vec::new();
        for (key, op) in [("add", Op::Add), ("edit", Op::Edit), ("remove", Op::Remove)] {
            if let Some((word, span)) = fields.str(key, self.findings) {
                ops.push((word.clone(), op));
                spans.push(span);
            }
        }
        fields.finish(self.findings);
        let (field, span) = field?;
        let native = self.path_in(change, field, span)?;
        if let NativeType::Enum(id) = native.ty {
            let values = self.env.native.get(id).map_or(&[][..], |t| &t.values);
            for ((word, _), span) in ops.iter().zip(&spans).filter(|((word, _), _)| !values.contains(word)) {
                let help = did_you_mean(word, values.iter().map(|v| &**v));
                let text = format!("native enumeration {} has no value `{word}`", self.env.native.name(id));
                self.findings.error_help(*span, text, help);
            }
        }
        Some((field.clone(), ops))
    }

    /// The list row that an edit is like: of the command's own type, or `Type.path`.
    fn like(&mut self, like: &Arc<str>, span: Span, ty: TypeId) -> Option<crate::render::NodeId> {
        let own = self.objects.get(self.env.native.name(ty));
        let other = like.split_once('.').and_then(|(ty, path)| Some((self.objects.get(ty)?, path)));
        let (object, path) = other.or(own.map(|own| (own, &**like)))?;
        let found = object.rows.iter().find(|row| *row.path == *path).map(|row| row.node);
        if found.is_none() {
            let help = did_you_mean(path, object.rows.iter().map(|r| &*r.path));
            let text = format!("[object.{}] has no row `{path}`", object.native_type);
            self.findings.error_help(span, text, help);
        }
        found
    }

    /// Where the changes go, and the lists whose items may change.
    fn target(
        &mut self,
        to: &Placed,
        message: &'a MessageSchema,
        list: &List,
    ) -> Option<(Target, Vec<ItemList>)> {
        let field = self.field(message, &to.0, to.1)?;
        let union::FieldType::Message(id) = &field.ty else {
            self.findings.error(to.1, format!("`{}` holds no changes and no new object", to.0));
            return None;
        };
        let part = self.env.union.get(*id)?;
        let whole = list.entries.iter().find_map(|e| e.from.as_ref()?.first().copied());
        let object = self.object_of(message, part, field);
        let mut lists = Vec::new();
        for entry in &list.entries {
            let Some(slot) = entry.from.as_ref().and_then(|p| p.first()).copied() else { continue };
            if lists.iter().any(|l: &ItemList| l.slot == slot) {
                continue;
            }
            let Some(of) = object.and_then(|o| o.field_at(slot)) else { continue };
            let union::FieldType::Message(item) = &of.ty else { continue };
            let Some(item) = self.env.union.get(*item) else { continue };
            let changes = ChangeSlots::of(part);
            let held = changes.and_then(|c| c.parts.iter().find(|(id, _)| *id == item.id).map(|(_, s)| *s));
            let (Some(id), Some(held)) = (item.field("id"), if field.repeated { held } else { Some(slot) })
            else {
                continue;
            };
            lists.push(ItemList {
                slot,
                name: Arc::from(of.name.as_str()),
                message: item.id,
                width: item.fields.len(),
                id: id.slot,
                part: held,
                fields: item.fields.iter().map(|f| Arc::from(f.name.as_str())).collect(),
            });
        }
        if whole.is_none() || lists.is_empty() {
            self.findings.error(to.1, format!("no item of the list can stand in `{}`", to.0));
            return None;
        }
        if !field.repeated {
            return Some((
                Target::New { slot: field.slot, message: part.id, width: part.fields.len() },
                lists,
            ));
        }
        let Some(change) = ChangeSlots::of(part) else {
            self.findings.error(to.1, format!("the union message {} is no change of a device", part.name));
            return None;
        };
        let (message, width) = (part.id, part.fields.len());
        Some((Target::Changes { slot: field.slot, message, width, change }, lists))
    }

    /// The message whose lists are edited: the command's object, or the new one.
    fn object_of(
        &self,
        message: &'a MessageSchema,
        part: &'a MessageSchema,
        field: &FieldSchema,
    ) -> Option<&'a MessageSchema> {
        if !field.repeated {
            return Some(part);
        }
        message.command.as_ref().map(|c| self.env.union.kind(c.on))
    }

    /// `[object.X.read]` and `[object.X.new]`, and those of the types above it.
    fn reads(&mut self, name: &Arc<str>, part: &'a MessageSchema) -> Option<Reads> {
        let native = self.env.native;
        let ty = native.named(name)?;
        let mut reads = Reads::default();
        for above in native.chain(ty) {
            let Some(raw) = self.raws.get(native.name(above)) else { continue };
            for entry in raw.reads.iter().flat_map(|t| &t.entries) {
                if !reads.rows.iter().any(|r| r.path == entry.key) {
                    reads.rows.extend(self.read_row(ty, &entry.key, entry.key_span, &entry.value, part));
                }
            }
            for entry in raw.new.iter().flat_map(|t| &t.entries) {
                let Some(field) = self.field(part, &entry.key, entry.key_span) else { continue };
                reads.new.extend(self.union_constant(field, &entry.value).map(|v| (field.slot, v)));
            }
        }
        Some(reads)
    }

    fn read_row(
        &mut self,
        ty: TypeId,
        path: &Arc<str>,
        span: Span,
        item: &Item,
        part: &'a MessageSchema,
    ) -> Option<ReadRow> {
        let field = self.path_in(ty, path, span)?;
        let at = Arc::from(self.findings.place(item.span));
        let mut when = None;
        let (form, text) = match &item.node {
            Node::Str(text) => (self.read_value(text, item.span, &field, part)?, text.clone()),
            Node::Table(table) => {
                let mut fields = Fields::new(table, format!("the row `{path}`"));
                let to = fields.str("to", self.findings);
                let condition_text = fields.str("when", self.findings);
                let named = fields.str("named", self.findings).map(|(t, s)| (t.clone(), s));
                let pool = fields.str("pool", self.findings).map(|(t, s)| (t.clone(), s));
                let file = fields.str("file", self.findings).map(|(t, s)| (t.clone(), s));
                let clear = fields.array("clear", self.findings);
                fields.finish(self.findings);
                if let Some((text, span)) = condition_text {
                    let vm = self.env.union.kind(Kind::Vm).id;
                    let scope = Scope::item(part.id, vm);
                    when = Some(condition(text, span, &scope, self.env.union, self.findings)?);
                }
                let form = match (to, named, pool.zip(file), clear) {
                    (Some((text, span)), None, None, []) => self.read_value(text, span, &field, part)?,
                    (None, Some(named), None, []) => {
                        let to = self.field(part, &named.0, named.1)?;
                        let (slot, shape) = (to.slot, Shape::of(to));
                        ReadForm::Named { slot, kind: self.one_kind(&shape, &named)? }
                    }
                    (None, None, Some((pool, file)), []) => {
                        let (pool, file) = (
                            self.field(part, &pool.0, pool.1)?.slot,
                            self.field(part, &file.0, file.1)?.slot,
                        );
                        let base = self.env.union.kind(Kind::StoragePool).field("path").map(|f| f.slot);
                        ReadForm::File { pool, file, base }
                    }
                    (None, None, None, names) if !names.is_empty() => {
                        let mut slots: Vec<Slot> = Vec::new();
                        for name in names {
                            let Some((name, span)) = placed(name, "a field", self.findings) else { continue };
                            slots.extend(self.field(part, &name, span).map(|f| f.slot));
                        }
                        ReadForm::Clear(slots)
                    }
                    _ => {
                        let text = format!(
                            "the row `{path}` needs one of `to`, `named`, `pool` with `file`, `clear`"
                        );
                        self.findings.error(item.span, text);
                        return None;
                    }
                };
                let text = describe_read(&form);
                (form, text)
            }
            _ => {
                self.findings.error(item.span, format!("a row is a text or a table, not {}", item.what()));
                return None;
            }
        };
        let segment = |part: &str| match part.split_once(':') {
            Some((name, narrow)) => (Arc::from(name), Some(Arc::from(narrow))),
            None => (Arc::from(part), None),
        };
        let segments = path.split('.').map(segment).collect();
        Some(ReadRow { path: path.clone(), segments, when, form, text, at })
    }

    fn read_value(
        &mut self,
        text: &Arc<str>,
        span: Span,
        field: &NativeField,
        part: &'a MessageSchema,
    ) -> Option<ReadForm> {
        match self.value_row((text, span), field, part)? {
            Form::Value { to: Place { slot, part: None, .. }, field, chain } => {
                Some(ReadForm::Value { slot, field, chain })
            }
            _ => None,
        }
    }
}

fn describe_read(form: &ReadForm) -> Arc<str> {
    Arc::from(match form {
        ReadForm::Value { .. } => "a value".to_owned(),
        ReadForm::Named { kind, .. } => format!("the {kind} of that name"),
        ReadForm::File { .. } => "a store and a file".to_owned(),
        ReadForm::Clear(_) => "clears".to_owned(),
    })
}

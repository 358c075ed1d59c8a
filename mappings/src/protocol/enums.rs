//! `[enum.NAME]`: a table of a native and a union enumeration's values.

use crate::{
    data::{Fields, Item, Node, Table},
    lens::{Class, EnumTable},
    report::{Findings, Span, did_you_mean},
    schema::{NativeSchema, TypeId, TypeKind},
};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use union::{Schema, Value, schema::EnumSchema};

/// Reads and checks one table.
pub(crate) fn read(
    name: &Arc<str>,
    table: &Table,
    native: &NativeSchema,
    union: &Schema,
    findings: &mut Findings,
) -> Option<EnumTable> {
    let mut fields = Fields::new(table, format!("[enum.{name}]"));
    let native_name = fields.need_str("native", findings);
    let union_name = fields.need_str("union", findings);
    let partial = fields.str("partial", findings).is_some();
    let rows = fields.array("rows", findings);
    fields.finish(findings);
    let native_id = side(
        native_name?,
        |name| native_enum(native, name),
        findings,
        || {
            native
                .types()
                .filter(|(_, t)| t.kind == TypeKind::Enum)
                .map(|(_, t)| t.name.to_string())
                .collect()
        },
    )?;
    let union_enum = side(
        union_name?,
        |name| union.enumeration(name).cloned(),
        findings,
        || {
            union
                .messages()
                .iter()
                .flat_map(|m| &m.fields)
                .filter_map(|f| match &f.ty {
                    union::FieldType::Enum(e) => Some(e.name.clone()),
                    _ => None,
                })
                .collect()
        },
    )?;
    let mut reader = Reader { name, native, native_id, union: union_enum, findings, out: Rows::default() };
    for row in rows {
        reader.row(row);
    }
    if !partial {
        reader.totality(table.span);
    }
    let Reader { out, union, .. } = reader;
    let class = if out.merged { Class::Quotient } else { Class::Iso };
    Some(EnumTable {
        name: name.clone(),
        native: native_id,
        union,
        show: out.show,
        texts: out.texts,
        read: out.read,
        class,
    })
}

fn native_enum(native: &NativeSchema, name: &str) -> Option<TypeId> {
    native.named(name).filter(|id| native.get(*id).is_some_and(|t| t.kind == TypeKind::Enum))
}

/// `Some(None)`: free text.
fn side<T>(
    (name, span): (&Arc<str>, Span),
    find: impl Fn(&str) -> Option<T>,
    findings: &mut Findings,
    names: impl Fn() -> Vec<String>,
) -> Option<Option<T>> {
    if &**name == "string" {
        return Some(None);
    }
    let found = find(name);
    if found.is_none() {
        let help = did_you_mean(name, names().iter().map(String::as_str));
        findings.error_help(span, format!("there is no enumeration `{name}`"), help);
        return None;
    }
    Some(found)
}

#[derive(Default)]
struct Rows {
    show: Vec<Option<Arc<str>>>,
    texts: FxHashMap<Arc<str>, Arc<str>>,
    read: FxHashMap<Arc<str>, Value>,
    merged: bool,
}

struct Reader<'a> {
    name: &'a Arc<str>,
    native: &'a NativeSchema,
    native_id: Option<TypeId>,
    union: Option<Arc<EnumSchema>>,
    findings: &'a mut Findings,
    out: Rows,
}

impl Reader<'_> {
    fn row(&mut self, item: &Item) {
        let parts: Vec<&Arc<str>> = match &item.node {
            Node::Array(items) => items.iter().filter_map(Item::as_str).collect(),
            _ => Vec::new(),
        };
        let (native, union, way) = match parts.as_slice() {
            [native, union] => (*native, *union, ""),
            [native, union, way] if matches!(&***way, "<-" | "->") => (*native, *union, &***way),
            _ => {
                self.findings
                    .error(item.span, "a row is [native, union] or [native, union, \"<-\" or \"->\"]");
                return;
            }
        };
        let values = self.native_id.and_then(|id| self.native.get(id)).map(|t| &t.values);
        if let Some(values) = values.filter(|v| !v.contains(native)) {
            let help = did_you_mean(native, values.iter().map(|v| &**v));
            let ty = self.native_id.map_or("?", |id| self.native.name(id));
            self.findings.error_help(item.span, format!("native enum {ty} has no value `{native}`"), help);
            return;
        }
        let value = match &self.union {
            None => Value::Str(union.clone()),
            Some(e) => match e.number(union) {
                Some(number) => Value::Int(number),
                None => {
                    let help = did_you_mean(union, e.values.iter().map(|(n, _)| n.as_str()));
                    let message = format!("union enum {} has no value `{union}`", e.name);
                    self.findings.error_help(item.span, message, help);
                    return;
                }
            },
        };
        if way != "->" && !self.show(&value, native) {
            let message = format!("enum {}: `{union}` is shown by an earlier row already", self.name);
            self.findings.error_help(
                item.span,
                message,
                Some("end the row with \"->\" to read it only".into()),
            );
        }
        if way == "<-" {
            self.out.merged = true;
        } else if self.out.read.insert(native.clone(), value).is_some() {
            let message = format!("enum {}: `{native}` is read by an earlier row already", self.name);
            self.findings.error_help(
                item.span,
                message,
                Some("end the row with \"<-\" to show it only".into()),
            );
        }
    }

    /// `false`: the value has a text already.
    fn show(&mut self, value: &Value, native: &Arc<str>) -> bool {
        match value {
            Value::Str(text) => self.out.texts.insert(text.clone(), native.clone()).is_none(),
            Value::Int(number) => {
                let at = usize::try_from(*number).unwrap_or(0);
                if self.out.show.len() <= at {
                    self.out.show.resize(at + 1, None);
                }
                self.out.show.get_mut(at).is_some_and(|place| place.replace(native.clone()).is_none())
            }
            _ => true,
        }
    }

    /// Warns of values that cannot be shown or read.
    fn totality(&mut self, span: Span) {
        let help = || Some("a row, or `partial = \"why\"` in the table".to_owned());
        if let Some(e) = &self.union {
            let shown = |n: i64| {
                usize::try_from(n).ok().and_then(|at| self.out.show.get(at)).is_some_and(Option::is_some)
            };
            let missing: Vec<&str> =
                e.values.iter().skip(1).filter(|(_, n)| !shown(*n)).map(|(name, _)| name.as_str()).collect();
            if !missing.is_empty() {
                let message = format!("enum {}: no row shows {}", self.name, missing.join(", "));
                self.findings.warning(span, message, help());
            }
        }
        if let Some(def) = self.native_id.and_then(|id| self.native.get(id)) {
            let missing: Vec<&str> =
                def.values.iter().filter(|v| !self.out.read.contains_key(*v)).map(|v| &**v).collect();
            if !missing.is_empty() {
                let message = format!("enum {}: no row reads {}", self.name, missing.join(", "));
                self.findings.warning(span, message, help());
            }
        }
    }
}

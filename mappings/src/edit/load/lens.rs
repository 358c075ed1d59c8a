//! Lens chains: `field | lens argument | ...`, the union side first.

use super::{Context, Cursor};
use crate::edit::lens::{Lens, Link, Word, Words, factor};
use std::sync::Arc;
use union::{FieldType, Value, schema::EnumSchema};

const LENSES: [&str; 15] = [
    "int", "decimal", "unit", "kib", "mib", "gib", "offset", "enum", "present", "switch", "lower", "upper",
    "default", "filled", "line",
];

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Text,
    Int,
    Bool,
    Enum(Arc<EnumSchema>),
}

impl Form {
    fn name(&self) -> String {
        match self {
            Form::Text => "text".to_owned(),
            Form::Int => "a whole number".to_owned(),
            Form::Bool => "a truth value".to_owned(),
            Form::Enum(schema) => format!("one of {}", schema.name),
        }
    }
}

fn form(ty: &FieldType) -> Option<Form> {
    match ty {
        FieldType::Bool => Some(Form::Bool),
        FieldType::Int32 | FieldType::Int64 => Some(Form::Int),
        FieldType::Str => Some(Form::Text),
        FieldType::Enum(schema) => Some(Form::Enum(schema.clone())),
        FieldType::Float | FieldType::Bytes | FieldType::Ref(_) | FieldType::Message(_) => None,
    }
}

impl<'c, 'i> Context<'c, 'i> {
    /// Compiles the links of a chain for a field of type `ty`.
    pub(crate) fn chain(&mut self, at: usize, links: &[&str], ty: &FieldType) -> Lens {
        let Some(field) = form(ty) else {
            self.sink
                .add(at, "a document's rows write text, whole numbers, truth values and enumerations only");
            return Lens::default();
        };
        let mut compiled = Vec::new();
        let mut have = Form::Text;
        for (place, link) in links.iter().rev().enumerate() {
            let outermost = place + 1 == links.len();
            if let Some((link, next)) = self.link(at, link, &have, &field, outermost, place == 0) {
                compiled.push(link);
                have = next;
            }
        }
        if have != field {
            self.sink.add_help(
                at,
                format!("the row gives {}, but the field holds {}", have.name(), field.name()),
                Some(match field {
                    Form::Int => "add `| int`, `| unit KiB` or another lens for numbers".to_owned(),
                    Form::Bool => "add `| present` or `| switch on off`".to_owned(),
                    Form::Enum(_) => "add `| enum <table>`".to_owned(),
                    Form::Text => "leave the lens out".to_owned(),
                }),
            );
        }
        Lens { links: compiled }
    }

    fn link(
        &mut self,
        at: usize,
        text: &str,
        have: &Form,
        field: &Form,
        outermost: bool,
        innermost: bool,
    ) -> Option<(Link, Form)> {
        let mut words = text.split_ascii_whitespace();
        let name = words.next().unwrap_or("");
        let arguments: Vec<&str> = words.collect();
        let wanted = match name {
            "unit" | "offset" | "enum" | "default" | "unset" => 1,
            "switch" => 2,
            _ => 0,
        };
        if !LENSES.contains(&name) && name != "unset" {
            self.sink.unknown(at, "lens", name, LENSES.into_iter().chain(["unset"]));
            return None;
        }
        if arguments.len() != wanted {
            self.sink.add(at, format!("lens `{name}` takes {wanted} argument(s), not {}", arguments.len()));
            return None;
        }
        let one = arguments.first().copied().unwrap_or("");
        let two = arguments.get(1).copied().unwrap_or("");
        let needs_text = !matches!(name, "default" | "offset");
        if needs_text && *have != Form::Text {
            self.sink.add(at, format!("lens `{name}` takes text, but is given {}", have.name()));
        }
        if matches!(name, "present" | "unit") && !innermost {
            self.sink.add(at, format!("lens `{name}` has to be the last: it reads the element itself"));
        }
        match name {
            "int" | "decimal" => Some((Link::Int, Form::Int)),
            "kib" => Some((Link::Scale(1 << 10), Form::Int)),
            "mib" => Some((Link::Scale(1 << 20), Form::Int)),
            "gib" => Some((Link::Scale(1 << 30), Form::Int)),
            "unit" => match factor(one) {
                Some(by) => Some((Link::Unit(by), Form::Int)),
                None => {
                    self.sink.unknown(
                        at,
                        "unit",
                        one,
                        ["b", "bytes", "KB", "KiB", "MB", "MiB", "GB", "GiB"].into_iter(),
                    );
                    None
                }
            },
            "offset" => match one.parse() {
                Ok(by) => Some((Link::Offset(by), Form::Int)),
                Err(_) => {
                    self.sink.add(at, format!("`{one}` is not a whole number"));
                    None
                }
            },
            "enum" => {
                let words = self.words(at, one, field)?;
                Some((Link::Enum(words), if *field == Form::Bool { Form::Text } else { field.clone() }))
            }
            "present" => Some((Link::Present, Form::Bool)),
            "switch" => Some((Link::Switch(one.to_owned(), two.to_owned()), Form::Bool)),
            "lower" => Some((Link::Lower, Form::Text)),
            "upper" => Some((Link::Upper, Form::Text)),
            "filled" => Some((Link::Filled { line: false }, Form::Text)),
            "line" => Some((Link::Filled { line: true }, Form::Text)),
            "unset" => Some((Link::Unset(one.to_owned()), Form::Text)),
            _ => {
                if !outermost {
                    self.sink.add(at, "lens `default` has to stand next to the field");
                }
                Some((Link::Default(self.value(at, one, have)?), have.clone()))
            }
        }
    }

    fn value(&mut self, at: usize, text: &str, form: &Form) -> Option<Value> {
        let value = match form {
            Form::Text => Some(Value::str(text)),
            Form::Int => text.parse().ok().map(Value::Int),
            Form::Bool => text.parse().ok().map(Value::Bool),
            Form::Enum(schema) => schema.number(text).map(Value::Int),
        };
        if value.is_none() {
            self.sink.add(at, format!("`{text}` is not {}", form.name()));
        }
        value
    }

    fn words(&mut self, at: usize, name: &str, field: &Form) -> Option<Arc<Words>> {
        let Some(table) = self.enums.get(name).copied() else {
            let known: Vec<&str> = self.enums.keys().copied().collect();
            self.sink.unknown(at, "enumeration", name, known.into_iter());
            return None;
        };
        self.used.push(name.to_owned());
        table.only(&mut self.sink, &["rows", "union"]);
        let mut words: Vec<Word> = Vec::new();
        for row in table.get("rows").into_iter().flat_map(|rows| rows.items()) {
            let row_at = row.at();
            let parts = row.list(&mut self.sink);
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let (native, target, read_only) = match parts.as_slice() {
                [native, target] => (*native, *target, target.is_empty() || *native == "*"),
                [native, target, "<-"] => (*native, *target, true),
                _ => {
                    self.sink.add(row_at, "a row of an enumeration is [\"native\", \"UNION\"] or [.., \"<-\"] for one that is only read");
                    continue;
                }
            };
            let union = self.word(row_at, target, field)?;
            if words.iter().any(|w| w.native == native) {
                self.sink.add(row_at, format!("`{native}` is in the table twice"));
            }
            if !read_only && words.iter().any(|w| !w.read_only && w.union == union) {
                self.sink.add_help(
                    row_at,
                    format!("two rows write `{target}`"),
                    Some("mark the one that is only read with \"<-\"".to_owned()),
                );
            }
            words.push(Word { native: native.to_owned(), union, read_only });
        }
        Some(Arc::new(Words { words }))
    }

    fn word(&mut self, at: usize, target: &str, field: &Form) -> Option<Value> {
        if target.is_empty() {
            return Some(Value::Absent);
        }
        match field {
            Form::Enum(schema) => match schema.number(target) {
                Some(number) => Some(Value::Int(number)),
                None => {
                    let known = schema.values.iter().map(|(name, _)| name.as_str());
                    self.sink.unknown(at, &format!("value of {}", schema.name), target, known);
                    None
                }
            },
            Form::Text => Some(Value::str(target)),
            _ => {
                self.sink.add(at, format!("an enumeration gives no {}", field.name()));
                None
            }
        }
    }
}

/// Splits `field | lens | lens`.
pub(crate) fn pipes(text: &str) -> (&str, Vec<&str>) {
    let mut parts = text.split('|').map(str::trim);
    let field = parts.next().unwrap_or("");
    (field, parts.collect())
}

/// The value of one word of a rule for a field of type `ty`.
pub(crate) fn condition(cursor: Cursor<'_, '_>, ty: &FieldType) -> Option<Value> {
    match ty {
        FieldType::Bool => cursor.as_bool().map(Value::Bool),
        FieldType::Int32 | FieldType::Int64 => cursor.as_int().map(Value::Int),
        FieldType::Str => cursor.as_str().map(Value::str),
        FieldType::Enum(schema) => cursor.as_str().and_then(|name| schema.number(name)).map(Value::Int),
        _ => None,
    }
}

//! A TOML file as a tree in which every key and value knows its place; tables keep the order of the file.

use crate::{
    edit::nesting,
    report::{Findings, Span, did_you_mean},
};
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub span: Span,
    pub node: Node,
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Str(Arc<str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Array(Vec<Item>),
    Table(Table),
}

/// A table in file order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub span: Span,
    pub entries: Vec<Entry>,
}

/// One line of a table.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: Arc<str>,
    pub key_span: Span,
    pub value: Item,
}

impl Item {
    pub fn as_str(&self) -> Option<&Arc<str>> {
        if let Node::Str(text) = &self.node { Some(text) } else { None }
    }

    pub fn as_table(&self) -> Option<&Table> {
        if let Node::Table(table) = &self.node { Some(table) } else { None }
    }

    /// What it is, for people.
    pub fn what(&self) -> &'static str {
        match self.node {
            Node::Str(_) => "a text",
            Node::Int(_) => "an integer",
            Node::Float(_) => "a number",
            Node::Bool(_) => "true or false",
            Node::Array(_) => "an array",
            Node::Table(_) => "a table",
        }
    }
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Item> {
        self.entries.iter().find(|e| &*e.key == key).map(|e| &e.value)
    }
}

/// Reads a file; every error is reported, and what could be read is returned.
pub(crate) fn parse(file: u32, text: &str, findings: &mut Findings) -> Table {
    let deep = nesting::too_deep(text);
    if let Some(start) = deep {
        findings.error(Span { file, start, end: start + 1 }, nesting::TOO_DEEP);
    }
    let (table, errors) = DeTable::parse_recoverable(if deep.is_none() { text } else { "" });
    for error in &errors {
        let range = error.span().unwrap_or(0..0);
        findings.error(Span { file, start: range.start, end: range.end }, error.message().to_owned());
    }
    let range = table.span();
    let span = Span { file, start: range.start, end: range.end };
    read_table(table.get_ref(), span, findings)
}

fn read_table(table: &DeTable<'_>, span: Span, findings: &mut Findings) -> Table {
    let place = |range: std::ops::Range<usize>| Span { start: range.start, end: range.end, ..span };
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: Arc::from(key.get_ref().as_ref()),
            key_span: place(key.span()),
            value: read(value.get_ref(), place(value.span()), findings),
        })
        .collect();
    entries.sort_by_key(|e| e.key_span.start);
    Table { span, entries }
}

fn read(value: &DeValue<'_>, span: Span, findings: &mut Findings) -> Item {
    let node = match value {
        DeValue::String(text) => Node::Str(Arc::from(text.as_ref())),
        DeValue::Boolean(truth) => Node::Bool(*truth),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Node::Int(number),
            Err(_) => {
                findings.error(span, "the integer does not fit 64 bits");
                Node::Int(0)
            }
        },
        DeValue::Float(number) => Node::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)),
        DeValue::Datetime(time) => Node::Str(Arc::from(time.to_string())),
        DeValue::Array(items) => Node::Array(
            items
                .iter()
                .map(|i| {
                    let range = i.span();
                    read(i.get_ref(), Span { start: range.start, end: range.end, ..span }, findings)
                })
                .collect(),
        ),
        DeValue::Table(table) => Node::Table(read_table(table, span, findings)),
    };
    Item { span, node }
}

/// Takes a table apart; a key nobody asked for is an error.
pub(crate) struct Fields<'a> {
    table: &'a Table,
    what: String,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// `what` names the table for people.
    pub fn new(table: &'a Table, what: impl Into<String>) -> Fields<'a> {
        Fields { table, what: what.into(), asked: Vec::new() }
    }

    pub fn get(&mut self, key: &'static str) -> Option<&'a Item> {
        self.asked.push(key);
        self.table.get(key)
    }

    pub fn str(&mut self, key: &'static str, findings: &mut Findings) -> Option<(&'a Arc<str>, Span)> {
        let item = self.get(key)?;
        match item.as_str() {
            Some(text) => Some((text, item.span)),
            None => {
                findings.error(
                    item.span,
                    format!("`{key}` of {} must be a text, not {}", self.what, item.what()),
                );
                None
            }
        }
    }

    pub fn need_str(&mut self, key: &'static str, findings: &mut Findings) -> Option<(&'a Arc<str>, Span)> {
        if self.table.get(key).is_none() {
            findings.error(self.table.span, format!("{} needs `{key}`", self.what));
        }
        self.str(key, findings)
    }

    pub fn bool(&mut self, key: &'static str, findings: &mut Findings) -> Option<bool> {
        let item = self.get(key)?;
        match item.node {
            Node::Bool(truth) => Some(truth),
            _ => {
                findings.error(
                    item.span,
                    format!("`{key}` of {} must be true or false, not {}", self.what, item.what()),
                );
                None
            }
        }
    }

    pub fn table(&mut self, key: &'static str, findings: &mut Findings) -> Option<&'a Table> {
        let item = self.get(key)?;
        if item.as_table().is_none() {
            findings
                .error(item.span, format!("`{key}` of {} must be a table, not {}", self.what, item.what()));
        }
        item.as_table()
    }

    pub fn array(&mut self, key: &'static str, findings: &mut Findings) -> &'a [Item] {
        match self.get(key) {
            None => &[],
            Some(Item { node: Node::Array(items), .. }) => items,
            Some(item) => {
                findings.error(
                    item.span,
                    format!("`{key}` of {} must be an array, not {}", self.what, item.what()),
                );
                &[]
            }
        }
    }

    /// Reports the keys that were not asked for.
    pub fn finish(self, findings: &mut Findings) {
        for entry in &self.table.entries {
            if !self.asked.contains(&&*entry.key) {
                let help = did_you_mean(&entry.key, self.asked.iter().copied())
                    .unwrap_or_else(|| format!("known: {}", self.asked.join(", ")));
                findings.error_help(
                    entry.key_span,
                    format!("{} has no key `{}`", self.what, entry.key),
                    Some(help),
                );
            }
        }
    }
}

//! A TOML value with its place in the file.

use crate::edit::report::Sink;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Where in a row file one reads.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'c, 'i> {
    value: Node<'c, 'i>,
    at: usize,
}

#[derive(Clone, Copy)]
enum Node<'c, 'i> {
    Table(&'c DeTable<'i>),
    Value(&'c DeValue<'i>),
}

impl<'c, 'i> Cursor<'c, 'i> {
    pub(crate) fn root(table: &'c Spanned<DeTable<'i>>) -> Cursor<'c, 'i> {
        Cursor { value: Node::Table(table.get_ref()), at: 0 }
    }

    fn of(value: &'c Spanned<DeValue<'i>>) -> Cursor<'c, 'i> {
        Cursor { value: Node::Value(value.get_ref()), at: value.span().start }
    }

    /// The first byte of the value.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    fn table(&self) -> Option<&'c DeTable<'i>> {
        match self.value {
            Node::Table(table) => Some(table),
            Node::Value(value) => value.as_table(),
        }
    }

    pub(crate) fn is_table(&self) -> bool {
        self.table().is_some()
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.value, Node::Value(DeValue::Array(_)))
    }

    pub(crate) fn get(&self, key: &str) -> Option<Cursor<'c, 'i>> {
        let (_, value) = self.table()?.iter().find(|(k, _)| k.get_ref() == key)?;
        Some(Cursor::of(value))
    }

    /// Key, place of the key, value; in the order of the file.
    pub(crate) fn entries(&self) -> Vec<(&'c str, usize, Cursor<'c, 'i>)> {
        let entries = self.table().into_iter().flat_map(|table| table.iter());
        let mut all: Vec<_> = entries
            .map(|(key, value)| (key.get_ref().as_ref(), key.span().start, Cursor::of(value)))
            .collect();
        all.sort_by_key(|(_, at, _)| *at);
        all
    }

    pub(crate) fn items(&self) -> Vec<Cursor<'c, 'i>> {
        match self.value {
            Node::Value(DeValue::Array(items)) => items.iter().map(Cursor::of).collect(),
            _ => Vec::new(),
        }
    }

    /// Refuses keys other than `known`.
    pub(crate) fn only(&self, sink: &mut Sink<'_>, known: &[&str]) {
        for (key, at, _) in self.entries() {
            if !known.contains(&key) {
                sink.unknown(at, "key", key, known.iter().copied());
            }
        }
    }

    /// The value as text, or a complaint.
    pub(crate) fn str(&self, sink: &mut Sink<'_>) -> Option<&'c str> {
        let text = self.as_str();
        if text.is_none() {
            sink.add(self.at, "expected text in quotes");
        }
        text
    }

    pub(crate) fn as_str(&self) -> Option<&'c str> {
        if let Node::Value(value) = self.value { value.as_str() } else { None }
    }

    /// The text under `key`, if it is there.
    pub(crate) fn text(&self, sink: &mut Sink<'_>, key: &str) -> Option<&'c str> {
        self.get(key)?.str(sink)
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        if let Node::Value(value) = self.value { value.as_bool() } else { None }
    }

    pub(crate) fn as_int(&self) -> Option<i64> {
        let Node::Value(value) = self.value else { return None };
        value.as_integer()?.as_str().parse().ok()
    }

    /// The value as a list of texts, or a complaint.
    pub(crate) fn list(&self, sink: &mut Sink<'_>) -> Vec<String> {
        if !self.is_list() {
            sink.add(self.at, "expected a list of texts in quotes");
        }
        self.items().iter().filter_map(|item| item.str(sink).map(str::to_owned)).collect()
    }

    /// The list of texts under `key`, if it is there.
    pub(crate) fn strings(&self, sink: &mut Sink<'_>, key: &str) -> Vec<String> {
        self.get(key).map_or_else(Vec::new, |value| value.list(sink))
    }
}

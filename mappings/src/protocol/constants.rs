//! Plain data for the front: `[view.NAME]`, `[table.NAME]`.

use crate::data::{Item, Node, Table};
use std::sync::Arc;

/// A constant of a mapping file.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    /// `true`, `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A real number.
    Float(f64),
    /// Text.
    Text(Arc<str>),
    /// An array.
    List(Vec<Constant>),
    /// A table, in file order.
    Table(Vec<(Arc<str>, Constant)>),
}

impl Constant {
    /// The constant at a path of keys, `about.name`.
    pub fn get(&self, path: &str) -> Option<&Constant> {
        path.split('.').try_fold(self, |at, key| match at {
            Constant::Table(entries) => entries.iter().find(|(k, _)| &**k == key).map(|(_, v)| v),
            _ => None,
        })
    }

    /// The text at a path.
    pub fn text(&self, path: &str) -> Option<&Arc<str>> {
        if let Constant::Text(text) = self.get(path)? { Some(text) } else { None }
    }

    /// The integer at a path.
    pub fn int(&self, path: &str) -> Option<i64> {
        if let Constant::Int(n) = self.get(path)? { Some(*n) } else { None }
    }

    /// The truth value at a path.
    pub fn bool(&self, path: &str) -> Option<bool> {
        if let Constant::Bool(b) = self.get(path)? { Some(*b) } else { None }
    }

    /// The items at a path; none if there is no array.
    pub fn list(&self, path: &str) -> &[Constant] {
        if let Some(Constant::List(items)) = self.get(path) { items } else { &[] }
    }

    /// The entries at a path, in file order; none if there is no table.
    pub fn entries(&self, path: &str) -> &[(Arc<str>, Constant)] {
        if let Some(Constant::Table(entries)) = self.get(path) { entries } else { &[] }
    }

    /// Itself, if text.
    pub fn as_text(&self) -> Option<&Arc<str>> {
        if let Constant::Text(text) = self { Some(text) } else { None }
    }

    /// Its entries, if a table.
    pub fn as_entries(&self) -> &[(Arc<str>, Constant)] {
        if let Constant::Table(entries) = self { entries } else { &[] }
    }
}

pub(crate) fn read(item: &Item) -> Constant {
    match &item.node {
        Node::Bool(b) => Constant::Bool(*b),
        Node::Int(n) => Constant::Int(*n),
        Node::Float(n) => Constant::Float(*n),
        Node::Str(text) => Constant::Text(text.clone()),
        Node::Array(items) => Constant::List(items.iter().map(read).collect()),
        Node::Table(table) => read_table(table),
    }
}

pub(crate) fn read_table(table: &Table) -> Constant {
    Constant::Table(table.entries.iter().map(|e| (e.key.clone(), read(&e.value))).collect())
}

//! Reading a document by its rows. Total: what cannot be read is left unset and reported as a gap.

use super::{
    lens::Misfit,
    model::{Item, List, Order, Row, Rows},
    path::{Path, Twice, find_all},
    tree::{Node, Tree},
};
use rustc_hash::FxHashMap;
use std::{borrow::Cow, sync::Arc};
use union::{Record, Value};

/// A place that the rows read and could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The native path, inside a list behind the item's key.
    pub path: String,
    /// What stands there; shortened to 80 characters.
    pub value: String,
    /// Why it is left unset.
    pub why: String,
}

/// A document as the union says it.
#[derive(Clone, Debug)]
pub struct Got {
    /// The object.
    pub record: Record,
    /// What is left unset.
    pub gaps: Vec<Gap>,
}

/// One item of a keyed list.
pub(crate) struct Keyed {
    pub node: Node,
    /// `key`, or `key#2` for the second of a kind; `#`, `##2` without a key.
    pub id: Arc<str>,
    /// The key is there and no other item has it.
    pub clear: bool,
}

pub(crate) struct Reader<'a, 't> {
    pub tree: &'a Tree<'t>,
    pub gaps: Vec<Gap>,
    /// Whether anybody wants gaps.
    quiet: bool,
    place: String,
}

impl<'a, 't> Reader<'a, 't> {
    pub(crate) fn new(tree: &'a Tree<'t>) -> Reader<'a, 't> {
        Reader { tree, gaps: Vec::new(), quiet: false, place: String::new() }
    }

    /// A reader that keeps no gaps.
    pub(crate) fn quiet(tree: &'a Tree<'t>) -> Reader<'a, 't> {
        Reader { quiet: true, ..Reader::new(tree) }
    }

    fn gap(&mut self, label: &str, value: &str, why: impl ToString) {
        // A document of many broken items is one fact, not a hundred thousand.
        if self.quiet || self.gaps.len() >= 100 {
            return;
        }
        let value = value.chars().take(80).collect();
        self.gaps.push(Gap { path: format!("{}{label}", self.place), value, why: why.to_string() });
    }

    /// All fields of an element.
    pub(crate) fn rows(&mut self, rows: &Rows, base: Node) -> Record {
        let mut record = Record::new(rows.message, rows.width);
        for row in &rows.rows {
            self.row(row, base, &mut record);
        }
        for row in &rows.rows {
            if let Some(leader) = row.absent
                && record.get(row.slot).is_absent()
            {
                record.set(row.slot, record.get(leader).clone());
            }
        }
        if let Some(variant) = &rows.variant {
            let word = match variant.on.read(self.tree, base) {
                Ok(word) => word.or_else(|| variant.on.default.clone().map(Cow::Owned)),
                Err(Twice) => None,
            };
            if let Some(word) = word {
                for row in variant.case(&word).into_iter().flat_map(|case| &case.rows) {
                    self.row(row, base, &mut record);
                }
                record.set(variant.slot, Value::str(&word));
            }
        }
        for part in &rows.parts {
            let found = find_all(self.tree, base, &part.path.steps);
            if found.len() > 1 {
                self.gap(&part.label, "", "several elements where the union has one; the first is shown");
            }
            if let Some(node) = found.first() {
                record.set(
                    part.slot,
                    Value::record(self.inside(&part.label, "", |r| r.rows(&part.rows, *node))),
                );
            }
        }
        for list in &rows.lists {
            let items = self.list(list, base);
            record.set(list.slot, if items.is_empty() { Value::Absent } else { Value::List(items.into()) });
        }
        for (slot, counted) in &rows.counts {
            let count = i64::try_from(record.get(*counted).items().len()).unwrap_or(i64::MAX);
            record.set(*slot, Value::Int(count));
        }
        record
    }

    fn inside<T>(&mut self, label: &str, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.place.len();
        if !self.quiet {
            self.place.push_str(label);
            if !key.is_empty() {
                self.place.push(' ');
                self.place.push_str(key);
            }
            self.place.push_str(": ");
        }
        let read = read(self);
        self.place.truncate(length);
        read
    }

    fn row(&mut self, row: &Row, base: Node, record: &mut Record) {
        if matches!(row.policy, super::model::Policy::Follow) {
            return;
        }
        // The field's writer is read first wherever it stands; the others fill what it leaves unset.
        if matches!(row.policy, super::model::Policy::Read) && !record.get(row.slot).is_absent() {
            return;
        }
        match self.value(row, base) {
            Ok(Value::Absent) => {}
            Ok(value) => record.set(row.slot, value),
            Err((value, why)) => self.gap(&row.label, &value, why),
        }
    }

    /// What a row reads; else the text and why it does not fit.
    pub(crate) fn value(&self, row: &Row, base: Node) -> Result<Value, (String, String)> {
        let twice = |Twice| (String::new(), "the element is there more than once".to_owned());
        let [path] = row.source.as_slice() else {
            let joined = self.join(&row.source, base).map_err(twice)?;
            return row
                .lens
                .read(joined.map(Cow::Owned), None)
                .map_err(|why| (String::new(), why.to_string()));
        };
        let Some(node) = path.find(self.tree, base).map_err(twice)? else {
            let absent = path.default.as_deref().filter(|_| !row.lens.is_present()).map(Cow::Borrowed);
            return row.lens.read(absent, None).map_err(|why| (String::new(), why.to_string()));
        };
        let raw = match &path.attribute {
            None => Some(self.tree.content(node)),
            Some(name) => match self.tree.attribute(node, name) {
                Some(attribute) => Some(self.tree.value(attribute)),
                None => path.default.as_deref().map(Cow::Borrowed),
            },
        };
        let unit =
            row.lens.unit().and_then(|_| self.tree.attribute(node, "unit")).map(|a| self.tree.value(a));
        let value = row.lens.read(raw.clone(), unit.as_deref());
        let value = value.and_then(|value| match value {
            Value::Int(number) if row.narrow && i32::try_from(number).is_err() => Err(Misfit::Range),
            value => Ok(value),
        });
        value.map_err(|why| (raw.unwrap_or_default().into_owned(), why.to_string()))
    }

    pub(crate) fn join(&self, source: &[Path], base: Node) -> Result<Option<String>, Twice> {
        let mut joined = String::new();
        for path in source {
            match path.read(self.tree, base)? {
                Some(text) => joined.push_str(&text),
                None => match &path.default {
                    Some(text) => joined.push_str(text),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(joined))
    }

    fn list(&mut self, list: &List, base: Node) -> Vec<Value> {
        let nodes = find_all(self.tree, base, &list.path.steps);
        match (&list.item, &list.order) {
            (Item::Scalar(row), _) => {
                let mut items = Vec::with_capacity(nodes.len());
                for node in nodes {
                    match self.value(row, node) {
                        // Places count, so one that cannot be read holds its own.
                        Ok(value) => items.push(value),
                        Err((value, why)) => {
                            self.gap(&list.label, &value, why);
                            items.push(Value::Absent);
                        }
                    }
                }
                items
            }
            (Item::Part(rows), Order::Position) => {
                let read = |node| Value::record(self.inside(&list.label, "", |r| r.rows(rows, node)));
                nodes.into_iter().map(read).collect()
            }
            (Item::Part(rows), Order::Key { key, lower, id, .. }) => {
                let keyed = self.keys(&nodes, key, *lower);
                let mut items = Vec::with_capacity(keyed.len());
                for (index, item) in keyed.into_iter().enumerate() {
                    if !item.clear && (!list.twins || item.id.starts_with('#')) {
                        self.gap(
                            &list.label,
                            &item.id,
                            "the key is absent or not the only one; the item cannot be edited",
                        );
                    }
                    let mut record = self.inside(&list.label, &item.id, |r| r.rows(rows, item.node));
                    record.set(*id, Value::Str(item.id));
                    if let Some(slot) = list.position {
                        record.set(slot, Value::Int(i64::try_from(index).unwrap_or(i64::MAX)));
                    }
                    items.push(Value::record(record));
                }
                items
            }
        }
    }

    /// Tells items apart by their keys.
    pub(crate) fn keys(&self, nodes: &[Node], key: &[Path], lower: bool) -> Vec<Keyed> {
        let mut seen: FxHashMap<String, usize> = FxHashMap::default();
        let texts: Vec<String> = nodes.iter().map(|node| self.key(key, lower, *node)).collect();
        for text in &texts {
            *seen.entry(text.clone()).or_default() += 1;
        }
        let mut count: FxHashMap<&str, usize> = FxHashMap::default();
        let mut keyed = Vec::with_capacity(nodes.len());
        for (node, text) in nodes.iter().zip(&texts) {
            let occurrence = count.entry(text).or_default();
            *occurrence += 1;
            let clear = !text.is_empty() && seen.get(text) == Some(&1) && !text.contains('#');
            let base = if text.is_empty() { "#" } else { text };
            let id =
                if *occurrence == 1 { Arc::from(base) } else { Arc::from(format!("{base}#{occurrence}")) };
            keyed.push(Keyed { node: *node, id, clear });
        }
        keyed
    }

    /// An item's key; empty if it has none.
    pub(crate) fn key(&self, key: &[Path], lower: bool, node: Node) -> String {
        let text = self.join(key, node).ok().flatten().unwrap_or_default();
        if lower { text.to_lowercase() } else { text }
    }
}

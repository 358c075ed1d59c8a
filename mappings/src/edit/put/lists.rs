//! Lists: what is removed and changed first, then what is new, so that a freed key may be taken.

use super::{Writer, fill, same};
use crate::edit::{
    editor::{Place, splice},
    get::Reader,
    model::{Item, List, Order, Policy, Rows},
    path::{Path, Step, find_all},
    refusal::Refusal,
    settle,
    tree::{Node, Tree},
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;
use union::{Record, Value};

/// A new element, and where it comes from.
pub(super) struct New<'r> {
    pub label: &'r str,
    /// The item's key; empty for a part.
    pub id: &'r str,
    pub rows: &'r Rows,
    /// The last is the element itself.
    pub steps: &'r [Step],
    pub skeleton: Option<&'r str>,
}

impl<'r> New<'r> {
    fn of(list: &'r List, rows: &'r Rows, id: &'r str) -> New<'r> {
        New { label: &list.label, id, rows, steps: &list.path.steps, skeleton: list.skeleton.as_deref() }
    }
}

impl Writer<'_, '_> {
    /// Removals and changes; additions come when every list has made room.
    pub(super) fn list_old(
        &mut self,
        list: &List,
        base: Node,
        old: &Value,
        want: &Value,
    ) -> Result<(), Refusal> {
        let nodes = find_all(self.tree, base, &list.path.steps);
        match &list.order {
            Order::Position => {
                for (index, node) in nodes.iter().enumerate() {
                    match (old.items().get(index), want.items().get(index)) {
                        (_, None) => self.editor.remove(&list.label, *node),
                        (Some(old), Some(want)) if !same(old, want) => {
                            let key = (index + 1).to_string();
                            self.inside(&list.label, &key, |w| w.item(&list.item, *node, old, want))?;
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
            Order::Key { key, lower, .. } => {
                let Item::Part(rows) = &list.item else { return Ok(()) };
                let mut wanted: FxHashMap<Arc<str>, &Arc<Record>> = FxHashMap::default();
                for item in want.items().iter().filter_map(Value::as_record) {
                    let key = settle::key(list, item)
                        .ok_or_else(|| Refusal::NoKey { row: list.label.to_string() })?;
                    if wanted.insert(key.clone(), item).is_some() {
                        return Err(Refusal::KeyTaken { row: list.label.to_string(), key: key.to_string() });
                    }
                }
                let keyed = Reader::quiet(self.tree).keys(&nodes, key, *lower);
                for (item, old) in keyed.iter().zip(old.items()) {
                    let want = wanted.get(&item.id);
                    let Value::Record(old) = old else { continue };
                    if want.is_some_and(|want| *want == old) {
                        continue;
                    }
                    if !item.clear {
                        return Err(Refusal::KeyUnclear {
                            row: list.label.to_string(),
                            key: item.id.to_string(),
                        });
                    }
                    match want {
                        Some(want) => {
                            self.inside(&list.label, &item.id, |w| w.rows(rows, item.node, old, want))?
                        }
                        None => self.inside(&list.label, &item.id, |w| w.editor.remove("", item.node)),
                    }
                }
                Ok(())
            }
        }
    }

    fn item(&mut self, item: &Item, node: Node, old: &Value, want: &Value) -> Result<(), Refusal> {
        match (item, old, want) {
            (Item::Part(rows), Value::Record(old), Value::Record(want)) => self.rows(rows, node, old, want),
            (Item::Scalar(row), _, want) => self.write(row, node, want),
            _ => Ok(()),
        }
    }

    pub(super) fn list_new(
        &mut self,
        list: &List,
        base: Node,
        old: &Value,
        want: &Value,
    ) -> Result<(), Refusal> {
        let (key, lower, scope) = match &list.order {
            Order::Position => {
                for (index, want) in want.items().iter().enumerate().skip(old.items().len()) {
                    self.add_positioned(list, base, index, want)?;
                }
                return Ok(());
            }
            Order::Key { key, lower, scope, .. } => (key, *lower, scope),
        };
        let Item::Part(rows) = &list.item else { return Ok(()) };
        let had: FxHashSet<Arc<str>> =
            old.items().iter().filter_map(Value::as_record).filter_map(|r| settle::key(list, r)).collect();
        let fresh =
            want.items().iter().filter_map(Value::as_record).filter_map(|r| Some((settle::key(list, r)?, r)));
        let mut taken: Option<FxHashSet<String>> = None;
        for (id, item) in fresh.filter(|(id, _)| !had.contains(id)) {
            let reader = Reader::quiet(self.tree);
            let taken = taken.get_or_insert_with(|| -> FxHashSet<String> {
                let live = find_all(self.tree, base, scope).into_iter().filter(|n| !self.editor.is_gone(*n));
                live.map(|node| reader.key(key, lower, node)).collect()
            });
            let names: Vec<&str> = list.path.names().collect();
            let new = self.keys.insert(format!("{} {id}", names.join("/")));
            if id.contains('#') || taken.contains(id.as_ref()) || !new {
                return Err(Refusal::KeyTaken { row: list.label.to_string(), key: id.to_string() });
            }
            let leaf = if let [one] = key.as_slice() { Some(one) } else { None };
            let written = rows.rows.iter().any(|row| {
                !matches!(row.policy, Policy::Read | Policy::Follow)
                    && leaf.is_some_and(|leaf| {
                        row.target().is_some_and(|p| p.steps == leaf.steps && p.attribute == leaf.attribute)
                    })
            });
            let key = leaf.filter(|_| !written).map(|leaf| (leaf, id.as_ref()));
            self.add(&New::of(list, rows, &id), base, item, key)?;
        }
        Ok(())
    }

    fn add_positioned(&mut self, list: &List, base: Node, index: usize, want: &Value) -> Result<(), Refusal> {
        let key = (index + 1).to_string();
        match (&list.item, want) {
            (Item::Part(rows), Value::Record(want)) => self.add(&New::of(list, rows, &key), base, want, None),
            (Item::Scalar(row), want) => {
                let skeleton = list
                    .skeleton
                    .as_deref()
                    .ok_or_else(|| Refusal::NoSkeleton { row: list.label.to_string() })?;
                let tree = Tree::parse(skeleton)?;
                let mut writer = Writer::new(&tree, self.native, true);
                writer.editor.place = format!("{}{} {key}: ", self.editor.place, list.label);
                writer.write(row, tree.root(), want)?;
                let text = splice(skeleton, &writer.editor.finish()?);
                self.attach(&list.label, &key, &list.path.steps, base, &text)
            }
            _ => Ok(()),
        }
    }

    /// A new element: the wanted fields put into the fragment.
    pub(super) fn add(
        &mut self,
        new: &New<'_>,
        base: Node,
        want: &Record,
        key: Option<(&Path, &str)>,
    ) -> Result<(), Refusal> {
        let New { label, id, rows, steps, skeleton } = *new;
        let skeleton = skeleton.ok_or_else(|| Refusal::NoSkeleton { row: self.name(label) })?;
        let place = format!("{}{label} {id}: ", self.editor.place);
        let text = fill(rows, self.native, skeleton, want, key, &place)?;
        self.attach(label, id, steps, base, &text)
    }

    fn attach(
        &mut self,
        label: &str,
        id: &str,
        steps: &[Step],
        base: Node,
        text: &str,
    ) -> Result<(), Refusal> {
        let tree = Tree::parse(text)?;
        let Some((last, parents)) = steps.split_last() else { return Ok(()) };
        let parent = self.editor.ensure(label, Place::Old(base), parents)?;
        let row = if id.is_empty() { label.to_owned() } else { format!("{label} {id}") };
        let place = self.editor.graft(&row, parent, &tree, tree.root());
        if let Some(predicate) = &last.predicate
            && !last.matches(&tree, tree.root())
        {
            self.editor.set_attribute(&row, place, &predicate.attribute, &predicate.value)?;
        }
        Ok(())
    }
}

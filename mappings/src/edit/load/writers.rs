//! Who writes what: one writer a field, one field a node, no list over another's elements.

use super::Context;
use crate::edit::{
    model::{List, Policy, Row, Rows},
    path::Step,
};
use std::collections::BTreeMap;
use union::Slot;

/// Whether a put can write through the row.
pub(crate) fn writes(row: &Row) -> bool {
    !matches!(row.policy, Policy::Read | Policy::Follow)
}

pub(super) fn check(context: &mut Context<'_, '_>, rows: &mut Rows, at: usize) {
    let mut writers: BTreeMap<Slot, Vec<String>> = BTreeMap::new();
    let mut readers: Vec<Slot> = Vec::new();
    let mut leaves: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows.rows {
        match row.policy {
            Policy::Follow => {}
            Policy::Read => readers.push(row.slot),
            _ => writers.entry(row.slot).or_default().push(row.label.to_string()),
        }
        if row.policy != Policy::Read {
            claim(&mut leaves, row, rows.field(row.slot));
        }
    }
    if let Some(variant) = &rows.variant {
        writers.entry(variant.slot).or_default().push(variant.label.to_string());
        for slot in variant.fields.iter() {
            writers.entry(slot).or_default().push(format!("the cases of {}", variant.label));
        }
        for case in &variant.cases {
            let mut seen: BTreeMap<Slot, usize> = BTreeMap::new();
            let mut inside = leaves.clone();
            for row in &case.rows {
                readers.push(row.slot);
                if row.policy != Policy::Read {
                    claim(&mut inside, row, rows.field(row.slot));
                    *seen.entry(row.slot).or_default() += usize::from(writes(row));
                }
            }
            for (slot, _) in seen.iter().filter(|(_, count)| **count > 1) {
                context
                    .sink
                    .add(at, format!("two rows of case `{}` write `{}`", case.name, rows.field(*slot)));
            }
            twice(context, at, &inside);
        }
    }
    for quotient in &rows.quotients {
        leaves.entry(quotient.path.text.to_string()).or_default().push(quotient.label.to_string());
    }
    twice(context, at, &leaves);
    for list in &rows.lists {
        writers.entry(list.slot).or_default().push(list.label.to_string());
    }
    for part in &rows.parts {
        writers.entry(part.slot).or_default().push(part.label.to_string());
    }
    for (slot, by) in writers.iter().filter(|(_, by)| by.len() > 1) {
        context.sink.add_help(
            at,
            format!("`{}` is written by {}", rows.field(*slot), by.join(" and ")),
            Some("mark all but one `dup = \"follow\"`, `dup = \"view\"` or `edit = \"read\"`".to_owned()),
        );
    }
    followers(context, rows, at, &writers);
    let lists: Vec<&List> = rows.lists.iter().collect();
    for (index, list) in lists.iter().enumerate() {
        for other in lists.iter().skip(index + 1) {
            if overlap(&list.path.steps, &other.path.steps) {
                context.sink.add_help(
                    at,
                    format!("lists {} and {} can hold the same element", list.label, other.label),
                    Some("give both a condition on the same attribute with different values".to_owned()),
                );
            }
        }
    }
    for slot in writers.keys() {
        rows.written.insert(*slot);
        rows.read.insert(*slot);
    }
    for slot in readers {
        rows.read.insert(slot);
    }
    for (slot, _) in &rows.counts {
        rows.read.insert(*slot);
    }
    if let Some(order) = rows.lists.iter().find(|list| list.position.is_some_and(|slot| list.slot == slot)) {
        context.sink.add(at, format!("{} cannot be its own position", order.label));
    }
}

/// A follower needs a writer of its field; a leader has to be a field that is written too.
fn followers(context: &mut Context<'_, '_>, rows: &Rows, at: usize, writers: &BTreeMap<Slot, Vec<String>>) {
    for row in &rows.rows {
        if row.policy == Policy::Follow && !writers.contains_key(&row.slot) {
            context
                .sink
                .add(at, format!("{} follows `{}`, which no row writes", row.label, rows.field(row.slot)));
        }
        if let Some(leader) = row.follow
            && !writers.contains_key(&leader)
        {
            context
                .sink
                .add(at, format!("{} follows `{}`, which no row writes", row.label, rows.field(leader)));
        }
        if row.follow.is_some() && context.nesting.len() > 1 {
            context.sink.add(at, format!("{}: `follow` is for fields of the object itself", row.label));
        }
    }
}

fn claim(leaves: &mut BTreeMap<String, Vec<String>>, row: &Row, field: &str) {
    for path in &row.source {
        leaves.entry(path.text.to_string()).or_default().push(field.to_owned());
        if row.lens.unit().is_some() {
            leaves.entry(format!("{}/@unit", path.text)).or_default().push(field.to_owned());
        }
    }
}

fn twice(context: &mut Context<'_, '_>, at: usize, leaves: &BTreeMap<String, Vec<String>>) {
    for (path, fields) in leaves.iter().filter(|(_, fields)| fields.len() > 1) {
        context.sink.add(at, format!("{path} is written by {}", fields.join(" and ")));
    }
}

/// Whether one element can match both.
fn overlap(a: &[Step], b: &[Step]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            let apart = match (&a.predicate, &b.predicate) {
                (Some(p), Some(q)) => p.attribute == q.attribute && p.value != q.value,
                _ => false,
            };
            a.name == b.name && a.namespace == b.namespace && !apart
        })
}

//! What is really wanted, and whether it was reached.
//!
//! A wanted record is settled before it is put: followers follow and stay within their leader, an unset field takes what its row reads from nothing, fields of a kind
//! that is left behind go with it, and of two fields that exclude each other the one that was there first is cleared. The result is what
//! the edited document has to read back as.

use super::{
    model::{DocumentMap, Item, List, Order, Place, Policy, Row, Rows},
    put::same,
    refusal::Refusal,
};
use rustc_hash::FxHashMap;
use std::{borrow::Cow, sync::Arc};
use union::{Record, Value};

/// An item's key, by its id or by the field that says the same.
pub(crate) fn key(list: &List, item: &Record) -> Option<Arc<str>> {
    let Order::Key { id, twin, lower, .. } = &list.order else { return None };
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(Arc::<str>::from);
    let key = text(item.get(*id)).or_else(|| twin.and_then(|twin| text(item.get(twin))))?;
    Some(if *lower { Arc::from(key.to_lowercase()) } else { key })
}

/// What a row reads where nothing is.
fn nothing(row: &Row) -> Value {
    let default = row.target().and_then(|path| path.default.as_deref()).map(Cow::Borrowed);
    row.lens.read(default, None).unwrap_or(Value::Absent)
}

fn writer(row: &Row) -> bool {
    !matches!(row.policy, Policy::Read | Policy::Follow)
}

/// What is wanted of something new: the fragment's values where nothing is said.
pub(crate) fn fresh(rows: &Rows, old: &Record, want: &Record) -> Record {
    let mut want = want.clone();
    for (row, leader) in rows.rows.iter().filter_map(|row| Some((row, row.absent?))) {
        if want.get(row.slot).is_absent() {
            want.set(row.slot, want.get(leader).clone());
        }
    }
    for slot in rows.written.iter().filter(|slot| rows.lists.iter().all(|list| list.slot != *slot)) {
        if want.get(slot).is_absent() {
            want.set(slot, old.get(slot).clone());
        }
    }
    unset(rows, &mut want);
    want
}

fn unset(rows: &Rows, want: &mut Record) {
    let reads = |row: &&Row| {
        rows.rows.iter().filter(|r| r.slot == row.slot && r.policy != Policy::Follow).count() == 1
    };
    for row in rows.rows.iter().filter(|row| writer(row)).filter(reads) {
        if row.lens.is_filled() && want.get(row.slot).as_str() == Some("") {
            want.set(row.slot, Value::Absent);
        }
        if want.get(row.slot).is_absent() {
            let value = row.absent.map_or_else(|| nothing(row), |leader| want.get(leader).clone());
            want.set(row.slot, value);
        }
    }
}

/// What is wanted of something that is there.
pub(crate) fn changed(rows: &Rows, old: &Record, want: &Record) -> Record {
    let mut want = want.clone();
    for row in &rows.rows {
        let Some(leader) = row.follow else { continue };
        let together = !old.get(leader).is_absent() && same(old.get(row.slot), old.get(leader));
        if together && same(want.get(row.slot), old.get(row.slot)) {
            want.set(row.slot, want.get(leader).clone());
        }
        let over = row.at_most == Some(leader) && want.get(row.slot).as_int() > want.get(leader).as_int();
        if over && !want.get(leader).is_absent() && same(want.get(row.slot), old.get(row.slot)) {
            want.set(row.slot, want.get(leader).clone());
        }
    }
    if let Some(variant) = &rows.variant
        && !same(old.get(variant.slot), want.get(variant.slot))
    {
        let case = want.get(variant.slot).as_str().and_then(|kind| variant.case(kind));
        for slot in variant.fields.iter() {
            let has = case.is_some_and(|case| case.rows.iter().any(|row| row.slot == slot));
            if !has && same(old.get(slot), want.get(slot)) {
                want.set(slot, Value::Absent);
            }
        }
    }
    unset(rows, &mut want);
    for part in &rows.parts {
        if let (Value::Record(was), Value::Record(wanted)) = (old.get(part.slot), want.get(part.slot)) {
            let settled = changed(&part.rows, was, wanted);
            want.set(part.slot, Value::record(settled));
        }
    }
    for list in &rows.lists {
        let Item::Part(inner) = &list.item else { continue };
        if same(old.get(list.slot), want.get(list.slot)) {
            continue;
        }
        let before = by_key(list, old.get(list.slot));
        let settled = want.get(list.slot).items().iter().enumerate().map(|(index, item)| {
            let Value::Record(item) = item else { return item.clone() };
            let was = match key(list, item) {
                Some(key) => before.get(&key).copied(),
                None => old.get(list.slot).items().get(index).and_then(Value::as_record),
            };
            match was {
                Some(was) if was == item => Value::Record(item.clone()),
                Some(was) => Value::record(changed(inner, was, item)),
                None => Value::Record(item.clone()),
            }
        });
        let settled = Value::list(settled);
        want.set(list.slot, settled);
    }
    want
}

fn by_key<'v>(list: &List, items: &'v Value) -> FxHashMap<Arc<str>, &'v Arc<Record>> {
    items
        .items()
        .iter()
        .filter_map(Value::as_record)
        .filter_map(|item| Some((key(list, item)?, item)))
        .collect()
}

impl DocumentMap {
    /// Of sides that exclude each other, clears those that were set before and refuses two new ones.
    pub(crate) fn exclude(&self, old: &Record, want: &mut Record) -> Result<(), Refusal> {
        for exclusive in &self.exclusive {
            let set: Vec<&Vec<Place>> =
                exclusive.sides.iter().filter(|side| side.iter().any(|place| is_set(*place, want))).collect();
            if set.len() < 2 {
                continue;
            }
            let new: Vec<_> =
                set.iter().filter(|side| side.iter().any(|place| !unchanged(*place, old, want))).collect();
            if new.is_empty() {
                continue;
            }
            let name =
                |side: &[Place]| side.first().map_or("?", |place| self.rows.field(place.slot)).to_owned();
            if new.len() > 1 || !exclusive.clear {
                let mut names = set.iter().map(|side| name(side));
                let (one, other) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
                return Err(Refusal::Exclusive { one, other });
            }
            let losers: Vec<Place> = set
                .iter()
                .filter(|side| side.iter().all(|p| unchanged(*p, old, want)))
                .flat_map(|s| s.iter().copied())
                .collect();
            losers.into_iter().for_each(|place| clear(place, want));
        }
        Ok(())
    }

    /// The first field in which what a document reads as differs from what was wanted of it.
    pub(crate) fn differs(&self, old: Option<&Record>, want: &Record, got: &Record) -> Option<String> {
        differs(&self.rows, old, want, got)
    }
}

fn is_set(place: Place, record: &Record) -> bool {
    let value = record.get(place.slot);
    match place.item {
        None => !value.is_absent(),
        Some(slot) => {
            value.items().iter().filter_map(Value::as_record).any(|item| !item.get(slot).is_absent())
        }
    }
}

/// Whether every value at the place was there before.
fn unchanged(place: Place, old: &Record, want: &Record) -> bool {
    let Some(slot) = place.item else { return same(old.get(place.slot), want.get(place.slot)) };
    let values = |record: &Record| -> Vec<Value> {
        let items = record.get(place.slot).items().iter().filter_map(Value::as_record);
        items.map(|item| item.get(slot).clone()).filter(|value| !value.is_absent()).collect()
    };
    let before = values(old);
    values(want).iter().all(|value| before.contains(value))
}

fn clear(place: Place, record: &mut Record) {
    let Some(slot) = place.item else { return record.set(place.slot, Value::Absent) };
    let cleared = record.get(place.slot).items().iter().map(|item| match item {
        Value::Record(item) => {
            let mut item = Record::clone(item);
            item.set(slot, Value::Absent);
            Value::record(item)
        }
        other => other.clone(),
    });
    let cleared = Value::list(cleared);
    record.set(place.slot, cleared);
}

/// The first field that differs. Without `old` the thing is new, and what was not said is free; so is what no row writes, if it was not
/// asked to change.
fn differs(rows: &Rows, old: Option<&Record>, want: &Record, got: &Record) -> Option<String> {
    for slot in rows.read.union(rows.written).iter() {
        let (wanted, found) = (want.get(slot), got.get(slot));
        if same(wanted, found) || (old.is_none() && wanted.is_absent()) {
            continue;
        }
        let was = old.map(|old| old.get(slot));
        if !rows.written.contains(slot) && (wanted.is_absent() || was.is_some_and(|was| same(was, wanted))) {
            continue;
        }
        let name = rows.field(slot);
        let inside = |deeper: Option<String>, at: &str| deeper.map(|field| format!("{name}{at}.{field}"));
        if let Some(part) = rows.parts.iter().find(|part| part.slot == slot) {
            let (Value::Record(wanted), Value::Record(found)) = (wanted, found) else {
                return Some(name.to_owned());
            };
            let before = was.and_then(Value::as_record).map(Arc::as_ref);
            match inside(differs(&part.rows, before, wanted, found), "") {
                Some(field) => return Some(field),
                None => continue,
            }
        }
        let Some(list) = rows.lists.iter().find(|list| list.slot == slot) else {
            return Some(name.to_owned());
        };
        let Item::Part(inner) = &list.item else { return Some(name.to_owned()) };
        if wanted.items().len() != found.items().len() {
            return Some(name.to_owned());
        }
        let (before, after) = (was.map(|was| by_key(list, was)).unwrap_or_default(), by_key(list, found));
        for (index, wanted) in wanted.items().iter().enumerate() {
            let Value::Record(wanted) = wanted else { continue };
            let key = key(list, wanted);
            let positioned = |value: &Value| value.items().get(index).and_then(Value::as_record).cloned();
            let (was, now) = match &key {
                Some(key) => (before.get(key).map(|r| Arc::clone(r)), after.get(key).map(|r| Arc::clone(r))),
                None => (was.and_then(positioned), positioned(found)),
            };
            let at = key.map_or_else(|| format!("[{index}]"), |key| format!("[{key}]"));
            let Some(now) = now else { return Some(format!("{name}{at}")) };
            let field = inside(differs(inner, was.as_deref(), wanted, &now), &at);
            if field.is_some() {
                return field;
            }
        }
    }
    None
}

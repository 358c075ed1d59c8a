//! How a put becomes the next record of an object: values that stay share their allocation with the old record, new texts are interned. A
//! record that somebody else holds too, for example the inventory it comes from, is taken as it is: then both have the one.

use crate::intern::Interner;
use std::sync::Arc;
use union::{Record, Slot, SlotSet, Value};

/// The next record and the slots in which it differs; `None`: nothing differs.
///
/// Takes from `new` the slots in `taken`; a slot in `kept` that `new` leaves absent stays as it was.
pub(crate) fn merge(
    interner: Option<&mut Interner>,
    old: Option<&Arc<Record>>,
    new: Arc<Record>,
    taken: SlotSet,
    kept: SlotSet,
) -> Option<(Arc<Record>, SlotSet)> {
    let mut changed = SlotSet::EMPTY;
    let width = new.slots().len().max(old.map_or(0, |o| o.slots().len()));
    for index in 0..width {
        let slot = Slot(u16::try_from(index).unwrap_or(u16::MAX));
        let value = new.get(slot);
        let stays = !taken.contains(slot) || (kept.contains(slot) && value.is_absent());
        if !stays && !old.map_or(value.is_absent(), |o| same(o.get(slot), value)) {
            changed.insert(slot);
        }
    }
    if old.is_some() && changed.is_empty() {
        return None;
    }
    if taken == SlotSet::ALL && kept.is_empty() && Arc::strong_count(&new) > 1 {
        return Some((new, changed));
    }
    let mut next = match old {
        Some(old) => Record::clone(old),
        None => Record::new(new.message(), width),
    };
    let mut interner = interner;
    for slot in changed.iter() {
        let value = new.get(slot);
        next.set(
            slot,
            match interner.as_deref_mut() {
                _ if value.is_absent() => Value::Absent,
                Some(interner) => interner.value(value),
                None => value.clone(),
            },
        );
    }
    Some((Arc::new(next), changed))
}

/// Equality that looks inside only when it must, takes absent and empty for equal, and a number that is none for itself.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => Arc::ptr_eq(a, b) || a == b,
        (Value::List(a), Value::List(b)) => {
            Arc::ptr_eq(a, b) || (a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b)))
        }
        (Value::Record(a), Value::Record(b)) => {
            Arc::ptr_eq(a, b)
                || (a.message() == b.message()
                    && (0..a.slots().len().max(b.slots().len())).all(|index| {
                        let slot = Slot(u16::try_from(index).unwrap_or(u16::MAX));
                        same(a.get(slot), b.get(slot))
                    }))
        }
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b || (a.is_absent() && b.is_absent()),
    }
}

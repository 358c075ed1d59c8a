//! One object, or a part of one, as an array of values: a slot a field, in the order of the schema.

use crate::{
    schema::{MessageId, Slot, SlotSet},
    value::Value,
};
use std::sync::Arc;

/// A message as slots. Reading a slot that the record does not have gives `Absent`, so records outlive added extension fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    message: MessageId,
    slots: Box<[Value]>,
}

static ABSENT: Value = Value::Absent;

impl Record {
    /// An empty record of `message` with room for `slots` fields.
    pub fn new(message: MessageId, slots: usize) -> Record {
        Record { message, slots: vec![Value::Absent; slots].into_boxed_slice() }
    }

    /// Which message it is.
    pub fn message(&self) -> MessageId {
        self.message
    }

    /// The value in `slot`.
    #[inline]
    pub fn get(&self, slot: Slot) -> &Value {
        self.slots.get(usize::from(slot.0)).unwrap_or(&ABSENT)
    }

    /// Puts a value into `slot`; grows the record if its schema has grown since.
    pub fn set(&mut self, slot: Slot, value: impl Into<Value>) {
        let index = usize::from(slot.0);
        if index >= self.slots.len() {
            let mut slots = std::mem::take(&mut self.slots).into_vec();
            slots.resize(index + 1, Value::Absent);
            self.slots = slots.into_boxed_slice();
        }
        if let Some(place) = self.slots.get_mut(index) {
            *place = value.into();
        }
    }

    /// All slots in order.
    pub fn slots(&self) -> &[Value] {
        &self.slots
    }

    /// The slots in which two records of one message differ.
    pub fn changed(&self, other: &Record) -> SlotSet {
        let mut set = SlotSet::EMPTY;
        for index in 0..self.slots.len().max(other.slots.len()) {
            let slot = Slot(u16::try_from(index).unwrap_or(u16::MAX));
            if !same(self.get(slot), other.get(slot)) {
                set.insert(slot);
            }
        }
        set
    }
}

/// Equality that takes one allocation for equal without looking inside.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => Arc::ptr_eq(a, b) || a == b,
        (Value::List(a), Value::List(b)) => Arc::ptr_eq(a, b) || a == b,
        (Value::Record(a), Value::Record(b)) => Arc::ptr_eq(a, b) || a == b,
        (a, b) => a == b || (a.is_absent() && b.is_absent()),
    }
}

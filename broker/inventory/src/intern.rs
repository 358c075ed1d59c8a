//! One allocation for each distinct text. Texts that nobody else holds any more are dropped when the table has doubled.

use rustc_hash::FxHashSet;
use std::sync::Arc;
use union::{Record, Value};

#[derive(Debug, Default)]
pub(crate) struct Interner {
    texts: FxHashSet<Arc<str>>,
    sweep_at: usize,
}

/// Below this many texts no sweep is worth its time.
const FIRST_SWEEP: usize = 4_096;

impl Interner {
    pub(crate) fn text(&mut self, text: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        if self.texts.len() >= self.sweep_at.max(FIRST_SWEEP) {
            self.texts.retain(|t| Arc::strong_count(t) > 1);
            self.sweep_at = self.texts.len() * 2;
        }
        self.texts.insert(Arc::clone(text));
        Arc::clone(text)
    }

    pub(crate) fn value(&mut self, value: &Value) -> Value {
        match value {
            Value::Str(text) => Value::Str(self.text(text)),
            Value::List(items) if items.iter().any(holds_text) => {
                Value::List(items.iter().map(|item| self.value(item)).collect())
            }
            Value::Record(part) => {
                let mut interned = Record::new(part.message(), part.slots().len());
                for (index, value) in part.slots().iter().enumerate() {
                    if let Ok(index) = u16::try_from(index) {
                        interned.set(union::Slot(index), self.value(value));
                    }
                }
                Value::record(interned)
            }
            other => other.clone(),
        }
    }
}

fn holds_text(value: &Value) -> bool {
    matches!(value, Value::Str(_) | Value::List(_) | Value::Record(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_become_one_allocation() {
        let mut interner = Interner::default();
        let a = interner.text(&Arc::from("web01"));
        let b = interner.text(&Arc::from("web01"));
        assert!(Arc::ptr_eq(&a, &b));
    }

    #[test]
    fn texts_nobody_holds_are_dropped() {
        let mut interner = Interner::default();
        for n in 0..FIRST_SWEEP * 3 {
            interner.text(&Arc::from(n.to_string()));
        }
        assert!(interner.texts.len() <= FIRST_SWEEP + 1);
    }
}

//! One allocation for each distinct text. Texts that nobody else holds any more are dropped when the table has doubled. A list or a part whose
//! texts are in the table already, as those of one seen for the first time then are, stays as it is.

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
                let interned: Vec<Value> = items.iter().map(|item| self.value(item)).collect();
                if interned.iter().zip(items.iter()).all(|(new, old)| is_it(new, old)) {
                    value.clone()
                } else {
                    Value::List(interned.into())
                }
            }
            Value::Record(part) => {
                let mut interned = None;
                for (index, old) in part.slots().iter().enumerate() {
                    let new = self.value(old);
                    if !is_it(&new, old)
                        && let Ok(index) = u16::try_from(index)
                    {
                        interned.get_or_insert_with(|| Record::clone(part)).set(union::Slot(index), new);
                    }
                }
                interned.map_or_else(|| value.clone(), Value::record)
            }
            other => other.clone(),
        }
    }
}

/// Whether two values, of which one was made from the other, are the same allocation.
fn is_it(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => Arc::ptr_eq(a, b),
        (Value::List(a), Value::List(b)) => Arc::ptr_eq(a, b),
        (Value::Record(a), Value::Record(b)) => Arc::ptr_eq(a, b),
        _ => true,
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
    fn what_holds_known_texts_stays_as_it_is() {
        let mut interner = Interner::default();
        let schema = union::Schema::base();
        let part = |text: &str| {
            let mut part = schema.kind(union::Kind::Vm).record();
            part.set(union::Slot(0), text);
            part.set(union::Slot(1), 7i64);
            Value::list([Value::record(part)])
        };
        let (first, again, other) = (part("a"), part("a"), part("b"));
        let one = interner.value(&first);
        assert!(is_it(&one, &first));
        let two = interner.value(&again);
        assert!(!is_it(&two, &again) && two == again);
        let text = |value: &Value| value.items()[0].as_record().map(|part| part.get(union::Slot(0)).clone());
        assert!(text(&one).zip(text(&two)).is_some_and(|(one, two)| is_it(&one, &two)));
        assert_eq!(interner.value(&other), other);
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

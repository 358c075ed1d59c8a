//! What a plan relied on, compared with what is.

use crate::target::Target;
use inventory::Inventory;
use std::sync::Arc;
use union::{
    Plan, Record, Value,
    command::{Cause, Code},
};

/// Whether everything the plan read of this target's objects is as it was.
///
/// # Errors
/// [`Code::Changed`], naming the first field that differs.
pub(super) fn unchanged(inventory: &Inventory, target: &Arc<dyn Target>, plan: &Plan) -> Result<(), Cause> {
    let changed =
        |what: String| Err(Cause::new(Code::Changed, format!("{what}; the command is planned anew")));
    for read in plan.reads.iter().filter(|read| target.holds(read.object)) {
        let object = read.object;
        let Some(slot) = inventory.schema().slot(object.kind, &read.field) else {
            let message =
                format!("the plan relies on `{}` of {object}, which this agent does not know", read.field);
            return Err(Cause::new(Code::Internal, message));
        };
        let Some(record) = inventory.record(object) else {
            return changed(format!("{object} is no longer there"));
        };
        if !same(record.get(slot), &read.value) {
            return changed(format!(
                "`{}` of {object} has changed since the command was planned",
                read.field
            ));
        }
    }
    Ok(())
}

/// Equality of facts: nothing, an empty list and fields that only one of two schemas has are all nothing.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::List(x), Value::List(y)) => {
            x.len() == y.len() && x.iter().zip(y.iter()).all(|(x, y)| same(x, y))
        }
        (Value::Record(x), Value::Record(y)) => x.message() == y.message() && same_record(x, y),
        _ => a == b || (a.is_absent() && b.is_absent()),
    }
}

fn same_record(a: &Record, b: &Record) -> bool {
    let count = a.slots().len().max(b.slots().len());
    let at = |record: &Record, n: usize| record.slots().get(n).cloned().unwrap_or_default();
    (0..count).all(|n| same(&at(a, n), &at(b, n)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::{MessageId, Slot};

    #[test]
    fn facts_are_compared_by_what_they_say() {
        let record = |slots: usize, text: &str| {
            let mut record = Record::new(MessageId(0), slots);
            record.set(Slot(0), text);
            record.set(Slot(1), Value::list([]));
            Value::list([Value::record(record)])
        };
        assert!(same(&record(2, "a"), &record(5, "a")));
        assert!(!same(&record(2, "a"), &record(2, "b")));
        assert!(same(&Value::Absent, &Value::list([])));
        assert!(!same(&Value::Absent, &Value::Bool(false)));
        assert!(!same(&record(2, "a"), &Value::list([])));
    }
}

//! A checked expression over records. Never fails: what cannot be computed is unset.

use super::{Arithmetic, Compare, Expr, Frame, Path, Program, Root};
use crate::reader::Gap;
use std::{borrow::Cow, cmp::Ordering, sync::Arc};
use union::{Record, Value};

type Val<'a> = Cow<'a, Value>;

const ABSENT: Val<'static> = Cow::Owned(Value::Absent);

impl Program {
    /// The value; `Absent` when it cannot be computed.
    pub fn eval<'a>(&'a self, frame: &Frame<'a>) -> Val<'a> {
        eval(&self.expr, &Frame { text: &self.text, ..*frame })
    }
}

/// The value at the end of a path of parts.
pub(crate) fn walk<'a>(record: &'a Record, path: &[union::Slot]) -> &'a Value {
    static ABSENT: Value = Value::Absent;
    let Some((last, parts)) = path.split_last() else { return &ABSENT };
    let mut record = record;
    for slot in parts {
        match record.get(*slot) {
            Value::Record(part) => record = part,
            _ => return &ABSENT,
        }
    }
    record.get(*last)
}

fn root<'a>(root: Root, frame: &Frame<'a>) -> Option<&'a Record> {
    match root {
        Root::Item => Some(frame.item),
        Root::Object => Some(frame.object),
        Root::Command => frame.command,
    }
}

fn field<'a>(at: Root, path: &Path, frame: &Frame<'a>) -> Val<'a> {
    root(at, frame).map_or(ABSENT, |record| Cow::Borrowed(walk(record, path)))
}

/// A condition: unset is false.
pub(super) fn truth(expr: &Expr, frame: &Frame<'_>) -> bool {
    match expr {
        Expr::Not(a) => !truth(a, frame),
        Expr::And(a, b) => truth(a, frame) && truth(b, frame),
        Expr::Or(a, b) => truth(a, frame) || truth(b, frame),
        Expr::Compare(op, a, b) => compare(*op, &eval(a, frame), &eval(b, frame)),
        Expr::Has(a) => !eval(a, frame).is_absent(),
        Expr::EndsWith(a, b) => match (&*eval(a, frame), &*eval(b, frame)) {
            (Value::Str(a), Value::Str(b)) => a.ends_with(&**b),
            _ => false,
        },
        Expr::IsUuid(a) => match &*eval(a, frame) {
            Value::Str(text) => uuid::Uuid::try_parse(text).is_ok_and(|uuid| !uuid.is_nil()),
            _ => false,
        },
        Expr::IsName(a) => match &*eval(a, frame) {
            Value::Str(name) => is_name(name),
            _ => false,
        },
        Expr::ShownElsewhere(sharing, host) => {
            sharing.elsewhere(frame.reader, frame.id, frame.object.get(*host).as_ref_id(), frame.item)
        }
        Expr::In(a, items) => {
            let a = eval(a, frame);
            items.iter().any(|i| compare(Compare::Eq, &a, &eval(i, frame)))
        }
        Expr::InList(a, list) => {
            let a = eval(a, frame);
            eval(list, frame).items().iter().any(|i| compare(Compare::Eq, &a, i))
        }
        other => matches!(*eval(other, frame), Value::Bool(true)),
    }
}

fn compare(op: Compare, a: &Value, b: &Value) -> bool {
    let order = match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Float(b)) => real(*a).partial_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&real(*b)),
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Ref(a), Value::Ref(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let Some(order) = order else { return op == Compare::Ne };
    match op {
        Compare::Eq => order == Ordering::Equal,
        Compare::Ne => order != Ordering::Equal,
        Compare::Lt => order == Ordering::Less,
        Compare::Le => order != Ordering::Greater,
        Compare::Gt => order == Ordering::Greater,
        Compare::Ge => order != Ordering::Less,
    }
}

#[allow(clippy::cast_precision_loss)]
fn real(n: i64) -> f64 {
    n as f64
}

fn eval<'a>(expr: &'a Expr, frame: &Frame<'a>) -> Val<'a> {
    match expr {
        Expr::Const(value) => Cow::Borrowed(value),
        Expr::Field(at, path) => field(*at, path, frame),
        Expr::Hop(from, path) => match eval(from, frame).as_ref_id().and_then(|id| frame.reader.object(id)) {
            Some(record) => Cow::Owned(walk(&record, path).clone()),
            None => ABSENT,
        },
        Expr::Id(Root::Item) => Cow::Owned(Value::Ref(frame.own)),
        Expr::Id(_) => Cow::Owned(Value::Ref(frame.id)),
        Expr::Index => Cow::Owned(Value::Int(i64::try_from(frame.index).unwrap_or(i64::MAX))),
        Expr::View => Cow::Owned(Value::str(frame.reader.view())),
        Expr::NativeId(of) => match eval(of, frame).as_ref_id().and_then(|id| frame.reader.native_ref(id)) {
            Some(native) => Cow::Owned(Value::Str(native.id)),
            None => ABSENT,
        },
        Expr::Negate(a) => match *eval(a, frame) {
            Value::Int(n) => number(n.checked_neg(), frame),
            Value::Float(n) => Cow::Owned(Value::Float(-n)),
            _ => ABSENT,
        },
        Expr::Arithmetic(op, a, b) => arithmetic(*op, &eval(a, frame), &eval(b, frame), frame),
        Expr::Concat(parts) => {
            let mut text = String::new();
            for part in parts {
                match &*eval(part, frame) {
                    Value::Str(part) => text.push_str(part),
                    _ => return ABSENT,
                }
            }
            Cow::Owned(Value::Str(Arc::from(text)))
        }
        Expr::Choose(c, a, b) => {
            if truth(c, frame) {
                eval(a, frame)
            } else {
                eval(b, frame)
            }
        }
        Expr::Size(of) => match &*eval(of, frame) {
            Value::Str(text) => integer(text.chars().count()),
            other => integer(other.items().len()),
        },
        Expr::Sum(list, slot) => {
            let list = eval(list, frame);
            let values = list.items().iter().filter_map(|i| i.as_record()?.get(*slot).as_int());
            number(values.into_iter().try_fold(0i64, i64::checked_add), frame)
        }
        Expr::Text(of) => match &*eval(of, frame) {
            Value::Int(n) => Cow::Owned(Value::from(n.to_string())),
            Value::Float(n) => Cow::Owned(Value::from(n.to_string())),
            Value::Bool(b) => Cow::Owned(Value::str(if *b { "true" } else { "false" })),
            Value::Str(text) => Cow::Owned(Value::Str(text.clone())),
            _ => ABSENT,
        },
        Expr::Lower(of) => match &*eval(of, frame) {
            Value::Str(text) => Cow::Owned(Value::from(text.to_lowercase())),
            _ => ABSENT,
        },
        Expr::Uuid(of) => match eval(of, frame).as_ref_id() {
            Some(id) => Cow::Owned(Value::from(id.uuid.to_string())),
            None => ABSENT,
        },
        Expr::Below(path, base) => match (&*eval(path, frame), &*eval(base, frame)) {
            (Value::Str(path), Value::Str(base)) => {
                let rest = path.strip_prefix(base.trim_end_matches('/')).and_then(|r| r.strip_prefix('/'));
                Cow::Owned(rest.filter(|rest| !rest.is_empty()).map_or(Value::Absent, Value::str))
            }
            _ => ABSENT,
        },
        Expr::EndsWith(..)
        | Expr::IsName(_)
        | Expr::IsUuid(_)
        | Expr::Not(_)
        | Expr::And(..)
        | Expr::Or(..)
        | Expr::Compare(..)
        | Expr::Has(_)
        | Expr::ShownElsewhere(..)
        | Expr::In(..)
        | Expr::InList(..) => Cow::Owned(Value::Bool(truth(expr, frame))),
    }
}

fn integer(n: usize) -> Val<'static> {
    Cow::Owned(i64::try_from(n).map_or(Value::Absent, Value::Int))
}

fn number(n: Option<i64>, frame: &Frame<'_>) -> Val<'static> {
    if n.is_none() {
        frame.reader.gap(Gap {
            path: Arc::from(frame.text),
            why: "the number overflows or is divided by zero".to_owned(),
        });
    }
    Cow::Owned(n.map_or(Value::Absent, Value::Int))
}

fn arithmetic(op: Arithmetic, a: &Value, b: &Value, frame: &Frame<'_>) -> Val<'static> {
    let floats = |a: f64, b: f64| {
        let value = match op {
            Arithmetic::Add => a + b,
            Arithmetic::Sub => a - b,
            Arithmetic::Mul => a * b,
            Arithmetic::Div => a / b,
            Arithmetic::Rem => a % b,
        };
        Cow::Owned(if value.is_finite() { Value::Float(value) } else { Value::Absent })
    };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => {
            let value = match op {
                Arithmetic::Add => a.checked_add(*b),
                Arithmetic::Sub => a.checked_sub(*b),
                Arithmetic::Mul => a.checked_mul(*b),
                Arithmetic::Div => a.checked_div(*b),
                Arithmetic::Rem => a.checked_rem(*b),
            };
            number(value, frame)
        }
        (Value::Float(a), Value::Float(b)) => floats(*a, *b),
        (Value::Int(a), Value::Float(b)) => floats(real(*a), *b),
        (Value::Float(a), Value::Int(b)) => floats(*a, real(*b)),
        _ => ABSENT,
    }
}

/// What management products and hypervisors all take as the name of something.
fn is_name(text: &str) -> bool {
    let wrong = |c: char| c.is_control() || matches!(c, '/' | '\\');
    // Files and directories are named after things, and these two name others.
    let own = !text.trim().is_empty() && !matches!(text, "." | "..");
    own && (1..=80).contains(&text.chars().count()) && !text.contains(wrong)
}

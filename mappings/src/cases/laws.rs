//! The laws of every row that writes, on samples of its field's type.
//!
//! * a row shows what it read from what it showed: `show(read(show(u))) == show(u)`
//! * an iso row gives the very value back: `read(show(u)) == u`

use super::{Failure, TestReport};
use crate::{
    flow::{Flow, Shape},
    lens::Class,
    load::Bundle,
    protocol::Protocol,
    render::{Leaf, NodeKind, Out, Source},
};
use std::borrow::Cow;
use union::{Kind, ObjectId, Schema, Value};

pub(super) fn run(protocol: &Protocol, bundle: &Bundle, out: &mut TestReport) {
    for (table, message, rows) in protocol.rows() {
        for row in rows.iter().filter(|r| r.writes.is_some()) {
            let Some(NodeKind::Leaf(leaf)) = protocol.compiled.node(row.node).map(|n| &n.kind) else {
                continue;
            };
            let Some(shape) = shape(leaf, message, &bundle.schema) else { continue };
            let mut why = Vec::new();
            for sample in samples(&shape) {
                match law(leaf, row.class, &sample) {
                    None => out.samples += 1,
                    Some(broken) => why.push(broken),
                }
            }
            if !why.is_empty() {
                let name = format!("laws of {} `{}` = `{}`", table, row.path, row.text);
                out.failures.push(Failure { at: row.at.to_string(), name, why });
            }
        }
    }
}

/// The type of the field a leaf writes.
fn shape(leaf: &Leaf, message: union::MessageId, schema: &Schema) -> Option<Shape> {
    let Source::Slot(slot) = &leaf.source else { return None };
    schema.get(message)?.field_at(*slot).map(Shape::of)
}

/// What is broken for a sample; a value that does not fit breaks nothing.
fn law(leaf: &Leaf, class: Class, sample: &Value) -> Option<String> {
    let shown = leaf.chain.show(Cow::Borrowed(sample), 0).ok()?.into_owned();
    if shown.is_absent() || !fits(&leaf.out, &shown) {
        return None;
    }
    let read = match leaf.chain.read(shown.clone()) {
        Ok(read) => read,
        Err(why) => return Some(format!("{sample:?} shows as {shown:?}, which cannot be read: {why}")),
    };
    if class == Class::Iso && read != *sample {
        return Some(format!("{sample:?} shows as {shown:?} and comes back as {read:?}"));
    }
    match leaf.chain.show(Cow::Owned(read), 0) {
        Ok(again) if *again == shown => None,
        other => Some(format!("{sample:?} shows as {shown:?}, then as {other:?}")),
    }
}

fn fits(out: &Out, value: &Value) -> bool {
    match (out, value) {
        (Out::Int(least, most), Value::Int(n)) => n >= least && n <= most,
        _ => true,
    }
}

fn samples(shape: &Shape) -> Vec<Value> {
    let one: Vec<Value> = match &shape.flow {
        Flow::Bool => vec![Value::Bool(false), Value::Bool(true)],
        Flow::Int => [0, 1, -1, 7, i64::from(i32::MAX), i64::from(i32::MIN)].map(Value::Int).to_vec(),
        Flow::Long | Flow::Time => {
            let mib = 1 << 20;
            [
                0,
                1,
                -1,
                mib,
                mib + mib / 2,
                4096 * mib,
                4096 * mib + 1,
                i64::from(i32::MAX),
                i64::MAX,
                i64::MIN,
            ]
            .map(Value::Int)
            .to_vec()
        }
        Flow::Float => [0.0, 1.5, -2.25].map(Value::Float).to_vec(),
        Flow::Text => ["", "a", "Web 01", "größe", "<&>\"'", "a,b"].map(Value::str).to_vec(),
        Flow::Enum(e) => e.values.iter().skip(1).map(|(_, n)| Value::Int(*n)).collect(),
        Flow::Ref(kinds) => {
            let kind = kinds.first().copied().unwrap_or(Kind::Vm);
            vec![Value::Ref(ObjectId::derived(kind, &["sample"]))]
        }
        _ => Vec::new(),
    };
    if shape.list { vec![Value::list([]), Value::list(one)] } else { one }
}

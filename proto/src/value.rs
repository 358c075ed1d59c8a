//! One value of the union.

use crate::{id::ObjectId, pb, record::Record};
use std::sync::Arc;

/// What a slot holds. Enumerations are their numbers, times Unix milliseconds. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Unknown or unset.
    #[default]
    Absent,
    /// A truth value.
    Bool(bool),
    /// Any integer, enumeration or time.
    Int(i64),
    /// A real number.
    Float(f64),
    /// Text; interned where the inventory holds it.
    Str(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// Another object.
    Ref(ObjectId),
    /// Several values of one type, in order. An empty list and an absent one are the same fact.
    List(Arc<[Value]>),
    /// A part of an object.
    Record(Arc<Record>),
}

impl Value {
    /// Text.
    pub fn str(text: &str) -> Value {
        Value::Str(Arc::from(text))
    }

    /// A list.
    pub fn list(items: impl IntoIterator<Item = Value>) -> Value {
        Value::List(items.into_iter().collect())
    }

    /// A part.
    pub fn record(record: Record) -> Value {
        Value::Record(Arc::new(record))
    }

    /// Whether there is nothing to show: absent, or a list without items.
    pub fn is_absent(&self) -> bool {
        match self {
            Value::Absent => true,
            Value::List(items) => items.is_empty(),
            _ => false,
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Str(text) = self { Some(text) } else { None }
    }

    /// The number, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Value::Int(number) = self { Some(*number) } else { None }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(truth) = self { Some(*truth) } else { None }
    }

    /// The object, if it refers to one.
    pub fn as_ref_id(&self) -> Option<ObjectId> {
        if let Value::Ref(id) = self { Some(*id) } else { None }
    }

    /// The items: of a list all, of anything else but `Absent` itself.
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Absent => &[],
            Value::List(items) => items,
            one => std::slice::from_ref(one),
        }
    }

    /// The part, if it is one.
    pub fn as_record(&self) -> Option<&Arc<Record>> {
        if let Value::Record(record) = self { Some(record) } else { None }
    }

    /// The objects it refers to, one or several.
    pub fn refs(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.items().iter().filter_map(Value::as_ref_id)
    }

    /// As the protobuf message for values of undeclared type; `None` for absent values and parts.
    pub fn to_pb(&self) -> Option<pb::Value> {
        use pb::value::Kind as K;
        let kind = match self {
            Value::Absent | Value::Record(_) => return None,
            Value::Bool(v) => K::BoolValue(*v),
            Value::Int(v) => K::IntValue(*v),
            Value::Float(v) => K::FloatValue(*v),
            Value::Str(v) => K::StringValue(v.to_string()),
            Value::Bytes(v) => K::BytesValue(v.to_vec()),
            Value::Ref(v) => K::RefValue(v.to_string()),
            Value::List(v) => {
                K::ListValue(pb::ValueList { items: v.iter().filter_map(Value::to_pb).collect() })
            }
        };
        Some(pb::Value { kind: Some(kind) })
    }

    /// From the protobuf message; what cannot be read is absent.
    pub fn from_pb(value: &pb::Value) -> Value {
        use pb::value::Kind as K;
        match &value.kind {
            None => Value::Absent,
            Some(K::BoolValue(v)) => Value::Bool(*v),
            Some(K::IntValue(v)) => Value::Int(*v),
            Some(K::FloatValue(v)) => Value::Float(*v),
            Some(K::StringValue(v)) => Value::str(v),
            Some(K::BytesValue(v)) => Value::Bytes(Arc::from(v.as_slice())),
            Some(K::RefValue(v)) => v.parse().map_or(Value::Absent, Value::Ref),
            // Its schema is not known here: see `plan::value_from_pb`.
            Some(K::RecordValue(_)) => Value::Absent,
            Some(K::ListValue(v)) => Value::list(v.items.iter().map(Value::from_pb)),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::str(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Str(Arc::from(text))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Value {
        Value::Bool(truth)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Value {
        Value::Int(i64::from(number))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Int(i64::from(number))
    }
}

impl From<ObjectId> for Value {
    fn from(id: ObjectId) -> Value {
        Value::Ref(id)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Absent, Into::into)
    }
}

//! The types of values on their way between a union field and a native property.

use crate::schema::{NativeSchema, TypeId};
use std::sync::Arc;
use union::{
    FieldType, Kind, MessageId, Schema,
    schema::{EnumSchema, FieldSchema},
};

/// The type of one value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Flow {
    Bool,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    Float,
    Text,
    Bytes,
    /// A union enumeration, as its number.
    Enum(Arc<EnumSchema>),
    /// An object; empty: of any kind.
    Ref(Vec<Kind>),
    Part(MessageId),
    /// A native enumeration, as its text.
    Native(TypeId),
    /// A native reference.
    NativeRef(Vec<Kind>),
    /// A moment.
    Time,
}

/// The type of a value or list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub flow: Flow,
    pub list: bool,
}

impl Shape {
    pub fn one(flow: Flow) -> Shape {
        Shape { flow, list: false }
    }

    /// The type of a union field.
    pub fn of(field: &FieldSchema) -> Shape {
        let flow = match &field.ty {
            FieldType::Bool => Flow::Bool,
            FieldType::Int32 => Flow::Int,
            FieldType::Int64 => Flow::Long,
            FieldType::Float => Flow::Float,
            FieldType::Str => Flow::Text,
            FieldType::Bytes => Flow::Bytes,
            FieldType::Enum(e) => Flow::Enum(e.clone()),
            FieldType::Ref(kinds) => Flow::Ref(kinds.clone()),
            FieldType::Message(id) => Flow::Part(*id),
        };
        Shape { flow, list: field.repeated }
    }

    /// For people.
    pub fn describe(&self, native: &NativeSchema, union: &Schema) -> String {
        let name = match &self.flow {
            Flow::Bool => "a truth value".to_owned(),
            Flow::Int => "a 32-bit integer".to_owned(),
            Flow::Long => "a 64-bit integer".to_owned(),
            Flow::Float => "a real number".to_owned(),
            Flow::Text => "text".to_owned(),
            Flow::Bytes => "bytes".to_owned(),
            Flow::Enum(e) => format!("the union enumeration {}", e.name),
            Flow::Ref(kinds) => format!("a reference ({})", kind_names(kinds)),
            Flow::Part(id) => format!("the union message {}", union.get(*id).map_or("?", |m| &m.name)),
            Flow::Native(id) => format!("the native enumeration {}", native.name(*id)),
            Flow::NativeRef(kinds) => format!("a native reference ({})", kind_names(kinds)),
            Flow::Time => "a moment".to_owned(),
        };
        if self.list { format!("a list of {name}") } else { name }
    }
}

/// Kinds for people.
pub(crate) fn kind_names(kinds: &[Kind]) -> String {
    if kinds.is_empty() {
        return "any kind".to_owned();
    }
    kinds.iter().map(|k| k.word()).collect::<Vec<_>>().join(" or ")
}

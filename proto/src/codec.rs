//! Record <-> protobuf bytes, by the schema. Unknown fields and values that do not fit are skipped, so newer writers do not break older readers.

use crate::{
    id::ObjectId,
    pb,
    record::Record,
    schema::{FieldSchema, FieldType, MessageId, MessageSchema, Schema},
    value::Value,
};
use bytes::{Buf, BufMut};
use prost::{
    Message as _,
    encoding::{self, DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint},
};
use std::sync::Arc;

/// The number of the map field that holds an object's extension fields.
const EXT: u32 = 1000;
/// How deep messages may nest.
const MAX_DEPTH: u32 = 32;

/// The bytes are not a message of the schema.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not protobuf.
    #[error("not a protobuf message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Nested deeper than 32.
    #[error("messages nest deeper than {MAX_DEPTH}")]
    TooDeep,
    /// No such message.
    #[error("the schema has no message {0:?}")]
    NoMessage(MessageId),
}

/// Writes a record as the protobuf message of the same name.
pub fn encode(schema: &Schema, record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(message) = schema.get(record.message()) {
        encode_into(schema, message, record, &mut out);
    }
    out
}

fn encode_into(schema: &Schema, message: &MessageSchema, record: &Record, out: &mut Vec<u8>) {
    for field in &message.fields {
        let value = record.get(field.slot);
        match field.number {
            Some(number) => value.items().iter().for_each(|item| put(schema, field, number, item, out)),
            None => put_ext(field, value, out),
        }
    }
}

fn put(schema: &Schema, field: &FieldSchema, number: u32, value: &Value, out: &mut Vec<u8>) {
    let bytes = |data: &[u8], out: &mut Vec<u8>| {
        encode_key(number, WireType::LengthDelimited, out);
        encode_varint(data.len() as u64, out);
        out.put_slice(data);
    };
    match value {
        Value::Absent | Value::List(_) => {}
        Value::Bool(v) => {
            encode_key(number, WireType::Varint, out);
            encode_varint(u64::from(*v), out);
        }
        Value::Int(v) => {
            encode_key(number, WireType::Varint, out);
            encode_varint(v.cast_unsigned(), out);
        }
        Value::Float(v) => encoding::double::encode(number, v, out),
        Value::Str(v) => bytes(v.as_bytes(), out),
        Value::Bytes(v) => bytes(v, out),
        Value::Ref(v) => bytes(v.to_string().as_bytes(), out),
        Value::Record(v) => {
            if let FieldType::Message(id) = &field.ty
                && let Some(message) = schema.get(*id)
            {
                let mut inner = Vec::new();
                encode_into(schema, message, v, &mut inner);
                bytes(&inner, out);
            }
        }
    }
}

fn put_ext(field: &FieldSchema, value: &Value, out: &mut Vec<u8>) {
    let Some(value) = value.to_pb() else { return };
    let name = field.name.strip_prefix("ext.").unwrap_or(&field.name).to_owned();
    let mut entry = Vec::new();
    encoding::string::encode(1, &name, &mut entry);
    encoding::message::encode(2, &value, &mut entry);
    encode_key(EXT, WireType::LengthDelimited, out);
    encode_varint(entry.len() as u64, out);
    out.put_slice(&entry);
}

/// Reads the protobuf message `id` as a record.
pub fn decode(schema: &Schema, id: MessageId, mut bytes: &[u8]) -> Result<Record, CodecError> {
    decode_at(schema, id, &mut bytes, 0)
}

fn decode_at(schema: &Schema, id: MessageId, bytes: &mut &[u8], depth: u32) -> Result<Record, CodecError> {
    if depth > MAX_DEPTH {
        return Err(CodecError::TooDeep);
    }
    let message = schema.get(id).ok_or(CodecError::NoMessage(id))?;
    let mut record = message.record();
    let mut lists: Vec<Vec<Value>> = vec![Vec::new(); message.fields.len()];
    while bytes.has_remaining() {
        let (number, wire) = decode_key(bytes)?;
        let field = message.fields.iter().find(|f| f.number == Some(number));
        match (field, wire) {
            (None, WireType::LengthDelimited) if number == EXT && message.kind.is_some() => {
                let mut entry = take(bytes)?;
                if let Some((name, value)) = ext_entry(&mut entry)?
                    && let Some(field) = message.field(&format!("ext.{name}"))
                {
                    record.set(field.slot, value);
                }
            }
            (None, _) => encoding::skip_field(wire, number, bytes, DecodeContext::default())?,
            (Some(field), WireType::Varint) => {
                let value = scalar(field, decode_varint(bytes)?);
                store(&mut record, &mut lists, field, value);
            }
            (Some(field), WireType::LengthDelimited) => {
                let mut data = take(bytes)?;
                if field.repeated && packed(&field.ty) {
                    while data.has_remaining() {
                        let value = scalar(field, decode_varint(&mut data)?);
                        store(&mut record, &mut lists, field, value);
                    }
                } else {
                    let value = delimited(schema, field, data, depth)?;
                    store(&mut record, &mut lists, field, value);
                }
            }
            (Some(field), WireType::SixtyFourBit) => {
                let mut value = 0.0;
                encoding::double::merge(wire, &mut value, bytes, DecodeContext::default())?;
                store(&mut record, &mut lists, field, Value::Float(value));
            }
            (Some(_), _) => encoding::skip_field(wire, number, bytes, DecodeContext::default())?,
        }
    }
    for (field, items) in message.fields.iter().zip(lists) {
        if !items.is_empty() {
            record.set(field.slot, Value::List(items.into()));
        }
    }
    Ok(record)
}

fn take<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], CodecError> {
    let length = usize::try_from(decode_varint(bytes)?).unwrap_or(usize::MAX);
    let Some((head, tail)) = bytes.split_at_checked(length) else {
        // Let prost name the error: the data ends too early.
        return Err(encoding::skip_field(WireType::SixtyFourBit, 1, &mut &[][..], DecodeContext::default())
            .err()
            .map_or(CodecError::TooDeep, CodecError::Malformed));
    };
    *bytes = tail;
    Ok(head)
}

fn packed(ty: &FieldType) -> bool {
    matches!(ty, FieldType::Bool | FieldType::Int32 | FieldType::Int64 | FieldType::Enum(_))
}

fn scalar(field: &FieldSchema, raw: u64) -> Value {
    match field.ty {
        FieldType::Bool => Value::Bool(raw != 0),
        _ => Value::Int(raw.cast_signed()),
    }
}

fn delimited(schema: &Schema, field: &FieldSchema, mut data: &[u8], depth: u32) -> Result<Value, CodecError> {
    Ok(match &field.ty {
        FieldType::Str => std::str::from_utf8(data).map_or(Value::Absent, Value::str),
        FieldType::Bytes => Value::Bytes(Arc::from(data)),
        FieldType::Ref(_) => std::str::from_utf8(data)
            .ok()
            .and_then(|text| text.parse::<ObjectId>().ok())
            .map_or(Value::Absent, Value::Ref),
        FieldType::Message(id) => Value::record(decode_at(schema, *id, &mut data, depth + 1)?),
        _ => Value::Absent,
    })
}

fn store(record: &mut Record, lists: &mut [Vec<Value>], field: &FieldSchema, value: Value) {
    if !field.repeated {
        record.set(field.slot, value);
    } else if let Some(list) = lists.get_mut(usize::from(field.slot.0))
        && !value.is_absent()
    {
        list.push(value);
    }
}

fn ext_entry(entry: &mut &[u8]) -> Result<Option<(String, Value)>, CodecError> {
    let (mut name, mut value) = (None, None);
    while entry.has_remaining() {
        let (number, wire) = decode_key(entry)?;
        match (number, wire) {
            (1, WireType::LengthDelimited) => {
                name = std::str::from_utf8(take(entry)?).ok().map(str::to_owned)
            }
            (2, WireType::LengthDelimited) => value = Some(Value::from_pb(&pb::Value::decode(take(entry)?)?)),
            _ => encoding::skip_field(wire, number, entry, DecodeContext::default())?,
        }
    }
    Ok(name.zip(value))
}

#[cfg(test)]
mod tests;

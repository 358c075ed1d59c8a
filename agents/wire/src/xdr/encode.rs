//! Values to bytes, and structs from named values.

use super::{
    schema::{Struct, Type},
    value::{XdrStruct, XdrValue},
};
use bytes::{BufMut, BytesMut};
use std::sync::Arc;

/// The value does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Another type.
    #[error("field `{path}`: expected {expected}, found {found}")]
    Mismatch {
        /// Where, for example `dom.uuid`.
        path: String,
        /// The type in the schema.
        expected: String,
        /// What was given.
        found: &'static str,
    },
    /// Longer than the type allows.
    #[error("field `{path}`: {count} is more than {max}")]
    TooLong {
        /// Where.
        path: String,
        /// What was given.
        count: usize,
        /// What the schema allows.
        max: u32,
    },
    /// Not of the length the type has.
    #[error("field `{path}`: {count} is not {expected}")]
    Length {
        /// Where.
        path: String,
        /// What was given.
        count: usize,
        /// What the schema says.
        expected: u32,
    },
    /// No such field.
    #[error("struct `{of}` has no field `{name}`; it has {has}")]
    NoField {
        /// The struct.
        of: String,
        /// What was given.
        name: String,
        /// Its fields.
        has: String,
    },
    /// A field that has no zero was not given.
    #[error("struct `{of}` needs field `{name}`")]
    Missing {
        /// The struct.
        of: String,
        /// The field.
        name: String,
    },
}

/// A struct of named values. A number, optional, or array that is not given is zero, absent, or empty; anything else must be given.
///
/// # Errors
/// A name that the struct does not have, or a field that must be given.
pub fn record(of: &Arc<Struct>, given: Vec<(&str, XdrValue)>) -> Result<XdrValue, EncodeError> {
    let mut fields: Vec<Option<XdrValue>> = of.fields.iter().map(|_| None).collect();
    for (name, value) in given {
        let place = of.fields.iter().position(|f| &*f.name == name).and_then(|i| fields.get_mut(i));
        match place {
            Some(place) => *place = Some(value),
            None => {
                let has: Vec<&str> = of.fields.iter().map(|f| &*f.name).collect();
                return Err(EncodeError::NoField {
                    of: of.name.to_string(),
                    name: name.to_owned(),
                    has: has.join(", "),
                });
            }
        }
    }
    let filled = of.fields.iter().zip(fields).map(|(field, given)| {
        given
            .or_else(|| zero(&field.ty))
            .ok_or_else(|| EncodeError::Missing { of: of.name.to_string(), name: field.name.to_string() })
    });
    Ok(XdrValue::Struct(XdrStruct { of: of.clone(), fields: filled.collect::<Result<_, _>>()? }))
}

fn zero(ty: &Type) -> Option<XdrValue> {
    match ty {
        Type::Int => Some(XdrValue::Int(0)),
        Type::Uint => Some(XdrValue::Uint(0)),
        Type::Hyper => Some(XdrValue::Hyper(0)),
        Type::Uhyper => Some(XdrValue::Uhyper(0)),
        Type::Double => Some(XdrValue::Double(0.0)),
        Type::Bool => Some(XdrValue::Bool(false)),
        Type::Optional(_) => Some(XdrValue::NONE),
        Type::Array(..) => Some(XdrValue::Array(Vec::new())),
        _ => None,
    }
}

/// Appends `value` as `of` to `out`; after an error `out` holds a part of it.
///
/// # Errors
/// The value is of another type or longer than the type allows.
pub fn encode(of: &Arc<Struct>, value: &XdrValue, out: &mut BytesMut) -> Result<(), EncodeError> {
    let mut path = Vec::new();
    structure(of, value, out, &mut path)
}

fn structure<'a>(
    of: &'a Arc<Struct>,
    value: &XdrValue,
    out: &mut BytesMut,
    path: &mut Vec<&'a str>,
) -> Result<(), EncodeError> {
    let XdrValue::Struct(given) = value else { return Err(mismatch(&of.name, value, path)) };
    if given.of.name != of.name || given.fields.len() != of.fields.len() {
        return Err(mismatch(&of.name, value, path));
    }
    for (field, value) in of.fields.iter().zip(&given.fields) {
        path.push(&field.name);
        put(&field.ty, value, out, path)?;
        path.pop();
    }
    Ok(())
}

fn put<'a>(
    ty: &'a Type,
    value: &XdrValue,
    out: &mut BytesMut,
    path: &mut Vec<&'a str>,
) -> Result<(), EncodeError> {
    match (ty, value) {
        (Type::Int, XdrValue::Int(n)) => out.put_i32(*n),
        (Type::Uint, XdrValue::Uint(n)) => out.put_u32(*n),
        (Type::Hyper, XdrValue::Hyper(n)) => out.put_i64(*n),
        (Type::Uhyper, XdrValue::Uhyper(n)) => out.put_u64(*n),
        (Type::Double, XdrValue::Double(n)) => out.put_f64(*n),
        (Type::Bool, XdrValue::Bool(b)) => out.put_u32(u32::from(*b)),
        (Type::Text(max), XdrValue::Text(text)) => counted(text.as_bytes(), *max, out, path)?,
        (Type::Text(max) | Type::Bytes(max), XdrValue::Bytes(bytes)) => counted(bytes, *max, out, path)?,
        (Type::FixedBytes(n), XdrValue::Bytes(bytes)) => {
            exactly(bytes.len(), *n, path)?;
            padded(bytes, out);
        }
        (Type::Chars(max), XdrValue::Bytes(bytes)) => {
            count(bytes.len(), *max, out, path)?;
            bytes.iter().for_each(|b| out.put_i32(i32::from(i8::from_be_bytes([*b]))));
        }
        (Type::FixedChars(n), XdrValue::Bytes(bytes)) => {
            exactly(bytes.len(), *n, path)?;
            bytes.iter().for_each(|b| out.put_i32(i32::from(i8::from_be_bytes([*b]))));
        }
        (Type::Optional(of), XdrValue::Optional(inside)) => {
            out.put_u32(u32::from(inside.is_some()));
            if let Some(inside) = inside {
                put(of, inside, out, path)?;
            }
        }
        (Type::Array(of, max), XdrValue::Array(items)) => {
            count(items.len(), *max, out, path)?;
            items.iter().try_for_each(|item| put(of, item, out, path))?;
        }
        (Type::FixedArray(of, n), XdrValue::Array(items)) => {
            exactly(items.len(), *n, path)?;
            items.iter().try_for_each(|item| put(of, item, out, path))?;
        }
        (Type::Struct(of), value) => structure(of, value, out, path)?,
        (Type::Union(of), XdrValue::Union(discriminant, inside)) => match of.arm(*discriminant) {
            Some(arm) => {
                out.put_i32(*discriminant);
                put(arm, inside, out, path)?;
            }
            None => return Err(mismatch(&of.name, value, path)),
        },
        (ty, value) => return Err(mismatch(&ty.to_string(), value, path)),
    }
    Ok(())
}

fn mismatch(expected: &str, found: &XdrValue, path: &[&str]) -> EncodeError {
    let found = match found {
        XdrValue::Int(_) => "an int",
        XdrValue::Uint(_) => "a uint",
        XdrValue::Hyper(_) => "a hyper",
        XdrValue::Uhyper(_) => "a uhyper",
        XdrValue::Double(_) => "a double",
        XdrValue::Bool(_) => "a bool",
        XdrValue::Text(_) => "text",
        XdrValue::Bytes(_) => "bytes",
        XdrValue::Optional(_) => "an optional",
        XdrValue::Array(_) => "an array",
        XdrValue::Struct(_) => "another struct",
        XdrValue::Union(..) => "a union without that arm",
    };
    EncodeError::Mismatch { path: path.join("."), expected: expected.to_owned(), found }
}

fn count(len: usize, max: u32, out: &mut BytesMut, path: &[&str]) -> Result<(), EncodeError> {
    match u32::try_from(len) {
        Ok(fits) if fits <= max => {
            out.put_u32(fits);
            Ok(())
        }
        _ => Err(EncodeError::TooLong { path: path.join("."), count: len, max }),
    }
}

fn exactly(len: usize, n: u32, path: &[&str]) -> Result<(), EncodeError> {
    match u32::try_from(len) {
        Ok(fits) if fits == n => Ok(()),
        _ => Err(EncodeError::Length { path: path.join("."), count: len, expected: n }),
    }
}

fn counted(bytes: &[u8], max: u32, out: &mut BytesMut, path: &[&str]) -> Result<(), EncodeError> {
    count(bytes.len(), max, out, path)?;
    padded(bytes, out);
    Ok(())
}

fn padded(bytes: &[u8], out: &mut BytesMut) {
    out.put_slice(bytes);
    out.put_bytes(0, bytes.len().next_multiple_of(4).saturating_sub(bytes.len()));
}

//! Bytes to values. No count is believed: what is left must hold the fewest bytes that so many items take.

use super::{
    schema::{Struct, Type},
    value::{XdrStruct, XdrValue},
};
use crate::limits;
use std::sync::Arc;

/// The bytes are not a value of the type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}, `{path}`: {what}")]
pub struct DecodeError {
    /// Offset in the payload.
    pub at: usize,
    /// The field, for example `domains.uuid`; empty: the value itself.
    pub path: String,
    /// What is wrong there.
    pub what: DecodeFault,
}

/// What is wrong with the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFault {
    /// The payload ends within the value.
    #[error("expected {needed} more bytes, {left} are left")]
    Truncated {
        /// Bytes that were to come.
        needed: u64,
        /// Bytes there are.
        left: usize,
    },
    /// A count above the type's bound.
    #[error("a count of {count} where {max} is the most")]
    TooMany {
        /// What the bytes say.
        count: u32,
        /// The bound of the schema.
        max: u32,
    },
    /// A truth value or the mark of an optional is neither 0 nor 1.
    #[error("expected 0 or 1, found {0}")]
    BadBool(u32),
    /// A union has no such arm.
    #[error("the union has no arm {0}")]
    BadArm(i32),
    /// A four-byte character is no byte.
    #[error("expected a character, found {0}")]
    BadChar(i32),
    /// Bytes after the value.
    #[error("{0} bytes after the value")]
    Trailing(usize),
    /// More values than one payload may hold.
    #[error("more than {} values in one payload", limits::XDR_VALUES)]
    TooManyValues,
}

impl DecodeError {
    fn within(mut self, name: &str) -> DecodeError {
        self.path = if self.path.is_empty() { name.to_owned() } else { format!("{name}.{}", self.path) };
        self
    }
}

/// Reads a whole payload as `of`.
///
/// # Errors
/// The bytes are no such value, hold more than [`limits::XDR_VALUES`] values, or go on after it.
pub fn decode(of: &Arc<Struct>, bytes: &[u8]) -> Result<XdrValue, DecodeError> {
    let mut cursor = Cursor { bytes, at: 0, budget: limits::XDR_VALUES };
    let value = cursor.structure(of)?;
    match cursor.left() {
        0 => Ok(value),
        left => Err(cursor.fault(DecodeFault::Trailing(left))),
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    budget: usize,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    fn fault(&self, what: DecodeFault) -> DecodeError {
        DecodeError { at: self.at, path: String::new(), what }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.saturating_add(count);
        match self.bytes.get(self.at..end) {
            Some(taken) => {
                self.at = end;
                Ok(taken)
            }
            None => Err(self.fault(DecodeFault::Truncated {
                needed: u64::try_from(count).unwrap_or(u64::MAX),
                left: self.left(),
            })),
        }
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut word = [0; N];
        for (to, from) in word.iter_mut().zip(self.take(N)?) {
            *to = *from;
        }
        Ok(word)
    }

    fn uint(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.word()?))
    }

    fn int(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.word()?))
    }

    fn truth(&mut self) -> Result<bool, DecodeError> {
        match self.uint()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.fault(DecodeFault::BadBool(other))),
        }
    }

    /// A count of items that take at least `least` bytes each.
    fn count(&mut self, max: u32, least: u64) -> Result<usize, DecodeError> {
        let count = self.uint()?;
        if count > max {
            return Err(self.fault(DecodeFault::TooMany { count, max }));
        }
        self.room(count, least)
    }

    fn room(&self, count: u32, least: u64) -> Result<usize, DecodeError> {
        let needed = u64::from(count).saturating_mul(least);
        let left = self.left();
        if needed > u64::try_from(left).unwrap_or(u64::MAX) {
            return Err(self.fault(DecodeFault::Truncated { needed, left }));
        }
        usize::try_from(count).map_err(|_| self.fault(DecodeFault::Truncated { needed, left }))
    }

    fn padded(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let bytes = self.take(count)?;
        self.take(count.next_multiple_of(4).saturating_sub(count))?;
        Ok(bytes)
    }

    fn chars(&mut self, count: usize) -> Result<XdrValue, DecodeError> {
        let mut bytes = Vec::with_capacity(count);
        for _ in 0..count {
            let number = self.int()?;
            // A signed char travels as -128..=127, an unsigned one as 0..=255; both are one byte.
            let byte = u8::try_from(number)
                .or_else(|_| i8::try_from(number).map(|signed| signed.to_be_bytes()[0]))
                .map_err(|_| self.fault(DecodeFault::BadChar(number)))?;
            bytes.push(byte);
        }
        Ok(XdrValue::Bytes(Arc::from(bytes)))
    }

    fn array(&mut self, of: &Type, count: usize) -> Result<XdrValue, DecodeError> {
        if count > self.budget {
            return Err(self.fault(DecodeFault::TooManyValues));
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.value(of)?);
        }
        Ok(XdrValue::Array(items))
    }

    fn structure(&mut self, of: &Arc<Struct>) -> Result<XdrValue, DecodeError> {
        let mut fields = Vec::with_capacity(of.fields.len());
        for field in &of.fields {
            fields.push(self.value(&field.ty).map_err(|e| e.within(&field.name))?);
        }
        Ok(XdrValue::Struct(XdrStruct { of: of.clone(), fields }))
    }

    fn value(&mut self, ty: &Type) -> Result<XdrValue, DecodeError> {
        self.budget = match self.budget.checked_sub(1) {
            Some(rest) => rest,
            None => return Err(self.fault(DecodeFault::TooManyValues)),
        };
        match ty {
            Type::Int => self.int().map(XdrValue::Int),
            Type::Uint => self.uint().map(XdrValue::Uint),
            Type::Hyper => Ok(XdrValue::Hyper(i64::from_be_bytes(self.word()?))),
            Type::Uhyper => Ok(XdrValue::Uhyper(u64::from_be_bytes(self.word()?))),
            Type::Double => Ok(XdrValue::Double(f64::from_be_bytes(self.word()?))),
            Type::Bool => self.truth().map(XdrValue::Bool),
            Type::Text(max) => {
                let count = self.count(*max, 1)?;
                let bytes = self.padded(count)?;
                Ok(match std::str::from_utf8(bytes) {
                    Ok(text) => XdrValue::Text(Arc::from(text)),
                    Err(_) => XdrValue::Bytes(Arc::from(bytes)),
                })
            }
            Type::Bytes(max) => {
                let count = self.count(*max, 1)?;
                self.padded(count).map(|b| XdrValue::Bytes(Arc::from(b)))
            }
            Type::FixedBytes(n) => {
                let count = self.room(*n, 1)?;
                self.padded(count).map(|b| XdrValue::Bytes(Arc::from(b)))
            }
            Type::Chars(max) => {
                let count = self.count(*max, 4)?;
                self.chars(count)
            }
            Type::FixedChars(n) => {
                let count = self.room(*n, 4)?;
                self.chars(count)
            }
            Type::Optional(of) => Ok(XdrValue::Optional(match self.truth()? {
                true => Some(Box::new(self.value(of)?)),
                false => None,
            })),
            Type::Array(of, max) => {
                let count = self.count(*max, of.least())?;
                self.array(of, count)
            }
            Type::FixedArray(of, n) => {
                let count = self.room(*n, of.least())?;
                self.array(of, count)
            }
            Type::Struct(of) => self.structure(of),
            Type::Union(of) => {
                let discriminant = self.int()?;
                match of.arm(discriminant) {
                    Some(arm) => Ok(XdrValue::Union(discriminant, Box::new(self.value(arm)?))),
                    None => Err(self.fault(DecodeFault::BadArm(discriminant))),
                }
            }
        }
    }
}

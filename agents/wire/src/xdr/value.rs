//! A value on the wire as a tree.

use super::schema::Struct;
use std::sync::Arc;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum XdrValue {
    /// Signed, 32 bits.
    Int(i32),
    /// Unsigned, 32 bits.
    Uint(u32),
    /// Signed, 64 bits.
    Hyper(i64),
    /// Unsigned, 64 bits.
    Uhyper(u64),
    /// A real number.
    Double(f64),
    /// A truth value.
    Bool(bool),
    /// Text. A string that is not UTF-8 is [`XdrValue::Bytes`].
    Text(Arc<str>),
    /// Bytes, or characters of four bytes each.
    Bytes(Arc<[u8]>),
    /// There or not.
    Optional(Option<Box<XdrValue>>),
    /// Items.
    Array(Vec<XdrValue>),
    /// Fields.
    Struct(XdrStruct),
    /// The discriminant and the arm it selects.
    Union(i32, Box<XdrValue>),
}

/// A struct's values, in wire order.
#[derive(Clone, Debug, PartialEq)]
pub struct XdrStruct {
    /// Its type.
    pub of: Arc<Struct>,
    /// A value for each field of the type.
    pub fields: Vec<XdrValue>,
}

impl XdrStruct {
    /// The field called `name`.
    pub fn get(&self, name: &str) -> Option<&XdrValue> {
        let index = self.of.fields.iter().position(|f| &*f.name == name)?;
        self.fields.get(index)
    }
}

impl XdrValue {
    /// The value at a path of field names, for example `msg.dom.uuid`; looks through optionals and unions.
    pub fn get(&self, path: &str) -> Option<&XdrValue> {
        path.split('.').try_fold(self, |at, name| match at.inner()? {
            XdrValue::Struct(of) => of.get(name),
            _ => None,
        })
    }

    /// The value itself, past optionals and unions; `None` for an optional that is not there.
    pub fn inner(&self) -> Option<&XdrValue> {
        match self {
            XdrValue::Optional(None) => None,
            XdrValue::Optional(Some(of)) | XdrValue::Union(_, of) => of.inner(),
            other => Some(other),
        }
    }

    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&Arc<str>> {
        match self.inner()? {
            XdrValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is a whole one that fits.
    pub fn as_int(&self) -> Option<i64> {
        match self.inner()? {
            XdrValue::Int(n) => Some(i64::from(*n)),
            XdrValue::Uint(n) => Some(i64::from(*n)),
            XdrValue::Hyper(n) => Some(*n),
            XdrValue::Uhyper(n) => i64::try_from(*n).ok(),
            XdrValue::Bool(b) => Some(i64::from(*b)),
            _ => None,
        }
    }

    /// The bytes, if it is bytes.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self.inner()? {
            XdrValue::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Characters up to the first NUL as text; what is not UTF-8 is replaced.
    pub fn as_c_text(&self) -> Option<String> {
        let bytes = self.as_bytes()?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        bytes.get(..end).map(|b| String::from_utf8_lossy(b).into_owned())
    }

    /// The items, if it is an array; else none.
    pub fn items(&self) -> &[XdrValue] {
        match self.inner() {
            Some(XdrValue::Array(items)) => items,
            _ => &[],
        }
    }

    /// Text.
    pub fn text(text: &str) -> XdrValue {
        XdrValue::Text(Arc::from(text))
    }

    /// An optional value that is there.
    pub fn some(value: XdrValue) -> XdrValue {
        XdrValue::Optional(Some(Box::new(value)))
    }

    /// An optional value that is not there.
    pub const NONE: XdrValue = XdrValue::Optional(None);
}

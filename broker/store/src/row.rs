//! Rows as bytes: tagged fields, so that a later version may add some and an earlier one skips what it does not know.
//!
//! ```text
//! row = (tag u8 ‖ length u32 ‖ bytes)*      numbers little-endian; a missing field is its empty value, or the row is malformed
//! ```

use crate::{error::StoreError, seal, table::Table};
use std::{fmt, sync::Arc};
use union::{CommandId, Kind, ObjectId, command::Revision};
use uuid::Uuid;

/// Bytes that are not shown: their content is not the store's business, and may be secret.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Blob {
        Blob(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Blob {
        Blob(bytes)
    }
}

/// What a row consists of.
pub(crate) trait Field: Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(bytes: &[u8]) -> Option<Self>;
    /// Its value when the row does not have it.
    fn missing() -> Option<Self> {
        None
    }
}

/// A row.
pub(crate) trait Row: Sized {
    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Option<Self>;

    /// The row a table holds under `key`.
    fn at(table: Table, key: &[u8], bytes: &[u8]) -> Result<Self, StoreError> {
        Self::decode(bytes).ok_or_else(|| seal::corrupt(&table.key(key), "its fields cannot be read"))
    }
}

pub(crate) fn put(out: &mut Vec<u8>, tag: u8, field: &impl Field) {
    out.push(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    field.write(out);
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

fn pull<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *bytes = rest;
    Some(value)
}

pub(crate) fn split(mut bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut fields = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        bytes = rest;
        fields.push((*tag, pull(&mut bytes)?));
    }
    Some(fields)
}

pub(crate) fn take<F: Field>(fields: &[(u8, &[u8])], tag: u8) -> Option<F> {
    match fields.iter().find(|(t, _)| *t == tag) {
        Some((_, bytes)) => F::read(bytes),
        None => F::missing(),
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn read(bytes: &[u8]) -> Option<Self> {
                Some(<$number>::from_le_bytes(bytes.try_into().ok()?))
            }
            fn missing() -> Option<Self> {
                Some(0)
            }
        }
    )*};
}
numbers!(u8, u32, u64, i64);

impl Field for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn read(bytes: &[u8]) -> Option<bool> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
    fn missing() -> Option<bool> {
        Some(false)
    }
}

impl Field for Arc<str> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn read(bytes: &[u8]) -> Option<Arc<str>> {
        std::str::from_utf8(bytes).ok().map(Arc::from)
    }
    fn missing() -> Option<Arc<str>> {
        Some(Arc::from(""))
    }
}

impl Field for Blob {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn read(bytes: &[u8]) -> Option<Blob> {
        Some(Blob(bytes.to_vec()))
    }
    fn missing() -> Option<Blob> {
        Some(Blob::default())
    }
}

impl Field for [u8; 32] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn read(bytes: &[u8]) -> Option<[u8; 32]> {
        bytes.try_into().ok()
    }
}

impl Field for Uuid {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
    fn read(bytes: &[u8]) -> Option<Uuid> {
        Uuid::from_slice(bytes).ok()
    }
}

impl Field for CommandId {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
    fn read(bytes: &[u8]) -> Option<CommandId> {
        Uuid::read(bytes).map(CommandId)
    }
}

impl Field for ObjectId {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.kind.word().as_bytes());
        out.push(b':');
        self.uuid.write(out);
    }
    fn read(bytes: &[u8]) -> Option<ObjectId> {
        let at = bytes.iter().position(|b| *b == b':')?;
        let (kind, uuid) = bytes.split_at_checked(at)?;
        let kind = Kind::from_word(std::str::from_utf8(kind).ok()?)?;
        Some(ObjectId::new(kind, Uuid::read(uuid.get(1..)?)?))
    }
}

impl Field for Revision {
    fn write(&self, out: &mut Vec<u8>) {
        self.incarnation.write(out);
        self.n.write(out);
    }
    fn read(bytes: &[u8]) -> Option<Revision> {
        let (incarnation, n) = bytes.split_at_checked(8)?;
        Some(Revision { incarnation: u64::read(incarnation)?, n: u64::read(n)? })
    }
    fn missing() -> Option<Revision> {
        Some(Revision::default())
    }
}

impl<F: Field> Field for Option<F> {
    fn write(&self, out: &mut Vec<u8>) {
        if let Some(value) = self {
            out.push(1);
            value.write(out);
        }
    }
    fn read(bytes: &[u8]) -> Option<Option<F>> {
        match bytes.split_first() {
            None => Some(None),
            Some((1, value)) => F::read(value).map(Some),
            Some(_) => None,
        }
    }
    fn missing() -> Option<Option<F>> {
        Some(None)
    }
}

impl<F: Field> Field for Vec<F> {
    fn write(&self, out: &mut Vec<u8>) {
        for item in self {
            put(out, 0, item);
        }
    }
    fn read(bytes: &[u8]) -> Option<Vec<F>> {
        split(bytes)?.into_iter().map(|(_, item)| F::read(item)).collect()
    }
    fn missing() -> Option<Vec<F>> {
        Some(Vec::new())
    }
}

/// Declares a row. The number before a field is its tag, for ever.
macro_rules! row {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* $tag:literal $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $name {
            /// As it is written, for whoever sends it elsewhere.
            pub fn to_bytes(&self) -> Vec<u8> {
                $crate::row::Row::encode(self)
            }

            /// Reads it back; `None`: the bytes are no such row.
            pub fn from_bytes(bytes: &[u8]) -> Option<$name> {
                $crate::row::Row::decode(bytes)
            }
        }

        impl $crate::row::Row for $name {
            fn encode(&self) -> Vec<u8> {
                let mut out = Vec::new();
                $($crate::row::put(&mut out, $tag, &self.$field);)*
                out
            }
            fn decode(bytes: &[u8]) -> Option<Self> {
                let fields = $crate::row::split(bytes)?;
                Some($name { $($field: $crate::row::take(&fields, $tag)?,)* })
            }
        }

        impl $crate::row::Field for $name {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&$crate::row::Row::encode(self));
            }
            fn read(bytes: &[u8]) -> Option<Self> {
                $crate::row::Row::decode(bytes)
            }
        }
    };
}
pub(crate) use row;

/// Declares an enumeration that is one byte of a row.
macro_rules! byte {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$case_doc:meta])* $case:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$case_doc])* $case = $number,)* }

        impl $crate::row::Field for $name {
            fn write(&self, out: &mut Vec<u8>) {
                out.push(*self as u8);
            }
            fn read(bytes: &[u8]) -> Option<Self> {
                match bytes { $([$number] => Some($name::$case),)* _ => None }
            }
        }
    };
}
pub(crate) use byte;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    row! {
        /// Of today.
        pub struct Now {
            /// A.
            1 id: ObjectId,
            /// B.
            2 texts: Vec<Arc<str>>,
            /// C.
            3 when: Option<i64>,
            /// D.
            4 added: u64,
            /// E.
            5 blob: Blob,
        }
    }
    row! {
        /// Of an earlier version.
        pub struct Before {
            /// A.
            1 id: ObjectId,
            /// C.
            3 when: Option<i64>,
        }
    }

    #[test]
    fn an_earlier_version_and_a_later_one_read_each_other() {
        let id = ObjectId::new(Kind::ResourcePool, Uuid::from_u128(7));
        let now =
            Now { id, texts: vec!["a".into(), "".into()], when: Some(-1), added: 3, blob: Blob(vec![1]) };
        assert_eq!(Now::from_bytes(&now.to_bytes()).unwrap(), now);
        let before = Before::from_bytes(&now.to_bytes()).unwrap();
        assert_eq!(before, Before { id, when: Some(-1) });
        let again = Now::from_bytes(&before.to_bytes()).unwrap();
        assert_eq!(again, Now { texts: vec![], added: 0, blob: Blob::default(), ..now });
        assert_eq!(format!("{:?}", Blob(b"secret".to_vec())), "<6 bytes>");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(now) = Now::decode(&bytes) {
                prop_assert_eq!(Now::decode(&now.encode()), Some(now));
            }
        }
    }
}

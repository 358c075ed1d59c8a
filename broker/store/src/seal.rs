//! Every value in the file carries a CRC32C of its key and its bytes: a row that is read is the row that was written, in its place.
//!
//! ```text
//! value = crc32c(key length ‖ key ‖ body), little-endian ‖ body        key = table number ‖ key within the table
//! ```

use crate::{
    error::{StoreError, printable},
    table::Table,
};

fn sum(full_key: &[u8], body: &[u8]) -> u32 {
    let length = u32::try_from(full_key.len()).unwrap_or(u32::MAX);
    let crc = crc32c::crc32c(&length.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, full_key), body)
}

/// The bytes for the file.
pub(crate) fn seal(full_key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 4);
    out.extend_from_slice(&sum(full_key, body).to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// The body of what the file holds.
pub(crate) fn unseal<'v>(full_key: &[u8], sealed: &'v [u8]) -> Result<&'v [u8], StoreError> {
    let found = sealed
        .split_first_chunk::<4>()
        .filter(|(crc, body)| u32::from_le_bytes(**crc) == sum(full_key, body));
    found.map(|(_, body)| body).ok_or_else(|| corrupt(full_key, "its checksum does not match"))
}

/// The error for a row.
pub(crate) fn corrupt(full_key: &[u8], what: &str) -> StoreError {
    let (table, key) = match Table::split(full_key) {
        Some((table, key)) => (table.name(), key),
        None => ("file", full_key),
    };
    StoreError::Corrupt { table, key: printable(key), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_is_read_only_whole_and_in_its_place() {
        let sealed = seal(b"\x02key", b"body");
        assert_eq!(unseal(b"\x02key", &sealed).unwrap(), b"body");
        assert!(unseal(b"\x02kez", &sealed).is_err());
        assert!(unseal(b"\x02key", &[]).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = unseal(b"\x02key", &flipped).unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { table: "id map", key, .. } if key == "key"));
        }
    }
}

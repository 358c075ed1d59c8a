//! Users, groups, roles, scopes and templates: rows by name, whose values are the guard's business.

use crate::{
    batch::Batch,
    error::StoreError,
    row::Blob,
    seal,
    store::{Store, all},
    table::Table,
};

/// Adds to a batch that a row is set, or that it is gone.
pub fn stage(batch: &mut Batch, name: &str, value: Option<Vec<u8>>) {
    match value {
        Some(value) => batch.put(Table::User, name.as_bytes(), value),
        None => batch.remove(Table::User, name.as_bytes()),
    };
}

/// Every row, by name.
pub async fn rows(store: &dyn Store) -> Result<Vec<(String, Blob)>, StoreError> {
    let rows = all(store, Table::User, &[]).await?;
    rows.into_iter()
        .map(|(key, value)| {
            let name = String::from_utf8(key)
                .map_err(|bad| seal::corrupt(&Table::User.key(bad.as_bytes()), "expected a name in UTF-8"));
            Ok((name?, Blob(value)))
        })
        .collect()
}

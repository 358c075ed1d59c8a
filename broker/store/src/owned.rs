//! Facts that are the broker's own and no target keeps: folders, instance uuids, other_config, tags. A value by object and name.
//!
//! Names are paths of the room that owns them, for example `folder.parent`, `other_config.owner`, `tag.backup`.

use crate::{
    batch::{Batch, Epoch},
    error::{StoreError, printable},
    row::Blob,
    seal,
    store::{Store, all},
    table::Table,
};
use std::sync::Arc;
use union::ObjectId;

/// The broker's own facts over a store.
#[derive(Clone, Debug)]
pub struct Owned {
    store: Arc<dyn Store>,
}

/// The name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnedError {
    /// Empty, or longer than 1,024 bytes.
    #[error("`{0}` cannot name a fact: expected 1 to {MAX_NAME} bytes")]
    BadName(String),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A name may be this long, bytes.
pub const MAX_NAME: usize = 1_024;

fn prefix(id: ObjectId) -> Vec<u8> {
    [id.to_string().as_bytes(), &[0]].concat()
}

/// The key of an object's fact.
fn key(id: ObjectId, name: &str) -> Result<Vec<u8>, OwnedError> {
    if (1..=MAX_NAME).contains(&name.len()) {
        Ok([&prefix(id)[..], name.as_bytes()].concat())
    } else {
        Err(OwnedError::BadName(name.chars().take(64).collect()))
    }
}

/// Adds to a batch that a fact is set, or removed.
pub fn stage(batch: &mut Batch, id: ObjectId, name: &str, value: Option<&[u8]>) -> Result<(), OwnedError> {
    match value {
        Some(value) => batch.put(Table::Owned, &key(id, name)?, value.to_vec()),
        None => batch.remove(Table::Owned, &key(id, name)?),
    };
    Ok(())
}

/// Adds to a batch that it holds only if a fact is as the caller knows it.
pub fn expect(batch: &mut Batch, id: ObjectId, name: &str, value: Option<&[u8]>) -> Result<(), OwnedError> {
    batch.expect(Table::Owned, &key(id, name)?, value);
    Ok(())
}

fn name_of(key: &[u8], from: usize) -> Result<Arc<str>, StoreError> {
    let name = key.get(from..).and_then(|name| std::str::from_utf8(name).ok());
    name.map(Arc::from).ok_or_else(|| seal::corrupt(&Table::Owned.key(key), "expected a name"))
}

impl Owned {
    /// The broker's own facts in `store`.
    pub fn new(store: Arc<dyn Store>) -> Owned {
        Owned { store }
    }

    /// One fact of an object.
    pub async fn get(&self, id: ObjectId, name: &str) -> Result<Option<Blob>, OwnedError> {
        Ok(self.store.get(Table::Owned, &key(id, name)?).await?.map(Blob))
    }

    /// Sets a fact, or removes it.
    pub async fn set(
        &self,
        id: ObjectId,
        name: &str,
        value: Option<&[u8]>,
        epoch: Epoch,
    ) -> Result<(), OwnedError> {
        let mut batch = Batch::new();
        stage(&mut batch, id, name, value)?;
        self.store.commit(batch, epoch).await?;
        Ok(())
    }

    /// Every fact of an object, by name.
    pub async fn of(&self, id: ObjectId) -> Result<Vec<(Arc<str>, Blob)>, StoreError> {
        let prefix = prefix(id);
        let rows = all(&*self.store, Table::Owned, &prefix).await?;
        rows.into_iter().map(|(key, value)| Ok((name_of(&key, prefix.len())?, Blob(value)))).collect()
    }

    /// Every fact there is: what a start begins with.
    pub async fn all(&self) -> Result<Vec<(ObjectId, Arc<str>, Blob)>, StoreError> {
        let rows = all(&*self.store, Table::Owned, &[]).await?;
        rows.into_iter()
            .map(|(key, value)| {
                let bad = || seal::corrupt(&Table::Owned.key(&key), "expected an object and a name");
                let at = key.iter().position(|b| *b == 0).ok_or_else(bad)?;
                let id = printable(key.get(..at).unwrap_or_default()).parse().map_err(|_| bad())?;
                Ok((id, name_of(&key, at + 1)?, Blob(value)))
            })
            .collect()
    }

    /// Removes every fact of an object.
    pub async fn clear(&self, id: ObjectId, epoch: Epoch) -> Result<(), OwnedError> {
        let mut batch = Batch::new();
        for (name, _) in self.of(id).await? {
            stage(&mut batch, id, &name, None)?;
        }
        if !batch.is_empty() {
            self.store.commit(batch, epoch).await?;
        }
        Ok(())
    }
}

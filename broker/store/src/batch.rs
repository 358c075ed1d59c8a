//! What is written together: all of it, or nothing.

use crate::{error::StoreError, table::Table};

/// Keys may be this long, bytes.
pub const MAX_KEY: usize = 2_048;
/// Values may be this long, bytes.
pub const MAX_VALUE: usize = 8 << 20;
/// A batch may hold this many bytes of keys and values.
pub const MAX_BATCH: usize = 32 << 20;

/// Whose turn it is to write: only the highest epoch seen may. A higher one is remembered at its first commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// A row that must be so for the batch to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expect {
    pub table: Table,
    pub key: Vec<u8>,
    /// `None`: there is no such row.
    pub value: Option<Vec<u8>>,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Put { table: Table, key: Vec<u8>, value: Vec<u8> },
    Remove { table: Table, key: Vec<u8> },
    Append { log: Table, entry: Vec<u8>, index: Vec<Vec<u8>> },
    Prune { log: Table, before: u64 },
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The number of the store's commit, which grows.
    pub commit: u64,
    /// The sequence number of each [`Batch::append`], in their order.
    pub appended: Vec<u64>,
}

/// Writes, and what they rely on. Built up by the rooms of the store, so that an intent and its audit entry are one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub(crate) expects: Vec<Expect>,
    pub(crate) writes: Vec<Write>,
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Sets a row.
    pub fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) -> &mut Batch {
        self.writes.push(Write::Put { table, key: key.to_vec(), value });
        self
    }

    /// Removes a row, if there is one.
    pub fn remove(&mut self, table: Table, key: &[u8]) -> &mut Batch {
        self.writes.push(Write::Remove { table, key: key.to_vec() });
        self
    }

    /// Only if the row has this value now; `None`: only if there is no such row.
    pub fn expect(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) -> &mut Batch {
        self.expects.push(Expect { table, key: key.to_vec(), value: value.map(<[u8]>::to_vec) });
        self
    }

    /// Adds an entry to a log, with the next sequence number, chained by hash to the entry before. Each of `index` is a text it is
    /// found by.
    pub fn append(&mut self, log: Table, entry: Vec<u8>, index: Vec<Vec<u8>>) -> &mut Batch {
        self.writes.push(Write::Append { log, entry, index });
        self
    }

    /// Removes the entries of a log that are older than `before`. The hash of the last one is kept, so what is left still verifies.
    pub fn prune(&mut self, log: Table, before: u64) -> &mut Batch {
        self.writes.push(Write::Prune { log, before });
        self
    }

    /// Adds all of another batch behind this one.
    pub fn join(&mut self, other: Batch) -> &mut Batch {
        self.expects.extend(other.expects);
        self.writes.extend(other.writes);
        self
    }

    /// The bytes it would write, about.
    pub(crate) fn size(&self) -> usize {
        let write = |w: &Write| match w {
            Write::Put { key, value, .. } => key.len() + value.len(),
            Write::Remove { key, .. } => key.len(),
            Write::Append { entry, index, .. } => entry.len() + index.iter().map(Vec::len).sum::<usize>(),
            Write::Prune { .. } => 8,
        };
        self.writes.iter().map(write).sum()
    }

    /// Holds every limit?
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let most = |what, size, most| {
            if size > most { Err(StoreError::TooLarge { what, size, most }) } else { Ok(()) }
        };
        for write in &self.writes {
            match write {
                Write::Put { key, value, .. } => {
                    most("a key", key.len(), MAX_KEY)?;
                    most("a value", value.len(), MAX_VALUE)?;
                }
                Write::Remove { key, .. } => most("a key", key.len(), MAX_KEY)?,
                Write::Append { entry, index, .. } => {
                    most("an entry", entry.len(), MAX_VALUE)?;
                    for key in index {
                        most("an index text", key.len(), MAX_KEY)?;
                    }
                }
                Write::Prune { .. } => {}
            }
        }
        most("a batch", self.size(), MAX_BATCH)
    }
}

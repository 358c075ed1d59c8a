//! What can be wrong with a store, each with what to do about it.

use crate::table::Table;

/// Why the store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The writer's queue is full; nothing was written.
    #[error("{waiting} commits wait for the store already; nothing was written, try again")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// Somebody with a later epoch owns this store; nothing was written.
    #[error(
        "epoch {given} is over, {highest} has begun: another engine owns this store; nothing was written"
    )]
    Stale {
        /// The epoch of the commit.
        given: u64,
        /// The highest one seen.
        highest: u64,
    },
    /// A row is not what the batch expected; nothing was written. Read again and decide again.
    #[error("{table} `{key}` is not what the commit expected; nothing was written")]
    Conflict {
        /// Where.
        table: Table,
        /// Which row, printable.
        key: String,
    },
    /// A row, or the file, does not carry its own checksum.
    #[error(
        "{table} `{key}` is corrupt ({what}); stop the program and run `hyperglot ctl repair`, which copies what is whole into a new file"
    )]
    Corrupt {
        /// A table's name, or `file`.
        table: &'static str,
        /// Which row, printable.
        key: String,
        /// What was seen.
        what: String,
    },
    /// The file is shorter than it was.
    #[error("{file} is shorter than it was ({what}); restore it from a copy or run `hyperglot ctl repair`")]
    Truncated {
        /// Which file.
        file: String,
        /// What was seen.
        what: String,
    },
    /// Another process has the file open.
    #[error("{file} is in use by another process; only one may use it")]
    Locked {
        /// Which file.
        file: String,
    },
    /// The disk is full. The store writes again by itself when there is room.
    #[error("no room left for {file}; free some space, and it is written again within seconds")]
    Full {
        /// Which file.
        file: String,
    },
    /// An earlier failure made the store read-only; nothing was written.
    #[error("the store only reads since an earlier failure, so nothing was written: {reason}")]
    ReadOnly {
        /// The failure.
        reason: Box<StoreError>,
    },
    /// The store reads from a damaged file and cannot say whether the row exists.
    #[error("{table} `{key}` was not found, but the file is damaged, so it may have been lost")]
    Unverified {
        /// Where.
        table: Table,
        /// Which row, printable.
        key: String,
    },
    /// Larger than a limit; nothing was written.
    #[error("{what} of {size} is over the limit of {most}; nothing was written")]
    TooLarge {
        /// A key, a value, a batch.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        most: usize,
    },
    /// There is no such file.
    #[error("{file} does not exist; expected a store made by an earlier start")]
    Missing {
        /// Which file.
        file: String,
    },
    /// There is such a file already.
    #[error("{file} exists already; expected a free name")]
    Exists {
        /// Which file.
        file: String,
    },
    /// The disk failed. Whether the last commit survives is known after the next start.
    #[error("{file}: {what}")]
    Io {
        /// Which file.
        file: String,
        /// What the system said.
        what: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the batch may be there all the same, so that only looking settles it.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, StoreError::Full { .. } | StoreError::Io { .. } | StoreError::Closed)
    }
}

/// A key or a part of one for people: printable ASCII as it is, the rest as `\xNN`.
pub(crate) fn printable(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

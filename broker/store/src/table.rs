//! The tables, by number: the number is the first byte of every key in the file, so it never changes.

use std::fmt;

/// Names the tables once.
macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident = $number:literal $name:literal,)*) => {
        /// Whose row it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Table { $($(#[$doc])* $table = $number,)* }

        impl Table {
            /// All tables, by number.
            pub const ALL: &'static [Table] = &[$(Table::$table,)*];

            /// The name in messages.
            pub fn name(self) -> &'static str {
                match self { $(Table::$table => $name,)* }
            }

            /// The table with this number.
            pub fn from_number(number: u8) -> Option<Table> {
                match number { $($number => Some(Table::$table),)* _ => None }
            }
        }
    };
}

tables! {
    /// The store's own: epoch, commit number, the heads of the logs. Not to be written by others.
    Meta = 0 "meta",
    /// Rows that find entries of a log; written by [`Batch::append`](crate::Batch::append).
    Index = 1 "index",
    /// Union id -> native id.
    IdNative = 2 "id map",
    /// Native id -> union id.
    IdUnion = 3 "id map (reverse)",
    /// The last number given out, by form.
    IdLast = 4 "id counter",
    /// Leased blocks of numbers.
    IdBlock = 5 "id block",
    /// Commands: intent, steps, outcome.
    Journal = 6 "journal",
    /// Ids of commands that are not settled.
    JournalOpen = 7 "open commands",
    /// Ids of settled commands, by the time they may be forgotten.
    JournalEnded = 8 "ended commands",
    /// Sessions, by the hash of their key.
    Session = 9 "session",
    /// Last known facts, by object.
    Fact = 10 "fact",
    /// Facts that are the broker's own, by object and name.
    Owned = 11 "owned fact",
    /// The audit chain.
    Audit = 12 "audit",
    /// What is still to be handed in.
    Outbox = 13 "outbox",
    /// The last entry taken from each agent's outbox.
    Inbox = 14 "inbox",
    /// The highest epoch of each target.
    Lease = 15 "lease",
    /// Users, roles and scopes.
    User = 16 "user",
    /// Commands as their callers watch them.
    Task = 17 "task",
    /// Numbers that go on after a restart, by name.
    Counter = 18 "counter",
    /// Agents and their invitations.
    Agent = 20 "agent",
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Table {
    /// The key in the file.
    pub(crate) fn key(self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(key.len() + 1);
        full.push(self as u8);
        full.extend_from_slice(key);
        full
    }

    /// Table and key of a key in the file.
    pub(crate) fn split(full: &[u8]) -> Option<(Table, &[u8])> {
        let (number, key) = full.split_first()?;
        Some((Table::from_number(*number)?, key))
    }
}

//! Why a document is left as it is.

use super::{lens::Misfit, tree::ParseError};

/// Why a put is refused. Nothing is written then; every message names the row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The document itself.
    #[error("the document cannot be read: {0}")]
    Parse(#[from] ParseError),
    /// The root element is another.
    #[error("the document is a <{found}>, not a <{expected}>")]
    Root {
        /// What it is.
        found: String,
        /// What the rows are for.
        expected: String,
    },
    /// No row writes the field.
    #[error("`{field}` cannot be changed in the document")]
    ReadOnly {
        /// The field.
        field: String,
    },
    /// Only a call of the hypervisor changes it.
    #[error("`{field}` is changed by {call}, not in the document")]
    Elsewhere {
        /// The field.
        field: String,
        /// The native call.
        call: String,
    },
    /// The native schema requires a value.
    #[error("`{row}` may not be unset")]
    Required {
        /// The row.
        row: String,
    },
    /// The element is there more than once, so nobody knows which one counts.
    #[error("`{row}`: the element is there more than once")]
    Twice {
        /// The row.
        row: String,
    },
    /// The text has a comment, an instruction or an element in it.
    #[error("`{row}`: the text holds a comment, an instruction or an element that a change would lose")]
    Mixed {
        /// The row.
        row: String,
    },
    /// The change would lose something that no row maps.
    #[error("`{row}`: the change would lose {path}, which no row maps")]
    Holds {
        /// The row.
        row: String,
        /// What would be lost.
        path: String,
    },
    /// The value has no native form.
    #[error("`{row}`: the value is {misfit}")]
    Form {
        /// The row.
        row: String,
        /// Why.
        misfit: Misfit,
    },
    /// XML cannot hold the text.
    #[error("`{row}`: the text has a character that XML does not allow")]
    Character {
        /// The row.
        row: String,
    },
    /// Another item has the key already.
    #[error("`{row}`: the key `{key}` is taken")]
    KeyTaken {
        /// The row.
        row: String,
        /// The key.
        key: String,
    },
    /// The item's key is absent or not the only one.
    #[error("`{row}`: the item `{key}` has no key of its own, so it cannot be changed or removed")]
    KeyUnclear {
        /// The row.
        row: String,
        /// The item.
        key: String,
    },
    /// A new item without key.
    #[error("`{row}`: a new item needs a key")]
    NoKey {
        /// The row.
        row: String,
    },
    /// The list takes no new items.
    #[error("`{row}`: there is no fragment for a new item")]
    NoSkeleton {
        /// The row.
        row: String,
    },
    /// No such item.
    #[error("`{field}` has no item `{key}`")]
    NoItem {
        /// The list.
        field: String,
        /// The key.
        key: String,
    },
    /// The kind has no case.
    #[error("`{row}`: `{kind}` is a kind that the rows cannot write")]
    NoCase {
        /// The row.
        row: String,
        /// The kind.
        kind: String,
    },
    /// The field has no place in this kind.
    #[error("`{field}` has no place in an element of kind `{kind}`")]
    NoPlace {
        /// The field.
        field: String,
        /// The kind.
        kind: String,
    },
    /// Two ways to say one thing.
    #[error("`{one}` and `{other}` exclude each other")]
    Exclusive {
        /// What is set.
        one: String,
        /// What is set too.
        other: String,
    },
    /// A rule of the row file.
    #[error("`{row}`: {why}")]
    Rule {
        /// The list or part.
        row: String,
        /// The rule's reason.
        why: String,
    },
    /// An unmapped place says the same in another way.
    #[error("`{row}` cannot be changed while the document has {path}")]
    Unless {
        /// The row.
        row: String,
        /// The place.
        path: String,
    },
    /// More than another field allows.
    #[error("`{field}` may not exceed `{limit}`")]
    AtMost {
        /// The field.
        field: String,
        /// The other field.
        limit: String,
    },
    /// A quotient that is no whole number.
    #[error("`{row}`: the fields do not divide without a rest")]
    NotWhole {
        /// The row.
        row: String,
    },
    /// Two edits touch one byte.
    #[error("`{one}` and `{other}` would edit the same bytes")]
    Overlap {
        /// A row.
        one: String,
        /// Another.
        other: String,
    },
    /// The result does not read back as wanted.
    #[error("the edited document does not read back as wanted: `{field}`")]
    Verify {
        /// The first field that differs.
        field: String,
    },
}

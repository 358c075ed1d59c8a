//! The compiled rows of a document.

use super::{
    lens::Lens,
    path::{Path, Step},
};
use std::{collections::BTreeMap, sync::Arc};
use union::{MessageId, Slot, SlotSet, Value};

/// What may be done to a field through its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Written by put.
    Put,
    /// Written into something new only.
    Never,
    /// Changed by a call of the hypervisor only.
    Call(String),
    /// Read, never written.
    Read,
    /// Not read; written with its field if the two were equal.
    Follow,
}

/// One field at one leaf.
#[derive(Debug)]
pub(crate) struct Row {
    /// The native path as the file has it.
    pub label: Arc<str>,
    /// Several are joined, and then never written.
    pub source: Vec<Path>,
    pub slot: Slot,
    pub lens: Lens,
    pub policy: Policy,
    /// What becomes invalid when this changes, the hypervisor's to allocate again.
    pub drops: Vec<Path>,
    /// The field that this one keeps equal to, if it was.
    pub follow: Option<Slot>,
    /// The field whose value this one has where the leaf is absent.
    pub absent: Option<Slot>,
    /// The field that this one may not exceed.
    pub at_most: Option<Slot>,
    /// Unmapped places that say the same in another way; while they exist, no change.
    pub unless: Vec<Path>,
    pub required: bool,
    /// Unsetting it removes the element that holds it.
    pub unset_element: bool,
    /// 32-bit fields refuse larger numbers.
    pub narrow: bool,
}

impl Row {
    /// The one place it writes.
    pub(crate) fn target(&self) -> Option<&Path> {
        self.source.first()
    }
}

/// An attribute computed from fields.
#[derive(Debug)]
pub(crate) struct Quotient {
    pub label: Arc<str>,
    pub path: Path,
    pub dividend: Slot,
    pub divisors: Vec<Divisor>,
}

#[derive(Debug)]
pub(crate) enum Divisor {
    Field(Slot),
    /// Absent: 1.
    Leaf(Path),
}

/// The cases of an element whose shape depends on a word.
#[derive(Debug)]
pub(crate) struct Variant {
    pub label: Arc<str>,
    pub on: Path,
    pub slot: Slot,
    /// Elements rebuilt with a change of case.
    pub owns: Vec<Path>,
    /// What a change of case may lose.
    pub drops: Vec<Path>,
    pub cases: Vec<Case>,
    /// Every field of any case.
    pub fields: SlotSet,
}

#[derive(Debug)]
pub(crate) struct Case {
    pub name: String,
    pub rows: Vec<Row>,
}

impl Variant {
    pub(crate) fn case(&self, name: &str) -> Option<&Case> {
        self.cases.iter().find(|case| case.name == name)
    }
}

/// How the items of a list are told apart.
#[derive(Debug)]
pub(crate) enum Order {
    /// A set, by a key inside the item.
    Key {
        key: Vec<Path>,
        lower: bool,
        /// The item's field that holds the key.
        id: Slot,
        /// A field that says the same as a key of one part, taken where a new item has no id.
        twin: Option<Slot>,
        /// Where a new key has to be free.
        scope: Vec<Step>,
    },
    /// By position.
    Position,
}

/// What the items of a list are.
#[derive(Debug)]
pub(crate) enum Item {
    Part(Box<Rows>),
    Scalar(Box<Row>),
}

/// A list of elements.
#[derive(Debug)]
pub(crate) struct List {
    pub label: Arc<str>,
    /// The last step is the item.
    pub path: Path,
    pub slot: Slot,
    pub order: Order,
    pub item: Item,
    /// The fragment that a new item is put into; `None`: no new items.
    pub skeleton: Option<String>,
    /// Items of one key are the hypervisor's custom, so no gap.
    pub twins: bool,
    /// The item's field that takes its place in the list, from 0.
    pub position: Option<Slot>,
}

/// One element as a part of the object.
#[derive(Debug)]
pub(crate) struct Part {
    pub label: Arc<str>,
    pub path: Path,
    pub slot: Slot,
    pub rows: Rows,
    pub skeleton: Option<String>,
}

/// Field values that an element may not have together.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Each field with the values that meet the rule.
    pub when: Vec<(Slot, Vec<Value>)>,
    pub why: String,
}

/// The rows of one element and of what is in it.
#[derive(Debug)]
pub(crate) struct Rows {
    pub message: MessageId,
    pub width: usize,
    /// Field names by slot.
    pub fields: Vec<String>,
    pub rows: Vec<Row>,
    pub quotients: Vec<Quotient>,
    pub variant: Option<Variant>,
    pub lists: Vec<List>,
    pub parts: Vec<Part>,
    pub rules: Vec<Rule>,
    /// A field that takes the number of another's items.
    pub counts: Vec<(Slot, Slot)>,
    /// Fields that a put can write.
    pub written: SlotSet,
    /// Fields that are read.
    pub read: SlotSet,
}

impl Rows {
    pub(crate) fn field(&self, slot: Slot) -> &str {
        self.fields.get(usize::from(slot.0)).map_or("?", String::as_str)
    }
}

/// A field, or a field of a list's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub slot: Slot,
    pub item: Option<Slot>,
}

/// Two ways to say one thing; only one side may be set.
#[derive(Debug)]
pub(crate) struct Exclusive {
    pub sides: Vec<Vec<Place>>,
    /// Setting one side clears the others; else it is refused.
    pub clear: bool,
}

/// A call that reads or writes the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The native call, for example `DomainGetXMLDesc`.
    pub call: String,
    /// Its flags by name.
    pub flags: Vec<String>,
}

/// What the rows need to know of the native schema.
#[derive(Debug, Default)]
pub(crate) struct Native {
    /// The order in which an element's children stand.
    pub order: BTreeMap<String, Vec<String>>,
    /// Fragments for elements that rows have to create, by the end of their path.
    pub skeletons: BTreeMap<String, String>,
}

impl Native {
    /// The fragment for a new element at the end of `names`.
    pub(crate) fn skeleton(&self, names: &[&str]) -> Option<&str> {
        let full = names.join("/");
        self.skeletons
            .iter()
            .filter(|(path, _)| {
                full.strip_suffix(path.as_str()).is_some_and(|h| h.is_empty() || h.ends_with('/'))
            })
            .max_by_key(|(path, _)| path.len())
            .map(|(_, text)| text.as_str())
    }
}

/// The rows of one kind of document, compiled; see [`super`].
#[derive(Debug)]
pub struct DocumentMap {
    /// The name of the document's root element.
    pub root: String,
    /// The call that reads the document to edit.
    pub read: Call,
    /// The call that writes it.
    pub write: Call,
    pub(crate) secret: Vec<Path>,
    pub(crate) rows: Rows,
    pub(crate) exclusive: Vec<Exclusive>,
    pub(crate) native: Native,
    pub(crate) skeleton: Option<String>,
}

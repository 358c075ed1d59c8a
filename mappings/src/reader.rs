//! What rendering, guards and lowering may look at besides the record itself.

use std::sync::Arc;
use union::{Kind, ObjectId, Record, Slot};

/// A reference in a protocol's own words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NativeRef {
    /// The native type, for example `VirtualMachine`.
    pub ty: Arc<str>,
    /// The native id, for example `vm-7`.
    pub id: Arc<str>,
}

/// A value that a row could not show or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The native path of the row, or the expression.
    pub path: Arc<str>,
    /// What was wrong with the value.
    pub why: String,
}

/// The facts around a record, in one view of one protocol.
pub trait Reader {
    /// Another object.
    fn object(&self, id: ObjectId) -> Option<Arc<Record>>;
    /// Adds the objects of `kind` whose `slot` names `to`.
    fn referring(&self, kind: Kind, slot: Slot, to: ObjectId, out: &mut Vec<ObjectId>);
    /// All objects of a kind; `None`: this reader does not know them all.
    fn every(&self, _kind: Kind) -> Option<Vec<ObjectId>> {
        None
    }
    /// The object's reference in this view; `None`: the view does not show it.
    fn native_ref(&self, id: ObjectId) -> Option<NativeRef>;
    /// The view's name, for example `fleet`.
    fn view(&self) -> &str;
    /// Told of every value that could not be shown.
    fn gap(&self, _gap: Gap) {}
}

/// A reader that knows nothing: for expressions that read only their records.
#[derive(Debug, Default)]
pub struct Nothing;

impl Reader for Nothing {
    fn object(&self, _: ObjectId) -> Option<Arc<Record>> {
        None
    }

    fn referring(&self, _: Kind, _: Slot, _: ObjectId, _: &mut Vec<ObjectId>) {}

    fn native_ref(&self, _: ObjectId) -> Option<NativeRef> {
        None
    }

    fn view(&self) -> &str {
        ""
    }
}

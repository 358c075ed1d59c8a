//! Patches a hypervisor's own document through the rows that read it; the document is never rendered anew.
//!
//! ```text
//! text -> Tree -> get  -> Record + gaps                   reading: total, a value that cannot be read is left unset
//!              -> put  -> edits of bytes -> text          writing: only what differs, in place
//!                         `-> read back, compared -> Put | Refusal
//! ```
//! Laws, each a test: `put(get(d), d)` is `d` byte for byte; `get(put(w, d))` is `w`; every byte outside the edits stays. Whatever no row
//! maps (a QEMU command line, an address, a secret) therefore survives, and what would be lost is refused instead.
//!
//! A new disk or VM is the same put into a constant fragment. Two rows that would touch one byte, a result that does not read back as
//! wanted, an item without a key of its own: refused, with the row's name. The row file's format is described in
//! `mappings/libvirt/NOTES.md`.
//!
//! Limits: those of [`tree`]; documents are UTF-8; keys do not change (another key is another item); attributes with a prefix, wildcard
//! elements and comments are not edited. At most 100 gaps are kept of one document.

mod editor;
mod explain;
mod get;
mod lens;
mod load;
mod model;
pub(crate) mod nesting;
mod path;
mod put;
mod refusal;
mod report;
mod settle;
mod text;
pub mod tree;

pub use editor::Edit;
pub use get::{Gap, Got};
pub use lens::Misfit;
pub use load::Source;
pub use model::{Call, DocumentMap};
pub use refusal::Refusal;
pub use report::Diagnostic;
pub use tree::{ParseError, Span, Tree};

use get::Reader;
use path::find_all;
use put::Writer;
use std::sync::Arc;
use union::{MessageId, Record, Slot, Value};

/// An edited document.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// The new text.
    pub text: String,
    /// What was changed, in the order of the document; empty if nothing had to.
    pub edits: Vec<Edit>,
    /// What the new text reads as: the wanted record with everything that follows from it.
    pub settled: Record,
}

/// One change to a document; what is not named stays.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A field of the object.
    Set {
        /// The field.
        field: Slot,
        /// Its new value; absent: unset it.
        value: Value,
    },
    /// Fields of an item or a part.
    Edit {
        /// The list, or the part.
        field: Slot,
        /// The item's key; empty for a part.
        key: Arc<str>,
        /// Its fields and their new values.
        set: Vec<(Slot, Value)>,
    },
    /// A new item at the end of a list.
    Add {
        /// The list.
        field: Slot,
        /// The item; what it leaves unset is the fragment's.
        item: Record,
    },
    /// An item taken away.
    Remove {
        /// The list.
        field: Slot,
        /// Its key.
        key: Arc<str>,
    },
}

impl DocumentMap {
    /// The union message that the document is.
    pub fn message(&self) -> MessageId {
        self.rows.message
    }

    /// Whether a put can write the field.
    pub fn writes(&self, field: Slot) -> bool {
        self.rows.written.contains(field)
    }

    /// What the document says. Never fails: see [`Got::gaps`].
    pub fn get(&self, tree: &Tree<'_>) -> Got {
        let mut reader = Reader::new(tree);
        let record = reader.rows(&self.rows, tree.root());
        Got { record, gaps: reader.gaps }
    }

    /// Edits a document so that it says what `want` does in every field that the rows write.
    ///
    /// # Errors
    /// The document cannot be read, or the change cannot be made without loss; see [`Refusal`].
    pub fn put(&self, text: &str, want: &Record) -> Result<Put, Refusal> {
        let (tree, old) = self.open(text)?;
        self.put_over(&tree, &old, want)
    }

    /// Edits a document by a list of changes.
    ///
    /// # Errors
    /// As [`put`](DocumentMap::put), and for a field that no row writes or an item that is not there.
    pub fn patch(&self, text: &str, changes: &[Change]) -> Result<Put, Refusal> {
        let (tree, old) = self.open(text)?;
        let mut want = old.clone();
        for change in changes {
            self.apply(&mut want, change)?;
        }
        self.put_over(&tree, &old, &want)
    }

    /// A new document: `want` put into the row file's own fragment.
    ///
    /// # Errors
    /// As [`put`](DocumentMap::put).
    pub fn create(&self, want: &Record) -> Result<String, Refusal> {
        let none = || Refusal::NoSkeleton { row: self.root.clone() };
        let skeleton = self.skeleton.as_deref().ok_or_else(none)?;
        let mut want = want.clone();
        self.exclude(&Record::new(self.rows.message, self.rows.width), &mut want)?;
        let text = put::fill(&self.rows, &self.native, skeleton, &want, None, "")?;
        match self.differs(None, &want, &self.read_back(&text)?) {
            None => Ok(text),
            Some(field) => Err(Refusal::Verify { field }),
        }
    }

    /// The text of one item of a keyed list, for calls that take a device instead of a document.
    pub fn item<'t>(&self, tree: &Tree<'t>, field: Slot, key: &str) -> Option<&'t str> {
        let list = self.rows.lists.iter().find(|list| list.slot == field)?;
        let model::Order::Key { key: paths, lower, .. } = &list.order else { return None };
        let nodes = find_all(tree, tree.root(), &list.path.steps);
        let keyed = Reader::quiet(tree).keys(&nodes, paths, *lower);
        let item = keyed.iter().find(|item| item.clear && item.id.as_ref() == key)?;
        Some(tree.cut(tree.element(item.node).span))
    }

    /// The text with its secrets replaced by `***`, for people and logs.
    ///
    /// # Errors
    /// The document cannot be read; then nothing of it may be shown.
    pub fn redact(&self, text: &str) -> Result<String, ParseError> {
        let tree = Tree::parse(text)?;
        let mut spans: Vec<Span> = Vec::new();
        for path in &self.secret {
            for node in find_all(&tree, tree.root(), &path.steps) {
                match &path.attribute {
                    Some(name) => spans.extend(tree.attribute(node, name).map(|a| a.value)),
                    None => spans.push(tree.element(node).span),
                }
            }
        }
        spans.sort_unstable();
        let mut end = 0;
        spans.retain(|span| {
            let outside = end <= span.start;
            end = end.max(span.end);
            outside
        });
        let row: Arc<str> = Arc::from("secret");
        let hidden = |span: Span| Edit { span, new: "***".to_owned(), row: row.clone() };
        let edits: Vec<Edit> = spans.into_iter().map(hidden).collect();
        Ok(editor::splice(text, &edits))
    }

    fn open<'t>(&self, text: &'t str) -> Result<(Tree<'t>, Record), Refusal> {
        let tree = Tree::parse(text)?;
        if tree.root_name() != self.root || !tree.namespace(tree.root()).is_empty() {
            return Err(Refusal::Root { found: tree.root_name().to_owned(), expected: self.root.clone() });
        }
        let old = Reader::quiet(&tree).rows(&self.rows, tree.root());
        Ok((tree, old))
    }

    fn put_over(&self, tree: &Tree<'_>, old: &Record, want: &Record) -> Result<Put, Refusal> {
        if old == want {
            return Ok(Put { text: tree.text().to_owned(), edits: Vec::new(), settled: old.clone() });
        }
        let mut want = want.clone();
        self.exclude(old, &mut want)?;
        let want = settle::changed(&self.rows, old, &want);
        let mut writer = Writer::new(tree, &self.native, false);
        writer.rows(&self.rows, tree.root(), old, &want)?;
        let edits = writer.editor.finish()?;
        let text = editor::splice(tree.text(), &edits);
        let settled = self.read_back(&text)?;
        match self.differs(Some(old), &want, &settled) {
            None => Ok(Put { text, edits, settled }),
            Some(field) if self.is_read_only(&field) => Err(Refusal::ReadOnly { field }),
            Some(field) => Err(Refusal::Verify { field }),
        }
    }

    fn read_back(&self, text: &str) -> Result<Record, ParseError> {
        let tree = Tree::parse(text)?;
        Ok(Reader::quiet(&tree).rows(&self.rows, tree.root()))
    }

    /// Whether a field, as `differs` names it, has no writing row.
    fn is_read_only(&self, field: &str) -> bool {
        let mut rows = &self.rows;
        for name in field.split('.') {
            let name = name.split('[').next().unwrap_or("");
            let Some(slot) =
                rows.fields.iter().position(|f| f == name).and_then(|n| u16::try_from(n).ok()).map(Slot)
            else {
                return false;
            };
            if !rows.written.contains(slot) {
                return true;
            }
            let list = rows.lists.iter().find(|list| list.slot == slot).map(|list| &list.item);
            let part = rows.parts.iter().find(|part| part.slot == slot).map(|part| &part.rows);
            rows = match (list, part) {
                (Some(model::Item::Part(inner)), _) => inner,
                (_, Some(inner)) => inner,
                _ => return false,
            };
        }
        false
    }

    fn apply(&self, want: &mut Record, change: &Change) -> Result<(), Refusal> {
        let field = match change {
            Change::Set { field, .. }
            | Change::Edit { field, .. }
            | Change::Add { field, .. }
            | Change::Remove { field, .. } => *field,
        };
        let name = self.rows.field(field).to_owned();
        if !self.rows.written.contains(field) {
            return Err(Refusal::ReadOnly { field: name });
        }
        let list = self.rows.lists.iter().find(|list| list.slot == field);
        let mut items: Vec<Value> = want.get(field).items().to_vec();
        let find = |items: &[Value], key: &str| {
            let same = |item: &Value| {
                let id = list.zip(item.as_record()).and_then(|(list, item)| settle::key(list, item));
                key.is_empty() || id.as_deref() == Some(key)
            };
            let missing = || Refusal::NoItem { field: name.clone(), key: key.to_owned() };
            items.iter().position(same).ok_or_else(missing)
        };
        match change {
            Change::Set { value, .. } => {
                want.set(field, value.clone());
                return Ok(());
            }
            Change::Edit { key, set, .. } => {
                let place = find(&items, key)?;
                if let Some(item) = items.get_mut(place)
                    && let Value::Record(record) = item
                {
                    let mut record = Record::clone(record);
                    set.iter().for_each(|(slot, value)| record.set(*slot, value.clone()));
                    *item = Value::record(record);
                }
            }
            Change::Add { item, .. } => items.push(Value::record(item.clone())),
            Change::Remove { key, .. } => {
                let place = find(&items, key)?;
                items.remove(place);
            }
        }
        let value =
            if list.is_some() { Value::list(items) } else { items.into_iter().next().unwrap_or_default() };
        want.set(field, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

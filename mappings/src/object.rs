//! One native type as the mapping shows it: its properties by path, and their values.

use crate::{
    cel::{Frame, Program},
    compile::RowInfo,
    reader::Reader,
    render::{BodyId, Compiled, Deps, Emit, NodeKind, Out, Role, Shown, Walk},
    schema::{NativeSchema, TypeId, VersionIndex},
};
use std::sync::Arc;
use union::{MessageId, ObjectId, Record};

mod select;

use select::Target;
pub use select::{PathError, Selection};

/// `[object.NAME]`, compiled.
#[derive(Debug)]
pub struct ObjectMap {
    /// The native type, for example `VirtualMachine`.
    pub native_type: Arc<str>,
    /// The native type in its schema.
    pub native_id: TypeId,
    /// The union message it shows.
    pub union: MessageId,
    /// A managed object, not a structure.
    pub managed: bool,
    pub(crate) when: Option<Program>,
    pub(crate) body: BodyId,
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) native: Arc<NativeSchema>,
    pub(crate) rows: Vec<RowInfo>,
    /// All mapped properties at the top, in wire order.
    pub(crate) top: Vec<Selection>,
}

impl ObjectMap {
    /// The property at `path` (`config.hardware.device[4000].deviceInfo.label`); a valid path without a row selects nothing.
    pub fn select(&self, path: &str, version: VersionIndex) -> Result<Selection, PathError> {
        select::select(self, path, version)
    }

    /// All mapped properties at the top that the version has, in wire order.
    pub fn properties(&self, version: VersionIndex) -> impl Iterator<Item = &Selection> {
        self.top.iter().filter(move |s| s.since <= version)
    }

    /// The rows, for people.
    pub fn rows(&self) -> &[RowInfo] {
        &self.rows
    }

    /// Whether the record is shown as this type.
    pub fn fits(&self, id: ObjectId, record: &Record, reader: &dyn Reader) -> bool {
        let frame = Frame::object(id, record, reader);
        record.message() == self.union && self.when.as_ref().is_none_or(|when| when.holds(&frame))
    }

    /// Writes the selected property's value; `false`: it is unset and nothing was written.
    pub fn render(
        &self,
        selection: &Selection,
        id: ObjectId,
        record: &Record,
        reader: &dyn Reader,
        version: VersionIndex,
        out: &mut dyn Emit,
    ) -> bool {
        let walk = Walk::new(id, record, reader, version);
        self.target(&selection.target, &walk, out) > Shown::Nothing
    }

    /// Writes all fields of a structure, without what encloses them; for structures that are no property, such as events.
    pub fn render_fields(
        &self,
        id: ObjectId,
        record: &Record,
        reader: &dyn Reader,
        version: VersionIndex,
        out: &mut dyn Emit,
    ) {
        let walk = Walk::new(id, record, reader, version);
        self.compiled.fields(self.body, &walk, out);
    }

    /// The objects that the selected property refers to, without writing it: for traversals.
    pub fn references(
        &self,
        selection: &Selection,
        id: ObjectId,
        record: &Record,
        reader: &dyn Reader,
        version: VersionIndex,
        out: &mut Vec<ObjectId>,
    ) {
        let walk = Walk::new(id, record, reader, version);
        self.refer(&selection.target, &walk, out);
    }

    fn target<'a>(&'a self, target: &'a Target, walk: &Walk<'a>, out: &mut dyn Emit) -> Shown {
        match target {
            Target::Unset => Shown::Nothing,
            Target::Node(node) => self.compiled.show(*node, Role::Property, walk, out),
            Target::Through(node, tails) => {
                self.through(*node, tails, walk).map_or(Shown::Nothing, |t| self.target(t, walk, out))
            }
            Target::Keyed { node, key, tails } => {
                let mut shown = Shown::Nothing;
                self.keyed(*node, key.as_deref(), walk, &mut |at, walk| {
                    shown = match tails.get(at) {
                        Some(Some(tail)) => self.target(tail, walk, out),
                        _ => self.item(*node, at, walk, out),
                    };
                });
                shown
            }
        }
    }

    /// The path's rest in the structure type that the facts choose.
    fn through<'a>(
        &'a self,
        node: crate::render::NodeId,
        tails: &'a [Target],
        walk: &Walk<'a>,
    ) -> Option<&'a Target> {
        let NodeKind::Struct(variants) = &self.compiled.node(node)?.kind else { return None };
        let (at, _) = self.compiled.variant(variants, walk)?;
        tails.get(at)
    }

    /// Visits the item with the key (or the first): the place of its entry, and the walk over it.
    fn keyed<'a>(
        &'a self,
        node: crate::render::NodeId,
        key: Option<&str>,
        walk: &Walk<'a>,
        visit: &mut dyn FnMut(usize, &Walk<'_>),
    ) {
        let Some(NodeKind::List(list)) = self.compiled.node(node).map(|n| &n.kind) else { return };
        self.compiled.items(list, walk, &mut |entry, walk| {
            let found = match key {
                None => true,
                Some(key) => {
                    let body = self.compiled.body(entry.body);
                    body.and_then(|b| self.compiled.key(list, b, walk)).is_some_and(|k| k == key)
                }
            };
            if found {
                let at = list.entries.iter().position(|e| std::ptr::eq(e, entry));
                visit(at.unwrap_or(usize::MAX), walk);
            }
            !found
        });
    }

    /// Writes one whole item.
    fn item<'a>(
        &'a self,
        node: crate::render::NodeId,
        at: usize,
        walk: &Walk<'a>,
        out: &mut dyn Emit,
    ) -> Shown {
        let Some(NodeKind::List(list)) = self.compiled.node(node).map(|n| &n.kind) else {
            return Shown::Nothing;
        };
        let Some(entry) = list.entries.get(at) else { return Shown::Nothing };
        out.begin(&entry.place.property);
        self.compiled.fields(entry.body, walk, out);
        out.end(&entry.place.property);
        Shown::Facts
    }

    fn refer<'a>(&'a self, target: &'a Target, walk: &Walk<'a>, out: &mut Vec<ObjectId>) {
        match target {
            Target::Unset => {}
            Target::Through(node, tails) => {
                if let Some(tail) = self.through(*node, tails, walk) {
                    self.refer(tail, walk, out);
                }
            }
            Target::Keyed { node, key, tails } => self.keyed(*node, key.as_deref(), walk, &mut |at, walk| {
                if let Some(Some(tail)) = tails.get(at) {
                    self.refer(tail, walk, out);
                }
            }),
            Target::Node(node) => {
                let node = self.compiled.node(*node).filter(|n| n.since <= walk.version);
                if let Some(NodeKind::Leaf(leaf)) = node.map(|n| &n.kind)
                    && matches!(leaf.out, Out::Ref | Out::Any)
                {
                    out.extend(leaf.raw(walk).refs());
                }
            }
        }
    }
}

impl Selection {
    /// The path as asked for.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the value depends on.
    pub fn deps(&self) -> &Deps {
        &self.deps
    }

    /// Whether a row shows it; otherwise it is valid and always unset.
    pub fn is_mapped(&self) -> bool {
        !matches!(self.target, Target::Unset)
    }
}

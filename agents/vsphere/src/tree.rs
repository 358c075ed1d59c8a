//! The containment tree of a view's inventory: who lies in whom, and the paths that follow from it.
//!
//! Limit: 64 levels.

use crate::inventory::Catalog;
use smallvec::SmallVec;
use union::{Kind, ObjectId, Record, Slot};

/// Deeper trees are cut.
const MAX_DEPTH: usize = 64;

/// The fields by which each kind names what it lies in; the first is the one its inventory path goes through.
const PARENTS: &[(Kind, &[&str])] = &[
    (Kind::Folder, &["parent_id"]),
    (Kind::Datacenter, &["folder_id"]),
    (Kind::Cluster, &["folder_id"]),
    (Kind::Host, &["compute_id"]),
    (Kind::ResourcePool, &["parent_id"]),
    (Kind::StoragePool, &["folder_id"]),
    (Kind::Network, &["folder_id"]),
    (Kind::Vm, &["folder_id", "resource_pool_id", "host_id"]),
];

/// The slots of [`PARENTS`] in one schema.
#[derive(Debug)]
pub(crate) struct Tree {
    parents: Vec<(Kind, SmallVec<[Slot; 3]>)>,
    names: Vec<(Kind, Slot)>,
}

impl Tree {
    /// For records of this schema.
    pub(crate) fn new(schema: &union::Schema) -> Tree {
        let slots = |kind, fields: &[&str]| fields.iter().filter_map(|f| schema.slot(kind, f)).collect();
        Tree {
            parents: PARENTS.iter().map(|(kind, fields)| (*kind, slots(*kind, fields))).collect(),
            names: PARENTS
                .iter()
                .filter_map(|(kind, _)| Some((*kind, schema.slot(*kind, "name")?)))
                .collect(),
        }
    }

    /// The kinds that lie in the tree.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.parents.iter().map(|(kind, _)| *kind)
    }

    /// The slots by which a kind names what it lies in.
    pub(crate) fn slots(&self, kind: Kind) -> &[Slot] {
        self.parents.iter().find(|(k, _)| *k == kind).map_or(&[], |(_, slots)| slots)
    }

    fn name_slot(&self, kind: Kind) -> Option<Slot> {
        self.names.iter().find(|(k, _)| *k == kind).map(|(_, slot)| *slot)
    }

    /// What an object lies in, by any of its parents.
    pub(crate) fn above(&self, kind: Kind, record: &Record) -> SmallVec<[ObjectId; 3]> {
        self.slots(kind).iter().filter_map(|slot| record.get(*slot).as_ref_id()).collect()
    }

    /// Whether an object lies directly in `container`.
    pub(crate) fn is_in(&self, id: ObjectId, record: &Record, container: ObjectId) -> bool {
        self.above(id.kind, record).contains(&container)
    }

    /// Whether an object lies in `container` at any depth.
    pub(crate) fn is_below(
        &self,
        catalog: &Catalog,
        id: ObjectId,
        record: &Record,
        container: ObjectId,
    ) -> bool {
        let mut level = self.above(id.kind, record);
        for _ in 0..MAX_DEPTH {
            if level.contains(&container) {
                return true;
            }
            let mut next: SmallVec<[ObjectId; 3]> = SmallVec::new();
            for id in level {
                if let Some(record) = catalog.record(id) {
                    for above in self.above(id.kind, &record) {
                        if !next.contains(&above) {
                            next.push(above);
                        }
                    }
                }
            }
            if next.is_empty() {
                return false;
            }
            level = next;
        }
        false
    }

    /// The objects called `name` whose inventory path goes through `parent`.
    pub(crate) fn children_named(&self, catalog: &Catalog, parent: ObjectId, name: &str) -> Vec<ObjectId> {
        let mut found = Vec::new();
        for kind in self.kinds() {
            let (Some(slot), Some(up)) = (self.name_slot(kind), self.slots(kind).first()) else { continue };
            for id in catalog.inventory().find(kind, slot, name) {
                if catalog.record(id).is_some_and(|r| r.get(*up).as_ref_id() == Some(parent)) {
                    found.push(id);
                }
            }
        }
        found
    }

    /// The object at an inventory path; names in it may be percent-escaped.
    pub(crate) fn at_path(&self, catalog: &Catalog, root: ObjectId, path: &str) -> Option<ObjectId> {
        let mut at = root;
        for segment in path.split('/').filter(|s| !s.is_empty()).take(MAX_DEPTH) {
            let children = self.children_named(catalog, at, segment);
            at = match children.first() {
                Some(child) => *child,
                None => *self.children_named(catalog, at, &unescape(segment)).first()?,
            };
        }
        Some(at)
    }
}

/// `a%2fb` -> `a/b`. What is no escape stays as it is.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail.split_at_checked(2).and_then(|(hex, after)| {
            let hex = std::str::from_utf8(hex).ok().filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))?;
            Some((u8::from_str_radix(hex, 16).ok()?, after))
        });
        match escaped.filter(|_| *first == b'%') {
            Some((byte, after)) => {
                bytes.push(byte);
                rest = after;
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

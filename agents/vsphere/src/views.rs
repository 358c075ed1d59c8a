//! Views: sets of objects that clients traverse through the property `view`.
//!
//! ```text
//! ContainerView   kept up to date: an object that comes, goes or moves is tested against the container, nothing else is
//! ListView        what the client put in, less what is gone
//! InventoryView   the folders the client opened, and what is directly in them
//! ```
//!
//! A moved folder, cluster, pool or host moves what is in it: the views are then filled anew.

use crate::{
    fault::{Answer, Fault},
    inventory::{Catalog, Key, TypeId},
};
use ::inventory::Change;
use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;
use union::{Kind, ObjectId, Record};

type Members = IndexSet<Key, FxBuildHasher>;

/// What a view shows.
#[derive(Debug)]
pub(crate) enum ViewKind {
    /// Everything of some types below an object.
    Container {
        /// Below which.
        container: ObjectId,
        /// Of these types or below; empty: of all.
        types: Vec<TypeId>,
        /// At any depth.
        recursive: bool,
    },
    /// A list the client keeps.
    List,
    /// Opened folders.
    Inventory {
        /// Which are open.
        open: Vec<ObjectId>,
    },
}

/// A view and its members.
#[derive(Debug)]
pub(crate) struct ViewState {
    /// What it shows.
    pub(crate) kind: ViewKind,
    /// In the order they came.
    pub(crate) members: Members,
}

/// What changed in a view.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Moved {
    /// New members.
    pub(crate) added: Vec<Key>,
    /// Former members.
    pub(crate) removed: Vec<Key>,
}

impl Moved {
    /// Whether anything changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

impl ViewState {
    /// A container view, filled.
    pub(crate) fn container(
        catalog: &Catalog,
        container: ObjectId,
        type_names: &[&str],
        recursive: bool,
    ) -> Answer<ViewState> {
        let holds = [Kind::Folder, Kind::Datacenter, Kind::Cluster, Kind::ResourcePool, Kind::Host];
        if !holds.contains(&container.kind) {
            return Err(Fault::invalid_argument("container", "an object of this type contains nothing"));
        }
        let mut types = Vec::new();
        for name in type_names {
            let managed = catalog.managed(name);
            types.push(
                managed.ok_or_else(|| Fault::invalid_argument("type", "no managed type has this name"))?,
            );
        }
        let mut view = ViewState {
            kind: ViewKind::Container { container, types, recursive },
            members: Members::default(),
        };
        view.refill(catalog);
        Ok(view)
    }

    /// A list view of these objects.
    pub(crate) fn list(members: impl IntoIterator<Item = Key>) -> ViewState {
        ViewState { kind: ViewKind::List, members: members.into_iter().collect() }
    }

    /// An inventory view with nothing open: the root alone.
    pub(crate) fn inventory(catalog: &Catalog, root: ObjectId) -> ViewState {
        let mut view =
            ViewState { kind: ViewKind::Inventory { open: Vec::new() }, members: Members::default() };
        view.members.extend(catalog.key(root));
        view
    }

    /// The key under which the view holds an object, if it does.
    fn holds(&self, catalog: &Catalog, id: ObjectId, record: &Record) -> Option<Key> {
        let tree = catalog.tree();
        let inside = match &self.kind {
            ViewKind::Container { container, recursive: true, .. } => {
                tree.is_below(catalog, id, record, *container)
            }
            ViewKind::Container { container, .. } => tree.is_in(id, record, *container),
            ViewKind::Inventory { open } => open.iter().any(|folder| tree.is_in(id, record, *folder)),
            ViewKind::List => return None,
        };
        if !inside {
            return None;
        }
        let ty = catalog.type_of(id, record)?;
        let wanted = match &self.kind {
            ViewKind::Container { types, .. } => {
                types.is_empty() || types.iter().any(|above| catalog.is_a(ty, *above))
            }
            _ => true,
        };
        wanted.then_some(Key::Fact(id, ty))
    }

    /// Finds the members anew; tells the difference.
    pub(crate) fn refill(&mut self, catalog: &Catalog) -> Moved {
        if matches!(self.kind, ViewKind::List) {
            return Moved::default();
        }
        let mut found = Members::default();
        if let ViewKind::Inventory { .. } = &self.kind {
            found.extend(catalog.key(catalog.root()));
        }
        for kind in catalog.tree().kinds() {
            if !self.may_hold(catalog, kind) {
                continue;
            }
            for id in catalog.inventory().ids(kind) {
                if let Some(record) = catalog.record(id) {
                    found.extend(self.holds(catalog, id, &record));
                }
            }
        }
        self.become_set(found)
    }

    /// Makes `found` the members; tells the difference.
    pub(crate) fn become_set(&mut self, found: Members) -> Moved {
        let moved = Moved {
            added: found.difference(&self.members).copied().collect(),
            removed: self.members.difference(&found).copied().collect(),
        };
        self.members = found;
        moved
    }

    /// Whether objects of a kind can be members at all.
    fn may_hold(&self, catalog: &Catalog, kind: Kind) -> bool {
        match &self.kind {
            ViewKind::Container { types, .. } if !types.is_empty() => {
                let shown = catalog.types_of_kind(kind);
                shown.iter().any(|ty| types.iter().any(|above| catalog.is_a(*ty, *above)))
            }
            _ => true,
        }
    }

    /// Takes in changes of the inventory; tells what changed in the view.
    pub(crate) fn changed(&mut self, catalog: &Catalog, changes: &[Change]) -> Moved {
        let mut moved = Moved::default();
        for change in changes {
            let appeared = change.old.is_none() || change.new.is_none();
            let slots = catalog.tree().slots(change.id.kind);
            if !appeared && !slots.iter().any(|slot| change.changed.contains(*slot)) {
                continue;
            }
            if matches!(self.kind, ViewKind::List) {
                if change.new.is_none() {
                    self.drop_object(catalog, change, &mut moved);
                }
                continue;
            }
            let holds_others = !matches!(change.id.kind, Kind::Vm | Kind::Network | Kind::StoragePool);
            if holds_others && !appeared {
                let more = self.refill(catalog);
                moved.added.extend(more.added);
                moved.removed.extend(more.removed);
                continue;
            }
            let now = change.new.as_deref().and_then(|record| self.holds(catalog, change.id, record));
            match now {
                Some(key) => {
                    if self.members.insert(key) {
                        moved.added.push(key);
                    }
                }
                None => self.drop_object(catalog, change, &mut moved),
            }
        }
        moved
    }

    /// Takes an object out, by the type it was shown as.
    fn drop_object(&mut self, catalog: &Catalog, change: &Change, moved: &mut Moved) {
        let ty = change.old.as_deref().and_then(|record| catalog.type_of(change.id, record));
        if let Some(key) = ty.map(|ty| Key::Fact(change.id, ty))
            && self.members.swap_remove(&key)
        {
            moved.removed.push(key);
        }
    }

    /// Opens folders of an inventory view; tells which of `folders` are none of its own.
    pub(crate) fn open(
        &mut self,
        catalog: &Catalog,
        folders: &[ObjectId],
        opening: bool,
    ) -> (Moved, Vec<ObjectId>) {
        let mut refused = Vec::new();
        if let ViewKind::Inventory { open } = &mut self.kind {
            for folder in folders {
                let known = self.members.iter().any(|key| key.object() == Some(*folder));
                match (known, opening) {
                    (true, true) if !open.contains(folder) => open.push(*folder),
                    (true, false) => open.retain(|id| id != folder),
                    (true, true) => {}
                    (false, _) => refused.push(*folder),
                }
            }
        }
        (self.refill(catalog), refused)
    }
}

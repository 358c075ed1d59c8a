//! Lists: of simple values, and of structures made of items.

use super::{Body, Compiled, Emit, Entry, Leaf, List, Node, NodeKind, Role, Shown, Walk};
use union::{Record, Value};

impl Compiled {
    /// Writes a list of simple values.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn leaf_list(
        &self,
        node: &Node,
        leaf: &Leaf,
        value: &Value,
        role: Role,
        walk: &Walk<'_>,
        out: &mut dyn Emit,
        shown: Shown,
    ) -> Shown {
        let items = value.items();
        if role == Role::Field {
            let mut wrote = false;
            for item in items {
                wrote |= leaf.write(node, item, &node.place.field, walk, out);
            }
            return if wrote { shown } else { Shown::Nothing };
        }
        if items.is_empty() && !node.required {
            return Shown::Nothing;
        }
        let Some(array) = &node.array else { return Shown::Nothing };
        out.begin(array);
        for item in items {
            leaf.write(node, item, &node.place.item, walk, out);
        }
        out.end(array);
        shown
    }

    /// Writes a list of structures, or the one structure that its first item makes.
    pub(super) fn list<'a>(
        &'a self,
        node: &'a Node,
        list: &'a List,
        role: Role,
        walk: &Walk<'a>,
        out: &mut dyn Emit,
    ) -> Shown {
        let mut shown = Shown::Nothing;
        let mut count = 0usize;
        let inner = match (role, node.list) {
            (Role::Field, _) => Role::Field,
            (_, true) => Role::Item,
            (_, false) => Role::Property,
        };
        let mark = out.mark();
        let array = node.array.as_ref().filter(|_| inner == Role::Item);
        if let Some(array) = array {
            out.begin(array);
        }
        self.items(list, walk, &mut |entry, walk| {
            if node.list || count == 0 {
                count += 1;
                let meta = entry.place.meta(inner);
                out.begin(meta);
                self.fields(entry.body, walk, out);
                out.end(meta);
                shown = shown.max(if entry.from.is_some() { Shown::Facts } else { Shown::Constant });
            }
            node.list
        });
        if count == 0 && !(node.required && node.list) {
            out.rollback(mark);
            return Shown::Nothing;
        }
        if let Some(array) = array {
            out.end(array);
            shown = shown.max(Shown::Constant);
        }
        shown
    }

    /// Visits the items that are shown; the visitor says whether to go on.
    pub fn items<'a>(
        &'a self,
        list: &'a List,
        walk: &Walk<'a>,
        visit: &mut dyn FnMut(&'a Entry, &Walk<'_>) -> bool,
    ) {
        let mut last: Option<&crate::cel::Path> = None;
        for entry in list.entries.iter().filter(|e| e.since <= walk.version) {
            if let (Some(_), Some(from)) = (entry.is, &entry.from) {
                // All values of one list together, in the list's order.
                if last != Some(from) && !self.values(list, from, walk, visit) {
                    return;
                }
                last = Some(from);
                continue;
            }
            let Some(from) = &entry.from else {
                let same = Walk { depth: walk.depth + 1, ..*walk };
                if entry.when.as_ref().is_none_or(|w| w.holds(&same.frame)) && !visit(entry, &same) {
                    return;
                }
                continue;
            };
            let source: &Value = crate::cel::walk(walk.frame.item, from);
            for (index, item) in source.items().iter().enumerate() {
                let other;
                let part: &Record = match item {
                    Value::Record(part) => part,
                    Value::Ref(id) => match walk.frame.reader.object(*id) {
                        Some(object) => {
                            other = object;
                            &other
                        }
                        None => continue,
                    },
                    _ => continue,
                };
                let mut inner = walk.item(part, index);
                inner.frame.own = item.as_ref_id().unwrap_or(walk.frame.own);
                if entry.when.as_ref().is_none_or(|w| w.holds(&inner.frame)) && !visit(entry, &inner) {
                    return;
                }
            }
        }
    }

    /// Visits an item for each value of an enumeration's list.
    fn values<'a>(
        &'a self,
        list: &'a List,
        from: &'a crate::cel::Path,
        walk: &Walk<'a>,
        visit: &mut dyn FnMut(&'a Entry, &Walk<'_>) -> bool,
    ) -> bool {
        let values: &Value = crate::cel::walk(walk.frame.item, from);
        for (index, value) in values.items().iter().enumerate() {
            let inner = walk.item(walk.frame.item, index);
            let fits = |e: &&Entry| {
                e.from.as_ref() == Some(from)
                    && e.is == value.as_int()
                    && e.since <= walk.version
                    && e.when.as_ref().is_none_or(|w| w.holds(&inner.frame))
            };
            if let Some(entry) = list.entries.iter().find(fits)
                && !visit(entry, &inner)
            {
                return false;
            }
        }
        true
    }

    /// The key of an item as text.
    pub fn key(&self, list: &List, body: &Body, walk: &Walk<'_>) -> Option<String> {
        let node = self.node(*body.by_name.get(list.key.as_ref()?)?)?;
        match &node.kind {
            NodeKind::Leaf(leaf) => leaf.text(walk),
            _ => None,
        }
    }
}

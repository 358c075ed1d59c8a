//! Snapshots: a record each, and the tree that the VM shows.

use super::{Names, document, part, set, text_at};
use crate::tables::Tables;
use std::collections::HashMap;
use union::{Kind, ObjectId, Record, Schema, Value, pb::PowerState};
use uuid::Uuid;

/// Deepest chain that is shown; libvirt sets no bound.
const DEPTH: usize = 64;

/// What a VM's snapshots come to.
#[derive(Debug, Default)]
pub struct Lifted {
    /// The records.
    pub records: Vec<(ObjectId, Record)>,
    /// `Vm.snapshots`.
    pub tree: Value,
    /// `Vm.current_snapshot_id`.
    pub current: Value,
}

struct Native {
    name: String,
    description: Option<String>,
    parent: Option<String>,
    created_ms: i64,
    state: PowerState,
}

/// A VM's snapshots from their documents; `current` is the current one's name. A document that cannot be read is left out.
pub fn lift(
    schema: &Schema,
    tables: &Tables,
    names: &Names,
    vm: Uuid,
    documents: &[impl AsRef<str>],
    current: Option<&str>,
) -> Lifted {
    let mut natives: Vec<Native> = documents.iter().filter_map(|xml| native(tables, xml.as_ref())).collect();
    natives.sort_by(|a, b| (a.created_ms, &a.name).cmp(&(b.created_ms, &b.name)));
    let known: HashMap<&str, i64> = natives.iter().map(|n| n.name.as_str()).zip(1..).collect();
    let mut children: HashMap<Option<&str>, Vec<&Native>> = HashMap::new();
    for native in &natives {
        let parent = native.parent.as_deref().filter(|p| known.contains_key(p));
        children.entry(parent).or_default().push(native);
    }
    let id = |name: &str| names.snapshot(vm, name);
    let records = natives.iter().map(|native| {
        let mut record = schema.kind(Kind::Snapshot).record();
        let r = &mut record;
        set(schema, r, "name", native.name.as_str());
        set(schema, r, "description", native.description.as_deref());
        set(schema, r, "vm_id", names.vm(vm));
        let parent = native.parent.as_deref().filter(|p| known.contains_key(p));
        set(schema, r, "parent_id", parent.map(|p| Value::Ref(id(p))));
        set(schema, r, "created_ms", native.created_ms);
        set(schema, r, "power_state", native.state as i32);
        set(schema, r, "current", current == Some(native.name.as_str()));
        set(schema, r, "number", known.get(native.name.as_str()).copied());
        let below = children.get(&Some(native.name.as_str())).into_iter().flatten();
        set(schema, r, "child_ids", Value::list(below.map(|c| Value::Ref(id(&c.name)))));
        (id(&native.name), record)
    });
    let tree = Tree { schema, children: &children, known: &known, id: &id };
    Lifted {
        records: records.collect(),
        tree: tree.below(None, DEPTH),
        current: current.filter(|c| known.contains_key(c)).map(|c| Value::Ref(id(c))).into(),
    }
}

struct Tree<'a> {
    schema: &'a Schema,
    children: &'a HashMap<Option<&'a str>, Vec<&'a Native>>,
    known: &'a HashMap<&'a str, i64>,
    id: &'a dyn Fn(&str) -> ObjectId,
}

impl Tree<'_> {
    fn below(&self, parent: Option<&str>, depth: usize) -> Value {
        let Some(depth) = depth.checked_sub(1) else { return Value::Absent };
        let natives = self.children.get(&parent).into_iter().flatten();
        Value::list(natives.map(|native| {
            let mut node = part(self.schema, "SnapshotNode");
            let n = &mut node;
            set(self.schema, n, "snapshot_id", (self.id)(&native.name));
            set(self.schema, n, "name", native.name.as_str());
            set(self.schema, n, "description", native.description.as_deref());
            set(self.schema, n, "created_ms", native.created_ms);
            set(self.schema, n, "power_state", native.state as i32);
            set(self.schema, n, "number", self.known.get(native.name.as_str()).copied());
            set(self.schema, n, "children", self.below(Some(&native.name), depth));
            Value::record(node)
        }))
    }
}

fn native(tables: &Tables, xml: &str) -> Option<Native> {
    let document = document(xml)
        .inspect_err(|error| tracing::warn!(%error, "a snapshot's description cannot be read"))
        .ok()?;
    let root = document.root();
    let created = text_at(root, "creationTime").and_then(|t| t.parse::<i64>().ok()).unwrap_or(0);
    Some(Native {
        name: text_at(root, "name")?.to_owned(),
        description: text_at(root, "description").map(str::to_owned),
        parent: text_at(root, "parent/name").map(str::to_owned),
        created_ms: created.saturating_mul(1000),
        state: tables.snapshot(text_at(root, "state").unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::get, *};
    use crate::tests::tables;

    #[test]
    fn snapshots_make_a_tree() {
        let schema = Schema::base();
        let names = Names::new("u", "h", "test:///default");
        let xml = |name: &str, parent: &str, at: i64| {
            let parent = if parent.is_empty() {
                String::new()
            } else {
                format!("<parent><name>{parent}</name></parent>")
            };
            format!(
                "<domainsnapshot><name>{name}</name><state>running</state><creationTime>{at}</creationTime>{parent}</domainsnapshot>"
            )
        };
        // `c` names itself as its parent's child and `d` a parent that is gone.
        let documents =
            [xml("b", "a", 20), xml("a", "", 10), xml("c", "b", 30), xml("d", "gone", 5), "<x".to_owned()];
        let lifted = lift(&schema, &tables(), &names, Uuid::nil(), &documents, Some("c"));
        assert_eq!(lifted.records.len(), 4);
        assert_eq!(lifted.current, Value::Ref(names.snapshot(Uuid::nil(), "c")));
        let roots: Vec<_> = lifted.tree.items().iter().map(|n| n.as_record().unwrap().clone()).collect();
        let name = |r: &Record| get(&schema, r, "name").as_str().unwrap().to_owned();
        assert_eq!(roots.iter().map(|r| name(r)).collect::<Vec<_>>(), ["d", "a"]);
        let b = get(&schema, &roots[1], "children").items()[0].as_record().unwrap().clone();
        assert_eq!((name(&b), get(&schema, &b, "number")), ("b".to_owned(), &Value::Int(3)));
    }

    #[test]
    fn a_ring_of_parents_ends() {
        let schema = Schema::base();
        let names = Names::new("u", "h", "test:///default");
        let xml = |name: &str, parent: &str| {
            format!(
                "<domainsnapshot><name>{name}</name><parent><name>{parent}</name></parent></domainsnapshot>"
            )
        };
        let lifted = lift(&schema, &tables(), &names, Uuid::nil(), &[xml("a", "b"), xml("b", "a")], None);
        assert_eq!(lifted.records.len(), 2);
        assert!(lifted.tree.is_absent());
    }
}

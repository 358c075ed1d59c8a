//! What the tests of this crate share: a small protocol, a world of facts, a writer.

use crate::{
    load::Bundle,
    reader::{Gap, NativeRef, Reader},
    render::{Emit, FieldMeta, Role},
};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use union::{Kind, ObjectId, Record, Schema, Slot, Value};

/// The folder of test data.
pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testdata")
}

/// The small protocol.
pub(crate) fn demo() -> Arc<Bundle> {
    Bundle::load(&testdata()).unwrap_or_else(|report| panic!("{report}"))
}

/// The small protocol with its rows file changed by `edit`; what the checker says.
pub(crate) fn edited(edit: impl Fn(&str) -> String) -> String {
    crate::check(folder(edit).path()).to_string()
}

/// The small protocol with its rows file changed by `edit`.
pub(crate) fn edited_bundle(edit: impl Fn(&str) -> String) -> Arc<Bundle> {
    Bundle::load(folder(edit).path()).unwrap_or_else(|report| panic!("{report}"))
}

fn folder(edit: impl Fn(&str) -> String) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("demo/schema");
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy(testdata().join("demo/schema/demo.schema"), to.join("demo.schema")).unwrap();
    let text = std::fs::read_to_string(testdata().join("demo/protocol.toml")).unwrap();
    let changed = edit(&text);
    std::fs::write(dir.path().join("demo/protocol.toml"), changed).unwrap();
    dir
}

/// A record of a kind with these fields.
pub(crate) fn record(schema: &Schema, message: &str, fields: &[(&str, Value)]) -> Record {
    let message = schema.message(message).unwrap();
    let mut record = message.record();
    for (name, value) in fields {
        record.set(message.field(name).unwrap().slot, value.clone());
    }
    record
}

/// The number of an enumeration's value.
pub(crate) fn number(name: &str, value: &str) -> Value {
    Value::Int(Schema::base().enumeration(name).unwrap().number(value).unwrap())
}

pub(crate) fn id(kind: Kind, n: u128) -> ObjectId {
    ObjectId::new(kind, uuid::Uuid::from_u128(n))
}

/// Facts around a record.
#[derive(Default)]
pub(crate) struct World {
    pub objects: BTreeMap<ObjectId, Arc<Record>>,
    pub view: String,
    pub gaps: RefCell<Vec<Gap>>,
}

impl Reader for World {
    fn object(&self, id: ObjectId) -> Option<Arc<Record>> {
        self.objects.get(&id).cloned()
    }

    fn referring(&self, kind: Kind, slot: Slot, to: ObjectId, out: &mut Vec<ObjectId>) {
        let objects =
            self.objects.iter().filter(|(id, r)| id.kind == kind && r.get(slot).refs().any(|r| r == to));
        out.extend(objects.map(|(id, _)| *id));
    }

    fn every(&self, kind: Kind) -> Option<Vec<ObjectId>> {
        Some(self.objects.keys().copied().filter(|id| id.kind == kind).collect())
    }

    fn native_ref(&self, id: ObjectId) -> Option<NativeRef> {
        Some(NativeRef { ty: Arc::from(id.kind.message()), id: Arc::from(format!("n{}", id.uuid.as_u128())) })
    }

    fn view(&self) -> &str {
        &self.view
    }

    fn gap(&self, gap: Gap) {
        self.gaps.borrow_mut().push(gap);
    }
}

/// Writes as SOAP would, without escapes.
#[derive(Default)]
pub(crate) struct Text(pub String);

impl Text {
    fn open(&mut self, f: &FieldMeta) {
        let ty = match (f.role, f.typed) {
            (Role::Array, _) => format!(" type={}[]", f.concrete),
            (_, true) => format!(" type={}", f.concrete),
            _ => String::new(),
        };
        self.0.push_str(&format!("<{}{ty}>", f.name));
    }

    fn value(&mut self, f: &FieldMeta, text: &str) {
        self.open(f);
        self.0.push_str(text);
        self.end(f);
    }
}

impl Emit for Text {
    fn begin(&mut self, f: &FieldMeta) {
        self.open(f);
    }

    fn end(&mut self, f: &FieldMeta) {
        self.0.push_str(&format!("</{}>", f.name));
    }

    fn bool(&mut self, f: &FieldMeta, v: bool) {
        self.value(f, &v.to_string());
    }

    fn int(&mut self, f: &FieldMeta, v: i64) {
        self.value(f, &v.to_string());
    }

    fn float(&mut self, f: &FieldMeta, v: f64) {
        self.value(f, &v.to_string());
    }

    fn text(&mut self, f: &FieldMeta, v: &str) {
        self.value(f, v);
    }

    fn time(&mut self, f: &FieldMeta, ms: i64) {
        self.value(f, &format!("@{ms}"));
    }

    fn bytes(&mut self, f: &FieldMeta, v: &[u8]) {
        self.value(f, &format!("{v:?}"));
    }

    fn reference(&mut self, f: &FieldMeta, r: &NativeRef) {
        self.value(f, &format!("{}:{}", r.ty, r.id));
    }

    fn mark(&self) -> usize {
        self.0.len()
    }

    fn rollback(&mut self, mark: usize) {
        self.0.truncate(mark);
    }
}

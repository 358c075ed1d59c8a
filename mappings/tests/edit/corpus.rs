//! The documents under `tests/documents` and the rows that edit them.

use mapping::edit::{DocumentMap, Source};
use std::{path::Path, sync::LazyLock};
use union::{Record, Schema, Slot, Value, schema::MessageSchema};

pub struct Document {
    pub name: String,
    pub text: String,
}

pub fn documents() -> &'static [Document] {
    static ALL: LazyLock<Vec<Document>> = LazyLock::new(read);
    &ALL
}

fn read() -> Vec<Document> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/documents");
    let mut all = Vec::new();
    for folder in ["written", "libvirt", "live"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{folder}/{}", path.file_name().unwrap().to_string_lossy());
            all.push(Document { name, text: std::fs::read_to_string(&path).unwrap() });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(all.len() >= 80, "the corpus has only {} documents", all.len());
    all
}

pub fn map() -> &'static DocumentMap {
    static MAP: LazyLock<DocumentMap> = LazyLock::new(load);
    &MAP
}

fn load() -> DocumentMap {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("libvirt");
    let rows = std::fs::read_to_string(folder.join("domain.toml")).unwrap();
    let names = std::fs::read_to_string(folder.join("domain.names")).unwrap();
    let files = [Source { name: "domain.toml", text: &rows }, Source { name: "domain.names", text: &names }];
    match DocumentMap::load(&files, &Schema::base()) {
        Ok(map) => map,
        Err(found) => panic!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

pub fn message(name: &str) -> MessageSchema {
    Schema::base().message(name).unwrap().clone()
}

pub fn slot(message_name: &str, field: &str) -> Slot {
    message(message_name).field(field).unwrap_or_else(|| panic!("no field {field}")).slot
}

pub fn number(enumeration: &str, name: &str) -> Value {
    Value::Int(Schema::base().enumeration(enumeration).unwrap().number(name).unwrap())
}

pub fn part(message_name: &str, fields: &[(&str, Value)]) -> Record {
    let mut record = message(message_name).record();
    for (name, value) in fields {
        record.set(slot(message_name, name), value.clone());
    }
    record
}

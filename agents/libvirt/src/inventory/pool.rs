//! Pools and their volumes.

use super::{Names, at, document, set, text_at};
use crate::{
    native::api::{Sizes, Volume},
    tables::Tables,
};
use union::{Kind, ObjectId, Record, Schema, Value, pb::Connection};
use uuid::Uuid;
use wire::xml::XmlError;

/// A pool's record from its document, its sizes and whether it is (active, started with the host, persistent).
///
/// # Errors
/// The document cannot be read.
pub fn lift(
    schema: &Schema,
    host: ObjectId,
    xml: &str,
    sizes: Sizes,
    flags: [bool; 3],
) -> Result<Record, XmlError> {
    let document = document(xml)?;
    let root = document.root();
    let [active, autostart, persistent] = flags;
    let mut record = schema.kind(Kind::StoragePool).record();
    let r = &mut record;
    set(schema, r, "name", text_at(root, "name"));
    set(schema, r, "uuid", text_at(root, "uuid"));
    set(schema, r, "path", text_at(root, "target/path"));
    set(schema, r, "backing", root.attribute("type"));
    if active {
        set(schema, r, "capacity_bytes", sizes.capacity);
        set(schema, r, "allocation_bytes", sizes.allocation);
        set(schema, r, "available_bytes", sizes.available);
    }
    set(schema, r, "active", active);
    set(schema, r, "autostart", autostart);
    set(schema, r, "persistent", persistent);
    let source = |path: &str, name: &str| at(root, path).and_then(|e| e.attribute(name)).map(Value::str);
    set(schema, r, "remote_host", source("source/host", "name"));
    set(schema, r, "remote_path", source("source/dir", "path"));
    set(schema, r, "host_ids", Value::list([Value::Ref(host)]));
    set(schema, r, "connection", Connection::Connected as i32);
    Ok(record)
}

/// A volume's id and record. Without a readable document it has no path and no format.
pub fn volume(
    schema: &Schema,
    tables: &Tables,
    names: &Names,
    pool: Uuid,
    volume: &Volume,
) -> (ObjectId, Record) {
    let mut record = schema.kind(Kind::Volume).record();
    let r = &mut record;
    set(schema, r, "name", volume.name.as_ref());
    set(schema, r, "key", volume.key.as_ref());
    set(schema, r, "storage_pool_id", names.pool(pool));
    set(schema, r, "capacity_bytes", volume.sizes.capacity);
    set(schema, r, "allocation_bytes", volume.sizes.allocation);
    if let Ok(document) = document(&volume.xml) {
        let root = document.root();
        set(schema, r, "path", text_at(root, "target/path"));
        let format = at(root, "target/format").and_then(|f| f.attribute("type"));
        set(schema, r, "backing_path", text_at(root, "backingStore/path"));
        set(schema, r, "format", format.map(|f| tables.format(f) as i32));
        let modified = text_at(root, "target/timestamps/mtime").and_then(seconds);
        set(schema, r, "modified_ms", modified.map(|s| s.saturating_mul(1000)));
    }
    (names.volume(pool, &volume.key), record)
}

/// Seconds before the point.
fn seconds(text: &str) -> Option<i64> {
    text.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{super::get, *};
    use crate::tests::tables;
    use union::pb::DiskFormat;

    #[test]
    fn pools_and_volumes_are_lifted() {
        let schema = Schema::base();
        let names = Names::new("u", "h", "test:///default");
        let xml = "<pool type='netfs'><name>n</name><uuid>dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566</uuid>\
                   <source><host name='nas'/><dir path='/export'/></source><target><path>/mnt/n</path></target></pool>";
        let sizes = Sizes { capacity: 100, allocation: 40, available: 60 };
        let record = lift(&schema, names.host(), xml, sizes, [true, true, true]).unwrap();
        let field = |name| get(&schema, &record, name).clone();
        assert_eq!((field("path"), field("backing")), (Value::str("/mnt/n"), Value::str("netfs")));
        assert_eq!((field("remote_host"), field("remote_path")), (Value::str("nas"), Value::str("/export")));
        assert_eq!(field("available_bytes"), Value::Int(60));
        let off = lift(&schema, names.host(), xml, Sizes::default(), [false, true, true]).unwrap();
        assert!(get(&schema, &off, "capacity_bytes").is_absent());
        let native = Volume {
            name: "a.qcow2".into(),
            key: "/mnt/n/a.qcow2".into(),
            sizes,
            xml: "<volume><target><path>/mnt/n/a.qcow2</path><format type='qcow2'/><timestamps><mtime>17.5</mtime>\
                  </timestamps></target><backingStore><path>/mnt/n/base.qcow2</path></backingStore></volume>"
                .into(),
        };
        let (_, record) = volume(&schema, &tables(), &names, Uuid::nil(), &native);
        let field = |name| get(&schema, &record, name).clone();
        assert_eq!(field("path"), Value::str("/mnt/n/a.qcow2"));
        assert_eq!(field("format"), Value::Int(DiskFormat::Qcow2 as i64));
        assert_eq!(field("modified_ms"), Value::Int(17_000));
        assert_eq!(field("backing_path"), Value::str("/mnt/n/base.qcow2"));
    }
}

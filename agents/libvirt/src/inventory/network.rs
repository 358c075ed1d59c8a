//! Networks, and the host's bridges that guests are attached to without one.

use super::{document, set, text_at};
use union::{Kind, ObjectId, Record, Schema, Value};
use wire::xml::XmlError;

/// A network's record from its document and whether it is (active, started with the host, persistent).
///
/// # Errors
/// The document cannot be read.
pub fn lift(schema: &Schema, host: ObjectId, xml: &str, flags: [bool; 3]) -> Result<Record, XmlError> {
    let document = document(xml)?;
    let root = document.root();
    let [active, autostart, persistent] = flags;
    let forward = root.child("forward");
    let mut record = schema.kind(Kind::Network).record();
    let r = &mut record;
    set(schema, r, "name", text_at(root, "name"));
    set(schema, r, "uuid", text_at(root, "uuid"));
    set(schema, r, "bridge", root.child("bridge").and_then(|b| b.attribute("name")));
    // Without a mode it is nat; without the element nothing leaves it.
    let mode = forward.map_or("isolated", |f| f.attribute("mode").unwrap_or("nat"));
    set(schema, r, "forward", mode);
    let vlan = root.child("vlan").filter(|v| v.attribute("trunk") != Some("yes"));
    let tag = vlan.and_then(|v| v.child("tag")).and_then(|t| t.attribute("id")?.parse::<i64>().ok());
    set(schema, r, "vlan", tag);
    set(schema, r, "active", active);
    set(schema, r, "autostart", autostart);
    set(schema, r, "persistent", persistent);
    set(schema, r, "host_ids", Value::list([Value::Ref(host)]));
    Ok(record)
}

/// The record of a bridge that is no libvirt network.
pub fn bridge(schema: &Schema, host: ObjectId, name: &str) -> Record {
    let mut record = schema.kind(Kind::Network).record();
    let r = &mut record;
    set(schema, r, "name", name);
    set(schema, r, "bridge", name);
    set(schema, r, "forward", "bridge");
    set(schema, r, "active", true);
    set(schema, r, "autostart", true);
    set(schema, r, "persistent", true);
    set(schema, r, "host_ids", Value::list([Value::Ref(host)]));
    record
}

#[cfg(test)]
mod tests {
    use super::{super::get, *};

    #[test]
    fn networks_are_lifted_from_their_documents() {
        let schema = Schema::base();
        let host = ObjectId::derived(Kind::Host, &["h"]);
        let xml = "<network><name>lab</name><uuid>dd8fe884-6c02-601e-7551-cca97df1c5df</uuid><forward/>\
                   <bridge name='virbr7' stp='on'/><vlan><tag id='42'/></vlan></network>";
        let record = lift(&schema, host, xml, [true, false, true]).unwrap();
        let field = |name| get(&schema, &record, name).clone();
        assert_eq!((field("name"), field("forward")), (Value::str("lab"), Value::str("nat")));
        assert_eq!((field("bridge"), field("vlan")), (Value::str("virbr7"), Value::Int(42)));
        assert_eq!((field("active"), field("autostart")), (Value::Bool(true), Value::Bool(false)));
        let isolated = lift(&schema, host, "<network><name>i</name></network>", [true; 3]).unwrap();
        assert_eq!(get(&schema, &isolated, "forward"), &Value::str("isolated"));
        assert!(lift(&schema, host, "<network>", [true; 3]).is_err());
    }
}

//! Scripts against what documents say.

use super::{devices::letters, *};
use crate::tests::bundle;
use inventory::Put;
use mapping::edit::Tree;
use union::clock::ManualClock;
use uuid::Uuid;

const XML: &str = "<domain type='qemu'><name>web</name><memory>1024</memory><vcpu>1</vcpu><devices>\
    <disk type='file' device='disk'><source file='/a/d.img'/><target dev='vda' bus='virtio'/></disk>\
    <disk type='file' device='cdrom'><source file='/a/one.iso'/><target dev='sda' bus='sata'/></disk>\
    <disk type='volume' device='cdrom'><source pool='iso' volume='two.iso'/><target dev='sdb' bus='sata'/></disk>\
    <controller type='ide' index='0'/>\
    <interface type='bridge'><mac address='52:54:00:00:00:0A'/><source bridge='br0'/></interface>\
    <interface type='user'><mac address='52:54:00:00:00:0b'/></interface>\
    </devices></domain>";

struct World {
    inventory: Arc<Inventory>,
    names: Names,
    vm: ObjectId,
    old: Record,
}

impl World {
    fn new() -> World {
        let bundle = bundle();
        let schema = bundle.schema.clone();
        let inventory = Inventory::new(schema.clone(), 1, Arc::new(ManualClock::new(0)));
        let names = Names::new("t", "h", "qemu:///system");
        let vm = ObjectId::new(Kind::Vm, Uuid::from_u128(7));
        let mut puts = Vec::new();
        let mut put = |id: ObjectId, fields: &[(&str, &str)]| {
            let mut record = schema.kind(id.kind).record();
            fields.iter().for_each(|(field, text)| set(&schema, &mut record, field, *text));
            puts.push(Put::Whole(id, record));
        };
        put(names.network(Uuid::from_u128(1)), &[("name", "lab"), ("bridge", "virbr7")]);
        put(names.bridge("br1"), &[("name", "br1"), ("bridge", "br1")]);
        put(names.pool(Uuid::from_u128(2)), &[("name", "iso"), ("path", "/isos/")]);
        put(
            names.volume(Uuid::from_u128(2), "k"),
            &[("name", "v.img"), ("path", "/isos/v.img"), ("key", "k")],
        );
        inventory.apply(puts);
        let old = bundle.document("libvirt").unwrap().get(&Tree::parse(XML).unwrap()).record;
        World { inventory, names, vm, old }
    }

    fn item(&self, message: &str, fields: &[(&str, Value)]) -> Arc<Record> {
        let schema = self.inventory.schema();
        let mut item = schema.message(message).unwrap().record();
        fields.iter().for_each(|(field, value)| set(schema, &mut item, field, value.clone()));
        Arc::new(item)
    }

    /// The document after one change.
    fn after(&self, change: ScriptChange, aim: Aim) -> Result<String, BadScript> {
        let script = Script { argument: "xml".into(), form: "inactive".into(), changes: vec![change] };
        let with =
            Scripting { schema: self.inventory.schema(), inventory: &self.inventory, names: &self.names };
        let changes = with.changes(&script, self.vm, &self.old, aim)?;
        Ok(bundle().document("libvirt").unwrap().patch(XML, &changes)?.text)
    }

    fn edited(&self, list: &str, key: &str, item: Arc<Record>, clear: &[&str]) -> Result<String, BadScript> {
        let clear = clear.iter().map(|c| Arc::from(*c)).collect();
        self.after(ScriptChange::Edit { list: list.into(), key: key.into(), item, clear }, Aim::Make)
    }

    fn added(&self, list: &str, item: Arc<Record>) -> String {
        self.after(ScriptChange::Add { list: list.into(), item }, Aim::Make).unwrap()
    }
}

/// What the text has between two others.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("no {from} in {text}")).1;
    rest.split_once(to).unwrap().0
}

#[test]
fn a_nic_is_attached_to_a_network_or_a_bridge_by_its_id() {
    let world = World::new();
    let to = |id: ObjectId| world.item("Nic", &[("network_id", Value::Ref(id))]);
    let (lab, br1) = (world.names.network(Uuid::from_u128(1)), world.names.bridge("br1"));
    for (key, id, wanted) in [
        (
            "52:54:00:00:00:0a",
            lab,
            "<interface type='network'><mac address='52:54:00:00:00:0A'/><source network='lab'/>",
        ),
        (
            "52:54:00:00:00:0a",
            br1,
            "<interface type='bridge'><mac address='52:54:00:00:00:0A'/><source bridge='br1'/>",
        ),
        ("52:54:00:00:00:0b", lab, "type='network'><mac address='52:54:00:00:00:0b'/>"),
    ] {
        let text = world.edited("nics", key, to(id), &[]).unwrap();
        let flat: String = text.lines().map(str::trim).collect();
        assert!(flat.contains(wanted), "{flat}");
    }
    let gone = world.names.network(Uuid::from_u128(9));
    let error = world.edited("nics", "52:54:00:00:00:0a", to(gone), &[]).unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
}

#[test]
fn a_medium_goes_into_a_drive_by_path_pool_or_volume() {
    let world = World::new();
    let pool = Value::Ref(world.names.pool(Uuid::from_u128(2)));
    let by_path = |path: &str| vec![("path", Value::str(path))];
    let in_pool = vec![("path", Value::str("x/y.iso")), ("storage_pool_id", pool)];
    for (key, fields, wanted) in [
        ("sda", by_path("/b/two.iso"), "file='/b/two.iso'"),
        ("sda", in_pool, "file='/isos/x/y.iso'"),
        ("sdb", by_path("/b/three.iso"), "file='/b/three.iso'"),
    ] {
        let text = world.edited("cdroms", key, world.item("Cdrom", &fields), &[]).unwrap();
        assert!(text.contains(wanted), "{text}");
    }
    for (key, gone) in [("sda", "/a/one.iso"), ("sdb", "two.iso")] {
        let text = world.edited("cdroms", key, world.item("Cdrom", &[]), &["path"]).unwrap();
        assert!(!text.contains(gone) && text.contains(&format!("dev='{key}'")), "{text}");
    }
    let volume = Value::Ref(world.names.volume(Uuid::from_u128(2), "k"));
    let text = world.edited("disks", "vda", world.item("Disk", &[("volume_id", volume)]), &[]).unwrap();
    assert!(text.contains("file='/isos/v.img'"), "{text}");
}

#[test]
fn a_new_device_gets_a_free_name() {
    let world = World::new();
    let text = world.added("cdroms", world.item("Cdrom", &[("path", Value::str("/c.iso"))]));
    assert!(text.contains("<target dev='sdc' bus='sata'/>"), "{text}");
    let ide = [("controller", Value::str("ide0")), ("unit", Value::Int(1))];
    let text = world.added("cdroms", world.item("Cdrom", &ide));
    assert!(text.contains("<target dev='hdb' bus='ide'/>"), "{text}");
    let text = world.added("disks", world.item("Disk", &[("path", Value::str("/e.img"))]));
    assert!(text.contains("<target dev='vdb' bus='virtio'/>"), "{text}");
    let lab = Value::Ref(world.names.network(Uuid::from_u128(1)));
    let text = world.added("nics", world.item("Nic", &[("network_id", lab.clone())]));
    let mac = between(text.split("52:54:00:00:00:0b").nth(1).unwrap(), "mac address='", "'").to_owned();
    assert!(mac.starts_with("52:54:00:") && text.contains("network='lab'"), "{text}");
    let again = world.added("nics", world.item("Nic", &[("network_id", lab.clone())]));
    assert_eq!(text, again, "whoever asks twice gets the same");
    let given = [("network_id", lab), ("mac", Value::str("52:54:00:AA:00:01"))];
    assert!(world.added("nics", world.item("Nic", &given)).contains("52:54:00:aa:00:01"));
}

#[test]
fn what_is_no_part_of_the_document_is_refused() {
    let world = World::new();
    let resize = world.item("Disk", &[("size_bytes", Value::Int(1 << 40))]);
    let error = world.edited("disks", "vda", resize, &[]).unwrap_err();
    assert_eq!(error.code(), Code::NotSupported, "{error}");
    let other = world.item("Disk", &[("id", Value::str("vdz"))]);
    assert!(matches!(world.edited("disks", "vda", other, &[]), Err(BadScript::Elsewhere { .. })));
    let none = world.edited("disks", "vdq", world.item("Disk", &[]), &[]).unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument, "{none}");
    let wrong = world.edited("disks", "vda", world.item("Nic", &[]), &[]).unwrap_err();
    assert!(matches!(wrong, BadScript::Mismatch(_)), "{wrong}");
    let set =
        |field: &str, value: Value| world.after(ScriptChange::Set { field: field.into(), value }, Aim::Make);
    assert!(matches!(set("colour", Value::Int(1)), Err(BadScript::NoField(_))));
    let error = set("name", Value::str("other")).unwrap_err();
    assert!(error.to_string().contains("DomainRename") && error.code() == Code::NotSupported, "{error}");
}

#[test]
fn what_is_looked_for_may_be_there_or_gone() {
    let world = World::new();
    let remove = |key: &str| ScriptChange::Remove { list: "cdroms".into(), key: key.into() };
    assert_eq!(world.after(remove("sdz"), Aim::Look).unwrap(), XML);
    assert_ne!(world.after(remove("sda"), Aim::Look).unwrap(), XML);
    assert!(world.after(remove("sdz"), Aim::Make).is_err());
    let add = |fields: &[(&str, Value)]| {
        let change = ScriptChange::Add { list: "cdroms".into(), item: world.item("Cdrom", fields) };
        world.after(change, Aim::Look)
    };
    let there = [("id", Value::str("sda")), ("path", Value::str("/a/one.iso"))];
    assert_eq!(add(&there).unwrap(), XML);
    assert!(matches!(add(&[]), Err(BadScript::NoKey(_))));
}

#[test]
fn letters_count_on() {
    assert_eq!([0, 25, 26, 27, 701].map(letters), ["a", "z", "aa", "ab", "zz"]);
}

use crate::{
    VersionIndex,
    object::PathError,
    testing::{Text, World, demo, id, number, record},
};
use std::sync::Arc;
use union::{Kind, Record, SlotSet, Value};

const NEWEST: VersionIndex = VersionIndex::NEWEST;

fn machine(extra: &[(&str, Value)]) -> Record {
    let bundle = demo();
    let mut record =
        record(&bundle.schema, "Vm", &[("name", Value::str("web")), ("uuid", Value::str("u-1"))]);
    for (name, value) in extra {
        record.set(bundle.schema.slot(Kind::Vm, name).unwrap(), value.clone());
    }
    record
}

fn part(message: &str, fields: &[(&str, Value)]) -> Value {
    Value::record(record(&demo().schema, message, fields))
}

fn shown(ty: &str, path: &str, record: &Record, world: &World, version: VersionIndex) -> Option<String> {
    let bundle = demo();
    let map = bundle.protocol("demo").unwrap().object(ty).unwrap();
    let selection = map.select(path, version).unwrap();
    let mut out = Text::default();
    let kind = Kind::from_message(&bundle.schema.get(map.union).unwrap().name).unwrap();
    let wrote = map.render(&selection, id(kind, 7), record, world, version, &mut out);
    assert_eq!(wrote, !out.0.is_empty(), "what is not shown leaves no trace");
    wrote.then_some(out.0)
}

fn vm(path: &str, extra: &[(&str, Value)]) -> Option<String> {
    shown("Machine", path, &machine(extra), &World { view: "host".into(), ..World::default() }, NEWEST)
}

#[test]
fn shows_simple_values_with_their_types() {
    assert_eq!(vm("name", &[]).unwrap(), "<name type=string>web</name>");
    let memory = [("memory_bytes", Value::Int(5 << 20))];
    assert_eq!(vm("config.hardware.memoryMB", &memory).unwrap(), "<memoryMB type=int>5</memoryMB>");
    let power = [("power_state", number("PowerState", "PAUSED"))];
    assert_eq!(vm("runtime.power", &power).unwrap(), "<power type=Power>on</power>");
    assert_eq!(
        vm("runtime.boot", &[("boot_time_ms", Value::Int(9))]).unwrap(),
        "<boot type=dateTime>@9</boot>"
    );
    let host = [("host_id", Value::Ref(id(Kind::Host, 3)))];
    assert_eq!(vm("runtime.host", &host).unwrap(), "<host type=ManagedObjectReference>Host:n3</host>");
    assert_eq!(vm("runtime.host", &[]), None);
}

#[test]
fn shows_structures_in_schema_order_and_leaves_out_what_is_unset() {
    let fields = [
        ("cpu_count", Value::Int(2)),
        ("disks", Value::list([part("Disk", &[("unit", Value::Int(1)), ("size_bytes", Value::Int(8))])])),
    ];
    assert_eq!(
        vm("config", &fields).unwrap(),
        "<config type=Config><uuid>u-1</uuid><hardware><cpus>2</cpus>\
         <device type=Disk><key>2001</key><label>Disk 1 of web</label><capacity>8</capacity></device>\
         <device type=Device><key>9</key><label>of web</label></device></hardware>\
         <option><key>cpus</key><value type=int>2</value></option></config>"
    );
    assert_eq!(vm("runtime", &[]).unwrap(), "<runtime type=Runtime></runtime>", "a required structure stays");
    assert_eq!(vm("guest", &[]), None, "constants alone do not make an optional structure");
    assert_eq!(
        vm("guest", &[("guest_ip", Value::str("::1"))]).unwrap(),
        "<guest type=Guest><ip>::1</ip><kind>one</kind></guest>"
    );
}

#[test]
fn shows_lists_as_arrays_and_required_ones_even_empty() {
    assert_eq!(vm("tags", &[]).unwrap(), "<tags type=string[]></tags>");
    assert_eq!(vm("snapshot", &[]), None);
    let leaf = part("SnapshotNode", &[("name", Value::str("b"))]);
    let tree = part("SnapshotNode", &[("name", Value::str("a")), ("children", Value::list([leaf]))]);
    assert_eq!(
        vm("snapshot", &[("snapshots", Value::list([tree]))]).unwrap(),
        "<snapshot type=Snapshot[]><Snapshot type=Snapshot><name>a</name><child><name>b</name></child></Snapshot></snapshot>"
    );
}

#[test]
fn finds_items_by_their_keys() {
    let usb = part("Disk", &[("unit", Value::Int(0)), ("bus", number("Bus", "BUS_USB"))]);
    let scsi = part("Disk", &[("unit", Value::Int(1)), ("bus", number("Bus", "BUS_SCSI"))]);
    let nic = part("Nic", &[("unit", Value::Int(0)), ("mac", Value::str("m"))]);
    let fields =
        [("disks", Value::list([usb, scsi])), ("nics", Value::list([nic])), ("title", Value::str("T"))];
    assert_eq!(vm("config.hardware.device[2000]", &fields), None, "its entry's condition is false");
    assert_eq!(
        vm("config.hardware.device[2001].label", &fields).unwrap(),
        "<label type=string>Disk 2 of web</label>"
    );
    assert_eq!(vm("config.hardware.device[\"4000\"].mac", &fields).unwrap(), "<mac type=string>m</mac>");
    assert_eq!(
        vm("config.hardware.device[4000].capacity", &fields),
        None,
        "a disk's field on a NIC is unset"
    );
    assert_eq!(vm("config.option[\"title\"].value", &fields).unwrap(), "<value type=string>T</value>");
    assert_eq!(
        vm("config.option[\"title\"]", &fields).unwrap(),
        "<option type=Option><key>title</key><value type=string>T</value></option>"
    );
}

#[test]
fn refuses_paths_that_the_type_does_not_have() {
    let bundle = demo();
    let map = bundle.protocol("demo").unwrap().object("Machine").unwrap();
    let no_such = |path: &str| matches!(map.select(path, NEWEST), Err(PathError::NoSuchProperty { .. }));
    let bad_key = |path: &str| matches!(map.select(path, NEWEST), Err(PathError::BadKey { .. }));
    for path in [
        "nme",
        "",
        ".",
        "config.",
        "config..uuid",
        "config.hardware.memory",
        "name.x",
        "config.hardware.device[1].nope",
    ] {
        assert!(no_such(path), "{path}");
    }
    for path in [
        "name[1]",
        "config.hardware.device.key",
        "tags[\"a\"]",
        "config.hardware.device[",
        "config.hardware.device[]",
        "config.hardware.device[1]x",
        "config.hardware.device[\"1]",
    ] {
        assert!(bad_key(path), "{path}: {:?}", map.select(path, NEWEST));
    }
    let valid = map.select("picture", NEWEST).unwrap();
    assert!(!valid.is_mapped(), "a valid path without a row selects nothing");
}

#[test]
fn gates_properties_by_version() {
    let bundle = demo();
    let protocol = bundle.protocol("demo").unwrap();
    let map = protocol.object("Machine").unwrap();
    let (old, new) = (protocol.native.version("2.0").unwrap(), protocol.native.version("3.0").unwrap());
    assert!(map.select("config.note", old).is_err() && map.select("config.note", new).is_ok());
    let note = [("ext.demo.note", Value::str("hi"))];
    let config = |version| shown("Machine", "config", &machine(&note), &World::default(), version).unwrap();
    assert!(!config(old).contains("<note>") && config(new).contains("<note>hi</note>"));
}

#[test]
fn chooses_the_subtype_by_the_facts() {
    let pool = |backing: &str| {
        let fields = [
            ("backing", Value::str(backing)),
            ("uuid", Value::str("u")),
            ("path", Value::str("/p")),
            ("remote_host", Value::str("h")),
        ];
        record(&demo().schema, "StoragePool", &fields)
    };
    let info = |backing: &str, path: &str| shown("Store", path, &pool(backing), &World::default(), NEWEST);
    assert_eq!(
        info("dir", "info").unwrap(),
        "<info type=DirBacking><url>ds:///u</url><path>/p</path></info>"
    );
    assert_eq!(
        info("netfs", "info").unwrap(),
        "<info type=NetBacking><url>ds:///u</url><host>h</host></info>"
    );
    assert_eq!(info("netfs", "info.host").unwrap(), "<host type=string>h</host>");
    assert_eq!(info("dir", "info.host"), None);
    assert_eq!(info("other", "info"), None);
}

#[test]
fn follows_references_both_ways() {
    let bundle = demo();
    let host = id(Kind::Host, 7);
    let vm_record = machine(&[("host_id", Value::Ref(host))]);
    let world = World { objects: [(id(Kind::Vm, 1), Arc::new(vm_record))].into(), ..World::default() };
    let host_record =
        record(&bundle.schema, "Host", &[("name", Value::str("h")), ("cpu_mhz", Value::Int(2))]);
    assert_eq!(
        shown("Host", "machine", &host_record, &world, NEWEST).unwrap(),
        "<machine type=ManagedObjectReference[]><ManagedObjectReference type=ManagedObjectReference>Vm:n1</ManagedObjectReference></machine>"
    );
    assert_eq!(
        shown("Host", "cpuHz", &host_record, &world, NEWEST).unwrap(),
        "<cpuHz type=long>2000000</cpuHz>"
    );
    let map = bundle.protocol("demo").unwrap().object("Host").unwrap();
    let mut found = Vec::new();
    map.references(&map.select("machine", NEWEST).unwrap(), host, &host_record, &world, NEWEST, &mut found);
    assert_eq!(found, [id(Kind::Vm, 1)]);
}

#[test]
fn fills_required_fields_by_one_row() {
    assert_eq!(vm("ability", &[]).unwrap(), "<ability type=Ability><a>false</a><b>true</b></ability>");
}

#[test]
fn makes_items_of_objects() {
    let bundle = demo();
    let host = id(Kind::Host, 3);
    let host_record = record(&bundle.schema, "Host", &[("name", Value::str("h"))]);
    let world = World { objects: [(host, Arc::new(host_record))].into(), ..World::default() };
    let gone = Value::Ref(id(Kind::Host, 4));
    let fields = [("name", Value::str("a-b")), ("host_ids", Value::list([gone, Value::Ref(host)]))];
    let pool = record(&bundle.schema, "StoragePool", &fields);
    assert_eq!(
        shown("Store", "mount", &pool, &world, NEWEST).unwrap(),
        "<mount type=Mount[]><Mount type=Mount><key>Host:n3</key><name>h</name><store>StoragePool:n7</store></Mount></mount>"
    );
    assert_eq!(
        shown("Store", "words", &pool, &world, NEWEST).unwrap(),
        "<words type=string[]><string type=string>a</string><string type=string>b</string></words>"
    );
    let slot = |kind, name| bundle.schema.slot(kind, name).unwrap();
    let map = bundle.protocol("demo").unwrap().object("Store").unwrap();
    let deps = map.select("mount", NEWEST).unwrap().deps().clone();
    let name = SlotSet::of(slot(Kind::Host, "name"));
    assert_eq!(deps.hops, [(slot(Kind::StoragePool, "host_ids"), Kind::Host, name)]);
}

#[test]
fn shows_a_part_by_the_table_that_fits() {
    let bundle = demo();
    let shows = |what: &str| {
        let event = part(
            "Event",
            &[("what", Value::str(what)), ("time_ms", Value::Int(1)), ("vm_name", Value::str("w"))],
        );
        let service = record(&bundle.schema, "Service", &[("latest_event", event)]);
        shown("Manager", "latest", &service, &World::default(), NEWEST)
    };
    assert_eq!(shows("vm.booted").unwrap(), "<latest type=BootEvent><at>@1</at><who>w</who></latest>");
    assert_eq!(shows("vm.stopped").unwrap(), "<latest type=StopEvent><at>@1</at></latest>");
    assert_eq!(shows("vm.else"), None);
    let service = record(&bundle.schema, "Service", &[]);
    assert_eq!(
        shown("Manager", "big", &service, &World::default(), NEWEST).unwrap(),
        "<big type=long>5</big>"
    );
}

#[test]
fn a_second_face_never_stands_for_its_object() {
    let bundle = demo();
    let protocol = bundle.protocol("demo").unwrap();
    let machine = protocol.show(id(Kind::Vm, 7), &machine(&[]), &World::default()).unwrap();
    assert_eq!(&*machine.native_type, "Machine");
}

#[test]
fn knows_what_a_property_depends_on() {
    let bundle = demo();
    let map = bundle.protocol("demo").unwrap().object("Machine").unwrap();
    let slot = |name: &str| bundle.schema.slot(Kind::Vm, name).unwrap();
    let deps = |path: &str| map.select(path, NEWEST).unwrap().deps().clone();
    assert_eq!(deps("config.hardware.memoryMB").own, SlotSet::of(slot("memory_bytes")));
    let devices = deps("config.hardware.device");
    let mut own = SlotSet::of(slot("disks")).union(SlotSet::of(slot("nics")));
    own.insert(slot("name"));
    assert_eq!(devices.own, own);
    let network_name = bundle.schema.slot(Kind::Network, "name").unwrap();
    assert_eq!(devices.hops, [(slot("nics"), Kind::Network, SlotSet::of(network_name))]);
    assert!(deps("tags").own.is_empty());
    let host = bundle.protocol("demo").unwrap().object("Host").unwrap();
    assert_eq!(host.select("machine", NEWEST).unwrap().deps().reverse, [(Kind::Vm, slot("host_id"))]);
}

#[test]
fn an_unknown_value_is_a_gap_and_fails_nothing() {
    let world = World::default();
    let record = machine(&[
        ("power_state", Value::Int(77)),
        ("memory_bytes", Value::Int(i64::MAX)),
        ("cpu_count", Value::Int(1)),
    ]);
    let text = shown("Machine", "config", &record, &world, NEWEST).unwrap();
    assert!(text.contains("<cpus>1</cpus>") && !text.contains("memoryMB"));
    assert_eq!(
        shown("Machine", "runtime", &record, &world, NEWEST).unwrap(),
        "<runtime type=Runtime></runtime>"
    );
    let gaps: Vec<_> = world.gaps.take().iter().map(|g| g.path.to_string()).collect();
    assert_eq!(gaps, ["config.hardware.memoryMB", "runtime.power"]);
}

#[test]
fn lists_properties_in_wire_order() {
    let bundle = demo();
    let map = bundle.protocol("demo").unwrap().object("Machine").unwrap();
    let names: Vec<&str> = map.properties(NEWEST).map(crate::Selection::path).collect();
    assert_eq!(names, ["name", "parent", "config", "runtime", "guest", "snapshot", "tags", "ability"]);
}

#[test]
fn field_metas_are_counted_by_their_index() {
    let bundle = demo();
    let protocol = bundle.protocol("demo").unwrap();
    for (at, meta) in protocol.fields().iter().enumerate() {
        assert_eq!(meta.index as usize, at);
    }
    let family = protocol.family(|fields| fields.len());
    assert!(Arc::ptr_eq(&family, &protocol.family(|_| 0usize)), "built once");
}

//! Mapping files, the property paths that clients send, and the calls that they make.

use crate::{runner::Target, targets::text};
use mapping::{Bundle, NativeArgs, NativeRef, NativeValue, Nothing, Protocol, Resolve, VersionIndex};
use std::{
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};
use union::{Kind, ObjectId, Plan, Record, Value, codec};
use wire::{
    limits::SOAP,
    xml::{self, Element},
};

/// The mappings of the tree.
static BUNDLES: LazyLock<Arc<Bundle>> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mappings");
    Bundle::load(&dir).unwrap_or_else(|report| panic!("the mappings in the tree are good:\n{report}"))
});

/// The vSphere mapping of the tree.
static VSPHERE: LazyLock<Arc<Protocol>> =
    LazyLock::new(|| Arc::clone(BUNDLES.protocol("vsphere").expect("the tree has vSphere's")));

/// A native schema, a line `%%`, rows: a bundle, or every error said with its place.
pub const BUNDLE: Target = Target {
    name: "mapping_bundle",
    also: &[],
    dictionary: &[
        "[object.VirtualMachine.rows]",
        "[command.PowerOnVM_Task]",
        "[[command.PowerOnVM_Task.guard]]",
        "[enum.power]",
        "[effect.PowerOn]",
        "[ext.Vm]",
        "[command.PowerOnVM_Task.edit.\"spec\"]",
        "[object.M.read]",
        "[[effect.Reconfigure.step]]",
        "[effect.Reconfigure.own]",
        "each = \"self.disks\"",
        "edit = { argument = \"xml\", form = \"inactive\", set = {",
        "devices = \"cmd.devices\"",
        "undo = \"back\"",
        "appears = \"",
        "left = {",
        "{ named = \"",
        "{ to = \"boot\", types = {",
        "{ fresh = \"vm\" }",
        "is = \"BOOT_DISK\"",
        "\n",
        "\"",
        " = ",
        " | ",
        "mib",
        "enum power",
        "ref host",
        "->",
        "{ list = ",
        "{ cel = \"",
        "{ reverse = \"",
        "{ const = ",
        "dup = \"view\"",
        "key = \"key\"",
        "when = \"",
        "self.",
        "item.",
        "parent.",
        "cmd.",
        "vm.",
        "has(",
        "size(",
        "sum(",
        " in [",
        "]",
        " && ",
        " || ",
        "!",
        "(",
        ")",
        " ? ",
        " : ",
        "==",
        " % 0",
        "9223372036854775807",
        "%%",
        "data ",
        "managed ",
        " : ",
        "?*",
        "&M",
        "versions ",
        "\\\\",
        "\\u0000",
        "*",
    ],
    feed: |input| {
        let text = text(input);
        let (schema, rows) = text.split_once("\n%%\n").unwrap_or(("", &text));
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().join("small");
        fs::create_dir_all(home.join("schema")).expect("made");
        fs::write(home.join("schema/small.schema"), schema).expect("written");
        fs::write(home.join("rows.toml"), rows).expect("written");
        match Bundle::load(dir.path()) {
            Ok(bundle) => format!("{} warnings", bundle.report.warnings()),
            Err(report) => {
                assert!(report.errors() > 0 && !report.to_string().is_empty());
                report.diagnostics.iter().map(|d| d.message.as_str()).take(2).collect()
            }
        }
    },
};

/// A path into a virtual machine's properties, in the oldest and the newest version.
pub const PATH: Target = Target {
    name: "property_path",
    also: &[],
    dictionary: &[
        "config",
        ".",
        "hardware",
        "device",
        "[4000]",
        "[\"k\"]",
        "extraConfig",
        "value",
        "[",
        "]",
        "\"",
        "\\",
        "[-1]",
        "summary",
        "runtime.",
        "guest.net",
        ":",
        "backing",
        "name",
        "info",
    ],
    feed: |input| {
        let path = text(input);
        let vm = VSPHERE.object("VirtualMachine").expect("the tree maps it");
        match (vm.select(&path, VersionIndex(0)), vm.select(&path, VersionIndex::NEWEST)) {
            (_, Ok(selection)) => {
                assert_eq!(selection.path(), path);
                path.split(['[', '.']).take(4).collect()
            }
            (Ok(_), Err(error)) => panic!("the newest version lacks what the oldest has: {error}"),
            (Err(_), Err(error)) => {
                format!("{error:?}").split(|c: char| !c.is_alphanumeric()).take(1).collect()
            }
        }
    },
};

/// An element's children as arguments.
struct Arguments<'d>(Element<'d>);

impl<'d> Arguments<'d> {
    fn all(&self, path: &str) -> Vec<Element<'d>> {
        let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
        let inner = parents.split('.').filter(|n| !n.is_empty()).try_fold(self.0, |e, name| e.child(name));
        inner.map(|e| e.children_named(last).collect()).unwrap_or_default()
    }
}

impl NativeArgs for Arguments<'_> {
    fn get(&self, path: &str) -> Option<NativeValue> {
        let one = |e: &Element<'_>| match e.attribute("type") {
            Some(ty) => NativeValue::Ref(NativeRef { ty: Arc::from(ty), id: Arc::from(e.text()) }),
            None => NativeValue::Text(e.text().to_owned()),
        };
        let mut found: Vec<NativeValue> = self.all(path).iter().map(one).collect();
        if found.len() > 1 { Some(NativeValue::Items(found)) } else { found.pop() }
    }

    fn items(&self, path: &str) -> Vec<Box<dyn NativeArgs + '_>> {
        self.all(path).into_iter().map(|e| Box::new(Arguments(e)) as Box<dyn NativeArgs>).collect()
    }

    fn type_name(&self) -> Option<String> {
        self.0.xsi_type().map(str::to_owned)
    }

    fn names(&self, path: &str) -> Vec<String> {
        let within = if path.is_empty() { Some(self.0) } else { self.all(path).first().copied() };
        within.into_iter().flat_map(|e| e.children()).map(|e| e.name().to_owned()).collect()
    }
}

/// Every reference of a known type is an object, and every name one has.
struct Ids;

impl Resolve for Ids {
    fn resolve(&self, native: &NativeRef) -> Option<ObjectId> {
        let kind = match &*native.ty {
            "VirtualMachine" => Kind::Vm,
            "HostSystem" => Kind::Host,
            "Folder" => Kind::Folder,
            "ResourcePool" => Kind::ResourcePool,
            "Network" => Kind::Network,
            "Datastore" => Kind::StoragePool,
            _ => return None,
        };
        Some(ObjectId::derived(kind, &[&native.id]))
    }

    fn named(&self, kind: Kind, name: &str) -> Option<ObjectId> {
        Some(ObjectId::derived(kind, &[name]))
    }

    fn fresh(&self, kind: Kind) -> Option<ObjectId> {
        Some(ObjectId::derived(kind, &["fresh"]))
    }
}

/// A VM with a drive, a disk and two cards.
static STORED: LazyLock<Record> = LazyLock::new(|| {
    let schema = &BUNDLES.schema;
    let item = |message: &str, id: &str| {
        let message = schema.message(message).expect("a message");
        let mut record = message.record();
        record.set(message.field("id").expect("items have ids").slot, id);
        Value::record(record)
    };
    let vm = schema.kind(Kind::Vm);
    let mut record = vm.record();
    for (list, items) in [
        ("cdroms", vec![item("Cdrom", "sda")]),
        ("disks", vec![item("Disk", "vda")]),
        ("nics", vec![item("Nic", "52:54:00:00:00:01"), item("Nic", "52:54:00:00:00:02")]),
    ] {
        record.set(vm.field(list).expect("a list").slot, Value::list(items));
    }
    record
});

/// The arguments of a call, the element's name being the method: a command that its schema can carry, and plans of every target that the
/// bus can carry; or a reason with the argument's path.
pub const LIFT: Target = Target {
    name: "command_lift",
    also: &[],
    dictionary: &[
        "<ReconfigVM_Task xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">",
        "</ReconfigVM_Task>",
        "<this type=\"VirtualMachine\">vm-1</this>",
        "<this type=\"Folder\">group-v1</this>",
        "<spec>",
        "</spec>",
        "<deviceChange>",
        "</deviceChange>",
        "<operation>edit</operation>",
        "<operation>add</operation>",
        "<operation>remove</operation>",
        "<device xsi:type=\"VirtualCdrom\">",
        "<device xsi:type=\"VirtualE1000\">",
        "<device xsi:type=\"VirtualDisk\">",
        "</device>",
        "<key>3000</key>",
        "<key>4000</key>",
        "<key>4001</key>",
        "<backing xsi:type=\"VirtualCdromIsoBackingInfo\"><fileName>[a] b.iso</fileName></backing>",
        "<backing xsi:type=\"VirtualCdromAtapiBackingInfo\"/>",
        "<backing xsi:type=\"VirtualEthernetCardNetworkBackingInfo\"><deviceName>a</deviceName></backing>",
        "<network type=\"Network\">n</network>",
        "<network type=\"VirtualMachine\">n</network>",
        "<macAddress>52:54:00:00:00:03</macAddress>",
        "<connectable><startConnected>false</startConnected></connectable>",
        "<extraConfig><key>a</key><value xsi:type=\"xsd:string\">b</value></extraConfig>",
        "<bootOptions><bootOrder xsi:type=\"VirtualMachineBootOptionsBootableCdromDevice\"/></bootOptions>",
        "<memoryMB>9223372036854775807</memoryMB>",
        "<numCPUs>-1</numCPUs>",
        "<name>a</name>",
        "<annotation/>",
        "<changeVersion>1</changeVersion>",
        "CreateVM_Task",
        "config",
        "uuid",
        "MoveIntoFolder_Task",
        "list",
        "[]",
        "/../",
    ],
    feed: |input| {
        let Ok(document) = xml::parse(input.to_vec(), &SOAP) else { return "no XML".to_owned() };
        let root = document.root();
        let Some(map) = VSPHERE.command(root.name()) else { return "no method".to_owned() };
        let schema = &BUNDLES.schema;
        let command = match map.lift(&Arguments(root), &Ids, Some((&STORED, &Nothing))) {
            Err(error) => {
                return format!("{error:?}").split(|c: char| !c.is_alphanumeric()).take(1).collect();
            }
            Ok(command) => command,
        };
        let bytes = codec::encode(schema, &command);
        let again = codec::decode(schema, command.message(), &bytes).expect("what was encoded decodes");
        assert_eq!(again, command, "the union's form holds all of the command");
        let Some(object) = map.object(&command) else { return "no object".to_owned() };
        let facts = if map.on == Kind::Vm { STORED.clone() } else { schema.kind(map.on).record() };
        let guarded = map.guard(&command, &facts, &Nothing).err().map(|c| c.fault.to_string());
        let mut kinds = vec![map.method.to_string(), guarded.unwrap_or_default()];
        for target in BUNDLES.protocols() {
            let Some(effect) = target.effect(&map.verb) else { continue };
            match effect.plan(&command, object, &facts, &Nothing) {
                Ok(plan) => {
                    let again = Plan::from_pb(schema, &plan.to_pb(schema)).expect("a plan reads back");
                    assert_eq!(again, plan, "the bus carries all of a plan");
                    kinds.push(plan.steps.iter().map(|s| &*s.call.call).take(3).collect());
                }
                Err(cause) => kinds.push(cause.code.as_str_name().to_owned()),
            }
        }
        kinds.join(" ")
    },
};

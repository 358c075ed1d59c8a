//! Kinds of change, each with the paths that it may touch.

use super::corpus::{number, part, slot};
use mapping::edit::Change;
use std::sync::Arc;
use union::{Record, Value};

pub struct Kind {
    pub name: String,
    pub changes: Vec<Change>,
    /// What the oracle lets differ: beginnings of canonical paths, `*` for any one key.
    pub may: Vec<String>,
}

fn set(field: &str, value: Value) -> Change {
    Change::Set { field: slot("Vm", field), value }
}

fn edit(list: &str, message: &str, key: &str, fields: &[(&str, Value)]) -> Change {
    let set = fields.iter().map(|(name, value)| (slot(message, name), value.clone())).collect();
    Change::Edit { field: slot("Vm", list), key: Arc::from(key), set }
}

fn ids(record: &Record, list: &str, message: &str) -> Vec<String> {
    let items = record.get(slot("Vm", list)).items();
    items
        .iter()
        .map(|item| item.as_record().unwrap().get(slot(message, "id")).as_str().unwrap().to_owned())
        .collect()
}

/// Every kind of change that makes sense for the document that reads as `record`.
pub fn kinds(record: &Record) -> Vec<Kind> {
    let mut all = Vec::new();
    let mut kind = |name: String, changes: Vec<Change>, may: &[&str]| {
        all.push(Kind { name, changes, may: may.iter().map(|m| format!("/domain#1/{m}")).collect() });
    };
    let memory = record.get(slot("Vm", "memory_bytes")).as_int().unwrap_or(1 << 30);
    for (name, bytes) in [("double", memory * 2), ("odd KiB", memory + 1024), ("less", 256 << 20)] {
        kind(
            format!("memory {name}"),
            vec![set("memory_bytes", Value::Int(bytes))],
            &["memory#1", "currentMemory#1"],
        );
    }
    kind(
        "current memory".into(),
        vec![set("memory_current_bytes", Value::Int(128 << 20))],
        &["currentMemory#1"],
    );
    let cpus = ["vcpu#1", "cpu#1/topology#1/@sockets"];
    kind("cpus".into(), vec![set("cpu_count", Value::Int(16))], &cpus);
    kind("one cpu".into(), vec![set("cpu_count", Value::Int(1))], &cpus);
    kind("current cpus".into(), vec![set("cpu_current", Value::Int(1))], &["vcpu#1/@current"]);
    kind(
        "cores".into(),
        vec![set("cpu_count", Value::Int(8)), set("cores_per_socket", Value::Int(2))],
        &["vcpu#1", "cpu#1/topology#1", "cpu#1"],
    );
    for text in ["plain", "a < b & \"c\" > 'd' ]]>", "zwei  Worte\tund \u{e4}\u{1F600}", ""] {
        kind(format!("title {text:?}"), vec![set("title", Value::str(text))], &["title#1"]);
        kind(format!("description {text:?}"), vec![set("description", Value::str(text))], &["description#1"]);
    }
    let lines = Value::str("zwei\nZeilen \u{e4}");
    kind("title of lines".into(), vec![set("title", lines.clone())], &["title#1"]);
    kind("description of lines".into(), vec![set("description", lines)], &["description#1"]);
    kind("no title".into(), vec![set("title", Value::Absent)], &["title#1"]);
    kind("no description".into(), vec![set("description", Value::Absent)], &["description#1"]);
    for truth in [true, false] {
        kind(
            format!("acpi {truth}"),
            vec![set("acpi", Value::Bool(truth))],
            &["features#1", "features#1/acpi#1"],
        );
    }
    for (field, value) in [
        ("on_crash", "LIFECYCLE_KEEP"),
        ("on_reboot", "LIFECYCLE_STOP"),
        ("on_poweroff", "LIFECYCLE_RESTART"),
    ] {
        kind(field.into(), vec![set(field, number("LifecycleAction", value))], &[&format!("{field}#1")]);
    }
    let boot = |names: &[&str]| Value::list(names.iter().map(|n| number("BootDevice", n)));
    let orders = ["os#1/boot", "devices#1/disk[*]#1/boot#1", "devices#1/interface[*]#1/boot#1"];
    kind("boot network".into(), vec![set("boot", boot(&["BOOT_NETWORK"]))], &orders);
    kind("boot three".into(), vec![set("boot", boot(&["BOOT_CDROM", "BOOT_DISK", "BOOT_NETWORK"]))], &orders);
    kind("boot none".into(), vec![set("boot", Value::Absent)], &orders);
    kind("machine".into(), vec![set("machine", Value::str("q35"))], &["os#1/type#1/@machine"]);
    let firmware = ["os#1/@firmware", "os#1/loader#1", "os#1/nvram#1"];
    kind("efi".into(), vec![set("firmware", number("Firmware", "EFI"))], &firmware);
    kind("bios".into(), vec![set("firmware", number("Firmware", "BIOS"))], &firmware);
    let disk = part(
        "Disk",
        &[
            ("id", Value::str("vdz")),
            ("bus", number("Bus", "BUS_VIRTIO")),
            ("path", Value::str("/new & old.img")),
            ("format", number("DiskFormat", "QCOW2")),
            ("serial", Value::str("X1")),
        ],
    );
    kind(
        "add disk".into(),
        vec![Change::Add { field: slot("Vm", "disks"), item: disk }],
        &["devices#1/disk[vdz]#1"],
    );
    let cdrom = part("Cdrom", &[("id", Value::str("sdz")), ("bus", number("Bus", "BUS_SATA"))]);
    kind(
        "add cdrom".into(),
        vec![Change::Add { field: slot("Vm", "cdroms"), item: cdrom }],
        &["devices#1/disk[sdz]#1"],
    );
    let nic = part(
        "Nic",
        &[
            ("id", Value::str("52:54:00:ff:ff:01")),
            ("backing", Value::str("bridge")),
            ("bridge", Value::str("br9")),
            ("model", number("NicModel", "NIC_E1000E")),
            ("connected", Value::Bool(false)),
        ],
    );
    kind(
        "add nic".into(),
        vec![Change::Add { field: slot("Vm", "nics"), item: nic }],
        &["devices#1/interface[52:54:00:ff:ff:01]#1"],
    );
    let scsi = part(
        "Controller",
        &[
            ("id", Value::str("scsi9")),
            ("bus", number("Bus", "BUS_SCSI")),
            ("index", Value::Int(9)),
            ("model", Value::str("virtio-scsi")),
        ],
    );
    kind(
        "add controller".into(),
        vec![Change::Add { field: slot("Vm", "controllers"), item: scsi }],
        &["devices#1/controller"],
    );
    let vnc = part(
        "Graphics",
        &[("kind", Value::str("vnc")), ("listen", Value::str("127.0.0.1")), ("port", Value::Int(5910))],
    );
    kind(
        "add display".into(),
        vec![Change::Add { field: slot("Vm", "graphics"), item: vnc }],
        &["devices#1/graphics"],
    );
    for id in ids(record, "disks", "Disk").iter().take(3) {
        let may = format!("devices#1/disk[{id}]#1");
        let mut disk = |name: &str, fields: &[(&str, Value)], inside: &[&str]| {
            let inside: Vec<String> = inside.iter().map(|i| format!("{may}/{i}")).collect();
            let inside: Vec<&str> = inside.iter().map(String::as_str).collect();
            kind(format!("disk {id} {name}"), vec![edit("disks", "Disk", id, fields)], &inside);
        };
        disk("path", &[("path", Value::str("/else/where.img"))], &["source#1"]);
        disk("sata", &[("bus", number("Bus", "BUS_SATA"))], &["target#1/@bus", "address#1"]);
        disk("format", &[("format", number("DiskFormat", "VMDK"))], &["driver#1"]);
        disk("cache", &[("cache", Value::str("none"))], &["driver#1"]);
        disk("read only", &[("read_only", Value::Bool(true))], &["readonly#1"]);
        disk("shareable", &[("shareable", Value::Bool(true))], &["shareable#1"]);
        disk("serial", &[("serial", Value::str("S-1"))], &["serial#1"]);
        disk(
            "block",
            &[("backing", Value::str("block")), ("path", Value::str("/dev/sdq"))],
            &["source#1", "@type"],
        );
        disk(
            "volume",
            &[("backing", Value::str("volume")), ("pool", Value::str("p")), ("volume", Value::str("v"))],
            &["source#1", "@type"],
        );
        kind(
            format!("disk {id} first"),
            vec![edit("disks", "Disk", id, &[("boot_index", Value::Int(1))])],
            &["os#1/boot", &format!("{may}/boot#1")],
        );
        let gone = Change::Remove { field: slot("Vm", "disks"), key: Arc::from(id.as_str()) };
        kind(format!("disk {id} removed"), vec![gone], &[&may]);
    }
    for id in ids(record, "cdroms", "Cdrom").iter().take(2) {
        let may = format!("devices#1/disk[{id}]#1/source#1");
        kind(
            format!("cdrom {id} eject"),
            vec![edit("cdroms", "Cdrom", id, &[("path", Value::Absent)])],
            &[&may],
        );
        let iso = ("path", Value::str("/iso/other.iso"));
        kind(format!("cdrom {id} insert"), vec![edit("cdroms", "Cdrom", id, &[iso])], &[&may]);
    }
    for id in ids(record, "nics", "Nic").iter().take(3) {
        let may = format!("devices#1/interface[{}]#1", id.split('#').next().unwrap());
        let up = ("connected", Value::Bool(true));
        let down = ("connected", Value::Bool(false));
        kind(format!("nic {id} up"), vec![edit("nics", "Nic", id, &[up])], &[&format!("{may}/link#1")]);
        kind(format!("nic {id} down"), vec![edit("nics", "Nic", id, &[down])], &[&format!("{may}/link#1")]);
        let other = ("network", Value::str("other"));
        kind(
            format!("nic {id} network"),
            vec![edit("nics", "Nic", id, &[other])],
            &[&format!("{may}/source#1/@network"), &format!("{may}/source#1")],
        );
        let model = ("model", number("NicModel", "NIC_RTL8139"));
        kind(
            format!("nic {id} model"),
            vec![edit("nics", "Nic", id, &[model])],
            &[&format!("{may}/model#1"), &format!("{may}/address#1")],
        );
        let bridge = [("backing", Value::str("bridge")), ("bridge", Value::str("br7"))];
        kind(
            format!("nic {id} bridge"),
            vec![edit("nics", "Nic", id, &bridge)],
            &[&format!("{may}/source#1"), &format!("{may}/@type")],
        );
        let gone = Change::Remove { field: slot("Vm", "nics"), key: Arc::from(id.as_str()) };
        kind(format!("nic {id} removed"), vec![gone], &[&may]);
    }
    if !record.get(slot("Vm", "graphics")).is_absent() {
        let may = ["devices#1/graphics#1"];
        let mut one = record.get(slot("Vm", "graphics")).items().to_vec();
        let mut first = Record::clone(one[0].as_record().unwrap());
        first.set(slot("Graphics", "port"), Value::Int(5933));
        first.set(slot("Graphics", "listen"), Value::str("::1"));
        one[0] = Value::record(first);
        kind("display moved".into(), vec![set("graphics", Value::list(one))], &may);
        kind("display removed".into(), vec![set("graphics", Value::Absent)], &may);
    }
    all
}

/// Whether a canonical line is one that the change may touch.
pub fn allowed(line: &str, may: &[String]) -> bool {
    let fits = |pattern: &String| match pattern.split_once('*') {
        None => line.starts_with(pattern.as_str()),
        Some((head, tail)) => line
            .strip_prefix(head)
            .and_then(|rest| rest.split_once(']'))
            .is_some_and(|(_, rest)| tail.strip_prefix(']').is_some_and(|tail| rest.starts_with(tail))),
    };
    may.iter().any(fits)
}

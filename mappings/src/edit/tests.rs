//! The edit mechanism on small documents: what is written where, and what is refused.

use super::*;
use union::Schema;

mod lenses;
mod loading;

const ROWS: &str = include_str!("../../libvirt/domain.toml");
const NAMES: &str = include_str!("../../libvirt/domain.names");

fn map() -> DocumentMap {
    let files = [Source { name: "domain.toml", text: ROWS }, Source { name: "domain.names", text: NAMES }];
    match DocumentMap::load(&files, &Schema::base()) {
        Ok(map) => map,
        Err(found) => panic!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn slot(message: &str, field: &str) -> Slot {
    Schema::base().message(message).unwrap().field(field).unwrap().slot
}

fn number(enumeration: &str, name: &str) -> Value {
    Value::Int(Schema::base().enumeration(enumeration).unwrap().number(name).unwrap())
}

fn part(message: &str, fields: &[(&str, Value)]) -> Record {
    let mut record = Schema::base().message(message).unwrap().record();
    fields.iter().for_each(|(name, value)| record.set(slot(message, name), value.clone()));
    record
}

fn set(field: &str, value: impl Into<Value>) -> Change {
    Change::Set { field: slot("Vm", field), value: value.into() }
}

fn edit(list: &str, message: &str, key: &str, fields: &[(&str, Value)]) -> Change {
    let set = fields.iter().map(|(name, value)| (slot(message, name), value.clone())).collect();
    Change::Edit { field: slot("Vm", list), key: Arc::from(key), set }
}

const SMALL: &str = "<domain type='kvm'>
  <name>web01</name>
  <memory unit='GiB'>2</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <boot dev='hd'/>
  </os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/a.img'/>
      <target dev='vda' bus='virtio'/>
      <address type='pci' slot='0x04'/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='/a.iso'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
    <graphics type='vnc' port='5901' passwd='geheim'/>
  </devices>
</domain>
";

#[track_caller]
fn patched(text: &str, changes: &[Change], lines: &[&str]) {
    let put = map().patch(text, changes).unwrap();
    let diff = similar::TextDiff::from_lines(text, &put.text);
    let found: Vec<String> = diff
        .iter_all_changes()
        .filter(|change| change.tag() != similar::ChangeTag::Equal)
        .map(|change| format!("{}{}", change.tag(), change.value().trim_end_matches(['\n', '\r'])))
        .collect();
    assert_eq!(found, lines);
}

#[test]
fn memory_is_two_lines() {
    patched(
        SMALL,
        &[set("memory_bytes", 4i64 << 30)],
        &[
            "-  <memory unit='GiB'>2</memory>",
            "-  <currentMemory unit='KiB'>2097152</currentMemory>",
            "+  <memory unit='GiB'>4</memory>",
            "+  <currentMemory unit='KiB'>4194304</currentMemory>",
        ],
    );
}

#[test]
fn a_unit_changes_only_where_it_must() {
    patched(
        SMALL,
        &[set("memory_bytes", 2049i64 << 20), set("memory_current_bytes", 1i64 << 30)],
        &[
            "-  <memory unit='GiB'>2</memory>",
            "-  <currentMemory unit='KiB'>2097152</currentMemory>",
            "+  <memory unit='KiB'>2098176</memory>",
            "+  <currentMemory unit='KiB'>1048576</currentMemory>",
        ],
    );
    let refusal = map().patch(SMALL, &[set("memory_bytes", 3_000_000i64)]).unwrap_err();
    assert_eq!(refusal, Refusal::Form { row: "memory".into(), misfit: Misfit::NotWhole(1024) });
}

#[test]
fn a_new_element_stands_where_the_formatter_would_put_it() {
    patched(
        SMALL,
        &[set("title", "A & B"), set("acpi", true)],
        &["+  <title>A &amp; B</title>", "+  <features>", "+    <acpi/>", "+  </features>"],
    );
}

#[test]
fn a_new_disk_is_lines_of_its_own() {
    let disk = part(
        "Disk",
        &[
            ("id", Value::str("vdb")),
            ("bus", number("Bus", "BUS_VIRTIO")),
            ("format", number("DiskFormat", "QCOW2")),
            ("path", Value::str("/b's.img")),
        ],
    );
    patched(
        SMALL,
        &[Change::Add { field: slot("Vm", "disks"), item: disk }],
        &[
            "+    <disk type='file' device='disk'>",
            "+      <driver name='qemu' type='qcow2'/>",
            "+      <source file='/b&apos;s.img'/>",
            "+      <target dev='vdb' bus='virtio'/>",
            "+    </disk>",
        ],
    );
}

#[test]
fn a_change_of_bus_drops_the_address() {
    patched(
        SMALL,
        &[edit("disks", "Disk", "vda", &[("bus", number("Bus", "BUS_SATA"))])],
        &[
            "-      <target dev='vda' bus='virtio'/>",
            "-      <address type='pci' slot='0x04'/>",
            "+      <target dev='vda' bus='sata'/>",
        ],
    );
}

#[test]
fn a_change_of_kind_rebuilds_the_source() {
    let volume = [("backing", Value::str("volume")), ("pool", Value::str("p")), ("volume", Value::str("v"))];
    patched(
        SMALL,
        &[edit("disks", "Disk", "vda", &volume)],
        &[
            "-    <disk type='file' device='disk'>",
            "+    <disk type='volume' device='disk'>",
            "-      <source file='/a.img'/>",
            "+      <source pool='p' volume='v'/>",
        ],
    );
}

#[test]
fn an_ejected_disc_leaves_the_drive() {
    patched(
        SMALL,
        &[edit("cdroms", "Cdrom", "sda", &[("path", Value::Absent)])],
        &["-      <source file='/a.iso'/>", "+      <source/>"],
    );
}

#[test]
fn boot_orders_take_the_place_of_the_boot_list() {
    patched(
        SMALL,
        &[edit("disks", "Disk", "vda", &[("boot_index", Value::Int(1))])],
        &["-    <boot dev='hd'/>", "+      <boot order='1'/>"],
    );
    let both = [
        edit("disks", "Disk", "vda", &[("boot_index", Value::Int(1))]),
        set("boot", Value::list([number("BootDevice", "BOOT_CDROM")])),
    ];
    assert!(matches!(map().patch(SMALL, &both), Err(Refusal::Exclusive { .. })));
}

#[test]
fn cores_create_the_topology_and_keep_its_product() {
    patched(
        SMALL,
        &[set("cpu_count", 8i32), set("cores_per_socket", 4i32)],
        &[
            "-  <vcpu>2</vcpu>",
            "+  <vcpu>8</vcpu>",
            "+  <cpu>",
            "+    <topology sockets='2' dies='1' cores='4' threads='1'/>",
            "+  </cpu>",
        ],
    );
    let odd = [set("cpu_count", 7i32), set("cores_per_socket", 4i32)];
    assert!(matches!(map().patch(SMALL, &odd), Err(Refusal::NotWhole { .. })));
}

#[test]
fn crlf_and_one_line_documents_keep_their_form() {
    let crlf = SMALL.replace('\n', "\r\n");
    let put = map().patch(&crlf, &[set("title", "T")]).unwrap();
    assert!(put.text.contains("</name>\r\n  <title>T</title>\r\n"), "{}", put.text);
    let line: String = SMALL.lines().map(str::trim).collect();
    let put = map().patch(&line, &[set("title", "T")]).unwrap();
    assert!(put.text.contains("</name><title>T</title><memory"), "{}", put.text);
    assert!(!put.text.contains('\n'));
}

#[test]
fn refuses_what_the_document_may_not_say() {
    let map = map();
    let refusal = |change: Change| map.patch(SMALL, &[change]).unwrap_err();
    assert_eq!(
        refusal(set("name", "new")),
        Refusal::Elsewhere { field: "name".into(), call: "DomainRename".into() }
    );
    assert_eq!(
        refusal(set("uuid", "00000000-0000-0000-0000-000000000001")),
        Refusal::ReadOnly { field: "uuid".into() }
    );
    assert_eq!(refusal(set("power_state", 1i32)), Refusal::ReadOnly { field: "power_state".into() });
    assert_eq!(refusal(set("memory_bytes", Value::Absent)), Refusal::Required { row: "memory".into() });
    assert_eq!(refusal(set("title", "a\u{0}b")), Refusal::Character { row: "title".into() });
    assert_eq!(
        refusal(set("cpu_current", 9i32)),
        Refusal::AtMost { field: "cpu_current".into(), limit: "cpu_count".into() }
    );
    let taken = part("Disk", &[("id", Value::str("sda"))]);
    let key = Refusal::KeyTaken { row: "devices/disk[@device='disk']".into(), key: "sda".into() };
    assert_eq!(refusal(Change::Add { field: slot("Vm", "disks"), item: taken }), key);
    let gone = Change::Remove { field: slot("Vm", "disks"), key: Arc::from("vdx") };
    assert_eq!(refusal(gone), Refusal::NoItem { field: "disks".into(), key: "vdx".into() });
    let unnamed = Change::Add { field: slot("Vm", "disks"), item: part("Disk", &[]) };
    assert!(matches!(refusal(unnamed), Refusal::NoKey { .. }));
    let other = edit("disks", "Disk", "vda", &[("backing", Value::str("network"))]);
    assert!(matches!(refusal(other), Refusal::NoPlace { .. } | Refusal::NoCase { .. }));
    let wide = set("cpu_count", 1i64 << 40);
    assert!(matches!(refusal(wide), Refusal::Form { misfit: Misfit::Range, .. }));
}

#[test]
fn a_text_with_a_comment_is_left_alone() {
    let text = "<domain><name>a</name><description>one<!-- two --></description><memory>1024</memory><vcpu>1</vcpu></domain>";
    let map = map();
    assert_eq!(
        map.patch(text, &[set("description", "x")]),
        Err(Refusal::Mixed { row: "description".into() })
    );
    assert!(map.patch(text, &[set("cpu_count", 2i32)]).is_ok());
}

#[test]
fn a_key_freed_in_the_same_put_may_be_taken() {
    let gone = Change::Remove { field: slot("Vm", "cdroms"), key: Arc::from("sda") };
    let item = part(
        "Disk",
        &[("id", Value::str("sda")), ("bus", number("Bus", "BUS_SATA")), ("path", Value::str("/s.img"))],
    );
    let put = map().patch(SMALL, &[gone, Change::Add { field: slot("Vm", "disks"), item }]).unwrap();
    assert!(!put.text.contains("cdrom") && put.text.contains("/s.img"));
}

#[test]
fn gaps_name_the_place_and_leave_the_rest() {
    let text = "<domain><name>a</name><memory unit='furlong'>1</memory><vcpu>two</vcpu><vcpu>2</vcpu><on_crash>explode</on_crash>
        <devices><disk device='disk'><target dev='vda' bus='warp'/></disk><disk><target dev='vda'/></disk></devices></domain>";
    let map = map();
    let got = map.get(&Tree::parse(text).unwrap());
    let gaps: Vec<String> =
        got.gaps.iter().map(|gap| format!("{} {:?}: {}", gap.path, gap.value, gap.why)).collect();
    let disk = "devices/disk[@device='disk']";
    assert_eq!(
        gaps,
        [
            "memory \"1\": an unknown unit".to_owned(),
            "vcpu \"\": the element is there more than once".to_owned(),
            "vcpu/@current \"\": the element is there more than once".to_owned(),
            "on_crash \"explode\": not one of the known words".to_owned(),
            format!("{disk} \"vda\": the key is absent or not the only one; the item cannot be edited"),
            format!("{disk} vda: target/@bus \"warp\": not one of the known words"),
            format!("{disk} \"vda#2\": the key is absent or not the only one; the item cannot be edited"),
        ]
    );
    assert_eq!(got.record.get(slot("Vm", "name")).as_str(), Some("a"));
    assert_eq!(map.put(text, &got.record).unwrap().text, text);
    let renamed = map.patch(text, &[set("on_crash", number("LifecycleAction", "LIFECYCLE_STOP"))]).unwrap();
    assert!(renamed.text.contains("<on_crash>destroy</on_crash>"));
}

#[test]
fn a_new_document_comes_from_the_fragment() {
    let map = map();
    let mut want = part(
        "Vm",
        &[
            ("name", Value::str("new")),
            ("uuid", Value::str("6ba7b811-9dad-11d1-80b4-00c04fd430c8")),
            ("accelerator", Value::str("qemu")),
            ("memory_bytes", Value::Int(1 << 30)),
            ("cpu_count", Value::Int(4)),
            ("firmware", number("Firmware", "EFI")),
        ],
    );
    let disk = part(
        "Disk",
        &[("id", Value::str("vda")), ("bus", number("Bus", "BUS_VIRTIO")), ("path", Value::str("/n.img"))],
    );
    want.set(slot("Vm", "disks"), Value::list([Value::record(disk)]));
    let text = map.create(&want).unwrap();
    let got = map.get(&Tree::parse(&text).unwrap());
    assert_eq!(got.gaps, []);
    for field in ["name", "uuid", "accelerator", "memory_bytes", "cpu_count", "firmware"] {
        assert_eq!(got.record.get(slot("Vm", field)), want.get(slot("Vm", field)), "{field}");
    }
    assert!(
        text.contains("<os firmware='efi'>") && text.contains("<target dev='vda' bus='virtio'/>"),
        "{text}"
    );
}

#[test]
fn a_small_new_document_has_no_more_memory_now_than_at_all() {
    let map = map();
    let want = part(
        "Vm",
        &[("name", Value::str("s")), ("memory_bytes", Value::Int(128 << 20)), ("cpu_count", Value::Int(1))],
    );
    let text = map.create(&want).unwrap();
    let got = map.get(&Tree::parse(&text).unwrap()).record;
    assert_eq!(got.get(slot("Vm", "memory_current_bytes")), &Value::Int(128 << 20));
    assert!(!text.contains("currentMemory"), "{text}");
}

#[test]
fn half_of_a_long_list_goes_at_once() {
    let disk = |n: usize| format!("<disk><target dev='d{n}'/><source file='/{n}'/></disk>");
    let disks: String = (0..5_000).map(disk).collect();
    let text = format!("<domain><name>a</name><devices>{disks}</devices></domain>");
    let map = map();
    let mut want = map.get(&Tree::parse(&text).unwrap()).record;
    let half = want.get(slot("Vm", "disks")).items().iter().step_by(2).cloned().collect::<Vec<_>>();
    want.set(slot("Vm", "disks"), Value::list(half));
    let put = map.put(&text, &want).unwrap();
    assert_eq!(put.edits.len(), 2_500);
    assert_eq!(put.settled.get(slot("Vm", "disks")).items().len(), 2_500);
}

#[test]
fn people_see_rows_and_no_secrets() {
    let map = map();
    let changes =
        [set("memory_bytes", 4i64 << 30), edit("cdroms", "Cdrom", "sda", &[("path", Value::Absent)])];
    let put = map.patch(SMALL, &changes).unwrap();
    assert!(put.text.contains("geheim"));
    let shown = map.explain_put(SMALL, &put).unwrap();
    assert!(shown.contains("@@ memory; currentMemory\n"), "{shown}");
    assert!(shown.contains("@@ devices/disk[@device='cdrom'] sda: source/@file\n"), "{shown}");
    assert!(shown.contains("-      <source file='/a.iso'/>\n+      <source/>\n"), "{shown}");
    assert!(!shown.contains("geheim"), "{shown}");
    assert!(map.redact(&put.text).unwrap().contains("passwd='***'"));
}

#[test]
fn one_device_can_be_cut_out() {
    let map = map();
    let tree = Tree::parse(SMALL).unwrap();
    let disk = map.item(&tree, slot("Vm", "disks"), "vda").unwrap();
    assert!(disk.starts_with("<disk type='file' device='disk'>") && disk.ends_with("</disk>"));
    assert_eq!(map.item(&tree, slot("Vm", "disks"), "vdb"), None);
}

#[test]
fn a_document_of_another_kind_is_refused() {
    let refusal = map().put("<network/>", &part("Vm", &[])).unwrap_err();
    assert_eq!(refusal.to_string(), "the document is a <network>, not a <domain>");
}

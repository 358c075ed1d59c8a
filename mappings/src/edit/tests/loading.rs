//! What the loader says of a wrong row file: everything, each with its place.

use crate::edit::{DocumentMap, Source};
use union::Schema;

const HEAD: &str = "[document]\ncodec = \"xml\"\nroot = \"domain\"\n";

fn load(rest: &str) -> Vec<String> {
    let text = format!("{HEAD}{rest}");
    let names = "domain: @type name memory vcpu devices os\ndevices: disk interface\ndisk: @device @type target\ntarget: @dev @bus\nmemory: @unit\nvcpu: @current\n";
    let files = [Source { name: "rows.toml", text: &text }, Source { name: "rows.names", text: names }];
    let found = DocumentMap::load(&files, &Schema::base()).err().unwrap_or_default();
    found
        .iter()
        .map(|d| {
            format!(
                "{}:{} {}{}",
                d.line,
                d.column,
                d.message,
                d.help.as_ref().map_or(String::new(), |h| format!("; {h}"))
            )
        })
        .collect()
}

#[test]
fn everything_is_said_at_once() {
    let found = load(
        r#"[object.domain]
union = "Vm"
colour = "red"
[object.domain.rows]
"nane" = "name"
"name" = "nmae"
"memory" = "memory_bytes | unnit KiB"
"vcpu" = "cpu_count"
"vcpu/@curent" = "cpu_current | int"
"devices/disk" = { list = "disks", like = "disk" }
[object.disk]
union = "Nic"
"#,
    );
    assert_eq!(
        found,
        [
            "6:1 key `colour` is not known",
            "8:1 in <domain> the element `nane` is not known; did you mean `name`?",
            "9:10 field of union message Vm `nmae` is not known; did you mean `name`?",
            "10:12 lens `unnit` is not known; did you mean `unit`?",
            "10:12 the row gives text, but the field holds a whole number; add `| int`, `| unit KiB` or another lens for numbers",
            "11:10 the row gives text, but the field holds a whole number; add `| int`, `| unit KiB` or another lens for numbers",
            "12:1 in <vcpu> the attribute `@curent` is not known; did you mean `@current`?",
            "13:18 a list needs `key = \"path\"` or `by = \"position\"`",
            "14:1 the list holds `Disk`, not `Nic`",
        ]
    );
}

#[test]
fn writers_are_single() {
    let found = load(
        r#"[object.domain]
union = "Vm"
[object.domain.rows]
"name" = ["name", "title"]
"memory" = "name"
"devices/disk" = { list = "disks", key = "target/@dev", like = "disk" }
"devices/disk[@device='cdrom']" = { list = "cdroms", key = "target/@dev", like = "disc" }
[object.disk]
[object.disk.rows]
"target/@bus" = "bus | enum bus"
[object.disc]
[enum.bus]
rows = [["a", "BUS_IDE"], ["b", "BUS_IDE"], ["c", "BUS_SCISI"]]
[enum.idle]
rows = []
"#,
    );
    let all = found.join("\n");
    for expected in [
        "`name` is written by name and memory",
        "name is written by name and title",
        "lists devices/disk and devices/disk[@device='cdrom'] can hold the same element",
        "two rows write `BUS_IDE`",
        "value of Bus `BUS_SCISI` is not known; did you mean `BUS_SCSI`?",
        "no row uses `idle`",
    ] {
        assert!(all.contains(expected), "{expected}\n--\n{all}");
    }
}

#[test]
fn broken_toml_has_a_place() {
    let found = load("[object.domain\nunion = \"Vm\"\n");
    assert!(found.iter().any(|line| line.starts_with("4:")), "{found:?}");
    assert_eq!(DocumentMap::load(&[], &Schema::base()).err().map(|found| found.len()), Some(1));
}

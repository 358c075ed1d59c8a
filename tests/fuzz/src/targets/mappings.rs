//! Mapping files, and the property paths that clients send.

use crate::{runner::Target, targets::text};
use mapping::{Bundle, Protocol, VersionIndex};
use std::{
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};

/// The vSphere mapping of the tree.
static VSPHERE: LazyLock<Arc<Protocol>> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mappings");
    let bundle =
        Bundle::load(&dir).unwrap_or_else(|report| panic!("the mappings in the tree are good:\n{report}"));
    Arc::clone(bundle.protocol("vsphere").expect("the tree has vSphere's"))
});

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

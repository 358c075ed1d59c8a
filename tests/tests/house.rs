//! The dependency rule of ARCHITECTURE.md, over `cargo metadata`, and the shape every protocol crate shares.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use serde_json::Value;
use std::{collections::BTreeMap, path::Path, process::Command};

/// What each room may use. A room that is not here is an error: say first what it may use.
const RULE: &[(&str, &[&str])] = &[
    ("union", &[]),
    ("wire", &[]),
    ("mapping", &["union"]),
    ("bus", &["union"]),
    ("inventory", &["union"]),
    ("guard", &["union"]),
    ("store", &["union"]),
    ("engine", &["union", "mapping", "inventory", "store", "bus", "guard"]),
    ("link", &["union", "mapping", "inventory", "store", "bus", "guard", "lane"]),
    ("lane", &["union", "mapping", "inventory", "bus", "store", "guard"]),
    ("front", &["wire", "union", "guard", "bus"]),
    ("vsphere", PROTOCOL),
    ("libvirt", PROTOCOL),
    ("sim", PROTOCOL),
    ("hyperglot", ALL),
    ("tests", &[]),
    ("fuzz", ALL),
    ("benches", ALL),
    ("simulation", &["union", "mapping", "inventory", "store", "guard", "lane", "link", "engine", "sim"]),
];
const PROTOCOL: &[&str] = &["front", "wire", "mapping", "inventory", "bus", "lane", "union", "guard"];
const ALL: &[&str] = &[
    "union",
    "wire",
    "mapping",
    "bus",
    "inventory",
    "guard",
    "store",
    "engine",
    "link",
    "lane",
    "front",
    "vsphere",
    "libvirt",
    "sim",
];
/// Every protocol crate has these files; one that has no use for one says why in it.
const FILES: &[&str] = &[
    "lib.rs",
    "front.rs",
    "target.rs",
    "session.rs",
    "native.rs",
    "fault.rs",
    "inventory.rs",
    "task.rs",
    "tests.rs",
];

fn ours() -> BTreeMap<String, Vec<String>> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(tests::top())
        .output()
        .expect("cargo metadata runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: Vec<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    packages
        .iter()
        .map(|p| {
            let uses = p["dependencies"].as_array().unwrap().iter();
            let uses = uses.filter(|d| d["kind"].is_null()).map(|d| d["name"].as_str().unwrap());
            (
                p["name"].as_str().unwrap().to_owned(),
                uses.filter(|d| names.contains(d)).map(str::to_owned).collect(),
            )
        })
        .collect()
}

#[test]
fn each_room_uses_only_what_it_may() {
    let rule: BTreeMap<&str, &[&str]> = RULE.iter().copied().collect();
    for (room, uses) in ours() {
        let may = rule.get(room.as_str()).unwrap_or_else(|| panic!("room `{room}` is not in the rule"));
        for used in uses {
            assert!(may.contains(&used.as_str()), "`{room}` may not use `{used}`; it may use {may:?}");
        }
    }
}

#[test]
fn every_protocol_crate_has_the_same_files() {
    for (room, uses) in RULE.iter().filter(|(_, uses)| *uses == PROTOCOL) {
        assert!(uses.contains(&"lane"));
        for file in FILES {
            let path = tests::top().join("agents").join(room).join("src").join(file);
            assert!(path.is_file(), "{} is missing", path.display());
        }
    }
}

fn sources(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let mut found = Vec::new();
    for dir in ["proto", "mappings", "agents", "broker", "tests", "benches"] {
        sources(&tests::top().join(dir), &mut found);
    }
    assert!(found.len() > 50);
    for path in found {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines: split it", path.display());
    }
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate() {
    for (room, _) in RULE {
        let home = ["proto", "mappings", "tests", "benches"].map(str::to_owned).into_iter();
        let home = home.chain(["agents", "broker", "tests"].map(|d| format!("{d}/{room}")));
        let home = home.map(|d| tests::top().join(d)).find(|d| {
            std::fs::read_to_string(d.join("Cargo.toml"))
                .is_ok_and(|t| t.contains(&format!("name = \"{room}\"")))
        });
        let src = home.unwrap_or_else(|| panic!("no crate called {room}")).join("src");
        let root = ["lib.rs", "main.rs"].map(|f| src.join(f)).into_iter().find(|f| f.is_file()).unwrap();
        let text = std::fs::read_to_string(&root).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{}", root.display());
    }
}

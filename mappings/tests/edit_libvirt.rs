//! Edited documents given to libvirt itself: what it says of the domain before and after differs by the edit alone.
#![cfg(test)]

#[path = "edit/canon.rs"]
mod canon;
#[path = "edit/changes.rs"]
mod changes;
#[path = "edit/corpus.rs"]
mod corpus;
#[path = "edit/daemon.rs"]
mod daemon;

use changes::{allowed, kinds};
use corpus::{documents, map, slot};
use daemon::Daemon;
use mapping::edit::{Refusal, Tree};
use std::collections::BTreeMap;
use union::{Record, Value};

/// What libvirt does by itself beside a change, as a word of the change's name and the beginning of canonical paths: controllers and
/// boot orders for new devices, a video card for a display, pins only of processors that are left.
const BESIDE: [(&str, &str); 11] = [
    ("add", "/domain#1/devices#1/controller"),
    ("add", "/domain#1/os#1/boot"),
    ("add display", "/domain#1/devices#1/video"),
    ("add display", "/domain#1/devices#1/audio"),
    ("boot", "/domain#1/os#1/boot"),
    ("removed", "/domain#1/os#1/boot"),
    ("removed", "/domain#1/devices#1/controller"),
    ("sata", "/domain#1/devices#1/controller"),
    ("bridge", "/domain#1/devices#1/controller"),
    ("model", "/domain#1/devices#1/controller"),
    ("one cpu", "/domain#1/cputune#1/vcpupin"),
];

fn get(text: &str) -> Record {
    map().get(&Tree::parse(text).unwrap()).record
}

fn name_of(text: &str) -> String {
    get(text).get(slot("Vm", "name")).as_str().unwrap().to_owned()
}

/// The fields of two records that differ, lists and what libvirt allocates aside.
fn differ(want: &Record, got: &Record) -> Vec<String> {
    let fields = corpus::message("Vm").fields;
    let plain = fields.iter().filter(|f| !f.repeated && f.name != "machine" && f.name != "video");
    plain.filter(|f| want.get(f.slot) != got.get(f.slot)).map(|f| f.name.clone()).collect()
}

fn ids(record: &Record, list: &str, message: &str) -> Vec<String> {
    let items = record.get(slot("Vm", list)).items().iter().filter_map(Value::as_record);
    let mut ids: Vec<String> =
        items.map(|item| item.get(slot(message, "id")).as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn libvirt_sees_the_edit_and_nothing_else() {
    let daemon = Daemon::start();
    let (mut accepted, mut refused, mut wrong) = (0, BTreeMap::new(), Vec::new());
    for (number, document) in documents().iter().filter(|d| d.name.starts_with("libvirt/")).enumerate() {
        let name = name_of(&document.text);
        let before =
            daemon.define(&name, &document.text).unwrap_or_else(|error| panic!("{}: {error}", document.name));
        let old = get(&before);
        for (index, kind) in kinds(&old).iter().enumerate().filter(|(index, _)| (index + number) % 8 == 0) {
            let label = format!("{}: {} ({index})", document.name, kind.name);
            let put = match map().patch(&before, &kind.changes) {
                Ok(put) => put,
                Err(Refusal::Verify { field }) => panic!("{label}: {field}"),
                Err(_) => continue,
            };
            let after = match daemon.define(&name, &put.text) {
                Ok(after) => after,
                Err(error) => {
                    refused.insert(label, error.trim().to_owned());
                    continue;
                }
            };
            accepted += 1;
            let rest = |text: &str| -> Vec<String> {
                let beside = |line: &String| {
                    BESIDE.iter().any(|(word, path)| kind.name.contains(word) && line.starts_with(path))
                };
                canon::lines(text)
                    .into_iter()
                    .filter(|line| !allowed(line, &kind.may) && !beside(line))
                    .collect()
            };
            let (mut was, mut is) = (rest(&before), rest(&after));
            if kind.name.contains("sata") {
                // libvirt sorts disks by bus.
                was.sort();
                is.sort();
            }
            let first = was.iter().zip(&is).find(|(a, b)| a != b);
            if first.is_some() || was.len() != is.len() {
                wrong.push(format!("{label}: {first:?}, {} lines were {}", is.len(), was.len()));
            }
            let got = get(&after);
            let fields = differ(&put.settled, &got);
            if !fields.is_empty() {
                wrong.push(format!("{label}: {fields:?} read back otherwise"));
            }
            for (list, message) in [("disks", "Disk"), ("cdroms", "Cdrom"), ("nics", "Nic")] {
                let (want, have) = (ids(&put.settled, list, message), ids(&got, list, message));
                if want != have {
                    wrong.push(format!("{label}: {want:?} is {have:?}"));
                }
            }
            daemon.define(&name, &before).unwrap();
        }
        daemon.undefine(&name);
    }
    println!("{accepted} accepted, refused: {refused:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(accepted > 200 && refused.len() * 50 < accepted, "{accepted} accepted, refused: {refused:#?}");
}

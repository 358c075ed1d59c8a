//! The laws of the edit mechanism over the corpus of domain documents, with an oracle of its own: see `edit/canon.rs`.
#![cfg(test)]

#[path = "edit/canon.rs"]
mod canon;
#[path = "edit/changes.rs"]
mod changes;
#[path = "edit/corpus.rs"]
mod corpus;

use changes::{allowed, kinds};
use corpus::{documents, map};
use mapping::edit::{Change, DocumentMap, Put, Refusal, Tree};
use proptest::prelude::*;
use std::collections::BTreeMap;
use union::{Record, Value};

fn get(map: &DocumentMap, text: &str) -> Record {
    map.get(&Tree::parse(text).unwrap()).record
}

/// Every byte outside the edits stands in the new text, in the same order.
fn outside_stays(old: &str, put: &Put, name: &str) {
    let (mut from, mut at) = (0, 0);
    for edit in &put.edits {
        assert!(edit.span.start >= from, "{name}: edits out of order");
        let kept = old.get(from..edit.span.start).unwrap();
        assert_eq!(put.text.get(at..at + kept.len()), Some(kept), "{name}");
        at += kept.len();
        assert_eq!(put.text.get(at..at + edit.new.len()), Some(edit.new.as_str()), "{name}");
        at += edit.new.len();
        from = edit.span.end;
    }
    assert_eq!(put.text.get(at..), old.get(from..), "{name}");
}

#[test]
fn the_oracle_sees_what_it_should() {
    let documents = documents();
    let text = &documents.iter().find(|d| d.name == "libvirt/commandline.xml").unwrap().text;
    for (from, to) in
        [("-fw_cfg", "-fw_cfh"), ("<acpi/>", ""), ("<alias", "<!--x--><alias"), ("<qemu:env", "<qemu:arg")]
    {
        if text.contains(from) {
            assert_ne!(canon::lines(text), canon::lines(&text.replacen(from, to, 1)), "{from}");
        }
    }
    assert_eq!(canon::lines(text), canon::lines(&text.replace("\n    ", "\n\t")));
}

#[test]
fn putting_back_what_was_read_changes_no_byte() {
    let map = map();
    for document in documents() {
        let put = map.put(&document.text, &get(map, &document.text)).unwrap();
        assert_eq!(put.text, document.text, "{}", document.name);
        assert!(put.edits.is_empty(), "{}", document.name);
    }
}

#[test]
fn every_kind_of_change_reads_back_touches_its_own_and_is_undone() {
    let map = map();
    let (mut puts, mut undone) = (0, 0);
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for document in documents() {
        let old = get(map, &document.text);
        for kind in kinds(&old) {
            let name = format!("{}: {}", document.name, kind.name);
            let put = match map.patch(&document.text, &kind.changes) {
                Ok(put) => put,
                Err(refusal) => {
                    assert!(
                        !matches!(refusal, Refusal::Overlap { .. } | Refusal::Verify { .. }),
                        "{name}: {refusal}"
                    );
                    *refused.entry(format!("{}: {refusal}", kind.name)).or_default() += 1;
                    continue;
                }
            };
            puts += 1;
            outside_stays(&document.text, &put, &name);
            let new = get(map, &put.text);
            assert_eq!(new, put.settled, "{name}");
            for change in &kind.changes {
                if let Change::Set { field, value } = change
                    && !matches!(value, Value::List(_))
                {
                    let empty = value.as_str() == Some("") && new.get(*field).is_absent();
                    assert!(empty || new.get(*field) == value || value.is_absent(), "{name}");
                }
            }
            let rest = |text: &str| -> Vec<String> {
                canon::lines(text).into_iter().filter(|line| !allowed(line, &kind.may)).collect()
            };
            let (before, after) = (rest(&document.text), rest(&put.text));
            let first = before.iter().zip(&after).find(|(a, b)| a != b);
            assert!(first.is_none() && before.len() == after.len(), "{name}: {first:?}\n{:#?}", put.edits);
            if let Ok(back) = map.put(&put.text, &old) {
                undone += 1;
                assert_eq!(get(map, &back.text), back.settled, "{name}");
                outside_stays(&put.text, &back, &name);
            }
        }
    }
    let refusals: usize = refused.values().sum();
    let summary = format!("{puts} puts, {undone} undone, {refusals} refused: {refused:#?}");
    assert!(puts > 2_500 && undone * 10 > puts * 8 && refusals * 5 < puts, "{summary}");
    println!("{summary}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn combined_changes_read_back(pick in any::<prop::sample::Index>(), kinds_picked in prop::collection::vec(any::<prop::sample::Index>(), 1..6)) {
        let map = map();
        let documents = documents();
        let document = pick.get(documents);
        let old = get(map, &document.text);
        let kinds = kinds(&old);
        let mut changes: Vec<Change> = Vec::new();
        for index in kinds_picked {
            changes.extend(index.get(&kinds).changes.iter().cloned());
        }
        match map.patch(&document.text, &changes) {
            Ok(put) => {
                outside_stays(&document.text, &put, &document.name);
                prop_assert_eq!(get(map, &put.text), put.settled.clone());
                let again = map.put(&put.text, &put.settled).unwrap();
                prop_assert_eq!(again.text, put.text);
            }
            Err(refusal) => prop_assert!(!matches!(refusal, Refusal::Overlap { .. } | Refusal::Verify { .. }), "{}: {}", document.name, refusal),
        }
    }

    #[test]
    fn broken_documents_are_refused_or_read(pick in any::<prop::sample::Index>(), cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[<>/&;='\"a-c \\[\\]!?:-]{0,4}"), 1..4)) {
        let documents = documents();
        let mut text: Vec<char> = pick.get(documents).text.chars().collect();
        for (at, length, new) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        if let Ok(tree) = Tree::parse(&text) {
            let map = map();
            let got = map.get(&tree);
            // What we read, an independent parser reads too, with as many elements.
            let elements = canon::lines(&text).iter().filter(|line| is_element(line)).count();
            prop_assert_eq!(elements, tree.len());
            if tree.root_name() == "domain" {
                prop_assert_eq!(map.put(&text, &got.record).map(|put| put.text), Ok(text.clone()));
            }
        }
    }
}

/// A canonical line that names an element: no attribute, text, comment or instruction.
fn is_element(line: &str) -> bool {
    let path = line.split(" = ").next().unwrap_or("");
    !line.contains(" = ") && path.contains('#')
}

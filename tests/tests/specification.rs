//! SPECIFICATION.md names tests; each must exist.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::fs;

#[test]
fn every_test_it_names_exists() {
    let text = fs::read_to_string(tests::top().join("SPECIFICATION.md")).unwrap();
    let named: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|t| t.contains("::"))
        .filter(|t| !t.contains("file::function"))
        .collect();
    assert!(named.len() > 30);
    let mut missing = Vec::new();
    for name in named {
        let (file, function) = name.split_once("::").unwrap();
        let source = fs::read_to_string(tests::top().join(file)).unwrap_or_default();
        let forms = [
            format!("fn {function}("),
            format!("def {function}("),
            format!("({function},"),
            format!("{function} =>"),
        ];
        if !forms.iter().any(|form| source.contains(form)) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "these tests do not exist:\n{}", missing.join("\n"));
}

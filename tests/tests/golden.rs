//! Golden files: what is generated and kept in the tree, so that a change of it is seen and meant. `GOLDEN=write` writes them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::{env, fs};

fn golden(name: &str, now: &str) -> std::io::Result<()> {
    let path = tests::top().join("tests/golden").join(name);
    if env::var("GOLDEN").is_ok_and(|v| v == "write") {
        return fs::write(&path, now);
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let first = kept.lines().zip(now.lines()).find(|(a, b)| a != b);
    assert!(
        kept == now,
        "tests/golden/{name} is out of date, first at {first:?}; if the change is meant: GOLDEN=write cargo test -p tests --test golden"
    );
    Ok(())
}

#[test]
fn coverage() -> std::io::Result<()> {
    let dir = tests::top().join("mappings");
    let text = mapping::coverage(&dir).unwrap_or_else(|report| panic!("{report}"));
    golden("coverage.txt", &text)
}

//! The edit mechanism on small documents.

use super::*;
use union::Schema;

const ROWS: &str = include_str!("../../libvirt/domain.toml");

fn map() -> DocumentMap {
    match DocumentMap::load(&[Source { name: "domain.toml", text: ROWS }], &Schema::base()) {
        Ok(map) => map,
        Err(found) => panic!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

#[test]
fn the_rows_load() {
    map();
}

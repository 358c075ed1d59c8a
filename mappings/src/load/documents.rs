//! Document mappings of a folder: the row file whose table is `[document]`, with the names its native schema has.

use super::Folder;
use crate::{
    edit::{DocumentMap, Source},
    report::{Findings, Span},
};
use std::sync::Arc;
use union::Schema;

/// Whether a file maps a native document.
pub(crate) fn is_document(text: &str) -> bool {
    text.lines().any(|line| line.trim_end() == "[document]")
}

/// The folder's document mapping; what is wrong with it is added to the findings.
pub(crate) fn read(folder: &Folder, union: &Schema, findings: &mut Findings) -> Option<Arc<DocumentMap>> {
    let rows = folder.files.iter().find(|f| f.name.ends_with(".toml") && is_document(&f.text))?;
    let names = folder.files.iter().filter(|f| f.name.ends_with(".names"));
    let sources: Vec<Source<'_>> =
        std::iter::once(rows).chain(names).map(|f| Source { name: &f.name, text: &f.text }).collect();
    match DocumentMap::load(&sources, union) {
        Ok(map) => Some(Arc::new(map)),
        Err(wrong) => {
            for diagnostic in wrong {
                let in_rows = diagnostic.file == rows.name;
                let file = if in_rows {
                    rows
                } else {
                    folder.files.iter().find(|f| f.name == diagnostic.file).unwrap_or(rows)
                };
                let id = findings.file(&file.name, &file.text);
                let start = offset(&file.text, diagnostic.line, diagnostic.column);
                let span = Span { file: id, start, end: start + 1 };
                findings.error_help(span, diagnostic.message, diagnostic.help);
            }
            None
        }
    }
}

/// The byte at a line and a column, both from 1.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = text.get(before..).unwrap_or("");
    before + rest.char_indices().nth(column.saturating_sub(1)).map_or(0, |(at, _)| at)
}

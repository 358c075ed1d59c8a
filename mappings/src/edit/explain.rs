//! A put shown to people: the unified diff, each hunk with the rows that made it.

use super::{Put, model::DocumentMap, tree::ParseError};
use similar::{DiffTag, TextDiff};
use std::fmt::Write as _;

impl DocumentMap {
    /// A unified diff of what a put did to `old`, three lines of context, every hunk headed by its rows. Secrets are shown as `***`.
    ///
    /// # Errors
    /// `old` or the result cannot be read, so its secrets cannot be told from the rest.
    pub fn explain_put(&self, old: &str, put: &Put) -> Result<String, ParseError> {
        let (before, after) = (self.redact(old)?, self.redact(&put.text)?);
        let diff = TextDiff::from_lines(before.as_str(), after.as_str());
        let mut out = String::new();
        let line = |byte: usize| old.get(..byte).unwrap_or("").matches('\n').count();
        // Redaction keeps the number of lines unless a secret spans several; the rows are then those of the nearest hunk.
        let places: Vec<(usize, usize, &str)> =
            put.edits.iter().map(|e| (line(e.span.start), line(e.span.end), e.row.as_ref())).collect();
        for group in diff.grouped_ops(3) {
            let old_range =
                group.first().zip(group.last()).map(|(a, b)| a.old_range().start..b.old_range().end);
            let new_range =
                group.first().zip(group.last()).map(|(a, b)| a.new_range().start..b.new_range().end);
            let (old_range, new_range) = (old_range.unwrap_or_default(), new_range.unwrap_or_default());
            let mut rows: Vec<&str> = Vec::new();
            for (from, to, row) in &places {
                if *from < old_range.end.max(old_range.start + 1)
                    && *to >= old_range.start
                    && !rows.contains(row)
                {
                    rows.push(row);
                }
            }
            let head = |range: &std::ops::Range<usize>| format!("{},{}", range.start + 1, range.len());
            writeln!(out, "@@ -{} +{} @@ {}", head(&old_range), head(&new_range), rows.join("; ")).ok();
            for op in &group {
                for change in diff.iter_changes(op) {
                    let sign = match (op.tag(), change.tag()) {
                        (DiffTag::Equal, _) => ' ',
                        (_, similar::ChangeTag::Delete) => '-',
                        (_, similar::ChangeTag::Insert) => '+',
                        _ => ' ',
                    };
                    writeln!(out, "{sign}{}", change.value().trim_end_matches(['\r', '\n'])).ok();
                }
            }
        }
        Ok(out)
    }
}

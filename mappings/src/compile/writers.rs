//! One writer a union field; and the rows of a table for people.

use super::{Compiler, RowInfo};
use crate::{
    lens::{Class, split},
    render::{BodyId, NodeKind},
    table::{Dup, Form, RawRow},
};
use std::{collections::BTreeMap, sync::Arc};

/// The union field a row writes, as written.
pub(crate) fn writes(row: &RawRow) -> Option<String> {
    let Form::Field { text, dup: Dup::No, .. } = &row.form else { return None };
    let (field, _) = split(text);
    let other = field.contains("->") || field == "id" || field.starts_with("parent.");
    (!other).then_some(field)
}

impl Compiler<'_> {
    /// Reports union fields that two rows of a table write.
    pub(super) fn check_writers(&mut self, table: &str, rows: &[&RawRow]) {
        let mut writers: BTreeMap<String, &RawRow> = BTreeMap::new();
        for row in rows {
            let Some(field) = writes(row) else { continue };
            match writers.get(&field) {
                // Subtypes of one field exclude each other.
                Some(other) if other.path.contains(':') && row.path.contains(':') => {}
                Some(other) => {
                    let message = format!(
                        "{table}: the union field `{field}` is already written by the row `{}`",
                        other.path
                    );
                    let help = format!(
                        "show it here only: {{ to = \"...\", dup = \"view\" }} (`{}` stays)",
                        other.path
                    );
                    self.findings.error_help(row.span, message, Some(help));
                }
                None => {
                    writers.insert(field, row);
                }
            }
        }
    }

    /// Remembers the rows of a table, for people.
    pub(super) fn note_rows(&mut self, table: &Arc<str>, body: BodyId) {
        if self.rows.contains_key(table) {
            return;
        }
        let mut rows = Vec::new();
        let mut bodies = vec![body];
        while let Some(body) = bodies.pop() {
            for id in self.compiled.body(body).map_or(&[][..], |b| &b.children) {
                let Some(node) = self.compiled.node(*id) else { continue };
                if let NodeKind::Struct(variants) = &node.kind {
                    bodies.extend(variants.iter().map(|v| v.body));
                    continue;
                }
                let writes = (node.class < Class::RenderOnly).then(|| Arc::from(split(&node.row).0));
                rows.push(RowInfo {
                    path: node.path.clone(),
                    text: node.row.clone(),
                    at: node.at.clone(),
                    class: node.class,
                    writes,
                    node: *id,
                });
            }
        }
        rows.sort_by(|a, b| a.path.cmp(&b.path));
        self.rows.insert(table.clone(), rows);
    }
}

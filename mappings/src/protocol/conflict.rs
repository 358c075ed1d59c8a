//! `[conflict.RUNNING] ARRIVING = "..."`: what happens to a command that arrives while another runs on the same object. `Cancel` as the
//! arriving verb stands for a wish to cancel the running command: only `overtake` grants it.

use crate::{
    data::Table,
    report::{Findings, did_you_mean},
    schema::{NativeSchema, TypeKind},
    table::placed,
};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use union::Schema;

/// The fate of the arriving command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It waits its turn.
    Queue,
    /// It fails at once with this native fault.
    Refuse {
        /// The native fault's name.
        fault: Arc<str>,
    },
    /// The running command is given up for it.
    Overtake,
    /// The running command does what it asks: it shares the outcome.
    Satisfied,
}

/// The table; `*` stands for every verb.
#[derive(Debug, Default)]
pub(crate) struct ConflictTable {
    rows: FxHashMap<(Arc<str>, Arc<str>), Conflict>,
}

impl ConflictTable {
    pub fn get(&self, running: &str, arriving: &str) -> Conflict {
        let find = |r: &str, a: &str| {
            self.rows.iter().find(|((x, y), _)| &**x == r && &**y == a).map(|(_, c)| c.clone())
        };
        find(running, arriving)
            .or_else(|| find(running, "*"))
            .or_else(|| find("*", arriving))
            .or_else(|| find("*", "*"))
            .unwrap_or(Conflict::Queue)
    }

    /// Adds one `[conflict.RUNNING]`.
    pub fn read(
        &mut self,
        running: &Arc<str>,
        table: &Table,
        native: &NativeSchema,
        union: &Schema,
        findings: &mut Findings,
    ) {
        let verbs: Vec<&str> = union.commands().map(|c| c.name.as_str()).collect();
        let mut known = |verb: &str, span| {
            let found = matches!(verb, "*" | "Cancel") || verbs.contains(&verb);
            if !found {
                let help = did_you_mean(verb, verbs.iter().copied());
                findings.error_help(span, format!("the union has no command `{verb}`"), help);
            }
            found
        };
        let running_known = known(running, table.span);
        let arriving: Vec<_> = table.entries.iter().filter(|e| known(&e.key, e.key_span)).collect();
        for entry in arriving {
            let Some((text, span)) = placed(&entry.value, "a conflict", findings) else { continue };
            let conflict = match text.split_once(' ').map_or((&*text, ""), |(a, b)| (a, b.trim())) {
                ("queue", "") => Conflict::Queue,
                ("overtake", "") => Conflict::Overtake,
                ("satisfied", "") => Conflict::Satisfied,
                ("refuse", fault) => {
                    let is_fault = native.lookup(fault).is_some_and(|t| t.kind == TypeKind::Fault);
                    if !is_fault && native.types().next().is_some() {
                        let faults =
                            native.types().filter(|(_, t)| t.kind == TypeKind::Fault).map(|(_, t)| &*t.name);
                        let help = did_you_mean(fault, faults);
                        findings.error_help(span, format!("`{fault}` is not a native fault"), help);
                    }
                    Conflict::Refuse { fault: Arc::from(fault) }
                }
                _ => {
                    findings.error(span, "expected `queue`, `refuse FAULT`, `overtake` or `satisfied`");
                    continue;
                }
            };
            if running_known {
                self.rows.insert((running.clone(), entry.key.clone()), conflict);
            }
        }
    }
}

//! Tests as data: `cases/*.toml` of every protocol, and the laws of every row on samples.
//!
//! ```text
//! [[object]]   fields ─▶ shown properties; every row that writes gives its field back
//! [[command]]  native arguments ─▶ union command        [[guard]]  command + object ─▶ fault or none
//! [[effect]]   command + object ─▶ calls of the target
//! ```

use crate::{
    data::{Fields, Item, Node, Table, parse},
    load::{self, Bundle, Folder},
    protocol::Protocol,
    report::{Findings, Report},
    schema::VersionIndex,
};
use std::{fmt, path::Path, sync::Arc};

mod commands;
mod laws;
mod objects;
pub(crate) mod said;
mod world;

/// What came of all cases and laws.
#[derive(Debug, Default)]
pub struct TestReport {
    /// Cases that hold.
    pub cases: usize,
    /// Samples of rows for which the laws hold.
    pub samples: usize,
    /// Mapped types that no object case looks at, as `protocol type`.
    pub untested: Vec<String>,
    /// What does not hold.
    pub failures: Vec<Failure>,
    /// What the checker found in the mappings or the case files.
    pub report: Report,
}

/// One case or row that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `file:line`.
    pub at: String,
    /// The case's name, or the row.
    pub name: String,
    /// What was expected and what came, a difference a line.
    pub why: Vec<String>,
}

impl TestReport {
    /// Whether everything holds.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.report.is_good()
    }
}

impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.report.is_good() {
            writeln!(f, "{}", self.report)?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED {}", failure.name)?;
            writeln!(f, "  --> {}", failure.at)?;
            for line in &failure.why {
                writeln!(f, "   | {line}")?;
            }
        }
        if !self.untested.is_empty() {
            writeln!(f, "no case looks at: {}", self.untested.join(", "))?;
        }
        write!(
            f,
            "{} cases hold, {} samples of rows hold, {} failures",
            self.cases,
            self.samples,
            self.failures.len()
        )
    }
}

/// Runs every case and law of a mapping directory.
pub fn test(dir: &Path) -> TestReport {
    let (bundle, report) = load::load(dir);
    let mut out = TestReport { report, ..TestReport::default() };
    let Some(bundle) = bundle else { return out };
    for protocol in bundle.protocols() {
        laws::run(protocol, &bundle, &mut out);
    }
    let mut findings = Findings::default();
    for protocol in bundle.protocols() {
        out.untested.extend(protocol.objects().map(|m| format!("{} {}", protocol.name, m.native_type)));
    }
    for folder in load::folders(dir) {
        run_folder(&folder, &bundle, &mut findings, &mut out);
    }
    let cases = findings.report();
    if !cases.diagnostics.is_empty() {
        out.report = cases;
    }
    out
}

fn run_folder(folder: &Folder, bundle: &Bundle, findings: &mut Findings, out: &mut TestReport) {
    let Some(protocol) = bundle.protocol(&folder.name) else { return };
    for file in &folder.cases {
        let id = findings.file(&file.name, &file.text);
        let table = parse(id, &file.text, findings);
        let mut fields = Fields::new(&table, "a case file");
        for (kind, cases) in [
            ("object", fields.array("object", findings)),
            ("command", fields.array("command", findings)),
            ("guard", fields.array("guard", findings)),
            ("effect", fields.array("effect", findings)),
        ] {
            for case in cases {
                let mut run = Case { protocol, bundle, findings, item: case, why: Vec::new() };
                let name = run.run(kind);
                let why = run.why;
                let ty = case.as_table().and_then(|t| t.get("type")).and_then(Item::as_str);
                if let Some(ty) = ty.filter(|_| kind == "object") {
                    let tested = format!("{} {ty}", protocol.name);
                    out.untested.retain(|name| *name != tested);
                }
                if why.is_empty() {
                    out.cases += 1;
                } else {
                    let at = findings.place(case.span);
                    out.failures.push(Failure { at, name: format!("{kind} case: {name}"), why });
                }
            }
        }
        fields.finish(findings);
    }
}

/// One case on its way.
struct Case<'a> {
    protocol: &'a Arc<Protocol>,
    bundle: &'a Bundle,
    findings: &'a mut Findings,
    item: &'a Item,
    why: Vec<String>,
}

impl Case<'_> {
    /// Runs it; its name.
    fn run(&mut self, kind: &str) -> String {
        let Some(table) = self.item.as_table() else {
            self.why.push("a case is a table".to_owned());
            return String::new();
        };
        let mut fields = Fields::new(table, "a case");
        let name = fields.need_str("name", self.findings).map(|(t, _)| t.to_string()).unwrap_or_default();
        match kind {
            "object" => self.object(&mut fields),
            "command" => self.command(&mut fields),
            "guard" => self.guard(&mut fields),
            _ => self.effect(&mut fields),
        };
        fields.finish(self.findings);
        name
    }

    fn fail<T>(&mut self, why: impl Into<String>) -> Option<T> {
        self.why.push(why.into());
        None
    }

    /// `expected` against what came.
    fn same(&mut self, what: &str, expected: &str, found: &str) {
        if expected != found {
            self.why.push(format!("{what}: expected `{expected}`, found `{found}`"));
        }
    }

    fn version(&mut self, fields: &mut Fields<'_>) -> VersionIndex {
        match fields.str("version", self.findings) {
            None => VersionIndex::NEWEST,
            Some((id, span)) => self.protocol.native.version(id).unwrap_or_else(|| {
                self.findings.error(span, format!("`{id}` is not one of the versions"));
                VersionIndex::NEWEST
            }),
        }
    }
}

/// The entries of a table as text pairs.
fn pairs(table: Option<&Table>) -> Vec<(Arc<str>, String)> {
    let entries = table.map_or(&[][..], |t| &t.entries);
    entries.iter().map(|e| (e.key.clone(), text(&e.value))).collect()
}

/// A constant as text.
fn text(item: &Item) -> String {
    match &item.node {
        Node::Str(text) => text.to_string(),
        Node::Int(n) => n.to_string(),
        Node::Float(n) => n.to_string(),
        Node::Bool(b) => b.to_string(),
        Node::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Node::Table(_) => "(a table)".to_owned(),
    }
}

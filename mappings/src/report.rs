//! What the checker has to say: every finding with its place, what was expected, and a suggestion.

use std::{fmt, sync::Arc};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The bundle is refused.
    Error,
    /// The bundle loads; somebody should look.
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as a path below the directory that was loaded.
    pub file: Arc<str>,
    /// From 1; 0: the file as a whole.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The line of the file.
    pub source: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{word}: {}", self.message)?;
        if self.line == 0 {
            writeln!(f, "  --> {}", self.file)?;
        } else {
            writeln!(f, "  --> {}:{}:{}", self.file, self.line, self.column)?;
            writeln!(f, "   | {}", self.source.trim_end())?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "   = help: {help}")?;
        }
        Ok(())
    }
}

/// Everything found in one load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of files and lines.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count()
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.diagnostics.len() - self.errors()
    }

    /// A report of one error about a whole file or directory.
    pub fn of(file: &str, message: impl Into<String>) -> Report {
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            file: Arc::from(file),
            line: 0,
            column: 0,
            message: message.into(),
            help: None,
            source: String::new(),
        };
        Report { diagnostics: vec![diagnostic] }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}")?;
        }
        let counted = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        write!(f, "{}, {}", counted(self.errors(), "error"), counted(self.warnings(), "warning"))
    }
}

impl std::error::Error for Report {}

/// A place in a loaded file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub file: u32,
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// The part of a quoted text that begins `offset` bytes after its quote.
    pub fn inside(self, offset: usize) -> Span {
        Span { start: (self.start + 1 + offset).min(self.end), ..self }
    }
}

#[derive(Clone, Debug)]
struct File {
    name: Arc<str>,
    text: Arc<str>,
    /// Where each line begins.
    lines: Arc<[usize]>,
}

/// The loaded files and what was found in them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    files: Vec<File>,
    found: Vec<(Span, Diagnostic)>,
}

/// Findings that are kept.
const MOST: usize = 1_000;

impl Findings {
    /// Adds a file; spans name it by the number returned.
    pub fn file(&mut self, name: &str, text: &str) -> u32 {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        self.files.push(File { name: Arc::from(name), text: Arc::from(text), lines });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// The same files and nothing found: for a try.
    pub fn scratch(&self) -> Findings {
        Findings { files: self.files.clone(), found: Vec::new() }
    }

    /// The file's name.
    pub fn name(&self, file: u32) -> Arc<str> {
        self.files.get(file as usize).map_or_else(|| Arc::from("?"), |f| f.name.clone())
    }

    /// `file:line` of a place.
    pub fn place(&self, span: Span) -> String {
        let (line, _, _) = self.locate(span);
        format!("{}:{line}", self.name(span.file))
    }

    /// An error.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.add(Severity::Error, span, message.into(), None);
    }

    /// An error and what to do about it.
    pub fn error_help(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        self.add(Severity::Error, span, message.into(), help);
    }

    /// A warning, perhaps with advice.
    pub fn warning(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        self.add(Severity::Warning, span, message.into(), help);
    }

    fn add(&mut self, severity: Severity, span: Span, message: String, help: Option<String>) {
        // What comes after this many is noise; but an error is never lost behind warnings.
        if self.found.len() >= MOST && (severity == Severity::Warning || self.failed()) {
            return;
        }
        let (line, column, source) = self.locate(span);
        let file = self.name(span.file);
        let diagnostic = Diagnostic { severity, file, line, column, message, help, source };
        if !self.found.iter().any(|(_, d)| *d == diagnostic) {
            self.found.push((span, diagnostic));
        }
    }

    fn locate(&self, span: Span) -> (usize, usize, String) {
        let Some(file) = self.files.get(span.file as usize) else { return (0, 0, String::new()) };
        let line = file.lines.partition_point(|start| *start <= span.start);
        let start = file.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = file.text.get(start..span.start.min(file.text.len())).unwrap_or("");
        let source = file.text.get(start..).and_then(|t| t.lines().next()).unwrap_or("").to_owned();
        (line, before.chars().count() + 1, source)
    }

    /// Whether there is an error.
    pub fn failed(&self) -> bool {
        self.found.iter().any(|(_, d)| d.severity == Severity::Error)
    }

    /// How many were found so far.
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// Everything found, by place.
    pub fn report(mut self) -> Report {
        self.found.sort_by_key(|(span, _)| *span);
        Report { diagnostics: self.found.into_iter().map(|(_, d)| d).collect() }
    }
}

/// The candidate nearest to `word`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1) + 1;
    candidates
        .into_iter()
        .filter_map(|c| {
            let distance = if c.eq_ignore_ascii_case(word) { 0 } else { distance(word, c, limit) };
            (distance <= limit).then_some((distance, c))
        })
        .min()
        .map(|(_, c)| c)
}

/// "did you mean", ready for a diagnostic.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|c| format!("did you mean `{c}`?"))
}

/// Levenshtein distance; more than `limit` is all the same.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    if a.len().abs_diff(b.len()) > limit * 4 {
        return limit + 1;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (above, cb) in row.iter().skip(1).zip(&b) {
            let cost = diagonal + usize::from(ca != *cb);
            left = cost.min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(limit + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_candidate_or_none() {
        assert_eq!(nearest("memoryMb", ["memoryMB", "numCPU"]), Some("memoryMB"));
        assert_eq!(nearest("uid", ["uuid", "name"]), Some("uuid"));
        assert_eq!(nearest("completelyElse", ["uuid", "name"]), None);
    }

    #[test]
    fn shows_place_line_and_help() {
        let mut findings = Findings::default();
        let file = findings.file("a.toml", "x = 1\nkey = 'äb'\n");
        findings.error_help(Span { file, start: 6, end: 9 }, "no such key", Some("use `x`".into()));
        let report = findings.report();
        assert_eq!(
            report.to_string(),
            "error: no such key\n  --> a.toml:2:1\n   | key = 'äb'\n   = help: use `x`\n\n1 error, 0 warnings"
        );
    }
}

//! What is wrong with a row file: everything at once, each with its place.

use std::fmt;

/// One thing wrong with a row file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as the caller named it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The line itself.
    pub source: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        writeln!(f, "  --> {}:{}:{}", self.file, self.line, self.column)?;
        write!(f, "   | {}", self.source)?;
        if let Some(help) = &self.help {
            write!(f, "\n   = help: {help}")?;
        }
        Ok(())
    }
}

/// Collects diagnostics of one file.
pub(crate) struct Sink<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub found: Vec<Diagnostic>,
}

/// Diagnostics that are kept; what comes after them is noise.
const MOST: usize = 1_000;

impl Sink<'_> {
    /// Something wrong at byte `at`.
    pub(crate) fn add(&mut self, at: usize, message: impl Into<String>) {
        self.add_help(at, message, None);
    }

    /// Something wrong at byte `at`, with what to do.
    pub(crate) fn add_help(&mut self, at: usize, message: impl Into<String>, help: Option<String>) {
        if self.found.len() >= MOST {
            return;
        }
        let head = self.text.get(..at).unwrap_or(self.text);
        let begin = head.rfind('\n').map_or(0, |n| n + 1);
        self.found.push(Diagnostic {
            file: self.file.to_owned(),
            line: head.matches('\n').count() + 1,
            column: head.get(begin..).unwrap_or("").chars().count() + 1,
            message: message.into(),
            help,
            source: self.text.get(begin..).unwrap_or("").lines().next().unwrap_or("").to_owned(),
        });
    }

    /// An unknown word, with the nearest known one.
    pub(crate) fn unknown<'w>(
        &mut self,
        at: usize,
        what: &str,
        word: &str,
        known: impl Iterator<Item = &'w str>,
    ) {
        let near = nearest(word, known);
        self.add_help(
            at,
            format!("{what} `{word}` is not known"),
            near.map(|n| format!("did you mean `{n}`?")),
        );
    }
}

/// The known word nearest to `word`, if any is near.
pub(crate) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let most = 1 + word.chars().count() / 3;
    known.map(|k| (distance(word, k), k)).filter(|(d, _)| *d <= most).min().map(|(_, k)| k)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            let best = (corner + usize::from(ca != *cb)).min(above + 1).min(left + 1);
            corner = above;
            left = best;
            *cell = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

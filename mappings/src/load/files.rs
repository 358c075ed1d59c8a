//! Reads the files of a mapping directory. Limits: 4 MiB a file, 1,000 files.

use crate::{
    data::{Fields, Node, Table},
    report::{Findings, Report, Span, did_you_mean},
};
use std::{io, path::Path, sync::Arc};
use union::schema::{ExtField, ExtType};

pub(crate) const MAX_BYTES: u64 = 4 << 20;
pub(crate) const MAX_FILES: usize = 1000;

/// The files of one protocol, by name.
pub(crate) struct Folder {
    pub name: Arc<str>,
    pub files: Vec<File>,
    pub cases: Vec<File>,
}

pub(crate) struct File {
    /// Below the directory that was loaded, with it: as people are shown it.
    pub name: String,
    /// Below the directory that was loaded, with slashes: the same wherever the directory is.
    pub path: String,
    pub text: String,
}

/// Reads `DIR/<protocol>/{*.toml, schema/*.schema, cases/*.toml}`.
pub(crate) fn read(dir: &Path) -> Result<Vec<Folder>, Report> {
    let fail = |path: &Path, error: io::Error| {
        Report::of(&path.display().to_string(), format!("cannot read the mapping files: {error}"))
    };
    let mut folders = Vec::new();
    for path in entries(dir).map_err(|e| fail(dir, e))? {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !path.is_dir() || name == "src" || name == "tests" || name.starts_with('.') {
            continue;
        }
        let mut files = texts(dir, &path, "toml").map_err(|e| fail(&path, e))?;
        files.extend(texts(dir, &path, "names").map_err(|e| fail(&path, e))?);
        files.extend(texts(dir, &path.join("schema"), "schema").map_err(|e| fail(&path, e))?);
        let cases = texts(dir, &path.join("cases"), "toml").map_err(|e| fail(&path, e))?;
        if files.iter().any(|f| f.name.ends_with(".toml")) {
            folders.push(Folder { name: Arc::from(name), files, cases });
        }
    }
    if folders.is_empty() {
        let message = "there is no folder with mapping files here: expected DIR/<protocol>/*.toml";
        return Err(Report::of(&dir.display().to_string(), message));
    }
    Ok(folders)
}

fn entries(dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        paths.push(entry?.path());
        if paths.len() > MAX_FILES {
            return Err(io::Error::other(format!("more than {MAX_FILES} files")));
        }
    }
    paths.sort();
    Ok(paths)
}

fn texts(root: &Path, dir: &Path, extension: &str) -> io::Result<Vec<File>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for path in entries(dir)? {
        if path.extension().is_none_or(|e| e != extension) || !path.is_file() {
            continue;
        }
        if std::fs::metadata(&path)?.len() > MAX_BYTES {
            return Err(io::Error::other(format!("{} is larger than {MAX_BYTES} bytes", path.display())));
        }
        let below = path.strip_prefix(root).unwrap_or(&path).components();
        let parts: Vec<_> = below.map(|part| part.as_os_str().to_string_lossy()).collect();
        files.push(File {
            name: path.display().to_string(),
            path: parts.join("/"),
            text: std::fs::read_to_string(&path)?,
        });
    }
    Ok(files)
}

/// The extension fields of `[ext.MESSAGE]`.
pub(super) fn ext(message: &str, table: &Table, findings: &mut Findings) -> Vec<(Span, ExtField)> {
    let mut out = Vec::new();
    for entry in &table.entries {
        let (text, span) = match &entry.value.node {
            Node::Str(text) => (text.clone(), entry.value.span),
            Node::Table(inner) => {
                let mut fields = Fields::new(inner, "an extension field");
                let ty = fields.need_str("type", findings).map(|(t, _)| t.to_string());
                let list = if fields.bool("repeated", findings) == Some(true) { "*" } else { "" };
                let runtime = if fields.bool("runtime", findings) == Some(true) { " runtime" } else { "" };
                fields.finish(findings);
                (Arc::from(format!("{}{list}{runtime}", ty.unwrap_or_default())), entry.value.span)
            }
            _ => {
                findings.error(entry.value.span, "expected a type: bool, int, float, string");
                continue;
            }
        };
        let mut words = text.split_whitespace();
        let word = words.next().unwrap_or("");
        let (word, repeated) = word.strip_suffix('*').map_or((word, false), |w| (w, true));
        let ty = match word {
            "bool" => ExtType::Bool,
            "int" => ExtType::Int,
            "float" => ExtType::Float,
            "string" => ExtType::Str,
            other => {
                let help = did_you_mean(other, ["bool", "int", "float", "string"]);
                findings.error_help(
                    span,
                    format!("`{other}` is not a type of extension fields: bool, int, float, string"),
                    help,
                );
                continue;
            }
        };
        let runtime = match words.next() {
            None => false,
            Some("runtime") => true,
            Some(other) => {
                findings.error(span, format!("expected `runtime` or nothing, not `{other}`"));
                false
            }
        };
        if entry.key.split('.').count() != 2 {
            findings.error(entry.key_span, "an extension field is called `<namespace>.<name>`, in quotes");
            continue;
        }
        let field =
            ExtField { message: message.to_owned(), name: entry.key.to_string(), ty, repeated, runtime };
        out.push((entry.key_span, field));
    }
    out
}

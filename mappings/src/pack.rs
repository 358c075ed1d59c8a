//! A bundle's files in one piece, as they are sent, kept and called.
//!
//! ```text
//! directory ─ read ─▶ Pack ─ bytes ─▶ bus, disk ─ open (names, sizes, hash) ─▶ Pack ─ bundle ─▶ checked and compiled, or every error
//! ```
//! Packed: `hyperglot bundle 1` and a line feed; then for each file the length of its path (four bytes, little endian), the path, the length
//! of its text, the text. A path is `<protocol>/<file>.toml`, `<protocol>/<file>.names` or `<protocol>/schema/<file>.schema`. Cases stay
//! where they are: nothing runs them.
//!
//! Limits: 1,000 files, 4 MiB a file, [`PACKED`] in all.

use crate::{
    load::{
        Bundle, Folder, files,
        files::{File, MAX_BYTES, MAX_FILES},
        hash_of, load_folders,
    },
    report::Report,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};
use union::Schema;

/// Bytes of a packed bundle.
pub const PACKED: usize = 32 << 20;

const MAGIC: &[u8] = b"hyperglot bundle 1\n";
/// The longest path.
const PATH: usize = 256;

/// What was packed cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The bytes are no packed bundle.
    #[error("this is no packed bundle: {0}")]
    Garbled(String),
    /// They are another one.
    #[error("expected the bundle {wanted}; this is {got}")]
    Other {
        /// The hash that was asked for.
        wanted: String,
        /// The hash of what came.
        got: String,
    },
    /// There is too much of it.
    #[error("{what}: at most {most}")]
    TooMuch {
        /// Of what.
        what: String,
        /// The limit.
        most: usize,
    },
}

/// The files of a bundle.
#[derive(Clone, PartialEq, Eq)]
pub struct Pack {
    /// SHA-256 over the paths and texts, in hexadecimal: the bundle's name.
    hash: String,
    /// Path and text, in the order in which they were read.
    files: Vec<(String, String)>,
}

impl std::fmt::Debug for Pack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pack").field("hash", &self.hash).field("files", &self.files.len()).finish()
    }
}

impl Pack {
    /// The files of a directory that has a folder a protocol.
    ///
    /// # Errors
    /// They cannot be read, or their names cannot be packed.
    pub fn read(dir: &Path) -> Result<Pack, Report> {
        let folders = files::read(dir)?;
        let files = folders.into_iter().flat_map(|folder| folder.files);
        let files = files.map(|file| (file.path, file.text)).collect();
        Pack::of(files).map_err(|error| Report::of(&dir.display().to_string(), error.to_string()))
    }

    /// Unpacks what [`Pack::bytes`] made.
    ///
    /// # Errors
    /// It is something else, or too much.
    pub fn open(packed: &[u8]) -> Result<Pack, PackError> {
        if packed.len() > PACKED {
            return Err(PackError::TooMuch { what: format!("{} bytes", packed.len()), most: PACKED });
        }
        let garbled = |what: &str| PackError::Garbled(what.to_owned());
        let mut rest = packed.strip_prefix(MAGIC).ok_or_else(|| garbled("it begins with something else"))?;
        let mut files = Vec::new();
        while !rest.is_empty() {
            if files.len() == MAX_FILES {
                return Err(PackError::TooMuch { what: "more files".to_owned(), most: MAX_FILES });
            }
            let path = text(&mut rest).ok_or_else(|| garbled("it ends within a path"))?;
            let text = text(&mut rest).ok_or_else(|| garbled("it ends within a file"))?;
            files.push((path, text));
        }
        Pack::of(files)
    }

    /// Unpacks the bundle with this hash.
    ///
    /// # Errors
    /// As [`Pack::open`], or it is another bundle.
    pub fn open_as(hash: &str, packed: &[u8]) -> Result<Pack, PackError> {
        let pack = Pack::open(packed)?;
        if pack.hash != hash {
            return Err(PackError::Other { wanted: hash.to_owned(), got: pack.hash });
        }
        Ok(pack)
    }

    fn of(files: Vec<(String, String)>) -> Result<Pack, PackError> {
        let mut seen = BTreeSet::new();
        for (path, text) in &files {
            if !is_path(path) {
                let path: String = path.chars().take(PATH).collect();
                return Err(PackError::Garbled(format!(
                    "`{}` is no path of a mapping file: letters, digits, dots, dashes and underscores below a protocol's folder",
                    path.escape_debug()
                )));
            }
            if text.len() as u64 > MAX_BYTES {
                return Err(PackError::TooMuch {
                    what: format!("{path} has {} bytes", text.len()),
                    most: usize::try_from(MAX_BYTES).unwrap_or(usize::MAX),
                });
            }
            if !seen.insert(path) {
                return Err(PackError::Garbled(format!("`{path}` is there twice")));
            }
        }
        let hash = hash_of(files.iter().map(|(path, text)| (&**path, &**text)));
        Ok(Pack { hash, files })
    }

    /// What the bundle is called.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// In one piece.
    pub fn bytes(&self) -> Vec<u8> {
        let mut packed = MAGIC.to_vec();
        for part in self.files.iter().flat_map(|(path, text)| [path, text]) {
            // No part is longer than a file may be.
            packed.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            packed.extend(part.as_bytes());
        }
        packed
    }

    /// Checks and compiles the files; `shown` stands before their paths in what the checker says.
    ///
    /// # Errors
    /// Every error at once.
    pub fn bundle(&self, shown: &str) -> Result<Arc<Bundle>, Report> {
        let mut folders: Vec<Folder> = Vec::new();
        for (path, text) in &self.files {
            let name = protocol_of(path);
            if folders.last().is_none_or(|folder| *folder.name != *name) {
                folders.push(Folder { name: Arc::from(name), files: Vec::new(), cases: Vec::new() });
            }
            let shown = if shown.is_empty() {
                path.clone()
            } else {
                format!("{}/{path}", shown.trim_end_matches('/'))
            };
            if let Some(folder) = folders.last_mut() {
                folder.files.push(File { name: shown, path: path.clone(), text: text.clone() });
            }
        }
        if folders.is_empty() {
            return Err(Report::of(shown, "there are no mapping files in this bundle"));
        }
        let (bundle, report) = load_folders(&folders);
        bundle.map(Arc::new).ok_or(report)
    }

    /// The protocols whose files are others in `than`, or are in one of the two only.
    pub fn changed(&self, than: &Pack) -> BTreeSet<String> {
        let (mine, theirs) = (self.by_protocol(), than.by_protocol());
        let names = mine.keys().chain(theirs.keys()).copied();
        names.filter(|name| mine.get(name) != theirs.get(name)).map(str::to_owned).collect()
    }

    fn by_protocol(&self) -> BTreeMap<&str, Vec<&(String, String)>> {
        let mut folders: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for file in &self.files {
            folders.entry(protocol_of(&file.0)).or_default().push(file);
        }
        folders
    }
}

fn protocol_of(path: &str) -> &str {
    path.split_once('/').map_or(path, |(folder, _)| folder)
}

/// The next part of a packed bundle.
fn text(rest: &mut &[u8]) -> Option<String> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (part, after) = after.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(part.to_vec()).ok()
}

fn is_path(path: &str) -> bool {
    let legal = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    let parts: Vec<&str> = path.split('/').collect();
    path.len() <= PATH
        && parts.iter().all(|part| legal(part))
        && match parts.as_slice() {
            [_, file] => file.ends_with(".toml") || file.ends_with(".names"),
            [_, "schema", file] => file.ends_with(".schema"),
            _ => false,
        }
}

/// Whether records of `old` can be shown by a bundle over `new`: every field is where it was. What comes back are the extension fields
/// that only `new` has, as `Vm.ext.acme.rack`: they show nothing on records of `old`.
///
/// # Errors
/// What is not where it was.
pub fn fits(old: &Schema, new: &Schema) -> Result<Vec<String>, String> {
    let mut unseen = Vec::new();
    for message in old.messages() {
        let Some(other) = new.get(message.id).filter(|other| other.name == message.name) else {
            return Err(format!("it has no union message {}", message.name));
        };
        for field in &message.fields {
            let there = other.field_at(field.slot);
            let same = there
                .is_some_and(|f| f.name == field.name && f.ty == field.ty && f.repeated == field.repeated);
            if !same {
                let instead = there.map_or("nothing", |f| &f.name);
                return Err(format!(
                    "{}.{} is in use and has {instead} in its place: extension fields are placed by name, so a new one has to come after \
                     those in use, and none may go; restart to use these mappings",
                    message.name, field.name
                ));
            }
        }
        unseen.extend(
            other.fields.iter().skip(message.fields.len()).map(|f| format!("{}.{}", message.name, f.name)),
        );
    }
    Ok(unseen)
}

#[cfg(test)]
mod tests;

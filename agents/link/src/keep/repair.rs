//! `hyperglot ctl repair`: what verifies of a damaged store goes into a new file in its place; the damaged file stays beside it.
//!
//! ```text
//! engine.redb ─ repair ─▶ engine.redb.repaired ─┐ verified by opening it
//! engine.redb ─ renamed ─▶ engine.redb.damaged ◀┘ renamed to engine.redb
//! ```
//!
//! Only while nobody uses the store. When it ends half-way, the next try does it again from the damaged file.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use store::{FileMedium, FileStore, Medium, StoreError, repair::Repaired};

/// Damaged files kept beside a store.
const KEPT: u32 = 1_000;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What could be saved and what not.
    pub repaired: Repaired,
    /// Where the damaged file is now.
    pub damaged: PathBuf,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be renamed or removed.
    #[error("{file}: {source}; the store is as it was")]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are a thousand damaged files.
    #[error("{0} and all further names up to .{KEPT} are taken: remove some of the damaged files kept there")]
    NoName(PathBuf),
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn free_name(path: &Path) -> Result<PathBuf, RepairError> {
    let first = beside(path, ".damaged");
    let further = (2..=KEPT).map(|n| beside(path, &format!(".damaged.{n}")));
    let mut names = std::iter::once(first.clone()).chain(further);
    names.find(|name| !name.exists()).ok_or(RepairError::NoName(first))
}

/// Repairs the store at `path`. Blocks for as long as it takes to read the file.
///
/// # Errors
/// The store is in use, or nothing of it can be read, or files cannot be renamed.
pub fn repair(path: &Path) -> Result<Report, RepairError> {
    let wrong = |file: &Path| {
        let file = file.to_owned();
        move |source| RepairError::File { file, source }
    };
    let damaged = free_name(path)?;
    let new = beside(path, ".repaired");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(wrong(&new)(e)),
        _ => {}
    }
    let to: Arc<dyn Medium> = Arc::new(FileMedium(new.clone()));
    let repaired = store::repair::repair(&FileMedium(path.to_owned()), Arc::clone(&to))?;
    FileStore::open(to)?.close();
    // The damaged file is kept under a second name first, so that at no time there is none.
    fs::hard_link(path, &damaged).map_err(wrong(&damaged))?;
    fs::rename(&new, path).map_err(wrong(path))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(wrong(parent))?;
    Ok(Report { repaired, damaged })
}

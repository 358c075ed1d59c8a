//! HostDatastoreBrowser: the files of a datastore, as far as facts know of any: a pool's volumes, and the configuration file that every
//! VM has in a directory of its own. Looking for them is a task, as the product has it; what was found is the task's result.
//!
//! ```text
//! [pool] directory ─ no such directory ─▶ the task fails with FileNotFound
//!                  └─▶ files that match a pattern; with subfolders, those of each directory below
//! ```
//!
//! Limits: 10,000 files in one search; 64 patterns.

use crate::{
    call::{Call, Reply},
    command,
    fault::{Answer, Fault, Field},
    inventory::Catalog,
    native::{self, TaskResult},
    permission::Sight,
};
use mapping::NativeRef;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use union::{
    Command, CommandId, Kind, ObjectId, Origin, Value,
    command::{Cause, Class, Code},
    schema::CommandSchema,
};
use wire::{soap::encode::Encoder, xml::Element};

/// Files in one answer.
const FILES: usize = 10_000;
/// Patterns of one search.
const PATTERNS: usize = 64;

/// One file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    name: String,
    ty: &'static str,
    size: Option<i64>,
    modified_ms: i64,
}

/// What a search found in one directory.
#[derive(Debug)]
pub(crate) struct Found {
    datastore: NativeRef,
    folder: String,
    files: Vec<File>,
    details: Details,
}

/// What of a file is wanted beside its name.
#[derive(Clone, Copy, Debug, Default)]
struct Details {
    ty: bool,
    size: bool,
    modified: bool,
    owner: bool,
}

/// What is looked for.
struct Wanted {
    patterns: Vec<String>,
    any_case: bool,
    details: Details,
}

impl Wanted {
    fn read(spec: Option<Element<'_>>) -> Answer<Wanted> {
        let flag =
            |element: Element<'_>, name: &str| element.child(name).and_then(Element::bool).unwrap_or(false);
        let details = spec.and_then(|spec| spec.child("details")).map(|details| Details {
            ty: flag(details, "fileType"),
            size: flag(details, "fileSize"),
            modified: flag(details, "modification"),
            owner: flag(details, "fileOwner"),
        });
        let patterns: Vec<String> = spec
            .into_iter()
            .flat_map(|spec| spec.children_named("matchPattern"))
            .map(|pattern| pattern.text().trim().to_owned())
            .collect();
        if patterns.len() > PATTERNS {
            return Err(Fault::invalid_argument(
                "searchSpec.matchPattern",
                "more patterns than one search may have",
            ));
        }
        let any_case = spec.and_then(|spec| spec.child("searchCaseInsensitive")).and_then(Element::bool);
        Ok(Wanted { patterns, any_case: any_case.unwrap_or(true), details: details.unwrap_or_default() })
    }

    fn matches(&self, name: &str) -> bool {
        self.patterns.is_empty()
            || self.patterns.iter().any(|pattern| match self.any_case {
                true => glob(pattern.to_lowercase().as_bytes(), name.to_lowercase().as_bytes()),
                false => glob(pattern.as_bytes(), name.as_bytes()),
            })
    }
}

/// `*` and `?`, in time of pattern times name.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while of < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                back = Some((at + 1, of));
                at += 1;
            }
            Some(c) if *c == b'?' || name.get(of) == Some(c) => {
                at += 1;
                of += 1;
            }
            _ => match back {
                Some((after, from)) => {
                    back = Some((after, from + 1));
                    (at, of) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|c| *c == b'*'))
}

fn type_of(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "iso" => "IsoImageFileInfo",
        "vmdk" | "qcow2" | "raw" | "img" => "VmDiskFileInfo",
        "flp" => "FloppyImageFileInfo",
        "vmx" => "VmConfigFileInfo",
        _ => "FileInfo",
    }
}

/// Every directory of a pool with what lies in it; the pool itself is `""`.
fn directories(catalog: &Catalog, sight: &Sight<'_>, pool: ObjectId) -> BTreeMap<String, Vec<File>> {
    let mut all: BTreeMap<String, Vec<File>> = BTreeMap::new();
    all.insert(String::new(), Vec::new());
    let stamp = |id: ObjectId| catalog.inventory().get(id).map_or(0, |entry| entry.modified_ms);
    let mut put = |path: &str, size: Option<i64>, modified_ms: i64| {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let file = File { name: name.to_owned(), ty: type_of(name), size, modified_ms };
        all.entry(directory.to_owned()).or_default().push(file);
    };
    let schema = catalog.schema();
    let slot = |kind, field| schema.slot(kind, field);
    let mut found = Vec::new();
    if let Some(of) = slot(Kind::Volume, "storage_pool_id") {
        catalog.inventory().referring(Kind::Volume, of, pool, &mut found);
    }
    for (id, volume) in found.iter().filter_map(|id| Some((*id, catalog.record(*id)?))) {
        let int = |field| slot(Kind::Volume, field).and_then(|slot| volume.get(slot).as_int());
        let name = slot(Kind::Volume, "name").and_then(|slot| volume.get(slot).as_str());
        if let Some(name) = name {
            put(name, int("capacity_bytes"), int("modified_ms").unwrap_or_else(|| stamp(id)));
        }
    }
    let mut homes = Vec::new();
    if let Some(of) = slot(Kind::Vm, "home_pool_id") {
        catalog.inventory().referring(Kind::Vm, of, pool, &mut homes);
    }
    for vm in homes.into_iter().filter(|vm| sight.sees(*vm)) {
        let path = catalog.text(vm, "config.files.vmPathName");
        if let Some((_, file)) = path.as_deref().and_then(|path| path.split_once("] ")) {
            put(file, None, stamp(vm));
        }
    }
    // A directory is a file of the one above.
    let names: BTreeSet<String> = all.keys().filter(|name| !name.is_empty()).cloned().collect();
    for path in names {
        let mut path = path.as_str();
        loop {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            let files = all.entry(above.to_owned()).or_default();
            if files.iter().any(|file| file.name == name) {
                break;
            }
            let ty = "FolderFileInfo";
            files.push(File { name: name.to_owned(), ty, size: None, modified_ms: stamp(pool) });
            if above.is_empty() {
                break;
            }
            path = above;
        }
    }
    for files in all.values_mut() {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files.dedup_by(|a, b| a.name == b.name);
    }
    all
}

/// `SearchDatastore_Task`
pub(crate) async fn search(call: &Call<'_>) -> Answer<Reply> {
    run(call, false).await
}

/// `SearchDatastoreSubFolders_Task`
pub(crate) async fn search_below(call: &Call<'_>) -> Answer<Reply> {
    run(call, true).await
}

async fn run(call: &Call<'_>, below: bool) -> Answer<Reply> {
    let session = call.session()?;
    let catalog = call.catalog();
    let pool = call.receiver.object().ok_or_else(|| Fault::not_found(call.this.clone()))?;
    let path = call.text("datastorePath")?.trim();
    let wanted = Wanted::read(call.argument("searchSpec"))?;
    let invalid = || {
        Fault::new("InvalidDatastorePath", format!("Invalid datastore path '{path}'."))
            .with("datastorePath", Field::Text(Arc::from(path)))
    };
    let (name, directory) =
        path.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or_else(invalid)?;
    let shown = catalog.schema().slot(Kind::StoragePool, "name");
    let record = catalog.record(pool).ok_or_else(|| Fault::not_found(call.this.clone()))?;
    if shown.is_none_or(|slot| record.get(slot).as_str() != Some(name.trim())) {
        return Err(invalid());
    }
    // Clients write the pool itself as `.`, too.
    let names = directory.trim().split('/').filter(|name| !name.is_empty() && *name != ".");
    let directory = &*names.collect::<Vec<_>>().join("/");
    let datastore = catalog.reference(pool).ok_or_else(|| Fault::not_found(call.this.clone()))?;
    let all = directories(catalog, call.sight(), pool);
    let result = all.contains_key(directory).then(|| {
        let within = |folder: &str| {
            folder == directory
                || below
                    && (directory.is_empty()
                        || folder.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')))
        };
        let mut left = FILES;
        let mut found = Vec::new();
        for (folder, files) in all.iter().filter(|(folder, _)| within(folder)) {
            let files = files.iter().filter(|file| wanted.matches(&file.name)).take(left).cloned();
            let files: Vec<File> = files.collect();
            left = left.saturating_sub(files.len());
            let folder = match folder.as_str() {
                "" => format!("[{name}]"),
                folder => format!("[{name}] {folder}/"),
            };
            found.push(Found { datastore: datastore.clone(), folder, files, details: wanted.details });
        }
        found
    });
    let front = call.front;
    let now = front.clock.now_ms();
    let search = Command {
        id: CommandId(front.ids.ordered_uuid(now)),
        verb: Arc::from("Read"),
        schema: CommandSchema { class: Class::Read, on: Kind::StoragePool, operation: 0 },
        object: pool,
        body: Arc::new(catalog.schema().kind(Kind::StoragePool).record()),
        principal: session.principal.clone(),
        session: session.id.clone(),
        deadline_ms: i64::MAX,
        origin: Origin {
            protocol: catalog.protocol().name.clone(),
            view: catalog.view().name().clone(),
            method: Arc::from(call.method),
        },
    };
    let task = front.tasks.create(&search, false);
    match result {
        Some(found) => {
            let result = if below { TaskResult::FoundBelow(found) } else { TaskResult::Found(found) };
            front.results.lock().remember(task, result);
            front.tasks.active(task);
            front.tasks.done(task, None);
        }
        None => {
            let mut cause = Cause::new(Code::NotFound, format!("File {path} was not found"));
            cause.fault = Arc::from("FileNotFound");
            cause.arguments.push((Arc::from("file"), Value::from(path)));
            front.tasks.active(task);
            front.tasks.failed(task, &cause);
        }
    }
    command::task(call, Some(task)).await
}

impl Found {
    /// As a `HostDatastoreBrowserSearchResults` called `name`.
    pub(crate) fn encode(&self, out: &mut Encoder, name: &str) {
        out.open_typed(name, "HostDatastoreBrowserSearchResults");
        native::put_reference(out, "datastore", &self.datastore);
        out.leaf("folderPath", &self.folder);
        for file in &self.files {
            let ty = if self.details.ty || file.ty == "FolderFileInfo" { file.ty } else { "FileInfo" };
            out.open_typed("file", ty);
            out.leaf("path", &file.name);
            if let Some(size) = file.size.filter(|_| self.details.size) {
                out.int_leaf("fileSize", size);
            }
            if self.details.modified {
                out.time_leaf("modification", file.modified_ms);
            }
            if self.details.owner {
                out.leaf("owner", "root");
            }
            out.close("file");
        }
        out.close(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match() {
        for (pattern, name, matches) in [
            ("*", "", true),
            ("*.iso", "a.iso", true),
            ("*.iso", "a.iso.part", false),
            ("a?c*", "abcd", true),
            ("a?c", "ac", false),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("web01.vmx", "web01.vmx", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), matches, "{pattern} {name}");
        }
    }
}

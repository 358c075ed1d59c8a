//! A directory of mapping files -> a checked, compiled, immutable bundle; or every error at once.

use crate::{
    calls::Calls,
    command::read::Reading,
    compile::Compiler,
    data::{Table, parse},
    edit::DocumentMap,
    lens::{EnumTable, Env},
    object::{ObjectMap, Selection},
    protocol::{Protocol, conflict::ConflictTable, constants, enums, faults, ids::Forms},
    report::{Findings, Report, Severity, Span, did_you_mean},
    schema::{self, NativeSchema, TypeId, TypeKind, VersionIndex},
    table::{RawObject, object},
};
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
};
use union::{Kind, MessageId, Schema};

mod documents;
pub(crate) mod files;
mod unmapped;

pub(crate) use files::Folder;

/// The mappings of all protocols: immutable, shared, swapped whole.
#[derive(Debug)]
pub struct Bundle {
    /// SHA-256 over the names and contents of its files, in hexadecimal; the same wherever they are.
    pub hash: String,
    /// The union with the extension fields that the files declare.
    pub schema: Arc<Schema>,
    /// Warnings; errors never get this far.
    pub report: Report,
    protocols: BTreeMap<Arc<str>, Arc<Protocol>>,
    documents: BTreeMap<Arc<str>, Arc<DocumentMap>>,
}

impl Bundle {
    /// Loads and checks a directory that has a folder a protocol.
    pub fn load(dir: &Path) -> Result<Arc<Bundle>, Report> {
        let (bundle, report) = load(dir);
        bundle.map(Arc::new).ok_or(report)
    }

    /// The mapping of a protocol.
    pub fn protocol(&self, name: &str) -> Option<&Arc<Protocol>> {
        self.protocols.get(name)
    }

    /// The mapping of a protocol's native document, if it has one.
    pub fn document(&self, name: &str) -> Option<&Arc<DocumentMap>> {
        self.documents.get(name)
    }

    /// All protocols by name.
    pub fn protocols(&self) -> impl Iterator<Item = &Arc<Protocol>> {
        self.protocols.values()
    }
}

/// Loads a directory; no bundle if there is an error.
pub(crate) fn load(dir: &Path) -> (Option<Bundle>, Report) {
    match files::read(dir) {
        Ok(folders) => load_folders(&folders),
        Err(report) => (None, report),
    }
}

/// What a bundle of these files is called.
pub(crate) fn hash_of<'f>(files: impl Iterator<Item = (&'f str, &'f str)>) -> String {
    let mut hash = Sha256::new();
    for (path, text) in files {
        for part in [path.as_bytes(), text.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Loads files that have been read; no bundle if there is an error.
pub(crate) fn load_folders(folders: &[Folder]) -> (Option<Bundle>, Report) {
    let mut findings = Findings::default();
    let files = folders.iter().flat_map(|f| &f.files);
    let hash = hash_of(files.map(|file| (&*file.path, &*file.text)));
    let raws: Vec<Raw> = folders.iter().map(|f| Raw::read(f, &mut findings)).collect();
    let union = extended(&raws, &mut findings);
    let mut protocols = BTreeMap::new();
    for raw in &raws {
        let protocol = raw.compile(&union, &mut findings);
        protocols.insert(protocol.name.clone(), Arc::new(protocol));
    }
    let mut documents = BTreeMap::new();
    for folder in folders {
        if let Some(map) = documents::read(folder, &union, &mut findings) {
            documents.insert(folder.name.clone(), map);
        }
    }
    let failed = findings.failed();
    let report = findings.report();
    if failed {
        return (None, report);
    }
    let bundle = Bundle { hash, schema: union, report: report.clone(), protocols, documents };
    (Some(bundle), report)
}

/// The union with every protocol's extension fields.
fn extended(raws: &[Raw], findings: &mut Findings) -> Arc<Schema> {
    let mut all = Vec::new();
    for raw in raws {
        for (message, span, table) in &raw.ext {
            for field in files::ext(message, table, findings) {
                let mut one = all.clone();
                one.push(field.1);
                match Schema::with_ext(&one) {
                    Ok(_) => all = one,
                    Err(error) => findings
                        .error(if field.0 == Span::default() { *span } else { field.0 }, error.to_string()),
                }
            }
        }
    }
    Schema::with_ext(&all).unwrap_or_else(|_| Schema::base())
}

type Named = (Arc<str>, Span, Table);

/// The tables of one protocol, as written.
struct Raw {
    name: Arc<str>,
    native: NativeSchema,
    calls: Option<Calls>,
    objects: BTreeMap<Arc<str>, RawObject>,
    enums: Vec<Named>,
    ids: Vec<Named>,
    views: Vec<Named>,
    tables: Vec<Named>,
    conflicts: Vec<Named>,
    faults: Vec<Named>,
    commands: Vec<Named>,
    effects: Vec<Named>,
    ext: Vec<Named>,
    unmapped: Vec<Named>,
}

const SECTIONS: [&str; 12] = [
    "object", "enum", "id", "view", "table", "conflict", "fault", "command", "effect", "ext", "unmapped",
    "overlay",
];

impl Raw {
    fn read(folder: &Folder, findings: &mut Findings) -> Raw {
        let mut raw = Raw {
            name: folder.name.clone(),
            native: NativeSchema::default(),
            calls: None,
            objects: BTreeMap::new(),
            enums: Vec::new(),
            ids: Vec::new(),
            views: Vec::new(),
            tables: Vec::new(),
            conflicts: Vec::new(),
            faults: Vec::new(),
            commands: Vec::new(),
            effects: Vec::new(),
            ext: Vec::new(),
            unmapped: Vec::new(),
        };
        for file in folder.files.iter().filter(|f| f.name.ends_with(".schema")) {
            let id = findings.file(&file.name, &file.text);
            match Calls::parse(&file.text) {
                Some(calls) => raw.calls = Some(calls),
                None => raw.native = schema::parse(id, &file.text, findings),
            }
        }
        let mut overlays = Vec::new();
        for file in folder.files.iter().filter(|f| f.name.ends_with(".toml")) {
            let id = findings.file(&file.name, &file.text);
            let table = parse(id, &file.text, findings);
            // Document tables are the business of `edit`.
            if !documents::is_document(&file.text) {
                raw.take(&table, &mut overlays, findings);
            }
        }
        for overlay in &overlays {
            schema::apply_overlay(&mut raw.native, overlay, findings);
        }
        raw
    }

    /// Sorts a file's tables into sections.
    fn take(&mut self, file: &Table, overlays: &mut Vec<Table>, findings: &mut Findings) {
        for section in &file.entries {
            let Some(table) = section.value.as_table() else {
                findings.error(section.key_span, format!("`{}` stands outside every table", section.key));
                continue;
            };
            if !SECTIONS.contains(&&*section.key) {
                let help = did_you_mean(&section.key, SECTIONS)
                    .or_else(|| Some(format!("known: {}", SECTIONS.join(", "))));
                findings.error_help(section.key_span, format!("there is no section `{}`", section.key), help);
                continue;
            }
            if &*section.key == "overlay" {
                overlays.push(table.clone());
                continue;
            }
            for entry in &table.entries {
                let Some(inner) = entry.value.as_table() else {
                    let message = format!("expected a table, `[{}.{}]`", section.key, entry.key);
                    findings.error(entry.value.span, message);
                    continue;
                };
                self.section(&section.key, (entry.key.clone(), entry.key_span, inner.clone()), findings);
            }
        }
    }

    fn section(&mut self, section: &str, named: Named, findings: &mut Findings) {
        let (name, span, table) = &named;
        let list = match section {
            "object" => {
                let raw = object(name, *span, table, findings);
                if let Some(other) = self.objects.insert(name.clone(), raw) {
                    let first = findings.place(other.span);
                    findings.error(*span, format!("[object.{name}] is there twice, first at {first}"));
                }
                return;
            }
            "enum" => &mut self.enums,
            "id" => &mut self.ids,
            "view" => &mut self.views,
            "table" => &mut self.tables,
            "conflict" => &mut self.conflicts,
            "fault" => &mut self.faults,
            "command" => &mut self.commands,
            "effect" => &mut self.effects,
            "ext" => &mut self.ext,
            _ => &mut self.unmapped,
        };
        // Views, free tables and extension fields may be told in several files.
        let many = matches!(section, "view" | "table" | "ext" | "unmapped");
        if let Some((_, other, _)) = list.iter().find(|(n, ..)| n == name && !many) {
            let first = findings.place(*other);
            findings.error(*span, format!("[{section}.{name}] is there twice, first at {first}"));
            return;
        }
        list.push(named);
    }

    fn compile(&self, union: &Arc<Schema>, findings: &mut Findings) -> Protocol {
        let mut tables: BTreeMap<Arc<str>, Arc<EnumTable>> = BTreeMap::new();
        for (name, _, table) in &self.enums {
            if let Some(read) = enums::read(name, table, &self.native, union, findings) {
                tables.insert(name.clone(), Arc::new(read));
            }
        }
        let shown = self.shown(union, findings);
        let views: Vec<Arc<str>> = self.views.iter().map(|(n, ..)| n.clone()).collect();
        let env = Env { native: &self.native, union, enums: &tables, shown: &shown, views: &views };
        let (conflicts, forms, faults) = self.small(union, &views, findings);
        let (compiled, drafts, items) = self.objects(env, findings);
        let native = Arc::new(self.native.clone());
        let compiled = Arc::new(compiled);
        let objects = finish(drafts, &native, &compiled);
        let (mut commands, mut effects) = (BTreeMap::new(), BTreeMap::new());
        let mut reading = Reading {
            env: &env,
            union,
            calls: self.calls.as_ref(),
            raws: &self.objects,
            objects: &objects,
            compiled: &compiled,
            findings,
        };
        for (name, span, table) in &self.commands {
            commands.extend(reading.command(name, *span, table).map(|c| (name.clone(), Arc::new(c))));
        }
        for (name, span, table) in &self.effects {
            effects.extend(reading.effect(name, *span, table).map(|e| (name.clone(), Arc::new(e))));
        }
        let mut protocol = Protocol {
            name: self.name.clone(),
            native,
            compiled,
            showing: showing(&objects, &forms),
            items,
            objects,
            commands,
            effects,
            conflicts,
            ids: forms,
            faults,
            views: merged(&self.views),
            tables: merged(&self.tables),
            enums: tables,
            unmapped: BTreeMap::new(),
            family: OnceLock::new(),
        };
        protocol.unmapped = unmapped::check(&protocol, &self.unmapped, &self.objects, findings);
        protocol
    }

    /// Which managed types show each kind.
    fn shown(&self, union: &Schema, findings: &mut Findings) -> FxHashMap<Kind, Vec<TypeId>> {
        let mut shown: FxHashMap<Kind, Vec<TypeId>> = FxHashMap::default();
        for raw in self.objects.values() {
            let Some(id) = self.native.named(&raw.name) else {
                let help = did_you_mean(&raw.name, self.native.types().map(|(_, t)| &*t.name));
                findings.error_help(raw.span, format!("the native schema has no type `{}`", raw.name), help);
                continue;
            };
            let kind = raw.union.as_ref().and_then(|(u, _)| union.message(u)).and_then(|m| m.kind);
            if let (Some(kind), Some(TypeKind::Managed)) = (kind, self.native.get(id).map(|t| t.kind)) {
                shown.entry(kind).or_default().push(id);
            }
        }
        shown
    }

    fn small(
        &self,
        union: &Schema,
        views: &[Arc<str>],
        findings: &mut Findings,
    ) -> (ConflictTable, Forms, FxHashMap<i32, crate::protocol::FaultMap>) {
        let mut conflicts = ConflictTable::default();
        for (running, _, table) in &self.conflicts {
            conflicts.read(running, table, &self.native, union, findings);
        }
        let mut forms = Forms::default();
        for (ty, span, table) in &self.ids {
            let known = self.native.named(ty).is_some() || self.native.types().next().is_none();
            if !known {
                let help = did_you_mean(ty, self.native.types().map(|(_, t)| &*t.name));
                findings.error_help(*span, format!("the native schema has no type `{ty}`"), help);
            }
            let message =
                self.objects.get(ty).and_then(|o| o.union.as_ref()).and_then(|(u, _)| union.message(u));
            forms.read(ty, table, message.map(|m| m.id), views, union, findings);
        }
        let mut map = FxHashMap::default();
        for (code, span, table) in &self.faults {
            map.extend(faults::read(code, *span, table, &self.native, findings));
        }
        (conflicts, forms, map)
    }

    /// Compiles all object tables.
    fn objects(&self, env: Env<'_>, findings: &mut Findings) -> (crate::render::Compiled, Vec<Draft>, Items) {
        let mut drafts = Vec::new();
        let native = env.native;
        let mut compiler = Compiler::new(env, &self.objects, findings);
        let items = self.used_as_items();
        for raw in self.objects.values().filter(|raw| !raw.is_abstract) {
            let managed = native.lookup(&raw.name).is_some_and(|t| t.kind == TypeKind::Managed);
            let quietly = !managed && items.contains(&raw.name);
            let Some(object) = compiler.object(raw, quietly) else { continue };
            drafts.push(Draft {
                name: raw.name.clone(),
                ty: object.ty,
                message: object.message,
                managed,
                when: object.when,
                body: object.body,
                rows: Vec::new(),
            });
        }
        for draft in &mut drafts {
            draft.rows = compiler.rows.remove(&draft.name).unwrap_or_default();
        }
        let of = |name: &Arc<str>| {
            let (union, _) = self.objects.get(name)?.union.as_ref()?;
            compiler.env.union.message(union).map(|m| m.id)
        };
        let rows = std::mem::take(&mut compiler.rows);
        let items =
            rows.into_iter().filter_map(|(name, rows)| of(&name).map(|id| (name, (id, rows)))).collect();
        (compiler.compiled, drafts, items)
    }

    /// The types that lists make items of.
    fn used_as_items(&self) -> std::collections::BTreeSet<Arc<str>> {
        let rows = self.objects.values().flat_map(|o| &o.rows);
        let mut names = std::collections::BTreeSet::new();
        for row in rows {
            match &row.form {
                crate::table::Form::List { entries, .. } => {
                    names.extend(entries.iter().map(|e| e.ty.0.clone()))
                }
                crate::table::Form::Show(_) => {}
                _ => {}
            }
        }
        names
    }
}

type Items = BTreeMap<Arc<str>, (MessageId, Vec<crate::compile::RowInfo>)>;

/// A compiled table before it knows its neighbours.
struct Draft {
    name: Arc<str>,
    ty: TypeId,
    message: MessageId,
    managed: bool,
    when: Option<crate::cel::Program>,
    body: crate::render::BodyId,
    rows: Vec<crate::compile::RowInfo>,
}

fn finish(
    drafts: Vec<Draft>,
    native: &Arc<NativeSchema>,
    compiled: &Arc<crate::render::Compiled>,
) -> BTreeMap<Arc<str>, Arc<ObjectMap>> {
    let mut objects = BTreeMap::new();
    for draft in drafts {
        let mut map = ObjectMap {
            native_type: draft.name.clone(),
            native_id: draft.ty,
            union: draft.message,
            managed: draft.managed,
            when: draft.when,
            body: draft.body,
            compiled: compiled.clone(),
            native: native.clone(),
            rows: draft.rows,
            top: Vec::new(),
        };
        let names = native.get(draft.ty).map_or(&[][..], |t| &t.fields);
        let top: Vec<Selection> = names
            .iter()
            .filter_map(|f| map.select(&f.name, VersionIndex::NEWEST).ok())
            .filter(Selection::is_mapped)
            .collect();
        map.top = top;
        objects.insert(draft.name, Arc::new(map));
    }
    objects
}

/// By message: where managed types show it only they do, second faces never; types with a condition come first.
fn showing(
    objects: &BTreeMap<Arc<str>, Arc<ObjectMap>>,
    forms: &Forms,
) -> FxHashMap<MessageId, Vec<Arc<ObjectMap>>> {
    let mut showing: FxHashMap<MessageId, Vec<Arc<ObjectMap>>> = FxHashMap::default();
    for map in objects.values().filter(|m| !forms.is_face(&m.native_type)) {
        showing.entry(map.union).or_default().push(map.clone());
    }
    for maps in showing.values_mut() {
        if maps.iter().any(|m| m.managed) {
            maps.retain(|m| m.managed);
        }
        maps.sort_by_key(|m| m.when.is_none());
    }
    showing
}

fn merged(tables: &[Named]) -> BTreeMap<Arc<str>, crate::protocol::Constant> {
    let mut whole: BTreeMap<Arc<str>, Table> = BTreeMap::new();
    for (name, _, table) in tables {
        whole.entry(name.clone()).or_default().entries.extend(table.entries.iter().cloned());
    }
    whole.iter().map(|(name, table)| (name.clone(), constants::read_table(table))).collect()
}

/// The folders of a directory that loads.
pub(crate) fn folders(dir: &Path) -> Vec<Folder> {
    files::read(dir).unwrap_or_default()
}

/// Loads a directory and says everything that was found.
pub fn check(dir: &Path) -> Report {
    load(dir).1
}

impl Report {
    /// Whether nothing is an error.
    pub fn is_good(&self) -> bool {
        self.diagnostics.iter().all(|d| d.severity != Severity::Error)
    }
}

#[cfg(test)]
mod tests;

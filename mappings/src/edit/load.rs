//! Row files to a [`DocumentMap`]: read, checked and compiled, with everything that is wrong at once.

mod cursor;
mod lens;
mod names;
mod rows;
mod writers;

use super::{
    model::{Call, DocumentMap, Exclusive, Native, Place, Rows},
    nesting,
    path::{Facts, Path},
    report::{Diagnostic, Sink},
};
use cursor::Cursor;
use names::Names;
use std::collections::BTreeMap;
use union::Schema;

/// A row file, or (ending in `.names`) the names that the native schema has.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What diagnostics call it.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// What compiling any row needs.
pub(crate) struct Context<'c, 'i> {
    pub schema: &'c Schema,
    pub facts: Facts,
    pub required: Vec<String>,
    pub enums: BTreeMap<&'c str, Cursor<'c, 'i>>,
    pub objects: BTreeMap<&'c str, Cursor<'c, 'i>>,
    pub names: Option<Names<'c>>,
    pub sink: Sink<'c>,
    /// The `like` tables being compiled, outermost first.
    pub nesting: Vec<String>,
    /// The enumerations and objects that a row uses.
    pub used: Vec<String>,
}

impl DocumentMap {
    /// Compiles a row file. Of `files` one is the row file and at most one, ending in `.names`, lists the native schema's names.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the file.
    pub fn load(files: &[Source<'_>], schema: &Schema) -> Result<DocumentMap, Vec<Diagnostic>> {
        let names = files.iter().find(|file| file.name.ends_with(".names"));
        let mut rows = files.iter().filter(|file| !file.name.ends_with(".names"));
        let (Some(file), None) = (rows.next(), rows.next()) else {
            let mut sink = Sink { file: "", text: "", found: Vec::new() };
            sink.add(0, "a document mapping is exactly one row file");
            return Err(sink.found);
        };
        let mut sink = Sink { file: file.name, text: file.text, found: Vec::new() };
        if let Some(at) = nesting::too_deep(file.text) {
            sink.add(at, nesting::TOO_DEEP);
            return Err(sink.found);
        }
        let (root, errors) = toml::de::DeTable::parse_recoverable(file.text);
        for error in errors {
            sink.add(error.span().map_or(0, |span| span.start), error.message().to_owned());
        }
        let mut context = Context {
            schema,
            facts: Facts::default(),
            required: Vec::new(),
            enums: BTreeMap::new(),
            objects: BTreeMap::new(),
            names: names.map(|file| Names::parse(file.text)),
            sink,
            nesting: Vec::new(),
            used: Vec::new(),
        };
        let map = document(&mut context, Cursor::root(&root));
        let mut found = context.sink.found;
        if found.is_empty()
            && let Some(map) = map
        {
            return Ok(map);
        }
        found.sort_by_key(|d| (d.line, d.column));
        found.dedup();
        Err(found)
    }
}

fn document<'c, 'i>(context: &mut Context<'c, 'i>, root: Cursor<'c, 'i>) -> Option<DocumentMap> {
    root.only(&mut context.sink, &["document", "native", "enum", "object"]);
    let native = native(context, root);
    for (name, _, table) in root.get("enum").into_iter().flat_map(|table| table.entries()) {
        context.enums.insert(name, table);
    }
    for (name, _, table) in root.get("object").into_iter().flat_map(|table| table.entries()) {
        context.objects.insert(name, table);
    }
    let Some(document) = root.get("document") else {
        context.sink.add(0, "a document mapping begins with a [document] table");
        return None;
    };
    document.only(&mut context.sink, &["codec", "root", "read", "write", "secret"]);
    if document.text(&mut context.sink, "codec") != Some("xml") {
        context.sink.add(document.at(), "`codec` has to be \"xml\"");
    }
    let root_name = document.text(&mut context.sink, "root").unwrap_or("").to_owned();
    let secret = secrets(context, document, &root_name);
    let Some(object) = context.objects.get(root_name.as_str()).copied() else {
        context.sink.add(document.at(), format!("there is no [object.{root_name}] for the root element"));
        return None;
    };
    let message = object.text(&mut context.sink, "union").unwrap_or("");
    let Some(message) = context.schema.message(message) else {
        let known = context.schema.messages().iter().map(|m| m.name.as_str());
        context.sink.unknown(object.at(), "union message", message, known);
        return None;
    };
    context.nesting.push(root_name.clone());
    context.used.push(root_name.clone());
    let rows = rows::compile(context, object, &[&root_name], message, true);
    let exclusive = exclusives(context, object, &rows);
    let skeleton = object.text(&mut context.sink, "new").map(str::to_owned);
    if let Some(text) = &skeleton {
        rows::fragment(context, object.at(), text, &root_name);
    }
    unused(context);
    Some(DocumentMap {
        root: root_name,
        read: call(context, document, "read"),
        write: call(context, document, "write"),
        secret,
        rows,
        exclusive,
        native,
        skeleton,
    })
}

fn native<'c>(context: &mut Context<'c, '_>, root: Cursor<'c, '_>) -> Native {
    let mut native = Native::default();
    let Some(table) = root.get("native") else { return native };
    let sink = &mut context.sink;
    table.only(sink, &["ns", "default", "required", "order", "new"]);
    let texts = |key: &str, sink: &mut Sink<'c>| -> BTreeMap<String, String> {
        let entries = table.get(key).into_iter().flat_map(|t| t.entries());
        entries.filter_map(|(name, _, value)| Some((name.to_owned(), value.str(sink)?.to_owned()))).collect()
    };
    context.facts = Facts { namespaces: texts("ns", sink), defaults: texts("default", sink) };
    native.skeletons = texts("new", sink);
    context.required = table.strings(sink, "required");
    for (name, _, value) in table.get("order").into_iter().flat_map(|t| t.entries()) {
        native.order.insert(name.to_owned(), value.list(sink));
    }
    let skeletons: Vec<(String, String)> = native.skeletons.clone().into_iter().collect();
    for (path, text) in skeletons {
        let name = path.rsplit('/').next().unwrap_or("");
        rows::fragment(context, table.at(), &text, name);
    }
    native
}

fn call<'c>(context: &mut Context<'c, '_>, document: Cursor<'c, '_>, key: &str) -> Call {
    let Some(table) = document.get(key) else { return Call::default() };
    table.only(&mut context.sink, &["call", "flags", "reread"]);
    Call {
        call: table.text(&mut context.sink, "call").unwrap_or("").to_owned(),
        flags: table.strings(&mut context.sink, "flags"),
    }
}

fn secrets<'c>(context: &mut Context<'c, '_>, document: Cursor<'c, '_>, root: &str) -> Vec<Path> {
    let mut paths = Vec::new();
    for text in document.strings(&mut context.sink, "secret") {
        paths.extend(context.path(document.at(), &text, &[root]));
    }
    paths
}

fn exclusives<'c>(context: &mut Context<'c, '_>, object: Cursor<'c, '_>, rows: &Rows) -> Vec<Exclusive> {
    let mut all = Vec::new();
    for item in object.get("exclusive").into_iter().flat_map(|list| list.items()) {
        item.only(&mut context.sink, &["sides", "other"]);
        let clear = match item.text(&mut context.sink, "other") {
            Some("clear") => true,
            Some("refuse") | None => false,
            Some(other) => {
                context.sink.unknown(item.at(), "value of `other`", other, ["clear", "refuse"].into_iter());
                false
            }
        };
        let mut sides = Vec::new();
        for side in item.get("sides").into_iter().flat_map(|sides| sides.items()) {
            let fields = side.list(&mut context.sink);
            sides.push(fields.iter().filter_map(|field| place(context, side.at(), rows, field)).collect());
        }
        all.push(Exclusive { sides, clear });
    }
    all
}

fn place(context: &mut Context<'_, '_>, at: usize, rows: &Rows, text: &str) -> Option<Place> {
    let (field, item) = text.split_once('.').map_or((text, None), |(field, item)| (field, Some(item)));
    let message = context.schema.get(rows.message)?;
    let slot = context.field(at, message.name.clone().as_str(), field)?;
    let Some(item) = item else { return Some(Place { slot, item: None }) };
    let list = rows.lists.iter().find(|list| list.slot == slot);
    let Some(super::model::Item::Part(part)) = list.map(|list| &list.item) else {
        context.sink.add(at, format!("no row reads `{field}` as a list of parts"));
        return None;
    };
    let name = context.schema.get(part.message)?.name.clone();
    let item = context.field(at, &name, item)?;
    Some(Place { slot, item: Some(item) })
}

fn unused(context: &mut Context<'_, '_>) {
    let tables = context.enums.iter().chain(&context.objects);
    let idle: Vec<(usize, String)> = tables
        .filter(|(name, _)| !context.used.iter().any(|used| used == *name))
        .map(|(name, table)| (table.at(), (*name).to_owned()))
        .collect();
    for (at, name) in idle {
        context.sink.add(at, format!("no row uses `{name}`"));
    }
}

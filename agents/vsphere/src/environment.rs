//! EnvironmentBrowser: what a VM of a compute resource may be made of. The answers are tables of the mapping (`options.toml`) and facts of
//! its hosts; what is not known is not there.
//!
//! One version of the virtual hardware is offered, the one that VMs are shown with; another is refused as an argument.

use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    inventory::{Catalog, Key},
    native,
    property_collector::content,
};
use mapping::Constant;
use union::{Kind, ObjectId};
use wire::{soap::encode::Encoder, xml::Element};

const MIB: i64 = 1024 * 1024;

/// Writes a constant as an element; a table's `type` is the element's type where fields follow that are not the base's.
fn put(out: &mut Encoder, name: &str, constant: &Constant, typed: bool) {
    match constant {
        Constant::Bool(value) => out.bool_leaf(name, *value),
        Constant::Int(value) => out.int_leaf(name, *value),
        Constant::Float(value) => out.leaf(name, &value.to_string()),
        Constant::Text(text) => out.leaf(name, text),
        Constant::List(items) => items.iter().for_each(|item| put(out, name, item, typed)),
        Constant::Table(fields) => {
            match constant.text("type").filter(|_| typed) {
                Some(ty) => out.open_typed(name, ty),
                None => out.open(name),
            }
            put_fields(out, fields.iter().filter(|(field, _)| !typed || &**field != "type"));
            out.close(name);
        }
    }
}

fn put_fields<'c>(out: &mut Encoder, fields: impl Iterator<Item = &'c (std::sync::Arc<str>, Constant)>) {
    for (field, constant) in fields {
        put(out, field, constant, &**field == DEVICES);
    }
}

/// The field whose items are of types below the schema's.
const DEVICES: &str = "defaultDevice";

fn put_table(out: &mut Encoder, catalog: &Catalog, table: &str) {
    put_fields(out, catalog.protocol().table(table).map(Constant::as_entries).unwrap_or_default().iter());
}

fn hardware<'c>(catalog: &'c Catalog, field: &str) -> &'c str {
    catalog.protocol().table("hardware").and_then(|table| table.text(field)).map_or("", |text| text)
}

/// The compute resource whose browser it is.
fn compute(call: &Call<'_>) -> Answer<ObjectId> {
    let object = call.receiver.object().filter(|object| call.catalog().record(*object).is_some());
    object.ok_or_else(|| Fault::not_found(call.this.clone()))
}

/// What a property of an object refers to, as far as the caller sees it.
fn referred(call: &Call<'_>, object: ObjectId, path: &str) -> Vec<Key> {
    let catalog = call.catalog();
    let Some((_, map)) = catalog.shown(object) else { return Vec::new() };
    let Ok(selection) = map.select(path, catalog.newest()) else { return Vec::new() };
    let mut keys = catalog.keys(object, &map, &selection, catalog.newest());
    keys.retain(|key| key.object().is_some_and(|object| call.sight().sees(object)));
    keys
}

/// The hosts that a call is about: the one it names, else those of the compute resource.
fn hosts(call: &Call<'_>, host: Option<Element<'_>>) -> Answer<Vec<Key>> {
    let all = referred(call, compute(call)?, "host");
    let Some(host) = host.and_then(native::reference) else { return Ok(all) };
    let named = call.fact(&host)?;
    let found: Vec<Key> = all.into_iter().filter(|key| key.object() == Some(named)).collect();
    match found.is_empty() {
        true => Err(Fault::invalid_argument("host", "it is not of this compute resource")),
        false => Ok(found),
    }
}

fn check_version(call: &Call<'_>, key: Option<&str>) -> Answer<()> {
    let known = hardware(call.catalog(), "key");
    match key.map(str::trim).filter(|key| !key.is_empty() && *key != known) {
        Some(_) => Err(Fault::invalid_argument(
            "key",
            &format!("expected {known}, the version of all virtual hardware here"),
        )),
        None => Ok(()),
    }
}

/// `QueryConfigOptionDescriptor`
pub(crate) fn descriptor(call: &Call<'_>) -> Answer<Reply> {
    call.session()?;
    let hosts = hosts(call, None)?;
    let catalog = call.catalog();
    Ok(Reply::write(|out| {
        out.open("returnval");
        out.leaf("key", hardware(catalog, "key"));
        out.leaf("description", hardware(catalog, "description"));
        for host in hosts.iter().filter_map(|key| catalog.reference_of(*key)) {
            native::put_reference(out, "host", &host);
        }
        for said in ["createSupported", "defaultConfigOption", "runSupported"] {
            out.bool_leaf(said, true);
        }
        out.bool_leaf("upgradeSupported", false);
        out.close("returnval");
    }))
}

/// `QueryConfigOption`
pub(crate) fn option(call: &Call<'_>) -> Answer<Reply> {
    call.session()?;
    hosts(call, call.argument("host"))?;
    check_version(call, call.argument("key").map(|key| key.text()))?;
    Ok(config_option(call.catalog(), &[]))
}

/// `QueryConfigOptionEx`
pub(crate) fn option_ex(call: &Call<'_>) -> Answer<Reply> {
    call.session()?;
    let spec = call.argument("spec");
    hosts(call, spec.and_then(|spec| spec.child("host")))?;
    check_version(call, spec.and_then(|spec| spec.child_text("key")))?;
    let guests: Vec<&str> =
        spec.into_iter().flat_map(|spec| spec.children_named("guestId")).map(|id| id.text().trim()).collect();
    Ok(config_option(call.catalog(), &guests))
}

/// The whole option, with the guests that are asked for; none: all that are known.
fn config_option(catalog: &Catalog, guests: &[&str]) -> Reply {
    let known = catalog.protocol().table("guest").map(|table| table.list("known")).unwrap_or_default();
    Reply::write(|out| {
        out.open("returnval");
        out.leaf("version", hardware(catalog, "key"));
        out.leaf("description", hardware(catalog, "description"));
        for guest in known {
            let Constant::List(texts) = guest else { continue };
            let [Constant::Text(id), Constant::Text(family), Constant::Text(name)] = texts.as_slice() else {
                continue;
            };
            if !guests.is_empty() && !guests.contains(&&**id) {
                continue;
            }
            out.open("guestOSDescriptor");
            out.leaf("id", id);
            out.leaf("family", family);
            out.leaf("fullName", name);
            put_table(out, catalog, "guest_common");
            out.close("guestOSDescriptor");
        }
        out.int_leaf("guestOSDefaultIndex", 0);
        put_table(out, catalog, "config_option");
        put_table(out, catalog, "config_option_end");
        out.close("returnval");
    })
}

/// `QueryConfigTarget`
pub(crate) fn target(call: &Call<'_>) -> Answer<Reply> {
    call.session()?;
    let named = call.argument("host");
    let hosts = hosts(call, named)?;
    let catalog = call.catalog();
    let most = |path: &str| {
        let of = |key: &Key| catalog.text(key.object()?, path)?.parse::<i64>().ok();
        hosts.iter().filter_map(of).max()
    };
    let around = match (named.is_some(), hosts.first().and_then(|key| key.object())) {
        (true, Some(host)) => host,
        _ => compute(call)?,
    };
    let mut out = Encoder::new();
    out.open("returnval");
    out.int_leaf("numCpus", most("hardware.cpuInfo.numCpuThreads").unwrap_or(0));
    out.int_leaf("numCpuCores", most("hardware.cpuInfo.numCpuCores").unwrap_or(0));
    out.int_leaf("numNumaNodes", most("hardware.numaInfo.numNodes").unwrap_or(1));
    out.bool_leaf("smcPresent", false);
    for key in referred(call, around, "datastore") {
        let Some(store) = key.object().filter(|object| object.kind == Kind::StoragePool) else { continue };
        out.open("datastore");
        out.leaf("name", &catalog.text(store, "name").unwrap_or_default());
        content::put_value(call, &mut out, "datastore", key, "summary")?;
        content::put_value(call, &mut out, "capability", key, "capability")?;
        let largest = catalog.text(store, "info.maxFileSize").and_then(|size| size.parse().ok());
        out.int_leaf("maxFileSize", largest.unwrap_or(0));
        out.leaf("mode", "readWrite");
        out.close("datastore");
    }
    for key in referred(call, around, "network") {
        let Some(network) = key.object() else { continue };
        out.open("network");
        out.leaf("name", &catalog.text(network, "name").unwrap_or_default());
        content::put_value(call, &mut out, "network", key, "summary")?;
        out.close("network");
    }
    out.int_leaf("maxMemMBOptimalPerf", most("hardware.memorySize").unwrap_or(0) / MIB);
    out.close("returnval");
    Ok(Reply::Body(out.finish()))
}

/// `QueryTargetCapabilities`
pub(crate) fn capabilities(call: &Call<'_>) -> Answer<Reply> {
    call.session()?;
    let hosts = hosts(call, call.argument("host"))?;
    let mut out = Encoder::new();
    if let Some(host) = hosts.first() {
        content::put_value(call, &mut out, "returnval", *host, "capability")?;
    }
    Ok(Reply::Body(out.finish()))
}

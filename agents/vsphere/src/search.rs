//! SearchIndex: look-ups by the inventory's indexes, none of them a scan of the inventory.

use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    inventory::Catalog,
    tree,
};
use union::{Kind, ObjectId};
use wire::xml::Element;

/// What a search looks for.
#[derive(Clone, Copy)]
enum By {
    Uuid,
    Ip,
    Dns,
}

/// `FindByUuid`
pub(crate) fn by_uuid(call: &Call<'_>) -> Answer<Reply> {
    first(call, By::Uuid)
}

/// `FindByIp`
pub(crate) fn by_ip(call: &Call<'_>) -> Answer<Reply> {
    first(call, By::Ip)
}

/// `FindByDnsName`
pub(crate) fn by_dns(call: &Call<'_>) -> Answer<Reply> {
    first(call, By::Dns)
}

/// `FindAllByUuid`
pub(crate) fn all_by_uuid(call: &Call<'_>) -> Answer<Reply> {
    call.references(&found(call, By::Uuid)?)
}

/// `FindAllByIp`
pub(crate) fn all_by_ip(call: &Call<'_>) -> Answer<Reply> {
    call.references(&found(call, By::Ip)?)
}

/// `FindAllByDnsName`
pub(crate) fn all_by_dns(call: &Call<'_>) -> Answer<Reply> {
    call.references(&found(call, By::Dns)?)
}

/// `FindByInventoryPath`
pub(crate) fn by_inventory_path(call: &Call<'_>) -> Answer<Reply> {
    let catalog = call.catalog();
    let path = call.text("inventoryPath")?;
    let found = catalog.tree().at_path(catalog, catalog.root(), path);
    call.references(found.as_slice())
}

/// `FindChild`
pub(crate) fn child(call: &Call<'_>) -> Answer<Reply> {
    let parent = call.object("entity")?;
    let catalog = call.catalog();
    let name = call.text("name")?;
    let mut found = catalog.tree().children_named(catalog, parent, name);
    if found.is_empty() {
        found = catalog.tree().children_named(catalog, parent, &tree::unescape(name));
    }
    found.truncate(1);
    call.references(&found)
}

/// `FindByDatastorePath`: `[pool] directory/file.vmx`
pub(crate) fn by_datastore_path(call: &Call<'_>) -> Answer<Reply> {
    let datacenter = call.object("datacenter")?;
    let path = call.text("path")?;
    let catalog = call.catalog();
    let parsed = path.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (pool, file) =
        parsed.ok_or_else(|| Fault::invalid_argument("path", "expected \"[datastore] directory/file\""))?;
    let pools = pools(catalog, pool, Some(datacenter));
    if pools.is_empty() {
        return Err(Fault::new("InvalidDatastorePath", format!("Invalid datastore path '{path}'."))
            .with("datastorePath", crate::fault::Field::Text(path.into())));
    }
    call.references(in_pools(catalog, &pools, pool, file.trim_start()).as_slice())
}

/// The VM whose configuration file is `file` in the storage pool called `pool`.
pub(crate) fn by_file(
    catalog: &Catalog,
    datacenter: Option<&str>,
    pool: &str,
    file: &str,
) -> Option<ObjectId> {
    let datacenter = match datacenter {
        Some(path) => Some(catalog.tree().at_path(catalog, catalog.root(), path)?),
        None => None,
    };
    in_pools(catalog, &pools(catalog, pool, datacenter), pool, file)
}

fn pools(catalog: &Catalog, name: &str, datacenter: Option<ObjectId>) -> Vec<ObjectId> {
    let Some(slot) = catalog.schema().slot(Kind::StoragePool, "name") else { return Vec::new() };
    let found = catalog.inventory().find(Kind::StoragePool, slot, name).into_iter();
    found.filter(|id| in_datacenter(catalog, *id, datacenter)).collect()
}

fn in_pools(catalog: &Catalog, pools: &[ObjectId], pool: &str, file: &str) -> Option<ObjectId> {
    let slot = |field| catalog.schema().slot(Kind::Vm, field);
    let (home, home_pool) = (slot("home")?, slot("home_pool_id")?);
    let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut vms = Vec::new();
    for pool in pools {
        catalog.inventory().referring(Kind::Vm, home_pool, *pool, &mut vms);
    }
    let shown = format!("[{pool}] {file}");
    vms.into_iter().find(|id| {
        catalog.record(*id).is_some_and(|vm| vm.get(home).as_str() == Some(directory))
            && catalog.text(*id, "config.files.vmPathName").is_some_and(|path| path == shown)
    })
}

fn first(call: &Call<'_>, by: By) -> Answer<Reply> {
    let mut found = found(call, by)?;
    let sight = call.sight();
    found.retain(|id| sight.sees(*id));
    found.truncate(1);
    call.references(&found)
}

fn found(call: &Call<'_>, by: By) -> Answer<Vec<ObjectId>> {
    let vms = call.argument("vmSearch").and_then(Element::bool).unwrap_or(true);
    let instance = call.argument("instanceUuid").and_then(Element::bool).unwrap_or(false);
    let (text, fields): (&str, &[&str]) = match by {
        By::Uuid if vms && instance => (call.text("uuid")?, &["instance_uuid"]),
        By::Uuid => (call.text("uuid")?, &["uuid"]),
        By::Ip if vms => (call.text("ip")?, &["guest_ip"]),
        By::Ip => (call.text("ip")?, &["management_ip"]),
        By::Dns if vms => (call.text("dnsName")?, &["guest_hostname"]),
        By::Dns => (call.text("dnsName")?, &["name"]),
    };
    let kind = if vms { Kind::Vm } else { Kind::Host };
    let datacenter = match call.argument("datacenter") {
        Some(_) => Some(call.object("datacenter")?),
        None => None,
    };
    let catalog = call.catalog();
    let mut found = Vec::new();
    for field in fields {
        if let Some(slot) = catalog.schema().slot(kind, field) {
            found.extend(catalog.inventory().find(kind, slot, text.trim()));
        }
    }
    found.retain(|id| in_datacenter(call.catalog(), *id, datacenter));
    Ok(found)
}

fn in_datacenter(catalog: &Catalog, id: ObjectId, datacenter: Option<ObjectId>) -> bool {
    let Some(datacenter) = datacenter else { return true };
    let slot = catalog.schema().slot(id.kind, "datacenter_id");
    let named = slot.and_then(|slot| catalog.record(id)?.get(slot).as_ref_id());
    named == Some(datacenter)
}

//! AuthorizationManager: who may do what, in the product's privileges. Users, roles and scopes themselves are the installation's own
//! affair, `hyperglot ctl`; what the product has for changing them is not offered.
//!
//! A scope is shown as a permission that propagates, on the object where it begins, for the whole installation the root folder. Who may end
//! others' sessions sees the permissions of all, others their own.

mod directory;
mod roles;

pub(crate) use directory::{knows, refresh, wants};
pub(crate) use roles::{privilege_records, role_records};
use roles::{privileges as all_privileges, roles};

use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    inventory::Catalog,
    native,
    permission::{self, Sight},
    session::Session,
};
use directory::Held;
use guard::Grant;
use mapping::NativeRef;
use std::{collections::BTreeSet, sync::Arc};
use union::{Kind, ObjectId, command::Class, pb};
use wire::{soap::encode::Encoder, xml::Element};

/// Entities and privileges asked about in one call, multiplied.
const MOST: usize = 10_000;

/// Whether a session has a privilege on an object.
fn has(call: &Call<'_>, session: &Session, object: ObjectId, privilege: &str) -> bool {
    if privilege.starts_with("System.") {
        return Sight::new(call.front, &session.pass).sees(object);
    }
    let verbs = permission::verbs(call.catalog(), privilege);
    if verbs.is_empty() {
        // A privilege that nothing served needs: whoever may do everything has it.
        return permission::may(call.front, session, privilege, object);
    }
    verbs.iter().any(|verb| permission::may(call.front, session, verb, object))
}

/// The session that a call asks about: its own, or another's if it may end that.
fn asked(call: &Call<'_>) -> Answer<Arc<Session>> {
    let own = call.session()?;
    let id = call.text("sessionId")?.trim();
    if *own.id == *id {
        return Ok(own.clone());
    }
    let unknown = || Fault::invalid_argument("sessionId", "there is no such session");
    if !permission::may(call.front, own, permission::TERMINATE, call.catalog().service()) {
        return Err(unknown());
    }
    call.front.sessions.list().into_iter().find(|session| *session.id == *id).ok_or_else(unknown)
}

fn privileges<'r>(call: &Call<'r>, entities: usize) -> Answer<Vec<&'r str>> {
    let privileges: Vec<&str> = call.arguments("privId").map(Element::text).map(str::trim).collect();
    if entities.saturating_mul(privileges.len()) > MOST {
        return Err(Fault::invalid_argument("privId", "more than one call may ask about"));
    }
    Ok(privileges)
}

/// `HasPrivilegeOnEntities`
pub(crate) fn has_on_entities(call: &Call<'_>) -> Answer<Reply> {
    let session = asked(call)?;
    let entities: Vec<_> = call.arguments("entity").filter_map(native::reference).collect();
    let privileges = privileges(call, entities.len())?;
    let mut objects = Vec::with_capacity(entities.len());
    for entity in &entities {
        objects.push(call.fact(entity)?);
    }
    Ok(Reply::write(|out| {
        for (entity, object) in entities.iter().zip(objects) {
            out.open("returnval");
            native::put_reference(out, "entity", entity);
            for privilege in &privileges {
                out.open("privAvailability");
                out.leaf("privId", privilege);
                out.bool_leaf("isGranted", has(call, &session, object, privilege));
                out.close("privAvailability");
            }
            out.close("returnval");
        }
    }))
}

/// `HasPrivilegeOnEntity`
pub(crate) fn has_on_entity(call: &Call<'_>) -> Answer<Reply> {
    let session = asked(call)?;
    let object = call.object("entity")?;
    let privileges = privileges(call, 1)?;
    Ok(Reply::write(|out| {
        for privilege in &privileges {
            out.bool_leaf("returnval", has(call, &session, object, privilege));
        }
    }))
}

/// What another user may do, asked like a session's own grant.
struct Other {
    grant: Grant,
    now_ms: i64,
}

impl Other {
    fn has(&self, call: &Call<'_>, object: ObjectId, privilege: &str) -> bool {
        let tree = permission::Above(call.catalog());
        let may = |verb: &str| {
            let class = if verb == "Read" { Class::Read } else { Class::Idempotent };
            self.grant.allows(verb, class, object, &tree, self.now_ms).is_ok()
        };
        match privilege.starts_with("System.") {
            true => may("Read"),
            false => {
                let verbs = permission::verbs(call.catalog(), privilege);
                if verbs.is_empty() { may(privilege) } else { verbs.into_iter().any(may) }
            }
        }
    }
}

/// Whose privileges a call asks about: the caller's (`None`), or those of another user whom the caller may know of.
async fn user(call: &Call<'_>) -> Answer<Option<Other>> {
    let session = call.session()?;
    let name = call.text("userName")?.trim();
    if *name == *session.principal {
        return Ok(None);
    }
    let known = refresh(call.front, session).await;
    let service = call.catalog().service();
    if !known.whole && !permission::may(call.front, session, permission::TERMINATE, service) {
        let cause = call.sight().refuse(service);
        return Err(call.front.fault_of(&cause, &call.this));
    }
    let groups: BTreeSet<&str> = known
        .groups
        .iter()
        .filter(|group| group.users.iter().any(|user| user == name))
        .map(|group| group.name.as_str())
        .collect();
    let reaching = known
        .permissions
        .iter()
        .filter(|p| if p.group { groups.contains(p.who.as_str()) } else { p.who == name })
        .filter_map(|permission| permission.scope.clone());
    let now_ms = call.front.clock.now_ms();
    let content = pb::Grant {
        principal: name.to_owned(),
        scopes: reaching.collect(),
        expires_ms: i64::MAX,
        ..pb::Grant::default()
    };
    Ok(Some(Other { grant: Grant::unsigned(content), now_ms }))
}

/// The entities of a call, with the objects they are.
fn entities(call: &Call<'_>) -> Answer<Vec<(NativeRef, ObjectId)>> {
    let entities = call.arguments("entities").filter_map(native::reference);
    entities.map(|entity| call.fact(&entity).map(|object| (entity, object))).collect()
}

/// `FetchUserPrivilegeOnEntities`
pub(crate) async fn fetch_of_user(call: &Call<'_>) -> Answer<Reply> {
    let session = call.session()?;
    let other = user(call).await?;
    let (entities, all) = (entities(call)?, all_privileges(call.catalog()));
    if entities.len().saturating_mul(all.len()) > MOST {
        return Err(Fault::invalid_argument("entities", "more than one call may ask about"));
    }
    Ok(Reply::write(|out| {
        for (entity, object) in entities {
            out.open("returnval");
            native::put_reference(out, "entity", &entity);
            for privilege in &all {
                let has = match &other {
                    None => has(call, session, object, privilege),
                    Some(other) => other.has(call, object, privilege),
                };
                if has {
                    out.leaf("privileges", privilege);
                }
            }
            out.close("returnval");
        }
    }))
}

/// `HasUserPrivilegeOnEntities`
pub(crate) async fn has_of_user(call: &Call<'_>) -> Answer<Reply> {
    let session = call.session()?;
    let other = user(call).await?;
    let entities = entities(call)?;
    let privileges = privileges(call, entities.len())?;
    Ok(Reply::write(|out| {
        for (entity, object) in entities {
            out.open("returnval");
            native::put_reference(out, "entity", &entity);
            for privilege in &privileges {
                let has = match &other {
                    None => has(call, session, object, privilege),
                    Some(other) => other.has(call, object, privilege),
                };
                out.open("privAvailability");
                out.leaf("privId", privilege);
                out.bool_leaf("isGranted", has);
                out.close("privAvailability");
            }
            out.close("returnval");
        }
    }))
}

/// A permission with the object it is on, if the caller sees that.
fn placed<'k>(call: &Call<'_>, known: &'k pb::Directory) -> Vec<(NativeRef, ObjectId, Held<'k>)> {
    let catalog = call.catalog();
    let sight = call.sight();
    let place = |held: &Held<'_>| {
        let root = match held.scope.root_id.as_str() {
            "" => catalog.root(),
            id => id.parse().ok().filter(|id: &ObjectId| catalog.record(*id).is_some() && sight.sees(*id))?,
        };
        Some((catalog.reference(root)?, root))
    };
    let held = known.permissions.iter().filter_map(Held::of);
    held.filter_map(|held| place(&held).map(|(reference, root)| (reference, root, held))).collect()
}

fn put_permission(catalog: &Catalog, out: &mut Encoder, entity: &NativeRef, held: &Held<'_>) {
    out.open("returnval");
    native::put_reference(out, "entity", entity);
    out.leaf("principal", held.who);
    out.bool_leaf("group", held.group);
    out.int_leaf("roleId", held.role_number(catalog));
    out.bool_leaf("propagate", true);
    out.close("returnval");
}

/// `RetrieveAllPermissions`
pub(crate) async fn all(call: &Call<'_>) -> Answer<Reply> {
    let known = refresh(call.front, call.session()?).await;
    Ok(Reply::write(|out| {
        for (entity, _, held) in placed(call, &known) {
            put_permission(call.catalog(), out, &entity, &held);
        }
    }))
}

/// `RetrieveRolePermissions`
pub(crate) async fn of_role(call: &Call<'_>) -> Answer<Reply> {
    let known = refresh(call.front, call.session()?).await;
    let number = call.int("roleId")?;
    if !roles(call.catalog(), &known).iter().any(|role| role.number == number) {
        return Err(Fault::new("NotFound", "There is no such role."));
    }
    Ok(Reply::write(|out| {
        for (entity, _, held) in placed(call, &known) {
            if held.role_number(call.catalog()) == number {
                put_permission(call.catalog(), out, &entity, &held);
            }
        }
    }))
}

/// `RetrieveEntityPermissions`: those on the entity, and with `inherited` those above it that reach it.
pub(crate) async fn of_entity(call: &Call<'_>) -> Answer<Reply> {
    let object = call.object("entity")?;
    if !call.sight().sees(object) {
        return Err(call.front.fault_of(&call.sight().refuse(object), &call.this));
    }
    let inherited = call.argument("inherited").is_some_and(|i| matches!(i.text().trim(), "true" | "1"));
    let known = refresh(call.front, call.session()?).await;
    let above = if inherited { directory::above(call.catalog(), object) } else { BTreeSet::new() };
    Ok(Reply::write(|out| {
        for (entity, root, held) in placed(call, &known) {
            let reaches = root == object
                || inherited
                    && held.covers(object.kind)
                    && (above.contains(&root)
                        || root == call.catalog().root() && object.kind != Kind::Service);
            if reaches {
                put_permission(call.catalog(), out, &entity, &held);
            }
        }
    }))
}

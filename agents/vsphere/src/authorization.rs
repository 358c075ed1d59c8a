//! AuthorizationManager: what a session may do, in the product's privileges. Users, roles and scopes themselves are the installation's
//! own affair, `hyperglot ctl`; what the product has for changing them is not offered.

use crate::{
    call::{Call, Reply},
    fault::{Answer, Fault},
    native,
    permission::{self, Sight},
    session::Session,
};
use std::sync::Arc;
use union::ObjectId;
use wire::xml::Element;

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

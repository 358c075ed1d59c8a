//! What the engine tells a session of permissions and sessions, kept with the session until it is asked again.
//!
//! ```text
//! a call that will read it ─▶ asked for ─┬─ told: kept, read from now on
//!                                        └─ the engine is away: what the session's own grant says, and the front's own sessions
//! ```

use crate::{
    authorization::roles, call::Call, front::Front, inventory::Catalog, permission::Above, session::Session,
};
use guard::Tree;
use std::{collections::BTreeSet, sync::Arc};
use union::{Kind, ObjectId, pb};
use wire::xml::Element;

/// Properties that are told from it.
const READ: &[&str] = &["roleList", "sessionList"];
/// The types that have them.
const TYPES: &[&str] = &["AuthorizationManager", "SessionManager"];
/// The methods that read properties.
const METHODS: &[&str] = &["RetrieveProperties", "RetrievePropertiesEx", "CreateFilter", "Fetch"];
/// Containers above an object.
const ANCESTORS: usize = 4_096;

/// Whether a call will read what only the engine knows.
pub(crate) fn wants(call: &Call<'_>) -> bool {
    if !METHODS.contains(&call.method) {
        return false;
    }
    let named = |element: Element<'_>| {
        let text = element.text().trim();
        READ.iter()
            .any(|path| text.strip_prefix(path).is_some_and(|rest| !rest.starts_with(char::is_alphabetic)))
    };
    let asks = |spec: Element<'_>| {
        let all = spec.child_text("all").is_some_and(|all| matches!(all.trim(), "true" | "1"));
        spec.children_named("pathSet").any(named)
            || all && spec.child_text("type").is_some_and(|ty| TYPES.contains(&ty.trim()))
    };
    call.arguments("prop").any(named)
        || call
            .arguments("specSet")
            .chain(call.arguments("spec"))
            .any(|s| s.children_named("propSet").any(asks))
}

/// Asks the engine anew. Of a session whose engine is away: what its grant says.
pub(crate) async fn refresh(front: &Front, session: &Session) -> Arc<pb::Directory> {
    let told = front.sessions.logins().directory(&session.pass, &[]).await;
    let directory = Arc::new(told.unwrap_or_else(|error| {
        tracing::debug!(session = &*session.id, %error, "the directory is not told");
        of_grant(session)
    }));
    *session.data.directory.lock() = Some(directory.clone());
    directory
}

/// What a session knows.
pub(crate) fn knows(session: &Session) -> Arc<pb::Directory> {
    let kept = session.data.directory.lock().clone();
    kept.unwrap_or_else(|| Arc::new(of_grant(session)))
}

fn of_grant(session: &Session) -> pb::Directory {
    let grant = session.pass.now();
    let scopes = grant.content.scopes.iter();
    let role = |scope: &pb::Scope| pb::Role { name: scope.role.clone(), verbs: scope.verbs.clone() };
    let mut roles: Vec<pb::Role> = scopes.clone().map(role).collect();
    roles.sort_by(|a, b| a.name.cmp(&b.name));
    roles.dedup_by(|a, b| a.name == b.name);
    let permission = |scope: &pb::Scope| pb::Permission {
        who: session.principal.to_string(),
        group: false,
        scope: Some(scope.clone()),
    };
    pb::Directory { roles, permissions: scopes.map(permission).collect(), ..pb::Directory::default() }
}

/// A permission, as it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'k> {
    /// The user or the group.
    pub(crate) who: &'k str,
    /// Whether it is a group.
    pub(crate) group: bool,
    /// What it covers.
    pub(crate) scope: &'k pb::Scope,
}

impl<'k> Held<'k> {
    /// Of a permission that says what it covers.
    pub(crate) fn of(permission: &'k pb::Permission) -> Option<Held<'k>> {
        let scope = permission.scope.as_ref()?;
        Some(Held { who: &permission.who, group: permission.group, scope })
    }

    /// The number of its role.
    pub(crate) fn role_number(&self, catalog: &Catalog) -> i64 {
        roles::number(catalog, &roles::shown_name(&self.scope.role, &self.scope.kinds))
    }

    /// Whether it holds for objects of a kind.
    pub(crate) fn covers(&self, kind: Kind) -> bool {
        self.scope.kinds.is_empty() || self.scope.kinds.iter().any(|word| word == kind.word())
    }
}

/// All that an object is below.
pub(crate) fn above(catalog: &Catalog, object: ObjectId) -> BTreeSet<ObjectId> {
    let mut above = BTreeSet::new();
    let mut open = vec![object];
    while let Some(id) = open.pop() {
        let mut parents = Vec::new();
        Above(catalog).parents(id, &mut parents);
        for parent in parents {
            if above.len() < ANCESTORS && above.insert(parent) {
                open.push(parent);
            }
        }
    }
    above
}

//! Who may do what here and who sees what, asked of the session's grant over the tree that the view shows.
//!
//! ```text
//! command   Pass::authorize by union verb; a refusal names the product's privilege, `[table.privilege]` of the mapping
//! reading   a grant that reads everything sees everything; a narrower one sees what its scopes cover, the containers among it,
//!           and the way up from where a scope begins, so that clients can find it
//! ```
//!
//! What a session does not see is left out of searches, traversals and histories; asked for by name it is `NoPermission`.

use crate::{
    front::Front,
    inventory::{Catalog, Key},
    session::Session,
};
use ::inventory::Inventory;
use guard::{Grant, Pass, Tree};
use mapping::{Constant, NativeRef};
use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;
use union::{
    Kind, ObjectId, Record, Value,
    command::{Cause, Class, Code},
    pb,
};

/// The word under which ending others' sessions is allowed.
pub(crate) const TERMINATE: &str = "TerminateSession";
/// The argument of a cause that names the privilege which is missing.
pub(crate) const PRIVILEGE: &str = "privilegeId";
/// The argument of a cause that names what it is missing on.
const OBJECT: &str = "object";
/// The privileges of reading: of what the tree shows, and of everything else.
const VIEW: &str = "System.View";
const READ: &str = "System.Read";
/// Containers above which a scope may begin.
const ANCESTORS: usize = 4_096;

/// Where objects hang, as scopes see it.
pub(crate) struct Above<'a>(pub(crate) &'a Catalog);

impl Tree for Above<'_> {
    fn parents(&self, id: ObjectId, out: &mut Vec<ObjectId>) {
        let Some(record) = self.0.record(id) else { return };
        out.extend(self.0.tree().above(id.kind, &record));
        // A scope names the fleet's folders.
        let fleet = self.0.view().in_fleet(id);
        if fleet != id {
            out.push(fleet);
        }
        if let Some(about) = about(self.0.inventory(), id, &record) {
            out.push(about);
        }
    }
}

/// The object that something outside the tree is about: a task's, a snapshot's.
fn about(inventory: &Inventory, id: ObjectId, record: &Record) -> Option<ObjectId> {
    let field = match id.kind {
        Kind::Task => "object_id",
        Kind::Snapshot => "vm_id",
        _ => return None,
    };
    record.get(inventory.schema().slot(id.kind, field)?).as_ref_id()
}

/// Whether a session may send a command of `class`, called `verb`, to `object`.
pub(crate) fn check(
    front: &Front,
    session: &Session,
    verb: &str,
    class: Class,
    object: ObjectId,
) -> Result<(), Cause> {
    let allowed = session.pass.authorize(verb, class, object, &Above(&front.catalog), front.clock.now_ms());
    allowed.map_err(|cause| named(&front.catalog, cause, verb, None, object))
}

/// Whether a session may do what is not a command to an object of the inventory. Asking is not trying: a refusal is not noted.
pub(crate) fn may(front: &Front, session: &Session, verb: &str, object: ObjectId) -> bool {
    let (tree, now_ms) = (Above(&front.catalog), front.clock.now_ms());
    session.pass.now().allows(verb, Class::Idempotent, object, &tree, now_ms).is_ok()
}

/// A refusal with the privilege and the object that the product names in it; other causes as they are.
pub(crate) fn named(
    catalog: &Catalog,
    mut cause: Cause,
    verb: &str,
    body: Option<&Record>,
    object: ObjectId,
) -> Cause {
    if cause.code != Code::Permission || cause.arguments.iter().any(|(name, _)| &**name == PRIVILEGE) {
        return cause;
    }
    let privilege = privilege(catalog, verb, body).unwrap_or_else(|| Arc::from(VIEW));
    cause.arguments.push((Arc::from(PRIVILEGE), Value::Str(privilege)));
    if !cause.arguments.iter().any(|(name, _)| &**name == OBJECT) {
        cause.arguments.push((Arc::from(OBJECT), Value::Ref(object)));
    }
    cause
}

/// The product's privilege for a union verb; of one that changes several things, for the first of `body`'s fields that the table has.
fn privilege(catalog: &Catalog, verb: &str, body: Option<&Record>) -> Option<Arc<str>> {
    let table = catalog.protocol().table("privilege")?;
    match table.get(verb)? {
        Constant::Text(text) => Some(text.clone()),
        by_field => {
            let schema = catalog.schema();
            let set = |field: &str| {
                let body = body?;
                let slot = schema.get(body.message())?.field(field)?.slot;
                (!body.get(slot).is_absent()).then_some(())
            };
            let mut fields = by_field.as_entries().iter();
            let found = fields.find_map(|(field, privilege)| {
                set(field)?;
                privilege.as_text().cloned()
            });
            found.or_else(|| by_field.text("otherwise").cloned())
        }
    }
}

/// The union verbs that a privilege of the product stands for.
pub(crate) fn verbs<'c>(catalog: &'c Catalog, privilege: &str) -> Vec<&'c str> {
    let Some(table) = catalog.protocol().table("privilege") else { return Vec::new() };
    let stands = |constant: &Constant| match constant {
        Constant::Text(text) => &**text == privilege,
        by_field => {
            by_field.as_entries().iter().any(|(_, text)| text.as_text().is_some_and(|t| &**t == privilege))
        }
    };
    table.as_entries().iter().filter(|(_, constant)| stands(constant)).map(|(verb, _)| &**verb).collect()
}

/// What one session sees.
pub(crate) struct Sight<'a> {
    catalog: &'a Catalog,
    narrow: Option<Narrow>,
}

struct Narrow {
    grant: Arc<Grant>,
    principal: Arc<str>,
    now_ms: i64,
    /// Scopes that read, as far as containers are concerned: whatever kinds they name.
    containers: Vec<pb::Scope>,
    /// The way up from where they begin.
    above: FxHashSet<ObjectId>,
    known: Mutex<FxHashMap<ObjectId, bool>>,
}

fn reads(scope: &pb::Scope) -> bool {
    scope.verbs.iter().any(|verb| verb == "*" || verb == "Read")
}

impl<'a> Sight<'a> {
    /// What the holder of `pass` sees.
    pub(crate) fn new(front: &'a Front, pass: &Pass) -> Sight<'a> {
        let (catalog, now_ms) = (&front.catalog, front.clock.now_ms());
        let grant = pass.now();
        let live = now_ms < grant.content.expires_ms;
        let mut scopes = grant.content.scopes.iter();
        if live && scopes.any(|scope| scope.root_id.is_empty() && scope.kinds.is_empty() && reads(scope)) {
            return Sight { catalog, narrow: None };
        }
        let containers: Vec<pb::Scope> =
            grant.content.scopes.iter().filter(|scope| live && reads(scope)).cloned().collect();
        let mut narrow = Narrow {
            principal: pass.principal.clone(),
            grant: grant.clone(),
            now_ms,
            above: FxHashSet::default(),
            containers,
            known: Mutex::default(),
        };
        let roots = narrow.containers.iter().filter_map(|scope| scope.root_id.parse().ok());
        let mut open: Vec<ObjectId> = roots.collect();
        while let Some(id) = open.pop() {
            let mut parents = Vec::new();
            Above(catalog).parents(id, &mut parents);
            for parent in parents {
                if narrow.above.len() < ANCESTORS && narrow.above.insert(parent) {
                    open.push(parent);
                }
            }
        }
        Sight { catalog, narrow: Some(narrow) }
    }

    /// What a caller sees. Without a session: what is open to all is not of the facts.
    pub(crate) fn of(front: &'a Front, session: Option<&Session>) -> Sight<'a> {
        match session {
            Some(session) => Sight::new(front, &session.pass),
            None => Sight { catalog: &front.catalog, narrow: None },
        }
    }

    /// Whether what a reference leads to is seen; what leads nowhere is no secret.
    pub(crate) fn sees_reference(&self, reference: &NativeRef) -> bool {
        self.narrow.is_none()
            || self.catalog.resolve(reference).and_then(Key::object).is_none_or(|id| self.sees(id))
    }

    /// Whether it is everything.
    pub(crate) fn is_whole(&self) -> bool {
        self.narrow.is_none()
    }

    /// Whether the session sees an object.
    pub(crate) fn sees(&self, id: ObjectId) -> bool {
        let Some(narrow) = &self.narrow else { return true };
        if narrow.above.contains(&id) {
            return true;
        }
        if id.kind == Kind::Service {
            return !narrow.containers.is_empty();
        }
        if let Some(known) = narrow.known.lock().get(&id) {
            return *known;
        }
        if id.kind == Kind::Task && self.is_own(narrow, id) {
            return true;
        }
        let tree = Above(self.catalog);
        let read = narrow.grant.allows("Read", Class::Read, id, &tree, narrow.now_ms).is_ok();
        let sees = read || (is_container(id.kind) && narrow.contains(self.catalog, id));
        narrow.known.lock().insert(id, sees);
        sees
    }

    /// Whether a task is the session's principal's own.
    fn is_own(&self, narrow: &Narrow, task: ObjectId) -> bool {
        let slot = self.catalog.schema().slot(Kind::Task, "principal");
        let by = slot.and_then(|slot| self.catalog.record(task).map(|task| task.get(slot).clone()));
        by.is_some_and(|by| by.as_str() == Some(&*narrow.principal))
    }

    /// Why an object cannot be read.
    pub(crate) fn refuse(&self, id: ObjectId) -> Cause {
        let privilege = if is_container(id.kind) { VIEW } else { READ };
        let mut cause = Cause::new(Code::Permission, "Permission to perform this operation was denied.");
        cause.arguments.push((Arc::from(PRIVILEGE), Value::from(privilege)));
        cause.arguments.push((Arc::from(OBJECT), Value::Ref(id)));
        cause
    }
}

impl Narrow {
    fn contains(&self, catalog: &Catalog, id: ObjectId) -> bool {
        self.containers.iter().any(|scope| {
            scope.root_id.is_empty()
                || scope.root_id.parse().is_ok_and(|root: ObjectId| {
                    id == root
                        || catalog
                            .record(id)
                            .is_some_and(|record| catalog.tree().is_below(catalog, id, &record, root))
                })
        })
    }
}

fn is_container(kind: Kind) -> bool {
    matches!(kind, Kind::Folder | Kind::Datacenter | Kind::Cluster | Kind::ResourcePool)
}

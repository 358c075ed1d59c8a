//! Who may do what here, asked of the session's grant, over the tree that the view shows.

use crate::{front::Front, inventory::Catalog, session::Session};
use guard::Pass;
use union::{
    ObjectId,
    command::{Cause, Class},
};

/// The word under which ending others' sessions is allowed.
pub(crate) const TERMINATE: &str = "TerminateSession";

/// Where objects hang, as scopes see it.
struct Above<'a>(&'a Catalog);

impl guard::Tree for Above<'_> {
    fn parents(&self, id: ObjectId, out: &mut Vec<ObjectId>) {
        if let Some(record) = self.0.record(id) {
            out.extend(self.0.tree().above(id.kind, &record));
        }
    }
}

/// Whether a session may send a command of `class`, called `verb`, to `object`.
pub(crate) fn check(
    front: &Front,
    session: &Session,
    verb: &str,
    class: Class,
    object: ObjectId,
) -> Result<(), Cause> {
    pass(front, &session.pass, verb, class, object)
}

/// As [`check`], of a login without a session here.
pub(crate) fn pass(
    front: &Front,
    pass: &Pass,
    verb: &str,
    class: Class,
    object: ObjectId,
) -> Result<(), Cause> {
    pass.authorize(verb, class, object, &Above(&front.catalog), front.clock.now_ms())
}

/// Whether a session may do what is not a command to an object of the inventory.
pub(crate) fn may(front: &Front, session: &Session, verb: &str, object: ObjectId) -> bool {
    check(front, session, verb, Class::Idempotent, object).is_ok()
}

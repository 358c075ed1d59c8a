//! Grants: what one session may do at one agent, by the engine's signature.
//!
//! ```text
//! engine: issue ─▶ SignedGrant ─▶ agent: Check.take ─▶ Grant, used for each command ──▶ shown with what is sent to the engine or an owner
//!                                          │ another agent's, changed, expired, of a session that ended: refused
//! valid 24 h; renewed by the agent after 8 h, by the engine at once when permissions change
//! ```
//!
//! Scopes add up: whoever has two of them may do what either allows. A scope on an object covers what hangs below it.

use crate::{
    keys::{Keys, Public, SEPARATOR},
    pass::Tree,
    verbs,
};
use prost::Message;
use union::{
    Command, Kind, ObjectId,
    command::{Cause, Class, Code},
    pb,
};

/// How long a grant is valid, milliseconds: 24 h.
pub const TTL_MS: i64 = 24 * 3_600 * 1_000;
/// After how long an agent asks for a new one, milliseconds: 8 h.
pub const RENEW_MS: i64 = 8 * 3_600 * 1_000;
/// As many ancestors of an object are looked at.
pub const ANCESTORS: usize = 256;
/// Bytes of an encoded grant.
pub const MOST: usize = 256 * 1_024;

/// A scope, read once.
#[derive(Clone, Debug, PartialEq)]
struct Scope {
    /// `None`: everything.
    root: Option<ObjectId>,
    /// Empty: all.
    kinds: Vec<Kind>,
    verbs: Vec<String>,
}

/// What a session may do, by the engine's word.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Its content.
    pub content: pb::Grant,
    /// As the engine signed it.
    pub signed: pb::SignedGrant,
    scopes: Vec<Scope>,
}

/// Why a grant is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not signed by the engine, or changed.
    #[error("the grant was not signed by this domain's engine, or was changed")]
    Forged,
    /// For another agent.
    #[error("the grant is for the agent {theirs}, not for {ours}")]
    Agent {
        /// Whose it is.
        theirs: String,
        /// Who was shown it.
        ours: String,
    },
    /// Too old.
    #[error("the grant of {principal} expired; the engine has to renew it")]
    Expired {
        /// Who it names.
        principal: String,
    },
    /// The session ended.
    #[error("the session of {principal} has ended")]
    Ended {
        /// Who it names.
        principal: String,
    },
    /// The command names somebody else.
    #[error("the command names {asserted}, the grant {principal}")]
    Principal {
        /// Who the grant names.
        principal: String,
        /// Who the command names.
        asserted: String,
    },
}

impl From<GrantError> for Cause {
    fn from(error: GrantError) -> Cause {
        Cause::new(Code::Permission, error.to_string())
    }
}

fn parts<'p>(domain: &'p str, grant: &'p [u8]) -> [&'p [u8]; 5] {
    [b"hyperglot grant", SEPARATOR, domain.as_bytes(), SEPARATOR, grant]
}

impl Grant {
    /// The engine's grant of `content`.
    pub fn issue(content: pb::Grant, domain: &str, keys: &Keys) -> Grant {
        let grant = content.encode_to_vec();
        let signature = keys.sign(&parts(domain, &grant)).unwrap_or_default();
        Grant::read(content, pb::SignedGrant { grant, signature })
    }

    /// A grant without the engine's signature: nobody but its maker believes it.
    pub fn unsigned(content: pb::Grant) -> Grant {
        Grant::read(content, pb::SignedGrant::default())
    }

    fn read(content: pb::Grant, signed: pb::SignedGrant) -> Grant {
        let scopes = content.scopes.iter().filter_map(scope).collect();
        Grant { content, signed, scopes }
    }

    /// Whether it covers a command, on every object that the command needs permission for.
    ///
    /// # Errors
    /// [`Code::Permission`] with a sentence for people; the fault's own words are the front's to choose.
    pub fn covers(&self, command: &Command, tree: &dyn Tree, now_ms: i64) -> Result<(), Cause> {
        verbs::objects(command)
            .into_iter()
            .try_for_each(|object| self.allows(&command.verb, command.schema.class, object, tree, now_ms))
    }

    /// Whether it covers a verb on one object; it also says no once it has expired.
    ///
    /// # Errors
    /// As [`Grant::covers`].
    pub fn allows(
        &self,
        verb: &str,
        class: Class,
        object: ObjectId,
        tree: &dyn Tree,
        now_ms: i64,
    ) -> Result<(), Cause> {
        let no = |why: &str| {
            let message = format!("{verb} on {object} refused: {} {why}", self.content.principal);
            Err(Cause::new(Code::Permission, message))
        };
        if now_ms >= self.content.expires_ms {
            return no("has a session whose permissions are too old; the engine has not renewed them");
        }
        let fits = |scope: &&Scope| {
            (scope.kinds.is_empty() || scope.kinds.contains(&object.kind))
                && scope
                    .verbs
                    .iter()
                    .any(|v| v == verbs::ALL || v == verb || (class == Class::Read && v == verbs::READ))
        };
        let mut fitting = self.scopes.iter().filter(fits).peekable();
        if fitting.peek().is_none() {
            return no("has no permission for it there");
        }
        let mut above = Vec::new();
        let allowed = fitting.any(|scope| {
            scope.root.is_none_or(|root| {
                if above.is_empty() {
                    above = ancestors(object, tree);
                }
                above.contains(&root)
            })
        });
        if allowed { Ok(()) } else { no("has no permission for it there") }
    }
}

/// A scope that names what does not exist covers nothing.
fn scope(scope: &pb::Scope) -> Option<Scope> {
    let root = match scope.root_id.as_str() {
        "" => None,
        id => Some(id.parse().ok()?),
    };
    let kinds: Vec<Kind> = scope.kinds.iter().filter_map(|word| Kind::from_word(word)).collect();
    let named = scope.kinds.is_empty() || !kinds.is_empty();
    named.then(|| Scope { root, kinds, verbs: scope.verbs.clone() })
}

/// The object and everything above it.
fn ancestors(object: ObjectId, tree: &dyn Tree) -> Vec<ObjectId> {
    let mut above = vec![object];
    let mut looked = 0;
    let mut parents = Vec::new();
    while let Some(id) = above.get(looked).copied() {
        looked += 1;
        tree.parents(id, &mut parents);
        for parent in parents.drain(..) {
            if above.len() < ANCESTORS && !above.contains(&parent) {
                above.push(parent);
            }
        }
    }
    above
}

/// Believes grants, at one agent or in the engine.
#[derive(Clone, Debug)]
pub struct Check {
    domain: std::sync::Arc<str>,
    engine: Public,
}

impl Check {
    /// Grants of this domain's engine, whose key is `engine`.
    pub fn new(domain: &str, engine: Public) -> Check {
        Check { domain: domain.into(), engine }
    }

    /// A grant as it was issued to `agent` once: what it says may be over by now.
    ///
    /// # Errors
    /// [`GrantError::Forged`], [`GrantError::Agent`].
    pub fn issued(&self, signed: &pb::SignedGrant, agent: &str) -> Result<Grant, GrantError> {
        if signed.grant.len() > MOST
            || !self.engine.verifies(&parts(&self.domain, &signed.grant), &signed.signature)
        {
            return Err(GrantError::Forged);
        }
        let content = pb::Grant::decode(signed.grant.as_slice()).map_err(|_| GrantError::Forged)?;
        if content.agent != agent {
            return Err(GrantError::Agent { theirs: content.agent, ours: agent.to_owned() });
        }
        Ok(Grant::read(content, signed.clone()))
    }

    /// A grant that is valid for `agent` now.
    ///
    /// # Errors
    /// As [`Check::issued`], and [`GrantError::Expired`].
    pub fn take(&self, signed: &pb::SignedGrant, agent: &str, now_ms: i64) -> Result<Grant, GrantError> {
        let grant = self.issued(signed, agent)?;
        if now_ms >= grant.content.expires_ms {
            return Err(GrantError::Expired { principal: grant.content.principal });
        }
        Ok(grant)
    }
}

#[cfg(test)]
mod tests;

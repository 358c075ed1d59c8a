//! A login, in the hands of a front.

use crate::{LoginError, Secret};
use async_trait::async_trait;
use parking_lot::RwLock;
use std::{net::IpAddr, sync::Arc};
use tokio_util::sync::CancellationToken;
use union::{
    ObjectId,
    command::{Cause, Class},
    pb,
};

/// What a session may do, by the engine's word.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Its content.
    pub content: pb::Grant,
    /// As the engine signed it.
    pub signed: pb::SignedGrant,
}

/// Where an object hangs, as scopes see it: whoever may do something to a parent may do it to the child.
pub trait Tree {
    /// The parents of an object: its folder, host, pool, cluster, datacenter; what holds a folder. Adds to `out`.
    fn parents(&self, id: ObjectId, out: &mut Vec<ObjectId>);
}

/// A session as its front holds it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pass {
    /// A name for the session that may be shown.
    pub session: Arc<str>,
    /// The secret that names it, for the client alone.
    pub key: Secret,
    /// Who logged in.
    pub principal: Arc<str>,
    /// Unix milliseconds.
    pub created_ms: i64,
    /// Cancelled when the session is revoked, has expired, or was logged out anywhere.
    pub ended: CancellationToken,
    /// What it may do now.
    pub grant: Arc<RwLock<Arc<Grant>>>,
}

/// Who wants in.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The password.
    pub password: &'a Secret,
    /// From where.
    pub remote: IpAddr,
    /// In which protocol, for example `vsphere`.
    pub protocol: &'a str,
}

/// Answers logins: the engine, or the way to it.
#[async_trait]
pub trait Logins: Send + Sync + std::fmt::Debug {
    /// Begins a session.
    async fn login(&self, applicant: Applicant<'_>) -> Result<Pass, LoginError>;

    /// Begins another session of the same principal, for a client that was given the right to by a live session (a clone ticket): without a
    /// password, with the same permissions. [`LoginError::Wrong`]: the session that is shown has ended.
    async fn again(&self, pass: &Pass, remote: IpAddr) -> Result<Pass, LoginError>;

    /// Goes on with a session that began at another front or before a restart, by the secret its client holds; `None`: there is none.
    async fn resume(&self, key: &Secret, protocol: &str) -> Result<Option<Pass>, LoginError>;

    /// Ends a session everywhere.
    async fn end(&self, pass: &Pass);

    /// The session was used: its idle time begins anew. Never waits.
    fn used(&self, pass: &Pass);
}

impl Pass {
    /// Whether the session may send a command of `class`, called `verb`, to `object`.
    ///
    /// # Errors
    /// [`Code::Permission`](union::command::Code) with a sentence for people; the fault's `privilegeId` is the front's to choose.
    pub fn authorize(
        &self,
        verb: &str,
        class: Class,
        object: ObjectId,
        tree: &dyn Tree,
        now_ms: i64,
    ) -> Result<(), Cause> {
        let grant = Arc::clone(&self.grant.read());
        grant.allows(verb, class, object, tree, now_ms)
    }
}

impl Grant {
    /// Whether the grant covers a command; it also says no once it has expired.
    ///
    /// # Errors
    /// As [`Pass::authorize`].
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
            Err(Cause::new(union::command::Code::Permission, message))
        };
        if now_ms >= self.content.expires_ms {
            return no("has a session whose permissions are too old; the engine has not renewed them");
        }
        let mut above = vec![object];
        let mut looked = 0;
        while let Some(id) = above.get(looked).copied() {
            looked += 1;
            let mut parents = Vec::new();
            tree.parents(id, &mut parents);
            for parent in parents {
                if above.len() < ANCESTORS && !above.contains(&parent) {
                    above.push(parent);
                }
            }
        }
        let allowed = self.content.scopes.iter().any(|scope| {
            (scope.root_id.is_empty() || above.iter().any(|id| scope.root_id == id.to_string()))
                && (scope.kinds.is_empty() || scope.kinds.iter().any(|kind| kind == object.kind.word()))
                && scope.verbs.iter().any(|v| v == "*" || v == verb || (class == Class::Read && v == "Read"))
        });
        if allowed { Ok(()) } else { no("has no permission for it there") }
    }
}

/// As many ancestors of an object are looked at.
const ANCESTORS: usize = 256;

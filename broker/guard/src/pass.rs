//! A login, in the hands of a front.

use crate::{Grant, LoginError, Secret, refusals::Refusals, verbs};
use async_trait::async_trait;
use parking_lot::RwLock;
use std::{net::IpAddr, sync::Arc};
use tokio_util::sync::CancellationToken;
use union::{
    Command, ObjectId,
    command::{Cause, Class},
    pb,
};

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
    /// Where it is noted what it may not do; shared by the sessions of an agent.
    pub refusals: Arc<Refusals>,
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

    /// Who may do what and who is logged in, as far as the session may know; the sessions `end` are ended first, if it may do that.
    ///
    /// # Errors
    /// [`LoginError::Away`]: nobody can be asked. [`LoginError::Wrong`]: the session has ended, or one of `end` is not there for it.
    async fn directory(&self, _pass: &Pass, _end: &[Arc<str>]) -> Result<pb::Directory, LoginError> {
        Err(LoginError::Away)
    }

    /// The session was used: its idle time begins anew. Never waits.
    fn used(&self, pass: &Pass);
}

impl Pass {
    /// Whether the session may send a command of `class`, called `verb`, to `object`. What is refused, unless it only reads, is noted for
    /// the audit.
    ///
    /// # Errors
    /// [`Code::Permission`](union::command::Code) with a sentence for people; the fault's own words are the front's to choose.
    pub fn authorize(
        &self,
        verb: &str,
        class: Class,
        object: ObjectId,
        tree: &dyn Tree,
        now_ms: i64,
    ) -> Result<(), Cause> {
        let grant = self.now();
        let allowed = grant.allows(verb, class, object, tree, now_ms);
        if let Err(cause) = &allowed
            && class != Class::Read
        {
            tracing::info!(session = &*self.session, %cause, "a session may not");
            self.refusals.put(&grant, verb, object, &cause.message, now_ms);
        }
        allowed
    }

    /// Whether the session may send a command: on every object that it needs permission for.
    ///
    /// # Errors
    /// As [`Pass::authorize`].
    pub fn covers(&self, command: &Command, tree: &dyn Tree, now_ms: i64) -> Result<(), Cause> {
        let class = command.schema.class;
        let mut objects = verbs::objects(command).into_iter();
        objects.try_for_each(|object| self.authorize(&command.verb, class, object, tree, now_ms))
    }

    /// What it may do now.
    pub fn now(&self) -> Arc<Grant> {
        Arc::clone(&self.grant.read())
    }
}

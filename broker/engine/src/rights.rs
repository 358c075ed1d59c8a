//! What the engine needs of the authority: who a session is, what it may do, and grants for owners.

use async_trait::async_trait;
use bytes::Bytes;
use std::{fmt::Debug, sync::Arc};
use union::{
    Command,
    command::Cause,
    pb::{self, SignedGrant},
};

/// A session that may send a command.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Whose it is, by the engine's own record.
    pub principal: Arc<str>,
    /// What it may do.
    pub grant: Arc<guard::Grant>,
}

/// Sessions, permissions and grants.
#[async_trait]
pub trait Authority: Send + Sync + Debug {
    /// The session of a command that `from` submits, if it is live and may send it. The principal that the command asserts counts for
    /// nothing, the grant only as far as the engine issued it to that agent.
    ///
    /// # Errors
    /// `PERMISSION`, with a sentence for people.
    async fn admit(
        &self,
        from: &str,
        command: &Command,
        shown: Option<&SignedGrant>,
        tree: &(dyn guard::Tree + Sync),
    ) -> Result<Admitted, Cause>;

    /// A grant of the session for another agent, the owner of what it acts on.
    ///
    /// # Errors
    /// The session has ended.
    async fn grant(&self, session: &str, agent: &str) -> Result<SignedGrant, Cause>;

    /// The content of a grant that the engine issued, expired or not; `None`: it did not.
    fn issued(&self, grant: &SignedGrant) -> Option<pb::Grant>;

    /// Answers a verb of the authority's own (`login`, `resume`, `logout`, …); `None`: it has no such verb.
    async fn serve(&self, from: &str, verb: &str, body: Bytes) -> Option<Result<Bytes, Cause>>;

    /// Fills in what an agent is told when it comes up: revoked sessions, the key for logins.
    async fn welcome(&self, agent: &str, welcome: &mut pb::Welcome);
}

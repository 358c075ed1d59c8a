//! The guard's authority over the engine's store, as the engine needs it.
//!
//! ```text
//! Engine ─ rights::Authority ─▶ Rights ─▶ guard::Authority ─ Keep ─▶ KeptStore ─▶ users, sessions, audit in the engine's store
//!                                              └─ Told ─▶ Herald ─▶ agents: `revoke`, `grants`
//! ```

mod herald;
mod kept;
#[cfg(test)]
mod tests;

pub use herald::Herald;
pub use kept::KeptStore;

use crate::rights::{Admitted, Authority};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use union::{
    Command,
    command::Cause,
    pb::{self, SignedGrant},
};

/// Sessions, permissions and grants by the guard's authority.
#[derive(Clone, Debug)]
pub struct Rights {
    authority: Arc<guard::Authority>,
}

impl Rights {
    /// As `authority` says.
    pub fn new(authority: Arc<guard::Authority>) -> Arc<Rights> {
        Arc::new(Rights { authority })
    }
}

#[async_trait]
impl Authority for Rights {
    async fn admit(
        &self,
        from: &str,
        command: &Command,
        shown: Option<&SignedGrant>,
        tree: &(dyn guard::Tree + Sync),
    ) -> Result<Admitted, Cause> {
        let grant = self.authority.admit(from, command, shown, tree)?;
        Ok(Admitted { principal: grant.content.principal.as_str().into(), grant })
    }

    async fn grant(&self, session: &str, agent: &str) -> Result<SignedGrant, Cause> {
        Ok(self.authority.grant_to_perform(session, agent)?.signed.clone())
    }

    fn issued(&self, grant: &SignedGrant) -> Option<pb::Grant> {
        self.authority.issued(grant)
    }

    async fn serve(&self, from: &str, verb: &str, body: Bytes) -> Option<Result<Bytes, Cause>> {
        Some(self.authority.answer(from, verb, &body).await?.map(Bytes::from))
    }

    async fn welcome(&self, _: &str, welcome: &mut pb::Welcome) {
        self.authority.welcome(welcome);
    }
}

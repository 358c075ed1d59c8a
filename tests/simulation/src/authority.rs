//! One user who may do everything, in one session, with grants that are really signed; and id maps over the engine's store.

use async_trait::async_trait;
use bytes::Bytes;
use engine::{Admitted, Authority, IdMaps};
use guard::{Check, Grant, Keys};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::{Arc, LazyLock};
use store::{Epoch, idmap::IdMap};
use union::{
    Command,
    clock::SeededIds,
    command::{Cause, Code},
    pb::{self, SignedGrant},
};

/// The domain.
pub const DOMAIN: &str = "paper";
/// The one session.
pub const SESSION: &str = "session-1";
/// Whose it is.
pub const PRINCIPAL: &str = "ann";

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::new(&SeededIds::new(1)));
static GRANTS: LazyLock<Mutex<FxHashMap<String, SignedGrant>>> = LazyLock::new(Mutex::default);

/// Believes what the engine signed.
pub fn check() -> Check {
    Check::new(DOMAIN, KEYS.public())
}

/// The engine's public key.
pub fn engine_key() -> guard::Public {
    KEYS.public()
}

/// The session's grant for an agent.
pub fn grant(agent: &str) -> SignedGrant {
    let mut grants = GRANTS.lock();
    let issue = || {
        let scope = pb::Scope { verbs: vec!["*".to_owned()], role: "all".to_owned(), ..pb::Scope::default() };
        let content = pb::Grant {
            session_id: SESSION.to_owned(),
            principal: PRINCIPAL.to_owned(),
            agent: agent.to_owned(),
            protocol: "paper".to_owned(),
            scopes: vec![scope],
            issued_ms: crate::rng::BEGIN_MS,
            expires_ms: crate::rng::BEGIN_MS + 24 * 3_600_000,
            version: 1,
            ..pb::Grant::default()
        };
        Grant::issue(content, DOMAIN, &KEYS).signed
    };
    grants.entry(agent.to_owned()).or_insert_with(issue).clone()
}

/// The authority of the simulation.
#[derive(Debug)]
pub struct Everything;

#[async_trait]
impl Authority for Everything {
    async fn admit(
        &self,
        from: &str,
        command: &Command,
        shown: Option<&SignedGrant>,
        tree: &(dyn guard::Tree + Sync),
    ) -> Result<Admitted, Cause> {
        let shown = shown.ok_or_else(|| Cause::new(Code::Permission, "no grant was shown"))?;
        let grant = check().issued(shown, from)?;
        grant.covers(command, tree, crate::rng::BEGIN_MS)?;
        Ok(Admitted { principal: Arc::from(PRINCIPAL), grant: Arc::new(grant) })
    }

    async fn grant(&self, _session: &str, agent: &str) -> Result<SignedGrant, Cause> {
        Ok(grant(agent))
    }

    fn issued(&self, grant: &SignedGrant) -> Option<pb::Grant> {
        ["a", "b"].iter().find_map(|agent| check().issued(grant, agent).ok()).map(|grant| grant.content)
    }

    async fn serve(&self, _from: &str, verb: &str, _body: Bytes) -> Option<Result<Bytes, Cause>> {
        matches!(verb, "renew" | "used").then(|| Ok(Bytes::new()))
    }

    async fn welcome(&self, _agent: &str, _welcome: &mut pb::Welcome) {}
}

/// Blocks of numbers, out of the engine's id maps.
#[derive(Debug)]
pub struct Numbers {
    /// The maps.
    pub map: IdMap,
    /// The engine's epoch.
    pub epoch: Epoch,
}

#[async_trait]
impl IdMaps for Numbers {
    async fn lease(&self, agent: &str, wanted: &pb::LeaseIds) -> Result<pb::LeasedIds, Cause> {
        let block = self.map.lease(&wanted.form, agent, wanted.count, self.epoch).await;
        let block = block.map_err(|error| Cause::new(Code::Internal, error.to_string()))?;
        Ok(pb::LeasedIds { first: block.first, count: block.end - block.first })
    }

    async fn adopt(&self, _agent: &str, _body: &[u8]) -> Result<(), Cause> {
        Ok(())
    }
}

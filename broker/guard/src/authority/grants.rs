//! Grants: issued to agents, believed when they come back with a command.

use super::{Authority, BUNDLE_MS, Kept, PERFORM_TTL_MS};
use crate::{Grant, GrantError, Tree, grant};
use prost::Message;
use std::sync::Arc;
use union::{Command, command::Cause, pb};

/// A grant that is younger is given again as it is.
const FRESH_MS: i64 = 60_000;
/// Grants remembered.
const GRANTS: usize = 32_768;

impl Authority {
    /// New grants for sessions that `agent` holds, and which of them have ended.
    pub fn renew<'s>(
        &self,
        agent: &str,
        sessions: impl IntoIterator<Item = &'s str>,
    ) -> (Vec<Arc<Grant>>, Vec<String>) {
        let (mut grants, mut ended) = (Vec::new(), Vec::new());
        for id in sessions {
            let live = self.table.lock().live(id, self.deps.clock.as_ref()).map(|live| live.kept.clone());
            match live.filter(|kept| kept.agents.iter().any(|a| **a == *agent)) {
                Some(kept) => grants.push(self.issue(&kept, agent, false)),
                None => ended.push(id.to_owned()),
            }
        }
        (grants, ended)
    }

    /// A grant for an owner: to perform what the engine sends of this session, and for nothing else.
    ///
    /// # Errors
    /// [`GrantError::Ended`].
    pub fn grant_to_perform(&self, session: &str, agent: &str) -> Result<Arc<Grant>, GrantError> {
        let live = self.table.lock().live(session, self.deps.clock.as_ref()).map(|live| live.kept.clone());
        let kept = live.ok_or_else(|| GrantError::Ended { principal: format!("session {session}") })?;
        Ok(self.issue(&kept, agent, true))
    }

    /// Sessions that were revoked while grants of them may still be valid.
    pub fn revoked(&self) -> Vec<String> {
        self.table.lock().ids(|live| live.kept.revoked_ms != 0).iter().map(ToString::to_string).collect()
    }

    /// Who is meant by a command that `from` submits with a grant shown, and what they may do now. Whoever asks keeps the audit.
    ///
    /// # Errors
    /// [`Code::Permission`](union::command::Code): the grant is not `from`'s or for performing only, the session has ended, the command
    /// names somebody else, or its principal may not.
    pub fn admit(
        &self,
        from: &str,
        command: &Command,
        shown: Option<&pb::SignedGrant>,
        tree: &dyn Tree,
    ) -> Result<Arc<Grant>, Cause> {
        let grant = self.checked(from, command, shown)?;
        grant.covers(command, tree, self.now())?;
        Ok(grant)
    }

    /// What a grant says that was issued once, expired or not, and that something may be asked with; `None`: it is none.
    pub fn issued(&self, signed: &pb::SignedGrant) -> Option<pb::Grant> {
        let content = pb::Grant::decode(signed.grant.as_slice()).ok()?;
        let grant = self.check().issued(signed, &content.agent).ok()?;
        (!grant.content.performs_only).then_some(grant.content)
    }

    fn checked(
        &self,
        from: &str,
        command: &Command,
        shown: Option<&pb::SignedGrant>,
    ) -> Result<Arc<Grant>, Cause> {
        let shown = self.check().issued(shown.ok_or(GrantError::Forged)?, from)?.content;
        if shown.performs_only || *shown.session_id != *command.session {
            return Err(GrantError::Forged.into());
        }
        let live = self.table.lock().live(&command.session, self.deps.clock.as_ref()).map(|l| l.kept.clone());
        let kept = live.ok_or(GrantError::Ended { principal: shown.principal })?;
        if kept.principal != command.principal {
            let (principal, asserted) = (kept.principal.to_string(), command.principal.to_string());
            return Err(GrantError::Principal { principal, asserted }.into());
        }
        Ok(self.issue(&kept, from, false))
    }

    /// A grant; one that was issued a moment ago is given again.
    pub(super) fn issue(&self, kept: &Kept, agent: &str, performs_only: bool) -> Arc<Grant> {
        let now = self.now();
        let people = self.people();
        let at = (Arc::from(kept.id.to_string()), Arc::from(agent), performs_only);
        let good = |grant: &&Arc<Grant>| {
            let content = &grant.content;
            content.version == people.version() && now.saturating_sub(content.issued_ms) < FRESH_MS
        };
        if let Some(grant) = self.issued.lock().get(&at).filter(good) {
            return Arc::clone(grant);
        }
        let own = now.saturating_sub(kept.created_ms) < BUNDLE_MS;
        let bundle = if own { kept.bundle.to_string() } else { self.bundle.read().to_string() };
        let ttl = if performs_only { PERFORM_TTL_MS } else { grant::TTL_MS };
        let content = pb::Grant {
            session_id: kept.id.to_string(),
            principal: kept.principal.to_string(),
            agent: agent.to_owned(),
            protocol: kept.protocol.to_string(),
            scopes: people.scopes_of(&kept.principal),
            issued_ms: now,
            expires_ms: now.saturating_add(ttl),
            version: people.version(),
            bundle,
            created_ms: kept.created_ms,
            performs_only,
        };
        let grant = Arc::new(Grant::issue(content, &self.deps.domain, &self.deps.keys));
        let mut issued = self.issued.lock();
        if issued.len() >= GRANTS {
            issued.clear();
        }
        issued.insert(at, Arc::clone(&grant));
        grant
    }

    /// No grant of the session is given again.
    pub(super) fn forget(&self, session: &str) {
        self.issued.lock().retain(|(id, _, _), _| **id != *session);
    }
}

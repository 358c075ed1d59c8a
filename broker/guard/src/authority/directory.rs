//! Who may do what and who is logged in, for those who ask through an agent.
//!
//! A session that may end others' sessions everywhere is told all of it, others what concerns their own principal.
//!
//! Limits: the [`SESSIONS`] used last, and [`BYTES`] of permissions; what is left out makes the answer no whole one.

use super::Authority;
use crate::{
    people::{People, Who},
    verbs,
};
use prost::Message;
use std::{collections::BTreeSet, sync::Arc};
use union::{
    command::{Cause, Code},
    pb,
};

/// Sessions in one answer.
const SESSIONS: usize = 2_000;
/// Bytes of permissions and of groups in one answer: a message on the bus holds 1 MiB.
const BYTES: usize = 256 * 1_024;

/// The verb of those who may know everything.
const TERMINATE: &str = "TerminateSession";

/// Takes items while they fit; false: some did not.
fn fitting<M: Message>(items: impl Iterator<Item = M>, into: &mut Vec<M>) -> bool {
    let mut room = BYTES;
    for item in items {
        let size = item.encoded_len();
        if size > room {
            return false;
        }
        room -= size;
        into.push(item);
    }
    true
}

fn verbs_of(words: Vec<&str>) -> Vec<String> {
    let verbs: BTreeSet<&str> = words.into_iter().filter_map(verbs::of_word).flatten().collect();
    verbs.into_iter().map(str::to_owned).collect()
}

impl People {
    /// Whether a user may know of everybody.
    fn knows_all(&self, user: &str) -> bool {
        self.scopes_of(user).iter().any(|scope| {
            scope.root_id.is_empty()
                && scope.kinds.is_empty()
                && scope.verbs.iter().any(|verb| verb == verbs::ALL || verb == TERMINATE)
        })
    }

    fn directory(&self, user: &str) -> pb::Directory {
        let whole = self.knows_all(user);
        let mut directory = pb::Directory { whole, ..pb::Directory::default() };
        let scopes = self.scopes.values().filter(|scope| whole || self.reaches(scope, user));
        let permissions = scopes.map(|scope| {
            let (who, group) = match &scope.who {
                Who::User(name) => (name.clone(), false),
                Who::Group(name) => (name.clone(), true),
            };
            pb::Permission { who, group, scope: Some(self.granted(scope)) }
        });
        directory.whole &= fitting(permissions, &mut directory.permissions);
        let own: BTreeSet<&str> = self
            .scopes
            .values()
            .filter(|scope| self.reaches(scope, user))
            .map(|scope| scope.role.as_str())
            .collect();
        let built_in = |name: &str| verbs::ROLES.iter().any(|(known, _)| *known == name);
        let roles = self.roles().into_iter();
        let roles = roles.filter(|(name, _)| whole || built_in(name) || own.contains(name));
        let roles = roles.map(|(name, words)| pb::Role { name: name.to_owned(), verbs: verbs_of(words) });
        directory.whole &= fitting(roles, &mut directory.roles);
        if whole {
            let groups = self.groups.iter();
            let groups = groups.map(|(name, users)| pb::UserGroup {
                name: name.clone(),
                users: users.iter().cloned().collect(),
            });
            directory.whole &= fitting(groups, &mut directory.groups);
        }
        directory
    }
}

impl Authority {
    /// What the session `session`, which `agent` holds, may know; the sessions `end` are ended first, if it may do that.
    ///
    /// # Errors
    /// The agent does not hold the session, it may not end others, or there is no such session.
    pub async fn directory(
        &self,
        agent: &str,
        session: &str,
        end: &[Arc<str>],
    ) -> Result<pb::Directory, Cause> {
        let principal = {
            let table = self.table.lock();
            let live = table.live(session, self.deps.clock.as_ref());
            let live = live.filter(|live| live.kept.agents.iter().any(|known| **known == *agent));
            live.map(|live| Arc::clone(&live.kept.principal))
        };
        let gone = || Cause::new(Code::Permission, "the session has ended, or is not this agent's");
        let principal = principal.ok_or_else(gone)?;
        if !end.is_empty() && !self.people().knows_all(&principal) {
            return Err(Cause::new(Code::Permission, format!("{principal} may not end sessions of others")));
        }
        for id in end {
            let ended = self.revoke(&principal, Some(id), None).await;
            ended.map_err(|error| Cause::new(Code::NotFound, error.to_string()))?;
        }
        let mut directory = self.people().directory(&principal);
        let now = self.now();
        let table = self.table.lock();
        let known = table.iter().filter(|(_, live)| live.is_live(now));
        let mut known: Vec<_> =
            known.filter(|(_, live)| directory.whole || live.kept.principal == principal).collect();
        known.sort_by_key(|(id, live)| (std::cmp::Reverse(live.kept.active_ms), Arc::clone(id)));
        directory.whole &= known.len() <= SESSIONS;
        let told = known.into_iter().take(SESSIONS).map(|(id, live)| pb::KnownSession {
            id: id.to_string(),
            principal: live.kept.principal.to_string(),
            protocol: live.kept.protocol.to_string(),
            remote: live.kept.remote.to_string(),
            created_ms: live.kept.created_ms,
            active_ms: live.kept.active_ms,
        });
        directory.sessions = told.collect();
        Ok(directory)
    }
}

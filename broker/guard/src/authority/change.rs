//! Changes of permissions, and the end of sessions that follows from them.

use super::{Authority, Entry, KeepError, Write, table::Live};
use crate::{
    FirstAdmin, Role, Secret, Users, UsersError, grant,
    hash::Cost,
    people::{Change, Hashed, People, PeopleError},
};
use rustc_hash::FxHashMap;
use std::{io, sync::Arc};

/// Why an administrator's request is refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It does not fit what is there.
    #[error(transparent)]
    People(#[from] PeopleError),
    /// The store says no.
    #[error("it cannot be kept: {0}")]
    Keep(#[from] KeepError),
    /// A password that is none.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// No such session.
    #[error("there is no live session {0}")]
    NoSession(String),
    /// Something asked for is malformed.
    #[error("{0}")]
    Malformed(String),
    /// The first administrator's password could not be shown, so there is no first administrator.
    #[error("the new administrator's password cannot be printed: {0}")]
    Unsaid(#[from] io::Error),
}

impl Authority {
    /// Changes permissions, for the administrator `by`: durable and audited, then told.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn change(&self, by: &str, change: Change) -> Result<Arc<People>, AdminError> {
        let _turn = self.turn.lock().await;
        let before = self.people();
        let (verb, detail) = said(&change);
        let new_password = if let Change::Password(user, _) = &change { Some(user.clone()) } else { None };
        let after = before.after(change)?;
        let ends = |live: &Live| {
            let user = &*live.kept.principal;
            after.hash(user).is_none() || new_password.as_deref() == Some(user)
        };
        self.replace(by, verb, detail, &before, after.clone(), ends).await
    }

    /// The caller has the turn.
    async fn replace(
        &self,
        by: &str,
        verb: &str,
        detail: String,
        before: &People,
        after: People,
        ends: impl Fn(&Live) -> bool,
    ) -> Result<Arc<People>, AdminError> {
        let now = self.now();
        let ending = self.table.lock().ids(|live| live.is_live(now) && ends(live));
        let mut writes: Vec<Write> =
            after.since(before).into_iter().map(|(key, value)| Write::Person(key, value)).collect();
        writes.push(Write::Audit(Entry { detail, ..self.entry(by, verb, "allowed") }));
        writes.extend(self.revoking(&ending, now));
        self.deps.keep.write(writes).await?;
        let after = Arc::new(after);
        *self.people.write() = Arc::clone(&after);
        self.revoked_now(&ending, now);
        self.tell_grants(before, &after);
        Ok(after)
    }

    fn revoking(&self, ids: &[Arc<str>], now: i64) -> Vec<Write> {
        let table = self.table.lock();
        let live = ids.iter().filter_map(|id| table.get(id));
        live.map(|live| Write::Session(live.hash, Some(revoked(live, now).kept))).collect()
    }

    fn revoked_now(&self, ids: &[Arc<str>], now: i64) {
        for id in ids {
            if let Some(live) = self.table.lock().get_mut(id) {
                *live = revoked(live, now);
                tracing::info!(user = %live.kept.principal, session = &**id, "a session was revoked");
            }
            self.forget(id);
            self.tell_all(|told| told.ended(id));
        }
    }

    /// Every agent that holds a session whose permissions are others now gets a new grant.
    fn tell_grants(&self, before: &People, after: &People) {
        let now = self.now();
        let live: Vec<_> = {
            let table = self.table.lock();
            table.iter().filter(|(_, live)| live.is_live(now)).map(|(_, live)| live.kept.clone()).collect()
        };
        let mut differs: FxHashMap<Arc<str>, bool> = FxHashMap::default();
        for kept in live {
            let user = &kept.principal;
            let changed = differs
                .entry(Arc::clone(user))
                .or_insert_with(|| before.scopes_of(user) != after.scopes_of(user));
            if *changed {
                for agent in &kept.agents {
                    let grant = self.issue(&kept, agent, false);
                    self.tell_all(|told| told.granted(agent, &grant));
                }
            }
        }
    }

    /// Revokes sessions, for the administrator `by`: one by its id, or all of a user. How many.
    ///
    /// # Errors
    /// There is no such session, or it cannot be kept; then it is revoked until the next start, and kept as soon as the store takes it.
    pub async fn revoke(
        &self,
        by: &str,
        session: Option<&str>,
        user: Option<&str>,
    ) -> Result<usize, AdminError> {
        let _turn = self.turn.lock().await;
        let now = self.now();
        let meant = |live: &Live| {
            session.is_none_or(|id| live.kept.id.to_string() == id)
                && user.is_none_or(|user| *live.kept.principal == *user)
                && (session.is_some() || user.is_some())
        };
        let ids = self.table.lock().ids(|live| live.is_live(now) && meant(live));
        if ids.is_empty() && session.is_some() {
            return Err(AdminError::NoSession(session.unwrap_or_default().chars().take(80).collect()));
        }
        let mut writes = self.revoking(&ids, now);
        for id in &ids {
            let of = self.table.lock().get(id).map(|live| Arc::clone(&live.kept.principal));
            let detail = serde_json::json!({ "session": &**id, "user": of.as_deref() }).to_string();
            writes.push(Write::Audit(Entry {
                session: Arc::clone(id),
                detail,
                ..self.entry(by, "RevokeSession", "allowed")
            }));
        }
        // First in effect, then kept: who is revoked does nothing more whatever the disk says.
        self.revoked_now(&ids, now);
        if let Err(error) = self.deps.keep.write(writes).await {
            let mut table = self.table.lock();
            ids.iter().for_each(|id| {
                if let Some(live) = table.get_mut(id) {
                    live.dirty = true;
                }
            });
            return Err(error.into());
        }
        Ok(ids.len())
    }

    /// At the first start: takes over the users of an earlier version's file, and makes an administrator if there is none. `name` and
    /// `password` are what the environment says; without a name it is `admin`, without a password one is made. `say` shows it before it
    /// is kept: a password that nobody can read is not made.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn first_admin(
        &self,
        file: Option<&Users>,
        name: Option<&str>,
        password: Option<Secret>,
        cost: Cost,
        say: impl FnOnce(&FirstAdmin) -> io::Result<()>,
    ) -> Result<FirstAdmin, AdminError> {
        if let Some(file) = file {
            self.take_over(file).await?;
        }
        if !self.people().administrators().is_empty() {
            return Ok(FirstAdmin::Present);
        }
        let name = name.unwrap_or("admin").to_owned();
        let (first, password) = match password {
            Some(password) => (FirstAdmin::Given { name: name.clone() }, password),
            None => {
                let password = crate::first::generate(self.deps.ids.as_ref());
                (FirstAdmin::Generated { name: name.clone(), password: password.clone() }, password)
            }
        };
        let hash = Hashed::new(&password, cost, self.deps.ids.as_ref())?;
        say(&first)?;
        self.change("engine", Change::AddUser(name, hash, Some("admin".to_owned()))).await?;
        Ok(first)
    }
}

impl Authority {
    /// Takes over the users of an earlier version's file, if there is nobody yet.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn take_over(&self, file: &Users) -> Result<(), AdminError> {
        let _turn = self.turn.lock().await;
        let before = self.people();
        if !before.is_empty() || file.is_empty() {
            return Ok(());
        }
        let detail = serde_json::json!({ "users": file.list().len() }).to_string();
        let after = People::imported(file)?;
        self.replace("engine", "ImportUsers", detail, &before, after, |_| false).await?;
        tracing::info!(users = file.list().len(), "the users of the users file were taken over");
        Ok(())
    }
}

/// Listed as revoked for as long as a grant of it may be valid.
fn revoked(live: &Live, now: i64) -> Live {
    let mut live = live.clone();
    live.kept.revoked_ms = now.max(1);
    live.kept.expires_ms = now.saturating_add(grant::TTL_MS);
    live
}

impl People {
    /// The users of a file as people, each with their role on everything.
    pub(crate) fn imported(file: &Users) -> Result<People, PeopleError> {
        let mut all = file.list();
        all.sort_by_key(|(_, role)| *role != Role::Admin);
        let mut people = People::default();
        for (name, role) in all {
            let role = if role == Role::Admin { "admin" } else { "read-only" };
            if let Some(user) = file.get(&name) {
                let hash = Hashed(user.hash.to_string());
                people.apply(Change::AddUser(name, hash, Some(role.to_owned())))?;
            }
        }
        people.version = 1;
        Ok(people)
    }
}

/// A change as the audit says it: its name, and what it was about; no hash.
fn said(change: &Change) -> (&'static str, String) {
    use serde_json::json;
    let (verb, detail) = match change {
        Change::AddUser(user, _, role) => ("AddUser", json!({ "user": user, "role": role })),
        Change::Password(user, _) => ("ChangePassword", json!({ "user": user })),
        Change::RemoveUser(user) => ("RemoveUser", json!({ "user": user })),
        Change::JoinGroup(group, users) => ("JoinGroup", json!({ "group": group, "users": users })),
        Change::LeaveGroup(group, users) => ("LeaveGroup", json!({ "group": group, "users": users })),
        Change::RemoveGroup(group) => ("RemoveGroup", json!({ "group": group })),
        Change::PutRole(role, words) => ("PutRole", json!({ "role": role, "verbs": words })),
        Change::RemoveRole(role) => ("RemoveRole", json!({ "role": role })),
        Change::AddScope(scope) => ("AddScope", json!(scope)),
        Change::RemoveScope(id) => ("RemoveScope", json!({ "scope": id })),
        Change::PutTemplate(template, rows) => ("PutTemplate", json!({ "template": template, "rows": rows })),
        Change::RemoveTemplate(template) => ("RemoveTemplate", json!({ "template": template })),
        Change::ApplyTemplate(template, who, roots) => {
            let roots: std::collections::BTreeMap<_, _> =
                roots.iter().map(|(place, id)| (place, id.to_string())).collect();
            ("ApplyTemplate", json!({ "template": template, "who": who, "roots": roots }))
        }
    };
    (verb, detail.to_string())
}

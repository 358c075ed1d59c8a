//! One change of permissions, checked as a whole.

use super::{
    BYTES_OF_ONE, GROUPS, Hashed, MOST_USERS, People, ROLES, ROWS, SCOPES, SCOPES_OF_ONE, Scope, TEMPLATES,
    Who, is_good_name, is_kind,
};
use crate::{users::is_name, verbs};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use union::ObjectId;

/// One line of a template: a role, on a place that is named when the template is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Which role.
    pub role: String,
    /// The name of the place whose object is given when it is applied; `None`: everything.
    #[serde(default)]
    pub place: Option<String>,
    /// Kinds of object, by word; none: all.
    #[serde(default)]
    pub kinds: BTreeSet<String>,
}

/// What an administrator changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new user, with a role on everything or none.
    AddUser(String, Hashed, Option<String>),
    /// Another password.
    Password(String, Hashed),
    /// A user goes, with their scopes and places in groups.
    RemoveUser(String),
    /// Users are put into a group, which is made if there is none.
    JoinGroup(String, Vec<String>),
    /// Users leave a group.
    LeaveGroup(String, Vec<String>),
    /// A group goes, with its scopes.
    RemoveGroup(String),
    /// A role of these words, new or changed.
    PutRole(String, BTreeSet<String>),
    /// A role goes; nobody may have it.
    RemoveRole(String),
    /// A new scope.
    AddScope(Scope),
    /// A scope goes.
    RemoveScope(u64),
    /// A template of these rows, new or changed; scopes made from it before stay as they are.
    PutTemplate(String, Vec<Row>),
    /// A template goes; scopes made from it stay.
    RemoveTemplate(String),
    /// The scopes of a template, for somebody, with an object for each of its places.
    ApplyTemplate(String, Who, BTreeMap<String, ObjectId>),
}

/// Why a change is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeopleError {
    /// No acceptable name.
    #[error(
        "`{0}` cannot be a name: expected 1 to 256 bytes of text without control characters and, but for users, without /"
    )]
    Name(String),
    /// Not a hash that a login can use.
    #[error("the password's hash is not an argon2id hash of at most 256 MiB; update ctl, which makes it")]
    Hash,
    /// It is there already.
    #[error("there is already {0}")]
    Present(String),
    /// It is not there.
    #[error("there is no {0}")]
    Unknown(String),
    /// The built-in roles stay as they are.
    #[error("the role {0} is built in; make another one")]
    BuiltIn(String),
    /// A role that somebody has.
    #[error("the role {role} is used by {by}; remove that first")]
    Used {
        /// Which role.
        role: String,
        /// By what.
        by: String,
    },
    /// Not a verb.
    #[error("`{0}` is neither a verb nor a group of verbs; groups are {groups}, and * is everything", groups = groups())]
    Verb(String),
    /// Not a kind of object.
    #[error("`{0}` is no kind of object; kinds are {kinds}", kinds = kinds())]
    Kind(String),
    /// A place without an object, or an object without a place.
    #[error("the template {template} needs an object for each of: {places}; give --root <place>=<object id>")]
    Places {
        /// Which template.
        template: String,
        /// Its places.
        places: String,
    },
    /// Nobody could change permissions any more.
    #[error("then nobody would have all permissions on everything; give another user the role admin first")]
    LastAdministrator,
    /// Too many.
    #[error("there are {most} {what} already; remove some")]
    Full {
        /// Of what.
        what: &'static str,
        /// The limit.
        most: usize,
    },
}

fn groups() -> String {
    verbs::GROUPS.iter().map(|g| g.name).collect::<Vec<_>>().join(", ")
}

fn kinds() -> String {
    union::Kind::ALL.iter().map(|k| k.word()).collect::<Vec<_>>().join(", ")
}

type Checked = Result<(), PeopleError>;

fn room<K, V>(table: &BTreeMap<K, V>, what: &'static str, most: usize) -> Checked {
    if table.len() < most { Ok(()) } else { Err(PeopleError::Full { what, most }) }
}

fn named(name: &str) -> Checked {
    if is_good_name(name) { Ok(()) } else { Err(PeopleError::Name(name.chars().take(80).collect())) }
}

fn unknown(what: &str, name: &str) -> PeopleError {
    PeopleError::Unknown(format!("{what} {name}"))
}

impl People {
    /// What is so after a change. The version has moved.
    ///
    /// # Errors
    /// Why the change is refused.
    pub fn after(&self, change: Change) -> Result<People, PeopleError> {
        let mut next = self.clone();
        next.apply(change)?;
        if next.administrators().is_empty() {
            return Err(PeopleError::LastAdministrator);
        }
        next.version = self.version.saturating_add(1);
        Ok(next)
    }

    pub(crate) fn apply(&mut self, change: Change) -> Checked {
        match change {
            Change::AddUser(name, hash, role) => self.add_user(name, hash, role),
            Change::Password(name, hash) => {
                let user = self.users.get_mut(&name).ok_or_else(|| unknown("user", &name))?;
                if !hash.is_usable() {
                    return Err(PeopleError::Hash);
                }
                *user = hash;
                Ok(())
            }
            Change::RemoveUser(name) => {
                self.users.remove(&name).ok_or_else(|| unknown("user", &name))?;
                self.groups.values_mut().for_each(|users| {
                    users.remove(&name);
                });
                self.scopes.retain(|_, scope| scope.who != Who::User(name.clone()));
                Ok(())
            }
            Change::JoinGroup(name, users) => self.join(name, users),
            Change::LeaveGroup(name, users) => {
                let group = self.groups.get_mut(&name).ok_or_else(|| unknown("group", &name))?;
                for user in users {
                    if !group.remove(&user) {
                        return Err(PeopleError::Unknown(format!("user {user} in group {name}")));
                    }
                }
                Ok(())
            }
            Change::RemoveGroup(name) => {
                self.groups.remove(&name).ok_or_else(|| unknown("group", &name))?;
                self.scopes.retain(|_, scope| scope.who != Who::Group(name.clone()));
                Ok(())
            }
            Change::PutRole(name, words) => self.put_role(name, words),
            Change::RemoveRole(name) => self.remove_role(&name),
            Change::AddScope(scope) => self.add_scope(scope),
            Change::RemoveScope(id) => {
                let gone = self.scopes.remove(&id);
                gone.map(drop).ok_or_else(|| unknown("scope", &id.to_string()))
            }
            Change::PutTemplate(name, rows) => self.put_template(name, rows),
            Change::RemoveTemplate(name) => {
                self.templates.remove(&name).map(drop).ok_or_else(|| unknown("template", &name))
            }
            Change::ApplyTemplate(name, who, roots) => self.apply_template(&name, &who, &roots),
        }
    }

    fn add_user(&mut self, name: String, hash: Hashed, role: Option<String>) -> Checked {
        if !is_name(&name) {
            return Err(PeopleError::Name(name.chars().take(80).collect()));
        }
        if !hash.is_usable() {
            return Err(PeopleError::Hash);
        }
        if self.users.contains_key(&name) {
            return Err(PeopleError::Present(format!("a user {name}")));
        }
        room(&self.users, "users", MOST_USERS)?;
        self.users.insert(name.clone(), hash);
        match role {
            Some(role) => {
                self.add_scope(Scope { who: Who::User(name), role, root: None, kinds: BTreeSet::new() })
            }
            None => Ok(()),
        }
    }

    fn join(&mut self, name: String, users: Vec<String>) -> Checked {
        named(&name)?;
        if !self.groups.contains_key(&name) {
            room(&self.groups, "groups", GROUPS)?;
        }
        if let Some(user) = users.iter().find(|user| !self.users.contains_key(*user)) {
            return Err(unknown("user", user));
        }
        self.groups.entry(name).or_default().extend(users.iter().cloned());
        users.iter().try_for_each(|user| self.fits(user))
    }

    fn put_role(&mut self, name: String, words: BTreeSet<String>) -> Checked {
        named(&name)?;
        if verbs::ROLES.iter().any(|(built_in, _)| *built_in == name) {
            return Err(PeopleError::BuiltIn(name));
        }
        if let Some(word) = words.iter().find(|word| verbs::of_word(word).is_none()) {
            return Err(PeopleError::Verb(word.chars().take(80).collect()));
        }
        if !self.roles.contains_key(&name) {
            room(&self.roles, "roles", ROLES)?;
        }
        self.roles.insert(name.clone(), words);
        let users: Vec<String> = self
            .scopes
            .values()
            .filter(|scope| scope.role == name)
            .flat_map(|scope| self.reached(&scope.who))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        users.iter().try_for_each(|user| self.fits(user))
    }

    fn remove_role(&mut self, name: &str) -> Checked {
        if verbs::ROLES.iter().any(|(built_in, _)| *built_in == name) {
            return Err(PeopleError::BuiltIn(name.to_owned()));
        }
        let used = |by: String| Err(PeopleError::Used { role: name.to_owned(), by });
        if let Some((id, scope)) = self.scopes.iter().find(|(_, scope)| scope.role == name) {
            return used(format!("scope {id} of {}", scope.who));
        }
        if let Some((template, _)) =
            self.templates.iter().find(|(_, rows)| rows.iter().any(|row| row.role == name))
        {
            return used(format!("the template {template}"));
        }
        self.roles.remove(name).map(drop).ok_or_else(|| unknown("role", name))
    }

    fn about(&self, role: &str, kinds: &BTreeSet<String>) -> Checked {
        self.role(role).ok_or_else(|| unknown("role", role))?;
        match kinds.iter().find(|kind| !is_kind(kind)) {
            Some(kind) => Err(PeopleError::Kind(kind.chars().take(80).collect())),
            None => Ok(()),
        }
    }

    fn add_scope(&mut self, scope: Scope) -> Checked {
        self.about(&scope.role, &scope.kinds)?;
        match &scope.who {
            Who::User(name) if !self.users.contains_key(name) => return Err(unknown("user", name)),
            Who::Group(name) if !self.groups.contains_key(name) => return Err(unknown("group", name)),
            _ => {}
        }
        if let Some((id, _)) = self.scopes.iter().find(|(_, present)| **present == scope) {
            return Err(PeopleError::Present(format!("the same scope, number {id}")));
        }
        room(&self.scopes, "scopes", SCOPES)?;
        let reached = self.reached(&scope.who);
        self.last_scope = self.last_scope.saturating_add(1);
        self.scopes.insert(self.last_scope, scope);
        reached.iter().try_for_each(|user| self.fits(user))
    }

    fn reached(&self, who: &Who) -> Vec<String> {
        match who {
            Who::User(name) => vec![name.clone()],
            Who::Group(name) => self.groups.get(name).into_iter().flatten().cloned().collect(),
        }
    }

    /// Do the scopes of a user fit a grant?
    fn fits(&self, user: &str) -> Checked {
        let count = self.scopes.values().filter(|scope| self.reaches(scope, user)).count();
        if count > SCOPES_OF_ONE {
            return Err(PeopleError::Full { what: "scopes of one user", most: SCOPES_OF_ONE });
        }
        let bytes: usize = self.scopes_of(user).iter().map(prost::Message::encoded_len).sum();
        let full = PeopleError::Full { what: "bytes of scopes of one user", most: BYTES_OF_ONE };
        if bytes > BYTES_OF_ONE { Err(full) } else { Ok(()) }
    }

    fn put_template(&mut self, name: String, rows: Vec<Row>) -> Checked {
        named(&name)?;
        if rows.len() > ROWS {
            return Err(PeopleError::Full { what: "rows in the template", most: ROWS });
        }
        for row in &rows {
            self.about(&row.role, &row.kinds)?;
            row.place.as_deref().map_or(Ok(()), named)?;
        }
        if !self.templates.contains_key(&name) {
            room(&self.templates, "templates", TEMPLATES)?;
        }
        self.templates.insert(name, rows);
        Ok(())
    }

    fn apply_template(&mut self, name: &str, who: &Who, roots: &BTreeMap<String, ObjectId>) -> Checked {
        let rows = self.templates.get(name).cloned().ok_or_else(|| unknown("template", name))?;
        let places: BTreeSet<&str> = rows.iter().filter_map(|row| row.place.as_deref()).collect();
        if !places.iter().copied().eq(roots.keys().map(String::as_str)) {
            let places = places.into_iter().collect::<Vec<_>>().join(", ");
            return Err(PeopleError::Places { template: name.to_owned(), places });
        }
        for row in &rows {
            let root = row.place.as_ref().and_then(|place| roots.get(place)).copied();
            let scope = Scope { who: who.clone(), role: row.role.clone(), root, kinds: row.kinds.clone() };
            match self.add_scope(scope) {
                // What somebody has already they need not be given.
                Err(PeopleError::Present(_)) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

//! Users, groups, roles, scopes, permission templates: the whole of them as one value, changed by [`Change`]s that hold together or not at
//! all.
//!
//! ```text
//! user ─┬───────────────┬─▶ scope = role × (an object's subtree, or everything) × (kinds, or all)
//! group ┘ (its users)   │            role = verbs and groups of verbs
//! template applied to a user or group, with an object for each of its places ─▶ scopes
//! ```
//!
//! Scopes add up. There is always a user with all verbs on everything. `version` moves with each change.
//!
//! Limits: [`GROUPS`], [`ROLES`], [`SCOPES`], [`TEMPLATES`], [`ROWS`] of a template, users and names as in [`users`](crate::users).

use crate::{
    hash,
    users::{USERS, is_name},
    verbs,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};
use union::{Kind, ObjectId, pb};

mod change;
mod rows;

pub use change::{Change, PeopleError, Row as TemplateRow};
pub use rows::BadRow;

/// Groups of users.
pub const GROUPS: usize = 1_000;
/// Roles.
pub const ROLES: usize = 1_000;
/// Scopes in all.
pub const SCOPES: usize = 50_000;
/// Scopes that reach one user.
pub const SCOPES_OF_ONE: usize = 512;
/// Bytes of one user's scopes in a grant.
pub const BYTES_OF_ONE: usize = 128 * 1_024;
/// Templates.
pub const TEMPLATES: usize = 1_000;
/// Rows of a template.
pub const ROWS: usize = 64;

/// Who has a permission, written `user:<name>` or `group:<name>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Who {
    /// One user.
    User(String),
    /// Every user of a group.
    Group(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::User(name) => write!(f, "user:{name}"),
            Who::Group(name) => write!(f, "group:{name}"),
        }
    }
}

/// The text names neither a user nor a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names nobody: expected user:<name> or group:<name>")]
pub struct BadWho(String);

impl FromStr for Who {
    type Err = BadWho;

    fn from_str(text: &str) -> Result<Who, BadWho> {
        match text.split_once(':') {
            Some(("user", name)) => Ok(Who::User(name.to_owned())),
            Some(("group", name)) => Ok(Who::Group(name.to_owned())),
            _ => Err(BadWho(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<String> for Who {
    type Error = BadWho;

    fn try_from(text: String) -> Result<Who, BadWho> {
        text.parse()
    }
}

impl From<Who> for String {
    fn from(who: Who) -> String {
        who.to_string()
    }
}

/// A password's hash, as it is kept and as `ctl` sends it. Never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hashed(pub(crate) String);

impl Hashed {
    /// Hashes a password.
    ///
    /// # Errors
    /// It is empty or too long, or argon2 refuses.
    pub fn new(
        password: &crate::Secret,
        cost: crate::Cost,
        ids: &dyn union::Ids,
    ) -> Result<Hashed, crate::UsersError> {
        if !(1..=1024).contains(&password.expose().len()) {
            return Err(crate::UsersError::Password);
        }
        Ok(Hashed(hash::hash(password, cost, ids)?))
    }

    /// Whether a login can use it.
    pub(crate) fn is_usable(&self) -> bool {
        self.0.len() <= 1_024 && hash::is_hash(&self.0)
    }
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed(…)")
    }
}

/// A role on part of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Whose.
    pub who: Who,
    /// Which role.
    pub role: String,
    /// The object whose subtree it is; `None`: everything.
    #[serde(default, with = "as_text")]
    pub root: Option<ObjectId>,
    /// Kinds of object, by word; none: all.
    #[serde(default)]
    pub kinds: BTreeSet<String>,
}

/// Everybody and what they may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    pub(crate) version: u64,
    pub(crate) last_scope: u64,
    pub(crate) users: BTreeMap<String, Hashed>,
    pub(crate) groups: BTreeMap<String, BTreeSet<String>>,
    /// Without the [built-in ones](verbs::ROLES).
    pub(crate) roles: BTreeMap<String, BTreeSet<String>>,
    pub(crate) scopes: BTreeMap<u64, Scope>,
    pub(crate) templates: BTreeMap<String, Vec<TemplateRow>>,
}

impl People {
    /// Moves with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The hash of a user's password; `None`: no such user.
    pub fn hash(&self, user: &str) -> Option<&str> {
        self.users.get(user).map(|h| h.0.as_str())
    }

    /// The users' names.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// The groups and their users.
    pub fn groups(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.groups
    }

    /// The groups a user is in.
    pub fn groups_of(&self, user: &str) -> impl Iterator<Item = &str> {
        self.groups.iter().filter(move |(_, users)| users.contains(user)).map(|(name, _)| name.as_str())
    }

    /// Every role and its words, built-in ones first.
    pub fn roles(&self) -> Vec<(&str, Vec<&str>)> {
        let built_in = verbs::ROLES.iter().map(|(name, words)| (*name, words.to_vec()));
        let own = self
            .roles
            .iter()
            .map(|(name, words)| (name.as_str(), words.iter().map(String::as_str).collect()));
        built_in.chain(own).collect()
    }

    /// The words of a role.
    pub fn role(&self, name: &str) -> Option<Vec<&str>> {
        self.roles().into_iter().find(|(n, _)| *n == name).map(|(_, words)| words)
    }

    /// The scopes, by number.
    pub fn scopes(&self) -> &BTreeMap<u64, Scope> {
        &self.scopes
    }

    /// The templates.
    pub fn templates(&self) -> &BTreeMap<String, Vec<TemplateRow>> {
        &self.templates
    }

    pub(crate) fn reaches(&self, scope: &Scope, user: &str) -> bool {
        match &scope.who {
            Who::User(name) => name == user,
            Who::Group(name) => self.groups.get(name).is_some_and(|users| users.contains(user)),
        }
    }

    /// What a user may do, as a grant says it: their own scopes and their groups'.
    pub fn scopes_of(&self, user: &str) -> Vec<pb::Scope> {
        if !self.users.contains_key(user) {
            return Vec::new();
        }
        let reaching = self.scopes.values().filter(|scope| self.reaches(scope, user));
        reaching.take(SCOPES_OF_ONE).map(|scope| self.granted(scope)).collect()
    }

    pub(crate) fn granted(&self, scope: &Scope) -> pb::Scope {
        let words = self.role(&scope.role).unwrap_or_default();
        let verbs: BTreeSet<&str> = words.into_iter().filter_map(verbs::of_word).flatten().collect();
        pb::Scope {
            root_id: scope.root.map_or(String::new(), |id| id.to_string()),
            kinds: scope.kinds.iter().cloned().collect(),
            verbs: verbs.into_iter().map(str::to_owned).collect(),
            role: scope.role.clone(),
        }
    }

    /// The users who may do everything everywhere.
    pub fn administrators(&self) -> BTreeSet<&str> {
        let all = |scope: &&Scope| {
            scope.root.is_none()
                && scope.kinds.is_empty()
                && self.role(&scope.role).is_some_and(|words| words.contains(&verbs::ALL))
        };
        let everything: Vec<&Scope> = self.scopes.values().filter(all).collect();
        let is = |user: &&str| everything.iter().any(|scope| self.reaches(scope, user));
        self.users().filter(is).collect()
    }
}

/// Whether `word` is a kind of object that permissions may be about.
fn is_kind(word: &str) -> bool {
    Kind::from_word(word).is_some()
}

fn is_good_name(name: &str) -> bool {
    is_name(name) && !name.contains('/')
}

const MOST_USERS: usize = USERS;

/// Ids as text.
mod as_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use union::ObjectId;

    pub fn serialize<S: Serializer>(id: &Option<ObjectId>, to: S) -> Result<S::Ok, S::Error> {
        id.map(|id| id.to_string()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ObjectId>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests;

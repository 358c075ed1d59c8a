//! What an administrator asks, as `ctl` sends it and shows the answer: JSON both ways.
//!
//! A password never travels: `ctl` makes the hash ([`Hashed::new`](crate::Hashed::new)).

use super::{AdminError, Authority, Entry, Filter, Write};
use crate::{
    people::{Change, Hashed, Scope, TemplateRow, Who},
    verbs,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};
use union::Kind;

/// Sessions or audit entries in one answer.
pub const MOST: usize = 1_000;

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// A new user, with a role on everything or none.
    UserAdd {
        /// Their name.
        name: String,
        /// Their password's hash.
        password: Hashed,
        /// Their role.
        #[serde(default)]
        role: Option<String>,
    },
    /// Another password; the user's sessions end.
    UserPasswd {
        /// Whose.
        name: String,
        /// Its hash.
        password: Hashed,
    },
    /// A user goes; their sessions end.
    UserRemove {
        /// Who.
        name: String,
    },
    /// Every user.
    UserList,
    /// Users are put into a group, which is made if there is none.
    GroupAdd {
        /// The group.
        name: String,
        /// The users.
        #[serde(default)]
        users: Vec<String>,
    },
    /// Users leave a group, or without users: the group goes.
    GroupRemove {
        /// The group.
        name: String,
        /// The users.
        #[serde(default)]
        users: Vec<String>,
    },
    /// Every group.
    GroupList,
    /// A role of verbs and groups of verbs, new or changed.
    RoleAdd {
        /// Its name.
        name: String,
        /// Its words.
        verbs: BTreeSet<String>,
    },
    /// A role goes.
    RoleRemove {
        /// Its name.
        name: String,
    },
    /// A role's verbs.
    RoleShow {
        /// Its name.
        name: String,
    },
    /// Every role.
    RoleList,
    /// A role for somebody, on part of the tree.
    ScopeAdd {
        /// What.
        scope: Scope,
    },
    /// A scope goes.
    ScopeRemove {
        /// Its number.
        id: u64,
    },
    /// The scopes, of one or all.
    ScopeList {
        /// Whose.
        #[serde(default)]
        who: Option<Who>,
    },
    /// A template, new or changed.
    TemplateAdd {
        /// Its name.
        name: String,
        /// Its rows.
        rows: Vec<TemplateRow>,
    },
    /// A template goes.
    TemplateRemove {
        /// Its name.
        name: String,
    },
    /// Every template.
    TemplateList,
    /// A template's scopes, for somebody.
    TemplateApply {
        /// Its name.
        name: String,
        /// For whom.
        who: Who,
        /// An object's id for each of its places.
        #[serde(default)]
        roots: BTreeMap<String, String>,
    },
    /// The live sessions, of one or all, and those revoked lately.
    SessionList {
        /// Whose.
        #[serde(default)]
        user: Option<String>,
    },
    /// Sessions are revoked: one, or all of a user.
    SessionRevoke {
        /// Which.
        #[serde(default)]
        session: Option<String>,
        /// Whose.
        #[serde(default)]
        user: Option<String>,
    },
    /// Entries of the audit, the newest first.
    AuditSearch {
        /// Who.
        #[serde(default)]
        user: Option<String>,
        /// On which kind of object, by word.
        #[serde(default)]
        kind: Option<String>,
        /// On which object.
        #[serde(default)]
        object: Option<String>,
        /// Not before, Unix milliseconds.
        #[serde(default)]
        from_ms: Option<i64>,
        /// Before, Unix milliseconds.
        #[serde(default)]
        to_ms: Option<i64>,
        /// Before this entry.
        #[serde(default)]
        before: Option<u64>,
        /// At most so many; 0: as many as an answer may hold.
        #[serde(default)]
        limit: usize,
    },
    /// Follows the audit's chain.
    AuditVerify,
}

/// A user, listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLine {
    /// Their name.
    pub name: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// The roles they have somewhere.
    pub roles: Vec<String>,
    /// Their live sessions.
    pub sessions: usize,
}

/// A session, listed. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLine {
    /// What it is called.
    pub id: String,
    /// Whose.
    pub user: String,
    /// In which protocol.
    pub protocol: String,
    /// From where.
    pub remote: String,
    /// At which agents.
    pub agents: Vec<String>,
    /// When it began.
    pub created_ms: i64,
    /// When it was last used.
    pub active_ms: i64,
    /// When it ends by itself.
    pub expires_ms: i64,
    /// It was revoked.
    pub revoked: bool,
}

/// An entry of the audit, shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Its number.
    pub seq: u64,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Who.
    pub user: String,
    /// In which session.
    pub session: String,
    /// From where.
    pub remote: String,
    /// What.
    pub verb: String,
    /// On what.
    pub object: Option<String>,
    /// By which command.
    pub command: Option<String>,
    /// Allowed, or why not, or what came of it.
    pub verdict: String,
    /// More, JSON.
    pub detail: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// It is done.
    Done(String),
    /// It was refused, and nothing was changed.
    Refused(String),
    /// Users.
    Users(Vec<UserLine>),
    /// Groups and their users.
    Groups(BTreeMap<String, BTreeSet<String>>),
    /// Roles and their words.
    Roles(Vec<(String, Vec<String>)>),
    /// A role's verbs.
    Role {
        /// Its name.
        name: String,
        /// Its words.
        words: Vec<String>,
        /// What they come to.
        verbs: BTreeSet<String>,
    },
    /// Scopes by number.
    Scopes(BTreeMap<u64, Scope>),
    /// Templates.
    Templates(BTreeMap<String, Vec<TemplateRow>>),
    /// Sessions, and how many more there are.
    Sessions(Vec<SessionLine>, usize),
    /// Entries; go on before the last one's number.
    Audit(Vec<AuditLine>),
    /// The chain holds: so many entries.
    Whole(u64),
    /// The chain is broken.
    Broken {
        /// At which entry.
        seq: u64,
        /// What is wrong.
        what: String,
    },
}

impl Response {
    /// Whether what was asked for is so.
    pub fn is_good(&self) -> bool {
        !matches!(self, Response::Refused(_) | Response::Broken { .. })
    }
}

fn malformed(what: impl std::fmt::Display) -> AdminError {
    AdminError::Malformed(what.to_string())
}

impl Authority {
    /// Does what an administrator asks for. `by` is who asks, for the audit.
    pub async fn admin(&self, by: &str, request: Request) -> Response {
        match self.ask(by, request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::info!(by, %error, "an administrator's request was refused");
                Response::Refused(error.to_string())
            }
        }
    }

    /// Writes down, before it happens, that an administrator does something that is none of the authority's business.
    ///
    /// # Errors
    /// It cannot be written: it must not happen.
    pub async fn noted(&self, by: &str, verb: &str, detail: String) -> Result<(), AdminError> {
        let entry = Entry { detail, ..self.entry(by, verb, "allowed") };
        Ok(self.deps.keep.write(vec![Write::Audit(entry)]).await?)
    }

    /// The same in JSON, as the bus carries it.
    pub async fn admin_json(&self, by: &str, request: &[u8]) -> Vec<u8> {
        let response = match serde_json::from_slice(request) {
            Ok(request) => self.admin(by, request).await,
            // The error's text would quote the request, which may hold a hash.
            Err(error) => Response::Refused(format!(
                "the request cannot be read at column {}: ctl and broker must be of one version",
                error.column()
            )),
        };
        serde_json::to_vec(&response).unwrap_or_default()
    }

    async fn ask(&self, by: &str, request: Request) -> Result<Response, AdminError> {
        let people = self.people();
        Ok(match request {
            Request::UserList => Response::Users(self.user_lines()),
            Request::GroupList => Response::Groups(people.groups().clone()),
            Request::RoleList => {
                let line = |(name, words): (&str, Vec<&str>)| {
                    (name.to_owned(), words.into_iter().map(str::to_owned).collect())
                };
                Response::Roles(people.roles().into_iter().map(line).collect())
            }
            Request::RoleShow { name } => {
                let words =
                    people.role(&name).ok_or_else(|| malformed(format!("there is no role {name}")))?;
                let verbs =
                    words.iter().filter_map(|w| verbs::of_word(w)).flatten().map(str::to_owned).collect();
                let words = words.into_iter().map(str::to_owned).collect();
                Response::Role { name, words, verbs }
            }
            Request::ScopeList { who } => {
                let wanted =
                    people.scopes().iter().filter(|(_, scope)| who.as_ref().is_none_or(|w| *w == scope.who));
                Response::Scopes(wanted.take(MOST).map(|(id, scope)| (*id, scope.clone())).collect())
            }
            Request::TemplateList => Response::Templates(people.templates().clone()),
            Request::SessionList { user } => self.session_lines(user.as_deref()),
            Request::SessionRevoke { session, user } => {
                if session.is_none() && user.is_none() {
                    return Err(malformed("expected a session's id, or a user"));
                }
                let count = self.revoke(by, session.as_deref(), user.as_deref()).await?;
                Response::Done(format!("{count} sessions revoked"))
            }
            Request::AuditSearch { user, kind, object, from_ms, to_ms, before, limit } => {
                let no_kind = |word: &str| malformed(format!("`{word}` is no kind of object"));
                let filter = Filter {
                    principal: user.map(Into::into),
                    kind: kind.map(|k| Kind::from_word(&k).ok_or_else(|| no_kind(&k))).transpose()?,
                    object: object.map(|o| o.parse().map_err(malformed)).transpose()?,
                    from_ms,
                    to_ms,
                };
                let limit = if limit == 0 { MOST } else { limit.min(MOST) };
                let found = self.deps.keep.search(&filter, before, limit).await?;
                Response::Audit(found.into_iter().map(|(seq, entry)| audit_line(seq, entry)).collect())
            }
            Request::AuditVerify => match self.deps.keep.verify().await? {
                Ok(entries) => Response::Whole(entries),
                Err(broken) => Response::Broken { seq: broken.seq, what: broken.what },
            },
            change => {
                let change = changing(change)?;
                let said = done(&change);
                self.change(by, change).await?;
                Response::Done(said)
            }
        })
    }

    fn user_lines(&self) -> Vec<UserLine> {
        let (people, now) = (self.people(), self.now());
        let mut sessions: BTreeMap<String, usize> = BTreeMap::new();
        for (_, live) in self.table.lock().iter().filter(|(_, live)| live.is_live(now)) {
            *sessions.entry(live.kept.principal.to_string()).or_default() += 1;
        }
        let line = |name: &str| UserLine {
            name: name.to_owned(),
            groups: people.groups_of(name).map(str::to_owned).collect(),
            roles: people
                .scopes_of(name)
                .into_iter()
                .map(|s| s.role)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            sessions: sessions.get(name).copied().unwrap_or(0),
        };
        people.users().map(line).collect()
    }

    fn session_lines(&self, user: Option<&str>) -> Response {
        let table = self.table.lock();
        let now = self.now();
        let wanted = table.iter().filter(|(_, live)| {
            live.kept.expires_ms > now && user.is_none_or(|user| *live.kept.principal == *user)
        });
        let mut lines: Vec<SessionLine> = wanted
            .map(|(id, live)| SessionLine {
                id: id.to_string(),
                user: live.kept.principal.to_string(),
                protocol: live.kept.protocol.to_string(),
                remote: live.kept.remote.to_string(),
                agents: live.kept.agents.iter().map(ToString::to_string).collect(),
                created_ms: live.kept.created_ms,
                active_ms: live.kept.active_ms,
                expires_ms: live.kept.expires_ms,
                revoked: live.kept.revoked_ms != 0,
            })
            .collect();
        drop(table);
        lines.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        let more = lines.len().saturating_sub(MOST);
        lines.truncate(MOST);
        Response::Sessions(lines, more)
    }
}

fn audit_line(seq: u64, entry: Entry) -> AuditLine {
    AuditLine {
        seq,
        at_ms: entry.at_ms,
        user: entry.principal.to_string(),
        session: entry.session.to_string(),
        remote: entry.remote.to_string(),
        verb: entry.verb.to_string(),
        object: entry.object.map(|o| o.to_string()),
        command: entry.command.map(|c| c.to_string()),
        verdict: entry.verdict.to_string(),
        detail: entry.detail,
    }
}

/// The change that a request asks for.
fn changing(request: Request) -> Result<Change, AdminError> {
    Ok(match request {
        Request::UserAdd { name, password, role } => Change::AddUser(name, password, role),
        Request::UserPasswd { name, password } => Change::Password(name, password),
        Request::UserRemove { name } => Change::RemoveUser(name),
        Request::GroupAdd { name, users } => Change::JoinGroup(name, users),
        Request::GroupRemove { name, users } if users.is_empty() => Change::RemoveGroup(name),
        Request::GroupRemove { name, users } => Change::LeaveGroup(name, users),
        Request::RoleAdd { name, verbs } => Change::PutRole(name, verbs),
        Request::RoleRemove { name } => Change::RemoveRole(name),
        Request::ScopeAdd { scope } => Change::AddScope(scope),
        Request::ScopeRemove { id } => Change::RemoveScope(id),
        Request::TemplateAdd { name, rows } => Change::PutTemplate(name, rows),
        Request::TemplateRemove { name } => Change::RemoveTemplate(name),
        Request::TemplateApply { name, who, roots } => {
            let id = |(place, id): (String, String)| Ok((place, id.parse().map_err(malformed)?));
            Change::ApplyTemplate(name, who, roots.into_iter().map(id).collect::<Result<_, AdminError>>()?)
        }
        _ => return Err(malformed("the request changes nothing")),
    })
}

/// What an administrator reads when a change is made.
fn done(change: &Change) -> String {
    match change {
        Change::AddUser(name, _, Some(role)) => {
            format!("user {name} added with the role {role} on everything")
        }
        Change::AddUser(name, _, None) => {
            format!("user {name} added without permissions; give some with `ctl scope add`")
        }
        Change::Password(name, _) => format!("password of {name} changed; their sessions have ended"),
        Change::RemoveUser(name) => format!("user {name} removed; their sessions have ended"),
        Change::JoinGroup(name, users) => format!("group {name}: {} users put into it", users.len()),
        Change::LeaveGroup(name, users) => format!("group {name}: {} users taken out of it", users.len()),
        Change::RemoveGroup(name) => format!("group {name} removed, with its scopes"),
        Change::PutRole(name, words) => format!("role {name}: {} verbs and groups of verbs", words.len()),
        Change::RemoveRole(name) => format!("role {name} removed"),
        Change::AddScope(scope) => {
            let root = scope.root.map_or("everything".to_owned(), |id| id.to_string());
            let mut said = format!("{} has the role {} on {root}", scope.who, scope.role);
            if !scope.kinds.is_empty() {
                let kinds = scope.kinds.iter().cloned().collect::<Vec<_>>().join(", ");
                // Writing to a string does not fail.
                write!(said, ", for {kinds}").unwrap_or_default();
            }
            said
        }
        Change::RemoveScope(id) => format!("scope {id} removed"),
        Change::PutTemplate(name, rows) => format!("template {name}: {} rows", rows.len()),
        Change::RemoveTemplate(name) => format!("template {name} removed; what was made from it stays"),
        Change::ApplyTemplate(name, who, _) => format!("template {name} applied to {who}"),
    }
}

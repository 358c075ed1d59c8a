//! `hyperglot ctl`: administers a running installation over the bus, with the installation's own account. Whoever may read its data_dir may
//! do everything.

use crate::{
    Failure,
    config::Config,
    ctl_desk::{Answer, Ask, subject},
    ctl_mapping::{self, MappingVerb},
    ctl_show::show,
    identity::AgentIdentity,
    join::TOKEN_FOR,
    link::Link,
    run::own,
    say,
};
use bus::{Bus, Headers};
use clap::Subcommand;
use guard::{
    Cost, Hashed, Secret,
    authority::admin::Request,
    people::{Scope, TemplateRow, Who},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use union::{ObjectId, clock::SystemIds};

/// How long the broker may take to answer.
const WITHIN: Duration = Duration::from_secs(20);

/// What is administered.
#[derive(Debug, Subcommand)]
pub enum Verb {
    #[command(flatten)]
    Admin(AdminVerb),
    /// Agents.
    Agent {
        #[command(subcommand)]
        verb: AgentVerb,
    },
    /// The mappings in force.
    Mapping {
        #[command(subcommand)]
        verb: MappingVerb,
    },
    /// Save what can be read of a damaged store into a new file in its place. The program that uses it must be stopped.
    Repair {
        /// The store, for example `<data_dir>/engine.redb`.
        store: PathBuf,
    },
}

/// What the authority answers.
#[derive(Debug, Subcommand)]
pub enum AdminVerb {
    /// Users. Passwords are read from standard input.
    User {
        #[command(subcommand)]
        verb: UserVerb,
    },
    /// Groups of users.
    Group {
        #[command(subcommand)]
        verb: GroupVerb,
    },
    /// Roles: named sets of what may be done.
    Role {
        #[command(subcommand)]
        verb: RoleVerb,
    },
    /// Scopes: who has which role on what part of the tree.
    Scope {
        #[command(subcommand)]
        verb: ScopeVerb,
    },
    /// Templates: several scopes at once.
    Template {
        #[command(subcommand)]
        verb: TemplateVerb,
    },
    /// Sessions of all fronts.
    Session {
        #[command(subcommand)]
        verb: SessionVerb,
    },
    /// The record of what was asked and done.
    Audit {
        #[command(subcommand)]
        verb: AuditVerb,
    },
}

#[derive(Debug, Subcommand)]
pub enum UserVerb {
    /// Add a user.
    Add {
        /// The name.
        name: String,
        /// A role on everything; without one: none.
        #[arg(long)]
        role: Option<String>,
    },
    /// Give a user another password; their sessions end.
    Passwd {
        /// The name.
        name: String,
    },
    /// Remove a user; their sessions end.
    Remove {
        /// The name.
        name: String,
    },
    /// List users.
    List,
}

#[derive(Debug, Subcommand)]
pub enum GroupVerb {
    /// Put users into a group.
    Add {
        /// The group.
        name: String,
        /// The users.
        users: Vec<String>,
    },
    /// Take users out of a group; without users: remove the group.
    Remove {
        /// The group.
        name: String,
        /// The users.
        users: Vec<String>,
    },
    /// List groups.
    List,
}

#[derive(Debug, Subcommand)]
pub enum RoleVerb {
    /// Add or change a role.
    Add {
        /// The name.
        name: String,
        /// Union verbs and groups of them, for example `read power Reconfigure`.
        #[arg(required = true)]
        verbs: Vec<String>,
    },
    /// Remove a role.
    Remove {
        /// The name.
        name: String,
    },
    /// Show what a role comes to.
    Show {
        /// The name.
        name: String,
    },
    /// List roles.
    List,
}

#[derive(Debug, Subcommand)]
pub enum ScopeVerb {
    /// Give a role to somebody.
    Add {
        /// `user:NAME` or `group:NAME`.
        who: Who,
        /// The role.
        role: String,
        /// The object whose subtree it is, `<kind>:<uuid>`; without it: everything.
        #[arg(long)]
        root: Option<ObjectId>,
        /// Only objects of these kinds, for example `vm`.
        #[arg(long)]
        kind: Vec<String>,
    },
    /// Take a scope away.
    Remove {
        /// Its number.
        id: u64,
    },
    /// List scopes.
    List {
        /// `user:NAME` or `group:NAME`.
        who: Option<Who>,
    },
}

#[derive(Debug, Subcommand)]
pub enum TemplateVerb {
    /// Add or change a template, from JSON rows on standard input: `[{"role":"…","place":"folder","kinds":["vm"]}]`.
    Add {
        /// The name.
        name: String,
    },
    /// Remove a template.
    Remove {
        /// The name.
        name: String,
    },
    /// List templates.
    List,
    /// Give somebody a template's scopes.
    Apply {
        /// The name.
        name: String,
        /// `user:NAME` or `group:NAME`.
        who: Who,
        /// An object for each place: `place=<kind>:<uuid>`.
        places: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum SessionVerb {
    /// List sessions.
    List {
        /// Whose.
        #[arg(long)]
        user: Option<String>,
    },
    /// End sessions everywhere.
    Revoke {
        /// Which.
        session: Option<String>,
        /// All of a user.
        #[arg(long)]
        user: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// Search, newest first.
    Search {
        /// Who.
        #[arg(long)]
        user: Option<String>,
        /// A kind of object, for example `vm`.
        #[arg(long)]
        kind: Option<String>,
        /// An object, `<kind>:<uuid>`.
        #[arg(long)]
        object: Option<String>,
        /// Not before, RFC 3339.
        #[arg(long)]
        from: Option<String>,
        /// Before, RFC 3339.
        #[arg(long)]
        to: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Follow the chain of hashes from its beginning.
    Verify,
}

#[derive(Debug, Subcommand)]
pub enum AgentVerb {
    /// Print a token with which an agent joins, once.
    Token {
        /// The name that the agent will have.
        name: String,
        /// Seconds within which it may be used.
        #[arg(long, default_value_t = TOKEN_FOR.as_secs())]
        valid_s: u64,
    },
    /// List agents.
    List,
    /// Send an agent away.
    Remove {
        /// Its name.
        name: String,
    },
}

/// Does what is asked.
pub async fn run(config: Option<PathBuf>, data_dir: Option<PathBuf>, verb: Verb) -> Result<(), Failure> {
    let load = || -> Result<Config, Failure> {
        let config = Config::load_at(config.as_deref(), data_dir.clone())?;
        match AgentIdentity::read(&config.data_dir)? {
            Some(agent) if config.bus.url.is_none() => Err(Failure::Other(format!(
                "data_dir = \"{}\" is the agent {}'s: ctl speaks to the broker, so run it there ({}); `hyperglot status` says how this \
                 agent stands",
                config.data_dir.display(),
                agent.name,
                agent.url
            ))),
            _ => Ok(config),
        }
    };
    let ask = match verb {
        Verb::Repair { store } => return repair(&store),
        Verb::Mapping { verb } => return ctl_mapping::run(&load()?, &verb).await,
        Verb::Agent { verb } => match verb {
            AgentVerb::Token { name, valid_s } => Ask::AgentToken { name, valid_s },
            AgentVerb::List => Ask::AgentList,
            AgentVerb::Remove { name } => Ask::AgentRemove { name },
        },
        Verb::Admin(verb) => {
            let by = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
            Ask::Admin { by: format!("ctl:{by}"), request: request(verb)? }
        }
    };
    let answer = asked(&load()?, &ask).await?;
    show(&answer)
}

/// One question to the broker and its answer.
pub async fn asked(config: &Config, ask: &Ask) -> Result<Answer, Failure> {
    ask_on(&Link::join(config).await?, config, ask, WITHIN).await
}

/// The same on a bus that was joined already.
pub async fn ask_on(
    bus: &Arc<dyn Bus>,
    config: &Config,
    ask: &Ask,
    within: Duration,
) -> Result<Answer, Failure> {
    let to = subject(&config.domain).map_err(Failure::other)?;
    let body = serde_json::to_vec(ask).map_err(Failure::other)?;
    let answer = bus.request(&to, Headers::new(), body.into(), within).await;
    let answer = answer.map_err(|e| Failure::other(format!("the broker did not answer: {e}")))?;
    serde_json::from_slice(&answer.payload).map_err(|e| {
        Failure::other(format!(
            "the broker's answer cannot be read: {e}; ctl and broker must be of one version"
        ))
    })
}

fn request(verb: AdminVerb) -> Result<Request, Failure> {
    Ok(match verb {
        AdminVerb::User { verb } => match verb {
            UserVerb::Add { name, role } => Request::UserAdd { name, password: password()?, role },
            UserVerb::Passwd { name } => Request::UserPasswd { name, password: password()? },
            UserVerb::Remove { name } => Request::UserRemove { name },
            UserVerb::List => Request::UserList,
        },
        AdminVerb::Group { verb } => match verb {
            GroupVerb::Add { name, users } => Request::GroupAdd { name, users },
            GroupVerb::Remove { name, users } => Request::GroupRemove { name, users },
            GroupVerb::List => Request::GroupList,
        },
        AdminVerb::Role { verb } => match verb {
            RoleVerb::Add { name, verbs } => Request::RoleAdd { name, verbs: verbs.into_iter().collect() },
            RoleVerb::Remove { name } => Request::RoleRemove { name },
            RoleVerb::Show { name } => Request::RoleShow { name },
            RoleVerb::List => Request::RoleList,
        },
        AdminVerb::Scope { verb } => match verb {
            ScopeVerb::Add { who, role, root, kind } => {
                let kinds: BTreeSet<String> = kind.into_iter().collect();
                Request::ScopeAdd { scope: Scope { who, role, root, kinds } }
            }
            ScopeVerb::Remove { id } => Request::ScopeRemove { id },
            ScopeVerb::List { who } => Request::ScopeList { who },
        },
        AdminVerb::Template { verb } => template(verb)?,
        AdminVerb::Session { verb } => match verb {
            SessionVerb::List { user } => Request::SessionList { user },
            SessionVerb::Revoke { session, user } => Request::SessionRevoke { session, user },
        },
        AdminVerb::Audit { verb } => match verb {
            AuditVerb::Search { user, kind, object, from, to, limit } => Request::AuditSearch {
                user,
                kind,
                object,
                from_ms: time(from.as_deref())?,
                to_ms: time(to.as_deref())?,
                before: None,
                limit,
            },
            AuditVerb::Verify => Request::AuditVerify,
        },
    })
}

fn template(verb: TemplateVerb) -> Result<Request, Failure> {
    Ok(match verb {
        TemplateVerb::Add { name } => {
            let rows: Vec<TemplateRow> = serde_json::from_str(&input()?)
                .map_err(|e| Failure::other(format!("the rows on standard input cannot be read: {e}")))?;
            Request::TemplateAdd { name, rows }
        }
        TemplateVerb::Remove { name } => Request::TemplateRemove { name },
        TemplateVerb::List => Request::TemplateList,
        TemplateVerb::Apply { name, who, places } => {
            let mut roots = BTreeMap::new();
            for place in places {
                let (place, object) = place
                    .split_once('=')
                    .ok_or_else(|| Failure::other(format!("`{place}`: expected place=<kind>:<uuid>")))?;
                roots.insert(place.to_owned(), object.to_owned());
            }
            Request::TemplateApply { name, who, roots }
        }
    })
}

/// The password on standard input, hashed here.
fn password() -> Result<Hashed, Failure> {
    let text = Secret::new(input()?);
    let password = Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned());
    Hashed::new(&password, Cost::default(), &SystemIds).map_err(Failure::other)
}

/// Standard input, at most 1 MiB.
fn input() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().take(1 << 20).read_to_string(&mut text).map_err(Failure::other)?;
    Ok(text)
}

fn time(text: Option<&str>) -> Result<Option<i64>, Failure> {
    let read = |text: &str| {
        let parsed = text.parse::<jiff::Timestamp>();
        parsed.map(|t| t.as_millisecond()).map_err(|e| {
            Failure::other(format!("`{text}` is no time: {e}; expected for example 2026-01-02T03:04:05Z"))
        })
    };
    text.map(read).transpose()
}

fn repair(path: &std::path::Path) -> Result<(), Failure> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let _lock = own(dir)?;
    let report = ::link::keep::repair::repair(path).map_err(Failure::other)?;
    for (table, rows) in &report.repaired.kept {
        say::line(format_args!("kept  {rows:>8}  {table}"));
    }
    for lost in &report.repaired.lost {
        let table = lost.table.map_or_else(String::new, |t| t.to_string());
        say::line(format_args!("LOST  {table} {}: {}", lost.key, lost.what));
    }
    if let Some((had, now)) = report.repaired.rolled_back {
        say::line(format_args!("the file had come to commit {had}; what could be read is of commit {now}"));
    }
    if report.repaired.mended > 0 {
        say::line(format_args!("{} halves of id pairs were put back", report.repaired.mended));
    }
    say::line(format_args!("the damaged file is {}", report.damaged.display()));
    Ok(())
}

//! The answers of a broker, for people.

use crate::{Failure, ctl_desk::Answer, json, say};
use guard::authority::admin::Response;

/// Prints an answer; a refusal is a failure.
pub fn show(answer: &Answer) -> Result<(), Failure> {
    match answer {
        Answer::Refused(why) => return Err(Failure::Other(why.clone())),
        Answer::Done(what) | Answer::Token(what) => say::line(what),
        Answer::Agents(agents) => {
            for agent in agents {
                let heard = match (agent.heard_ms, agent.lost) {
                    (Some(at), false) => format!("heard {}", json::time(at)),
                    (Some(at), true) => format!("LOST, heard {}", json::time(at)),
                    (None, _) => "not heard yet".to_owned(),
                };
                say::line(format_args!("{}  joined {}  {heard}", agent.name, json::time(agent.joined_ms)));
            }
        }
        // Shown where it is asked for.
        Answer::Mapping(_) => {}
        Answer::Admin(response) => admin(response)?,
    }
    Ok(())
}

fn admin(response: &Response) -> Result<(), Failure> {
    match response {
        Response::Refused(why) => return Err(Failure::Other(why.clone())),
        Response::Broken { seq, what } => {
            return Err(Failure::other(format!("the audit chain is BROKEN at entry {seq}: {what}")));
        }
        Response::Whole(entries) => say::line(format_args!("the audit chain is whole: {entries} entries")),
        Response::Done(what) => say::line(what),
        Response::Users(users) => {
            for user in users {
                let (groups, roles) = (user.groups.join(","), user.roles.join(","));
                say::line(format_args!(
                    "{}  roles {roles}  groups {groups}  sessions {}",
                    user.name, user.sessions
                ));
            }
        }
        Response::Groups(groups) => {
            for (group, users) in groups {
                say::line(format_args!("{group}  {}", users.iter().cloned().collect::<Vec<_>>().join(" ")));
            }
        }
        Response::Roles(roles) => {
            for (role, words) in roles {
                say::line(format_args!("{role}  {}", words.join(" ")));
            }
        }
        Response::Role { name, words, verbs } => {
            say::line(format_args!("{name}  {}", words.join(" ")));
            for verb in verbs {
                say::line(format_args!("  {verb}"));
            }
        }
        Response::Scopes(scopes) => {
            for (id, scope) in scopes {
                let root = scope.root.map_or_else(|| "everything".to_owned(), |root| root.to_string());
                let kinds: Vec<&str> = scope.kinds.iter().map(String::as_str).collect();
                let kinds = if kinds.is_empty() { "all kinds".to_owned() } else { kinds.join(",") };
                say::line(format_args!("{id}  {}  {}  {root}  {kinds}", scope.who, scope.role));
            }
        }
        Response::Templates(templates) => {
            for (name, rows) in templates {
                say::line(format_args!("{name}  {}", serde_json::to_string(rows).map_err(Failure::other)?));
            }
        }
        Response::Sessions(sessions, more) => {
            for s in sessions {
                let revoked = if s.revoked { "  REVOKED" } else { "" };
                say::line(format_args!(
                    "{}  {}  {}  from {}  at {}  used {}{revoked}",
                    s.id,
                    s.user,
                    s.protocol,
                    s.remote,
                    s.agents.join(","),
                    json::time(s.active_ms)
                ));
            }
            if *more > 0 {
                say::line(format_args!("and {more} more"));
            }
        }
        Response::Audit(entries) => {
            for e in entries {
                say::line(format_args!(
                    "{}  {}  {}  {}  {}  {}  {}",
                    e.seq,
                    json::time(e.at_ms),
                    e.user,
                    e.verb,
                    e.object.as_deref().unwrap_or("-"),
                    e.verdict,
                    e.detail
                ));
            }
        }
    }
    Ok(())
}

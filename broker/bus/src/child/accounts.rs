//! Who may say what on the bus: the accounts of the child's configuration.
//!
//! ```text
//! system      the server's own                     hyperglot   this installation: everything
//! monitor     reads event. metric. task.           join        asks one question: may I join?
//! agent       one nkey each; see `permissions`
//! ```
//! These lists are defence in depth: what agents and the engine say to each other is signed, and looked at again by whoever receives it.

use crate::subject::escape;

/// An agent that may connect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentAccount {
    /// Its name.
    pub name: String,
    /// Its public nkey, `U…`.
    pub nkey: String,
}

/// What one agent may publish and listen to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPermissions {
    /// Subjects it may publish to; to what it is asked by others it may answer besides.
    pub publish: Vec<String>,
    /// Subjects it may listen to.
    pub subscribe: Vec<String>,
}

/// The permissions of `agent` in `domain`; for a NATS of somebody's own the same list is to be written by hand.
pub fn permissions(domain: &str, agent: &str) -> AgentPermissions {
    let (d, a) = (escape(domain), escape(agent));
    let service = engine_service(domain);
    AgentPermissions {
        publish: vec![
            format!("cmd.{d}.>"),
            format!("service.{service}.>"),
            format!("event.{d}.>"),
            format!("metric.{d}.>"),
            format!("task.{d}.>"),
            format!("inventory.{d}.{a}.>"),
            format!("inventory.{d}.*.*.snapshot"),
            // A flush is a message to oneself.
            format!("{}.>", inbox(agent)),
        ],
        subscribe: vec![
            format!("agent.{d}.{a}.>"),
            format!("inventory.{d}.*.*.delta"),
            format!("inventory.{d}.{a}.*.snapshot"),
            format!("{}.>", inbox(agent)),
        ],
    }
}

/// The first tokens of an agent's private inbox.
pub fn inbox(agent: &str) -> String {
    format!("_INBOX_{}", escape(agent))
}

/// The name of a domain's engine in `service.<name>.<verb>`, as a token.
fn engine_service(domain: &str) -> String {
    escape(&format!("engine-{domain}"))
}

/// Where those who have a token ask to join.
pub fn join_subject(domain: &str) -> String {
    format!("service.{}.ask", escape(&format!("join-{domain}")))
}

/// The inbox of those who ask to join.
pub const JOIN_INBOX: &str = "_INBOX_join";

fn list(subjects: &[String]) -> String {
    let quoted: Vec<String> = subjects.iter().map(|s| format!("\"{s}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// The users of agents and of the one who joins, in the configuration's language, each followed by a comma.
pub(super) fn render(domain: &str, agents: &[AgentAccount], join: (&str, &str)) -> String {
    let mut text = String::new();
    for agent in agents {
        let p = permissions(domain, &agent.name);
        text.push_str(&format!(
            "      {{ nkey: \"{}\", permissions: {{ publish: {{ allow: {} }}, subscribe: {{ allow: {} }}, allow_responses: true }} }},\n",
            agent.nkey,
            list(&p.publish),
            list(&p.subscribe),
        ));
    }
    let (user, password) = join;
    text.push_str(&format!(
        "      {{ user: \"{user}\", password: \"{password}\", permissions: {{ publish: {{ allow: [\"{}\"] }}, subscribe: {{ allow: [\"{JOIN_INBOX}.>\"] }} }} }},\n",
        join_subject(domain),
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_speaks_for_itself_only() {
        let p = permissions("lab", "host.a");
        assert!(p.publish.contains(&"inventory.lab.host=2Ea.>".to_owned()));
        assert!(p.subscribe.iter().all(|s| !s.starts_with("cmd") && s != "agent.lab.>"));
        assert!(p.publish.iter().all(|s| !s.starts_with("agent")));
        assert_eq!(p.publish[1], "service.engine-lab.>");
    }
}

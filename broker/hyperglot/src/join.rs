//! Joining: an agent with a token becomes a member of the domain.
//!
//! ```text
//! broker: ctl agent token NAME ─▶ token (bus, certificate, secret; once, for an hour)
//! agent:  makes its keys ─ `service.join-<domain>.ask` {secret, public keys} ─▶ broker: token used up, account made on the bus
//!         ◀─ {name, the engine's public key} ─ kept in agent.json ─ connects as itself
//! ```
//! Whoever holds the token can join in its name; it is to be carried like a password.

use crate::{
    Failure,
    identity::{self, AGENT_KEYS, AgentIdentity},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bus::{
    Bus, Headers, NatsBus, Request, Subject,
    child::{join_options, join_subject},
};
use guard::Public;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use std::{path::Path, sync::Arc, time::Duration};
use store::{
    Epoch,
    agents::{Agents, Invitation, Member},
};
use union::{
    Clock, Ids, Schema,
    command::{Cause, Code},
    pb,
};

/// How long a token may be used, unless it is said, and at most.
pub const TOKEN_FOR: Duration = Duration::from_secs(3_600);
const TOKEN_AT_MOST: Duration = Duration::from_secs(7 * 86_400);
/// How long the broker may take to answer.
const WITHIN: Duration = Duration::from_secs(10);
/// Those who join at once.
const QUEUE: usize = 16;
/// What a token begins with; another version of it would begin with another.
const PREFIX: &str = "hyperglot1.";
const LONGEST_TOKEN: usize = 64 << 10;
const LONGEST_NAME: usize = 64;

/// What a token says.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Where the bus is.
    pub url: String,
    /// The password of the account that may ask to join.
    pub password: String,
    /// The domain.
    pub domain: String,
    /// The secret.
    pub secret: String,
    /// The certificate to trust, PEM; none where the bus is on this machine.
    pub ca: Option<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("url", &self.url).field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl Token {
    /// As text, to be carried.
    pub fn write(&self) -> Result<String, Failure> {
        let json = serde_json::to_vec(self).map_err(Failure::other)?;
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json)))
    }

    /// Reads it back.
    pub fn read(text: &str) -> Result<Token, Failure> {
        let wrong =
            || Failure::other("this is not a token: expected one that `hyperglot ctl agent token` printed");
        let text = text.trim();
        let packed = text.strip_prefix(PREFIX).filter(|t| t.len() <= LONGEST_TOKEN).ok_or_else(wrong)?;
        let json = URL_SAFE_NO_PAD.decode(packed).map_err(|_| wrong())?;
        serde_json::from_slice(&json).map_err(|_| wrong())
    }
}

/// Whether a name may be an agent's: it becomes a token of subjects and stands in files.
pub fn check_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(legal) || name == "engine" {
        return Err(format!(
            "\"{name}\" cannot name an agent: expected 1 to {LONGEST_NAME} letters, digits, dots, dashes or underscores, and not `engine`"
        ));
    }
    Ok(())
}

/// A new secret, kept until it is used or too old.
pub async fn invite(
    agents: &Agents,
    name: &str,
    valid: Duration,
    clock: &dyn Clock,
    ids: &dyn Ids,
    epoch: Epoch,
) -> Result<String, String> {
    check_name(name)?;
    if valid.is_zero() || valid > TOKEN_AT_MOST {
        return Err(format!(
            "a token is valid for 1 to {} seconds, not {}",
            TOKEN_AT_MOST.as_secs(),
            valid.as_secs()
        ));
    }
    let mut random = [0; 24];
    ids.fill(&mut random);
    let secret: String = random.iter().map(|b| format!("{b:02x}")).collect();
    let now = clock.now_ms();
    let until = now + i64::try_from(valid.as_millis()).unwrap_or(0);
    let invitation = Invitation { name: name.into(), expires_ms: until };
    agents.invite(&secret, &invitation, now, epoch).await.map_err(|e| e.to_string())?;
    Ok(secret)
}

fn subject(domain: &str) -> Result<Subject, bus::BusError> {
    Subject::parse(&join_subject(domain))
}

/// Lets agents in.
pub struct Door {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The domain.
    pub domain: Arc<str>,
    /// Who has joined.
    pub agents: Agents,
    /// The engine's public key.
    pub engine: Public,
    /// The store's epoch.
    pub epoch: Epoch,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Told of all members when somebody has joined: makes the accounts.
    pub joined: Arc<dyn Fn(Vec<Member>) + Send + Sync>,
}

impl Door {
    /// Answers those who ask, until the bus closes.
    pub async fn open(self) -> Result<(), bus::BusError> {
        let mut questions = self.bus.serve(&subject(&self.domain)?.into(), QUEUE).await?;
        tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                self.answer(question).await;
            }
        });
        Ok(())
    }

    async fn answer(&self, question: Request) {
        use pb::reply::What;
        let what = match self.admit(&question.message.payload).await {
            Ok(joined) => What::Body(joined.encode_to_vec()),
            Err(message) => {
                tracing::warn!(%message, "an agent was not let in");
                let cause = Cause::new(Code::Permission, message);
                What::Refused(pb::Refused { cause: Some(cause.to_pb(&Schema::base())) })
            }
        };
        let reply = pb::Reply { what: Some(what) };
        if let Err(e) = question.reply(Headers::new(), reply.encode_to_vec().into()).await {
            tracing::debug!(error = %e, "an answer to one who joins did not leave");
        }
    }

    async fn admit(&self, payload: &[u8]) -> Result<pb::Joined, String> {
        let ask = pb::Join::decode(payload).map_err(|e| format!("the question cannot be read: {e}"))?;
        Public::new(&ask.nkey).map_err(|e| e.to_string())?;
        let now = self.clock.now_ms();
        let joined = self.agents.join(&ask.secret, &ask.nkey, &ask.seal_key, now, self.epoch).await;
        let member = joined.map_err(|e| e.to_string())?;
        let all = self.agents.members().await.map_err(|e| e.to_string())?;
        tracing::info!(agent = %member.name, version = ask.version, "an agent has joined");
        (self.joined)(all);
        Ok(pb::Joined {
            name: member.name.to_string(),
            domain: self.domain.to_string(),
            engine_key: self.engine.text().to_owned(),
        })
    }
}

/// Joins with a token and keeps what it led to in `data_dir`.
pub async fn join(data_dir: &Path, token: &str, ids: &dyn Ids) -> Result<AgentIdentity, Failure> {
    let token = Token::read(token)?;
    let keys = identity::keys(&data_dir.join(AGENT_KEYS), ids)?;
    let trusted = data_dir.join("joining-ca.pem");
    let ca = match &token.ca {
        None => None,
        Some(pem) => {
            std::fs::write(&trusted, pem)
                .map_err(|e| Failure::other(format!("{}: {e}", trusted.display())))?;
            Some(trusted.clone())
        }
    };
    let options = join_options(&token.url, &token.password, ca);
    let bus = NatsBus::connect(&options).await.map_err(|e| {
        Failure::other(format!("{e}; the token says that the broker's bus is at {}", token.url))
    })?;
    let ask = pb::Join {
        secret: token.secret.clone(),
        nkey: keys.public().text().to_owned(),
        seal_key: keys.seal_key(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let to = subject(&token.domain).map_err(Failure::other)?;
    let answer = bus.request(&to, Headers::new(), ask.encode_to_vec().into(), WITHIN).await;
    bus.close().await;
    if token.ca.is_some() {
        std::fs::remove_file(&trusted).ok();
    }
    let answer = answer.map_err(|e| Failure::other(format!("the broker did not answer: {e}")))?;
    let reply = pb::Reply::decode(&*answer.payload).map_err(Failure::other)?;
    let joined = match reply.what {
        Some(pb::reply::What::Body(body)) => pb::Joined::decode(&*body).map_err(Failure::other)?,
        Some(pb::reply::What::Refused(refused)) => {
            let why = refused.cause.map(|c| c.message).unwrap_or_default();
            return Err(Failure::other(format!("the broker did not let this agent in: {why}")));
        }
        None => return Err(Failure::other("the broker's answer says nothing")),
    };
    let identity = AgentIdentity {
        name: joined.name,
        domain: joined.domain,
        url: token.url.clone(),
        engine: joined.engine_key,
        ca: token.ca.is_some(),
    };
    identity.write(data_dir, token.ca.as_deref())?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_carried_as_text() {
        let token = Token {
            url: "tls://broker:4222".into(),
            password: "p".into(),
            domain: "lab".into(),
            secret: "s".into(),
            ca: Some("PEM".into()),
        };
        let text = token.write().unwrap();
        let back = Token::read(&format!(" {text}\n")).unwrap();
        assert_eq!((back.url, back.secret, back.ca), (token.url, token.secret, token.ca));
        for wrong in ["", "hyperglot1.", "hyperglot1.e30", "x", text.trim_start_matches('h')] {
            assert!(Token::read(wrong).is_err(), "{wrong}");
        }
        assert!(check_name("host-a.example").is_ok());
        assert!(check_name("a b").is_err() && check_name("").is_err() && check_name("engine").is_err());
    }
}

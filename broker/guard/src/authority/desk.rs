//! What agents ask of the authority, as the link carries it: `login`, `again`, `resume`, `logout`, `used`, `renew`, `directory`.

use super::{Authority, Opened};
use crate::{Applicant, LoginError, Secret, seal};
use prost::Message;
use std::{net::IpAddr, sync::Arc};
use union::{
    command::{Cause, Code},
    pb,
};
use zeroize::Zeroizing;

/// Sessions in one `used` or `renew`.
const SESSIONS: usize = 4_096;
/// Bytes of grants in one answer: a message on the bus holds 1 MiB.
const GRANT_BYTES: usize = 512 * 1_024;

fn malformed(what: &str, why: impl std::fmt::Display) -> Cause {
    Cause::new(Code::InvalidArgument, format!("expected {what}: {why}"))
}

fn read<M: Message + Default>(body: &[u8], what: &str) -> Result<M, Cause> {
    M::decode(body).map_err(|error| malformed(what, error))
}

impl Authority {
    /// Answers a request of the agent `from`, whose signature was verified; `None`: there is no such verb here.
    pub async fn answer(&self, from: &str, verb: &str, body: &[u8]) -> Option<Result<Vec<u8>, Cause>> {
        Some(match verb {
            "login" => self.answer_login(from, body).await,
            "again" => self.answer_again(from, body).await,
            "resume" => self.answer_resume(from, body).await,
            "logout" => self.answer_logout(from, body).await,
            "used" => read::<pb::Used>(body, "the sessions used").map(|used| {
                self.used(from, used.session_ids.iter().take(SESSIONS).map(String::as_str));
                Vec::new()
            }),
            "renew" => read::<pb::Renew>(body, "sessions to renew").map(|renew| {
                let sessions = renew.session_ids.iter().take(SESSIONS).map(String::as_str);
                let (grants, ended) = self.renew(from, sessions);
                // Those that do not fit are asked for again, for they stay as old as they are.
                let mut room = GRANT_BYTES;
                let grants = grants.iter().map(|grant| grant.signed.clone()).take_while(|signed| {
                    let fits = signed.encoded_len() <= room;
                    room = room.saturating_sub(signed.encoded_len());
                    fits
                });
                pb::Renewed { grants: grants.collect(), ended }.encode_to_vec()
            }),
            "directory" => self.answer_directory(from, body).await,
            _ => return None,
        })
    }

    /// Fills in what an agent that comes up must know.
    pub fn welcome(&self, welcome: &mut pb::Welcome) {
        welcome.revoked = self.revoked();
        welcome.seal_key = self.deps.keys.seal_key();
        welcome.seal_proof = self.deps.keys.prove_seal_key(&self.deps.domain);
        welcome.now_ms = self.now();
    }

    /// What was sealed, and the key to answer to.
    fn opened<M: Message + Default>(&self, body: &[u8]) -> Result<(M, String), Cause> {
        let request: pb::LoginRequest = read(body, "a sealed login")?;
        let sender = String::from_utf8(request.sender_key).map_err(|e| malformed("a sealing key", e))?;
        let message = seal::open_message(&self.deps.keys, &sender, &request.sealed)
            .map_err(|error| malformed("a sealed login", error))?;
        Ok((message, sender))
    }

    fn reply(&self, result: Result<Opened, LoginError>, to: &str) -> Result<Vec<u8>, Cause> {
        let refused = |refusal: pb::LoginRefusal, retry_after_ms| pb::LoginReply {
            refusal: refusal.into(),
            retry_after_ms,
            ..pb::LoginReply::default()
        };
        let reply = match result {
            Ok(opened) => {
                let key = opened.key.expose().as_bytes();
                let sealed = seal::seal(&self.deps.keys, to, key, self.deps.ids.as_ref());
                pb::LoginReply {
                    grant: Some(opened.grant.signed.clone()),
                    sealed_key: sealed.map_err(|error| malformed("a sealing key", error))?,
                    ..pb::LoginReply::default()
                }
            }
            Err(LoginError::Wrong) => refused(pb::LoginRefusal::LoginWrong, 0),
            Err(LoginError::RateLimited { retry_after }) => {
                let wait = i64::try_from(retry_after.as_millis()).unwrap_or(i64::MAX);
                refused(pb::LoginRefusal::LoginRateLimited, wait)
            }
            Err(LoginError::Busy | LoginError::Away) => refused(pb::LoginRefusal::LoginBusy, 0),
        };
        Ok(reply.encode_to_vec())
    }

    async fn answer_login(&self, from: &str, body: &[u8]) -> Result<Vec<u8>, Cause> {
        let (mut login, sender): (pb::SealedLogin, _) = self.opened(body)?;
        let password = Secret::new(std::mem::take(&mut login.password));
        let remote = remote(&login.remote)?;
        let applicant = Applicant {
            user: &login.user,
            password: &password,
            remote,
            protocol: protocol(&login.protocol)?,
        };
        let result = self.login(from, &applicant).await;
        self.reply(result, &sender)
    }

    async fn answer_again(&self, from: &str, body: &[u8]) -> Result<Vec<u8>, Cause> {
        let (key, sealed, sender) = self.key(body)?;
        let result = self.again(from, &key, remote(&sealed.remote)?).await;
        self.reply(result, &sender)
    }

    async fn answer_resume(&self, from: &str, body: &[u8]) -> Result<Vec<u8>, Cause> {
        let (key, sealed, sender) = self.key(body)?;
        match self.resume(from, &key, &sealed.protocol).await {
            Some(opened) => self.reply(Ok(opened), &sender),
            None => {
                let refusal = pb::LoginRefusal::LoginEnded.into();
                Ok(pb::LoginReply { refusal, ..pb::LoginReply::default() }.encode_to_vec())
            }
        }
    }

    async fn answer_logout(&self, from: &str, body: &[u8]) -> Result<Vec<u8>, Cause> {
        let (key, _, _) = self.key(body)?;
        self.logout(from, &key).await;
        Ok(Vec::new())
    }

    async fn answer_directory(&self, from: &str, body: &[u8]) -> Result<Vec<u8>, Cause> {
        let request: pb::DirectoryRequest = read(body, "a wish for the directory")?;
        let end: Vec<Arc<str>> = request.end.iter().take(SESSIONS).map(|id| Arc::from(&**id)).collect();
        Ok(self.directory(from, &request.session_id, &end).await?.encode_to_vec())
    }

    /// A session's key, the rest of what was sealed with it, and the key to answer to.
    fn key(&self, body: &[u8]) -> Result<(Secret, pb::SealedKey, String), Cause> {
        let (mut sealed, sender): (pb::SealedKey, _) = self.opened(body)?;
        let key = Zeroizing::new(std::mem::take(&mut sealed.key));
        Ok((Secret::from(key.as_str()), sealed, sender))
    }
}

fn remote(text: &str) -> Result<IpAddr, Cause> {
    text.parse().map_err(|error| malformed("the client's address", error))
}

fn protocol(text: &str) -> Result<&str, Cause> {
    if (1..=64).contains(&text.len()) {
        Ok(text)
    } else {
        Err(malformed("a protocol's name", "1 to 64 bytes"))
    }
}

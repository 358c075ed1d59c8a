//! The agents of a domain: who may join, and who has.
//!
//! ```text
//! invite(name, secret) ─▶ invited ─ join(secret, keys) ─▶ member ─ remove ─▶ gone
//!                            └ until `expires_ms`, once
//! ```
//!
//! Of a token's secret only the hash is stored. A name that is a member's joins again only by another invitation: its keys are replaced.

use crate::{
    batch::{Batch, Epoch},
    error::StoreError,
    row::{Row as _, row},
    store::{Store, all},
    table::Table,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;

row! {
    /// An agent that has joined.
    pub struct Member {
        /// Its name.
        1 name: Arc<str>,
        /// Its public nkey, `U…`: its login on the bus, and what it signs with.
        2 nkey: Arc<str>,
        /// Its public curve key, `X…`: what is sealed to it.
        3 seal_key: Arc<str>,
        /// When it joined, Unix milliseconds.
        4 joined_ms: i64,
    }
}

row! {
    /// A token that may be used once.
    pub struct Invitation {
        /// The name that the agent will have.
        1 name: Arc<str>,
        /// Until when, Unix milliseconds.
        2 expires_ms: i64,
    }
}

/// Why nobody joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// No such token: never given out, or used already.
    #[error(
        "the token is not known: it was used already, or another broker made it; make another with `hyperglot ctl agent token`"
    )]
    Unknown,
    /// Its time is over.
    #[error("the token has expired; make another with `hyperglot ctl agent token`")]
    Expired,
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The agents over a store.
#[derive(Clone, Debug)]
pub struct Agents {
    store: Arc<dyn Store>,
}

const MEMBER: u8 = b'm';
const INVITED: u8 = b'i';

fn member_key(name: &str) -> Vec<u8> {
    [&[MEMBER], name.as_bytes()].concat()
}

fn invited_key(secret: &str) -> Vec<u8> {
    let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
    [&[INVITED], &hash[..]].concat()
}

impl Agents {
    /// The agents in `store`.
    pub fn new(store: Arc<dyn Store>) -> Agents {
        Agents { store }
    }

    /// Keeps a token by its secret. What has expired by `now_ms` is forgotten at the same time.
    pub async fn invite(
        &self,
        secret: &str,
        invitation: &Invitation,
        now_ms: i64,
        epoch: Epoch,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for (key, bytes) in all(&*self.store, Table::Agent, &[INVITED]).await? {
            if Invitation::at(Table::Agent, &key, &bytes)?.expires_ms <= now_ms {
                batch.remove(Table::Agent, &key);
            }
        }
        batch.put(Table::Agent, &invited_key(secret), invitation.encode());
        self.store.commit(batch, epoch).await.map(drop)
    }

    /// Uses a token up: the agent it names is a member with these keys from now on.
    pub async fn join(
        &self,
        secret: &str,
        nkey: &str,
        seal_key: &str,
        now_ms: i64,
        epoch: Epoch,
    ) -> Result<Member, JoinError> {
        let key = invited_key(secret);
        let bytes = self.store.get(Table::Agent, &key).await?.ok_or(JoinError::Unknown)?;
        let invitation = Invitation::at(Table::Agent, &key, &bytes)?;
        if invitation.expires_ms <= now_ms {
            return Err(JoinError::Expired);
        }
        let member = Member {
            name: Arc::clone(&invitation.name),
            nkey: nkey.into(),
            seal_key: seal_key.into(),
            joined_ms: now_ms,
        };
        let mut batch = Batch::new();
        batch.expect(Table::Agent, &key, Some(&bytes)).remove(Table::Agent, &key);
        batch.put(Table::Agent, &member_key(&member.name), member.encode());
        match self.store.commit(batch, epoch).await {
            Ok(_) => Ok(member),
            Err(StoreError::Conflict { .. }) => Err(JoinError::Unknown),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes an agent of the engine's own process a member, without a token.
    pub async fn enrol(&self, member: &Member, epoch: Epoch) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(Table::Agent, &member_key(&member.name), member.encode());
        self.store.commit(batch, epoch).await.map(drop)
    }

    /// Who has joined, by name.
    pub async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let rows = all(&*self.store, Table::Agent, &[MEMBER]).await?;
        rows.iter().map(|(key, bytes)| Member::at(Table::Agent, key, bytes)).collect()
    }

    /// Sends an agent away; whether it was a member.
    pub async fn remove(&self, name: &str, epoch: Epoch) -> Result<bool, StoreError> {
        let key = member_key(name);
        let known = self.store.get(Table::Agent, &key).await?.is_some();
        let mut batch = Batch::new();
        batch.remove(Table::Agent, &key);
        self.store.commit(batch, epoch).await?;
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStore, wait};

    #[test]
    fn a_token_lets_one_agent_in_once() {
        let store = Arc::new(MemoryStore::new());
        let agents = Agents::new(store);
        let e = Epoch(1);
        let invitation = Invitation { name: "a".into(), expires_ms: 100 };
        wait(agents.invite("s1", &invitation, 0, e)).unwrap();
        wait(agents.invite("s2", &Invitation { name: "b".into(), expires_ms: 10 }, 0, e)).unwrap();
        assert_eq!(wait(agents.join("no", "U", "X", 1, e)), Err(JoinError::Unknown));
        assert_eq!(wait(agents.join("s2", "U", "X", 10, e)), Err(JoinError::Expired));
        let member = wait(agents.join("s1", "U1", "X1", 1, e)).unwrap();
        assert_eq!((&*member.name, &*member.nkey), ("a", "U1"));
        assert_eq!(wait(agents.join("s1", "U2", "X2", 1, e)), Err(JoinError::Unknown));
        assert_eq!(wait(agents.members()).unwrap(), [member]);
        assert!(wait(agents.remove("a", e)).unwrap());
        assert!(!wait(agents.remove("a", e)).unwrap());
        assert!(wait(agents.members()).unwrap().is_empty());
    }
}

//! What the authority keeps, in the engine's store: one commit for all that is written together.

use async_trait::async_trait;
use guard::authority::keep::{Break, Entry, Filter, Keep, KeepError, Kept, Loaded, Write};
use std::sync::Arc;
use store::{
    Batch, Blob, Epoch, Store, StoreError,
    audit::{self, Audit},
    sessions::{self, Session, Sessions},
    users,
};

/// The engine's store, as the authority sees it.
#[derive(Clone, Debug)]
pub struct KeptStore {
    store: Arc<dyn Store>,
    epoch: Epoch,
}

impl KeptStore {
    /// Over the engine's store, in the engine's epoch.
    pub fn new(store: Arc<dyn Store>, epoch: Epoch) -> Arc<KeptStore> {
        Arc::new(KeptStore { store, epoch })
    }
}

fn wrong(error: StoreError) -> KeepError {
    KeepError(error.to_string())
}

fn kept(session: Session) -> Kept {
    Kept {
        id: session.id,
        principal: session.principal,
        protocol: session.protocol,
        remote: session.remote,
        created_ms: session.created_ms,
        active_ms: session.active_ms,
        expires_ms: session.expires_ms,
        revoked_ms: session.revoked_ms,
        bundle: session.bundle,
        agents: session.agents,
    }
}

fn session(kept: Kept) -> Session {
    Session {
        id: kept.id,
        principal: kept.principal,
        protocol: kept.protocol,
        view: Arc::from(""),
        remote: kept.remote,
        created_ms: kept.created_ms,
        active_ms: kept.active_ms,
        expires_ms: kept.expires_ms,
        revoked_ms: kept.revoked_ms,
        bundle: kept.bundle,
        target: Blob::default(),
        agents: kept.agents,
    }
}

fn record(entry: Entry) -> audit::Record {
    audit::Record {
        at_ms: entry.at_ms,
        principal: entry.principal,
        session: entry.session,
        remote: entry.remote,
        verb: entry.verb,
        object: entry.object,
        command: entry.command,
        verdict: entry.verdict,
        detail: Blob(entry.detail.into_bytes()),
    }
}

fn entry(record: audit::Record) -> Entry {
    Entry {
        at_ms: record.at_ms,
        principal: record.principal,
        session: record.session,
        remote: record.remote,
        verb: record.verb,
        object: record.object,
        command: record.command,
        verdict: record.verdict,
        detail: String::from_utf8_lossy(&record.detail.0).into_owned(),
    }
}

#[async_trait]
impl Keep for KeptStore {
    async fn load(&self) -> Result<Loaded, KeepError> {
        let people = users::rows(self.store.as_ref()).await.map_err(wrong)?;
        let sessions = Sessions::new(Arc::clone(&self.store)).all().await.map_err(wrong)?;
        Ok(Loaded {
            people: people.into_iter().map(|(name, value)| (name, value.0)).collect(),
            sessions: sessions.into_iter().map(|(hash, session)| (hash, kept(session))).collect(),
        })
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), KeepError> {
        let mut batch = Batch::new();
        for write in writes {
            match write {
                Write::Person(name, value) => users::stage(&mut batch, &name, value),
                Write::Session(hash, kept) => {
                    sessions::stage(&mut batch, &hash, kept.map(session).as_ref());
                }
                Write::Audit(entry) => audit::stage(&mut batch, &record(entry)),
            }
        }
        self.store.commit(batch, self.epoch).await.map(drop).map_err(wrong)
    }

    async fn search(
        &self,
        filter: &Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Entry)>, KeepError> {
        let filter = audit::Filter {
            principal: filter.principal.clone(),
            kind: filter.kind,
            object: filter.object,
            from_ms: filter.from_ms,
            to_ms: filter.to_ms,
        };
        let found =
            Audit::new(Arc::clone(&self.store)).search(&filter, before, limit).await.map_err(wrong)?;
        Ok(found.into_iter().map(|(seq, record)| (seq, entry(record))).collect())
    }

    async fn verify(&self) -> Result<Result<u64, Break>, KeepError> {
        let verified = Audit::new(Arc::clone(&self.store)).verify().await.map_err(wrong)?;
        Ok(verified.map_err(|broken| Break { seq: broken.seq, what: broken.what.to_owned() }))
    }
}

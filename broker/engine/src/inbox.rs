//! What agents did by themselves, handed in: audit records, outcomes, ids. In order, each once.
//!
//! A record counts as its principal's only with a grant of the engine's to that agent for that principal. One without is not believed: what
//! is kept, and logged, is that the agent handed it in.

use crate::{engine::Engine, fly::verdict};
use prost::Message;
use std::sync::Arc;
use store::{
    Batch, audit,
    outbox::{Taken, What},
};
use union::{
    command::{Cause, Code, Outcome},
    envelope::command_id,
    pb,
};

/// The name of an outbox, bytes.
const OUTBOX_NAME: usize = 64;

impl Engine {
    /// Takes the entries of an agent's outbox; the number of the last one taken comes back.
    pub(crate) async fn take_in(&self, from: &str, handed: pb::Handed) -> Result<pb::Taken, Cause> {
        if handed.outbox.len() > OUTBOX_NAME {
            return Err(Cause::new(Code::InvalidArgument, "the name of an outbox is too long"));
        }
        if handed.items.len() > self.deps.limits.handed {
            let (count, most) = (handed.items.len(), self.deps.limits.handed);
            return Err(Cause::new(
                Code::InvalidArgument,
                format!("{count} entries at once; at most {most}"),
            ));
        }
        let store = |error: store::StoreError| {
            Cause::new(
                Code::Internal,
                format!("the engine's store did not take the outbox of {from}: {error}"),
            )
        };
        // Each outbox counts for itself.
        let outbox = format!("{from}\u{1f}{}", handed.outbox);
        let mut last = self.inbox.last(&outbox).await.map_err(store)?;
        for item in &handed.items {
            if item.seq <= last {
                continue;
            }
            if item.what == What::Ids as u32
                && let Err(cause) = self.deps.id_maps.adopt(from, &item.body).await
            {
                tracing::error!(agent = from, %cause, "ids that an agent gave out were not taken");
            }
            let mut effects = Batch::new();
            if let Some(record) = self.witnessed(from, item) {
                audit::stage(&mut effects, &record);
            }
            match self.inbox.take(&outbox, item.seq, effects, self.deps.epoch).await.map_err(store)? {
                Taken::Now | Taken::Before => last = item.seq,
                Taken::Gap { .. } => break,
            }
        }
        Ok(pb::Taken { seq: last })
    }

    /// What the audit chain says of an entry.
    fn witnessed(&self, from: &str, item: &pb::HandedItem) -> Option<audit::Record> {
        let record = match item.what {
            what if what == What::Audit as u32 => audit::Record::from_bytes(&item.body),
            what if what == What::Outcome as u32 => self.outcome_record(&item.body),
            what if what == What::Ids as u32 => return None,
            _ => None,
        };
        let mut record = record.unwrap_or_else(|| audit::Record {
            at_ms: self.now_ms(),
            principal: Arc::from(""),
            session: Arc::from(""),
            remote: Arc::from(""),
            verb: Arc::from("Outbox"),
            object: None,
            command: None,
            verdict: Arc::from("cannot be read"),
            detail: store::Blob::default(),
        });
        let asserted = Arc::clone(&record.principal);
        let believed = *asserted == *format!("agent:{from}") || self.is_granted(from, &record, item);
        if !believed {
            tracing::warn!(agent = from, asserted = %asserted, verb = %record.verb, "an agent handed in a record of a principal that it has no grant for");
            record.verdict = Arc::from(format!(
                "not believed: {from} handed it in for `{asserted}` without a grant; it said {}",
                record.verdict
            ));
            record.principal = Arc::from(format!("agent:{from}"));
        }
        if record.remote.is_empty() {
            record.remote = Arc::from(from);
        }
        Some(record)
    }

    /// Whether the engine let this principal act through this agent in that session.
    fn is_granted(&self, from: &str, record: &audit::Record, item: &pb::HandedItem) -> bool {
        let grant = item.grant.as_ref().and_then(|grant| self.deps.authority.issued(grant));
        grant.is_some_and(|grant| {
            grant.agent == from
                && *grant.principal == *record.principal
                && *grant.session_id == *record.session
                && record.at_ms <= grant.expires_ms
        })
    }

    fn outcome_record(&self, body: &[u8]) -> Option<audit::Record> {
        let handed = pb::HandedOutcome::decode(body).ok()?;
        let outcome = handed.outcome.as_ref().and_then(|o| Outcome::from_pb(self.schema(), o).ok())?;
        Some(audit::Record {
            at_ms: handed.at_ms,
            principal: Arc::from(handed.principal),
            session: Arc::from(handed.session_id),
            remote: Arc::from(""),
            verb: Arc::from(handed.verb),
            object: handed.object_id.parse().ok(),
            command: command_id(&handed.command_id).ok(),
            verdict: Arc::from(verdict(&outcome)),
            detail: store::Blob::default(),
        })
    }
}

//! The audit chain: who did what to what, one entry before each effect, each entry hashed over the one before.
//!
//! An entry is added to the batch that records the intent ([`stage`]), so neither is there without the other. A chain that was cut,
//! reordered or edited in the middle does not verify. Old entries may be [pruned](Audit::prune); the hash of the last one pruned stays,
//! so the rest verifies. Whoever keeps a copy of the [head](Audit::head) elsewhere can tell a chain that was rewritten as a whole.

use crate::{
    apply::{Head, anchor_key, chain, head_key, index_key},
    batch::{Batch, Epoch},
    error::StoreError,
    row::{Blob, Row as _, row},
    seal,
    store::{Scan, Store},
    table::Table,
};
use std::sync::Arc;
use union::{CommandId, Kind, ObjectId};

row! {
    /// One entry.
    pub struct Record {
        /// When, Unix milliseconds.
        1 at_ms: i64,
        /// Who.
        2 principal: Arc<str>,
        /// In which session.
        3 session: Arc<str>,
        /// From where, an address.
        4 remote: Arc<str>,
        /// The union command, or another thing to be kept, for example `Login`.
        5 verb: Arc<str>,
        /// On what.
        6 object: Option<ObjectId>,
        /// By which command.
        7 command: Option<CommandId>,
        /// Allowed, or why not.
        8 verdict: Arc<str>,
        /// More, encoded; without secrets.
        9 detail: Blob,
    }
}

/// Adds an entry to a batch.
pub fn stage(batch: &mut Batch, record: &Record) {
    batch.append(Table::Audit, record.encode(), texts(record));
}

/// What an entry is found by.
pub(crate) fn texts(record: &Record) -> Vec<Vec<u8>> {
    let mut texts = vec![text(b"user", record.principal.as_bytes())];
    if let Some(object) = record.object {
        texts.push(text(b"kind", object.kind.word().as_bytes()));
        texts.push(text(b"object", object.to_string().as_bytes()));
    }
    texts
}

fn text(what: &[u8], value: &[u8]) -> Vec<u8> {
    // Cut to what a key may hold, and without the byte that ends it; what a search finds is compared with the record.
    let value = value.iter().take(MAX_TEXT).map(|byte| if *byte == 0 { u8::MAX } else { *byte });
    what.iter().copied().chain([b'=']).chain(value).collect()
}

const MAX_TEXT: usize = 512;
/// Entries read at a time.
const PAGE: usize = 512;

/// What to look for; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Who.
    pub principal: Option<Arc<str>>,
    /// On which kind of object.
    pub kind: Option<Kind>,
    /// On which object.
    pub object: Option<ObjectId>,
    /// Not before, Unix milliseconds.
    pub from_ms: Option<i64>,
    /// Before, Unix milliseconds.
    pub to_ms: Option<i64>,
}

impl Filter {
    fn holds(&self, record: &Record) -> bool {
        self.principal.as_ref().is_none_or(|p| *p == record.principal)
            && self.kind.is_none_or(|k| record.object.is_some_and(|o| o.kind == k))
            && self.object.is_none_or(|o| record.object == Some(o))
            && self.from_ms.is_none_or(|t| record.at_ms >= t)
            && self.to_ms.is_none_or(|t| record.at_ms < t)
    }

    /// The index text that narrows the search most.
    fn text(&self) -> Option<Vec<u8>> {
        let object = self.object.map(|o| text(b"object", o.to_string().as_bytes()));
        let user = self.principal.as_ref().map(|p| text(b"user", p.as_bytes()));
        object.or(user).or(self.kind.map(|k| text(b"kind", k.word().as_bytes())))
    }
}

/// What [`Audit::verify`] found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// At which entry.
    pub seq: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// The audit chain over a store.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Arc<dyn Store>,
}

fn seq_of(key: &[u8]) -> Result<u64, StoreError> {
    let seq = <[u8; 8]>::try_from(key).map(u64::from_be_bytes);
    seq.map_err(|_| seal::corrupt(&Table::Audit.key(key), "expected a sequence number"))
}

fn split<'v>(key: &[u8], value: &'v [u8]) -> Result<([u8; 32], &'v [u8]), StoreError> {
    let parts = value.split_first_chunk::<32>().map(|(hash, entry)| (*hash, entry));
    parts.ok_or_else(|| seal::corrupt(&Table::Audit.key(key), "expected a hash"))
}

impl Audit {
    /// The chain in `store`.
    pub fn new(store: Arc<dyn Store>) -> Audit {
        Audit { store }
    }

    /// Adds one entry that goes with nothing else, for example a login. Its sequence number comes back.
    pub async fn append(&self, record: &Record, epoch: Epoch) -> Result<u64, StoreError> {
        let mut batch = Batch::new();
        stage(&mut batch, record);
        Ok(self.store.commit(batch, epoch).await?.appended.first().copied().unwrap_or(0))
    }

    async fn meta(&self, key: &[u8]) -> Result<Head, StoreError> {
        let Some(bytes) = self.store.get(Table::Meta, key).await? else { return Ok(Head::default()) };
        Head::decode(&bytes).ok_or_else(|| seal::corrupt(&Table::Meta.key(key), "expected a head"))
    }

    /// The last entry's number and hash.
    pub async fn head(&self) -> Result<Head, StoreError> {
        self.meta(&head_key(Table::Audit)).await
    }

    /// One entry.
    pub async fn get(&self, seq: u64) -> Result<Option<Record>, StoreError> {
        let key = seq.to_be_bytes();
        let Some(value) = self.store.get(Table::Audit, &key).await? else { return Ok(None) };
        Record::at(Table::Audit, &key, split(&key, &value)?.1).map(Some)
    }

    /// Entries that hold, the newest first, of those before `before`; at most `limit`. Go on before the last one's number.
    pub async fn search(
        &self,
        filter: &Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Record)>, StoreError> {
        let prefix = filter.text().map(|text| index_key(Table::Audit, &text));
        let (table, prefix) = match prefix {
            Some(prefix) => (Table::Index, prefix),
            None => (Table::Audit, Vec::new()),
        };
        let mut beyond = before.map(|seq| [&prefix[..], &seq.to_be_bytes()].concat());
        let mut found = Vec::new();
        loop {
            let scan = Scan { prefix: prefix.clone(), beyond, backward: true, limit: PAGE };
            let page = self.store.scan(table, scan).await?;
            for (key, _) in &page {
                let seq = seq_of(key.get(prefix.len()..).unwrap_or_default())?;
                let Some(record) = self.get(seq).await? else { continue };
                if filter.holds(&record) {
                    found.push((seq, record));
                    if found.len() >= limit {
                        return Ok(found);
                    }
                }
            }
            match page.last() {
                Some((key, _)) if page.len() == PAGE => beyond = Some(key.clone()),
                _ => return Ok(found),
            }
        }
    }

    /// Follows the chain from its beginning, or from where it was pruned. The number of entries, or the first that is wrong.
    pub async fn verify(&self) -> Result<Result<u64, Break>, StoreError> {
        let head = self.head().await?;
        let mut at = self.meta(&anchor_key(Table::Audit)).await?;
        let mut count = 0;
        loop {
            let beyond = Some(at.seq.to_be_bytes().to_vec());
            let page = self.store.scan(Table::Audit, Scan { beyond, limit: PAGE, ..Scan::default() }).await?;
            if page.is_empty() {
                let whole = at == head;
                return Ok(if whole {
                    Ok(count)
                } else {
                    Err(Break { seq: at.seq + 1, what: "the chain ends too early" })
                });
            }
            for (key, value) in &page {
                let (seq, (hash, entry)) = (seq_of(key)?, split(key, value)?);
                if seq != at.seq + 1 {
                    return Ok(Err(Break { seq: at.seq + 1, what: "an entry is missing" }));
                }
                if hash != chain(Table::Audit, &at.hash, seq, entry) {
                    return Ok(Err(Break { seq, what: "its hash does not match" }));
                }
                at = Head { seq, hash };
                count += 1;
            }
        }
    }

    /// Forgets entries older than `before_ms`, at most a page of them; says how many. Call it again until 0.
    pub async fn prune(&self, before_ms: i64, epoch: Epoch) -> Result<usize, StoreError> {
        let oldest = self.store.scan(Table::Audit, Scan::under(&[], PAGE)).await?;
        let mut batch = Batch::new();
        let (mut count, mut last) = (0, 0);
        for (key, value) in &oldest {
            let record = Record::at(Table::Audit, key, split(key, value)?.1)?;
            if record.at_ms >= before_ms {
                break;
            }
            (last, count) = (seq_of(key)?, count + 1);
            for text in texts(&record) {
                batch.remove(Table::Index, &[&index_key(Table::Audit, &text)[..], key].concat());
            }
        }
        if count > 0 {
            batch.prune(Table::Audit, last + 1);
            self.store.commit(batch, epoch).await?;
        }
        Ok(count)
    }
}

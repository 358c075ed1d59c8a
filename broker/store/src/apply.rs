//! One batch onto rows: what both the file and the memory store do. Everything is read and checked before the first write, so a batch
//! that is refused has written nothing.
//!
//! ```text
//! meta: "epoch" -> u64    "head" ‖ log -> seq u64 ‖ hash    "anchor" ‖ log -> seq u64 ‖ hash      (little-endian)
//! log:  seq, big-endian -> hash ‖ entry,   hash = SHA-256("entry" ‖ log ‖ hash before ‖ seq ‖ entry)
//! index: log ‖ text ‖ 0 ‖ seq, big-endian -> nothing
//! ```

use crate::{
    batch::{Batch, Epoch, Write},
    error::{StoreError, printable},
    seal,
    table::Table,
};
use sha2::{Digest, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// Rows that a batch is applied to; keys as in the file, values sealed.
pub(crate) trait Rows {
    fn get(&self, full_key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
    fn put(&mut self, full_key: &[u8], sealed: Vec<u8>) -> Result<(), StoreError>;
    fn remove(&mut self, full_key: &[u8]) -> Result<(), StoreError>;
    /// Keys from `from` up to but without `to`, at most `most`.
    fn keys(&self, from: &[u8], to: &[u8], most: usize) -> Result<Vec<Vec<u8>>, StoreError>;
}

/// A place in a log: how many entries there were, and the hash of the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The last sequence number; 0: none.
    pub seq: u64,
    /// Its hash; zeros: none.
    pub hash: Hash,
}

impl Head {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = self.seq.to_le_bytes().to_vec();
        out.extend_from_slice(&self.hash);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Head> {
        let (seq, hash) = bytes.split_first_chunk::<8>()?;
        Some(Head { seq: u64::from_le_bytes(*seq), hash: Hash::try_from(hash).ok()? })
    }
}

pub(crate) fn head_key(log: Table) -> Vec<u8> {
    [b"head", &[log as u8][..]].concat()
}

pub(crate) fn anchor_key(log: Table) -> Vec<u8> {
    [b"anchor", &[log as u8][..]].concat()
}

pub(crate) fn index_key(log: Table, text: &[u8]) -> Vec<u8> {
    [&[log as u8], text, &[0]].concat()
}

/// The hash of an entry.
pub(crate) fn chain(log: Table, before: &Hash, seq: u64, entry: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(b"entry");
    hash.update([log as u8]);
    hash.update(before);
    hash.update(seq.to_le_bytes());
    hash.update(entry);
    hash.finalize().into()
}

pub(crate) const EPOCH: &[u8] = b"epoch";

fn number(full_key: &[u8], bytes: Option<Vec<u8>>) -> Result<u64, StoreError> {
    let Some(bytes) = bytes else { return Ok(0) };
    let number = <[u8; 8]>::try_from(bytes.as_slice()).map(u64::from_le_bytes);
    number.map_err(|_| seal::corrupt(full_key, "expected eight bytes"))
}

fn read(rows: &dyn Rows, full_key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    rows.get(full_key)?.map(|sealed| Ok(seal::unseal(full_key, &sealed)?.to_vec())).transpose()
}

fn read_head(rows: &dyn Rows, key: &[u8]) -> Result<Head, StoreError> {
    let full = Table::Meta.key(key);
    let Some(bytes) = read(rows, &full)? else { return Ok(Head::default()) };
    Head::decode(&bytes).ok_or_else(|| seal::corrupt(&full, "expected a sequence number and a hash"))
}

/// A number of the store's own.
pub(crate) fn meta_number(rows: &dyn Rows, key: &[u8]) -> Result<u64, StoreError> {
    let full = Table::Meta.key(key);
    number(&full, read(rows, &full)?)
}

/// Sets a number of the store's own.
pub(crate) fn set_meta_number(rows: &mut dyn Rows, key: &[u8], n: u64) -> Result<(), StoreError> {
    put(rows, &Table::Meta.key(key), &n.to_le_bytes())
}

fn put(rows: &mut dyn Rows, full_key: &[u8], body: &[u8]) -> Result<(), StoreError> {
    rows.put(full_key, seal::seal(full_key, body))
}

/// What a log was, and what a batch does to it.
struct Log {
    log: Table,
    head: Head,
    anchor: Head,
    pruned: Vec<Vec<u8>>,
}

/// At most this many entries are pruned by one write; the rest waits for the next.
const PRUNE: usize = 4_096;

fn logs(rows: &dyn Rows, batch: &Batch) -> Result<Vec<Log>, StoreError> {
    let mut logs: Vec<Log> = Vec::new();
    for write in &batch.writes {
        let (log, before) = match write {
            Write::Append { log, .. } => (*log, None),
            Write::Prune { log, before } => (*log, Some(*before)),
            _ => continue,
        };
        if !logs.iter().any(|l| l.log == log) {
            let (head, anchor) = (read_head(rows, &head_key(log))?, read_head(rows, &anchor_key(log))?);
            logs.push(Log { log, head, anchor, pruned: Vec::new() });
        }
        let Some(entry) = logs.iter_mut().find(|l| l.log == log) else { continue };
        let Some(before) = before else { continue };
        let before = before.min(entry.head.seq.saturating_add(1));
        let from = log.key(&entry.anchor.seq.saturating_add(1).to_be_bytes());
        entry.pruned = rows.keys(&from, &log.key(&before.to_be_bytes()), PRUNE)?;
        if let Some(last) = entry.pruned.last() {
            let value = read(rows, last)?.unwrap_or_default();
            let seq =
                Table::split(last).and_then(|(_, k)| <[u8; 8]>::try_from(k).ok()).map(u64::from_be_bytes);
            let hash = value.split_first_chunk::<32>().map(|(hash, _)| *hash);
            let found = seq.zip(hash).ok_or_else(|| seal::corrupt(last, "expected an entry of a log"))?;
            entry.anchor = Head { seq: found.0, hash: found.1 };
        }
    }
    Ok(logs)
}

/// Checks a batch and writes it. The sequence numbers of what it appended come back. After an error that is not about the batch itself
/// (an I/O error) the rows must be thrown away.
pub(crate) fn apply(rows: &mut dyn Rows, batch: &Batch, epoch: Epoch) -> Result<Vec<u64>, StoreError> {
    let highest = meta_number(rows, EPOCH)?;
    if epoch.0 < highest {
        return Err(StoreError::Stale { given: epoch.0, highest });
    }
    for expect in &batch.expects {
        if read(rows, &expect.table.key(&expect.key))? != expect.value {
            return Err(StoreError::Conflict { table: expect.table, key: printable(&expect.key) });
        }
    }
    let mut logs = logs(rows, batch)?;
    if epoch.0 > highest {
        set_meta_number(rows, EPOCH, epoch.0)?;
    }
    let mut appended = Vec::new();
    for write in &batch.writes {
        match write {
            Write::Put { table, key, value } => put(rows, &table.key(key), value)?,
            Write::Remove { table, key } => rows.remove(&table.key(key))?,
            Write::Append { log, entry, index } => {
                let Some(state) = logs.iter_mut().find(|l| l.log == *log) else { continue };
                let seq = state.head.seq + 1;
                let hash = chain(*log, &state.head.hash, seq, entry);
                put(rows, &log.key(&seq.to_be_bytes()), &[&hash[..], entry].concat())?;
                for text in index {
                    let key = [index_key(*log, text), seq.to_be_bytes().to_vec()].concat();
                    put(rows, &Table::Index.key(&key), &[])?;
                }
                state.head = Head { seq, hash };
                appended.push(seq);
            }
            Write::Prune { .. } => {}
        }
    }
    for state in logs {
        for key in &state.pruned {
            rows.remove(key)?;
        }
        put(rows, &Table::Meta.key(&head_key(state.log)), &state.head.encode())?;
        if state.anchor.seq > 0 {
            put(rows, &Table::Meta.key(&anchor_key(state.log)), &state.anchor.encode())?;
        }
    }
    Ok(appended)
}

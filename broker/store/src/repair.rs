//! What can be saved of a damaged store: every row that verifies goes into a new file, everything else is listed. The damaged file is left
//! as it is.
//!
//! ```text
//! damaged file ─▶ opened through an overlay ─▶ each table forward, backward and in 256 parts, past what cannot be read
//!     ─▶ rows whose checksum holds ─▶ ids made safe ─▶ new file
//! ```
//!
//! When anything was lost, ids are made safe: a pair of which one direction survived gets the other back, and every counter of native ids
//! goes forward by [`MARGIN`], so that no number is given out again that was on the lost page. A pair of which nothing survived is gone: its
//! object gets a new native id at next sight, and that is listed as the table it happened in.
//!
//! Limit: of a file whose header redb cannot read at all, nothing is saved.

use crate::{
    Health, StoreError, Table,
    apply::{self, Head, head_key, index_key},
    audit::{self, Record},
    batch::Epoch,
    db::{COMMIT, Db, ReadRows, create, guarded, look, open_rows},
    error::printable,
    idmap::Pair,
    journal::Entry,
    medium::{self, Medium},
    row::Row as _,
    seal,
    store::Row,
};
use std::{collections::BTreeMap, sync::Arc};

/// How far counters go forward after a loss.
pub const MARGIN: u64 = 1 << 20;

/// Something that is not in the new file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where; `None`: a key that no table has.
    pub table: Option<Table>,
    /// Which row, or between which, printable.
    pub key: String,
    /// Why.
    pub what: String,
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Rows in the new file, by table.
    pub kept: BTreeMap<Table, usize>,
    /// What could not be saved, as far as it can be named.
    pub lost: Vec<Lost>,
    /// The file had come to this commit, and what could be read is of that one, which is earlier.
    pub rolled_back: Option<(u64, u64)>,
    /// Halves of id pairs that were put back from the other half.
    pub mended: usize,
    /// The epoch to go on with; 0: none was found.
    pub epoch: Epoch,
}

impl Repaired {
    /// Whether everything was saved.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.rolled_back.is_none() && self.mended == 0
    }
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Copies what verifies from one store into a new one.
pub fn repair(from: &dyn Medium, to: Arc<dyn Medium>) -> Result<Repaired, StoreError> {
    let name = from.name();
    let mut report = Repaired::default();
    let backend = from.open().map_err(|e| StoreError::Io { file: name.clone(), what: e.to_string() })?;
    let witness = medium::read_witness(&*backend, &name).ok();
    drop(backend);
    let db = look(from)?;
    let mut rows = Rows::new();
    let readable = guarded(&name, || open_rows(&db).map_err(|e| crate::db::lift(&name, e))).map(|table| {
        for table_of in Table::ALL {
            read_table(&name, &table, *table_of, &mut rows, &mut report.lost);
        }
        crate::db::shut(&name, table);
    });
    crate::db::shut(&name, db);
    readable?;
    let commit = number(&rows, COMMIT).unwrap_or(0);
    if let Some(witness) = witness.filter(|w| *w > commit) {
        report.rolled_back = Some((witness, commit));
    }
    mend_ids(&mut rows, &mut report);
    if !report.is_whole() {
        advance(&mut rows);
    }
    mend_logs(&mut rows, &mut report);
    mend_indexes(&mut rows);
    set(&mut rows, &Table::Meta.key(COMMIT), &commit.max(witness.unwrap_or(0)).to_le_bytes());
    report.epoch = Epoch(number(&rows, apply::EPOCH).unwrap_or(0));
    for key in rows.keys() {
        if let Some((table, _)) = Table::split(key) {
            *report.kept.entry(table).or_default() += 1;
        }
    }
    create(&*to)?;
    let mut new = Db::open(to)?;
    new.restore(rows.into_iter().collect())?;
    match new.shared.health() {
        Health::Open => Ok(report),
        Health::ReadOnly(error) => Err(error),
        Health::Closed => Err(StoreError::Closed),
    }
}

fn set(rows: &mut Rows, full_key: &[u8], body: &[u8]) {
    rows.insert(full_key.to_vec(), seal::seal(full_key, body));
}

fn body<'r>(rows: &'r Rows, full_key: &[u8]) -> Option<&'r [u8]> {
    seal::unseal(full_key, rows.get(full_key)?).ok()
}

fn number(rows: &Rows, key: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(body(rows, &Table::Meta.key(key))?.try_into().ok()?))
}

/// Reads a stretch one way until it ends or breaks; whether it ended.
fn read_stretch(
    name: &str,
    table: &ReadRows,
    (from, to): (&[u8], &[u8]),
    backward: bool,
    found: &mut dyn FnMut(Row),
) -> bool {
    let read = guarded(name, || {
        let mut range = table.range::<&[u8]>(from..to).map_err(|e| crate::db::lift(name, e))?;
        while let Some(row) = if backward { range.next_back() } else { range.next() } {
            let (key, value) = row.map_err(|e| crate::db::lift(name, e))?;
            found((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(())
    });
    read.is_ok()
}

fn read_table(name: &str, table: &ReadRows, of: Table, rows: &mut Rows, lost: &mut Vec<Lost>) {
    let mut bad: BTreeMap<Vec<u8>, ()> = BTreeMap::new();
    let mut found = |(key, value): Row| {
        if seal::unseal(&key, &value).is_ok() {
            rows.insert(key, value);
        } else {
            bad.insert(key, ());
        }
    };
    let from = of.key(&[]);
    let mut to = from.clone();
    if let Some(last) = to.last_mut() {
        *last += 1;
    }
    let mut whole = read_stretch(name, table, (&from, &to), false, &mut found);
    if !whole {
        read_stretch(name, table, (&from, &to), true, &mut found);
        for part in 0..=u8::MAX {
            let from = of.key(&[part]);
            let to = if part == u8::MAX { to.clone() } else { of.key(&[part + 1]) };
            for backward in [false, true] {
                read_stretch(name, table, (&from, &to), backward, &mut found);
            }
        }
        whole = false;
    }
    for (key, ()) in bad {
        let key = printable(key.get(1..).unwrap_or_default());
        lost.push(Lost { table: Some(of), key, what: "its checksum does not match".to_owned() });
    }
    if !whole {
        let what = "a page of this table cannot be read; how many rows were on it is not known".to_owned();
        lost.push(Lost { table: Some(of), key: String::new(), what });
    }
}

/// Puts back what one direction of the id maps tells about the other.
fn mend_ids(rows: &mut Rows, report: &mut Repaired) {
    let mut missing = Vec::new();
    for (full, _) in of(rows, Table::IdNative) {
        let Some((scope, id)) = scoped(&full) else { continue };
        let pair = body(rows, &full).and_then(Pair::decode);
        let Some(pair) = pair else { continue };
        let reverse = Table::IdUnion.key(&[&scope, pair.native.as_bytes()].concat());
        if !rows.contains_key(&reverse) {
            missing.push((reverse, id));
        }
    }
    for (full, _) in of(rows, Table::IdUnion) {
        let Some((scope, native)) = scoped(&full) else { continue };
        let Some(id) = body(rows, &full) else { continue };
        let forward = Table::IdNative.key(&[&scope, id].concat());
        if let (false, Ok(native)) = (rows.contains_key(&forward), std::str::from_utf8(&native)) {
            // Its form and number are lost; the counters go forward below.
            let pair = Pair { native: native.into(), form: "".into(), number: 0, retired_ms: 0 };
            missing.push((forward, pair.encode()));
        }
    }
    report.mended = missing.len();
    for (full, value) in missing {
        set(rows, &full, &value);
    }
}

/// After a loss: no number that may have been given out is given out again.
fn advance(rows: &mut Rows) {
    let mut highest: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut note = |key: Vec<u8>, n: u64| {
        let known = highest.entry(key).or_default();
        *known = n.max(*known);
    };
    for (full, _) in of(rows, Table::IdNative) {
        let pair = body(rows, &full).and_then(Pair::decode);
        if let (Some((scope, _)), Some(pair)) = (scoped(&full), pair)
            && pair.number > 0
        {
            note([&scope, pair.form.as_bytes()].concat(), pair.number);
        }
    }
    for (full, _) in of(rows, Table::IdLast) {
        let last = body(rows, &full).and_then(|b| <[u8; 8]>::try_from(b).ok()).map(u64::from_le_bytes);
        note(full.get(1..).unwrap_or_default().to_vec(), last.unwrap_or(0));
    }
    for (key, n) in highest {
        set(rows, &Table::IdLast.key(&key), &n.saturating_add(MARGIN).to_le_bytes());
    }
    for (full, _) in of(rows, Table::Counter) {
        let last = body(rows, &full).and_then(|b| <[u8; 8]>::try_from(b).ok()).map(u64::from_le_bytes);
        set(rows, &full, &last.unwrap_or(0).saturating_add(MARGIN).to_le_bytes());
    }
}

/// The head of each log is at its last entry at least, so that the next one follows it.
fn mend_logs(rows: &mut Rows, report: &mut Repaired) {
    for log in [Table::Audit, Table::Outbox] {
        let full = Table::Meta.key(&head_key(log));
        let head = body(rows, &full).and_then(Head::decode).unwrap_or_default();
        let last = of(rows, log).pop().and_then(|(key, _)| {
            let seq = u64::from_be_bytes(key.get(1..)?.try_into().ok()?);
            let (hash, _) = body(rows, &key)?.split_first_chunk::<32>()?;
            Some(Head { seq, hash: *hash })
        });
        if let Some(last) = last.filter(|last| last.seq > head.seq) {
            set(rows, &full, &last.encode());
            let what = format!("its end was lost; it goes on after entry {}", last.seq);
            report.lost.push(Lost { table: Some(log), key: String::new(), what });
        }
    }
}

/// Writes the rows that only find others anew: open commands, and what audit entries are found by.
fn mend_indexes(rows: &mut Rows) {
    for table in [Table::JournalOpen, Table::Index] {
        for (full, _) in of(rows, table) {
            rows.remove(&full);
        }
    }
    for (full, _) in of(rows, Table::Journal) {
        if body(rows, &full).and_then(Entry::decode).is_some_and(|entry| entry.is_open()) {
            set(rows, &Table::JournalOpen.key(full.get(1..).unwrap_or_default()), &[]);
        }
    }
    for (full, _) in of(rows, Table::Audit) {
        let entry = body(rows, &full).and_then(|b| b.split_first_chunk::<32>());
        let Some(record) = entry.and_then(|(_, record)| Record::decode(record)) else { continue };
        for text in audit::texts(&record) {
            let key = [&index_key(Table::Audit, &text)[..], full.get(1..).unwrap_or_default()].concat();
            set(rows, &Table::Index.key(&key), &[]);
        }
    }
}

/// The rows of a table, by key.
fn of(rows: &Rows, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows.range(table.key(&[])..vec![table as u8 + 1]).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Protocol and view of an id map's key, and the rest.
fn scoped(full: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let key = full.get(1..)?;
    let mut ends = key.iter().enumerate().filter(|(_, b)| **b == 0).map(|(at, _)| at + 1);
    let at = ends.nth(1)?;
    let (scope, rest) = key.split_at_checked(at)?;
    Some((scope.to_vec(), rest.to_vec()))
}

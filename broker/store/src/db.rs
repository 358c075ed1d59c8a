//! The redb file under a store: opened, verified, written a group of batches at a time, read.
//!
//! ```text
//! open: witness ─▶ a look through an overlay: redb opens it, check_integrity, commit number ≥ witness ─▶ opened for real
//!         └─ any of it fails: refused, nothing was written to the file
//! commit of a group ─▶ each batch checked and applied, those refused left out ─▶ one fdatasync ─▶ witness
//!         └─ I/O error, full disk, a corrupt row: the store only reads from here on, through an overlay
//! a full disk has room again ─▶ opened and verified anew, a row written to see that it can be ─▶ it writes again
//! ```

use crate::{
    apply::{self, Rows},
    batch::{Batch, Committed, Epoch},
    error::{StoreError, printable},
    medium::{self, Medium, Overlay, Part},
    seal,
    store::{Health, Row, Scan, bounds},
    table::Table,
};
use parking_lot::RwLock;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, StorageError,
    TableDefinition, backends::InMemoryBackend,
};
use std::{
    io::{self, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

/// The one table in the file; the first byte of a key is the number of ours.
pub(crate) const RECORDS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("records");
/// Bytes of pages that redb keeps in memory.
const CACHE: usize = 16 << 20;
/// How long the last reader of a file is waited for, milliseconds.
const READERS_MS: u32 = 10_000;
pub(crate) const COMMIT: &[u8] = b"commit";

/// Runs redb code. It panics on some damaged pages; that is corruption as well.
pub(crate) fn guarded<T>(name: &str, f: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Err(file_corrupt(name, "its pages make no sense")))
}

/// Gives up a database. After a panic in one of its pages its own end panics too.
pub(crate) fn shut<D>(name: &str, db: D) {
    let end = || {
        drop(db);
        Ok(())
    };
    if let Err(error) = guarded(name, end) {
        tracing::error!(store = name, %error, "the file was not closed as it should be; the next start verifies it");
    }
}

fn file_corrupt(name: &str, what: &str) -> StoreError {
    StoreError::Corrupt { table: "file", key: name.to_owned(), what: what.to_owned() }
}

fn io_error(name: &str, error: &io::Error) -> StoreError {
    let (file, what) = (name.to_owned(), error.to_string());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StoreError::Full { file }
        }
        ErrorKind::UnexpectedEof => StoreError::Truncated { file, what },
        ErrorKind::InvalidData => file_corrupt(name, &what),
        ErrorKind::NotFound => StoreError::Missing { file },
        ErrorKind::AlreadyExists => StoreError::Exists { file },
        _ => StoreError::Io { file, what },
    }
}

/// What redb said, in our words.
pub(crate) fn lift(name: &str, error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(what) if what.contains("truncated") => {
            StoreError::Truncated { file: name.to_owned(), what }
        }
        redb::Error::Io(error) => io_error(name, &error),
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked { file: name.to_owned() },
        redb::Error::DatabaseClosed => StoreError::Closed,
        redb::Error::PreviousIo => {
            StoreError::Io { file: name.to_owned(), what: "an earlier write failed".to_owned() }
        }
        other => file_corrupt(name, &other.to_string()),
    }
}

fn build(name: &str, backend: impl StorageBackend) -> Result<Database, StoreError> {
    Builder::new().set_cache_size(CACHE).create_with_backend(backend).map_err(|e| lift(name, e))
}

fn open_medium(medium: &dyn Medium) -> Result<Arc<dyn StorageBackend>, StoreError> {
    medium.open().map_err(|e| io_error(&medium.name(), &e))
}

/// Opens a file to look at it: what redb repairs stays in memory.
pub(crate) fn look(medium: &dyn Medium) -> Result<Database, StoreError> {
    let name = medium.name();
    guarded(&name, || {
        let overlay = Overlay::new(open_medium(medium)?).map_err(|e| io_error(&name, &e))?;
        build(&name, Part(Arc::new(overlay)))
    })
}

/// Makes a store of nothing.
pub(crate) fn create(medium: &dyn Medium) -> Result<(), StoreError> {
    let name = medium.name();
    let memory = Arc::new(InMemoryBackend::new());
    let failed = |e: io::Error| io_error(&name, &e);
    memory.set_len(medium::SHIFT).and_then(|()| memory.write(0, &medium::header())).map_err(failed)?;
    let part: Arc<dyn StorageBackend> = Arc::clone(&memory) as _;
    let db = build(&name, Part(part))?;
    let write = || -> Result<(), redb::Error> {
        let tx = db.begin_write()?;
        tx.open_table(RECORDS)?;
        tx.commit()?;
        Ok(())
    };
    write().map_err(|e| lift(&name, e))?;
    drop(db);
    let mut bytes = vec![0; usize::try_from(memory.len().map_err(failed)?).unwrap_or(0)];
    memory.read(0, &mut bytes).map_err(failed)?;
    medium.create(&bytes).map_err(failed)
}

struct Tx<'tx>(redb::Table<'tx, &'static [u8], &'static [u8]>, &'tx str);

impl Rows for Tx<'_> {
    fn get(&self, full_key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(full_key).map_err(|e| lift(self.1, e))?.map(|value| value.value().to_vec()))
    }
    fn put(&mut self, full_key: &[u8], sealed: Vec<u8>) -> Result<(), StoreError> {
        self.0.insert(full_key, sealed.as_slice()).map(drop).map_err(|e| lift(self.1, e))
    }
    fn remove(&mut self, full_key: &[u8]) -> Result<(), StoreError> {
        self.0.remove(full_key).map(drop).map_err(|e| lift(self.1, e))
    }
    fn keys(&self, from: &[u8], to: &[u8], most: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let range = self.0.range::<&[u8]>(from..to).map_err(|e| lift(self.1, e))?;
        range
            .take(most)
            .map(|row| row.map(|(key, _)| key.value().to_vec()).map_err(|e| lift(self.1, e)))
            .collect()
    }
}

#[derive(Debug)]
struct State {
    db: Option<Arc<Database>>,
    health: Health,
}

/// What readers and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    name: String,
    state: RwLock<State>,
}

impl Shared {
    pub(crate) fn health(&self) -> Health {
        self.state.read().health.clone()
    }

    fn degrade(&self, reason: StoreError) {
        let mut state = self.state.write();
        if state.health == Health::Open {
            tracing::error!(store = %self.name, %reason, "the store only reads from now on");
            state.health = Health::ReadOnly(reason);
        }
    }

    /// The file, and whether a row that is not found may have been lost.
    fn reader(&self) -> Result<(Arc<Database>, bool), StoreError> {
        let state = self.state.read();
        let db = state.db.clone().ok_or_else(|| match &state.health {
            Health::ReadOnly(reason) => reason.clone(),
            Health::Open | Health::Closed => StoreError::Closed,
        })?;
        let damaged = matches!(
            state.health,
            Health::ReadOnly(StoreError::Corrupt { .. } | StoreError::Truncated { .. })
        );
        Ok((db, damaged))
    }

    /// One row; what does not verify makes the store read-only.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let (db, damaged) = self.reader()?;
        let full = table.key(key);
        let found = guarded(&self.name, || {
            let failed = |e: redb::Error| lift(&self.name, e);
            let rows = open_rows(&db).map_err(failed)?;
            let sealed = rows.get(full.as_slice()).map_err(|e| failed(e.into()))?;
            sealed.map(|sealed| Ok(seal::unseal(&full, sealed.value())?.to_vec())).transpose()
        });
        match found {
            Ok(None) if damaged => Err(StoreError::Unverified { table, key: printable(key) }),
            Err(error @ (StoreError::Corrupt { .. } | StoreError::Truncated { .. })) => {
                self.degrade(error.clone());
                Err(error)
            }
            found => found,
        }
    }

    /// Rows in order. From a damaged file only those that verify.
    pub(crate) fn scan(&self, table: Table, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        let (db, damaged) = self.reader()?;
        let (from, to) = bounds(table, scan);
        if from >= to {
            return Ok(Vec::new());
        }
        let read = guarded(&self.name, || {
            let rows = open_rows(&db).map_err(|e| lift(&self.name, e))?;
            let mut range =
                rows.range::<&[u8]>(from.as_slice()..to.as_slice()).map_err(|e| lift(&self.name, e))?;
            let mut found = Vec::new();
            while found.len() < scan.limit {
                let Some(row) = (if scan.backward { range.next_back() } else { range.next() }) else { break };
                let (key, sealed) = match row {
                    Ok(row) => row,
                    Err(_) if damaged => break,
                    Err(e) => return Err(lift(&self.name, e)),
                };
                match seal::unseal(key.value(), sealed.value()) {
                    Ok(body) => {
                        found.push((key.value().get(1..).unwrap_or_default().to_vec(), body.to_vec()));
                    }
                    Err(_) if damaged => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(found)
        });
        if let Err(error @ (StoreError::Corrupt { .. } | StoreError::Truncated { .. })) = &read {
            self.degrade(error.clone());
        }
        read
    }
}

pub(crate) type ReadRows = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

pub(crate) fn open_rows(db: &Database) -> Result<ReadRows, redb::Error> {
    Ok(db.begin_read()?.open_table(RECORDS)?)
}

/// The writing side; there is one.
#[derive(Debug)]
pub(crate) struct Db {
    medium: Arc<dyn Medium>,
    backend: Option<Arc<dyn StorageBackend>>,
    pub(crate) shared: Arc<Shared>,
    commit: u64,
}

fn commit_number(name: &str, db: &Database) -> Result<u64, StoreError> {
    let full = Table::Meta.key(COMMIT);
    let rows = open_rows(db).map_err(|e| lift(name, e))?;
    let Some(sealed) = rows.get(full.as_slice()).map_err(|e| lift(name, e))? else { return Ok(0) };
    let body = seal::unseal(&full, sealed.value())?;
    <[u8; 8]>::try_from(body)
        .map(u64::from_le_bytes)
        .map_err(|_| seal::corrupt(&full, "expected eight bytes"))
}

/// Everything that can be said of a file without writing to it. Returns its witness.
fn verify(medium: &dyn Medium) -> Result<u64, StoreError> {
    let name = medium.name();
    let backend = open_medium(medium)?;
    let witness = medium::read_witness(&*backend, &name)?;
    drop(backend);
    let mut db = look(medium)?;
    let commit = guarded(&name, || {
        match db.check_integrity() {
            Ok(true) => {}
            Ok(false) => tracing::warn!(store = %name, "redb put its page allocation in order"),
            Err(DatabaseError::Storage(StorageError::Corrupted(what))) => {
                return Err(file_corrupt(&name, &what));
            }
            Err(e) => return Err(lift(&name, e)),
        }
        commit_number(&name, &db)
    });
    shut(&name, db);
    let commit = commit?;
    if commit < witness {
        let what = format!("it is at commit {commit} and had been at {witness}");
        return Err(file_corrupt(&name, &what));
    }
    Ok(witness)
}

impl Db {
    /// Verifies and opens a store.
    pub(crate) fn open(medium: Arc<dyn Medium>) -> Result<Db, StoreError> {
        let name = medium.name();
        let shared =
            Arc::new(Shared { name, state: RwLock::new(State { db: None, health: Health::Closed }) });
        let mut db = Db { medium, backend: None, shared, commit: 0 };
        db.reopen()?;
        Ok(db)
    }

    /// Opens a store to read what verifies, whatever state it is in. `reason` is what [`Db::open`] said.
    pub(crate) fn open_damaged(medium: Arc<dyn Medium>, reason: StoreError) -> Result<Db, StoreError> {
        let look = Arc::new(look(&*medium)?);
        let state = State { db: Some(look), health: Health::ReadOnly(reason) };
        let shared = Arc::new(Shared { name: medium.name(), state: RwLock::new(state) });
        Ok(Db { medium, backend: None, shared, commit: 0 })
    }

    /// Verifies and opens again, after the cause of a failure is gone.
    pub(crate) fn reopen(&mut self) -> Result<(), StoreError> {
        let name = self.shared.name.clone();
        self.release();
        let opened = verify(&*self.medium).and_then(|witness| {
            let backend = open_medium(&*self.medium)?;
            let db = guarded(&name, || build(&name, Part(Arc::clone(&backend))))?;
            let commit = match guarded(&name, || commit_number(&name, &db)) {
                Ok(commit) => commit,
                Err(error) => {
                    shut(&name, db);
                    return Err(error);
                }
            };
            if commit > witness {
                medium::write_witness(&*backend, commit).map_err(|e| io_error(&name, &e))?;
            }
            Ok((backend, db, commit))
        });
        match opened {
            Ok((backend, db, commit)) => {
                self.backend = Some(backend);
                self.commit = commit;
                *self.shared.state.write() = State { db: Some(Arc::new(db)), health: Health::Open };
                Ok(())
            }
            Err(error) => {
                self.shared.state.write().health = Health::ReadOnly(error.clone());
                Err(error)
            }
        }
    }

    /// Opens a store again that found its disk full, once there is room. Whether it writes again. What was refused since stays refused.
    pub(crate) fn heal(&mut self) -> bool {
        let Health::ReadOnly(reason @ StoreError::Full { .. }) = self.shared.health() else { return false };
        let name = self.shared.name.clone();
        if let Err(error) = self.medium.room() {
            tracing::debug!(store = %name, %error, "there is no room yet");
            return false;
        }
        let told = self.commit;
        let opened = self.reopen().and_then(|()| match self.commit == told {
            true => guarded(&name, || self.try_out(&name)),
            // Its callers were told that it failed, and went on from there.
            false => Err(StoreError::Io {
                file: name.clone(),
                what: "the commit that found the disk full is there all the same; start the program again"
                    .to_owned(),
            }),
        });
        match opened {
            Ok(()) => {
                tracing::info!(store = %name, "there is room again: the store was verified, and is written again");
                true
            }
            Err(error) => {
                tracing::warn!(store = %name, %error, "there seemed to be room again, but the store cannot be written");
                let for_good = match &error {
                    StoreError::Corrupt { .. } | StoreError::Truncated { .. } => true,
                    _ => self.commit > told,
                };
                self.fall_back(if for_good { error.clone() } else { reason.clone() });
                self.shared.state.write().health = Health::ReadOnly(if for_good { error } else { reason });
                false
            }
        }
    }

    /// Writes a row that says nothing new.
    fn try_out(&mut self, name: &str) -> Result<(), StoreError> {
        let db = self.shared.state.read().db.clone().ok_or(StoreError::Closed)?;
        let failed = |e: redb::Error| lift(name, e);
        let tx = db.begin_write().map_err(|e| failed(e.into()))?;
        let commit = self.commit + 1;
        {
            let mut rows = Tx(tx.open_table(RECORDS).map_err(|e| failed(e.into()))?, name);
            apply::set_meta_number(&mut rows, COMMIT, commit)?;
        }
        tx.commit().map_err(|e| failed(e.into()))?;
        self.commit = commit;
        self.witness(name);
        Ok(())
    }

    /// Notes how far the store has come.
    fn witness(&self, name: &str) {
        let commit = self.commit;
        if let Some(Err(e)) = self.backend.as_ref().map(|b| medium::write_witness(&**b, commit)) {
            tracing::warn!(store = %name, "the witness of commit {commit} was not written: {e}");
        }
    }

    /// Writes a group: one durable commit of the batches that hold, an error for each of the others.
    pub(crate) fn commit(&mut self, group: &[(Batch, Epoch)]) -> Vec<Result<Committed, StoreError>> {
        let refused = |error: StoreError| group.iter().map(|_| Err(error.clone())).collect();
        match self.shared.health() {
            Health::Open => {}
            Health::ReadOnly(reason) => return refused(StoreError::ReadOnly { reason: Box::new(reason) }),
            Health::Closed => return refused(StoreError::Closed),
        }
        let name = self.shared.name.clone();
        match guarded(&name, || self.write(&name, group)) {
            Ok(results) => results,
            Err(error) => {
                self.fall_back(error.clone());
                refused(error)
            }
        }
    }

    fn write(
        &mut self,
        name: &str,
        group: &[(Batch, Epoch)],
    ) -> Result<Vec<Result<Committed, StoreError>>, StoreError> {
        let db = self.shared.state.read().db.clone().ok_or(StoreError::Closed)?;
        let failed = |e: redb::Error| lift(name, e);
        let tx = db.begin_write().map_err(|e| failed(e.into()))?;
        let commit = self.commit + 1;
        let mut results = Vec::with_capacity(group.len());
        let mut any = false;
        {
            let mut rows = Tx(tx.open_table(RECORDS).map_err(|e| failed(e.into()))?, name);
            for (batch, epoch) in group {
                match batch.check().and_then(|()| apply::apply(&mut rows, batch, *epoch)) {
                    Ok(appended) => {
                        any = true;
                        results.push(Ok(Committed { commit, appended }));
                    }
                    Err(
                        e @ (StoreError::Stale { .. }
                        | StoreError::Conflict { .. }
                        | StoreError::TooLarge { .. }),
                    ) => results.push(Err(e)),
                    Err(e) => return Err(e),
                }
            }
            if any {
                apply::set_meta_number(&mut rows, COMMIT, commit)?;
            }
        }
        if !any {
            tx.abort().map_err(|e| failed(e.into()))?;
            return Ok(results);
        }
        tx.commit().map_err(|e| failed(e.into()))?;
        self.commit = commit;
        self.witness(name);
        Ok(results)
    }

    /// Rows as they are in another file, their seals with them.
    pub(crate) fn restore(&mut self, sealed: Vec<Row>) -> Result<(), StoreError> {
        let name = self.shared.name.clone();
        let db = self.shared.state.read().db.clone().ok_or(StoreError::Closed)?;
        let write = || -> Result<(), redb::Error> {
            let tx = db.begin_write()?;
            {
                let mut rows = tx.open_table(RECORDS)?;
                for (key, value) in &sealed {
                    rows.insert(key.as_slice(), value.as_slice())?;
                }
            }
            tx.commit()?;
            Ok(())
        };
        write().map_err(|e| lift(&name, e))?;
        self.commit = commit_number(&name, &db)?;
        Ok(())
    }

    /// Gives the file up, once those who read from it have ended: until then it is locked.
    fn release(&mut self) {
        self.backend = None;
        let Some(mut db) = self.shared.state.write().db.take() else { return };
        for _ in 0..READERS_MS {
            match Arc::try_unwrap(db) {
                Ok(last) => return shut(&self.shared.name, last),
                Err(shared) => db = shared,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        tracing::error!(store = %self.shared.name, "a reader holds the file");
    }

    /// After a failure: nothing is written any more, what is there can still be read.
    fn fall_back(&mut self, reason: StoreError) {
        self.shared.degrade(reason);
        self.release();
        match look(&*self.medium) {
            Ok(db) => self.shared.state.write().db = Some(Arc::new(db)),
            Err(error) => {
                tracing::error!(store = %self.shared.name, %error, "the store cannot be read either")
            }
        }
    }

    pub(crate) fn close(&mut self) {
        let mut state = self.shared.state.write();
        shut(&self.shared.name, state.db.take());
        state.health = Health::Closed;
        self.backend = None;
    }
}

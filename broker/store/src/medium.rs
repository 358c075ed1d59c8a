//! Where a store's bytes lie: a file, or what a test makes of one.
//!
//! ```text
//! 0      "hyperglot store 1\n"                 written once, synced before anything else
//! 512    witness A: commit number ‖ crc32c      written in turn after a commit is durable, not synced: a witness says how far the
//! 1024   witness B                              store had come at least. A store that is behind its witness was rolled back.
//! 4096   the redb file
//! ```
//!
//! redb keeps two commit slots and falls back to the older one when the newer does not verify. That is right after a crash within a
//! commit and wrong when a durable commit's slot rots; the witness tells the two apart.

use crate::error::StoreError;
use parking_lot::Mutex;
use redb::{BackendError, StorageBackend, backends::FileBackend};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs::{File, OpenOptions},
    io,
    ops::Bound,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Arc,
};

/// Something that a store can be opened on, again and again.
pub trait Medium: Send + Sync + Debug + 'static {
    /// What it is called in messages.
    fn name(&self) -> String;
    /// Opens it. Not found is [`io::ErrorKind::NotFound`].
    fn open(&self) -> io::Result<Arc<dyn StorageBackend>>;
    /// Makes it, holding `bytes`, whole or not at all. There is one already: [`io::ErrorKind::AlreadyExists`].
    fn create(&self, bytes: &[u8]) -> io::Result<()>;
    /// Whether there is room for some more commits, found out beside the store. A medium that cannot tell says yes.
    fn room(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that a full disk must have again before a store is opened on it.
const ROOM: usize = 4 << 20;

/// A file of the owner's alone (mode 0600).
#[derive(Clone, Debug)]
pub struct FileMedium(pub PathBuf);

impl Medium for FileMedium {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn open(&self) -> io::Result<Arc<dyn StorageBackend>> {
        let file = OpenOptions::new().read(true).write(true).open(&self.0)?;
        Ok(Arc::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    fn create(&self, bytes: &[u8]) -> io::Result<()> {
        let mut name = self.0.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        // One that an earlier start left may be another name of a store: it is removed, not written to.
        match std::fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        // A hard link refuses to replace a file; a rename would not.
        let linked = std::fs::hard_link(&new, &self.0);
        std::fs::remove_file(&new)?;
        linked?;
        let parent = self.0.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(parent.unwrap_or(std::path::Path::new(".")))?.sync_all()
    }

    fn room(&self) -> io::Result<()> {
        let mut name = self.0.as_os_str().to_owned();
        name.push(".room");
        let probe = PathBuf::from(name);
        let written = (|| {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&probe)?;
            let block = [0; 64 << 10];
            for _ in 0..ROOM / block.len() {
                io::Write::write_all(&mut file, &block)?;
            }
            file.sync_all()
        })();
        match std::fs::remove_file(&probe) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => written.and(Err(e)),
            _ => written,
        }
    }
}

/// Bytes before the redb file.
pub(crate) const SHIFT: u64 = 4_096;
const MAGIC: &[u8] = b"hyperglot store 1\n";
const SLOTS: [u64; 2] = [512, 1_024];
const SLOT: usize = 12;

fn slot(commit: u64) -> Vec<u8> {
    let number = commit.to_le_bytes();
    [&number[..], &crc32c::crc32c(&number).to_le_bytes()].concat()
}

/// The bytes of a new store, before redb has written its own.
pub(crate) fn header() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for at in SLOTS {
        bytes.resize(usize::try_from(at).unwrap_or(0), 0);
        bytes.extend(slot(0));
    }
    bytes.resize(usize::try_from(SHIFT).unwrap_or(0), 0);
    bytes
}

/// The commit that the store had reached at least.
pub(crate) fn read_witness(inner: &dyn StorageBackend, name: &str) -> Result<u64, StoreError> {
    let failed = |e: io::Error| StoreError::Io { file: name.to_owned(), what: e.to_string() };
    let length = inner.len().map_err(failed)?;
    if length <= SHIFT {
        return Err(StoreError::Truncated { file: name.to_owned(), what: format!("it has {length} bytes") });
    }
    let mut magic = vec![0; MAGIC.len()];
    inner.read(0, &mut magic).map_err(failed)?;
    let corrupt =
        |what: &str| StoreError::Corrupt { table: "file", key: name.to_owned(), what: what.to_owned() };
    if magic != MAGIC {
        return Err(corrupt("it does not begin as a store does"));
    }
    let mut highest = None;
    for at in SLOTS {
        let mut bytes = [0; SLOT];
        inner.read(at, &mut bytes).map_err(failed)?;
        let number = bytes.first_chunk::<8>().map(|n| u64::from_le_bytes(*n)).unwrap_or(0);
        if slot(number) == bytes {
            highest = highest.max(Some(number));
        }
    }
    highest.ok_or_else(|| corrupt("neither of its witnesses can be read"))
}

/// Notes that a commit is durable. Not synced; see the module.
pub(crate) fn write_witness(inner: &dyn StorageBackend, commit: u64) -> io::Result<()> {
    let [a, b] = SLOTS;
    inner.write(if commit.is_multiple_of(2) { a } else { b }, &slot(commit))
}

/// The redb file within the medium.
#[derive(Debug)]
pub(crate) struct Part(pub Arc<dyn StorageBackend>);

impl StorageBackend for Part {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len()?.saturating_sub(SHIFT))
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(shifted(offset)?, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(shifted(len)?)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(shifted(offset)?, data)
    }
    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}

fn shifted(offset: u64) -> io::Result<u64> {
    offset.checked_add(SHIFT).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

const BLOCK: u64 = 4_096;

/// A medium that is only read: what is written on it stays in memory. A damaged or full file is looked at through it.
#[derive(Debug)]
pub(crate) struct Overlay {
    inner: Arc<dyn StorageBackend>,
    state: Mutex<Laid>,
}

#[derive(Debug)]
struct Laid {
    len: u64,
    /// How much of the inner one is to be seen: what was cut off and grown again is zero.
    seen: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(crate) fn new(inner: Arc<dyn StorageBackend>) -> io::Result<Overlay> {
        let len = inner.len()?;
        Ok(Overlay { inner, state: Mutex::new(Laid { len, seen: len, blocks: BTreeMap::new() }) })
    }

    fn block(&self, state: &Laid, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = state.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; usize::try_from(BLOCK).unwrap_or(0)];
        let start = number * BLOCK;
        let there = usize::try_from(state.seen.saturating_sub(start).min(BLOCK)).unwrap_or(0);
        if let Some(part) = block.get_mut(..there).filter(|p| !p.is_empty()) {
            self.inner.read(start, part)?;
        }
        Ok(block)
    }
}

/// The pieces of `offset..offset + len`, block by block: block number, place in the block, length.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (number, within) = (at / BLOCK, at % BLOCK);
            let length = (BLOCK - within).min(end - at);
            at += length;
            (number, usize::try_from(within).unwrap_or(0), usize::try_from(length).unwrap_or(0))
        })
    })
}

fn within(state: &Laid, offset: u64, len: usize) -> io::Result<()> {
    let end = offset.checked_add(u64::try_from(len).unwrap_or(u64::MAX));
    if end.is_some_and(|end| end <= state.len) {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        within(&state, offset, out.len())?;
        let mut rest = out;
        for (number, at, length) in pieces(offset, rest.len()) {
            let block = self.block(&state, number)?;
            let (now, later) = rest.split_at_mut_checked(length).unwrap_or_default();
            if let Some(from) = block.get(at..at + length) {
                now.copy_from_slice(from);
            }
            rest = later;
        }
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if len < state.len {
            let last = len / BLOCK;
            let mut cut = self.block(&state, last)?;
            cut.truncate(usize::try_from(len % BLOCK).unwrap_or(0));
            cut.resize(usize::try_from(BLOCK).unwrap_or(0), 0);
            state.blocks.retain(|number, _| *number < last);
            state.blocks.insert(last, cut);
            state.seen = state.seen.min(len);
        }
        state.len = len;
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        within(&state, offset, data.len())?;
        let mut rest = data;
        for (number, at, length) in pieces(offset, data.len()) {
            let mut block = self.block(&state, number)?;
            let (now, later) = rest.split_at_checked(length).unwrap_or_default();
            if let Some(to) = block.get_mut(at..at + length) {
                to.copy_from_slice(now);
            }
            rest = later;
            state.blocks.insert(number, block);
        }
        Ok(())
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    #[derive(Clone, Debug)]
    enum Op {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0u64..20_000, proptest::collection::vec(any::<u8>(), 1..6_000))
                .prop_map(|(at, data)| Op::Write(at, data)),
            (1u64..20_000).prop_map(Op::SetLen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_overlay_behaves_as_the_medium_and_leaves_it_alone(ops in proptest::collection::vec(op(), 0..20)) {
            let start: Vec<u8> = (0..10_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let (plain, below) = (InMemoryBackend::new(), Arc::new(InMemoryBackend::new()));
            for backend in [&plain, &below] {
                backend.set_len(10_000).unwrap();
                backend.write(0, &start).unwrap();
            }
            let over = Overlay::new(below.clone()).unwrap();
            for op in ops {
                let (a, b) = match op {
                    Op::Write(at, data) => (plain.write(at, &data).is_ok(), over.write(at, &data).is_ok()),
                    Op::SetLen(len) => (plain.set_len(len).is_ok(), over.set_len(len).is_ok()),
                };
                prop_assert_eq!(a, b);
                let len = usize::try_from(plain.len().unwrap()).unwrap();
                prop_assert_eq!(over.len().unwrap(), plain.len().unwrap());
                let (mut a, mut b) = (vec![0; len], vec![0; len]);
                plain.read(0, &mut a).unwrap();
                over.read(0, &mut b).unwrap();
                prop_assert!(a == b);
            }
            let mut left = vec![0; 10_000];
            below.read(0, &mut left).unwrap();
            prop_assert!(left == start);
        }
    }
}

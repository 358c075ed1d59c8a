//! The effect log: one line for each effect, in order. When a file is given, a line is on the disk before the effect is seen by anybody,
//! so that a test can kill the process anywhere and still count what was done.
//!
//! ```text
//! 17 PowerOn vm:4c4c4544-0042-3510-8054-b7c04f4a5331
//! ```
//!
//! Limit: the last 10,000 effects are kept in memory; the file keeps all.

use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};
use union::ObjectId;

/// How many effects are kept in memory.
pub const KEEP: usize = 10_000;

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Position, from 1.
    pub number: u64,
    /// The native call, or `guest` for what a guest did when asked.
    pub call: Arc<str>,
    /// To which object.
    pub object: ObjectId,
}

/// The effects of one simulated hypervisor.
#[derive(Debug)]
pub struct EffectLog {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    last: u64,
    kept: VecDeque<Effect>,
    file: Option<File>,
}

impl EffectLog {
    /// A log; with `path` it goes on with that file.
    pub fn open(path: Option<&Path>) -> io::Result<EffectLog> {
        let file = path.map(|p| File::options().create(true).append(true).open(p)).transpose()?;
        Ok(EffectLog { inner: Mutex::new(Inner { last: 0, kept: VecDeque::new(), file }) })
    }

    /// Notes an effect; when it returns, the line is on the disk.
    pub fn note(&self, call: &str, object: ObjectId) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let number = inner.last + 1;
        if let Some(file) = &mut inner.file {
            file.write_all(format!("{number} {call} {object}\n").as_bytes())?;
            file.sync_data()?;
        }
        inner.last = number;
        if inner.kept.len() >= KEEP {
            inner.kept.pop_front();
        }
        inner.kept.push_back(Effect { number, call: Arc::from(call), object });
        Ok(())
    }

    /// The effects kept in memory, oldest first.
    pub fn effects(&self) -> Vec<Effect> {
        self.inner.lock().kept.iter().cloned().collect()
    }
}

//! The effect log: one line for each effect, in order. When a file is given, a line is on the disk before the effect is seen by anybody,
//! so that a test can kill the process anywhere and still count what was done.
//!
//! ```text
//! 17 PowerOn vm:4c4c4544-0042-3510-8054-b7c04f4a5331
//! 18 RenameVm vm:4c4c4544-0042-3510-8054-b7c04f4a5331 name=web
//! # PowerOn vm:4c4c4544-0042-3510-8054-b7c04f4a5331: not possible …       a call that came and did nothing
//! ```
//!
//! A file that is there is gone on with. Limit: the last 10,000 effects are kept in memory; the file keeps all.

use lane::NativeCall;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    sync::Arc,
};
use union::{ObjectId, Value};

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
    /// Its short arguments, besides objects.
    pub said: Arc<str>,
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
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: Option<&Path>) -> io::Result<EffectLog> {
        let mut last = 0;
        let mut file = None;
        if let Some(path) = path {
            let opened = File::options().create(true).append(true).read(true).open(path)?;
            for line in BufReader::new(&opened).lines() {
                let line = line?;
                last = line.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(last);
            }
            file = Some(opened);
        }
        Ok(EffectLog { inner: Mutex::new(Inner { last, kept: VecDeque::new(), file }) })
    }

    /// Whether it is written to a file too.
    pub fn is_file(&self) -> bool {
        self.inner.lock().file.is_some()
    }

    /// Notes an effect; when it returns, the line is on the disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note(&self, call: &str, object: ObjectId, said: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let number = inner.last + 1;
        if let Some(file) = &mut inner.file {
            let space = if said.is_empty() { "" } else { " " };
            file.write_all(format!("{number} {call} {object}{space}{said}\n").as_bytes())?;
            file.sync_data()?;
        }
        inner.last = number;
        if inner.kept.len() >= KEEP {
            inner.kept.pop_front();
        }
        inner.kept.push_back(Effect { number, call: Arc::from(call), object, said: Arc::from(said) });
        Ok(())
    }

    /// Notes a call that did nothing.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note_refused(&self, call: &str, object: ObjectId, why: &str) -> io::Result<()> {
        match &mut self.inner.lock().file {
            Some(file) => file.write_all(format!("# {call} {object}: {why}\n").as_bytes()),
            None => Ok(()),
        }
    }

    /// The effects kept in memory, oldest first.
    pub fn effects(&self) -> Vec<Effect> {
        self.inner.lock().kept.iter().cloned().collect()
    }
}

/// The short arguments of a call, for the log.
pub fn said(call: &NativeCall) -> String {
    let short = |value: &Value| match value {
        Value::Bool(v) => Some(v.to_string()),
        Value::Int(v) => Some(v.to_string()),
        Value::Str(v) => Some(v.chars().map(|c| if c.is_whitespace() { '_' } else { c }).take(64).collect()),
        _ => None,
    };
    let args = call.args.iter().filter_map(|(name, value)| Some(format!("{name}={}", short(value)?)));
    args.collect::<Vec<_>>().join(",")
}

//! Failpoints of this process, for the fault tests: `HYPERGLOT_FAILPOINT=lane.intent-durable` kills it with SIGKILL when it reaches that
//! point, `lane.intent-durable:3` at the third time; `@/a/file` at the point that the file names at that moment, so that one process can be
//! made ready first and armed then. `HYPERGLOT_FAILPOINT_FILE` gets a line `name` before it, so that a test knows that the point was
//! reached. Without the variable there is no hook. `hyperglot failpoints` prints all there are.

use std::{
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

struct Armed {
    what: What,
    told: Option<PathBuf>,
}

enum What {
    /// A point, and how many passes end it.
    Point { name: String, left: AtomicU64 },
    /// The file that names it.
    File(PathBuf),
}

impl What {
    fn read(text: &str) -> What {
        if let Some(path) = text.strip_prefix('@') {
            return What::File(path.into());
        }
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        What::Point { name: name.to_owned(), left: AtomicU64::new(nth.parse().unwrap_or(1)) }
    }

    fn is_now(&self, reached: &str) -> bool {
        match self {
            What::Point { name, left } => name == reached && left.fetch_sub(1, Ordering::AcqRel) == 1,
            What::File(path) => std::fs::read_to_string(path).is_ok_and(|named| named.trim() == reached),
        }
    }
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Prints the names of all points, a line each.
pub fn print() {
    for point in [engine::POINTS, ::link::POINTS, lane::POINTS].concat() {
        crate::say::line(point);
    }
}

/// Arms what the environment names.
pub fn arm() {
    let Ok(text) = std::env::var("HYPERGLOT_FAILPOINT") else { return };
    let armed =
        Armed { what: What::read(&text), told: std::env::var_os("HYPERGLOT_FAILPOINT_FILE").map(Into::into) };
    if ARMED.set(armed).is_ok() && union::fail::install(reached) {
        tracing::warn!(point = text, "a failpoint is armed: this process will kill itself there");
    }
}

fn reached(name: &'static str) {
    let Some(armed) = ARMED.get().filter(|armed| armed.what.is_now(name)) else { return };
    if let Some(path) = &armed.told
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
    {
        file.write_all(format!("{name}\n").as_bytes()).ok();
        file.sync_all().ok();
    }
    let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal is on its way; nothing more is to happen on this thread.
    while killed.is_ok() {
        std::thread::park();
    }
}

//! Failpoints of this process, for the fault tests: `HYPERGLOT_FAILPOINT=lane.intent-durable` kills it with SIGKILL when it reaches that
//! point, `lane.intent-durable:3` at the third time; `HYPERGLOT_FAILPOINT_FILE` gets a line `name` before it, so that a test knows that
//! the point was reached. Without the variable there is no hook.

use std::{
    fs::OpenOptions,
    io::Write,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

struct Armed {
    name: String,
    /// Passes that are still let by.
    left: AtomicU64,
    told: Option<std::path::PathBuf>,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Arms what the environment names.
pub fn arm() {
    let Ok(text) = std::env::var("HYPERGLOT_FAILPOINT") else { return };
    let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
    let armed = Armed {
        name: name.to_owned(),
        left: AtomicU64::new(nth.parse().unwrap_or(1)),
        told: std::env::var_os("HYPERGLOT_FAILPOINT_FILE").map(Into::into),
    };
    if ARMED.set(armed).is_ok() && union::fail::install(reached) {
        tracing::warn!(point = name, "a failpoint is armed: this process will kill itself there");
    }
}

fn reached(name: &'static str) {
    let Some(armed) = ARMED.get().filter(|armed| armed.name == name) else { return };
    if armed.left.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
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

//! The threads of the fronts: a runtime beside that of the work.
//!
//! ```text
//! fronts   accept, TLS, decode, authorize, lift, read, refuse        ─ Router ─▶   work   lanes, engine, links, bus, stores, targets
//! ```
//! In one runtime whoever asks would wait behind every piece of work that is ready, the refused and the readers too. So the two have
//! runtimes of their own where all work is done in one process (`up`), and the system shares the processors between their threads as it does
//! between processes. What a front asks for is done in the other one (`link::router`). Where broker and agent are processes anyway, their
//! fronts share the runtime of the work: more threads would only stand in line for the same processors.

use crate::Failure;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

/// As many as the machine has processors, or those of the work.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    /// Taken when they end; those of the work do not end here.
    runtime: Mutex<Option<Runtime>>,
}

impl Threads {
    /// Threads of the fronts alone.
    ///
    /// # Errors
    /// The system gives none.
    pub fn own() -> Result<Threads, Failure> {
        let runtime = Builder::new_multi_thread().thread_name("front").enable_all().build();
        let runtime = runtime.map_err(|e| Failure::other(format!("the fronts have no threads: {e}")))?;
        Ok(Threads { handle: runtime.handle().clone(), runtime: Mutex::new(Some(runtime)) })
    }

    /// Those of the work. To be called there.
    pub fn shared() -> Threads {
        Threads { handle: Handle::current(), runtime: Mutex::new(None) }
    }

    /// The runtime: what is bound and spawned within it is theirs.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// They end. To be called before the runtime of the work does: a thread of theirs that waits in place while it hands a command over has
    /// another one of the work's stand in for it, and that one ends with them only.
    pub fn end(&self) {
        if let Some(runtime) = self.runtime.lock().take() {
            // Dropped as it is, it would wait for its threads in place.
            runtime.shutdown_background();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end();
    }
}

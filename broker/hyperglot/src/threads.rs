//! The threads of the fronts: a runtime beside that of the work.
//!
//! ```text
//! fronts   accept, TLS, decode, authorize, lift, read, refuse        ─ Router ─▶   work   lanes, engine, links, bus, stores, targets
//! ```
//! In one runtime whoever asks would wait behind every piece of work that is ready, the refused and the readers too. So the two have
//! runtimes of their own, and the system shares the processors between their threads as it does between processes. What a front asks for is
//! done in the other one (`link::router`).

use std::io;
use tokio::runtime::{Builder, EnterGuard, Runtime};

/// As many as the machine has processors; they end when this is dropped.
#[derive(Debug)]
pub struct Threads {
    /// Taken when dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    /// # Errors
    /// The system gives none.
    pub fn start() -> io::Result<Threads> {
        let runtime = Builder::new_multi_thread().thread_name("front").enable_all().build()?;
        Ok(Threads { runtime: Some(runtime) })
    }

    /// What is bound and spawned while this is held is theirs.
    pub fn enter(&self) -> Option<EnterGuard<'_>> {
        self.runtime.as_ref().map(Runtime::enter)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropped as it is, it would wait for its threads in place.
            runtime.shutdown_background();
        }
    }
}

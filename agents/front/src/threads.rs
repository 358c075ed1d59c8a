//! Threads of their own for listeners: what is refused is refused soon, however much work is under way beside.
//!
//! The system shares the processor between these threads and those of the work; in one runtime a request would wait behind every piece of
//! work that is ready.

use std::{io, sync::Arc};
use tokio::runtime::{Builder, Handle, Runtime};

/// The threads; they end when nobody has them any more.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    /// Taken when dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    /// As many as the machine has processors.
    ///
    /// # Errors
    /// The system gives none.
    pub fn start() -> io::Result<Arc<Threads>> {
        let runtime = Builder::new_multi_thread().thread_name("front").enable_all().build()?;
        Ok(Arc::new(Threads { handle: runtime.handle().clone(), runtime: Some(runtime) }))
    }

    /// Where to spawn on them.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waits for nothing: it may be dropped by something that may not wait.
            runtime.shutdown_background();
        }
    }
}

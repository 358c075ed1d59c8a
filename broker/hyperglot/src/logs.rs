//! Structured logs on standard error; panics are among them.

use crate::config::{Log, LogFormat};
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging; a filter that cannot be read is said and `info` is taken.
pub fn start(log: &Log) {
    let text =
        log.filter.clone().or_else(|| std::env::var("HYPERGLOT_LOG").ok()).unwrap_or_else(|| "info".into());
    let (filter, wrong) = match EnvFilter::try_new(&text) {
        Ok(filter) => (filter, None),
        Err(e) => (EnvFilter::new("info"), Some(e)),
    };
    // Whoever read standard error may be gone; that ends no program.
    let lines = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(true)
        .log_internal_errors(false);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if let Err(e) = started {
        crate::say::trouble(format_args!("logging was already started: {e}"));
    }
    if let Some(e) = wrong {
        tracing::warn!(filter = text, error = %e, "the log filter cannot be read; taking `info`");
    }
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("a thread");
        let trace = std::backtrace::Backtrace::capture();
        tracing::error!(thread, %trace, "a mistake in this program: {panic}");
    }));
}

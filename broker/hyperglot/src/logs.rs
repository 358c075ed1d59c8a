//! Structured logs on standard error.

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
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if let Err(e) = started {
        eprintln!("hyperglot: logging was already started: {e}");
    }
    if let Some(e) = wrong {
        tracing::warn!(filter = text, error = %e, "the log filter cannot be read; taking `info`");
    }
}

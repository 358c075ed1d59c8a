//! Lines on standard output. A reader that has gone (`| head`) ends the program quietly; anything else is told.

use std::io::{ErrorKind, Write};

/// Prints `text` and a line break.
pub fn line(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    match written {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => trouble(format_args!("cannot print: {e}")),
    }
}

/// Says on standard error why something was not done. Nobody may be there to read it.
pub fn trouble(text: impl std::fmt::Display) {
    drop(writeln!(std::io::stderr().lock(), "hyperglot: {text}"));
}

/// Prints a line that must be read, or says that it could not.
pub fn once(text: impl std::fmt::Display) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush())
}

/// Prints a line of a program that goes on whether or not anybody reads it.
pub fn notice(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    if let Err(e) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        tracing::debug!(error = %e, "nobody reads the standard output");
    }
}

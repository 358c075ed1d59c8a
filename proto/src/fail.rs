//! Failpoints: named places where a test may end the process. Without a [hook](install) a point costs one load.
//!
//! A point stands between two things that must not come apart, for example between an intent being durable and its effect; its name is
//! `<room>.<what has just happened>`. The fault tests kill a process at every point there is.

use std::sync::OnceLock;

static HOOK: OnceLock<fn(&'static str)> = OnceLock::new();

/// Calls `hook` at every point from now on; whether it is the first, for only the first counts.
pub fn install(hook: fn(&'static str)) -> bool {
    HOOK.set(hook).is_ok()
}

/// This place has been reached.
#[inline]
pub fn point(name: &'static str) {
    if let Some(hook) = HOOK.get() {
        hook(name);
    }
}

//! What an event says to people: one sentence a word, with the names that the event knows.

use super::Fields;
use union::Record;

/// What happened, after the subject; a word without a line here is shown with its dots and underscores as spaces.
const SAID: &[(&str, &str)] = &[
    ("vm.registered", "was added"),
    ("vm.being_created", "is being created"),
    ("vm.created", "was created"),
    ("vm.removed", "was removed"),
    ("vm.reconfigured", "was reconfigured"),
    ("vm.migrated", "moved to another host"),
    ("vm.starting", "is starting"),
    ("vm.stopping", "is stopping"),
    ("vm.suspending", "is being suspended"),
    ("vm.resetting", "is being reset"),
    ("vm.reset", "was reset"),
    ("vm.guest_shutdown", "was asked to shut its guest down"),
    ("vm.guest_reboot", "was asked to restart its guest"),
    ("vm.powered_on", "is powered on"),
    ("vm.resumed", "is resumed"),
    ("vm.powered_off", "is powered off"),
    ("vm.suspended", "is suspended"),
    ("vm.paused", "is paused"),
    ("vm.crashed", "was stopped by a failure of its guest"),
    ("vm.disconnected", "is disconnected"),
    ("vm.connected", "is connected again"),
    ("vm.trouble_ended", "is in no trouble any more"),
    ("host.added", "was added"),
    ("host.removed", "was removed"),
    ("host.connected", "is connected again"),
    ("host.connection_lost", "does not respond"),
    ("host.maintenance_entered", "entered maintenance"),
    ("host.maintenance_left", "left maintenance"),
    ("snapshot.created", "was taken"),
    ("snapshot.removed", "was removed"),
    ("session.logged_in", "logged in"),
    ("session.logged_out", "logged out"),
    ("session.login_failed", "could not log in"),
];

/// The sentence of an event whose other fields are filled in; `detail` ends it.
pub(super) fn of(what: &str, detail: &str, f: &Fields, event: &Record) -> String {
    let name = |slot| event.get(slot).as_str().filter(|t| !t.is_empty());
    let (kind, rest) = what.split_once('.').unwrap_or((what, ""));
    let said = SAID.iter().find(|(word, _)| *word == what).map(|(_, said)| (*said).to_owned());
    let said = said.unwrap_or_else(|| match rest {
        "created" | "removed" | "renamed" | "reconfigured" => format!("was {rest}"),
        other => other.replace('_', " "),
    });
    let subject = match kind {
        "session" => name(f.principal).map(|p| format!("User {p}")),
        _ => name(f.object_name).map(str::to_owned),
    };
    let subject = subject.unwrap_or_else(|| kind.replace('_', " "));
    let mut place = String::new();
    if kind == "vm"
        && let Some(host) = name(f.host_name)
    {
        place = format!(" on {host}");
    }
    if matches!(kind, "vm" | "host")
        && let Some(datacenter) = name(f.datacenter_name)
    {
        place.push_str(&format!(" in {datacenter}"));
    }
    format!("{subject}{place} {said}{detail}")
}

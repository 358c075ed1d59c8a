//! What may be allowed: the union's verbs, and the groups that roles are made of.
//!
//! A group stands for its verbs in roles only; grants carry single verbs, `Read`, or `*`.

use std::sync::OnceLock;
use union::{Command, ObjectId, Schema, Slot, Value};

/// Everything, also what later versions add.
pub const ALL: &str = "*";
/// Commands of class Read.
pub const READ: &str = "Read";

/// A named set of verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name in roles.
    pub name: &'static str,
    /// Its verbs.
    pub verbs: &'static [&'static str],
    /// For people.
    pub what: &'static str,
}

/// The groups. Every command of the union is in exactly one.
pub const GROUPS: &[Group] = &[
    Group { name: "read", verbs: &[READ], what: "see objects, tasks and events" },
    Group {
        name: "power",
        verbs: &[
            "PowerOn",
            "PowerOff",
            "Suspend",
            "Reset",
            "ShutdownGuest",
            "RebootGuest",
            "StandbyGuest",
            "Pause",
            "Unpause",
        ],
        what: "power of VMs",
    },
    Group { name: "configure", verbs: &["Reconfigure", "RenameVm"], what: "settings and devices of VMs" },
    Group { name: "create", verbs: &["CreateVm", "DestroyVm"], what: "make and remove VMs" },
    Group { name: "template", verbs: &["MarkAsTemplate", "MarkAsVm"], what: "templates" },
    Group {
        name: "folders",
        verbs: &["CreateFolder", "RenameFolder", "MoveIntoFolder", "DestroyFolder"],
        what: "folders, and what is in which",
    },
    Group { name: "sessions", verbs: &["TerminateSession"], what: "end sessions of others" },
];

/// The roles every installation has; they cannot be changed.
pub const ROLES: &[(&str, &[&str])] =
    &[("admin", &[ALL]), ("read-only", &["read"]), ("operator", &["read", "power"])];

/// References of a command, besides the object it is on, whose objects it needs permission for too: whoever moves or places an object
/// must be allowed to do so with it and there.
const ALSO: &[(&str, &[&str])] = &[
    ("MoveIntoFolder", &["object_ids"]),
    ("CreateVm", &["resource_pool_id", "host_id"]),
    ("MarkAsVm", &["resource_pool_id", "host_id"]),
    ("PowerOn", &["host_id"]),
];

/// The verbs of a word of a role: a group's, or the verb itself; `None`: there is no such word.
pub fn of_word(word: &str) -> Option<Vec<&'static str>> {
    if word == ALL {
        return Some(vec![ALL]);
    }
    let group = GROUPS.iter().find(|g| g.name == word).map(|g| g.verbs.to_vec());
    group.or_else(|| GROUPS.iter().flat_map(|g| g.verbs).find(|verb| **verb == word).map(|verb| vec![*verb]))
}

/// Every object that a command needs permission for, the one it is on first.
pub fn objects(command: &Command) -> Vec<ObjectId> {
    static SLOTS: OnceLock<Vec<(&'static str, Vec<Slot>)>> = OnceLock::new();
    let slots = SLOTS.get_or_init(|| {
        let schema = Schema::base();
        let slot = |verb: &str, field: &&str| Some(schema.message(verb)?.field(field)?.slot);
        ALSO.iter()
            .map(|(verb, fields)| (*verb, fields.iter().filter_map(|f| slot(verb, f)).collect()))
            .collect()
    });
    let mut objects = vec![command.object];
    let also = slots.iter().find(|(verb, _)| *verb == &*command.verb).map(|(_, slots)| slots.as_slice());
    for slot in also.unwrap_or_default() {
        match command.body.get(*slot) {
            Value::Ref(id) => objects.push(*id),
            Value::List(items) => {
                objects.extend(
                    items.iter().filter_map(|i| if let Value::Ref(id) = i { Some(*id) } else { None }),
                );
            }
            _ => {}
        }
    }
    objects.dedup();
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        for message in Schema::base().commands() {
            let groups: Vec<_> = GROUPS.iter().filter(|g| g.verbs.contains(&message.name.as_str())).collect();
            assert_eq!(groups.len(), 1, "{}: {groups:?}", message.name);
        }
        let known: Vec<&str> = GROUPS.iter().flat_map(|g| g.verbs).copied().collect();
        for verb in known.iter().filter(|v| **v != READ && **v != "TerminateSession") {
            assert!(Schema::base().message(verb).is_some(), "{verb} is no command");
        }
    }

    #[test]
    fn words() {
        assert_eq!(of_word("*"), Some(vec!["*"]));
        assert_eq!(of_word("read"), Some(vec!["Read"]));
        assert_eq!(of_word("PowerOn"), Some(vec!["PowerOn"]));
        assert_eq!(of_word("power").map(|v| v.len()), Some(9));
        assert!(of_word("poweron").is_none() && of_word("").is_none());
        for (name, words) in ROLES {
            assert!(words.iter().all(|w| of_word(w).is_some()), "{name}");
        }
        for (verb, fields) in ALSO {
            let schema = Schema::base();
            let message = schema.message(verb).unwrap();
            assert!(fields.iter().all(|f| message.field(f).is_some()), "{verb}");
        }
    }
}

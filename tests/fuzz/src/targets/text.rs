//! Short texts.

use crate::{runner::Target, targets::text};
use bus::{Pattern, Subject, subject};
use guard::Users;
use libvirt::native::uri::Uri;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use union::ObjectId;
use wire::datetime;

/// What an answer begins with: further on it tells of the input.
fn begin(answer: &str) -> String {
    answer.chars().take(32).collect()
}

/// Bus subjects and patterns.
pub const SUBJECT: Target = Target {
    name: "bus_subject",
    also: &[],
    dictionary: &["event.", "cmd.", "inventory.", "*", ">", ".", "..", " ", "%", "\0", "é", "_"],
    feed: |input| {
        let text = text(input);
        if let Some(plain) = subject::unescape(&text) {
            assert_eq!(subject::unescape(&subject::escape(&plain)).as_deref(), Some(plain.as_str()));
        }
        let token = subject::escape(&text);
        assert_eq!(subject::unescape(&token).as_deref(), Some(&*text));
        match (Subject::parse(&text), Pattern::parse(&text)) {
            (Ok(subject), Ok(pattern)) => {
                assert!(subject.as_str() == text && pattern.matches(&subject) && pattern.covers(&pattern));
                format!("{:?}", subject.topic())
            }
            (Ok(_), Err(error)) => panic!("a subject that is no pattern: {error}"),
            (Err(_), Ok(pattern)) => {
                assert!(pattern.covers(&pattern));
                "pattern".to_owned()
            }
            (Err(error), Err(_)) => begin(&error.to_string()),
        }
    },
};

/// `xsd:dateTime`.
pub const DATETIME: Target = Target {
    name: "datetime",
    also: &[],
    dictionary: &["T", "Z", "+14:00", "-08:00", ".", "9999-12-31", "24:00:00", ":", "-"],
    feed: |input| match datetime::parse(&text(input)) {
        None => "none".to_owned(),
        Some(ms) => {
            let written = datetime::format(ms);
            let again = datetime::parse(written.as_str()).expect("what was written reads");
            // Offsets reach beyond the years that can be written.
            assert!(again == ms || ms.abs_diff(again) < 24 * 3_600_000);
            "time".to_owned()
        }
    },
};

/// `<kind>:<uuid>`.
pub const OBJECT_ID: Target = Target {
    name: "object_id",
    also: &[],
    dictionary: &["vm:", "storage_pool:", "-", "{", "}", "urn:uuid:"],
    feed: |input| match text(input).parse::<ObjectId>() {
        Err(_) => "none".to_owned(),
        Ok(id) => {
            assert_eq!(id.to_string().parse::<ObjectId>().ok(), Some(id));
            id.kind.to_string()
        }
    },
};

/// libvirt addresses.
pub const LIBVIRT_URI: Target = Target {
    name: "libvirt_uri",
    also: &[],
    dictionary: &[
        "qemu",
        "+tls",
        "+unix",
        "+tcp",
        "://",
        "/system",
        "/session",
        "?socket=",
        "&pkipath=",
        "[::1]",
        ":16514",
        "%2F",
        "%",
        "@",
    ],
    feed: |input| match Uri::parse(&text(input), Some(Path::new("/run/user/1"))) {
        Ok(uri) => begin(&format!("{uri:?}")),
        Err(error) => begin(&error.message),
    },
};

/// The users file.
pub const USERS: Target = Target {
    name: "users_file",
    also: &[],
    dictionary: &[
        "[[user]]",
        "name = ",
        "role = ",
        "\"admin\"",
        "\"read-only\"",
        "password = ",
        "$argon2id$v=19$m=8,t=1,p=1$",
        "\n",
        "'''",
    ],
    feed: |input| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("users.toml");
        fs::write(&path, input).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("made private");
        match Users::open(&path) {
            Ok(users) => format!("{} users", users.list().len()),
            Err(error) => error.to_string().replace(&path.display().to_string(), ""),
        }
    },
};

//! The users file of earlier versions: TOML, mode 0600. It is read once, at the first start with a store, and not written any more.
//!
//! ```toml
//! [[user]]
//! name = "admin"
//! role = "admin"            # or "read-only"
//! password = "$argon2id$…"  # never the password itself
//! ```

use crate::hash;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes of a name.
pub const NAME_BYTES: usize = 256;
/// Users in a file.
pub const USERS: usize = 10_000;
const FILE_BYTES: u64 = 8 << 20;

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Commands of class Read only.
    ReadOnly,
}

/// Why the users file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file system says no.
    #[error("users file {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Others may read it.
    #[error("users file {}: mode is {mode:03o}, expected 600; run chmod 600 on it", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a users file.
    #[error("users file {}: {message}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the line.
        message: String,
    },
    /// No acceptable name.
    #[error("a user's name is 1 to 256 bytes of text without control characters")]
    Name,
    /// No acceptable password.
    #[error("a password is 1 to 1,024 bytes")]
    Password,
    /// The password cannot be hashed.
    #[error(transparent)]
    Hash(#[from] hash::HashError),
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What they may do.
    pub role: Role,
    /// Their password's hash.
    pub(crate) hash: Arc<str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    user: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    role: Role,
    password: String,
}

/// The users of a file.
#[derive(Debug)]
pub struct Users {
    users: BTreeMap<Box<str>, User>,
}

impl Users {
    /// Reads the file; there are no users when it does not exist.
    pub fn open(path: impl AsRef<Path>) -> Result<Users, UsersError> {
        Ok(Users { users: read(path.as_ref())? })
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The user called `name`.
    pub fn get(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// Everybody's name and role, by name.
    pub fn list(&self) -> Vec<(String, Role)> {
        self.users.iter().map(|(name, user)| (name.to_string(), user.role)).collect()
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES && !name.chars().any(char::is_control)
}

fn read(path: &Path) -> Result<BTreeMap<Box<str>, User>, UsersError> {
    let io = |source| UsersError::Io { path: path.to_owned(), source };
    let content = |message: String| UsersError::Content { path: path.to_owned(), message };
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(io(e)),
    };
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(UsersError::Open { path: path.to_owned(), mode });
    }
    if meta.len() > FILE_BYTES {
        return Err(content(format!("is {} bytes; at most {FILE_BYTES} are read", meta.len())));
    }
    let text = fs::read_to_string(path).map_err(io)?;
    if is_deep(&text) {
        return Err(content("more than 64 brackets are open inside each other".to_owned()));
    }
    let file: File = toml::from_str(&text).map_err(|e| {
        // The error's own text would show the line, and with it a hash.
        let line =
            e.span().and_then(|s| text.get(..s.start)).map_or(1, |before| before.matches('\n').count() + 1);
        content(format!("line {line}: {}", e.message()))
    })?;
    if file.user.len() > USERS {
        return Err(content(format!("has more than {USERS} users")));
    }
    let mut users = BTreeMap::new();
    for row in file.user {
        if !is_name(&row.name) {
            return Err(content(UsersError::Name.to_string()));
        }
        if !hash::is_hash(&row.password) {
            return Err(content(format!(
                "user \"{}\": password is not an argon2id hash of at most 256 MiB",
                row.name
            )));
        }
        let user = User { role: row.role, hash: row.password.into() };
        if users.insert(row.name.clone().into(), user).is_some() {
            return Err(content(format!("user \"{}\" stands twice", row.name)));
        }
    }
    Ok(users)
}

/// The TOML parser recovers from errors by recursion, and a bracket of the wrong kind makes it forget how deep it is.
fn is_deep(text: &str) -> bool {
    let (mut square, mut curly) = (0_usize, 0_usize);
    text.bytes().any(|byte| {
        match byte {
            b'[' => square += 1,
            b']' => square = square.saturating_sub(1),
            b'{' => curly += 1,
            b'}' => curly = curly.saturating_sub(1),
            _ => {}
        }
        square > 64 || curly > 64
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Cost;
    use union::clock::SeededIds;

    fn hashed(password: &str) -> String {
        hash::hash(&password.into(), Cost::LEAST, &SeededIds::new(1)).unwrap()
    }

    #[test]
    fn says_who_there_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        assert!(Users::open(&path).unwrap().is_empty());
        let row = |name: &str, role: &str| {
            format!("[[user]]\nname = '{name}'\nrole = \"{role}\"\npassword = \"{}\"\n", hashed(name))
        };
        let monitor = "DOMAIN\\monitor \"x\"";
        fs::write(&path, row("root", "admin") + &row(monitor, "read-only")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let users = Users::open(&path).unwrap();
        assert_eq!(users.list(), [(monitor.to_owned(), Role::ReadOnly), ("root".to_owned(), Role::Admin)]);
        assert_eq!(*users.get("root").unwrap().hash, *hashed("root"));
        assert!(users.get("nobody").is_none());
    }

    #[test]
    fn refuses_bad_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        let good = format!("[[user]]\nname = \"a\"\nrole = \"admin\"\npassword = \"{}\"\n", hashed("secret"));
        let open = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Users::open(&path)
        };
        assert!(open(&good, 0o600).is_ok());
        assert!(matches!(open(&good, 0o640), Err(UsersError::Open { mode: 0o640, .. })));
        for bad in [
            good.replace("admin", "owner"),
            good.replace("[[user]]", "[[users]]"),
            good.replace("\"a\"", "\"\""),
            format!("{good}{good}"),
            good.replace("$argon2id$", "$md5$"),
            format!("{good}password = 'again'"),
            "\0".to_owned(),
            "a = { b = c]\n".repeat(2_000),
        ] {
            let error = open(&bad, 0o600).unwrap_err();
            assert!(matches!(error, UsersError::Content { .. }), "{bad}: {error}");
            assert!(!format!("{error} {error:?}").contains("argon2id$"), "{error:?}");
        }
    }
}

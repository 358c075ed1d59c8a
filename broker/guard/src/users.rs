//! The users file: TOML, mode 0600, written whole beside itself and renamed into place.
//!
//! ```toml
//! [[user]]
//! name = "admin"
//! role = "admin"            # or "read-only"
//! password = "$argon2id$…"  # never the password itself
//! ```

use crate::hash;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes of a name.
pub const NAME_BYTES: usize = 256;
/// Users in a file.
pub const USERS: usize = 10_000;
const FILE_BYTES: u64 = 8 << 20;

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// Nobody of that name.
    #[error("there is no user \"{0}\"")]
    Unknown(String),
    /// Too many.
    #[error("there are {USERS} users already")]
    Full,
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    user: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    role: Role,
    password: String,
}

/// All users, in memory and in their file.
#[derive(Debug)]
pub struct Users {
    path: PathBuf,
    users: RwLock<BTreeMap<Box<str>, User>>,
}

impl Users {
    /// Reads the file; there are no users when it does not exist.
    pub fn open(path: impl Into<PathBuf>) -> Result<Users, UsersError> {
        let path = path.into();
        let users = read(&path)?;
        Ok(Users { path, users: RwLock::new(users) })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.users.read().is_empty()
    }

    /// The user called `name`.
    pub fn get(&self, name: &str) -> Option<User> {
        self.users.read().get(name).cloned()
    }

    /// Everybody's name and role, by name.
    pub fn list(&self) -> Vec<(String, Role)> {
        self.users.read().iter().map(|(name, user)| (name.to_string(), user.role)).collect()
    }

    /// Adds a user or replaces theirs, given the password's hash, and writes the file.
    pub fn put(&self, name: &str, role: Role, hash: &str) -> Result<(), UsersError> {
        if !is_name(name) {
            return Err(UsersError::Name);
        }
        self.change(|users| {
            if users.len() >= USERS && !users.contains_key(name) {
                return Err(UsersError::Full);
            }
            users.insert(name.into(), User { role, hash: hash.into() });
            Ok(())
        })
    }

    /// Removes a user and writes the file.
    pub fn remove(&self, name: &str) -> Result<(), UsersError> {
        self.change(|users| {
            users.remove(name).map(|_| ()).ok_or_else(|| UsersError::Unknown(name.to_owned()))
        })
    }

    /// Nothing changes in memory unless the file holds it.
    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<Box<str>, User>) -> Result<(), UsersError>,
    ) -> Result<(), UsersError> {
        let mut users = self.users.write();
        let mut next = users.clone();
        change(&mut next)?;
        write(&self.path, &next).map_err(|source| UsersError::Io { path: self.path.clone(), source })?;
        *users = next;
        Ok(())
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

fn write(path: &Path, users: &BTreeMap<Box<str>, User>) -> io::Result<()> {
    let rows = users.iter().map(|(name, user)| Row {
        name: name.to_string(),
        role: user.role,
        password: user.hash.to_string(),
    });
    let file = File { user: rows.collect() };
    let text = toml::to_string(&file).map_err(io::Error::other)?;
    let beside = path.with_extension("toml.new");
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    new.write_all(b"# Users of hyperglot. Passwords are argon2id hashes.\n\n")?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    fs::rename(&beside, path)?;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
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
    fn survives_a_restart_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        let users = Users::open(&path).unwrap();
        assert!(users.is_empty());
        users.put("root", Role::Admin, &hashed("a")).unwrap();
        users.put("DOMAIN\\monitor \"x\"", Role::ReadOnly, &hashed("b")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Users::open(&path).unwrap();
        assert_eq!(
            again.list(),
            [("DOMAIN\\monitor \"x\"".to_owned(), Role::ReadOnly), ("root".to_owned(), Role::Admin)]
        );
        assert_eq!(again.get("root"), users.get("root"));
        again.remove("root").unwrap();
        assert!(matches!(again.remove("root"), Err(UsersError::Unknown(_))));
        assert_eq!(Users::open(&path).unwrap().list().len(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
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

    #[test]
    fn refuses_bad_names() {
        let dir = tempfile::tempdir().unwrap();
        let users = Users::open(dir.path().join("users.toml")).unwrap();
        for name in ["", "a\nb", &"x".repeat(257)] {
            assert!(matches!(users.put(name, Role::Admin, "h"), Err(UsersError::Name)));
        }
    }

    #[test]
    fn a_failed_write_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let users = Users::open(dir.path().join("absent").join("users.toml")).unwrap();
        assert!(matches!(users.put("a", Role::Admin, &hashed("a")), Err(UsersError::Io { .. })));
        assert!(users.is_empty());
    }
}

//! The first administrator.

use crate::{
    hash::{self, Cost},
    secret::Secret,
    users::{Role, Users, UsersError},
};
use union::Ids;

/// Without the letters and digits that look alike; 32 of them, so that 5 bits choose one.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// 24 characters of 5 bits.
const LENGTH: usize = 24;

/// Where the first administrator came from.
#[derive(Debug)]
pub enum FirstAdmin {
    /// There were users already; nothing was done.
    Present,
    /// Made as the environment says.
    Given {
        /// Their name.
        name: String,
    },
    /// Made with a password of ours, to be printed this once.
    Generated {
        /// Their name.
        name: String,
        /// Their password.
        password: Secret,
    },
}

/// Makes an administrator when there is no user yet. `name` and `password` are what the environment says
/// (`HYPERGLOT_ADMIN_USER`, `HYPERGLOT_ADMIN_PASSWORD`); without a name it is `admin`, without a password one is made.
pub fn first_admin(
    users: &Users,
    name: Option<&str>,
    password: Option<Secret>,
    cost: Cost,
    ids: &dyn Ids,
) -> Result<FirstAdmin, UsersError> {
    if !users.is_empty() {
        return Ok(FirstAdmin::Present);
    }
    let name = name.unwrap_or("admin").to_owned();
    let generated = password.is_none();
    let password = password.unwrap_or_else(|| generate(ids));
    set_password(users, &name, Role::Admin, &password, cost, ids)?;
    Ok(if generated { FirstAdmin::Generated { name, password } } else { FirstAdmin::Given { name } })
}

/// Adds a user, or gives one a new role and password.
pub fn set_password(
    users: &Users,
    name: &str,
    role: Role,
    password: &Secret,
    cost: Cost,
    ids: &dyn Ids,
) -> Result<(), UsersError> {
    if !(1..=1024).contains(&password.expose().len()) {
        return Err(UsersError::Password);
    }
    users.put(name, role, &hash::hash(password, cost, ids)?)
}

/// A password of ours.
pub(crate) fn generate(ids: &dyn Ids) -> Secret {
    let mut random = [0; LENGTH];
    ids.fill(&mut random);
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).copied().map_or('x', char::from);
    Secret::new(random.iter().map(letter).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::clock::SeededIds;

    fn users() -> (tempfile::TempDir, Users) {
        let dir = tempfile::tempdir().unwrap();
        let users = Users::open(dir.path().join("users.toml")).unwrap();
        (dir, users)
    }

    #[test]
    fn from_the_environment() {
        let (_dir, users) = users();
        let ids = SeededIds::new(1);
        let first = first_admin(&users, Some("root"), Some("pw".into()), Cost::LEAST, &ids).unwrap();
        assert!(matches!(first, FirstAdmin::Given { name } if name == "root"));
        assert!(hash::verify(&"pw".into(), &users.get("root").unwrap().hash, &hash::Memory::default()));
        let second = first_admin(&users, Some("other"), Some("x".into()), Cost::LEAST, &ids).unwrap();
        assert!(matches!(second, FirstAdmin::Present));
        assert_eq!(users.list(), [("root".to_owned(), Role::Admin)]);
    }

    #[test]
    fn generated() {
        let (_dir, users) = users();
        let ids = SeededIds::new(1);
        let Ok(FirstAdmin::Generated { name, password }) = first_admin(&users, None, None, Cost::LEAST, &ids)
        else {
            panic!("expected a generated password");
        };
        assert_eq!((name.as_str(), password.expose().len()), ("admin", LENGTH));
        assert!(hash::verify(&password, &users.get("admin").unwrap().hash, &hash::Memory::default()));
        assert_ne!(generate(&ids).expose(), password.expose());
    }

    #[test]
    fn refuses_an_empty_password() {
        let (_dir, users) = users();
        let result = first_admin(&users, None, Some("".into()), Cost::LEAST, &SeededIds::new(1));
        assert!(matches!(result, Err(UsersError::Password)));
        assert!(users.is_empty());
    }
}

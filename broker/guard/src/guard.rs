//! Login and authorize.

use crate::{
    hash,
    passwords::{LoginError, Passwords, Settings},
    secret::Secret,
    users::{Role, Users},
};
use std::{net::IpAddr, sync::Arc};
use union::{
    Clock, Ids, ObjectId,
    command::{Cause, Class, Code},
};

/// Somebody who logged in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Their name.
    pub name: Arc<str>,
    /// Their role at login; [`Guard::authorize`] goes by the present one.
    pub role: Role,
}

/// Logs users in and says what they may do.
#[derive(Debug)]
pub struct Guard {
    users: Arc<Users>,
    passwords: Passwords,
}

impl Guard {
    /// A guard over `users`.
    pub fn new(
        users: Arc<Users>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        ids: &dyn Ids,
    ) -> Result<Arc<Guard>, hash::HashError> {
        Ok(Arc::new(Guard { users, passwords: Passwords::new(settings, clock, ids)? }))
    }

    /// The users it knows.
    pub fn users(&self) -> &Arc<Users> {
        &self.users
    }

    /// Checks a password. A login whose caller goes away is still counted.
    pub async fn login(
        &self,
        name: &str,
        password: &Secret,
        remote: IpAddr,
    ) -> Result<Principal, LoginError> {
        let name = Passwords::name(name);
        let find = || self.users.get(&name).map(|user| user.hash);
        self.passwords.check(&name, password, remote, find).await?;
        let user = self.users.get(&name).ok_or(LoginError::Wrong)?;
        Ok(Principal { name, role: user.role })
    }

    /// Whether `principal` may send a command of `class`, called `verb`, to `object`.
    pub fn authorize(
        &self,
        principal: &Principal,
        verb: &str,
        class: Class,
        object: ObjectId,
    ) -> Result<(), Cause> {
        let refused = |why: &str| {
            let message = format!("{verb} on {object} refused: {} {why}", principal.name);
            Cause::new(Code::Permission, message)
        };
        match self.users.get(&principal.name).map(|user| user.role) {
            Some(Role::Admin) => Ok(()),
            Some(Role::ReadOnly) if class == Class::Read => Ok(()),
            Some(Role::ReadOnly) => Err(refused("may only read; the role admin is needed")),
            None => Err(refused("is no user any more")),
        }
    }
}

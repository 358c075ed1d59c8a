//! Who may do what: the guard's authority over the engine's store, with users and sessions of before the world begins; and id maps over
//! the same store.
//!
//! ```text
//! genesis: users, a session of each client, one that is never revoked ─▶ the engine's disk ─▶ opened anew in every life of the engine
//! ```

use crate::{
    flaw::{Flaw, Lenient},
    world::PROTOCOL,
};
use async_trait::async_trait;
use engine::{IdMaps, authority::KeptStore, begin_epoch};
use guard::{
    Applicant, Authority, Cost, Hashed, Keys, Secret,
    authority::{Deps, Keep, Opened, Settings},
    passwords,
    people::Change,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock},
};
use store::{Epoch, Store, idmap::IdMap};
use union::{
    Clock, Ids,
    clock::SeededIds,
    command::{Cause, Code},
    pb,
};

/// The domain.
pub const DOMAIN: &str = "simulated";
/// Who may do everything.
pub const ADMIN: &str = "ann";
/// Who may only read.
pub const READER: &str = "eve";
/// Where clients are.
pub const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const PASSWORD: &str = "a password of the simulation";

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::new(&SeededIds::new(1)));

/// The engine's keys, the same in each of its lives.
pub fn keys() -> Keys {
    KEYS.clone()
}

/// A session, as its client knows it.
#[derive(Clone, Debug)]
pub struct Login {
    /// What it is called.
    pub session: Arc<str>,
    /// What its client shows.
    pub key: Secret,
}

impl Login {
    fn of(opened: &Opened) -> Login {
        Login { session: Arc::from(&*opened.grant.content.session_id), key: opened.key.clone() }
    }
}

/// The sessions that there are when the world begins.
#[derive(Clone, Debug)]
pub struct Logins {
    /// One that is never revoked, of which others are made.
    pub root: Login,
    /// One that may only read.
    pub reader: Login,
    /// Those of the clients.
    pub clients: Vec<Login>,
}

/// The authority over a store.
///
/// # Errors
/// What is kept cannot be read.
pub async fn open(
    store: Arc<dyn Store>,
    epoch: Epoch,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    flaw: Option<Flaw>,
) -> Result<Arc<Authority>, String> {
    let keep: Arc<dyn Keep> = KeptStore::new(store, epoch);
    let keep = if flaw == Some(Flaw::ForgetsRevoked) { Arc::new(Lenient(keep)) } else { keep };
    let settings = Settings {
        passwords: passwords::Settings { cost: Cost::LEAST, ..passwords::Settings::default() },
        ..Settings::default()
    };
    let deps = Deps { keep, keys: keys(), domain: Arc::from(DOMAIN), clock, ids, settings };
    Authority::open(deps).await.map_err(|error| error.to_string())
}

/// Two users, a session of each, and one of each of so many clients. Nothing else may run: a password is checked on another thread, whose time no seed decides.
///
/// # Errors
/// What went wrong.
pub async fn genesis(
    store: Arc<dyn Store>,
    clock: &Arc<dyn Clock>,
    ids: &Arc<dyn Ids>,
    count: usize,
) -> Result<Logins, String> {
    let epoch = begin_epoch(&store, &**clock).await.map_err(|error| error.to_string())?;
    let authority = open(store, epoch, Arc::clone(clock), Arc::clone(ids), None).await?;
    let password = Secret::new(PASSWORD.to_owned());
    let mut logins = Vec::new();
    for (user, role) in [(ADMIN, "admin"), (READER, "read-only")] {
        let hash = Hashed::new(&password, Cost::LEAST, &**ids).map_err(|error| error.to_string())?;
        let change = Change::AddUser(user.to_owned(), hash, Some(role.to_owned()));
        authority.change("genesis", change).await.map_err(|error| error.to_string())?;
        let applicant = Applicant { user, password: &password, remote: REMOTE, protocol: PROTOCOL };
        let opened = authority.login("a", &applicant).await.map_err(|error| error.to_string())?;
        logins.push(Login::of(&opened));
    }
    let Ok([root, reader]) = <[Login; 2]>::try_from(logins) else {
        return Err("there are two users".to_owned());
    };
    let mut clients = Vec::new();
    for _ in 0..count {
        let opened = authority.again("a", &root.key, REMOTE).await.map_err(|error| error.to_string())?;
        clients.push(Login::of(&opened));
    }
    Ok(Logins { root, reader, clients })
}

/// Blocks of numbers, out of the engine's id maps.
#[derive(Debug)]
pub struct Numbers {
    /// The map.
    pub map: IdMap,
    /// The engine's epoch.
    pub epoch: Epoch,
}

#[async_trait]
impl IdMaps for Numbers {
    async fn lease(&self, agent: &str, wanted: &pb::LeaseIds) -> Result<pb::LeasedIds, Cause> {
        let block = self.map.lease(&wanted.form, agent, wanted.count, self.epoch).await;
        let block = block.map_err(|error| Cause::new(Code::Internal, error.to_string()))?;
        Ok(pb::LeasedIds { first: block.first, count: block.end - block.first })
    }

    async fn adopt(&self, _agent: &str, _body: &[u8]) -> Result<(), Cause> {
        Ok(())
    }
}

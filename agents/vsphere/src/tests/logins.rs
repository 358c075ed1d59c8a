//! An engine of two users, `admin` and `watcher`, and of whoever a test gives scopes.

use async_trait::async_trait;
use guard::{Applicant, Grant, LoginError, Logins, Pass, Secret};
use parking_lot::{Mutex, RwLock};
use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use union::{Clock, pb};

#[derive(Debug)]
pub(crate) struct Engine {
    clock: Arc<dyn Clock>,
    pub(super) users: Mutex<HashMap<String, Vec<pb::Scope>>>,
    sessions: Mutex<HashMap<String, (Pass, Duration)>>,
}

pub(super) fn scope(root: &str, verbs: &[&str]) -> pb::Scope {
    let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
    pb::Scope { root_id: root.to_owned(), verbs, ..pb::Scope::default() }
}

impl Engine {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Engine> {
        let users = [("admin", "*"), ("watcher", "Read")];
        let users = users.iter().map(|(user, verb)| ((*user).to_owned(), vec![scope("", &[verb])]));
        Arc::new(Engine { clock, users: Mutex::new(users.collect()), sessions: Mutex::default() })
    }

    fn begin(&self, user: &str) -> Pass {
        let mut sessions = self.sessions.lock();
        let number = sessions.len();
        let content = pb::Grant {
            principal: user.to_owned(),
            scopes: self.users.lock().get(user).cloned().unwrap_or_default(),
            expires_ms: i64::MAX,
            ..pb::Grant::default()
        };
        let grant = Grant::unsigned(content);
        let key = format!("{number:040x}");
        let pass = Pass {
            session: format!("52000000-0000-0000-0000-{number:012}").into(),
            key: Secret::new(&*key),
            principal: user.into(),
            created_ms: self.clock.now_ms(),
            ended: CancellationToken::new(),
            grant: Arc::new(RwLock::new(Arc::new(grant))),
            refusals: Arc::default(),
        };
        sessions.insert(key, (pass.clone(), self.clock.monotonic()));
        pass
    }
}

#[async_trait]
impl Logins for Engine {
    async fn login(&self, applicant: Applicant<'_>) -> Result<Pass, LoginError> {
        let known = self.users.lock().contains_key(applicant.user);
        let right = known && applicant.password.expose() == "secret";
        if right { Ok(self.begin(applicant.user)) } else { Err(LoginError::Wrong) }
    }

    async fn again(&self, pass: &Pass, _: IpAddr) -> Result<Pass, LoginError> {
        Ok(self.begin(&pass.principal))
    }

    async fn resume(&self, key: &Secret, _: &str) -> Result<Option<Pass>, LoginError> {
        let now = self.clock.monotonic();
        let sessions = self.sessions.lock();
        let live = sessions.get(key.expose()).filter(|(pass, used)| {
            !pass.ended.is_cancelled() && now.saturating_sub(*used) < crate::limits::IDLE
        });
        Ok(live.map(|(pass, _)| pass.clone()))
    }

    async fn end(&self, pass: &Pass) {
        pass.ended.cancel();
    }

    fn used(&self, pass: &Pass) {
        if let Some((_, used)) = self.sessions.lock().get_mut(pass.key.expose()) {
            *used = self.clock.monotonic();
        }
    }
}

//! Logins answered by the users file of this process, for as long as no engine answers them.

use async_trait::async_trait;
use guard::{Applicant, Grant, Guard, LoginError, Logins, Pass, Principal, Role, Secret};
use parking_lot::{Mutex, RwLock};
use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use union::{Clock, Ids, pb};

/// A session without use for this long has ended.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// The users file as an authority.
#[derive(Debug)]
pub struct FileLogins {
    guard: Arc<Guard>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    sessions: Mutex<HashMap<String, (Pass, Duration)>>,
}

impl FileLogins {
    /// Over a guard.
    pub fn new(guard: Arc<Guard>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Arc<FileLogins> {
        Arc::new(FileLogins { guard, clock, ids, sessions: Mutex::default() })
    }

    fn begin(&self, principal: &Principal) -> Pass {
        let mut secret = [0; 20];
        self.ids.fill(&mut secret);
        let key: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let session = self.ids.uuid().to_string();
        let verb = match principal.role {
            Role::Admin => "*",
            Role::ReadOnly => "Read",
        };
        let scope = pb::Scope { verbs: vec![verb.to_owned()], ..pb::Scope::default() };
        let content = pb::Grant {
            session_id: session.clone(),
            principal: principal.name.to_string(),
            scopes: vec![scope],
            issued_ms: self.clock.now_ms(),
            expires_ms: i64::MAX,
            ..pb::Grant::default()
        };
        let grant = Grant::unsigned(content);
        let pass = Pass {
            session: session.into(),
            key: Secret::new(&*key),
            principal: Arc::clone(&principal.name),
            created_ms: self.clock.now_ms(),
            ended: CancellationToken::new(),
            grant: Arc::new(RwLock::new(Arc::new(grant))),
        };
        let now = self.clock.monotonic();
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, (pass, used)| !pass.ended.is_cancelled() && now.saturating_sub(*used) < IDLE);
        sessions.insert(key, (pass.clone(), now));
        pass
    }
}

#[async_trait]
impl Logins for FileLogins {
    async fn login(&self, applicant: Applicant<'_>) -> Result<Pass, LoginError> {
        let Applicant { user, password, remote, .. } = applicant;
        Ok(self.begin(&self.guard.login(user, password, remote).await?))
    }

    async fn again(&self, pass: &Pass, _: IpAddr) -> Result<Pass, LoginError> {
        let user = self.guard.users().get(&pass.principal).ok_or(LoginError::Wrong)?;
        Ok(self.begin(&Principal { name: Arc::clone(&pass.principal), role: user.role }))
    }

    async fn resume(&self, key: &Secret, _: &str) -> Result<Option<Pass>, LoginError> {
        let now = self.clock.monotonic();
        let sessions = self.sessions.lock();
        let live = sessions
            .get(key.expose())
            .filter(|(pass, used)| !pass.ended.is_cancelled() && now.saturating_sub(*used) < IDLE);
        Ok(live.map(|(pass, _)| pass.clone()))
    }

    async fn end(&self, pass: &Pass) {
        pass.ended.cancel();
        self.sessions.lock().remove(pass.key.expose());
    }

    fn used(&self, pass: &Pass) {
        let now = self.clock.monotonic();
        if let Some((_, used)) = self.sessions.lock().get_mut(pass.key.expose()) {
            *used = now;
        }
    }
}

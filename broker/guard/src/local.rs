//! An authority and its one agent in one process: logins without a bus.

use crate::{
    Applicant, Authority, Grant, LoginError, Logins, Pass, Passes, Secret, Users,
    authority::{AdminError, Deps, MemoryKeep, OpenError, Opened, Settings, Told},
    keys::Keys,
};
use async_trait::async_trait;
use std::{net::IpAddr, sync::Arc};
use union::{Clock, Ids, pb};

/// The agent of a process of its own.
pub const AGENT: &str = "local";

/// Logins answered by an authority of the same process.
#[derive(Debug)]
pub struct Local {
    authority: Arc<Authority>,
    agent: Arc<str>,
    passes: Arc<Passes>,
}

/// Why there is no such process.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The authority cannot begin.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The users cannot be taken over.
    #[error(transparent)]
    Users(#[from] AdminError),
}

/// Hears for the passes.
#[derive(Debug)]
struct Ears {
    agent: Arc<str>,
    passes: Arc<Passes>,
}

impl Told for Ears {
    fn ended(&self, session: &str) {
        self.passes.ended(session);
    }

    fn granted(&self, agent: &str, grant: &Grant) {
        if *agent == *self.agent {
            self.passes.granted(grant.clone());
        }
    }
}

impl Local {
    /// Answers for `agent` from `authority`.
    pub fn new(authority: Arc<Authority>, agent: &str, clock: Arc<dyn Clock>) -> Arc<Local> {
        let (agent, passes): (Arc<str>, _) = (agent.into(), Arc::new(Passes::new(clock)));
        authority.tell(Arc::new(Ears { agent: Arc::clone(&agent), passes: Arc::clone(&passes) }));
        Arc::new(Local { authority, agent, passes })
    }

    /// An authority that forgets at the end of the process, over the users of a file.
    ///
    /// # Errors
    /// argon2 refuses the cost, or the users do not fit.
    pub async fn forgetful(
        users: &Users,
        settings: Settings,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Arc<Local>, LocalError> {
        let keys = Keys::new(ids.as_ref());
        let keep = Arc::new(MemoryKeep::new());
        let deps = Deps { keep, keys, domain: AGENT.into(), clock: Arc::clone(&clock), ids, settings };
        let authority = Authority::open(deps).await?;
        authority.take_over(users).await?;
        Ok(Local::new(authority, AGENT, clock))
    }

    /// The authority.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// The sessions held.
    pub fn passes(&self) -> &Passes {
        &self.passes
    }

    fn pass(&self, opened: Opened) -> Result<Pass, LoginError> {
        self.passes.hold((*opened.grant).clone(), opened.key).ok_or(LoginError::Busy)
    }
}

#[async_trait]
impl Logins for Local {
    async fn login(&self, applicant: Applicant<'_>) -> Result<Pass, LoginError> {
        self.pass(self.authority.login(&self.agent, &applicant).await?)
    }

    async fn again(&self, pass: &Pass, remote: IpAddr) -> Result<Pass, LoginError> {
        self.pass(self.authority.again(&self.agent, &pass.key, remote).await?)
    }

    async fn resume(&self, key: &Secret, protocol: &str) -> Result<Option<Pass>, LoginError> {
        let opened = self.authority.resume(&self.agent, key, protocol).await;
        opened.map(|opened| self.pass(opened)).transpose()
    }

    async fn end(&self, pass: &Pass) {
        self.authority.logout(&self.agent, &pass.key).await;
        // Where the authority did not know it any more.
        self.passes.ended(&pass.session);
    }

    async fn directory(&self, pass: &Pass, end: &[Arc<str>]) -> Result<pb::Directory, LoginError> {
        self.authority.directory(&self.agent, &pass.session, end).await.map_err(|_| LoginError::Wrong)
    }

    fn used(&self, pass: &Pass) {
        self.authority.used(&self.agent, [&*pass.session]);
    }
}

//! Agents that come up: who they are, and which targets they own from now on.
//!
//! A target has one owner. A new life of its agent gets a new epoch; another agent gets the target only when the one that has it does not
//! answer, or was sent away.

use crate::engine::{ENGINE, Engine, Known};
use bytes::Bytes;
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};
use store::leases::{Lease, LeaseError};
use union::{
    command::{Cause, Code},
    pb,
};

/// Targets that one agent may offer.
const TARGETS: usize = 1_024;
/// The owner of what belongs to no agent.
const NOBODY: &str = "";

impl Engine {
    pub(crate) async fn hello(&self, from: &str, hello: pb::Hello) -> Result<pb::Welcome, Cause> {
        if hello.agent != from {
            let message = format!("`{from}` says hello as `{}`; an agent speaks for itself", hello.agent);
            return Err(Cause::new(Code::Permission, message));
        }
        if hello.targets.len() > TARGETS {
            let message =
                format!("{from} offers {} targets; an agent has at most {TARGETS}", hello.targets.len());
            return Err(Cause::new(Code::InvalidArgument, message));
        }
        let before = self.known.lock().get(from).map(|known| known.incarnation);
        if before.is_some_and(|before| before > hello.incarnation) {
            let message = format!("a later life of {from} came up already; two agents run under one name");
            return Err(Cause::new(Code::Permission, message));
        }
        let mut leases = BTreeMap::new();
        for target in &hello.targets {
            match self.lease(from, &target.name, before != Some(hello.incarnation)).await {
                Ok(epoch) => drop(leases.insert(target.name.clone(), epoch)),
                Err(cause) => {
                    tracing::error!(agent = from, target = target.name, %cause, "a target was not given to its agent");
                }
            }
        }
        let targets = hello.targets.iter().map(|target| Arc::from(&*target.name)).collect();
        let known = Known { incarnation: hello.incarnation, heard_ms: self.now_ms(), targets };
        self.known.lock().insert(Arc::from(from), known);
        self.arrivals.send_modify(|count| *count += 1);
        let mut welcome = pb::Welcome {
            engine_epoch: self.deps.epoch.0,
            leases,
            now_ms: self.now_ms(),
            bundle: self.deps.bundles.get("").hash.clone(),
            ..pb::Welcome::default()
        };
        self.deps.authority.welcome(from, &mut welcome).await;
        Ok(welcome)
    }

    /// The epoch of a target for an agent.
    async fn lease(&self, agent: &str, target: &str, new_life: bool) -> Result<u64, Cause> {
        let held = self.granted.lock().get(target).cloned();
        match held {
            Some(lease) if *lease.owner == *agent && !new_life => return Ok(lease.epoch),
            Some(lease)
                if *lease.owner != *agent && *lease.owner != *NOBODY && self.answers(&lease.owner).await =>
            {
                let message = format!(
                    "`{target}` belongs to {}, which is there; give the target of {agent} another name",
                    lease.owner
                );
                return Err(Cause::new(Code::Permission, message));
            }
            _ => {}
        }
        let granted = self.leases.grant(target, agent, self.now_ms(), self.deps.epoch).await;
        let lease = granted.map_err(|error| {
            Cause::new(Code::Internal, format!("`{target}` cannot be given to {agent}: {error}"))
        })?;
        let epoch = lease.epoch;
        self.granted.lock().insert(Arc::clone(&lease.target), lease);
        Ok(epoch)
    }

    /// An agent is no longer part of the installation: what it owned is nobody's, and what it had begun under its leases is over.
    ///
    /// # Errors
    /// The store's; some of its targets may be nobody's already.
    pub async fn sent_away(&self, agent: &str) -> Result<(), LeaseError> {
        self.known.lock().remove(agent);
        let mine = |lease: &&Lease| *lease.owner == *agent;
        let targets: Vec<_> =
            self.granted.lock().values().filter(mine).map(|lease| Arc::clone(&lease.target)).collect();
        for target in targets {
            let lease = self.leases.grant(&target, NOBODY, self.now_ms(), self.deps.epoch).await?;
            self.granted.lock().insert(target, lease);
        }
        Ok(())
    }

    /// A target that has not said yet, in this life of the engine, what it has, with its owner. One that its owner does not offer any more
    /// will never say, and is not waited for.
    pub(crate) fn silent(&self) -> Option<Lease> {
        let owned: Vec<Lease> = {
            let (known, granted) = (self.known.lock(), self.granted.lock());
            let is_offered = |lease: &&Lease| {
                known.get(&lease.owner).is_none_or(|owner| owner.targets.contains(&lease.target))
            };
            let of_agents =
                granted.values().filter(|lease| *lease.target != *ENGINE && *lease.owner != *NOBODY);
            of_agents.filter(is_offered).cloned().collect()
        };
        owned.into_iter().find(|lease| !self.deps.facts.in_step(&lease.owner, &lease.target))
    }

    /// Whether an agent is there.
    async fn answers(&self, agent: &str) -> bool {
        let body = Bytes::from(pb::About::default().encode_to_vec());
        let answer = self.deps.agents.ask(agent, "settle", body, self.deps.limits.question).await;
        !matches!(answer, Err(crate::AgentError::Away | crate::AgentError::TimedOut))
    }

    pub(crate) fn beat(&self, from: &str, beat: pb::Beat) -> pb::Beaten {
        let mut known = self.known.lock();
        let hello = match known.get_mut(from).filter(|known| known.incarnation == beat.incarnation) {
            Some(known) => {
                known.heard_ms = self.now_ms();
                false
            }
            None => true,
        };
        pb::Beaten { engine_epoch: self.deps.epoch.0, hello }
    }

    /// The agents that have come up in this life of the engine, with the time each was heard last, Unix milliseconds.
    pub fn heard(&self) -> Vec<(Arc<str>, i64)> {
        let mut heard: Vec<_> =
            self.known.lock().iter().map(|(agent, known)| (Arc::clone(agent), known.heard_ms)).collect();
        heard.sort();
        heard
    }
}

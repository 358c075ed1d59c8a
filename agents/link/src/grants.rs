//! What the sessions of this agent's fronts may do, by the engine's word, and whether a command is covered by it.
//!
//! ```text
//! login, resume ─ hold ─▶ held ─ granted ─▶ held (other permissions) ─ revoked, logged out, expired ─▶ ended: its pass is cancelled
//! ```
//!
//! A command of a session that is not held, or whose grant does not cover it, is refused; so the way from a front to its own owner is
//! checked as the way from the engine is.

use crate::limits::SESSIONS;
use guard::{Check, Grant, Pass, Passes, Secret, Tree};
use inventory::Inventory;
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use std::sync::Arc;
use union::{
    Clock, Command, ObjectId,
    command::{Cause, Code},
    pb,
};

/// The grants of one agent.
#[derive(Debug)]
pub struct Grants {
    agent: Arc<str>,
    check: Check,
    passes: Passes,
    used: Mutex<FxHashSet<Arc<str>>>,
    clock: Arc<dyn Clock>,
}

impl Grants {
    /// No sessions yet; grants are believed as `check` says, and only those for `agent`.
    pub fn new(agent: &str, check: Check, clock: Arc<dyn Clock>) -> Arc<Grants> {
        let passes = Passes::new(Arc::clone(&clock));
        Arc::new(Grants { agent: Arc::from(agent), check, passes, used: Mutex::default(), clock })
    }

    /// The sessions held.
    pub fn passes(&self) -> &Passes {
        &self.passes
    }

    /// Takes a session on, by a grant that the engine signed. `None`: it has ended already, or there is no room.
    ///
    /// # Errors
    /// The grant is not believed.
    pub fn hold(&self, signed: &pb::SignedGrant, key: Secret) -> Result<Option<Pass>, Cause> {
        Ok(self.passes.hold(self.believe(signed)?, key))
    }

    /// New grants, and sessions that have ended.
    pub fn renew(&self, renewed: &pb::Renewed) {
        for signed in &renewed.grants {
            match self.believe(signed) {
                Ok(grant) => drop(self.passes.granted(grant)),
                Err(cause) => tracing::error!(%cause, "a renewed grant is not believed"),
            }
        }
        self.end(renewed.ended.iter().map(String::as_str));
    }

    /// Sessions are over: their passes are cancelled and their grants refused, also those that come later.
    pub fn end<'s>(&self, sessions: impl IntoIterator<Item = &'s str>) {
        for session in sessions {
            self.passes.ended(session);
            self.used.lock().remove(session);
        }
    }

    /// A grant, if it is this agent's and of now.
    ///
    /// # Errors
    /// It is not believed.
    pub fn believe(&self, signed: &pb::SignedGrant) -> Result<Grant, Cause> {
        let grant = self.check.take(signed, &self.agent, self.clock.now_ms())?;
        match self.passes.has_ended(&grant.content.session_id) {
            false => Ok(grant),
            true => Err(guard::GrantError::Ended { principal: grant.content.principal }.into()),
        }
    }

    /// Whether a command of one of this agent's sessions is covered by its grant: the grant, for the engine and the audit.
    ///
    /// # Errors
    /// [`Code::Permission`].
    pub fn check(&self, command: &Command, tree: &dyn Tree) -> Result<Arc<Grant>, Cause> {
        let pass = self.passes.find(&command.session).ok_or_else(|| {
            let message = format!("{} refused: its session has ended; log in again", command.verb);
            Cause::new(Code::Permission, message)
        })?;
        let grant = pass.now();
        self.covers(&grant, command, tree)?;
        Ok(grant)
    }

    /// Whether a grant covers a command: the same session and principal, not ended, and allowed there and now.
    ///
    /// # Errors
    /// [`Code::Permission`].
    pub fn covers(&self, grant: &Grant, command: &Command, tree: &dyn Tree) -> Result<(), Cause> {
        let content = &grant.content;
        if *content.principal != *command.principal || *content.session_id != *command.session {
            let (principal, asserted) = (content.principal.clone(), command.principal.to_string());
            return Err(guard::GrantError::Principal { principal, asserted }.into());
        }
        if self.passes.has_ended(&command.session) {
            return Err(guard::GrantError::Ended { principal: content.principal.clone() }.into());
        }
        grant.covers(command, tree, self.clock.now_ms())
    }

    /// A session was used; the engine is told now and then.
    pub fn used(&self, session: &Arc<str>) {
        let mut used = self.used.lock();
        if used.len() < SESSIONS && !used.contains(session) {
            used.insert(Arc::clone(session));
        }
    }

    /// The sessions used since the last time this was asked.
    pub fn take_used(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut *self.used.lock()).into_iter().collect()
    }
}

/// The tree of an owner's facts, for a grant that came with a command from the engine. A scope's root that this agent has no facts of (a
/// folder, a host elsewhere) is above everything here: whether the object hangs below it is what the engine has said by sending it.
#[derive(Debug)]
pub struct OwnersTree {
    facts: crate::FactsTree,
    unknown: Vec<ObjectId>,
}

impl OwnersTree {
    /// The tree of `facts` for `grant`.
    pub fn new(facts: &Arc<Inventory>, grant: &Grant) -> OwnersTree {
        let roots = grant.content.scopes.iter().filter_map(|scope| scope.root_id.parse::<ObjectId>().ok());
        let unknown = roots.filter(|root| facts.get(*root).is_none()).collect();
        OwnersTree { facts: crate::FactsTree(Arc::clone(facts)), unknown }
    }
}

impl Tree for OwnersTree {
    fn parents(&self, id: ObjectId, out: &mut Vec<ObjectId>) {
        self.facts.parents(id, out);
        out.extend(self.unknown.iter().filter(|root| **root != id));
    }
}

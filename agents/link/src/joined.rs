//! The agent's side of the link, put together.
//!
//! ```text
//! Joined::open (store, owner, way to the engine) ─▶ targets adopted ─▶ recover ─▶ run: Duty, Pump ─▶ router for each front ─▶ finish
//! ```

use crate::{
    door::{self, Link},
    duty::{Duty, Introduces},
    engine::{Engine, Service, Verb, ask},
    grants::Grants,
    journal::{self, Journal},
    keep::ids::Lender,
    limits,
    outbox::{self, Backlog, Pump},
    presence::Presence,
    remote::{self, Remote, SealKey},
    router::{self, Replica, Router},
};
use async_trait::async_trait;
use guard::{Check, Keys, Public, Signer, Tree};
use inventory::{Inventory, Tasks};
use lane::{Owner, Ticket};
use mapping::Bundle;
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use store::{Epoch, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use union::{Clock, Ids, Schema, pb};

/// How often commands that were settled long ago are forgotten.
const EXPIRE: Duration = Duration::from_secs(600);

/// What an agent's side stands on.
#[derive(Debug)]
pub struct Deps {
    /// The installation.
    pub domain: Arc<str>,
    /// This agent's name.
    pub agent: Arc<str>,
    /// What it tells of itself.
    pub me: Arc<dyn Introduces>,
    /// Its store.
    pub store: Arc<dyn Store>,
    /// The store's epoch.
    pub epoch: Epoch,
    /// The union with the extension fields of the mappings.
    pub schema: Arc<Schema>,
    /// Its lanes; without targets in a process that has none.
    pub owner: Arc<Owner>,
    /// The facts of its targets.
    pub facts: Arc<Inventory>,
    /// The way to the engine.
    pub engine: Arc<dyn Engine>,
    /// Whether the engine is there; the same that the way to it tells.
    pub presence: Presence,
    /// The engine's key.
    pub engine_key: Public,
    /// This agent's keys.
    pub keys: Keys,
    /// What signs its messages; `None` in the engine's own process.
    pub signer: Option<Arc<Signer>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub ids: Arc<dyn Ids>,
}

/// An agent's side of the link. Dropping it ends what it runs.
#[derive(Debug)]
pub struct Joined {
    /// The sessions of its fronts.
    pub grants: Arc<Grants>,
    /// What its lanes did.
    pub journal: Arc<Journal>,
    /// What the engine has still to hear.
    pub backlog: Arc<Backlog>,
    /// Its door.
    pub link: Arc<Link>,
    /// Its logins.
    pub logins: Arc<Remote>,
    /// The way to the engine.
    pub engine: Arc<dyn Engine>,
    /// Whether the engine is there.
    pub presence: Presence,
    owner: Arc<Owner>,
    clock: Arc<dyn Clock>,
    running: Mutex<Option<(Duty, Pump)>>,
    empty: watch::Receiver<bool>,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl Joined {
    /// Opens the store's rooms and has the lanes keep what they do there.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open(deps: Deps) -> Result<Joined, StoreError> {
        let d = deps;
        let check = Check::new(&d.domain, d.engine_key.clone());
        let grants = Grants::new(&d.agent, check, Arc::clone(&d.clock));
        let backlog = Backlog::open(&d.store).await?;
        let outbox = outbox::name(&d.store, d.epoch, d.clock.now_ms(), &*d.ids).await?;
        let journal = Journal::open(journal::Deps {
            store: Arc::clone(&d.store),
            epoch: d.epoch,
            schema: Arc::clone(&d.schema),
            grants: Arc::clone(&grants),
            backlog: Arc::clone(&backlog),
            clock: Arc::clone(&d.clock),
        });
        if !d.owner.record_with(Arc::clone(&journal) as Arc<dyn lane::Recorder>) {
            tracing::warn!("the lanes have another journal already; this one stays empty");
        }
        let link = Link::new(door::Deps {
            agent: d.agent,
            owner: Arc::clone(&d.owner),
            facts: d.facts,
            grants: Arc::clone(&grants),
            journal: Arc::clone(&journal),
            store: Arc::clone(&d.store),
            epoch: d.epoch,
            schema: d.schema,
            clock: Arc::clone(&d.clock),
        });
        let seal_key = SealKey::new(&d.domain, d.engine_key);
        let logins = Remote::new(remote::Deps {
            engine: Arc::clone(&d.engine),
            presence: d.presence.clone(),
            grants: Arc::clone(&grants),
            keys: d.keys,
            seal_key: seal_key.clone(),
            clock: Arc::clone(&d.clock),
            ids: d.ids,
        });
        let duty = Duty {
            engine: Arc::clone(&d.engine),
            presence: d.presence.clone(),
            grants: Arc::clone(&grants),
            link: Arc::clone(&link),
            seal_key,
            signer: d.signer,
            me: d.me,
        };
        let (engine, presence) = (d.engine, d.presence);
        let pump =
            Pump::new(outbox, d.store, d.epoch, Arc::clone(&backlog), Arc::clone(&engine), presence.clone());
        let empty = pump.empty();
        let stop = CancellationToken::new();
        Ok(Joined {
            grants,
            journal,
            backlog,
            link,
            logins,
            engine,
            presence,
            owner: d.owner,
            clock: d.clock,
            running: Mutex::new(Some((duty, pump))),
            empty,
            stop: stop.clone(),
            _stop: stop.drop_guard(),
        })
    }

    /// Has the lanes find out what became of the commands of an earlier life. Call it when the targets have been adopted, and before any
    /// front or the engine can ask.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn recover(&self) -> Result<Vec<Ticket>, StoreError> {
        let unsettled = self.journal.unsettled().await?;
        if !unsettled.is_empty() {
            tracing::info!(
                commands = unsettled.len(),
                "finding out what became of commands of an earlier life"
            );
        }
        let tickets = self.owner.recover(unsettled);
        if !tickets.is_empty() {
            let (tickets, journal) = (tickets.clone(), Arc::clone(&self.journal));
            tokio::spawn(self.stop.clone().run_until_cancelled_owned(async move {
                for ticket in &tickets {
                    ticket.clone().outcome().await;
                }
                journal.flush().await;
                tracing::info!(
                    commands = tickets.len(),
                    "this agent's commands of an earlier life are settled"
                );
            }));
        }
        Ok(tickets)
    }

    /// Who leases native numbers to this agent.
    pub fn lender(&self) -> Arc<dyn Lender> {
        Arc::new(FromEngine(Arc::clone(&self.engine)))
    }

    /// Keeps in touch with the engine and hands in what was done without it, until this is dropped. Only the first call counts.
    pub fn run(&self) {
        let Some((duty, pump)) = self.running.lock().take() else { return };
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(duty.run()));
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(pump.run()));
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(Arc::clone(&self.logins).run()));
        let journal = Arc::clone(&self.journal);
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(EXPIRE).await;
                match journal.expire().await {
                    Ok(0) => {}
                    Ok(forgotten) => {
                        tracing::debug!(forgotten, "commands that ended a day ago are forgotten")
                    }
                    Err(error) => tracing::warn!(%error, "ended commands cannot be forgotten"),
                }
            }
        }));
    }

    /// The way of a front's commands.
    pub fn router(
        &self,
        tree: Arc<dyn Tree + Send + Sync>,
        tasks: Arc<Tasks>,
        replica: Arc<dyn Replica>,
        bundle: Arc<Bundle>,
    ) -> Arc<Router> {
        let router = Router::new(router::Deps {
            owner: Some(Arc::clone(&self.owner)),
            engine: Arc::clone(&self.engine),
            presence: self.presence.clone(),
            grants: Arc::clone(&self.grants),
            tree,
            tasks,
            replica,
            bundle,
            clock: Arc::clone(&self.clock),
        });
        router.look_back(Arc::clone(&self.journal));
        router
    }

    /// Waits, at most `patience`, until every outcome is on disk and the engine, if it is there, has taken what it is to hear. Call it when
    /// the lanes have been drained.
    pub async fn finish(&self, patience: Duration) {
        let finished = async {
            self.journal.flush().await;
            let mut empty = self.empty.clone();
            while self.presence.is_here() && self.backlog.count() > 0 {
                if empty.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(patience, finished).await.is_err() {
            tracing::info!(waiting = self.backlog.count(), "the engine takes the rest at the next start");
        }
    }
}

/// The engine as a lender of numbers.
#[derive(Debug)]
struct FromEngine(Arc<dyn Engine>);

#[async_trait]
impl Lender for FromEngine {
    async fn lease(&self, wanted: pb::LeaseIds) -> Result<pb::LeasedIds, String> {
        let asked = ask(&*self.0, &Verb::Service(Service::Ids), &wanted, limits::SHORT).await;
        asked.map_err(|error| error.to_string())
    }
}

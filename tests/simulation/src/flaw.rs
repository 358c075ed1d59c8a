//! Broken parts, one at a time: what a promise rests on is taken away, and the checks must see it (`tests/flaws.rs`).
//!
//! | flaw | the part that is broken | what is to notice |
//! |---|---|---|
//! | [`ForgetsSync`](Flaw::ForgetsSync) | a store says that a commit is durable before it is | effects without audit, outcomes that were told and are not there |
//! | [`DropsIntents`](Flaw::DropsIntents) | the lanes' journal keeps no intents | effects of commands that never were |
//! | [`DropsOutcomes`](Flaw::DropsOutcomes) | the lanes' journal keeps no outcomes | commands that stay open |
//! | [`HoldsLane`](Flaw::HoldsLane) | the lanes' journal does not answer, so that a lane is not freed | what is not settled |
//! | [`Resends`](Flaw::Resends) | the driver asks again when an answer is lost | two effects of one command |
//! | [`Renumbers`](Flaw::Renumbers) | the bus delivers twice, the second time under another command id | two effects of one command |
//! | [`DoesNotLook`](Flaw::DoesNotLook) | the driver answers a fresh look with what it knows | calls that rely on what was no longer so |
//! | [`DropsUndo`](Flaw::DropsUndo) | the driver says that a step was taken back | facts that are not as was told |
//! | [`NumberTwice`](Flaw::NumberTwice) | the id map leases a block twice | numbers given out twice |
//! | [`GoesBack`](Flaw::GoesBack) | a feed repeats what was true before | facts that go back |
//! | [`ShowsLate`](Flaw::ShowsLate) | the fleet says that it shows a revision before it does | what was acknowledged and is not shown |
//! | [`ForgetsTasks`](Flaw::ForgetsTasks) | the keeper of tasks keeps none | tasks that are gone |
//! | [`LeavesTasks`](Flaw::LeavesTasks) | nobody goes on with the tasks of an earlier life | tasks that do not end |
//! | [`ForgetsRevoked`](Flaw::ForgetsRevoked) | the authority's store does not keep that a session was revoked | what a revoked session had done |

use crate::rng::Rng;
use async_trait::async_trait;
use engine::{Facts, IdMaps};
use guard::authority::keep::{Break, Entry, Filter, Keep, KeepError, Kept, Loaded, Write};
use inventory::{Inventory, fleet::Holder, tasks};
use lane::{Intended, Recorder};
use parking_lot::Mutex;
use std::{
    future::pending,
    sync::{Arc, OnceLock},
    time::Duration,
};
use union::{
    Command, CommandId, ObjectId,
    command::{Cause, Code, Outcome, Revision},
    pb,
};

/// A part that does not do what it is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table above says what each is")]
pub enum Flaw {
    ForgetsSync(&'static str),
    DropsIntents,
    DropsOutcomes,
    HoldsLane,
    Resends,
    Renumbers,
    DoesNotLook,
    DropsUndo,
    NumberTwice,
    GoesBack,
    ShowsLate,
    ForgetsTasks,
    LeavesTasks,
    ForgetsRevoked,
}

impl Flaw {
    /// What the check that is to see it says, in part.
    pub fn sign(self) -> &'static str {
        match self {
            Flaw::ForgetsSync(_) | Flaw::DropsIntents => "with 0 audit records",
            Flaw::DropsOutcomes => "is still open in the journal",
            Flaw::HoldsLane => "not settled",
            Flaw::Resends | Flaw::Renumbers => "had 2 effects",
            Flaw::DoesNotLook => "relies on the name",
            Flaw::DropsUndo => "its memory should be",
            Flaw::NumberTwice => "were leased twice",
            Flaw::GoesBack => "went back from",
            Flaw::ShowsLate => "was acknowledged and the fleet shows",
            Flaw::ForgetsTasks => "is None, and",
            Flaw::LeavesTasks => "has not ended",
            Flaw::ForgetsRevoked => "was revoked, and the engine grants it",
        }
    }
}

/// Every flaw.
pub const FLAWS: [Flaw; 15] = [
    Flaw::ForgetsSync("engine"),
    Flaw::ForgetsSync("a"),
    Flaw::DropsIntents,
    Flaw::DropsOutcomes,
    Flaw::HoldsLane,
    Flaw::Resends,
    Flaw::Renumbers,
    Flaw::DoesNotLook,
    Flaw::DropsUndo,
    Flaw::NumberTwice,
    Flaw::GoesBack,
    Flaw::ShowsLate,
    Flaw::ForgetsTasks,
    Flaw::LeavesTasks,
    Flaw::ForgetsRevoked,
];

/// A journal of the lanes with a flaw.
#[derive(Debug)]
pub struct Forgetful {
    /// The journal, given before the first command comes.
    pub journal: OnceLock<Arc<dyn Recorder>>,
    /// What is wrong with it.
    pub flaw: Flaw,
    /// Chance.
    pub rng: Arc<Rng>,
}

impl Forgetful {
    fn journal(&self) -> Result<&Arc<dyn Recorder>, Cause> {
        self.journal.get().ok_or_else(|| Cause::new(Code::Internal, "there is no journal yet"))
    }
}

#[async_trait]
impl Recorder for Forgetful {
    async fn known(&self, command: CommandId) -> Result<Option<Outcome>, Cause> {
        self.journal()?.known(command).await
    }

    async fn begin(&self, intended: Intended<'_>) -> Result<(), Cause> {
        match self.flaw {
            Flaw::DropsIntents => Ok(()),
            Flaw::HoldsLane if self.rng.chance(20) => pending().await,
            _ => self.journal()?.begin(intended).await,
        }
    }

    async fn answered(&self, command: CommandId, step: usize) -> Result<(), Cause> {
        match self.flaw {
            Flaw::DropsIntents => Ok(()),
            _ => self.journal()?.answered(command, step).await,
        }
    }

    async fn already(&self, intended: Intended<'_>, outcome: &Outcome) {
        if let Some(journal) = self.journal.get().filter(|_| self.flaw != Flaw::DropsOutcomes) {
            journal.already(intended, outcome).await;
        }
    }

    fn ended(&self, command: &Command, outcome: &Outcome) {
        if let Some(journal) = self.journal.get().filter(|_| self.flaw != Flaw::DropsOutcomes) {
            journal.ended(command, outcome);
        }
    }

    fn found(&self, command: &Command, outcome: &Outcome) {
        if let Some(journal) = self.journal.get() {
            journal.found(command, outcome);
        }
    }

    fn declined(&self, command: &Command, outcome: &Outcome) {
        if let Some(journal) = self.journal.get() {
            journal.declined(command, outcome);
        }
    }
}

/// Id maps that lease the same block again.
#[derive(Debug)]
pub struct Twice {
    /// The id maps.
    pub maps: Arc<dyn IdMaps>,
    /// The last block.
    pub last: Mutex<Option<pb::LeasedIds>>,
}

#[async_trait]
impl IdMaps for Twice {
    async fn lease(&self, agent: &str, wanted: &pb::LeaseIds) -> Result<pb::LeasedIds, Cause> {
        if let Some(again) = self.last.lock().take() {
            return Ok(again);
        }
        let leased = self.maps.lease(agent, wanted).await?;
        *self.last.lock() = Some(leased);
        Ok(leased)
    }

    async fn adopt(&self, agent: &str, body: &[u8]) -> Result<(), Cause> {
        self.maps.adopt(agent, body).await
    }
}

/// A fleet that says too early what it shows.
#[derive(Debug)]
pub struct Hasty(pub Arc<dyn Facts>);

#[async_trait]
impl Facts for Hasty {
    fn inventory(&self) -> &Arc<Inventory> {
        self.0.inventory()
    }

    fn holder(&self, id: ObjectId) -> Option<Holder> {
        self.0.holder(id)
    }

    fn contested(&self, id: ObjectId) -> Option<String> {
        self.0.contested(id)
    }

    fn in_step(&self, agent: &str, target: &str) -> bool {
        self.0.in_step(agent, target)
    }

    async fn reached(&self, _: &str, _: Revision, _: Duration) -> bool {
        true
    }
}

/// A keeper of tasks that keeps none.
#[derive(Debug)]
pub struct NoTasks;

impl tasks::Keeper for NoTasks {
    fn keep(&self, _: tasks::Kept) {}

    fn forget(&self, _: &[ObjectId]) {}
}

/// A store of the authority that does not keep that a session was revoked.
#[derive(Debug)]
pub struct Lenient(pub Arc<dyn Keep>);

#[async_trait]
impl Keep for Lenient {
    async fn load(&self) -> Result<Loaded, KeepError> {
        self.0.load().await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), KeepError> {
        let is_end = |write: &Write| matches!(write, Write::Session(_, Some(Kept { revoked_ms: 1.., .. })));
        self.0.write(writes.into_iter().filter(|write| !is_end(write)).collect()).await
    }

    async fn search(
        &self,
        filter: &Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Entry)>, KeepError> {
        self.0.search(filter, before, limit).await
    }

    async fn verify(&self) -> Result<Result<u64, Break>, KeepError> {
        self.0.verify().await
    }
}

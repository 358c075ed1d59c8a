//! A folder that goes away with what is in it: its VMs first, each by a command of its own, and nothing at all when one of them has power
//! or may not be destroyed by who asks.
//!
//! ```text
//! condemned: nothing is put into it ─▶ intent, its VMs, audit: one commit ─▶ each VM ─▶ folders and outcome: one commit
//!                                                                             └─ one stays ─▶ Failed; what is gone is gone
//! restart ─▶ condemned again, before any new command ─▶ a VM's command that had begun: settled │ the others: begun ─▶ as above
//!                                                        └─ no owner for five minutes ─▶ Failed, saying what is left
//! ```
//!
//! A VM that no agent shows may still lie in a folder by what the broker keeps of it: it is gone when every target that has an owner has
//! given all its facts without it, and what is kept of it then goes with the folder. Before that nobody can tell, so nothing is removed:
//! `UNREACHABLE`, to be asked again.

use super::{Change, no};
use crate::{
    engine::Engine,
    flight::Landing,
    fly::{Errand, refused, verdict},
    record,
    submit::Asked,
};
use guard::Grant;
use std::{sync::Arc, time::Duration};
use store::{
    Batch, audit,
    journal::{Entry, Step},
    leases::Lease,
};
use tokio::time::{Instant, sleep, timeout};
use union::{
    Command, CommandId, Kind, ObjectId,
    command::{Cause, Class, Code, Outcome, Revision},
    fail::point,
    pb::{self, PowerState},
    plan::OwnFact,
};
use uuid::Uuid;

/// The longest pause between two looks at what an earlier life began.
const LOOK: Duration = Duration::from_secs(1);

impl Engine {
    /// Removes a folder: its VMs first, each by its own command.
    pub(super) async fn destroy_folder(&self, errand: &Errand<'_>, grant: &Grant) -> Outcome {
        let folder = errand.command.object;
        let condemned = {
            let Ok(_turn) = timeout(self.left(errand.command.deadline_ms), self.tree_turn.lock()).await
            else {
                let outcome = refused(Code::TimedOut, "the tree was busy until the deadline");
                return self.decline(errand, outcome).await;
            };
            self.condemn(folder, errand.command.schema.class, grant)
        };
        let vms = match condemned {
            Ok(vms) => vms,
            Err(cause) => return self.decline(errand, Outcome::Refused(cause)).await,
        };
        let outcome = self.empty_and_remove(errand, folder, vms).await;
        self.pardon(folder);
        outcome
    }

    async fn empty_and_remove(&self, errand: &Errand<'_>, folder: ObjectId, vms: Vec<ObjectId>) -> Outcome {
        if vms.is_empty() {
            return self.remove_empty(errand, folder).await;
        }
        let mut also = Batch::new();
        audit::stage(&mut also, &self.audit_of(errand.asked, errand.command, "allowed"));
        let steps = vms.iter().map(|vm| self.listed(*vm).step()).collect();
        let entry = Entry { steps, ..Entry::new(errand.intent(self.now_ms())) };
        match self.begin(entry, also, errand.landing).await {
            Ok(None) => {}
            Ok(Some(known)) => return known,
            Err(cause) => return Outcome::Refused(cause),
        }
        point("engine.intent-durable");
        for vm in vms {
            let id = of_vm(errand.command.id, vm);
            let outcome = self.destroy_vm(errand, vm, id, errand.command.deadline_ms, false).await;
            if !matches!(outcome, Outcome::Done { .. }) {
                return self.stays(errand, vm, &outcome).await;
            }
        }
        self.remove_emptied(errand, Instant::now()).await
    }

    /// Goes on with a folder that was being emptied when the engine stopped. Who asked had the permission for all of it.
    pub(crate) async fn destroy_on(
        &self,
        entry: &Entry,
        command: &Command,
        envelope: pb::Envelope,
        landing: &Landing,
    ) -> Outcome {
        let folder = command.object;
        let digest = entry.intent.digest;
        let asked = Asked { from: Arc::from(""), command: command.clone(), envelope, digest, grant: None };
        let errand = Errand { asked: &asked, command, landing };
        let until = Instant::now() + self.deps.limits.resume;
        let mut outcome = None;
        for listed in entry.steps.iter().filter_map(Listed::of) {
            let ended = self.destroyed_at_last(&errand, &listed, until).await;
            if !matches!(ended, Outcome::Done { .. }) {
                outcome = Some(self.stays(&errand, listed.vm, &ended).await);
                break;
            }
        }
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => self.remove_emptied(&errand, until).await,
        };
        self.pardon(folder);
        outcome
    }

    /// What becomes of a VM of a folder whose emptying was interrupted.
    async fn destroyed_at_last(&self, errand: &Errand<'_>, listed: &Listed, until: Instant) -> Outcome {
        let vm = listed.vm;
        let first = of_vm(errand.command.id, vm);
        let mut pause = self.deps.limits.pause.0;
        if let Some(done @ Outcome::Done { .. }) = self.ended(first).await {
            return done;
        }
        let mut arrivals = self.arrivals.subscribe();
        for attempt in 0_u32.. {
            let there = self.tree.record(vm).is_some();
            if there && !self.tree.is_below(vm, errand.command.object) {
                break;
            }
            let holder = self.deps.facts.holder(vm).filter(|_| there);
            let (agent, target) = holder
                .map_or((Arc::clone(&listed.agent), Arc::clone(&listed.target)), |h| (h.agent, h.target));
            let spoken = self.deps.facts.in_step(&agent, &target);
            if !there && spoken {
                break;
            }
            let name = format!("{} {attempt}", self.deps.epoch.0);
            let id = CommandId(Uuid::new_v5(&first.0, name.as_bytes()));
            let left = until.saturating_duration_since(Instant::now());
            let deadline_ms =
                self.now_ms().saturating_add(i64::try_from(left.as_millis()).unwrap_or(i64::MAX));
            let outcome = match there && spoken {
                true => self.destroy_vm(errand, vm, id, deadline_ms, true).await,
                // Neither that it is among the facts of before nor that it is not says anything yet.
                false => refused(Code::Unreachable, format!("{agent} has not been heard since the start")),
            };
            let later = matches!(&outcome, Outcome::Refused(cause) if matches!(cause.code, Code::Unreachable | Code::Busy));
            if !later || Instant::now() >= until {
                return outcome;
            }
            tokio::select! {
                biased;
                () = sleep(pause) => {}
                _ = arrivals.changed() => {}
            }
            pause = (pause * 2).min(LOOK);
        }
        Outcome::Done { revision: Revision::default(), result: None, already: true }
    }

    fn listed(&self, vm: ObjectId) -> Listed {
        let (agent, target) = self.deps.facts.holder(vm).map(|h| (h.agent, h.target)).unwrap_or_default();
        Listed { vm, agent, target }
    }

    /// How a command of an earlier life ended or ends; `None`: there was none.
    async fn ended(&self, id: CommandId) -> Option<Outcome> {
        let mut pause = self.deps.limits.pause.0;
        loop {
            match self.journal.get(id).await {
                Ok(None) => return None,
                Ok(Some(entry)) => {
                    if let Some(settled) = entry.settled.as_ref().filter(|_| !entry.is_open()) {
                        return Some(record::outcome(settled, self.schema()));
                    }
                }
                Err(error) => {
                    tracing::warn!(command = %id, %error, "a command cannot be looked up; trying again")
                }
            }
            // Recovery has it, or is about to.
            match self.flights.get(id) {
                Some(mut flight) => drop(flight.outcome.wait_for(Option::is_some).await),
                None => sleep(pause).await,
            }
            pause = (pause * 2).min(LOOK);
        }
    }

    /// Ends a command whose folder stays because one of its VMs does.
    async fn stays(&self, errand: &Errand<'_>, vm: ObjectId, outcome: &Outcome) -> Outcome {
        let folder = errand.command.object;
        let (_, left) = self.contents(folder);
        let message = format!(
            "{vm} could not be destroyed, so {folder} stays, with {} VMs in it: {}",
            left.len(),
            verdict(outcome)
        );
        let outcome = Outcome::Failed(no(Code::TargetFailed, message));
        self.conclude(errand.command, outcome, None, errand.landing).await
    }

    /// Removes a folder whose VMs are gone; until then it waits for those who can tell that they are.
    async fn remove_emptied(&self, errand: &Errand<'_>, until: Instant) -> Outcome {
        let folder = errand.command.object;
        let mut pause = self.deps.limits.pause.0;
        while self.unseen(&self.contents(folder).0).is_err() && Instant::now() < until {
            sleep(pause).await;
            pause = (pause * 2).min(LOOK);
        }
        let _turn = self.tree_turn.lock().await;
        match self.removal(folder) {
            Ok(own) => {
                let done = Outcome::Done { revision: Revision::default(), result: None, already: false };
                let plan = union::Plan { own, ..union::Plan::default() };
                self.conclude(errand.command, done, Some(&plan), errand.landing).await
            }
            Err(cause) => self.conclude(errand.command, Outcome::Failed(cause), None, errand.landing).await,
        }
    }

    async fn remove_empty(&self, errand: &Errand<'_>, folder: ObjectId) -> Outcome {
        let _turn = self.tree_turn.lock().await;
        match self.removal(folder) {
            Ok(facts) => self.keep(errand, Change { facts, result: None }).await,
            Err(cause) => self.decline(errand, Outcome::Refused(cause)).await,
        }
    }

    /// Marks a folder as one that goes away; the VMs in it.
    fn condemn(&self, folder: ObjectId, class: Class, grant: &Grant) -> Result<Vec<ObjectId>, Cause> {
        self.changeable(folder)?;
        let (folders, vms) = self.contents(folder);
        let now = self.now_ms();
        for below in &folders {
            grant.allows("DestroyFolder", class, *below, &self.tree, now)?;
        }
        for vm in &vms {
            grant.allows("DestroyVm", Class::OnceProbed, *vm, &self.tree, now)?;
        }
        let most = self.deps.limits.at_once;
        if vms.len() > most {
            return Err(no(
                Code::InvalidArgument,
                format!("{} VMs lie in {folder}; at most {most} are destroyed at once", vms.len()),
            ));
        }
        self.unseen(&folders)?;
        if let Some(fixed) = folders.iter().find(|id| !self.own.is_whole(**id)) {
            return Err(no(Code::NotSupported, format!("{fixed} in {folder} is a fixed part of the tree")));
        }
        let stopped = i64::from(PowerState::Stopped as i32);
        if let Some(on) = vms.iter().find(|vm| self.tree.get(**vm, "power_state").as_int() != Some(stopped)) {
            return Err(no(
                Code::InvalidState,
                format!("{on} in {folder} is not powered off; nothing was removed"),
            ));
        }
        self.doom(folder);
        Ok(vms)
    }

    /// Nothing is put into a folder from now on.
    pub(crate) fn doom(&self, folder: ObjectId) {
        self.doomed.lock().push(folder);
    }

    /// It is gone, or stays.
    fn pardon(&self, folder: ObjectId) {
        let mut doomed = self.doomed.lock();
        if let Some(at) = doomed.iter().position(|id| *id == folder) {
            doomed.swap_remove(at);
        }
    }

    /// Folders, itself among them, and VMs below a folder.
    fn contents(&self, folder: ObjectId) -> (Vec<ObjectId>, Vec<ObjectId>) {
        let (mut folders, mut vms) = (vec![folder], Vec::new());
        let mut at = 0;
        while let Some(next) = folders.get(at).copied() {
            at += 1;
            for child in self.tree.children(next) {
                match child.kind {
                    Kind::Folder if !folders.contains(&child) => folders.push(child),
                    Kind::Vm => vms.push(child),
                    _ => {}
                }
            }
        }
        (folders, vms)
    }

    /// The facts that take a folder and those in it away.
    fn removal(&self, folder: ObjectId) -> Result<Vec<OwnFact>, Cause> {
        let (folders, vms) = self.contents(folder);
        if let Some(vm) = vms.first() {
            return Err(no(Code::InvalidState, format!("{vm} still lies in {folder}; it stays")));
        }
        let gone = self.unseen(&folders)?;
        Ok(folders.iter().chain(&gone).flat_map(|id| self.own.clearing(*id)).collect())
    }

    /// The VMs that lie in one of these folders by what the broker keeps of them, and are gone.
    ///
    /// # Errors
    /// One of them may be there: a target has not said yet what it has.
    fn unseen(&self, folders: &[ObjectId]) -> Result<Vec<ObjectId>, Cause> {
        let mut kept = self.own.naming(Kind::Vm, "folder_id", folders);
        kept.retain(|vm| self.tree.record(*vm).is_none());
        let Some(vm) = kept.first() else { return Ok(kept) };
        match self.silent() {
            None => Ok(kept),
            Some(Lease { owner, target, .. }) => Err(no(
                Code::Unreachable,
                format!("{vm} may lie there, which only `{target}` of {owner} can tell; nothing was removed"),
            )),
        }
    }

    /// Destroys a VM of a folder. `owed`: the permission was given to the folder's command in an earlier life.
    async fn destroy_vm(
        &self,
        errand: &Errand<'_>,
        vm: ObjectId,
        id: CommandId,
        deadline_ms: i64,
        owed: bool,
    ) -> Outcome {
        let parent = errand.command;
        let Some((message, schema)) =
            self.schema().message("DestroyVm").and_then(|m| Some((m, m.command.clone()?)))
        else {
            return refused(Code::NotSupported, "VMs cannot be destroyed");
        };
        let mut body = message.record();
        if let Some(field) = message.field("vm_id") {
            body.set(field.slot, vm);
        }
        let verb = Arc::from("DestroyVm");
        let body = Arc::new(body);
        let command = Command { id, verb, schema, object: vm, body, deadline_ms, ..parent.clone() };
        let envelope: pb::Envelope = command.to_pb(self.schema(), &errand.asked.envelope.bundle);
        let digest = record::digest(&envelope);
        let asked = Asked {
            command,
            envelope,
            digest,
            from: Arc::clone(&errand.asked.from),
            grant: errand.asked.grant.clone(),
        };
        match self.depart(asked, owed) {
            Ok(mut flight) => {
                let ended = flight.outcome.wait_for(Option::is_some).await.map(|o| o.clone());
                ended.ok().flatten().unwrap_or_else(|| refused(Code::Unreachable, "the engine stopped"))
            }
            Err(cause) => Outcome::Refused(cause),
        }
    }
}

/// A VM of a folder that goes away, as the journal lists it.
struct Listed {
    vm: ObjectId,
    agent: Arc<str>,
    target: Arc<str>,
}

impl Listed {
    fn step(&self) -> Step {
        Step::planned(format!("{}\n{}\n{}", self.vm, self.agent, self.target).into_bytes(), Vec::new())
    }

    fn of(step: &Step) -> Option<Listed> {
        let mut words = std::str::from_utf8(&step.call.0).ok()?.split('\n');
        let vm = words.next()?.parse().ok()?;
        Some(Listed { vm, agent: words.next()?.into(), target: words.next()?.into() })
    }
}

/// The command that destroys a VM of a folder, for the folder's command.
fn of_vm(parent: CommandId, vm: ObjectId) -> CommandId {
    CommandId(Uuid::new_v5(&parent.0, vm.uuid.as_bytes()))
}

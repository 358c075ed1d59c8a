//! Records: tasks, journals, the audit.

use super::effects::is_of;
use crate::{
    client::{Asked, End},
    world::{AGENTS, World, bundle},
};
use std::{collections::BTreeMap, sync::Arc};
use store::{
    Store,
    audit::{Audit, Filter},
    journal::{End as Ended, Journal},
};
use union::{
    CommandId, Kind,
    command::{Class, Outcome},
    pb::TaskState,
};
use uuid::Version;

/// Every task has ended; what a client was told of is there, and ended as its command did.
pub(super) fn tasks(world: &World, all: &[&Asked], what: &mut Vec<String>) {
    let (done, failed) = (i64::from(TaskState::Succeeded as i32), i64::from(TaskState::Failed as i32));
    let slot = bundle().schema.slot(Kind::Task, "state");
    for name in AGENTS {
        let Some(up) = world.net.agent(name) else { continue };
        let state = |id| up.facts.record(id).zip(slot).and_then(|(record, slot)| record.get(slot).as_int());
        for id in up.facts.ids(Kind::Task) {
            if ![Some(done), Some(failed)].contains(&state(id)) {
                what.push(format!("{id} of {name} has not ended"));
            }
        }
        for asked in all {
            let Some((_, id)) = asked.task.as_ref().filter(|(agent, _)| agent == name) else { continue };
            let right = match state(*id) {
                Some(state) if state == done => asked.end.is_done(),
                // Who had to look for the end knows more than the task, which may have failed as unknown.
                Some(_) => !asked.end.is_done() || asked.found,
                None => false,
            };
            if !right {
                what.push(format!(
                    "{id} of {name} is {:?}, and {} ended {:?}",
                    state(*id),
                    asked.command.verb,
                    asked.end
                ));
            }
        }
    }
}

/// Nothing is open, what is recorded is what was told, and each effect has its one record in a chain that verifies.
pub(super) async fn journals(world: &World, all: &[&Asked], what: &mut Vec<String>) {
    for name in ["engine", "a", "b"] {
        let Some(store) = world.store(name) else { continue };
        let journal = Journal::new(Arc::clone(&store));
        match journal.open(None, 1_024).await {
            Ok(open) => {
                for entry in open {
                    let unknown = entry.settled.is_some_and(|settled| settled.end == Ended::Unknown);
                    if !unknown {
                        what.push(format!(
                            "{} {} is still open in the journal of {name}",
                            entry.intent.verb, entry.intent.id
                        ));
                    }
                }
            }
            Err(error) => what.push(format!("the journal of {name} cannot be read: {error}")),
        }
    }
    let Some(store) = world.store("engine") else { return };
    chain(world, store, all, what).await;
}

/// The audit holds what clients did: one record of each command that had an effect, or was done; none that was allowed of what was not
/// asked for, or refused by who may not.
async fn chain(world: &World, store: Arc<dyn Store>, all: &[&Asked], what: &mut Vec<String>) {
    let audit = Audit::new(store);
    match audit.verify().await {
        Ok(Ok(_)) => {}
        other => what.push(format!("the audit chain does not verify: {other:?}")),
    }
    let mut allowed: BTreeMap<CommandId, usize> = BTreeMap::new();
    let mut before = None;
    loop {
        let page = audit.search(&Filter::default(), before, 512).await.unwrap_or_default();
        let Some((last, _)) = page.last() else { break };
        before = Some(*last);
        for (_, record) in &page {
            if let Some(id) = record.command.filter(|_| &*record.verdict == "allowed") {
                *allowed.entry(id).or_default() += 1;
            }
        }
    }
    let log: Vec<_> = world.metals.iter().flat_map(|metal| metal.log()).collect();
    for asked in all.iter().filter(|asked| asked.command.schema.class != Class::Read) {
        let count = allowed.remove(&asked.command.id).unwrap_or(0);
        let done = matches!(asked.end, End::Known(Outcome::Done { already: false, .. }));
        // A VM may have been destroyed by the command before.
        let is_only = &*asked.command.verb != "DestroyVm";
        let happened = is_only && log.iter().any(|effect| is_of(effect, asked));
        let least = usize::from(done || happened);
        let most = usize::from(asked.end != End::Never || happened);
        if count < least || count > most {
            what.push(format!(
                "{} {} ended {:?} with {count} audit records",
                asked.command.verb, asked.command.id, asked.end
            ));
        }
    }
    for (id, count) in allowed {
        // What the engine asks for itself, as it empties a folder, has an id that follows from the command's.
        let derived = id.0.get_version() == Some(Version::Sha1);
        if !derived || count > 1 {
            what.push(format!("the audit has {count} of {id}, which no client asked for"));
        }
    }
}

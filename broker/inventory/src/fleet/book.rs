//! What each agent has named, who waits for what another holds, and what is shown as not responding.

use super::{Holder, Inner, Seed};
use crate::{
    feed::{Fact, Said},
    store::{Credit, Put},
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::BTreeMap, sync::Arc};
use union::{Kind, ObjectId, Record, Slot, Value, command::Revision, pb::Connection};

/// What is kept of one agent.
#[derive(Debug, Default)]
struct Agent {
    /// Its objects, held or not.
    objects: FxHashSet<ObjectId>,
    /// Those of them that it has not named since the last snapshot began: they wait for their target's word.
    unnamed: FxHashSet<ObjectId>,
    /// It has spoken in this life of the fleet.
    heard: bool,
    /// A snapshot is coming in.
    syncing: bool,
    /// The targets that have given all their facts in this life of the agent.
    in_step: FxHashSet<Arc<str>>,
    /// A snapshot or a target's word was complete: what is unnamed is to be judged anew.
    judge: bool,
    /// How far it was heard, once its batch is whole.
    at: Revision,
    lost: bool,
    /// What `connection` was before the object was shown as not responding.
    masked: FxHashMap<ObjectId, Value>,
    /// One allocation a target.
    holders: FxHashMap<Arc<str>, Arc<Holder>>,
}

/// An agent's copy of an object that another holds.
#[derive(Debug)]
struct Rival {
    agent: Arc<str>,
    fact: Fact,
}

/// The fleet's memory beside its inventory.
#[derive(Debug, Default)]
pub(super) struct Book {
    agents: BTreeMap<Arc<str>, Agent>,
    /// Those who wait for an object, first come first.
    rivals: FxHashMap<ObjectId, Vec<Rival>>,
}

/// What a batch comes to.
#[derive(Debug, Default)]
struct Draft {
    puts: Vec<Put>,
    /// On whose account they change, where it is by a command.
    credits: Vec<(ObjectId, Credit)>,
    /// Of these the word on whether they are contested may have changed.
    judged: Vec<ObjectId>,
}

impl Book {
    fn agent(&mut self, name: &Arc<str>) -> &mut Agent {
        self.agents.entry(Arc::clone(name)).or_default()
    }

    pub(super) fn is_lost(&self, agent: &str) -> bool {
        self.agents.get(agent).is_none_or(|agent| agent.lost || !agent.heard)
    }

    pub(super) fn is_in_step(&self, agent: &str, target: &str) -> bool {
        let heard = self.agents.get(agent).filter(|agent| agent.heard && !agent.lost && !agent.syncing);
        heard.is_some_and(|agent| agent.in_step.contains(target))
    }

    pub(super) fn reset(&mut self, name: &Arc<str>) {
        let agent = self.agent(name);
        agent.heard = true;
        agent.syncing = true;
        agent.in_step.clear();
        agent.unnamed.clone_from(&agent.objects);
    }

    /// What an agent says, in order.
    pub(super) fn take(&mut self, inner: &Inner, name: &Arc<str>, said: Vec<Said>) {
        let mut draft = Draft::default();
        for one in said {
            match one {
                Said::Fact(id, fact) => self.fact(inner, name, id, fact, &mut draft),
                Said::Gone(id) => self.gone(inner, name, id, &mut draft),
                Said::At(at) => self.agent(name).at = at,
                Said::InStep(target) => {
                    let agent = self.agent(name);
                    agent.judge |= agent.in_step.insert(target);
                }
            }
        }
        self.finish(inner, draft);
    }

    /// The batch, or the snapshot, is whole.
    pub(super) fn synced(&mut self, inner: &Inner, name: &Arc<str>) {
        let agent = self.agent(name);
        if std::mem::take(&mut agent.syncing) {
            agent.lost = false;
            agent.judge = true;
        }
        let at = agent.at;
        self.prune(inner, name);
        inner.hear(name, at);
    }

    /// What the targets in step have not named is gone. What the others have not named does not respond.
    fn prune(&mut self, inner: &Inner, name: &Arc<str>) {
        let agent = self.agent(name);
        if !std::mem::take(&mut agent.judge) || agent.unnamed.is_empty() {
            return;
        }
        let left: Vec<ObjectId> = agent.unnamed.iter().copied().collect();
        let mut draft = Draft::default();
        for id in left {
            let target = self.target_of(inner, name, id);
            let agent = self.agent(name);
            if target.is_empty() || agent.in_step.contains(&target) {
                self.gone(inner, name, id, &mut draft);
            } else {
                agent.mask(inner, name, id, &mut draft.puts);
            }
        }
        self.finish(inner, draft);
    }

    /// The target through which an agent has an object; empty: none.
    fn target_of(&self, inner: &Inner, name: &Arc<str>, id: ObjectId) -> Arc<str> {
        let held = inner.holders.read().of.get(&id).filter(|holder| holder.agent == *name).cloned();
        let waiting = || {
            let rival = self.rivals.get(&id)?.iter().find(|rival| rival.agent == *name)?;
            Some(Arc::clone(&rival.fact.target))
        };
        held.map(|holder| Arc::clone(&holder.target)).or_else(waiting).unwrap_or_else(|| Arc::from(""))
    }

    fn fact(&mut self, inner: &Inner, name: &Arc<str>, id: ObjectId, fact: Fact, draft: &mut Draft) {
        let agent = self.agent(name);
        agent.objects.insert(id);
        agent.unnamed.remove(&id);
        let holder = inner.holders.read().of.get(&id).cloned();
        if holder.is_some_and(|holder| holder.agent != *name) {
            let rivals = self.rivals.entry(id).or_default();
            match rivals.iter_mut().find(|rival| rival.agent == *name) {
                Some(rival) => rival.fact = fact,
                None => {
                    rivals.push(Rival { agent: Arc::clone(name), fact });
                    draft.judged.push(id);
                }
            }
            return;
        }
        agent.masked.remove(&id);
        draft.puts.push(fact.put(id));
        draft.credits.extend(fact.credit.clone().map(|credit| (id, credit)));
        self.hold(inner, name, id, &fact);
    }

    fn hold(&mut self, inner: &Inner, name: &Arc<str>, id: ObjectId, fact: &Fact) {
        let agent = self.agent(name);
        let holder = match agent.holders.get(&fact.target) {
            Some(known) if known.protocol == fact.protocol => Arc::clone(known),
            _ => {
                let (target, protocol) = (Arc::clone(&fact.target), Arc::clone(&fact.protocol));
                let holder = Arc::new(Holder { agent: Arc::clone(name), target, protocol });
                agent.holders.insert(Arc::clone(&fact.target), Arc::clone(&holder));
                holder
            }
        };
        let mut holders = inner.holders.write();
        if holders.of.get(&id).is_none_or(|known| !Arc::ptr_eq(known, &holder)) {
            holders.of.insert(id, holder);
        }
    }

    fn gone(&mut self, inner: &Inner, name: &Arc<str>, id: ObjectId, draft: &mut Draft) {
        let agent = self.agent(name);
        if !agent.objects.remove(&id) {
            return;
        }
        agent.unnamed.remove(&id);
        agent.masked.remove(&id);
        let mut next = None;
        let holds = inner.holders.read().of.get(&id).is_some_and(|holder| holder.agent == *name);
        if let Some(rivals) = self.rivals.get_mut(&id) {
            draft.judged.push(id);
            rivals.retain(|rival| rival.agent != *name);
            if holds && !rivals.is_empty() {
                next = Some(rivals.remove(0));
            }
            if rivals.is_empty() {
                self.rivals.remove(&id);
            }
        }
        if !holds {
            return;
        }
        let Some(Rival { agent, fact }) = next else {
            inner.holders.write().of.remove(&id);
            draft.puts.push(Put::Remove(id));
            return;
        };
        draft.puts.push(fact.put(id));
        self.hold(inner, &agent, id, &fact);
        if self.agents.get(&agent).is_some_and(|agent| agent.lost) {
            // A mask remembers what it covers, so the facts come first.
            self.finish(inner, std::mem::take(draft));
            self.agent(&agent).mask(inner, &agent, id, &mut draft.puts);
        }
    }

    /// Applies a batch and says of each object in question whether it is contested.
    fn finish(&mut self, inner: &Inner, draft: Draft) {
        let Draft { mut puts, credits, judged } = draft;
        for id in judged {
            let why = self.contest(inner, id);
            match &why {
                Some(why) => {
                    tracing::error!(object = %id, why, "an object is on several agents; nothing is done to it");
                }
                None => tracing::info!(object = %id, "an object is no longer contested"),
            }
            if let Some(slot) = inner.inventory.schema().slot(id.kind, "trouble") {
                puts.push(Put::Own(id, vec![(slot, why.map_or(Value::Absent, Value::from))]));
            }
        }
        let on_account: Vec<ObjectId> = credits.iter().map(|(id, _)| *id).collect();
        for (id, credit) in credits {
            inner.inventory.set_credit(id, Some(credit));
        }
        inner.apply(puts);
        for id in on_account {
            inner.inventory.set_credit(id, None);
        }
    }

    /// Why nothing can be done to an object, if several agents have it.
    pub(super) fn contest(&self, inner: &Inner, id: ObjectId) -> Option<String> {
        let rivals = self.rivals.get(&id)?;
        let holder = inner.holders.read().of.get(&id).map(|holder| Arc::clone(&holder.agent))?;
        let others: Vec<&str> = rivals.iter().map(|rival| &*rival.agent).collect();
        Some(format!(
            "{} {} is on {holder} and on {}: {holder}'s is shown, and nothing is done to either until only one is left",
            id.kind,
            id.uuid,
            others.join(", ")
        ))
    }

    pub(super) fn lost(&mut self, inner: &Inner, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.lost = true;
        let mut puts = Vec::new();
        let ids: Vec<ObjectId> = agent.objects.iter().copied().collect();
        for id in ids {
            agent.mask(inner, name, id, &mut puts);
        }
        inner.apply(puts);
    }

    pub(super) fn back(&mut self, inner: &Inner, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.lost = false;
        let mut puts = Vec::new();
        let unnamed = &agent.unnamed;
        agent.masked.retain(|id, before| {
            if unnamed.contains(id) {
                return true;
            }
            puts.extend(connection(inner, *id).map(|slot| Put::Slots(*id, vec![(slot, before.clone())])));
            false
        });
        inner.apply(puts);
    }

    pub(super) fn forget(&mut self, inner: &Inner, name: &str) {
        let name: Arc<str> = Arc::from(name);
        let ids: Vec<ObjectId> = self.agent(&name).objects.iter().copied().collect();
        let mut draft = Draft::default();
        for id in ids {
            self.gone(inner, &name, id, &mut draft);
        }
        self.finish(inner, draft);
        self.agents.remove(&name);
    }

    pub(super) fn seed(&mut self, inner: &Inner, seeds: Vec<Seed>) {
        let mut draft = Draft::default();
        let mut known = Vec::with_capacity(seeds.len());
        for Seed { id, record, created_ms, modified_ms, holder } in seeds {
            let Holder { agent: name, target, protocol } = holder;
            let agent = self.agent(&name);
            if agent.heard {
                // It has spoken already, and knows better.
                continue;
            }
            agent.lost = true;
            known.push((Arc::clone(&name), id));
            let fact = Fact { record, created_ms, modified_ms, target, protocol, credit: None };
            self.fact(inner, &name, id, fact, &mut draft);
        }
        self.finish(inner, draft);
        let mut puts = Vec::new();
        for (name, id) in known {
            self.agent(&name).mask(inner, &name, id, &mut puts);
        }
        inner.apply(puts);
    }
}

impl Agent {
    /// Shows a host or a VM as not responding, unless another agent holds it.
    fn mask(&mut self, inner: &Inner, name: &str, id: ObjectId, puts: &mut Vec<Put>) {
        let held = inner.holders.read().of.get(&id).is_some_and(|holder| *holder.agent == *name);
        if !held || self.masked.contains_key(&id) {
            return;
        }
        let shown = match id.kind {
            Kind::Host => Connection::NotResponding,
            Kind::Vm => Connection::Disconnected,
            _ => return,
        };
        let Some((slot, record)) = connection(inner, id).zip(inner.inventory.record(id)) else { return };
        self.masked.insert(id, Record::get(&record, slot).clone());
        puts.push(Put::Slots(id, vec![(slot, Value::from(shown as i32))]));
    }
}

/// Where an object says whether its target answers.
fn connection(inner: &Inner, id: ObjectId) -> Option<Slot> {
    inner.inventory.schema().slot(id.kind, "connection")
}

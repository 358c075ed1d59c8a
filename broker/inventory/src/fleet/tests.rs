use super::*;
use crate::{
    feed::Held,
    store::{Change, Entry, Observer, ObserverGuard},
    testing::{any_batches, id, inventory, record, slot},
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use union::{Kind, Schema, Value, clock::ManualClock, pb::Connection};

const SOON: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Log(Mutex<Vec<Vec<Change>>>);

impl Observer for Log {
    fn changed(&self, changes: &[Change]) {
        self.0.lock().push(changes.to_vec());
    }
}

/// An agent with one target, whose feed is carried by hand.
struct Far {
    name: &'static str,
    facts: Arc<Inventory>,
    log: Arc<Log>,
    _guard: ObserverGuard,
    source: Source,
    in_step: bool,
    /// Its target is in step again without having told anybody yet.
    life: u64,
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_700_000_000_000))
}

fn fleet() -> Fleet {
    Fleet::new(Inventory::new(Schema::base(), 500, clock()))
}

impl Far {
    fn new(fleet: &Fleet, name: &'static str, life: u64) -> Far {
        let facts = Inventory::new(Schema::base(), life * 1_000, clock());
        let log = Arc::new(Log::default());
        let guard = facts.observe(log.clone());
        let mut far =
            Far { name, facts, log, _guard: guard, source: fleet.agent(name), in_step: false, life };
        far.snapshot();
        far
    }

    /// The agent dies and begins anew, knowing nothing yet.
    fn restart(self, fleet: &Fleet) -> Far {
        Far::new(fleet, self.name, self.life + 1)
    }

    fn held(&self, id: ObjectId) -> Held<'static> {
        let own = matches!(id.kind, Kind::Task);
        if own { Held::default() } else { Held { target: "t", protocol: "sim" } }
    }

    fn tell(&mut self, change: &Change) {
        match feed::encode(self.facts.schema(), change, self.held(change.id)) {
            (key, Some(bytes)) => self.source.put(&key, &bytes).expect("our own bytes"),
            (key, None) => self.source.remove(&key).expect("our own key"),
        }
    }

    fn mark(&mut self, revision: Revision) {
        let mut marks = vec![feed::revision(revision)];
        if self.in_step {
            marks.push(feed::in_step("t"));
        }
        for (key, bytes) in marks {
            self.source.put(&key, &bytes).expect("our own bytes");
        }
    }

    fn snapshot(&mut self) {
        self.log.0.lock().clear();
        self.source.reset();
        for change in self.facts.everything() {
            self.tell(&change);
        }
        self.mark(self.facts.revision());
        self.source.synced();
    }

    /// Carries what has changed, or, if something is lost on the way, everything.
    fn carry(&mut self, lost: bool) {
        if lost {
            return self.snapshot();
        }
        let batches = std::mem::take(&mut *self.log.0.lock());
        for batch in batches {
            batch.iter().for_each(|change| self.tell(change));
            self.mark(self.facts.revision());
            self.source.synced();
        }
    }

    fn in_step(&mut self) {
        self.in_step = true;
        self.mark(self.facts.revision());
        self.source.synced();
    }

    fn put(&mut self, n: u128, fields: &[(&str, Value)]) -> Revision {
        let at = self.facts.apply(vec![Put::Whole(id(Kind::Vm, n), record(Kind::Vm, fields))]);
        self.carry(false);
        at
    }
}

fn value(fleet: &Fleet, id: ObjectId, field: &str) -> Option<Value> {
    let record = fleet.inventory().record(id)?;
    Some(record.get(slot(id.kind, field)).clone())
}

fn shown(fleet: &Fleet, n: u128, field: &str) -> Option<Value> {
    value(fleet, id(Kind::Vm, n), field)
}

#[tokio::test]
async fn what_an_agent_says_is_shown_and_its_revision_reached() {
    let fleet = fleet();
    let mut a = Far::new(&fleet, "a", 1);
    let at = a.put(1, &[("name", "web".into())]);
    assert_eq!(shown(&fleet, 1, "name"), Some("web".into()));
    let vm = id(Kind::Vm, 1);
    let holder = Holder { agent: "a".into(), target: "t".into(), protocol: "sim".into() };
    assert_eq!(fleet.holder(vm), Some(holder));
    let seen = fleet.reached(vm, at, SOON).await.expect("heard");
    assert!(seen <= fleet.inventory().revision() && seen.incarnation == 500);
    let later = Revision { n: at.n + 1, ..at };
    assert_eq!(fleet.reached(vm, later, Duration::ZERO).await, None);
    a.facts.apply(vec![Put::Remove(vm)]);
    a.carry(false);
    assert_eq!(fleet.holder(vm), None);
    assert!(fleet.reached_by("a", later, SOON).await.is_some(), "a removal counts too");
}

#[test]
fn nothing_vanishes_before_its_target_has_spoken() {
    let fleet = fleet();
    let mut a = Far::new(&fleet, "a", 1);
    a.in_step();
    let connected = ("connection", Value::from(Connection::Connected as i32));
    a.put(1, &[("name", "stays".into()), connected.clone()]);
    a.put(2, &[("name", "goes".into()), connected.clone()]);
    let mut a = a.restart(&fleet);
    let gone = Some(Value::from(Connection::Disconnected as i32));
    assert_eq!([1, 2].map(|n| shown(&fleet, n, "connection")), [gone.clone(), gone.clone()]);
    a.put(1, &[("name", "stays".into()), connected.clone()]);
    assert_eq!([1, 2].map(|n| shown(&fleet, n, "connection")), [Some(connected.1), gone]);
    a.in_step();
    assert_eq!([1, 2].map(|n| shown(&fleet, n, "name")), [Some("stays".into()), None]);
}

#[test]
fn a_lost_agent_keeps_its_facts_and_does_not_respond() {
    let fleet = fleet();
    let mut a = Far::new(&fleet, "a", 1);
    let connected = Value::from(Connection::Connected as i32);
    let host = id(Kind::Host, 1);
    a.facts.apply(vec![Put::Whole(host, record(Kind::Host, &[("connection", connected.clone())]))]);
    a.put(1, &[("connection", connected.clone()), ("power_state", 1.into())]);
    assert!(!fleet.is_lost("a"));
    fleet.lost("a");
    assert!(fleet.is_lost("a"));
    assert_eq!(value(&fleet, host, "connection"), Some(Value::from(Connection::NotResponding as i32)));
    assert_eq!(shown(&fleet, 1, "power_state"), Some(1.into()));
    a.put(1, &[("connection", connected.clone()), ("power_state", 2.into())]);
    assert_eq!(shown(&fleet, 1, "connection"), Some(connected.clone()), "it speaks");
    fleet.lost("a");
    fleet.back("a");
    assert_eq!(value(&fleet, host, "connection"), Some(connected.clone()));
    fleet.lost("a");
    a.snapshot();
    assert_eq!(shown(&fleet, 1, "connection"), Some(connected));
    assert!(!fleet.is_lost("a"));
    fleet.forget("a");
    assert_eq!((shown(&fleet, 1, "name"), fleet.agents().len()), (None, 0));
}

#[test]
fn one_machine_on_two_agents_is_nobodys_until_one_lets_go() {
    let fleet = fleet();
    let (mut a, mut b) = (Far::new(&fleet, "a", 1), Far::new(&fleet, "b", 1));
    a.put(1, &[("name", "of a".into())]);
    b.put(1, &[("name", "of b".into())]);
    let vm = id(Kind::Vm, 1);
    assert_eq!(shown(&fleet, 1, "name"), Some("of a".into()));
    let trouble = shown(&fleet, 1, "trouble").expect("shown");
    let text = trouble.as_str().expect("said");
    assert!(text.contains(" on a ") && text.contains(" on b:"), "{text}");
    assert_eq!(fleet.contested(vm).as_deref(), Some(text));
    a.put(1, &[("name", "still of a".into())]);
    assert_eq!(shown(&fleet, 1, "trouble"), Some(trouble), "whatever is put");
    a.facts.apply(vec![Put::Remove(vm)]);
    a.carry(false);
    assert_eq!(shown(&fleet, 1, "name"), Some("of b".into()));
    assert!(fleet.contested(vm).is_none() && shown(&fleet, 1, "trouble").expect("shown").is_absent());
    assert_eq!(fleet.holder(vm).map(|h| h.agent), Some("b".into()));
}

#[test]
fn what_the_broker_says_lies_over_what_agents_say() {
    let fleet = fleet();
    let mut a = Far::new(&fleet, "a", 1);
    let vm = id(Kind::Vm, 1);
    let template = slot(Kind::Vm, "template");
    fleet.inventory().set_own(vm, vec![(template, true.into())]);
    a.put(1, &[("name", "web".into()), ("template", false.into())]);
    assert_eq!(shown(&fleet, 1, "template"), Some(true.into()));
    fleet.inventory().set_own(vm, vec![(template, Value::Absent)]);
    assert_eq!(shown(&fleet, 1, "template"), Some(false.into()));
}

#[test]
fn seeds_do_not_respond_until_their_agent_speaks() {
    let fleet = fleet();
    let seed = |n, name: &str| Seed {
        id: id(Kind::Vm, n),
        record: Arc::new(record(Kind::Vm, &[("name", name.into()), ("connection", 1.into())])),
        created_ms: 5,
        modified_ms: 6,
        holder: Holder { agent: "a".into(), target: "t".into(), protocol: "sim".into() },
    };
    fleet.seed(vec![seed(1, "one"), seed(2, "two")]);
    assert_eq!(shown(&fleet, 1, "connection"), Some(Value::from(Connection::Disconnected as i32)));
    assert!(fleet.is_lost("a") && fleet.agents() == [Arc::from("a")]);
    let mut a = Far::new(&fleet, "a", 3);
    a.put(1, &[("name", "one".into()), ("connection", 1.into())]);
    assert_eq!(shown(&fleet, 1, "connection"), Some(1.into()));
    assert_eq!(
        fleet.inventory().get(id(Kind::Vm, 1)).map(|e| e.created_ms),
        Some(5),
        "the first sight stays"
    );
    assert_eq!(shown(&fleet, 2, "name"), Some("two".into()));
    a.in_step();
    assert_eq!(shown(&fleet, 2, "name"), None);
}

#[tokio::test]
async fn an_agent_of_this_process_is_followed_at_once() {
    let fleet = fleet();
    let facts = inventory();
    facts.apply(vec![Put::Whole(id(Kind::Vm, 1), record(Kind::Vm, &[("name", "before".into())]))]);
    let finder: Finder = Arc::new(|_| Some(("t".into(), "sim".into())));
    let seed = Seed {
        id: id(Kind::Vm, 9),
        record: Arc::new(record(Kind::Vm, &[])),
        created_ms: 1,
        modified_ms: 1,
        holder: Holder { agent: "me".into(), target: "t".into(), protocol: "sim".into() },
    };
    fleet.seed(vec![seed]);
    let local = fleet.follow("me", &facts, finder);
    assert_eq!(shown(&fleet, 1, "name"), Some("before".into()));
    let vm = id(Kind::Vm, 2);
    let at = facts.apply(vec![Put::Whole(vm, record(Kind::Vm, &[("name", "after".into())]))]);
    assert_eq!(shown(&fleet, 2, "name"), Some("after".into()));
    assert!(fleet.reached(vm, at, Duration::ZERO).await.is_some(), "no sooner told than there");
    assert_eq!(fleet.holder(vm).map(|h| h.target), Some("t".into()));
    assert!(fleet.inventory().get(id(Kind::Vm, 9)).is_some());
    local.in_step("t");
    assert!(fleet.inventory().get(id(Kind::Vm, 9)).is_none());
    facts.apply(vec![Put::Remove(vm)]);
    assert_eq!(shown(&fleet, 2, "name"), None);
}

/// What happens to one of three agents.
#[derive(Clone, Debug)]
enum Step {
    Change(Vec<Put>),
    Carry { lost: bool },
    Spoken,
    Restart,
    Lost,
}

#[test]
fn an_agent_of_this_process_the_fleet_and_its_views_have_one_record_of_what_they_show_alike() {
    let facts = inventory();
    let fleet = fleet();
    let _local = fleet.follow("me", &facts, Arc::new(|_| None));
    let view = crate::View::new("fleet", fleet.inventory(), crate::Layout::Fleet(crate::Skeleton::default()));
    let (task, vm) = (id(Kind::Task, 1), id(Kind::Vm, 2));
    let put = |id, name| vec![Put::Whole(id, record(id.kind, &[("method", name)]))];
    facts.apply(put(task, "m".into()));
    facts.apply(vec![Put::Slots(task, vec![(slot(Kind::Task, "progress"), 7i64.into())])]);
    facts.apply(vec![Put::Whole(vm, record(Kind::Vm, &[("name", "a".into())]))]);
    let same = |a: &Inventory, b: &Inventory, id| Arc::ptr_eq(&a.record(id).unwrap(), &b.record(id).unwrap());
    assert!(same(&facts, fleet.inventory(), task) && same(fleet.inventory(), view.inventory(), task));
    assert!(same(&facts, fleet.inventory(), vm));
    // What the broker lays over it is not in the agent's.
    fleet.inventory().set_own(vm, vec![(slot(Kind::Vm, "description"), "mine".into())]);
    facts.apply(vec![Put::Slots(vm, vec![(slot(Kind::Vm, "description"), "theirs".into())])]);
    assert_eq!(facts.record(vm).unwrap().get(slot(Kind::Vm, "description")).as_str(), Some("theirs"));
    assert_eq!(value(&fleet, vm, "description"), Some("mine".into()));
}

fn any_step() -> impl Strategy<Value = (usize, Step)> {
    let batch = any_batches().prop_map(|mut batches| batches.swap_remove(0));
    let step = prop_oneof![
        6 => batch.prop_map(Step::Change),
        4 => any::<bool>().prop_map(|lost| Step::Carry { lost }),
        2 => Just(Step::Spoken),
        1 => Just(Step::Restart),
        1 => Just(Step::Lost),
    ];
    (0..3usize, step)
}

/// The facts without what only a fleet says.
fn plain(entry: &Entry, id: ObjectId) -> Vec<Value> {
    let hidden = Schema::base().slot(id.kind, "trouble");
    let slots = entry.record.slots().iter().enumerate();
    let mut values: Vec<Value> = slots
        .map(|(at, value)| match Some(at) == hidden.map(|slot| usize::from(slot.0)) || value.is_absent() {
            true => Value::Absent,
            false => value.clone(),
        })
        .collect();
    while values.last().is_some_and(Value::is_absent) {
        values.pop();
    }
    values
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_fleet_is_what_its_agents_have(steps in proptest::collection::vec(any_step(), 1..60)) {
        let fleet = fleet();
        let names = ["a", "b", "c"];
        let mut agents: Vec<Option<Far>> = names.iter().map(|n| Some(Far::new(&fleet, n, 1))).collect();
        let mut last = fleet.inventory().revision();
        let mut revisions: BTreeMap<ObjectId, Revision> = BTreeMap::new();
        for (at, step) in steps {
            let before: Vec<ObjectId> = fleet.inventory().everything().iter().map(|c| c.id).collect();
            let restarted = matches!(step, Step::Restart | Step::Lost);
            let agent = agents[at].as_mut().expect("there");
            match step {
                Step::Change(puts) => drop(agent.facts.apply(puts)),
                Step::Carry { lost } => agent.carry(lost),
                Step::Spoken => { agent.carry(false); agent.in_step(); }
                Step::Restart => {
                    let agent = agents[at].take().expect("there");
                    agents[at] = Some(agent.restart(&fleet));
                }
                Step::Lost => fleet.lost(names[at]),
            }
            let now = fleet.inventory().everything();
            if restarted {
                for id in before.iter().filter(|id| id.kind != Kind::Task) {
                    prop_assert!(now.iter().any(|change| change.id == *id), "{} vanished", id);
                }
            }
            for change in now {
                let entry = change.entry.expect("it stands");
                let known = revisions.insert(change.id, entry.revision());
                prop_assert!(known.is_none_or(|known| known <= entry.revision()));
            }
            prop_assert!(fleet.inventory().revision() >= last);
            last = fleet.inventory().revision();
        }
        for agent in agents.iter_mut().flatten() {
            agent.carry(true);
            agent.in_step();
        }
        let having = |id: ObjectId| -> Vec<(&str, Entry)> {
            agents.iter().flatten().filter_map(|agent| Some((agent.name, agent.facts.get(id)?))).collect()
        };
        for change in fleet.inventory().everything() {
            let having = having(change.id);
            let holder = fleet.holder(change.id).map(|holder| holder.agent);
            let held = having.iter().find(|(name, _)| Some(*name) == holder.as_deref());
            let (_, entry) = held.ok_or_else(|| TestCaseError::fail(format!("{} is nobody's", change.id)))?;
            prop_assert_eq!(plain(entry, change.id), plain(&change.entry.expect("it stands"), change.id));
            prop_assert_eq!(fleet.contested(change.id).is_some(), having.len() > 1);
        }
        for agent in agents.iter().flatten() {
            for change in agent.facts.everything() {
                prop_assert!(fleet.inventory().get(change.id).is_some());
            }
            prop_assert!(!fleet.is_lost(agent.name));
        }
    }

    #[test]
    fn hostile_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), key in ".{0,40}") {
        let fleet = fleet();
        let mut source = fleet.agent("a");
        source.reset();
        drop(source.put(&key, &bytes));
        drop(source.put(&id(Kind::Vm, 1).to_string(), &bytes));
        drop(source.remove(&String::from_utf8_lossy(&bytes)));
        source.synced();
        let mut owned = crate::owned::Follower::new(inventory());
        drop(owned.put(&id(Kind::Vm, 1).to_string(), &bytes));
        drop(owned.remove(&key));
        owned.synced();
    }
}

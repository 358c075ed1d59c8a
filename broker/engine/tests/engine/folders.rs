//! Folders: names, kinds, fixed parts, and what is in them.

use crate::bed::{BUNDLE, Bed, Say, code, folder, is_done, refused, vm, vm_folder};
use async_trait::async_trait;
use bytes::Bytes;
use engine::{Admitted, Authority, Limits};
use guard::{Grant, Tree};
use inventory::{Inventory, Put, fleet::Local, plan::Draft};
use prost::Message;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use store::MemoryStore;
use union::{
    Clock, Command, Kind, ObjectId, Value,
    command::{Cause, Code, Outcome},
    pb::{self, PowerState},
};

impl Bed {
    async fn make(&self, n: u128, parent: ObjectId, name: &str) -> Outcome {
        let fields =
            [("parent_id", Value::Ref(parent)), ("name", name.into()), ("folder_id", Value::Ref(folder(n)))];
        self.does("CreateFolder", parent, &fields).await
    }

    async fn rename(&self, id: ObjectId, name: &str) -> Outcome {
        self.does("RenameFolder", id, &[("folder_id", Value::Ref(id)), ("name", name.into())]).await
    }

    async fn put(&self, into: ObjectId, ids: &[ObjectId]) -> Outcome {
        let moved = Value::list(ids.iter().copied().map(Value::Ref));
        self.does("MoveIntoFolder", into, &[("folder_id", Value::Ref(into)), ("object_ids", moved)]).await
    }

    async fn remove(&self, id: ObjectId) -> Outcome {
        self.does("DestroyFolder", id, &[("folder_id", Value::Ref(id))]).await
    }

    fn says(&self, id: ObjectId, field: &str) -> Value {
        let slot = BUNDLE.schema.slot(id.kind, field).unwrap();
        self.fleet.inventory().record(id).map_or(Value::Absent, |record| record.get(slot).clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_one_objects_in_its_folder() {
    let bed = Bed::new().await;
    assert_eq!(
        bed.make(1, vm_folder(), "x").await,
        Outcome::Done { revision: bed.fleet.inventory().revision(), result: Some(folder(1)), already: false }
    );
    assert_eq!(bed.says(folder(1), "name"), Value::from("x"));
    assert_eq!(code(&bed.make(2, vm_folder(), "x").await), Code::Duplicate);
    assert_eq!(code(&bed.make(2, vm_folder(), "vm1").await), Code::Duplicate, "a VM has it");
    assert_eq!(code(&bed.make(1, vm_folder(), "y").await), Code::Duplicate, "the id is taken");
    assert!(is_done(&bed.make(2, folder(1), "x").await), "another folder");
    assert!(is_done(&bed.make(3, vm_folder(), "z").await));
    assert_eq!(code(&bed.rename(folder(3), "x").await), Code::Duplicate);
    assert!(matches!(bed.rename(folder(3), "z").await, Outcome::Done { already: true, .. }));
    for name in ["", "  ", &"n".repeat(81)] {
        assert_eq!(code(&bed.rename(folder(3), name).await), Code::InvalidArgument);
    }
    assert_eq!(code(&bed.put(vm_folder(), &[folder(2)]).await), Code::Duplicate);
    assert!(bed.agents.performed().is_empty(), "no owner has a part in it");
}

#[tokio::test(start_paused = true)]
async fn fixed_parts_of_the_tree_stay() {
    let bed = Bed::new().await;
    for fixed in [vm_folder(), ObjectId::derived(Kind::Folder, &["view fleet", "root"])] {
        assert_eq!(code(&bed.rename(fixed, "other").await), Code::NotSupported);
        assert_eq!(code(&bed.remove(fixed).await), Code::NotSupported);
    }
    assert!(is_done(&bed.make(1, vm_folder(), "x").await));
    assert_eq!(code(&bed.put(folder(1), &[vm_folder()]).await), Code::NotSupported);
    assert_eq!(code(&bed.rename(folder(9), "x").await), Code::NotFound);
    assert_eq!(code(&bed.make(2, folder(9), "x").await), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_is_moved_fits_and_goes_neither_into_itself_nor_below() {
    let bed = Bed::new().await;
    for (n, parent, name) in [(1, vm_folder(), "a"), (2, folder(1), "b"), (3, folder(2), "c")] {
        assert!(is_done(&bed.make(n, parent, name).await));
    }
    let hosts = inventory::plan::Datacenter::ids("view fleet", "default").host;
    assert!(is_done(&bed.make(4, hosts, "hosts").await));
    for into in [folder(1), folder(2), folder(3)] {
        assert_eq!(code(&bed.put(into, &[folder(1)]).await), Code::InvalidArgument);
    }
    assert_eq!(code(&bed.put(folder(4), &[folder(3)]).await), Code::NotSupported, "another kind");
    assert_eq!(code(&bed.put(folder(4), &[vm(1)]).await), Code::NotSupported, "VMs lie in folders of VMs");
    assert!(is_done(&bed.put(vm_folder(), &[folder(3)]).await));
    assert!(is_done(&bed.put(folder(3), &[folder(1), vm(1), vm(2), vm(1)]).await));
    assert_eq!(bed.says(folder(1), "parent_id"), Value::Ref(folder(3)));
    assert_eq!(bed.says(vm(1), "folder_id"), Value::Ref(folder(3)));
    assert_eq!(code(&bed.put(vm_folder(), &[vm(1), vm(77)]).await), Code::NotFound);
    assert_eq!(bed.says(vm(1), "folder_id"), Value::Ref(folder(3)), "all or nothing");
    let bed = bed.restart().await;
    assert_eq!(bed.says(folder(1), "parent_id"), Value::Ref(folder(3)));
    assert_eq!(bed.says(vm(2), "folder_id"), Value::Ref(folder(3)));
}

#[tokio::test(start_paused = true)]
async fn a_folder_goes_with_its_vms_or_not_at_all() {
    let bed = Bed::new().await;
    assert!(is_done(&bed.make(1, vm_folder(), "a").await));
    assert!(is_done(&bed.make(2, folder(1), "b").await));
    assert!(is_done(&bed.put(folder(2), &[vm(1), vm(2)]).await));
    let power = BUNDLE.schema.slot(Kind::Vm, "power_state").unwrap();
    let set = |bed: &Bed, state: PowerState| {
        bed.facts.apply(vec![Put::Slots(vm(2), vec![(power, Value::Int(i64::from(state as i32)))])]);
    };
    set(&bed, PowerState::Running);
    assert_eq!(code(&bed.remove(folder(1)).await), Code::InvalidState);
    assert!(bed.agents.performed().is_empty());
    set(&bed, PowerState::Stopped);
    bed.agents.say("perform", Say::Outcome(refused(Code::TargetFailed)));
    assert_eq!(code(&bed.remove(folder(1)).await), Code::TargetFailed);
    assert_eq!(bed.says(folder(1), "name"), Value::from("a"), "it stays");
    // The owner does it, and says so in its facts.
    for gone in [vm(1), vm(2)] {
        bed.facts.apply(vec![Put::Remove(gone)]);
    }
    assert!(is_done(&bed.remove(folder(1)).await));
    assert!(bed.engine.own().all().iter().all(|fact| fact.object.kind != Kind::Folder));
    assert_eq!(bed.says(folder(2), "name"), Value::Absent);
}

#[tokio::test(start_paused = true)]
async fn vms_of_a_folder_are_destroyed_each_by_its_own_command() {
    let bed = Bed::new().await;
    assert!(is_done(&bed.make(1, vm_folder(), "a").await));
    assert!(is_done(&bed.put(folder(1), &[vm(1)]).await));
    let lost = Outcome::Failed(Cause::new(Code::TimedOut, "the target does not know"));
    let settled = pb::Settled { outcome: Some(lost.to_pb(&BUNDLE.schema)), ..pb::Settled::default() };
    bed.agents.say("perform", Say::Silent);
    bed.agents.say("settle", Say::Settled(settled));
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(
            code(&bed.make(2, folder(1), "late").await),
            Code::NotFound,
            "nothing is put into it any more"
        );
    };
    let (removed, ()) = tokio::join!(bed.remove(folder(1)), meanwhile);
    assert_eq!(code(&removed), Code::TargetFailed);
    assert_eq!(
        bed.says(folder(1), "name"),
        Value::from("a"),
        "the folder stays with what could not be destroyed"
    );
    assert_eq!(bed.agents.performed()[0].envelope.clone().unwrap().verb, "DestroyVm");
    bed.facts.apply(vec![Put::Remove(vm(1))]);
    assert!(is_done(&bed.remove(folder(1)).await), "now it is empty");
}

/// A folder with two VMs whose destruction is interrupted by a restart while the first of them is being destroyed.
async fn interrupted() -> Bed {
    let bed = Bed::new().await;
    assert!(is_done(&bed.make(1, vm_folder(), "a").await));
    assert!(is_done(&bed.make(2, folder(1), "b").await));
    assert!(is_done(&bed.put(folder(1), &[vm(1)]).await));
    assert!(is_done(&bed.put(folder(2), &[vm(2)]).await));
    bed.agents.destroys.store(true, Ordering::SeqCst);
    bed.agents.say("perform", Say::Never);
    let envelope = bed.command(77, "DestroyFolder", folder(1), &[("folder_id", Value::Ref(folder(1)))]);
    tokio::select! {
        biased;
        ended = bed.submit(&envelope) => panic!("{ended:?}"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    assert_eq!(bed.agents.performed().len(), 1);
    bed
}

async fn ended(bed: &Bed) -> Outcome {
    while bed.engine.under_way() > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let settled = bed.entry(77).await.unwrap().settled.unwrap();
    Outcome::from_pb(&BUNDLE.schema, &pb::Outcome::decode(settled.outcome.0.as_slice()).unwrap()).unwrap()
}

fn said(outcome: &Outcome) -> Say {
    Say::Settled(pb::Settled { outcome: Some(outcome.to_pb(&BUNDLE.schema)), ..pb::Settled::default() })
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_was_being_emptied_is_gone_after_a_restart() {
    let bed = interrupted().await;
    for _ in 0..20 {
        bed.agents.say("settle", Say::Away);
    }
    let bed = bed.restart().await;
    assert_eq!(code(&bed.make(3, folder(1), "late").await), Code::NotFound, "it is condemned still");
    assert_eq!(code(&bed.put(folder(2), &[vm(3)]).await), Code::NotFound);
    let first: ObjectId = bed.agents.performed()[0].envelope.clone().unwrap().object_id.parse().unwrap();
    bed.facts.apply(vec![Put::Remove(first)]);
    bed.agents.say("settle", said(&crate::bed::done(Default::default())));
    assert!(is_done(&ended(&bed).await));
    let performed = bed.agents.performed();
    assert_eq!(performed.len(), 2, "none is destroyed twice");
    assert_ne!(performed[1].envelope.clone().unwrap().object_id, first.to_string());
    assert!(bed.engine.own().all().iter().all(|fact| fact.object.kind != Kind::Folder));
    assert!(is_done(&bed.make(1, vm_folder(), "a").await), "the name and the id are free");
}

#[tokio::test(start_paused = true)]
async fn a_folder_waits_after_a_restart_for_the_owners_of_its_vms_and_not_for_ever() {
    let never = Outcome::Failed(Cause::new(Code::TimedOut, "it was not done"));
    for (away, end) in [(30, true), (100_000, false)] {
        let bed = interrupted().await;
        bed.agents.say("settle", said(&never));
        for _ in 0..away {
            bed.agents.say("perform", Say::Away);
        }
        let bed = bed.restart().await;
        let outcome = ended(&bed).await;
        assert_eq!(is_done(&outcome), end, "{outcome:?}");
        if !end {
            let Outcome::Failed(cause) = &outcome else { panic!("{outcome:?}") };
            assert!(cause.message.contains("stays, with 2 VMs in it"), "{cause}");
            assert!(is_done(&bed.make(3, folder(1), "again").await), "it is a folder like any other again");
        }
    }
}

/// Another agent with a target, which shows `vms`.
fn other(bed: &Bed, vms: &[ObjectId]) -> (Arc<Inventory>, Local) {
    let schema = Arc::clone(&BUNDLE.schema);
    let facts = Inventory::new(Arc::clone(&schema), 3, Arc::clone(&bed.clock) as Arc<dyn Clock>);
    let stopped = PowerState::Stopped as i32;
    let made = Draft::new(&schema, Kind::Vm).with("name", "far").with("power_state", stopped).done();
    facts.apply(vms.iter().map(|id| Put::Whole(*id, made.clone())).collect());
    let held = (Arc::<str>::from("far"), Arc::<str>::from("paper"));
    let local = bed.fleet.follow("b", &facts, Arc::new(move |_| Some(held.clone())));
    (facts, local)
}

/// An engine that starts anew: a VM lies in a folder, and the agent that has it has not been heard.
async fn unheard() -> Bed {
    let bed = Bed::new().await;
    bed.hello("b", 1, &["far"]).await.unwrap();
    let (_facts, local) = other(&bed, &[vm(9)]);
    local.in_step("far");
    assert!(is_done(&bed.make(1, vm_folder(), "a").await));
    assert!(is_done(&bed.put(folder(1), &[vm(9)]).await));
    let bed = bed.restart().await;
    let refused = bed.remove(folder(1)).await;
    assert_eq!(code(&refused), Code::Unreachable, "{refused:?}");
    assert_eq!(bed.says(folder(1), "name"), Value::from("a"));
    bed
}

fn is_clean(bed: &Bed) -> bool {
    bed.engine.own().all().is_empty() && bed.says(folder(1), "name").is_absent()
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_nobody_has_shown_yet_lies_where_it_was_put() {
    let bed = unheard().await;
    bed.hello("b", 2, &["far"]).await.unwrap();
    let (facts, local) = other(&bed, &[vm(9)]);
    *bed.agents.facts.lock() = Some(facts);
    bed.agents.destroys.store(true, Ordering::SeqCst);
    local.in_step("far");
    assert!(is_done(&bed.remove(folder(1)).await));
    let destroyed = bed.agents.asked("perform");
    assert_eq!(destroyed.len(), 1);
    assert_eq!(destroyed[0].0, "b");
    assert!(is_clean(&bed));
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_gone_holds_no_folder_once_all_have_spoken() {
    let bed = unheard().await;
    bed.hello("b", 2, &["far"]).await.unwrap();
    let (_facts, local) = other(&bed, &[]);
    assert_eq!(code(&bed.remove(folder(1)).await), Code::Unreachable, "it has not given all its facts");
    local.in_step("far");
    assert!(is_done(&bed.remove(folder(1)).await));
    assert!(bed.agents.performed().is_empty());
    assert!(is_clean(&bed));
}

#[tokio::test(start_paused = true)]
async fn what_is_offered_no_more_holds_no_folder() {
    let bed = unheard().await;
    bed.hello("b", 2, &["another"]).await.unwrap();
    let (_facts, local) = other(&bed, &[]);
    local.in_step("another");
    assert!(is_done(&bed.remove(folder(1)).await), "its agent does not have that target any more");
    let bed = unheard().await;
    bed.engine.sent_away("b").await.unwrap();
    assert!(is_done(&bed.remove(folder(1)).await), "the agent was sent away");
    assert!(is_clean(&bed));
    let welcome = bed.hello("c", 1, &["far"]).await.unwrap();
    assert!(welcome.leases.contains_key("far"), "the target is free: {welcome:?}");
}

/// Lets ann do everything but destroy the second VM.
#[derive(Debug)]
struct Careful;

#[async_trait]
impl Authority for Careful {
    async fn admit(
        &self,
        from: &str,
        _: &Command,
        _: Option<&pb::SignedGrant>,
        _: &(dyn Tree + Sync),
    ) -> Result<Admitted, Cause> {
        let may = |verbs: &[&str], root: Option<ObjectId>| pb::Scope {
            verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
            root_id: root.map(|id| id.to_string()).unwrap_or_default(),
            ..pb::Scope::default()
        };
        let folders = ["CreateFolder", "RenameFolder", "DestroyFolder"];
        let mut scopes = vec![may(&folders, None), may(&["MoveIntoFolder"], Some(folder(1)))];
        scopes.extend([1, 3].map(|n| may(&["*"], Some(vm(n)))));
        let content =
            pb::Grant { agent: from.to_owned(), expires_ms: i64::MAX, scopes, ..pb::Grant::default() };
        Ok(Admitted { principal: "ann".into(), grant: Arc::new(Grant::unsigned(content)) })
    }

    async fn grant(&self, _: &str, agent: &str) -> Result<pb::SignedGrant, Cause> {
        Ok(crate::bed::signed("ann", agent))
    }

    fn issued(&self, _: &pb::SignedGrant) -> Option<pb::Grant> {
        None
    }

    async fn serve(&self, _: &str, _: &str, _: Bytes) -> Option<Result<Bytes, Cause>> {
        None
    }

    async fn welcome(&self, _: &str, _: &mut pb::Welcome) {}
}

#[tokio::test(start_paused = true)]
async fn who_may_not_touch_a_vm_neither_moves_it_nor_destroys_its_folder() {
    let memory = MemoryStore::new();
    let bed = Bed::with(memory, Limits::default()).await;
    assert!(is_done(&bed.make(1, vm_folder(), "a").await));
    let Bed { engine, memory, clock, agents, limits, .. } = bed;
    engine.stop().await;
    let memory = memory.crash(|waiting| waiting);
    let bed = Bed::start_as(Arc::new(memory.clone()), memory, clock, agents, limits, Arc::new(Careful)).await;
    let before = bed.says(vm(2), "folder_id");
    let refused = bed.put(folder(1), &[vm(1), vm(2)]).await;
    assert_eq!(code(&refused), Code::Permission, "{refused:?}");
    assert_eq!(bed.says(vm(2), "folder_id"), before);
    assert_ne!(bed.says(vm(1), "folder_id"), Value::Ref(folder(1)), "all or nothing");
    let facts = &bed.facts;
    let slot = BUNDLE.schema.slot(Kind::Vm, "folder_id").unwrap();
    facts.apply(vec![Put::Slots(vm(1), vec![(slot, Value::Ref(folder(1)))])]);
    facts.apply(vec![Put::Slots(vm(2), vec![(slot, Value::Ref(folder(1)))])]);
    let refused = bed.remove(folder(1)).await;
    assert_eq!(code(&refused), Code::Permission, "{refused:?}");
    assert!(bed.agents.performed().is_empty(), "not the one that it may destroy either");
}

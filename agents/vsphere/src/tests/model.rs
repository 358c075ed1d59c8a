//! A client that only ever hears changes knows what a client that asks again would see: for random inventories, random changes, random
//! moments of asking, and versions used twice.

use super::{
    BUNDLE, Rig,
    collector::filter,
    golden::{spec, vm_view},
    id, vm,
};
use ::inventory::Put;
use proptest::prelude::*;
use std::collections::BTreeMap;
use union::{Kind, Slot, Value, pb};
use wire::xml::Element;

const COLLECTOR: (&str, &str) = ("PropertyCollector", "propertyCollector");

type Known = BTreeMap<String, BTreeMap<String, String>>;

#[derive(Clone, Debug)]
enum Step {
    Add(u128),
    Remove(u128),
    Rename(u128, u8),
    Power(u128, bool),
    Move(u128, bool),
    Address(u128, Option<u8>),
    RenameHost(u8),
    Networks(u128, bool),
    Ask,
    AskAgain,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 1..8u128;
    prop_oneof![
        n.clone().prop_map(Step::Add),
        n.clone().prop_map(Step::Remove),
        (n.clone(), 0..3u8).prop_map(|(n, name)| Step::Rename(n, name)),
        (n.clone(), any::<bool>()).prop_map(|(n, on)| Step::Power(n, on)),
        (n.clone(), any::<bool>()).prop_map(|(n, to)| Step::Move(n, to)),
        (n.clone(), prop::option::of(0..3u8)).prop_map(|(n, ip)| Step::Address(n, ip)),
        (0..3u8).prop_map(Step::RenameHost),
        (n, any::<bool>()).prop_map(|(n, on)| Step::Networks(n, on)),
        Just(Step::Ask),
        Just(Step::AskAgain),
    ]
}

fn slot(kind: Kind, field: &str) -> Slot {
    BUNDLE.schema.slot(kind, field).unwrap()
}

fn set(n: u128, field: &str, value: impl Into<Value>) -> Put {
    Put::Slots(id(Kind::Vm, 0x100 + n), vec![(slot(Kind::Vm, field), value.into())])
}

fn put(step: &Step) -> Option<Put> {
    Some(match step {
        Step::Add(n) => vm(*n, &format!("vm{n}"), pb::PowerState::Stopped),
        Step::Remove(n) => Put::Remove(id(Kind::Vm, 0x100 + n)),
        Step::Rename(n, name) => set(*n, "name", format!("name{name}")),
        Step::Power(n, on) => {
            set(*n, "power_state", if *on { pb::PowerState::Running } else { pb::PowerState::Stopped } as i32)
        }
        Step::Move(n, to) => set(*n, "host_id", id(Kind::Host, if *to { 1 } else { 2 })),
        Step::Address(n, None) => set(*n, "guest_ip", Value::Absent),
        Step::Address(n, Some(ip)) => set(*n, "guest_ip", format!("192.0.2.{ip}")),
        Step::RenameHost(name) => {
            Put::Slots(id(Kind::Host, 1), vec![(slot(Kind::Host, "name"), format!("host{name}").into())])
        }
        Step::Networks(n, false) => set(*n, "network_ids", Value::Absent),
        Step::Networks(n, true) => set(*n, "network_ids", Value::list([Value::Ref(id(Kind::Network, 0x40))])),
        Step::Ask | Step::AskAgain => return None,
    })
}

/// Everything in an element as one text.
fn flat(element: Element<'_>, out: &mut String) {
    out.push_str(element.name());
    out.push('=');
    out.push_str(element.text());
    for child in element.children() {
        out.push('{');
        flat(child, out);
        out.push('}');
    }
}

fn apply(known: &mut Known, answer: &super::Answer) -> Option<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let tree = answer.tree();
    let set = tree.root().child("Body").unwrap().children().next().unwrap().child("returnval")?;
    for filter in set.children_named("filterSet") {
        for update in filter.children_named("objectSet") {
            let object = update.child_text("obj").unwrap().to_owned();
            let properties = match update.child_text("kind").unwrap() {
                "leave" => {
                    known.remove(&object);
                    continue;
                }
                "enter" => {
                    known.insert(object.clone(), BTreeMap::new());
                    known.get_mut(&object).unwrap()
                }
                _ => known.get_mut(&object).unwrap_or_else(|| panic!("{object} changed before it entered")),
            };
            for change in update.children_named("changeSet") {
                let name = change.child_text("name").unwrap().to_owned();
                match change.child("val") {
                    Some(value) => {
                        let mut text = String::new();
                        flat(value, &mut text);
                        properties.insert(name, text);
                    }
                    None => drop(properties.remove(&name)),
                }
            }
        }
    }
    Some(set.child_text("version").unwrap().to_owned())
}

/// One client's filters: what it heard, and how to ask anew.
struct Client {
    collector: String,
    version: String,
    before: Option<(String, Known)>,
    known: Known,
}

async fn ask(rig: &Rig, cookie: &str, client: &mut Client) {
    let arguments =
        format!("<version>{}</version><options><maxWaitSeconds>0</maxWaitSeconds></options>", client.version);
    let answer = rig
        .call(Some(cookie), "WaitForUpdatesEx", ("PropertyCollector", &client.collector), &arguments)
        .await;
    let before = (client.version.clone(), client.known.clone());
    // Asking with a version acknowledges it, whatever comes back.
    client.before = None;
    if let Some(version) = apply(&mut client.known, &answer) {
        client.version = version;
        client.before = Some(before).filter(|(version, _)| !version.is_empty());
    }
}

async fn run(specs: Vec<String>, steps: Vec<Step>, whole_specs: impl Fn(&str) -> Vec<String>) {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let view = vm_view(&rig, &cookie).await;
    let mut clients = Vec::new();
    for spec in specs.into_iter().chain(whole_specs(&view)) {
        let collector =
            rig.call(Some(&cookie), "CreatePropertyCollector", COLLECTOR, "").await.text("returnval");
        let made =
            rig.call(Some(&cookie), "CreateFilter", ("PropertyCollector", &collector), &filter(&spec)).await;
        assert_eq!(made.status, 200, "{}", made.body);
        let mut client = Client { collector, version: String::new(), before: None, known: Known::new() };
        ask(&rig, &cookie, &mut client).await;
        clients.push((client, spec));
    }
    for step in &steps {
        match (step, put(step)) {
            (_, Some(put)) => drop(rig.source.apply(vec![put])),
            (Step::AskAgain, _) => {
                for (client, _) in &mut clients {
                    // The last answer was lost on its way: the client asks with the version before it.
                    if let Some((version, known)) = client.before.take() {
                        client.version = version;
                        client.known = known;
                    }
                    ask(&rig, &cookie, client).await;
                }
            }
            _ => {
                for (client, _) in &mut clients {
                    ask(&rig, &cookie, client).await;
                }
            }
        }
    }
    for (client, spec) in &mut clients {
        ask(&rig, &cookie, client).await;
        let fresh = rig.call(Some(&cookie), "CreatePropertyCollector", COLLECTOR, "").await.text("returnval");
        rig.call(Some(&cookie), "CreateFilter", ("PropertyCollector", &fresh), &filter(spec)).await;
        let mut anew = Client { collector: fresh, version: String::new(), before: None, known: Known::new() };
        ask(&rig, &cookie, &mut anew).await;
        assert_eq!(client.known, anew.known, "after {steps:?}");
    }
}

/// From the root down every folder to machines, and from hosts to theirs.
pub(super) fn tree() -> String {
    let step = |name: &str, ty: &str, path: &str, next: &[&str]| {
        let next: String = next.iter().map(|n| format!("<selectSet><name>{n}</name></selectSet>")).collect();
        format!(
            "<selectSet xsi:type=\"TraversalSpec\"><name>{name}</name><type>{ty}</type><path>{path}</path>{next}</selectSet>"
        )
    };
    format!(
        "<specSet><propSet><type>ManagedEntity</type><pathSet>name</pathSet><pathSet>parent</pathSet></propSet>\
         <propSet><type>HostSystem</type><pathSet>vm</pathSet></propSet><propSet><type>VirtualMachine</type>\
         <pathSet>summary.runtime.host</pathSet><pathSet>guest.ipAddress</pathSet><pathSet>network</pathSet></propSet>\
         <propSet><type>ResourcePool</type><pathSet>vm</pathSet></propSet>\
         <objectSet><obj type=\"Folder\">group-d1</obj>{}{}{}{}{}</objectSet></specSet>",
        step("folder", "Folder", "childEntity", &["folder", "vms", "hosts", "compute", "pool"]),
        step("vms", "Datacenter", "vmFolder", &["folder"]),
        step("hosts", "Datacenter", "hostFolder", &["folder"]),
        step("compute", "ComputeResource", "host", &["machines"]),
        step("machines", "HostSystem", "vm", &[]),
    )
    .replace("<selectSet><name>pool</name></selectSet>", "")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn hearing_changes_is_as_good_as_asking_again(steps in prop::collection::vec(step(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(vec![tree()], steps, |view| {
            vec![spec(view, &["name", "runtime.powerState", "runtime.host", "guest.ipAddress", "network", "summary", "parent"])]
        }));
    }
}

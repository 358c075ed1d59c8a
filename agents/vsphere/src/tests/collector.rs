//! Filters and waits: what a client hears of changes, and only that.

use super::{
    Rig,
    golden::{spec, vm_view},
    id, vm,
};
use ::inventory::Put;
use std::time::Duration;
use union::{Kind, Slot, Value, pb};

const COLLECTOR: (&str, &str) = ("PropertyCollector", "propertyCollector");

pub(super) fn filter(spec: &str) -> String {
    format!("{}<partialUpdates>false</partialUpdates>", spec.replace("specSet>", "spec>"))
}

fn slot(kind: Kind, field: &str) -> Slot {
    super::BUNDLE.schema.slot(kind, field).unwrap()
}

fn power(n: u128, state: pb::PowerState) -> Put {
    Put::Slots(id(Kind::Vm, 0x100 + n), vec![(slot(Kind::Vm, "power_state"), (state as i32).into())])
}

impl Rig {
    /// `WaitForUpdatesEx` that does not wait.
    async fn check(&self, cookie: &str, version: &str, most: Option<u32>) -> super::Answer {
        let most = most.map_or(String::new(), |most| format!("<maxObjectUpdates>{most}</maxObjectUpdates>"));
        let arguments = format!(
            "<version>{version}</version><options><maxWaitSeconds>0</maxWaitSeconds>{most}</options>"
        );
        self.call(Some(cookie), "WaitForUpdatesEx", COLLECTOR, &arguments).await
    }

    fn native(&self, kind: Kind, n: u128) -> String {
        self.front.catalog.reference(id(kind, n)).unwrap().id.to_string()
    }
}

#[tokio::test]
async fn tells_what_changed_and_nothing_else() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let view = vm_view(&rig, &cookie).await;
    let made = rig
        .call(
            Some(&cookie),
            "CreateFilter",
            COLLECTOR,
            &filter(&spec(&view, &["name", "runtime.powerState"])),
        )
        .await;
    assert!(made.text("returnval").starts_with("session["));
    let first = rig.check(&cookie, "", None).await;
    assert_eq!(first.texts("kind"), ["enter", "enter", "enter"]);
    let version = first.text("version");
    let quiet = rig.check(&cookie, &version, None).await;
    assert!(quiet.body.contains("<WaitForUpdatesExResponse xmlns=\"urn:vim25\"/>"), "{}", quiet.body);

    // A property nobody asked for is no news; one that was is told, with its value of now.
    rig.source.apply(vec![Put::Slots(
        id(Kind::Vm, 0x101),
        vec![(slot(Kind::Vm, "cpu_usage_mhz"), Value::Int(77))],
    )]);
    assert!(rig.check(&cookie, &version, None).await.texts("objectSet").is_empty());
    rig.source.apply(vec![power(2, pb::PowerState::Running)]);
    rig.source.apply(vec![power(2, pb::PowerState::Suspended)]);
    let news = rig.check(&cookie, &version, None).await;
    assert_eq!(
        (news.texts("kind"), news.text("obj")),
        (vec!["modify".to_owned()], rig.native(Kind::Vm, 0x102))
    );
    assert_eq!(
        (news.text("name"), news.text("op"), news.text("val")),
        ("runtime.powerState".into(), "assign".into(), "suspended".into())
    );

    // The same version once more: the same news. Then it is used up.
    let again = rig.check(&cookie, &version, None).await;
    assert_eq!(again.texts("val"), ["suspended"]);
    let version = again.text("version");
    assert!(rig.check(&cookie, &version, None).await.texts("objectSet").is_empty());

    // Machines come and go.
    rig.source.apply(vec![vm(9, "new", pb::PowerState::Stopped), Put::Remove(id(Kind::Vm, 0x103))]);
    let news = rig.check(&cookie, &version, None).await;
    let mut kinds = news.texts("kind");
    kinds.sort();
    assert_eq!(kinds, ["enter", "leave"]);
    assert!(news.texts("val").contains(&"new".to_owned()));

    // A property that loses its value is told as such.
    let made =
        rig.call(Some(&cookie), "CreateFilter", COLLECTOR, &filter(&spec(&view, &["guest.ipAddress"]))).await;
    let version = rig.check(&cookie, "", None).await.text("version");
    rig.source
        .apply(vec![Put::Slots(id(Kind::Vm, 0x101), vec![(slot(Kind::Vm, "guest_ip"), Value::Absent)])]);
    let news = rig.check(&cookie, &version, None).await;
    assert!(
        news.body.contains("<changeSet><name>guest.ipAddress</name><op>assign</op></changeSet>"),
        "{}",
        news.body
    );
    let filter = made.text("returnval");
    assert_eq!(
        rig.call(Some(&cookie), "DestroyPropertyFilter", ("PropertyFilter", &filter), "").await.status,
        200
    );
    let gone = rig.call(Some(&cookie), "DestroyPropertyFilter", ("PropertyFilter", &filter), "").await;
    assert_eq!(gone.fault(), "ManagedObjectNotFound");
}

#[tokio::test]
async fn truncates_and_goes_on() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let many = (10..260).map(|n| vm(n, &format!("vm{n}"), pb::PowerState::Stopped)).collect();
    rig.source.apply(many);
    let view = vm_view(&rig, &cookie).await;
    rig.call(Some(&cookie), "CreateFilter", COLLECTOR, &filter(&spec(&view, &["name"]))).await;
    let mut version = String::new();
    let mut seen = Vec::new();
    for (expected, truncated) in [(100, true), (100, true), (53, false)] {
        let part = rig.check(&cookie, &version, Some(500)).await;
        assert_eq!((part.texts("kind").len(), part.body.contains("<truncated>true")), (expected, truncated));
        seen.extend(part.texts("obj"));
        if !version.is_empty() {
            // A version handed out with a truncated answer is used once.
            assert_eq!(rig.check(&cookie, &version, None).await.fault(), "InvalidCollectorVersion");
        }
        version = part.text("version");
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 253);
    assert_eq!(rig.check(&cookie, "12345", None).await.fault(), "InvalidCollectorVersion");
    let all = rig.call(Some(&cookie), "WaitForUpdates", COLLECTOR, "<version></version>").await;
    assert_eq!(all.texts("kind").len(), 253);
}

#[tokio::test(start_paused = true)]
async fn waits_wake_and_end() {
    let rig = std::sync::Arc::new(Rig::fleet());
    let cookie = rig.login("admin").await;
    let view = vm_view(&rig, &cookie).await;
    rig.call(Some(&cookie), "CreateFilter", COLLECTOR, &filter(&spec(&view, &["runtime.powerState"]))).await;
    let version = rig.check(&cookie, "", None).await.text("version");
    let wait = |options: &str| {
        let (rig, cookie) = (rig.clone(), cookie.clone());
        let arguments = format!("<version>{version}</version>{options}");
        tokio::spawn(async move { rig.call(Some(&cookie), "WaitForUpdatesEx", COLLECTOR, &arguments).await })
    };
    let waiting = wait("");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!waiting.is_finished());
    // Another call of the session is not held up.
    assert_eq!(
        rig.call(Some(&cookie), "CurrentTime", ("ServiceInstance", "ServiceInstance"), "").await.status,
        200
    );
    rig.source.apply(vec![power(1, pb::PowerState::Stopped)]);
    assert_eq!(waiting.await.unwrap().texts("val"), ["poweredOff"]);

    let version = rig.check(&cookie, &version, None).await.text("version");
    let wait = |options: &str| {
        let (rig, cookie) = (rig.clone(), cookie.clone());
        let arguments = format!("<version>{version}</version>{options}");
        tokio::spawn(async move { rig.call(Some(&cookie), "WaitForUpdatesEx", COLLECTOR, &arguments).await })
    };
    let expired = wait("<options><maxWaitSeconds>30</maxWaitSeconds></options>").await.unwrap();
    assert!(expired.body.contains("<WaitForUpdatesExResponse xmlns=\"urn:vim25\"/>"));
    let cancelled = wait("");
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.call(Some(&cookie), "CancelWaitForUpdates", COLLECTOR, "").await;
    assert_eq!(cancelled.await.unwrap().fault(), "RequestCanceled");
    let ended = wait("");
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.call(Some(&cookie), "Logout", ("SessionManager", "SessionManager"), "").await;
    assert_eq!(ended.await.unwrap().fault(), "RequestCanceled");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rig.front.workshop.lock().updates.is_idle());
}

#[tokio::test]
async fn follows_traversals_references_and_lists() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let collector = rig.call(Some(&cookie), "CreatePropertyCollector", COLLECTOR, "").await.text("returnval");
    let own = ("PropertyCollector", &*collector);
    let host = rig.native(Kind::Host, 2);
    let through = format!(
        "<spec><propSet><type>HostSystem</type><pathSet>vm</pathSet></propSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet>\
         </propSet><objectSet><obj type=\"HostSystem\">{host}</obj><selectSet xsi:type=\"TraversalSpec\"><type>HostSystem</type>\
         <path>vm</path></selectSet></objectSet></spec><partialUpdates>true</partialUpdates>"
    );
    assert_eq!(rig.call(Some(&cookie), "CreateFilter", own, &through).await.status, 200);
    let wait = |version: &str| {
        format!("<version>{version}</version><options><maxWaitSeconds>0</maxWaitSeconds></options>")
    };
    let first = rig.call(Some(&cookie), "WaitForUpdatesEx", own, &wait("")).await;
    assert_eq!(first.texts("kind").len(), 3, "{}", first.body);
    let version = first.text("version");
    // A machine moves in from the other host: the list of machines changes, and the machine is selected now.
    let moved =
        Put::Slots(id(Kind::Vm, 0x102), vec![(slot(Kind::Vm, "host_id"), Value::Ref(id(Kind::Host, 2)))]);
    rig.source.apply(vec![moved]);
    let news = rig.call(Some(&cookie), "WaitForUpdatesEx", own, &wait(&version)).await;
    let mut kinds = news.texts("kind");
    kinds.sort();
    assert_eq!(kinds, ["enter", "modify"], "{}", news.body);
    assert!(news.texts("val").contains(&"db01".to_owned()));
    let version = news.text("version");
    // The same machine renamed: one property of one object.
    rig.source.apply(vec![Put::Slots(id(Kind::Vm, 0x102), vec![(slot(Kind::Vm, "name"), "db02".into())])]);
    let news = rig.call(Some(&cookie), "WaitForUpdatesEx", own, &wait(&version)).await;
    assert_eq!((news.texts("kind").len(), news.text("val")), (1, "db02".into()));
    assert_eq!(rig.call(Some(&cookie), "DestroyPropertyCollector", own, "").await.status, 200);
    assert_eq!(
        rig.call(Some(&cookie), "WaitForUpdatesEx", own, &wait("")).await.fault(),
        "ManagedObjectNotFound"
    );

    // A list view moves objects in and out of its filters.
    let obj = |n: u128| format!("<obj type=\"VirtualMachine\">{}</obj>", rig.native(Kind::Vm, n));
    let list = rig
        .call(Some(&cookie), "CreateListView", ("ViewManager", "ViewManager"), &obj(0x101))
        .await
        .text("returnval");
    let selected = spec(&list, &["name"]).replace("ContainerView", "ListView");
    rig.call(Some(&cookie), "CreateFilter", COLLECTOR, &filter(&selected)).await;
    let version = rig.check(&cookie, "", None).await.text("version");
    let change = format!(
        "{}{}<add type=\"VirtualMachine\">vm-777</add>",
        obj(0x102).replace("obj", "add"),
        obj(0x101).replace("obj", "remove")
    );
    let unresolved = rig.call(Some(&cookie), "ModifyListView", ("ListView", &list), &change).await;
    assert_eq!(unresolved.texts("returnval"), ["vm-777"]);
    let news = rig.check(&cookie, &version, None).await;
    let mut kinds = news.texts("kind");
    kinds.sort();
    assert_eq!(kinds, ["enter", "leave"]);
    rig.call(Some(&cookie), "DestroyView", ("ListView", &list), "").await;
    let gone = rig.call(Some(&cookie), "DestroyView", ("ListView", &list), "").await;
    assert_eq!(gone.fault(), "ManagedObjectNotFound");
}

#[tokio::test]
async fn made_objects_tell_of_themselves() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let loops = super::model::tree();
    let created = rig.call(Some(&cookie), "CreateFilter", COLLECTOR, &filter(&loops)).await.text("returnval");
    let shown = rig.call(Some(&cookie), "Fetch", COLLECTOR, "<prop>filter</prop>").await;
    assert_eq!(shown.texts("ManagedObjectReference"), std::slice::from_ref(&created));
    let shown = rig.call(Some(&cookie), "Fetch", ("PropertyFilter", &created), "<prop>spec</prop>").await;
    // What is shown selects the same again.
    let from = shown.body.find("<propSet>").unwrap();
    let to = shown.body.find("</returnval>").unwrap();
    let again = format!("<specSet>{}</specSet>", shown.body.get(from..to).unwrap());
    let one = rig.call(Some(&cookie), "RetrieveProperties", COLLECTOR, &loops).await;
    let two = rig.call(Some(&cookie), "RetrieveProperties", COLLECTOR, &again).await;
    assert_eq!(one.body, two.body);
    let own = rig.call(Some(&cookie), "CreatePropertyCollector", COLLECTOR, "").await.text("returnval");
    let made = rig
        .call(Some(&cookie), "CreateFilter", ("PropertyCollector", &own), &filter(&loops))
        .await
        .text("returnval");
    let shown = rig.call(Some(&cookie), "Fetch", ("PropertyCollector", &own), "<prop>filter</prop>").await;
    assert_eq!(shown.texts("ManagedObjectReference"), [made]);
    let views = ("ViewManager", "ViewManager");
    let view = vm_view(&rig, &cookie).await;
    let shown = rig.call(Some(&cookie), "Fetch", views, "<prop>viewList</prop>").await;
    assert_eq!(shown.texts("ManagedObjectReference"), std::slice::from_ref(&view));
    let shown = rig.call(Some(&cookie), "Fetch", ("ContainerView", &view), "<prop>type</prop>").await;
    assert_eq!(shown.texts("string"), ["VirtualMachine"]);
}

#[tokio::test]
async fn one_sessions_things_are_nobody_elses() {
    let rig = Rig::fleet();
    let (one, two) = (rig.login("admin").await, rig.login("admin").await);
    let view = vm_view(&rig, &one).await;
    let read = spec(&view, &["name"]);
    assert_eq!(
        rig.call(Some(&one), "RetrieveProperties", COLLECTOR, &read).await.texts("returnval").len(),
        3
    );
    assert_eq!(
        rig.call(Some(&two), "RetrieveProperties", COLLECTOR, &read).await.fault(),
        "ManagedObjectNotFound"
    );
}

#[tokio::test]
async fn keeps_events_and_tasks() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    rig.source.apply(vec![power(2, pb::PowerState::Running)]);
    let events = ("EventManager", "EventManager");
    let all = rig.call(Some(&cookie), "QueryEvents", events, "<filter></filter>").await;
    let shown = all.body.matches("xsi:type=\"VmPoweredOnEvent\"").count();
    assert_eq!(shown, 1, "{}", all.body);
    assert!(all.body.contains("xsi:type=\"UserLoginSessionEvent\""));
    let only = "<filter><type>VmPoweredOnEvent</type></filter>";
    assert_eq!(rig.call(Some(&cookie), "QueryEvents", events, only).await.texts("returnval").len(), 1);
    let host = rig.native(Kind::Host, 1);
    let about = |recursion: &str| {
        format!(
            "<filter><entity><entity type=\"HostSystem\">{host}</entity><recursion>{recursion}</recursion></entity></filter>"
        )
    };
    assert_eq!(
        rig.call(Some(&cookie), "QueryEvents", events, &about("all")).await.texts("returnval").len(),
        1
    );
    assert_eq!(
        rig.call(Some(&cookie), "QueryEvents", events, &about("self")).await.texts("returnval").len(),
        0
    );
    let pages = rig.call(Some(&cookie), "CreateCollectorForEvents", events, only).await.text("returnval");
    let pages = ("EventHistoryCollector", &*pages);
    assert_eq!(
        rig.call(Some(&cookie), "ReadNextEvents", pages, "<maxCount>5</maxCount>")
            .await
            .texts("returnval")
            .len(),
        1
    );
    assert_eq!(
        rig.call(Some(&cookie), "ReadNextEvents", pages, "<maxCount>5</maxCount>")
            .await
            .texts("returnval")
            .len(),
        0
    );
    rig.call(Some(&cookie), "ResetCollector", pages, "").await;
    assert_eq!(
        rig.call(Some(&cookie), "ReadPreviousEvents", pages, "<maxCount>5</maxCount>")
            .await
            .texts("returnval")
            .len(),
        1
    );
    assert_eq!(
        rig.call(Some(&cookie), "SetCollectorPageSize", pages, "<maxCount>0</maxCount>").await.fault(),
        "InvalidArgument"
    );
    let latest = rig.call(Some(&cookie), "Fetch", pages, "<prop>latestPage</prop>").await;
    assert!(
        latest.body.contains("<returnval xsi:type=\"ArrayOfEvent\"><Event xsi:type=\"VmPoweredOnEvent\">"),
        "{}",
        latest.body
    );
    assert_eq!(rig.call(Some(&cookie), "DestroyCollector", pages, "").await.status, 200);

    // A task is an object like any other, and tells why it failed.
    let command = union::Command {
        id: union::CommandId(uuid::Uuid::from_u128(5)),
        verb: "PowerOn".into(),
        schema: super::BUNDLE.schema.message("PowerOn").unwrap().command.clone().unwrap(),
        object: id(Kind::Vm, 0x101),
        body: std::sync::Arc::new(super::BUNDLE.schema.message("PowerOn").unwrap().record()),
        principal: "admin".into(),
        session: "".into(),
        deadline_ms: i64::MAX,
        origin: union::Origin {
            protocol: "vsphere".into(),
            view: "fleet".into(),
            method: "PowerOnVM_Task".into(),
        },
    };
    let task = rig.tasks.create(&command, true);
    let mut cause = union::command::Cause::new(union::command::Code::InvalidState, "It runs already.");
    cause.fault = "InvalidPowerState".into();
    cause.arguments.push(("existingState".into(), "poweredOn".into()));
    rig.tasks.failed(task, &cause);
    let native = rig.front.catalog.reference(task).unwrap().id;
    assert_eq!(&*native, "task-1");
    let info = rig.call(Some(&cookie), "Fetch", ("Task", &native), "<prop>info</prop>").await;
    let error = "<cancelable>false</cancelable><error><fault xsi:type=\"InvalidPowerState\"><existingState>poweredOn</existingState></fault>\
                 <localizedMessage>It runs already.</localizedMessage></error>";
    assert!(info.body.contains(error), "{}", info.body);
    let error = rig.call(Some(&cookie), "Fetch", ("Task", &native), "<prop>info.error</prop>").await;
    assert!(
        error
            .body
            .contains("<returnval xsi:type=\"LocalizedMethodFault\"><fault xsi:type=\"InvalidPowerState\">")
    );
    let tasks = rig
        .call(Some(&cookie), "CreateCollectorForTasks", ("TaskManager", "TaskManager"), "<filter></filter>")
        .await;
    let tasks = tasks.text("returnval");
    let read = rig
        .call(Some(&cookie), "ReadNextTasks", ("TaskHistoryCollector", &tasks), "<maxCount>9</maxCount>")
        .await;
    assert_eq!((read.texts("returnval").len(), read.text("state")), (1, "error".into()));
    assert_eq!(rig.call(Some(&cookie), "CancelTask", ("Task", &native), "").await.fault(), "InvalidState");
}

#[tokio::test]
async fn sessions_expire() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let now = ("ServiceInstance", "ServiceInstance");
    rig.clock.advance(Duration::from_secs(29 * 60));
    assert_eq!(rig.call(Some(&cookie), "Reload", ("Folder", "group-d1"), "").await.status, 200);
    rig.clock.advance(Duration::from_secs(31 * 60));
    assert_eq!(
        rig.call(Some(&cookie), "Reload", ("Folder", "group-d1"), "").await.fault(),
        "NotAuthenticated"
    );
    assert_eq!(rig.call(Some(&cookie), "CurrentTime", now, "").await.fault(), "NotAuthenticated");
}

#[tokio::test]
async fn tells_of_objects_that_are_not_there() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let spec = |tolerant: bool| {
        format!(
            "<spec><propSet><type>VirtualMachine</type><pathSet>name</pathSet></propSet><objectSet><obj type=\"VirtualMachine\">\
             vm-77</obj></objectSet><reportMissingObjectsInResults>{tolerant}</reportMissingObjectsInResults></spec>\
             <partialUpdates>false</partialUpdates>"
        )
    };
    assert_eq!(
        rig.call(Some(&cookie), "CreateFilter", COLLECTOR, &spec(false)).await.fault(),
        "ManagedObjectNotFound"
    );
    assert_eq!(rig.call(Some(&cookie), "CreateFilter", COLLECTOR, &spec(true)).await.status, 200);
    let first = rig.check(&cookie, "", None).await;
    assert!(first.texts("objectSet").is_empty(), "{}", first.body);
    assert!(first.body.contains("<missingSet><obj type=\"VirtualMachine\">vm-77</obj><fault><fault xsi:type=\"ManagedObjectNotFound\">"));
    let read = spec(true).replace("spec>", "specSet>");
    let read = rig.call(Some(&cookie), "RetrieveProperties", COLLECTOR, &read).await;
    assert!(read.body.contains("<RetrievePropertiesResponse xmlns=\"urn:vim25\"/>"), "{}", read.body);
}

#[tokio::test]
async fn selects_more_properties_than_there_are_bits() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let view = vm_view(&rig, &cookie).await;
    let keys: Vec<String> = (0..150).map(|n| format!("config.extraConfig[\"k{n}\"].value")).collect();
    let paths: Vec<&str> = keys.iter().map(String::as_str).chain(["name", "runtime.powerState"]).collect();
    rig.call(Some(&cookie), "CreateFilter", COLLECTOR, &filter(&spec(&view, &paths))).await;
    let first = rig.check(&cookie, "", None).await;
    assert_eq!((first.texts("kind").len(), first.texts("missingSet").len()), (3, 0), "{}", first.body);
    let version = first.text("version");
    rig.source.apply(vec![power(1, pb::PowerState::Stopped)]);
    let news = rig.check(&cookie, &version, None).await;
    assert!(news.texts("val").contains(&"poweredOff".to_owned()), "{}", news.body);
}

#[tokio::test]
async fn writes_updates_to_the_letter() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let read = "<spec><propSet><type>Folder</type><pathSet>name</pathSet><pathSet>parent</pathSet></propSet>\
                <objectSet><obj type=\"Folder\">group-v1</obj></objectSet></spec><partialUpdates>false</partialUpdates>";
    let nonsense = read.replace("<pathSet>parent", "<pathSet>nonsense");
    let refused = rig.call(Some(&cookie), "CreateFilter", COLLECTOR, &nonsense).await;
    assert_eq!((refused.fault().as_str(), refused.text("name").as_str()), ("InvalidProperty", "nonsense"));
    let filter = rig.call(Some(&cookie), "CreateFilter", COLLECTOR, read).await.text("returnval");
    let first = rig.check(&cookie, "", None).await;
    let expected = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><soapenv:Body>\
         <WaitForUpdatesExResponse xmlns=\"urn:vim25\"><returnval><version>1</version><filterSet><filter type=\"PropertyFilter\">{filter}\
         </filter><objectSet><kind>enter</kind><obj type=\"Folder\">group-v1</obj><changeSet><name>name</name><op>assign</op>\
         <val xsi:type=\"xsd:string\">vm</val></changeSet><changeSet><name>parent</name><op>assign</op>\
         <val type=\"Datacenter\" xsi:type=\"ManagedObjectReference\">datacenter-1</val></changeSet></objectSet></filterSet></returnval></WaitForUpdatesExResponse>\
         </soapenv:Body></soapenv:Envelope>"
    );
    assert_eq!(first.body, expected);
    let fault = rig.call(Some(&cookie), "Fetch", ("VirtualMachine", "vm-99"), "<prop>name</prop>").await;
    assert!(fault.body.ends_with(
        "<soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>The object 'VirtualMachine:vm-99' has already \
         been deleted or has not been completely created</faultstring><detail><ManagedObjectNotFoundFault xmlns=\"urn:vim25\" \
         xsi:type=\"ManagedObjectNotFound\"><obj type=\"VirtualMachine\">vm-99</obj></ManagedObjectNotFoundFault></detail>\
         </soapenv:Fault></soapenv:Body></soapenv:Envelope>"
    ));
}

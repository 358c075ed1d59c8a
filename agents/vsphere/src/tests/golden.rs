//! Single calls and their answers.

use super::{Rig, id};
use union::Kind;

const SPEC: &str = "<specSet><propSet><type>VirtualMachine</type>PATHS</propSet><objectSet><obj type=\"ContainerView\">VIEW</obj>\
     <skip>true</skip><selectSet xsi:type=\"TraversalSpec\"><type>ContainerView</type><path>view</path><skip>false</skip></selectSet>\
     </objectSet></specSet>";

pub(super) fn spec(view: &str, paths: &[&str]) -> String {
    let paths: String = paths.iter().map(|path| format!("<pathSet>{path}</pathSet>")).collect();
    SPEC.replace("PATHS", &paths).replace("VIEW", view)
}

pub(super) async fn vm_view(rig: &Rig, cookie: &str) -> String {
    let container = rig.front.catalog.reference(rig.front.catalog.root()).unwrap();
    let arguments = format!(
        "<container type=\"Folder\">{}</container><type>VirtualMachine</type><recursive>true</recursive>",
        container.id
    );
    rig.call(Some(cookie), "CreateContainerView", ("ViewManager", "ViewManager"), &arguments)
        .await
        .text("returnval")
}

#[tokio::test]
async fn tells_what_it_is_before_login() {
    for (rig, api, root) in
        [(Rig::fleet(), "VirtualCenter", "group-d1"), (Rig::host(), "HostAgent", "ha-folder-root")]
    {
        let answer =
            rig.call(None, "RetrieveServiceContent", ("ServiceInstance", "ServiceInstance"), "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.text("apiType"), api);
        assert_eq!(answer.text("rootFolder"), root);
        assert_eq!(answer.texts("instanceUuid").is_empty(), api == "HostAgent");
        assert!(!answer.body.contains("> <") && !answer.body.contains(">\n<"));
    }
}

#[tokio::test]
async fn logs_in_and_out() {
    let rig = Rig::fleet();
    let manager = ("SessionManager", "SessionManager");
    let wrong = rig.call(None, "Login", manager, "<userName>admin</userName><password>no</password>").await;
    assert_eq!(wrong.fault(), "InvalidLogin");
    let cookie = rig.login("admin").await;
    assert!(
        cookie.starts_with("vmware_soap_session=\"") && cookie.contains("; Path=/; HttpOnly"),
        "{cookie}"
    );
    let again = rig
        .call(Some(&cookie), "Login", manager, "<userName>admin</userName><password>secret</password>")
        .await;
    assert_eq!(again.fault(), "InvalidLogin");
    let session = rig.call(Some(&cookie), "Fetch", manager, "<prop>currentSession</prop>").await;
    let key = session.text("key");
    assert_eq!(session.text("userName"), "admin");
    assert!(!cookie.contains(&key));
    let active = |user: &str| format!("<sessionID>{key}</sessionID><userName>{user}</userName>");
    assert_eq!(
        rig.call(Some(&cookie), "SessionIsActive", manager, &active("admin")).await.text("returnval"),
        "true"
    );
    assert_eq!(
        rig.call(Some(&cookie), "SessionIsActive", manager, &active("x")).await.text("returnval"),
        "false"
    );

    let ticket = rig.call(Some(&cookie), "AcquireCloneTicket", manager, "").await.text("returnval");
    let clone = format!("<cloneTicket>{ticket}</cloneTicket>");
    let cloned = rig.call(None, "CloneSession", manager, &clone).await;
    assert_eq!(cloned.text("userName"), "admin");
    assert_eq!(rig.call(None, "CloneSession", manager, &clone).await.fault(), "InvalidLogin");
    let sessions = rig.call(Some(&cookie), "Fetch", manager, "<prop>sessionList</prop>").await;
    assert_eq!(sessions.texts("UserSession").len(), 2);
    let end = format!("<sessionId>{}</sessionId>", cloned.text("key"));
    assert_eq!(rig.call(Some(&cookie), "TerminateSession", manager, &end).await.status, 200);
    assert_eq!(rig.call(Some(&cookie), "TerminateSession", manager, &end).await.fault(), "NotFound");

    let out = rig.call(Some(&cookie), "Logout", manager, "").await;
    assert!(out.body.contains("<LogoutResponse xmlns=\"urn:vim25\"/>"));
    assert_eq!(rig.call(Some(&cookie), "Logout", manager, "").await.fault(), "NotAuthenticated");
    let read = "<specSet><propSet><type>Folder</type><pathSet>name</pathSet></propSet><objectSet><obj type=\"Folder\">group-d1</obj>\
                </objectSet></specSet>";
    let read =
        rig.call(Some(&cookie), "RetrieveProperties", ("PropertyCollector", "propertyCollector"), read).await;
    assert_eq!((read.status, read.texts("propSet").len()), (200, 0));
    assert!(
        read.body.contains("<path>name</path><fault><fault xsi:type=\"NotAuthenticated\">"),
        "{}",
        read.body
    );
    let session = "<specSet><propSet><type>SessionManager</type><pathSet>currentSession</pathSet></propSet><objectSet>\
                   <obj type=\"SessionManager\">SessionManager</obj></objectSet></specSet>";
    let session =
        rig.call(None, "RetrieveProperties", ("PropertyCollector", "propertyCollector"), session).await;
    assert!(
        session.texts("missingSet").is_empty() && session.texts("propSet").is_empty(),
        "{}",
        session.body
    );
}

#[tokio::test]
async fn reads_properties() {
    let rig = Rig::fleet();
    let cookie = rig.login("watcher").await;
    let view = vm_view(&rig, &cookie).await;
    let collector = ("PropertyCollector", "propertyCollector");
    let paths = ["name", "runtime.powerState", "name", "config.hardware.memoryMB"];
    let answer = rig.call(Some(&cookie), "RetrieveProperties", collector, &spec(&view, &paths)).await;
    assert_eq!(answer.texts("returnval").len(), 3);
    let vals = answer.texts("val");
    assert!(
        vals.contains(&"web01".to_owned())
            && vals.contains(&"poweredOff".to_owned())
            && vals.contains(&"256".to_owned())
    );
    assert_eq!(answer.texts("name").iter().filter(|n| *n == "name").count(), 3);
    assert!(
        answer.body.contains("<val xsi:type=\"VirtualMachinePowerState\">poweredOn</val>"),
        "{}",
        answer.body
    );
    for nonsense in ["guest.nonsense", "config.bootOptions.bogus"] {
        let asked = spec(&view, &["name", nonsense]);
        for method in ["RetrieveProperties", "RetrievePropertiesEx"] {
            let refused = rig.call(Some(&cookie), method, collector, &asked).await;
            assert_eq!(
                (refused.fault().as_str(), refused.text("name").as_str()),
                ("InvalidProperty", nonsense)
            );
        }
    }

    let page =
        |most: u32| format!("{}<options><maxObjects>{most}</maxObjects></options>", spec(&view, &["name"]));
    let first = rig.call(Some(&cookie), "RetrievePropertiesEx", collector, &page(2)).await;
    assert_eq!(first.texts("objects").len(), 2);
    let token = format!("<token>{}</token>", first.text("token"));
    let second = rig.call(Some(&cookie), "ContinueRetrievePropertiesEx", collector, &token).await;
    assert_eq!((second.texts("objects").len(), second.texts("token").len()), (1, 0));
    let again = rig.call(Some(&cookie), "ContinueRetrievePropertiesEx", collector, &token).await;
    assert_eq!(again.fault(), "InvalidArgument");
    assert_eq!(
        rig.call(Some(&cookie), "RetrievePropertiesEx", collector, &page(0)).await.fault(),
        "InvalidArgument"
    );

    let vm = rig.front.catalog.reference(id(Kind::Vm, 0x101)).unwrap();
    let this = (&*vm.ty, &*vm.id);
    assert_eq!(rig.call(Some(&cookie), "Fetch", this, "<prop>name</prop>").await.text("returnval"), "web01");
    assert_eq!(rig.call(Some(&cookie), "Fetch", this, "<prop>nam</prop>").await.fault(), "InvalidProperty");
    let all = format!(
        "<specSet><propSet><type>ManagedEntity</type><all>true</all></propSet><objectSet><obj type=\"VirtualMachine\">{}</obj>\
         </objectSet></specSet>",
        vm.id
    );
    let all = rig.call(Some(&cookie), "RetrieveProperties", collector, &all).await;
    let devices = rig.call(Some(&cookie), "Fetch", this, "<prop>config.hardware.device</prop>").await;
    assert!(
        devices.body.contains("<returnval xsi:type=\"ArrayOfVirtualDevice\"><VirtualDevice xsi:type="),
        "{}",
        devices.body
    );
    let label = rig
        .call(Some(&cookie), "Fetch", this, "<prop>config.hardware.device[2000].deviceInfo.label</prop>")
        .await;
    assert_eq!(label.text("returnval"), "Hard disk 1");
    assert!(
        all.texts("propSet").len() > 10 && all.body.contains("<device xsi:type=\"VirtualDisk\">"),
        "{}",
        all.body
    );
}

#[tokio::test]
async fn walks_in_loops_without_end() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let spec = "<specSet><propSet><type>ManagedEntity</type><pathSet>name</pathSet></propSet><objectSet>\
        <obj type=\"Folder\">group-d1</obj><skip>false</skip>\
        <selectSet xsi:type=\"TraversalSpec\"><name>f</name><type>Folder</type><path>childEntity</path><selectSet><name>f</name></selectSet>\
        <selectSet><name>up</name></selectSet><selectSet><name>dv</name></selectSet><selectSet><name>dh</name></selectSet></selectSet>\
        <selectSet xsi:type=\"TraversalSpec\"><name>up</name><type>ManagedEntity</type><path>parent</path><selectSet><name>up</name></selectSet>\
        <selectSet><name>f</name></selectSet></selectSet>\
        <selectSet xsi:type=\"TraversalSpec\"><name>dv</name><type>Datacenter</type><path>vmFolder</path><selectSet><name>f</name></selectSet></selectSet>\
        <selectSet xsi:type=\"TraversalSpec\"><name>dh</name><type>Datacenter</type><path>hostFolder</path><selectSet><name>f</name></selectSet></selectSet>\
        </objectSet></specSet>";
    let answer =
        rig.call(Some(&cookie), "RetrieveProperties", ("PropertyCollector", "propertyCollector"), spec).await;
    let names = answer.texts("val");
    for name in ["Datacenters", "Datacenter", "vm", "host", "web01", "db01", "spare", "kvm1", "kvm2"] {
        assert_eq!(names.iter().filter(|n| *n == name).count(), 1, "{name} in {names:?}");
    }
    let unknown =
        spec.replace("<selectSet><name>dv</name></selectSet>", "<selectSet><name>zz</name></selectSet>");
    let answer = rig
        .call(Some(&cookie), "RetrieveProperties", ("PropertyCollector", "propertyCollector"), &unknown)
        .await;
    assert_eq!(answer.fault(), "InvalidArgument");
}

#[tokio::test]
async fn finds_objects() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let index = ("SearchIndex", "SearchIndex");
    let web = rig.front.catalog.reference(id(Kind::Vm, 0x101)).unwrap().id;
    let host = rig.front.catalog.reference(id(Kind::Host, 2)).unwrap().id;
    let uuid = id(Kind::Vm, 0x101).uuid;
    let datacenter = rig
        .call(Some(&cookie), "FindByInventoryPath", index, "<inventoryPath>Datacenter</inventoryPath>")
        .await;
    let datacenter = format!("<datacenter type=\"Datacenter\">{}</datacenter>", datacenter.text("returnval"));
    for (method, arguments, expected) in [
        ("FindByUuid", format!("<uuid>{uuid}</uuid><vmSearch>true</vmSearch>"), &*web),
        (
            "FindByUuid",
            format!(
                "{datacenter}<uuid>{uuid}</uuid><vmSearch>true</vmSearch><instanceUuid>true</instanceUuid>"
            ),
            &web,
        ),
        ("FindAllByUuid", format!("<uuid>{uuid}</uuid><vmSearch>true</vmSearch>"), &web),
        ("FindByInventoryPath", "<inventoryPath>/Datacenter/vm/web01/</inventoryPath>".into(), &web),
        ("FindByInventoryPath", "<inventoryPath>Datacenter/v%6d/web%301</inventoryPath>".into(), &web),
        ("FindByInventoryPath", "<inventoryPath>Datacenter/host/kvm2/kvm2</inventoryPath>".into(), &host),
        ("FindByIp", "<ip>192.0.2.1</ip><vmSearch>true</vmSearch>".into(), &web),
        ("FindByIp", "<ip>192.0.2.202</ip><vmSearch>false</vmSearch>".into(), &host),
        ("FindByDnsName", "<dnsName>web01.example</dnsName><vmSearch>true</vmSearch>".into(), &web),
        ("FindByDnsName", "<dnsName>kvm2</dnsName><vmSearch>false</vmSearch>".into(), &host),
        ("FindByDatastorePath", format!("{datacenter}<path>[default] web01/web01.vmx</path>"), &web),
        ("FindByUuid", "<uuid>none</uuid><vmSearch>true</vmSearch>".into(), ""),
        ("FindByInventoryPath", "<inventoryPath>Datacenter/vm/nobody</inventoryPath>".into(), ""),
    ] {
        let answer = rig.call(Some(&cookie), method, index, &arguments).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.texts("returnval").join(","), expected, "{method} {arguments}");
    }
    let bad = format!("{datacenter}<path>[none] web01/web01.vmx</path>");
    assert_eq!(
        rig.call(Some(&cookie), "FindByDatastorePath", index, &bad).await.fault(),
        "InvalidDatastorePath"
    );
}

#[tokio::test]
async fn refuses_in_the_products_words() {
    let rig = Rig::fleet();
    let admin = rig.login("admin").await;
    let watcher = rig.login("watcher").await;
    let vm = rig.front.catalog.reference(id(Kind::Vm, 0x102)).unwrap().id;
    let this = ("VirtualMachine", &*vm);
    for (cookie, method, this, arguments, fault) in [
        (&admin, "CloneVM_Task", this, "", "NotSupported"),
        (&admin, "FlyVM_Task", this, "", "InvalidRequest"),
        (&admin, "CreateFolder", this, "", "MethodNotFound"),
        (&admin, "PowerOnVM_Task", ("VirtualMachine", "vm-999"), "", "ManagedObjectNotFound"),
        (
            &admin,
            "AnswerVM",
            this,
            "<questionId>1</questionId><answerChoice>0</answerChoice>",
            "InvalidArgument",
        ),
        (
            &admin,
            "CreateContainerView",
            ("ViewManager", "ViewManager"),
            "<container type=\"Folder\">group-d1</container><type>Nonsense</type><recursive>true</recursive>",
            "InvalidArgument",
        ),
        (
            &admin,
            "WaitForUpdatesEx",
            ("PropertyCollector", "propertyCollector"),
            "<version>77</version>",
            "InvalidCollectorVersion",
        ),
        (&watcher, "PowerOffVM_Task", this, "", "NoPermission"),
        (
            &watcher,
            "TerminateSession",
            ("SessionManager", "SessionManager"),
            "<sessionId>x</sessionId>",
            "NoPermission",
        ),
    ] {
        assert_eq!(rig.call(Some(cookie), method, this, arguments).await.fault(), fault, "{method}");
    }
    assert_eq!(rig.call(None, "PowerOnVM_Task", this, "").await.fault(), "NotAuthenticated");
}

#[tokio::test]
async fn makes_a_configuration_file() {
    let rig = Rig::host();
    let text = crate::vmx::render(&rig.front.catalog, id(Kind::Vm, 0x101)).unwrap();
    for line in [
        "displayName = \"web01\"",
        "memsize = \"256\"",
        "numvcpus = \"2\"",
        "ethernet0.networkName = \"default\"",
        "ethernet0.virtualDev = \"vmxnet3\"",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
    assert!(text.lines().any(|l| l.contains(":0.fileName = \"") && l.ends_with(".vmdk\"")), "{text}");
    let found = crate::search::by_file(&rig.front.catalog, None, "default", "web01/web01.vmx");
    assert_eq!(found, Some(id(Kind::Vm, 0x101)));
}

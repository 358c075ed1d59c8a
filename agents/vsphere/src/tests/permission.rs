//! Scopes: what a user who may do little sees and does.

use super::{Rig, id, logins::scope};
use union::Kind;

/// The names of the machines that a container view shows to a session.
async fn machines(rig: &Rig, cookie: &str) -> Vec<String> {
    let arguments = "<container type=\"Folder\">group-d1</container><type>VirtualMachine</type><recursive>true</recursive>";
    let view = rig
        .call(Some(cookie), "CreateContainerView", ("ViewManager", "ViewManager"), arguments)
        .await
        .text("returnval");
    let spec = format!(
        "<specSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet></propSet><objectSet><obj type=\"ContainerView\">{view}</obj>\
         <skip>true</skip><selectSet xsi:type=\"TraversalSpec\"><type>ContainerView</type><path>view</path></selectSet></objectSet></specSet>\
         <options/>"
    );
    let collector = ("PropertyCollector", "propertyCollector");
    let read = rig.call(Some(cookie), "RetrievePropertiesEx", collector, &spec).await;
    assert_eq!(read.status, 200, "{}", read.body);
    let mut names = read.texts("val");
    names.sort();
    names
}

/// The machines that their folder lists to a session.
async fn native_list(rig: &Rig, cookie: &str) -> Vec<String> {
    let folder = rig.front.catalog.reference(find_folder(rig)).unwrap().id;
    let read = rig.call(Some(cookie), "Fetch", ("Folder", &folder), "<prop>childEntity</prop>").await;
    read.texts("ManagedObjectReference")
}

#[tokio::test]
async fn a_scope_limits_what_is_seen_and_done() {
    let rig = Rig::fleet();
    let (web, db) = (id(Kind::Vm, 0x101), id(Kind::Vm, 0x102));
    rig.engine.users.lock().insert("operator".into(), vec![scope(&web.to_string(), &["Read", "PowerOff"])]);
    let host = id(Kind::Host, 2).to_string();
    rig.engine.users.lock().insert("keeper".into(), vec![scope(&host, &["Read"])]);
    rig.engine.users.lock().insert("nobody".into(), vec![]);
    let cookie = rig.login("operator").await;
    assert_eq!(machines(&rig, &rig.login("admin").await).await, ["db01", "spare", "web01"]);
    assert_eq!(machines(&rig, &cookie).await, ["web01"]);
    let shown = native_list(&rig, &cookie).await;
    assert_eq!(shown.len(), 1, "lists of references leave out what is not seen: {shown:?}");
    assert_eq!(machines(&rig, &rig.login("keeper").await).await, ["spare", "web01"]);
    let find = |path: &'static str| {
        let arguments = format!("<inventoryPath>{path}</inventoryPath>");
        let (rig, cookie) = (&rig, &cookie);
        async move {
            let index = ("SearchIndex", "SearchIndex");
            let found = rig.call(Some(cookie), "FindByInventoryPath", index, &arguments).await;
            found.texts("returnval").len()
        }
    };
    assert_eq!((find("Datacenter/vm/web01").await, find("Datacenter/vm/db01").await), (1, 0));
    assert_eq!((find("Datacenter/vm").await, find("Datacenter/network/default").await), (1, 0));
    let native = |id| rig.front.catalog.reference(id).unwrap().id.to_string();
    let web_id = web;
    let (web, db) = (native(web), native(db));
    let read = |vm: String| {
        let (rig, cookie) = (&rig, &cookie);
        async move { rig.call(Some(cookie), "Fetch", ("VirtualMachine", &vm), "<prop>name</prop>").await }
    };
    assert_eq!(read(web.clone()).await.text("returnval"), "web01");
    let refused = read(db).await;
    assert_eq!(
        (refused.fault().as_str(), refused.text("privilegeId").as_str()),
        ("NoPermission", "System.Read")
    );
    let this = ("VirtualMachine", &*web);
    let refused = rig.call(Some(&cookie), "SuspendVM_Task", this, "").await;
    assert_eq!(refused.fault(), "NoPermission");
    assert_eq!(refused.text("faultstring"), "Permission to perform this operation was denied.");
    assert_eq!(refused.text("privilegeId"), "VirtualMachine.Interact.Suspend");
    assert_eq!(refused.text("object"), web, "{}", refused.body);
    let own = rig.front.sessions.list().iter().find(|s| &*s.principal == "operator").unwrap().id.clone();
    let arguments = format!(
        "<entity type=\"VirtualMachine\">{web}</entity><sessionId>{own}</sessionId><privId>VirtualMachine.Interact.PowerOff</privId>\
         <privId>VirtualMachine.Interact.Reset</privId><privId>System.Read</privId><privId>Host.Config.Power</privId>"
    );
    let manager = ("AuthorizationManager", "AuthorizationManager");
    let granted = rig.call(Some(&cookie), "HasPrivilegeOnEntities", manager, &arguments).await;
    assert_eq!(granted.texts("isGranted"), ["true", "false", "true", "false"], "{}", granted.body);
    assert_eq!(rig.call(Some(&cookie), "PowerOffVM_Task", this, "").await.status, 200);
    // Who may move things in one place may not fetch them from another.
    let folder = find_folder(&rig);
    let mover = vec![scope(&folder.to_string(), &["Read"]), scope(&web_id.to_string(), &["MoveIntoFolder"])];
    rig.engine.users.lock().insert("mover".into(), mover);
    let (mover, folder) = (rig.login("mover").await, native(folder));
    let list = format!("<list type=\"VirtualMachine\">{web}</list>");
    let refused = rig.call(Some(&mover), "MoveIntoFolder_Task", ("Folder", &folder), &list).await;
    assert_eq!((refused.fault(), refused.text("object")), ("NoPermission".to_owned(), folder));
    let nobody = rig.login("nobody").await;
    let root = ("Folder", "group-d1");
    assert_eq!(rig.call(Some(&nobody), "Fetch", root, "<prop>name</prop>").await.fault(), "NoPermission");
}

/// The folder that machines lie in.
fn find_folder(rig: &Rig) -> union::ObjectId {
    let inventory = rig.front.catalog.inventory();
    let slot = inventory.schema().slot(Kind::Vm, "folder_id").unwrap();
    inventory.record(inventory.ids(Kind::Vm)[0]).unwrap().get(slot).as_ref_id().unwrap()
}

#[tokio::test]
async fn a_revoked_session_is_none() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let session = rig.front.sessions.list().pop().unwrap();
    session.pass.ended.cancel();
    let read = rig.call(Some(&cookie), "Fetch", ("Folder", "group-d1"), "<prop>name</prop>").await;
    assert_eq!(read.fault(), "NotAuthenticated");
    assert_eq!(rig.front.sessions.list().len(), 0);
}

#[tokio::test]
async fn a_session_comes_back_after_the_front_forgot_it() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let read = |cookie: &str| {
        let (rig, cookie) = (&rig, cookie.to_owned());
        async move { rig.call(Some(&cookie), "Fetch", ("Folder", "group-d1"), "<prop>name</prop>").await }
    };
    let view =
        "<container type=\"Folder\">group-d1</container><type>Folder</type><recursive>true</recursive>";
    let made = rig.call(Some(&cookie), "CreateContainerView", ("ViewManager", "ViewManager"), view).await;
    let view = made.text("returnval");
    assert_eq!(rig.front.sessions.forget_all(), 1, "as at a restart, or at another front");
    assert_eq!(read(&cookie).await.text("returnval"), "Datacenters");
    assert_eq!(rig.front.sessions.list().len(), 1);
    let gone = rig.call(Some(&cookie), "DestroyView", ("ContainerView", &view), "").await;
    assert_eq!(gone.fault(), "ManagedObjectNotFound", "views are the front's and died with it");
    assert_eq!(rig.call(Some(&cookie), "Logout", ("SessionManager", "SessionManager"), "").await.status, 200);
    assert_eq!(read(&cookie).await.fault(), "NotAuthenticated");
    let forged = cookie.replace("vmware_soap_session=\"0", "vmware_soap_session=\"f");
    assert_eq!(read(&forged).await.fault(), "NotAuthenticated");
}

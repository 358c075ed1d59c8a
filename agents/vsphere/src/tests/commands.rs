//! Calls that change things, as the union commands that they become.

use super::{BUNDLE, Rig, facts, id};
use ::inventory::{Inventory, Layout, Put, Skeleton, Tasks};
use lane::{Commands, Reply, Ticket};
use parking_lot::Mutex;
use std::sync::Arc;
use union::{
    Command, CommandId, Kind, ObjectId, Record, Value,
    command::{Cause, Code, Outcome, Revision},
};

/// Takes every command, keeps it, and says that it was done or, for one called `fail`, that it was not.
#[derive(Debug)]
struct Taker {
    tasks: Arc<Tasks>,
    taken: Mutex<Vec<Command>>,
    result: Mutex<Option<ObjectId>>,
}

impl Commands for Taker {
    fn submit(&self, command: Command, reply: Reply) -> Result<Ticket, Cause> {
        let task = (reply == Reply::Task).then(|| self.tasks.create(&command, true));
        let (ticket, ending) = Ticket::open(command.id, task);
        let result = *self.result.lock();
        let outcome = match &*command.session {
            _ if text(&command, "name") == "fail" => {
                Outcome::Refused(Cause::new(Code::Permission, "the engine says no"))
            }
            _ => Outcome::Done { revision: Revision::default(), result, already: false },
        };
        if let Some(task) = task {
            match &outcome {
                Outcome::Refused(cause) => drop(self.tasks.failed(task, cause)),
                _ => drop(self.tasks.done(task, result)),
            }
        }
        self.taken.lock().push(command);
        ending.end(outcome);
        Ok(ticket)
    }

    fn cancel(&self, _: CommandId) -> Result<(), Cause> {
        Err(Cause::new(Code::NotFound, "it has ended"))
    }
}

fn field(record: &Record, name: &str) -> Value {
    let message = BUNDLE.schema.get(record.message()).unwrap();
    message.field(name).map(|field| record.get(field.slot).clone()).unwrap_or_default()
}

fn text(command: &Command, name: &str) -> String {
    field(&command.body, name).as_str().unwrap_or_default().to_owned()
}

fn rig() -> (Rig, Arc<Taker>) {
    let mut taker = None;
    let rig = Rig::with("fleet", Layout::Fleet(Skeleton::default()), |tasks, _: &Arc<Inventory>| {
        let made = Arc::new(Taker { tasks, taken: Mutex::default(), result: Mutex::default() });
        taker = Some(made.clone());
        made
    });
    (rig, taker.unwrap())
}

#[tokio::test]
async fn changes_a_machine() {
    let (rig, taker) = rig();
    let cookie = rig.login("admin").await;
    let vm = rig.front.catalog.reference(id(Kind::Vm, 0x101)).unwrap().id;
    let this = ("VirtualMachine", &*vm);
    let spec = "<spec><changeVersion>7</changeVersion><name>web &amp; 1</name><numCPUs>4</numCPUs><memoryMB>512</memoryMB>\
        <deviceChange><operation>edit</operation><device xsi:type=\"VirtualVmxnet3\"><key>4000</key>\
        <connectable><startConnected>false</startConnected><allowGuestControl>true</allowGuestControl><connected>false</connected></connectable>\
        </device></deviceChange>\
        <extraConfig xsi:type=\"OptionValue\"><key>guestinfo.a</key><value xsi:type=\"xsd:string\">1</value></extraConfig>\
        <extraConfig xsi:type=\"OptionValue\"><key>guestinfo.b</key><value xsi:type=\"xsd:string\"></value></extraConfig></spec>";
    let task = rig.call(Some(&cookie), "ReconfigVM_Task", this, spec).await;
    assert!(task.body.contains("<returnval type=\"Task\">"), "{}", task.body);
    let command = taker.taken.lock().pop().unwrap();
    assert_eq!((&*command.verb, command.object), ("Reconfigure", id(Kind::Vm, 0x101)));
    assert_eq!(text(&command, "name"), "web & 1");
    assert_eq!(text(&command, "change_version"), "7");
    assert_eq!(field(&command.body, "memory_bytes"), Value::Int(512 << 20));
    let Value::List(settings) = field(&command.body, "settings") else { panic!("no settings") };
    assert_eq!(settings.len(), 2);
    let Value::List(devices) = field(&command.body, "devices") else { panic!("no devices") };
    let Some(Value::Record(change)) = devices.first() else { panic!("{devices:?}") };
    assert_eq!(field(change, "list"), Value::from("nics"));
    assert_eq!(field(change, "key"), Value::from("52:54:00:00:00:01"), "the stored item's own");
    let Value::Record(nic) = field(change, "nic") else { panic!("{change:?}") };
    assert_eq!(field(&nic, "connected"), Value::Bool(false));
    for (spec, fault) in [
        ("<spec><numCPUs>many</numCPUs></spec>", "InvalidArgument"),
        ("<spec><npivOnNonRdmDisks>true</npivOnNonRdmDisks></spec>", "NotSupported"),
        (
            "<spec><deviceChange><operation>remove</operation><device xsi:type=\"VirtualE1000\"><key>4009</key></device></deviceChange></spec>",
            "InvalidDeviceSpec",
        ),
    ] {
        assert_eq!(rig.call(Some(&cookie), "ReconfigVM_Task", this, spec).await.fault(), fault, "{spec}");
    }
    assert!(taker.taken.lock().is_empty());
}

#[tokio::test]
async fn makes_machines_and_folders() {
    let (rig, taker) = rig();
    let cookie = rig.login("admin").await;
    let native = |id: ObjectId| rig.front.catalog.reference(id).unwrap().id.to_string();
    let inventory = rig.front.catalog.inventory();
    let folder = inventory.ids(Kind::Vm).first().and_then(|vm| {
        let slot = inventory.schema().slot(Kind::Vm, "folder_id")?;
        inventory.record(*vm)?.get(slot).as_ref_id()
    });
    let folder = folder.unwrap();
    let pool = inventory.ids(Kind::ResourcePool).first().copied().unwrap();
    let this = ("Folder", &*native(folder));
    *taker.result.lock() = Some(id(Kind::Vm, 0x102));
    let arguments = format!(
        "<config><name>new</name><guestId>otherGuest</guestId><files><vmPathName>[default]</vmPathName></files><numCPUs>1</numCPUs>\
         <memoryMB>64</memoryMB></config><pool type=\"ResourcePool\">{}</pool>",
        native(pool)
    );
    let task = rig.call(Some(&cookie), "CreateVM_Task", this, &arguments).await.text("returnval");
    let info = rig.call(Some(&cookie), "Fetch", ("Task", &task), "<prop>info</prop>").await;
    let made = native(id(Kind::Vm, 0x102));
    assert!(
        info.body.contains(&format!(
            "<result type=\"VirtualMachine\" xsi:type=\"ManagedObjectReference\">{made}<"
        )),
        "{}",
        info.body
    );
    let command = taker.taken.lock().pop().unwrap();
    assert_eq!((&*command.verb, command.object), ("CreateVm", folder));
    assert_eq!(field(&command.body, "resource_pool_id"), Value::Ref(pool));
    let fresh = field(&command.body, "vm_id").as_ref_id().unwrap();
    assert!(fresh.kind == Kind::Vm && inventory.record(fresh).is_none());
    // A folder's method answers with the folder itself.
    *taker.result.lock() = Some(folder);
    let made = rig.call(Some(&cookie), "CreateFolder", this, "<name>prod</name>").await;
    assert!(made.body.contains(&format!("<returnval type=\"Folder\">{}<", this.1)), "{}", made.body);
    let command = taker.taken.lock().pop().unwrap();
    assert_eq!((&*command.verb, text(&command, "name")), ("CreateFolder", "prod".to_owned()));
    // The same method name is another command on another type.
    let vm = native(id(Kind::Vm, 0x101));
    for (this, verb) in [(("VirtualMachine", &*vm), "RenameVm"), (this, "RenameFolder")] {
        rig.call(Some(&cookie), "Rename_Task", this, "<newName>x</newName>").await;
        assert_eq!(&*taker.taken.lock().pop().unwrap().verb, verb);
    }
    let refused = rig.call(Some(&cookie), "CreateFolder", this, "<name>fail</name>").await;
    assert_eq!(
        (refused.fault().as_str(), refused.text("privilegeId").as_str()),
        ("NoPermission", "Folder.Create")
    );
    let task =
        rig.call(Some(&cookie), "Rename_Task", this, "<newName>fail</newName>").await.text("returnval");
    let info = rig.call(Some(&cookie), "Fetch", ("Task", &task), "<prop>info</prop>").await;
    assert!(info.body.contains("<fault xsi:type=\"NoPermission\">"), "{}", info.body);
    assert_eq!(info.text("privilegeId"), "Folder.Rename");
}

#[tokio::test]
async fn looks_for_files() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let pool = id(Kind::StoragePool, 0x30);
    let volume = super::record(
        Kind::Volume,
        &[
            ("name", "boot.iso".into()),
            ("storage_pool_id", Value::Ref(pool)),
            ("capacity_bytes", Value::Int(2048)),
        ],
    );
    rig.source.apply(facts());
    rig.source.apply(vec![Put::Whole(id(Kind::Volume, 0x50), volume)]);
    let store = rig.front.catalog.reference(pool).unwrap().id;
    let this = ("HostDatastoreBrowser", &*format!("datastoreBrowser-{store}"));
    let find = |method: &'static str, path: &str, pattern: &str| {
        let arguments = format!(
            "<datastorePath>{path}</datastorePath><searchSpec><details><fileType>true</fileType><fileSize>true</fileSize>\
             <modification>false</modification></details><matchPattern>{pattern}</matchPattern></searchSpec>"
        );
        let (rig, cookie) = (&rig, &cookie);
        async move {
            let task = rig.call(Some(cookie), method, this, &arguments).await.text("returnval");
            rig.call(Some(cookie), "Fetch", ("Task", &task), "<prop>info</prop>").await
        }
    };
    let found = find("SearchDatastore_Task", "[default]", "*.ISO").await;
    assert!(
        found.body.contains(
            "<file xsi:type=\"IsoImageFileInfo\"><path>boot.iso</path><fileSize>2048</fileSize></file>"
        ),
        "{}",
        found.body
    );
    let home = find("SearchDatastore_Task", "[default] web01", "web01.vmx").await;
    assert_eq!(
        (home.text("folderPath").as_str(), home.text("path").as_str()),
        ("[default] web01/", "web01.vmx")
    );
    let below = find("SearchDatastoreSubFolders_Task", "[default]", "*.vmx").await;
    assert_eq!(below.texts("HostDatastoreBrowserSearchResults").len(), 4, "{}", below.body);
    assert_eq!(find("SearchDatastore_Task", "[default] .", "boot.iso").await.texts("path"), ["boot.iso"]);
    let none = find("SearchDatastore_Task", "[default] nowhere", "*").await;
    assert!(
        none.body.contains("<fault xsi:type=\"FileNotFound\"><file>[default] nowhere</file>"),
        "{}",
        none.body
    );
    let wrong =
        rig.call(Some(&cookie), "SearchDatastore_Task", this, "<datastorePath>[x]</datastorePath>").await;
    assert_eq!(wrong.fault(), "InvalidDatastorePath");
}

//! Power calls through the lane to a target that does at once what it is told.

use super::{BUNDLE, Rig, id};
use ::inventory::{Inventory, Put};
use lane::{NativeCall, Progress, Target, TargetError};
use std::sync::Arc;
use tokio::time::Instant;
use union::{Kind, ObjectId, Value, command::Revision, pb};

/// The machines of the rig.
pub(super) struct Machines {
    inventory: Arc<Inventory>,
}

impl Machines {
    pub(super) fn new(inventory: Arc<Inventory>) -> Machines {
        Machines { inventory }
    }
}

#[async_trait::async_trait]
impl Target for Machines {
    fn protocol(&self) -> &str {
        "sim"
    }

    fn name(&self) -> &str {
        "rig"
    }

    fn holds(&self, id: ObjectId) -> bool {
        id.kind == Kind::Vm
    }

    async fn perform(
        &self,
        object: ObjectId,
        call: &NativeCall,
        _: Instant,
        progress: Progress,
    ) -> Result<Value, TargetError> {
        let state = match &*call.call {
            "PowerOn" => pb::PowerState::Running,
            "PowerOff" | "ShutdownGuest" => pb::PowerState::Stopped,
            "Suspend" => pb::PowerState::Suspended,
            "Reset" | "RebootGuest" => return Ok(Value::Absent),
            other => return Err(TargetError::Unsupported(other.to_owned())),
        };
        progress(50);
        let slot = BUNDLE.schema.slot(Kind::Vm, "power_state").unwrap();
        self.inventory.apply(vec![Put::Slots(object, vec![(slot, (state as i32).into())])]);
        Ok(Value::Absent)
    }

    async fn reread(&self, _: ObjectId, _: Instant) -> Result<Revision, TargetError> {
        Ok(self.inventory.revision())
    }
}

async fn ended(rig: &Rig, cookie: &str, task: &str) -> super::Answer {
    for _ in 0..10_000 {
        let info = rig.call(Some(cookie), "Fetch", ("Task", task), "<prop>info</prop>").await;
        if matches!(info.text("state").as_str(), "success" | "error") {
            return info;
        }
        tokio::task::yield_now().await;
    }
    panic!("{task} does not end");
}

#[tokio::test]
async fn powers_machines() {
    let rig = Rig::fleet();
    let (cookie, other) = (rig.login("admin").await, rig.login("watcher").await);
    let machine = rig.front.catalog.reference(id(Kind::Vm, 0x101)).unwrap().id;
    let this = ("VirtualMachine", &*machine);
    for (method, after) in [
        ("PowerOffVM_Task", "poweredOff"),
        ("PowerOnVM_Task", "poweredOn"),
        ("ResetVM_Task", "poweredOn"),
        ("SuspendVM_Task", "suspended"),
        ("PowerOnVM_Task", "poweredOn"),
    ] {
        let task = rig.call(Some(&cookie), method, this, "").await;
        assert!(task.body.contains("<returnval type=\"Task\">task-"), "{}", task.body);
        let info = ended(&rig, &cookie, &task.text("returnval")).await;
        assert_eq!(
            (info.text("state"), info.text("name")),
            ("success".into(), method.to_owned()),
            "{}",
            info.body
        );
        assert_eq!(info.texts("userName"), ["admin"]);
        // Whoever looks now sees it, in any session.
        let seen = rig.call(Some(&other), "Fetch", this, "<prop>runtime.powerState</prop>").await;
        assert_eq!(seen.text("returnval"), after, "{method}");
    }
    let task = rig.call(Some(&cookie), "PowerOnVM_Task", this, "").await.text("returnval");
    let info = ended(&rig, &cookie, &task).await;
    assert!(info.body.contains("<error><fault xsi:type=\"InvalidPowerState\">"), "{}", info.body);
    let down = rig.call(Some(&cookie), "ShutdownGuest", this, "").await;
    assert!(down.body.contains("<ShutdownGuestResponse xmlns=\"urn:vim25\"/>"), "{}", down.body);
    assert_eq!(rig.call(Some(&cookie), "ShutdownGuest", this, "").await.fault(), "InvalidPowerState");
    let recent = rig.call(Some(&cookie), "Fetch", this, "<prop>recentTask</prop>").await;
    assert_eq!(recent.texts("ManagedObjectReference").len(), 6, "{}", recent.body);
}

#[tokio::test]
async fn powers_several_as_a_plan() {
    let rig = Rig::fleet();
    let cookie = rig.login("admin").await;
    let machine = |n: u128| rig.front.catalog.reference(id(Kind::Vm, 0x100 + n)).unwrap().id;
    let arguments = format!(
        "<vm type=\"VirtualMachine\">{}</vm><vm type=\"VirtualMachine\">{}</vm>",
        machine(2),
        machine(3)
    );
    let task =
        rig.call(Some(&cookie), "PowerOnMultiVM_Task", ("Datacenter", "datacenter-1"), &arguments).await;
    let info = ended(&rig, &cookie, &task.text("returnval")).await;
    assert!(
        info.body
            .contains("<result xsi:type=\"ClusterPowerOnVmResult\"><attempted><vm type=\"VirtualMachine\">"),
        "{}",
        info.body
    );
    assert_eq!((info.text("state"), info.texts("attempted").len()), ("success".into(), 2));
    for n in [2, 3] {
        let vm = machine(n);
        let seen = rig
            .call(Some(&cookie), "Fetch", ("VirtualMachine", &vm), "<prop>runtime.powerState</prop>")
            .await;
        assert_eq!(seen.text("returnval"), "poweredOn");
    }
    let none = rig.call(Some(&cookie), "PowerOnMultiVM_Task", ("Datacenter", "datacenter-1"), "").await;
    assert_eq!(none.fault(), "InvalidArgument");
}

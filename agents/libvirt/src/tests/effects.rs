//! Union commands that change a VM, by the tables of `mappings/libvirt`, through the lane to a real libvirt.

use super::{
    bundle,
    edit::iso,
    hot::growing,
    lane::Commands,
    rig::{Rig, bios_guest},
};
use std::sync::Arc;
use union::{
    Kind, ObjectId, Record, Value,
    command::{Code, Outcome},
    pb::{BootDevice, DeviceOp, PowerState},
};

type Fields<'a> = &'a [(&'a str, Value)];

impl Commands {
    fn part(&self, message: &str, fields: Fields<'_>) -> Value {
        Value::Record(self.bench.item(message, fields))
    }

    /// A change of a device.
    fn device(&self, op: DeviceOp, list: &str, key: &str, item: (&str, Fields<'_>), clear: &[&str]) -> Value {
        let (message, fields) = item;
        let mut all = vec![("op", Value::Int(op as i64)), ("list", Value::str(list))];
        if !key.is_empty() {
            all.push(("key", Value::str(key)));
        }
        let field = message.to_lowercase();
        if op != DeviceOp::DeviceRemove {
            all.push((field.as_str(), self.part(message, fields)));
        }
        all.push(("clear", Value::list(clear.iter().map(|c| Value::str(c)))));
        self.part("DeviceChange", &all)
    }

    /// Reconfigures a VM and expects that it is done.
    async fn reconfigured(&self, vm: ObjectId, fields: Fields<'_>) {
        let outcome = self.ask("Reconfigure", vm, fields).await;
        assert!(matches!(outcome, Outcome::Done { already: false, .. }), "{fields:?}: {outcome:?}");
    }

    async fn refused(&self, vm: ObjectId, fields: Fields<'_>) -> (Code, String) {
        match self.ask("Reconfigure", vm, fields).await {
            Outcome::Refused(cause) | Outcome::Failed(cause) => (cause.code, cause.message),
            other => panic!("{fields:?}: {other:?}"),
        }
    }

    /// A field of every item of a list.
    fn column(&self, vm: ObjectId, list: &str, field: &str) -> Vec<Value> {
        let schema = self.bench.inventory.schema();
        let items = self.bench.field(vm, list);
        let items = items.items().iter().filter_map(Value::as_record);
        items.map(|item: &Arc<Record>| crate::inventory::get(schema, item, field).clone()).collect()
    }
}

/// A guest with a drive and a NIC.
fn equipped(name: &str, medium: &str) -> String {
    let devices = format!(
        "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{medium}'/>\
         <target dev='hda' bus='ide'/><readonly/></disk>\
         <interface type='user'><mac address='52:54:00:00:00:0a'/><model type='e1000'/></interface></devices>"
    );
    bios_guest(name).replace("</devices>", &devices)
}

const NIC: &str = "52:54:00:00:00:0a";

#[tokio::test]
async fn a_stopped_vm_is_reconfigured_in_one_go() {
    let rig = Rig::start();
    let (one, two) = (iso(&rig, "one.iso"), iso(&rig, "two.iso"));
    rig.define(&equipped("still", &one));
    let commands = Commands::start(&rig).await;
    let vm = commands.bench.vm("still");
    let changes = Value::list([
        commands.device(DeviceOp::DeviceEdit, "cdroms", "hda", ("Cdrom", &[("path", Value::str(&two))]), &[]),
        commands.device(
            DeviceOp::DeviceEdit,
            "nics",
            NIC,
            ("Nic", &[("connected", Value::Bool(false))]),
            &[],
        ),
        commands.device(DeviceOp::DeviceAdd, "nics", "", ("Nic", &[("backing", Value::str("user"))]), &[]),
    ]);
    let boot = [BootDevice::BootCdrom, BootDevice::BootDisk].map(|d| Value::Int(d as i64));
    let wanted = [
        ("name", Value::str("moved")),
        ("description", Value::str("all at once")),
        ("cpu_count", Value::Int(2)),
        ("cores_per_socket", Value::Int(2)),
        ("memory_bytes", Value::Int(48 << 20)),
        ("boot", Value::list(boot.clone())),
        ("devices", changes),
    ];
    commands.reconfigured(vm, &wanted).await;
    for (field, value) in wanted.iter().filter(|(field, _)| *field != "devices") {
        assert_eq!(commands.bench.field(vm, field), *value, "{field}");
    }
    assert_eq!(commands.column(vm, "cdroms", "path"), [Value::str(&two)]);
    assert_eq!(commands.column(vm, "nics", "connected"), [Value::Bool(false), Value::Bool(true)]);
    let added = commands.column(vm, "nics", "id").pop().unwrap();
    let remove = commands.device(DeviceOp::DeviceRemove, "nics", added.as_str().unwrap(), ("Nic", &[]), &[]);
    let eject = commands.device(DeviceOp::DeviceEdit, "cdroms", "hda", ("Cdrom", &[]), &["path"]);
    let empty = [("devices", Value::list([remove, eject])), ("description", Value::str(""))];
    commands.reconfigured(vm, &empty).await;
    assert_eq!(commands.column(vm, "cdroms", "path"), [Value::Absent]);
    assert_eq!(commands.column(vm, "nics", "id"), [Value::str(NIC)]);
    assert!(commands.bench.field(vm, "description").is_absent());
    commands.done("PowerOn", vm, PowerState::Running).await;
}

#[tokio::test]
async fn a_running_vm_changes_what_it_can_while_it_runs() {
    let rig = Rig::start();
    let (one, two) = (iso(&rig, "one.iso"), iso(&rig, "two.iso"));
    rig.define(&equipped("busy", &one));
    let commands = Commands::start(&rig).await;
    let vm = commands.bench.vm("busy");
    commands.done("PowerOn", vm, PowerState::Running).await;
    // Its BIOS resets the drive, which closes an open tray without libvirt's knowing: see mappings/libvirt/NOTES.md.
    commands.done("Pause", vm, PowerState::Paused).await;
    let edit = |list: &str, key: &str, item: (&str, Fields<'_>), clear: &[&str]| {
        [("devices", Value::list([commands.device(DeviceOp::DeviceEdit, list, key, item, clear)]))]
    };
    commands.reconfigured(vm, &edit("cdroms", "hda", ("Cdrom", &[]), &["path"])).await;
    assert_eq!(commands.column(vm, "cdroms", "path"), [Value::Absent]);
    commands.reconfigured(vm, &edit("cdroms", "hda", ("Cdrom", &[("path", Value::str(&two))]), &[])).await;
    assert_eq!(commands.column(vm, "cdroms", "path"), [Value::str(&two)]);
    commands.reconfigured(vm, &edit("nics", NIC, ("Nic", &[("connected", Value::Bool(false))]), &[])).await;
    assert_eq!(commands.column(vm, "nics", "connected"), [Value::Bool(false)]);
    commands.reconfigured(vm, &[("description", Value::str("while it runs"))]).await;
    assert_eq!(commands.bench.field(vm, "description"), Value::str("while it runs"));
    let (code, message) = commands.refused(vm, &[("name", Value::str("other"))]).await;
    assert_eq!(code, Code::InvalidState, "{message}");
    commands.done("Unpause", vm, PowerState::Running).await;
    commands.done("PowerOff", vm, PowerState::Stopped).await;
    assert_eq!(commands.column(vm, "cdroms", "path"), [Value::str(&two)], "also when it starts again");
}

#[tokio::test]
async fn a_running_vm_is_told_what_its_next_start_boots_from() {
    let rig = Rig::start();
    rig.define(&equipped("next", &iso(&rig, "one.iso")));
    let commands = Commands::start(&rig).await;
    let vm = commands.bench.vm("next");
    let order = |list: [BootDevice; 2]| Value::list(list.map(|d| Value::Int(d as i64)));
    let (disk_first, cdrom_first) = (
        order([BootDevice::BootDisk, BootDevice::BootCdrom]),
        order([BootDevice::BootCdrom, BootDevice::BootDisk]),
    );
    commands.reconfigured(vm, &[("boot", disk_first.clone())]).await;
    commands.done("PowerOn", vm, PowerState::Running).await;
    assert_eq!(commands.bench.field(vm, "boot"), disk_first);
    let change = [("boot", cdrom_first.clone()), ("description", Value::str("with it"))];
    commands.reconfigured(vm, &change).await;
    assert_eq!(commands.bench.field(vm, "boot"), cdrom_first);
    let boots = |document: &str| {
        let devices = document.split("<boot dev='").skip(1).filter_map(|rest| rest.split('\'').next());
        devices.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(boots(&rig.virsh(&["dumpxml", "--inactive", "next"])), ["cdrom", "hd"]);
    assert_eq!(boots(&rig.virsh(&["dumpxml", "next"])), ["hd", "cdrom"], "what runs was started so");
    for state in [PowerState::Stopped, PowerState::Running] {
        let verb = if state == PowerState::Running { "PowerOn" } else { "PowerOff" };
        commands.done(verb, vm, state).await;
        assert_eq!(commands.bench.field(vm, "boot"), cdrom_first, "{verb}");
    }
    assert_eq!(boots(&rig.virsh(&["dumpxml", "next"])), ["cdrom", "hd"]);
    assert_eq!(commands.bench.field(vm, "description"), Value::str("with it"));
}

#[tokio::test]
async fn a_device_that_the_guest_keeps_is_not_said_to_be_gone() {
    let rig = Rig::start();
    rig.define(&equipped("keeps", &iso(&rig, "one.iso")));
    let commands = Commands::start(&rig).await;
    let vm = commands.bench.vm("keeps");
    commands.done("PowerOn", vm, PowerState::Running).await;
    let remove = commands.device(DeviceOp::DeviceRemove, "nics", NIC, ("Nic", &[]), &[]);
    // No system in it answers the request to let go.
    let (code, message) = commands.refused(vm, &[("devices", Value::list([remove]))]).await;
    assert_eq!(code, Code::GuestUnavailable, "{message}");
    assert_eq!(commands.column(vm, "nics", "id"), [Value::str(NIC)]);
    commands.done("PowerOff", vm, PowerState::Stopped).await;
    assert_eq!(commands.column(vm, "nics", "id"), []);
}

#[tokio::test]
async fn a_running_vm_grows_as_far_as_it_is_made_for() {
    let rig = Rig::start();
    rig.define(&growing("grows"));
    rig.define(&bios_guest("fixed"));
    let commands = Commands::start(&rig).await;
    let (vm, fixed) = (commands.bench.vm("grows"), commands.bench.vm("fixed"));
    for vm in [vm, fixed] {
        commands.done("PowerOn", vm, PowerState::Running).await;
    }
    let memory = commands.bench.field(vm, "memory_bytes").as_int().unwrap() + (128 << 20);
    let more = [("cpu_count", Value::Int(2)), ("memory_bytes", Value::Int(memory))];
    commands.reconfigured(vm, &more).await;
    assert_eq!(commands.bench.field(vm, "cpu_current"), Value::Int(2));
    assert_eq!(commands.bench.field(vm, "memory_bytes"), Value::Int(memory));
    for (vm, field, value) in [
        (vm, "cpu_count", Value::Int(4)),
        (vm, "cpu_count", Value::Int(1)),
        (vm, "memory_bytes", Value::Int(memory / 2)),
        (fixed, "cpu_count", Value::Int(2)),
        (fixed, "memory_bytes", Value::Int(64 << 20)),
    ] {
        let (code, message) = commands.refused(vm, &[(field, value)]).await;
        assert_eq!(code, Code::InvalidState, "{field}: {message}");
    }
    for (verb, state) in [("PowerOff", PowerState::Stopped), ("PowerOn", PowerState::Running)] {
        commands.done(verb, vm, state).await;
        assert_eq!(commands.bench.field(vm, "cpu_current"), Value::Int(2), "{verb}");
        assert_eq!(commands.bench.field(vm, "memory_bytes"), Value::Int(memory), "{verb}");
    }
}

#[tokio::test]
async fn what_a_stopped_vm_cannot_be_is_refused() {
    let rig = Rig::start();
    rig.define(&growing("cells"));
    rig.define(&bios_guest("plain"));
    let commands = Commands::start(&rig).await;
    let (cells, plain) = (commands.bench.vm("cells"), commands.bench.vm("plain"));
    let topology = [("cpu_count", Value::Int(3)), ("cores_per_socket", Value::Int(2))];
    let (code, message) = commands.refused(plain, &topology).await;
    assert_eq!(code, Code::InvalidArgument, "{message}");
    let (code, message) = commands.refused(cells, &[("memory_bytes", Value::Int(256 << 20))]).await;
    assert_eq!(code, Code::NotSupported, "{message}");
    let (code, message) = commands.refused(plain, &[("name", Value::str("cells"))]).await;
    assert_eq!(code, Code::Duplicate, "{message}");
}

#[tokio::test]
async fn half_a_change_is_taken_back() {
    let rig = Rig::start();
    rig.define(&equipped("whole", &iso(&rig, "one.iso")));
    let commands = Commands::start(&rig).await;
    let vm = commands.bench.vm("whole");
    let before = rig.virsh(&["dumpxml", "--inactive", "--security-info", "whole"]);
    let nic = commands.device(DeviceOp::DeviceRemove, "nics", "52:54:00:00:00:ff", ("Nic", &[]), &[]);
    let wanted = [("name", Value::str("half")), ("devices", Value::list([nic]))];
    let (code, message) = commands.refused(vm, &wanted).await;
    assert_eq!(code, Code::InvalidArgument, "{message}");
    assert_eq!(rig.virsh(&["dumpxml", "--inactive", "--security-info", "whole"]), before);
    assert_eq!(commands.bench.field(vm, "name"), Value::str("whole"));
}

#[tokio::test]
async fn a_vm_is_made_renamed_and_destroyed_with_its_disks() {
    let rig = Rig::start();
    let images = rig.images();
    rig.virsh(&["pool-create-as", "local", "dir", "--target", images.to_str().unwrap()]);
    rig.virsh(&["vol-create-as", "local", "d.img", "1M", "--format", "raw"]);
    let commands = Commands::start(&rig).await;
    let vm = ObjectId::derived(Kind::Vm, &["made"]);
    let folder = ObjectId::derived(Kind::Folder, &["vms"]);
    let nics = Value::list([commands.part("Nic", &[("backing", Value::str("user"))])]);
    let like = commands.part(
        "Vm",
        &[
            ("name", Value::str("made")),
            ("memory_bytes", Value::Int(32 << 20)),
            ("cpu_count", Value::Int(1)),
            ("nics", nics),
        ],
    );
    let host = commands.bench.target.host().unwrap();
    let body = [("vm_id", Value::Ref(vm)), ("host_id", Value::Ref(host)), ("vm", like)];
    let outcome = commands.create(folder, &body).await;
    assert!(matches!(outcome, Outcome::Done { result: Some(id), .. } if id == vm), "{outcome:?}");
    assert_eq!(commands.bench.field(vm, "name"), Value::str("made"));
    assert_eq!(commands.bench.field(vm, "nic_count"), Value::Int(1));
    let again = commands.create(folder, &body).await;
    assert!(matches!(&again, Outcome::Failed(cause) if cause.code == Code::Duplicate), "{again:?}");
    let renamed = commands.ask("RenameVm", vm, &[("name", Value::str("renamed"))]).await;
    assert!(matches!(renamed, Outcome::Done { .. }), "{renamed:?}");
    assert_eq!(commands.bench.field(vm, "name"), Value::str("renamed"));
    let disk = format!("{}/d.img", images.display());
    rig.virsh(&["attach-disk", "renamed", &disk, "vda", "--config"]);
    commands.bench.until("with its disk", |b| b.field(vm, "disk_count") == Value::Int(1)).await;
    commands.done("PowerOn", vm, PowerState::Running).await;
    commands.done("PowerOff", vm, PowerState::Stopped).await;
    let destroyed = commands.ask("DestroyVm", vm, &[]).await;
    assert!(matches!(destroyed, Outcome::Done { .. }), "{destroyed:?}");
    assert!(commands.bench.inventory.record(vm).is_none() && !images.join("d.img").exists());
    assert_eq!(commands.bench.inventory.count(Kind::Volume), 0);
}

#[tokio::test]
async fn another_driver_takes_the_same_commands() {
    let rig = Rig::start();
    let commands = Commands::start_on(&rig.over_tcp("test", "default")).await;
    let vm = commands.bench.vm("test");
    commands.done("PowerOff", vm, PowerState::Stopped).await;
    let wanted = [("memory_bytes", Value::Int(1 << 30)), ("description", Value::str("by the test driver"))];
    commands.reconfigured(vm, &wanted).await;
    assert_eq!(commands.bench.field(vm, "memory_bytes"), Value::Int(1 << 30));
    let renamed = commands.ask("RenameVm", vm, &[("name", Value::str("renamed"))]).await;
    assert!(matches!(renamed, Outcome::Done { .. }), "{renamed:?}");
    let made = ObjectId::derived(Kind::Vm, &["made"]);
    let only = |kind| *commands.bench.inventory.ids(kind).first().unwrap();
    let (network, pool) = (only(Kind::Network), only(Kind::StoragePool));
    let nic = commands.part("Nic", &[("network_id", Value::Ref(network))]);
    let medium = [("path", Value::str("a/b.iso")), ("storage_pool_id", Value::Ref(pool))];
    let fields = [
        ("name", Value::str("made")),
        ("memory_bytes", Value::Int(1 << 30)),
        ("cpu_count", Value::Int(1)),
        ("nics", Value::list([nic])),
        ("cdroms", Value::list([commands.part("Cdrom", &medium)])),
    ];
    let host = commands.bench.target.host().unwrap();
    let body =
        [("vm_id", Value::Ref(made)), ("host_id", Value::Ref(host)), ("vm", commands.part("Vm", &fields))];
    let outcome = commands.create(ObjectId::derived(Kind::Folder, &["vms"]), &body).await;
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    assert_eq!(commands.bench.field(made, "accelerator"), Value::str("test"));
    assert_eq!(commands.column(made, "nics", "network_id"), [Value::Ref(network)]);
    assert_eq!(commands.column(made, "cdroms", "path"), [Value::str("/default-pool/a/b.iso")]);
    assert_eq!(commands.column(made, "cdroms", "storage_pool_id"), [Value::Ref(pool)]);
    for vm in [vm, made] {
        let gone = commands.ask("DestroyVm", vm, &[]).await;
        assert!(matches!(gone, Outcome::Done { .. }), "{gone:?}");
        assert!(commands.bench.inventory.record(vm).is_none());
    }
}

#[tokio::test]
async fn files_are_kept_where_that_is_asked() {
    let rig = Rig::start();
    let images = rig.images();
    rig.virsh(&["pool-create-as", "local", "dir", "--target", images.to_str().unwrap()]);
    rig.virsh(&["vol-create-as", "local", "d.img", "1M", "--format", "raw"]);
    rig.define(&bios_guest("kept"));
    rig.virsh(&["attach-disk", "kept", &format!("{}/d.img", images.display()), "vda", "--config"]);
    let commands = Commands::start(&rig).await;
    let vm = commands.bench.vm("kept");
    commands.done("PowerOn", vm, PowerState::Running).await;
    commands.done("Suspend", vm, PowerState::Suspended).await;
    commands.done("PowerOff", vm, PowerState::Stopped).await;
    let gone = commands.ask("DestroyVm", vm, &[("keep_files", Value::Bool(true))]).await;
    assert!(matches!(gone, Outcome::Done { .. }), "{gone:?}");
    assert!(commands.bench.inventory.record(vm).is_none() && images.join("d.img").exists());
}

#[test]
fn every_command_on_a_vm_has_its_effect() {
    let bundle = bundle();
    for verb in ["Reconfigure", "CreateVm", "DestroyVm", "RenameVm", "MarkAsTemplate", "MarkAsVm"] {
        let effect = bundle.protocol("libvirt").and_then(|p| p.effect(verb));
        assert!(effect.is_some_and(|e| e.refused.is_none()), "{verb}");
    }
}

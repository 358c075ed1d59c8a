"""A careless user with pyVmomi: what is wrong with a request is answered by the fault that the product has for it, and nothing changes."""

import pytest
from pyVmomi import vim, vmodl

import clients
from changing import IMAGE, OFF, ON, bench  # noqa: F401

Spec, Change = vim.vm.ConfigSpec, vim.vm.device.VirtualDeviceSpec
CARD, DRIVE, DISK = vim.vm.device.VirtualVmxnet3, vim.vm.device.VirtualCdrom, vim.vm.device.VirtualDisk
Boot = vim.vm.BootOptions
ONE = "spec.deviceChange[0]"
FIRST = "spec.bootOptions.bootOrder[0].deviceKey"


@pytest.fixture(params=["fleet", "host"])
def session(bench, request):
    with clients.Session(bench.instance.front(request.param)) as session:
        yield session


def device(vm, kind):
    return next(device for device in vm.config.hardware.device if isinstance(device, kind))


def card(network, key=-1):
    return CARD(key=key, backing=vim.vm.device.VirtualEthernetCard.NetworkBackingInfo(deviceName=network))


def drive(vm, path):
    shown = device(vm, DRIVE)
    return DRIVE(key=shown.key, controllerKey=shown.controllerKey, unitNumber=shown.unitNumber, backing=DRIVE.IsoBackingInfo(fileName=path))


def change(operation, device):
    return Spec(deviceChange=[Change(operation=operation, device=device)])


def boot(*devices):
    return Spec(bootOptions=Boot(bootOrder=list(devices)))


def option(key, value="x"):
    return Spec(extraConfig=[vim.option.OptionValue(key=key, value=value)])


def at(address):
    return CARD(key=-1, addressType="manual", macAddress=address, backing=card("default").backing)


def disk():
    return DISK(key=-1, capacityInKB=1024, controllerKey=1000, unitNumber=3,
                backing=DISK.FlatVer2BackingInfo(fileName="[default] x.vmdk", diskMode="persistent"))


WRONG = {
    "a version of before": (lambda vm: Spec(changeVersion="2001-01-01T00:00:00Z", annotation="x"), "ConcurrentAccess", {}),
    "no processors": (lambda vm: Spec(numCPUs=0), "InvalidArgument", {"invalidProperty": "spec.numCPUs"}),
    "fewer than none": (lambda vm: Spec(numCPUs=-1), "InvalidArgument", {"invalidProperty": "spec.numCPUs"}),
    "more than the product has": (lambda vm: Spec(numCPUs=4000), "InvalidArgument", {"invalidProperty": "spec.numCPUs"}),
    "a topology that does not divide": (lambda vm: Spec(numCoresPerSocket=3), "InvalidArgument", {"invalidProperty": "spec.numCoresPerSocket"}),
    "no memory": (lambda vm: Spec(memoryMB=0), "InvalidArgument", {"invalidProperty": "spec.memoryMB"}),
    "an odd size of memory": (lambda vm: Spec(memoryMB=127), "InvalidArgument", {"invalidProperty": "spec.memoryMB"}),
    "more memory than there is": (lambda vm: Spec(memoryMB=2**40), "InvalidArgument", {"invalidProperty": "spec.memoryMB"}),
    "no name": (lambda vm: Spec(name=""), "InvalidName", {"name": ""}),
    "a path for a name": (lambda vm: Spec(name="a/b"), "InvalidName", {"name": "a/b"}),
    "two lines for a name": (lambda vm: Spec(name="a\nb"), "InvalidName", {"name": "a\nb"}),
    "a name too long": (lambda vm: Spec(name="x" * 81), "InvalidName", {"name": "x" * 81}),
    "a name that is taken": (lambda vm: Spec(name=ON), "DuplicateName", {"name": ON}),
    "an instance uuid that is none": (lambda vm: Spec(instanceUuid="nonsense"), "InvalidArgument", {"invalidProperty": "spec.instanceUuid"}),
    "a firmware that is none": (lambda vm: Spec(firmware="openfw"), "InvalidArgument", {"invalidProperty": "spec.firmware"}),
    "what is not served": (lambda vm: Spec(bootOptions=vim.vm.BootOptions(bootDelay=5000)), "NotSupported", {}),
    "a key that no device has": (lambda vm: change("remove", DRIVE(key=9999)), "InvalidDeviceSpec", {"property": f"{ONE}.device.key", "deviceIndex": 0}),
    "a card edited that is not there": (lambda vm: change("edit", card("default", 9999)), "InvalidDeviceSpec", {"property": f"{ONE}.device.key"}),
    "a drive with a card's key": (lambda vm: change("edit", DRIVE(key=device(vm, vim.vm.device.VirtualEthernetCard).key)), "InvalidDeviceSpec", {"property": f"{ONE}.device"}),
    "a network that is not there": (lambda vm: change("add", card("nowhere")), "InvalidDeviceSpec", {"property": f"{ONE}.device.backing.deviceName", "deviceIndex": 0}),
    "a disk": (lambda vm: change("add", disk()), "NotSupported", {}),
    "a store that is not there": (lambda vm: change("edit", drive(vm, "[elsewhere] x.iso")), "InvalidDatastorePath", {"datastorePath": "[elsewhere]"}),
    "a path without a store": (lambda vm: change("edit", drive(vm, "x.iso")), "InvalidDatastorePath", {"datastorePath": "x.iso"}),
    "a file of the host's own": (lambda vm: change("edit", drive(vm, "[] /etc/passwd")), "InvalidDatastorePath", {"datastorePath": "[] /etc/passwd"}),
    "a path out of its store": (lambda vm: change("edit", drive(vm, "[default] ../x.iso")), "InvalidDatastorePath", {"datastorePath": "[default] ../x.iso"}),
    "a setting without a key": (lambda vm: option(""), "InvalidArgument", {"invalidProperty": "spec.extraConfig[0].key"}),
    "a boot disk that is not there": (lambda vm: boot(Boot.BootableDiskDevice(deviceKey=9999)), "InvalidArgument", {"invalidProperty": FIRST}),
    "a boot card that is not there": (lambda vm: boot(Boot.BootableEthernetDevice(deviceKey=4999)), "InvalidArgument", {"invalidProperty": FIRST}),
    "a boot disk that is a card": (lambda vm: boot(Boot.BootableDiskDevice(deviceKey=4000)), "InvalidArgument", {"invalidProperty": FIRST}),
    "an address that is none": (lambda vm: change("add", at("nonsense")), "InvalidDeviceSpec", {"property": f"{ONE}.device.macAddress", "deviceIndex": 0}),
    "an address of a group": (lambda vm: change("add", at("01:00:5e:00:00:01")), "InvalidDeviceSpec", {"property": f"{ONE}.device.macAddress"}),
    "an address that its other card has": (lambda vm: change("add", at(device(vm, vim.vm.device.VirtualEthernetCard).macAddress)), "InvalidArgument", {}),
    "a card removed twice": (lambda vm: Spec(deviceChange=[Change(operation="remove", device=device(vm, vim.vm.device.VirtualEthernetCard))] * 2), "InvalidDeviceSpec", {"property": "spec.deviceChange[1].device.key", "deviceIndex": 1}),
    "a guest that is none": (lambda vm: Spec(guestId="nonsense"), "InvalidArgument", {"invalidProperty": "spec.guestId"}),
    "a blank name": (lambda vm: Spec(name="  "), "InvalidName", {"name": "  "}),
    "a name that means another place": (lambda vm: Spec(name=".."), "InvalidName", {"name": ".."}),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_change_that_cannot_be(bench, session, what):
    spec, fault, says = WRONG[what]
    vm, before = session.vm(OFF), bench.host.virsh("dumpxml", "--inactive", OFF)
    version = vm.config.changeVersion
    with pytest.raises((vmodl.MethodFault, vmodl.RuntimeFault)) as refused:
        session.perform(vm.ReconfigVM_Task(spec(vm)))
    assert clients.fault_name(refused.value) == fault
    assert {name: getattr(refused.value, name) for name in says} == says
    assert refused.value.msg
    assert (bench.host.virsh("dumpxml", "--inactive", OFF), vm.config.changeVersion) == (before, version)


def test_an_empty_spec_changes_nothing(bench, session):
    vm = session.vm(OFF)
    version = vm.config.changeVersion
    assert session.perform(vm.ReconfigVM_Task(Spec())).state == "success"
    assert vm.config.changeVersion == version


def test_a_long_annotation_is_kept_whole(bench, session):
    text = "<&> äöü \t" * 8_000 + "end"
    vm = session.vm(OFF)
    session.perform(vm.ReconfigVM_Task(Spec(annotation=text)))
    assert vm.config.annotation == text
    session.perform(vm.ReconfigVM_Task(Spec(annotation="is off")))


FILES = vim.vm.FileInfo(vmPathName="[default]")
UNMADE = {
    "nothing": (lambda on: Spec(), "InvalidName", {}),
    "a path for a name": (lambda on: Spec(name="a/b", files=FILES), "InvalidName", {"name": "a/b"}),
    "a name that is taken": (lambda on: Spec(name=ON, files=FILES), "DuplicateName", {"name": ON}),
    "a uuid that is taken": (lambda on: Spec(name="unmade", memoryMB=64, uuid=on.config.uuid, files=FILES), "DuplicateName", {"object": "that"}),
    "less than no memory": (lambda on: Spec(name="unmade", memoryMB=-4, files=FILES), "InvalidArgument", {"invalidProperty": "config.memoryMB"}),
    "a store that is not there": (lambda on: Spec(name="unmade", files=vim.vm.FileInfo(vmPathName="[nope] a/a.vmx")), "InvalidDatastorePath", {}),
    "a path without a store": (lambda on: Spec(name="unmade", files=vim.vm.FileInfo(vmPathName="nope")), "InvalidDatastorePath", {"datastorePath": "nope"}),
    "a network that is not there": (lambda on: Spec(name="unmade", files=FILES, deviceChange=[Change(operation="add", device=card("nowhere"))]), "InvalidDeviceSpec", {"property": "config.deviceChange[0].device.backing.deviceName"}),
    "a card edited in what is new": (lambda on: Spec(name="unmade", files=FILES, deviceChange=[Change(operation="edit", device=card("default", 4000))]), "InvalidDeviceSpec", {"deviceIndex": 0}),
    "a uuid of nobody": (lambda on: Spec(name="unmade", uuid="00000000-0000-0000-0000-000000000000", files=FILES), "InvalidArgument", {"invalidProperty": "config.uuid"}),
    "an instance uuid that is taken": (lambda on: Spec(name="unmade", instanceUuid=on.config.instanceUuid, files=FILES), "DuplicateName", {"object": "that"}),
    "an instance uuid that is none": (lambda on: Spec(name="unmade", instanceUuid="nonsense", files=FILES), "InvalidArgument", {"invalidProperty": "config.instanceUuid"}),
    "no files": (lambda on: Spec(name="unmade"), "InvalidVmConfig", {"property": "config.files.vmPathName"}),
    "files that are nowhere": (lambda on: Spec(name="unmade", files=vim.vm.FileInfo(vmPathName="")), "InvalidVmConfig", {"property": "config.files.vmPathName"}),
    "a guest that is none": (lambda on: Spec(name="unmade", guestId="nonsense", files=FILES), "InvalidArgument", {"invalidProperty": "config.guestId"}),
    "a name that means this place": (lambda on: Spec(name=".", files=FILES), "InvalidName", {"name": "."}),
    "a disk": (lambda on: Spec(name="unmade", files=FILES, deviceChange=[Change(operation="add", fileOperation="create", device=disk())]), "NotSupported", {}),
}


@pytest.mark.parametrize("what", UNMADE)
def test_a_machine_that_cannot_be_made(bench, session, what):
    spec, fault, says = UNMADE[what]
    datacenter, on = session.content.rootFolder.childEntity[0], session.vm(ON)
    pool, before = datacenter.hostFolder.childEntity[0].resourcePool, bench.domains()
    says = {name: on if value == "that" else value for name, value in says.items()}
    with pytest.raises((vmodl.MethodFault, vmodl.RuntimeFault)) as refused:
        session.perform(datacenter.vmFolder.CreateVM_Task(config=spec(on), pool=pool))
    assert clients.fault_name(refused.value) == fault
    assert {name: getattr(refused.value, name) for name in says} == says
    assert bench.domains() == before


def test_a_name_that_is_taken_is_told_in_the_clients_words(bench, session):
    """Who has it, by the reference that this client knows it by."""
    off, on = session.vm(OFF), session.vm(ON)
    for call in (lambda: off.Rename_Task(ON), lambda: off.ReconfigVM_Task(Spec(name=ON))):
        with pytest.raises(vim.fault.DuplicateName) as refused:
            session.perform(call())
        assert (refused.value.name, refused.value.object) == (ON, on)
        assert "vm:" not in refused.value.msg and "folder:" not in refused.value.msg
    with pytest.raises(vim.fault.DuplicateName) as refused:
        session.perform(off.ReconfigVM_Task(Spec(instanceUuid=on.config.instanceUuid)))
    assert refused.value.object == on and on._moId in refused.value.msg


def test_a_path_with_a_slash_begins_in_its_store(bench, session):
    vm = session.vm(OFF)
    session.perform(vm.ReconfigVM_Task(change("edit", drive(vm, f"[default] /{IMAGE}"))))
    assert device(vm, DRIVE).backing.fileName == f"[default] {IMAGE}"
    empty = DRIVE(key=device(vm, DRIVE).key, backing=DRIVE.RemotePassthroughBackingInfo(deviceName="", exclusive=False))
    session.perform(vm.ReconfigVM_Task(change("edit", empty)))
    assert not hasattr(device(vm, DRIVE).backing, "fileName")


def test_a_template_is_one_already(bench, session):
    vm, pool = session.vm(OFF), session.content.rootFolder.childEntity[0].hostFolder.childEntity[0].resourcePool
    vm.MarkAsTemplate()
    try:
        with pytest.raises(vmodl.fault.NotSupported):
            vm.MarkAsTemplate()
        assert vm.config.template
    finally:
        vm.MarkAsVirtualMachine(pool=pool)
    assert not vm.config.template


def test_what_is_gone_or_cannot_have_it(bench, session):
    datacenter = session.content.rootFolder.childEntity[0]
    on, folder = session.vm(ON), datacenter.vmFolder
    pool = datacenter.hostFolder.childEntity[0].resourcePool
    gone = vim.VirtualMachine("vm-99999", session.instance._stub)
    for call, fault in (
        (lambda: gone.ReconfigVM_Task(Spec(annotation="x")), "ManagedObjectNotFound"),
        (lambda: gone.Destroy_Task(), "ManagedObjectNotFound"),
        (lambda: on.Destroy_Task(), "InvalidPowerState"),
        (lambda: on.UnregisterVM(), "InvalidPowerState"),
        (lambda: on.MarkAsTemplate(), "InvalidPowerState"),
        (lambda: on.MarkAsVirtualMachine(pool=pool), "NotSupported"),
        (lambda: on.ReconfigVM_Task(Spec(numCPUs=2)), "CpuHotPlugNotSupported"),
        (lambda: on.ReconfigVM_Task(Spec(memoryMB=256)), "MemoryHotPlugNotSupported"),
        (lambda: on.Rename_Task("a/b"), "InvalidName"),
        (lambda: datacenter.hostFolder.CreateVM_Task(config=Spec(name="unmade", files=FILES), pool=pool), "NotSupported"),
        (lambda: datacenter.Destroy_Task(), "NotSupported"),
    ):
        with pytest.raises((vmodl.MethodFault, vmodl.RuntimeFault)) as refused:
            started = call()
            if isinstance(started, vim.Task):
                session.perform(started)
        assert clients.fault_name(refused.value) == fault
    assert {ON, OFF} <= bench.domains() and bench.host.state(ON) == "running"
    if session.content.about.apiType == "VirtualCenter":
        for name in ("a/b", "a\\b", "", " ", "..", "x" * 81):
            with pytest.raises(vim.fault.InvalidName):
                folder.CreateFolder(name)
        with pytest.raises(vim.fault.DuplicateName):
            folder.CreateFolder(OFF)

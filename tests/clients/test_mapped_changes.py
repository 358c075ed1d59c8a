"""What the mappings promise of changes: echoes change nothing, kept facts move the version, what no row reads is refused."""

import pytest
from pyVmomi import vim, vmodl

from changing import OFF, bench  # noqa: F401

CDROM, CARD = vim.vm.device.VirtualCdrom, vim.vm.device.VirtualEthernetCard


@pytest.fixture
def session(bench):
    with bench.session() as session:
        yield session


def reconfigure(session, **fields):
    return session.perform(session.vm(OFF).ReconfigVM_Task(vim.vm.ConfigSpec(**fields)))


def devices(session, *types):
    return [d for d in session.vm(OFF).config.hardware.device if isinstance(d, types)]


def spec(operation, device):
    return vim.vm.device.VirtualDeviceSpec(operation=operation, device=device)


def test_devices_sent_back_as_they_were_shown_change_nothing(bench, session):
    before = bench.host.virsh("dumpxml", "--inactive", "--security-info", OFF)
    shown = devices(session, CDROM, CARD)
    assert shown
    reconfigure(session, deviceChange=[spec("edit", device) for device in shown])
    assert bench.host.virsh("dumpxml", "--inactive", "--security-info", OFF) == before


def test_facts_of_the_broker_and_of_the_hypervisor_move_one_version(bench, session):
    seen = [session.vm(OFF).config.changeVersion]
    for fields in (
        {"extraConfig": [vim.option.OptionValue(key="guestinfo.a", value="1")]},
        {"annotation": "moved"},
        {"extraConfig": [vim.option.OptionValue(key="guestinfo.a", value="")]},
        {"annotation": "is off"},
    ):
        reconfigure(session, changeVersion=seen[-1], **fields)
        seen.append(session.vm(OFF).config.changeVersion)
    assert len(set(seen)) == len(seen), "each change is another version"
    for old in seen[:-1]:
        with pytest.raises(vim.fault.ConcurrentAccess):
            reconfigure(session, annotation="late", changeVersion=old)


def test_a_drive_comes_and_goes_while_the_machine_is_off(bench, session):
    before = len(devices(session, CDROM))
    backing = CDROM.RemotePassthroughBackingInfo(deviceName="", exclusive=False)
    connected = vim.vm.device.VirtualDevice.ConnectInfo(startConnected=True, allowGuestControl=True, connected=False)
    drive = CDROM(key=-1, controllerKey=15000, unitNumber=3, backing=backing, connectable=connected)
    reconfigure(session, deviceChange=[spec("add", drive)])
    assert len(devices(session, CDROM)) == before + 1
    assert len(bench.domain(OFF).findall("devices/disk[@device='cdrom']")) == before + 1
    reconfigure(session, deviceChange=[spec("remove", devices(session, CDROM)[-1])])
    assert len(bench.domain(OFF).findall("devices/disk[@device='cdrom']")) == before


def test_hardware_in_one_call(bench, session):
    was = session.vm(OFF).config
    asked = {"numCPUs": 4, "numCoresPerSocket": 2, "memoryMB": 256, "firmware": "efi"}
    kept = {"guestId": "debian11_64Guest", "instanceUuid": "5025d6a8-0000-4000-8000-0000000000aa"}
    reconfigure(session, **asked, **kept)
    now = session.vm(OFF).config
    assert (now.hardware.numCPU, now.hardware.numCoresPerSocket, now.hardware.memoryMB, now.firmware) == (4, 2, 256, "efi")
    assert (now.guestId, now.instanceUuid) == tuple(kept.values())
    topology = bench.domain(OFF).find("cpu/topology")
    assert (topology.get("sockets"), topology.get("cores")) == ("2", "2")
    with pytest.raises(vmodl.fault.InvalidArgument):
        reconfigure(session, numCPUs=3)
    hardware = was.hardware
    reconfigure(session, numCPUs=hardware.numCPU, numCoresPerSocket=1, memoryMB=hardware.memoryMB, firmware=was.firmware)


def test_what_no_row_reads_is_refused_with_its_path(bench, session):
    before = bench.host.virsh("dumpxml", "--inactive", OFF)
    with pytest.raises(vmodl.fault.NotSupported) as refused:
        reconfigure(session, annotation="half", cpuAllocation=vim.ResourceAllocationInfo(limit=5))
    assert "spec.cpuAllocation" in refused.value.msg
    assert bench.host.virsh("dumpxml", "--inactive", OFF) == before, "nothing of a refused call is done"


def test_a_template_does_not_start(bench, session):
    vm = session.vm(OFF)
    vm.MarkAsTemplate()
    with pytest.raises(vmodl.fault.NotSupported):
        session.perform(vm.PowerOnVM_Task())
    vm.MarkAsVirtualMachine(pool=vm.runtime.host.parent.resourcePool)
    assert not vm.config.template
    with pytest.raises(vmodl.fault.NotSupported):
        vm.MarkAsVirtualMachine(pool=vm.runtime.host.parent.resourcePool)

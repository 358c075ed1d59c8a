"""Reconfiguration by govc and pyVmomi; virsh, directly on libvirt, says what became of the domain.

What no row of the mappings knows stays in the domain's document as it was.
"""

import xml.etree.ElementTree as xml

import pytest
from pyVmomi import vim, vmodl

import clients
from changing import IMAGE, OFF, ON, SECOND_NETWORK, bench, text, without  # noqa: F401


@pytest.fixture
def session(bench):
    with bench.session() as session:
        yield session


def reconfigure(session, guest, **fields):
    return session.perform(session.vm(guest).ReconfigVM_Task(vim.vm.ConfigSpec(**fields)))


def test_cpu_memory_and_annotation(bench, session):
    before = bench.domain(OFF)
    bench.govc("vm.change", "-vm", OFF, "-c", "2", "-m", "256", "-annotation", "the <second> & last")
    after = bench.domain(OFF)
    assert (text(after, "vcpu"), text(after, "memory"), text(after, "description")) == ("2", str(256 * 1024), "the <second> & last")
    changed = ("vcpu", "memory", "currentMemory", "description")
    assert without(after, *changed) == without(before, *changed), "nothing else of the document moved"
    config = session.vm(OFF).config
    assert (config.hardware.numCPU, config.hardware.memoryMB, config.annotation) == (2, 256, "the <second> & last")
    reconfigure(session, OFF, numCPUs=1, memoryMB=128, annotation="is off")
    assert without(bench.domain(OFF), "vcpu", "memory", "currentMemory") == without(before, "vcpu", "memory", "currentMemory")


def test_extra_config_is_kept_and_removed(bench, session):
    bench.govc("vm.change", "-vm", OFF, "-e", "guestinfo.role=db", "-e", "guestinfo.zone=a")
    shown = bench.govc("vm.info", "-e", OFF)
    assert "guestinfo.role" in shown and "guestinfo.zone" in shown
    reconfigure(session, OFF, extraConfig=[vim.option.OptionValue(key="guestinfo.role", value="")])
    options = {option.key: option.value for option in session.vm(OFF).config.extraConfig}
    assert "guestinfo.role" not in options and options["guestinfo.zone"] == "a"


def test_rename_of_a_stopped_machine(bench, session):
    moid, uuid = session.vm(OFF)._moId, session.vm(OFF).config.uuid
    try:
        bench.govc("object.rename", f"/Datacenter/vm/{OFF}", "renamed")
        assert "renamed" in bench.domains() and OFF not in bench.domains()
        assert bench.host.virsh("domuuid", "renamed") == uuid
        assert session.vm("renamed")._moId == moid, "it is the same machine"
        bench.govc("vm.change", "-vm", "renamed", "-name", "again")
        assert "again" in bench.domains()
    finally:
        for name in ("renamed", "again"):
            if name in bench.domains():
                session.perform(session.vm(name).Rename_Task(OFF))
    assert OFF in bench.domains()


def test_a_name_that_is_taken(bench, session):
    with pytest.raises(vim.fault.DuplicateName):
        session.perform(session.vm(OFF).Rename_Task(ON))
    assert {ON, OFF} <= bench.domains()


def test_boot_order(bench, session):
    bench.govc("device.boot", "-vm", OFF, "-order", "cdrom,disk")
    boot = session.vm(OFF).config.bootOptions.bootOrder
    assert [type(device).__name__.rsplit(".", 1)[-1] for device in boot][:2] == ["BootableCdromDevice", "BootableDiskDevice"]
    domain = bench.domain(OFF)
    per_device = {disk.get("device"): disk.find("boot").get("order") for disk in domain.findall("devices/disk") if disk.find("boot") is not None}
    in_os = [boot.get("dev") for boot in domain.findall("os/boot")]
    assert per_device == {"cdrom": "1", "disk": "2"} or in_os[:2] == ["cdrom", "hd"]


def boots(domain):
    return [boot.get("dev") for boot in domain.findall("os/boot")]


def shown_boots(vm):
    return [type(device).__name__.rsplit(".", 1)[-1] for device in vm.config.bootOptions.bootOrder]


def test_boot_order_of_what_runs(bench, session):
    """It takes effect at the next start, and is shown at once."""
    vm, running = session.vm(ON), boots(bench.domain(ON, inactive=False))
    try:
        bench.govc("device.boot", "-vm", ON, "-order", "cdrom,disk")
        assert shown_boots(vm) == ["BootableCdromDevice", "BootableDiskDevice"]
        assert (boots(bench.domain(ON)), boots(bench.domain(ON, inactive=False))) == (["cdrom", "hd"], running)
        bench.host.virsh("desc", ON, "read anew", "--live", "--config")
        clients.eventually(lambda: vm.config.annotation == "read anew", "what virsh changed is shown")
        assert shown_boots(vm) == ["BootableCdromDevice", "BootableDiskDevice"], "however often it is read"
    finally:
        bench.govc("device.boot", "-vm", ON, "-order", "-")
    assert shown_boots(vm) == ["BootableDiskDevice"], "the order is taken away: it boots from the disk"
    assert boots(bench.domain(ON)) == ["hd"]


def test_what_changed_while_it_ran_is_there_after_the_next_start(bench, session):
    vm, before = session.vm(ON), bench.domain(ON)
    drive = next(d for d in bench.govc("device.ls", "-vm", ON).split() if d.startswith("cdrom-"))
    card = next(d for d in bench.govc("device.ls", "-vm", ON).split() if d.startswith("ethernet-"))
    image = lambda: [getattr(d.backing, "fileName", None) for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualCdrom)]  # noqa: E731
    boot = vim.vm.BootOptions(bootOrder=[vim.vm.BootOptions.BootableEthernetDevice(deviceKey=4000)])
    booted = bench.host.boots_seen(ON)
    try:
        bench.govc("vm.network.change", "-vm", ON, "-net", SECOND_NETWORK, card)
        bench.govc("device.cdrom.insert", "-vm", ON, "-device", drive, IMAGE)
        reconfigure(session, ON, annotation="kept", bootOptions=boot, extraConfig=[vim.option.OptionValue(key="kept.key", value="v")])
        def seen():
            options = {option.key: option.value for option in vm.config.extraConfig}
            return vm.config.annotation, options.get("kept.key"), shown_boots(vm), image(), [network.name for network in vm.network]
        wanted = ("kept", "v", ["BootableEthernetDevice"], [f"[default] {IMAGE}"], [SECOND_NETWORK])
        assert seen() == wanted
        session.perform(vm.PowerOffVM_Task())
        assert seen() == wanted, "while it is off"
        session.perform(vm.PowerOnVM_Task())
        assert seen() == wanted, "and when it runs again"
        after = bench.domain(ON, inactive=False)
        assert (text(after, "description"), boots(after), networks(after)) == ("kept", ["network"], [SECOND_NETWORK])
        assert cdrom(after).endswith(IMAGE)
    finally:
        if vm.runtime.powerState == "poweredOn":
            session.perform(vm.PowerOffVM_Task())
        bench.host._define("define", xml.tostring(before, encoding="unicode"))
        session.perform(vm.PowerOnVM_Task())
        bench.host.wait_booted(ON, more_than=booted)
    assert networks(bench.domain(ON, inactive=False)) == ["default"]


def cdrom(domain):
    source = next(disk for disk in domain.findall("devices/disk") if disk.get("device") == "cdrom").find("source")
    return None if source is None else source.get("file") or source.get("volume")


@pytest.mark.parametrize("guest", [OFF, ON])
def test_cdrom_insert_and_eject(bench, session, guest):
    drive = next(d for d in bench.govc("device.ls", "-vm", guest).split() if d.startswith("cdrom-"))
    bench.govc("device.cdrom.insert", "-vm", guest, "-device", drive, IMAGE)
    inactive = guest == OFF
    assert cdrom(bench.domain(guest, inactive)).endswith(IMAGE)
    shown = next(d for d in session.vm(guest).config.hardware.device if isinstance(d, vim.vm.device.VirtualCdrom))
    assert shown.backing.fileName == f"[default] {IMAGE}"
    bench.govc("device.cdrom.eject", "-vm", guest, "-device", drive)
    assert cdrom(bench.domain(guest, inactive)) is None
    assert bench.host.state(ON) == "running"


def networks(domain):
    return [nic.find("source").get("network") for nic in domain.findall("devices/interface")]


@pytest.mark.parametrize("guest", [OFF, ON])
def test_a_card_moves_to_another_network(bench, session, guest):
    if not bench.host.privileged:
        pytest.fail("the lab's networks need root")
    card = next(d for d in bench.govc("device.ls", "-vm", guest).split() if d.startswith("ethernet-"))
    mac = bench.domain(guest).find("devices/interface/mac").get("address")
    bench.govc("vm.network.change", "-vm", guest, "-net", SECOND_NETWORK, card)
    assert networks(bench.domain(guest, guest == OFF)) == [SECOND_NETWORK]
    assert bench.domain(guest).find("devices/interface/mac").get("address") == mac
    assert [network.name for network in session.vm(guest).network] == [SECOND_NETWORK]
    bench.govc("vm.network.change", "-vm", guest, "-net", "default", card)
    assert networks(bench.domain(guest, guest == OFF)) == ["default"]


def test_a_card_comes_and_goes(bench, session):
    before = bench.domain(OFF)
    bench.govc("vm.network.add", "-vm", OFF, "-net", SECOND_NETWORK, "-net.adapter", "vmxnet3")
    assert sorted(networks(bench.domain(OFF))) == [SECOND_NETWORK, "default"]
    new = next(
        device for device in session.vm(OFF).config.hardware.device
        if isinstance(device, vim.vm.device.VirtualEthernetCard) and device.backing.deviceName == SECOND_NETWORK
    )
    bench.govc("device.remove", "-vm", OFF, f"ethernet-{new.key - 4000}")
    assert networks(bench.domain(OFF)) == ["default"]
    assert len(bench.domain(OFF).findall("devices/interface")) == len(before.findall("devices/interface"))


def test_a_card_is_disconnected_and_connected(bench, session):
    card = next(d for d in bench.govc("device.ls", "-vm", ON).split() if d.startswith("ethernet-"))
    link = lambda: (bench.domain(ON, inactive=False).find("devices/interface/link"))  # noqa: E731
    bench.govc("device.disconnect", "-vm", ON, card)
    assert link() is not None and link().get("state") == "down"
    bench.govc("device.connect", "-vm", ON, card)
    assert link() is None or link().get("state") == "up"


def test_what_runs_takes_no_hot_plug_it_cannot(bench, session):
    before = bench.domain(ON, inactive=False)
    with pytest.raises(vim.fault.MemoryHotPlugNotSupported):
        reconfigure(session, ON, memoryMB=512)
    with pytest.raises(vim.fault.CpuHotPlugNotSupported):
        reconfigure(session, ON, numCPUs=4)
    after = bench.domain(ON, inactive=False)
    assert (text(after, "memory"), text(after, "vcpu")) == (text(before, "memory"), text(before, "vcpu"))


def test_annotation_of_what_runs(bench, session):
    reconfigure(session, ON, annotation="still runs")
    assert text(bench.domain(ON, inactive=False), "description") == "still runs"
    assert text(bench.domain(ON), "description") == "still runs", "and after the next start"
    assert session.vm(ON).summary.config.annotation == "still runs"


def test_a_change_from_an_old_version_is_refused(bench, session):
    vm = session.vm(OFF)
    seen = vm.config.changeVersion
    reconfigure(session, OFF, annotation="first", changeVersion=seen)
    with pytest.raises(vim.fault.ConcurrentAccess):
        reconfigure(session, OFF, annotation="second", changeVersion=seen)
    assert vm.config.annotation == "first"
    assert vm.config.changeVersion != seen


def test_what_makes_no_sense_is_refused(bench, session):
    before = bench.host.virsh("dumpxml", "--inactive", OFF)
    for fields, fault in (
        (dict(numCPUs=0), vmodl.fault.InvalidArgument),
        (dict(memoryMB=1), vmodl.fault.InvalidArgument),
        (dict(name="x" * 81), vim.fault.InvalidName),
        (dict(npivDesiredNodeWwns=2), vmodl.fault.NotSupported),
        (dict(deviceChange=[vim.vm.device.VirtualDeviceSpec(
            operation="edit", device=vim.vm.device.VirtualE1000(key=4044))]), vim.fault.InvalidDeviceSpec),
    ):
        with pytest.raises(fault):
            reconfigure(session, OFF, **fields)
    assert bench.host.virsh("dumpxml", "--inactive", OFF) == before


def test_a_wait_tells_of_the_change(bench, session):
    """Another session's filter hears of a change as soon as its task has ended."""
    with bench.session() as other:
        collector = other.content.propertyCollector
        spec = vmodl.query.PropertyCollector.FilterSpec(
            objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=other.vm(OFF))],
            propSet=[vmodl.query.PropertyCollector.PropertySpec(type=vim.VirtualMachine, pathSet=["config.annotation"])],
        )
        watched = collector.CreateFilter(spec, False)
        version = collector.WaitForUpdatesEx(None, None).version
        reconfigure(session, OFF, annotation="heard of")
        update = collector.WaitForUpdatesEx(version, vmodl.query.PropertyCollector.WaitOptions(maxWaitSeconds=20))
        changes = [change for of in update.filterSet for object in of.objectSet for change in object.changeSet]
        assert ("config.annotation", "heard of") in [(change.name, change.val) for change in changes]
        watched.DestroyPropertyFilter()


def test_events_say_who(bench, session):
    reconfigure(session, OFF, annotation="noted")
    def told():
        events = session.content.eventManager.QueryEvents(vim.event.EventFilterSpec(
            entity=vim.event.EventFilterSpec.ByEntity(entity=session.vm(OFF), recursion="self"),
            eventTypeId=["VmReconfiguredEvent"]))
        return [event.userName for event in events]
    clients.eventually(lambda: "admin" in told(), f"a VmReconfiguredEvent by admin, there are {told()}")


def test_changed_behind_our_back(bench, session):
    """virsh changes what hyperglot showed; the next change is made on what is there now."""
    bench.host.virsh("setmaxmem", OFF, "196608", "--config")
    bench.host.virsh("setmem", OFF, "196608", "--config")
    reconfigure(session, OFF, annotation="on top")
    domain = bench.domain(OFF)
    assert (text(domain, "memory"), text(domain, "description")) == ("196608", "on top")
    reconfigure(session, OFF, memoryMB=128)

"""Machines made and destroyed by govc and pyVmomi; virsh, directly on libvirt, says what is there."""

import pytest
from pyVmomi import vim, vmodl

import clients
import runner
from changing import IMAGE, OFF, ON, bench, text  # noqa: F401


@pytest.fixture
def session(bench):
    with bench.session() as session:
        yield session


@pytest.fixture
def made(bench):
    """A machine without a disk, made by govc and gone after the test."""
    bench.govc("vm.create", "-on=false", "-m", "64", "-c", "1", "-net", "default", "made01")
    yield "made01"
    if "made01" in bench.domains():
        if bench.host.state("made01") == "running":
            bench.host.virsh("destroy", "made01")
        bench.host.virsh("undefine", "made01")
        clients.eventually(lambda: "made01" not in bench.govc("ls", "vm"), "it is gone")


def parts(session):
    datacenter = session.content.rootFolder.childEntity[0]
    return datacenter.vmFolder, datacenter.hostFolder.childEntity[0].resourcePool


def disk(session, name):
    """The file of a machine's disk; nothing while the machine is not shown."""
    for vm in session.objects(vim.VirtualMachine):
        if vm.name == name:
            disks = [d for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)]
            return disks[0].backing.fileName if disks else None
    return None


def spec(name, **more):
    return vim.vm.ConfigSpec(
        name=name, memoryMB=64, numCPUs=1, guestId="otherGuest",
        files=vim.vm.FileInfo(vmPathName="[default]"), **more)


def test_made_by_govc(bench, session, made):
    domain = bench.domain(made)
    assert (text(domain, "vcpu"), text(domain, "memory")) == ("1", "65536")
    assert [nic.find("source").get("network") for nic in domain.findall("devices/interface")] == ["default"]
    vm = session.vm(made)
    assert (vm.runtime.powerState, vm.config.uuid) == ("poweredOff", text(domain, "uuid"))
    assert vm.parent.name == "vm"


def test_made_with_an_image(bench, session):
    bench.govc("vm.create", "-on=false", "-m", "64", "-net", "default", "-iso", IMAGE, "made05")
    drive = next(disk for disk in bench.domain("made05").findall("devices/disk") if disk.get("device") == "cdrom")
    assert drive.find("source").get("file").endswith(IMAGE)
    assert "guestinfo" not in bench.govc("vm.info", "-e", "made05")
    bench.govc("vm.unregister", "made05")
    assert "made05" not in bench.domains()
    refused = bench.try_govc("vm.create", "-on=false", "-net", "default", "-iso", "nowhere.iso", "made06")
    assert refused.returncode != 0 and "made06" not in bench.domains()
    refused = bench.try_govc("vm.create", "-on=false", "-net", "default", "-disk", "1M", "made07")
    assert "not supported" in refused.stderr and "made07" not in bench.domains()


def test_made_through_the_hosts_own_front(bench, session):
    """The host looks like an ESXi: machines are made there too, folders are not."""
    esxi = clients.Govc(bench.instance.front("host"))
    esxi("vm.create", "-on=false", "-m", "64", "-net", "default", "made08")
    assert "made08" in bench.domains()
    assert session.vm("made08").parent.name == "vm"
    assert esxi.run("folder.create", "/ha-datacenter/vm/team").returncode != 0
    esxi("vm.destroy", "made08")
    assert "made08" not in bench.domains()


def test_files_of_a_datastore(bench, made):
    listed = bench.govc("datastore.ls", "-l")
    assert IMAGE in listed and made in listed
    assert bench.govc("datastore.ls", made).split() == [f"{made}.vmx"]
    assert "not found" in bench.try_govc("datastore.ls", "nowhere").stderr


def test_made_runs_and_is_destroyed(bench, session, made):
    assert "OK" in bench.govc("vm.power", "-on", made)
    assert bench.host.state(made) == "running"
    with pytest.raises(vim.fault.InvalidPowerState):
        session.perform(session.vm(made).Destroy_Task())
    assert made in bench.domains()
    bench.govc("vm.destroy", made)
    assert made not in bench.domains()
    assert made not in [vm.name for vm in session.objects(vim.VirtualMachine)]


def test_made_by_pyvmomi_has_the_uuid_it_was_given(bench, session):
    folder, pool = parts(session)
    uuid = "5b1b6f1e-50a1-4f0e-8c0c-4d0d6f6f0c01"
    info = session.perform(folder.CreateVM_Task(config=spec("made02", uuid=uuid, annotation="by pyVmomi"), pool=pool))
    vm = info.result
    assert isinstance(vm, vim.VirtualMachine) and vm.name == "made02"
    assert (vm.config.uuid, bench.host.virsh("domuuid", "made02")) == (uuid, uuid)
    assert text(bench.domain("made02"), "description") == "by pyVmomi"
    session.perform(vm.Destroy_Task())
    assert "made02" not in bench.domains()


def test_a_name_that_is_taken(bench, session):
    folder, pool = parts(session)
    with pytest.raises(vim.fault.DuplicateName):
        session.perform(folder.CreateVM_Task(config=spec(ON), pool=pool))
    assert bench.host.state(ON) == "running"


def test_a_disk_goes_with_its_machine_and_stays_with_unregister(bench, session):
    for name, method in (("made03", "Destroy_Task"), ("made04", "UnregisterVM")):
        bench.host.virsh("vol-create-as", "default", f"{name}.qcow2", "4M", "--format", "qcow2")
        xml = bench.host.virsh("dumpxml", "--inactive", OFF)
        uuid, mac = bench.host.virsh("domuuid", OFF), bench.domain(OFF).find("devices/interface/mac").get("address")
        xml = xml.replace(OFF, name).replace(uuid, f"00000000-0000-4000-8000-0000000000{name[-2:]}")
        bench.host._define("define", xml.replace(mac, f"52:54:00:00:aa:{name[-2:]}"))
        # A volume is news to hyperglot when the pool has been looked through.
        bench.host.virsh("pool-refresh", "default")
        clients.eventually(lambda: disk(session, name) == f"[default] {name}.qcow2", f"{name} is shown with its disk")
        done = getattr(session.vm(name), method)()
        if done is not None:
            session.perform(done)
        assert name not in bench.domains()
    volumes = bench.host.virsh("vol-list", "default")
    assert "made03.qcow2" not in volumes and "made04.qcow2" in volumes


def test_templates(bench, session):
    bench.govc("vm.markastemplate", OFF)
    vm = session.vm(OFF)
    assert vm.config.template and vm.summary.config.template
    with pytest.raises(vmodl.fault.NotSupported):
        session.perform(vm.PowerOnVM_Task())
    assert bench.host.state(OFF) == "shut off"
    bench.govc("vm.markasvm", "-host", "lab02", OFF)
    assert not session.vm(OFF).config.template
    refused = bench.try_govc("vm.markastemplate", ON)
    assert refused.returncode != 0 and not session.vm(ON).config.template


def test_events_of_a_life(bench, session):
    bench.govc("vm.create", "-on=false", "-m", "32", "-net", "default", "life01")
    vm = session.vm("life01")
    bench.govc("vm.destroy", "life01")
    def types():
        events = session.content.eventManager.QueryEvents(vim.event.EventFilterSpec())
        return [type(event).__name__.rsplit(".", 1)[-1] for event in events if event.vm and event.vm.name == "life01"]
    clients.eventually(lambda: "VmRemovedEvent" in types(), f"its end is told, there are {types()}")
    assert vm._moId
    assert [kind for kind in types() if kind != "TaskEvent"] == ["VmBeingCreatedEvent", "VmCreatedEvent", "VmRemovedEvent"]
    assert {event.userName for event in session.content.eventManager.QueryEvents(vim.event.EventFilterSpec())
            if event.vm and event.vm.name == "life01"} == {runner.USER}


def test_what_virsh_makes_is_registered(bench, session):
    """By nobody here, and a chain of its own."""
    bench.host._define("define", "<domain type='qemu'><name>life02</name><memory>32768</memory><os><type arch='x86_64'>hvm</type></os></domain>")
    def told():
        events = session.content.eventManager.QueryEvents(vim.event.EventFilterSpec())
        return [event for event in events if event.vm and event.vm.name == "life02"]
    clients.eventually(told, "its beginning is told")
    assert [(type(event), event.userName, event.chainId == event.key) for event in told()] == [(vim.event.VmRegisteredEvent, "", True)]
    bench.host.virsh("undefine", "life02")
    clients.eventually(lambda: len(told()) == 2, "its end is told")
    assert isinstance(told()[1], vim.event.VmRemovedEvent)


def test_a_task_and_its_events_are_one_chain(bench, session):
    vm = session.vm(OFF)
    info = session.perform(vm.ReconfigVM_Task(vim.vm.ConfigSpec(annotation="chained")))
    def chained():
        return session.content.eventManager.QueryEvents(vim.event.EventFilterSpec(eventChainId=info.eventChainId))
    clients.eventually(lambda: len(chained()) == 2, f"what the task did is told, there is {chained()}")
    begun, changed = chained()
    assert isinstance(begun, vim.event.TaskEvent) and isinstance(changed, vim.event.VmReconfiguredEvent)
    assert (begun.info.task, begun.info.name.info.wsdlName, begun.info.entity) == (info.task, "ReconfigVM_Task", vm)
    assert {begun.userName, changed.userName, begun.info.reason.userName} == {runner.USER}
    collector = session.content.taskManager.CreateCollectorForTasks(vim.TaskFilterSpec(eventChainId=[info.eventChainId]))
    assert [task.key for task in collector.ReadNextTasks(10)] == [info.key]


def test_folder_events_name_who_asked(bench, session):
    bench.govc("folder.create", "/Datacenter/vm/told")
    bench.govc("object.destroy", "/Datacenter/vm/told")
    def told():
        events = session.content.eventManager.QueryEvents(vim.event.EventFilterSpec(eventTypeId=["EventEx"]))
        return [(event.eventTypeId, event.userName) for event in events if event.objectName == "told"]
    clients.eventually(lambda: len(told()) == 2, f"both are told, there is {told()}")
    assert told() == [("hyperglot.folder.created", runner.USER), ("hyperglot.folder.removed", runner.USER)]

"""Power operations by the real clients; virsh, directly on libvirt, confirms each.

After a task's success the very next read shows it, in that session and in any other.
"""

import pytest
from pyVmomi import vim

import clients
import soap
from clients import Session


def shown(session: Session, name: str) -> str:
    return session.vm(name).runtime.powerState


@pytest.fixture
def other(hyperglot):
    """A second session, of another client, on the same front."""
    with Session(hyperglot.front("fleet")) as session:
        yield session


def test_on_and_off(host, fleet, other, db01):
    vm, elsewhere = fleet.vm(db01), other.vm(db01)
    info = fleet.perform(vm.PowerOnVM_Task())
    assert (vm.runtime.powerState, elsewhere.runtime.powerState) == ("poweredOn", "poweredOn")
    assert host.state(db01) == "running"
    assert info.state == "success"
    assert info.entity == vm and info.entityName == db01
    assert info.name.info.wsdlName == "PowerOnVM_Task"
    assert info.descriptionId == "VirtualMachine.powerOn"
    assert info.queueTime <= info.startTime <= info.completeTime

    fleet.perform(vm.PowerOffVM_Task())
    assert (vm.runtime.powerState, elsewhere.runtime.powerState) == ("poweredOff", "poweredOff")
    assert host.state(db01) == "shut off"


def test_a_boot_time_appears_with_power(fleet, db01):
    vm = fleet.vm(db01)
    assert vm.runtime.bootTime is None
    fleet.perform(vm.PowerOnVM_Task())
    assert vm.runtime.bootTime is not None


def test_reset_boots_the_guest_again(host, fleet, web01):
    boots = host.boots_seen(web01)
    fleet.perform(fleet.vm(web01).ResetVM_Task())
    assert shown(fleet, web01) == "poweredOn"
    host.wait_booted(web01, more_than=boots)
    assert host.state(web01) == "running"


def test_suspend_and_resume(host, fleet, other, web01):
    """A suspended machine is a managed save image; power-on restores it, without a boot."""
    boots = host.boots_seen(web01)
    vm, elsewhere = fleet.vm(web01), other.vm(web01)
    fleet.perform(vm.SuspendVM_Task())
    assert (vm.runtime.powerState, elsewhere.runtime.powerState) == ("suspended", "suspended")
    assert host.state(web01) == "shut off"
    assert web01 in host.virsh("list", "--all", "--with-managed-save", "--name").split()

    fleet.perform(vm.PowerOnVM_Task())
    assert (vm.runtime.powerState, elsewhere.runtime.powerState) == ("poweredOn", "poweredOn")
    assert host.state(web01) == "running"
    assert host.boots_seen(web01) == boots, "the guest went on where it was"


def test_power_off_a_suspended_machine_discards_its_state(host, fleet, web01):
    vm = fleet.vm(web01)
    fleet.perform(vm.SuspendVM_Task())
    fleet.perform(vm.PowerOffVM_Task())
    assert vm.runtime.powerState == "poweredOff"
    assert host.virsh("list", "--all", "--with-managed-save", "--name").split() == []


def test_guest_shutdown(host, fleet, web01):
    """ShutdownGuest returns at once; the guest's own power button handler does the rest."""
    vm = fleet.vm(web01)
    vm.ShutdownGuest()
    host.wait_state(web01, "shut off")
    clients.eventually(lambda: vm.runtime.powerState == "poweredOff", f"{web01} is shown as off")


def test_guest_reboot(host, fleet, web01):
    boots = host.boots_seen(web01)
    vm = fleet.vm(web01)
    vm.RebootGuest()
    host.wait_booted(web01, more_than=boots)
    assert vm.runtime.powerState == "poweredOn"


def test_task_progress_and_record(fleet, other, web01):
    """A task is in its machine's and the manager's list while it runs and stays readable when it is done."""
    vm = fleet.vm(web01)
    progress = []
    task = vm.SuspendVM_Task()
    assert task in vm.recentTask
    info = fleet.perform(task, progress)
    assert info.state == "success"
    numbers = [percent for percent in progress if isinstance(percent, int)]
    assert numbers == sorted(numbers) and all(0 <= percent <= 100 for percent in numbers)
    assert progress[-1] == "completed"
    assert task.info.key == info.key
    assert task in other.content.taskManager.recentTask
    assert task in other.vm(web01).recentTask


def test_every_task_read_is_in_order(fleet, db01):
    """queued, running, success: a reader never sees a state before the one it saw."""
    order = {"queued": 0, "running": 1, "success": 2, "error": 2}
    task = fleet.vm(db01).PowerOnVM_Task()
    seen = []
    while not seen or order[seen[-1]] < 2:
        seen.append(str(task.info.state))
    assert [order[state] for state in seen] == sorted(order[state] for state in seen)
    assert seen[-1] == "success"


def test_power_on_with_govc(host, govc, fleet, db01):
    assert "OK" in govc("vm.power", "-on", db01)
    assert host.state(db01) == "running"
    assert shown(fleet, db01) == "poweredOn"
    assert "OK" in govc("vm.power", "-off", db01)
    assert host.state(db01) == "shut off"
    assert shown(fleet, db01) == "poweredOff"


def test_shutdown_with_govc(host, govc, web01):
    govc("vm.power", "-s", web01)
    host.wait_state(web01, "shut off")


def test_power_on_several_with_govc(host, govc, db01):
    assert "OK" in govc("vm.power", "-on", "-M", db01)
    host.wait_state(db01, "running")


def test_what_one_front_did_the_other_shows(host, fleet, esxi, db01):
    fleet.perform(fleet.vm(db01).PowerOnVM_Task())
    assert shown(esxi, db01) == "poweredOn"
    esxi.perform(esxi.vm(db01).PowerOffVM_Task())
    assert shown(fleet, db01) == "poweredOff"
    assert host.state(db01) == "shut off"


def test_wrong_state_is_invalid_power_state(fleet, web01, db01):
    for name, operation, existing in ((web01, "PowerOnVM_Task", "poweredOn"), (db01, "PowerOffVM_Task", "poweredOff"), (db01, "ResetVM_Task", "poweredOff")):
        with pytest.raises(vim.fault.InvalidPowerState) as refused:
            fleet.perform(getattr(fleet.vm(name), operation)())
        assert refused.value.existingState == existing


def test_a_second_command_while_one_runs(host, hyperglot, fleet, web01):
    """Two operations on one machine at once: both end, and what libvirt says is what one of them wanted."""
    first = fleet.vm(web01).SuspendVM_Task()
    outcomes = []
    with Session(hyperglot.front("fleet")) as second:
        try:
            outcomes.append(second.perform(second.vm(web01).SuspendVM_Task()).state)
        except (vim.fault.TaskInProgress, vim.fault.InvalidPowerState) as busy:
            outcomes.append(clients.fault_name(busy))
    assert fleet.perform(first).state == "success"
    assert outcomes[0] in ("success", "TaskInProgress", "InvalidPowerState")
    assert shown(fleet, web01) == "suspended"
    assert host.state(web01) == "shut off"


def test_hard_power_off_overtakes(host, hyperglot, web01):
    """Power-off is not kept waiting by a suspend that hangs: the machine is off soon, whichever came first."""
    with soap.Client(hyperglot.front("fleet")) as client:
        client.login()
        with Session(hyperglot.front("fleet")) as session:
            vm = session.vm(web01)
            this = ("VirtualMachine", vm._moId)
            assert client.call("SuspendVM_Task", this).status == 200
            off = client.call("PowerOffVM_Task", this)
            assert off.status == 200 or off.fault in ("InvalidPowerState", "TaskInProgress"), off.text
            clients.eventually(lambda: host.state(web01) == "shut off", f"{web01} is off", timeout=30)
            clients.eventually(lambda: vm.runtime.powerState in ("poweredOff", "suspended"), "hyperglot shows it")

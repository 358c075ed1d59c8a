"""WaitForUpdatesEx and its relatives: changes arrive, whoever made them, and only they."""

import threading
import time

import pytest
from pyVmomi import vim, vmodl

import clients
import lab
import soap
from clients import Session

Collector = vmodl.query.PropertyCollector


def watch(session: Session, objects: list, paths: list[str], partial: bool = True):
    """A collector of its own with one filter over these objects; returns both."""
    collector = session.content.propertyCollector.CreatePropertyCollector()
    spec = Collector.FilterSpec(
        objectSet=[Collector.ObjectSpec(obj=found) for found in objects],
        propSet=[Collector.PropertySpec(type=type(objects[0]), pathSet=paths)],
    )
    return collector, collector.CreateFilter(spec, partial)


def changes(update) -> list[tuple]:
    return [
        (item.kind, item.obj._moId, change.name, change.val)
        for part in update.filterSet for item in part.objectSet for change in item.changeSet
    ]


def wait(collector, version: str, seconds: int = 30):
    return collector.WaitForUpdatesEx(version, Collector.WaitOptions(maxWaitSeconds=seconds))


class Waiter(threading.Thread):
    """A client blocked in WaitForUpdatesEx, in its own session."""

    def __init__(self, hyperglot, guest: str, path: str = "runtime.powerState"):
        super().__init__(daemon=True)
        self.front, self.guest, self.path = hyperglot.front("fleet"), guest, path
        self.ready, self.got, self.error = threading.Event(), [], None
        self.wanted = None

    def until(self, value) -> "Waiter":
        self.wanted = value
        self.start()
        assert self.ready.wait(30), "the first state never came"
        return self

    def run(self) -> None:
        try:
            with Session(self.front) as session:
                collector, _ = watch(session, [session.vm(self.guest)], [self.path])
                update = wait(collector, "")
                self.ready.set()
                deadline = time.monotonic() + 60
                while time.monotonic() < deadline:
                    update_next = wait(collector, update.version, 10)
                    if update_next is None:
                        continue
                    update = update_next
                    self.got += [change[3] for change in changes(update)]
                    if self.wanted in self.got:
                        return
        except Exception as error:
            self.error = error
            self.ready.set()

    def result(self) -> list:
        self.join(70)
        if self.error:
            raise self.error
        return [str(value) for value in self.got]


def test_the_first_update_is_the_whole_state(fleet, web01, db01):
    machines = [fleet.vm(name) for name in (web01, db01)]
    collector, _ = watch(fleet, machines, ["name", "runtime.powerState"])
    update = wait(collector, "")
    assert not update.truncated
    assert {(kind, name) for kind, _, name, _ in changes(update)} == {("enter", "name"), ("enter", "runtime.powerState")}
    assert {value for _, _, name, value in changes(update) if name == "name"} == {"web01", "db01"}


def test_nothing_new_is_an_empty_answer(fleet, db01):
    collector, _ = watch(fleet, [fleet.vm(db01)], ["name"])
    update = wait(collector, "")
    assert wait(collector, update.version, 0) is None
    assert collector.CheckForUpdates(update.version) is None


def test_a_change_behind_our_back_arrives_in_a_waiting_call(host, hyperglot, db01):
    waiter = Waiter(hyperglot, db01).until("poweredOn")
    host.virsh("start", db01)
    assert waiter.result()[-1] == "poweredOn"


def test_two_sessions_wait_at_once(host, hyperglot, db01):
    waiters = [Waiter(hyperglot, db01).until("poweredOn") for _ in range(2)]
    host.virsh("start", db01)
    assert [waiter.result()[-1] for waiter in waiters] == ["poweredOn", "poweredOn"]


def test_what_one_session_does_the_other_is_told(hyperglot, fleet, db01):
    waiter = Waiter(hyperglot, db01).until("poweredOn")
    fleet.perform(fleet.vm(db01).PowerOnVM_Task())
    assert waiter.result()[-1] == "poweredOn"


def test_a_waiting_call_does_not_block_its_session(hyperglot, fleet, db01):
    """A second connection with the same cookie is answered while the first waits."""
    with soap.Client(hyperglot.front("fleet")) as first, soap.Client(hyperglot.front("fleet")) as second:
        first.login()
        second.cookie = first.cookie
        vm = fleet.vm(db01)._moId
        spec = (f'<spec><propSet><type>VirtualMachine</type><pathSet>name</pathSet></propSet>'
                f'<objectSet><obj type="VirtualMachine">{vm}</obj></objectSet></spec><partialUpdates>true</partialUpdates>')
        assert first.call("CreateFilter", first.collector, spec).status == 200
        version = first.call("WaitForUpdatesEx", first.collector, "<version></version>").value("version")
        blocked = threading.Thread(target=lambda: first.call(
            "WaitForUpdatesEx", first.collector, f"<version>{version}</version><options><maxWaitSeconds>20</maxWaitSeconds></options>"))
        blocked.start()
        assert second.call("CurrentTime", ("ServiceInstance", "ServiceInstance")).status == 200
        assert blocked.is_alive(), "the first call still waits"
        # The call may still be on its way when it is cancelled first.
        deadline = time.monotonic() + 10
        while blocked.is_alive() and time.monotonic() < deadline:
            assert second.call("CancelWaitForUpdates", second.collector).status == 200
            blocked.join(0.2)
        assert not blocked.is_alive(), "CancelWaitForUpdates ends the wait"


def test_cancel_is_request_canceled(hyperglot, fleet, db01):
    collector, _ = watch(fleet, [fleet.vm(db01)], ["name"])
    version = wait(collector, "").version
    outcome = []

    def blocked():
        try:
            outcome.append(wait(collector, version, 30))
        except vmodl.fault.RequestCanceled as canceled:
            outcome.append(canceled)

    thread = threading.Thread(target=blocked)
    thread.start()
    deadline = time.monotonic() + 10
    while thread.is_alive() and time.monotonic() < deadline:
        collector.CancelWaitForUpdates()
        thread.join(0.2)
    thread.join(5)
    assert len(outcome) == 1 and isinstance(outcome[0], vmodl.fault.RequestCanceled), outcome


def test_a_version_may_be_asked_for_again(host, fleet, db01):
    """A client whose connection broke repeats its last version and loses nothing."""
    collector, _ = watch(fleet, [fleet.vm(db01)], ["runtime.powerState"])
    first = wait(collector, "")
    host.virsh("start", db01)
    update = wait(collector, first.version)
    again = wait(collector, first.version)
    assert [str(change[3]) for change in changes(update)][-1] == "poweredOn"
    assert [str(change[3]) for change in changes(again)][-1] == "poweredOn"


def test_an_unknown_version_is_refused(fleet, db01):
    collector, _ = watch(fleet, [fleet.vm(db01)], ["name"])
    with pytest.raises(vmodl.query.InvalidCollectorVersion):
        wait(collector, "no-such-version", 1)


def test_truncated_updates_come_in_parts(fleet, web01, db01):
    collector, _ = watch(fleet, [fleet.vm(web01), fleet.vm(db01)], ["name"])
    options = Collector.WaitOptions(maxWaitSeconds=5, maxObjectUpdates=1)
    first = collector.WaitForUpdatesEx("", options)
    assert first.truncated and len(changes(first)) == 1
    second = collector.WaitForUpdatesEx(first.version, options)
    assert len(changes(second)) == 1 and not second.truncated
    assert {change[3] for change in changes(first) + changes(second)} == {"web01", "db01"}


def test_a_destroyed_filter_sends_nothing_more(host, fleet, db01):
    collector, filter_ = watch(fleet, [fleet.vm(db01)], ["runtime.powerState"])
    version = wait(collector, "").version
    filter_.DestroyPropertyFilter()
    host.virsh("start", db01)
    fleet_vm = fleet.vm(db01)
    clients.eventually(lambda: fleet_vm.runtime.powerState == "poweredOn", "hyperglot has seen the change")
    update = wait(collector, version, 0)
    assert update is None or not changes(update)


def test_a_new_machine_enters_a_view_and_leaves_it(host, fleet):
    """A filter through a container view follows what is defined and undefined behind our back."""
    view = fleet.content.viewManager.CreateContainerView(fleet.content.rootFolder, [vim.VirtualMachine], True)
    collector = fleet.content.propertyCollector.CreatePropertyCollector()
    collector.CreateFilter(Collector.FilterSpec(
        objectSet=[Collector.ObjectSpec(obj=view, skip=True, selectSet=[
            Collector.TraversalSpec(name="view", type=vim.view.ContainerView, path="view", skip=False)])],
        propSet=[Collector.PropertySpec(type=vim.VirtualMachine, pathSet=["name"])],
    ), True)
    update = wait(collector, "")
    assert {value for *_, value in changes(update)} == {"web01", "db01"}

    guest = lab.Guest("guest03", memory_mib=64, vcpus=1, boots=False)
    host.virsh("vol-create-as", "default", "guest03.qcow2", "1M", "--format", "qcow2")
    host._define("define", host.domain_xml(guest))
    try:
        seen: dict[str, str] = {}

        def entered() -> bool:
            nonlocal update
            if (more := wait(collector, update.version, 5)) is not None:
                update = more
                for part in update.filterSet:
                    for item in part.objectSet:
                        for change in item.changeSet:
                            seen[str(change.val)] = item.kind
            return seen.get("guest03") == "enter"

        clients.eventually(entered, "guest03 enters the view")
    finally:
        host.virsh("undefine", "guest03", "--remove-all-storage")

    def left() -> bool:
        nonlocal update
        if (more := wait(collector, update.version, 5)) is None:
            return False
        update = more
        return any(item.kind == "leave" for part in update.filterSet for item in part.objectSet)

    clients.eventually(left, "guest03 leaves the view")
    assert sorted(vm.name for vm in view.view) == ["db01", "web01"]


def test_the_old_wait_for_updates(host, fleet, db01):
    """libvirt and pyVmomi use the old call: it returns at least the first state."""
    collector, _ = watch(fleet, [fleet.vm(db01)], ["runtime.powerState"])
    first = collector.WaitForUpdates(None)
    assert [str(change[3]) for change in changes(first)] == ["poweredOff"]
    host.virsh("start", db01)
    assert [str(change[3]) for change in changes(collector.WaitForUpdates(first.version))][-1] == "poweredOn"

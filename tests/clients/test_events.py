"""Events: what was done, by whom, to what, in order; and what libvirt did by itself."""

import clients
from pyVmomi import vim

from clients import Session
from runner import USER


def of_type(session: Session, entity, kind) -> list:
    """The entity's events of a type, oldest first."""
    spec = vim.event.EventFilterSpec(entity=vim.event.EventFilterSpec.ByEntity(entity=entity, recursion="self"))
    found = [event for event in session.content.eventManager.QueryEvents(spec) if isinstance(event, kind)]
    return sorted(found, key=lambda event: event.key)


def more(session: Session, entity, kind, known: list) -> list:
    """Waits for events of a type that were not among `known`."""
    keys = {event.key for event in known}
    return clients.eventually(
        lambda: [event for event in of_type(session, entity, kind) if event.key not in keys], f"a new {kind.__name__}")


def test_power_events_name_the_user_and_the_machine(fleet, db01):
    vm = fleet.vm(db01)
    before = of_type(fleet, vm, vim.event.VmPoweredOnEvent)
    fleet.perform(vm.PowerOnVM_Task())
    (on,) = more(fleet, vm, vim.event.VmPoweredOnEvent, before)
    assert on.vm.vm == vm and on.vm.name == db01
    assert on.host.name == "lab01"
    assert on.createdTime and on.fullFormattedMessage
    assert on.userName == USER

    before = of_type(fleet, vm, vim.event.VmPoweredOffEvent)
    fleet.perform(vm.PowerOffVM_Task())
    assert more(fleet, vm, vim.event.VmPoweredOffEvent, before)


def test_what_virsh_did_is_an_event_too(host, fleet, db01):
    vm = fleet.vm(db01)
    before = of_type(fleet, vm, vim.event.VmPoweredOnEvent)
    host.virsh("start", db01)
    assert more(fleet, vm, vim.event.VmPoweredOnEvent, before)


def test_suspend_is_an_event(fleet, web01):
    vm = fleet.vm(web01)
    before = of_type(fleet, vm, vim.event.VmSuspendedEvent)
    fleet.perform(vm.SuspendVM_Task())
    assert more(fleet, vm, vim.event.VmSuspendedEvent, before)


def test_keys_rise_and_times_do_not_fall(fleet, web01):
    events = fleet.content.eventManager.QueryEvents(vim.event.EventFilterSpec())
    assert events, "something has happened by now"
    keys = [event.key for event in events]
    assert len(set(keys)) == len(keys)
    ordered = sorted(events, key=lambda event: event.key)
    times = [event.createdTime for event in ordered]
    assert times == sorted(times)


def test_a_collector_pages_through_the_same_events(fleet, web01):
    manager = fleet.content.eventManager
    collector = manager.CreateCollectorForEvents(vim.event.EventFilterSpec())
    try:
        collector.SetCollectorPageSize(10)
        assert len(collector.latestPage) <= 10
        collector.RewindCollector()
        seen = []
        while page := collector.ReadNextEvents(5):
            assert len(page) <= 5
            seen += [event.key for event in page]
        assert seen == sorted(seen) and len(set(seen)) == len(seen)
        collector.ResetCollector()
        assert collector.ReadPreviousEvents(5)
    finally:
        collector.DestroyCollector()


def test_login_is_an_event(fleet):
    kinds = {type(event) for event in fleet.content.eventManager.QueryEvents(vim.event.EventFilterSpec())}
    assert vim.event.UserLoginSessionEvent in kinds


def test_govc_events(govc, fleet, db01):
    fleet.perform(fleet.vm(db01).PowerOnVM_Task())
    clients.eventually(lambda: db01 in govc("events", "vm/db01"), "govc events tells of db01")

"""Events: what was done, by whom, to what, in order; and what libvirt did by itself."""

import clients
from pyVmomi import vim

from clients import Session
from runner import USER


def of_type(session: Session, entity, *kinds):
    spec = vim.event.EventFilterSpec(entity=vim.event.EventFilterSpec.ByEntity(entity=entity, recursion="self"))
    return [event for event in session.content.eventManager.QueryEvents(spec) if isinstance(event, kinds)]


def test_power_events_name_the_user_and_the_machine(fleet, db01):
    vm = fleet.vm(db01)
    before = len(of_type(fleet, vm, vim.event.VmPoweredOnEvent))
    fleet.perform(vm.PowerOnVM_Task())
    on = clients.eventually(lambda: of_type(fleet, vm, vim.event.VmPoweredOnEvent)[before:], "a VmPoweredOnEvent")
    assert on[-1].vm.vm == vm and on[-1].vm.name == db01
    assert on[-1].host.name == "lab01"
    assert on[-1].createdTime and on[-1].fullFormattedMessage
    assert on[-1].userName == USER

    before = len(of_type(fleet, vm, vim.event.VmPoweredOffEvent))
    fleet.perform(vm.PowerOffVM_Task())
    clients.eventually(lambda: of_type(fleet, vm, vim.event.VmPoweredOffEvent)[before:], "a VmPoweredOffEvent")


def test_what_virsh_did_is_an_event_too(host, fleet, db01):
    vm = fleet.vm(db01)
    before = len(of_type(fleet, vm, vim.event.VmPoweredOnEvent))
    host.virsh("start", db01)
    clients.eventually(lambda: of_type(fleet, vm, vim.event.VmPoweredOnEvent)[before:], "a VmPoweredOnEvent")


def test_suspend_and_resume_events(fleet, web01):
    vm = fleet.vm(web01)
    before = len(of_type(fleet, vm, vim.event.VmSuspendedEvent))
    fleet.perform(vm.SuspendVM_Task())
    clients.eventually(lambda: of_type(fleet, vm, vim.event.VmSuspendedEvent)[before:], "a VmSuspendedEvent")


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

"""A hypervisor that hangs or dies: native errors by the deadline, the other one untouched, healing by itself."""

import time

import pytest
from pyVmomi import vim, vmodl

import clients
import lab
import runner
from clients import Session

TIMEOUT_S = 3


@pytest.fixture(scope="module")
def pair(work):
    """Two private libvirt hosts of one fleet, each with a machine that needs no booted system."""
    hosts = []
    try:
        for name in ("lab11", "lab12"):
            host = lab.LibvirtHost(work / name, name).start()
            hosts.append(host)
            host.provision([lab.Guest(f"{name}-vm", memory_mib=64, vcpus=1, boots=False)])
        fronts = [runner.Front("fleet", runner.free_port())]
        targets = [runner.libvirt_target(host.uri, host.name, timeout_s=TIMEOUT_S) for host in hosts]
        with runner.Hyperglot(work / "pair", targets, fronts) as own:
            yield hosts[0], hosts[1], own
    finally:
        for host in hosts:
            host.stop()


def power_cycle(session: Session, name: str) -> None:
    session.perform(session.vm(name).PowerOnVM_Task())
    session.perform(session.vm(name).PowerOffVM_Task())


def connection(session: Session, name: str) -> str:
    return session.named(vim.HostSystem, name).runtime.connectionState


def healed(session: Session, host: lab.LibvirtHost) -> None:
    clients.eventually(lambda: connection(session, host.name) == "connected", f"{host.name} is shown as connected again", timeout=60)
    vm = f"{host.name}-vm"
    clients.eventually(lambda: session.vm(vm).runtime.connectionState == "connected", f"{vm} is shown as connected again", timeout=60)
    power_cycle(session, vm)
    assert host.state(vm) == "shut off"


def test_a_hanging_libvirtd(pair):
    """SIGSTOP: a command on it fails natively by the deadline; reads and the other host go on; SIGCONT heals."""
    stuck, fine, own = pair
    with Session(own.front("fleet")) as session:
        stuck.pause()
        try:
            began = time.monotonic()
            with pytest.raises(vmodl.MethodFault):
                session.perform(session.vm(f"{stuck.name}-vm").PowerOnVM_Task())
            # The deadline is the target's timeout; the slack is for a loaded machine.
            assert time.monotonic() - began < TIMEOUT_S + 20
            power_cycle(session, f"{fine.name}-vm")
            assert session.vm(f"{stuck.name}-vm").name == f"{stuck.name}-vm", "last known facts can be read"
        finally:
            stuck.resume()
        settle_off(stuck)
        healed(session, stuck)


def settle_off(host: lab.LibvirtHost) -> None:
    """A command whose answer was lost may still have been performed when the host went on."""
    host.wait_answering()
    if host.state(f"{host.name}-vm") != "shut off":
        host.virsh("destroy", f"{host.name}-vm")


def test_a_killed_libvirtd(pair):
    """kill -9, then away: its host is not responding, its machine disconnected but never gone; back, it heals."""
    dead, fine, own = pair
    with Session(own.front("fleet")) as session:
        dead.kill(hold=True)
        try:
            clients.eventually(lambda: connection(session, dead.name) == "notResponding", f"{dead.name} is shown as not responding")
            assert session.vm(f"{dead.name}-vm").runtime.connectionState == "disconnected"
            with pytest.raises(vmodl.MethodFault):
                session.perform(session.vm(f"{dead.name}-vm").PowerOnVM_Task())
            power_cycle(session, f"{fine.name}-vm")
            assert connection(session, fine.name) == "connected"
        finally:
            dead.release()
        healed(session, dead)


def test_a_libvirtd_that_is_killed_and_comes_back_at_once(pair):
    """What changed while nobody listened is seen after the resync."""
    dead, _, own = pair
    name = f"{dead.name}-vm"
    with Session(own.front("fleet")) as session:
        dead.kill(hold=True)
        dead.release()
        dead.virsh("start", name)
        clients.eventually(lambda: session.vm(name).runtime.powerState == "poweredOn", f"{name} is shown as on", timeout=60)
        dead.virsh("destroy", name)
        clients.eventually(lambda: session.vm(name).runtime.powerState == "poweredOff", f"{name} is shown as off", timeout=60)


def test_the_process_survived_it_all(pair):
    *_, own = pair
    assert own.alive()
    status = own.status()
    assert {target["name"]: target["connected"] for target in status["targets"]} == {"lab11": True, "lab12": True}

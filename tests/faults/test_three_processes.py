"""A broker and two agents: which commands cross the bus, and what goes on without it."""

import http.client
import os
import signal
import time
from pathlib import Path

from pyVmomi import vim, vmodl

import clients
import lab
import overheard
from conftest import GUESTS
from clients import Session, eventually


def off(host, guest):
    """The guest is off, and nothing of it is saved."""
    if host.state(guest) != "shut off":
        host.virsh("destroy", guest)


def again(ask):
    """Asks over a connection that broke: the client's next call opens another, with the same session."""
    try:
        return ask()
    except (OSError, http.client.HTTPException):
        return ask()


def shown(front, guest, power, timeout=60.0):
    with Session(front) as session:
        machine = session.vm(guest)
        eventually(lambda: machine.runtime.powerState == power, f"{guest} is shown as {power}", timeout)


def commands_heard(domain, what) -> list[str]:
    """The subjects of the commands to the engine that cross the bus while `what()` runs."""
    return [subject for subject, _ in overheard.during(domain.own_bus(), what, "cmd.>")]


def test_the_fleet_shows_both_hosts(domain, hosts):
    govc = domain.govc()
    names = {line.rsplit("/", 1)[1] for line in govc("find", "/", "-type", "m").splitlines()}
    assert {"web01", "db01", "app02", "db02"} <= names
    assert {line.rsplit("/", 1)[1] for line in govc("find", "/", "-type", "h").splitlines()} == {"lab01", "lab02"}
    assert {line.rsplit("/", 1)[1] for line in domain.govc(domain.host("lab02"))("find", "/", "-type", "m").splitlines()} == {"app02", "db02"}


def test_a_reconfigure_crosses_the_bus_once_and_a_local_power_on_never(domain, hosts):
    off(hosts["lab01"], "db01")
    shown(domain.host("lab01"), "db01", "poweredOff")

    def reconfigure():
        with Session(domain.host("lab01")) as session:
            spec = vim.vm.ConfigSpec(annotation="changed through the engine")
            session.perform(session.vm("db01").ReconfigVM_Task(spec))

    seen = commands_heard(domain, reconfigure)
    assert seen == ["cmd.default.vm.Reconfigure"]
    assert hosts["lab01"].virsh("desc", "db01").strip() == "changed through the engine"

    def power_on():
        with Session(domain.host("lab01")) as session:
            session.perform(session.vm("db01").PowerOnVM_Task())

    assert commands_heard(domain, power_on) == []
    assert hosts["lab01"].state("db01") == "running"
    off(hosts["lab01"], "db01")


def test_the_fleet_commands_machines_of_both_hosts(domain, hosts):
    for host, guest in (("lab01", "db01"), ("lab02", "db02")):
        off(hosts[host], guest)
        shown(domain.fleet, guest, "poweredOff")
        with Session(domain.fleet) as session:
            session.perform(session.vm(guest).PowerOnVM_Task())
            assert hosts[host].state(guest) == "running"
            session.perform(session.vm(guest).PowerOffVM_Task())
            assert hosts[host].state(guest) == "shut off"


def test_virsh_manages_each_host_through_its_agent(domain, hosts, work):
    for name, guest in (("lab01", "db01"), ("lab02", "db02")):
        off(hosts[name], guest)
        shown(domain.host(name), guest, "poweredOff")
        directory = work / f"esx-{name}"
        directory.mkdir(exist_ok=True)
        virsh = clients.VirshEsx(domain.host(name), directory)
        assert {line for line in virsh("list", "--all", "--name").split()} == {g.name for g in GUESTS[name]}
        virsh("start", guest)
        assert hosts[name].state(guest) == "running"
        virsh("destroy", guest)
        assert hosts[name].state(guest) == "shut off"


def test_without_the_bus_a_host_goes_on_and_its_audit_comes_later(domain, hosts):
    off(hosts["lab02"], "db02")
    shown(domain.host("lab02"), "db02", "poweredOff")
    identity = f"vm:{lab.guest_uuid('lab02', 'db02')}"
    before = [line for line in domain.audit("--object", identity) if "PowerOn " in line or "  PowerOn  " in line]
    with Session(domain.host("lab02")) as session, Session(domain.fleet) as fleet:
        machine, far = session.vm("db02"), fleet.vm("web01")
        pid = domain.nats_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            session.perform(machine.PowerOnVM_Task())
            assert hosts["lab02"].state("db02") == "running"
            assert machine.runtime.powerState == "poweredOn"
            # The fleet still reads; what it would have to send fails in the protocol's words.
            assert far.runtime.powerState in ("poweredOn", "poweredOff")
        finally:
            # The broker may have replaced a server that does not greet any more.
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
        session.perform(machine.PowerOffVM_Task())
        assert hosts["lab02"].state("db02") == "shut off"

    def told():
        lines = [line for line in domain.audit("--object", identity) if "  PowerOn  " in line]
        return len(lines) > len(before)
    eventually(told, "the engine's audit has the PowerOn that the agent did by itself", 60)
    assert "whole" in domain.ctl("audit", "verify")
    domain.whole()


def test_a_session_is_good_at_every_front(domain):
    with Session(domain.fleet) as session:
        cookie = session.instance._stub.cookie
        assert cookie
        import soap
        for front in (domain.host("lab01"), domain.host("lab02"), domain.fleet):
            with soap.Client(front) as client:
                client.cookie = cookie.split(";")[0]
                reply = client.call("CurrentTime", ("ServiceInstance", "ServiceInstance"))
                assert reply.status == 200, reply.text


def test_what_a_client_holds_survives_restarts(domain, hosts):
    govc = domain.govc()
    govc("folder.create", "/Datacenter/vm/kept")
    govc("object.mv", "/Datacenter/vm/db02", "/Datacenter/vm/kept")
    off(hosts["lab02"], "db02")
    shown(domain.fleet, "db02", "poweredOff")

    def ids(front):
        with Session(front) as session:
            return {vm.name: vm._moId for vm in session.objects(vim.VirtualMachine)}

    before = {front.port: ids(front) for front in (domain.fleet, domain.host("lab01"), domain.host("lab02"))}
    with Session(domain.fleet) as session:
        task = session.vm("db02").PowerOnVM_Task()
        session.perform(task)
        machine = session.vm("db02")
        folder = machine.parent
        assert folder.name == "kept"
        for name in ("broker", "lab01", "lab02"):
            process = domain.broker if name == "broker" else domain.agents[name]
            process.kill()
            if name == "broker":
                domain.broker.start()
                domain.broker.wait_fronts()
            else:
                process.start()
            domain.whole()
            again(lambda: machine.name)
            # The session, the references and the task of before are as they were.
            eventually(lambda: machine.runtime.connectionState == "connected", f"db02 is connected after {name} died", 60)
            assert (machine.name, machine.parent._moId) == ("db02", folder._moId), name
            assert task.info.state == "success", name
            assert session.content.sessionManager.currentSession is not None, name
        session.perform(machine.PowerOffVM_Task())
    for front in (domain.fleet, domain.host("lab01"), domain.host("lab02")):
        assert ids(front) == before[front.port]
    govc("object.mv", "/Datacenter/vm/kept/db02", "/Datacenter/vm")
    govc("object.destroy", "/Datacenter/vm/kept")


def test_a_dead_agent_leaves_the_others_alone(domain, hosts):
    off(hosts["lab01"], "db01")
    with Session(domain.fleet) as session:
        gone, there = session.vm("app02"), session.vm("db01")
        domain.agents["lab02"].kill()
        eventually(lambda: gone.runtime.connectionState == "disconnected", "app02 is disconnected", 60)
        began = time.monotonic()
        try:
            session.perform(gone.PowerOffVM_Task())
            raise AssertionError("a machine whose agent is dead was powered off")
        except vmodl.fault.HostNotConnected:
            pass
        # Not a bar, only that nobody waits for the dead.
        assert time.monotonic() - began < 30
        session.perform(there.PowerOnVM_Task())
        session.perform(there.PowerOffVM_Task())
        domain.agents["lab02"].start()
        eventually(lambda: gone.runtime.connectionState == "connected", "app02 is connected again", 60)
    domain.whole()

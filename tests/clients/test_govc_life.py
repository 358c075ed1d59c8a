"""The life of a machine by govc alone, through the fleet's front and through the host's own; virsh says what became of it."""

import json

import pytest

import clients
from changing import IMAGE, SECOND_NETWORK, bench, text  # noqa: F401


@pytest.fixture(params=["fleet", "host"])
def govc(bench, request):
    return clients.Govc(bench.instance.front(request.param))


@pytest.fixture
def life(bench, govc):
    """A machine of this test's own: without a disk, with a drive and a card."""
    name = "life" + govc.environment["GOVC_URL"].split(":")[-1].split("/")[0]
    govc("vm.create", "-on=false", "-m", "64", "-c", "1", "-g", "debian12_64Guest", "-net", "default", "-iso", IMAGE, name)
    yield name
    for left in bench.domains() & {name, f"{name}b"}:
        if bench.host.state(left) == "running":
            bench.host.virsh("destroy", left)
        bench.host.virsh("undefine", left)
        clients.eventually(lambda: left not in govc("find", "/", "-type", "m"), "it is gone")


def drive(domain):
    return next(disk for disk in domain.findall("devices/disk") if disk.get("device") == "cdrom")


def test_changed(bench, govc, life):
    govc("vm.change", "-vm", life, "-c", "2", "-m", "96", "-annotation", "changed", "-e", "guestinfo.a=b")
    domain = bench.domain(life)
    assert (text(domain, "vcpu"), text(domain, "memory"), text(domain, "description")) == ("2", str(96 * 1024), "changed")
    (shown,) = json.loads(govc("vm.info", "-json", life))["virtualMachines"]
    assert ("guestinfo.a", "b") in [(option["key"], option["value"]) for option in shown["config"]["extraConfig"]]
    assert (shown["config"]["guestId"], shown["config"]["hardware"]["memoryMB"]) == ("debian12_64Guest", 96)
    govc("vm.network.change", "-vm", life, "-net", SECOND_NETWORK, "ethernet-0")
    assert bench.domain(life).find("devices/interface/source").get("network") == SECOND_NETWORK
    govc("device.boot", "-vm", life, "-order", "cdrom,ethernet")
    ordered = [line.split()[0].split("-")[0] for line in govc("device.ls", "-vm", life, "-boot").splitlines()]
    assert ordered[:2] == ["cdrom", "ethernet"]
    (cdrom,) = [device for device in govc("device.ls", "-vm", life).split() if device.startswith("cdrom-")]
    govc("device.cdrom.eject", "-vm", life, "-device", cdrom)
    assert drive(bench.domain(life)).find("source") is None
    govc("device.cdrom.insert", "-vm", life, "-device", cdrom, IMAGE)
    assert drive(bench.domain(life)).find("source") is not None


def test_renamed_powered_and_destroyed(bench, govc, life):
    path = govc("find", "/", "-type", "m", "-name", life)
    govc("object.rename", path, f"{life}b")
    assert f"{life}b" in bench.domains() and life not in bench.domains()
    govc("vm.change", "-vm", f"{life}b", "-name", life)
    govc("vm.power", "-on", life)
    assert bench.host.state(life) == "running"
    refused = govc.run("object.destroy", path)
    assert refused.returncode != 0 and "Powered on" in refused.stderr
    # govc turns it off first.
    govc("vm.destroy", life)
    assert life not in bench.domains()
    assert path not in govc("find", "/", "-type", "m").split()


def test_unregistered_and_not_registered_again(bench, govc, life):
    """A hypervisor forgets what a machine was when it is unregistered: there is no file to register it from."""
    govc("vm.unregister", life)
    assert life not in bench.domains()
    refused = govc.run("vm.register", f"{life}/{life}.vmx")
    assert refused.returncode != 0 and "not supported" in refused.stderr


def test_a_template_and_back(bench, govc, life):
    govc("vm.markastemplate", life)
    refused = govc.run("vm.power", "-on", life)
    assert refused.returncode != 0 and bench.host.state(life) == "shut off"
    govc("vm.markasvm", "-pool", govc("find", "/", "-type", "p"), life)
    govc("vm.power", "-on", life)
    assert bench.host.state(life) == "running"


def test_folders_are_the_fleet_s(bench, life):
    """govc's own way: a folder is made, a machine moved in, looked for, and moved out; a host has no folders and says so."""
    fleet, host = (clients.Govc(bench.instance.front(view)) for view in ("fleet", "host"))
    fleet("folder.create", "/Datacenter/vm/lives")
    try:
        fleet("object.mv", f"/Datacenter/vm/{life}", "/Datacenter/vm/lives")
        assert fleet("find", "/Datacenter/vm/lives", "-type", "m") == f"/Datacenter/vm/lives/{life}"
        fleet("vm.info", f"/Datacenter/vm/lives/{life}")
        fleet("object.mv", f"/Datacenter/vm/lives/{life}", "/Datacenter/vm")
    finally:
        fleet("object.destroy", "/Datacenter/vm/lives")
    for wish in (("folder.create", "/ha-datacenter/vm/x"), ("object.mv", f"/ha-datacenter/vm/{life}", "/ha-datacenter/vm")):
        assert host.run(*wish).returncode != 0

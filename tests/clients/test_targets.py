"""The same clients over other targets: libvirt by TCP, a simulated fleet that a file names, several targets at once."""

import json

import pytest
from pyVmomi import vim

import lab
import runner
from clients import Govc, Session

FLEET = """
[[datacenter]]
name = "Berlin"
[[folder]]
path = "Berlin/production/web"
[[cluster]]
name = "c1"
datacenter = "Berlin"
[[pool]]
name = "gold"
cluster = "c1"
[[host]]
name = "host1"
cluster = "c1"
[[host]]
name = "host2"
cluster = "c1"
[[network]]
name = "lan"
[[storage]]
name = "disk1"
capacity_gib = 1000
[[vm]]
name = "shop"
host = "host1"
pool = "gold"
folder = "Berlin/production/web"
power = "running"
cpus = 2
memory_mib = 2048
networks = ["lan"]
disks = [{ gib = 20, storage = "disk1" }]
ip = "10.0.0.11"
[[vm]]
name = "mail"
host = "host2"
power = "stopped"
"""


@pytest.fixture(scope="module")
def own(work):
    """A fleet that a file names."""
    inventory = work / "fleet.toml"
    inventory.write_text(FLEET)
    target = f'[[target]]\nprotocol = "sim"\ninventory = {json.dumps(str(inventory))}\n'
    with runner.Hyperglot(work / "named", [target], [runner.Front("fleet", runner.free_port())]) as instance:
        yield instance


def test_the_names_of_the_file_are_where_it_puts_them(own):
    govc = Govc(own.front("fleet"))
    assert "/Berlin/vm/production/web/shop" in govc("find", "/", "-type", "m").splitlines()
    assert sorted(govc("find", "/", "-type", "h").splitlines()) == ["/Berlin/host/c1/host1", "/Berlin/host/c1/host2"]
    assert "/Berlin/host/c1/Resources/gold" in govc("find", "/", "-type", "p").splitlines()
    machine = json.loads(govc("vm.info", "-json", "/Berlin/vm/production/web/shop"))["virtualMachines"][0]
    assert machine["config"]["hardware"]["memoryMB"] == 2048
    assert machine["guest"]["ipAddress"] == "10.0.0.11"
    assert machine["runtime"]["powerState"] == "poweredOn"


def test_a_cluster_is_one(own):
    with Session(own.front("fleet")) as session:
        (cluster,) = session.objects(vim.ClusterComputeResource)
        assert cluster.name == "c1"
        assert sorted(host.name for host in cluster.host) == ["host1", "host2"]
        assert cluster.summary.numHosts == 2
        assert session.content.searchIndex.FindByIp(None, "10.0.0.11", True).name == "shop"
        assert session.content.searchIndex.FindByInventoryPath("Berlin/vm/production/web/shop").name == "shop"


def test_simulated_machines_obey_too(own):
    with Session(own.front("fleet")) as session:
        vm = session.vm("mail")
        session.perform(vm.PowerOnVM_Task())
        assert vm.runtime.powerState == "poweredOn"
        session.perform(vm.PowerOffVM_Task())
        assert vm.runtime.powerState == "poweredOff"


def test_an_inventory_file_with_a_mistake_is_refused_with_its_line(work):
    inventory = work / "mistake.toml"
    inventory.write_text('[[vm]]\nname = "a"\nmemroy_mib = 5\n')
    instance = runner.Hyperglot(work / "mistake", [f'[[target]]\nprotocol = "sim"\ninventory = {json.dumps(str(inventory))}\n'], [])
    instance.write_config()
    done = instance.command("up", "--config", str(instance.config), timeout=30)
    assert done.returncode != 0
    assert "memroy_mib" in done.stderr and "mistake.toml" in done.stderr and "3" in done.stderr, done.stderr


def test_libvirt_over_tcp(work, host, db01):
    """The relay stands where libvirtd's own TCP port would; the network namespace hides that."""
    fronts = [runner.Front("fleet", runner.free_port())]
    with runner.Hyperglot(work / "tcp", [runner.libvirt_target(host.serve_tcp(0), "lab01")], fronts) as instance:
        with Session(instance.front("fleet")) as session:
            vm = session.vm("db01")
            assert vm.config.uuid == lab.guest_uuid("lab01", "db01")
            session.perform(vm.PowerOnVM_Task())
            assert host.state("db01") == "running"


def test_libvirt_and_a_simulated_fleet_in_one_view(work, host, db01):
    fronts = [runner.Front("fleet", runner.free_port())]
    targets = [runner.libvirt_target(host.uri, "lab01"), runner.sim_target(vms=5, hosts=1)]
    with runner.Hyperglot(work / "mixed", targets, fronts) as instance:
        with Session(instance.front("fleet")) as session:
            names = {vm.name for vm in session.objects(vim.VirtualMachine)}
            assert {"web01", "db01"} < names and len(names) == 7
            session.perform(session.vm("db01").PowerOnVM_Task())
        assert host.state("db01") == "running"

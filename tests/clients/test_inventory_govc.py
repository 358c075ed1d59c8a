"""govc sees the fleet: what is there, where, and what it is like."""

import json

import clients
import lab

UUID = {name: lab.guest_uuid("lab01", name) for name in ("web01", "db01")}


def test_about(govc):
    about = govc("about")
    assert "VirtualCenter" in about and "vpx" in about


def test_ls_walks_the_tree(govc):
    assert govc("ls", "/").splitlines(), "the root has a datacenter"
    (datacenter,) = govc("ls", "/").splitlines()
    assert govc("ls", "-l", "/") == f"{datacenter} (Datacenter)"
    assert sorted(govc("ls", datacenter).splitlines()) == [f"{datacenter}/{part}" for part in ("datastore", "host", "network", "vm")]
    assert sorted(govc("ls", f"{datacenter}/vm").splitlines()) == [f"{datacenter}/vm/db01", f"{datacenter}/vm/web01"]
    assert govc("ls", f"{datacenter}/host").splitlines() == [f"{datacenter}/host/lab01"]
    assert govc("ls", f"{datacenter}/datastore").splitlines() == [f"{datacenter}/datastore/default"]
    assert govc("ls", f"{datacenter}/network").splitlines() == [f"{datacenter}/network/default"]


def test_find_by_type(govc):
    names = {kind: sorted(path.rpartition("/")[2] for path in govc("find", "/", "-type", kind).splitlines()) for kind in "mhsnp"}
    assert names["m"] == ["db01", "web01"]
    assert names["h"] == ["lab01"]
    assert names["s"] == ["default"]
    assert names["n"] == ["default"]
    assert names["p"] == ["Resources"]


def test_find_with_a_property_filter(govc, web01, db01):
    assert [line.rpartition("/")[2] for line in govc("find", "/", "-type", "m", "-runtime.powerState", "poweredOn").splitlines()] == ["web01"]


def test_vm_info(govc, web01, db01):
    machines = {vm["name"]: vm for vm in json.loads(govc("vm.info", "-json", "web01", "db01"))["virtualMachines"]}
    for name, memory, cpus, power in (("web01", 128, 1, "poweredOn"), ("db01", 256, 2, "poweredOff")):
        vm = machines[name]
        assert vm["config"]["uuid"] == UUID[name]
        assert vm["config"]["hardware"]["memoryMB"] == memory
        assert vm["config"]["hardware"]["numCPU"] == cpus
        assert vm["runtime"]["powerState"] == power
        assert vm["summary"]["config"]["vmPathName"].startswith("[default] ")


def test_vm_info_finds_by_uuid(govc):
    assert "web01" in govc("vm.info", "-vm.uuid", UUID["web01"])


def test_devices_of_a_machine(govc, web01):
    kinds = {line.split()[1] for line in govc("device.ls", "-vm", "web01").splitlines()}
    assert "VirtualDisk" in kinds
    assert "VirtualCdrom" in kinds
    assert any(kind in kinds for kind in ("VirtualVmxnet3", "VirtualE1000")), kinds
    nic = json.loads(govc("device.info", "-json", "-vm", "web01", "ethernet-*"))["devices"][0]
    assert nic["macAddress"].lower() == lab.guest_mac("lab01", "web01")
    disk = json.loads(govc("device.info", "-json", "-vm", "web01", "disk-*"))["devices"][0]
    assert disk["capacityInKB"] == 64 * 1024


def test_object_collect(govc, web01):
    assert govc("object.collect", "-s", "vm/web01", "name") == "web01"
    assert govc("object.collect", "-s", "vm/web01", "config.hardware.memoryMB") == "128"
    assert govc("object.collect", "-s", "vm/web01", "config.annotation") == "The web server"


def test_object_collect_everything(govc, web01):
    """all=true on nearly every type, as `object.collect PATH` asks for it."""
    for path in ("/", "vm", "vm/web01", "host/lab01", "host/lab01/lab01", "host/lab01/Resources", "datastore/default", "network/default"):
        answer = govc("object.collect", "-s", "-json", path)
        assert json.loads(answer), path


def test_keyed_paths(govc, web01):
    devices = json.loads(govc("device.info", "-json", "-vm", "web01", "disk-*"))["devices"]
    key = devices[0]["key"]
    label = devices[0]["deviceInfo"]["label"]
    for path in (f"config.hardware.device[{key}].deviceInfo.label", f'config.hardware.device["{key}"].deviceInfo.label'):
        assert govc("object.collect", "-s", "vm/web01", path) == label


def test_an_invalid_path_is_refused(govc, web01):
    asked = govc.run("object.collect", "-s", "vm/web01", "config.nonsense")
    assert asked.returncode != 0
    assert asked.stdout.strip() == "" and "config.nonsense" in asked.stderr


def test_a_machine_that_is_not_there(govc):
    refused = govc.run("vm.info", "ghost")
    assert "ghost" not in refused.stdout
    refused = govc.run("vm.power", "-on", "ghost")
    assert refused.returncode != 0
    assert "not found" in refused.stderr


def test_host_info(govc):
    info = json.loads(govc("host.info", "-json"))["hostSystems"][0]
    assert info["name"] == "lab01"
    assert info["runtime"]["connectionState"] == "connected"
    assert info["hardware"]["memorySize"] > 2**30
    assert info["summary"]["hardware"]["numCpuCores"] >= 1


def test_datastore_info(govc):
    store = json.loads(govc("datastore.info", "-json"))["datastores"][0]
    assert store["name"] == "default"
    assert store["summary"]["accessible"] is True
    assert store["summary"]["capacity"] >= store["summary"]["freeSpace"] > 0


def test_esxi_looks_like_one_host(hyperglot):
    govc = clients.Govc(hyperglot.front("host"))
    assert "HostAgent" in govc("about")
    assert sorted(path.rpartition("/")[2] for path in govc("find", "/", "-type", "m").splitlines()) == ["db01", "web01"]
    assert govc("ls", "/").splitlines() == ["/ha-datacenter"]

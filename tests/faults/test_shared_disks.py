"""What is destroyed with a machine on libvirt: its own files, and none that another one needs."""

import xml.etree.ElementTree as ElementTree

from clients import eventually
from conftest import GUESTS

POOL = "default"


def machine(host, name: str, number: int, *disks: str) -> None:
    """A machine that is off, with these volumes as its disks."""
    root = ElementTree.fromstring(host.virsh("dumpxml", "--inactive", GUESTS["lab01"][1].name))
    root.find("name").text = name
    root.find("uuid").text = f"00000000-0000-4000-8000-0000000051{number:02}"
    devices = root.find("devices")
    devices.find("interface/mac").set("address", f"52:54:00:00:51:{number:02}")
    for disk in devices.findall("disk"):
        devices.remove(disk)
    for letter, volume in zip("abc", disks):
        format_ = "raw" if volume.endswith(".img") else "qcow2"
        devices.append(ElementTree.fromstring(
            f"<disk type='file' device='disk'><driver name='qemu' type='{format_}'/><source file='{host.lib}/images/{volume}'/>"
            f"<target dev='vd{letter}' bus='virtio'/></disk>"))
    host._define("define", ElementTree.tostring(root, encoding="unicode"))


def volumes(host) -> set[str]:
    return {line.split()[0] for line in host.virsh("vol-list", POOL).splitlines() if line.strip()}


def test_a_disk_that_another_machine_needs_stays(domain, hosts):
    host = hosts["lab01"]
    for volume in ("own.qcow2", "both.qcow2", "base.qcow2"):
        host.virsh("vol-create-as", POOL, volume, "4M", "--format", "qcow2")
    host.virsh("vol-create-as", POOL, "over.qcow2", "4M", "--format", "qcow2", "--backing-vol", "base.qcow2", "--backing-vol-format", "qcow2")
    machine(host, "shares1", 1, "own.qcow2", "both.qcow2", "base.qcow2")
    machine(host, "shares2", 2, "both.qcow2", "over.qcow2")
    # Volumes are news when the pool has been looked through.
    host.virsh("pool-refresh", POOL)
    govc = domain.govc()

    def listed() -> bool:
        stores = govc("find", "/", "-type", "s").splitlines()
        names = {name for store in stores for name in govc("datastore.ls", "-ds", store).split()}
        return {"own.qcow2", "both.qcow2", "base.qcow2", "over.qcow2"} <= names
    eventually(listed, "the volumes are known", 60)
    eventually(lambda: {"shares1", "shares2"} <= {line.rsplit("/", 1)[1] for line in govc("find", "/", "-type", "m").splitlines()},
               "the machines are known", 60)
    govc("vm.destroy", "shares1")
    there = volumes(host)
    assert "own.qcow2" not in there, "its own disk goes with it"
    assert {"both.qcow2", "base.qcow2", "over.qcow2"} <= there, "what the other one shows, or is laid over, stays"
    govc("vm.destroy", "shares2")
    there = volumes(host)
    assert not {"both.qcow2", "over.qcow2"} & there, "nobody else shows them any more"
    assert "base.qcow2" in there, "it was no machine's disk"
    host.virsh("vol-delete", "base.qcow2", "--pool", POOL)

"""A process dies at failpoints of commands to a real libvirt. virsh, directly on libvirt, and QEMU's own log are the witnesses."""

from __future__ import annotations

import itertools
from collections import deque

import pytest

import clients
import deeds
import lab
import runner
from kills import VM, Deed, Place, Scene, Trial

CALLS = ["lane.intent-durable", "lane.call-sent", "lane.call-answered", "lane.effect-seen", "link.outcome-durable"]
ENGINES = ["engine.intent-durable", "lane.call-sent", "lane.call-answered", "link.performed", "engine.outcome-durable"]
WAYS = {
    "power-on": CALLS, "power-off": CALLS, "rename": CALLS, "reconfigure": ENGINES, "create": ENGINES,
    # The machine is gone then, its disk is not.
    "destroy": [*ENGINES, "lane.step-durable"],
}
CASES = [(deed, point) for deed, way in WAYS.items() for point in way]
STARTED = "-name guest="


class Bench:
    """`up` over a private libvirt whose guests have nothing to boot."""

    def __init__(self, directory, name: str):
        self.host = lab.LibvirtHost(directory, name)
        self.numbers = itertools.count(1)
        self.directory = directory

    def __enter__(self) -> "Bench":
        self.host.start()
        many = sum(len(way) for way in WAYS.values())
        self.fresh = deque(lab.Guest(f"k{number:02}", memory_mib=32, vcpus=1, disk_mib=1, boots=False) for number in range(many))
        self.host.provision([])
        # Before the agent looks, so that it knows whose disks they are.
        for guest in self.fresh:
            self.host.virsh("vol-create-as", "default", f"{guest.name}.qcow2", f"{guest.disk_mib}M", "--format", "qcow2")
        self.place = Place(self.directory / "p", runner.libvirt_target(self.host.uri, self.host.name))
        self.place.__enter__()
        client = self.place.client
        datacenter = client.refs(("Folder", client.root), "childEntity")[0]
        hosts = ("Folder", client.text(datacenter, "hostFolder"))
        pool = ("ResourcePool", client.text(client.refs(hosts, "childEntity")[0], "resourcePool"))
        self.parts = {"folder": ("Folder", client.text(datacenter, "vmFolder")), "pool": pool, "store": "default"}
        made = [*deeds.local(self.done), *deeds.changing(self.done), deeds.created(self.done)]
        self.deeds: dict[str, Deed] = {deed.name: deed for deed in made}
        self.deeds["reconfigure"].ask = deeds.call("ReconfigVM_Task", "<spec><memoryMB>64</memoryMB></spec>")
        self.deeds["reconfigure"].shown = deeds.shows("config.hardware.memoryMB", "64")
        return self

    def __exit__(self, *_) -> None:
        self.place.__exit__()
        self.host.stop()

    def names(self) -> list[str]:
        return self.host.virsh("list", "--all", "--name").split()

    def starts(self, name: str) -> int:
        """How often QEMU was started for a guest."""
        logs = [path for path in self.host.directory.rglob(f"{name}.log") if path.parent.name in ("qemu", "log")]
        return sum(path.read_text(errors="replace").count(STARTED) for path in logs)

    def done(self, scene: Scene, verb: str) -> int:
        there = self.names()
        match verb:
            case "PowerOn":
                return self.starts(scene.name)
            case "PowerOff":
                return int(self.host.state(scene.name) == "shut off")
            case "Reconfigure":
                return int("<memory unit='KiB'>65536</memory>" in self.host.virsh("dumpxml", "--inactive", scene.name))
            case "RenameVm":
                return there.count(f"new-{scene.name}")
            case "CreateVm":
                return there.count(scene.name)
            case "DestroyVm":
                return int(scene.name not in there)
        raise AssertionError(verb)

    def scene(self, deed: Deed) -> Scene:
        scene = Scene(self.place, name=f"made{next(self.numbers)}", more=dict(self.parts))
        if deed.power:
            guest = self.fresh.popleft()
            self.host._define("define", self.host.domain_xml(guest))
            if deed.power == "poweredOn":
                self.host.virsh("start", guest.name)
            clients.eventually(lambda: self.place.client.machines().get(guest.name, ("", "", ""))[2] == deed.power, f"{guest.name} is {deed.power}")
            moref, uuid, _ = self.place.client.machines()[guest.name]
            scene.vm, scene.name, scene.uuid = (VM, moref), guest.name, uuid
        return scene


@pytest.fixture(scope="module")
def bench(work):
    with Bench(work / "kl", "lab03") as running:
        yield running


@pytest.mark.parametrize("name, point", CASES, ids=lambda value: value)
def test_a_death_loses_and_doubles_nothing(bench, name, point):
    deed = bench.deeds[name]
    scene = bench.scene(deed)
    try:
        assert Trial(deed, {"up": point}).run(scene), f"{name} has come to its end without {point}"
    except BaseException as error:
        error.add_note(bench.place.tails())
        raise
    finally:
        bench.place.revive()
        for guest in (scene.name, f"new-{scene.name}"):
            if guest in bench.names():
                if bench.host.state(guest) != "shut off":
                    bench.host.virsh("destroy", guest)
                bench.host.virsh("undefine", guest)


def test_there_are_enough_deaths():
    assert len(CASES) >= 20

"""What users see when something dies: the rows that the other fault tests leave, over simulated hypervisors as processes of their own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import runner
from clients import eventually
from kills import VM, Client, Place, Scene, ended, fault_of, lines

SLOW = "[calls.Reconfigure]\nlatency_ms = [6000, 6000]\n"


class Split:
    """A broker with a fleet front, an agent with a host front, a simulated hypervisor that takes its time to change a machine."""

    def __init__(self, directory: Path):
        directory.mkdir()
        behaviour = directory / "behaviour.toml"
        behaviour.write_text(SLOW)
        self.sim = runner.Sim(directory / "sim", 20, 1, "--behaviour", str(behaviour))
        self.place = Place(directory / "p", runner.sim_process_target(self.sim.uri, "sim"), split=True, host="host-0000")
        self.names = iter(f"vm-{number:05}" for number in range(7, 20) if number % 10 >= 7)

    def __enter__(self) -> "Split":
        self.sim.__enter__()
        self.place.__enter__()
        self.host = Client(self.place.agent.fronts[0], timeout=30)
        assert self.host.login().status == 200
        return self

    def __exit__(self, *_) -> None:
        self.host.close()
        self.place.__exit__()
        self.sim.__exit__()

    def machine(self, name: str) -> tuple[Scene, Scene]:
        """A machine as the host shows it, and as the fleet does."""
        def scene(client: Client) -> Scene:
            moref, uuid, _ = client.machines()[name]
            return Seen(self.place, (VM, moref), name, uuid, {"client": client})
        return scene(self.host), scene(self.place.client)

    def nats(self) -> int:
        wanted = str(self.place.broker.directory / "data" / "bus" / "nats.conf")
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    words = process.joinpath("cmdline").read_bytes().decode(errors="replace").split("\0")
                except OSError:
                    continue
                if wanted in words and words[0].endswith("nats-server"):
                    return int(process.name)
        raise AssertionError("no nats-server of this broker runs")


class Seen(Scene):
    """A scene through a client of its own."""

    @property
    def client(self) -> Client:
        return self.more["client"]


@contextmanager
def stopped(pid: int):
    """A process that does not go on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if Path(f"/proc/{pid}").exists():
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def split(work):
    with Split(work / "table") as running:
        yield running


def refused_soon(scene: Scene) -> float:
    """A change that the engine would have to plan ends in a fault; how long that took, of three the one that the machine delayed least."""
    return min(refused(scene) for _ in range(3))


def refused(scene: Scene) -> float:
    began = time.monotonic()
    reply = scene.client.call("ReconfigVM_Task", scene.vm, "<spec><annotation>not now</annotation></spec>")
    if reply.fault is None:
        task = ("Task", reply.value())
        assert ended(scene.client, task) == "error"
        assert fault_of(scene.client, task).split(":")[0] not in ("None", "SystemError")
    return time.monotonic() - began


def test_without_the_engine_the_host_goes_on(split):
    """The broker does not answer: reads and local commands go on, others are refused, and all heals."""
    here, fleet = split.machine(next(split.names))
    with stopped(split.place.broker.process.pid):
        scene = here
        assert scene.state() == "poweredOff"
        scene.perform("PowerOnVM_Task", scene.vm)
        assert scene.state() == "poweredOn"
        eventually(lambda: "the engine is away" in split.place.agent.tail(), "the agent notices", 60)
        assert refused_soon(here) < 1
        assert scene.state() == "poweredOn"
        assert [line[1] for line in lines(split.sim.effects) if line[2] == f"vm:{here.uuid}"] == ["PowerOn"]
    eventually(lambda: fleet.state() == "poweredOn", "the fleet shows what was done", 60)

    def told():
        found = [line.split("  ") for line in split.place.ctl("audit", "search", "--object", f"vm:{here.uuid}").splitlines()]
        return sum(words[3] == "PowerOn" and words[5] == "allowed" for words in found) == 1
    eventually(told, "the audit has the command once", 60)
    eventually(lambda: here.perform("ReconfigVM_Task", here.vm, "<spec><annotation>again</annotation></spec>") is not None, "it heals", 60)


def test_a_running_task_outlives_the_bus(split):
    """The bus dies while a command runs: its task stays running and ends right."""
    here, _ = split.machine(next(split.names))
    reply = here.client.call("ReconfigVM_Task", here.vm, "<spec><memoryMB>3072</memoryMB></spec>")
    task = ("Task", reply.value())
    eventually(lambda: here.client.text(task, "info.state") == "running", "it runs")
    time.sleep(0.5)
    os.kill(split.nats(), signal.SIGKILL)
    assert here.client.text(task, "info.state") == "running"
    assert ended(here.client, task) == "success", fault_of(here.client, task)
    assert here.client.text(here.vm, "config.hardware.memoryMB") == "3072"
    assert [line[1] for line in lines(split.sim.effects) if line[2] == f"vm:{here.uuid}"] == ["Reconfigure"]


def test_what_a_stopped_bus_did_not_carry_is_resynchronised(split):
    """Changes whose messages were lost are seen as soon as the bus carries any."""
    here, fleet = split.machine(next(split.names))
    with stopped(split.nats()):
        for _ in range(3):
            here.perform("PowerOnVM_Task", here.vm)
            here.perform("PowerOffVM_Task", here.vm)
        here.perform("PowerOnVM_Task", here.vm)
        assert here.state() == "poweredOn"
    eventually(lambda: fleet.state() == "poweredOn", "the fleet shows the last of it", 60)


def test_a_target_that_hangs_and_one_that_does_not(work):
    """Reads go on, the others are not held up, and it heals by itself."""
    with runner.Sim(work / "t1", 10, 1, "--name", "one") as one, runner.Sim(work / "t2", 10, 1, "--name", "two") as two:
        targets = runner.sim_process_target(one.uri, "one") + runner.sim_process_target(two.uri, "two")
        with Place(work / "tp", targets) as place:
            def off(uuids: set[str]) -> Scene:
                name, (moref, uuid, _) = next((n, m) for n, m in place.client.machines().items() if m[2] == "poweredOff" and m[1] in uuids)
                return Scene(place, (VM, moref), name, uuid)

            def uuids(of: str) -> set[str]:
                hosts = {}
                for name, (moref, uuid, _) in place.client.machines().items():
                    hosts.setdefault(place.client.text((VM, moref), "runtime.host"), set()).add(uuid)
                assert len(hosts) == 2
                return sorted(hosts.items())[0 if of == "one" else 1][1]
            first, second = off(uuids("one")), off(uuids("two"))
            # Which process holds which machine, its log tells.
            first.perform("PowerOnVM_Task", first.vm)
            hung = one if any(line[2] == f"vm:{first.uuid}" for line in lines(one.effects)) else two
            with stopped(hung.process.pid):
                reply = first.client.call("PowerOffVM_Task", first.vm)
                assert first.state() == "poweredOn"
                second.perform("PowerOnVM_Task", second.vm)
                second.perform("PowerOffVM_Task", second.vm)
            assert ended(first.client, ("Task", reply.value()), 90) in ("success", "error")
            eventually(lambda: place.client.text(first.vm, "runtime.connectionState") == "connected", "it is connected again", 60)
            if first.state() == "poweredOff":
                first.perform("PowerOnVM_Task", first.vm)
            first.perform("PowerOffVM_Task", first.vm)


@pytest.mark.parametrize("store", ["engine.redb", "agent.redb"])
def test_a_damaged_store_is_refused_and_repaired(work, store):
    """It does not start on it and says what to do; repaired, everything is called what it was."""
    directory = work / f"broken-{store[:2]}"
    with runner.Sim(directory / "sim", 10, 1) as sim, Place(directory / "p", runner.sim_process_target(sim.uri, "sim")) as place:
        before = place.client.machines()
        folder = place.client.text(place.client.refs(("Folder", place.client.root), "childEntity")[0], "vmFolder")
        made = place.client.call("CreateFolder", ("Folder", folder), "<name>kept</name>").value()
        place.broker.stop()
        path = place.broker.directory / "data" / store
        whole = path.read_bytes()
        damaged = bytearray(whole)
        # Every page but the header: some of it is in use.
        for at in range(8192 + 100, len(damaged), 4096):
            damaged[at] ^= 0xFF
        path.write_bytes(bytes(damaged))
        place.broker.launch()
        eventually(lambda: not place.broker.alive(), "it ends by itself")
        assert place.broker.process.returncode != 0
        assert "hyperglot ctl repair" in place.broker.tail(), place.broker.tail()
        place.broker.process = None
        # One bad page, as a disk makes them: what is whole is saved.
        for number in range(8192 + 100, len(whole), 4096):
            one = bytearray(whole)
            one[number] ^= 0xFF
            path.write_bytes(bytes(one))
            checked = place.broker.command("ctl", "--config", str(place.broker.config), "repair", str(path))
            if checked.returncode == 0:
                break
        assert checked.returncode == 0, checked.stderr
        place.broker.start()
        place.client.close()
        # The session is the one of before, too.
        assert place.client.machines() == before
        assert place.client.text(("Folder", made), "name") == "kept"


def test_a_full_disk_refuses_changes_and_answers_reads(work):
    """The data directory is on a small file system that fills up: reads go on, changes are refused with a reason."""
    directory = work / "full"
    with runner.Sim(directory / "sim", 10, 1) as sim:
        place = Place(directory / "p", runner.sim_process_target(sim.uri, "sim"))
        data = place.broker.directory / "data"
        data.mkdir(parents=True)
        inside = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64m none "$0" && exec "$@"', str(data)]
        possible = subprocess.run([*inside, "true"], capture_output=True, text=True)
        assert possible.returncode == 0, f"this needs the right to mount: {possible.stderr}"
        launched = place.broker.launch
        binary = runner.BINARY
        wrapper = directory / "inside.sh"
        wrapper.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in [*inside, str(binary)]) + ' "$@"\n')
        wrapper.chmod(0o755)
        try:
            runner.BINARY = wrapper
            launched()
        finally:
            runner.BINARY = binary
        place.broker.wait_fronts()
        try:
            assert place.client.login().status == 200
            name, (moref, uuid, _) = next((n, m) for n, m in place.client.machines().items() if m[2] == "poweredOff")
            scene = Scene(place, (VM, moref), name, uuid)
            scene.perform("PowerOnVM_Task", scene.vm)
            fill = Path(f"/proc/{place.broker.process.pid}/root{data}/fill")
            # Unbuffered: closing has nothing left to write where there is no room.
            with open(fill, "wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"\0" * 65536)
                except OSError:
                    pass

            def refused() -> bool:
                before = len(lines(sim.effects))
                reply = scene.client.call("ReconfigVM_Task", scene.vm, f"<spec><annotation>{'x' * 30000}</annotation></spec>")
                told = reply.fault is not None or ended(scene.client, ("Task", reply.value())) == "error"
                assert not told or len(lines(sim.effects)) == before, "what was refused was done"
                return told
            eventually(refused, "a change is refused when nothing can be kept", 60)
            assert scene.state() == "poweredOn"
            there = ["nsenter", "--mount", "--target", str(place.broker.process.pid)]

            def stores() -> dict:
                said = subprocess.run([*there, str(binary), "status", "--config", str(place.broker.config), "--json"],
                                      capture_output=True, text=True, env=place.broker.environment(), timeout=30)
                assert said.returncode == 0, said.stderr
                return json.loads(said.stdout)["stores"]
            assert any("no room left" in trouble for trouble in stores().values()), stores()
            # Room again: nobody has to start it anew.
            fill.unlink()
            eventually(lambda: not any(stores().values()), "the stores are written again", 60)
            scene.perform("ReconfigVM_Task", scene.vm, "<spec><annotation>with room</annotation></spec>")
            assert scene.client.text(scene.vm, "config.annotation") == "with room"
            log = place.broker.log.read_text(errors="replace")
            assert "there is room again" in log
        finally:
            place.client.close()
            place.broker.stop()


@pytest.mark.parametrize("point", ["engine.intent-durable", "engine.answered", "engine.outcome-durable"])
def test_a_folder_that_is_being_emptied_goes_with_its_machines_after_a_death(work, point):
    """Killed with the first of three machines begun, done or recorded: the rest follows after the start, each once."""
    directory = work / f"emptied-{point}"
    with runner.Sim(directory / "sim", 10, 1) as sim, Place(directory / "p", runner.sim_process_target(sim.uri, "sim")) as place:
        client = place.client
        datacenter = client.refs(("Folder", client.root), "childEntity")[0]
        scene = Scene(place)
        root = ("Folder", client.text(datacenter, "vmFolder"))
        folder = ("Folder", scene.perform("CreateFolder", root, "<name>emptied</name>"))
        chosen = [facts for _, facts in sorted(client.machines().items()) if facts[2] == "poweredOff"][:3]
        assert len(chosen) == 3
        moved = "".join(f'<list type="VirtualMachine">{moref}</list>' for moref, _, _ in chosen)
        scene.perform("MoveIntoFolder_Task", folder, moved)
        place.arm(up=point)
        try:
            reply = client.call("Destroy_Task", folder)
            task = ("Task", reply.value())
        except (http.client.HTTPException, OSError):
            task = None
        eventually(lambda: not place.broker.alive(), f"it dies at {point}", pause=0.02)
        assert place.reached_by("up") == [point]
        place.revive()
        if task:
            assert ended(client, task) == "success", fault_of(client, task)
        eventually(lambda: folder not in client.refs(root, "childEntity"), "the folder is gone", 60)
        destroyed = [line[2] for line in lines(sim.effects) if line[1] == "DestroyVm"]
        assert sorted(destroyed) == sorted(f"vm:{uuid}" for _, uuid, _ in chosen), "each once"
        assert not {moref for moref, _, _ in chosen} & {facts[0] for facts in client.machines().values()}

"""A process dies at every failpoint there is, in every command that passes it, over a simulated hypervisor that outlives it.

Each death is judged by the simulated hypervisor's log of effects: nothing is lost that the client was told, nothing is there twice, every
task ends and says what is true, the audit has the command before its effect, and the object can be used.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

import pytest

import deeds
import kills
import runner
from kills import VM, Place, Scene, Trial, lines

LANE = ["lane.turn-come", "lane.intent-durable", "lane.call-sent", "lane.call-answered", "lane.effect-seen", "lane.before-ended"]
KEPT = ["link.outcome-told", "link.outcome-durable"]
SENT = ["link.task-created", "link.answered", "link.outcome-heard", "link.task-ended"]
ENGINE = ["engine.submitted", "engine.planned", "engine.intent-durable", "engine.answered", "engine.outcome-durable", "engine.before-answer"]
OWNED = ["engine.own-committed"]
OWNER = ["link.perform-checked", "link.performed"]
PLANNED = SENT + ENGINE + OWNER + LANE + KEPT
# The points on each command's way when one process does everything.
WAYS = {
    **dict.fromkeys(("power-on", "power-off", "suspend", "reset", "rename"), LANE + KEPT + ["link.handed"]),
    **dict.fromkeys(("reconfigure", "destroy"), PLANNED),
    **dict.fromkeys(("settings", "create"), PLANNED + OWNED),
    "template": SENT + ENGINE + OWNED + OWNER + ["lane.turn-come", "lane.before-ended"],
    **dict.fromkeys(("folder-create", "folder-rename", "folder-move", "folder-destroy"),
                    SENT + ["engine.submitted", "engine.outcome-durable", "engine.before-answer"] + OWNED),
}
# With a broker and an agent: who dies where.
BROKER, AGENT = SENT + ENGINE, OWNER + LANE + KEPT
SPLIT = ("power-on", "reconfigure", "create", "destroy")
WORKERS = {"up": 2, "split": 1}
VMS = 400


@dataclass(frozen=True)
class Case:
    shape: str
    deed: str
    who: str
    point: str

    def __str__(self) -> str:
        return f"{self.deed}-{self.who}-{self.point}"


CASES = [Case("up", deed, "up", point) for deed, way in WAYS.items() for point in way]
CASES += [Case("split", deed, who, point) for deed in SPLIT for who, way in (("broker", BROKER), ("agent", AGENT)) for point in way]


class Stage:
    """A simulated hypervisor and an installation over it, for one death after the other."""

    def __init__(self, directory, shape: str, mappings=None, behaviour=None):
        self.sim = runner.Sim(directory / "sim", VMS, 2, *(["--behaviour", str(behaviour)] if behaviour else []))
        self.place = Place(directory / "p", runner.sim_process_target(self.sim.uri, "sim"), shape == "split", mappings)
        self.numbers = itertools.count(1)

    def __enter__(self) -> "Stage":
        self.sim.__enter__()
        self.place.__enter__()
        client = self.place.client
        machines = client.machines()
        self.free = {power: deque((name, *facts) for name, facts in sorted(machines.items()) if facts[2] == power)
                     for power in ("poweredOn", "poweredOff")}
        datacenter = client.refs(("Folder", client.root), "childEntity")[0]
        hosts = ("Folder", client.text(datacenter, "hostFolder"))
        pool = ("ResourcePool", client.text(client.refs(hosts, "childEntity")[0], "resourcePool"))
        self.parts = {"folder": ("Folder", client.text(datacenter, "vmFolder")), "pool": pool, "store": "store"}
        self.deeds = {deed.name: deed for deed in
                      [*deeds.local(self.done), *deeds.changing(self.done), deeds.created(self.done), *deeds.folders()]}
        return self

    def __exit__(self, *_) -> None:
        self.place.__exit__()
        self.sim.__exit__()

    def done(self, scene: Scene, call: str) -> int:
        """How often the hypervisor did this to the object."""
        def its(line: list[str]) -> bool:
            if call == "CreateVm":
                return f"name={scene.name}" in (line[3].split(",") if len(line) > 3 else [])
            return line[2] == f"vm:{scene.uuid}"
        return sum(line[1] == call and its(line) for line in lines(self.sim.effects))

    def scene(self, deed: kills.Deed) -> Scene:
        scene = Scene(self.place, name=f"made-{next(self.numbers)}", more=dict(self.parts))
        if deed.power:
            name, moref, uuid, _ = self.free[deed.power].popleft()
            scene.vm, scene.name, scene.uuid = (VM, moref), name, uuid
        return scene

    def die(self, case: Case, again: str | None = None) -> None:
        deed = self.deeds[case.deed]
        scene = self.scene(deed)
        try:
            reached = Trial(deed, {case.who: case.point}).run(scene, again)
            assert reached, f"{case.deed} has come to its end without {case.point}"
        except BaseException as error:
            error.add_note(self.place.tails())
            raise
        finally:
            self.place.revive()


class Deaths:
    """The cases, worked off by a few installations beside each other."""

    def __init__(self, directory, cases: list[Case]):
        self.directory = directory
        self.verdicts = {case: Future() for case in cases}
        self.threads = []
        for shape, workers in WORKERS.items():
            queue = deque(case for case in cases if case.shape == shape)
            for number in range(workers if queue else 0):
                thread = threading.Thread(target=self.work, args=(f"{shape}{number}", shape, queue), daemon=True)
                self.threads.append(thread)
                thread.start()

    def work(self, name: str, shape: str, queue: deque) -> None:
        for life in itertools.count():
            if not queue:
                return
            try:
                with Stage(self.directory / f"{name}-{life}", shape) as stage:
                    while queue:
                        try:
                            case = queue.popleft()
                        except IndexError:
                            return
                        try:
                            stage.die(case)
                            self.verdicts[case].set_result(None)
                        except BaseException as error:  # noqa: BLE001
                            self.verdicts[case].set_exception(error)
                            # Whatever is broken is not broken for the next one.
                            break
            except BaseException as error:  # noqa: BLE001
                while queue:
                    self.verdicts[queue.popleft()].set_exception(error)


@pytest.fixture(scope="module")
def deaths(work, request):
    cases = [item.callspec.params["case"] for item in request.session.items if getattr(item, "callspec", None) and "case" in item.callspec.params]
    return Deaths(work / "kills", [case for case in cases if isinstance(case, Case)])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_death_loses_and_doubles_nothing(deaths, case):
    deaths.verdicts[case].result(timeout=280)


def test_there_are_enough_deaths_and_none_is_forgotten():
    assert len(CASES) >= 200
    elsewhere = {"lane.settled", "lane.step-durable", "lane.undo-begun", "lane.undo-sent", "lane.undo-answered", "engine.lost", "engine.replanned"}
    assert {case.point for case in CASES} | elsewhere == kills.points()

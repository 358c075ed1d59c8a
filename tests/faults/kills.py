"""Deaths at failpoints: a process is made ready, armed with one point, given one command by a client, and dies there.

`Place` is an installation whose processes read the point to die at from a file (`hyperglot failpoints` prints all there are), so that one
start serves one death. `Deed` is a command: how a client asks for it, how often its effect is there, and which points are on its way.
`Trial` is one death and its judgement.
"""

from __future__ import annotations

import http.client
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable
from xml.sax.saxutils import escape

import runner
import soap
from clients import eventually

# How long a task may take to end, a command to come to its point, and what comes after its end.
SETTLED, PATIENCE, MOMENT = 90.0, 60.0, 20.0
VM = "VirtualMachine"


def points() -> set[str]:
    """All failpoints there are."""
    done = runner.run_binary("failpoints")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def ref(name: str, moref: tuple[str, str]) -> str:
    return f'<{name} type="{moref[0]}">{escape(moref[1])}</{name}>'


class Client(soap.Client):
    """A connection that is made again when the server died. The session is the one of the first login, whoever dies."""

    def ask(self, method: str, this: tuple[str, str], arguments: str = "") -> soap.Reply:
        """An answer, asked for once more if the connection is a dead one: only for what changes nothing."""
        try:
            return self.call(method, this, arguments)
        except (http.client.HTTPException, OSError):
            return self.call(method, this, arguments)

    def get(self, this: tuple[str, str], path: str) -> soap.Reply:
        spec = (f"<specSet><propSet><type>{this[0]}</type><pathSet>{path}</pathSet></propSet>"
                f"<objectSet>{ref('obj', this)}</objectSet></specSet><options/>")
        return self.ask("RetrievePropertiesEx", self.collector, spec)

    def text(self, this: tuple[str, str], path: str) -> str | None:
        """A property as text, or nothing if the object or the property is not there."""
        return self.get(this, path).value("val")

    def refs(self, this: tuple[str, str], path: str) -> list[tuple[str, str]]:
        """A property that is a list of references."""
        value = self.get(this, path).values("val")
        return [(item.get("type") or "", item.text or "") for item in value[0]] if value else []

    def objects(self, kind: str, *wanted: str) -> list[tuple[str, dict[str, str | None]]]:
        """All objects of a type: reference and the text of properties."""
        made = self.ask("CreateContainerView", ("ViewManager", "ViewManager"),
                        f"{ref('container', ('Folder', self.root))}<type>{kind}</type><recursive>true</recursive>")
        view = ("ContainerView", made.value() or "")
        paths = "".join(f"<pathSet>{path}</pathSet>" for path in wanted)
        walk = ('<selectSet xsi:type="TraversalSpec"><type>ContainerView</type><path>view</path><skip>false</skip></selectSet>')
        reply = self.ask("RetrievePropertiesEx", self.collector,
                         f"<specSet><propSet><type>{kind}</type>{paths}</propSet><objectSet>{ref('obj', view)}<skip>true</skip>{walk}"
                         "</objectSet></specSet><options/>")
        assert reply.status == 200, reply.text
        self.ask("DestroyView", view)
        return [(item.findtext(f"{soap.VIM}obj"),
                 {p.findtext(f"{soap.VIM}name"): p.findtext(f"{soap.VIM}val") for p in item.findall(f"{soap.VIM}propSet")})
                for item in reply.values("objects")]

    def machines(self) -> dict[str, tuple[str, str, str]]:
        """All VMs: name, and moref, uuid, power state."""
        found = self.objects(VM, "name", "config.uuid", "runtime.powerState")
        return {facts["name"]: (moref, facts.get("config.uuid"), facts.get("runtime.powerState")) for moref, facts in found}

    def in_touch(self) -> bool:
        """Whether every host answers."""
        hosts = self.objects("HostSystem", "runtime.connectionState")
        return bool(hosts) and all(facts.get("runtime.connectionState") == "connected" for _, facts in hosts)

    @property
    def root(self) -> str:
        return "ha-folder-root" if self.front.view == "host" else "group-d1"


@dataclass
class Told:
    """What the client was told: the reference or value it got, or the fault, or nothing because the server died."""

    answered: bool = False
    value: str | None = None
    fault: str | None = None


class Place:
    """An installation, its client, and what it dies of. `split`: a broker and an agent instead of `up`."""

    def __init__(self, directory: Path, target: str, split: bool = False, mappings: Path | None = None, host: str | None = None):
        self.directory = directory
        self.front = runner.Front("fleet", runner.free_port())
        self.split = split
        if split:
            self.broker = runner.Broker(directory / "broker", [self.front], mappings)
            self.agent = runner.Agent(directory / "agent", [target], [runner.Front("host", runner.free_port(), host=host)] if host else [], mappings)
            self.processes = {"broker": self.broker, "agent": self.agent}
        else:
            self.broker = runner.Hyperglot(directory / "up", [target], [self.front], mappings)
            self.processes = {"up": self.broker}
        for name, process in self.processes.items():
            process.more = {"HYPERGLOT_FAILPOINT": f"@{self.armed(name)}", "HYPERGLOT_FAILPOINT_FILE": str(self.reached(name))}
        self.client = Client(self.front, timeout=30)

    def armed(self, name: str) -> Path:
        return self.directory / f"{name}.armed"

    def reached(self, name: str) -> Path:
        return self.directory / f"{name}.reached"

    def __enter__(self) -> "Place":
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.split:
            self.broker.start()
            self.agent.start(token=self.broker.token("agent"))
            self.broker.wait_fronts()
        else:
            self.broker.start()
        reply = self.client.login()
        assert reply.status == 200, reply.text
        return self

    def __exit__(self, *_) -> None:
        self.client.close()
        for process in reversed(self.processes.values()):
            process.stop()

    def arm(self, **who: str) -> None:
        """From now on, `who` dies at the point."""
        for name, point in who.items():
            self.reached(name).unlink(missing_ok=True)
            written = self.armed(name).with_suffix(".new")
            written.write_text(point)
            written.rename(self.armed(name))

    def disarm(self) -> None:
        for name in self.processes:
            self.armed(name).unlink(missing_ok=True)

    def dead(self) -> list[str]:
        return [name for name, process in self.processes.items() if not process.alive()]

    def revive(self) -> None:
        """Starts again who died, unarmed."""
        self.disarm()
        died = self.dead()
        before = self.agent.log.stat().st_size if self.split else 0
        for name in died:
            self.processes[name].process = None
            self.processes[name].start()
        self.client.close()
        self.broker.wait_fronts()
        if self.split and died:
            # Each life of one of them is told the other anew.
            eventually(lambda: b"the engine is there" in self.agent.log.read_bytes()[before:], "the agent is in touch with the broker")
            eventually(self.client.in_touch, "the broker hears of the agent's hosts", pause=0.05)

    def reached_by(self, name: str) -> list[str]:
        path = self.reached(name)
        return path.read_text().split() if path.exists() else []

    def ctl(self, *arguments: str) -> str:
        done = self.broker.command("ctl", "--config", str(self.broker.config), *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tails(self) -> str:
        return "\n".join(f"--- {name}\n{process.tail(3000)}" for name, process in self.processes.items())


@dataclass
class Deed:
    """A command. `task`: it is answered with a task. `blind`: whether it was done cannot be seen afterwards, so a failure may be told."""

    name: str
    verb: str
    ask: Callable[["Scene"], soap.Reply]
    effect: Callable[["Scene"], int]
    task: bool = True
    blind: bool = False
    power: str | None = None
    prepare: Callable[["Scene"], None] | None = None
    # What the client sees when it was done.
    shown: Callable[["Scene"], bool] | None = None
    # A command that must work afterwards.
    after: Callable[["Scene"], None] | None = None
    # What its audit record names.
    mark: Callable[["Scene"], str] = lambda scene: f"vm:{scene.uuid}"


@dataclass
class Scene:
    """One deed on an object of its own."""

    place: Place
    vm: tuple[str, str] | None = None
    name: str = ""
    uuid: str = ""
    more: dict = field(default_factory=dict)
    # Until when a command is asked for again that another one has to end for: nobody told us when that ends.
    patient: float = 0.0

    @property
    def client(self) -> Client:
        return self.place.client

    def state(self) -> str | None:
        return self.client.text(self.vm, "runtime.powerState")

    def perform(self, method: str, this: tuple[str, str], arguments: str = "") -> str:
        """A command that works, to its end: what its task results in, or its answer."""
        while True:
            reply = self.client.call(method, this, arguments)
            if reply.fault == "TaskInProgress" and time.monotonic() < self.patient:
                time.sleep(0.1)
                continue
            assert reply.status == 200, f"{method}: {reply.text}"
            if not method.endswith("_Task"):
                return reply.value() or ""
            task = ("Task", reply.value())
            if ended(self.client, task) == "success":
                break
            why = fault_of(self.client, task)
            assert "TaskInProgress" in why and time.monotonic() < self.patient, f"{method}: {why}"
            time.sleep(0.1)
        return self.client.text(task, "info.result") or ""


def ended(client: Client, task: tuple[str, str], timeout: float = SETTLED) -> str:
    """How a task ended."""
    def over():
        reply = client.get(task, "info.state")
        assert reply.fault is None, f"{task[1]}: {reply.text}"
        state = reply.value("val")
        return state if state in ("success", "error") else None
    return eventually(over, f"{task[1]} ends", timeout, pause=0.05)


def fault_of(client: Client, task: tuple[str, str]) -> str:
    reply = client.get(task, "info.error")
    found = reply.values("fault")
    kind = found[0].get(soap.XSI_TYPE) if found else None
    return f"{kind}: {reply.value('localizedMessage')}"


@dataclass
class Trial:
    """One death: who dies where, and what then holds."""

    deed: Deed
    died: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.deed.name} dies at " + ", ".join(f"{point} ({who})" for who, point in self.died.items())

    def run(self, scene: Scene, again: str | None = None, then: dict[str, str] | None = None) -> bool:
        """Whether the point was reached. `again`: it dies there too when it starts again. `then`: these die when it does."""
        place, deed = scene.place, self.deed
        if deed.prepare:
            deed.prepare(scene)
        before = deed.effect(scene)
        assert before == 0, f"its effect is there before it: {before}"
        place.arm(**self.died)
        told = self.send(scene)
        task = ("Task", told.value) if deed.task and told.value else None
        hit = self.await_death(scene, task)
        if not hit:
            place.disarm()
            return False
        for who, point in self.died.items():
            assert place.reached_by(who) == [point], f"{who} reached {place.reached_by(who)}"
        if again:
            self.die_again(scene, again)
        for who, point in (then or {}).items():
            place.disarm()
            place.arm(**{who: point})
            for dead in place.dead():
                place.processes[dead].process = None
                place.processes[dead].launch()
            eventually(lambda who=who: not place.processes[who].alive(), f"{who} dies at {point}", PATIENCE, pause=0.02)
            assert place.reached_by(who) == [point]
        place.revive()
        self.judge(scene, told, task)
        return True

    def die_again(self, scene: Scene, point: str) -> None:
        """The processes that died start again, and die at `point` before anybody asks them anything."""
        place = scene.place
        dead = place.dead()
        place.arm(**{who: point for who in dead})
        for who in dead:
            place.processes[who].process = None
            place.processes[who].launch()
            eventually(lambda who=who: not place.processes[who].alive(), f"{who} dies at {point} after its start", PATIENCE, pause=0.02)
            assert place.reached_by(who) == [point]

    def send(self, scene: Scene) -> Told:
        try:
            reply = self.deed.ask(scene)
        except (http.client.HTTPException, OSError):
            return Told()
        if reply.fault:
            return Told(answered=True, fault=reply.fault)
        return Told(answered=True, value=reply.value())

    def await_death(self, scene: Scene, task: tuple[str, str] | None) -> bool:
        """Whether all that were armed died: waited for until the task ended, and a moment longer for what comes after it."""
        place = scene.place
        patience = time.monotonic() + PATIENCE
        over = task is None
        while True:
            if set(place.dead()) >= set(self.died):
                return True
            now = time.monotonic()
            if not over and not place.dead():
                try:
                    over = scene.client.text(task, "info.state") in ("success", "error")
                except (http.client.HTTPException, OSError):
                    scene.client.close()
                    continue
            if over and not place.dead():
                patience = min(patience, now + MOMENT)
            if now > patience:
                return False
            time.sleep(0.02)

    def judge(self, scene: Scene, told: Told, task: tuple[str, str] | None) -> None:
        """What the client is told is the truth, and it is so once."""
        deed, client = self.deed, scene.client
        state = None
        if task:
            state = ended(client, task)
        else:
            # Nobody holds a reference: what is under way ends all the same.
            eventually(lambda: not self.open_tasks(scene), "the tasks of the object end", SETTLED)
            scene.patient = time.monotonic() + SETTLED
        effect = self.settled_effect(scene)
        assert effect in (0, 1), f"the effect is there {effect} times"
        why = fault_of(client, task) if state == "error" else ""
        if state == "success" or (told.answered and not deed.task and not told.fault):
            assert effect == 1, "success was told and there is no effect"
        if state == "error" and not deed.blind:
            assert effect == 0, f"a failure was told ({why}) and the effect is there"
        if state == "error":
            assert why and not why.startswith("None"), f"no fault is named: {why}"
        if deed.shown:
            if effect:
                eventually(lambda: deed.shown(scene), "what was done is shown")
            elif not deed.blind:
                assert not deed.shown(scene), "what was not done is shown"
        allowed = self.audited(scene)
        if effect:
            assert allowed == 1, f"the effect is there and the audit allows it {allowed} times"
        assert allowed <= 1, f"the audit allows it {allowed} times"
        if deed.after:
            deed.after(scene)

    def settled_effect(self, scene: Scene) -> int:
        """How often the effect is there, once that does not change any more."""
        last, since = self.deed.effect(scene), time.monotonic()
        while time.monotonic() < since + 0.3:
            time.sleep(0.05)
            now = self.deed.effect(scene)
            if now != last:
                last, since = now, time.monotonic()
        return last

    def open_tasks(self, scene: Scene) -> bool:
        if not scene.vm:
            return False
        recent = scene.client.refs(scene.vm, "recentTask")
        return any(scene.client.text(task, "info.state") in ("queued", "running") for task in recent)

    def audited(self, scene: Scene) -> int:
        """Records that allow the command. An agent's own may be a moment on their way."""
        deed = self.deed

        def allowed() -> int:
            found = [line.split("  ", 6) for line in scene.place.ctl("audit", "search", "--limit", "60").splitlines()]
            return sum(words[3] == deed.verb and words[5] == "allowed" and deed.mark(scene) in words[4] + words[6] for words in found)
        deadline = time.monotonic() + 30
        while (found := allowed()) == 0 and time.monotonic() < deadline and deed.effect(scene):
            time.sleep(0.2)
        return found


def mapping_copy(directory: Path, change: Callable[[Path], None]) -> Path:
    """The mappings, with a change."""
    shutil.copytree(runner.REPO / "mappings", directory)
    change(directory)
    return directory


def lines(log: Path) -> list[list[str]]:
    """The effects of a simulated hypervisor: number, call, object, what was said."""
    text = log.read_text() if log.exists() else ""
    return [line.split(" ", 3) for line in text.splitlines() if not line.startswith("#")]

"""Management servers that quarrel over a few VMs, and write down what they asked and were told."""

from __future__ import annotations

import http.client
import random
import subprocess
import threading
import time

from pyVmomi import vim

import clients
import lab
import runner
import soap
from linear import OFF, ON, Op, State

CALLS = {
    "on": ("PowerOnVM_Task", lambda _: ""),
    "off": ("PowerOffVM_Task", lambda _: ""),
    "suspend": ("SuspendVM_Task", lambda _: ""),
    "reset": ("ResetVM_Task", lambda _: ""),
    "annotate": ("ReconfigVM_Task", lambda text: f"<spec><annotation>{text}</annotation></spec>"),
    "memory": ("ReconfigVM_Task", lambda mib: f"<spec><memoryMB>{mib}</memoryMB></spec>"),
    "rename": ("Rename_Task", lambda name: f"<newName>{name}</newName>"),
}
# Seconds that a whole quarrel may take; on an idle machine it is a twentieth of it.
PATIENCE = 800
# Seconds within which every command ends, also where each answer is lost and asked for again.
ENDS = 200
SHOWN = ("runtime.powerState", "config.annotation", "config.hardware.memoryMB", "name")


def morefs(front: runner.Front) -> dict[str, str]:
    """Every VM's reference at this front, by its uuid."""
    with clients.Session(front) as session:
        return {vm.config.uuid: vm._moId for vm in session.objects(vim.VirtualMachine)}


class Server:
    """A vSphere client with a session of its own."""

    def __init__(self, name: str, front: runner.Front, machines: dict[str, str]):
        self.name = name
        self.client = soap.Client(front, timeout=60)
        self.machines = machines
        reply = self.client.login()
        assert reply.status == 200, reply.text

    def properties(self, kind: str, moref: str, paths) -> soap.Reply:
        sets = "".join(f"<pathSet>{path}</pathSet>" for path in paths)
        spec = (f'<specSet><propSet><type>{kind}</type>{sets}</propSet><objectSet><obj type="{kind}">{moref}</obj></objectSet></specSet>'
                "<options/>")
        try:
            return self.client.call("RetrievePropertiesEx", self.client.collector, spec)
        except (http.client.HTTPException, OSError):
            # A connection that nobody used for a minute was closed; what only reads may be asked again.
            return self.client.call("RetrievePropertiesEx", self.client.collector, spec)

    def read(self, vm: str) -> State:
        reply = self.properties("VirtualMachine", self.machines[vm], SHOWN)
        facts = {p.findtext(f"{soap.VIM}name"): p.findtext(f"{soap.VIM}val") or "" for p in reply.values("propSet")}
        assert SHOWN[0] in facts, reply.text
        return State(facts[SHOWN[0]], facts.get(SHOWN[1], ""), int(facts[SHOWN[2]]), facts[SHOWN[3]])

    def begin(self, vm: str, what: str, argument=None) -> soap.Reply:
        method, body = CALLS[what]
        return self.client.call(method, ("VirtualMachine", self.machines[vm]), body(argument))

    def end(self, task: str) -> tuple[str | None, str | None]:
        """Waits for a task; its fault and the power state that the fault names."""
        deadline = time.monotonic() + ENDS
        while time.monotonic() < deadline:
            reply = self.properties("Task", task, ("info",))
            state = reply.value("state")
            if state == "success":
                return None, None
            if state == "error":
                fault = reply.values("fault")[0]
                return (fault.get(soap.XSI_TYPE) or "").rpartition(":")[2], fault.findtext(f"{soap.VIM}existingState")
            assert state in ("queued", "running"), reply.text
            time.sleep(0.002)
        raise lab.LabError(f"{self.name}: {task} does not end")

    def perform(self, vm: str, what: str, argument=None) -> Op:
        began, fault, existing, seen = time.monotonic(), None, None, None
        if what == "read":
            seen = self.read(vm)
        else:
            reply = self.begin(vm, what, argument)
            if reply.fault:
                detail = reply.values("existingState")
                fault, existing = reply.fault, detail[0].text if detail else None
            else:
                fault, existing = self.end(reply.value())
        return Op(self.name, vm, what, argument, began, time.monotonic(), fault, existing, seen)


class Virsh:
    """virsh directly on the host, past hyperglot. Its words are of the C locale."""

    REFUSED = {"domain is not running": "not running", "Domain is already active": "already active", "domain is already running": "already active"}

    def __init__(self, name: str, host: lab.LibvirtHost, guests: dict[str, str]):
        self.name, self.host, self.guests = name, host, guests

    def perform(self, vm: str, what: str, argument=None) -> Op:
        began, guest = time.monotonic(), self.guests[vm]
        if what == "domstate":
            state = self.host.state(guest)
            return Op(self.name, vm, what, None, began, time.monotonic(), seen=State(OFF if state == "shut off" else ON), direct=True)
        more = ["--live", "--config", str(argument)] if what == "desc" else []
        done = subprocess.run(["virsh", "-c", self.host.uri, what, guest, *more], capture_output=True, text=True, timeout=60)
        fault = None
        if done.returncode:
            known = [name for words, name in self.REFUSED.items() if words in done.stderr]
            fault = known[0] if known else "interrupted"
        return Op(self.name, vm, what, argument, began, time.monotonic(), fault, direct=True)


def argument(what: str, name: str, n: int, rng: random.Random):
    return {"annotate": f"{name} {n}", "desc": f"{name} {n}", "rename": f"{name}-{n}", "memory": 64 + 32 * rng.randrange(3)}.get(what)


def quarrel(servers: list, vms: dict[str, list[str]], each: int, seed: int, direct: dict[str, list[str]] | None = None) -> list[Op]:
    """Every server performs `each` operations, drawn by the seed; what all of them were told. `vms`: what vSphere clients do to each VM,
    `direct`: what virsh does."""
    history, failed = [], []

    def work(server, n: int):
        rng, mine = random.Random(f"{seed}/{n}"), []
        menu = direct if isinstance(server, Virsh) else vms
        try:
            for i in range(each):
                vm = rng.choice(sorted(menu))
                what = rng.choice(menu[vm])
                mine.append(server.perform(vm, what, argument(what, server.name, i, rng)))
        except Exception as error:  # told below, in the test's own thread
            failed.append((server.name, error))
        history.extend(mine)

    threads = [threading.Thread(target=work, args=(server, n), daemon=True) for n, server in enumerate(servers)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not failed, failed
    assert len(history) == each * len(servers)
    return history

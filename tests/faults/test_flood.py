"""Far more than can be done, for a minute: what is too much is refused in the protocol's words, everything asked is answered, every task ends,
the audit is whole, and memory stays within the bars of engine and agent and returns.

`HYPERGLOT_FLOOD_S` shortens the minute."""

import asyncio
import os
import re
import ssl
import time
from collections import Counter

import pytest
from pyVmomi import vim, vmodl

import clients
import overheard
import runner
import soap
import storms

SECONDS = float(os.environ.get("HYPERGLOT_FLOOD_S", "60"))
VMS, STILL = 1_000, 2
NEWEST = 5_000
# Connections that ask as fast as they are answered; a few VMs, so that most commands meet another.
CONNECTIONS, TARGETED = 96, 24
ENGINE_MIB, AGENT_MIB = 256, 128
# What may stay after it: up to 8,000 tasks and their ids, 16 MiB of a store's pages, what the allocator has not given back yet.
STAYS_MIB = 64


@pytest.fixture
def crowded(work, installation, request):
    """One for each test: what a storm leaves in caches is not the next one's."""
    work = work / re.sub(r"\W", "", request.node.name)[-12:]
    work.mkdir()
    slow = work / "flooded.toml"
    slow.write_text("[all]\nlatency_ms = [20, 60]\n")
    with runner.Sim(work / "crowd", VMS, 4, "--name", "crowd", "--behaviour", str(slow)) as sim:
        quiet = work / "quiet.toml"
        quiet.write_text('[[host]]\nname = "still"\n' + "".join(f'[[vm]]\nname = "still{n}"\nhost = "still"\n' for n in range(STILL)))
        targets = {"crowd": runner.sim_process_target(sim.uri, "crowd"),
                   "quiet": f'[[target]]\nprotocol = "sim"\nname = "quiet"\ninventory = "{quiet}"\n'}
        with installation(work / "flood", targets, {"crowd": "host-0000", "quiet": "still"}) as running:
            with clients.Session(running.fleet) as session:
                clients.eventually(lambda: len(session.objects(vim.VirtualMachine)) == VMS + STILL, "all VMs are shown")
            yield running


class Asker:
    """One connection; every request is answered before the next."""

    def __init__(self, front: runner.Front, cookie: str):
        self.front, self.cookie = front, cookie

    async def __aenter__(self) -> "Asker":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        # A front that has enough handshakes under way closes the next connection; a client comes again.
        for wait in (0.2, 0.5, 1.0, 2.0, None):
            try:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.front.port, ssl=context)
                break
            except ConnectionError:
                if wait is None:
                    raise
                await asyncio.sleep(wait)
        return self

    async def __aexit__(self, *_) -> None:
        self.writer.close()

    async def ask(self, body: bytes) -> tuple[int, bytes]:
        head = (f"POST /sdk HTTP/1.1\r\nHost: {self.front.address}\r\nContent-Type: text/xml\r\nSOAPAction: urn:vim25/8.0.3.0\r\n"
                f"Cookie: {self.cookie}\r\nContent-Length: {len(body)}\r\n\r\n")
        self.writer.write(head.encode() + body)
        header = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", header)
        assert length, header
        return int(header.split()[1]), await self.reader.readexactly(int(length[1]))


def requests(machine: str, n: int) -> bytes:
    method, more = [("PowerOnVM_Task", ""), ("ReconfigVM_Task", f"<spec><annotation>flood {n}</annotation></spec>"), ("SuspendVM_Task", ""),
                    ("ReconfigVM_Task", f"<spec><annotation>flood {n}</annotation></spec>")][n % 4]
    return soap.envelope(soap.call(method, ("VirtualMachine", machine), more))


async def flood(front: runner.Front, cookie: str, machines: list[str], until: float) -> tuple[Counter, list[str], list[float]]:
    answers, tasks, took = Counter(), [], []

    async def one(n: int):
        async with Asker(front, cookie) as asker:
            while time.monotonic() < until:
                n += CONNECTIONS
                began = time.monotonic()
                answers["asked"] += 1
                status, body = await asker.ask(requests(machines[n % len(machines)], n // len(machines)))
                took.append(time.monotonic() - began)
                answers["answered"] += 1
                task = re.search(rb'<returnval type="Task">([^<]+)<', body)
                if status == 200 and task:
                    tasks.append(task[1].decode())
                else:
                    fault = re.search(rb'xsi:type="(\w+)"', body.partition(b"<detail>")[2])
                    answers[fault[1].decode() if fault else f"status {status}"] += 1
    await asyncio.gather(*(one(n) for n in range(CONNECTIONS)))
    return answers, tasks, took


def rss(domain) -> dict[str, float]:
    return {"engine": domain.broker.rss_kib() / 1024, "agent": domain.agents["crowd"].rss_kib() / 1024}


def quantile(values: list[float], at: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * at))]


def ends(front: runner.Front, tasks: list[str]) -> Counter:
    """How the newest tasks ended, which are kept however many there are; each is asked for until it has."""
    with soap.Client(front) as client:
        assert client.login().status == 200
        return ends_of(client, tasks[-NEWEST:])


def ends_of(client: soap.Client, tasks: list[str]) -> Counter:
    counts, open_ = Counter(), list(tasks)
    deadline = time.monotonic() + 60
    while open_:
        assert time.monotonic() < deadline, f"{len(open_)} tasks never ended, for example {open_[:3]}"
        still = []
        for at in range(0, len(open_), 200):
            some = open_[at:at + 200]
            objects = "".join(f'<objectSet><obj type="Task">{task}</obj></objectSet>' for task in some)
            reply = client.call("RetrieveProperties", client.collector,
                                f"<specSet><propSet><type>Task</type><pathSet>info</pathSet></propSet>{objects}</specSet>")
            for item in reply.values("returnval"):
                state = item.findtext(f".//{soap.VIM}state")
                if state in ("queued", "running"):
                    still.append(item.findtext(f"{soap.VIM}obj"))
                    continue
                fault = item.find(f".//{soap.VIM}fault")
                counts[state if fault is None else (fault.get(soap.XSI_TYPE) or "").rpartition(":")[2]] += 1
        open_ = still
        time.sleep(0.2)
    return counts


@pytest.mark.timeout(280)
def test_a_flood_is_refused_in_good_order_and_leaves_nothing_behind(crowded):
    client = soap.Client(crowded.fleet)
    assert client.login().status == 200
    with clients.Session(crowded.fleet) as session:
        machines = sorted(vm._moId for vm in session.objects(vim.VirtualMachine) if vm.name.startswith("vm-"))[:TARGETED]

    async def both(seconds: float):
        until = time.monotonic() + seconds
        flooding = asyncio.create_task(flood(crowded.fleet, client.cookie, machines, until))
        storming = asyncio.create_task(storms.unsigned(storms.Storm(crowded.own_bus()), until))
        seen = []
        while not (flooding.done() and storming.done()):
            seen.append(rss(crowded))
            await asyncio.sleep(0.5)
        return await flooding, await storming, seen

    # What is built once (buffers, caches, connections) is built before memory is compared.
    first, _, _ = asyncio.run(both(max(3.0, SECONDS / 10)))
    ends(crowded.fleet, first[1])
    calm = rss(crowded)
    (answers, tasks, took), stormed, seen = asyncio.run(both(SECONDS))
    ended = ends(crowded.fleet, tasks)
    assert sum(ended.values()) == min(len(tasks), NEWEST)
    peak = {name: max(one[name] for one in seen) for name in calm}
    done = ended["success"]
    print(f"\nflood: {SECONDS:.0f} s, {CONNECTIONS} connections, {dict(answers)}; tasks {len(tasks)}: {dict(ended)}; done {done / SECONDS:.0f}/s, "
          f"offered {answers['asked'] / SECONDS:.0f}/s; answer p50 {quantile(took, 0.5) * 1000:.1f} ms, p99 {quantile(took, 0.99) * 1000:.1f} ms; "
          f"on the bus {dict(stormed)}; RSS MiB before {calm}, at most {peak}, "
          f"bars engine {ENGINE_MIB}, agent {AGENT_MIB}; binary {runner.BINARY}")
    # Nothing is silent: an answer for each request, an end for each task, in the protocol's words.
    assert answers["asked"] == answers["answered"] == len(tasks) + sum(n for what, n in answers.items() if what not in ("asked", "answered"))
    assert stormed["unsigned asked"] == stormed["unsigned answered"] == stormed["unsigned: Permission"] > 0
    native = {"success", "TaskInProgress", "InvalidPowerState", "RequestCanceled"}
    assert set(ended) <= native, ended
    assert {what for what in answers if what not in ("asked", "answered")} <= native, answers
    assert ended["TaskInProgress"] + answers["TaskInProgress"] > done
    # It is within its bounds.
    assert peak["engine"] <= ENGINE_MIB and peak["agent"] <= AGENT_MIB, peak
    # What was done is in the audit, whole.
    assert re.search(r"whole: (\d+) entries", crowded.ctl("audit", "verify"))
    # Then it is quiet: everything works at once, and memory returns.
    with clients.Session(crowded.fleet) as session:
        machine = session.vm("vm-00999")
        session.perform(machine.ReconfigVM_Task(vim.vm.ConfigSpec(annotation="afterwards")))
    clients.eventually(lambda: all(now <= calm[name] + STAYS_MIB for name, now in rss(crowded).items()),
                       f"memory is back at {calm} and at most {STAYS_MIB} MiB", 60)
    print(f"RSS MiB afterwards {rss(crowded)}")
    client.close()


PATHS = ["name", "config.uuid", "config.annotation", "runtime.powerState"]


def machines(session: clients.Session) -> dict[str, tuple[vim.VirtualMachine, tuple]]:
    """Each VM by its name, and what it looks like, in one read."""
    collector = vmodl.query.PropertyCollector
    view = session.content.viewManager.CreateContainerView(session.content.rootFolder, [vim.VirtualMachine], True)
    way = collector.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)
    wanted = collector.FilterSpec(objectSet=[collector.ObjectSpec(obj=view, skip=True, selectSet=[way])],
                                  propSet=[collector.PropertySpec(type=vim.VirtualMachine, pathSet=PATHS)])
    try:
        all_ = session.content.propertyCollector.RetrieveContents([wanted])
    finally:
        view.DestroyView()
    looks = [(vm.obj, {one.name: one.val for one in vm.propSet}) for vm in all_]
    return {look["name"]: (vm, tuple(look.get(path) for path in PATHS[1:])) for vm, look in looks}


def shown(front: runner.Front) -> dict[str, tuple]:
    with clients.Session(front) as session:
        return {name: look for name, (_, look) in machines(session).items()}


@pytest.mark.timeout(280)
@pytest.mark.parametrize("which", ["mad", "orders"])
def test_a_signed_storm_is_refused_in_good_order_and_others_work_on(crowded, which):
    """`mad`: an agent with its own key says all that it may. `orders`: somebody with the engine's key orders at an agent's door."""
    seconds = SECONDS / 3
    near, far = crowded.host("crowd"), crowded.fleet
    # These sessions go on: what comes in their names is refused for what it is.
    with clients.Session(near) as mine, clients.Session(far) as session:
        all_, (one, _) = machines(session), next(iter(machines(mine).values()))
        machine, still = all_["vm-00998"][0], all_["still0"][0]
        heard = overheard.during(crowded.own_bus(), lambda: mine.perform(one.ReconfigVM_Task(vim.vm.ConfigSpec(annotation="honest"))))
        submission = next(payload for subject, payload in heard if subject.startswith("cmd."))
        if machine.runtime.powerState == "poweredOn":
            session.perform(machine.PowerOffVM_Task())
        heard = overheard.during(crowded.own_bus(), lambda: [session.perform(power()) for power in (machine.PowerOnVM_Task, machine.PowerOffVM_Task)])
        orders = [payload for subject, payload in heard if subject == "agent.default.crowd.perform"]
        assert len(orders) == 2
        objects = [f"vm:{uuid}" for name, (_, (uuid, *_)) in all_.items() if "vm-" < name < "vm-00900"]
        name, keys = ("crowd", crowded.agents["crowd"]) if which == "mad" else ("engine", crowded.broker)
        seed = (keys.directory / "data" / f"{'agent' if which == 'mad' else 'engine'}.keys").read_text().split()[0]
        storm = storms.Storm(crowded.own_bus(), name, seed, submission, orders, objects)
        calm, peak, done = rss(crowded), Counter(), 0
        raging = storms.Raging(getattr(storms, which), storm, seconds)
        while not raging.is_over():
            # Another agent's commands: each is done, and shown.
            session.perform(still.ReconfigVM_Task(vim.vm.ConfigSpec(annotation=f"calm {done}")))
            assert still.config.annotation == f"calm {done}"
            done += 1
            for process, mib in rss(crowded).items():
                peak[process] = max(peak[process], mib)
        counts = raging.counts()
        print(f"\n{which}: {seconds:.0f} s, {dict(sorted(counts.items()))}; another agent's commands done {done}; "
              f"RSS MiB before {calm}, at most {dict(peak)}")
        # Whatever asked was answered, and by a word: done, or why not.
        for what in [key.removesuffix(" asked") for key in counts if key.endswith(" asked")]:
            assert counts[f"{what} asked"] == counts[f"{what} answered"] > 0, counts
            assert not counts[f"{what} lost"] and not counts[f"{what}: empty"], counts
        # What is beyond an agent's share at the engine is Busy; at an agent's door each machine takes one command and refuses the others.
        asked, refused = ("command", "Busy") if which == "mad" else ("order", "InProgress")
        assert counts[f"{asked}: done"] and counts[f"{asked}: {refused}"], counts
        assert done > 0 and peak["engine"] <= ENGINE_MIB and peak["agent"] <= AGENT_MIB, (done, peak)
        # Then it is quiet: everything works, everything is shown as it is, and memory returns.
        session.perform(machine.ReconfigVM_Task(vim.vm.ConfigSpec(annotation=f"after {which}")))
        assert machine.config.annotation == f"after {which}"
    crowded.whole()
    clients.eventually(lambda: len(shown(far)) == VMS + STILL, "all VMs are shown")
    clients.eventually(lambda: shown(near).items() <= shown(far).items(), "fleet and host show the same")
    assert re.search(r"whole: (\d+) entries", crowded.ctl("audit", "verify"))
    clients.eventually(lambda: all(now <= calm[name] + STAYS_MIB for name, now in rss(crowded).items()),
                       f"memory is back at {calm} and at most {STAYS_MIB} MiB", 60)
    print(f"RSS MiB afterwards {rss(crowded)}")

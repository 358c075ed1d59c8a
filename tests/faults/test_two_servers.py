"""Several management servers and the host's own administrator, at once, on the same few VMs: what all of them were told fits one order."""

import os
import random
import threading
import time
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree

import pytest

import clients
import lab
import linear
import runner
from linear import OFF, ON, NotLinear, Op, State
from servers import PATIENCE, Server, Virsh, morefs, quarrel

EACH = int(os.environ.get("HYPERGLOT_QUARREL", "500"))
SEED = int(os.environ.get("HYPERGLOT_QUARREL_SEED", "3"))


# --- the checker itself


def made_up(seed: int, operations: int = 120) -> list[Op]:
    """A history as a right system gives it: an order first, then calls and answers around it."""
    rng, state, history, free = random.Random(seed), State(OFF, "", 64, "vm"), [], {}
    for n in range(operations):
        at, client = float(n), f"c{rng.randrange(4)}"
        what = rng.choice(["on", "off", "suspend", "reset", "annotate", "memory", "read"])
        told = {"annotate": f"a{n}", "memory": 64 + 32 * rng.randrange(3)}.get(what)
        op = Op(client, "v", what, told, max(at - rng.uniform(0, 3), free.get(client, -9.0)), at + rng.uniform(0, 0.4))
        free[client] = op.returned
        if what == "read":
            op = replace(op, seen=state)
        elif (done := linear.effect(state, op)) is None:
            op = replace(op, fault="MemoryHotPlugNotSupported" if what == "memory" and state.power == ON else "InvalidPowerState")
        else:
            state = done
        history.append(op)
    return history


def test_the_checker_takes_what_can_be_and_refuses_what_cannot():
    initial = {"v": State(OFF, "", 64, "vm")}
    broken = 0
    for seed in range(40):
        history = made_up(seed)
        order = linear.judge(history, initial)["v"]
        assert len(order) == len(history)
        rng = random.Random(seed)
        # An answer that nobody can have been given: a read of what was never written.
        n = rng.choice([i for i, op in enumerate(history) if op.what == "read"])
        wrong = [*history[:n], replace(history[n], seen=replace(history[n].seen, annotation="never written")), *history[n + 1:]]
        with pytest.raises(NotLinear):
            linear.judge(wrong, initial)
        # A lost effect: an acknowledged change that no later read sees.
        n = rng.choice([i for i, op in enumerate(history) if op.what == "annotate"])
        late = max(op.returned for op in history) + 1
        stale = Op("c9", "v", "read", None, late, late + 1, seen=replace(order[-1][1], annotation=history[n].argument))
        if any(op.what == "annotate" and op.invoked > history[n].returned for op in history):
            broken += 1
            with pytest.raises(NotLinear):
                linear.judge([*history, stale], initial)
    assert broken > 10


def test_the_checker_knows_overlap_lag_and_losers():
    initial = {"v": State(OFF)}
    on, seen_off = Op("a", "v", "on", None, 0, 1), Op("b", "v", "read", None, 2, 3, seen=State(OFF))
    with pytest.raises(NotLinear):
        linear.judge([on, seen_off], initial)
    # A front that follows may be late for another session, but not for the one that acted.
    linear.judge([on, seen_off], initial, lagging=frozenset("b"))
    with pytest.raises(NotLinear):
        linear.judge([on, replace(seen_off, client="a")], initial, lagging=frozenset("a"))
    # What a fault told it of somebody else's doing, it may see a moment later.
    told_on = Op("b", "v", "on", None, 1.2, 1.8, fault="InvalidPowerState", existing=ON)
    linear.judge([on, told_on, seen_off], initial, lagging=frozenset("b"))
    with pytest.raises(NotLinear):
        linear.judge([on, told_on, seen_off], initial)
    # Nor may it go back.
    seen_on = Op("b", "v", "read", None, 1.2, 1.4, seen=State(ON))
    with pytest.raises(NotLinear):
        linear.judge([on, seen_on, seen_off], initial, lagging=frozenset("b"))
    # Both of two that started it: one of them was told wrong.
    with pytest.raises(NotLinear):
        linear.judge([on, replace(on, client="b")], initial)
    busy = Op("b", "v", "off", None, 0.5, 0.6, fault="TaskInProgress")
    linear.judge([on, busy], initial)
    # A reset by hand that a power-off of the lane cuts short; one that nobody met.
    power_off = Op("a", "v", "off", None, 0, 2)
    cut = Op("virsh", "v", "reset", None, 1, 3, fault="interrupted", direct=True)
    linear.judge([power_off, cut], {"v": State(ON)})
    with pytest.raises(NotLinear):
        linear.judge([power_off, replace(cut, invoked=2.5)], {"v": State(ON)})
    # What was overtaken may come to its effect until the one that overtook it ends, also after its own client was told and looked.
    overtaken = [Op("a", "v", "memory", 64, 0, 1, fault="RequestCanceled"), Op("b", "v", "off", None, 0.5, 4, fault="InvalidPowerState", existing=OFF)]
    looked = [Op("a", "v", "read", None, 2, 3, seen=State(OFF)), Op("a", "v", "read", None, 5, 6, seen=State(OFF, memory=64))]
    linear.judge([*overtaken, *looked], initial)
    with pytest.raises(NotLinear):
        linear.judge([*overtaken, *looked, Op("a", "v", "read", None, 7, 8, seen=State(OFF))], initial)
    with pytest.raises(NotLinear):
        linear.judge([on, replace(busy, invoked=1.5, returned=1.6)], initial)
    # Refused because of one that was then refused itself, because of one that held it.
    between = Op("c", "v", "suspend", None, 0.7, 1.6, fault="TaskInProgress")
    linear.judge([on, between, replace(busy, invoked=1.5, returned=1.6)], initial)
    with pytest.raises(NotLinear):
        linear.judge([on, replace(between, invoked=1.2), replace(busy, invoked=1.5, returned=1.6)], initial)
    with pytest.raises(NotLinear):
        linear.judge([replace(on, fault="InvalidPowerState")], initial)
    # A guest that ends by itself is off then, and only then; whoever started it may be told so.
    off, crash = Op("c", "v", "read", None, 2, 3, seen=State(OFF)), Op("libvirt", "v", "crash", None, 0.8, 1.5, direct=True)
    linear.judge([on, crash, off], initial)
    linear.judge([replace(on, fault="InvalidState"), crash, off], initial)
    for wrong in ([on, off], [on, replace(crash, invoked=3.5, returned=4), off], [crash, off], [replace(on, fault="InvalidState"), off]):
        with pytest.raises(NotLinear):
            linear.judge(wrong, initial)
    # Whether an overtaken one came to its effect is open until somebody looks; what was never asked for is no end.
    for memory, fits in ((0, True), (64, True), (96, False)):
        end = Op("witness", "v", "read", None, 9, 10, seen=State(OFF, memory=memory))
        if fits:
            linear.judge([*overtaken, end], initial)
        else:
            with pytest.raises(NotLinear):
                linear.judge([*overtaken, end], initial)


# --- a simulated host


@pytest.fixture(scope="module")
def simulated(work, installation):
    """A broker and an agent beside a simulated host on which everything takes a moment, and one on which Suspend never ends."""
    slow, hung = work / "slow.toml", work / "hung.toml"
    slow.write_text("[all]\nlatency_ms = [0, 4]\n")
    hung.write_text("[calls.Suspend]\nhang = 1.0\n")
    with runner.Sim(work / "quick", 4, 1, "--name", "quick", "--behaviour", str(slow)) as one, \
            runner.Sim(work / "stuck", 2, 1, "--name", "stuck", "--behaviour", str(hung)) as two:
        targets = {name: runner.sim_process_target(sim.uri, name) for name, sim in (("quick", one), ("stuck", two))}
        with installation(work / "two", targets, {name: "host-0000" for name in targets}) as running:
            yield running


def fronts(domain, agent: str, machines: list[str]) -> dict[str, dict[str, str]]:
    """For both fronts, the machines of an agent (by its uuids) and their references there."""
    host = {uuid: ref for uuid, ref in morefs(domain.host(agent)).items()}
    clients.eventually(lambda: set(host) <= set(morefs(domain.fleet)), "the fleet shows all machines of the host")
    fleet = morefs(domain.fleet)
    names = dict(zip(machines, sorted(host)))
    return {"host": {n: host[u] for n, u in names.items()}, "fleet": {n: fleet[u] for n, u in names.items()}}


def told(history: list[Op], what: str) -> str:
    counts = Counter(op.fault or "done" for op in history if not op.reads)
    return f"{what}: {len(history)} operations, {sum(op.reads for op in history)} of them reads; {dict(counts.most_common())}"


def out_of_touch(domain) -> bool:
    """Whether a process missed a beat of another, as on a machine that has far more to do than this: what needs both is refused then."""
    logs = [process.log.read_text(errors="replace") for process in (domain.broker, *domain.agents.values())]
    return any(said in log for log in logs for said in ("the engine is away", "a replica is stale"))


def settled(history: list[Op], servers: list[Server], witness) -> list[Op]:
    """The history with what the witness sees at the end, once every server shows the same. A history may fit several orders with several
    ends (what a command did that was overtaken is open), so the end is one more answer to be judged."""
    looked = []
    for vm in sorted({op.vm for op in history}):
        def agreed(vm=vm):
            seen = witness(vm)
            return seen if all(server.read(vm) == seen for server in servers) else None
        began = time.monotonic()
        try:
            seen = clients.eventually(agreed, f"all agree on {vm}")
        except lab.LabError as error:
            raise lab.LabError(f"{error}: {witness(vm)}, but {[(server.name, server.read(vm)) for server in servers]}") from None
        looked.append(Op("witness", vm, "read", None, began, time.monotonic(), seen=seen))
    return [*history, *looked]


@pytest.mark.timeout(PATIENCE + 100)
def test_two_servers_and_two_fronts_agree_on_one_order(simulated):
    refs = fronts(simulated, "quick", ["one", "two", "three"])
    servers = [Server(f"{view}-{n}", simulated.fleet if view == "fleet" else simulated.host("quick"), refs[view])
               for view in ("fleet", "host") for n in (1, 2)]
    initial = {vm: servers[2].read(vm) for vm in refs["host"]}
    power = ["on", "off", "suspend", "reset", "read", "read"]
    menu = {"one": power, "two": [*power, "annotate", "memory"], "three": [*power, "annotate", "memory", "rename"]}
    history = quarrel(servers, menu, EACH, seed=SEED)
    print(told(history, "simulated"))

    # In the end everybody sees the same, and it is what an order of all that was told leaves.
    linear.judge(settled(history, servers, servers[2].read), initial, lagging=frozenset({"fleet-1", "fleet-2"}))
    faults = {op.fault for op in history}
    allowed = {None, "TaskInProgress", "InvalidPowerState", "MemoryHotPlugNotSupported", "RequestCanceled"}
    assert faults <= allowed | ({"HostNotConnected"} if out_of_touch(simulated) else set())
    # They did meet, and they did get something done.
    assert {None, "TaskInProgress", "InvalidPowerState"} <= faults


@pytest.mark.parametrize("view", ["fleet", "host"])
def test_a_hard_power_off_overtakes_a_hung_suspend(simulated, view):
    refs = fronts(simulated, "stuck", ["one", "two"])
    front = simulated.fleet if view == "fleet" else simulated.host("stuck")
    one, other = (Server(name, front, refs[view]) for name in ("one", "other"))
    vm = "one" if view == "fleet" else "two"
    if one.read(vm).power != ON:
        assert one.perform(vm, "on").fault is None
    hung = one.begin(vm, "suspend").value()
    clients.eventually(lambda: one.properties("Task", hung, ("info",)).value("state") == "running", "the suspend runs")
    # Anything else has to wait its turn.
    assert other.perform(vm, "reset").fault == "TaskInProgress"
    assert other.perform(vm, "off").fault is None
    assert other.read(vm).power == OFF
    fault, _ = one.end(hung)
    assert fault == "RequestCanceled"
    assert one.read(vm).power == OFF
    # And the lane is free again.
    assert one.perform(vm, "on").fault is None


# --- a real one, with its administrator at work


GUESTS = [lab.Guest("ann", memory_mib=64, vcpus=1, boots=False), lab.Guest("bob", memory_mib=64, vcpus=1, boots=False)]


@pytest.fixture(scope="module")
def real(work, installation):
    with lab.LibvirtHost(work / "lab03", "lab03") as host:
        host.provision(GUESTS)
        target = {"lab03": runner.libvirt_target(host.uri, "lab03")}
        with installation(work / "real", target, {"lab03": "lab03"}) as running:
            yield running, host


@pytest.mark.timeout(PATIENCE + 100)
def test_two_servers_and_virsh_agree_on_one_order(real):
    domain, host = real
    uuids = {guest.name: lab.guest_uuid("lab03", guest.name) for guest in GUESTS}
    refs = {}
    for view, front in (("fleet", domain.fleet), ("host", domain.host("lab03"))):
        clients.eventually(lambda: set(uuids.values()) <= set(morefs(front)), f"the {view} front shows both guests")
        known = morefs(front)
        refs[view] = {name: known[uuid] for name, uuid in uuids.items()}
    servers = [Server(name, domain.fleet if name.startswith("fleet") else domain.host("lab03"), refs[name.split("-")[0]])
               for name in ("fleet-1", "fleet-2", "host-1")]
    by_hand = Virsh("virsh", host, {guest.name: guest.name for guest in GUESTS})
    initial = {vm: servers[2].read(vm) for vm in uuids}
    menu = {"ann": ["on", "off", "reset", "read"], "bob": ["on", "off", "reset", "annotate", "memory", "read"]}
    direct = dict.fromkeys(menu, ["start", "destroy", "reset", "domstate"])
    history = quarrel([*servers, by_hand], menu, 60, seed=SEED, direct=direct)
    print(told(history, "libvirt"))
    # A guest that ended by itself is one more that changed it: the host says when.
    later = time.monotonic() - time.time()
    crashes = [Op("libvirt", vm, "crash", None, at + later - 0.1, at + later + 1, direct=True) for vm in uuids for at in host.crashes(vm)]
    print(f"{len(crashes)} guests ended by themselves")
    history += crashes
    # What virsh did reaches the fronts with libvirt's events.
    linear.judge(settled(history, servers, lambda vm: shown_by_virsh(host, vm)), initial, lagging=frozenset(server.name for server in servers))


def test_a_change_that_a_start_by_hand_crosses_is_done_or_taken_back(real):
    domain, host = real
    uuid = lab.guest_uuid("lab03", "bob")
    clients.eventually(lambda: uuid in morefs(domain.fleet), "the fleet shows the guest")
    server, dice = Server("fleet", domain.fleet, {"bob": morefs(domain.fleet)[uuid]}), random.Random(SEED)

    def off():
        # A guest may have ended by itself (`lab.LibvirtHost.crashes`).
        clients.eventually(lambda: host.state("bob") == "shut off" or not host.virsh("destroy", "bob"), "virsh stops it")
        clients.eventually(lambda: server.read("bob").power == OFF, "the fleet shows it off")
    for n in range(12):
        off()
        before, by_hand = server.read("bob").annotation, Virsh("virsh", host, {"bob": "bob"})
        start = threading.Thread(target=by_hand.perform, args=("bob", "start"))
        start.start()
        time.sleep(dice.uniform(0, 0.12))
        done = server.perform("bob", "annotate", f"change {n}")
        start.join()
        assert done.fault in (None, "InvalidState"), done
        # As it runs and as it is defined: both, or none.
        running = shown_by_virsh(host, "bob").annotation
        off()
        assert [running, shown_by_virsh(host, "bob").annotation] == [f"change {n}" if done.fault is None else before] * 2, done


def shown_by_virsh(host: lab.LibvirtHost, vm: str) -> State:
    document = ElementTree.fromstring(host.virsh("dumpxml", vm))
    memory, running = document.find("memory"), host.state(vm) == "running"
    assert memory.get("unit") == "KiB"
    return State(ON if running else OFF, document.findtext("description") or "", int(memory.text) // 1024, vm)

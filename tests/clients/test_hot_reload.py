"""Other mappings while everything runs: one row more, pushed, shown to those who log in from then on."""

import json
import re
import shutil

import pytest
from pyVmomi import vim

import clients
import lab
import runner
from clients import Session, eventually

ROW = '"config.locationId" = { to = "uuid", dup = "view" }\n'
TABLE = "[object.VirtualMachine.rows]\n"
HASH = re.compile(r"^in force(?: as before)?  ([0-9a-f]{64})", re.MULTILINE)


def copied(directory):
    """The mapping files, to be changed."""
    to = directory / "mappings"
    to.mkdir(parents=True)
    for protocol in ("vsphere", "libvirt", "sim"):
        shutil.copytree(lab.REPO / "mappings" / protocol, to / protocol)
    return to


def edited(mappings, row=ROW, table="vsphere/VirtualMachine.toml"):
    file = mappings / table
    text = file.read_text()
    assert TABLE in text
    file.write_text(text.replace(TABLE, TABLE + row, 1))
    return file


def ctl(instance, *arguments):
    return instance.command("ctl", "--config", str(instance.config), *arguments, timeout=120)


def pushed(instance, mappings):
    done = ctl(instance, "mapping", "push", str(mappings))
    assert done.returncode == 0, done.stderr + done.stdout
    return HASH.search(done.stdout).group(1), done.stdout


def in_force(instance):
    return HASH.search(ctl(instance, "mapping", "list").stdout).group(1)


def new_login(front, name):
    """What govc shows of the new property, with a session of its own."""
    return clients.Govc(front)("object.collect", "-s", name, "config.locationId")


def any_vm(front):
    return sorted(clients.Govc(front)("find", "/", "-type", "m").splitlines())[0]


class Old:
    """govc with a session that outlives each run of it, as `GOVC_PERSIST_SESSION` keeps it: a cookie in a file."""

    def __init__(self, front, home):
        self.govc = clients.Govc(front)
        self.govc.environment.update(GOVC_PERSIST_SESSION="true", HOME=str(home), GOVMOMI_HOME=str(home))

    def key(self):
        return json.loads(self.govc("session.ls", "-json"))["currentSession"]["key"]

    def location(self, vm):
        return self.govc("object.collect", "-s", vm, "config.locationId")


@pytest.fixture(scope="module")
def own(work):
    """`hyperglot up` over a simulated fleet, with mappings of its own."""
    directory = work / "reload"
    fronts = [runner.Front("fleet", runner.free_port())]
    with runner.Hyperglot(directory, [runner.sim_target(vms=4, hosts=1)], fronts, copied(directory)) as instance:
        yield instance


def test_a_row_that_is_pushed_is_shown_to_who_logs_in_then(own, work):
    front = own.front("fleet")
    vm = any_vm(front)
    first = own.status()["bundle"]
    old = Old(front, work / "reload-home")
    key = old.key()
    assert old.location(vm) == "" and new_login(front, vm) == ""

    # The configured files stay as they are: what is pushed lies elsewhere.
    other = copied(work / "reload-other")
    edited(other)
    hash_, said = pushed(own, other)
    assert hash_ != first and first[:12] in said and "1 sessions of the broker's fronts keep" in said
    assert own.status()["bundle"] == hash_ == in_force(own)

    uuid = clients.Govc(front)("object.collect", "-s", vm, "config.uuid")
    assert new_login(front, vm) == uuid
    assert old.key() == key, "the old session is still there"
    assert old.location(vm) == "", "a session keeps its mappings"
    old.govc("session.logout")
    assert old.location(vm) == uuid, "until it logs in again"

    # The same again changes nothing.
    assert "in force as before" in pushed(own, other)[1]
    audit = ctl(own, "audit", "search", "--limit", "20").stdout
    assert f"bundle {hash_}" in audit and "PushMappings" in audit


def test_a_broken_file_changes_nothing(own, work):
    front = own.front("fleet")
    before = in_force(own)
    broken = copied(work / "reload-broken")
    file = edited(broken, '"config.locationId" = "uuuid"\n"config.nonsense" = "name"\n')
    done = ctl(own, "mapping", "push", str(broken))
    assert done.returncode == 65, done
    lines = file.read_text().splitlines()
    for text in ("uuuid", "config.nonsense"):
        line = next(n for n, l in enumerate(lines, 1) if text in l)
        assert re.search(rf"{re.escape(str(file))}:{line}:\d+", done.stderr), done.stderr
    assert "nothing was sent" in done.stderr
    assert in_force(own) == before

    # Files that are good by themselves, and cannot be used by what runs.
    shutil.rmtree(broken / "sim")
    file.write_text((lab.REPO / "mappings" / "vsphere" / "VirtualMachine.toml").read_text())
    done = ctl(own, "mapping", "push", str(broken))
    assert done.returncode == 65 and "sim" in done.stderr and "nothing was changed" in done.stderr, done
    assert in_force(own) == before
    assert new_login(front, any_vm(front)) != ""


def test_a_restart_begins_with_what_was_pushed(own, work):
    front = own.front("fleet")
    before = in_force(own)
    assert own.stop() == 0
    own.start()
    assert own.status()["bundle"] == before
    vm = any_vm(front)
    assert new_login(front, vm) != ""

    # Until the configured files change.
    assert own.stop() == 0
    edited(own.mappings, '"config.locationId" = { to = "name", dup = "view" }\n')
    own.start()
    assert own.status()["bundle"] != before
    assert new_login(front, vm) == clients.Govc(front)("object.collect", "-s", vm, "name")


def test_new_extension_fields_wait_for_a_restart_and_say_so(own, work):
    other = copied(work / "reload-ext")
    with open(other / "vsphere" / "protocol.toml", "a") as table:
        table.write('\n[ext.Vm]\n"zz.rack" = "string"\n')
    edited(other, '"config.locationId" = "ext.zz.rack"\n')
    _, said = pushed(own, other)
    assert "Vm.ext.zz.rack" in said and "until it is started anew" in said
    front = own.front("fleet")
    assert new_login(front, any_vm(front)) == ""
    assert own.stop() == 0
    own.start()
    # One that is in use cannot go while this runs.
    before = in_force(own)
    done = ctl(own, "mapping", "push", str(lab.REPO / "mappings"))
    assert done.returncode == 65 and "ext.zz.rack" in done.stderr and "nothing was changed" in done.stderr, done
    assert in_force(own) == before


@pytest.fixture(scope="module")
def domain(work):
    """A broker with a fleet front, and an agent with a host front over a simulated hypervisor; each with files of its own."""
    directory = work / "reload3"
    broker = runner.Broker(directory / "broker", [runner.Front("fleet", runner.free_port())], copied(directory / "b"))
    with runner.Sim(directory / "sim", 4, 1) as sim, broker:
        host = runner.Front("host", runner.free_port())
        targets = [runner.sim_process_target(sim.uri, "sim01")]
        agent = runner.Agent(directory / "agent", targets, [host], copied(directory / "a"))
        agent.start(token=broker.token("east"))
        broker.wait_fronts()
        try:
            yield broker, agent
        finally:
            agent.stop()


def test_agents_take_what_is_pushed(domain, work):
    broker, agent = domain
    fleet, host = broker.front("fleet"), agent.front("host")
    vm, at_host = any_vm(fleet), any_vm(host)
    assert new_login(fleet, vm) == "" and new_login(host, at_host) == ""
    old = Old(host, work / "reload3-home")
    key = old.key()
    other = copied(work / "reload3-other")
    edited(other)
    hash_, said = pushed(broker, other)
    assert f"agent east  goes by {hash_[:12]}" in said
    assert new_login(fleet, vm) != "" and new_login(host, at_host) != ""
    assert old.key() == key and old.location(at_host) == ""
    with Session(host) as session:
        # A command of a session with the new mappings, by way of the engine.
        machine = session.objects(vim.VirtualMachine)[0]
        session.perform(machine.ReconfigVM_Task(vim.vm.ConfigSpec(annotation="by new mappings")))
        assert machine.config.annotation == "by new mappings"
    assert old.govc("vm.info", at_host) != ""


def test_an_agent_that_cannot_use_them_keeps_everybody_from_it(domain, work):
    broker, agent = domain
    before = in_force(broker)
    # The broker has no targets: to it these files are good.
    other = copied(work / "reload3-bad")
    shutil.rmtree(other / "sim")
    done = ctl(broker, "mapping", "push", str(other))
    assert done.returncode == 65, done
    assert "the agent east refuses it" in done.stderr and "sim01" in done.stderr, done.stderr
    listed = ctl(broker, "mapping", "list").stdout
    assert in_force(broker) == before and f"agent east  goes by {before[:12]}" in listed, listed


def test_what_an_agent_cannot_use_at_once_waits_for_its_next_start(domain, work):
    broker, agent = domain
    before = in_force(broker)
    other = copied(work / "reload3-ext")
    with open(other / "vsphere" / "protocol.toml", "a") as table:
        table.write('\n[ext.Vm]\n"zz.rack" = "string"\n')
    with_field, said = pushed(broker, other)
    assert "agent east: Vm.ext.zz.rack show nothing until it is started anew" in said
    # From now on the field is in use at the agent, and not at the broker.
    agent.stop()
    agent.start()
    heard = lambda: f"agent east  goes by {with_field[:12]}" in ctl(broker, "mapping", "list").stdout
    eventually(heard, "the agent is heard")
    without = copied(work / "reload3-without")
    done = ctl(broker, "mapping", "push", str(without))
    assert done.returncode == 65 and "the agent east refuses it: Vm.ext.zz.rack is in use" in done.stderr, done
    assert in_force(broker) == with_field != before

    agent.stop()
    hash_, _ = pushed(broker, without)
    agent.start()
    kept = "they are kept here for the next start"
    eventually(lambda: kept in ctl(broker, "mapping", "list").stdout, "the agent says why it goes by others")
    agent.stop()
    agent.start()
    eventually(lambda: f"agent east  goes by {hash_[:12]}" in ctl(broker, "mapping", "list").stdout, "the agent goes by them")


def test_an_agent_that_was_away_takes_them_when_it_is_back(domain, work):
    broker, agent = domain
    agent.stop()
    other = copied(work / "reload3-away")
    edited(other, '"config.locationId" = { to = "name", dup = "view" }\n')
    hash_, said = pushed(broker, other)
    assert "agent east  does not answer" in said
    agent.start()
    eventually(lambda: f"agent east  goes by {hash_[:12]}" in ctl(broker, "mapping", "list").stdout, "the agent has fetched them")
    host = agent.front("host")
    vm = any_vm(host)
    assert new_login(host, vm) == clients.Govc(host)("object.collect", "-s", vm, "name")
    # And it begins with them, without the broker.
    agent.stop()
    broker.stop()
    said = agent.log.stat().st_size
    agent.launch()
    begun = f"the mappings are those pushed last, {hash_[:12]}"
    eventually(lambda: begun in agent.log.read_text(errors="replace")[said:], "it begins with what it fetched")


def test_real_guests_are_shown_by_what_is_pushed(host, work):
    """A libvirt target reads by the files it started with, and says so; what is shown is new at once."""
    directory = work / "reload-real"
    front = runner.Front("host", runner.free_port(), host="lab01")
    with runner.Hyperglot(directory, [runner.libvirt_target(host.uri, "lab01")], [front], copied(directory)) as instance:
        vm = clients.Govc(front)("find", "/", "-type", "m", "-name", "db01")
        assert new_login(front, vm) == ""
        # The configured directory itself, edited: one file of the front, one of the target.
        edited(instance.mappings)
        with open(instance.mappings / "libvirt" / "domain.toml", "a") as table:
            table.write("\n# a remark\n")
        _, said = pushed(instance, instance.mappings)
        assert "its libvirt targets read documents and events by the mappings they started with" in said
        assert new_login(front, vm) == host.virsh("domuuid", "db01").strip()
        assert instance.stop() == 0
        instance.start()
        assert new_login(front, vm) == host.virsh("domuuid", "db01").strip()

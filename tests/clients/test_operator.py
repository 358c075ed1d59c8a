"""What an operator does wrong before anything runs: no configuration, wrong ones, what is taken already, the first login.

Simulated fleets where a hypervisor is not the point. Every instance is the test's own, so that it can be broken.
"""

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from pyVmomi import vim

import lab
import runner
from clients import eventually
from lab import REPO
from operating import CONFIG_REFUSED, FAILED, MAPPING_REFUSED, SIM, Own, directory, own  # noqa: F401 (fixtures)
from runner import BINARY, NATS_SERVER


# -- without a configuration ---------------------------------------------------------------

def without_config(directory, xdg):
    """`hyperglot up` alone, where no system libvirt can be seen and the usual ports are free."""
    hide = 'ip link set lo up; test ! -d /run/libvirt || mount -t tmpfs none /run/libvirt; exec "$@"'
    apart = ["unshare", "--mount", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount", "--net"]
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


@pytest.mark.parametrize("variable, value", [("PASSWORD", ""), ("USER", ""), ("USER", "a\nb"), ("PASSWORD", "x" * 2_000)])
def test_an_administrator_that_cannot_be(directory, variable, value):
    code, said = Own(directory, environment={f"HYPERGLOT_ADMIN_{variable}": value}).refused()
    assert code == FAILED and f"HYPERGLOT_ADMIN_{variable}" in said and "bytes" in said


@pytest.mark.parametrize("file", ["users.toml", "ca.pem", "ca.key", "bus/credentials.json"])
def test_a_file_of_data_dir_that_was_damaged(directory, file):
    """Said with its name, never overwritten."""
    own = Own(directory).start()
    assert own.stop() == 0
    (own.data / file).write_text("garbage {{")
    code, said = own.refused()
    assert code == FAILED and str(own.data / file) in said
    assert (own.data / file).read_text() == "garbage {{"


def test_users_that_others_can_read(directory):
    own = Own(directory).start()
    assert own.stop() == 0
    # As an earlier version left it.
    (own.data / "users.toml").write_text("")
    (own.data / "users.toml").chmod(0o644)
    code, said = own.refused()
    assert code == FAILED and str(own.data / "users.toml") in said and "chmod 600" in said


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
    "no time at all": ('[[target]]\nprotocol = "libvirt"\nuri = "x"\nstats_s = 0\n', ["stats_s", "1 to"]),
    "more machines than can be": ('[[target]]\nprotocol = "sim"\ngenerate = { vms = 4000000000, hosts = 1 }\n', ["1000000 vms"]),
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

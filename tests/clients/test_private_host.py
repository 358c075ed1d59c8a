"""The ground under the other tests: private libvirt hosts are apart from each other and leave nothing behind."""

import subprocess
import sys
import time
from pathlib import Path

import lab


def processes_of(directory: Path) -> list[str]:
    """Processes whose root or arguments point into a private host's directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(directory) in arguments:
                found.append(arguments)
    return found


def test_two_hosts_side_by_side(work):
    with lab.LibvirtHost(work / "apart1", "apart1") as first, lab.LibvirtHost(work / "apart2", "apart2") as second:
        first.provision([lab.Guest("same-name", memory_mib=64, vcpus=1, boots=False)])
        second.provision([lab.Guest("same-name", memory_mib=64, vcpus=1, boots=False)])
        first.virsh("start", "same-name")
        assert (first.state("same-name"), second.state("same-name")) == ("running", "shut off")
        assert first.virsh("domuuid", "same-name") != second.virsh("domuuid", "same-name")
        assert "kvm" not in first.virsh("capabilities").partition("<guest>")[2], "guests are emulated, whatever the machine could"
    assert processes_of(work / "apart1") == [] and processes_of(work / "apart2") == []


def test_nothing_outlives_an_owner_that_is_killed(work):
    """kill -9 of the process that runs the host ends libvirtd and its guests too."""
    directory = work / "orphan"
    owner = subprocess.Popen([
        sys.executable, "-c",
        "import sys, time; sys.path.insert(0, sys.argv[1]); import lab\n"
        "host = lab.LibvirtHost(sys.argv[2], 'orphan').start()\n"
        "host.provision([lab.Guest('g', 64, 1, boots=False)]); host.virsh('start', 'g')\n"
        "print('up', flush=True); time.sleep(600)",
        str(lab.HERE), str(directory),
    ], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline().strip() == "up"
    assert processes_of(directory)
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 10
    while processes_of(directory) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(directory) == []


def test_libvirtd_over_tcp(host):
    uri = host.serve_tcp(0)
    listed = subprocess.run(["virsh", "-q", "-c", uri, "list", "--all", "--name"], capture_output=True, text=True, timeout=30)
    assert set(listed.stdout.split()) == {"web01", "db01"}, listed.stderr

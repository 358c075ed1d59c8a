"""What every client test stands on: a private libvirt with real guests, `hyperglot up`, the clients.

A missing client or package is a failure with a message, never a skip. Guests are put into
the state a test needs by virsh directly on libvirt, behind hyperglot's back, and the test
starts when hyperglot has seen it.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tools" / "demo"), str(Path(__file__).resolve().parent)]

import clients  # noqa: E402
import lab  # noqa: E402
import runner  # noqa: E402

GUESTS = [
    lab.Guest("web01", memory_mib=128, vcpus=1, description="The web server"),
    lab.Guest("db01", memory_mib=256, vcpus=2, description="The database"),
]


def pytest_configure(config):
    """Everything the tests need, checked once, before the first one."""
    if not lab.GUEST.joinpath("stamp").exists():
        subprocess.run([str(REPO / "tools" / "guest" / "build.sh")], check=True)


@pytest.fixture(scope="session")
def work():
    """A short directory of this run (socket paths are limited to 107 bytes)."""
    directory = Path(tempfile.mkdtemp(prefix="hyperglot-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def host(work):
    """The private libvirt host `lab01` with web01 booted and db01 off."""
    with lab.LibvirtHost(work / "lab01", "lab01") as host:
        host.provision(GUESTS)
        host.virsh("start", "web01")
        host.wait_booted("web01")
        yield host


@pytest.fixture(scope="session")
def hyperglot(work, host):
    """`hyperglot up` over lab01, with a fleet front and a host front."""
    fronts = [runner.Front("fleet", runner.free_port()), runner.Front("host", runner.free_port(), host="lab01")]
    with runner.Hyperglot(work / "hyperglot", [runner.libvirt_target(host.uri, "lab01")], fronts) as instance:
        yield instance


@pytest.fixture(scope="session")
def sim(work):
    """`hyperglot up` over a small simulated fleet, for what would spoil the real one."""
    fronts = [runner.Front("fleet", runner.free_port())]
    with runner.Hyperglot(work / "sim", [runner.sim_target(vms=8, hosts=2)], fronts) as instance:
        yield instance


@pytest.fixture
def fleet(hyperglot):
    """A pyVmomi session on the fleet front."""
    with clients.Session(hyperglot.front("fleet")) as session:
        yield session


@pytest.fixture
def esxi(hyperglot):
    """A pyVmomi session on the host front."""
    with clients.Session(hyperglot.front("host")) as session:
        yield session


@pytest.fixture
def govc(hyperglot):
    """govc on the fleet front."""
    return clients.Govc(hyperglot.front("fleet"))


@pytest.fixture
def virsh_esx(hyperglot, work):
    """virsh -c esx:// on the host front."""
    return clients.VirshEsx(hyperglot.front("host"), work)


@pytest.fixture
def web01(host, hyperglot):
    """web01 runs and is booted, and hyperglot knows."""
    return clients.settle(host, hyperglot, "web01", "running", booted=True)


@pytest.fixture
def db01(host, hyperglot):
    """db01 is off, and hyperglot knows."""
    return clients.settle(host, hyperglot, "db01", "shut off")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test shows the end of hyperglot's log."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for name in ("hyperglot", "sim", "own", "bench"):
            instance = item.funcargs.get(name)
            instance = getattr(instance, "instance", instance)
            if isinstance(instance, runner.Hyperglot):
                report.sections.append((f"the end of {name}'s log", instance.tail()))

"""What the fault tests stand on: a broker and two agents as processes of their own, each agent beside a real libvirt.

`domain` is one installation for the whole run; a test that breaks it puts it together again. Guests are put into the state a
test needs by virsh directly on libvirt, and libvirt is asked directly for what became of them.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tools" / "demo"), str(REPO / "tests" / "clients"), str(Path(__file__).resolve().parent)]

import clients  # noqa: E402
import lab  # noqa: E402
import runner  # noqa: E402

GUESTS = {
    "lab01": [lab.Guest("web01", memory_mib=128, vcpus=1), lab.Guest("db01", memory_mib=96, vcpus=1)],
    "lab02": [lab.Guest("app02", memory_mib=128, vcpus=1), lab.Guest("db02", memory_mib=96, vcpus=1)],
}


def pytest_configure(config):
    """Everything the tests need, checked once, before the first one."""
    if not lab.GUEST.joinpath("stamp").exists():
        subprocess.run([str(REPO / "tools" / "guest" / "build.sh")], check=True)


class Domain:
    """A broker with a fleet front, and an agent with a host front beside each host."""

    def __init__(self, directory: Path, targets: dict[str, str], hosts: dict[str, str | None]):
        self.fleet = runner.Front("fleet", runner.free_port())
        self.broker = runner.Broker(directory / "broker", [self.fleet])
        self.agents = {
            name: runner.Agent(directory / name, [target], [runner.Front("host", runner.free_port(), host=hosts[name])])
            for name, target in targets.items()
        }

    def __enter__(self) -> "Domain":
        self.broker.start()
        for name, agent in self.agents.items():
            agent.start(token=self.broker.token(name))
        self.broker.wait_fronts()
        self.whole()
        return self

    def __exit__(self, *_) -> None:
        for agent in self.agents.values():
            agent.stop()
        self.broker.stop()

    def host(self, name: str) -> runner.Front:
        return self.agents[name].fronts[0]

    def govc(self, front: runner.Front | None = None) -> clients.Govc:
        return clients.Govc(front or self.fleet)

    def ctl(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.broker.ctl(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def audit(self, *arguments: str) -> list[str]:
        return self.ctl("audit", "search", *arguments).splitlines()

    def whole(self, timeout: float = 60.0) -> None:
        """Everything runs and the broker hears every agent."""
        def heard():
            lines = self.ctl("agent", "list").splitlines()
            return all(any(line.startswith(f"{name} ") and " heard 2" in line and "LOST" not in line for line in lines) for name in self.agents)
        clients.eventually(heard, "every agent is heard", timeout)

    def own_bus(self) -> dict[str, str]:
        """What the installation itself connects to its bus with: everything may be heard with it."""
        directory = self.broker.directory / "data" / "bus"
        secrets = json.loads(directory.joinpath("credentials.json").read_text())
        port = directory.joinpath("port").read_text().strip()
        return {"url": f"nats://127.0.0.1:{port}", "user": "hyperglot", "password": secrets["hyperglot"]}

    def nats_pid(self) -> int:
        """The pid of the broker's nats-server."""
        wanted = str(self.broker.directory / "data" / "bus" / "nats.conf")
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                words = process.joinpath("cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if wanted in words and words[0].endswith("nats-server"):
                return int(process.name)
        raise lab.LabError("no nats-server of this broker runs")


@pytest.fixture(scope="session")
def work():
    """A short directory of this run (socket paths are limited to 107 bytes)."""
    directory = Path(tempfile.mkdtemp(prefix="hg-faults-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def hosts(work):
    """Two private libvirt hosts, the first guest of each booted."""
    with lab.LibvirtHost(work / "lab01", "lab01") as one, lab.LibvirtHost(work / "lab02", "lab02") as two:
        both = {"lab01": one, "lab02": two}
        for name, host in both.items():
            host.provision(GUESTS[name])
            host.virsh("start", GUESTS[name][0].name)
        for name, host in both.items():
            host.wait_booted(GUESTS[name][0].name)
        yield both


@pytest.fixture(scope="session")
def installation():
    """For a test that needs one of its own: `installation(directory, targets, hosts)`."""
    return Domain


@pytest.fixture(scope="session")
def domain(work, hosts):
    """A broker and two agents over the two hosts."""
    targets = {name: runner.libvirt_target(host.uri, name) for name, host in hosts.items()}
    with Domain(work, targets, {name: name for name in hosts}) as running:
        yield running


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test shows the ends of the logs."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    # A fixture may be an installation, or have one among others.
    values = [value for found in item.funcargs.values() for value in (found if isinstance(found, tuple) else [found])]
    for running in (value for value in values if isinstance(value, Domain)):
        report.sections.append(("the end of the broker's log", running.broker.tail(5_000)))
        for name, agent in running.agents.items():
            report.sections.append((f"the end of {name}'s log", agent.tail(5_000)))

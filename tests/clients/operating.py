"""An instance that may be broken: what the tests of the careless operator share."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import clients
import runner
from clients import eventually
from runner import BINARY

SIM = runner.sim_target(vms=4, hosts=2)
CONFIG_REFUSED, MAPPING_REFUSED, FAILED = 78, 65, 1


class Own(runner.Hyperglot):
    """A `hyperglot up` with what these tests vary: more configuration, an environment of its own, output apart from the log."""

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


def watch(own, *arguments):
    """`hyperglot watch` for one power event, subscribed already."""
    watcher = subprocess.Popen(
        [str(BINARY), "watch", "--config", str(own.config), "--count", "1", *(arguments or ["event.*.vm.*.powered_off"])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own.environment())
    assert watcher.stderr.readline().startswith("watching")
    return watcher

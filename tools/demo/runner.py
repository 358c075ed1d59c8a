"""hyperglot's roles as child processes, for the demo and the client tests.

`Hyperglot(directory, targets, fronts)`: `hyperglot up`; writes the configuration, starts the
program and waits until every front answers. `Broker` and `Agent`: the separate processes.
`Sim`: a simulated hypervisor as a process. Each ends with this process, whatever happens to it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from lab import REPO, LabError

BINARY = Path(os.environ.get("HYPERGLOT_BIN", REPO / "target" / "debug" / "hyperglot"))
NATS_SERVER = Path(os.environ.get("HYPERGLOT_NATS_SERVER", REPO / ".venv" / "bin" / "nats-server"))
USER, PASSWORD = "admin", "First-light-1"
VERSIONS_PATH = "/sdk/vimServiceVersions.xml"


@dataclass
class Front:
    """A listener of the configuration. `host` names the host that a host view shows."""

    view: str
    port: int
    host: str | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def toml(self) -> str:
        host = f"host = {json.dumps(self.host)}\n" if self.host else ""
        return f'[[front]]\nprotocol = "vsphere"\nview = "{self.view}"\n{host}listen = "{self.address}"\ntls = true\n'


def libvirt_target(uri: str, name: str, timeout_s: int = 10) -> str:
    return (
        f'[[target]]\nprotocol = "libvirt"\nname = {json.dumps(name)}\nuri = {json.dumps(uri)}\n'
        f"timeout_s = {timeout_s}\nstats_s = 2\n"
    )


def sim_target(vms: int, hosts: int) -> str:
    return f'[[target]]\nprotocol = "sim"\ngenerate = {{ vms = {vms}, hosts = {hosts} }}\n'


def sim_process_target(uri: str, name: str) -> str:
    return f'[[target]]\nprotocol = "sim"\nname = {json.dumps(name)}\nuri = {json.dumps(uri)}\n'


def free_port() -> int:
    """A port that nobody has, of those below what the system gives to connections: it is still free when its server starts, and when that
    starts again. Given once in a process."""
    while True:
        port = _PORTS.pop()
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


_PORTS = random.sample(range(15_000, 30_000), 15_000)


def insecure_tls() -> ssl.SSLContext:
    """The front's certificate is its own CA's; tests reach it on loopback only."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Hyperglot:
    """One `hyperglot up`. `more` is added to its environment, for example an armed failpoint."""

    role = ("up",)

    def __init__(self, directory: Path | str, targets: list[str], fronts: list[Front], mappings: Path | None = None):
        self.directory = Path(directory).resolve()
        self.targets = targets
        self.fronts = fronts
        self.mappings = mappings or REPO / "mappings"
        self.config = self.directory / "hyperglot.toml"
        self.log = self.directory / "hyperglot.log"
        self.bus = "port = 0\n"
        self.more: dict[str, str] = {}
        self.process: subprocess.Popen | None = None

    def front(self, view: str) -> Front:
        return next(front for front in self.fronts if front.view == view)

    def write_config(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text("\n".join([
            f'data_dir = {json.dumps(str(self.directory / "data"))}\nmappings = {json.dumps(str(self.mappings))}\n',
            f"[bus]\n{self.bus}", *self.targets, *[front.toml() for front in self.fronts],
        ]))

    def environment(self) -> dict[str, str]:
        own = {"HYPERGLOT_ADMIN_USER": USER, "HYPERGLOT_ADMIN_PASSWORD": PASSWORD, "HYPERGLOT_NATS_SERVER": str(NATS_SERVER)}
        return {**os.environ, **own, **self.more}

    def launch(self, *arguments: str) -> None:
        """Starts it and waits for nothing."""
        for path, how in ((BINARY, "make build"), (NATS_SERVER, "make setup")):
            if not path.exists():
                raise LabError(f"{path} is missing: run '{how}'")
        self.write_config()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", str(BINARY), *self.role, "--config", str(self.config), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment(),
            )

    def start(self, timeout: float = 60.0) -> "Hyperglot":
        self.launch()
        return self.wait_fronts(timeout)

    def wait_fronts(self, timeout: float = 60.0) -> "Hyperglot":
        """Until every front answers."""
        for front in self.fronts:
            self.wait(lambda: self._answers(front), f"an answer of the {front.view} front on {front.address}", timeout)
        return self

    def wait(self, there, what: str, timeout: float = 60.0) -> None:
        """Until `there()`, while the process lives."""
        deadline = time.monotonic() + timeout
        while not there():
            if not self.alive():
                code = self.process.returncode if self.process else None
                raise LabError(f"hyperglot ended with status {code}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise LabError(f"expected {what} within {timeout:.0f} s:\n{self.tail()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def _answers(self, front: Front) -> bool:
        try:
            with urllib.request.urlopen(f"https://{front.address}{VERSIONS_PATH}", context=insecure_tls(), timeout=5) as reply:
                return reply.status == 200
        except urllib.error.HTTPError:
            raise
        except (OSError, ssl.SSLError):
            return False

    def stop(self, timeout: float = 20.0) -> int:
        """SIGTERM and the exit code of the drain."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        code = self.process.returncode
        self.process = None
        return code

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def rss_kib(self) -> int:
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise LabError("the process has no VmRSS")

    def tail(self, size: int = 4000) -> str:
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def command(self, *arguments: str, timeout: float = 30.0) -> subprocess.CompletedProcess:
        return run_binary(*arguments, timeout=timeout, environment=self.environment())

    def status(self) -> dict:
        done = self.command("status", "--config", str(self.config), "--json")
        if done.returncode != 0:
            raise LabError(f"hyperglot status: {done.stderr.strip() or done.stdout.strip()}")
        return json.loads(done.stdout)

    def __enter__(self) -> "Hyperglot":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()


def run_binary(*arguments: str, timeout: float = 30.0, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, timeout=timeout, env=environment)


class Broker(Hyperglot):
    """`hyperglot broker`: the bus, the engine and, where there are any, fleet fronts. Its fronts open with the first agent's facts."""

    role = ("broker",)

    def __init__(self, directory: Path | str, fronts: list[Front], mappings: Path | None = None):
        super().__init__(directory, [], fronts, mappings)

    def start(self, timeout: float = 60.0) -> "Broker":
        self.launch()
        self.wait(lambda: self.ctl("agent", "list").returncode == 0, "an answer of the engine", timeout)
        return self

    def ctl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess:
        return subprocess.run([str(BINARY), "ctl", "--config", str(self.config), *arguments], capture_output=True, text=True,
                              timeout=30, env=self.environment(), input=stdin)

    def token(self, agent: str) -> str:
        done = self.ctl("agent", "token", agent)
        if done.returncode != 0:
            raise LabError(f"ctl agent token: {done.stderr.strip()}")
        return done.stdout.strip()


class Agent(Hyperglot):
    """`hyperglot agent`: joins with a token at its first start."""

    role = ("agent",)

    def start(self, timeout: float = 60.0, token: str | None = None) -> "Agent":
        self.launch(*(["--join", token] if token else []))
        self.wait_fronts(timeout)
        return self


class Sim:
    """`hyperglot sim`: a simulated hypervisor that outlives agents, with a log of what was done to it."""

    def __init__(self, directory: Path | str, vms: int, hosts: int, *arguments: str):
        self.directory = Path(directory).resolve()
        self.socket = self.directory / "sim.sock"
        self.effects = self.directory / "effects.log"
        self.arguments = ["--generate", f"{vms},{hosts}", *arguments]
        self.process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        return f"unix:{self.socket}"

    def __enter__(self) -> "Sim":
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory / "sim.log", "ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", str(BINARY), "sim", "--listen", self.uri, "--effects", str(self.effects), *self.arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        deadline = time.monotonic() + 20
        while not self.socket.exists():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise LabError(f"hyperglot sim did not start:\n{(self.directory / 'sim.log').read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(self, *_) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

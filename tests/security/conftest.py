"""A domain of processes to attack: a broker and two agents, each beside a simulated host, as `tests/faults` starts them."""

import asyncio
import importlib.util
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nats
import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO / "tools" / "demo"), str(REPO / "tests" / "clients"), str(Path(__file__).resolve().parent)]

import clients  # noqa: E402
import overheard  # noqa: E402
import words  # noqa: E402
from acts import change_in  # noqa: E402

_spec = importlib.util.spec_from_file_location("domain_of_faults", REPO / "tests" / "faults" / "conftest.py")
faults = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(faults)


@dataclass
class Field:
    """The domain, what was heard of honest traffic, and the attackers' keys."""

    domain: object
    # A submission of lab01's host front and the engine's order to lab02, each with its subject.
    submission: tuple[str, bytes]
    order: tuple[str, bytes]
    secrets: list[str]

    @property
    def url(self) -> str:
        return self.domain.own_bus()["url"]

    def data(self, name: str) -> Path:
        process = self.domain.broker if name == "broker" else self.domain.agents[name]
        return process.directory / "data"

    def thief(self, agent: str = "lab01") -> words.Member:
        """Whoever is root on an agent's machine."""
        return words.Member.stolen(agent, self.data(agent) / "agent.keys")

    def engine(self) -> words.Member:
        """The engine's own hand: for what an engine of yesterday would say."""
        return words.Member.stolen("engine", self.data("broker") / "engine.keys")

    def log(self, name: str) -> str:
        return (self.domain.broker if name == "broker" else self.domain.agents[name]).log.read_text(errors="replace")

    def logged(self, name: str, *said: str) -> None:
        clients.eventually(lambda: any(all(s in line for s in said) for line in self.log(name).splitlines()), f"{name} logs {said}")

    async def own(self) -> nats.NATS:
        bus = self.domain.own_bus()
        return await nats.connect(bus["url"], user=bus["user"], password=bus["password"], connect_timeout=30)

    def ask(self, who: words.Member, subject: str, payload: bytes) -> bytes:
        """A request to the engine over a connection of the agent's."""
        async def asked():
            bus = await who.connect(self.url, [])
            try:
                return (await bus.request(subject, payload, timeout=30)).data
            finally:
                await bus.close()
        return asyncio.run(asked())

    def order_to(self, subject: str, payload: bytes) -> bytes:
        """A request to an agent over the installation's own connection, which agents do not trust for that."""
        async def asked():
            bus = await self.own()
            try:
                return (await bus.request(subject, payload, timeout=30)).data
            finally:
                await bus.close()
        return asyncio.run(asked())


@pytest.fixture(scope="session")
def field():
    work = Path(tempfile.mkdtemp(prefix="hg-security-"))
    names = ("lab01", "lab02")
    files = {}
    for name in names:
        files[name] = work / f"{name}.toml"
        files[name].write_text("\n".join([
            f'[[host]]\nname = "{name}"', *[f'[[vm]]\nname = "vm{n}-{name}"\nhost = "{name}"' for n in (1, 2)]]) + "\n")
    targets = {name: f'[[target]]\nprotocol = "sim"\nname = "{name}"\ninventory = "{files[name]}"\n' for name in names}
    try:
        with faults.Domain(work, targets, {name: name for name in names}) as domain:
            tokens = [domain.broker.token("spare")]
            # The second engine of this domain: there is an epoch before it.
            domain.broker.stop()
            domain.broker.start()
            domain.broker.wait_fronts()
            domain.whole()
            # These sessions go on, so that nothing below is refused only because they have ended.
            with clients.Session(domain.host("lab01")) as near, clients.Session(domain.fleet) as far:
                heard = overheard.during(domain.own_bus(), lambda: change_in(near, "lab01", "honest"))
                submission = next(h for h in heard if h[0].startswith("cmd."))
                heard = overheard.during(domain.own_bus(), lambda: change_in(far, "lab02", "honest"))
                order = next(h for h in heard if h[0] == "agent.default.lab02.perform")
                yield Field(domain, submission, order, [*tokens, words.token(tokens[0])["secret"]])
    finally:
        shutil.rmtree(work, ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test shows the ends of the logs."""
    outcome = yield
    report = outcome.get_result()
    running = item.funcargs.get("field")
    if report.failed and isinstance(running, Field):
        for name in ("broker", *running.domain.agents):
            report.sections.append((f"the end of {name}'s log", os.linesep.join(running.log(name).splitlines()[-25:])))

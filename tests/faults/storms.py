"""Storms on the bus, each in a process of its own: from somebody without rights, from an agent gone mad, and with the engine's rights.

All that asks for an answer keeps so many requests under way and counts what each is answered: `done`, the code of a refusal, `busy` from the
subscription itself, `lost` when nobody answered. What asks for no answer is said as fast as the bus takes it."""

import asyncio
import multiprocessing
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import nats

import words
from words import changed, message, read

CODES = {1: "InvalidState", 2: "InProgress", 3: "NotFound", 4: "NotSupported", 5: "InvalidArgument", 6: "Permission", 7: "TimedOut",
         8: "Unreachable", 9: "TargetFailed", 10: "Busy", 11: "Cancelled", 13: "Internal", 14: "Changed"}
# Beyond what the engine and an agent take on at a time.
WIDTH = 1_500


@dataclass
class Storm:
    """What an attacker has: the bus, a key, and what it heard of honest traffic about the objects."""

    bus: dict[str, str]
    name: str = ""
    seed: str = ""
    submission: bytes = b""
    orders: list[bytes] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)

    def member(self) -> words.Member:
        return words.Member(self.name, self.seed)


def said(reply, opened: Callable[[bytes], dict]) -> str:
    """What a request was answered."""
    if not reply.data:
        return "busy" if reply.headers and "busy" in reply.headers.values() else "empty"
    try:
        opened(reply.data)
        return "done"
    except words.Refused as cause:
        return CODES.get(cause.code, str(cause.code))


async def asking(bus, counts: Counter, what: str, until: float, width: int, request: Callable[[], tuple[str, bytes]],
                 opened: Callable[[bytes], dict] = words.outcome) -> None:
    async def one():
        while time.monotonic() < until:
            subject, payload = request()
            counts[f"{what} asked"] += 1
            try:
                reply = await bus.request(subject, payload, timeout=120)
            except nats.errors.Error:
                counts[f"{what} lost"] += 1
                continue
            counts[f"{what} answered"] += 1
            counts[f"{what}: {said(reply, opened)}"] += 1
    await asyncio.gather(*(one() for _ in range(width)))


async def unsigned(storm: Storm, until: float) -> Counter:
    """Commands from somebody with no right to any, as fast as they are refused."""
    bus, counts = await nats.connect(storm.bus["url"], user=storm.bus["user"], password=storm.bus["password"]), Counter()
    await asking(bus, counts, "unsigned", until, 64, lambda: ("cmd.default.vm.PowerOn", b"\xff" * 512))
    await bus.close()
    return counts


async def mad(storm: Storm, until: float) -> Counter:
    """An agent with its own key: commands in its sessions' names, every kind of request, and whatever it may publish."""
    me, counts, dice = storm.member(), Counter(), random.Random(7)
    bus = await me.connect(storm.bus["url"], [])
    envelope, grant = (read(read(storm.submission)[1][0])[n][0] for n in (1, 2))
    command, service = "cmd.default.vm.Reconfigure", "service.engine-default."

    def deadline() -> int:
        return int(time.time() * 1000) + 60_000

    def submitted() -> tuple[str, bytes]:
        anew = changed(envelope, f1=str(uuid.uuid4()), f4=dice.choice(storm.objects), f7=deadline())
        return command, me.signed(command, message({1: anew, 2: grant}))

    def served() -> tuple[str, bytes]:
        record = message({1: str(uuid.uuid4()), 2: {1: {1: {1: 1, 2: 1}}}, 3: int(time.time() * 1000), 4: "DestroyVm",
                          5: dice.choice(storm.objects), 6: "admin", 7: "none"})
        verb, body = dice.choice([
            ("settle", message({1: str(uuid.uuid4()), 2: storm.objects[0]})),
            ("cancel", message({1: str(uuid.uuid4()), 2: storm.objects[0]})),
            ("outbox", message({1: {1: dice.randrange(1, 1 << 40), 2: 1, 3: record}, 2: "rogue"})),
            ("ids", message({1: "vsphere", 2: f"x{dice.randrange(1 << 40)}:{storm.name}", 3: "vm-{n}", 4: 1 << 60})),
            ("resume", message({1: os.urandom(64), 2: os.urandom(32)})),
            ("beat", message({1: 1, 2: 1})),
            ("nonsense", os.urandom(64)),
        ])
        return service + verb, me.signed(service + verb, body)

    async def published():
        subjects = [f"event.default.vm.{n}.changed" for n in range(50)] + [f"task.default.{n}" for n in range(50)]
        subjects += [f"metric.default.vm.{n}" for n in range(50)] + [f"inventory.default.{storm.name}.facts.delta"] * 50
        while time.monotonic() < until:
            for subject in dice.sample(subjects, 100):
                delta = message({1: dice.randrange(1, 1 << 50), 2: dice.randrange(1, 1 << 20), 3: {1: dice.choice(storm.objects), 2: b"\x08"}})
                await bus.publish(subject, dice.choice([delta, os.urandom(256), b"{}"]))
                counts["published"] += 1
            await bus.flush(timeout=60)
    await asyncio.gather(asking(bus, counts, "command", until, WIDTH, submitted), published(),
                         asking(bus, counts, "service", until, 256, served, words.opened))
    await bus.close()
    return counts


async def orders(storm: Storm, until: float) -> Counter:
    """Orders at an agent's own door, signed as the engine signs."""
    engine, counts, dice = storm.member(), Counter(), random.Random(11)
    bus = await nats.connect(storm.bus["url"], user=storm.bus["user"], password=storm.bus["password"])
    bodies, subject = [read(order)[1][0] for order in storm.orders], "agent.default.crowd.perform"

    def order() -> tuple[str, bytes]:
        body, another = dice.choice(bodies), dice.choice(storm.objects).encode()
        # Ids are as long as each other: the same order about another machine, its plan too.
        body = body.replace(read(read(body)[1][0])[4][0], another)
        anew = changed(read(body)[1][0], f1=str(uuid.uuid4()), f7=int(time.time() * 1000) + 10_000)
        return subject, engine.signed(subject, changed(body, f1=anew))
    await asking(bus, counts, "order", until, WIDTH, order)
    await bus.close()
    return counts


def _run(which: Callable[[Storm, float], Awaitable[Counter]], storm: Storm, seconds: float, answer) -> None:
    answer.put(asyncio.run(which(storm, time.monotonic() + seconds)))


class Raging:
    """A storm under way in a process of its own; `counts()` waits for its end."""

    def __init__(self, which: Callable[[Storm, float], Awaitable[Counter]], storm: Storm, seconds: float):
        context = multiprocessing.get_context("fork")
        self._answer = context.Queue()
        self._process = context.Process(target=_run, args=(which, storm, seconds, self._answer), daemon=True)
        self._process.start()

    def is_over(self) -> bool:
        return not self._process.is_alive() or not self._answer.empty()

    def counts(self) -> Counter:
        counts = self._answer.get(timeout=180)
        self._process.join()
        return counts

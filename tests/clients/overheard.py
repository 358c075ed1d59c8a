"""What crosses the bus while something is done, heard with the installation's own rights."""

import asyncio
from collections.abc import Callable

import nats


async def _during(bus: dict[str, str], what: Callable[[], object]) -> list[tuple[str, bytes]]:
    tap = await nats.connect(bus["url"], user=bus["user"], password=bus["password"])
    heard = []

    async def take(message):
        heard.append((message.subject, message.data))
    for pattern in ("cmd.>", "agent.>"):
        await tap.subscribe(pattern, cb=take)
    await tap.flush()
    await asyncio.to_thread(what)
    await tap.flush()
    await asyncio.sleep(0.3)
    await tap.close()
    return heard


def during(bus: dict[str, str], what: Callable[[], object]) -> list[tuple[str, bytes]]:
    """Commands to the engine and orders to agents, each with its subject, that were sent while `what` was done."""
    return asyncio.run(_during(bus, what))

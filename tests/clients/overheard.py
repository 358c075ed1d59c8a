"""What crosses the bus while something is done, heard with the installation's own rights."""

import asyncio
from collections.abc import Callable

import nats


async def _during(bus: dict[str, str], what: Callable[[], object], patterns: tuple[str, ...]) -> list[tuple[str, bytes]]:
    tap = await nats.connect(bus["url"], user=bus["user"], password=bus["password"], connect_timeout=10)
    heard = []

    async def take(message):
        heard.append((message.subject, message.data))

    for pattern in patterns:
        await tap.subscribe(pattern, cb=take)
    await tap.flush()
    await asyncio.to_thread(what)
    await tap.flush()
    await asyncio.sleep(0.5)
    await tap.close()
    return heard


def during(bus: dict[str, str], what: Callable[[], object], *patterns: str) -> list[tuple[str, bytes]]:
    """Every message of these patterns (commands to the engine and orders to agents), with its subject, that was sent while `what` was done."""
    return asyncio.run(_during(bus, what, patterns or ("cmd.>", "agent.>")))

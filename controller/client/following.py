"""One object as it changes: a list, then a watch from the list's version. Nothing in between is
missed, and nothing is polled: a watch that ends goes on from the last version seen.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

from controller.client.api import Api, Json, refusal
from controller.client.errors import SandboxRefused, SandboxUnavailable

SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 5.0


class _Pauses:
    """Seconds between attempts: doubled each time, back to the shortest by `calm`."""

    def __init__(self) -> None:
        self._next = SHORTEST_PAUSE

    def calm(self) -> None:
        self._next = SHORTEST_PAUSE

    async def wait(self) -> None:
        pause, self._next = self._next, min(self._next * 2, LONGEST_PAUSE)
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads a herd


async def follow(api: Api, name: str) -> AsyncGenerator[Json | None, None]:
    """The object's states, None where there is none. Never ends by itself.

    Outages and expired versions (410) after the first list are waited out; every refusal is
    raised, as is anything that goes wrong with the first list.
    """
    pauses = _Pauses()
    field = f"metadata.name={name}"
    listing: Json | None = await api.list(fieldSelector=field)
    while True:
        if listing is None:
            await pauses.wait()
            try:
                listing = await api.list(fieldSelector=field)
            except SandboxUnavailable:
                continue
        yield next(iter(listing["items"]), None)
        version = listing["metadata"]["resourceVersion"]
        listing = None
        while version:
            try:
                async with aclosing(
                    api.watch(fieldSelector=field, resourceVersion=version)
                ) as events:
                    async for event in events:
                        pauses.calm()
                        if event["type"] == "ERROR":
                            raise refusal(event["object"])
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            yield event["object"] if event["type"] != "DELETED" else None
            except SandboxUnavailable:
                pass
            except SandboxRefused as error:
                if error.status != 410:
                    raise
                version = ""
                break
            await pauses.wait()

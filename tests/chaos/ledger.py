"""What Docker tells by itself, past the operators and their links: the truth to compare with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import aiohttp

from controller.core import names
from tests.chaos.deeds import Deeds, Told

_OVERLAP_SECONDS = 0.5
"""Docker frees a name a moment before it tells of the removal."""
_LOOK_SECONDS = 1.0


class Ledger:
    """Follows the engine's events over its restarts, and lists its containers now and then."""

    def __init__(
        self, docker_host: str, deeds: Deeds, violated: Callable[[str, str], None]
    ) -> None:
        """It notes what Docker tells in `deeds`, and tells `violated` what is wrong with which
        UID."""
        self._socket = docker_host.removeprefix("unix://")
        self._violated = violated
        self._deeds = deeds
        self._here: dict[str, dict[str, float]] = defaultdict(dict)
        """By UID, its containers and when each was made."""
        self._since = time.time()
        self._lost: float | None = None
        """When the stream broke off that has no successor yet."""

    async def run(self) -> None:
        """Until cancelled. The engine may be away or hang at any time."""
        connector = aiohttp.UnixConnector(self._socket, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with aiohttp.ClientSession(
            "http://docker", connector=connector, timeout=timeout
        ) as session:
            await asyncio.gather(
                self._again_and_again(self._follow, session, 0.2),
                self._again_and_again(self._look, session, _LOOK_SECONDS),
            )

    async def _again_and_again(
        self,
        step: Callable[[aiohttp.ClientSession], Any],
        session: aiohttp.ClientSession,
        gap: float,
    ) -> None:
        while True:
            # The engine is away, or its answer broke off.
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError):
                await step(session)
            await asyncio.sleep(gap)

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        self._here.clear()  # what was removed while nobody told is not held against anyone
        query = {"since": f"{self._since:.9f}", "filters": json.dumps({"type": ["container"]})}
        async with session.get("/events", params=query) as response:
            response.raise_for_status()
            if self._lost is not None:
                self._deeds.gaps.append((self._lost, time.time()))
            try:
                async for line in response.content:
                    self._note(json.loads(line))
            finally:
                self._lost = time.time()

    def _note(self, event: dict[str, Any]) -> None:
        attributes = event["Actor"]["Attributes"]
        uid, id_ = attributes.get(names.UID_LABEL), event["Actor"]["ID"]
        at = event["timeNano"] / 1e9
        self._since = max(self._since, at + 1e-9)
        if uid is None:
            return
        action = event["Action"]
        self._deeds.told[uid].append(Told(at, action, id_, attributes.get("exitCode", "")))
        here = self._here[uid]
        if action == "create":
            here[id_] = at
        elif action == "destroy":
            here.pop(id_, None)
            for other, made in here.items():
                if at - made > _OVERLAP_SECONDS:
                    self._violated(f"had two containers: {id_[:12]} and {other[:12]}", uid)

    async def _look(self, session: aiohttp.ClientSession) -> None:
        query = {"all": "1", "filters": json.dumps({"label": [names.UID_LABEL]})}
        timeout = aiohttp.ClientTimeout(total=5)
        async with session.get("/containers/json", params=query, timeout=timeout) as response:
            response.raise_for_status()
            rows = await response.json()
        found: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            found[row["Labels"][names.UID_LABEL]].append(row["Id"][:12])
        for uid, ids in found.items():
            if len(ids) > 1:
                self._violated(f"has two containers: {ids}", uid)

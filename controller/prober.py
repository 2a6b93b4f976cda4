"""Readiness probes: off both lanes, bounded, and sure of nothing that a container says.

A probe dials the sandbox's own published port at probeHost and reads a status: no redirects, no
proxies, no cookies, no body beyond 64 KiB, a short timeout. Nothing of an answer is kept but
whether it was good.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import aiohttp

from controller.core.resources import SandboxSpec
from controller.core.state import Container, Probe, run_id
from controller.entries import Entry
from controller.workqueue import WorkQueue

_FIRST_INTERVAL_SECONDS = 0.05
"""Until the first good answer probes start close together and spread out to the period."""
_MAX_BODY = 64 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """What to probe, and how. `run` tells one run of the container from the next."""

    run: str
    url: str
    period_seconds: float
    timeout_seconds: float
    failure_threshold: int


def target(spec: SandboxSpec, container: Container, host: str) -> Target | None:
    """The probe of a running container; None where it has none, or the port is not published."""
    readiness = spec.readiness
    if readiness is None:
        return None
    port = next(
        (p for p in spec.ports if readiness.http_get.port in (p.name, p.container_port)), None
    )
    if port is None or port.container_port not in container.ports:
        return None
    host = f"[{host}]" if ":" in host else host
    return Target(
        run=run_id(container),
        url=f"{port.scheme}://{host}:{container.ports[port.container_port]}"
        f"{readiness.http_get.path}",
        period_seconds=readiness.period_seconds,
        timeout_seconds=readiness.timeout_seconds,
        failure_threshold=readiness.failure_threshold,
    )


class Prober:
    """One loop for each Sandbox that is probed; results land in its entry and wake its key."""

    def __init__(self, queue: WorkQueue, at_once: int) -> None:
        self._queue = queue
        self._slots = asyncio.Semaphore(at_once)
        self._loops: dict[str, tuple[Target, asyncio.Task[None]]] = {}
        self._session: aiohttp.ClientSession | None = None

    def watch(self, entry: Entry, wanted: Target | None) -> None:
        """Probe `wanted` from now on, instead of what was probed before."""
        running = self._loops.get(entry.uid)
        if running is not None:
            if running[0] == wanted:
                return
            running[1].cancel()
            del self._loops[entry.uid]
        if running is None or wanted is None or running[0].run != wanted.run:
            entry.probe = None
        if wanted is not None:
            task = asyncio.create_task(self._loop(entry, wanted))
            self._loops[entry.uid] = (wanted, task)

    def forget(self, uid: str) -> None:
        running = self._loops.pop(uid, None)
        if running is not None:
            running[1].cancel()

    async def close(self) -> None:
        tasks = [task for _, task in self._loops.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _loop(self, entry: Entry, wanted: Target) -> None:
        interval = min(_FIRST_INTERVAL_SECONDS, wanted.period_seconds)
        failures, since = 0, 0.0
        # The first probes come fast: they must not use up the threshold faster than the period.
        patience = (wanted.failure_threshold - 1) * wanted.period_seconds
        clock = asyncio.get_running_loop().time
        while True:
            async with self._slots:
                since = since if failures else clock()
                good = await self._probe(wanted)
            failures = 0 if good else failures + 1
            failing = failures >= wanted.failure_threshold and clock() - since >= patience
            found = Probe(ready=good, failing=failing)
            if found != entry.probe:
                entry.probe = found
                self._queue.add(entry.uid)
            if good:
                interval = wanted.period_seconds
            await asyncio.sleep(interval)
            interval = min(interval * 1.3, wanted.period_seconds)

    async def _probe(self, wanted: Target) -> bool:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True, ssl=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            )
        timeout = aiohttp.ClientTimeout(total=wanted.timeout_seconds)
        try:
            async with self._session.get(
                wanted.url, allow_redirects=False, timeout=timeout
            ) as response:
                good = 200 <= response.status < 400
                if good:
                    await response.content.read(_MAX_BODY)
                return good
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return False

"""Readiness probes: off both lanes, bounded, and sure of nothing that a container says.

A probe dials the sandbox's own published port at probeHost and reads a status line. An HTTP client
would read more: aiohttp's collects headers, and follows interim answers for as long as they come.
Here there are no redirects, proxies, cookies or encodings to be led astray by, and nothing of an
answer is kept but whether it was good.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

import re2

from controller.core.resources import SandboxSpec
from controller.core.state import Container, Probe, run_id
from controller.entries import Entry
from controller.fairness import FairSlots
from controller.workqueue import WorkQueue

_FIRST_INTERVAL_SECONDS = 0.05
"""Until the first good answer probes start close together and spread out to the period."""
_LEASE_SECONDS = 0.25
"""How long a probe holds its slot. One that still waits then costs a socket and no work, and those
that let everybody wait would leave the others no slot."""
_OPEN_FACTOR = 16
"""So many times the slots may be open at once, half of them of one namespace: each is a file, and
the process has only so many."""
_DRAIN_SECONDS = 0.25
"""How long the rest of an answer is read: an honest server is not cut off in the middle of it."""
_MAX_LINE = 8 * 1024
_MAX_INTERIM = 8 * 1024
"""Bytes of 1xx answers before the final one."""
_MAX_BODY = 64 * 1024
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_BYTES = re2.Options()
_BYTES.encoding = re2.Options.Encoding.LATIN1
_STATUS_LINE = re2.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r?\n", _BYTES)


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
        self._slots = FairSlots(at_once)
        most = at_once * _OPEN_FACTOR
        self._open = FairSlots(most, share=max(1, most // 2))
        self._loops: dict[str, tuple[Target, asyncio.Task[None]]] = {}
        self._unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        """A container's certificate is its own affair: what counts is that it answers."""
        self._unverified.check_hostname = False
        self._unverified.verify_mode = ssl.CERT_NONE

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

    async def _loop(self, entry: Entry, wanted: Target) -> None:
        interval = min(_FIRST_INTERVAL_SECONDS, wanted.period_seconds)
        failures, since = 0, 0.0
        # The first probes come fast: they must not use up the threshold faster than the period.
        patience = (wanted.failure_threshold - 1) * wanted.period_seconds
        clock = asyncio.get_running_loop().time
        namespace = entry.subject.metadata.namespace
        while True:
            # Waiting for them is no failure.
            async with self._open.slot(namespace), self._leased(namespace):
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

    @contextlib.asynccontextmanager
    async def _leased(self, namespace: str) -> AsyncIterator[None]:
        """One of the slots, for the lease at the longest."""
        async with self._slots.slot(namespace) as slot:
            lease = asyncio.get_running_loop().call_later(_LEASE_SECONDS, slot.release)
            try:
                yield
            finally:
                lease.cancel()

    async def _probe(self, wanted: Target) -> bool:
        url = urlsplit(wanted.url)
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(wanted.timeout_seconds):
                reader, writer = await asyncio.open_connection(
                    url.hostname,
                    url.port,
                    limit=_MAX_LINE,
                    ssl=self._unverified if url.scheme == "https" else None,
                )
                writer.write(_request(url))
                status = await _status(reader)
            await _drain(reader)
        except (OSError, EOFError, ValueError):  # TimeoutError and ssl.SSLError are OSErrors
            return False
        finally:
            if writer is not None:
                writer.transport.abort()
        return 200 <= status < 400


def _request(url: SplitResult) -> bytes:
    path = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    return (
        f"GET {quote(path, safe=_PRINTABLE)} HTTP/1.1\r\nHost: {url.netloc}\r\n"
        "User-Agent: sandbox-operator\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ).encode()


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the final answer. Raises ValueError where it is no HTTP, or too much of it."""
    interim = 0
    while True:
        line = await reader.readline()
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise ValueError("no status line")
        status = int(found[1])
        if status >= 200 or status == 101:
            return status
        while line.strip():
            interim += len(line)
            if interim > _MAX_INTERIM:
                raise ValueError("too much before the answer")
            line = await reader.readline()


async def _drain(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            left = _MAX_BODY
            while left > 0 and (part := await reader.read(left)):
                left -= len(part)

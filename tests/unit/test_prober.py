"""Probes against a server that answers as it likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from controller.core.resources import SandboxSpec
from controller.core.state import Probe
from controller.core.table import PROBED, RUNNING
from controller.entries import Entry
from controller.prober import Prober, Target, target
from controller.workqueue import WorkQueue
from tests.unit.test_entries import entry

SPEC = SandboxSpec.parse({"image": "box", **PROBED})
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers every request with `answer`; counts them by path."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.headers = ""
        self.asked = asyncio.Event()
        self.answer = "200 OK"
        self.endless = False
        self.silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head.split()[1])
            self.headers = head
            self.asked.set()
            if self.silent:
                await reader.read()  # until the client gives up
                return
            writer.write(f"HTTP/1.1 {self.answer}\r\n\r\n".encode())
            while self.endless:
                writer.write(b"x" * 65536)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def probing(server: Server, **changes: float) -> AsyncIterator[tuple[Entry, WorkQueue]]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    wanted = target(SPEC, replace(RUNNING, ports={80: port}), "127.0.0.1")
    assert wanted is not None
    wanted = replace(wanted, **{"period_seconds": 0.02, "timeout_seconds": 0.5} | changes)  # type: ignore[arg-type]
    queue, found = WorkQueue(), entry()
    prober = Prober(queue, 4)
    prober.watch(found, wanted)
    try:
        yield found, queue
    finally:
        await prober.close()
        listening.close()


async def until(queue: WorkQueue, found: Entry, wanted: Probe) -> None:
    """The probe's result wakes the key."""
    async with asyncio.timeout(5):
        while found.probe != wanted:
            assert await queue.get() == found.uid
            queue.done(found.uid)


READY, UNREADY, FAILING = Probe(True, False), Probe(False, False), Probe(False, True)


@pytest.mark.parametrize("answer", ["200 OK", "204 No Content", "399 x"])
async def test_a_good_answer_is_ready(answer: str) -> None:
    server = Server()
    server.answer = answer
    async with probing(server) as (found, queue):
        await until(queue, found, READY)
        assert server.requests[0] == "/ready"


@pytest.mark.parametrize("answer", ["400 x", "401 x", "500 x", "nonsense"])
async def test_any_other_is_not(answer: str) -> None:
    server = Server()
    server.answer = answer
    async with probing(server) as (found, queue):
        await until(queue, found, UNREADY)


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    server = Server()
    server.answer = "302 Found\r\nLocation: http://169.254.169.254/elsewhere"
    async with probing(server) as (found, queue):
        await until(queue, found, READY)
        assert set(server.requests) == {"/ready"}


async def test_an_endless_body_is_not_read_to_its_end() -> None:
    server = Server()
    server.endless = True
    async with probing(server) as (found, queue):
        await until(queue, found, READY)


async def test_headers_that_never_come_are_not_waited_for() -> None:
    server = Server()
    server.silent = True
    async with probing(server, timeout_seconds=0.05) as (found, queue):
        await until(queue, found, UNREADY)


async def test_no_proxy_and_no_cookie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server = Server()
    server.answer = "200 OK\r\nSet-Cookie: a=b"
    async with probing(server) as (found, queue):
        await until(queue, found, READY)
        while len(server.requests) < 2:
            server.answer = "500 x"
            await until(queue, found, UNREADY)
        assert "Cookie" not in server.headers
        assert "Authorization" not in server.headers


async def test_failing_takes_a_threshold_of_failures_in_a_row() -> None:
    server = Server()
    async with probing(server, failure_threshold=3) as (found, queue):
        await until(queue, found, READY)
        server.answer = "500 x"
        before = len(server.requests)
        await until(queue, found, UNREADY)
        await until(queue, found, FAILING)
        assert len(server.requests) - before >= 3
        server.answer = "200 OK"
        await until(queue, found, READY)


async def test_the_fast_first_probes_do_not_use_the_threshold_up() -> None:
    """After a restart of the operator, or an outage, one that was ready has its full time."""
    server = Server()
    server.answer = "500 x"
    async with probing(server, failure_threshold=2, period_seconds=600) as (found, queue):
        await until(queue, found, UNREADY)
        async with asyncio.timeout(5):
            while len(server.requests) < 4:
                server.asked.clear()
                await server.asked.wait()
        assert found.probe == UNREADY


async def test_another_run_begins_anew_and_the_same_goes_on() -> None:
    queue, found = WorkQueue(), entry()
    prober = Prober(queue, 1)
    first = target(SPEC, replace(RUNNING, ports={80: 1}), "127.0.0.1")
    assert first is not None
    prober.watch(found, first)
    found.probe = READY
    prober.watch(found, first)
    assert found.probe == READY
    prober.watch(found, replace(first, period_seconds=9))
    assert found.probe == READY
    prober.watch(found, replace(first, run="another"))
    assert found.probe is None
    found.probe = READY
    prober.watch(found, None)
    assert found.probe is None
    await prober.close()


def test_what_is_probed() -> None:
    wanted = target(SPEC, RUNNING, "::1")
    assert wanted == Target(
        run=f"c1@{RUNNING.started_at.isoformat() if RUNNING.started_at else ''}",
        url="http://[::1]:32768/ready",
        period_seconds=5,
        timeout_seconds=2,
        failure_threshold=3,
    )
    assert target(SPEC, replace(RUNNING, ports={}), "h") is None
    assert target(SPEC.model_copy(update={"readiness": None}), RUNNING, "h") is None

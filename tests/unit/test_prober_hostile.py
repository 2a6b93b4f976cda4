"""Probes against containers that answer to do harm: all they can change is their own readiness."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

import controller.prober
from controller.core.resources import SandboxSpec
from controller.core.state import Probe
from controller.core.table import PROBED, RUNNING
from controller.entries import Entry
from controller.prober import Prober, Target, target
from controller.workqueue import WorkQueue
from tests.unit.test_entries import entry
from tests.unit.test_prober import READY, UNREADY, until

SPEC = SandboxSpec.parse({"image": "box", **PROBED})
MARK = "planted-by-the-container"
TIMEOUT = 0.3
MEMORY = 4 << 20
"""Bytes that a probe may take at the most, many times what it needs."""
Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


def says(*parts: bytes, times: int = 1) -> Script:
    """Answer with these parts, the last of them so many times over, and close."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for part in parts[:-1]:
            writer.write(part)
        for _ in range(times):
            writer.write(parts[-1])
            await writer.drain()

    return answer


def forever(*parts: bytes) -> Script:
    """The last part without end."""
    return says(*parts, times=1 << 40)


def drips(text: bytes) -> Script:
    """One byte of the text, and no more before the prober has given up."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for byte in text:
            writer.write(bytes([byte]))
            await asyncio.sleep(TIMEOUT)

    return answer


async def nothing(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


OK = b"HTTP/1.1 200 OK\r\n"
ESCAPES = f"\x1b]0;{MARK}\x07\x1b[2J\r{MARK}\x00".encode()
COOKIE = f"Set-Cookie: \x01{MARK}[]=1; Path=/\r\n".encode()
HIGHLY_COMPRESSED = gzip.compress(bytes(64 << 20))
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

READY_ALL_THE_SAME: dict[str, Script] = {
    "an endless body": forever(OK, b"\r\n", MARK.encode() * 4096),
    "an endless chunk": forever(OK, b"Transfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n", b"x" * 65536),
    "a negative length": says(OK, b"Content-Length: -1\r\n\r\nx"),
    "headers without end": forever(OK, b"X-A: " + MARK.encode() * 100 + b"\r\n"),
    "one header without end": forever(OK, b"X-A: ", MARK.encode() * 4096),
    "thousands of cookies": says(OK, COOKIE * 5000, b"\r\n"),
    "cookies that cannot be read": says(OK, COOKIE, b"\r\n"),
    "escapes in a header": says(OK, b"X-A: " + ESCAPES + b"\r\n\r\n"),
    "escapes in the body": says(OK, b"\r\n" + ESCAPES * 100),
    "escapes after the status": says(b"HTTP/1.1 200 " + ESCAPES.replace(b"\r", b"") + b"\r\n\r\n"),
    "a highly compressed body": says(
        OK, b"Content-Encoding: gzip\r\n\r\n", HIGHLY_COMPRESSED, times=100
    ),
    "headers that drip": says(OK, b"X-A: "),
    "a body that drips": says(OK, b"Content-Length: 10\r\n\r\n1"),
    "some interim answers": says(b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" * 20, OK + b"\r\n"),
}
UNREADY_AT_ONCE: dict[str, Script] = {
    "an immediate close": says(b""),
    "an empty line": says(b"\r\n"),
    "no HTTP": says(MARK.encode() + ESCAPES + b"\r\n\r\n"),
    "an endless first line": forever(b"HTTP/1.1 200 ", MARK.encode() * 4096),
    "a first line of zeros": forever(bytes(65536)),
    "a status that is no number": says(b"HTTP/1.1 2" + ESCAPES + b"0 OK\r\n\r\n"),
    "a status of digits of another script": says("HTTP/1.1 ２００ OK\r\n\r\n".encode()),
    "a status of four digits": says(b"HTTP/1.1 2000 OK\r\n\r\n"),
    "a negative status": says(b"HTTP/1.1 -200 OK\r\n\r\n"),
    "another protocol": says(HTTP2),
    "frames of HTTP/2": says(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" * 1000),
    "a status line without its end": says(b"HTTP/1.1 200 OK"),
    "interim answers without end": forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "an interim answer without end": forever(b"HTTP/1.1 100 Continue\r\n", b"X-A: a\r\n" * 1000),
    "interim answers alone": says(b"HTTP/1.1 100 Continue\r\n\r\n"),
}
UNREADY_IN_TIME: dict[str, Script] = {
    "silence": nothing,
    "a status line that drips": drips(OK + b"\r\n"),
    "interim answers that drip": drips(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
}


@asynccontextmanager
async def container(script: Script, **changes: float) -> AsyncIterator[Target]:
    """What to probe of a container that answers every request so."""
    answering: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            await script(writer)
        writer.transport.abort() if writer.is_closing() else writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    wanted = target(SPEC, replace(RUNNING, ports={80: port}), "127.0.0.1")
    assert wanted is not None
    times = {"period_seconds": 0.02, "timeout_seconds": TIMEOUT} | changes
    try:
        yield replace(wanted, **times)  # type: ignore[arg-type]
    finally:
        for task in answering:
            task.cancel()
        listening.close()


@asynccontextmanager
async def probed(
    *targets: Target, at_once: int = 4
) -> AsyncIterator[tuple[list[Entry], WorkQueue]]:
    queue = WorkQueue()
    prober = Prober(queue, at_once)
    entries = [replace(entry(), uid=f"u{i}") for i in range(len(targets))]
    for one, wanted in zip(entries, targets, strict=True):
        prober.watch(one, wanted)
    try:
        yield entries, queue
    finally:
        await prober.close()


@pytest.fixture
def _unheard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No library says anything of the answer at any level, and nothing at all from warnings on."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.get_records("call"):
        assert MARK not in record.getMessage()
        assert record.levelno < logging.WARNING, record.getMessage()


@pytest.fixture
def _in_bounds() -> Iterator[None]:
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEMORY


def cases(*tables: dict[str, Script]) -> pytest.MarkDecorator:
    named = {name: script for table in tables for name, script in table.items()}
    return pytest.mark.parametrize("script", named.values(), ids=named.keys())


@cases(READY_ALL_THE_SAME)
@pytest.mark.usefixtures("_unheard", "_in_bounds")
async def test_what_follows_the_status_changes_nothing(script: Script) -> None:
    async with container(script) as wanted, probed(wanted) as ([found], queue):
        await until(queue, found, READY)


@cases(UNREADY_AT_ONCE)
@pytest.mark.usefixtures("_unheard", "_in_bounds")
async def test_what_is_no_answer_ends_the_probe(script: Script) -> None:
    """At once: no time-out is waited for, so one of an hour does no harm."""
    async with (
        container(script, timeout_seconds=3600) as wanted,
        probed(wanted) as ([found], queue),
    ):
        await until(queue, found, UNREADY)


@cases(UNREADY_IN_TIME)
@pytest.mark.usefixtures("_unheard", "_in_bounds")
async def test_what_takes_long_ends_with_the_timeout(script: Script) -> None:
    async with container(script) as wanted, probed(wanted) as ([found], queue):
        await until(queue, found, UNREADY)


@pytest.mark.parametrize("status", [200, 301, 302, 303, 307, 308, 401])
async def test_nobody_is_sent_to_the_metadata_address(status: int) -> None:
    """A listener of our own stands for 169.254.169.254."""
    visitors = 0

    async def metadata(writer: asyncio.StreamWriter) -> None:
        nonlocal visitors
        visitors += 1

    async with container(metadata) as forbidden:
        to = forbidden.url.encode()
        answer = says(
            b"HTTP/1.1 %d Found\r\nLocation: %s\r\nRefresh: 0;url=%s\r\n" % (status, to, to),
            b"Link: <%s>; rel=preload\r\nAlt-Svc: h2=%s\r\nContent-Length: 0\r\n\r\n" % (to, to),
        )
        async with container(answer) as wanted, probed(wanted) as ([found], queue):
            await until(queue, found, READY if status < 400 else UNREADY)
            await until(queue, replace(found, probe=found.probe), found.probe or READY)
    assert visitors == 0


@pytest.mark.parametrize("script", [nothing, drips(OK), forever(b"HTTP/1.1 100 x\r\n\r\n" * 999)])
async def test_those_that_let_everybody_wait_leave_the_others_their_turn(script: Script) -> None:
    """Four times as many as are probed at once, each with the longest time that a spec allows."""
    async with contextlib.AsyncExitStack() as stack:
        wait = [
            await stack.enter_async_context(container(script, timeout_seconds=60))
            for _ in range(16)
        ]
        honest = await stack.enter_async_context(container(says(OK, b"\r\n")))
        entries, queue = await stack.enter_async_context(probed(*wait, honest, at_once=4))
        async with asyncio.timeout(10):
            while entries[-1].probe != READY:
                queue.done(await queue.get())
        assert [e for e in entries[:-1] if e.probe and e.probe.ready] == []


async def test_a_slot_is_given_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a probe that outlives its lease: never more begin at once than there are slots."""
    monkeypatch.setattr(controller.prober, "_LEASE_SECONDS", 0)
    prober = Prober(WorkQueue(), 1)
    async with asyncio.timeout(10), prober._leased("team"), prober._leased("team"):
        pass
    assert prober._slots.load == 0
    await prober._slots.acquire("team")
    assert prober._slots.load_of("team") == 1


async def test_one_that_flaps_wakes_its_own_key_alone() -> None:
    answers = 0

    async def flap(writer: asyncio.StreamWriter) -> None:
        nonlocal answers
        answers += 1
        writer.write(OK + b"\r\n" if answers % 2 else b"HTTP/1.1 500 x\r\n\r\n")

    async with (
        container(flap) as flapping,
        container(says(OK, b"\r\n")) as honest,
        probed(flapping, honest) as (entries, queue),
    ):
        woken: list[str] = []
        async with asyncio.timeout(10):
            while woken.count("u0") < 6:
                woken.append(await queue.get())
                queue.done(woken[-1])
        assert woken.count("u1") == 1
        assert entries[1].probe == READY
        assert entries[0].probe in (READY, UNREADY), "never failing: it answers in between"


def test_what_a_probe_remembers_is_two_bits() -> None:
    assert Probe.__slots__ == ("ready", "failing")

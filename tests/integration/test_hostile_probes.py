"""Containers that answer their probes to do harm: they change nothing but their own readiness.

tests/unit/test_prober_hostile.py has more ways of it; here are those that shells can do, against
the whole operator, with far fewer slots for probes than there are hostile containers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.boxes import WEB, Box, World
from tests.integration.operator import Json, Operator

SETTINGS = {"resync_seconds": "1", "probe_concurrency": "2", "log_level": "debug"}
MARK = "planted-by-the-container"
MEMORY = 48 << 20
"""Bytes that the operator may grow by; each of these answers alone would be more in a second."""
OK = r"printf 'HTTP/1.1 200 OK\r\n'"
ESCAPES = rf"\033]0;{MARK}\007\033[2J\r{MARK}\000"

READY = {
    "endless-body": rf"{OK}; printf '\r\n'; cat /dev/zero",
    "endless-headers": f"{OK}; yes 'X-A: {MARK}'",
    "escapes": rf"printf 'HTTP/1.1 200 {MARK}\r\nX-A: {ESCAPES}\r\n\r\n{ESCAPES}'",
    "cookies": rf"{OK}; yes 'Set-Cookie: \001{MARK}[]=1' | head -5000; printf '\r\n\r\n'",
    "compressed": rf"{OK}; printf 'Content-Encoding: gzip\r\n\r\n\037\213\010'; cat /dev/zero",
}
ENDS, IN_TIME = 3, 600
"""Startup deadlines, in seconds: of those that never become ready, and of those that do, however
busy the machine is."""
UNREADY = {
    "silent": "sleep 1000",
    "drips": f"for i in $(seq 1000); do printf '{MARK}'; sleep 1; done",
    "closes": "true",
    "endless-line": f"yes {MARK} | tr '\\n' ' '",
    "zeros": "cat /dev/zero",
    "interim": r"while printf 'HTTP/1.1 100 Continue\r\n\r\n'; do :; done",
    "no-http": f"printf '{ESCAPES}'",
    "http2": r"printf 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'; sleep 1000",
}
REDIRECTS = (
    r"printf 'HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/latest/meta-data\r\n\r\n'"
)
FLAPS = (
    r"if mkdir /tmp/odd; then printf 'HTTP/1.1 500 x\r\n\r\n';"
    r" else rm -r /tmp/odd; printf 'HTTP/1.1 200 x\r\n\r\n'; fi"
)


def answers(script: str, deadline: int) -> Json:
    """A container that says this to whoever connects."""
    # The request is read, or else closing would cut off what was said.
    heard = "while read -r line && [ ${#line} -gt 1 ]; do :; done"
    write = f"cat > /tmp/answer <<'.'\n{heard}\n{script}\n.\n"
    return {
        "command": ["sh", "-c", f"{write}exec nc -ll -p 8000 -e sh /tmp/answer"],
        "ports": [WEB],
        "readiness": probe(startupDeadlineSeconds=deadline, timeoutSeconds=60),
        "terminationGracePeriodSeconds": 0,
    }


def probe(**changes: int) -> Json:
    return {"httpGet": {"path": "/ready", "port": "WEB"}, "periodSeconds": 1} | changes


@pytest.fixture
async def metadata() -> AsyncIterator[tuple[int, list[bytes]]]:
    """What stands for the metadata address: its port, and what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1], asked


async def test_they_change_nothing_but_their_own_readiness(
    world: World, operator: Operator, metadata: tuple[int, list[bytes]]
) -> None:
    port, asked = metadata
    settled = await world.running(ports=[WEB], readiness=probe(timeoutSeconds=10))
    forget_peak(operator)
    before = resident(operator)
    unready = [await world.box(name, **answers(script, ENDS)) for name, script in UNREADY.items()]
    ready = [await world.box(name, **answers(script, IN_TIME)) for name, script in READY.items()]
    redirects = REDIRECTS.replace("{port}", str(port))
    ready.append(await world.box("redirects", **answers(redirects, IN_TIME)))
    flaps = await world.box("flaps", **answers(FLAPS, IN_TIME))
    for box in ready:
        await box.until("RUNNING")
    for box in unready:
        await box.until("ERROR", "StartupDeadlineExceeded")

    honest = await world.running(ports=[WEB], readiness=probe(timeoutSeconds=10))
    await settled.pause()
    await settled.until("PAUSED")
    await settled.resume()
    await settled.until("RUNNING")
    await world.plane.audit.resyncs(2)

    assert asked == [], "a redirect was followed"
    assert honest.phases() == ["STARTING", "RUNNING"]
    assert "ERROR" not in settled.phases()
    for box in ready:
        assert box.phases() == ["STARTING", "RUNNING"], box.name
    for box in unready:
        assert "RUNNING" not in box.phases(), box.name
    assert "ERROR" not in flaps.phases(), "it answers every other time"
    assert resident(operator) - before < MEMORY
    told = json.dumps([statuses([*ready, *unready, flaps]), await world.events()])
    for text in (told, operator.words()):
        assert MARK not in text
        assert "\\u001b" not in text
        assert "\x1b" not in text
    assert "internal error" not in operator.words()


def statuses(boxes: list[Box]) -> list[Json]:
    """The specs hold what the containers say."""
    return [version.get("status", {}) for box in boxes for version in box.versions]


def forget_peak(operator: Operator) -> None:
    """From here on `resident` tells the most since now (proc(5), clear_refs)."""
    Path(f"/proc/{operator.pid}/clear_refs").write_text("5")


def resident(operator: Operator) -> int:
    """Bytes of memory that the operator has held at most."""
    status = Path(f"/proc/{operator.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10

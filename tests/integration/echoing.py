"""An engine that quotes what it was asked: between the operator and a real one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Self

_HEAD_END = b"\r\n\r\n"


class EchoingEngine:
    """A proxy on a Unix socket in front of an engine's.

    Each status in `answers` is one refusal of the next creation of a container, whose message is
    the whole request; status 0 is the request itself sent back, which is no HTTP answer. All else
    passes.
    """

    def __init__(self, engine: str, socket: Path) -> None:
        self.host = f"unix://{socket}"
        self.answers: list[int] = []
        self._engine = engine.removeprefix("unix://")
        self._socket = socket
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self._socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side went, as in an outage, or the test is over
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection, so that what follows the first needs no parsing."""
        head = await reader.readuntil(_HEAD_END)
        request, *headers = head.decode().rstrip().split("\r\n")
        lengths = [h.split(":")[1] for h in headers if h.lower().startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0]) if lengths else 0)
        if "/containers/create" in request and self.answers:
            writer.write(_refusal(self.answers.pop(0), head + body))
            await writer.drain()
            return
        kept = [h for h in headers if not h.lower().startswith("connection:")]
        upstream, onward = await asyncio.open_unix_connection(self._engine)
        try:
            lines = [request, *kept, "Connection: close"]
            onward.write("\r\n".join(lines).encode() + _HEAD_END + body)
            while part := await upstream.read(65536):
                writer.write(part)
                await writer.drain()
        finally:
            onward.close()


def _refusal(status: int, request: bytes) -> bytes:
    if status == 0:
        return request.partition(_HEAD_END)[2] + _HEAD_END
    answer = json.dumps({"message": f"invalid config: {request.decode()}"}).encode()
    return (
        f"HTTP/1.1 {status} No\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
    ).encode() + answer

"""A connection that can be broken: a TCP or Unix socket in front of another, which it passes on to.

Modes, from the healthy one to the worst:

    pass     every byte, as it comes
    slow     every piece later, by up to 0.4 s
    cut      connections end, new ones are refused
    reset    an answer breaks off midway, the connection is reset
    drop     requests arrive, answers never come
    garbage  half a piece of an answer, then noise, then the end
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_PIECE = 1 << 16
_SLOWEST = 0.4


class Mode(StrEnum):
    PASS = "pass"
    SLOW = "slow"
    CUT = "cut"
    RESET = "reset"
    DROP = "drop"
    GARBAGE = "garbage"


class Link:
    """Listens, and connects each of its connections with one to where `dial` leads."""

    def __init__(self, dial: Callable[[], Awaitable[Stream]], rng: random.Random) -> None:
        self.mode = Mode.PASS
        self.touched = 0
        """How often a mode other than `pass` has met a connection or what it carried."""
        self._dial = dial
        self._rng = rng
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def listen_unix(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def listen_tcp(self) -> int:
        """Returns the port, on loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._end_all()

    async def become(self, mode: Mode) -> None:
        """Change the mode. What a cut or a drop has hurt does not heal: it ends."""
        hurt = self.mode in (Mode.DROP, Mode.CUT) or mode is Mode.CUT
        self.mode = mode
        if hurt:
            self.touched += len(self._open) if mode is Mode.CUT else 0
            await self._end_all()

    async def _end_all(self) -> None:
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._join(reader, writer)
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode is Mode.CUT:
            self.touched += 1
            return
        far_reader, far_writer = await self._dial()
        ways = {
            asyncio.create_task(self._pass_on(reader, far_writer, answer=False)),
            asyncio.create_task(self._pass_on(far_reader, writer, answer=True)),
        }
        try:
            # HTTP needs no half-open connections: the end of one way is that of both.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.transport.abort()

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answer: bool
    ) -> None:
        while data := await source.read(_PIECE):
            if self.mode is Mode.SLOW or (answer and self.mode is not Mode.PASS):
                self.touched += 1
            if self.mode is Mode.SLOW:
                await asyncio.sleep(self._rng.uniform(0, _SLOWEST))
            elif answer and self.mode is Mode.DROP:
                continue
            elif answer and self.mode in (Mode.RESET, Mode.GARBAGE):
                await self._break_off(data, sink)
                return
            sink.write(data)
            await sink.drain()

    async def _break_off(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        sink.write(data[: self._rng.randrange(len(data))])
        if self.mode is Mode.GARBAGE:
            sink.write(self._rng.randbytes(200))
        await sink.drain()
        if self.mode is Mode.RESET and (raw := sink.get_extra_info("socket")) is not None:
            # Zero seconds to linger: the end is a reset (on TCP), and not in order.
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

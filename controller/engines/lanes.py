"""Queues in front of an engine whose client is synchronous: threads for calls of one kind each."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor


class Answers:
    """When the engine answered last, whatever was asked."""

    def __init__(self) -> None:
        self.last = float("-inf")


class Lane:
    """Threads for calls of one kind, and the queue for them: first come, first served."""

    def __init__(self, name: str, width: int, answers: Answers) -> None:
        """`answers` are those of all lanes to one engine."""
        self.width = width
        self.threads = ThreadPoolExecutor(width, name)
        self.losses = 0
        """How many calls found the engine unreachable while it answered no other."""
        self.yielding: Lane | None = None
        """The lane that may go on when this one is empty."""
        self._answers = answers
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def load(self) -> int:
        """Calls under way and waiting."""
        return self._busy + len(self._waiting)

    @property
    def limit(self) -> int:
        """How many may be under way now."""
        return self.width

    def answered(self) -> None:
        """The engine answered a call, if only to refuse it."""
        self._answers.last = asyncio.get_running_loop().time()

    def lost(self, began: float) -> None:
        """A call that began then got no answer. One that hangs while others are answered is its
        own affair, and no reason to give up those that wait: some take long on purpose."""
        if self._answers.last < began:
            self.losses += 1

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncGenerator[None, None]:
        """Wait for a turn, and have a thread for as long as the context lasts."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._busy -= 1
            else:
                self._waiting.remove(turn)
            self._admit()
            if self.yielding is not None and not self.load:
                self.yielding._admit()

    def _admit(self) -> None:
        while self._waiting and self._busy < self.limit:
            if self._waiting[0].cancelled():
                return  # it is leaving, and calls again
            self._busy += 1
            self._waiting.popleft().set_result(None)


class Removals(Lane):
    """A burst of removals leaves the engine's disk to whatever is built meanwhile."""

    def __init__(self, name: str, width: int, answers: Answers, builds: Lane) -> None:
        super().__init__(name, width, answers)
        self._builds = builds
        builds.yielding = self

    @property
    def limit(self) -> int:
        burst = self.load > self.width
        return max(1, self.width // 4) if burst and self._builds.load else self.width

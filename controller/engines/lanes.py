"""Queues in front of an engine whose client is synchronous: threads for calls of one kind each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

from controller.fairness import TENANT, FairSlots


class Answers:
    """When the engine answered last, whatever was asked."""

    def __init__(self) -> None:
        self.last = float("-inf")


class Lane(FairSlots):
    """Threads for calls of one kind, and the queue for them: fair between tenants."""

    def __init__(
        self, name: str, width: int, answers: Answers, *, reserve: int | None = None
    ) -> None:
        """`answers` are those of all lanes to one engine."""
        super().__init__(width, reserve=reserve)
        self.most = width + self.reserve
        """Threads, and so connections to the engine."""
        self.threads = ThreadPoolExecutor(self.most, name)
        self.losses = 0
        """How many calls found the engine unreachable while it answered no other."""
        self.yielding: Lane | None = None
        """The lane that may go on when this one is empty."""
        self._answers = answers

    def answered(self) -> None:
        """The engine answered a call, if only to refuse it."""
        self._answers.last = asyncio.get_running_loop().time()

    def lost(self, began: float) -> None:
        """A call that began then got no answer. One that hangs while others are answered is its
        own affair, and no reason to give up those that wait: some take long on purpose."""
        if self._answers.last < began:
            self.losses += 1

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        """Wait for a turn of the present tenant's, and have a thread for as long as the context
        lasts."""
        try:
            async with self.slot(TENANT.get()):
                yield
        finally:
            if self.yielding is not None and not self.load:
                self.yielding.admit()


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

"""The keyed work queue of the fast lane: every trigger ends here, and one key runs at a time.

The semantics are client-go's: adding a key that waits is nothing, adding one that is being worked
on runs it once more afterwards. Urgent keys (deletions to be marked) go first; those that are only
looked at again (a resync adds all there are at once) come after all others, but not for ever.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict

BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 10.0
IDLE_TURN = 8
"""Every so many keys one of the idle ones has its turn, however many others wait."""


class WorkQueue:
    """Keys to reconcile. Belongs to one event loop."""

    def __init__(self) -> None:
        self._ready: OrderedDict[str, None] = OrderedDict()
        self._urgent: OrderedDict[str, None] = OrderedDict()
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._turn = 0
        self._working: set[str] = set()
        self._again: set[str] = set()
        self._timers: dict[str, tuple[float, asyncio.Handle]] = {}
        """By key, when it is due and the timer. uvloop's handle of what is due at once has no
        `when`."""
        self._failures: dict[str, int] = {}
        self._wakeup = asyncio.Semaphore(0)
        self._unmarked: set[str] = set()
        self._calm = asyncio.Event()
        self._calm.set()

    def __len__(self) -> int:
        waiting = len(self._ready) + len(self._urgent) + len(self._idle)
        return waiting + len(self._working)

    def add(self, key: str, *, urgent: bool = False) -> None:
        """Have the key worked on as soon as possible."""
        if urgent:
            self._unmarked.add(key)
            self._calm.clear()
        if key in self._working:
            self._again.add(key)
            return
        if key in self._urgent or (key in self._ready and not urgent):
            return
        waited = key in self._ready or key in self._idle
        self._ready.pop(key, None)
        self._idle.pop(key, None)
        (self._urgent if urgent else self._ready)[key] = None
        if not waited:
            self._wakeup.release()

    def add_idle(self, key: str) -> None:
        """Have the key worked on when there is nothing better to do."""
        if any(key in keys for keys in (self._working, self._urgent, self._ready, self._idle)):
            return
        self._idle[key] = None
        self._wakeup.release()

    def add_after(self, key: str, seconds: float) -> None:
        """Have the key worked on in so many seconds; of several such times the earliest counts."""
        loop = asyncio.get_running_loop()
        due = loop.time() + max(0.0, seconds)
        timer = self._timers.get(key)
        if timer is not None:
            if timer[0] <= due:
                return
            timer[1].cancel()
        self._timers[key] = due, loop.call_at(due, self._ring, key)

    def _ring(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def get(self) -> str:
        """The next key; `done` must follow."""
        await self._wakeup.acquire()
        keys = self._urgent or self._ready or self._idle
        if self._idle and keys is self._ready:
            self._turn = (self._turn + 1) % IDLE_TURN
            if self._turn == 0:
                keys = self._idle
        key, _ = keys.popitem(last=False)
        self._working.add(key)
        return key

    def done(self, key: str) -> None:
        """The key was worked on; once more, if it was added meanwhile."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key, urgent=key in self._unmarked)

    def marked(self, key: str) -> None:
        """What was urgent about the key is done: its status says DELETING, or it is gone."""
        self._unmarked.discard(key)
        if not self._unmarked:
            self._calm.set()

    @property
    def pressed(self) -> bool:
        """An urgent key waits for a worker: the rest of other keys' work can wait."""
        return bool(self._urgent)

    async def calm(self, at_most_seconds: float) -> None:
        """Wait until no urgent key is unmarked, but no longer than given: the engine's work
        yields to the marking and does not starve."""
        if self._calm.is_set():
            return
        try:
            await asyncio.wait_for(self._calm.wait(), at_most_seconds)
        except TimeoutError:
            return

    def failed(self, key: str, cap_seconds: float = BACKOFF_CAP_SECONDS) -> None:
        """Work on the key failed: again after a backoff that doubles, with jitter, to a cap."""
        self.marked(key)  # nobody waits for one that cannot be marked now
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff: float = min(cap_seconds, BACKOFF_FIRST_SECONDS * 2 ** min(failures, 10))
        self.add_after(key, backoff * random.uniform(0.8, 1.2))  # noqa: S311 - spread, no secret

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)

    def forget(self, key: str) -> None:
        """The key's object is gone."""
        self._failures.pop(key, None)
        self.marked(key)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer[1].cancel()

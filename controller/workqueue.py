"""The keyed work queue of the fast lane: every trigger ends here, and one key runs at a time.

The semantics are client-go's: adding a key that waits is nothing, adding one that is being worked
on runs it once more afterwards. Urgent keys (deletions to be marked) go first; those that are only
looked at again (a resync adds all there are at once) come after all others. Neither keeps others
waiting for ever, and within each class namespaces take turns.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable

from controller.fairness import RoundRobin

BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 10.0
URGENT_TURN = 4
"""Every so many urgent keys another one has its turn: a namespace that deletes for ever does not
keep the others from being created."""
IDLE_TURN = 8
"""Every so many keys one of the idle ones has its turn, however many others wait."""
OTHERS_SECONDS = 0.05
"""How long the engine's work for one namespace yields to the marking of another's deletions."""


class WorkQueue:
    """Keys to reconcile. Belongs to one event loop."""

    def __init__(
        self, tenant: Callable[[str], str] = lambda key: "", *, at_once: int | None = None
    ) -> None:
        """`tenant` gives the namespace of a key; those that it does not know share the namespace
        "". Of one namespace `at_once` keys are worked on at the same time; None: any number."""
        self._tenant = tenant
        self._at_once = at_once
        self._ready: RoundRobin[str] = RoundRobin()
        self._urgent: RoundRobin[str] = RoundRobin()
        self._idle: RoundRobin[str] = RoundRobin()
        self._turn = 0
        self._urgent_turn = 0
        self._working: dict[str, str] = {}
        """Keys that are worked on, and the namespace that each counts for."""
        self._busy: Counter[str] = Counter()
        self._again: set[str] = set()
        self._timers: dict[str, tuple[float, asyncio.Handle]] = {}
        """By key, when it is due and the timer. uvloop's handle of what is due at once has no
        `when`."""
        self._failures: dict[str, int] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._unmarked: dict[str, str] = {}
        """Urgent keys that are not marked, and the namespace of each."""
        self._unmarked_of: Counter[str] = Counter()
        self._calm = asyncio.Event()
        self._calm.set()
        self._calm_of: dict[str, asyncio.Event] = {}

    def __len__(self) -> int:
        waiting = len(self._ready) + len(self._urgent) + len(self._idle)
        return waiting + len(self._working)

    def add(self, key: str, *, urgent: bool = False) -> None:
        """Have the key worked on as soon as possible."""
        if urgent:
            self._note_unmarked(key)
        if key in self._working:
            self._again.add(key)
            return
        if key in self._urgent or (key in self._ready and not urgent):
            return
        self._ready.discard(key)
        self._idle.discard(key)
        (self._urgent if urgent else self._ready).add(key, self._tenant(key))
        self._wake()

    def add_idle(self, key: str) -> None:
        """Have the key worked on when there is nothing better to do."""
        if any(key in keys for keys in (self._working, self._urgent, self._ready, self._idle)):
            return
        self._idle.add(key, self._tenant(key))
        self._wake()

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
        while not (self._urgent or self._ready or self._idle):
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter.cancelled():
                    self._getters.remove(getter)
                else:
                    self._wake()  # it was this one's turn: another's, then
                raise
        key = self._next().pop()
        tenant = self._working[key] = self._tenant(key)
        self._busy[tenant] += 1
        if self._busy[tenant] == self._at_once:
            for keys in (self._urgent, self._ready, self._idle):
                keys.hold(tenant)
        return key

    def _next(self) -> RoundRobin[str]:
        """The class to take a key of. One of them has one."""
        if self._urgent and (self._ready or self._idle):
            self._urgent_turn = (self._urgent_turn + 1) % URGENT_TURN
            if self._urgent_turn:
                return self._urgent
        elif self._urgent:
            return self._urgent
        if self._ready and self._idle:
            self._turn = (self._turn + 1) % IDLE_TURN
            if self._turn == 0:
                return self._idle
        return self._ready or self._idle

    def _wake(self) -> None:
        """Let one more worker look for a key."""
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def done(self, key: str) -> None:
        """The key was worked on; once more, if it was added meanwhile."""
        tenant = self._working.pop(key)
        if self._busy[tenant] == self._at_once:
            for keys in (self._urgent, self._ready, self._idle):
                keys.free(tenant)
            self._wake()
        self._busy[tenant] -= 1
        if not self._busy[tenant]:
            del self._busy[tenant]
        if key in self._again:
            self._again.discard(key)
            self.add(key, urgent=key in self._unmarked)

    def _note_unmarked(self, key: str) -> None:
        if key in self._unmarked:
            return
        tenant = self._unmarked[key] = self._tenant(key)
        self._unmarked_of[tenant] += 1
        self._calm.clear()

    def marked(self, key: str) -> None:
        """What was urgent about the key is done: its status says DELETING, or it is gone."""
        tenant = self._unmarked.pop(key, None)
        if tenant is None:
            return
        self._unmarked_of[tenant] -= 1
        if not self._unmarked_of[tenant]:
            del self._unmarked_of[tenant]
            calm = self._calm_of.pop(tenant, None)
            if calm is not None:
                calm.set()
        if not self._unmarked:
            self._calm.set()

    def pressed(self, key: str) -> bool:
        """An urgent key of the same namespace waits for a worker: the rest of this one's work can
        wait. Another namespace's does not hold it up."""
        return self._urgent.count(self._tenant(key)) > 0

    async def calm(self, at_most_seconds: float, tenant: str) -> None:
        """Wait until no urgent key is unmarked: the engine's work yields to the marking and does
        not starve. It waits no longer than given for keys of the same namespace, and hardly for
        others'."""
        if self._calm.is_set():
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        with_others = min(at_most_seconds, OTHERS_SECONDS)
        try:
            await asyncio.wait_for(self._calm.wait(), with_others)
        except TimeoutError:
            if tenant not in self._unmarked_of:
                return
        else:
            return
        calm = self._calm_of.setdefault(tenant, asyncio.Event())
        try:
            await asyncio.wait_for(calm.wait(), at_most_seconds - (loop.time() - began))
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

"""Fair shares between tenants, a tenant being a namespace (invariant 14).

    RoundRobin   a queue in which tenants take turns, however much each has in line
    FairSlots    so many at once; a free slot goes to the waiting tenant that has least under way

Both are work-conserving: nothing waits while a slot is free that it may have. Neither knows what
it is used for. docs/fairness.md lists where they stand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Hashable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

TENANT: ContextVar[str] = ContextVar("tenant", default="")
"""On whose behalf the present task works. The engine's own queues read it: its verbs name
containers, not tenants. Empty: the operator's own work, such as listing everything."""

LATER_TURN = 4
"""Of so many slots that a tenant gets, one goes to what came with `later`, if that waits."""


def spare(width: int) -> int:
    """How many more there are beyond `width`, which one tenant may have alone: for the others."""
    return max(1, width // 4)


class RoundRobin(Generic[K]):
    """Keys in line by tenant. Each operation takes constant time."""

    def __init__(self) -> None:
        self._tenants: dict[K, str] = {}
        self._lines: OrderedDict[str, OrderedDict[K, None]] = OrderedDict()
        """The tenant whose turn is next comes first."""
        self._held: dict[str, OrderedDict[K, None]] = {}

    def __bool__(self) -> bool:
        """Whether `pop` has a key."""
        return bool(self._lines)

    def __len__(self) -> int:
        return len(self._tenants)

    def __contains__(self, key: K) -> bool:
        return key in self._tenants

    def __iter__(self) -> Iterator[K]:
        return iter(self._tenants)

    def count(self, tenant: str) -> int:
        """How many keys of the tenant are in line."""
        line = self._held.get(tenant)
        return len(self._lines.get(tenant, ()) if line is None else line)

    def add(self, key: K, tenant: str) -> None:
        """Put a key at the end of its tenant's line. One that is in line stays where it is."""
        if key in self._tenants:
            return
        self._tenants[key] = tenant
        line = self._held.get(tenant)
        if line is None:
            line = self._lines.setdefault(tenant, OrderedDict())
        line[key] = None

    def pop(self) -> K:
        """The next tenant's first key. Raises KeyError where no key may go."""
        if not self._lines:
            raise KeyError("nothing may go")
        tenant, line = next(iter(self._lines.items()))
        key, _ = line.popitem(last=False)
        del self._tenants[key]
        if line:
            self._lines.move_to_end(tenant)
        else:
            del self._lines[tenant]
        return key

    def pop_of(self, tenant: str) -> K:
        """The first key of this tenant, out of turn. Raises KeyError where it has none."""
        lines = self._held if tenant in self._held else self._lines
        key = next(iter(lines[tenant]))
        self.discard(key)
        return key

    def discard(self, key: K) -> None:
        tenant = self._tenants.pop(key, None)
        if tenant is None:
            return
        if tenant in self._held:
            del self._held[tenant][key]
            return
        line = self._lines[tenant]
        del line[key]
        if not line:
            del self._lines[tenant]

    def hold(self, tenant: str) -> None:
        """Let none of the tenant's keys go until `free`."""
        if tenant not in self._held:
            self._held[tenant] = self._lines.pop(tenant, OrderedDict())

    def free(self, tenant: str) -> None:
        line = self._held.pop(tenant, None)
        if line:
            self._lines[tenant] = line


@dataclass(eq=False, slots=True)
class _Wait:
    cost: int
    later: bool
    granted: asyncio.Future[Slot]


class Slot:
    """A slot that was granted."""

    __slots__ = ("_cost", "_slots", "_tenant")

    def __init__(self, slots: FairSlots, tenant: str, cost: int) -> None:
        self._slots: FairSlots | None = slots
        self._tenant = tenant
        self._cost = cost

    def release(self, linger: float = 0.0) -> None:
        """Give the slot back; once more is nothing. For `linger` seconds more its cost counts
        against the tenant alone: what was asked for goes on behind the answer."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._release(self._tenant, self._cost, linger)


@dataclass(slots=True)
class _Line:
    """What one tenant waits for."""

    first: OrderedDict[_Wait, None] = field(default_factory=OrderedDict)
    later: OrderedDict[_Wait, None] = field(default_factory=OrderedDict)
    turn: int = 0

    def __len__(self) -> int:
        return len(self.first) + len(self.later)

    def head(self) -> _Wait | None:
        """The next one. Those that were cancelled leave the line."""
        for waits in (self.first, self.later):
            while waits and (wait := next(iter(waits))).granted.cancelled():
                del waits[wait]
        waits = self.first or self.later
        if self.first and self.later and self.turn % LATER_TURN == LATER_TURN - 1:
            waits = self.later
        return next(iter(waits), None)

    def take(self, wait: _Wait) -> None:
        self.turn += 1
        self.discard(wait)

    def discard(self, wait: _Wait) -> None:
        (self.later if wait.later else self.first).pop(wait, None)


class FairSlots:
    """So many at once, shared fairly by tenants. Belongs to one event loop.

    A tenant alone may have all `width` slots, as long as the costs of what it has under way do
    not exceed `share`; one thing is always allowed. One that has nothing under way gets in at once
    even where all slots are taken, as long as one of the `reserve` is free: it does not wait for a
    round of others' slow work. Otherwise a slot that becomes free goes to the tenant that has least
    under way, and among equals to the one whose last turn is longest ago.
    """

    def __init__(self, width: int, *, share: int | None = None, reserve: int | None = None) -> None:
        """`share` None: `width`. `reserve` None: `spare(width)`."""
        self.width = width
        self.share = width if share is None else share
        self.reserve = spare(width) if reserve is None else reserve
        self._used = 0
        self._loads: dict[str, int] = {}
        self._lines: OrderedDict[str, _Line] = OrderedDict()
        """Of tenants that wait; the one whose last turn is longest ago comes first."""

    @property
    def limit(self) -> int:
        """How many may be under way now, the reserve aside. A change needs `admit` called."""
        return self.width

    @property
    def load(self) -> int:
        """How many are under way or wait."""
        return self._used + sum(map(len, self._lines.values()))

    def load_of(self, tenant: str) -> int:
        """The costs of what the tenant has under way."""
        return self._loads.get(tenant, 0)

    @contextlib.asynccontextmanager
    async def slot(
        self, tenant: str, cost: int = 1, *, later: bool = False
    ) -> AsyncGenerator[Slot, None]:
        """Wait for a slot and have it for as long as the context lasts."""
        slot = await self.acquire(tenant, cost, later=later)
        try:
            yield slot
        finally:
            slot.release()

    async def acquire(self, tenant: str, cost: int = 1, *, later: bool = False) -> Slot:
        """Wait for a slot; `release` it. `later`: after the tenant's other work, and without the
        reserve, but not for ever."""
        wait = _Wait(cost, later, asyncio.get_running_loop().create_future())
        line = self._lines.setdefault(tenant, _Line())
        (line.later if later else line.first)[wait] = None
        self.admit()
        try:
            return await wait.granted
        except asyncio.CancelledError:
            if wait.granted.done() and not wait.granted.cancelled():
                wait.granted.result().release()
            else:
                line.discard(wait)
                self.admit()
            raise

    def _release(self, tenant: str, cost: int, linger: float) -> None:
        self._used -= 1
        if linger > 0:
            asyncio.get_running_loop().call_later(linger, self._unload, tenant, cost)
        else:
            self._take_off(tenant, cost)
        self.admit()

    def _unload(self, tenant: str, cost: int) -> None:
        self._take_off(tenant, cost)
        self.admit()

    def _take_off(self, tenant: str, cost: int) -> None:
        left = self._loads[tenant] - cost
        if left:
            self._loads[tenant] = left
        else:
            del self._loads[tenant]

    def admit(self) -> None:
        """Grant what may be granted."""
        while self._used < self.limit + self.reserve and self._lines:
            found = self._next()
            if found is None:
                return
            tenant, wait = found
            line = self._lines[tenant]
            line.take(wait)
            self._lines.move_to_end(tenant)
            if not line:
                del self._lines[tenant]
            self._used += 1
            self._loads[tenant] = self._loads.get(tenant, 0) + wait.cost
            wait.granted.set_result(Slot(self, tenant, wait.cost))

    def _next(self) -> tuple[str, _Wait] | None:
        """The tenant to serve and what it waits for: a pass over those that wait."""
        full = self._used >= self.limit
        best: tuple[str, _Wait] | None = None
        least = 0
        for tenant, line in list(self._lines.items()):
            wait = line.head()
            if wait is None:
                del self._lines[tenant]
                continue
            load = self._loads.get(tenant, 0)
            if load and (full or load + wait.cost > self.share):
                continue
            if full and wait.later:
                continue
            if best is None or load < least:
                best, least = (tenant, wait), load
            if not load:
                break
        return best

"""Pulls of images: one for all that wait for the same image, fair between namespaces, and after a
failure again only after a while.

A pull takes as long as its registry likes, and the author of a Sandbox names the registry. So a
namespace has few at once; how slow one may be is the engine's to bound (PullTooSlow); and who met
a slow registry waits longer each time, whatever becomes of the Sandbox's spec meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller import backoff
from controller.core.reasons import Reason
from controller.engines.base import Engine, EngineRefused, PullTooSlow
from controller.fairness import TENANT, FairSlots

PULLS = 12
"""At once, of all namespaces. An engine downloads few layers at once anyway (Docker: three)."""
PULLS_RESERVE = 4
"""Beyond, for namespaces that pull nothing yet."""
PULLS_OF_A_NAMESPACE = 2
RETRY_FIRST = timedelta(seconds=10)
RETRY_CAP = timedelta(seconds=300)
"""kubelet's figures, and its doubling."""
TRIED_AGAIN = (
    "The operator pulls it again, at first after 10 seconds and later every 5 minutes; "
    "correct spec.image if it is wrong."
)
SLOW_FIRST = timedelta(seconds=10)
SLOW_CAP = timedelta(seconds=60)
"""A pull that was too slow has kept the engine's few downloads from everybody: for so long, doubled
each time, its namespace begins no other pull. A slow registry has as many images as it likes."""
KNOWN_OF_A_NAMESPACE = 100
"""Failures that are remembered; beyond, the oldest of the same namespace is forgotten."""
KNOWN_NAMESPACES = 1000
"""Beyond, those whose failures are old are forgotten."""


class PullFailed(EngineRefused):
    """The pull failed, now or lately."""

    def __init__(self, reason: Reason, message: str, retry_at: datetime) -> None:
        super().__init__(reason, message)
        self.retry_at = retry_at


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is pulled, and as who: only equal ones share a pull."""

    image: str
    credentials: str = ""
    """Empty: the operator's own."""


@dataclass(frozen=True, slots=True)
class _Failure:
    error: EngineRefused
    attempts: int
    retry_at: datetime


@dataclass(eq=False, slots=True)
class _Pull:
    """A pull that is under way or waits for its turn."""

    ended: asyncio.Future[None]
    begun: bool = False
    waiting: Counter[str] = field(default_factory=Counter)
    """How many wait for it, by namespace."""
    turns: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """By namespace, the wait for a slot; the first that gets one pulls for all."""


class Pulls:
    """All pulls of one engine."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._slots = FairSlots(PULLS, share=PULLS_OF_A_NAMESPACE, reserve=PULLS_RESERVE)
        self._pulls: dict[Wanted, _Pull] = {}
        self._backoffs = Backoffs(now)
        self._slow: dict[str, tuple[int, float]] = {}
        """By namespace, how many of its pulls were too slow, and until when it begins no other."""

    async def pull(self, namespace: str, wanted: Wanted) -> None:
        """Have the image pulled, or learn why not. Cancelled, it is given up for this caller, and
        altogether once nobody waits for it.

        Raises PullFailed, EngineError.
        """
        self._backoffs.check(namespace, wanted)
        pull = self._pulls.get(wanted)
        if pull is None:
            pull = self._pulls[wanted] = _Pull(asyncio.get_running_loop().create_future())
        pull.waiting[namespace] += 1
        if not pull.begun and namespace not in pull.turns:
            turn = self._in_turn(namespace, wanted, pull)
            pull.turns[namespace] = asyncio.create_task(turn)
        try:
            await asyncio.shield(pull.ended)
        except EngineRefused:
            self._backoffs.check(namespace, wanted)
            raise
        finally:
            self._leave(namespace, wanted, pull)

    def _leave(self, namespace: str, wanted: Wanted, pull: _Pull) -> None:
        pull.waiting[namespace] -= 1
        if pull.waiting[namespace]:
            return
        del pull.waiting[namespace]
        if not pull.waiting:
            self._end(wanted, pull)
        elif not pull.begun:
            pull.turns.pop(namespace).cancel()

    def _end(self, wanted: Wanted, pull: _Pull) -> None:
        if self._pulls.get(wanted) is pull:
            del self._pulls[wanted]
        for turn in pull.turns.values():
            turn.cancel()
        pull.turns.clear()

    async def _in_turn(self, namespace: str, wanted: Wanted, pull: _Pull) -> None:
        TENANT.set(namespace)
        _, until = self._slow.get(namespace, (0, 0.0))
        await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))
        async with self._slots.slot(namespace):
            pull.begun = True
            mine = pull.turns.pop(namespace)
            for other in pull.turns.values():
                other.cancel()
            pull.turns = {namespace: mine}
            failed: Exception | None = None
            try:
                await self._engine.pull(wanted.image)
            except Exception as error:
                failed = error
        del pull.turns[namespace]  # nobody ends it any more
        self._learn(namespace, wanted, pull, failed)
        self._end(wanted, pull)
        if failed is None:
            pull.ended.set_result(None)
        else:
            pull.ended.set_exception(failed)
            pull.ended.exception()  # whether anybody waits for it or not

    def _learn(self, namespace: str, wanted: Wanted, pull: _Pull, failed: Exception | None) -> None:
        slow, _ = self._slow.pop(namespace, (0, 0.0))
        if isinstance(failed, PullTooSlow):
            pause = backoff.after(slow + 1, SLOW_FIRST, SLOW_CAP)
            until = asyncio.get_running_loop().time() + pause.total_seconds()
            self._slow[namespace] = min(slow + 1, 10), until
        elif slow > 1:
            self._slow[namespace] = slow // 2, 0.0
        for waiting in pull.waiting:
            if failed is None:
                self._backoffs.succeeded(waiting, wanted)
            elif isinstance(failed, EngineRefused):
                self._backoffs.failed(waiting, wanted, failed)


class Backoffs:
    """When a namespace may try an image again. A changed spec changes nothing here: toggling one
    would be a way around."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._failures: OrderedDict[str, OrderedDict[Wanted, _Failure]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._failures.values()))

    def check(self, namespace: str, wanted: Wanted) -> None:
        """Raises PullFailed while it is too early to try again."""
        of_namespace = self._failures.get(namespace)
        failure = of_namespace.get(wanted) if of_namespace is not None else None
        if failure is not None and self._now() < failure.retry_at:
            # No time in it: the status would be written again for each attempt (invariant 5).
            raise PullFailed(
                failure.error.reason,
                f"{failure.error.message.rstrip('. ')}. {TRIED_AGAIN}",
                failure.retry_at,
            )

    def failed(self, namespace: str, wanted: Wanted, error: EngineRefused) -> None:
        of_namespace = self._failures.setdefault(namespace, OrderedDict())
        self._failures.move_to_end(namespace)
        before = of_namespace.pop(wanted, None)
        attempts = 1
        # Long quiet, as kubelet has it: then it counts as new.
        if before is not None and self._now() < before.retry_at + 2 * RETRY_CAP:
            attempts = before.attempts + 1
        retry_at = self._now() + backoff.after(attempts, RETRY_FIRST, RETRY_CAP)
        of_namespace[wanted] = _Failure(error, attempts, retry_at)
        if len(of_namespace) > KNOWN_OF_A_NAMESPACE:
            of_namespace.popitem(last=False)
        if len(self._failures) > KNOWN_NAMESPACES:
            self._prune()

    def succeeded(self, namespace: str, wanted: Wanted) -> None:
        of_namespace = self._failures.get(namespace)
        if of_namespace is not None:
            of_namespace.pop(wanted, None)
            if not of_namespace:
                del self._failures[namespace]

    def _prune(self) -> None:
        """Forget the namespaces whose last failure is old; at least the oldest."""
        now = self._now()
        while len(self._failures) > KNOWN_NAMESPACES:
            self._failures.popitem(last=False)
        for namespace, failures in list(self._failures.items()):
            newest = next(reversed(failures.values()))
            if now < newest.retry_at + 2 * RETRY_CAP:
                return
            del self._failures[namespace]

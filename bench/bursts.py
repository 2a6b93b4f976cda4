"""A hundred at once: created, deleted while they ignore SIGTERM, and sustained lives.

Beside each the same work by docker-py, by as many threads as the operator uses.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from bench.creations import GRACE_SECONDS
from bench.deletions import mark_latency
from bench.figures import Row, at_most, compared, milliseconds, rates, seconds
from bench.lab import Lab
from bench.sandboxes import gone

CREATE_BOUND = 1.10
MARK_BOUND_MS = 300
THROUGHPUT_BOUND = 0.9

_Side = Callable[[], Awaitable[None]]


async def at_once(lab: Lab) -> list[Row]:
    """Rounds of both, the order alternating; a round's containers are gone before the next."""
    spec, count, width = lab.stubborn(), lab.sizes.burst, lab.width
    made, marks, ends = list[float](), list[float](), list[float]()
    others_made, others_ends = list[float](), list[float]()

    async def by_operator() -> None:
        burst = lab.names("burst", count)
        made.append(await lab.sandboxes.create_all(burst, spec))
        began = time.monotonic()
        await asyncio.gather(*(lab.sandboxes.delete(name) for name in burst))
        told = await asyncio.gather(*(lab.sandboxes.until(name, gone) for name in burst))
        ends.append(max(t.at for t in told) - began)
        marks.extend(mark_latency(lab.sandboxes.history(name)) for name in burst)

    async def by_baseline() -> None:
        burst, took = await asyncio.to_thread(lab.baseline.create_all, count, spec, width)
        others_made.append(took)
        ending = lab.baseline.stop_and_remove_all(burst, GRACE_SECONDS)
        await asyncio.to_thread(ending.wait)
        others_ends.append(max(ending.ends) - ending.began)

    await _rounds(lab, f"{count} at once", by_operator, by_baseline)
    mark = at_most(
        "delete-mark-100",
        f"deletionTimestamp to DELETING, {count} at once that ignore SIGTERM",
        milliseconds(marks),
        MARK_BOUND_MS,
    )
    return [
        compared(
            "create-100",
            f"{count} at once, until the last is RUNNING; docker-py: {width} threads",
            seconds(made),
            seconds(others_made),
            CREATE_BOUND,
        ),
        replace(mark, curve=f"{count} at once"),
        compared(
            "delete-mark-100",
            f"delete until all {count} are gone; docker-py: stop + remove, a thread each",
            seconds(ends),
            seconds(others_ends),
            note=f"both wait out {GRACE_SECONDS} s of grace",
        ),
    ]


async def throughput(lab: Lab) -> list[Row]:
    """Whole lives a second, as many in flight as the operator creates containers at once.

    Operator: POST, RUNNING, DELETE, gone. docker-py: create, start, stop, remove with volumes, by
    a pool of threads of equal width.
    """
    spec, lives, width = lab.spec(), lab.sizes.lives, lab.width
    operator, baseline = list[float](), list[float]()

    async def by_operator() -> None:
        waiting = deque(lab.names("life", lives))

        async def work() -> None:
            while waiting:
                name = waiting.popleft()
                await lab.sandboxes.create_running(name, spec)
                await lab.sandboxes.remove_all([name])

        began = time.monotonic()
        await asyncio.gather(*(work() for _ in range(width)))
        operator.append(lives / (time.monotonic() - began))

    def live_all() -> float:
        began = time.monotonic()
        with ThreadPoolExecutor(width) as pool:
            list(pool.map(lambda _: lab.baseline.live(spec, GRACE_SECONDS), range(lives)))
        return lives / (time.monotonic() - began)

    async def by_baseline() -> None:
        baseline.append(await asyncio.to_thread(live_all))

    await _rounds(lab, f"{lives} lives, {width} in flight", by_operator, by_baseline)
    what = f"create and delete, {lives} lives, {width} in flight; docker-py: {width} threads"
    return [compared("throughput", what, rates(operator), rates(baseline), THROUGHPUT_BOUND)]


async def _rounds(lab: Lab, what: str, by_operator: _Side, by_baseline: _Side) -> None:
    for i in lab.track(range(lab.sizes.rounds), what):
        sides = (by_operator, by_baseline)
        for run in reversed(sides) if i % 2 else sides:
            await run()

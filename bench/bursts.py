"""A hundred at once: created, deleted while they ignore SIGTERM, and sustained lives.

Beside each the same work by docker-py, by as many threads as the operator uses.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise

from bench.creations import GRACE_SECONDS
from bench.deletions import mark_latency
from bench.figures import Row, at_most, compared, milliseconds, rates, seconds
from bench.lab import Lab

CREATE_BOUND = 1.10
MARK_BOUND_MS = 300
THROUGHPUT_BOUND = 0.9
SLICE = 10
"""So many ended lives make one sample of a rate."""

_Side = Callable[[], Awaitable[None]]


async def at_once(lab: Lab) -> list[Row]:
    """Rounds of both, the order alternating; a round's containers are gone before the next."""
    spec, count, width = lab.stubborn(), lab.sizes.burst, lab.width
    made, marks, ends = list[float](), list[float](), list[float]()
    others_made, others_ends = list[float](), list[float]()

    async def by_operator() -> None:
        burst = lab.names("burst", count)
        await lab.sandboxes.connect()
        made.append(await lab.sandboxes.create_all(burst, spec))
        await lab.sandboxes.connect()
        began = time.monotonic()
        gone = await asyncio.gather(*(lab.sandboxes.remove(name) for name in burst))
        ends.append(max(gone) - began)
        marks.extend(mark_latency(lab.sandboxes.history(name)) for name in burst)

    async def by_baseline() -> None:
        burst, took = await asyncio.to_thread(lab.baseline.create_all, count, spec, width)
        others_made.append(took)
        ending = lab.baseline.stop_and_remove_all(burst, GRACE_SECONDS)
        await asyncio.to_thread(ending.wait)
        others_ends.append(max(ending.ends) - ending.began)

    sides = by_operator, by_baseline
    await _rounds(lab, lab.sizes.rounds, f"{count} at once", *sides)
    mark = at_most(
        "delete-mark-100",
        f"deletionTimestamp to DELETING, {count} at once that ignore SIGTERM",
        milliseconds(marks),
        MARK_BOUND_MS,
    )
    end = compared(
        "delete-mark-100",
        f"delete until all {count} are gone; docker-py: stop + remove, a thread each",
        seconds(ends),
        seconds(others_ends),
        note=f"both wait out {GRACE_SECONDS} s of grace",
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
        replace(end, yardstick=False),
    ]


async def throughput(lab: Lab) -> list[Row]:
    """Whole lives a second: as many in flight as the operator creates containers at once, and as
    many as a burst has.

    Operator: POST, RUNNING, DELETE, gone. docker-py: create, start, stop, remove with volumes, by
    a pool of threads as wide as the operator's; it is beside both.
    """
    spec, width = lab.spec(), lab.width
    lives = {width: lab.sizes.lives, lab.sizes.burst: 2 * lab.sizes.lives}
    operator = {in_flight: list[float]() for in_flight in lives}
    took = {in_flight: list[float]() for in_flight in lives}
    baseline, others_took = list[float](), list[float]()

    async def by_operator(in_flight: int) -> None:
        waiting, ends = deque(lab.names("life", lives[in_flight])), list[float]()

        async def work() -> None:
            while waiting:
                name = waiting.popleft()
                await lab.sandboxes.create_running(name, spec)
                ends.append(await lab.sandboxes.remove(name))

        await lab.sandboxes.connect()
        began = time.monotonic()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        operator[in_flight] += slice_rates(began, ends)
        took[in_flight].append(max(ends) - began)

    def live(_: int) -> float:
        lab.baseline.live(spec, GRACE_SECONDS)
        return time.monotonic()

    def live_all() -> list[float]:
        began = time.monotonic()
        with ThreadPoolExecutor(width) as pool:
            ends = list(pool.map(live, range(lives[width])))
        others_took.append(max(ends) - began)
        return slice_rates(began, ends)

    async def by_baseline() -> None:
        baseline.extend(await asyncio.to_thread(live_all))

    def whole(count: int, rounds: list[float]) -> str:
        return f"{count * len(rounds) / sum(rounds):.2f}"

    narrow, wide = (partial(by_operator, in_flight) for in_flight in lives)
    await _rounds(lab, lab.sizes.life_rounds, "whole lives", narrow, by_baseline, wide)
    return [
        compared(
            "throughput",
            f"create and delete, {count} lives, {in_flight} in flight; docker-py: {width} threads",
            rates(operator[in_flight]),
            rates(baseline),
            THROUGHPUT_BOUND,
            note=f"a sample is {SLICE} lives; whole rounds {whole(count, took[in_flight])}/s,"
            f" docker-py {whole(lives[width], others_took)}/s",
        )
        for in_flight, count in lives.items()
    ]


def slice_rates(began: float, ends: Iterable[float]) -> list[float]:
    """Lives a second in each window that `SLICE` of them ended in, one after the other; the rest
    at the end, when fewer are in flight, is left out."""
    marks = [began, *sorted(ends)[SLICE - 1 :: SLICE]]
    return [SLICE / (until - since) for since, until in pairwise(marks)]


async def _rounds(lab: Lab, count: int, what: str, *sides: _Side) -> None:
    for i in lab.track(range(count), what):
        for run in reversed(sides) if i % 2 else sides:
            await run()

"""What the operator costs as more sandboxes run, and with stopped containers about.

`grow` makes the population that the scenarios after it have in the background.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle

from bench.creations import Pairs, in_pairs
from bench.deletions import mark_latency
from bench.figures import WARM_UP, Figures, Point, Row, at_most, compared, milliseconds, seconds
from bench.lab import Lab
from bench.reactions import restart_once
from bench.resting import CPU_BOUND_PERCENT, SETTLE_SECONDS, idle_percent, idle_rows
from bench.sandboxes import in_phase
from bench.usage import cpu_seconds
from controller.engines.docker import DockerEngine

ROUNDS = 5
"""Of events: their median leaves out the one in which a resync fell."""
SECONDS_BETWEEN_EVENTS = 0.02
"""Far longer than one takes, so that no two are handled as one."""
EVENT_TARGETS = 10
"""So many Sandboxes get the events at each step, or all where there are fewer."""
LISTINGS = 10


async def grow(lab: Lab) -> list[Row]:
    """The population grows step by step; the same is measured at each."""
    rows = []
    for step in lab.sizes.steps:
        await lab.populate(step)
        await lab.rest(SETTLE_SECONDS, "settling")
        rows += await _costs(lab, step)
        if step < lab.sizes.population:  # there the scenario idle does the same
            used = await idle_percent(lab, lab.operator, lab.sizes.step_idle_seconds)
            rows += idle_rows(lab, "scale", step, used)
    return rows


async def _costs(lab: Lab, step: int) -> list[Row]:
    pairs = await in_pairs(lab, lab.sizes.step_singles, f"create, {step} running")
    event = await _event_costs(lab)
    running = f"{step} running"
    create = _create("scale", f"{running}: POST to RUNNING; docker-py: create + start", pairs)
    others = (
        ("deletionTimestamp to DELETING", _marks(lab, pairs)),
        ("processor time of a life", milliseconds(pairs.processor)),
        ("processor time of an event", milliseconds(event)),
    )
    return [
        replace(create, point=Point("create to RUNNING", step)),
        *(
            Row("scale", f"{running}: {what}", figures, point=Point(what, step))
            for what, figures in others
        ),
    ]


async def _event_costs(lab: Lab) -> list[float]:
    """Seconds of processor time for each event that needs nothing done: a changed annotation."""
    targets, took = cycle(lab.population[:EVENT_TARGETS]), []
    count = lab.sizes.step_events // ROUNDS
    for number in lab.track(range(ROUNDS), f"events, {len(lab.population)} running"):
        before = cpu_seconds(lab.operator.process)
        for i in range(count):
            await lab.sandboxes.annotate(next(targets), {"bench": f"{number}-{i}"})
            await asyncio.sleep(SECONDS_BETWEEN_EVENTS)
        took.append((cpu_seconds(lab.operator.process) - before) / count)
    return took


async def stopped(lab: Lab) -> list[Row]:
    """With ever more stopped containers on the engine: none, then our own of Sandboxes that are
    paused by Stop, then a thousand of others besides. What a resync and each deletion ask of the
    engine is a listing of our own, which it finds among all that it has."""
    await lab.populate()
    ours, others = lab.sizes.stopped_ours, lab.sizes.stopped
    none = await _among_stopped(lab, "none stopped")
    paused = await _pause_some(lab, ours)
    try:
        ours_too = await _among_stopped(lab, f"{ours} of ours stopped")
        await _leave_stopped(lab, others)
        all_too = await _among_stopped(lab, f"{ours} of ours and {others} of others stopped")
    finally:
        await asyncio.to_thread(lab.baseline.start_over)
    await lab.end_all(paused)
    return [
        *none.rows(lab, 0),
        *ours_too.rows(lab, ours, none),
        *all_too.rows(lab, ours + others, none),
    ]


@dataclass(frozen=True)
class _Stopped:
    """What was measured with some containers stopped."""

    what: str
    listings: list[float]
    pairs: Pairs
    idle_percent: float
    restart: float

    def rows(self, lab: Lab, count: int, none: _Stopped | None = None) -> list[Row]:
        """`count` are stopped; `none`: the same without any."""
        listing = "listing all of ours as a resync does"
        create = "POST to RUNNING"
        percent = Figures.of([self.idle_percent], "%")
        listed = Row("stopped", f"{self.what}: {listing}", milliseconds(self.listings))
        if none is not None:
            alone = milliseconds(none.listings)
            listed = compared("stopped", listed.what, listed.operator, alone)
        told = {
            listing: replace(listed, beside="none stopped"),
            create: _create(
                "stopped", f"{self.what}: {create}; docker-py: create + start", self.pairs
            ),
            "deletionTimestamp to DELETING": Row(
                "stopped",
                f"{self.what}: deletionTimestamp to DELETING",
                _marks(lab, self.pairs),
            ),
            "part of a core at rest": at_most(
                "stopped", f"{self.what}, at rest: part of a core", percent, CPU_BOUND_PERCENT
            ),
            "restart until converged": Row(
                "stopped", f"{self.what}: restart until converged", seconds([self.restart])
            ),
        }
        return [
            replace(row, point=Point(f"with so many stopped: {series}", count))
            for series, row in told.items()
        ]


async def _among_stopped(lab: Lab, what: str) -> _Stopped:
    await lab.rest(SETTLE_SECONDS, "settling")
    listings = await _listings(lab)
    pairs = await in_pairs(lab, lab.sizes.step_singles, f"create, {what}")
    used = await idle_percent(lab, lab.operator, lab.sizes.step_idle_seconds)
    return _Stopped(what, listings, pairs, used, await restart_once(lab))


async def _pause_some(lab: Lab, count: int) -> list[str]:
    """So many Sandboxes that were stopped by being paused."""
    boxes = await lab.run_all("paused", count, lab.spec(pauseMethod="Stop"))
    await asyncio.gather(*(lab.sandboxes.pause(name) for name in boxes))
    await asyncio.gather(*(lab.sandboxes.until(name, in_phase("PAUSED")) for name in boxes))
    return boxes


async def _listings(lab: Lab) -> list[float]:
    """Seconds that a full listing takes by the operator's own engine, nothing known before."""
    took, engine = list[float](), DockerEngine(lab.owner, base_url=lab.docker_host)
    try:
        for _ in range(LISTINGS + WARM_UP):
            began = time.monotonic()
            await engine.list()
            took.append(time.monotonic() - began)
    finally:
        await engine.close()
    return took[WARM_UP:]


async def _leave_stopped(lab: Lab, count: int) -> None:
    spec = lab.spec(command=["true"], ports=[])
    task = lab.progress.add_task(f"leaving {count} stopped containers", total=count)
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(lab.width) as pool:

        async def one() -> None:
            await loop.run_in_executor(pool, lab.baseline.leave_stopped, spec)
            lab.progress.advance(task)

        await asyncio.gather(*(one() for _ in range(count)))
    lab.progress.remove_task(task)


def _create(scenario: str, what: str, pairs: Pairs) -> Row:
    return compared(scenario, what, milliseconds(pairs.operator), milliseconds(pairs.baseline))


def _marks(lab: Lab, pairs: Pairs) -> Figures:
    return milliseconds(mark_latency(lab.sandboxes.history(name)) for name in pairs.deleted)

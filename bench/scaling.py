"""What the operator costs as more sandboxes run, and with stopped containers of others about.

`grow` makes the population that the scenarios after it have in the background.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle

from bench.creations import Pairs, in_pairs
from bench.deletions import mark_latency
from bench.figures import Figures, Point, Row, at_most, compared, milliseconds, seconds
from bench.lab import Lab
from bench.reactions import restart_once
from bench.resting import CPU_BOUND_PERCENT, SETTLE_SECONDS, idle_percent, idle_rows
from bench.usage import cpu_seconds
from controller.engines.docker import DockerEngine

ROUNDS = 5
"""Of events: their median leaves out the one in which a resync fell."""
SECONDS_BETWEEN_EVENTS = 0.02
"""Far longer than one takes, so that no two are handled as one."""
LISTINGS = 10


async def grow(lab: Lab) -> list[Row]:
    """The population grows step by step; the same is measured at each."""
    rows = []
    for step in lab.sizes.steps:
        await lab.populate(step)
        await lab.rest(SETTLE_SECONDS, "settling")
        rows += await _costs(lab, step)
        if step < lab.sizes.population:  # there the scenario idle does the same
            used = await idle_percent(lab, lab.sizes.step_idle_seconds)
            rows += idle_rows(lab, "scale", step, used)
    return rows


async def _costs(lab: Lab, step: int) -> list[Row]:
    pairs = await in_pairs(lab, lab.sizes.step_singles, f"create, {step} running")
    event = await _event_costs(lab)
    running = f"{step} running"
    create = _create(f"{running}: POST to RUNNING; docker-py: create + start", pairs)
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
    targets, count, took = cycle(lab.population), lab.sizes.step_events // ROUNDS, []
    for number in lab.track(range(ROUNDS), f"events, {len(lab.population)} running"):
        before = cpu_seconds(lab.operator.process)
        for i in range(count):
            await lab.sandboxes.annotate(next(targets), {"bench": f"{number}-{i}"})
            await asyncio.sleep(SECONDS_BETWEEN_EVENTS)
        took.append((cpu_seconds(lab.operator.process) - before) / count)
    return took


async def stopped(lab: Lab) -> list[Row]:
    """With a thousand stopped containers of others on the engine. What a resync and each deletion
    ask of it is a listing of our own, which the engine finds among all that it has."""
    running, count = len(await lab.populate()), lab.sizes.stopped
    alone = await _listings(lab)
    await _leave_stopped(lab, count)
    try:
        await lab.rest(SETTLE_SECONDS, "settling")
        among = await _listings(lab)
        pairs = await in_pairs(lab, lab.sizes.step_singles, f"create, {count} stopped")
        used = await idle_percent(lab, lab.sizes.step_idle_seconds)
        restart = await restart_once(lab)
    finally:
        await asyncio.to_thread(lab.baseline.start_over)
    listing = compared(
        "stopped",
        f"listing our {running} as a resync does; beside it: before the {count}",
        milliseconds(among),
        milliseconds(alone),
    )
    what = f"{count} stopped containers of others"
    percent = Figures.of([used], "%")
    return [
        replace(listing, beside="without them"),
        replace(
            _create(f"{what}: POST to RUNNING; docker-py: create + start", pairs),
            scenario="stopped",
        ),
        Row("stopped", f"{what}: deletionTimestamp to DELETING", _marks(lab, pairs)),
        at_most("stopped", f"{what}, at rest: part of a core", percent, CPU_BOUND_PERCENT),
        Row("stopped", f"{what}: restart until converged", seconds([restart])),
    ]


async def _listings(lab: Lab) -> list[float]:
    """Seconds that a full listing takes by the operator's own engine, nothing known before."""
    took, engine = list[float](), DockerEngine(lab.owner, base_url=lab.docker_host)
    try:
        for _ in range(LISTINGS + 1):
            began = time.monotonic()
            await engine.list()
            took.append(time.monotonic() - began)
    finally:
        await engine.close()
    return took[1:]  # the first connects


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


def _create(what: str, pairs: Pairs) -> Row:
    return compared("scale", what, milliseconds(pairs.operator), milliseconds(pairs.baseline))


def _marks(lab: Lab, pairs: Pairs) -> Figures:
    return milliseconds(mark_latency(lab.sandboxes.history(name)) for name in pairs.deleted)

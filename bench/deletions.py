"""How soon a deletion shows, and how long it takes: one at a time, and a hundred at once.

DELETING counts from the watch event that carries deletionTimestamp to the one with the phase, on
one watch: what the caller of delete waits for is over before.
"""

from __future__ import annotations

import asyncio
import time

from bench.creations import GRACE_SECONDS
from bench.figures import WARM_UP, Row, at_most, compared, milliseconds, seconds
from bench.lab import Lab
from bench.sandboxes import Told, gone, in_phase

SINGLE_BOUND_MS = 50
BURST_BOUND_MS = 300


async def one_at_a_time(lab: Lab) -> list[Row]:
    """Each is gone before the next is deleted."""
    marks, ends = [], []
    doomed = await lab.run_all("mark", lab.sizes.deletions + WARM_UP, lab.spec())
    for name in lab.track(doomed, "delete, one at a time"):
        began = time.monotonic()
        await lab.sandboxes.delete(name)
        ends.append((await lab.sandboxes.until(name, gone)).at - began)
        marks.append(mark_latency(lab.sandboxes.history(name)))
    what = "deletionTimestamp to DELETING, one at a time"
    return [
        at_most("delete-mark", what, milliseconds(marks[WARM_UP:]), SINGLE_BOUND_MS),
        Row("delete-mark", "delete until gone, nobody waits", milliseconds(ends[WARM_UP:])),
    ]


async def at_once(lab: Lab) -> list[Row]:
    """A hundred that ignore SIGTERM; beside it, docker-py's stop and remove by a thread each."""
    marks, ends, others = list[float](), list[float](), list[float]()
    burst = lab.sizes.burst
    for _ in lab.track(range(lab.sizes.rounds), f"delete, {burst} at once"):
        doomed = await lab.run_all("doomed", burst, lab.stubborn())
        began = time.monotonic()
        await asyncio.gather(*(lab.sandboxes.delete(name) for name in doomed))
        told = await asyncio.gather(*(lab.sandboxes.until(name, gone) for name in doomed))
        ends.append(max(t.at for t in told) - began)
        marks += [mark_latency(lab.sandboxes.history(name)) for name in doomed]
        others.append(await asyncio.to_thread(_by_docker, lab))
    what = f"deletionTimestamp to DELETING, {burst} at once that ignore SIGTERM"
    gone_what = f"delete until all {burst} are gone; docker-py: stop + remove, a thread each"
    return [
        at_most("delete-mark-100", what, milliseconds(marks), BURST_BOUND_MS),
        compared(
            "delete-mark-100",
            gone_what,
            seconds(ends),
            seconds(others),
            note=f"both wait out {GRACE_SECONDS} s of grace",
        ),
    ]


def mark_latency(history: list[Told]) -> float:
    """Seconds from deletionTimestamp to DELETING."""
    asked = next(told for told in history if told.marked)
    shown = next(told for told in history if in_phase("DELETING")(told))
    return shown.at - asked.at


def _by_docker(lab: Lab) -> float:
    doomed, _ = lab.baseline.create_all(lab.sizes.burst, lab.stubborn(), lab.width)
    ending = lab.baseline.stop_and_remove_all(doomed, GRACE_SECONDS)
    ending.wait()
    return max(ending.ends) - ending.began

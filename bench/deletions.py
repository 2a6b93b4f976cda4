"""How soon a deletion shows, and how long it takes: one at a time, and as applications do it.

DELETING counts from the watch event that carries deletionTimestamp to the one with the phase, on
one watch: what the caller of delete waits for is over before.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from bench.creations import GRACE_SECONDS
from bench.figures import WARM_UP, Row, at_most, compared, milliseconds
from bench.lab import Lab
from bench.sandboxes import Told, gone, in_phase

SINGLE_BOUND_MS = 50
SECONDS_BETWEEN = 1.0
"""From one delete to the next as applications do them: each does its work alone, and only the
grace periods overlap."""
OPENHANDS = "OpenHands' request, the user waits"
VOLUMES = [{"name": "work", "mountPath": "/work", "managed": {}}]


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
    mark = at_most("delete-mark", what, milliseconds(marks[WARM_UP:]), SINGLE_BOUND_MS)
    return [
        replace(mark, curve="one at a time"),
        Row("delete-mark", "delete until gone, nobody waits", milliseconds(ends[WARM_UP:])),
    ]


async def as_applications_do(lab: Lab) -> list[Row]:
    """What who deletes waits for: our DELETE call, beside the request in which OpenHands stops the
    container, removes it, and removes its volume. What goes on after our call nobody waits for."""
    rows = []
    for kind, what, spec in (
        ("heeds", "heeds SIGTERM", lab.spec(volumes=VOLUMES)),
        ("ignores", "ignores SIGTERM", lab.stubborn() | {"volumes": VOLUMES}),
    ):
        ours = await _by_operator(lab, kind, spec)
        theirs = milliseconds(await _by_request(lab, kind, spec))
        for told, waited in (
            ("the user waits until the DELETE call returns", ours.called),
            ("nobody waits until DELETING shows", ours.shown),
            ("nobody waits until all is gone", ours.gone),
        ):
            row = compared(
                "app-delete",
                f"{what}: {told}; beside it: until stop({GRACE_SECONDS}), remove, volume",
                milliseconds(waited),
                theirs,
            )
            curve = f"{what}: {told.partition('until ')[2]}"
            # It sleeps most of the time, so it is no yardstick for a call of milliseconds.
            rows.append(replace(row, curve=curve, beside=OPENHANDS, yardstick=False))
    return rows


@dataclass(frozen=True)
class _Waited:
    """Seconds from the DELETE call on."""

    called: list[float] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    gone: list[float] = field(default_factory=list)


async def _by_operator(lab: Lab, kind: str, spec: dict[str, Any]) -> _Waited:
    waited = _Waited()

    async def delete(name: str) -> None:
        began = time.monotonic()
        await lab.sandboxes.delete(name)
        waited.called.append(time.monotonic() - began)
        waited.shown.append((await lab.sandboxes.until(name, in_phase("DELETING"))).at - began)
        waited.gone.append((await lab.sandboxes.until(name, gone)).at - began)

    doomed = await lab.run_all(kind, lab.sizes.applications, spec)
    async with asyncio.TaskGroup() as group:
        for name in lab.track(doomed, f"delete by the operator, {kind} SIGTERM"):
            group.create_task(delete(name))
            await asyncio.sleep(SECONDS_BETWEEN)
    return waited


async def _by_request(lab: Lab, kind: str, spec: dict[str, Any]) -> list[float]:
    baseline, count, loop = lab.baseline, lab.sizes.applications, asyncio.get_running_loop()
    doomed, _ = await asyncio.to_thread(baseline.create_all, count, spec, lab.width)
    with ThreadPoolExecutor(count) as requests:
        waiting = []
        for made in lab.track(doomed, f"delete in a request, {kind} SIGTERM"):
            waiting.append(
                loop.run_in_executor(
                    requests, baseline.delete_as_applications_do, made, GRACE_SECONDS
                )
            )
            await asyncio.sleep(SECONDS_BETWEEN)
        return await asyncio.gather(*waiting)


def mark_latency(history: list[Told]) -> float:
    """Seconds from deletionTimestamp to DELETING."""
    asked = next(told for told in history if told.marked)
    shown = next(told for told in history if in_phase("DELETING")(told))
    return shown.at - asked.at

"""What the operator adds to a loop that makes the same writes and calls and decides nothing.

The floor is `bench.floor`, a process of its own. `processor` compares whole lives on Docker; the
others run over an engine that answers at once (`bench.instant`), on an API server of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.audit import USER
from bench.deletions import mark_latency
from bench.figures import (
    FLOOR,
    WARM_UP,
    Figures,
    Point,
    Row,
    at_most,
    compared,
    milliseconds,
    rates,
)
from bench.floor import Outcome, Task
from bench.instant import IMAGE, engine_kilobytes
from bench.lab import DURABLE, Lab, Operator
from bench.resting import idle_percent
from bench.sandboxes import NAMESPACE, Sandboxes
from bench.usage import cpu_seconds, resident_mb
from controller.settings import Settings
from dev import cluster, pki
from dev.apiserver import ADMIN_GROUP, ControlPlane
from dev.binaries import ensure_binaries
from dev.progress import DevError

PROCESSOR_BOUND = 1.5
LATENCY_BOUND = 1.5
THROUGHPUT_BOUND = 0.7
MEMORY_BOUND_KB = 20
FLAT = 1.1
IN_FLIGHT = 10
ROUNDS = 3
PROCESSOR_ROUNDS = 5
EVENT_ROUNDS = 5
"""Their median leaves out the round in which a resync fell."""
FEW = 100
BETWEEN = (1000,)
SETTLE_SECONDS = 2.0
START_SECONDS = 10.0
"""Far longer than the operator takes to start among 500."""
RESYNC_SECONDS = float(Settings.model_fields["resync_seconds"].default)
MEASURED = 500
"""Containers whose memory in the instant engine is told."""


class Instant:
    """An operator over an instant engine, its API server, and a client."""

    def __init__(self, plane: ControlPlane, operator: Operator, sandboxes: Sandboxes) -> None:
        self.plane = plane
        self.operator = operator
        self.sandboxes = sandboxes
        self._made = 0

    def names(self, count: int) -> list[str]:
        first, self._made = self._made, self._made + count
        return [f"box-{i}" for i in range(first, self._made)]

    def spec(self, lab: Lab) -> dict[str, Any]:
        return lab.spec(image=IMAGE)

    async def create(self, lab: Lab, boxes: list[str], in_flight: int) -> list[float]:
        """Create them, so many in flight; seconds of each from its POST to RUNNING."""
        waiting, spec = iter(boxes), self.spec(lab)
        took = list[float]()

        async def take() -> None:
            for box in waiting:
                took.append(await self.sandboxes.create_running(box, spec))

        await asyncio.gather(*(take() for _ in range(in_flight)))
        return took


@asynccontextmanager
async def instant(lab: Lab) -> AsyncIterator[Instant]:
    """Everything of the instant kind, running; removed at the end."""
    async with AsyncExitStack() as undo:
        work = Path(tempfile.mkdtemp(prefix="sandbox-operator-bench-"))
        undo.callback(shutil.rmtree, work, ignore_errors=True)
        plane = ControlPlane(work / "cluster", ensure_binaries(), durable=DURABLE)
        undo.callback(plane.stop)
        await asyncio.to_thread(plane.start)
        await asyncio.to_thread(cluster.install_crds, plane.kubeconfig)
        kubeconfig = plane.kubeconfig_for(USER, [ADMIN_GROUP])
        # The floor's Sandboxes, in another namespace, are none of its business.
        operator = Operator(
            kubeconfig, lab.docker_host, work / "log", "bench.instant", namespaces=NAMESPACE
        )
        undo.callback(operator.stop)
        sandboxes = await undo.enter_async_context(Sandboxes(plane))
        operator.start()
        running = Instant(plane, operator, sandboxes)
        await running.create(lab, running.names(WARM_UP), 1)
        yield running


async def floor(plane: ControlPlane, sample: dict[str, Any], **task: Any) -> Outcome:
    """Run the floor. `sample` is a RUNNING Sandbox of the operator's. Raises DevError."""
    keys = plane.directory / "pki"
    certificate, key = pki.client(keys, "bench", [ADMIN_GROUP])
    order = Task(
        url=plane.url,
        authority=str(keys / "ca.crt"),
        certificate=str(certificate),
        key=str(key),
        spec=sample["spec"],
        status=sample["status"],
        **task,
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.floor",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cluster.CHECKOUT,
        env=dict(os.environ),
    )
    printed, complaints = await process.communicate(json.dumps(asdict(order)).encode())
    if process.returncode:
        raise DevError(f"the floor failed: {complaints.decode(errors='replace')[-1000:]}")
    return Outcome(**json.loads(printed))


async def latency_and_throughput(lab: Lab) -> list[Row]:
    """POST to RUNNING, one at a time and ten in flight."""
    size = lab.sizes.instant
    ours, floors = list[float](), list[float]()
    reached, floor_reached = list[float](), list[float]()
    async with instant(lab) as running:
        sample = running.sandboxes.last("box-0").obj

        async def by_operator(number: int) -> None:
            ours.extend(await running.create(lab, running.names(size), 1))
            began = time.monotonic()
            await running.create(lab, running.names(size * 3), IN_FLIGHT)
            reached.append(size * 3 / (time.monotonic() - began))

        async def by_floor(number: int) -> None:
            task = {"prefix": f"floor-{number}", "delete": False}
            one = await floor(running.plane, sample, lives=size, in_flight=1, **task)
            floors.extend(one.creations)
            task["prefix"] = f"floors-{number}"
            ten = await floor(running.plane, sample, lives=size * 3, in_flight=IN_FLIGHT, **task)
            floor_reached.append(size * 3 / ten.all_created)

        for number in lab.track(range(ROUNDS), "instant engine"):
            sides = (by_operator, by_floor)
            for run in reversed(sides) if number % 2 else sides:
                await run(number)
    one = compared(
        "instant",
        "POST to RUNNING, one at a time",
        milliseconds(ours),
        milliseconds(floors),
        LATENCY_BOUND,
        note="aim: 20 ms, then 10 ms; agent-sandbox, measured elsewhere: 41-47 ms",
    )
    many_at_once = compared(
        "instant",
        f"to RUNNING a second, {IN_FLIGHT} in flight",
        rates(reached),
        rates(floor_reached),
        THROUGHPUT_BOUND,
        note="aim: 60/s; agent-sandbox, measured elsewhere: 15-18/s",
    )
    return [replace(one, beside=FLOOR, curve="create"), replace(many_at_once, beside=FLOOR)]


async def processor(lab: Lab) -> list[Row]:
    """Processor time of the operator's process for whole lives on Docker, among all that run. A
    round begins soon after a start, so that a resync seldom falls into one, and the median leaves
    out the few."""
    lives, width = lab.sizes.processor_lives, lab.width
    ours, floors = list[float](), list[float]()
    (first,) = lab.names("sample", 1)
    await lab.sandboxes.create_running(first, lab.spec())
    sample = lab.sandboxes.last(first).obj
    writes = resyncs = 0
    for number in lab.track(range(PROCESSOR_ROUNDS), "whole lives"):
        # The floor's Sandboxes are nobody's: the operator stands still meanwhile.
        lab.operator.stop()
        try:
            outcome = await floor(
                lab.plane,
                sample,
                lives=lives,
                in_flight=width,
                prefix=f"floor-{number}",
                docker_host=lab.docker_host,
                container=lab.baseline.body(sample["spec"]),
                threads=width,
            )
        finally:
            lab.operator.start()
        started = time.monotonic()
        floors.append(outcome.processor / lives * 1000)
        writes = outcome.writes // lives
        (again,) = lab.names("again", 1)
        await lab.sandboxes.create_running(again, lab.spec())
        await lab.sandboxes.remove_all([again])
        await lab.rest(START_SECONDS, "settling")
        boxes = lab.names("life", lives)
        before = cpu_seconds(lab.operator.process)
        waiting = iter(boxes)

        async def take(waiting: Any = waiting) -> None:
            for box in waiting:
                await lab.sandboxes.create_running(box, lab.spec())

        await asyncio.gather(*(take() for _ in range(width)))
        await lab.sandboxes.remove_all(boxes)
        await lab.rest(SETTLE_SECONDS, "settling")
        ours.append((cpu_seconds(lab.operator.process) - before) / lives * 1000)
        resyncs += time.monotonic() - started > RESYNC_SECONDS
    await lab.sandboxes.remove_all([first])
    row = compared(
        "processor",
        f"of the operator for a whole life, {lives} lives, {len(lab.population)} others running",
        Figures.of(ours, "ms"),
        Figures.of(floors, "ms"),
        PROCESSOR_BOUND,
        note=f"the floor makes {writes} writes a life, Events included; a resync fell into"
        f" {resyncs} of {PROCESSOR_ROUNDS} rounds",
    )
    return [replace(row, beside=FLOOR)]


async def many(lab: Lab) -> list[Row]:
    """Memory and processor time among ever more Sandboxes, from a hundred to five thousand."""
    few, total = FEW, lab.sizes.many
    sizes = [few, *(size for size in BETWEEN if few < size < total), total]
    costs = dict[int, _Costs]()
    async with instant(lab) as running:
        boxes = list[str]()
        for size in sizes:
            more = running.names(size - len(boxes))
            batches = [more[i : i + 50] for i in range(0, len(more), 50)]
            for batch in lab.track(batches, f"{size} Sandboxes"):
                await running.create(lab, batch, IN_FLIGHT)
            boxes += more
            await lab.rest(SETTLE_SECONDS, "settling")
            megabytes = resident_mb(running.operator.process)
            events = [await _per_event(running, boxes[:few]) for _ in range(EVENT_ROUNDS)]
            lives = [await _per_life(lab, running) for _ in range(ROUNDS)]
            created, marked = await _one_at_a_time(lab, running)
            await lab.rest(SETTLE_SECONDS, "settling")
            used = await idle_percent(lab, running.operator, lab.sizes.many_idle_seconds)
            costs[size] = _Costs(
                megabytes,
                milliseconds(events),
                milliseconds(lives),
                milliseconds(created),
                milliseconds(marked),
                used,
            )
    own = await engine_kilobytes(
        lab.baseline.wanted(running.spec(lab), str(uuid.uuid4())) for _ in range(MEASURED)
    )
    each = (costs[total].megabytes - costs[few].megabytes) * 1000 / (total - few)
    memory = at_most(
        "many",
        f"memory per Sandbox, from {few} to {total}",
        Figures.of([each], "KB"),
        MEMORY_BOUND_KB,
        note=f"{own:.2f} KB of it are the instant engine's own",
    )
    return [
        memory,
        _flat("per watch event", total, costs[total].event, few, costs[few].event),
        _flat("per whole life", total, costs[total].life, few, costs[few].life),
        *(row for size in sizes for row in costs[size].rows(size)),
    ]


@dataclass(frozen=True)
class _Costs:
    """What the operator costs among so many."""

    megabytes: float
    event: Figures
    life: Figures
    create: Figures
    mark: Figures
    idle_percent: float

    def rows(self, size: int) -> list[Row]:
        return [
            Row("many", f"{size}: {what}", figures, point=Point(f"instant engine: {what}", size))
            for what, figures in (
                ("processor time of an event", self.event),
                ("processor time of a life", self.life),
                ("create to RUNNING", self.create),
                ("deletionTimestamp to DELETING", self.mark),
                ("part of a core at rest", Figures.of([self.idle_percent], "%")),
                ("resident memory", Figures.of([self.megabytes], "MB")),
            )
        ]


def _flat(what: str, total: int, ours: Figures, few: int, before: Figures) -> Row:
    row = compared(
        "many", f"processor time {what} among {total}; beside it among {few}", ours, before, FLAT
    )
    return replace(row, beside=f"among {few}")


async def _per_event(running: Instant, boxes: list[str]) -> float:
    """Seconds of processor time per event that asks for nothing: a changed annotation."""
    changes = 5
    before = cpu_seconds(running.operator.process)
    for number in range(changes):
        await asyncio.gather(
            *(running.sandboxes.annotate(box, {"bench": f"{number}-{before}"}) for box in boxes)
        )
    await asyncio.sleep(SETTLE_SECONDS)
    return (cpu_seconds(running.operator.process) - before) / (changes * len(boxes))


async def _per_life(lab: Lab, running: Instant) -> float:
    """Seconds of processor time per Sandbox that comes and goes."""
    boxes = running.names(FEW)
    before = cpu_seconds(running.operator.process)
    await running.create(lab, boxes, IN_FLIGHT)
    await running.sandboxes.remove_all(boxes)
    await asyncio.sleep(SETTLE_SECONDS)
    return (cpu_seconds(running.operator.process) - before) / len(boxes)


async def _one_at_a_time(lab: Lab, running: Instant) -> tuple[list[float], list[float]]:
    """Seconds from POST to RUNNING, and from deletionTimestamp to DELETING."""
    created, marked = list[float](), list[float]()
    for box in running.names(lab.sizes.many_singles + WARM_UP):
        created.append(await running.sandboxes.create_running(box, running.spec(lab)))
        await running.sandboxes.remove(box)
        marked.append(mark_latency(running.sandboxes.history(box)))
    return created[WARM_UP:], marked[WARM_UP:]

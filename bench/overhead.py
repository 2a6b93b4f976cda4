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
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.audit import USER
from bench.figures import WARM_UP, Figures, Row, counts, milliseconds
from bench.floor import Outcome, Task
from bench.instant import IMAGE
from bench.lab import Lab, Operator
from bench.sandboxes import NAMESPACE, Sandboxes
from dev import cluster, pki
from dev.apiserver import ADMIN_GROUP, ControlPlane
from dev.binaries import ensure_binaries
from dev.progress import DevError

PROCESSOR_BOUND = 1.5
LATENCY_BOUND = 1.5
THROUGHPUT_BOUND = 0.7
MEMORY_BOUND_KB = 20
FLAT_BOUND = 1.1
IN_FLIGHT = 10
ROUNDS = 3
FEW = 100
SETTLE_SECONDS = 2.0


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
        plane = ControlPlane(work / "cluster", ensure_binaries())
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
    ours, floors, rates, floor_rates = list[float](), list[float](), list[float](), list[float]()
    async with instant(lab) as running:
        sample = running.sandboxes.last("box-0").obj
        for number in lab.track(range(ROUNDS), "instant engine"):
            ours += await running.create(lab, running.names(size), 1)
            prefix = f"floor-{number}"
            outcome = await floor(
                running.plane, sample, lives=size, in_flight=1, prefix=f"{prefix}-a", delete=False
            )
            floors += outcome.creations
            began = time.monotonic()
            await running.create(lab, running.names(size * 3), IN_FLIGHT)
            rates.append(size * 3 / (time.monotonic() - began))
            outcome = await floor(
                running.plane,
                sample,
                lives=size * 3,
                in_flight=IN_FLIGHT,
                prefix=f"{prefix}-b",
                delete=False,
            )
            floor_rates.append(size * 3 / outcome.all_created)
    one, rate = milliseconds(ours), Figures.of(rates, "/s")
    one_floor, rate_floor = milliseconds(floors), Figures.of(floor_rates, "/s")
    slower, faster = one.median / one_floor.median, rate.median / rate_floor.median
    return [
        Row(
            "instant",
            "POST to RUNNING, one at a time; beside it the floor",
            one,
            one_floor,
            slower,
            f"median <= {LATENCY_BOUND:g} x",
            slower <= LATENCY_BOUND,
            "aim: 20 ms, then 10 ms",
        ),
        Row(
            "instant",
            f"to RUNNING a second, {IN_FLIGHT} in flight; beside it the floor",
            rate,
            rate_floor,
            faster,
            f"median >= {THROUGHPUT_BOUND:g} x",
            faster >= THROUGHPUT_BOUND,
            "aim: 60/s",
        ),
    ]


async def processor(lab: Lab) -> list[Row]:
    """Processor time of the operator's process for whole lives on Docker."""
    lives, width = lab.sizes.processor_lives, lab.width
    ours, floors = list[float](), list[float]()
    (first,) = lab.names("sample", 1)
    await lab.sandboxes.create_running(first, lab.spec())
    sample = lab.sandboxes.last(first).obj
    writes = 0
    for number in lab.track(range(ROUNDS), "whole lives"):
        boxes = lab.names("life", lives)
        before = _used(lab.operator)
        waiting = iter(boxes)

        async def take(waiting: Any = waiting) -> None:
            for box in waiting:
                await lab.sandboxes.create_running(box, lab.spec())

        await asyncio.gather(*(take() for _ in range(width)))
        await lab.sandboxes.remove_all(boxes)
        await lab.rest(SETTLE_SECONDS, "settling")
        ours.append((_used(lab.operator) - before) / lives * 1000)
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
        floors.append(outcome.processor / lives * 1000)
        writes = outcome.writes // lives
        (again,) = lab.names("again", 1)
        await lab.sandboxes.create_running(again, lab.spec())
    figures, beside = Figures.of(ours, "ms"), Figures.of(floors, "ms")
    ratio = figures.median / beside.median
    return [
        Row(
            "processor",
            f"of the operator for a whole life, {lives} lives; beside it the floor",
            figures,
            beside,
            ratio,
            f"median <= {PROCESSOR_BOUND:g} x",
            ratio <= PROCESSOR_BOUND,
            f"the floor makes {writes} writes a life, Events included",
        )
    ]


async def many(lab: Lab) -> list[Row]:
    """Memory and processor time with a hundred and with five thousand Sandboxes."""
    few, total = FEW, lab.sizes.many
    events, lives = dict[int, float](), dict[int, float]()
    memory = dict[int, float]()
    async with instant(lab) as running:
        boxes = running.names(few)
        await running.create(lab, boxes, IN_FLIGHT)
        for size in (few, total):
            if missing := size - len(boxes):
                more = running.names(missing)
                for batch in lab.track(
                    [more[i : i + 50] for i in range(0, missing, 50)], f"{size} Sandboxes"
                ):
                    await running.create(lab, batch, IN_FLIGHT)
                boxes += more
            await lab.rest(SETTLE_SECONDS, "settling")
            memory[size] = running.operator.process.memory_info().rss / 1000
            events[size] = await _per_event(running, boxes[:few])
            lives[size] = await _per_life(lab, running)
    each = (memory[total] - memory[few]) / (total - few)
    flat_events, flat_lives = events[total] / events[few], lives[total] / lives[few]
    return [
        Row(
            "many",
            f"memory per Sandbox, from {few} to {total}",
            Figures.of([each], "KB"),
            target=f"<= {MEMORY_BOUND_KB} KB",
            met=each <= MEMORY_BOUND_KB,
        ),
        Row(
            "many",
            f"processor time per watch event among {total}; beside it among {few}",
            Figures.of([events[total]], "ms"),
            Figures.of([events[few]], "ms"),
            flat_events,
            f"<= {FLAT_BOUND:g} x",
            flat_events <= FLAT_BOUND,
        ),
        Row(
            "many",
            f"processor time per whole life among {total}; beside it among {few}",
            Figures.of([lives[total]], "ms"),
            Figures.of([lives[few]], "ms"),
            flat_lives,
            f"<= {FLAT_BOUND:g} x",
            flat_lives <= FLAT_BOUND,
        ),
        Row("many", f"resident memory with {total}", counts([memory[total] / 1000])),
    ]


async def _per_event(running: Instant, boxes: list[str]) -> float:
    """Milliseconds of processor time per event that asks for nothing: a changed annotation."""
    changes = 10
    before = _used(running.operator)
    for number in range(changes):
        await asyncio.gather(
            *(running.sandboxes.annotate(box, {"bench": str(number)}) for box in boxes)
        )
    await asyncio.sleep(SETTLE_SECONDS)
    return (_used(running.operator) - before) / (changes * len(boxes)) * 1000


async def _per_life(lab: Lab, running: Instant) -> float:
    """Milliseconds of processor time per Sandbox that comes and goes."""
    boxes = running.names(FEW)
    before = _used(running.operator)
    await running.create(lab, boxes, IN_FLIGHT)
    await running.sandboxes.remove_all(boxes)
    await asyncio.sleep(SETTLE_SECONDS)
    return (_used(running.operator) - before) / len(boxes) * 1000


def _used(operator: Operator) -> float:
    times = operator.process.cpu_times()
    return float(times.user + times.system)

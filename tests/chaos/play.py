"""One round: everything brought up, the faults, the checks, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import docker
from docker.errors import APIError, DockerException

from dev.engine import OwnEngine
from dev.images import ensure_busybox
from tests.chaos import failing_operator, faults
from tests.chaos.bystanders import Bystanders
from tests.chaos.deeds import Deeds
from tests.chaos.ending import Ending
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load
from tests.chaos.outsider import Outsider
from tests.chaos.sides import NAMES, Side, account
from tests.integration.boxes import Box, Docker, condition
from tests.integration.operator import Plane

FULL_SECONDS = 600
"""In a round as long as this every point has to be passed, and every kind of fault to meet
something."""
_THREADS = 48
"""Calls of Docker that wait for a frozen engine must not keep the one that thaws it waiting."""
_POINTS_SECONDS = 420.0
"""How long a full round goes on with the points alone, until each was passed."""
_CHECKS_SECONDS = 300.0
"""How long the checks after a shorter round may wait; those after a full one may wait longer."""
_WATCH_SECONDS = 0.5
_LINES = 25


@dataclass
class Outcome:
    """What a round has shown."""

    seed: str
    seconds: float
    directory: Path
    tally: faults.Tally = field(
        default_factory=lambda: faults.Tally(Counter(), Counter(), Counter(), Counter(), [])
    )
    made: int = 0
    ran: int = 0
    deleted: int = 0
    did: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    keys: int = 0
    stuck: int = 0
    """Containers that Docker itself could start no more, see ending.py."""
    stories: list[str] = field(default_factory=list)
    """What is known of the Sandboxes that something is wrong with."""

    @property
    def findings(self) -> list[str]:
        return self.tally.violations


class Play:
    """Owns everything of a round while it lasts."""

    def __init__(self, seconds: float, seed: str, directory: Path) -> None:
        self.outcome = Outcome(seed, seconds, directory)
        self._clock = faults.Clock()
        self._later = faults.Clock()
        """Ends the load, and in a full round what is left of the points."""
        self._deeds = Deeds()
        self._sides: list[Side] = []
        self._following: asyncio.Task[None] | None = None

    async def run(self, progress: Callable[[float, str], None]) -> Outcome:
        """The whole of it. `progress` is told of seconds and of what is going on."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        directory = self.outcome.directory
        progress(0, "starting an API server and a Docker engine")
        plane = Plane(directory, [account(name) for name in NAMES])
        async with contextlib.AsyncExitStack() as stack:
            await plane.start()
            stack.push_async_callback(plane.stop)
            engine = await asyncio.to_thread(OwnEngine)
            stack.push_async_callback(asyncio.to_thread, engine.close)
            await asyncio.to_thread(engine.start)
            await asyncio.to_thread(ensure_busybox, engine.host)
            own = Docker(engine.host)
            stack.callback(own.close)
            stack.push_async_callback(self._clear, own)
            for name in NAMES:
                rng = Random(f"{self.outcome.seed}/bytes-{name}")
                side = Side(name, plane, engine, directory, rng, self._deeds, self._violated)
                self._sides.append(await stack.enter_async_context(side))
            bystanders = Bystanders(own)
            await bystanders.settle(self._sides)
            for side in self._sides:
                side.operator.start()
            ledger = Ledger(engine.host, self._deeds, self._violated_uid)
            self._following = asyncio.create_task(ledger.run())
            stack.callback(self._following.cancel)
            await self._attack(plane, engine, own, bystanders, progress)
            progress(self.outcome.seconds, "coming to rest, and checking")
            longest = math.inf if self._full else _CHECKS_SECONDS
            ending = Ending(self._sides, own, bystanders, self._deeds, plane.audit, longest)
            if not self.outcome.findings:
                await self._check(ending)
            self._sum_up(ending)
        return self.outcome

    @property
    def _full(self) -> bool:
        return self.outcome.seconds >= FULL_SECONDS

    async def _check(self, ending: Ending) -> None:
        try:
            for what, box in await ending.check():
                self._find(what, box)
        except Exception as error:
            # What was waited for never came, or a request failed without any fault.
            self._find(f"a check broke off: {error!r}", None)
            self.outcome.stories.append(traceback.format_exc())
        self._see_whether_all_is_watched()

    async def _attack(
        self,
        plane: Plane,
        engine: OwnEngine,
        own: Docker,
        bystanders: Bystanders,
        progress: Callable[[float, str], None],
    ) -> None:
        seed, tally, clock = self.outcome.seed, self.outcome.tally, self._clock
        points = list(failing_operator.POINTS)
        Random(f"{seed}/points").shuffle(points)
        left = deque(points)
        loads = {
            side.name: Load(side.yard, Random(f"{seed}/load-{side.name}"), self._later.over)
            for side in self._sides
        }
        lanes: list[faults.Lane] = [
            faults.Engine(engine, bystanders, self._deeds, seed, (10.0, 20.0), clock, tally),
            faults.ApiServer(plane.control_plane, seed, (12.0, 24.0), clock, tally),
            faults.Crowd(bystanders, seed, (6.0, 14.0), clock, tally),
        ]
        ends: list[faults.OperatorEnds] = []
        for side in self._sides:
            load = loads[side.name]
            lanes.append(faults.Links(side, self._deeds, seed, (5.0, 12.0), clock, tally))
            lanes.append(Outsider(side, own, load, self._deeds, seed, (1.5, 4.0), clock, tally))
            plan = left, self._later, seed, (1.5, 4.0)
            ends.append(faults.OperatorEnds(side, load, self._deeds, *plan, clock, tally))
        async with asyncio.TaskGroup() as group:
            for load in loads.values():
                group.create_task(load.run())
            for lane in [*lanes, *ends]:
                group.create_task(lane.run())
            group.create_task(self._keep_time(ends, progress))
        for load in loads.values():
            await load.bring_what_is_due()
            self.outcome.did += load.done
        if self._full and not self.outcome.findings:
            for point in failing_operator.POINTS:
                if not tally.points[point]:
                    self._find(f"no operator passed the point: {point}", None)
            for kind in {faults.named(kind) for lane in [*lanes, *ends] for kind in lane.faults()}:
                if not tally.faults[kind]:
                    self._find(f"no fault of this kind met anything: {kind}", None)

    async def _keep_time(
        self, ends: list[faults.OperatorEnds], progress: Callable[[float, str], None]
    ) -> None:
        """End the round in time, or as soon as something is wrong."""
        began = time.monotonic()
        while not self.outcome.findings:
            passed = time.monotonic() - began
            if passed >= self.outcome.seconds:
                self._clock.over.set()
                none_left = all(self.outcome.tally.points[p] for p in failing_operator.POINTS)
                if not self._full or none_left or passed >= self.outcome.seconds + _POINTS_SECONDS:
                    break
            living = sum(len(side.yard.living()) for side in self._sides)
            ending = sum(len(side.yard.ending()) for side in self._sides)
            count = self.outcome.tally.faults.total()
            progress(passed, f"{count} faults; {living} Sandboxes live, {ending} end")
            for lane in ends:
                if not lane.busy:
                    lane.check()
            self._see_whether_all_is_watched()
            await asyncio.sleep(_WATCH_SECONDS)
        self._clock.over.set()
        self._later.over.set()

    def _see_whether_all_is_watched(self) -> None:
        for side in self._sides:
            if not side.yard.watching:
                self._find(f"the watch of side {side.name} has ended", None)
        following = self._following
        if following is not None and following.done():
            self._find(f"the ledger has ended: {following.exception()!r}", None)

    # Findings

    def _violated(self, what: str, box: Box) -> None:
        self._find(what, box)

    def _violated_uid(self, what: str, uid: str) -> None:
        boxes = [box for side in self._sides if (box := side.yard.of(uid)) is not None]
        self._find(what, boxes[0] if boxes else None)

    def _find(self, what: str, box: Box | None) -> None:
        name = f"{box.world.namespace}/{box.name} ({box.uid}) " if box else ""
        self.outcome.findings.append(f"{name}{what}")
        if box is not None and len(self.outcome.stories) < 3:
            self.outcome.stories.append(self._story(box))

    def _story(self, box: Box) -> str:
        """All that is known of one Sandbox, in the order in which each side told it."""
        lines = [f"--- {box.world.namespace}/{box.name} {box.uid}", "versions that the watch told:"]
        for obj in box.versions[-_LINES:]:
            meta, status = obj["metadata"], obj.get("status") or {}
            ready = condition(obj, "Ready")
            marks = [m for m in ("deletionTimestamp", "finalizers") if meta.get(m)]
            lines.append(
                f"  {meta['resourceVersion']} generation {meta['generation']} "
                f"(seen {status.get('observedGeneration')}) "
                f"{obj['spec']['operatingMode']}: {status.get('phase')} {ready.get('reason')} "
                f"{status.get('pausing') or ''} {' '.join(marks)}"
            )
        lines.append(f"spec: {box.latest['spec']}")
        lines.append(f"status: {box.latest.get('status')}")
        lines.append("what Docker told:")
        for event in self._deeds.told.get(box.uid, [])[-_LINES:]:
            at = time.strftime("%H:%M:%S", time.gmtime(event.at)) + f"{event.at % 1:.3f}"[1:]
            lines.append(f"  {at} {event.action} {event.container[:12]} {event.exit_code}")
        for side in self._sides:
            if side.yard is box.world:
                words = side.operator.words().splitlines()
                own = [w for w in words if box.uid in w or f"/{box.name}" in w]
                lines.append(f"its operator's log, all of it in {side.operator.log}:")
                lines += [f"  {word[:240]}" for word in own[-_LINES:]]
        return "\n".join(lines)

    def _sum_up(self, ending: Ending) -> None:
        boxes = [box for side in self._sides for box in side.yard.boxes]
        self.outcome.made = len(boxes)
        self.outcome.deleted = sum(box.gone for box in boxes)
        self.outcome.ran = sum(len(side.yard.ran) for side in self._sides)
        self.outcome.starts = sum(side.operator.starts for side in self._sides)
        self.outcome.keys = len(ending.keys)
        self.outcome.stuck = len(ending.stuck)
        for side in self._sides:
            if not self.outcome.findings and not side.yard.ran:
                self._find(f"nothing ever ran on side {side.name}", None)

    async def _clear(self, own: Docker) -> None:
        """Networks are bridges of the host, which would outlive the engine."""

        def remove(client: docker.APIClient) -> None:
            for row in client.containers(all=True):
                client.remove_container(row["Id"], force=True, v=True)
            for network in client.networks(filters={"type": "custom"}):
                with contextlib.suppress(APIError):
                    client.remove_network(network["Id"])

        with contextlib.suppress(DockerException, OSError):  # what is left goes with the engine
            await own(remove)

"""What is done to all of it. Faults of one lane follow each other, lanes run beside each other:

    engine        dockerd is stopped, killed, restarted, frozen
    apiserver     the API server is stopped, killed, restarted
    links         a side's connection to either is slowed, cut, reset, silenced, filled with noise
    operator      a side's operator is killed: at any instant, at a named point, for a while during
                  which Sandboxes are deleted and made; or ended in order; or its token is revoked
    outsider      a side's containers and Secrets are removed, killed, ... behind its back
    crowd         others' containers fill the stream of events

Each lane's plan comes from the seed alone: which fault follows which, how long, and after which
gap. What it meets does not: that is up to the machine. So each fault has random numbers of its
own, and how many of them it draws changes nothing for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from docker.errors import DockerException

from dev.apiserver import ControlPlane
from dev.engine import OwnEngine
from tests.chaos import failing_operator
from tests.chaos.bystanders import Bystanders
from tests.chaos.deeds import Deeds
from tests.chaos.links import Link, Mode
from tests.chaos.load import UNANSWERED, Load
from tests.chaos.sides import Side

STRIKE_SECONDS = 12.0
"""How long an operator is given to come by an armed point; what was not passed is armed again."""
_TOKEN_CACHE_SECONDS = 11.0
"""The API server believes a revoked token for 10 s, its cache's time."""
_TOKEN_SECONDS = 45.0
_START_SECONDS = 20.0
"""An operator without an API server waits for it; then the next fault meets it so."""
_TRAFFIC_SECONDS = 5.0
"""How much longer a link stays spoilt until it was used; an operator lists every 2 s."""
_AT_WORK = " runs; identity "

Fault = Callable[[], Awaitable[bool]]
"""Returns whether it met anything: what met nothing was not survived."""


class Clock:
    """The round's end, and waits that end with it."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)


@dataclass
class Tally:
    """How many faults of each kind there were."""

    faults: Counter[str]
    """Those that met something."""
    blanks: Counter[str]
    """Those that met nothing: no fitting Sandbox, a refusal, a connection without traffic."""
    points: Counter[str]
    """Times that an operator killed itself at each point."""
    missed: Counter[str]
    """Times that an operator did not come by the armed point."""
    violations: list[str]


class Lane:
    """One fault after the other: all kinds in a random order, then again in another."""

    def __init__(
        self, name: str, seed: str, gaps: tuple[float, float], clock: Clock, tally: Tally
    ) -> None:
        self._plan = random.Random(f"{seed}/{name}")
        """For the order and the gaps."""
        self._seeds = (random.Random(f"{seed}/{name}/{n}") for n in itertools.count())
        self.rng = next(self._seeds)
        """The present fault's."""
        self.name = name
        self.clock = clock
        self.tally = tally
        self._gaps = gaps
        self.busy = False
        """A fault is under way."""

    def faults(self) -> dict[str, Fault]:
        """Each undoes itself, whatever happens."""
        raise NotImplementedError

    async def run(self) -> None:
        faults = self.faults()
        while True:
            kinds = list(faults)
            self._plan.shuffle(kinds)
            for kind in kinds:
                await self.clock.wait(self._plan.uniform(*self._gaps))
                if self.clock.over.is_set():
                    return
                self.busy, self.rng = True, next(self._seeds)
                hit = await faults[kind]()
                self.busy = False
                (self.tally.faults if hit else self.tally.blanks)[named(kind)] += 1


def named(kind: str) -> str:
    """Kinds that only differ in a number in parentheses are one."""
    return kind.partition(" (")[0]


class Engine(Lane):
    def __init__(self, engine: OwnEngine, bystanders: Bystanders, deeds: Deeds, *lane: Any) -> None:
        super().__init__("engine", *lane)
        self._engine = engine
        self._bystanders = bystanders
        self._deeds = deeds

    def faults(self) -> dict[str, Fault]:
        return {
            "dockerd stopped": lambda: self._away(self._engine.stop),
            "dockerd killed": self._kill,
            "dockerd restarted": lambda: self._away(self._engine.stop, longest=0.0),
            "dockerd frozen": self._freeze,
        }

    async def _away(self, end: Callable[[], None], longest: float = 6.0) -> bool:
        began = time.time()
        try:
            await asyncio.to_thread(end)
            await self.clock.wait(self.rng.uniform(0.0, longest))
        finally:
            await asyncio.to_thread(self._engine.start)
            self._deeds.outages.append((began, time.time()))
        self.tally.violations += await self._bystanders.engine_returned()
        return True

    async def _kill(self) -> bool:
        try:
            return await self._away(self._engine.kill9)
        finally:
            self._deeds.kills.append(time.time())

    async def _freeze(self) -> bool:
        began = time.time()
        try:
            await asyncio.to_thread(self._engine.freeze)
            await self.clock.wait(self.rng.uniform(2.0, 14.0))
        finally:
            await asyncio.to_thread(self._engine.thaw)
            self._deeds.deaf[""].append((began, time.time()))
        return True


class ApiServer(Lane):
    def __init__(self, control_plane: ControlPlane, *lane: Any) -> None:
        super().__init__("apiserver", *lane)
        self._plane = control_plane

    def faults(self) -> dict[str, Fault]:
        kill = "kube-apiserver"
        return {
            "API server stopped": lambda: self._away(self._plane.stop_apiserver),
            "API server killed": lambda: self._away(lambda: self._plane.kill_one(kill)),
            "API server restarted": lambda: self._away(self._plane.stop_apiserver, longest=0.0),
        }

    async def _away(self, end: Callable[[], None], longest: float = 5.0) -> bool:
        try:
            await asyncio.to_thread(end)
            await self.clock.wait(self.rng.uniform(0.0, longest))
        finally:
            await asyncio.to_thread(self._plane.restart_apiserver)
        return True


class Links(Lane):
    """The connections of one side."""

    def __init__(self, side: Side, deeds: Deeds, *lane: Any) -> None:
        super().__init__(f"links-{side.name}", *lane)
        self._side = side
        self._deeds = deeds

    def faults(self) -> dict[str, Fault]:
        ends = {"Docker": self._side.docker_link, "API": self._side.api_link}
        return {
            f"{end} link: {mode}": self._spoiling(link, mode)
            for end, link in ends.items()
            for mode in Mode
            if mode is not Mode.PASS
        }

    def _spoiling(self, link: Link, mode: Mode) -> Fault:
        async def spoil() -> bool:
            before, began = link.touched, time.time()
            try:
                await link.become(mode)
                await self.clock.wait(self.rng.uniform(0.5, 3.0))
                deadline = time.monotonic() + _TRAFFIC_SECONDS
                while link.touched == before and time.monotonic() < deadline:
                    await self.clock.wait(0.1)
                    if self.clock.over.is_set():
                        break
            finally:
                await link.become(Mode.PASS)
                if link is self._side.docker_link:
                    self._deeds.deaf[self._side.yard.namespace].append((began, time.time()))
            return link.touched > before

        return spoil


class Crowd(Lane):
    def __init__(self, bystanders: Bystanders, *lane: Any) -> None:
        super().__init__("crowd", *lane)
        self._bystanders = bystanders

    def faults(self) -> dict[str, Fault]:
        return {"crowd of others' containers": self._come_and_go}

    async def _come_and_go(self) -> bool:
        came = await self._bystanders.crowd(self.rng)
        with contextlib.suppress(DockerException, OSError):
            await self._bystanders.disperse()
        return came


class OperatorEnds(Lane):
    """One side's operator. It runs whenever no fault of this lane is under way."""

    def __init__(
        self, side: Side, load: Load, deeds: Deeds, points: deque[str], later: Clock, *lane: Any
    ) -> None:
        """`points` are those of both sides; `later` ends what is left of them to pass."""
        super().__init__(f"operator-{side.name}", *lane)
        self._side = side
        self._load = load
        self._deeds = deeds
        self._points = points
        self._later = later

    async def run(self) -> None:
        await super().run()
        # No other faults by now, which make many a point hard to come by.
        self.clock = self._later
        while self._points and not self.clock.over.is_set():
            self.busy, self.rng = True, next(self._seeds)
            await self._at_a_point()
            self.busy = False

    def faults(self) -> dict[str, Fault]:
        at_a_point: dict[str, Fault] = {
            f"operator killed at a named point ({n})": self._at_a_point for n in range(1, 7)
        }
        return at_a_point | {
            "operator killed at any instant": self._at_any_instant,
            "operator ended in order": self._in_order,
            "Sandboxes deleted with the operator down": self._down,
            "token revoked": self._token,
        }

    def check(self) -> None:
        """An operator never ends by itself."""
        operator = self._side.operator
        if not operator.alive():
            last = operator.words().splitlines()[-1:]
            operator.kill9()
            self.tally.violations.append(f"operator {self._side.name} ended by itself: {last}")
            operator.start()

    async def _start(self, down: float) -> None:
        """Start the one that is down since `down`, and wait until it is at work: how long that
        takes is up to the machine."""
        operator = self._side.operator
        before = operator.words().count(_AT_WORK)
        operator.start()
        deadline = time.monotonic() + _START_SECONDS
        while operator.words().count(_AT_WORK) == before and time.monotonic() < deadline:
            await self.clock.wait(0.1)
            if self.clock.over.is_set():
                break
        at_work = operator.words().count(_AT_WORK) > before
        back = time.time() if at_work else math.inf  # some time later: nobody looks when
        self._deeds.deaf[self._side.yard.namespace].append((down, back))

    async def _at_any_instant(self) -> bool:
        await self.clock.wait(self.rng.uniform(0.0, 3.0))
        self.check()
        down = time.time()
        self._side.operator.kill9()
        await self._start(down)
        return True

    async def _in_order(self) -> bool:
        self.check()
        down = time.time()
        await self._side.operator.stop()
        await self._start(down)
        return True

    async def _down(self) -> bool:
        self.check()
        operator, deleted, down = self._side.operator, False, time.time()
        operator.kill9()
        try:
            for _ in range(2):
                with contextlib.suppress(*UNANSWERED):
                    deleted |= await self._load.remove()
            with contextlib.suppress(*UNANSWERED):
                await self._load.make()
            await self.clock.wait(self.rng.uniform(0.0, 3.0))
        finally:
            await self._start(down)
        return deleted

    async def _at_a_point(self) -> bool:
        operator = self._side.operator
        point = self._points.popleft() if self._points else self.rng.choice(failing_operator.POINTS)
        passes = self.rng.choice((0, 0, 0, 1))
        failing_operator.arm(operator.failpoint, point, passes)
        provoked = asyncio.create_task(self._provoke(point.partition(" ")[2]))
        deadline = time.monotonic() + STRIKE_SECONDS
        while operator.alive() and time.monotonic() < deadline:
            await self.clock.wait(0.02)
            if self.clock.over.is_set():
                break
        down = time.time() - 1  # it died since the last look, or is killed below
        while not provoked.done():
            # Python 3.11's wait_for swallows what comes in the instant in which its wait ends.
            provoked.cancel()
            await asyncio.wait({provoked}, timeout=1)
        if not operator.alive() and not failing_operator.has_struck(operator.failpoint):
            self.check()
        struck = failing_operator.has_struck(operator.failpoint)
        if struck:
            async with asyncio.timeout(10):
                while operator.alive():  # noqa: ASYNC110 - a dying process tells nobody
                    await asyncio.sleep(0.01)
            self.tally.points[point] += 1
        else:
            self._points.append(point)
            self.tally.missed[point] += 1
        failing_operator.disarm(operator.failpoint)
        operator.kill9()  # the one that died is reaped; one that was never struck has to read anew
        await self._start(down)
        return struck

    async def _provoke(self, verb: str) -> None:
        """Have users do what leads the operator there, again and again."""
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "kill": self._load.pause_deaf,
            "tell-pausing": self._load.pause_deaf,
            "read-key": self._load.lose_a_secret,
            "label": self._load.bring_a_key_late,
            "update-limits": self._load.resize,
            "freeze": self._load.toggle,
            "thaw": self._load.toggle,
            "remove-volume": self._load.remove,
            "delete-secret": self._load.remove,
            "release": self._load.remove,
        }
        act: Callable[[], Awaitable[object]] = acts.get(verb, self._load.make)
        while True:
            with contextlib.suppress(*UNANSWERED):
                await act()
            await asyncio.sleep(1)

    async def _token(self) -> bool:
        """A new token comes and the old one ends; at times the old one ends first. The operator
        that runs must go on without a restart."""
        side = self._side
        with contextlib.suppress(*UNANSWERED):
            token = await side.token.issue()
            if self.rng.random() < 0.5:
                side.token.write(token)
                revoked = await side.token.revoke()
            else:
                revoked = await side.token.revoke()
                await self.clock.wait(self.rng.uniform(1.0, 15.0))
                side.token.write(token)
            return await self._goes_on() and revoked
        side.token.write(side.token.all[-1])
        return False

    async def _goes_on(self) -> bool:
        """Wait for a request of the operator, once the revoked token is of no use. Returns whether
        there was one before the round ended."""
        side, audit = self._side, self._side.plane.audit
        await self.clock.wait(_TOKEN_CACHE_SECONDS)
        since = len(audit.records())
        try:
            await audit.until(
                lambda all_: (
                    self.clock.over.is_set()
                    or any(r["user"]["username"] == side.user for r in all_[since:])
                ),
                _TOKEN_SECONDS,
            )
        except TimeoutError:
            self.tally.violations.append(
                f"operator {side.name} did not go on with its new token in {_TOKEN_SECONDS:g} s"
            )
            return False
        return not self.clock.over.is_set()

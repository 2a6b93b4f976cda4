"""Random walks of the whole shell on a real API server, which Hypothesis chooses and shortens.

tests/unit/test_walk.py does the same on an API server in memory: thousands of steps, in any order
that one event loop has. Here are kopf, its thread and its watch, HTTP, conflicts and echoes as the
real API server makes them, and that server's own restart.

After each walk the faults stop. Then every Sandbox is as it was wished, nothing is left of those
that were deleted, and over two resyncs and a restart nothing is written.

The walks are the same in every run. WALKS=200 makes that many, new ones each time, and shortens one
that fails, which takes as long as it takes.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from controller import app, enginewatch, handlers
from controller.core.reasons import Reason
from controller.engines.base import EngineRefused, EngineUnreachable
from dev.apiserver import ControlPlane
from tests.integration.operator import Json, Plane
from tests.integration.shell import FastClock, Shell

LONG = "WALKS" in os.environ
WALKS = int(os.environ.get("WALKS", "10"))
STEPS = 25
NAMES = st.sampled_from("abc")
ENGINE_VERBS = [
    *("create", "start", "signal_stop", "kill", "freeze", "thaw", "remove", "remove_volume"),
    *("find", "inspect", "list", "update_limits", "environment"),
]
LOOKS = ("find", "inspect", "list", "environment")
OTHERS = {
    "external_stop": ("Running", "Frozen"),
    "external_kill": ("Running", "Frozen"),
    "oom_kill": ("Running", "Frozen"),
    "external_pause": ("Running",),
    "external_unpause": ("Frozen",),
    "external_start": ("Exited", "Created"),
    "external_remove": ("Running", "Frozen", "Exited", "Created"),
}
"""What others do to a container, and in which state it can be done."""
SPECS = st.fixed_dictionaries(
    {
        "pauseMethod": st.sampled_from(["Freeze", "Stop"]),
        "onMissing": st.sampled_from(["Report", "Recreate"]),
        "terminationGracePeriodSeconds": st.sampled_from([0, 5]),
        "volumes": st.sampled_from([[], [{"name": "w", "mountPath": "/w", "managed": {}}]]),
    }
)
EXITS = [(("ERROR", reason), "Exited") for reason in ("Exited", "Completed", "OOMKilled")]
RESTS = [
    (("PAUSED", "NotStarted"), None),
    (("PAUSED", "NotStarted"), "Created"),
    (("PAUSED", "Frozen"), "Frozen"),
    (("PAUSED", "Stopped"), "Exited"),
    (("PAUSED", "MemoryLost"), "Exited"),
]
"""What is told of what, where it is wished paused."""


class Walk(RuleBasedStateMachine):
    """Users, others at the engine, faults of both sides, and kill -9, as the rules come."""

    plane: ControlPlane

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.killed = False
        self.removed: set[str] = set()
        """UIDs whose container someone removed."""
        self.ended: set[str] = set()
        """UIDs whose container may have ended otherwise than by the operator."""
        self.shell = Shell(self.plane, f"walk-{uuid.uuid4().hex[:8]}")

    def do(self, act: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(120):
                return await act()

        return self.loop.run_until_complete(bounded())

    @initialize(deaf=st.booleans(), specs=st.tuples(SPECS, SPECS))
    def begin(self, deaf: bool, specs: tuple[Json, Json]) -> None:
        self.shell.host.heeds_sigterm = lambda spec: not deaf
        self.do(self.shell.open)
        for name, spec in zip("ab", specs, strict=True):
            self.do(partial(self.shell.user.create, name, spec))

    # Users

    @rule(name=NAMES, spec=SPECS)
    def create(self, name: str, spec: Json) -> None:
        self.do(lambda: self.shell.user.create(name, spec))

    @rule(name=NAMES, mode=st.sampled_from(["Running", "Paused"]))
    def wish(self, name: str, mode: str) -> None:
        self.do(lambda: self.shell.user.change(name, {"operatingMode": mode}))

    @rule(name=NAMES, pids=st.integers(10, 20))
    def limit(self, name: str, pids: int) -> None:
        limits = {"resources": {"limits": {"pids": pids}}}
        self.do(lambda: self.shell.user.change(name, limits))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.do(lambda: self.shell.user.delete(name))

    @rule(name=NAMES, spec=SPECS)
    def replace(self, name: str, spec: Json) -> None:
        """Deleted, and created again as soon as the name is free, or not at all."""

        async def replace() -> None:
            await self.shell.user.delete(name)
            for _ in range(5):
                if await self.shell.user.create(name, spec):
                    return

        self.do(replace)

    # Others

    @rule(act=st.sampled_from(sorted(OTHERS)), which=st.integers(0, 2))
    def meddle(self, act: str, which: int) -> None:
        async def meddle() -> None:
            held = [h for h in self.shell.host.containers.values() if h.container]
            possible = [h for h in held if h.container and h.container.run in OTHERS[act]]
            if which < len(possible):
                uid = possible[which].uid
                getattr(self.shell.host, act)(uid)
                (self.removed if act == "external_remove" else self.ended).add(uid)

        self.do(meddle)

    @rule(verb=st.sampled_from(ENGINE_VERBS), kind=st.sampled_from(["no answer", "no", "lost"]))
    def engine_fails(self, verb: str, kind: str) -> None:
        if kind == "lost":
            self.shell.host.lose_answer_next(verb)
        elif kind == "no" and verb not in LOOKS:
            self.shell.host.fail_next(verb, EngineRefused(Reason.ENGINE_REFUSED, "no"))
        else:
            self.shell.host.fail_next(verb, EngineUnreachable("no answer"))

    @rule(what=st.sampled_from(["outage", "back", "deaf", "heard", "reboot"]))
    def engine(self, what: str) -> None:
        async def happen() -> None:
            host = self.shell.host
            match what:
                case "outage":
                    host.outage()
                case "back":
                    host.unreachable = False
                case "deaf" | "heard":
                    host.lose_events = what == "deaf"
                case "reboot":
                    self.ended |= {held.uid for held in host.containers.values()}
                    host.reboot()

        self.do(happen)

    @rule(faults=st.lists(st.sampled_from(["refused", "conflict", "lost", ""]), max_size=4))
    def api_fails(self, faults: list[str]) -> None:
        self.shell.api.faults += faults

    @rule()
    def kill_and_start(self) -> None:
        self.killed = True
        self.do(self.shell.kill)
        self.do(self.shell.start)

    @rule(dice=st.integers(0, 50))
    def api_server_restarts(self, dice: int) -> None:
        """Rarely: it takes seconds."""
        if dice == 50:
            self.do(lambda: asyncio.to_thread(self.plane.kill_one, "kube-apiserver"))
            self.do(lambda: asyncio.to_thread(self.plane.restart_apiserver))

    @rule(turns=st.integers(0, 6))
    def time(self, turns: int) -> None:
        """So many things come in, or what is on its way takes its time."""

        async def go_on() -> None:
            for _ in range(2**turns):
                await asyncio.sleep(0.002)

        self.do(go_on)

    # The end

    def teardown(self) -> None:
        try:
            if hasattr(self.shell, "user"):
                self.do(self.calm)
                self.do(self.as_wished_and_at_rest)
                self.do(self.all_gone)
        finally:
            if hasattr(self.shell, "user"):
                self.do(self.shell.close)
            self.loop.close()

    async def calm(self) -> None:
        host = self.shell.host
        host.unreachable = host.lose_events = False
        host._failures.clear()
        host._lost_answers.clear()
        self.shell.api.faults.clear()

    async def as_wished_and_at_rest(self) -> None:
        if self.killed:
            # The one who remembers the Secret of a Sandbox that was dropped may have died: the
            # owner reference is what is left then.
            await self.shell.resynced(2)
            await self.shell.user.collect_garbage()
        await self.until(self.wrong)
        for _ in range(3):  # what came with the last status, say its Event, may still be on its way
            written = len(self.shell.api.writes)
            await self.shell.resynced(2)
            if len(self.shell.api.writes) == written:
                break
        assert self.shell.api.writes[written:] == [], "written at rest"
        await self.shell.kill()
        await self.shell.start()
        await self.shell.resynced(2)
        assert self.shell.api.writes == [], "written at rest, after a restart"
        assert await self.wrong() == []

    async def all_gone(self) -> None:
        for name in await self.shell.user.all():
            await self.shell.user.delete(name)
        await self.until(self.left)
        await self.shell.resynced(2)
        assert await self.left() == []

    async def until(self, complaints: Callable[[], Awaitable[list[str]]]) -> None:
        last: list[str] = []

        async def none() -> bool:
            last[:] = await complaints()
            return not last

        try:
            await self.shell.until(none)
        except TimeoutError:
            raise AssertionError(f"it never converges: {last}") from None

    async def wrong(self) -> list[str]:
        """What is not as it was wished."""
        sandboxes = await self.shell.user.all()
        found = [problem for name, obj in sandboxes.items() if (problem := self.problem(name, obj))]
        alive = {obj["metadata"]["uid"] for obj in sandboxes.values()}
        host = self.shell.host
        held = [h.uid for h in [*host.containers.values(), *host.volumes.values()]]
        uids = [h.uid for h in host.containers.values()]
        found += [f"left of {uid}" for uid in held if uid not in alive]
        found += [f"two containers of {uid}" for uid in set(uids) if uids.count(uid) > 1]
        secrets = [s["metadata"]["name"] for s in await self.shell.user.secrets()]
        if len(secrets) != len(sandboxes):
            found.append(f"Secrets {secrets} of {sorted(sandboxes)}")
        return found

    def problem(self, name: str, obj: Json) -> str:
        status, spec, meta = obj.get("status") or {}, obj["spec"], obj["metadata"]
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        told = (status.get("phase"), conditions.get("Ready", {}).get("reason"))
        held = [h for h in self.shell.host.containers.values() if h.uid == meta["uid"]]
        container = held[0].container if held else None
        run = container.run.value if container else None
        say = f"{name} wished {spec.get('operatingMode')}: {told}, its container {run}"
        if "deletionTimestamp" in meta or status.get("observedGeneration") != meta["generation"]:
            return f"{say}, on its way"
        if conditions.get("EngineReachable", {}).get("status") != "True":
            return f"{say}, the engine unreachable"
        if told == ("MISSING", "ContainerMissing"):
            reported = spec.get("onMissing") == "Report" and meta["uid"] in self.removed
            return "" if reported and run is None else say
        if spec.get("operatingMode", "Running") == "Running":
            return "" if (told, run) == (("RUNNING", "Ready"), "Running") else say
        ended = (told, run) in EXITS and meta["uid"] in self.ended
        return "" if ended or (told, run) in RESTS else say

    async def left(self) -> list[str]:
        """What is left of all."""
        host = self.shell.host
        secrets = [s["metadata"]["name"] for s in await self.shell.user.secrets()]
        return [*await self.shell.user.all(), *host.containers, *host.volumes, *secrets]


@pytest.mark.timeout(0 if LONG else 300)
def test_every_walk_ends_as_wished(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "now", FastClock())
    monkeypatch.setattr(enginewatch, "_RECONNECT_SECONDS", 0.05)
    monkeypatch.setattr(handlers, "_STOP_SECONDS", 0.05)  # a killed process waits for no thread
    monkeypatch.setattr(Walk, "plane", plane.control_plane, raising=False)
    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=WALKS,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=not LONG,
            phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )

"""Random walks: users, others at the engine, faults of both sides, and kill -9 at any instant.

After every walk the faults stop. Then each Sandbox is as it was wished, what was deleted left
nothing behind, and nothing is written any more: invariants 1, 2, 3, 5 and 9, and convergence.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller import enginewatch
from controller.core import names
from controller.core.reasons import Reason
from controller.engines.base import EngineError, EngineRefused, EngineUnreachable
from controller.kube.api import ApiUnreachable, Conflict
from tests.unit.fakes import NAMESPACE, Obj, Operator

STEPS = 40
VERBS = ["create", "start", "signal_stop", "kill", "freeze", "thaw", "remove", "find", "list"]
WRITES = ["patch_metadata", "patch_status", "create_secret", "delete_secret"]
OTHERS = [
    "external_stop",
    "external_kill",
    "oom_kill",
    "external_remove",
    "external_pause",
    "external_unpause",
    "external_start",
]
VOLUME = {"name": "work", "mountPath": "/work", "managed": {}}


@pytest.fixture(autouse=True)
def _reconnects_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enginewatch, "_RECONNECT_SECONDS", 0)


class Walk:
    """One walk of the operator over up to three Sandboxes."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.operator = Operator()
        self.done: list[str] = []
        self.left_behind: list[str] = []
        self.removed: set[str] = set()
        """UIDs whose container someone removed."""
        self.ended: set[str] = set()
        """UIDs whose container may have ended otherwise than by the operator."""

    async def run(self) -> None:
        operator = self.operator
        operator.host.heeds_sigterm = lambda spec: self.random.random() < 0.5
        await self.start()
        for _ in range(STEPS):
            step = self.random.choices(
                [
                    self.wish,
                    self.create,
                    self.delete,
                    self.meddle,
                    self.fault,
                    self.time,
                    self.kill,
                ],
                [5, 3, 2, 4, 5, 4, 1],
            )[0]
            await step()
            for _ in range(self.random.choice([0, 1, 3, 10, 30, 100])):
                await asyncio.sleep(0)
            self.one_container_each()

    async def start(self) -> None:
        await self.operator.start(engine_first=self.random.random() < 0.5)
        self.operator.api.watchers.append(self.watch)

    def watch(self, type_: str, obj: Obj) -> None:
        if type_ == "DELETED":
            uid = obj["metadata"]["uid"]
            self.left_behind += self.of(uid)

    def of(self, uid: str) -> list[str]:
        """Everything that there is of one UID beside the object."""
        host, api = self.operator.host, self.operator.api
        return [
            *(i for i, held in host.containers.items() if held.uid == uid),
            *(i for i, held in host.volumes.items() if held.uid == uid),
            *(n for (_, n), s in api.secrets.items() if uid in s["metadata"]["labels"].values()),
        ]

    def one_container_each(self) -> None:
        uids = [held.uid for held in self.operator.host.containers.values()]
        assert len(uids) == len(set(uids))

    # Steps

    def some(self) -> str | None:
        living = [
            name
            for (_, name), obj in self.operator.api.sandboxes.items()
            if "deletionTimestamp" not in obj["metadata"]
        ]
        return self.random.choice(living) if living else None

    def tell(self, *what: object) -> None:
        self.done.append(" ".join(map(str, what)))

    async def create(self) -> None:
        name = self.random.choice("abc")
        if not self.operator.exists(name):
            spec: dict[str, Any] = {
                "pauseMethod": self.random.choice(["Freeze", "Stop"]),
                "onMissing": self.random.choice(["Report", "Recreate"]),
                "volumes": [VOLUME],
            }
            self.tell("create", name, spec)
            self.operator.api.create(name, **spec)

    async def wish(self) -> None:
        if (name := self.some()) is not None:
            mode = self.random.choice(["Running", "Paused"])
            self.tell("wish", name, mode)
            self.operator.api.change(name, operatingMode=mode)

    async def delete(self) -> None:
        if (name := self.some()) is not None:
            self.tell("delete", name)
            self.operator.api.delete(name)

    async def meddle(self) -> None:
        held = list(self.operator.host.containers.values())
        if not held:
            return
        one, act = self.random.choice(held), self.random.choice(OTHERS)
        run = one.container.run if one.container else None
        possible = {
            "external_pause": run == "Running",
            "external_unpause": run == "Frozen",
            "external_start": run in ("Exited", "Created"),
            "external_remove": True,
        }
        if possible.get(act, run in ("Running", "Frozen")):
            self.tell(act, one.uid)
            getattr(self.operator.host, act)(one.uid)
            (self.removed if act == "external_remove" else self.ended).add(one.uid)

    async def fault(self) -> None:
        host, api = self.operator.host, self.operator.api
        verb, write = self.random.choice(VERBS), self.random.choice(WRITES)
        error: EngineError = self.random.choice(
            [EngineUnreachable("no answer"), EngineRefused(Reason.ENGINE_REFUSED, "no")]
        )
        api_error = self.random.choice([ApiUnreachable("no answer"), Conflict("modified", 409)])
        if verb in ("find", "list"):
            error = EngineUnreachable("no answer")
        faults: list[tuple[str, Callable[[], None]]] = [
            (f"engine fails {verb} {error!r}", lambda: host.fail_next(verb, error)),
            (f"engine loses answer of {verb}", lambda: host.lose_answer_next(verb)),
            ("engine loses events", lambda: setattr(host, "lose_events", True)),
            ("engine tells events", lambda: setattr(host, "lose_events", False)),
            ("engine out", host.outage),
            ("engine back", lambda: setattr(host, "unreachable", False)),
            ("engine reboots", self.reboot),
            (f"api fails {write}", lambda: api.fail_next(write, api_error)),
            (f"api loses answer of {write}", lambda: api.lose_answer_next(write)),
            ("watch loses", lambda: setattr(self.operator, "watching", False)),
            ("watch tells", lambda: setattr(self.operator, "watching", True)),
        ]
        name, happen = self.random.choice(faults)
        self.tell(name)
        happen()

    def reboot(self) -> None:
        self.ended |= {held.uid for held in self.operator.host.containers.values()}
        self.operator.host.reboot()

    async def time(self) -> None:
        seconds = self.random.choice([1, 5, 20, 90])
        self.tell("time", seconds)
        await self.operator.advance(seconds)

    async def kill(self) -> None:
        self.tell("kill -9")
        await self.operator.kill()
        await self.start()

    # The end

    async def calm(self) -> None:
        """The faults stop; time goes by."""
        operator = self.operator
        operator.host.lose_events = operator.host.unreachable = False
        operator.watching = True
        operator.host._failures.clear()
        operator.host._lost_answers.clear()
        operator.api._failures.clear()
        operator.api._lost.clear()
        await operator.settle()
        # Statuses that only tell of an outage are paced in real time.
        await operator.until(lambda: not self.says_unreachable())
        for _ in range(8):
            await operator.resync()
            await operator.advance(61)

    def says_unreachable(self) -> bool:
        return any(
            condition["type"] == "EngineReachable" and condition["status"] == "False"
            for obj in self.operator.api.sandboxes.values()
            if "deletionTimestamp" not in obj["metadata"]
            for condition in obj.get("status", {}).get("conditions", ())
        )

    def as_wished(self) -> None:
        for (_, name), obj in self.operator.api.sandboxes.items():
            told, spec = self.operator.told(name), obj["spec"]
            held = [h for h in self.operator.host.containers.values() if h.uid == self.uid(obj)]
            run = held[0].container.run if held and held[0].container else None
            wished = spec.get("operatingMode", "Running")
            if told == ("MISSING", "ContainerMissing"):
                assert spec["onMissing"] == "Report"
                assert self.uid(obj) in self.removed
                assert run is None
            elif wished == "Running":
                assert (told, run) == (("RUNNING", "Ready"), "Running"), name
                self.has_its_key(name, obj)
            else:
                ended = (told, run) in EXITS and self.uid(obj) in self.ended
                assert ended or (told, run) in RESTS, (name, told, run)

    def has_its_key(self, name: str, obj: Obj) -> None:
        env = self.operator.host.of(self.uid(obj)).spec.env
        labels = obj["metadata"]["labels"]
        assert labels[names.KEY_HASH_LABEL] == names.key_hash(env["OH_SESSION_API_KEYS_0"])
        assert (NAMESPACE, names.secret_name(name)) in self.operator.api.secrets

    @staticmethod
    def uid(obj: Obj) -> str:
        return str(obj["metadata"]["uid"])

    def nothing_is_left(self) -> None:
        alive = {self.uid(obj) for obj in self.operator.api.sandboxes.values()}
        held = [*self.operator.host.containers.values(), *self.operator.host.volumes.values()]
        assert {h.uid for h in held} <= alive
        assert len(self.operator.api.secrets) <= len(alive)
        assert self.left_behind == []

    async def at_rest(self) -> None:
        self.operator.api.writes.clear()
        posted = len(self.operator.api.events)
        for _ in range(6):
            await self.operator.resync()
            await self.operator.advance(61)
        assert self.operator.api.writes == []
        await self.operator.restart()
        await self.operator.resync()
        assert (self.operator.api.writes, len(self.operator.api.events)) == ([], posted)


EXITS = [(("ERROR", reason), "Exited") for reason in ("Exited", "Completed", "OOMKilled")]
RESTS = [
    (("PAUSED", "NotStarted"), None),
    (("PAUSED", "NotStarted"), "Created"),
    (("PAUSED", "Frozen"), "Frozen"),
    (("PAUSED", "Stopped"), "Exited"),
    (("PAUSED", "MemoryLost"), "Exited"),
]
"""What is told of what, where it is wished paused."""


@pytest.mark.parametrize("seed", range(60))
async def test_every_walk_ends_as_wished(seed: int) -> None:
    await ends_as_wished(Walk(random.Random(seed)))


@given(source=st.randoms(use_true_random=False))
@settings(
    max_examples=int(os.environ.get("WALKS", "20")),
    derandomize="WALKS" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
async def test_every_walk_that_hypothesis_takes_ends_as_wished(source: random.Random) -> None:
    """It shortens one that fails. WALKS=1000 makes that many, new ones each time."""
    await ends_as_wished(Walk(source))


async def ends_as_wished(walk: Walk) -> None:
    try:
        await walk.run()
        await walk.calm()
        walk.as_wished()
        walk.nothing_is_left()
        await walk.at_rest()
    except BaseException:
        print("\n".join(walk.done))  # pytest shows it with the failure
        raise
    finally:
        await walk.operator.kill()

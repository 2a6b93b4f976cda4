"""What one namespace does, and how little another one waits for it: docs/fairness.md row by row.

The engine in memory is held at one verb. Then nothing of the noisy namespace ever ends, and the
other's call is there all the same: its wait does not depend on how much the noisy one has in line.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller import reconciler
from controller.core.state import Container, Holdings, Run, Verb
from controller.core.subject import Subject
from controller.core.verdict import Operation
from controller.engines.memory import Exit
from controller.entries import Entry
from controller.weights import KNOWN, QUICK_SECONDS, VOLUMES_AT_ONCE, Weights
from tests.unit.fakes import Obj, Operator

NOISY, QUIET = "noisy", "quiet"
BACKLOGS = pytest.mark.parametrize("backlog", [10, 100])
EXITS = ["exit"]
METADATA = {"name": "a", "namespace": "team", "uid": "u1", "resourceVersion": "1"}
VOLUME = {"name": "work", "mountPath": "/work", "managed": {}}


def ports(count: int) -> list[dict[str, Any]]:
    return [{"name": f"P{number}", "containerPort": 8000 + number} for number in range(count)]


class Neighbours:
    """A noisy namespace and a quiet one on one operator, which has four slots of each kind."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        operator.host.program = lambda spec: Exit(1) if list(spec.command or ()) == EXITS else None

    async def make(self, namespace: str, count: int = 1, **spec: Any) -> None:
        for number in range(count):
            self.operator.api.create(f"{namespace}-{number}", namespace=namespace, **spec)
        await self.operator.settle()

    def delete(self, namespace: str) -> None:
        api = self.operator.api
        for (of, _), obj in list(api.sandboxes.items()):
            if of == namespace:
                api._store(obj, {"metadata": {"deletionTimestamp": "2026-01-01T12:00:00Z"}})

    def calls(self, verb: str) -> int:
        """How many calls of the verb have reached the engine."""
        return self.operator.host.calls.count(verb)

    def quiet(self) -> Obj:
        (found,) = (o for (of, _), o in self.operator.api.sandboxes.items() if of == QUIET)
        return found

    @property
    def phase(self) -> str:
        return str((self.quiet().get("status") or {}).get("phase"))


@pytest.fixture
def neighbours(operator: Operator) -> Neighbours:
    return Neighbours(operator)


@BACKLOGS
async def test_a_create_beside_many_plain_ones(neighbours: Neighbours, backlog: int) -> None:
    neighbours.operator.host.gate("create")
    await neighbours.make(NOISY, backlog)
    assert neighbours.calls("create") == 4
    await neighbours.make(QUIET)
    assert neighbours.calls("create") == 5


@BACKLOGS
async def test_a_create_beside_many_with_many_ports(neighbours: Neighbours, backlog: int) -> None:
    neighbours.operator.host.gate("create")
    await neighbours.make(NOISY, backlog, ports=ports(32))
    assert neighbours.calls("create") == 1, "each keeps the engine busy for long"
    await neighbours.make(QUIET)
    assert neighbours.calls("create") == 2


@BACKLOGS
async def test_a_create_beside_many_with_large_volumes(
    neighbours: Neighbours, backlog: int
) -> None:
    neighbours.operator.host.gate("create")
    await neighbours.make(NOISY, backlog, volumes=[VOLUME])
    assert neighbours.calls("create") == VOLUMES_AT_ONCE
    await neighbours.make(QUIET, volumes=[VOLUME])
    assert neighbours.calls("create") == VOLUMES_AT_ONCE + 1


@BACKLOGS
async def test_a_create_beside_many_that_exit_at_once(neighbours: Neighbours, backlog: int) -> None:
    await neighbours.make(NOISY, backlog, command=EXITS)
    neighbours.operator.host.gate("start")
    before = neighbours.calls("start")
    await neighbours.operator.advance(2)
    assert 1 <= neighbours.calls("start") - before <= 2, "a restart counts twice"
    before = neighbours.calls("start")
    await neighbours.make(QUIET)
    assert neighbours.calls("start") == before + 1


async def test_a_first_start_goes_before_the_restarts_of_its_own_namespace(
    neighbours: Neighbours,
) -> None:
    await neighbours.make(NOISY, 20, command=EXITS)
    gate = neighbours.operator.host.gate("start")
    await neighbours.operator.advance(2)
    neighbours.operator.api.create("fresh", namespace=NOISY)
    await neighbours.operator.settle()
    neighbours.operator.host.calls.clear()
    gate.set()
    await neighbours.operator.settle()
    order = [call for call in neighbours.operator.host.calls if call in ("create", "start")]
    assert order.index("create") <= 3


@BACKLOGS
async def test_a_delete_beside_many_deletes(neighbours: Neighbours, backlog: int) -> None:
    await neighbours.make(NOISY, backlog)
    await neighbours.make(QUIET)
    neighbours.operator.host.gate("remove")
    neighbours.delete(NOISY)
    await neighbours.operator.settle()
    assert neighbours.calls("remove") == 4
    neighbours.delete(QUIET)
    await neighbours.operator.settle()
    assert neighbours.phase == "DELETING"
    assert neighbours.calls("remove") == 5


@pytest.mark.parametrize("verb", ["create", "start", "find", "inspect"])
async def test_a_delete_beside_an_engine_full_of_creations(
    neighbours: Neighbours, verb: str
) -> None:
    await neighbours.make(QUIET)
    neighbours.operator.host.gate(verb)
    await neighbours.make(NOISY, 100)
    neighbours.delete(QUIET)
    await neighbours.operator.settle()
    assert neighbours.calls("remove") == 1


@pytest.mark.parametrize("verb", ["freeze", "thaw"])
async def test_a_pause_and_a_resume_beside_many(neighbours: Neighbours, verb: str) -> None:
    await neighbours.make(NOISY, 20)
    await neighbours.make(QUIET)
    api = neighbours.operator.api

    async def mode(namespace: str, mode: str) -> None:
        for (of, _), obj in list(api.sandboxes.items()):
            if of == namespace:
                generation = obj["metadata"]["generation"] + 1
                changes = {
                    "spec": {"operatingMode": mode, "pauseMethod": "Freeze"},
                    "metadata": {"generation": generation},
                }
                api._store(obj, changes)
        await neighbours.operator.settle()

    if verb == "thaw":
        for namespace in (NOISY, QUIET):
            await mode(namespace, "Paused")
    neighbours.operator.host.gate(verb)
    wanted = "Paused" if verb == "freeze" else "Running"
    await mode(NOISY, wanted)
    assert neighbours.calls(verb) == 4
    await mode(QUIET, wanted)
    assert neighbours.calls(verb) == 5


async def test_a_create_beside_many_that_refer_to_what_is_read_slowly(
    neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = asyncio.Event()
    get_config_map = neighbours.operator.api.get_config_map

    async def slowly(namespace: str, name: str) -> Obj:
        if namespace == NOISY:
            await held.wait()
        return await get_config_map(namespace, name)

    monkeypatch.setattr(neighbours.operator.api, "get_config_map", slowly)
    env_from = [{"configMapRef": {"name": "none", "optional": True}}]
    await neighbours.make(NOISY, 100, envFrom=env_from)
    await neighbours.make(QUIET, envFrom=env_from)
    assert neighbours.phase == "RUNNING"


async def test_what_is_not_there_keeps_no_engine_busy(neighbours: Neighbours) -> None:
    await neighbours.make(NOISY, 10, envFrom=[{"secretRef": {"name": "none"}}])
    assert not {"create", "find", "inspect"} & set(neighbours.operator.host.calls)


async def test_a_hundred_deletions_of_one_namespace_and_a_create(
    neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    await neighbours.make(NOISY, 100)
    held = asyncio.Event()
    patch = neighbours.operator.api.patch_status

    async def slowly(namespace: str, *arguments: Any) -> Obj:
        if namespace == NOISY:
            await held.wait()
        return await patch(namespace, *arguments)

    monkeypatch.setattr(neighbours.operator.api, "patch_status", slowly)
    neighbours.delete(NOISY)
    for _ in range(100):
        await asyncio.sleep(0)
    neighbours.operator.api.create("quiet", namespace=QUIET)
    async with asyncio.timeout(10):
        while neighbours.phase != "RUNNING":  # noqa: ASYNC110 - `settle` waits for the held ones
            await asyncio.sleep(0.01)
    held.set()
    await neighbours.operator.settle()


async def test_what_one_namespace_leaves_behind_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciler, "_BEREAVED_OF_A_NAMESPACE", 5)
    bereaved = reconciler.Bereaved()
    for number in range(10):
        left = sandbox()
        left.uid = f"u{number}"
        bereaved.put(left)
    other = Entry("other", Subject.read({"metadata": METADATA | {"namespace": "other"}}))
    bereaved.put(other)
    assert other in [await bereaved.get() for _ in range(2)]
    assert [(await bereaved.get()).uid for _ in range(4)] == ["u6", "u7", "u8", "u9"]


# Weights


def sandbox(**spec: Any) -> Entry:
    obj = {"metadata": METADATA, "spec": {"image": "box"} | spec}
    return Entry("u1", Subject.read(obj))


def cost(verb: Verb, **spec: Any) -> int:
    return Weights(16).of(sandbox(**spec), Operation(verb, "c1")).cost


def test_what_keeps_the_engine_busy_costs_more() -> None:
    assert cost(Verb.RUN) == cost(Verb.OBSERVE) == cost(Verb.FREEZE) == cost(Verb.CLEAN) == 1
    assert cost(Verb.RUN, ports=ports(1)) == 1
    assert cost(Verb.RUN, ports=ports(8)) == 3
    assert 2 * cost(Verb.RUN, ports=ports(32)) > 16


def test_to_stop_many_ports_counts_for_as_long_as_the_engine_takes_them_down() -> None:
    running = sandbox(ports=ports(32))
    running.holdings = Holdings(container=Container("c1", "box", Run.RUNNING))
    weight = Weights(16).of(running, Operation(Verb.SIGNAL_STOP, "c1"))
    assert weight.cost == cost(Verb.RUN, ports=ports(32))
    assert weight.linger > 0
    running.holdings = Holdings(container=Container("c1", "box", Run.EXITED))
    weight = Weights(16).of(running, Operation(Verb.SIGNAL_STOP, "c1"))
    assert (weight.cost, weight.linger) == (1, 0)


def test_volumes_that_were_made_at_once_cost_nothing_more() -> None:
    weights, of = Weights(16), sandbox(volumes=[VOLUME])
    run, clean = Operation(Verb.RUN), Operation(Verb.CLEAN, "c1", ("v",))
    assert (weights.of(of, run).cost, weights.of(of, clean).cost) == (8, 8)
    weights.took(of, QUICK_SECONDS / 2)
    assert (weights.of(of, run).cost, weights.of(of, clean).cost) == (1, 1)
    weights.took(of, QUICK_SECONDS * 2)
    assert weights.of(of, run).cost == 8


def test_what_is_remembered_of_volumes_is_bounded() -> None:
    weights = Weights(16)
    for number in range(KNOWN + 10):
        weights.took(sandbox(image=f"image-{number}", volumes=[VOLUME]), 0)
    assert len(weights._quick) == KNOWN

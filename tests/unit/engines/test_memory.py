"""The faults that the engine in memory makes on order; its verbs are tests/contract's matter."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from controller.core.names import Owner
from controller.core.reasons import Reason
from controller.core.state import Run
from controller.engines.base import ContainerSpec, EngineRefused, EngineUnreachable
from controller.engines.memory import MemoryEngine, MemoryHost

UID = "u1"
SPEC = ContainerSpec(
    uid=UID,
    namespace="ns",
    name="box",
    image="image",
    spec_hash="v1-abc",
    stop_grace_seconds=3,
    env={},
)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def host() -> MemoryHost:
    return MemoryHost(images={"image"}, registry={"other"}, now=lambda: NOON)


@pytest.fixture
def engine(host: MemoryHost) -> MemoryEngine:
    return MemoryEngine(Owner("c", "i"), host)


async def run_of(engine: MemoryEngine) -> Run | None:
    found = (await engine.find(UID)).container
    return found.run if found is not None else None


async def test_a_failure_has_no_effect_and_happens_once(
    host: MemoryHost, engine: MemoryEngine
) -> None:
    host.fail_next("create", EngineRefused(Reason.ENGINE_REFUSED, "no room"))
    with pytest.raises(EngineRefused, match="no room"):
        await engine.create(SPEC)
    assert await run_of(engine) is None
    await engine.create(SPEC)


async def test_a_lost_answer_leaves_its_effect(host: MemoryHost, engine: MemoryEngine) -> None:
    host.lose_answer_next("create")
    with pytest.raises(EngineUnreachable):
        await engine.create(SPEC)
    assert await run_of(engine) is Run.CREATED


async def test_a_gate_holds_a_verb_before_its_effect(
    host: MemoryHost, engine: MemoryEngine
) -> None:
    gate = host.gate("create")
    creating = asyncio.create_task(engine.create(SPEC))
    for _ in range(2):
        assert await run_of(engine) is None
    assert not creating.done()
    gate.set()
    await creating
    assert await run_of(engine) is Run.CREATED


async def test_an_outage_ends_streams_and_loses_nothing(
    host: MemoryHost, engine: MemoryEngine
) -> None:
    await engine.create(SPEC)
    events = engine.events()
    assert await anext(events) is None
    host.outage()
    for call in (anext(events), engine.list(), anext(engine.events())):
        with pytest.raises(EngineUnreachable):
            await call
    host.unreachable = False
    assert await run_of(engine) is Run.CREATED


async def test_a_reboot_ends_what_ran_and_tells_nobody(
    host: MemoryHost, engine: MemoryEngine
) -> None:
    await engine.start(await engine.create(SPEC))
    host.external_pause(UID)
    events = engine.events()
    assert await anext(events) is None
    host.reboot()
    with pytest.raises(EngineUnreachable):
        await anext(events)
    found = (await engine.find(UID)).container
    assert found is not None
    assert (found.run, found.exit_code, found.finished_at) == (Run.EXITED, 255, NOON)


async def test_what_others_do_is_told(host: MemoryHost, engine: MemoryEngine) -> None:
    events = engine.events()
    assert await anext(events) is None
    await engine.start(await engine.create(SPEC))
    host.external_pause(UID)
    host.external_unpause(UID)
    host.oom_kill(UID)
    found = (await engine.find(UID)).container
    assert found is not None
    assert (found.exit_code, found.oom_killed) == (137, True)
    host.external_start(UID)
    host.external_stop(UID, 2)
    host.external_remove(UID)
    for action in (
        *("create", "start", "pause", "unpause", "oom", "die"),
        *("start", "die", "destroy"),
    ):
        event = await anext(events)
        assert event is not None
        assert event.action == action


async def test_lost_events_are_told_to_nobody(host: MemoryHost, engine: MemoryEngine) -> None:
    events = engine.events()
    assert await anext(events) is None
    host.lose_events = True
    await engine.create(SPEC)
    host.lose_events = False
    host.external_remove(UID)
    event = await anext(events)
    assert event is not None
    assert event.action == "destroy"


async def test_only_what_a_registry_has_is_pulled(engine: MemoryEngine) -> None:
    await engine.pull("other")
    assert await engine.image_present("other")
    with pytest.raises(EngineRefused):
        await engine.pull("nowhere")

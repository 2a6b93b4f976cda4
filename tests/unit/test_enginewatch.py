"""The watch of the engine: outages, the resync, and the sweep by invariant 9."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from controller import enginewatch
from controller.core import names
from controller.core.reasons import Reason
from controller.core.state import Run
from controller.engines.base import ContainerSpec, EngineRefused, EngineUnreachable
from controller.engines.memory import MemoryEngine
from controller.kube.api import ApiUnreachable
from tests.unit.fakes import IMAGE, OWNER, Operator

ORPHAN = ContainerSpec(
    uid="orphan",
    namespace="team",
    name="old",
    image=IMAGE,
    spec_hash="v1-0",
    stop_grace_seconds=1,
    env={},
)


@pytest.fixture(autouse=True)
def _reconnects_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enginewatch, "_RECONNECT_SECONDS", 0)


async def orphan(operator: Operator, owner: names.Owner = OWNER, namespace: str = "team") -> None:
    engine = MemoryEngine(owner, operator.host)
    await engine.start(await engine.create(replace(ORPHAN, namespace=namespace)))


@pytest.fixture
async def swept(operator: Operator) -> AsyncIterator[Operator]:
    """With one Sandbox that runs, which no sweep may touch."""
    operator.api.create()
    await operator.settle()
    operator.api.writes.clear()
    operator.host.calls.clear()
    operator.api.reads.clear()
    yield operator
    assert operator.told() == ("RUNNING", "Ready")


# The sweep


async def test_an_orphan_is_removed_in_the_second_sweep(swept: Operator) -> None:
    await orphan(swept)
    await swept.resync()
    assert swept.containers == 2
    await swept.resync()
    assert swept.containers == 1


async def test_the_engine_is_listed_before_the_api_is_read(swept: Operator) -> None:
    order: list[str] = []
    swept.host.calls = Recorder(order, "engine")
    swept.api.reads = Recorder(order, "api")
    await swept.enginewatch.resync_once()
    assert order[:3] == ["engine list", "engine identify", "api list_sandboxes"]


class Recorder(list[str]):
    def __init__(self, order: list[str], who: str) -> None:
        super().__init__()
        self._order, self._who = order, who

    def append(self, item: str) -> None:
        self._order.append(f"{self._who} {item}")


async def test_one_that_appears_between_two_sweeps_is_no_orphan(swept: Operator) -> None:
    await orphan(swept)
    await swept.resync()
    swept.watching = False
    swept.api.create("late", uid="orphan", operatingMode="Paused")
    await swept.resync()
    await swept.resync()
    assert swept.containers == 2


async def test_only_two_sweeps_in_a_row_condemn(swept: Operator) -> None:
    await orphan(swept)
    await swept.resync()
    held = {i: h for i, h in swept.host.containers.items() if h.uid == "orphan"}
    for id_ in held:
        del swept.host.containers[id_]
    await swept.resync()
    swept.host.containers.update(held)
    await swept.resync()
    assert swept.containers == 2


async def test_nothing_is_swept_while_the_api_does_not_answer(swept: Operator) -> None:
    await orphan(swept)
    await swept.resync()
    swept.api.fail_next("list_sandboxes", ApiUnreachable("no answer"))
    with pytest.raises(ApiUnreachable):
        await swept.resync()
    assert swept.containers == 2
    assert len(swept.entries) == 1


async def test_nothing_is_swept_while_the_engine_does_not_answer(swept: Operator) -> None:
    await orphan(swept)
    await swept.resync()
    swept.host.fail_next("list", EngineUnreachable("no answer"))
    with pytest.raises(EngineUnreachable):
        await swept.resync()
    assert swept.containers == 2


async def test_an_empty_engine_in_an_outage_is_not_believed(swept: Operator) -> None:
    swept.engines.view = replace(swept.engines.view, unreachable_since=swept.clock())
    await orphan(swept)
    for _ in range(3):
        await swept.enginewatch.resync_once()
    assert swept.containers == 2
    assert "list" not in swept.host.calls


async def test_what_another_operator_made_is_not_touched(swept: Operator) -> None:
    await orphan(swept, names.Owner("cluster", "other"))
    for _ in range(3):
        await swept.resync()
    assert swept.containers == 2


async def test_outside_the_watched_namespaces_nothing_is_an_orphan() -> None:
    operator = Operator(namespaces=("team",))
    await operator.start()
    await orphan(operator, namespace="elsewhere")
    for _ in range(3):
        await operator.resync()
    assert operator.containers == 1
    await operator.kill()


async def test_an_orphan_that_cannot_be_removed_is_tried_in_the_next_sweep(swept: Operator) -> None:
    await orphan(swept)
    swept.host.fail_next("remove", EngineRefused(Reason.ENGINE_REFUSED, "busy"))
    for _ in range(2):
        await swept.resync()
    assert swept.containers == 2
    await swept.resync()
    assert swept.containers == 1


async def test_a_create_that_outlives_its_finalizer_is_swept(swept: Operator) -> None:
    """The one exception of invariant 2."""
    gate = swept.host.gate("create")
    swept.api.create("b")
    await swept.settle()
    uid = swept.uid("b")
    swept.api.lose("b")
    await swept.resync()
    gate.set()
    await swept.settle()
    assert swept.entries.get(uid) is None
    for _ in range(2):
        await swept.resync()
    assert swept.containers == 1


# The resync


async def test_the_resync_finds_what_no_event_told(swept: Operator) -> None:
    swept.host.lose_events = True
    swept.host.external_remove(swept.uid())
    await swept.settle()
    assert swept.told() == ("RUNNING", "Ready")
    await swept.resync()
    assert swept.told() == ("MISSING", "ContainerMissing")
    swept.api.delete()
    await swept.settle()
    swept.api.create()
    await swept.settle()


async def test_the_resync_finds_objects_that_the_watch_lost(swept: Operator) -> None:
    swept.watching = False
    swept.api.create("b")
    await swept.resync()
    assert swept.told("b") == ("RUNNING", "Ready")
    swept.api.delete("b")
    await swept.resync()
    assert not swept.exists("b")


async def test_a_restart_that_lists_the_engine_first_misses_nothing(swept: Operator) -> None:
    await swept.kill()
    await swept.start(engine_first=True)
    assert swept.api.writes == []


# Outages


async def outage(operator: Operator) -> None:
    operator.host.outage()
    await operator.settle()
    assert operator.engines.view.unreachable_since is not None


async def back(operator: Operator) -> None:
    operator.host.unreachable = False
    await operator.settle()
    assert operator.engines.view.unreachable_since is None


def reachable(operator: Operator) -> tuple[str, str]:
    conditions = {c["type"]: c for c in operator.api.get()["status"]["conditions"]}
    return conditions["EngineReachable"]["status"], conditions["EngineReachable"]["reason"]


async def test_a_short_outage_writes_nothing(swept: Operator) -> None:
    await outage(swept)
    await swept.advance(9)
    await back(swept)
    assert swept.api.writes == []


async def test_a_long_one_is_told_once_and_taken_back_once(swept: Operator) -> None:
    await outage(swept)
    for _ in range(5):
        await swept.advance(11)
    assert swept.api.writes == ["status"]
    assert reachable(swept) == ("False", "EngineUnreachable")
    assert swept.told() == ("RUNNING", "Ready")
    await back(swept)
    await swept.until(lambda: reachable(swept) == ("True", "EngineReachable"))
    assert swept.api.writes == ["status"] * 2


async def test_a_full_listing_alone_ends_no_deletion(swept: Operator) -> None:
    """It goes by labels; a volume that a killed engine left half made has none."""
    swept.api.create("b")
    await swept.settle()
    await outage(swept)
    swept.api.delete("b")
    swept.host.external_remove(swept.uid("b"))
    await swept.settle()
    swept.host.calls.clear()
    await back(swept)
    assert not swept.exists("b")
    assert "find" in swept.host.calls


async def test_a_deletion_waits_for_the_engine_and_then_finishes(swept: Operator) -> None:
    swept.api.create("b")
    await swept.settle()
    await outage(swept)
    swept.api.delete("b")
    await swept.advance(60)
    assert swept.told("b") == ("DELETING", "Deleting")
    calls = len(swept.host.calls)
    await swept.advance(60)
    assert set(swept.host.calls[calls:]) <= {"identify"}
    await back(swept)
    assert not swept.exists("b")
    assert swept.containers == 1


async def test_what_happened_in_the_outage_is_seen_after_it(swept: Operator) -> None:
    swept.api.create("b", restartPolicy="Never")
    await swept.settle()
    await outage(swept)
    swept.host.external_kill(swept.uid("b"))
    await back(swept)
    assert swept.told("b") == ("ERROR", "Exited")


async def test_another_engine_is_not_an_empty_one(swept: Operator) -> None:
    containers = dict(swept.host.containers)
    swept.host.engine_id = "memory-2"
    swept.host.containers.clear()
    await outage(swept)
    await back(swept)
    assert swept.told() == ("RUNNING", "Ready")
    assert reachable(swept) == ("False", "EngineChanged")
    assert swept.containers == 0
    swept.host.engine_id = "memory-1"
    swept.host.containers.update(containers)
    await outage(swept)
    await back(swept)
    await swept.until(lambda: reachable(swept) == ("True", "EngineReachable"))


async def test_an_engine_that_the_settings_give_up_holds_nothing_back(operator: Operator) -> None:
    operator.api.create(onMissing="Recreate")
    await operator.settle()
    await operator.kill()
    operator.host.engine_id = "memory-2"
    operator.host.containers.clear()
    operator.accepted = frozenset({"memory-1"})
    await operator.start()
    assert operator.told() == ("RUNNING", "Ready")
    held = operator.host.of(operator.uid()).container
    assert held is not None
    assert held.run is Run.RUNNING
    assert operator.api.get()["status"]["container"]["engineId"] == "memory-2"


# Another engine under the same address, before the heartbeat notices


def fail_over(operator: Operator) -> None:
    """The event stream to the former engine hangs."""
    host = operator.host
    host.engine_id = "memory-2"
    host.containers, host.volumes, host._of = {}, {}, defaultdict(list)


async def test_what_another_engine_lacks_is_not_deleted(swept: Operator) -> None:
    swept.api.create("b", pauseMethod="Stop")
    await swept.settle()
    swept.api.change("b", operatingMode="Paused")
    await swept.settle()
    assert swept.told("b") == ("PAUSED", "Stopped")
    fail_over(swept)
    swept.api.delete("b")
    await swept.settle()
    assert swept.told("b")[0] == "DELETING"


async def test_a_resync_believes_no_other_engine(swept: Operator) -> None:
    fail_over(swept)
    with pytest.raises(EngineUnreachable, match="another engine"):
        await swept.resync()
    assert swept.told() == ("RUNNING", "Ready")


async def test_a_look_believes_no_other_engine(swept: Operator) -> None:
    fail_over(swept)
    swept.entry().look = True
    await swept.advance(1)
    assert swept.told() == ("RUNNING", "Ready")


async def test_an_engine_that_changes_while_it_is_listed_is_not_believed(swept: Operator) -> None:
    known, listed = swept.engines.view.id, swept.host.gate("list")
    swept.host.break_streams()
    await swept.settle()
    fail_over(swept)
    swept.host.gates.clear()
    listed.set()
    await asyncio.sleep(0)
    assert known is not None
    await swept.until(lambda: swept.engines.view.id == "memory-2")
    assert swept.told() == ("RUNNING", "Ready")


async def test_what_was_under_way_while_all_was_listed_is_looked_at_again(
    operator: Operator,
) -> None:
    """Its own end may have been told to nobody, and the listing passed it over."""
    operator.api.create()
    await operator.settle()
    sent = operator.host.gate("signal_stop")
    operator.api.delete()
    await operator.settle()
    operator.host.break_streams()
    await operator.settle()
    operator.host.lose_events = True
    sent.set()
    await operator.settle()
    assert operator.containers == 0
    assert operator.api.sandboxes == {}


# What is known against an engine


@pytest.mark.parametrize(
    ("namespaces", "events"),
    [((), 1), (("team",), 0), (("team", "default"), 1)],
    ids=["all namespaces", "others", "default among them"],
)
async def test_what_is_known_against_an_engine_is_reported_once(
    namespaces: tuple[str, ...], events: int, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator(namespaces=namespaces)
    operator.host.advisories = ("runc may lack a fix",)
    await operator.start()
    operator.host.break_streams()
    await operator.settle()
    assert [e["message"] for e in operator.api.events] == ["runc may lack a fix"] * events
    assert [e["involvedObject"]["uid"] for e in operator.api.events] == ["cluster"] * events
    assert sum("runc may lack a fix" in record.message for record in caplog.records) == 1
    await operator.kill()
    await operator.start()
    assert len({e["metadata"]["name"] for e in operator.api.events}) == events, "a restart's too"
    await operator.kill()


@pytest.mark.parametrize("answer", ["none", "an outage"])
async def test_asking_for_it_holds_up_no_sandbox(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def advisories(_: MemoryEngine) -> tuple[str, ...]:
        if answer == "none":
            await asyncio.Event().wait()
        raise EngineUnreachable("no answer")

    monkeypatch.setattr(MemoryEngine, "advisories", advisories)
    operator = Operator()
    await operator.start()
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.engines.view.unreachable_since is None
    await operator.kill()

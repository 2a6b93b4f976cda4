"""What others do just before or while the operator writes, and answers that never change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from controller.core.state import Verb
from controller.engines.base import EngineUnreachable
from controller.fairness import FairSlots, Slot
from controller.kube.api import ApiError, Conflict, Forbidden, Invalid
from tests.unit.fakes import NAMESPACE, Operator
from tests.unit.test_reconciler import PAUSED, RUNNING, up

RESUMED = {"sandbox.openhands.dev/resume-requested-at": "2026-01-01T12:00:00Z"}


def just_before(operator: Operator, method: str, happen: Callable[[], object]) -> None:
    """`happen` is committed at the API server just before the next call of `method` is."""
    turn, due = operator.api._turn, [happen]

    async def _turn(asked: str) -> None:
        await turn(asked)
        if asked == method and due:
            due.pop()()

    setattr(operator.api, "_turn", _turn)  # noqa: B010 - a method


def always(operator: Operator, method: str, error: Exception) -> None:
    async def refuse(*_: Any) -> Any:
        operator.api.reads.append(method)
        await asyncio.sleep(0)
        raise error

    setattr(operator.api, method, refuse)


# Another wish


async def test_a_wish_that_comes_while_the_status_is_written_is_acted_on(
    operator: Operator,
) -> None:
    just_before(operator, "patch_status", lambda: operator.api.change(**PAUSED))
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("PAUSED", "Frozen")


async def test_nothing_is_done_for_the_wish_before(operator: Operator) -> None:
    """Resuming is written, and the answer says that it is to stay paused."""
    await up(operator)
    operator.api.change(**PAUSED)
    await operator.settle()
    just_before(operator, "patch_status", lambda: operator.api.change(**PAUSED))
    operator.host.calls.clear()
    operator.api.change(**RUNNING)
    await operator.settle()
    assert operator.told() == ("PAUSED", "Frozen")
    assert "thaw" not in operator.host.calls


async def test_a_resume_that_comes_so_is_acted_on(operator: Operator) -> None:
    await up(operator)
    frozen = operator.host.gate("freeze")
    suspended = {"reason": "Idle", "at": "2026-01-01T11:00:00Z"}
    operator.api._store(
        operator.api.sandboxes[NAMESPACE, "a"], {"status": {"suspended": suspended}}
    )
    await operator.settle()
    assert operator.told() == ("RUNNING", "Pausing")
    just_before(operator, "patch_status", lambda: operator.api.annotate(annotations=RESUMED))
    frozen.set()
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")


# What waits for its turn


async def all_of(slots: FairSlots) -> list[Slot]:
    """Take every slot, the reserve too, on behalf of others."""
    return [await slots.acquire(f"other-{i}") for i in range(slots.width + slots.reserve)]


@pytest.mark.parametrize("method", ["Freeze", "Stop"])
@pytest.mark.parametrize("ends", ["delete", "pause"])
async def test_what_waits_for_a_slot_is_not_begun_once_it_is_unwanted(
    operator: Operator, method: str, ends: str
) -> None:
    await up(operator, pauseMethod=method)
    operator.api.change(**PAUSED)
    await operator.settle()
    slots = operator.operations._slots(Verb.THAW if method == "Freeze" else Verb.START)
    taken = await all_of(slots)
    operator.api.change(**RUNNING)
    await operator.settle()
    flight = operator.entry().in_flight
    assert flight is not None
    operator.host.calls.clear()
    if ends == "delete":
        operator.api.delete()
    else:
        operator.api.change(**PAUSED)
    await operator.settle()
    assert flight.cancelled
    for slot in taken:
        slot.release()
    await operator.settle()
    assert not {"start", "thaw"} & set(operator.host.calls)
    assert not operator.exists() if ends == "delete" else operator.told()[0] == "PAUSED"


async def test_an_end_is_told_however_many_wait_to_be_started(operator: Operator) -> None:
    await up(operator, restartPolicy="Never")
    slots = operator.operations._slots(Verb.START)
    await all_of(slots)
    operator.host.external_kill(operator.uid())
    await operator.settle()
    assert operator.told() == ("ERROR", "Exited")


async def test_a_deletion_that_was_heard_and_not_judged_yet_ends_a_creation(
    operator: Operator,
) -> None:
    operator.host.registry.add("far")
    pulled = operator.host.gate("pull")
    operator.api.create(image="far")
    await operator.settle()
    flight = operator.entry().in_flight
    assert flight is not None
    operator.host.calls.clear()
    operator.watching = False
    operator.api.delete()
    operator.entries.take(operator.api.get())
    assert not flight.cancelled
    pulled.set()
    await operator.settle()
    assert not {"create", "start"} & set(operator.host.calls)


# What is refused for ever


@pytest.mark.parametrize("error", [Invalid("no", 422), Forbidden("denied", 403)])
async def test_a_status_that_is_refused_holds_no_cleanup(
    operator: Operator, error: ApiError
) -> None:
    await up(operator)
    always(operator, "patch_status", error)
    operator.api.delete()
    await operator.settle()
    await operator.advance(60)
    assert (operator.containers, operator.api.secrets) == (0, {})


@pytest.mark.parametrize("method", ["patch_metadata", "patch_status"])
async def test_a_conflict_that_lasts_is_no_hot_loop(operator: Operator, method: str) -> None:
    if method == "patch_status":
        operator.api.create()
        await operator.settle()
    always(operator, method, Conflict("no", 409))
    before = len(operator.api.reads)
    if method == "patch_status":
        operator.api.change(**PAUSED)
    else:
        operator.api.create()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(operator.api.reads) - before < 12


async def test_a_secret_and_a_look_that_both_fail_are_no_hot_loop(operator: Operator) -> None:
    operator.api.put_secret("a-session-key", {})
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("ERROR", "SecretNameTaken")
    operator.host._failures["find"] = [EngineUnreachable("no")] * 1000
    operator.entry().look = True
    before = len(operator.api.reads)
    for _ in range(300):  # as every heartbeat, event and resync does
        operator.queue.add(operator.uid())
        await asyncio.sleep(0)
    assert len(operator.api.reads) - before < 10
    assert operator.told() == ("ERROR", "SecretNameTaken")

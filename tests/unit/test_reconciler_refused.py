"""What the API server refuses for good, or never answers: the engine's part goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.core import names
from controller.core.state import Run
from controller.kube.api import ApiError, ApiUnreachable, Forbidden, Invalid, Refused, TooLarge
from tests.unit.fakes import Operator
from tests.unit.test_reconciler import PAUSED, RUNNING, up
from tests.unit.test_reconciler_races import always

TOO_LARGE = TooLarge("etcdserver: request is too large", 500)
ANSWERS = [TOO_LARGE, Invalid("no", 422), Forbidden("no", 403), Refused("no", 400)]


def fill(operator: Operator, room: int = 45) -> None:
    """Somebody pads the object until it has room for so many bytes more."""
    operator.api.limit = len(json.dumps(operator.api.get())) + room


def reasons(operator: Operator) -> list[str]:
    return [event["reason"] for event in operator.api.events]


def container_run(operator: Operator) -> Run | None:
    found = [held.container for held in operator.host.containers.values()]
    return found[0].run if found and found[0] else None


async def test_a_deletion_without_room_for_its_status_ends_the_container(
    operator: Operator,
) -> None:
    await up(operator)
    fill(operator)
    operator.api.delete()
    await operator.settle()
    assert not operator.exists()
    assert (operator.containers, operator.api.secrets) == (0, {})


async def test_deleting_shows_in_the_room_that_a_short_status_makes(operator: Operator) -> None:
    await up(operator, sessionKey={"mode": "None"})
    operator.host.heeds_sigterm = lambda spec: False
    fill(operator)
    operator.api.delete()
    await operator.settle()
    status = operator.api.get()["status"]
    assert (status["phase"], status.get("exposedUrls")) == ("DELETING", None)
    assert [c["type"] for c in status["conditions"]] == ["Ready"]
    assert reasons(operator)[-1] == "ObjectTooLarge"


@pytest.mark.parametrize("method", ["Freeze", "Stop"])
@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
async def test_a_pause_does_not_wait_for_its_status(
    operator: Operator, method: str, answer: ApiError
) -> None:
    await up(operator, pauseMethod=method)
    always(operator, "patch_status", answer)
    operator.api.change(**PAUSED)
    await operator.settle()
    assert container_run(operator) is (Run.FROZEN if method == "Freeze" else Run.EXITED)
    assert reasons(operator)[-1] in ("ObjectTooLarge", "ApiRefused")
    assert operator.api.events[-1]["type"] == "Warning"


async def test_what_ignores_the_signal_of_such_a_pause_is_killed(operator: Operator) -> None:
    await up(operator, pauseMethod="Stop", terminationGracePeriodSeconds=10)
    operator.host.heeds_sigterm = lambda spec: False
    always(operator, "patch_status", TOO_LARGE)
    operator.api.change(**PAUSED)
    await operator.settle()
    for second in range(4):  # and somebody edits the object all the time
        operator.api.annotate(annotations={"note": str(second)})
        await operator.advance(3)
    assert container_run(operator) is Run.EXITED


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
async def test_nothing_is_started_whose_status_is_refused(
    operator: Operator, answer: ApiError
) -> None:
    operator.api.create(**PAUSED)
    await operator.settle()
    assert operator.told() == ("PAUSED", "NotStarted")
    always(operator, "patch_status", answer)
    operator.api.change(**RUNNING)
    await operator.settle()
    assert operator.containers == 0
    assert reasons(operator)[-1] in ("ObjectTooLarge", "ApiRefused")


async def test_it_goes_on_once_there_is_room(operator: Operator) -> None:
    operator.api.create(**PAUSED)
    await operator.settle()
    patch = operator.api.patch_status
    always(operator, "patch_status", TOO_LARGE)
    operator.api.change(**RUNNING)
    await operator.settle()
    assert operator.containers == 0
    setattr(operator.api, "patch_status", patch)  # noqa: B010 - a method
    entry = operator.entry()
    assert entry.unstored is not None
    entry.unstored.retry_at = 0.0
    await operator.advance(1)
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    assert entry.unstored is None


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
async def test_a_refusal_is_not_repeated_all_the_time(operator: Operator, answer: ApiError) -> None:
    await up(operator)
    always(operator, "patch_status", answer)
    operator.api.change(**PAUSED)
    await operator.settle()
    before = operator.api.reads.count("patch_status")
    for _ in range(50):
        await operator.advance(1)
    assert operator.api.reads.count("patch_status") - before <= 2
    assert len(reasons(operator)) == len(set(reasons(operator)))


async def test_a_claim_without_room_is_reported_once(operator: Operator) -> None:
    operator.api.create()
    operator.api.limit = 0
    await operator.settle()
    operator.queue.add(operator.uid())
    await operator.settle()
    assert reasons(operator) == ["ObjectTooLarge"]
    assert operator.containers == 0
    assert names.FINALIZER not in operator.api.get()["metadata"].get("finalizers", ())


@pytest.mark.parametrize("method", ["patch_status", "delete_secret", "get_secret"])
async def test_a_deletion_goes_on_while_the_api_server_does_not_answer(
    operator: Operator, method: str
) -> None:
    await up(operator)
    always(operator, method, ApiUnreachable("no answer"))
    operator.api.delete()
    await operator.settle()
    assert operator.containers == 0


async def test_an_outage_alone_starts_no_pause_that_a_restart_would_not_know(
    operator: Operator,
) -> None:
    await up(operator, pauseMethod="Stop")
    always(operator, "patch_status", ApiUnreachable("no answer"))
    operator.api.change(**PAUSED)
    await operator.settle()
    assert container_run(operator) is Run.RUNNING


async def test_an_error_that_only_this_object_gets_holds_no_pause(operator: Operator) -> None:
    await up(operator)
    always(operator, "patch_status", ApiUnreachable("a webhook failed", 500))
    operator.api.change(**PAUSED)
    for _ in range(10):
        operator.api.written_at = float("inf")  # others' writes are accepted all the while
        await operator.advance(1)
    assert container_run(operator) is Run.FROZEN
    assert reasons(operator)[-1] == "ApiRefused"


async def test_the_others_are_not_held_up(operator: Operator) -> None:
    await up(operator)
    patch = operator.api.patch_status

    async def refuse(namespace: str, name: str, *rest: Any) -> Any:
        if name == "a":
            raise TOO_LARGE
        return await patch(namespace, name, *rest)

    setattr(operator.api, "patch_status", refuse)  # noqa: B010 - a method
    operator.api.change(**PAUSED)
    operator.api.create("b")
    await operator.settle()
    assert operator.told("b") == ("RUNNING", "Ready")

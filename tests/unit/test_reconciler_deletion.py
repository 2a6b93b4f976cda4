"""Deletion in every state, through faults and restarts: DELETING at once, nothing left behind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controller.core import names
from controller.core.reasons import Reason
from controller.engines.base import EngineRefused, EngineUnreachable
from controller.kube.api import ApiError, Forbidden, Invalid
from tests.unit.fakes import NAMESPACE, Operator
from tests.unit.test_reconciler import PAUSED, up


async def state(operator: Operator, what: str) -> None:
    """Bring a Sandbox into one of the states that it can be deleted in."""
    if what == "pulling":
        operator.host.gate("pull")
        operator.host.registry.add("far")
    if what == "creating":
        operator.host.gate("create")
    spec: dict[str, Any] = {"image": "far"} if what in ("pulling", "no image") else {}
    if what == "broken":
        spec = {"image": ""}
    operator.api.create(restartPolicy="Never", onMissing="Report", **spec)
    await operator.settle()
    match what:
        case "frozen":
            operator.api.change(**PAUSED)
        case "stopped":
            operator.api.change(**PAUSED, pauseMethod="Stop")
        case "exited":
            operator.host.external_kill(operator.uid())
        case "missing":
            operator.host.external_remove(operator.uid())
    await operator.settle()


STATES = [
    "running",
    "frozen",
    "stopped",
    "exited",
    "missing",
    "pulling",
    "creating",
    "no image",
    "broken",
]


@pytest.mark.parametrize("what", STATES)
async def test_deletion_in_every_state_leaves_nothing(operator: Operator, what: str) -> None:
    await state(operator, what)
    operator.api.writes.clear()
    operator.api.delete()
    await operator.settle()
    if operator.exists():  # a create that cannot be called back
        assert operator.told() == ("DELETING", "Deleting")
        for gate in operator.host.gates.values():
            gate.set()
        await operator.settle()
    assert not operator.exists()
    assert (operator.containers, operator.host.volumes, operator.api.secrets) == (0, {}, {})
    assert operator.api.writes[0] == "status"
    assert len(operator.api.writes) <= 3
    assert len(operator.entries) == 0


@pytest.mark.parametrize("what", STATES)
async def test_a_restart_in_the_middle_of_it(operator: Operator, what: str) -> None:
    await state(operator, what)
    operator.api.delete()
    await operator.restart()
    operator.host.gates.clear()
    await operator.settle()
    assert not operator.exists()
    assert (operator.containers, operator.host.volumes, operator.api.secrets) == (0, {}, {})


async def test_deleting_shows_before_anything_is_done(operator: Operator) -> None:
    await up(operator)
    for verb in ("signal_stop", "find"):
        operator.host.gate(verb)
    operator.api.delete()
    await operator.settle()
    assert operator.told() == ("DELETING", "Deleting")
    assert operator.api.writes == ["status", "delete secret"]
    status = operator.api.get()["status"]
    assert "sessionApiKeySecretRef" not in status


async def test_one_that_ignores_the_signal_is_removed_after_its_grace(operator: Operator) -> None:
    operator.host.heeds_sigterm = lambda spec: False
    await up(operator, terminationGracePeriodSeconds=30)
    operator.api.delete()
    await operator.settle()
    await operator.advance(29)
    assert operator.exists()
    assert operator.host.calls.count("signal_stop") == 1
    await operator.advance(3)
    assert not operator.exists()


async def test_a_retained_volume_outlives_the_sandbox(operator: Operator) -> None:
    volumes = [
        {"name": "keep", "mountPath": "/keep", "managed": {"reclaimPolicy": "Retain"}},
        {"name": "drop", "mountPath": "/drop", "managed": {}},
    ]
    await up(operator, volumes=volumes)
    uid = operator.uid()
    operator.api.delete()
    await operator.settle()
    assert not operator.exists()
    assert set(operator.host.volumes) == {names.volume_name(uid, "keep")}


async def test_cleanup_that_fails_is_told_and_tried_again_with_a_capped_backoff(
    operator: Operator,
) -> None:
    await up(operator)
    for _ in range(20):
        operator.host.fail_next("remove", EngineRefused(Reason.ENGINE_REFUSED, "it is busy"))
    operator.api.delete()
    await operator.settle()
    assert operator.told() == ("DELETING", "CleanupFailed")
    writes = len(operator.api.writes)
    for _ in range(18):
        await operator.advance(36.1)
    assert operator.host.calls.count("remove") == 19
    assert len(operator.api.writes) == writes
    await operator.advance(36.1)
    await operator.advance(36.1)
    assert not operator.exists()


async def test_a_lost_answer_is_looked_up(operator: Operator) -> None:
    operator.host.lose_answer_next("create")
    operator.api.create()
    await operator.settle()
    await operator.advance(1)
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.containers == 1
    operator.host.lose_answer_next("remove")
    operator.api.delete()
    await operator.settle()
    await operator.advance(1)
    assert not operator.exists()


async def test_the_same_name_again_is_another_sandbox(operator: Operator) -> None:
    operator.host.heeds_sigterm = lambda spec: False
    await up(operator)
    old, key = operator.uid(), operator.key()
    operator.api.delete()
    await operator.settle()
    await operator.advance(60)
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.uid() != old
    assert operator.key() != key
    assert operator.containers == 1


async def test_an_object_that_vanished_unseen_is_swept(operator: Operator) -> None:
    await up(operator)
    operator.api.lose()
    for _ in range(2):
        await operator.resync()
    assert (len(operator.entries), operator.containers) == (0, 0)


async def test_gone_in_spite_of_the_finalizer_takes_the_secret_along(operator: Operator) -> None:
    """The API server's delete had read the object before it was claimed."""
    operator.api.create()
    await operator.settle()
    operator.api._remove(operator.api.sandboxes[NAMESPACE, "a"])
    await operator.settle()
    assert operator.api.secrets == {}
    await operator.resync()
    await operator.resync()
    assert operator.containers == 0


async def test_a_status_that_is_refused_holds_no_cleanup(operator: Operator) -> None:
    """The spec was stored under a looser CRD: the present one refuses every write to it."""
    operator.api.create()
    await operator.settle()
    for _ in range(50):
        operator.api.fail_next("patch_status", Invalid("spec.ports: wrong type", 422, "Invalid"))
    operator.api.delete()
    await operator.settle()
    assert (operator.containers, operator.api.secrets) == (0, {})


@pytest.mark.parametrize("error", [Forbidden("secrets are kept", 403), Invalid("no", 422)])
async def test_a_secret_that_may_not_be_deleted_holds_no_cleanup(
    operator: Operator, error: ApiError
) -> None:
    await up(operator)
    operator.api._failures["delete_secret"] = [error] * 1000
    operator.host._failures["remove"] = [EngineRefused(Reason.ENGINE_REFUSED, "busy")] * 3
    operator.api.delete()
    await operator.settle()
    assert operator.containers == 1, "and neither ends the other's backoff"
    assert operator.host.calls.count("remove") == 1
    for _ in range(5):
        await operator.advance(31)
    assert (operator.containers, operator.told()) == (0, ("DELETING", "CleanupFailed"))
    assert str(error) in operator.api.get()["status"]["conditions"][0]["message"]
    operator.api.writes.clear()
    for _ in range(3):
        await operator.advance(31)
        await operator.resync()
    await operator.restart()
    assert operator.api.writes == []
    operator.api._failures.clear()
    await operator.advance(31)
    assert not operator.exists()
    assert operator.api.secrets == {}


async def test_a_deletion_asks_once_which_engine_it_is(operator: Operator) -> None:
    operator.host.calls.clear()
    await up(operator)
    assert "identify" not in operator.host.calls
    operator.api.delete()
    await operator.settle()
    assert not operator.exists()
    assert operator.host.calls.count("identify") == 1


async def test_a_burst_of_deletions_shares_the_answer(operator: Operator) -> None:
    """The heartbeat would wait behind a question each."""
    for i in range(20):
        operator.api.create(f"a{i}", pauseMethod="Stop", operatingMode="Paused")
    await operator.settle()
    asked = operator.host.gate("identify")
    for i in range(20):
        operator.api.delete(f"a{i}")
    await operator.settle()
    assert len(operator.api.sandboxes) == 20
    asked.set()
    await operator.settle()
    assert operator.api.sandboxes == {}
    assert operator.host.calls.count("identify") < 12


@pytest.mark.parametrize("deleted", [True, False])
async def test_what_was_never_signalled_is_signalled_before_it_is_killed(
    operator: Operator, deleted: bool
) -> None:
    """The operator was away until the grace period was over."""
    operator.host.heeds_sigterm = lambda spec: False
    await up(operator, pauseMethod="Stop")
    operator.host.fail_next("signal_stop", EngineUnreachable("no answer"))
    if deleted:
        operator.api.delete()
    else:
        operator.api.change(operatingMode="Paused")
    await operator.settle()
    await operator.kill()
    operator.clock.time += timedelta(seconds=60)
    operator.host.calls.clear()
    await operator.start()
    assert operator.host.calls.count("signal_stop") == 1
    assert not {"kill", "remove"} & set(operator.host.calls)
    await operator.advance(1)
    assert not {"kill", "remove"} & set(operator.host.calls)
    await operator.advance(1.1)
    assert operator.host.calls.count("signal_stop") == 1
    assert not operator.exists() if deleted else operator.told() == ("PAUSED", "Stopped")

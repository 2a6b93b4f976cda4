"""The fast lane over an engine and an API server in memory: what is written, when, and how often.

The rows of the table are tests/unit/core's matter; here they are walked through.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Any

import pytest

from controller.core import names
from controller.core.rules import Rules
from controller.core.state import Run
from controller.engines.memory import Exit
from controller.kube.api import ApiUnreachable, Conflict
from controller.reconciler import merge_patch
from tests.unit.fakes import IMAGE, Operator

PAUSED: dict[str, Any] = {"operatingMode": "Paused"}
RUNNING: dict[str, Any] = {"operatingMode": "Running"}


async def up(operator: Operator, **spec: Any) -> None:
    operator.api.create(**spec)
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    operator.api.writes.clear()


def environment(operator: Operator, name: str = "a") -> dict[str, str]:
    return dict(operator.host.of(operator.uid(name)).spec.env)


# The way up, and the writes it takes


async def test_from_creation_to_running_takes_three_writes(operator: Operator) -> None:
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.api.writes == ["metadata", "create secret", "status"]


async def test_a_pull_is_told_and_takes_one_write_more(operator: Operator) -> None:
    operator.host.registry.add("far")
    pulled = operator.host.gate("pull")
    operator.api.create(image="far")
    await operator.settle()
    assert operator.told() == ("STARTING", "Pulling")
    pulled.set()
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.api.writes.count("status") == 2


async def test_the_claim_comes_before_the_engine_hears_anything(operator: Operator) -> None:
    operator.api.fail_next("patch_metadata", ApiUnreachable("no answer"))
    operator.api.create()
    await operator.settle()
    assert "create" not in operator.host.calls
    assert operator.containers == 0


async def test_the_claim_labels_the_name_and_the_hash_of_the_key(operator: Operator) -> None:
    await up(operator)
    meta = operator.api.get()["metadata"]
    key = b64decode(operator.key()).decode()
    assert meta["finalizers"] == [names.FINALIZER]
    assert meta["labels"] == {
        names.NAME_LABEL: "a",
        names.KEY_HASH_LABEL: names.key_hash(key),
    }
    assert environment(operator) == {"OH_SESSION_API_KEYS_0": key}


async def test_two_sandboxes_have_two_keys_and_two_containers(operator: Operator) -> None:
    operator.api.create("a")
    operator.api.create("b")
    await operator.settle()
    assert operator.key("a") != operator.key("b")
    assert operator.containers == 2


# Rest


async def test_at_rest_nothing_is_written(operator: Operator) -> None:
    await up(operator)
    for _ in range(7):
        await operator.resync()
        await operator.advance(60)
    assert operator.api.writes == []


@pytest.mark.parametrize(
    "spec",
    [{}, PAUSED, PAUSED | {"pauseMethod": "Stop"}, {"image": "none"}, {"image": ""}],
    ids=["running", "frozen", "stopped", "no such image", "broken"],
)
async def test_a_restart_writes_nothing(operator: Operator, spec: dict[str, Any]) -> None:
    operator.api.create()
    await operator.settle()
    operator.api.change(**spec)
    await operator.settle()
    told, posted = operator.told(), len(operator.api.events)
    operator.api.writes.clear()
    for _ in range(2):
        await operator.restart()
        await operator.resync()
    assert operator.told() == told
    assert (operator.api.writes, len(operator.api.events)) == ([], posted)


async def test_a_restart_amid_retries_does_not_flicker(operator: Operator) -> None:
    operator.api.create(image="none")
    await operator.settle()
    assert operator.told() == ("ERROR", "ImageNotFound")
    operator.api.writes.clear()
    await operator.restart()
    await operator.advance(60)
    assert operator.api.writes == []
    operator.host.registry.add("none")
    await operator.advance(60)
    assert operator.told() == ("RUNNING", "Ready")


async def test_events_tell_each_reason_once(operator: Operator) -> None:
    await up(operator)
    operator.api.change(**PAUSED)
    await operator.settle()
    await operator.resync()
    reasons = [event["reason"] for event in operator.api.events]
    assert reasons == ["Ready", "Pausing", "Frozen"]
    assert {e["involvedObject"]["uid"] for e in operator.api.events} == {operator.uid()}


# Pause and resume


@pytest.mark.parametrize(
    ("method", "run", "reason"),
    [("Freeze", Run.FROZEN, "Frozen"), ("Stop", Run.EXITED, "Stopped")],
)
async def test_pause_and_resume(operator: Operator, method: str, run: Run, reason: str) -> None:
    await up(operator, pauseMethod=method)
    container = operator.host.of(operator.uid()).container
    operator.api.change(**PAUSED)
    await operator.settle()
    assert operator.told() == ("PAUSED", reason)
    held = operator.host.of(operator.uid()).container
    assert held is not None
    assert container is not None
    assert (held.run, held.id) == (run, container.id)
    operator.api.change(**RUNNING)
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.api.writes == ["status"] * 4
    assert "pausing" not in operator.api.get()["status"]


async def test_one_that_does_not_heed_the_signal_is_killed_in_time(operator: Operator) -> None:
    operator.host.heeds_sigterm = lambda spec: False
    await up(operator, pauseMethod="Stop", terminationGracePeriodSeconds=5)
    operator.api.change(**PAUSED)
    await operator.settle()
    assert operator.told() == ("RUNNING", "Pausing")
    assert operator.host.calls.count("signal_stop") == 1
    await operator.advance(6)
    assert operator.told() == ("PAUSED", "Stopped")


async def test_a_stop_that_the_operator_began_and_did_not_see_end_is_a_pause(
    operator: Operator,
) -> None:
    operator.host.heeds_sigterm = lambda spec: False
    await up(operator, pauseMethod="Stop")
    operator.api.change(**PAUSED)
    await operator.settle()
    await operator.kill()
    operator.host.external_stop(operator.uid(), 143)
    await operator.start()
    assert operator.told() == ("PAUSED", "Stopped")


async def test_a_wish_that_turns_during_the_freeze(operator: Operator) -> None:
    await up(operator)
    frozen = operator.host.gate("freeze")
    operator.api.change(**PAUSED)
    await operator.settle()
    operator.api.change(**RUNNING)
    await operator.settle()
    frozen.set()
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    assert "PausedExternally" not in [event["reason"] for event in operator.api.events]


async def test_paused_before_it_was_created(operator: Operator) -> None:
    operator.api.create(**PAUSED)
    await operator.settle()
    assert operator.told() == ("PAUSED", "NotStarted")
    assert operator.containers == 0
    operator.api.change(**RUNNING)
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    assert environment(operator)["OH_SESSION_API_KEYS_0"] == b64decode(operator.key()).decode()


async def test_paused_during_the_pull(operator: Operator) -> None:
    operator.host.registry.add("far")
    pulled = operator.host.gate("pull")
    operator.api.create(image="far")
    await operator.settle()
    operator.api.change(**PAUSED)
    await operator.settle()
    assert operator.told() == ("PAUSED", "NotStarted")
    pulled.set()
    operator.api.change(**RUNNING)
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")


# Behind the operator's back


@pytest.mark.parametrize(
    ("happening", "told"),
    [
        ("external_stop", ("ERROR", "Completed")),
        ("external_kill", ("ERROR", "Exited")),
        ("oom_kill", ("ERROR", "OOMKilled")),
        ("external_remove", ("MISSING", "ContainerMissing")),
        ("external_pause", ("RUNNING", "Ready")),
    ],
)
async def test_what_others_do_shows(
    operator: Operator, happening: str, told: tuple[str, str]
) -> None:
    await up(operator, restartPolicy="Never")
    getattr(operator.host, happening)(operator.uid())
    await operator.settle()
    assert operator.told() == told


async def test_a_container_frozen_by_others_is_told_and_thawed(operator: Operator) -> None:
    await up(operator)
    operator.host.external_pause(operator.uid())
    await operator.settle()
    assert "PausedExternally" in [event["reason"] for event in operator.api.events]


@pytest.mark.parametrize("method", ["Freeze", "Stop"])
async def test_one_that_others_wake_is_paused_again(operator: Operator, method: str) -> None:
    await up(operator, pauseMethod=method)
    operator.api.change(**PAUSED)
    await operator.settle()
    told = operator.told()
    wake = operator.host.external_unpause if method == "Freeze" else operator.host.external_start
    wake(operator.uid())
    await operator.settle()
    assert operator.told() == told
    assert operator.host.calls.count("freeze" if method == "Freeze" else "signal_stop") == 2


async def test_a_reboot_loses_the_memory_of_the_frozen_and_says_so(operator: Operator) -> None:
    await up(operator)
    operator.api.change(**PAUSED)
    await operator.settle()
    operator.host.reboot()
    await operator.restart()
    assert operator.told() == ("PAUSED", "MemoryLost")
    operator.api.change(**RUNNING)
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")


async def test_it_is_restarted_with_a_backoff_and_counted(operator: Operator) -> None:
    operator.host.program = lambda spec: Exit(1)
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("ERROR", "Exited")
    starts = [operator.host.calls.count("start")]
    for wait in (1.1, 1.1, 1.1, 1.1):
        await operator.advance(wait)
        starts.append(operator.host.calls.count("start"))
    assert starts == [1, 2, 2, 3, 3]
    assert operator.api.get()["status"]["container"]["restartCount"] == 2
    operator.host.program = lambda spec: None
    await operator.advance(60)
    assert operator.told() == ("RUNNING", "Ready")


async def test_recreate_makes_it_anew_with_the_same_key_and_volumes(operator: Operator) -> None:
    volume = {"name": "work", "mountPath": "/work", "managed": {}}
    await up(operator, onMissing="Recreate", volumes=[volume])
    before, volumes = environment(operator), dict(operator.host.volumes)
    operator.host.external_remove(operator.uid())
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")
    assert environment(operator) == before
    assert operator.host.volumes == volumes
    assert before["OH_SESSION_API_KEYS_0"] == b64decode(operator.key()).decode()


async def test_limits_change_in_place(operator: Operator) -> None:
    await up(operator)
    operator.api.change(resources={"limits": {"pids": 7}})
    await operator.settle()
    held = operator.host.of(operator.uid()).container
    assert held is not None
    assert held.limits.pids == 7
    operator.api.change(resources={"limits": {"memory": 1}})
    await operator.settle()
    assert operator.told() == ("RUNNING", "InvalidSpec")
    operator.api.change(resources={"limits": {"memory": "1Gi"}})
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")


async def test_what_the_settings_forbid_is_not_made() -> None:
    operator = Operator(rules=Rules(allowed_images={"*": ("other/*",)}))
    await operator.start()
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("ERROR", "NotAllowed")
    assert operator.containers == 0
    await operator.kill()


# The API server


async def test_an_api_server_that_fails_is_tried_again(operator: Operator) -> None:
    operator.api.fail_next("create_secret", ApiUnreachable("no answer"))
    operator.api.create()
    await operator.until(lambda: operator.told()[0] == "RUNNING")


@pytest.mark.parametrize("write", ["patch_metadata", "patch_status"])
async def test_a_conflict_is_read_again_and_goes_on(operator: Operator, write: str) -> None:
    """The API server gives a conflict too where five attempts of its own met other writers."""
    operator.api.fail_next(write, Conflict("modified", 409))
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")


async def test_the_status_of_a_new_object_is_never_that_of_the_old_one(operator: Operator) -> None:
    """The old one goes unseen and the name is taken again: no write of ours reaches the new one."""
    await up(operator)
    operator.watching = False
    operator.api.lose()
    operator.api.create(uid="new")
    operator.host.external_kill(next(iter(operator.entries)).uid)
    await operator.settle()
    assert "status" not in operator.api.get()
    assert operator.api.writes == ["delete secret"]  # the old one's: it carries its UID


async def test_late_echoes_change_nothing(operator: Operator) -> None:
    await up(operator)
    old = operator.api.get()
    operator.api.change(**PAUSED)
    await operator.settle()
    reads = len(operator.host.calls)
    operator._take("MODIFIED", old)
    await operator.settle()
    assert operator.told() == ("PAUSED", "Frozen")
    assert len(operator.host.calls) == reads
    operator.api.delete()
    await operator.settle()
    operator._take("MODIFIED", old)
    await operator.settle()
    assert len(operator.entries) == 0


# Faults of one do not hold the others


async def test_an_internal_error_holds_up_nobody(operator: Operator) -> None:
    operator.api.fail_next("patch_metadata", RuntimeError("a fault of ours"))
    operator.api.create("a")
    operator.api.create("b")
    await operator.settle()
    told = sorted(operator.told(name) for name in "ab")
    assert ("RUNNING", "Ready") in told
    await operator.until(lambda: all(operator.told(name)[0] == "RUNNING" for name in "ab"))


async def test_the_engine_holds_up_no_deletion_mark(operator: Operator) -> None:
    for i in range(20):
        operator.api.create(f"s{i}")
    await operator.settle()
    gate = operator.host.gate("signal_stop")
    for i in range(20):
        operator.api.delete(f"s{i}")
    await operator.settle()
    assert {operator.told(f"s{i}") for i in range(20)} == {("DELETING", "Deleting")}
    gate.set()
    await operator.settle()
    assert operator.api.sandboxes == {}


# The patch


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {}, {"a": None}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a": {"c": 3}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
    ],
)
def test_the_merge_patch(before: Any, after: Any, patch: Any) -> None:
    assert merge_patch(before, after) == patch


async def test_one_worker_has_one_key() -> None:
    operator = Operator()
    await operator.start()
    gate = operator.host.gate("create")
    operator.api.create(image=IMAGE)
    await operator.settle()
    await asyncio.gather(*(operator.reconciler.reconcile(operator.uid()) for _ in range(5)))
    gate.set()
    await operator.settle()
    assert operator.containers == 1
    await operator.kill()

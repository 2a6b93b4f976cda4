"""The slow lane: what an operation leaves in its entry, and what it never does."""

from __future__ import annotations

import pytest

from controller import backoff
from controller.core.reasons import Reason
from controller.core.resources import SandboxSpec
from controller.core.rules import Rules
from controller.core.state import Limits, Verb
from controller.core.verdict import Operation
from controller.engines.base import EngineRefused, PortSpec, VolumeSpec
from controller.kube.environment import Environment
from controller.operations import (
    RETRY_CAP,
    RETRY_FIRST,
    container_spec,
)
from controller.pulls import PULLS_OF_A_NAMESPACE
from tests.unit.fakes import Operator
from tests.unit.test_entries import entry


async def test_a_second_operation_at_once_is_an_error(operator: Operator) -> None:
    operator.host.gate("create")
    operator.api.create()
    await operator.settle()
    with pytest.raises(RuntimeError):
        operator.operations.start(operator.entry(), Operation(Verb.OBSERVE))


async def test_a_failure_is_told_with_its_retry(operator: Operator) -> None:
    operator.host.fail_next("create", EngineRefused(Reason.ENGINE_REFUSED, "no room"))
    operator.api.create()
    await operator.settle()
    failure = operator.entry().failure
    assert failure is not None
    assert (failure.verb, failure.reason, failure.attempts) == (Verb.RUN, Reason.ENGINE_REFUSED, 1)
    wait = failure.retry_at - operator.clock()
    assert RETRY_FIRST * 0.99 < wait <= RETRY_FIRST * (1 + backoff.SPREAD)


async def test_retries_double_to_a_cap_and_success_forgets_them(operator: Operator) -> None:
    for _ in range(12):
        operator.host.fail_next("create", EngineRefused(Reason.ENGINE_REFUSED, "no room"))
    operator.api.create()
    await operator.settle()
    waits = []
    longest = RETRY_CAP.total_seconds() * (1 + backoff.SPREAD)
    for _ in range(11):
        failure = operator.entry().failure
        assert failure is not None
        waits.append((failure.retry_at - operator.clock()).total_seconds())
        await operator.advance(longest)
    for wait, nominal in zip(waits, [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30], strict=True):
        assert nominal * 0.99 < wait <= nominal * (1 + backoff.SPREAD)
    await operator.advance(longest)
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.entry().failure is None


async def test_a_start_that_fails_is_retried_as_a_start(operator: Operator) -> None:
    operator.host.fail_next("start", EngineRefused(Reason.PORT_IN_USE, "port 80 is in use"))
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("ERROR", "PortInUse")
    await operator.advance(1)
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.host.calls.count("create") == 1


@pytest.mark.parametrize("verb", ["create", "start"])
async def test_after_a_lost_answer_the_engine_is_looked_at_first(
    operator: Operator, verb: str
) -> None:
    operator.host.lose_answer_next(verb)
    operator.api.create()
    await operator.settle()
    calls = len(operator.host.calls)
    await operator.advance(1)
    assert operator.host.calls[calls] == "find"
    assert operator.told() == ("RUNNING", "Ready")
    assert operator.host.calls.count("create") == 1


async def test_lost_answers_of_an_engine_that_answers_otherwise_are_told(
    operator: Operator,
) -> None:
    operator.host.lose_answer_next("start")
    operator.api.create()
    await operator.settle()
    assert operator.told()[1] == ""
    await operator.advance(31)
    assert operator.told() == ("RUNNING", "Ready")


async def test_a_pull_holds_no_slot(operator: Operator) -> None:
    operator.host.registry.add("far")
    operator.host.gate("pull")
    for i in range(10):  # more than there are slots
        operator.api.create(f"p{i}", image="far")
    await operator.settle()
    operator.api.create()
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")


async def test_always_pulls_and_never_does_not(operator: Operator) -> None:
    operator.host.registry |= {"box", "far"}
    operator.api.create("always", imagePullPolicy="Always")
    operator.api.create("never", image="far", imagePullPolicy="Never")
    await operator.settle()
    assert operator.host.calls.count("pull") == 1
    assert operator.told("always") == ("RUNNING", "Ready")
    assert operator.told("never") == ("ERROR", "ImageNotFound")


async def test_a_pull_is_abandoned_when_its_sandbox_goes(operator: Operator) -> None:
    operator.host.registry.add("far")
    operator.host.gate("pull")
    operator.api.create(image="far")
    await operator.settle()
    operator.api.delete()
    await operator.settle()
    assert not operator.exists()
    assert operator.host.calls.count("create") == 1


async def test_what_happens_during_an_operation_is_seen_at_its_end(operator: Operator) -> None:
    operator.api.create(restartPolicy="Never")
    await operator.settle()
    gate = operator.host.gate("update_limits")
    operator.api.change(resources={"limits": {"pids": 7}})
    await operator.settle()
    operator.host.external_kill(operator.uid())
    gate.set()
    await operator.settle()
    assert operator.told() == ("ERROR", "Exited")


async def test_draining_ends_what_cannot_end(operator: Operator) -> None:
    operator.host.gate("create")
    operator.api.create()
    await operator.settle()
    flight = operator.entry().in_flight
    assert flight is not None
    assert flight.task is not None
    await operator.operations.drain(0.01)
    assert flight.task.cancelled()


async def test_what_is_asked_of_the_engine() -> None:
    spec = SandboxSpec.parse(
        {
            "image": "box",
            "command": ["a"],
            "args": ["b"],
            "workingDir": "/w",
            "ports": [{"name": "x", "containerPort": 80}],
            "volumes": [
                {"name": "v", "mountPath": "/v", "managed": {"reclaimPolicy": "Retain"}},
                {"name": "w", "mountPath": "/w", "readOnly": True, "managed": {}},
            ],
            "terminationGracePeriodSeconds": 3,
            "labels": {"l": "m"},
        }
    )
    rules = Rules(default_limits=Limits(pids=512))
    environment = Environment({"K": "hush"}, None, frozenset({"hush"}))
    wanted = container_spec(entry(), spec, environment, rules, "10.0.0.1")
    assert (wanted.uid, wanted.namespace, wanted.name) == ("u1", "team", "a")
    assert (wanted.command, wanted.args, wanted.working_dir) == (("a",), ("b",), "/w")
    assert wanted.ports == (PortSpec("x", 80),)
    assert wanted.volumes == (
        VolumeSpec("v", "/v", retain=True),
        VolumeSpec("w", "/w", read_only=True),
    )
    assert (wanted.limits.pids, wanted.stop_grace_seconds) == (512, 3)
    assert (wanted.publish_address, wanted.labels) == ("10.0.0.1", {"l": "m"})
    assert wanted.spec_hash == spec.spec_hash()
    assert wanted.env == {"K": "hush"}
    assert wanted.secrets == {"hush"}
    assert "hush" not in repr(wanted)
    assert "hush" not in repr(environment)


async def test_pulls_of_a_namespace_wait_for_each_other_and_not_others(operator: Operator) -> None:
    operator.host.gate("pull")
    for number in range(PULLS_OF_A_NAMESPACE + 2):
        operator.api.create(f"greedy-{number}", image=f"away-{number}")
    await operator.settle()
    assert operator.host.calls.count("pull") == PULLS_OF_A_NAMESPACE
    operator.api.create(namespace="other", image="away")
    await operator.settle()
    assert operator.host.calls.count("pull") == PULLS_OF_A_NAMESPACE + 1

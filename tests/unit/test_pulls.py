"""Pulls: shared, fair, and not tried again too soon."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from controller import backoff, pulls
from controller.core.reasons import Reason
from controller.engines.base import EngineRefused, EngineUnreachable, PullTooSlow
from controller.engines.memory import MemoryEngine, MemoryHost
from controller.pulls import (
    KNOWN_OF_A_NAMESPACE,
    PULLS_OF_A_NAMESPACE,
    RETRY_CAP,
    RETRY_FIRST,
    Backoffs,
    PullFailed,
    Pulls,
    Wanted,
)
from tests.unit.fakes import OWNER, Clock, Operator

FAR = Wanted("far")
FAILED = EngineRefused(Reason.IMAGE_PULL_FAILED, "the registry is away")
SLOW = PullTooSlow(Reason.IMAGE_PULL_FAILED, "the registry sent nothing")


class Puller:
    """Callers of `Pulls` over an engine in memory whose pulls are held."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.host = MemoryHost(registry={"far", "near"})
        self.gate = self.host.gate("pull")
        self.pulls = Pulls(MemoryEngine(OWNER, self.host), self.clock)

    async def want(self, namespace: str, image: str = "far") -> asyncio.Task[None]:
        task = asyncio.create_task(self.pulls.pull(namespace, Wanted(image)))
        await turn()
        return task

    @property
    def begun(self) -> int:
        return self.host.calls.count("pull")


async def turn() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def ended(task: asyncio.Task[None]) -> BaseException | None:
    await asyncio.wait([task], timeout=10)
    return task.exception()


async def test_a_hundred_that_want_one_image_make_one_pull() -> None:
    puller = Puller()
    tasks = [await puller.want(namespace) for namespace in "ab" for _ in range(50)]
    assert puller.begun == 1
    puller.gate.set()
    await asyncio.gather(*tasks)
    assert puller.begun == 1


async def test_one_that_leaves_takes_the_pull_from_no_other() -> None:
    puller = Puller()
    first, second = await puller.want("a"), await puller.want("b")
    first.cancel()
    await turn()
    puller.gate.set()
    assert await ended(second) is None
    assert puller.begun == 1


async def test_the_last_one_that_leaves_ends_the_pull() -> None:
    puller = Puller()
    for task in [await puller.want("a"), await puller.want("b")]:
        task.cancel()
    await turn()
    assert puller.pulls._slots.load == 0
    await puller.want("a")
    assert puller.begun == 2


async def test_who_wants_what_anothers_backlog_holds_does_not_wait_for_that() -> None:
    puller = Puller()
    for number in range(50):
        await puller.want("a", f"image-{number}")
    assert puller.begun == PULLS_OF_A_NAMESPACE
    waiting = await puller.want("a")
    found = await puller.want("b")
    assert puller.begun == PULLS_OF_A_NAMESPACE + 1
    puller.gate.set()
    assert await ended(found) is None
    assert await ended(waiting) is None


async def test_one_that_leaves_before_its_turn_leaves_the_line() -> None:
    puller = Puller()
    for number in range(PULLS_OF_A_NAMESPACE):
        await puller.want("a", f"image-{number}")
    (await puller.want("a")).cancel()
    await turn()
    assert puller.pulls._slots.load == PULLS_OF_A_NAMESPACE


async def test_what_failed_is_not_tried_again_at_once_whoever_asks_in_the_namespace() -> None:
    puller = Puller()
    puller.gate.set()
    puller.host.fail_next("pull", FAILED)
    error = await ended(await puller.want("a"))
    assert isinstance(error, PullFailed)
    assert "the registry is away. The operator pulls it again" in error.message
    again = await ended(await puller.want("a"))
    assert isinstance(again, PullFailed)
    assert (again.message, again.retry_at, puller.begun) == (error.message, error.retry_at, 1)
    assert await ended(await puller.want("b")) is None, "another namespace may try"
    puller.clock.time = error.retry_at
    assert await ended(await puller.want("a")) is None


async def test_no_answer_of_the_engine_is_no_fault_of_the_image() -> None:
    puller = Puller()
    puller.gate.set()
    puller.host.fail_next("pull", EngineUnreachable("gone"))
    assert isinstance(await ended(await puller.want("a")), EngineUnreachable)
    assert await ended(await puller.want("a")) is None


async def test_after_a_slow_one_the_namespace_pauses_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pulls, "SLOW_FIRST", timedelta(hours=1))
    monkeypatch.setattr(pulls, "SLOW_CAP", timedelta(hours=1))
    puller = Puller()
    puller.gate.set()
    puller.host.fail_next("pull", SLOW)
    await ended(await puller.want("a"))
    other_image = await puller.want("a", "near")
    assert puller.begun == 1, "a slow registry has many images"
    assert await ended(await puller.want("b", "near")) is None
    assert await ended(other_image) is None, "pulled for another, it is there"
    assert puller.begun == 2


def test_the_backoff_doubles_to_a_cap_with_jitter_and_is_forgotten_on_success() -> None:
    clock = Clock()
    backoffs = Backoffs(clock)
    seconds = [10, 20, 40, 80, 160, 300, 300, 300]
    for nominal in seconds:
        backoffs.failed("a", FAR, FAILED)
        with pytest.raises(PullFailed) as caught:
            backoffs.check("a", FAR)
        wait = (caught.value.retry_at - clock.time).total_seconds()
        assert nominal * 0.99 < wait <= nominal * (1 + backoff.SPREAD)
        clock.time = caught.value.retry_at
        backoffs.check("a", FAR)
    backoffs.succeeded("a", FAR)
    assert len(backoffs) == 0
    assert timedelta(seconds=10) == RETRY_FIRST
    assert timedelta(seconds=300) == RETRY_CAP


def test_a_namespace_forgets_its_own_failures_and_no_others() -> None:
    backoffs = Backoffs(Clock())
    backoffs.failed("b", FAR, FAILED)
    for number in range(KNOWN_OF_A_NAMESPACE + 50):
        backoffs.failed("a", Wanted(f"image-{number}"), FAILED)
    assert len(backoffs) == KNOWN_OF_A_NAMESPACE + 1
    with pytest.raises(PullFailed):
        backoffs.check("b", FAR)


def test_namespaces_without_a_recent_failure_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulls, "KNOWN_NAMESPACES", 5)
    clock = Clock()
    backoffs = Backoffs(clock)
    for number in range(5):
        backoffs.failed(f"old-{number}", FAR, FAILED)
    clock.time += timedelta(hours=1)
    backoffs.failed("new", FAR, FAILED)
    assert len(backoffs) == 1


async def test_a_toggled_spec_pulls_no_sooner(operator: Operator) -> None:
    operator.api.create(image="none")
    await operator.settle()
    assert operator.told() == ("ERROR", "ImageNotFound")
    for number in range(5):
        operator.api.change(terminationGracePeriodSeconds=number)
        await operator.settle()
    assert operator.host.calls.count("pull") == 1
    operator.host.registry.add("other")
    operator.api.change(image="other")
    await operator.settle()
    assert operator.told() == ("RUNNING", "Ready")


async def test_sandboxes_of_one_absent_image_make_one_pull(operator: Operator) -> None:
    operator.host.registry.add("far")
    gate = operator.host.gate("pull")
    for number in range(30):
        operator.api.create(f"p{number}", image="far")
    await operator.settle()
    assert operator.host.calls.count("pull") == 1
    gate.set()
    await operator.settle()
    assert {operator.told(f"p{number}") for number in range(30)} == {("RUNNING", "Ready")}
    assert operator.host.calls.count("pull") == 1

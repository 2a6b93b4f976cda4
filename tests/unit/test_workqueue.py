"""The queue's semantics: client-go's, with an express lane."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from controller import workqueue
from controller.workqueue import WorkQueue


def waiting(queue: WorkQueue) -> list[str]:
    return [*queue._urgent, *queue._ready, *queue._idle]


async def take(queue: WorkQueue) -> str:
    return await asyncio.wait_for(queue.get(), 5)


async def test_a_key_waits_once_however_often_it_is_added() -> None:
    queue = WorkQueue()
    for _ in range(3):
        queue.add("a")
    assert await take(queue) == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_a_key_added_while_it_is_worked_on_runs_once_more_and_not_beside_itself() -> None:
    queue = WorkQueue()
    queue.add("a")
    await take(queue)
    for _ in range(3):
        queue.add("a")
    assert waiting(queue) == []
    queue.done("a")
    assert await take(queue) == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_keys_come_in_order_and_urgent_ones_first() -> None:
    queue = WorkQueue()
    for key in "abc":
        queue.add(key)
    queue.add("d", urgent=True)
    queue.add("c", urgent=True)
    queue.add("c", urgent=True)
    assert [await take(queue) for _ in range(4)] == ["d", "c", "a", "b"]
    assert waiting(queue) == []


async def test_what_is_only_looked_at_again_comes_last_but_does_come() -> None:
    queue = WorkQueue()
    for key in "abc":
        queue.add_idle(key)
    for number in range(2 * workqueue.IDLE_TURN):
        queue.add(f"busy-{number}")
    taken = [await take(queue) for _ in range(len(waiting(queue)))]
    places = [taken.index(key) + 1 for key in "abc"]
    assert places == [workqueue.IDLE_TURN, 2 * workqueue.IDLE_TURN, len(taken)]


@pytest.mark.parametrize("urgent", [False, True])
async def test_an_idle_key_that_something_happens_to_waits_once_and_goes_ahead(
    urgent: bool,
) -> None:
    queue = WorkQueue()
    for key in "abc":
        queue.add_idle(key)
    queue.add("b", urgent=urgent)
    queue.add_idle("b")
    assert [await take(queue) for _ in range(3)] == ["b", "a", "c"]
    queue.add_idle("b")
    assert waiting(queue) == [], "it is being worked on"


async def test_urgency_that_arrives_while_the_key_is_worked_on_is_kept() -> None:
    queue = WorkQueue()
    queue.add("a")
    await take(queue)
    queue.add("b")
    queue.add("a", urgent=True)
    queue.done("a")
    assert await take(queue) == "a"


async def test_get_waits_for_a_key() -> None:
    queue = WorkQueue()
    taking = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not taking.done()
    queue.add("a")
    assert await asyncio.wait_for(taking, 5) == "a"


async def test_of_several_timers_the_earliest_counts() -> None:
    queue = WorkQueue()
    queue.add_after("a", 3600)
    queue.add_after("a", 0.01)
    queue.add_after("a", 3600)
    assert await take(queue) == "a"
    assert queue._timers == {}


async def test_a_moment_that_is_past_is_now() -> None:
    queue = WorkQueue()
    queue.add_after("a", -5)
    assert await take(queue) == "a"


async def test_failures_back_off_to_a_cap_and_are_forgotten_on_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    queue = WorkQueue()
    monkeypatch.setattr(queue, "add_after", lambda key, seconds: waits.append(seconds))
    for _ in range(12):
        queue.failed("a")
    queue.succeeded("a")
    queue.failed("a")
    first, cap = workqueue.BACKOFF_FIRST_SECONDS, workqueue.BACKOFF_CAP_SECONDS
    for i, wait in enumerate(waits[:12]):
        nominal = min(cap, first * 2**i)
        assert 0.8 * nominal <= wait <= 1.2 * nominal
    assert waits[12] <= 1.2 * first


async def test_the_jitter_spreads_what_failed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    queue = WorkQueue()
    monkeypatch.setattr(queue, "add_after", lambda key, seconds: waits.append(seconds))
    for i in range(50):
        queue.failed(str(i))
    assert len(set(waits)) > 40


def test_what_is_due_at_once_may_be_due_again_before_it_rings() -> None:
    """uvloop's handle of what is due at once lacks `when`: asked for it, the operator ended."""

    async def twice() -> str:
        queue = WorkQueue()
        queue.add_after("a", 0)
        queue.add_after("a", 0)
        queue.add_after("a", 60)
        return await take(queue)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(twice()) == "a"


async def test_what_is_forgotten_rings_no_more() -> None:
    queue = WorkQueue()
    queue.add_after("a", 0.01)
    queue.forget("a")
    queue.add_after("b", 0.02)
    assert await take(queue) == "b"
    assert waiting(queue) == []


async def test_the_engines_work_waits_until_every_deletion_is_marked() -> None:
    queue = WorkQueue()
    queue.add("a", urgent=True)
    queue.add("b", urgent=True)
    calm = asyncio.create_task(queue.calm(60, ""))
    await asyncio.sleep(0)
    queue.marked("a")
    await asyncio.sleep(0)
    assert not calm.done()
    queue.forget("b")
    await asyncio.wait_for(calm, 5)


async def test_but_it_does_not_starve() -> None:
    queue = WorkQueue()
    queue.add("a", urgent=True)
    await asyncio.wait_for(queue.calm(0.01, ""), 5)

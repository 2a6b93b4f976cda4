"""The queues in front of Docker: who waits for whom."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from controller.engines.lanes import Answers, Lane, Removals


class Calls:
    """Calls that stay under way until they are told to end."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.under_way = 0
        self._ends: list[asyncio.Event] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def begin(self, count: int) -> None:
        for _ in range(count):
            self._tasks.append(asyncio.create_task(self._call()))
        await turn()

    async def end_one(self) -> None:
        self._ends.pop(0).set()
        await turn()

    async def cancel(self, index: int) -> None:
        self._tasks[index].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._tasks[index]
        await turn()

    async def _call(self) -> None:
        async with self.lane.turn():
            end = asyncio.Event()
            self._ends.append(end)
            self.under_way += 1
            try:
                await end.wait()
            finally:
                self.under_way -= 1


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_than_its_width_are_under_way() -> None:
    async with Calls(Lane("lane", 2, Answers())) as calls:
        await calls.begin(5)
        assert (calls.under_way, calls.lane.load) == (2, 5)
        await calls.end_one()
        assert (calls.under_way, calls.lane.load) == (2, 4)


async def test_one_that_is_given_up_leaves_its_place_to_the_next() -> None:
    async with Calls(Lane("lane", 1, Answers())) as calls:
        await calls.begin(3)
        await calls.cancel(1)
        assert (calls.under_way, calls.lane.load) == (1, 2)
        await calls.cancel(0)
        assert (calls.under_way, calls.lane.load) == (1, 1)


async def test_a_burst_of_removals_leaves_room_while_something_is_built() -> None:
    async with (
        Calls(Lane("build", 8, Answers())) as builds,
        Calls(Removals("remove", 8, Answers(), builds.lane)) as removals,
    ):
        await builds.begin(1)
        await removals.begin(100)
        for _ in range(10):
            await removals.end_one()
        assert removals.under_way == 2
        await builds.end_one()
        assert removals.under_way == 8


async def test_a_few_removals_wait_for_nothing() -> None:
    async with (
        Calls(Lane("build", 8, Answers())) as builds,
        Calls(Removals("remove", 8, Answers(), builds.lane)) as removals,
    ):
        await builds.begin(8)
        await removals.begin(8)
        assert removals.under_way == 8


async def test_a_burst_ends_as_fast_as_it_may_once_few_are_left() -> None:
    async with (
        Calls(Lane("build", 8, Answers())) as builds,
        Calls(Removals("remove", 8, Answers(), builds.lane)) as removals,
    ):
        await builds.begin(1)
        await removals.begin(12)
        while removals.lane.load > 8:
            await removals.end_one()
        assert removals.under_way == 8


async def test_a_call_that_hangs_alone_is_its_own_affair() -> None:
    lane = Lane("lane", 2, Answers())
    began = asyncio.get_running_loop().time()
    lane.answered()
    lane.lost(began)
    assert lane.losses == 0


async def test_one_without_an_answer_speaks_for_all_where_nobody_gets_any() -> None:
    lane = Lane("lane", 2, Answers())
    lane.answered()
    await asyncio.sleep(0.001)  # later than the last answer, on the loop's clock
    lane.lost(asyncio.get_running_loop().time())
    assert lane.losses == 1


async def test_one_that_hangs_speaks_for_no_others_while_the_engine_answers() -> None:
    answers = Answers()
    hanging, other = Lane("hanging", 1, answers), Lane("other", 1, answers)
    began = asyncio.get_running_loop().time()
    other.answered()
    hanging.lost(began)
    assert hanging.losses == 0
    hanging.lost(asyncio.get_running_loop().time() + 1)
    assert hanging.losses == 1

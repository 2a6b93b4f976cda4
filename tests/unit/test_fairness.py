"""Fair shares: nobody waits for long, nothing is free in vain, and costs are respected."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.fairness import LATER_TURN, FairSlots, RoundRobin, Slot

TENANTS = "abcd"

tenants = st.sampled_from(TENANTS)


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# RoundRobin


def in_line(*keys: str) -> RoundRobin[str]:
    """Keys whose first letter is the tenant."""
    queue: RoundRobin[str] = RoundRobin()
    for key in keys:
        queue.add(key, key[0])
    return queue


def popped(queue: RoundRobin[str]) -> list[str]:
    found = []
    while queue:
        found.append(queue.pop())
    return found


def test_tenants_take_turns_and_each_ones_keys_keep_their_order() -> None:
    assert popped(in_line("a1", "a2", "a3", "b1", "b2", "c1")) == [
        "a1",
        "b1",
        "c1",
        "a2",
        "b2",
        "a3",
    ]


def test_a_key_is_in_line_once_and_keeps_its_place() -> None:
    assert popped(in_line("a1", "a2", "a1")) == ["a1", "a2"]


def test_what_is_discarded_is_not_met() -> None:
    queue = in_line("a1", "b1", "a2")
    queue.discard("a1")
    queue.discard("b1")
    queue.discard("x")
    assert popped(queue) == ["a2"]
    assert len(queue) == 0


def test_a_tenant_that_is_held_lets_others_go_on() -> None:
    queue = in_line("a1", "b1")
    queue.hold("a")
    queue.add("a2", "a")
    queue.add("a3", "a")
    queue.discard("a2")
    assert (popped(queue), len(queue), queue.count("a")) == (["b1"], 2, 2)
    with pytest.raises(KeyError):
        queue.pop()
    queue.free("a")
    queue.free("a")
    assert popped(queue) == ["a1", "a3"]


def test_one_may_be_taken_out_of_turn() -> None:
    queue = in_line("a1", "b1", "b2")
    assert queue.pop_of("b") == "b1"
    assert popped(queue) == ["a1", "b2"]


@given(st.lists(st.tuples(st.sampled_from(["add", "pop", "discard", "hold", "free"]), tenants)))
def test_no_key_waits_for_more_than_one_turn_of_each_other_tenant(
    steps: list[tuple[str, str]],
) -> None:
    """Per key that is ahead of it in its own line."""
    queue: RoundRobin[tuple[str, int]] = RoundRobin()
    lines: dict[str, list[int]] = {tenant: [] for tenant in TENANTS}
    passed: Counter[tuple[str, str]] = Counter()
    held = set[str]()
    for number, (step, tenant) in enumerate(steps):
        match step:
            case "add":
                queue.add((tenant, number), tenant)
                lines[tenant].append(number)
            case "discard" if lines[tenant]:
                queue.discard((tenant, lines[tenant].pop()))
            case "hold":
                queue.hold(tenant)
                held.add(tenant)
            case "free":
                queue.free(tenant)
                held.discard(tenant)
                passed.clear()
            case "pop":
                may = {t for t in TENANTS if lines[t] and t not in held}
                assert bool(queue) == bool(may)
                if not may:
                    continue
                served, key = queue.pop()
                assert served in may
                assert lines[served].pop(0) == key
                for other in may - {served}:
                    passed[other, served] += 1
                    assert passed[other, served] <= 1
                for other in TENANTS:
                    del passed[served, other]
        for tenant_ in TENANTS:
            if not lines[tenant_]:
                for other in TENANTS:
                    del passed[tenant_, other]
        assert len(queue) == sum(map(len, lines.values()))


# FairSlots


class Users:
    """Tasks that want slots and keep them until they are told."""

    def __init__(self, slots: FairSlots) -> None:
        self.slots = slots
        self.order: list[str] = []
        self.have: list[tuple[str, Slot]] = []
        self.tasks: list[tuple[str, asyncio.Task[None]]] = []

    async def want(self, tenant: str, count: int = 1, cost: int = 1, later: bool = False) -> None:
        for _ in range(count):
            self.tasks.append((tenant, asyncio.create_task(self._want(tenant, cost, later))))
        await turn()

    async def _want(self, tenant: str, cost: int, later: bool) -> None:
        slot = await self.slots.acquire(tenant, cost, later=later)
        self.order.append(f"{tenant}-later" if later else tenant)
        self.have.append((tenant, slot))

    async def give_back(self, tenant: str, linger: float = 0.0) -> None:
        found = next(pair for pair in self.have if pair[0] == tenant)
        self.have.remove(found)
        found[1].release(linger)
        await turn()

    def under_way(self, tenant: str) -> int:
        return sum(1 for of, _ in self.have if of == tenant)

    async def end(self) -> None:
        for _, task in self.tasks:
            task.cancel()
        await asyncio.gather(*(task for _, task in self.tasks), return_exceptions=True)


async def test_one_tenant_alone_has_all_slots_and_not_the_reserve() -> None:
    users = Users(FairSlots(8))
    await users.want("a", 20)
    assert users.under_way("a") == 8
    await users.end()


async def test_a_newcomer_waits_for_nobody_however_long_the_others_line() -> None:
    users = Users(FairSlots(8))
    await users.want("a", 1000)
    await users.want("b", 3)
    assert users.under_way("b") == 1, "the reserve is for one that has nothing under way"
    await users.give_back("a")
    assert (users.under_way("a"), users.under_way("b")) == (7, 1), "the reserve is given back first"
    await users.give_back("a")
    assert (users.under_way("a"), users.under_way("b")) == (6, 2)
    await users.end()


async def test_slots_go_to_those_that_have_least_until_shares_are_equal() -> None:
    users = Users(FairSlots(8, reserve=0))
    await users.want("a", 100)
    await users.want("b", 100)
    for _ in range(4):
        await users.give_back("a")
    assert (users.under_way("a"), users.under_way("b")) == (4, 4)
    for _ in range(8):
        await users.give_back("a")
        await users.give_back("b")
        assert (users.under_way("a"), users.under_way("b")) == (4, 4)
    await users.end()


async def test_what_is_heavy_counts_against_its_own_tenant() -> None:
    users = Users(FairSlots(16))
    await users.want("a", 20, cost=9)
    await users.want("a", 5)
    assert users.under_way("a") == 1, "and is not overtaken for ever"
    await users.want("b", 10)
    assert users.under_way("b") == 10
    await users.end()


async def test_what_costs_more_than_the_share_goes_alone() -> None:
    users = Users(FairSlots(4))
    await users.want("a", 2, cost=100)
    assert users.under_way("a") == 1
    await users.give_back("a")
    assert users.under_way("a") == 1
    await users.end()


async def test_first_things_come_first_and_others_do_come() -> None:
    users = Users(FairSlots(1, reserve=0))
    await users.want("a", 3, later=True)
    await users.want("a", 2 * LATER_TURN)
    for _ in range(2 * LATER_TURN):
        await users.give_back("a")
    places = [i for i, got in enumerate(users.order) if got == "a-later"]
    assert places == [0, LATER_TURN, 2 * LATER_TURN]
    await users.end()


async def test_a_restart_does_not_use_the_reserve() -> None:
    users = Users(FairSlots(2))
    await users.want("a", 5)
    await users.want("b", later=True)
    assert users.under_way("b") == 0
    await users.give_back("a")
    assert users.under_way("b") == 1
    await users.end()


async def test_a_slot_that_is_cancelled_goes_to_the_next() -> None:
    users = Users(FairSlots(1, reserve=0))
    await users.want("a", 3)
    users.tasks[1][1].cancel()
    await turn()
    await users.give_back("a")
    assert (users.under_way("a"), users.slots.load) == (1, 1)
    await users.end()


async def test_one_that_is_cancelled_as_it_gets_its_slot_gives_it_back() -> None:
    users = Users(FairSlots(1, reserve=0))
    await users.want("a", 2)
    found = users.have.pop()
    found[1].release()  # the next one's future is set, and its task has not run
    users.tasks[1][1].cancel()
    await turn()
    assert users.slots.load == 0


async def test_a_heavy_one_that_leaves_lets_those_behind_it_go() -> None:
    users = Users(FairSlots(4))
    await users.want("a")
    await users.want("a", cost=4)
    await users.want("a")
    assert users.under_way("a") == 1
    users.tasks[1][1].cancel()
    await turn()
    assert users.under_way("a") == 2
    await users.end()


async def test_a_cost_that_lingers_holds_up_its_own_tenant_alone() -> None:
    users = Users(FairSlots(1, reserve=0))
    await users.want("a", 2)
    await users.give_back("a", linger=0.01)
    assert users.under_way("a") == 0
    await users.want("b")
    assert users.under_way("b") == 1
    await users.give_back("b")
    async with asyncio.timeout(10):
        await users.tasks[1][1]
    assert users.under_way("a") == 1


async def test_a_slot_given_back_twice_is_one() -> None:
    slots = FairSlots(1)
    slot = await slots.acquire("a")
    slot.release()
    slot.release()
    assert (slots.load, slots.load_of("a")) == (0, 0)


@dataclass
class Want:
    tenant: str
    cost: int
    later: bool


wants = st.builds(Want, tenants, st.integers(1, 6), st.booleans())


@given(
    st.lists(st.one_of(wants, st.sampled_from(["release", "cancel"]), st.integers(0, 3))),
    st.integers(1, 4),
    st.integers(0, 2),
)
async def test_nothing_is_free_in_vain_and_no_bound_is_passed(
    steps: list[Want | str | int], width: int, reserve: int
) -> None:
    """Against a plain account of who has and who waits."""
    slots = FairSlots(width, share=5, reserve=reserve)
    waiting: list[tuple[Want, asyncio.Task[Slot]]] = []
    having: list[tuple[Want, Slot]] = []

    def load(tenant: str) -> int:
        return sum(want.cost for want, _ in having if want.tenant == tenant)

    for step in steps:
        if isinstance(step, Want):
            coroutine = slots.acquire(step.tenant, step.cost, later=step.later)
            waiting.append((step, asyncio.create_task(coroutine)))
        elif step == "cancel" and waiting:
            waiting.pop(len(waiting) // 2)[1].cancel()
        elif step == "release" and having:
            having.pop(len(having) // 2)[1].release()
        else:
            continue
        await turn()
        for pair in list(waiting):
            if pair[1].done():
                waiting.remove(pair)
                having.append((pair[0], pair[1].result()))
        assert len(having) <= width + reserve
        for tenant in TENANTS:
            own = [want for want, _ in having if want.tenant == tenant]
            assert load(tenant) <= 5 or len(own) == 1
            assert slots.load_of(tenant) == load(tenant)
        for want, _ in waiting:
            ahead = [w for w, _ in waiting if w.tenant == want.tenant]
            fits = not load(want.tenant) or all(load(want.tenant) + w.cost <= 5 for w in ahead)
            assert len(having) >= width or not fits, "a slot is free in vain"
            if not load(want.tenant) and not any(w.later for w in ahead):
                assert len(having) >= width + reserve, "the reserve is free in vain"
    for _, task in waiting:
        task.cancel()
    await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
    for _, slot in having:
        slot.release()
    assert slots.load == 0


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=2, max_size=5))
async def test_no_tenant_waits_for_more_than_one_grant_of_each_other(
    backlogs: list[tuple[int, bool]],
) -> None:
    """Whatever the others' backlogs, and whether they restart or start: with one slot, each tenant
    that waits has its turn before any other has two."""
    users = Users(FairSlots(1, reserve=0))
    left = {}
    for i, (count, later) in enumerate(backlogs):
        left[str(i)] = count
        await users.want(str(i), count, later=later)
    last: dict[str, int] = {}
    for number in range(sum(left.values())):
        got = users.order[number].removesuffix("-later")
        rivals = {t for t, count in left.items() if count and t != got}
        since = users.order[last.get(got, -1) + 1 : number]
        if got in last:
            assert rivals <= {o.removesuffix("-later") for o in since}
        if number:  # the first had its slot before the others came
            last[got] = number
        left[got] -= 1
        await users.give_back(got)

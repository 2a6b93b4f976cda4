"""A search survives what happens between two of its pages."""

import pytest

from tests.unit.client.fake_api import FakeApi
from tests.unit.client.world import World


@pytest.mark.parametrize("mute", [False, True])
async def test_an_expired_page_goes_on_without_loss_or_repetition(
    world: World, fake: FakeApi, mute: bool
) -> None:
    for number in range(6):
        await world.service.start_sandbox(sandbox_id=f"s{number}")
    page = await world.service.search_sandboxes(limit=2)
    await world.service.delete_sandbox("s0")
    await world.service.delete_sandbox("s4")
    await world.service.start_sandbox(sandbox_id="s00")
    fake.expire()
    fake.mute_expiry = mute
    ids = [info.id for info in page.items]
    while page.next_page_id is not None:
        page = await world.service.search_sandboxes(page.next_page_id, limit=2)
        ids += [info.id for info in page.items]
    assert ids == ["s0", "s1", "s2", "s3", "s5"]


async def test_pages_are_of_one_version(world: World) -> None:
    for number in range(3):
        await world.service.start_sandbox(sandbox_id=f"s{number}")
    page = await world.service.search_sandboxes(limit=1)
    await world.service.start_sandbox(sandbox_id="s0a")
    rest = await world.service.search_sandboxes(page.next_page_id)
    assert [info.id for info in rest.items] == ["s1", "s2"]


async def test_a_page_costs_one_list_though_many_are_being_deleted(
    world: World, fake: FakeApi
) -> None:
    for number in range(8):
        await world.service.start_sandbox(sandbox_id=f"s{number}")
    for number in range(7):
        await world.claimed(f"s{number}")
        await world.service.delete_sandbox(f"s{number}")
        await world.told(f"s{number}", "DELETING")
    fake.requests.clear()
    page = await world.service.search_sandboxes(limit=1)
    assert [info.id for info in page.items] == ["s7"]
    assert len(fake.requests) == 1

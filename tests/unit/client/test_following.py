"""A wait misses nothing, asks for nothing twice, and outlives what watches die of."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from controller.client import SandboxForbidden, SandboxInfo, SandboxStatus, SandboxUnavailable
from tests.unit.client.fake_api import FakeApi, Refused
from tests.unit.client.world import World

DEADLINE = 20.0


@pytest.fixture
async def waiting(world: World, fake: FakeApi) -> "asyncio.Task[SandboxInfo]":
    """A wait for sandbox x whose watch is open."""
    await world.service.start_sandbox(sandbox_id="x")
    await world.keyed("x")
    fake.requests.clear()
    task = asyncio.create_task(world.service.wait_for_sandbox_running("x", timeout=DEADLINE))
    await _soon(fake.watching.wait())
    return task


async def test_it_is_one_list_and_one_watch(
    waiting: "asyncio.Task[SandboxInfo]", world: World, fake: FakeApi
) -> None:
    await world.told("x", "STARTING")
    await world.told("x", "RUNNING")
    assert (await waiting).status is SandboxStatus.RUNNING
    reads = [request for request in fake.requests if request.startswith("GET")]
    assert [_kind(request) for request in reads] == ["list", "watch", "secret"]


async def test_a_change_between_list_and_watch_is_seen(world: World, fake: FakeApi) -> None:
    await world.service.start_sandbox(sandbox_id="x")

    async def change(kind: str) -> None:
        fake.before_answer = None
        await world.told("x", "RUNNING")

    fake.before_answer = change
    info = await world.service.wait_for_sandbox_running("x", timeout=DEADLINE)
    assert info.status is SandboxStatus.RUNNING


async def test_a_watch_that_ends_goes_on_from_its_version(
    waiting: "asyncio.Task[SandboxInfo]", world: World, fake: FakeApi
) -> None:
    await fake.drop_watches()
    await _soon(fake.watching.wait())
    await fake.drop_watches()
    await world.told("x", "RUNNING")
    assert (await waiting).status is SandboxStatus.RUNNING
    assert [_kind(r) for r in fake.requests if r.startswith("GET")].count("list") == 1


async def test_an_expired_version_is_listed_anew(
    waiting: "asyncio.Task[SandboxInfo]", world: World, fake: FakeApi
) -> None:
    await world.told("x", "STARTING")
    fake.before_answer = _expire_and_drop(fake)
    await world.told("x", "RUNNING")
    assert (await waiting).status is SandboxStatus.RUNNING


@pytest.mark.parametrize("failure", [500, 503, 429, 410])
async def test_what_passes_is_waited_out(
    waiting: "asyncio.Task[SandboxInfo]", world: World, fake: FakeApi, failure: int
) -> None:
    fake.failures = [Refused(failure, "", "not now")]
    await fake.drop_watches()
    await _soon(fake.watching.wait())
    await world.told("x", "RUNNING")
    assert (await waiting).status is SandboxStatus.RUNNING


async def test_what_does_not_pass_ends_it(
    waiting: "asyncio.Task[SandboxInfo]", fake: FakeApi
) -> None:
    fake.forbidden = {"sandboxes"}
    await fake.drop_watches()
    with pytest.raises(SandboxForbidden):
        await waiting


async def test_an_outage_at_the_beginning_is_told_at_once(world: World, fake: FakeApi) -> None:
    fake.failures = [503]
    with pytest.raises(SandboxUnavailable):
        await world.service.wait_for_sandbox_running("x", timeout=DEADLINE)


async def test_cancelled_it_closes_its_watch(
    waiting: "asyncio.Task[SandboxInfo]", fake: FakeApi
) -> None:
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await _soon(fake.unwatched.wait())


async def test_timed_out_it_closes_its_watch(world: World, fake: FakeApi) -> None:
    await world.service.start_sandbox(sandbox_id="x")
    with pytest.raises(TimeoutError):
        await world.service.wait_for_sandbox_running("x", timeout=0.3)
    await _soon(fake.unwatched.wait())


def _kind(request: str) -> str:
    url = urlsplit(request.split()[1])
    if "/secrets/" in url.path:
        return "secret"
    return "watch" if "watch" in parse_qs(url.query) else "list"


def _expire_and_drop(fake: FakeApi) -> Callable[[str], Awaitable[None]]:
    async def act(kind: str) -> None:
        fake.before_answer = None
        fake.expire()
        await fake.drop_watches()

    return act


async def _soon(event: Awaitable[object]) -> None:
    async with asyncio.timeout(DEADLINE):
        await event

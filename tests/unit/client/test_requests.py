"""What goes over the wire: how many requests, and that no key is in a URL, a log or an error."""

import asyncio
import logging

import pytest
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from controller.client import (
    KubernetesSandboxService,
    SandboxForbidden,
    SandboxRefused,
    SandboxUnavailable,
)
from controller.client.service import AT_ONCE
from tests.unit.client.fake_api import FakeApi, Refused
from tests.unit.client.world import IMAGE, KEY, World


async def test_no_key_in_urls_and_logs(
    world: World, fake: FakeApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await world.service.start_sandbox(sandbox_id="x")
    await world.running("x")
    await world.service.get_sandbox_by_session_api_key(KEY)
    await world.service.search_sandboxes()
    await world.service.wait_for_sandbox_running("x")
    assert not [request for request in fake.requests if KEY in request]
    assert KEY not in caplog.text


async def test_a_lookup_by_key_is_no_scan(world: World, fake: FakeApi) -> None:
    for number in range(5):
        await world.service.start_sandbox(sandbox_id=f"s{number}")
    await world.keyed("s3")
    fake.requests.clear()
    await world.service.get_sandbox_by_session_api_key(KEY)
    assert len(fake.requests) == 2  # the list of one, and its Secret


async def test_an_unverified_hit_is_no_answer(world: World, fake: FakeApi) -> None:
    await world.service.start_sandbox(sandbox_id="x")
    await world.keyed("x")
    fake.forbidden = {"secrets"}
    with pytest.raises(SandboxForbidden) as caught:
        await world.service.get_sandbox_by_session_api_key(KEY)
    assert KEY not in str(caught.value)


async def test_the_keys_of_a_page_are_read_together_within_bounds(
    world: World, fake: FakeApi
) -> None:
    count = AT_ONCE + 4
    for number in range(count):
        await world.service.start_sandbox(sandbox_id=f"s{number}")
        await world.running(f"s{number}")
    full = asyncio.Event()

    async def hold(kind: str) -> None:
        if fake.in_flight["secrets"] == AT_ONCE:
            full.set()
        if kind == "secrets":
            await full.wait()

    fake.before_answer = hold
    fake.most_in_flight.clear()
    page = await world.service.search_sandboxes()
    assert [info.session_api_key for info in page.items] == [KEY] * count
    assert fake.most_in_flight["secrets"] == AT_ONCE


async def test_a_batch_is_one_list_for_each_hundred(world: World, fake: FakeApi) -> None:
    for number in range(3):
        await world.service.start_sandbox(sandbox_id=f"s{number}")
        await world.claimed(f"s{number}")
    fake.requests.clear()
    await world.service.batch_get_sandboxes(["s0", "s1", "s2"])
    assert len(fake.requests) == 1
    long = [f"{number:052}" for number in range(150)]
    await world.service.batch_get_sandboxes(long)
    lists = [request for request in fake.requests[1:] if "labelSelector" in request]
    assert len(lists) == 2
    assert max(map(len, lists)) < 8000


async def test_a_pause_of_what_is_paused_writes_nothing(world: World, fake: FakeApi) -> None:
    await world.service.start_sandbox(sandbox_id="x")
    await world.service.pause_sandbox("x")
    fake.requests.clear()
    assert await world.service.pause_sandbox("x")
    assert not [request for request in fake.requests if not request.startswith("GET")]


@pytest.mark.parametrize("verb", ["pause_sandbox", "resume_sandbox", "delete_sandbox"])
async def test_an_object_replaced_after_it_was_read_is_read_again(
    world: World, fake: FakeApi, verb: str
) -> None:
    await world.service.start_sandbox(sandbox_id="x")

    async def replace(kind: str) -> None:
        fake.before_answer = None
        await world.call("DELETE", world.path("x"))
        await world.applied("x")

    fake.before_answer = replace
    fake.requests.clear()
    assert await getattr(world.service, verb)("x")
    assert len([r for r in fake.requests if r.startswith(("PATCH", "DELETE"))]) >= 2


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (401, SandboxForbidden),
        (403, SandboxForbidden),
        (429, SandboxUnavailable),
        (500, SandboxUnavailable),
        (413, SandboxRefused),
    ],
)
async def test_a_refusal_is_told_in_the_server_s_words(
    world: World, fake: FakeApi, code: int, error: type[Exception]
) -> None:
    fake.failures = [Refused(code, "", "in the server's words")]
    with pytest.raises(error, match="in the server's words"):
        await world.service.get_sandbox("x")


async def test_an_api_without_the_crd_is_not_an_empty_one(world: World, fake: FakeApi) -> None:
    fake.failures = [Refused(404, "", "404 page not found")] * 2
    with pytest.raises(SandboxRefused, match="CRD"):
        await world.service.get_sandbox("x")
    with pytest.raises(SandboxRefused, match="CRD"):
        await world.service.search_sandboxes()


async def test_an_api_server_that_is_not_there() -> None:
    async with (
        ApiClient(Configuration(host="http://127.0.0.1:1")) as client,
        KubernetesSandboxService("agents", client, default_spec={"image": IMAGE}) as service,
    ):
        with pytest.raises(SandboxUnavailable, match=r"127\.0\.0\.1:1"):
            await service.start_sandbox()


async def test_an_id_that_is_no_text_is_refused_before_it_is_sent(
    world: World, fake: FakeApi
) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        await world.service.start_sandbox(sandbox_id="\ud800")
    assert fake.requests == []
    assert await world.service.get_sandbox("\ud800") is None


async def test_outside_its_context_it_does_nothing() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await KubernetesSandboxService("agents").get_sandbox("x")

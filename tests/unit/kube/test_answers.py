"""Answers that are large, or are of large objects: read in pieces that fit, and kept light."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client.configuration import Configuration

from controller.core.subject import Subject
from controller.kube import answers
from controller.kube.api import ApiUnreachable, KubeApi
from controller.kube.credentials import Credentials


def sandbox(i: int, size: int) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"a{i}",
            "uid": f"u{i}",
            "resourceVersion": "1",
            "generation": 1,
            "managedFields": [{"manager": "v" * size}],
            "annotations": {"notes": "v"},
        },
        "spec": {"image": "box", "args": ["v" * size]},
    }


class Store:
    """Lists what it has in pages, as the API server does."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.limits: list[int] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "limit" not in request.query:
            return web.json_response(sandbox(0, self.sizes[0]))
        limit, start = int(request.query["limit"]), int(request.query.get("continue") or 0)
        self.limits.append(limit)
        sizes = self.sizes[start : start + limit]
        more = start + limit < len(self.sizes)
        metadata = {"continue": str(start + limit)} if more else {}
        items = [sandbox(start + i, size) for i, size in enumerate(sizes)]
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):  # a client may have read enough
            await response.write(json.dumps({"items": items, "metadata": metadata}).encode())
            await response.write_eof()
        return response


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def url(store: Store) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", store.answer)
    async with TestServer(application) as running:
        yield str(running.make_url("")).rstrip("/")


@pytest.fixture
async def api(url: str) -> AsyncIterator[KubeApi]:
    configuration = Configuration()
    configuration.host = url
    api = KubeApi(Credentials(configuration))
    yield api
    await api.close()


BIG = 600_000
MIXTURES = {
    "small ones": [10] * 2_000,
    "big ones": [BIG] * 30,
    "big ones after small ones": [10] * 700 + [BIG] * 30,
    "small ones after big ones": [BIG] * 30 + [10] * 700,
}


@pytest.mark.parametrize("name", MIXTURES)
async def test_a_list_is_whole_and_light(name: str, store: Store, api: KubeApi) -> None:
    store.sizes = MIXTURES[name]
    found = await api.list_sandboxes()
    assert [o["metadata"]["name"] for o in found] == [f"a{i}" for i in range(len(store.sizes))]
    for obj, size in zip(found, store.sizes, strict=True):
        assert "managedFields" not in obj["metadata"]
        assert obj["metadata"].get("annotations") == {}
        assert Subject.read(obj).light is (size == BIG)


@pytest.mark.parametrize("name", MIXTURES)
async def test_so_is_one_of_kopf(name: str, store: Store, url: str) -> None:
    store.sizes = MIXTURES[name]
    names, token = list[str](), ""
    async with aiohttp.ClientSession(
        middlewares=(answers.PagesOfKopf(),), response_class=answers.LightResponse
    ) as session:
        while True:
            query = {"limit": "500"} | ({"continue": token} if token else {})
            response = await session.get(f"{url}/list", params=query)
            async with response:
                page = await response.json()
            names += [o["metadata"]["name"] for o in page["items"]]
            assert all("managedFields" not in o["metadata"] for o in page["items"])
            token = page["metadata"].get("continue")
            if not token:
                break
    assert names == [f"a{i}" for i in range(len(store.sizes))]
    assert max(store.limits) <= answers.LARGEST_PAGE


async def test_many_small_ones_take_few_requests(store: Store, api: KubeApi) -> None:
    store.sizes = [10] * 5_000
    await api.list_sandboxes()
    assert len(store.limits) <= 14


async def test_no_more_is_read_of_a_page_than_fits(store: Store, api: KubeApi) -> None:
    store.sizes = [10] * 3_000 + [BIG] * 500
    seen: list[int] = []
    parse = answers.parse_light

    def counted(raw: bytes) -> Any:
        seen.append(len(raw))
        return parse(raw)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "parse_light", counted)
        await api.list_sandboxes()
    assert max(seen) <= answers.MAX_BYTES


async def test_one_object_that_is_too_large_is_an_answer_that_does_not_count(
    store: Store, api: KubeApi
) -> None:
    store.sizes = [answers.MAX_BYTES]
    with pytest.raises(ApiUnreachable, match="too large"):
        await api.list_sandboxes()
    with pytest.raises(ApiUnreachable, match="too large"):
        await api.get_sandbox("team", "a0")


async def test_large_answers_are_parsed_a_few_at_once(store: Store, api: KubeApi) -> None:
    store.sizes = [BIG]
    found = await asyncio.gather(*(api.get_sandbox("team", "a0") for _ in range(40)))
    assert all(Subject.read(obj).light for obj in found)


async def test_a_whole_sandbox_has_its_spec(store: Store, api: KubeApi) -> None:
    store.sizes = [BIG]
    found = await api.get_whole_sandbox("team", "a0")
    assert len(found["spec"]["args"][0]) == BIG


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its kind is all that counts
        answers.parse(raw)


def test_a_text_of_any_characters_is_read() -> None:
    text = "é\U0001f4e6\x7f"
    assert answers.parse(json.dumps({"a": text}).encode()) == {"a": text}
    assert answers.parse(json.dumps({"a": text}, ensure_ascii=False).encode()) == {"a": text}

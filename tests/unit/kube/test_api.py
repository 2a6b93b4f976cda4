"""The API's calls on the wire, against a server that only records and answers."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client.configuration import Configuration

from controller.core import names
from controller.kube.api import (
    ApiError,
    ApiUnreachable,
    Conflict,
    Forbidden,
    Invalid,
    KubeApi,
    NotFound,
    NotServed,
)
from controller.kube.credentials import Credentials

PATH = f"/apis/{names.GROUP}/{names.VERSION}/namespaces/team/sandboxes/a"


class Server:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any, str]] = []
        self.queries: list[dict[str, str]] = []
        self.status = 200
        self.answers: list[Any] = []

    async def answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        content = request.headers.get("Content-Type", "")
        body = json.loads(text) if text else None
        self.requests.append((request.method, request.path, body, content))
        self.queries.append(dict(request.query))
        answer = self.answers.pop(0) if self.answers else {"metadata": {}}
        return web.Response(
            status=self.status,
            text=answer if isinstance(answer, str) else json.dumps(answer),
            content_type="application/json",
        )


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[KubeApi]:
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", server.answer)
    async with TestServer(application) as running:
        configuration = Configuration()
        configuration.host = str(running.make_url("")).rstrip("/")
        api = KubeApi(Credentials(configuration))
        yield api
        await api.close()


async def test_a_list_follows_its_pages(server: Server, api: KubeApi) -> None:
    server.answers = [
        {"metadata": {"continue": "next/1"}, "items": [{"a": 1}]},
        {"metadata": {}, "items": [{"a": 2}]},
    ]
    assert await api.list_sandboxes("team") == [{"a": 1}, {"a": 2}]
    assert server.queries[1]["continue"] == "next/1"
    assert "resourceVersion" not in server.queries[0], "0 would be answered from a cache"


async def test_changes_of_metadata_carry_uid_and_version(server: Server, api: KubeApi) -> None:
    await api.patch_metadata("team", "a", "u1", "7", {"finalizers": ["f"]})
    method, path, body, content = server.requests[0]
    assert (method, path, content) == ("PATCH", PATH, "application/merge-patch+json")
    assert body == {"metadata": {"uid": "u1", "resourceVersion": "7", "finalizers": ["f"]}}
    assert server.queries[0] == {"fieldManager": names.FIELD_MANAGER}


async def test_the_status_carries_the_uid_and_goes_to_the_subresource(
    server: Server, api: KubeApi
) -> None:
    await api.patch_status("team", "a", "u1", {"phase": "RUNNING"})
    method, path, body, _ = server.requests[0]
    assert (method, path) == ("PATCH", f"{PATH}/status")
    assert body == {"metadata": {"uid": "u1"}, "status": {"phase": "RUNNING"}}


async def test_a_secret_is_deleted_by_its_uid(server: Server, api: KubeApi) -> None:
    await api.delete_secret("team", "s", "u2")
    method, path, body, _ = server.requests[0]
    assert (method, path) == ("DELETE", "/api/v1/namespaces/team/secrets/s")
    assert body == {"preconditions": {"uid": "u2"}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (409, Conflict),
        (403, Forbidden),
        (429, ApiUnreachable),
        (500, ApiUnreachable),
        (503, ApiUnreachable),
        (422, Invalid),
    ],
)
async def test_errors(server: Server, api: KubeApi, status: int, kind: type[ApiError]) -> None:
    server.status = status
    answer = {"reason": "Because", "message": "of this", "details": {"name": "a"}}
    server.answers = [answer] * 5
    with pytest.raises(ApiError) as error:
        await api.get_sandbox("team", "a")
    assert type(error.value) is kind
    assert error.value.status == status
    assert "of this" in str(error.value)


async def test_a_kind_that_is_not_served_is_no_missing_object(server: Server, api: KubeApi) -> None:
    """As while its CRD is being changed: nothing is gone."""
    server.status = 404
    server.answers = [{"reason": "NotFound", "message": "no such resource", "details": {}}] * 5
    with pytest.raises(NotServed):
        await api.get_sandbox("team", "a")


async def test_an_answer_that_is_no_json_is_an_error_too(server: Server, api: KubeApi) -> None:
    server.status = 502
    server.answers = ["<html>"] * 5
    with pytest.raises(ApiUnreachable):
        await api.get_sandbox("team", "a")


async def test_an_error_never_holds_what_was_sent(server: Server, api: KubeApi) -> None:
    server.status = 400
    server.answers = [{"message": "bad"}]
    with pytest.raises(ApiError, match="bad") as error:
        await api.create_secret("team", {"data": {"k": HUSH}})
    assert HUSH not in str(error.value)


HUSH = "aHVzaC1odXNoLWh1c2g="


@pytest.mark.parametrize("said", [HUSH, "hush-hush-hush"])
@pytest.mark.parametrize("padding", [0, 1000])
async def test_an_error_never_repeats_what_an_answer_repeats(
    server: Server, api: KubeApi, said: str, padding: int
) -> None:
    """An admission policy may quote the object that it refuses. Where a message is cut short, half
    a key would stay."""
    server.status = 422
    server.answers = [{"message": "no: " + "x" * padding + said, "reason": f"Invalid{said}"}]
    with pytest.raises(Invalid, match="secrets: 422 its answer is left out") as error:
        await api.create_secret("team", {"data": {"k": HUSH}})
    assert "hush" not in f"{error.value} {error.value.reason}"
    assert HUSH[:8] not in f"{error.value} {error.value.reason}"


async def test_no_answer_is_unreachable() -> None:
    configuration = Configuration()
    configuration.host = "http://127.0.0.1:1"
    configuration.retries = 1
    api = KubeApi(Credentials(configuration))
    with pytest.raises(ApiUnreachable):
        await api.get_namespace("kube-system")
    await api.close()


async def test_names_cannot_leave_their_place_in_the_path(server: Server, api: KubeApi) -> None:
    await api.get_sandbox("team", "../b?x=1")
    assert server.queries[0] == {}


async def test_discovery_is_asked_in_the_order_that_others_ask(
    server: Server, api: KubeApi
) -> None:
    known = {"groups": [{"name": names.GROUP}]}
    server.answers = [{"groups": []}]
    assert not await api.serves_sandboxes()
    server.answers = [known, {"resources": []}]
    assert not await api.serves_sandboxes()
    server.answers = [known, {"resources": [{"name": names.PLURAL}]}]
    assert await api.serves_sandboxes()


class Renewing(Credentials):
    """Credentials whose certificate is renewed at will."""

    certificate = ssl.create_default_context()

    @property
    def tls(self) -> ssl.SSLContext:
        return self.certificate


async def test_a_renewed_certificate_cancels_nobody_who_waits_for_a_connection() -> None:
    asked, answered = asyncio.Semaphore(0), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        asked.release()
        await answered.wait()
        return web.json_response({"metadata": {"name": "team"}})

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(application) as running:
        configuration = Configuration()
        configuration.host = str(running.make_url("")).rstrip("/")
        credentials = Renewing(configuration)
        api = KubeApi(credentials)
        calls = [asyncio.create_task(api.get_namespace("team")) for _ in range(70)]
        for _ in range(64):
            await asked.acquire()
        credentials.certificate = ssl.create_default_context()
        calls.append(asyncio.create_task(api.get_namespace("team")))
        await asked.acquire()
        answered.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        await api.close()
    assert {type(end) for end in ended} == {ApiUnreachable, dict}


async def test_a_call_that_is_cancelled_is_cancelled() -> None:
    never = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answer)
    async with TestServer(application) as running:
        configuration = Configuration()
        configuration.host = str(running.make_url("")).rstrip("/")
        api = KubeApi(Credentials(configuration))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(api.get_namespace("team"), 0.1)
        never.set()
        await api.close()

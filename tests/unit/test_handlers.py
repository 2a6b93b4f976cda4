"""kopf's part against an API server that only lists and watches: what it does when kopf ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client.configuration import Configuration

from controller import handlers
from controller.core import names
from controller.entries import Entries
from controller.handlers import Watch
from controller.kube.api import KubeApi
from controller.kube.credentials import Credentials
from controller.workqueue import WorkQueue

MISSING = {"kind": "Status", "code": 404, "reason": "NotFound"}
BROKEN = {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "no leader"}}


def obj(version: int) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "team", "uid": "u1", "resourceVersion": str(version)}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": metadata | {"generation": 1},
        "spec": {"image": "box"},
    }


class Server:
    """Discovery, a list, and a watch that tells `events` and then hangs."""

    def __init__(self) -> None:
        self.served = True
        self.scanned = 0
        self.items: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.lists = 0
        self.watches = 0
        self.changed = asyncio.Condition()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        async with self.changed:
            self.changed.notify_all()
            return await self._answer(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if not request.path.startswith("/apis"):
            resources = [_resource("namespaces", "Namespace")]
            return web.json_response({"versions": ["v1"], "resources": resources})
        if request.path == "/apis":
            self.scanned += 1
            groups = [_group("apiextensions.k8s.io", "v1")]
            if self.served:
                groups.append(_group(names.GROUP, names.VERSION))
            return web.json_response({"groups": groups})
        if request.path == "/apis/apiextensions.k8s.io/v1":
            kind = _resource("customresourcedefinitions", "CustomResourceDefinition")
            return web.json_response({"resources": [kind]})
        if not self.served:
            return web.json_response(MISSING, status=404)
        if not request.path.endswith(names.PLURAL):
            return web.json_response({"resources": [_resource(names.PLURAL, names.KIND)]})
        if "watch" not in request.query:
            self.lists += 1
            metadata = {"resourceVersion": "1"}
            return web.json_response({"items": self.items, "metadata": metadata})
        self.watches += 1
        stream = web.StreamResponse()
        await stream.prepare(request)
        for event in self.events:
            await stream.write(json.dumps(event).encode() + b"\n")
        await self.changed.wait_for(lambda: False)
        return stream

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(met)


def _group(name: str, version: str) -> dict[str, Any]:
    known = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [known], "preferredVersion": known}


def _resource(plural: str, kind: str) -> dict[str, Any]:
    verbs = ["get", "list", "watch", "patch"]
    return {"name": plural, "singularName": "", "namespaced": True, "kind": kind, "verbs": verbs}


class Taken(Watch):
    """What came out of the watch."""

    taken: list[tuple[str | None, str]]
    came: asyncio.Event

    def take(self, type_: str | None, obj: dict[str, Any]) -> None:
        self.taken.append((type_, obj["metadata"]["resourceVersion"]))
        self.came.set()


@contextlib.asynccontextmanager
async def watching(server: Server) -> AsyncIterator[Taken]:
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", server.answer)
    async with TestServer(application) as running:
        configuration = Configuration()
        configuration.host = str(running.make_url("")).rstrip("/")
        credentials = Credentials(configuration)
        api = KubeApi(credentials)
        watch = Taken(
            entries=Entries(),
            queue=WorkQueue(),
            reconciler=cast(Any, None),
            api=api,
            credentials=credentials,
            namespaces=(),
        )
        watch.taken, watch.came = [], asyncio.Event()
        task = asyncio.create_task(watch.run())
        try:
            yield watch
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await api.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_RESTART_SECONDS", 0.05)


async def test_every_event_is_forwarded() -> None:
    server = Server()
    server.items = [obj(1)]
    changes = [("ADDED", 2), ("MODIFIED", 3), ("DELETED", 4)]
    server.events = [{"type": type_, "object": obj(version)} for type_, version in changes]
    async with watching(server) as watch, asyncio.timeout(20):
        while len(watch.taken) < 4:
            watch.came.clear()
            await watch.came.wait()
    assert watch.taken == [(None, "1"), ("ADDED", "2"), ("MODIFIED", "3"), ("DELETED", "4")]


async def test_a_watch_that_kopf_gives_up_is_begun_anew() -> None:
    server = Server()
    server.events = [BROKEN]
    async with watching(server):
        await server.until(lambda: server.lists > 2)


async def test_a_kind_that_is_served_late_is_watched() -> None:
    """kopf looks once what there is to watch, and would then watch nothing for ever."""
    server = Server()
    server.served = False
    async with watching(server):
        await server.until(lambda: server.scanned > 2)
        server.served = True
        await server.until(lambda: server.watches > 0)


@pytest.mark.parametrize("served", [True, False])
async def test_it_stops_at_once_and_leaves_no_thread(served: bool) -> None:
    server = Server()
    server.served = served
    async with watching(server):
        await server.until(lambda: server.watches > 0 if served else server.scanned > 1)
    for thread in threading.enumerate():
        if thread.name == "kopf":
            thread.join(1)  # its last act was to say that it has ended
            assert not thread.is_alive()


def test_nobody_can_guess_the_finalizer_that_kopf_takes_away() -> None:
    one, other = (handlers._settings().persistence.finalizer for _ in range(2))
    assert one != other
    assert one.startswith(f"{names.GROUP}/")
    assert "unused" not in one


@pytest.mark.parametrize("method", ["PATCH", "POST", "PUT", "DELETE"])
async def test_kopfs_session_cannot_write(method: str) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.method)
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        configuration = Configuration()
        configuration.host = str(server.make_url("")).rstrip("/")
        kopfs = handlers.connection(Credentials(configuration), None).aiohttp_session
        assert kopfs is not None
        async with kopfs:
            with pytest.raises(PermissionError):
                await kopfs.request(method, f"{configuration.host}/x")
            await (await kopfs.get(f"{configuration.host}/x")).read()
    assert asked == ["GET"]

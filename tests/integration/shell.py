"""The operator's whole shell in this process: kopf and all, on a real API server, over an engine in
memory, killed and started again at will.

FaultyApi   the operator's way to the API server, with faults on order
User        somebody with rights on Sandboxes
Shell       one operator at a time, in a namespace of its own
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from controller import app
from controller.core import names
from controller.core.names import Owner
from controller.engines.memory import MemoryEngine, MemoryHost
from controller.kube.api import (
    _MERGE,
    ApiError,
    ApiUnreachable,
    Conflict,
    KubeApi,
    NotFound,
    _Request,
)
from controller.kube.credentials import Credentials
from controller.settings import Settings
from dev.apiserver import ControlPlane
from tests.integration.operator import USER, Json

IMAGE = "box"
SPEED = 20
"""How much faster than the machine's the operator's clock runs: backoffs of seconds pass in a
resync, of which there are five a second."""
RESYNC_SECONDS = 0.2
SECONDS = 60
"""How long what is due may take: the machine may be busy, and the API server may have restarted."""


class FastClock:
    """The time, from now on faster."""

    def __init__(self) -> None:
        self._start, self._began = datetime.now(UTC), time.monotonic()

    def __call__(self) -> datetime:
        return self._start + timedelta(seconds=(time.monotonic() - self._began) * SPEED)


class FaultyApi(KubeApi):
    """What is ordered in `faults` happens to the next writes, in order: `lost` takes effect and
    its answer is lost, `refused` and `conflict` have none."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(credentials)
        self.faults: list[str] = []
        self.writes: list[str] = []
        self.resyncs = 0
        self.dead = False
        self.changed = asyncio.Event()

    async def list_sandboxes(self, namespace: str | None = None) -> list[Json]:
        found = await super().list_sandboxes(namespace)
        self.resyncs += 1
        self.changed.set()
        return found

    async def _send(self, request: _Request) -> Any:
        if self.dead:
            await asyncio.Event().wait()  # a dead process asks nothing
        writes = request.method != "GET"
        fault = self.faults.pop(0) if writes and self.faults else ""
        if fault == "refused":
            raise ApiUnreachable(f"{request}: refused on order")
        if fault == "conflict":
            raise Conflict(f"{request}: on order", 409, "Conflict")
        answer = await super()._send(request)
        if writes:
            self.writes.append(str(request))
            self.changed.set()
        if fault == "lost":
            raise ApiUnreachable(f"{request}: lost on order")
        return answer


class User(KubeApi):
    """Acts on the Sandboxes of one namespace."""

    def __init__(self, credentials: Credentials, namespace: str) -> None:
        super().__init__(credentials)
        self.namespace = namespace
        self.dropped: set[str] = set()
        """UIDs that the API server dropped in spite of our finalizer: it had read them before."""
        self._path = f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}"

    async def create(self, name: str, spec: Json) -> bool:
        """Returns whether the name was free."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name},
            "spec": {"image": IMAGE, "imagePullPolicy": "Never"} | spec,
        }
        try:
            await self._call(_Request("POST", self._path, body=body))
        except Conflict:
            return False
        return True

    async def change(self, name: str, spec: Json) -> None:
        with contextlib.suppress(NotFound):
            path = f"{self._path}/{name}"
            await self._call(_Request("PATCH", path, body={"spec": spec}, headers=_MERGE))

    async def delete(self, name: str) -> None:
        listed = await self._call(_Request("GET", self._path))
        query = {
            "watch": "1",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": listed["metadata"]["resourceVersion"],
        }
        url = f"{self._credentials.configuration.host}{self._path}"
        async with (await self._connected()).get(url, params=query) as watch:
            watch.raise_for_status()
            with contextlib.suppress(NotFound):
                answer = await self._call(_Request("DELETE", f"{self._path}/{name}"))
                if answer["kind"] == "Status":  # it went at once
                    await self._note_last(watch, answer["details"]["uid"])

    async def _note_last(self, watch: aiohttp.ClientResponse, uid: str) -> None:
        """Whether our finalizer was on it as it went."""
        async for line in watch.content:
            told = json.loads(line)
            meta = told["object"]["metadata"]
            if told["type"] == "DELETED" and meta["uid"] == uid:
                if names.FINALIZER in meta.get("finalizers", ()):
                    self.dropped.add(uid)
                return
        raise AssertionError(f"the watch ended without the end of {uid}")

    async def all(self) -> dict[str, Json]:
        return {o["metadata"]["name"]: o for o in await self.list_sandboxes(self.namespace)}

    async def secrets(self) -> list[Json]:
        path = f"/api/v1/namespaces/{self.namespace}/secrets"
        return list((await self._call(_Request("GET", path)))["items"])

    async def collect_garbage(self) -> None:
        """Delete the Secrets of those that were dropped, as a whole cluster's collector does,
        which this API server has none of. All others are the operator's to delete."""
        for secret in await self.secrets():
            meta = secret["metadata"]
            if self.dropped & {owner["uid"] for owner in meta.get("ownerReferences", ())}:
                with contextlib.suppress(NotFound):
                    await self.delete_secret(self.namespace, meta["name"], meta["uid"])

    async def make_namespace(self) -> None:
        body = {"metadata": {"name": self.namespace}}
        await self._call(_Request("POST", "/api/v1/namespaces", body=body))


class Shell:
    """`open`, then `start` and `kill` by turns, at the end `close`. One event loop for all."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane = plane
        self.namespace = namespace
        self.host = MemoryHost(images={IMAGE})
        self._serving: asyncio.Task[None] | None = None
        self._spared: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        admin = await Credentials.find(str(self._plane.kubeconfig), None)
        self.user = User(admin, self.namespace)
        await self.user.make_namespace()
        await self.start()

    async def close(self) -> None:
        await self.kill()
        await self.user.close()

    async def start(self) -> None:
        if self._serving is not None:
            return
        credentials = await Credentials.find(str(self._plane.kubeconfig_for(USER)), None)
        self.api = FaultyApi(credentials)
        settings = Settings(namespaces=[self.namespace], instance_name="walk")
        settings = settings.model_copy(update={"resync_seconds": RESYNC_SECONDS})
        engine = MemoryEngine(Owner("cluster", "walk"), self.host)
        self._spared = asyncio.all_tasks()
        serving = app.serve(settings, credentials, self.api, engine, asyncio.Event())
        self._serving = asyncio.create_task(serving)

    async def kill(self) -> None:
        """As kill -9: nothing is finished, nothing more is asked of anybody."""
        if self._serving is None:
            return
        self.api.dead = True
        doomed = asyncio.all_tasks() - self._spared - {asyncio.current_task()}
        for task in doomed:
            task.cancel()
        ended = await asyncio.gather(*doomed, return_exceptions=True)
        self._serving = None
        await self.api.close()
        for end in ended:
            if isinstance(end, Exception) and not isinstance(end, ApiError):
                raise end  # what it had died of before

    def lives(self) -> bool:
        return self._serving is not None and not self._serving.done()

    async def until(self, met: Callable[[], Any]) -> None:
        """Wait until the awaited `met()` is true; it is asked after each write of the operator, and
        now and then, for an engine tells nobody here."""
        async with asyncio.timeout(SECONDS):
            while not await met():
                self.api.changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.api.changed.wait(), RESYNC_SECONDS)
                assert self.lives(), "the operator ended by itself"

    async def resynced(self, times: int) -> None:
        """So many full comparisons from now on, and the one that may be under way."""
        since = self.api.resyncs

        async def met() -> bool:
            return self.api.resyncs > since + times

        await self.until(met)

    def of(self, uid: str) -> list[str]:
        """Everything that the engine holds of one UID."""
        held: Mapping[str, Any] = self.host.containers | self.host.volumes
        return [id_ for id_, one in held.items() if one.uid == uid]
